"""The rulebook's rules 14 to 17, 22 and 23, of orders that are live: when a request comes, exactly these events.

Amends of stops that wait are in `test_rules_of_stops.py`, of icebergs in `test_rules_of_icebergs.py`; the other
instructions of rule 17 in `test_rules_of_self_trades.py`.
"""

import pytest

from exchange.core.asset import MAX_INTEGER, Status
from exchange.core.matching import OutOfSequence
from exchange.core.requests import BUY, SELL, CancelOrder, MassCancelReason, NewOrder, Record, TimeInForce
from tests.market import Market

# -- 14. amend ---------------------------------------------------------------------------------------------------------


def test_rule_14_less_quantity_keeps_the_place() -> None:
    market = Market()
    market.buy(10, at=100)
    market.buy(10, at=100)
    assert market.amend(1, quantity=3) == ["1 replaced: 3 @ 100, 3 open, place kept"]
    assert market.book() == ["buy 100: 1 has 3, 2 has 10"]


def test_rule_14_the_same_quantity_and_price_keep_the_place() -> None:
    market = Market()
    market.buy(10, at=100)
    market.buy(10, at=100)
    assert market.amend(1, quantity=10, at=100) == ["1 replaced: 10 @ 100, 10 open, place kept"]
    assert market.book() == ["buy 100: 1 has 10, 2 has 10"]


def test_rule_14_more_quantity_loses_the_place() -> None:
    market = Market()
    market.buy(10, at=100)
    market.buy(10, at=100)
    assert market.amend(1, quantity=11) == ["1 replaced: 11 @ 100, 11 open, place lost", "1 rests 11 @ 100"]
    assert market.book() == ["buy 100: 2 has 10, 1 has 11"]


def test_rule_14_another_price_loses_the_place_even_with_less_quantity() -> None:
    market = Market()
    market.buy(10, at=100)
    market.buy(10, at=99)
    assert market.amend(1, quantity=5, at=99) == ["1 replaced: 5 @ 99, 5 open, place lost", "1 rests 5 @ 99"]
    assert market.book() == ["buy 99: 2 has 10, 1 has 5"]


def test_rule_14_quantity_is_the_new_total_fills_included() -> None:
    market = Market()
    market.buy(10, at=100)
    market.sell(4, at=100)
    assert market.amend(1, quantity=9) == ["1 replaced: 9 @ 100, 5 open, place kept"]
    assert market.amend(1, quantity=12) == ["1 replaced: 12 @ 100, 8 open, place lost", "1 rests 8 @ 100"]


@pytest.mark.parametrize("quantity", [4, 3, 1])
def test_rule_14_a_total_at_or_below_what_has_filled_cancels_the_rest(quantity: int) -> None:
    market = Market()
    market.buy(10, at=100)
    market.sell(4, at=100)
    assert market.amend(1, quantity=quantity) == ["1 canceled (user_request): 6 of 10 @ 100"]
    assert market.book() == []


def test_rule_14_that_holds_for_an_amend_of_the_price_too() -> None:
    market = Market()
    market.sell(5, at=105)
    market.buy(10, at=100)
    market.sell(4, at=100)
    assert market.amend(2, quantity=4, at=105) == ["2 canceled (user_request): 6 of 10 @ 100"]
    assert market.book() == ["sell 105: 1 has 5"]


def test_rule_14_a_failed_amend_leaves_the_order_as_it_was() -> None:
    market = Market()
    market.buy(MAX_INTEGER - 10, at=100, by="ann")
    market.buy(10, at=100)
    market.buy(10, at=99)
    market.buy(10, at=99)
    assert market.amend(2, quantity=11) == ["amend of 2 rejected (invalid_quantity)"]
    assert market.amend(3, at=100) == ["amend of 3 rejected (invalid_quantity)"]
    assert market.book() == [f"buy 100: 1 has {MAX_INTEGER - 10}, 2 has 10", "buy 99: 3 has 10, 4 has 10"]
    assert market.amend(3, quantity=9) == ["3 replaced: 9 @ 99, 9 open, place kept"]


# -- 15. an amend that crosses -----------------------------------------------------------------------------------------


def test_rule_15_an_amend_that_crosses_trades_and_rests_what_is_left() -> None:
    market = Market()
    market.sell(4, at=101)
    market.sell(4, at=103)
    market.buy(10, at=100)
    assert market.amend(3, at=102) == [
        "3 replaced: 10 @ 102, 10 open, place lost",
        "trade 1: 4 @ 101, maker 1 of sue, taker 3 of bob buys",
        "3 rests 6 @ 102",
    ]
    assert market.book() == ["sell 103: 2 has 4", "buy 102: 3 has 6"]


def test_rule_15_an_amend_that_crosses_an_own_order_is_subject_to_self_trade_prevention() -> None:
    market = Market()
    market.sell(4, at=101, by="sue")
    market.sell(4, at=102, by="ann")
    market.buy(10, at=100, by="ann")
    assert market.amend(3, quantity=12, at=103, by="ann") == [
        "3 replaced: 12 @ 103, 12 open, place lost",
        "trade 1: 4 @ 101, maker 1 of sue, taker 3 of ann buys",
        "3 canceled (self_trade_prevention): 8 of 12 @ 103",
    ]
    assert market.book() == ["sell 102: 2 has 4"]


# -- 16. mass cancel ---------------------------------------------------------------------------------------------------


def test_rule_16_mass_cancel_ends_the_accounts_own_orders_in_order_of_arrival() -> None:
    market = Market()
    market.buy(10, at=98)
    market.buy(10, at=99, by="ann")
    market.sell(10, at=105, by="bob")
    market.buy(10, at=100)
    assert market.mass_cancel() == [
        "1 canceled (mass_cancel): 10 of 10 @ 98",
        "3 canceled (mass_cancel): 10 of 10 @ 105",
        "4 canceled (mass_cancel): 10 of 10 @ 100",
    ]
    assert market.book() == ["buy 99: 2 has 10"]


def test_rule_16_an_amend_moves_an_order_in_its_queue_but_not_in_its_age() -> None:
    market = Market()
    market.buy(10, at=100)
    market.buy(10, at=100)
    market.amend(1, quantity=20)
    assert market.book() == ["buy 100: 2 has 10, 1 has 20"]
    assert market.mass_cancel() == [
        "1 canceled (mass_cancel): 20 of 20 @ 100",
        "2 canceled (mass_cancel): 10 of 10 @ 100",
    ]


@pytest.mark.parametrize(("side", "canceled"), [("buy", [1, 3]), ("sell", [2, 4])])
def test_rule_16_mass_cancel_of_one_side_leaves_the_other(side: str, canceled: list[int]) -> None:
    market = Market()
    market.buy(10, at=99)
    market.sell(10, at=101, by="bob")
    market.buy(10, at=98)
    market.sell(10, at=102, by="bob")
    assert [int(line.split()[0]) for line in market.mass_cancel(side)] == canceled


def test_rule_16_mass_cancel_reports_only_what_was_still_open() -> None:
    market = Market()
    market.buy(10, at=100)
    market.sell(4, at=100)
    assert market.mass_cancel() == ["1 canceled (mass_cancel): 6 of 10 @ 100"]


def test_rule_16_mass_cancel_with_nothing_live_has_no_events() -> None:
    market = Market()
    market.buy(10, at=100)
    assert market.mass_cancel(by="sue") == []
    market.cancel(1)
    assert market.mass_cancel() == []


@pytest.mark.parametrize("reason", ["disconnected", "operator"])
def test_rule_16_where_the_exchange_cancels_for_the_account_the_report_says_why(reason: MassCancelReason) -> None:
    market = Market()
    market.buy(10, at=100)
    market.buy(5, stop=105)
    assert market.mass_cancel(reason=reason) == [
        f"1 canceled ({reason}): 10 of 10 @ 100",
        f"2 canceled ({reason}): 5 of 5 @ market",
    ]


@pytest.mark.parametrize("status", ["call", "halted", "closed"])
def test_rule_16_mass_cancel_is_taken_in_every_status(status: Status) -> None:
    market = Market()
    market.buy(10, at=100)
    market.status(status)
    assert market.mass_cancel() == ["1 canceled (mass_cancel): 10 of 10 @ 100"]


# -- 17. self-trade prevention -----------------------------------------------------------------------------------------


def test_rule_17_an_order_that_meets_one_of_its_own_account_is_canceled() -> None:
    market = Market()
    market.sell(10, at=100, by="ann")
    assert market.buy(5, at=100, by="ann") == ["2 accepted", "2 canceled (self_trade_prevention): 5 of 5 @ 100"]
    assert market.book() == ["sell 100: 1 has 10"]


def test_rule_17_trades_before_it_stand() -> None:
    market = Market()
    market.sell(4, at=100, by="sue")
    market.sell(4, at=100, by="ann")
    market.sell(4, at=100, by="sue")
    assert market.buy(10, at=100, by="ann") == [
        "4 accepted",
        "trade 1: 4 @ 100, maker 1 of sue, taker 4 of ann buys",
        "4 canceled (self_trade_prevention): 6 of 10 @ 100",
    ]
    assert market.book() == ["sell 100: 2 has 4, 3 has 4"]


def test_rule_17_an_order_that_is_filled_before_it_meets_its_own_is_not_canceled() -> None:
    market = Market()
    market.sell(4, at=100, by="sue")
    market.sell(4, at=100, by="ann")
    assert market.buy(4, at=100, by="ann") == [
        "3 accepted",
        "trade 1: 4 @ 100, maker 1 of sue, taker 3 of ann buys",
    ]


@pytest.mark.parametrize("time_in_force", ["gtc", "ioc"])
@pytest.mark.parametrize("at", [100, None])
def test_rule_17_the_reason_is_self_trade_prevention_for_every_type(at: int | None, time_in_force: TimeInForce) -> None:
    market = Market()
    market.sell(10, at=100, by="ann")
    assert market.buy(5, at=at, time_in_force=time_in_force, by="ann") == [
        "2 accepted",
        f"2 canceled (self_trade_prevention): 5 of 5 @ {at or 'market'}",
    ]


def test_rule_17_own_orders_that_do_not_cross_rest_side_by_side() -> None:
    market = Market()
    market.sell(10, at=101, by="ann")
    assert market.buy(10, at=100, by="ann") == ["2 accepted", "2 rests 10 @ 100"]


def test_rule_17_an_asset_can_allow_self_trades() -> None:
    market = Market(self_trade="allow")
    market.sell(10, at=100, by="ann")
    assert market.buy(5, at=100, by="ann") == [
        "2 accepted",
        "trade 1: 5 @ 100, maker 1 of ann, taker 2 of ann buys",
    ]


def test_rule_17_a_new_definition_of_the_asset_holds_from_its_place_in_the_queue_on() -> None:
    market = Market()
    market.sell(10, at=100, by="ann")
    market.buy(1, at=100, by="ann")
    assert market.define(self_trade="allow") == ["asset defined"]
    assert market.buy(1, at=100, by="ann")[1:] == ["trade 1: 1 @ 100, maker 1 of ann, taker 3 of ann buys"]
    market.define(self_trade="prevent")
    assert market.buy(1, at=100, by="ann")[1:] == ["4 canceled (self_trade_prevention): 1 of 1 @ 100"]


# -- 22 and 23. what always holds (on random orders: test_matching_against_naive.py) -----------------------------------


def test_rule_22_quantity_is_filled_and_canceled_and_open() -> None:
    market = Market()
    market.buy(10, at=100)
    market.sell(3, at=100)
    market.amend(1, quantity=8)
    assert market.book() == ["buy 100: 1 has 5"]
    assert market.cancel(1) == ["1 canceled (user_request): 5 of 8 @ 100"]


def test_rule_22_what_was_decremented_is_no_part_of_the_quantity_any_more() -> None:
    """10 asked for: 2 filled, 3 decremented, 4 expired, the last 1 canceled by an amend to the other 6."""
    market = Market()
    market.buy(10, at=100, time_in_force="day")
    market.sell(2, at=100)
    assert market.sell(3, at=100, by="bob", self_trade_prevention="decrement_and_cancel") == [
        "3 accepted",
        "1 decremented: 5 open of 7 @ 100",
        "3 canceled (self_trade_prevention): 3 of 3 @ 100",
    ]
    assert market.amend(1, quantity=6) == ["1 replaced: 6 @ 100, 4 open, place kept"]
    assert market.expire(day=True) == ["1 expired: 4 of 6 @ 100"]


def test_rule_23_requests_are_applied_in_their_sequence_only() -> None:
    market = Market()
    before = market.matching.sequence
    for sequence in (0, before, before + 2):
        with pytest.raises(OutOfSequence, match=f"ACME: request {sequence} after {before}"):
            market.matching.apply(Record("ACME", sequence, 0, "bob", CancelOrder(1)))
    assert market.cancel(1) == ["cancel of 1 rejected (unknown_order)"]


def test_rule_23_events_are_numbered_without_a_gap_and_the_record_names_the_first() -> None:
    market = Market()
    first = market.record(NewOrder(1, "a", SELL, 5, 100), "sue")
    nothing = market.record(CancelOrder(7), "sue")
    last = market.record(NewOrder(2, "b", BUY, 9, 100), "bob")
    assert (first.event_sequence, len(first.events)) == (2, 2)
    assert (nothing.event_sequence, len(nothing.events)) == (4, 1)
    assert (last.event_sequence, len(last.events)) == (5, 3)
    assert market.matching.event_sequence == 7


def test_rule_23_a_record_carries_its_requests_place_time_and_account() -> None:
    market = Market()
    request = NewOrder(1, "a", SELL, 5, 100)
    record = market.matching.apply(Record("ACME", 2, 123_456_789, "sue", request))
    assert (record.asset, record.sequence, record.time, record.account) == ("ACME", 2, 123_456_789, "sue")
    assert record.request is request
