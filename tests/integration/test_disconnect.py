"""Orders are canceled for whoever is silent, as he wished: sessions and `cancel_all_after`, over restarts."""

import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from exchange.core.requests import CancelAllAfter, MassCancel, SetSession
from tests.integration.operators import HOUR, MANUAL, SECOND, SMALL, Operator, journal_of, reports
from tests.integration.outsider import Message, Peer, Venue, venue
from tests.support import wait_until


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Venue]:
    with venue(tmp_path_factory.mktemp("exchange"), MANUAL) as exchange:
        yield exchange
        exchange.clear()


@pytest.fixture(scope="module")
def operator(exchange: Venue) -> Iterator[Operator]:
    with closing(Operator(exchange)) as operator:
        yield operator


@pytest.fixture
def connection(exchange: Venue) -> Iterator[Peer]:
    """Yield a connection of its own, as a trader has who declares a session."""
    with closing(exchange.peer()) as peer:
        yield peer


def declare(connection: Peer, account: str, interval_ms: int = 1000, **more: object) -> None:
    fields = {"heartbeat_interval_ms": interval_ms, "cancel_on_disconnect": True, "account": account} | more
    reply = connection.ask({"type": "session", **fields})
    assert (reply["type"], reply["request"]) == ("ack", "session"), reply


def dead_man(exchange: Venue, account: str, timeout_ms: int) -> Message:
    return exchange.do("cancel_all_after", account=account, timeout_ms=timeout_ms)


def is_left_alone(exchange: Venue, account: str, orders: int) -> None:
    for asset in exchange.matching:
        exchange.settle(asset)
    assert len(exchange.query.ask(type="open_orders", account=account)["orders"]) == orders


def is_canceled(exchange: Venue, account: str, at: int, asset: str = "ACME") -> None:
    last = reports(exchange, account, asset, 2)[-1]
    assert (last["exec_type"], last["reason"], last["time"]) == ("canceled", "disconnected", at)


# -- sessions ----------------------------------------------------------------------------------------------------------


def test_a_silent_session_s_orders_are_canceled_in_all_assets(
    exchange: Venue, operator: Operator, connection: Peer
) -> None:
    account = exchange.account()
    exchange.enter(account, "buy", 10, 100)
    exchange.enter(account, "buy", 10, 100, asset="BTC-USD")
    declare(connection, account)
    declared = operator.clock()
    operator.pass_time(SECOND - 1)
    is_left_alone(exchange, account, 2)
    operator.pass_time(HOUR)
    is_canceled(exchange, account, declared + SECOND)
    is_canceled(exchange, account, declared + SECOND, "BTC-USD")


def test_any_frame_on_its_connection_keeps_a_session_alive(
    exchange: Venue, operator: Operator, connection: Peer
) -> None:
    account = exchange.account()
    exchange.enter(account, "buy", 10, 100)
    declare(connection, account)
    beats: list[Message] = [{"type": "ping"}, {"type": "nonsense"}, exchange.order("another", "buy", 10, 5)]
    for beat in beats:
        operator.pass_time(SECOND * 9 // 10)
        assert connection.ask(beat)["type"] in ("pong", "reject", "ack")
    exchange.do("mass_cancel", account="another")
    is_left_alone(exchange, account, 1)
    last = operator.clock()
    exchange.entry.ask(type="ping")  # another's connection is another's
    operator.pass_time(2 * SECOND)
    is_canceled(exchange, account, last + SECOND)


def test_any_request_that_names_the_account_keeps_its_session_alive(
    exchange: Venue, operator: Operator, connection: Peer
) -> None:
    account = exchange.account()
    exchange.enter(account, "buy", 10, 100)
    declare(connection, account)
    for beat in ({"type": "ping", "account": account}, exchange.order(account, "buy", 3, 100)):
        operator.pass_time(SECOND * 9 // 10)
        exchange.entry.ask(beat)
    operator.pass_time(SECOND * 9 // 10)
    is_left_alone(exchange, account, 1)


def test_a_session_that_is_over_takes_nothing_more_until_it_is_declared_again(
    exchange: Venue, operator: Operator, connection: Peer
) -> None:
    account = exchange.account()
    declare(connection, account)
    operator.pass_time(HOUR)
    exchange.enter(account, "buy", 10, 100)
    operator.pass_time(HOUR)
    is_left_alone(exchange, account, 1)
    exchange.order_handler.kill()
    exchange.order_handler.start()
    operator.pass_time(HOUR)
    is_left_alone(exchange, account, 1)
    declare(connection, account)
    declared = operator.clock()
    operator.pass_time(HOUR)
    is_canceled(exchange, account, declared + SECOND)


def test_a_session_without_cancel_on_disconnect_cancels_nothing(
    exchange: Venue, operator: Operator, connection: Peer
) -> None:
    account = exchange.account()
    exchange.enter(account, "buy", 10, 100)
    declare(connection, account)
    declare(connection, account, cancel_on_disconnect=False)
    operator.pass_time(HOUR)
    is_left_alone(exchange, account, 1)


def test_after_a_restart_a_session_has_a_full_interval_to_be_declared_again(
    exchange: Venue, operator: Operator, connection: Peer
) -> None:
    account, silent = exchange.account(), exchange.account()
    for each in (account, silent):
        exchange.enter(each, "buy", 10, 100)
        declare(connection, each, 10_000)
    operator.pass_time(9 * SECOND)
    exchange.do("mass_cancel", account="somebody", asset="ACME")  # the clock starts from the journal's last time
    restarted = operator.clock()
    exchange.order_handler.kill()
    exchange.order_handler.start()
    operator.pass_time(9 * SECOND)
    is_left_alone(exchange, account, 1)
    with closing(exchange.peer()) as again:
        declare(again, account, 10_000)
        operator.pass_time(5 * SECOND)
        assert again.ask(type="ping")["type"] == "pong"
        is_canceled(exchange, silent, restarted + 10 * SECOND)
        operator.pass_time(9 * SECOND)
        is_left_alone(exchange, account, 1)


def test_a_session_ends_however_many_requests_its_account_has_made(tmp_path: Path) -> None:
    limits = '[[risk_limit]]\naccount = "busy"\nmax_requests_per_second = 2\n'
    with (
        venue(tmp_path, MANUAL + limits) as exchange,
        closing(Operator(exchange)) as operator,
        closing(exchange.peer()) as connection,
    ):
        exchange.enter("busy", "buy", 10, 100)
        declare(connection, "busy", interval_ms=10)
        declared = operator.clock()
        operator.pass_time(SECOND // 50)
        is_canceled(exchange, "busy", declared + SECOND // 100)
        dead_man(exchange, "busy", 10)
        operator.pass_time(SECOND)
        exchange.enter("busy", "buy", 10, 100)


def test_by_the_system_s_clock_the_silent_are_canceled_and_those_who_ping_are_not(tmp_path: Path) -> None:
    with venue(tmp_path, SMALL) as exchange:
        account, silent = exchange.account(), exchange.account()
        for each in (account, silent):
            exchange.enter(each, "buy", 10, 100)
        with closing(exchange.peer()) as connection, closing(exchange.peer()) as left:
            declare(left, silent, 1000)
            declare(connection, account, 1000)
            left.close()

            def canceled() -> bool:
                assert connection.ask(type="ping")["type"] == "pong"
                return not exchange.query.ask(type="open_orders", account=silent)["orders"]

            wait_until(canceled, f"the orders of {silent} are canceled")
            last = reports(exchange, silent, "ACME", 2)[-1]
            assert (last["exec_type"], last["reason"]) == ("canceled", "disconnected")
            begun = time.monotonic()

            def two_seconds_later() -> bool:
                assert connection.ask(type="ping")["type"] == "pong"
                return time.monotonic() > begun + 2

            wait_until(two_seconds_later, "two intervals are over")
            is_left_alone(exchange, account, 1)
            exchange.clear()


def test_a_daemon_that_did_not_listen_takes_nobody_for_silent(tmp_path: Path) -> None:
    with venue(tmp_path, SMALL) as exchange, closing(exchange.peer()) as connection:
        account = exchange.account()
        exchange.enter(account, "buy", 10, 100)
        declare(connection, account, 1000)
        exchange.order_handler.signal(signal.SIGSTOP)
        frozen = time.monotonic()
        wait_until(lambda: time.monotonic() > frozen + 3, "it was frozen for three intervals")
        exchange.order_handler.signal(signal.SIGCONT)
        assert connection.ask(type="ping")["type"] == "pong"
        is_left_alone(exchange, account, 1)
        declare(connection, account, cancel_on_disconnect=False)
        exchange.clear()


# -- cancel_all_after --------------------------------------------------------------------------------------------------


def test_cancel_all_after_cancels_unless_it_is_renewed(exchange: Venue, operator: Operator) -> None:
    account = exchange.account()
    exchange.enter(account, "buy", 10, 100)
    for _ in range(3):
        dead_man(exchange, account, 60_000)
        operator.pass_time(59 * SECOND)
    is_left_alone(exchange, account, 1)
    due = operator.clock() + SECOND
    operator.pass_time(HOUR)
    is_canceled(exchange, account, due)
    exchange.enter(account, "buy", 10, 100)
    operator.pass_time(HOUR)
    is_left_alone(exchange, account, 1)


def test_cancel_all_after_is_disarmed_by_zero(exchange: Venue, operator: Operator) -> None:
    account = exchange.account()
    exchange.enter(account, "buy", 10, 100)
    dead_man(exchange, account, 60_000)
    dead_man(exchange, account, 0)
    operator.pass_time(HOUR)
    is_left_alone(exchange, account, 1)


def test_cancel_all_after_survives_a_kill_and_fires_once(exchange: Venue, operator: Operator) -> None:
    account, disarmed = exchange.account(), exchange.account()
    for each in (account, disarmed):
        exchange.enter(each, "buy", 10, 100)
        dead_man(exchange, each, 60_000)
    dead_man(exchange, disarmed, 0)
    armed = operator.clock()
    exchange.order_handler.kill()
    exchange.order_handler.start()
    operator.pass_time(HOUR)
    is_canceled(exchange, account, armed + 60 * SECOND)
    exchange.order_handler.kill()
    exchange.order_handler.start()
    exchange.enter(account, "buy", 10, 100)
    operator.pass_time(HOUR)
    is_left_alone(exchange, account, 1)
    is_left_alone(exchange, disarmed, 1)
    fired = [record.request for record in journal_of(exchange.config) if record.account == account]
    assert [type(request) for request in fired[1:4]] == [CancelAllAfter, MassCancel, CancelAllAfter]


def test_cancel_all_after_whose_time_came_while_nobody_was_there_is_done_at_the_start(tmp_path: Path) -> None:
    with venue(tmp_path, SMALL) as exchange:
        account = exchange.account()
        exchange.enter(account, "buy", 10, 100)
        due = dead_man(exchange, account, 1000)["time"] + SECOND
        exchange.order_handler.kill()
        wait_until(lambda: time.time_ns() > due, "its time has come")
        exchange.order_handler.start()
        last = reports(exchange, account, "ACME", 2)[-1]
        assert (last["exec_type"], last["reason"]) == ("canceled", "disconnected")


def test_what_concerns_no_asset_is_in_the_journal_by_itself(exchange: Venue, connection: Peer) -> None:
    account = exchange.account()
    declare(connection, account, 60_000)
    declare(connection, account, 60_000, cancel_on_disconnect=False)
    own = [record for record in journal_of(exchange.config) if record.asset == ""]
    assert [record.sequence for record in own] == list(range(1, len(own) + 1))
    assert [record.request for record in own if record.account == account] == [
        SetSession(60_000, True),
        SetSession(60_000, False),
    ]
