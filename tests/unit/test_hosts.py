"""An exchange on several hosts: what the configuration says of them, every mistake in it, and what runs where."""

import configparser
import re
from pathlib import Path

import pytest

from daemons import __main__ as start
from exchange import supervision
from exchange.config import Config, ConfigError, load
from exchange.core.asset import Asset
from exchange.folders import prepare_folders
from tests.support import PROJECT

REMOTE = "[security]\nallow_remote = true\n"
A = "[[host]]\nname = 'a'\naddress = '10.9.0.1'\n"
B = "[[host]]\nname = 'b'\naddress = '10.9.0.2'\n"
ACME = "[[asset]]\nasset = 'ACME'\n"
GOLD = "[[asset]]\nasset = 'GOLD'\nhost = 'b'\nport = 5610\n"


def read(folder: Path, exchange: str = REMOTE + A + B, assets: str = ACME + GOLD) -> Config:
    (folder / "exchange.toml").write_text(exchange)
    (folder / "assets.toml").write_text(assets)
    return load(folder, folder / "var")


def on(monkeypatch: pytest.MonkeyPatch, host: str, folder: Path, exchange: str = REMOTE + A + B) -> Config:
    """Load the configuration as that host does."""
    monkeypatch.setenv("EXCHANGE_HOST", host)
    return read(folder, exchange)


# -- what runs where ---------------------------------------------------------------------------------------------------


def test_without_hosts_everything_is_here_and_over_unix_sockets(tmp_path: Path) -> None:
    config = read(tmp_path, exchange="", assets=ACME)
    assert config.assets_here == config.assets
    assert all(config.hosts.runs(daemon) for daemon in ("order_handler", "logger", "notifier", "postgres"))
    endpoints = (
        config.orders_endpoint("ACME"),
        config.events_endpoint("ACME"),
        config.event_log_endpoint("ACME"),
        config.journal_endpoint,
    )
    assert all(endpoint.startswith("ipc://") for endpoint in endpoints)
    assert set(config.listens()) == {f"endpoints.{name}" for name in vars(config.endpoints)}


def test_what_crosses_between_hosts_goes_over_tcp_to_the_host_that_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for host in ("a", "b"):
        config = on(monkeypatch, host, tmp_path)
        assert config.orders_endpoint("GOLD") == "tcp://10.9.0.1:5610"
        assert config.events_endpoint("GOLD") == "tcp://10.9.0.2:5611"
        assert config.event_log_endpoint("GOLD") == "tcp://10.9.0.2:5612"
        assert config.journal_endpoint == "tcp://10.9.0.1:5559"
        assert config.orders_endpoint("ACME").startswith("ipc://")
        assert config.events_endpoint("ACME").startswith("ipc://")
        assert config.admin_endpoint.startswith("ipc://")


def test_each_host_runs_its_own_daemons_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = on(monkeypatch, "a", tmp_path), on(monkeypatch, "b", tmp_path)
    assert set(supervision.programs(first)) == {"order_handler", "matching-ACME", "logger", "notifier", "postgres"}
    assert supervision.programs(second) == ["matching-GOLD"]
    assert second.assets_here == (Asset(asset="GOLD"),)
    assert set(second.listens()) == {"GOLD's events", "GOLD's events again"}
    assert {"journal_port", "GOLD's requests"} < set(first.listens())


def test_a_host_that_is_given_the_notifier_runs_it_and_all_events_go_over_tcp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = REMOTE + A + B + "daemons = ['notifier']\njournal_port = 7000\n"
    monkeypatch.setenv("EXCHANGE_HOST", "b")
    config = read(tmp_path, exchange, ACME + "port = 5600\n" + GOLD)
    assert set(supervision.programs(config)) == {"matching-GOLD", "notifier"}
    assert config.events_endpoint("ACME") == "tcp://10.9.0.1:5601"
    assert config.orders_endpoint("ACME").startswith("ipc://"), "both ends are on a"
    assert config.journal_endpoint == "tcp://10.9.0.1:5559", "the port of the host that has the order handler"
    assert "endpoints.query" in config.listens()


def test_an_ipv6_address_stands_in_brackets(tmp_path: Path) -> None:
    exchange = REMOTE + A.replace("10.9.0.1", "fd00::1") + B.replace("10.9.0.2", "fd00::2")
    assert read(tmp_path, exchange).events_endpoint("GOLD") == "tcp://[fd00::2]:5611"


def test_the_start_writes_the_files_of_this_host_and_its_data_folder_remembers_which_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = on(monkeypatch, "b", tmp_path)
    prepare_folders(config)
    supervision.write_files(config)
    parser = configparser.RawConfigParser(strict=False)
    parser.read([supervision.settings_file(config), *(config.data / "supervisor").glob("*.conf")])
    programs = [section for section in parser.sections() if section.startswith("program:")]
    assert programs == ["program:matching-GOLD"]
    monkeypatch.delenv("EXCHANGE_HOST")
    assert load(config.folder, config.data).hosts.here == "b"
    monkeypatch.setenv("EXCHANGE_HOST", "a")
    with pytest.raises(ConfigError, match=f"EXCHANGE_HOST = 'a': must be 'b': {re.escape(str(config.data))} is that"):
        load(config.folder, config.data)


def test_a_host_that_takes_itself_for_the_first_one_is_not_started(tmp_path: Path) -> None:
    """Nobody has told it which it is, and the first one's address is not one of this machine's."""
    config = read(tmp_path)
    with pytest.raises(start.Refused, match=r"journal_port = 'tcp://10.9.0.1:5559': Cannot assign(.|\n)*EXCHANGE_HOST"):
        start.check_ports(config)


# -- mistakes ----------------------------------------------------------------------------------------------------------

DAEMONS = "must be a list of some of order_handler, logger, notifier, each once; matching daemons go with their assets"
ADDRESS = "must be the IP address at which the other hosts reach it, such as 10.0.0.2"
PORT = "must be a port of 1 to 65533, the first of 3 that follow one another"
OPEN = "what the hosts' daemons say to each other is neither encrypted nor authenticated"
MISTAKES = [
    ("[host]\nname = 'a'", ACME, "exchange.toml: host = {'name': 'a'}: each host is a table [[host]]"),
    (A + "ip = 1", ACME, "exchange.toml: [[host]] a: ip = 1: no such key; there are name, address, daemons, jou"),
    ("[[host]]\naddress = '10.9.0.1'", ACME, "exchange.toml: [[host]] number 1: name: is missing"),
    ("[[host]]\nname = 'a'", ACME, "exchange.toml: [[host]] a: address: is missing"),
    (A.replace("'a'", "'A B'"), ACME, "exchange.toml: [[host]] A B: name = 'A B': must be 1 to 32 characters of a-z"),
    (A.replace("10.9.0.1", "db1"), ACME, f"exchange.toml: [[host]] a: address = 'db1': {ADDRESS}"),
    (A.replace("10.9.0.1", "0.0.0.0"), ACME, f"exchange.toml: [[host]] a: address = '0.0.0.0': {ADDRESS}"),
    (A + "daemons = ['matching']", ACME, f"exchange.toml: [[host]] a: daemons = ['matching']: {DAEMONS}"),
    (A + "daemons = 'logger'", ACME, f"exchange.toml: [[host]] a: daemons = 'logger': {DAEMONS}"),
    (A + "journal_port = 0", ACME, "exchange.toml: [[host]] a: journal_port = 0: must be a port of 1 to 65535"),
    (A + A.replace("9.0.1", "9.0.9"), ACME, "exchange.toml: [[host]] a: name = 'a': there is one of that name already"),
    (
        A + "daemons = ['logger']\n" + B + "daemons = ['logger']",
        ACME,
        "exchange.toml: [[host]] b: daemons: logger runs on a already, and there is one of each",
    ),
    ("", ACME + "host = 'b'", "assets.toml: [[asset]] ACME: host = 'b': is for an exchange on several hosts, and"),
    ("", ACME + "port = 5600", "assets.toml: [[asset]] ACME: port = 5600: is for an exchange on several hosts, and"),
    (A + B, ACME + "host = 'c'", "assets.toml: [[asset]] ACME: host = 'c': no such host; there are a, b"),
    (A + B, ACME + "host = 2", "assets.toml: [[asset]] ACME: host = 2: must be the name of a [[host]] of exchange.to"),
    (A + B, ACME + "port = 65534", f"assets.toml: [[asset]] ACME: port = 65534: {PORT}"),
    (A + B, ACME + "port = '5600'", f"assets.toml: [[asset]] ACME: port = '5600': {PORT}"),
    (
        A + B,
        ACME + GOLD.replace("port = 5610", ""),
        "assets.toml: [[asset]] GOLD: port: is missing; its matching daemon, on b, speaks to another host: give it the",
    ),
    (
        A + B + "daemons = ['logger']",
        ACME + GOLD,
        "assets.toml: [[asset]] ACME: port: is missing; its matching daemon, on a, speaks to another host",
    ),
    (
        A + B,
        GOLD + GOLD.replace("GOLD", "TIN").replace("5610", "5611"),
        "assets.toml: TIN's events: port 5612 of 10.9.0.2 (host b) is that of GOLD's events again too; every asset",
    ),
    (
        A + B,
        ACME + GOLD.replace("5610", "5559"),
        "assets.toml: GOLD's requests: port 5559 of 10.9.0.1 (host a) is that of journal_port too",
    ),
    (
        A + "journal_port = 5555\n" + B,
        ACME + GOLD,
        "exchange.toml: journal_port: port 5555 of 10.9.0.1 (host a) is that of endpoints.order_entry too",
    ),
    (
        A + B.replace("10.9.0.2", "10.9.0.1"),
        ACME + GOLD.replace("5610", "5557"),
        "assets.toml: GOLD's requests: port 5557 of 10.9.0.1 (host a) is that of endpoints.private too",
    ),
]


@pytest.mark.parametrize(("exchange", "assets", "mistake"), MISTAKES)
def test_a_mistake_about_hosts_is_named(tmp_path: Path, exchange: str, assets: str, mistake: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, REMOTE + exchange, assets)
    assert caught.value.mistakes[0].replace(f"{tmp_path}/", "").startswith(mistake), caught.value.mistakes


@pytest.mark.parametrize("address", ["10.9.0.1", "192.168.1.1", "fd00::1"])
def test_hosts_speak_openly_so_an_address_that_others_reach_has_to_be_allowed(tmp_path: Path, address: str) -> None:
    table = A.replace("10.9.0.1", address)
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, table, ACME)
    (mistake,) = caught.value.mistakes
    assert f"[[host]] a: address = '{address}': {OPEN}" in mistake
    assert "security.allow_remote = true" in mistake
    assert read(tmp_path, REMOTE + table, ACME).hosts.here == "a"
    assert read(tmp_path, A.replace("10.9.0.1", "127.0.0.1") + B.replace("10.9.0.2", "127.0.0.1")).hosts


def test_a_name_that_is_no_hosts_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXCHANGE_HOST", "c")
    with pytest.raises(ConfigError, match="EXCHANGE_HOST = 'c': no such host; there are a, b"):
        read(tmp_path)
    with pytest.raises(ConfigError, match=r"EXCHANGE_HOST = 'c': no such host; exchange.toml has no \[\[host\]\]"):
        read(tmp_path, "", ACME)


def test_one_mistake_about_hosts_hides_no_other_and_makes_no_false_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, REMOTE + A + B.replace("10.9.0.2", "x"), ACME + "tick_size = 0\n" + GOLD)
    assert len(caught.value.mistakes) == 2, caught.value.mistakes


def test_the_comments_of_both_files_tell_every_key_of_hosts() -> None:
    exchange = (PROJECT / "config" / "exchange.toml").read_text()
    assert all(f"# {key} " in exchange for key in ("name", "address", "daemons", "journal_port"))
    assets = (PROJECT / "config" / "assets.toml").read_text()
    assert all(re.search(rf"(?m)^# {key} ", assets) for key in ("host", "port"))
