"""Trading statuses, expiries and calls by the clock, with the real daemons: a trading day goes by in a moment."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from exchange.core.requests import ChangeStatus, Expire
from tests.integration.operators import (
    DAY,
    HOUR,
    MANUAL,
    MINUTE,
    SECOND,
    SMALL,
    Operator,
    journal_of,
    reports,
    status_messages,
)
from tests.integration.outsider import Venue, venue
from tests.support import wait_until

ASSETS = """
[[asset]]
asset = "ACME"
price_scale = 2
tick_size = 5
lot_size = 10

[[asset]]
asset = "SHARES"
price_scale = 2
schedule = [
    { at = "08:50", status = "call" },
    { at = "09:00", status = "open" },
    { at = "17:30", status = "call" },
    { at = "17:35", status = "closed" },
]

[[asset]]
asset = "SWINGS"
price_scale = 2
reference_price = 10000
volatility_band = "0.05"
call_seconds = 120
"""


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Venue]:
    with venue(tmp_path_factory.mktemp("exchange"), MANUAL, ASSETS) as exchange:
        yield exchange


@pytest.fixture(scope="module")
def operator(exchange: Venue) -> Iterator[Operator]:
    with closing(Operator(exchange)) as operator:
        yield operator


def killed_and_started(exchange: Venue) -> None:
    exchange.order_handler.kill()
    exchange.order_handler.start()


# -- the schedule ------------------------------------------------------------------------------------------------------


def test_a_trading_day_goes_by_its_schedule(exchange: Venue, operator: Operator) -> None:
    midnight = operator.next_day(8 * HOUR)
    reply = exchange.entry.ask(exchange.order("ann", "buy", 10, 10000, asset="SHARES"))
    assert (reply["type"], reply["reason"]) == ("reject", "market_closed")
    operator.set_clock(midnight + 8 * HOUR + 50 * MINUTE)
    account = exchange.account()
    buy = exchange.enter(account, "buy", 10, 10100, asset="SHARES", time_in_force="day")
    exchange.enter("bob", "sell", 4, 9900, asset="SHARES")
    operator.set_clock(midnight + 9 * HOUR)
    operator.set_clock(midnight + 20 * HOUR)
    done = reports(exchange, account, "SHARES", 3)
    assert [(report["exec_type"], report["time"]) for report in done] == [
        ("new", midnight + 8 * HOUR + 50 * MINUTE),
        ("trade", midnight + 9 * HOUR),
        ("expired", midnight + 17 * HOUR + 35 * MINUTE),
    ]
    assert {report["order_id"] for report in done} == {buy["order_id"]}


def test_what_is_due_on_the_way_is_done_at_its_own_time(exchange: Venue, operator: Operator) -> None:
    midnight = operator.next_day(8 * HOUR)
    account = exchange.account()
    exchange.enter(account, "buy", 10, 10000, time_in_force="gtd", expire_time=midnight + 9 * HOUR + SECOND)
    operator.set_clock(midnight + 18 * HOUR)
    last = midnight + 17 * HOUR + 35 * MINUTE
    wait_until(lambda: status_messages(exchange, "SHARES")[-1]["time"] == last, "the day is over")
    day = [each for each in status_messages(exchange, "SHARES") if each["time"] >= midnight]
    assert [(each["status"], each["reason"], each["time"]) for each in day] == [
        ("call", "schedule", midnight + 8 * HOUR + 50 * MINUTE),
        ("open", "schedule", midnight + 9 * HOUR),
        ("call", "schedule", midnight + 17 * HOUR + 30 * MINUTE),
        ("closed", "schedule", last),
    ]
    assert [(each["exec_type"], each["time"]) for each in reports(exchange, account, "ACME", 2)] == [
        ("new", midnight + 8 * HOUR),
        ("expired", midnight + 9 * HOUR + SECOND),
    ]


def test_changes_that_were_missed_are_made_at_the_start_from_the_last_close_on(tmp_path: Path) -> None:
    """By the system's clock: that one goes on while nobody is there."""
    first = time.time() + 10
    zone, ahead = ("UTC", 0) if time.gmtime().tm_hour < 23 else ("Etc/GMT-3", 3)  # no midnight in between
    times = [time.strftime("%H:%M:%S", time.gmtime(first + ahead * 3600 + second)) for second in range(4)]
    changes = zip(("00:00", *times), ("open", "closed", "call", "closed", "open"), strict=True)
    schedule = ", ".join(f'{{ at = "{at}", status = "{status}" }}' for at, status in changes)
    asset = f'[[asset]]\nasset = "ACME"\ntick_size = 5\nlot_size = 10\ntime_zone = "{zone}"\nschedule = [{schedule}]\n'
    with venue(tmp_path, SMALL, asset) as exchange:
        assert status_messages(exchange, "ACME", ("open", "schedule"))
        exchange.order_handler.kill()
        wait_until(lambda: time.time() > first + 4, "all that is missed is over")
        exchange.order_handler.start()
        wait_until(lambda: len(status_messages(exchange, "ACME", ("open", "schedule"))) == 4, "it is open again")
        found = [each["status"] for each in status_messages(exchange, "ACME")]
        assert found == ["closed", "open", "closed", "open"]  # the first as it was defined
        requests = [record.request for record in journal_of(exchange.config)]
        made = [request.scheduled_time for request in requests if isinstance(request, ChangeStatus)]
        assert made[2] - made[1] == SECOND


# -- calls that end by themselves --------------------------------------------------------------------------------------


def begin_call(exchange: Venue, price: int) -> None:
    """Have a trade about to print beyond the band, and return when the order handler knows of the call."""
    exchange.enter("ann", "sell", 10, price, asset="SWINGS")
    exchange.enter("bob", "buy", 10, price, asset="SWINGS")
    status_messages(exchange, "SWINGS", ("call", "volatility_interruption"))
    wait_for_call(exchange)


def wait_for_call(exchange: Venue) -> None:
    """Return when order entry refuses what no call takes: an order that it takes before trades with nobody."""

    def refused() -> bool:
        reply = exchange.entry.ask(exchange.order("carl", "sell", 1, 11000, asset="SWINGS", time_in_force="fok"))
        return bool(reply["type"] == "reject")

    wait_until(refused, "the order handler knows of the call")


def test_a_volatility_interruption_ends_by_itself_in_an_auction(exchange: Venue, operator: Operator) -> None:
    operator.next_day()
    began = operator.clock()
    begin_call(exchange, 11000)
    operator.pass_time(119 * SECOND)
    exchange.settle("ACME")
    assert status_messages(exchange, "SWINGS")[-1]["status"] == "call"
    operator.pass_time(2 * SECOND)
    over = status_messages(exchange, "SWINGS", ("open", "call_ended"))[-1]
    assert over["time"] == began + 120 * SECOND
    trade = exchange.query.ask(type="trades", asset="SWINGS", limit=1)["trades"][0]
    assert (trade["price"], trade["time"]) == (11000, began + 120 * SECOND)


def test_a_volatility_interruption_ends_also_after_a_restart_and_once(exchange: Venue, operator: Operator) -> None:
    def calls_ended() -> int:
        requests = [record.request for record in journal_of(exchange.config) if record.asset == "SWINGS"]
        return sum(isinstance(request, ChangeStatus) and request.call > 0 for request in requests)

    operator.next_day()
    before = calls_ended()
    begin_call(exchange, 13000)
    killed_and_started(exchange)
    wait_for_call(exchange)
    operator.pass_time(121 * SECOND)
    assert status_messages(exchange, "SWINGS", ("open", "call_ended"))
    killed_and_started(exchange)
    operator.pass_time(HOUR)
    exchange.settle("SWINGS")
    operator.pass_time(HOUR)
    assert calls_ended() == before + 1


# -- expiries ----------------------------------------------------------------------------------------------------------


def test_day_orders_without_sessions_expire_at_the_day_roll(exchange: Venue, operator: Operator) -> None:
    midnight = operator.next_day(12 * HOUR)
    account = exchange.account()
    exchange.enter(account, "buy", 10, 100, time_in_force="day")
    operator.set_clock(midnight + DAY + HOUR)
    last = reports(exchange, account, "ACME", 2)[-1]
    assert (last["exec_type"], last["reason"], last["time"]) == ("expired", "expired", midnight + DAY)


def test_an_expiry_that_came_due_while_the_order_handler_was_killed_happens_once(tmp_path: Path) -> None:
    """By the system's clock: that one goes on while nobody is there."""
    with venue(tmp_path, SMALL) as exchange:
        account = exchange.account()
        now = exchange.entry.ask(type="ping")["time"]
        exchange.enter(account, "buy", 10, 100, time_in_force="gtd", expire_time=now + SECOND)
        exchange.enter(account, "buy", 10, 100, time_in_force="gtd", expire_time=now + HOUR)
        exchange.order_handler.kill()
        wait_until(lambda: time.time_ns() > now + SECOND, "the time has come")
        exchange.order_handler.start()
        assert [report["exec_type"] for report in reports(exchange, account, "ACME", 3)] == ["new", "new", "expired"]
        killed_and_started(exchange)
        exchange.do("mass_cancel", account=account)
        expired = [record.time for record in journal_of(exchange.config) if isinstance(record.request, Expire)]
        assert len(expired) == 1
        assert expired[0] >= now + SECOND
