"""The rulebook's rules 1 to 5 and 13, of orders as they enter: given orders, when one enters, exactly these events.

Numbers are the rulebook's. The other rules have files of their own: 6 and 7 `test_rules_of_stops.py`, 8 to 10
`test_rules_of_icebergs.py`, 12 `test_rules_of_expiry.py`, 14 to 16, 22 and 23 `test_rules_of_live_orders.py`, 17
`test_rules_of_self_trades.py`, 18 and 21 `test_rules_of_sessions.py`, 19 and 20 `test_rules_of_auctions.py`; 11 is the
table of `docs/rulebook.md`.
"""

import pytest

from exchange.core.asset import MAX_INTEGER
from exchange.core.requests import TimeInForce
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
