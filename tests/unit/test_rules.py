"""The rulebook, rule by rule: given orders, when one enters, exactly these events. Numbers are the rulebook's.

Rules 6 to 10, 12 and 18 to 21 are of types and sessions that order entry rejects as `unsupported`; see
`test_order_entry.py` and the table in `docs/rulebook.md`.
"""

import pytest

from exchange.core.asset import MAX_INTEGER
from exchange.core.matching import OutOfSequence
from exchange.core.requests import BUY, SELL, CancelOrder, NewOrder, Record, TimeInForce
from tests.market import Market

# -- 1. better price first, then first in, first out -------------------------------------------------------------------


def test_rule_1_the_better_price_trades_first() -> None:
    market = Market()
    market.sell(10, at=102)
    market.sell(10, at=101)
    assert market.buy(15, at=102) == [
        "3 accepted",
        "trade 1: 10 @ 101, maker 2 of sue, taker 3 of bob buys",
        "trade 2: 5 @ 102, maker 1 of sue, taker 3 of bob buys",
    ]


def test_rule_1_the_better_price_of_buys_is_the_higher() -> None:
    market = Market()
    market.buy(10, at=99)
    market.buy(10, at=100)
    assert market.sell(15, at=99) == [
        "3 accepted",
        "trade 1: 10 @ 100, maker 2 of bob, taker 3 of sue sells",
        "trade 2: 5 @ 99, maker 1 of bob, taker 3 of sue sells",
    ]


def test_rule_1_at_one_price_the_first_in_is_the_first_out() -> None:
    market = Market()
    market.sell(10, at=101, by="ann")
    market.sell(10, at=101, by="dan")
    market.sell(10, at=101, by="ann")
    assert market.buy(25, at=101) == [
        "4 accepted",
        "trade 1: 10 @ 101, maker 1 of ann, taker 4 of bob buys",
        "trade 2: 10 @ 101, maker 2 of dan, taker 4 of bob buys",
        "trade 3: 5 @ 101, maker 3 of ann, taker 4 of bob buys",
    ]


def test_rule_1_a_partial_fill_keeps_the_makers_place() -> None:
    market = Market()
    market.sell(10, at=101)
    market.sell(10, at=101)
    market.buy(4, at=101)
    assert market.book() == ["sell 101: 1 has 6, 2 has 10"]
    assert market.buy(7, at=101) == [
        "4 accepted",
        "trade 2: 6 @ 101, maker 1 of sue, taker 4 of bob buys",
        "trade 3: 1 @ 101, maker 2 of sue, taker 4 of bob buys",
    ]


def test_rule_1_size_gives_no_priority() -> None:
    market = Market()
    market.buy(1, at=100)
    market.buy(1000, at=100)
    assert market.sell(1, at=100)[1:] == ["trade 1: 1 @ 100, maker 1 of bob, taker 3 of sue sells"]


# -- 2. a trade prints at the resting order's price --------------------------------------------------------------------


def test_rule_2_a_trade_prints_at_the_resting_orders_price() -> None:
    market = Market()
    market.sell(10, at=100)
    assert market.buy(10, at=105) == ["2 accepted", "trade 1: 10 @ 100, maker 1 of sue, taker 2 of bob buys"]


def test_rule_2_so_does_one_that_an_amend_makes() -> None:
    market = Market()
    market.sell(10, at=100)
    market.buy(10, at=90)
    assert market.amend(2, at=105) == [
        "2 replaced: 10 @ 105, 10 open, place lost",
        "trade 1: 10 @ 100, maker 1 of sue, taker 2 of bob buys",
    ]


def test_rule_2_so_does_each_trade_of_a_market_order() -> None:
    market = Market()
    market.buy(5, at=100)
    market.buy(5, at=1)
    assert market.sell(10) == [
        "3 accepted",
        "trade 1: 5 @ 100, maker 1 of bob, taker 3 of sue sells",
        "trade 2: 5 @ 1, maker 2 of bob, taker 3 of sue sells",
    ]


# -- 3. neither crossed nor locked, and no empty level -----------------------------------------------------------------


def test_rule_3_an_order_at_the_opposite_best_price_trades_instead_of_locking_the_book() -> None:
    market = Market()
    market.sell(10, at=100)
    assert market.buy(4, at=100) == ["2 accepted", "trade 1: 4 @ 100, maker 1 of sue, taker 2 of bob buys"]
    assert market.book() == ["sell 100: 1 has 6"]


def test_rule_3_what_is_left_of_a_crossing_order_rests_at_its_limit() -> None:
    market = Market()
    market.sell(10, at=100)
    market.sell(10, at=103)
    assert market.buy(15, at=102) == [
        "3 accepted",
        "trade 1: 10 @ 100, maker 1 of sue, taker 3 of bob buys",
        "3 rests 5 @ 102",
    ]
    assert market.book() == ["sell 103: 2 has 10", "buy 102: 3 has 5"]


def test_rule_3_a_level_goes_with_its_last_order_however_it_ends() -> None:
    market = Market()
    market.sell(10, at=101)
    market.sell(10, at=102)
    market.sell(10, at=103)
    market.sell(10, at=104)
    market.buy(10, at=101)
    market.cancel(2, by="sue")
    market.amend(3, at=105, by="sue")
    market.amend(4, quantity=0, by="sue")
    assert market.book() == ["sell 105: 3 has 10"]


# -- 4. orders that are not live, and those of others ------------------------------------------------------------------


def test_rule_4_cancel_of_a_filled_order_is_rejected() -> None:
    market = Market()
    market.buy(10, at=100)
    market.sell(10, at=100)
    assert market.cancel(1) == ["cancel of 1 rejected (unknown_order)"]


def test_rule_4_cancel_of_a_canceled_order_is_rejected() -> None:
    market = Market()
    market.buy(10, at=100)
    market.cancel(1)
    assert market.cancel(1) == ["cancel of 1 rejected (unknown_order)"]


def test_rule_4_amend_of_an_order_that_is_not_live_is_rejected() -> None:
    market = Market()
    market.buy(10, at=100, time_in_force="ioc")
    assert market.amend(1, quantity=5) == ["amend of 1 rejected (unknown_order)"]


def test_rule_4_an_order_that_never_was_is_unknown() -> None:
    market = Market()
    assert market.cancel(999) == ["cancel of 999 rejected (unknown_order)"]
    assert market.amend(999, at=100) == ["amend of 999 rejected (unknown_order)"]


def test_rule_4_nobody_reaches_another_accounts_order() -> None:
    market = Market()
    market.buy(10, at=100, by="ann")
    market.buy(10, at=100, by="dan")
    assert market.cancel(1, by="dan") == ["cancel of 1 rejected (unknown_order)"]
    assert market.amend(1, quantity=1, by="dan") == ["amend of 1 rejected (unknown_order)"]
    assert market.cancel(1, by="nobody-yet") == ["cancel of 1 rejected (unknown_order)"]
    assert market.book() == ["buy 100: 1 has 10, 2 has 10"]


# -- 5. limit and market -----------------------------------------------------------------------------------------------


def test_rule_5_a_limit_order_that_meets_nothing_rests() -> None:
    market = Market()
    market.sell(10, at=101)
    assert market.buy(10, at=100) == ["2 accepted", "2 rests 10 @ 100"]


def test_rule_5_a_market_order_takes_what_is_there_and_cancels_the_rest() -> None:
    market = Market()
    market.sell(10, at=100)
    market.sell(10, at=10_000)
    assert market.buy(25) == [
        "3 accepted",
        "trade 1: 10 @ 100, maker 1 of sue, taker 3 of bob buys",
        "trade 2: 10 @ 10000, maker 2 of sue, taker 3 of bob buys",
        "3 canceled (market_remainder): 5 of 25 @ market",
    ]


@pytest.mark.parametrize("time_in_force", ["gtc", "ioc"])
def test_rule_5_a_market_order_never_rests_whatever_its_time_in_force(time_in_force: TimeInForce) -> None:
    market = Market()
    assert market.buy(5, time_in_force=time_in_force) == [
        "1 accepted",
        "1 canceled (market_remainder): 5 of 5 @ market",
    ]
    assert market.book() == []


def test_rule_5_a_market_order_that_is_fok_fills_or_is_killed() -> None:
    market = Market()
    market.sell(10, at=100)
    assert market.buy(11, time_in_force="fok") == ["2 accepted", "2 canceled (fill_or_kill): 11 of 11 @ market"]
    assert market.buy(10, time_in_force="fok") == [
        "3 accepted",
        "trade 1: 10 @ 100, maker 1 of sue, taker 3 of bob buys",
    ]


def test_rule_5_a_full_level_refuses_what_would_rest_and_nothing_else() -> None:
    market = Market()
    market.buy(MAX_INTEGER, at=100)
    assert market.buy(1, at=100) == ["2 rejected (invalid_quantity)"]
    assert market.buy(1, at=100, time_in_force="ioc") == [
        "3 accepted",
        "3 canceled (immediate_or_cancel): 1 of 1 @ 100",
    ]
    assert market.buy(1, at=100, time_in_force="fok") == ["4 accepted", "4 canceled (fill_or_kill): 1 of 1 @ 100"]
    assert market.buy(1, at=99) == ["5 accepted", "5 rests 1 @ 99"]


# -- 11 and 12. combinations, and gtc ----------------------------------------------------------------------------------


@pytest.mark.parametrize("time_in_force", ["gtc", "ioc", "fok"])
@pytest.mark.parametrize("at", [100, None])
def test_rule_11_limit_and_market_go_with_every_time_in_force(at: int | None, time_in_force: TimeInForce) -> None:
    market = Market()
    market.sell(5, at=100)
    assert market.buy(5, at=at, time_in_force=time_in_force) == [
        "2 accepted",
        "trade 1: 5 @ 100, maker 1 of sue, taker 2 of bob buys",
    ]


def test_rule_12_a_gtc_order_stays_until_it_is_filled_or_canceled() -> None:
    market = Market()
    market.buy(10, at=100)
    for _ in range(200):
        market.buy(1, at=99, by="ann")
        market.mass_cancel(by="ann")
    assert market.book() == ["buy 100: 1 has 10"]


# -- 13. immediate or cancel, fill or kill -----------------------------------------------------------------------------


def test_rule_13_ioc_trades_what_it_can_and_the_rest_is_canceled() -> None:
    market = Market()
    market.sell(10, at=100)
    market.sell(10, at=103)
    assert market.buy(15, at=102, time_in_force="ioc") == [
        "3 accepted",
        "trade 1: 10 @ 100, maker 1 of sue, taker 3 of bob buys",
        "3 canceled (immediate_or_cancel): 5 of 15 @ 102",
    ]
    assert market.book() == ["sell 103: 2 has 10"]


def test_rule_13_ioc_that_meets_nothing_is_canceled_whole() -> None:
    market = Market()
    assert market.buy(15, at=102, time_in_force="ioc") == [
        "1 accepted",
        "1 canceled (immediate_or_cancel): 15 of 15 @ 102",
    ]


def test_rule_13_fok_fills_at_once_over_several_levels() -> None:
    market = Market()
    market.sell(10, at=100)
    market.sell(10, at=102)
    assert market.buy(20, at=102, time_in_force="fok") == [
        "3 accepted",
        "trade 1: 10 @ 100, maker 1 of sue, taker 3 of bob buys",
        "trade 2: 10 @ 102, maker 2 of sue, taker 3 of bob buys",
    ]


def test_rule_13_fok_that_can_not_fill_within_its_limit_has_no_effect() -> None:
    market = Market()
    market.sell(10, at=100)
    market.sell(10, at=103)
    assert market.buy(11, at=102, time_in_force="fok") == [
        "3 accepted",
        "3 canceled (fill_or_kill): 11 of 11 @ 102",
    ]
    assert market.book() == ["sell 103: 2 has 10", "sell 100: 1 has 10"]


def test_rule_13_fok_into_an_empty_book_is_killed() -> None:
    market = Market()
    assert market.buy(1, at=102, time_in_force="fok") == ["1 accepted", "1 canceled (fill_or_kill): 1 of 1 @ 102"]


def test_rule_13_fok_does_not_count_its_own_accounts_orders() -> None:
    market = Market()
    market.sell(10, at=100, by="ann")
    market.sell(10, at=100, by="sue")
    assert market.buy(15, at=100, time_in_force="fok", by="ann") == [
        "3 accepted",
        "3 canceled (fill_or_kill): 15 of 15 @ 100",
    ]


def test_rule_13_fok_does_not_count_what_lies_behind_an_own_order() -> None:
    """There self-trade prevention would cancel it, half filled: it could not be all at once."""
    market = Market()
    market.sell(10, at=100, by="sue")
    market.sell(10, at=101, by="ann")
    market.sell(10, at=102, by="sue")
    assert market.buy(20, at=102, time_in_force="fok", by="ann") == [
        "4 accepted",
        "4 canceled (fill_or_kill): 20 of 20 @ 102",
    ]
    assert market.buy(10, at=102, time_in_force="fok", by="ann") == [
        "5 accepted",
        "trade 1: 10 @ 100, maker 1 of sue, taker 5 of ann buys",
    ]


def test_rule_13_fok_counts_own_orders_where_the_asset_allows_self_trades() -> None:
    market = Market(self_trade="allow")
    market.sell(10, at=100, by="ann")
    assert market.buy(10, at=100, time_in_force="fok", by="ann") == [
        "2 accepted",
        "trade 1: 10 @ 100, maker 1 of ann, taker 2 of ann buys",
    ]


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
