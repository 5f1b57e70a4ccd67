"""The operators' endpoint: what they may do, what is refused, and that nobody else gets there."""

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgpack
import pytest

from exchange.core.requests import ChangeStatus, DefineAsset, Delist, MassCancel
from exchange.core.times import time_text
from tests.integration.operators import (
    DAY,
    HOUR,
    MANUAL,
    SECOND,
    SMALL,
    Operator,
    journal_of,
    reports,
    status_messages,
)
from tests.integration.outsider import Venue, venue
from tests.support import Daemon, running, wait_until, write_config

GOLD: dict[str, Any] = {"asset": "GOLD", "price_scale": 2}


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Venue]:
    with venue(tmp_path_factory.mktemp("exchange"), MANUAL) as exchange:
        yield exchange


@pytest.fixture(scope="module")
def operator(exchange: Venue) -> Iterator[Operator]:
    with closing(Operator(exchange)) as operator:
        yield operator


def refusal(operator: Operator, kind: str, **fields: Any) -> tuple[str, str]:
    """Have an act refused, with nothing journaled; return reason and text."""
    reply = operator.ask(kind, **fields)
    assert reply["type"] == "reject", reply
    return reply["reason"], reply["text"]


# -- statuses and orders -----------------------------------------------------------------------------------------------


def test_an_operator_halts_calls_opens_and_closes_an_asset(exchange: Venue, operator: Operator) -> None:
    account = exchange.account()
    exchange.enter(account, "buy", 10, 1000)
    for status, reason in (("halted", "halted"), ("closed", "market_closed"), ("call", ""), ("open", "")):
        done = operator.do("change_status", asset="ACME", status=status)
        assert done["sequences"].keys() == {"ACME"}
        last = status_messages(exchange, "ACME", (status, "operator"))[-1]
        assert last["time"] == done["time"]
        reply = exchange.entry.ask(exchange.order(account, "buy", 10, 1000))
        assert (reply["type"], reply.get("reason", "")) == ("reject" if reason else "ack", reason)
    exchange.clear()
    journal = [record.request for record in journal_of(exchange.config)]
    made = [(request.status, request.by) for request in journal if isinstance(request, ChangeStatus)]
    assert made == [("halted", "olga"), ("closed", "olga"), ("call", "olga"), ("open", "olga")]


def test_what_would_change_nothing_is_done_without_a_request(exchange: Venue, operator: Operator) -> None:
    before = len(journal_of(exchange.config))
    assert operator.do("change_status", asset="ACME", status="open").get("sequences", {}) == {}
    assert len(journal_of(exchange.config)) == before


def test_an_operator_cancels_an_account_s_orders(exchange: Venue, operator: Operator) -> None:
    account = exchange.account()
    for asset in ("ACME", "ACME", "BTC-USD"):
        exchange.enter(account, "buy", 10, 1000, asset=asset)
    done = operator.do("cancel", account=account, asset="ACME")
    assert done["sequences"].keys() == {"ACME"}
    last = reports(exchange, account, "ACME", 4)[-1]
    assert (last["exec_type"], last["reason"], last["time"]) == ("canceled", "operator", done["time"])
    assert operator.do("cancel", account=account)["sequences"].keys() == {"ACME", "BTC-USD"}
    assert reports(exchange, account, "BTC-USD", 2)[-1]["reason"] == "operator"
    assert operator.do("cancel", account="never-seen").get("sequences", {}) == {}
    journal = [record.request for record in journal_of(exchange.config) if record.account == account]
    assert [request.by for request in journal if isinstance(request, MassCancel)] == ["olga"] * 3


def test_what_an_operator_did_outlasts_a_kill(exchange: Venue, operator: Operator) -> None:
    operator.do("change_status", asset="BTC-USD", status="halted")
    exchange.order_handler.kill()
    exchange.order_handler.start()
    reply = exchange.entry.ask(exchange.order("ann", "buy", 10, 1000, asset="BTC-USD"))
    assert (reply["type"], reply["reason"]) == ("reject", "halted")
    assert operator.do("change_status", asset="BTC-USD", status="open")["sequences"]
    exchange.settle("BTC-USD")


# -- assets ------------------------------------------------------------------------------------------------------------


def test_an_asset_that_is_added_trades_at_once_and_can_be_removed(exchange: Venue, operator: Operator) -> None:
    schedule = [{"at": "09:00", "status": "open"}, {"at": "17:00", "status": "closed"}]
    midnight = operator.next_day(12 * HOUR)
    done = operator.do("add_asset", definition=GOLD | {"schedule": schedule})
    assert done["sequences"] == {"GOLD": 1}
    account = exchange.account()
    made = journal_of(exchange.config)[-1].request
    assert isinstance(made, ChangeStatus)
    assert (made.status, made.scheduled_time) == ("open", midnight + 9 * HOUR)
    ack = exchange.enter(account, "buy", 10, 1000, asset="GOLD")
    assert ack["sequence"] == 3
    assert operator.do("add_asset", definition=GOLD | {"schedule": schedule}).get("sequences", {}) == {}, "it is there"
    operator.set_clock(midnight + 18 * HOUR)
    reply = exchange.entry.ask(exchange.order(account, "buy", 10, 1000, asset="GOLD"))
    assert (reply["type"], reply["reason"]) == ("reject", "market_closed")
    assert operator.do("remove_asset", asset="GOLD")["sequences"] == {"GOLD": 5}
    reply = exchange.entry.ask(exchange.order(account, "buy", 10, 1000, asset="GOLD"))
    assert (reply["type"], reply["reason"]) == ("reject", "unknown_asset")
    assert operator.do("remove_asset", asset="GOLD").get("sequences", {}) == {}, "it is off already"
    operator.next_day(12 * HOUR)
    requests = [record.request for record in journal_of(exchange.config) if record.asset == "GOLD"]
    assert isinstance(requests[0], DefineAsset)
    assert isinstance(requests[-1], Delist)
    assert (requests[0].by, requests[-1].by) == ("olga", "olga")
    exchange.accounts.remove(account)  # its orders are in an asset that has no matching daemon here


def test_a_matching_daemon_that_comes_later_gets_all_of_its_asset(tmp_path: Path) -> None:
    with venue(tmp_path, SMALL) as exchange, closing(Operator(exchange)) as operator:
        operator.do("add_asset", definition={"asset": "SILVER"})
        exchange.enter("ann", "buy", 10, 1000, asset="SILVER")
        assets = exchange.config.folder / "assets.toml"
        assets.write_text(assets.read_text() + '\n[[asset]]\nasset = "SILVER"\n')
        matching = Daemon(exchange.config, "matching", "SILVER")
        try:
            matching.start()
            last = reports(exchange, "ann", "SILVER", 1)[-1]
            assert (last["exec_type"], last["quantity"]) == ("new", 10)
            exchange.order_handler.kill()
            exchange.order_handler.start()
            exchange.enter("bob", "sell", 10, 1000, asset="SILVER")
            assert reports(exchange, "bob", "SILVER", 2)[-1]["order_status"] == "filled"
        finally:
            matching.kill()


@pytest.mark.parametrize(
    ("definition", "text"),
    [
        (GOLD | {"tick_size": 0}, "tick_size 0"),
        (GOLD | {"tick_size": 2, "min_price": 3, "max_price": 3}, "max_price 3: must be such that there is a price"),
        (GOLD | {"price_band_ppm": 1_000_001}, "price_band_ppm 1000001: must be 0 (none) to 1000000 millionths"),
        (GOLD | {"asset": "gold"}, "asset 'gold'"),
        (GOLD | {"colour": "yellow"}, "colour"),
        (GOLD | {"time_zone": "Europe/Atlantis"}, "tzdata"),
        ({"asset": "ACME", "price_scale": 7, "tick_size": 5, "lot_size": 10}, "price_scale = 7"),
    ],
)
def test_a_definition_that_breaks_a_rule_is_refused(operator: Operator, definition: Any, text: str) -> None:
    reason, found = refusal(operator, "add_asset", definition=definition)
    assert reason in ("malformed", "unsupported")
    assert text in found


# -- the clock ---------------------------------------------------------------------------------------------------------


def test_a_manual_clock_stands_until_it_is_set_and_goes_forward_only(exchange: Venue, operator: Operator) -> None:
    now = operator.clock()
    assert operator.do("clock")["mode"] == "manual"
    assert exchange.entry.ask(type="ping")["time"] == exchange.entry.ask(type="ping")["time"] == now
    operator.set_clock(now + SECOND)
    assert exchange.entry.ask(type="ping")["time"] == now + SECOND
    for time in (now, -1, 2**63):
        reason, text = refusal(operator, "set_clock", time=time)
        assert reason == "malformed"
        assert (
            f"time {time} ({time_text(time)}): must be {now + SECOND} ({time_text(now + SECOND)}), the clock's" in text
        )
    assert operator.clock() == now + SECOND


def test_a_manual_clock_goes_on_where_the_journal_ends(exchange: Venue, operator: Operator) -> None:
    operator.next_day(HOUR)
    last = operator.clock()
    exchange.do("mass_cancel", account="ann")
    operator.pass_time(DAY)
    exchange.order_handler.kill()
    exchange.order_handler.start()
    assert operator.clock() == last


def test_the_system_s_clock_can_t_be_set(tmp_path: Path) -> None:
    with venue(tmp_path, SMALL) as exchange, closing(Operator(exchange)) as operator:
        assert operator.do("clock")["mode"] == "system"
        assert refusal(operator, "set_clock", time=operator.clock() + DAY)[0] == "unsupported"


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "text"),
    [
        ({"type": "explode"}, "one of change_status, cancel"),
        ({"type": "change_status", "asset": "ACME", "status": "ajar"}, "one of open, closed, call, halted"),
        ({"type": "change_status", "asset": "ACME", "status": "halted", "by": ""}, "by ''"),
        ({"type": "change_status", "asset": "ACME", "status": "halted", "by": "o" * 65}, "1 to 64 printable"),
        ({"type": "change_status", "asset": "ACME", "status": "halted", "by": "o\n"}, "1 to 64 printable"),
        ({"type": "change_status", "asset": "ACME", "status": "halted", "why": "fun"}, "why"),
        ({"type": "cancel", "account": "Ann!"}, "account 'Ann!'"),
        ({"type": "cancel"}, "account"),
        ({"type": "set_clock", "time": "noon"}, "time 'noon'"),
        ([], ""),
        ("halt", ""),
        (None, ""),
    ],
)
def test_an_act_that_breaks_a_rule_is_refused_with_the_rule(
    exchange: Venue, operator: Operator, act: Any, text: str
) -> None:
    if isinstance(act, dict):
        act = {"by": "olga"} | act
    before = len(journal_of(exchange.config))
    reply = operator.peer.ask(act)
    assert (reply["type"], reply["reason"]) == ("reject", "malformed"), reply
    assert text in reply["text"]
    assert len(journal_of(exchange.config)) == before


def test_an_asset_that_is_not_there_is_refused(operator: Operator) -> None:
    acts: list[tuple[str, dict[str, Any]]] = [
        ("change_status", {"asset": "LEAD", "status": "halted"}),
        ("cancel", {"account": "ann", "asset": "LEAD"}),
        ("remove_asset", {"asset": "LEAD"}),
    ]
    for kind, fields in acts:
        reason, text = refusal(operator, kind, **fields)
        assert reason == "unknown_asset"
        assert "'LEAD'" in text


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"\xc1"],
        [b"\x81\xa4type"],
        [b"\x91" * 50_000],
        [b"\x80" * 70_000],
        [b"\xc0", b"\xc0"],
        [msgpack.packb({"type": "clock"}), b"more"],
    ],
)
def test_what_a_broken_program_sends_is_answered_and_harms_nobody(
    exchange: Venue, operator: Operator, frames: list[bytes]
) -> None:
    reply = operator.peer.ask_bytes(*frames)
    assert (reply["type"], reply["reason"]) == ("reject", "malformed")
    assert operator.clock()
    exchange.check_alive()


# -- nobody else -------------------------------------------------------------------------------------------------------


CONNECT = """
import os, socket, sys
os.setgid(65534)
os.setuid(65534)
try:
    socket.socket(socket.AF_UNIX).connect(sys.argv[1])
except PermissionError:
    sys.exit(13)
"""


def test_only_the_owner_of_the_exchange_reaches_the_operators_endpoint(exchange: Venue) -> None:
    path = Path(exchange.config.admin_endpoint.removeprefix("ipc://"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.parent.stat().st_uid == path.stat().st_uid == os.geteuid()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_is_kept_out(open_folder: Path) -> None:
    """Also where the folders above the run folder let everybody pass."""
    config = write_config(open_folder)
    config.data.mkdir(mode=0o755)
    path = Path(config.admin_endpoint.removeprefix("ipc://"))
    with running(Daemon(config, "order_handler")), socket.socket(socket.AF_UNIX) as door:
        wait_until(path.exists, "the order handler listens")
        door.bind(str(config.data / "door"))
        (config.data / "door").chmod(0o666)
        door.listen()
        assert status_of_another_user(config.data / "door") == 0
        assert status_of_another_user(path) == 13
        path.parent.chmod(0o755)
        assert status_of_another_user(path) == 13, "the socket itself is the owner's"


def status_of_another_user(path: Path) -> int:
    return subprocess.run([sys.executable, "-c", CONNECT, str(path)], timeout=60, check=False).returncode


def test_an_act_is_on_disk_before_its_reply(exchange: Venue, operator: Operator) -> None:
    for status in ("halted", "open") * 5:
        sequence = operator.do("change_status", asset="ACME", status=status)["sequences"]["ACME"]
        last = [record for record in journal_of(exchange.config) if record.asset == "ACME"][-1]
        assert last.sequence == sequence
