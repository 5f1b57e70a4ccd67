"""The rulebook's rule 12: gtc, day and gtd, and what ends a trading day."""

import pytest

from exchange.core.asset import Status
from tests.market import Market

NOON = 60  # some time, in seconds


def test_rule_12_the_end_of_the_day_expires_day_orders_by_order_id() -> None:
    market = Market()
    market.buy(5, at=100, time_in_force="day")
    market.buy(5, at=100)
    market.buy(5, at=101, time_in_force="day", by="ann")
    market.sell(5, at=105, time_in_force="day")
    market.amend(1, at=99)
    assert market.expire(day=True) == [
        "1 expired: 5 of 5 @ 99",
        "3 expired: 5 of 5 @ 101",
        "4 expired: 5 of 5 @ 105",
    ]
    assert market.book() == ["buy 100: 2 has 5"]


def test_rule_12_a_gtd_order_expires_at_its_time_and_not_before() -> None:
    market = Market()
    market.buy(5, at=100, time_in_force="gtd", expire_time=NOON)
    market.wait(NOON - 1)
    assert market.expire() == []
    market.wait(1)
    assert market.expire() == ["1 expired: 5 of 5 @ 100"]
    assert market.expire() == []


def test_rule_12_gtd_orders_that_are_due_expire_by_order_id_whatever_their_times() -> None:
    market = Market()
    market.buy(5, at=100, time_in_force="gtd", expire_time=NOON)
    market.buy(5, at=101, time_in_force="gtd", expire_time=NOON - 5, by="ann")
    market.buy(5, at=102, time_in_force="gtd", expire_time=NOON + 1)
    market.sell(5, at=110, time_in_force="gtd", expire_time=NOON)
    market.wait(NOON)
    assert market.expire() == [
        "1 expired: 5 of 5 @ 100",
        "2 expired: 5 of 5 @ 101",
        "4 expired: 5 of 5 @ 110",
    ]


def test_rule_12_an_expiry_alone_leaves_day_orders_and_the_end_of_the_day_takes_due_gtd_orders_along() -> None:
    market = Market()
    market.buy(5, at=100, time_in_force="day")
    market.buy(5, at=101, time_in_force="gtd", expire_time=NOON)
    market.buy(5, at=102, time_in_force="gtd", expire_time=NOON + 1)
    market.wait(NOON)
    assert market.expire(day=True) == [
        "1 expired: 5 of 5 @ 100",
        "2 expired: 5 of 5 @ 101",
    ]
    assert market.expire() == []


def test_rule_12_no_clock_of_the_matching_daemon_expires_an_order() -> None:
    """Only the request does: a time that has come without it ends nothing, and what is due still trades."""
    market = Market()
    market.buy(5, at=100, time_in_force="gtd", expire_time=NOON)
    market.wait(NOON + 1)
    assert market.sell(5, at=100) == [
        "2 accepted",
        "trade 1: 5 @ 100, maker 1 of bob, taker 2 of sue sells",
    ]


def test_rule_12_an_expired_report_says_what_was_open_hidden_quantity_included() -> None:
    market = Market()
    market.buy(9, at=100, time_in_force="day", show=2)
    market.sell(3, at=100)
    assert market.expire(day=True) == ["1 expired: 6 of 9 @ 100"]


def test_rule_12_stops_that_wait_expire_too() -> None:
    market = Market()
    market.buy(5, stop=105, time_in_force="day")
    market.buy(5, at=106, stop=105, time_in_force="gtd", expire_time=NOON)
    market.wait(NOON)
    assert market.expire(day=True) == [
        "1 expired: 5 of 5 @ market",
        "2 expired: 5 of 5 @ 106",
    ]


def test_rule_12_a_stop_limit_that_was_triggered_expires_as_it_would_have_waiting() -> None:
    market = Market()
    market.buy(5, at=99, stop=100, time_in_force="day")
    market.sell(1, at=100)
    assert market.buy(1, at=100, by="ann") == [
        "3 accepted",
        "trade 1: 1 @ 100, maker 2 of sue, taker 3 of ann buys",
        "1 triggered",
        "1 rests 5 @ 99",
    ]
    assert market.expire(day=True) == ["1 expired: 5 of 5 @ 99"]


def test_rule_12_what_ended_otherwise_does_not_expire() -> None:
    market = Market()
    market.buy(1, at=100, time_in_force="day")
    market.buy(1, at=100, time_in_force="day")
    market.buy(1, at=100, time_in_force="day")
    market.sell(1, at=100)
    market.cancel(2)
    market.amend(3, quantity=0)
    market.buy(1, time_in_force="day")
    assert market.expire(day=True) == []


def test_rule_12_nor_what_a_trigger_an_amend_or_an_auction_ended() -> None:
    market = Market()
    market.sell(3, at=100)
    market.buy(1, stop=100, time_in_force="day")
    market.buy(5, stop=100, time_in_force="day")
    assert market.buy(1, at=100, by="ann")[2:] == [
        "2 triggered",
        "trade 2: 1 @ 100, maker 1 of sue, taker 2 of bob buys",
        "3 triggered",
        "trade 3: 1 @ 100, maker 1 of sue, taker 3 of bob buys",
        "3 canceled (market_remainder): 4 of 5 @ market",
    ]
    market.buy(1, at=99, time_in_force="day")
    market.sell(1, at=101)
    market.amend(5, at=101)
    market.status("call")
    market.buy(1, at=100, time_in_force="day")
    market.sell(1, at=100, time_in_force="day")
    market.status("open")
    assert market.book() == []
    assert market.expire(day=True) == []


def test_rule_12_an_amend_does_not_change_when_an_order_expires() -> None:
    market = Market()
    market.buy(5, at=100, time_in_force="gtd", expire_time=NOON)
    market.amend(1, quantity=9, at=101)
    market.wait(NOON)
    assert market.expire() == ["1 expired: 9 of 9 @ 101"]


@pytest.mark.parametrize("status", ["open", "closed", "call", "halted"])
def test_rule_12_orders_expire_in_every_status(status: Status) -> None:
    market = Market()
    market.buy(5, at=100, time_in_force="day")
    if status != "open":
        market.status(status)
    assert market.expire(day=True) == ["1 expired: 5 of 5 @ 100"]


def test_rule_12_a_status_change_that_ends_the_day_expires_after_its_auction() -> None:
    market = Market()
    market.status("call")
    market.buy(5, at=100, time_in_force="day")
    market.sell(2, at=100)
    assert market.status("closed", ends_day=True) == [
        "trade 1: 2 @ 100, maker 2 of sue, taker 1 of bob buys",
        "status closed (operator)",
        "1 expired: 3 of 5 @ 100",
    ]


def test_rule_12_it_ends_the_day_also_where_the_status_is_that_already() -> None:
    market = Market()
    market.buy(5, at=100, time_in_force="day")
    market.status("closed")
    assert market.status("closed", ends_day=True) == ["1 expired: 5 of 5 @ 100"]


def test_rule_12_a_day_that_ends_expires_elected_stops_before_they_could_enter() -> None:
    market = Market()
    market.sell(1, at=100)
    market.buy(1, at=100)
    market.status("call")
    market.buy(5, at=99, stop=100, time_in_force="day")
    market.buy(5, at=99, stop=100)
    assert market.status("open", ends_day=True) == [
        "status open (operator)",
        "3 expired: 5 of 5 @ 99",
        "4 triggered",
        "4 rests 5 @ 99",
    ]


def test_rule_12_an_expiry_in_a_call_changes_what_is_published() -> None:
    market = Market()
    market.status("call")
    market.buy(5, at=100, time_in_force="day")
    market.sell(2, at=100)
    assert market.expire(day=True) == [
        "1 expired: 5 of 5 @ 100",
        "indicative: none",
    ]


def test_rule_12_with_nothing_due_there_are_no_events() -> None:
    market = Market()
    market.buy(5, at=100)
    assert market.expire(day=True) == []
