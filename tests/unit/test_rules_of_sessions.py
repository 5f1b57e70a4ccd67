"""The rulebook's rules 18 and 21: what each status takes, calls and who ends them, and the two bands."""

from typing import Any

import pytest

from exchange.core.asset import MAX_INTEGER, Asset, ScheduledChange, Status
from exchange.core.matching import Matching
from exchange.core.requests import DefineAsset, Record
from tests.market import Market, describe

SCHEDULE = (
    ScheduledChange("08:00", "call"),
    ScheduledChange("09:00", "open"),
    ScheduledChange("17:00", "call"),
    ScheduledChange("17:05", "closed"),
)


def in_status(status: Status) -> Market:
    """Return a market with a buy of bob's, 1, and a sell of sue's, 2, that has then got a status."""
    market = Market()
    market.buy(5, at=99)
    market.sell(5, at=101)
    if status != "open":
        market.status(status)
    return market


# -- 18. what a status takes -------------------------------------------------------------------------------------------


def test_rule_18_an_asset_without_sessions_is_open() -> None:
    market = Market()
    market.sell(5, at=100)
    assert market.buy(5) == [
        "2 accepted",
        "trade 1: 5 @ 100, maker 1 of sue, taker 2 of bob buys",
    ]


def test_rule_18_an_asset_with_sessions_begins_closed() -> None:
    market = Market(schedule=SCHEDULE)
    assert market.buy(5, at=100) == ["1 rejected (market_closed)"]
    assert market.status("open") == ["status open (operator)"]
    assert market.buy(5, at=100) == [
        "2 accepted",
        "2 rests 5 @ 100",
    ]


@pytest.mark.parametrize(("schedule", "events"), [((), []), (SCHEDULE, ["status closed (defined)"])])
def test_rule_18_the_first_definition_says_so(schedule: Any, events: list[str]) -> None:
    matching = Matching()
    definition = Asset(asset="ACME", schedule=schedule)
    record = matching.apply(Record("ACME", 1, 0, "", DefineAsset(definition)))
    assert [describe(event) for event in record.events] == ["asset defined", *events]


@pytest.mark.parametrize(("status", "reason"), [("closed", "market_closed"), ("halted", "halted")])
def test_rule_18_closed_and_halted_take_cancels_only(status: Status, reason: str) -> None:
    market = in_status(status)
    orders: list[dict[str, Any]] = [
        {"at": 100},
        {"at": 100, "time_in_force": "ioc"},
        {"at": 100, "time_in_force": "day"},
        {"at": 100, "post_only": True},
        {"stop": 105},
        {"at": 106, "stop": 105},
        {},
    ]
    for order_id, order in enumerate(orders, 3):
        assert market.buy(5, **order) == [f"{order_id} rejected ({reason})"]
    assert market.amend(1, quantity=4) == [f"amend of 1 rejected ({reason})"]
    assert market.amend(1, at=98) == [f"amend of 1 rejected ({reason})"]
    assert market.amend(1, quantity=0) == [f"amend of 1 rejected ({reason})"]
    assert market.amend(9, at=98) == ["amend of 9 rejected (unknown_order)"]
    assert market.book() == ["sell 101: 2 has 5", "buy 99: 1 has 5"]
    assert market.cancel(9) == ["cancel of 9 rejected (unknown_order)"]
    assert market.cancel(1) == ["1 canceled (user_request): 5 of 5 @ 99"]
    assert market.mass_cancel(by="sue") == ["2 canceled (mass_cancel): 5 of 5 @ 101"]


def test_rule_18_a_call_takes_limit_and_stop_orders_and_nothing_matches() -> None:
    market = in_status("call")
    assert market.buy(5, at=101) == [
        "3 accepted",
        "3 rests 5 @ 101",
        "indicative: 5 @ 101, no surplus",
    ]
    assert market.buy(5, at=101, time_in_force="day") == [
        "4 accepted",
        "4 rests 5 @ 101",
        "indicative: 5 @ 101, surplus buy 5",
    ]
    assert market.buy(5, stop=105) == ["5 accepted"]
    assert market.buy(5, at=106, stop=105, time_in_force="ioc") == ["6 accepted"]
    assert market.book() == [
        "sell 101: 2 has 5",
        "buy 101: 3 has 5, 4 has 5",
        "buy 99: 1 has 5",
        "stop buy 105: 5 has 5 @ market",
        "stop buy 105: 6 has 5 @ 106",
    ]


def test_rule_18_a_call_takes_no_market_ioc_or_fok_order() -> None:
    market = in_status("call")
    assert market.buy(5) == ["3 rejected (market_closed)"]
    assert market.buy(5, time_in_force="fok") == ["4 rejected (market_closed)"]
    assert market.buy(5, at=101, time_in_force="ioc") == ["5 rejected (market_closed)"]
    assert market.buy(5, at=101, time_in_force="fok") == ["6 rejected (market_closed)"]


def test_rule_18_a_call_takes_cancels_and_amends() -> None:
    market = in_status("call")
    assert market.amend(1, quantity=4) == ["1 replaced: 4 @ 99, 4 open, place kept"]
    assert market.amend(1, at=102) == [
        "1 replaced: 4 @ 102, 4 open, place lost",
        "1 rests 4 @ 102",
        "indicative: 4 @ 101, surplus sell 1",
    ]
    assert market.amend(1, quantity=4, at=99) == [
        "1 replaced: 4 @ 99, 4 open, place lost",
        "1 rests 4 @ 99",
        "indicative: none",
    ]
    assert market.cancel(1) == ["1 canceled (user_request): 4 of 4 @ 99"]


def test_rule_18_what_rested_before_the_call_takes_part_in_it() -> None:
    market = in_status("call")
    assert market.buy(2, at=101) == [
        "3 accepted",
        "3 rests 2 @ 101",
        "indicative: 2 @ 101, surplus sell 3",
    ]
    assert market.status("open") == [
        "trade 1: 2 @ 101, maker 2 of sue, taker 3 of bob buys",
        "status open (operator)",
    ]


def test_rule_18_a_call_does_not_take_what_would_overfill_a_level() -> None:
    market = in_status("call")
    market.buy(MAX_INTEGER - 1, at=100)
    assert market.buy(2, at=100) == ["4 rejected (invalid_quantity)"]
    assert market.amend(1, at=100) == ["amend of 1 rejected (invalid_quantity)"]


def test_rule_18_an_order_is_judged_by_the_status_then_the_price_band_then_its_levels_bound() -> None:
    market = Market(reference_price=100, price_band_ppm=50_000)
    market.buy(MAX_INTEGER, at=105)
    market.define(reference_price=90, price_band_ppm=50_000)
    market.status("halted")
    assert market.buy(1, at=105) == ["2 rejected (halted)"]
    market.status("call")
    assert market.buy(1, at=105) == ["3 rejected (price_band)"]
    market.define(reference_price=100, price_band_ppm=50_000)
    assert market.buy(1, at=105) == ["4 rejected (invalid_quantity)"]


def test_rule_14_an_amend_is_judged_by_the_status_what_has_filled_the_price_band_post_only_and_the_bound() -> None:
    market = Market(reference_price=100, price_band_ppm=50_000)
    market.sell(1, at=100)
    market.buy(MAX_INTEGER - 10, at=99, by="ann")
    market.buy(20, at=98, post_only=True)
    market.sell(2, at=97, by="max", time_in_force="ioc")
    market.buy(5, at=99, by="eve", post_only=True)
    market.status("halted")
    assert market.amend(3, quantity=0, at=200, stop=1) == ["amend of 3 rejected (halted)"]
    market.status("open")
    assert market.amend(3, quantity=0, at=200, stop=1) == ["amend of 3 rejected (triggered)"]
    assert market.amend(3, at=200) == ["amend of 3 rejected (price_band)"]
    assert market.amend(3, at=100) == ["amend of 3 rejected (post_only)"]
    assert market.amend(3, at=99) == ["amend of 3 rejected (invalid_quantity)"]
    assert market.amend(3, quantity=0, at=200) == ["3 canceled (user_request): 20 of 20 @ 98"]


# -- 18. how a status changes ------------------------------------------------------------------------------------------


def test_rule_18_a_call_ends_in_an_auction_and_then_open() -> None:
    market = in_status("call")
    market.buy(2, at=101)
    assert market.status("open") == [
        "trade 1: 2 @ 101, maker 2 of sue, taker 3 of bob buys",
        "status open (operator)",
    ]
    assert market.book() == [
        "sell 101: 2 has 3",
        "buy 99: 1 has 5",
    ]


def test_rule_18_a_call_ends_in_an_auction_and_then_closed() -> None:
    market = in_status("call")
    market.buy(2, at=101)
    assert market.status("closed") == [
        "trade 1: 2 @ 101, maker 2 of sue, taker 3 of bob buys",
        "status closed (operator)",
    ]
    assert market.book() == [
        "sell 101: 2 has 3",
        "buy 99: 1 has 5",
    ]


def test_rule_18_a_call_in_which_nothing_crosses_ends_without_trades() -> None:
    market = in_status("call")
    assert market.status("open") == ["status open (operator)"]


def test_rule_18_a_halt_in_a_call_holds_no_auction_and_what_crosses_waits_for_one() -> None:
    market = in_status("call")
    market.buy(2, at=101)
    assert market.status("halted") == ["status halted (operator)"]
    assert market.book() == [
        "sell 101: 2 has 5",
        "buy 101: 3 has 2",
        "buy 99: 1 has 5",
    ]
    assert market.cancel(1) == ["1 canceled (user_request): 5 of 5 @ 99"]
    assert market.status("call") == [
        "status call (operator)",
        "indicative: 2 @ 101, surplus sell 3",
    ]
    assert market.status("open") == [
        "trade 1: 2 @ 101, maker 2 of sue, taker 3 of bob buys",
        "status open (operator)",
    ]


@pytest.mark.parametrize("status", ["open", "closed"])
def test_rule_3_a_crossed_book_that_was_halted_trades_in_an_auction_before_anything_else(status: Status) -> None:
    market = in_status("call")
    market.buy(2, at=101)
    market.status("halted")
    assert market.status(status) == [
        "trade 1: 2 @ 101, maker 2 of sue, taker 3 of bob buys",
        f"status {status} (operator)",
    ]


def test_rule_18_the_same_status_again_is_no_change() -> None:
    market = in_status("open")
    assert market.status("open") == []
    market.status("halted")
    assert market.status("halted") == []
    market.status("closed")
    assert market.status("closed") == []


def test_rule_18_a_call_that_begins_anew_publishes_anew() -> None:
    market = in_status("call")
    assert market.buy(2, at=101) == [
        "3 accepted",
        "3 rests 2 @ 101",
        "indicative: 2 @ 101, surplus sell 3",
    ]
    assert market.status("call") == [
        "status call (operator)",
        "indicative: 2 @ 101, surplus sell 3",
    ]


def test_rule_18_what_was_to_end_one_call_does_not_end_another() -> None:
    """The number of a call is the sequence of the request that began it."""
    market = in_status("call")
    first = market.matching.sequence
    assert market.status("open", call=first - 1) == []
    market.status("call")
    assert market.status("open", call=first) == []
    assert market.status("open", call=market.matching.call) == ["status open (operator)"]
    assert market.status("open", call=first) == []
    assert market.status("halted", call=first) == []


def test_rule_18_what_was_to_end_a_call_that_is_over_does_not_end_the_day() -> None:
    market = in_status("open")
    market.buy(5, at=98, time_in_force="day")
    assert market.status("closed", call=1, ends_day=True) == []
    assert market.status("closed", ends_day=True) == [
        "status closed (operator)",
        "3 expired: 5 of 5 @ 98",
    ]


def test_rule_18_delisting_cancels_all_orders_in_order_of_arrival_and_closes() -> None:
    market = in_status("open")
    market.buy(5, stop=105, by="ann")
    assert market.delist() == [
        "1 canceled (operator): 5 of 5 @ 99",
        "2 canceled (operator): 5 of 5 @ 101",
        "3 canceled (operator): 5 of 5 @ market",
        "status closed (delisted)",
    ]
    assert market.buy(5, at=100) == ["4 rejected (market_closed)"]
    assert market.delist() == ["status closed (delisted)"]


def test_rule_18_a_delisted_asset_stays_closed_until_it_is_defined_again() -> None:
    market = in_status("open")
    market.delist()
    assert market.status("open") == []
    assert market.status("call") == []
    assert market.buy(5, at=100) == ["3 rejected (market_closed)"]


def test_rule_18_an_asset_that_is_delisted_in_a_call_holds_no_auction() -> None:
    market = in_status("call")
    market.buy(2, at=101)
    assert market.delist()[-1] == "status closed (delisted)"
    assert market.book() == []


def test_rule_18_a_delisted_asset_that_is_defined_again_is_as_at_first() -> None:
    market = in_status("open")
    market.delist()
    assert market.define() == [
        "asset defined",
        "status open (defined)",
    ]
    market.delist()
    assert market.define(schedule=SCHEDULE) == [
        "asset defined",
        "status closed (defined)",
    ]
    assert market.define(schedule=SCHEDULE) == ["asset defined"]


def test_rule_18_a_new_definition_leaves_the_status_as_it_is() -> None:
    market = in_status("halted")
    assert market.define(schedule=SCHEDULE) == ["asset defined"]
    assert market.buy(5, at=100) == ["3 rejected (halted)"]


# -- 21. the price band ------------------------------------------------------------------------------------------------


def banded(**definition: Any) -> Market:
    """Return a market whose reference price is 1,000, with a price band of 10 percent."""
    market = Market()
    market.define(reference_price=1000, price_band_ppm=100_000, **definition)
    return market


@pytest.mark.parametrize("price", [900, 1100])
def test_rule_21_a_limit_at_the_price_band_is_taken(price: int) -> None:
    assert banded().buy(5, at=price) == ["1 accepted", f"1 rests 5 @ {price}"]
    assert banded().sell(5, at=price) == ["1 accepted", f"1 rests 5 @ {price}"]


@pytest.mark.parametrize("price", [899, 1101])
@pytest.mark.parametrize("time_in_force", ["gtc", "ioc"])
def test_rule_21_a_limit_beyond_it_is_rejected_on_either_side_of_it(price: int, time_in_force: Any) -> None:
    assert banded().buy(5, at=price, time_in_force=time_in_force) == ["1 rejected (price_band)"]
    assert banded().sell(5, at=price, time_in_force=time_in_force) == ["1 rejected (price_band)"]


def test_rule_21_the_price_band_is_around_the_last_trade_once_there_is_one() -> None:
    market = banded()
    market.sell(1, at=1100)
    market.buy(1, at=1100)
    assert market.buy(5, at=1210) == [
        "3 accepted",
        "3 rests 5 @ 1210",
    ]
    assert market.buy(5, at=989) == ["4 rejected (price_band)"]


def test_rule_21_without_a_reference_price_there_is_no_price_band() -> None:
    market = Market()
    market.define(price_band_ppm=1)
    assert market.buy(5, at=10_000) == [
        "1 accepted",
        "1 rests 5 @ 10000",
    ]


def test_rule_21_the_price_band_is_not_for_orders_without_a_limit_nor_for_stop_prices() -> None:
    market = banded()
    assert market.buy(5) == [
        "1 accepted",
        "1 canceled (market_remainder): 5 of 5 @ market",
    ]
    assert market.buy(5, stop=9999) == ["2 accepted"]
    assert market.buy(5, at=1101, stop=1050) == ["3 rejected (price_band)"]
    assert market.buy(5, at=1100, stop=9999) == ["4 accepted"]


def test_rule_21_an_amend_to_a_price_beyond_the_price_band_is_rejected() -> None:
    market = banded()
    market.buy(5, at=950)
    market.buy(5, at=950, stop=1050)
    assert market.amend(1, at=899) == ["amend of 1 rejected (price_band)"]
    assert market.amend(2, at=1101) == ["amend of 2 rejected (price_band)"]
    assert market.book() == [
        "buy 950: 1 has 5",
        "stop buy 1050: 2 has 5 @ 950",
    ]
    assert market.amend(1, at=900) == [
        "1 replaced: 5 @ 900, 5 open, place lost",
        "1 rests 5 @ 900",
    ]


def test_rule_21_what_rests_beyond_a_band_that_moved_stays_and_its_quantity_can_be_amended() -> None:
    market = banded()
    market.buy(5, at=900)
    market.sell(1, at=1100)
    market.buy(1, at=1100)
    assert market.amend(1, quantity=6) == [
        "1 replaced: 6 @ 900, 6 open, place lost",
        "1 rests 6 @ 900",
    ]
    assert market.amend(1, quantity=4) == ["1 replaced: 4 @ 900, 4 open, place kept"]
    assert market.amend(1, at=901) == ["amend of 1 rejected (price_band)"]


def test_rule_21_the_price_band_holds_in_a_call_too() -> None:
    market = banded()
    market.status("call")
    assert market.buy(5, at=1101) == ["1 rejected (price_band)"]
    assert market.buy(5, at=1100) == [
        "2 accepted",
        "2 rests 5 @ 1100",
    ]


# -- 21. the volatility band -------------------------------------------------------------------------------------------


def volatile() -> Market:
    """Return a market with a volatility band of 95 to 105 and calls of 60 seconds, and sells at 100, 105 and 106."""
    market = Market()
    market.define(reference_price=100, volatility_band_ppm=50_000, call_seconds=60)
    for price in (100, 105, 106):
        market.sell(2, at=price)
    return market


def test_rule_21_a_trade_at_the_volatility_band_is_no_interruption() -> None:
    market = volatile()
    assert market.buy(4, at=110) == [
        "4 accepted",
        "trade 1: 2 @ 100, maker 1 of sue, taker 4 of bob buys",
        "trade 2: 2 @ 105, maker 2 of sue, taker 4 of bob buys",
    ]


def test_rule_21_before_a_trade_beyond_it_the_asset_goes_to_call_and_the_rest_of_the_order_stays() -> None:
    market = volatile()
    assert market.buy(6, at=110) == [
        "4 accepted",
        "trade 1: 2 @ 100, maker 1 of sue, taker 4 of bob buys",
        "trade 2: 2 @ 105, maker 2 of sue, taker 4 of bob buys",
        "status call (volatility_interruption) until 60 s",
        "4 rests 2 @ 110",
        "indicative: 2 @ 106, no surplus",
    ]
    assert market.book() == [
        "sell 106: 3 has 2",
        "buy 110: 4 has 2",
    ]


def test_rule_21_the_band_has_a_lower_end_too() -> None:
    market = volatile()
    market.buy(2, at=95)
    market.buy(2, at=94)
    assert market.sell(5, at=90) == [
        "6 accepted",
        "trade 1: 2 @ 95, maker 4 of bob, taker 6 of sue sells",
        "status call (volatility_interruption) until 60 s",
        "6 rests 3 @ 90",
        "indicative: 2 @ 90, surplus sell 1",
    ]


def test_rule_21_a_market_orders_rest_is_canceled_as_halted() -> None:
    market = volatile()
    assert market.buy(6) == [
        "4 accepted",
        "trade 1: 2 @ 100, maker 1 of sue, taker 4 of bob buys",
        "trade 2: 2 @ 105, maker 2 of sue, taker 4 of bob buys",
        "status call (volatility_interruption) until 60 s",
        "4 canceled (halted): 2 of 6 @ market",
    ]


def test_rule_21_the_rest_of_a_stop_that_was_triggered_is_canceled_as_halted_too() -> None:
    market = volatile()
    market.buy(4, stop=100)
    assert market.buy(1, at=100, by="ann") == [
        "5 accepted",
        "trade 1: 1 @ 100, maker 1 of sue, taker 5 of ann buys",
        "4 triggered",
        "trade 2: 1 @ 100, maker 1 of sue, taker 4 of bob buys",
        "trade 3: 2 @ 105, maker 2 of sue, taker 4 of bob buys",
        "status call (volatility_interruption) until 60 s",
        "4 canceled (halted): 1 of 4 @ market",
    ]


def test_rule_21_an_ioc_orders_rest_is_canceled_as_ever() -> None:
    market = volatile()
    assert market.buy(6, at=110, time_in_force="ioc") == [
        "4 accepted",
        "trade 1: 2 @ 100, maker 1 of sue, taker 4 of bob buys",
        "trade 2: 2 @ 105, maker 2 of sue, taker 4 of bob buys",
        "status call (volatility_interruption) until 60 s",
        "4 canceled (immediate_or_cancel): 2 of 6 @ 110",
    ]


def test_rule_21_a_fok_order_that_would_have_to_trade_beyond_the_band_is_killed_without_an_interruption() -> None:
    market = volatile()
    assert market.buy(5, at=110, time_in_force="fok") == [
        "4 accepted",
        "4 canceled (fill_or_kill): 5 of 5 @ 110",
    ]
    assert market.buy(4, at=110, time_in_force="fok") == [
        "5 accepted",
        "trade 1: 2 @ 100, maker 1 of sue, taker 5 of bob buys",
        "trade 2: 2 @ 105, maker 2 of sue, taker 5 of bob buys",
    ]


def test_rule_21_the_same_where_the_price_is_too_good_for_the_band() -> None:
    market = volatile()
    market.define(reference_price=110, volatility_band_ppm=50_000)
    assert market.buy(2, at=110, time_in_force="fok") == [
        "4 accepted",
        "4 canceled (fill_or_kill): 2 of 2 @ 110",
    ]
    assert market.buy(2, at=110) == [
        "5 accepted",
        "status call (volatility_interruption) until 120 s",
        "5 rests 2 @ 110",
        "indicative: 2 @ 100, no surplus",
    ]


def test_rule_21_an_order_that_would_have_to_trade_its_minimum_beyond_the_band_is_canceled_without_one() -> None:
    market = volatile()
    assert market.buy(6, at=110, at_least=5) == [
        "4 accepted",
        "4 canceled (minimum_quantity): 6 of 6 @ 110",
    ]
    assert market.buy(6, at=110, at_least=4) == [
        "5 accepted",
        "trade 1: 2 @ 100, maker 1 of sue, taker 5 of bob buys",
        "trade 2: 2 @ 105, maker 2 of sue, taker 5 of bob buys",
        "status call (volatility_interruption) until 60 s",
        "5 rests 2 @ 110",
        "indicative: 2 @ 106, no surplus",
    ]


def test_rule_21_an_order_that_would_not_trade_beyond_the_band_may_rest_beyond_it() -> None:
    market = volatile()
    assert market.buy(2, at=94) == [
        "4 accepted",
        "4 rests 2 @ 94",
    ]
    assert market.sell(2, at=94) == [
        "5 accepted",
        "status call (volatility_interruption) until 60 s",
        "5 rests 2 @ 94",
        "indicative: 2 @ 94, no surplus",
    ]


def test_rule_21_an_amend_can_interrupt_too() -> None:
    market = volatile()
    market.buy(5, at=99)
    assert market.amend(4, at=106) == [
        "4 replaced: 5 @ 106, 5 open, place lost",
        "trade 1: 2 @ 100, maker 1 of sue, taker 4 of bob buys",
        "trade 2: 2 @ 105, maker 2 of sue, taker 4 of bob buys",
        "status call (volatility_interruption) until 60 s",
        "4 rests 1 @ 106",
        "indicative: 1 @ 106, surplus sell 1",
    ]


def test_rule_21_an_own_order_beyond_the_band_interrupts_as_any_other_does() -> None:
    market = volatile()
    assert market.buy(6, at=110, by="sue", self_trade_prevention="cancel_oldest") == [
        "4 accepted",
        "1 canceled (self_trade_prevention): 2 of 2 @ 100",
        "2 canceled (self_trade_prevention): 2 of 2 @ 105",
        "status call (volatility_interruption) until 60 s",
        "4 rests 6 @ 110",
        "indicative: 2 @ 110, surplus buy 4",
    ]


def test_rule_21_an_order_within_its_limit_is_not_stopped_by_what_lies_beyond() -> None:
    market = volatile()
    assert market.buy(6, at=105) == [
        "4 accepted",
        "trade 1: 2 @ 100, maker 1 of sue, taker 4 of bob buys",
        "trade 2: 2 @ 105, maker 2 of sue, taker 4 of bob buys",
        "4 rests 2 @ 105",
    ]


def test_rule_21_the_call_of_an_interruption_ends_in_an_auction_whose_price_is_the_new_reference() -> None:
    market = volatile()
    market.buy(6, at=110)
    assert market.status("open", call=market.matching.call) == [
        "trade 3: 2 @ 106, maker 3 of sue, taker 4 of bob buys",
        "status open (operator)",
    ]
    market.sell(2, at=111)
    market.sell(2, at=112)
    assert market.buy(2, at=112) == [
        "7 accepted",
        "trade 4: 2 @ 111, maker 5 of sue, taker 7 of bob buys",
    ]
    assert market.buy(2, at=112) == [
        "8 accepted",
        "status call (volatility_interruption) until 60 s",
        "8 rests 2 @ 112",
        "indicative: 2 @ 112, no surplus",
    ]


def test_rule_21_continuous_trades_do_not_move_the_volatility_bands_reference() -> None:
    market = volatile()
    market.buy(4, at=105)
    assert market.buy(2, at=106) == [
        "5 accepted",
        "status call (volatility_interruption) until 60 s",
        "5 rests 2 @ 106",
        "indicative: 2 @ 106, no surplus",
    ]


def test_rule_21_without_a_reference_there_is_no_volatility_band() -> None:
    market = Market()
    market.define(volatility_band_ppm=1)
    market.sell(1, at=100)
    market.sell(1, at=200)
    assert market.buy(2, at=200) == [
        "3 accepted",
        "trade 1: 1 @ 100, maker 1 of sue, taker 3 of bob buys",
        "trade 2: 1 @ 200, maker 2 of sue, taker 3 of bob buys",
    ]


def test_rule_21_a_call_that_ends_without_a_trade_keeps_the_reference() -> None:
    market = volatile()
    market.buy(5, at=110)
    market.mass_cancel()
    assert market.status("open") == ["status open (operator)"]
    assert market.buy(1, at=106) == [
        "5 accepted",
        "status call (volatility_interruption) until 60 s",
        "5 rests 1 @ 106",
        "indicative: 1 @ 106, surplus sell 1",
    ]


def test_rule_21_a_price_band_stops_a_limit_before_the_volatility_band_looks_at_its_trades() -> None:
    market = volatile()
    market.define(reference_price=100, volatility_band_ppm=50_000, price_band_ppm=80_000)
    assert market.buy(6, at=109) == ["4 rejected (price_band)"]
    assert market.buy(6, at=108)[-3:] == [
        "status call (volatility_interruption) until 120 s",
        "5 rests 2 @ 108",
        "indicative: 2 @ 106, no surplus",
    ]
