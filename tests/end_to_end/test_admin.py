"""An operator's acts on a running exchange, assets that come and go included, by the command that operators have."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from exchange import supervision
from exchange.config import Config
from exchange.store.embedded import database_dsn
from tests.end_to_end.exchange import Shell, is_ready, process_of, started
from tests.support import PROJECT, Daemon, running, wait_until, write_config

ASSETS = """\
# What is traded here.
[[asset]]
asset = "ACME"
price_scale = 2

[[asset]]
asset = "BTC-USD"               # the other one
price_scale = 2
quantity_scale = 8
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("admin")
    for each in (made, *made.parents):
        if each.stat().st_uid == os.geteuid() and each.name:
            each.chmod(0o755)  # PostgreSQL's user has to pass through
    return made


@pytest.fixture(scope="module")
def shell(folder: Path) -> Iterator[Shell]:
    config = write_config(folder, ASSETS)
    with started(config) as start:
        start.wait_until_running()
        yield Shell(config)
        start.process.terminate()
        assert start.process.wait(60) == 0, start.output()
        assert supervision.find_left_behind(config) == []


def processes(config: Config) -> dict[str, int]:
    return {program: process_of(config, program) for program in supervision.read_programs(config)}


def stored(config: Config, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(database_dsn(config)) as connection:
        return connection.execute(query.encode()).fetchall()


def report(shell: Shell, account: str, asset: str, order_id: int) -> dict[str, object]:
    """Return an order's last execution report."""
    code = (
        "import msgspec; from exchange import config; from exchange.client import Queries\n"
        f"with Queries(config.load().endpoints.query) as queries:\n"
        f"    print(msgspec.json.encode(queries.order_status({account!r}, {asset!r}, {order_id})).decode())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=shell.environment, capture_output=True, text=True, timeout=30
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


# -- assets ------------------------------------------------------------------------------------------------------------


def test_an_asset_comes_and_goes_and_comes_again_while_the_others_trade_on(shell: Shell) -> None:
    config = shell.config
    file = config.folder / "assets.toml"
    before = processes(config)
    trading = shell.start("simulate", "--asset", "BTC-USD", "--orders", "100000", "--rate", "150", "--json")
    try:
        assert "NEW is listed" in shell.run("admin", "asset", "add", "NEW", "price_scale=2", "lot_size=10")
        table = '\n[[asset]]\nasset = "NEW"\nprice_scale = 2\nlot_size = 10\n'
        assert file.read_text() == ASSETS + table

        # At once it takes orders, and all that there is to see of them is seen.
        shown = shell.run("order", "sell", "NEW", "30@10.50", "--account", "ann")
        assert "new: sell 30 at 10.50" in shown
        assert "traded 10 at 10.50" in shell.run("order", "buy", "NEW", "10@10.50", "--account", "ben")
        rests = shell.json("order", "buy", "NEW", "20@9", "--account", "ben")["order_id"]
        assert shell.json("trades", "NEW")["trades"][0]["quantity"] == 10
        wait_until(
            lambda: stored(config, "SELECT trade_id, quantity FROM trades WHERE asset = 'NEW'") == [(1, 10)],
            "it is stored",
        )
        assert shell.json("admin", "asset", "add", "NEW")["sequences"] == {}  # nothing is left to be done
        assert {name: found for name, found in processes(config).items() if name != "matching-NEW"} == before

        # It goes: its orders are canceled, it takes no more, and what was stays.
        assert "NEW is off the list" in shell.run("admin", "asset", "remove", "NEW")
        assert file.read_text() == ASSETS
        assert processes(config) == before
        assert "NEW" not in shell.run("status"), "neither a daemon nor a status"
        assert report(shell, "ben", "NEW", rests)["reason"] == "operator"
        assert "unknown_asset" in shell.run("order", "buy", "NEW", "10@10", "--account", "ben", status=1)
        assert stored(config, "SELECT count(*) FROM order_events WHERE asset = 'NEW' AND exec_type = 'canceled'") == [
            (2,)
        ]
        assert "has no asset 'NEW'" in shell.run("admin", "asset", "remove", "NEW", status=1)

        # It comes again, with its history; not with other scales.
        shown = shell.run("admin", "asset", "add", "NEW", "price_scale=4", status=1)
        assert "unsupported" in shown
        assert "has traded with 2" in shown
        assert file.read_text() == ASSETS
        shell.run("admin", "asset", "add", "NEW", "price_scale=2")
        shell.run("order", "sell", "NEW", "3@10.50", "--account", "ann")
        assert "(trade 2)" in shell.run("order", "buy", "NEW", "3@10.50", "--account", "ben")
        wait_until(
            lambda: (
                stored(config, "SELECT trade_id, quantity FROM trades WHERE asset = 'NEW' ORDER BY 1")
                == [(1, 10), (2, 3)]
            ),
            "it is stored again",
        )
        shell.run("admin", "asset", "remove", "NEW")
        assert processes(config) == before
        assert trading.poll() is None
    finally:
        trading.terminate()
        trading.communicate(timeout=30)
    assert shell.json("simulate", "--asset", "BTC-USD", "--orders", "200", "--rate", "0")["rejects"] == {}


def test_what_fails_on_the_way_is_named_and_repeating_the_command_mends_it(shell: Shell) -> None:
    config = shell.config
    shown = shell.run("admin", "asset", "add", "LATE", "tick_size=five", status=2)
    assert f"{config.folder / 'assets.toml'}: [[asset]] LATE: tick_size = 'five': " in shown
    assert (config.folder / "assets.toml").read_text() == ASSETS

    supervisorctl = [str(Path(sys.executable).with_name("supervisorctl")), "-c", str(supervision.settings_file(config))]
    subprocess.run([*supervisorctl, "stop", "notifier"], check=True, capture_output=True, timeout=60)
    shown = shell.run("admin", "asset", "add", "LATE", "--timeout", "8", status=1)
    assert "until the notifier publishes it, in vain" in shown
    subprocess.run([*supervisorctl, "start", "notifier"], check=True, capture_output=True, timeout=60)
    assert "LATE is listed" in shell.run("admin", "asset", "add", "LATE")

    subprocess.run([*supervisorctl, "stop", "logger"], check=True, capture_output=True, timeout=60)
    shown = shell.run("admin", "asset", "remove", "LATE", "--timeout", "3", status=1)
    assert "until the logger stores all that came of them, in vain" in shown
    assert "unknown_asset" in shell.run("order", "buy", "LATE", "1@1", "--account", "ann", status=1)
    subprocess.run([*supervisorctl, "start", "logger"], check=True, capture_output=True, timeout=60)
    assert "LATE is off the list" in shell.run("admin", "asset", "remove", "LATE")
    assert (config.folder / "assets.toml").read_text() == ASSETS
    assert "matching-LATE" not in supervision.read_programs(config)

    # It comes again to a logger and a notifier that start without it, and have its history behind them all the same.
    subprocess.run([*supervisorctl, "restart", "logger", "notifier"], check=True, capture_output=True, timeout=60)
    wait_until(lambda: is_ready(config), "the notifier is back")
    shell.run("admin", "asset", "add", "LATE")
    for side in ("sell", "buy"):
        shell.run("order", side, "LATE", "7@3", "--account", side)
    query = "SELECT trade_id, quantity FROM trades WHERE asset = 'LATE'"
    wait_until(lambda: stored(config, query) == [(1, 7)], "its trade is stored")
    assert shell.json("trades", "LATE")["trades"][0]["trade_id"] == 1
    shell.run("admin", "asset", "remove", "LATE")


def test_what_was_changed_in_the_file_takes_effect_by_adding_it_again(shell: Shell) -> None:
    file = shell.config.folder / "assets.toml"
    file.write_text(ASSETS.replace('"ACME"\n', '"ACME"\ntick_size = 5\n'))
    try:
        assert "has ACME already; change its table there" in shell.run(
            "admin", "asset", "add", "ACME", "tick_size=5", status=1
        )
        assert list(shell.json("admin", "asset", "add", "ACME")["sequences"]) == ["ACME"]
        assert "multiple of the tick 5" in shell.run("order", "buy", "ACME", "1@5.01", "--account", "ann", status=1)
    finally:
        file.write_text(ASSETS)
        shell.run("admin", "asset", "add", "ACME")
    assert "new: buy 1" in shell.run("order", "buy", "ACME", "1@5.01", "--account", "ann")
    shell.run("admin", "cancel", "ann", "ACME")


# -- statuses and orders -----------------------------------------------------------------------------------------------


def test_an_operator_halts_calls_opens_and_closes(shell: Shell) -> None:
    shell.run("order", "sell", "ACME", "10@100", "--account", "ann")
    assert "ACME is halted (operator)" in shell.run("admin", "halt", "ACME")
    assert "rejected: halted" in shell.run("order", "buy", "ACME", "10@100", "--account", "ben", status=1)
    assert "halted: ACME" in shell.run("status")
    assert "nothing was changed" in shell.run("admin", "halt", "ACME")

    assert "ACME is in a call (operator)" in shell.run("admin", "call", "ACME")
    assert "market_closed" in shell.run("order", "buy", "ACME", "1@market", "--account", "ben", status=1)
    shown = shell.run("order", "buy", "ACME", "4@102", "--account", "ben")
    assert "new: buy 4 at 102.00, 4 open" in shown
    watch = shell.start("watch", "ACME", "--count", "1")
    assert watch.stdout is not None
    assert watch.stdout.readline() == "ACME bid 4 @ 102.00  ask 10 @ 100.00\n"
    assert watch.stdout.readline() == "ACME is call\n"
    shell.run("order", "buy", "ACME", "2@103", "--account", "ben")
    out, _ = watch.communicate(timeout=30)
    assert out.startswith("ACME ")

    answer = shell.json("admin", "open", "ACME")
    assert answer["status"]["status"] == "open"
    assert [(each["price"], each["quantity"]) for each in shell.json("trades", "ACME")["trades"]] == [
        (10000, 4),
        (10000, 2),
    ]
    assert "ACME is closed (operator)" in shell.run("admin", "close", "ACME")
    assert "rejected: market_closed" in shell.run("order", "buy", "ACME", "10@100", "--account", "ben", status=1)
    shell.run("admin", "open", "ACME")
    assert "unknown_asset" in shell.run("admin", "halt", "NOPE", status=1)


def test_an_operator_cancels_an_accounts_orders(shell: Shell) -> None:
    for asset in ("ACME", "BTC-USD"):
        shell.run("order", "buy", asset, "1@1", "--account", "liz")
    assert "the orders of liz are canceled: ACME at sequence" in shell.run("admin", "cancel", "liz", "ACME")
    assert [order["asset"] for order in shell.json("orders", "--account", "liz")["orders"]] == ["BTC-USD"]
    assert list(shell.json("admin", "cancel", "liz")["sequences"]) == ["ACME", "BTC-USD"]
    wait_until(lambda: shell.json("orders", "--account", "liz")["orders"] == [], "all are canceled")
    never = "nobody never had an order in"
    assert f"{never} an asset that is traded now: there is" in shell.run("admin", "cancel", "nobody")
    assert f"{never} ACME: there is nothing to cancel" in shell.run("admin", "cancel", "nobody", "ACME")
    assert "rror: " in shell.run("admin", "cancel", "No Body", status=2)


def test_the_database_says_who_it_was(shell: Shell) -> None:
    shell.run("admin", "halt", "ACME")
    shell.run("admin", "open", "ACME")
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    query = "SELECT operator, status FROM operator_acts WHERE asset = 'ACME' AND status = 'halted'"
    behind = os.environ.get("SUDO_USER")
    name = f"{user} (sudo: {behind})" if behind and behind != user else user
    wait_until(lambda: (name, "halted") in stored(shell.config, query), "the act is stored")


# -- the clock ---------------------------------------------------------------------------------------------------------


def test_a_manual_clock_is_set_forward_and_what_was_due_has_happened(tmp_path: Path) -> None:
    config = write_config(tmp_path, ASSETS, '[clock]\nmode = "manual"')
    shell = Shell(config)
    with running(
        Daemon(config, "order_handler"),
        Daemon(config, "matching", "ACME"),
        Daemon(config, "matching", "BTC-USD"),
        Daemon(config, "notifier"),
    ):
        wait_until(lambda: is_ready(config), "it is up")
        now = shell.json("admin", "clock")
        assert now["mode"] == "manual"
        assert "new: buy 1 at 5.00" in shell.run(
            "order", "buy", "ACME", "1@5", "--account", "ben", "--expires", "1h", "--time-in-force", "gtd"
        )
        assert "UTC, by a manual clock" in shell.run("admin", "clock", "59m")
        assert len(shell.json("orders", "--account", "ben")["orders"]) == 1
        assert shell.json("admin", "clock", "1m")["time"] == now["time"] + 3600 * 10**9
        wait_until(lambda: shell.json("orders", "--account", "ben")["orders"] == [], "the order has expired")
        assert "it goes forward only" in shell.run("admin", "clock", "2020-01-01T00:00:00Z", status=1)
        assert "is neither a time" in shell.run("admin", "clock", "noon", status=2)


# -- who may -----------------------------------------------------------------------------------------------------------


def test_only_the_owner_may(tmp_path: Path) -> None:
    code = (
        "import os\nfrom exchange.client.command import main\n"
        "if os.geteuid() == 0:\n    os.setuid(65534)\n"
        "main(['admin', 'halt', 'ACME'])"
    )
    config = write_config(tmp_path, ASSETS)
    for folder in (config.folder, *config.folder.parents):
        if os.geteuid() == 0 and not folder.stat().st_mode & 0o005:
            folder.chmod(0o755)
    environment = Shell(config).environment | {"EXCHANGE_DATA": "/usr", "PYTHONPATH": str(PROJECT / "lib")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1, done.stderr
    assert "only the owner of /usr, root, may do that" in done.stderr


def test_without_an_exchange_an_act_ends_with_status_3(tmp_path: Path) -> None:
    shell = Shell(write_config(tmp_path, ASSETS))
    for act in (("halt", "ACME"), ("cancel", "ann"), ("clock",)):
        assert "is the exchange running there?" in shell.run("admin", *act, "--timeout", "0.3", status=3)
    shell.json("admin", "asset", "add", "NEW", "--timeout", "1", status=3)
    assert (shell.config.folder / "assets.toml").read_text() == ASSETS
