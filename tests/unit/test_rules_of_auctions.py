"""The rulebook's rules 19 and 20: the auction's price in its four cases, its trades, and what is published before.

The price itself against a search of all prices is in `test_auction.py`, against what venues have published in
`test_auction_published.py`.
"""

import pytest

from exchange.core.asset import MAX_INTEGER
from tests.market import Market


def in_call(reference_price: int = 0, tick_size: int = 1) -> Market:
    market = Market(reference_price=reference_price, tick_size=tick_size)
    market.status("call")
    return market


# -- 19. the price -----------------------------------------------------------------------------------------------------


def test_rule_19_the_price_is_the_one_with_the_most_volume() -> None:
    market = in_call()
    market.buy(5, at=102)
    market.buy(5, at=101)
    market.sell(8, at=101)
    market.sell(2, at=102)
    assert market.status("open") == [
        "trade 1: 5 @ 101, maker 3 of sue, taker 1 of bob buys",
        "trade 2: 3 @ 101, maker 3 of sue, taker 2 of bob buys",
        "status open (operator)",
    ]
    assert market.book() == [
        "sell 102: 4 has 2",
        "buy 101: 2 has 2",
    ]


def test_rule_19_then_the_one_with_the_least_surplus() -> None:
    market = in_call()
    market.buy(5, at=102)
    market.buy(4, at=101)
    assert market.sell(5, at=100) == [
        "3 accepted",
        "3 rests 5 @ 100",
        "indicative: 5 @ 102, no surplus",
    ]


def test_rule_19_then_with_the_surplus_bid_at_all_of_them_the_highest() -> None:
    market = in_call(reference_price=95)
    market.buy(9, at=105)
    assert market.sell(5, at=95) == [
        "2 accepted",
        "2 rests 5 @ 95",
        "indicative: 5 @ 105, surplus buy 4",
    ]


def test_rule_19_then_with_the_surplus_offered_at_all_of_them_the_lowest() -> None:
    market = in_call(reference_price=105)
    market.buy(5, at=105)
    assert market.sell(9, at=95) == [
        "2 accepted",
        "2 rests 9 @ 95",
        "indicative: 5 @ 95, surplus sell 4",
    ]


@pytest.mark.parametrize(("reference_price", "price"), [(80, 95), (95, 95), (99, 99), (105, 105), (120, 105)])
def test_rule_19_otherwise_the_reference_price_held_within_them(reference_price: int, price: int) -> None:
    market = in_call(reference_price)
    market.buy(5, at=105)
    market.sell(5, at=95)
    assert market.status("open")[0] == f"trade 1: 5 @ {price}, maker 2 of sue, taker 1 of bob buys"


def test_rule_19_the_last_trade_is_the_reference_once_there_is_one() -> None:
    market = Market(reference_price=96)
    market.sell(1, at=103)
    market.buy(1, at=103)
    market.status("call")
    market.buy(5, at=105)
    assert market.sell(5, at=95) == [
        "4 accepted",
        "4 rests 5 @ 95",
        "indicative: 5 @ 103, no surplus",
    ]


@pytest.mark.parametrize(("low", "high", "tick", "price"), [(96, 104, 1, 100), (95, 104, 1, 100), (95, 120, 5, 110)])
def test_rule_19_without_a_reference_the_midpoint_rounded_up_to_the_tick(
    low: int, high: int, tick: int, price: int
) -> None:
    market = in_call(tick_size=tick)
    market.buy(5, at=high)
    market.sell(5, at=low)
    assert market.status("open")[0] == f"trade 1: 5 @ {price}, maker 2 of sue, taker 1 of bob buys"


def test_rule_19_the_midpoint_is_never_above_them_not_even_where_the_tick_has_changed() -> None:
    market = in_call()
    market.buy(5, at=103)
    market.sell(5, at=101)
    assert market.define(tick_size=10) == [
        "asset defined",
        "indicative: 5 @ 103, no surplus",
    ]


def test_rule_19_only_limit_prices_in_the_book_are_looked_at() -> None:
    """At every price from 95 to 105 the same would trade; the surplus is bid, so it is the highest limit, not more."""
    market = in_call(reference_price=1)
    market.buy(9, at=105)
    market.sell(5, at=95)
    assert market.sell(1, at=110) == [
        "3 accepted",
        "3 rests 1 @ 110",
    ]


def test_rule_19_hidden_quantity_counts() -> None:
    market = in_call()
    market.buy(9, at=102, show=1)
    market.buy(5, at=103)
    assert market.sell(9, at=101, show=1) == [
        "3 accepted",
        "3 rests 9 @ 101",
        "indicative: 9 @ 102, surplus buy 5",
    ]
    assert market.sell(5, at=102) == [
        "4 accepted",
        "4 rests 5 @ 102",
        "indicative: 14 @ 102, no surplus",
    ]


def test_rule_19_stops_that_wait_do_not_count() -> None:
    market = in_call()
    market.buy(5, at=100)
    market.sell(5, at=95, stop=99)
    assert market.sell(1, at=100) == [
        "3 accepted",
        "3 rests 1 @ 100",
        "indicative: 1 @ 100, surplus buy 4",
    ]


# -- 20. the trades ----------------------------------------------------------------------------------------------------


def test_rule_20_all_trades_print_at_the_auctions_price_by_price_and_time_one_for_each_pair() -> None:
    market = in_call()
    market.buy(4, at=101)
    market.buy(3, at=103)
    market.buy(2, at=101, by="ann")
    market.sell(5, at=99)
    market.sell(2, at=98, by="max")
    market.sell(9, at=102, by="max")
    assert market.status("open") == [
        "trade 1: 2 @ 101, maker 5 of max, taker 2 of bob buys",
        "trade 2: 1 @ 101, maker 4 of sue, taker 2 of bob buys",
        "trade 3: 4 @ 101, maker 4 of sue, taker 1 of bob buys",
        "status open (operator)",
    ]
    assert market.book() == [
        "sell 102: 6 has 9",
        "buy 101: 3 has 2",
    ]


def test_rule_20_at_one_price_the_first_in_is_the_first_out() -> None:
    market = in_call()
    market.buy(3, at=100)
    market.buy(3, at=100, by="ann")
    market.sell(4, at=100)
    assert market.status("open") == [
        "trade 1: 3 @ 100, maker 3 of sue, taker 1 of bob buys",
        "trade 2: 1 @ 100, maker 3 of sue, taker 2 of ann buys",
        "status open (operator)",
    ]
    assert market.book() == ["buy 100: 2 has 2"]


def test_rule_20_an_amend_during_the_call_loses_the_place_as_ever() -> None:
    market = in_call()
    market.buy(3, at=100)
    market.buy(3, at=100, by="ann")
    market.sell(4, at=100)
    market.amend(1, quantity=5)
    assert market.status("open") == [
        "trade 1: 3 @ 100, maker 3 of sue, taker 2 of ann buys",
        "trade 2: 1 @ 100, maker 3 of sue, taker 1 of bob buys",
        "status open (operator)",
    ]


def test_rule_20_the_buy_side_is_the_aggressor_also_where_it_was_there_first() -> None:
    market = in_call()
    market.sell(3, at=100)
    market.buy(3, at=100)
    assert market.status("open") == [
        "trade 1: 3 @ 100, maker 1 of sue, taker 2 of bob buys",
        "status open (operator)",
    ]


def test_rule_20_orders_of_one_account_trade_with_each_other() -> None:
    market = in_call()
    market.sell(3, at=100, by="ann", self_trade_prevention="cancel_both")
    market.buy(5, at=100, by="ann", self_trade_prevention="decrement_and_cancel")
    assert market.status("open") == [
        "trade 1: 3 @ 100, maker 1 of ann, taker 2 of ann buys",
        "status open (operator)",
    ]
    assert market.book() == ["buy 100: 2 has 2"]


def test_rule_20_after_the_auction_the_book_is_not_crossed_and_trading_goes_on() -> None:
    market = in_call()
    market.buy(9, at=101)
    market.sell(5, at=99)
    market.status("open")
    assert market.sell(5, at=101) == [
        "3 accepted",
        "trade 2: 4 @ 101, maker 1 of bob, taker 3 of sue sells",
        "3 rests 1 @ 101",
    ]


def test_rule_20_the_auctions_price_is_the_last_price_from_then_on() -> None:
    market = Market(reference_price=100, price_band_ppm=100_000)
    market.status("call")
    market.buy(9, at=108)
    market.sell(9, at=108)
    market.status("open")
    assert market.buy(1, at=118) == ["3 accepted", "3 rests 1 @ 118"]
    assert market.buy(1, at=97) == ["4 rejected (price_band)"]
    assert market.buy(1, at=110, stop=108)[:2] == ["5 accepted", "5 triggered"]


# -- icebergs in an auction (rule 8) -----------------------------------------------------------------------------------


def test_rule_8_in_an_auction_the_whole_quantity_trades_at_its_place() -> None:
    market = in_call()
    market.sell(9, at=100, show=2)
    market.sell(5, at=100, by="max")
    market.buy(11, at=100)
    assert market.status("open") == [
        "trade 1: 9 @ 100, maker 1 of sue, taker 3 of bob buys",
        "trade 2: 2 @ 100, maker 2 of max, taker 3 of bob buys",
        "status open (operator)",
    ]
    assert market.book() == ["sell 100: 2 has 3"]


def test_rule_8_one_that_is_filled_by_less_than_it_shows_keeps_its_place_and_shows_the_rest() -> None:
    market = in_call()
    market.sell(9, at=100, show=4)
    market.sell(5, at=100, by="max")
    market.buy(3, at=100)
    assert market.status("open") == [
        "trade 1: 3 @ 100, maker 1 of sue, taker 3 of bob buys",
        "status open (operator)",
    ]
    assert market.book() == ["sell 100: 1 has 1 (+5 hidden), 2 has 5"]


@pytest.mark.parametrize(("filled", "shown"), [(4, 4), (5, 4), (6, 3), (8, 1)])
def test_rule_8_one_that_is_filled_by_what_it_shows_or_more_shows_a_next_part_at_the_back(
    filled: int, shown: int
) -> None:
    market = in_call()
    market.sell(9, at=100, show=4)
    market.sell(5, at=100, by="max")
    market.buy(filled, at=100)
    assert market.status("open") == [
        f"trade 1: {filled} @ 100, maker 1 of sue, taker 3 of bob buys",
        f"1 replenished: {shown} @ 100",
        "status open (operator)",
    ]
    hidden = f" (+{9 - filled - shown} hidden)" if filled + shown < 9 else ""
    assert market.book() == [f"sell 100: 2 has 5, 1 has {shown}{hidden}"]


def test_rule_8_an_iceberg_that_trades_with_several_is_replenished_once_after_the_last() -> None:
    market = in_call()
    market.sell(20, at=100, show=2)
    for _ in range(3):
        market.buy(3, at=100)
    assert market.status("open") == [
        "trade 1: 3 @ 100, maker 1 of sue, taker 2 of bob buys",
        "trade 2: 3 @ 100, maker 1 of sue, taker 3 of bob buys",
        "trade 3: 3 @ 100, maker 1 of sue, taker 4 of bob buys",
        "1 replenished: 2 @ 100",
        "status open (operator)",
    ]


def test_rule_8_icebergs_on_both_sides() -> None:
    market = in_call()
    market.sell(9, at=100, show=2)
    market.buy(7, at=100, show=3)
    assert market.status("open") == [
        "trade 1: 7 @ 100, maker 1 of sue, taker 2 of bob buys",
        "1 replenished: 2 @ 100",
        "status open (operator)",
    ]
    assert market.book() == ["sell 100: 1 has 2"]


def test_rule_8_what_an_auction_left_of_an_iceberg_is_live() -> None:
    market = in_call()
    market.sell(9, at=100, show=4, time_in_force="day")
    market.buy(5, at=100)
    market.status("open")
    assert market.buy(3, at=100) == [
        "3 accepted",
        "trade 2: 3 @ 100, maker 1 of sue, taker 3 of bob buys",
    ]
    assert market.expire(day=True) == ["1 expired: 1 of 9 @ 100"]


# -- 20. what is published ---------------------------------------------------------------------------------------------


def test_rule_20_price_volume_and_surplus_are_published_when_they_change_and_only_then() -> None:
    market = in_call()
    assert market.buy(5, at=100) == [
        "1 accepted",
        "1 rests 5 @ 100",
    ]
    assert market.sell(5, at=101) == [
        "2 accepted",
        "2 rests 5 @ 101",
    ]
    assert market.sell(3, at=99) == [
        "3 accepted",
        "3 rests 3 @ 99",
        "indicative: 3 @ 100, surplus buy 2",
    ]
    assert market.buy(1, at=98) == [
        "4 accepted",
        "4 rests 1 @ 98",
    ]
    assert market.sell(4, at=100) == [
        "5 accepted",
        "5 rests 4 @ 100",
        "indicative: 5 @ 100, surplus sell 2",
    ]
    assert market.amend(4, at=97) == [
        "4 replaced: 1 @ 97, 1 open, place lost",
        "4 rests 1 @ 97",
    ]
    assert market.amend(1, quantity=4) == [
        "1 replaced: 4 @ 100, 4 open, place kept",
        "indicative: 4 @ 100, surplus sell 3",
    ]
    assert market.cancel(3, by="sue") == [
        "3 canceled (user_request): 3 of 3 @ 99",
        "indicative: 4 @ 100, no surplus",
    ]
    assert market.mass_cancel(by="sue") == [
        "2 canceled (mass_cancel): 5 of 5 @ 101",
        "5 canceled (mass_cancel): 4 of 4 @ 100",
        "indicative: none",
    ]
    assert market.mass_cancel() == [
        "1 canceled (mass_cancel): 4 of 4 @ 100",
        "4 canceled (mass_cancel): 1 of 1 @ 97",
    ]


def test_rule_20_a_call_says_at_once_what_an_older_crossed_book_would_come_to() -> None:
    market = in_call()
    market.buy(5, at=100)
    market.sell(3, at=100)
    market.status("halted")
    assert market.status("call") == [
        "status call (operator)",
        "indicative: 3 @ 100, surplus buy 2",
    ]


def test_rule_20_nothing_is_published_of_a_call_when_it_ends() -> None:
    market = in_call()
    market.buy(5, at=100)
    market.sell(3, at=100)
    assert market.status("halted") == ["status halted (operator)"]
    assert market.cancel(1) == ["1 canceled (user_request): 5 of 5 @ 100"]


def test_rule_20_quantities_beyond_64_bits_are_published_as_the_largest_there_is() -> None:
    market = in_call()
    market.buy(MAX_INTEGER, at=102)
    market.buy(MAX_INTEGER, at=101)
    market.sell(MAX_INTEGER, at=100)
    assert market.sell(MAX_INTEGER, at=101)[-1] == "indicative: 9223372036854775807 @ 101, no surplus"
    assert market.status("open") == [
        "trade 1: 9223372036854775807 @ 101, maker 3 of sue, taker 1 of bob buys",
        "trade 2: 9223372036854775807 @ 101, maker 4 of sue, taker 2 of bob buys",
        "status open (operator)",
    ]
