"""The rulebook's rule 17: what happens where an order meets one of its own account, by each instruction."""

from typing import Any

import pytest

from exchange.core.requests import SelfTradePrevention, TimeInForce
from tests.market import Market


def around_an_own_order(own: int, **said: Any) -> Market:
    """Return a market with an order of ann between two of others, all sells at 100, of 3, `own` and 3."""
    market = Market()
    market.sell(3, at=100)
    market.sell(own, at=100, by="ann", **said)
    market.sell(3, at=100, by="max")
    return market


# -- the four instructions ---------------------------------------------------------------------------------------------


def test_rule_17_cancel_newest_cancels_the_rest_of_the_incoming_order() -> None:
    market = around_an_own_order(2)
    assert market.buy(9, at=100, by="ann", self_trade_prevention="cancel_newest") == [
        "4 accepted",
        "trade 1: 3 @ 100, maker 1 of sue, taker 4 of ann buys",
        "4 canceled (self_trade_prevention): 6 of 9 @ 100",
    ]
    assert market.book() == ["sell 100: 2 has 2, 3 has 3"]


def test_rule_17_cancel_oldest_cancels_the_resting_order_and_matching_goes_on() -> None:
    market = around_an_own_order(2)
    assert market.buy(9, at=100, by="ann", self_trade_prevention="cancel_oldest") == [
        "4 accepted",
        "trade 1: 3 @ 100, maker 1 of sue, taker 4 of ann buys",
        "2 canceled (self_trade_prevention): 2 of 2 @ 100",
        "trade 2: 3 @ 100, maker 3 of max, taker 4 of ann buys",
        "4 rests 3 @ 100",
    ]
    assert market.book() == ["buy 100: 4 has 3"]


def test_rule_17_cancel_oldest_cancels_every_one_that_is_met() -> None:
    market = around_an_own_order(2)
    market.sell(4, at=101, by="ann")
    market.sell(4, at=103, by="ann")
    assert market.buy(9, at=102, by="ann", self_trade_prevention="cancel_oldest") == [
        "6 accepted",
        "trade 1: 3 @ 100, maker 1 of sue, taker 6 of ann buys",
        "2 canceled (self_trade_prevention): 2 of 2 @ 100",
        "trade 2: 3 @ 100, maker 3 of max, taker 6 of ann buys",
        "4 canceled (self_trade_prevention): 4 of 4 @ 101",
        "6 rests 3 @ 102",
    ]


def test_rule_17_cancel_both_cancels_both() -> None:
    market = around_an_own_order(2)
    assert market.buy(9, at=100, by="ann", self_trade_prevention="cancel_both") == [
        "4 accepted",
        "trade 1: 3 @ 100, maker 1 of sue, taker 4 of ann buys",
        "2 canceled (self_trade_prevention): 2 of 2 @ 100",
        "4 canceled (self_trade_prevention): 6 of 9 @ 100",
    ]
    assert market.book() == ["sell 100: 3 has 3"]


def test_rule_17_decrement_takes_the_smaller_open_quantity_off_both_and_a_larger_incoming_order_goes_on() -> None:
    market = around_an_own_order(2)
    assert market.buy(9, at=100, by="ann", self_trade_prevention="decrement_and_cancel") == [
        "4 accepted",
        "trade 1: 3 @ 100, maker 1 of sue, taker 4 of ann buys",
        "2 canceled (self_trade_prevention): 2 of 2 @ 100",
        "4 decremented: 4 open of 7 @ 100",
        "trade 2: 3 @ 100, maker 3 of max, taker 4 of ann buys",
        "4 rests 1 @ 100",
    ]
    assert market.book() == ["buy 100: 4 has 1"]
    assert market.cancel(4, by="ann") == ["4 canceled (user_request): 1 of 7 @ 100"]


def test_rule_17_decrement_leaves_a_larger_resting_order_reduced_in_its_place() -> None:
    market = around_an_own_order(9)
    assert market.buy(5, at=100, by="ann", self_trade_prevention="decrement_and_cancel") == [
        "4 accepted",
        "trade 1: 3 @ 100, maker 1 of sue, taker 4 of ann buys",
        "2 decremented: 7 open of 7 @ 100",
        "4 canceled (self_trade_prevention): 2 of 5 @ 100",
    ]
    assert market.book() == ["sell 100: 2 has 7, 3 has 3"]
    assert market.cancel(2, by="ann") == ["2 canceled (user_request): 7 of 7 @ 100"]


def test_rule_17_decrement_of_equal_quantities_cancels_both_the_resting_order_first() -> None:
    market = around_an_own_order(4)
    assert market.buy(7, at=100, by="ann", self_trade_prevention="decrement_and_cancel") == [
        "4 accepted",
        "trade 1: 3 @ 100, maker 1 of sue, taker 4 of ann buys",
        "2 canceled (self_trade_prevention): 4 of 4 @ 100",
        "4 canceled (self_trade_prevention): 4 of 7 @ 100",
    ]
    assert market.book() == ["sell 100: 3 has 3"]


def test_rule_17_decrement_of_several_orders_one_after_the_other() -> None:
    market = Market()
    market.sell(2, at=100, by="ann")
    market.sell(3, at=101, by="ann")
    market.sell(9, at=102, by="ann")
    assert market.buy(8, at=102, by="ann", self_trade_prevention="decrement_and_cancel") == [
        "4 accepted",
        "1 canceled (self_trade_prevention): 2 of 2 @ 100",
        "4 decremented: 6 open of 6 @ 102",
        "2 canceled (self_trade_prevention): 3 of 3 @ 101",
        "4 decremented: 3 open of 3 @ 102",
        "3 decremented: 6 open of 6 @ 102",
        "4 canceled (self_trade_prevention): 3 of 3 @ 102",
    ]
    assert market.book() == ["sell 102: 3 has 6"]


def test_rule_17_decrement_of_a_market_order() -> None:
    market = around_an_own_order(2)
    assert market.buy(9, by="ann", self_trade_prevention="decrement_and_cancel") == [
        "4 accepted",
        "trade 1: 3 @ 100, maker 1 of sue, taker 4 of ann buys",
        "2 canceled (self_trade_prevention): 2 of 2 @ 100",
        "4 decremented: 4 open of 7 @ market",
        "trade 2: 3 @ 100, maker 3 of max, taker 4 of ann buys",
        "4 canceled (market_remainder): 1 of 7 @ market",
    ]


# -- icebergs ----------------------------------------------------------------------------------------------------------


def test_rule_17_cancel_oldest_cancels_an_iceberg_with_all_that_it_hides() -> None:
    market = around_an_own_order(9, show=2)
    assert market.buy(5, at=100, by="ann", self_trade_prevention="cancel_oldest") == [
        "4 accepted",
        "trade 1: 3 @ 100, maker 1 of sue, taker 4 of ann buys",
        "2 canceled (self_trade_prevention): 9 of 9 @ 100",
        "trade 2: 2 @ 100, maker 3 of max, taker 4 of ann buys",
    ]


def test_rule_17_decrement_counts_hidden_quantity_and_takes_from_it_first() -> None:
    market = around_an_own_order(9, show=2)
    assert market.buy(8, at=100, by="ann", self_trade_prevention="decrement_and_cancel") == [
        "4 accepted",
        "trade 1: 3 @ 100, maker 1 of sue, taker 4 of ann buys",
        "2 decremented: 4 open of 4 @ 100",
        "4 canceled (self_trade_prevention): 5 of 8 @ 100",
    ]
    assert market.book() == ["sell 100: 2 has 2 (+2 hidden), 3 has 3"]
    assert market.buy(5, at=100) == [
        "5 accepted",
        "trade 2: 2 @ 100, maker 2 of ann, taker 5 of bob buys",
        "2 replenished: 2 @ 100",
        "trade 3: 3 @ 100, maker 3 of max, taker 5 of bob buys",
    ]


def test_rule_17_decrement_beyond_the_hidden_part_takes_from_the_shown_one() -> None:
    market = around_an_own_order(9, show=2)
    assert market.buy(11, at=100, by="ann", self_trade_prevention="decrement_and_cancel") == [
        "4 accepted",
        "trade 1: 3 @ 100, maker 1 of sue, taker 4 of ann buys",
        "2 decremented: 1 open of 1 @ 100",
        "4 canceled (self_trade_prevention): 8 of 11 @ 100",
    ]
    assert market.book() == ["sell 100: 2 has 1, 3 has 3"]


def test_rule_17_an_incoming_iceberg_is_decremented_by_its_whole_quantity_and_rests_what_is_left() -> None:
    market = Market()
    market.sell(5, at=100, by="ann")
    assert market.buy(9, at=100, show=2, by="ann", self_trade_prevention="decrement_and_cancel") == [
        "2 accepted",
        "1 canceled (self_trade_prevention): 5 of 5 @ 100",
        "2 decremented: 4 open of 4 @ 100",
        "2 rests 4 @ 100",
    ]
    assert market.book() == ["buy 100: 2 has 2 (+2 hidden)"]


# -- whose instruction, and when ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("resting", ["cancel_newest", "cancel_oldest", "cancel_both", "decrement_and_cancel"])
def test_rule_17_the_incoming_orders_instruction_decides_and_the_resting_ones_plays_no_part(
    resting: SelfTradePrevention,
) -> None:
    market = Market()
    market.sell(5, at=100, by="ann", self_trade_prevention=resting)
    assert market.buy(5, at=100, by="ann", self_trade_prevention="cancel_oldest") == [
        "2 accepted",
        "1 canceled (self_trade_prevention): 5 of 5 @ 100",
        "2 rests 5 @ 100",
    ]


def test_rule_17_an_order_keeps_its_instruction_for_when_an_amend_makes_it_the_incoming_one() -> None:
    market = Market()
    market.buy(5, at=99, by="ann", self_trade_prevention="decrement_and_cancel")
    market.sell(2, at=100, by="ann")
    assert market.amend(1, at=100, by="ann") == [
        "1 replaced: 5 @ 100, 5 open, place lost",
        "2 canceled (self_trade_prevention): 2 of 2 @ 100",
        "1 decremented: 3 open of 3 @ 100",
        "1 rests 3 @ 100",
    ]
    market.buy(5, at=98, by="ann", self_trade_prevention="cancel_both")
    market.sell(2, at=101, by="ann")
    assert market.amend(3, at=101, by="ann") == [
        "3 replaced: 5 @ 101, 5 open, place lost",
        "4 canceled (self_trade_prevention): 2 of 2 @ 101",
        "3 canceled (self_trade_prevention): 5 of 5 @ 101",
    ]


def test_rule_17_what_an_amend_counts_after_a_decrement_is_the_reduced_total() -> None:
    market = Market()
    market.sell(9, at=100, by="ann")
    market.buy(2, at=100)
    market.buy(3, at=100, by="ann", self_trade_prevention="decrement_and_cancel")
    assert market.book() == ["sell 100: 1 has 4"]
    assert market.amend(1, quantity=6, by="ann") == ["1 replaced: 6 @ 100, 4 open, place kept"]
    assert market.amend(1, quantity=5, by="ann") == ["1 replaced: 5 @ 100, 3 open, place kept"]
    assert market.amend(1, quantity=2, by="ann") == ["1 canceled (user_request): 3 of 5 @ 100"]


@pytest.mark.parametrize("instruction", ["cancel_newest", "cancel_oldest", "cancel_both", "decrement_and_cancel"])
@pytest.mark.parametrize("time_in_force", ["gtc", "ioc"])
def test_rule_17_an_order_that_is_filled_before_it_meets_its_own_changes_nothing_of_it(
    instruction: SelfTradePrevention, time_in_force: TimeInForce
) -> None:
    market = around_an_own_order(2)
    assert market.buy(3, at=100, time_in_force=time_in_force, by="ann", self_trade_prevention=instruction) == [
        "4 accepted",
        "trade 1: 3 @ 100, maker 1 of sue, taker 4 of ann buys",
    ]
    assert market.book() == ["sell 100: 2 has 2, 3 has 3"]


def test_rule_17_a_fok_order_that_would_not_fill_leaves_its_own_orders_alone() -> None:
    market = around_an_own_order(2)
    assert market.buy(7, at=100, time_in_force="fok", by="ann", self_trade_prevention="cancel_oldest") == [
        "4 accepted",
        "4 canceled (fill_or_kill): 7 of 7 @ 100",
    ]
    assert market.book() == ["sell 100: 1 has 3, 2 has 2, 3 has 3"]
    assert market.buy(6, at=100, time_in_force="fok", by="ann", self_trade_prevention="cancel_oldest") == [
        "5 accepted",
        "trade 1: 3 @ 100, maker 1 of sue, taker 5 of ann buys",
        "2 canceled (self_trade_prevention): 2 of 2 @ 100",
        "trade 2: 3 @ 100, maker 3 of max, taker 5 of ann buys",
    ]


def test_rule_17_with_nothing_left_but_its_own_an_ioc_order_is_canceled_as_such() -> None:
    market = Market()
    market.sell(5, at=100, by="ann")
    assert market.buy(5, at=100, time_in_force="ioc", by="ann", self_trade_prevention="cancel_oldest") == [
        "2 accepted",
        "1 canceled (self_trade_prevention): 5 of 5 @ 100",
        "2 canceled (immediate_or_cancel): 5 of 5 @ 100",
    ]


@pytest.mark.parametrize("instruction", ["cancel_newest", "cancel_oldest", "cancel_both", "decrement_and_cancel"])
def test_rule_17_where_the_asset_allows_self_trades_no_instruction_counts(instruction: SelfTradePrevention) -> None:
    market = Market(self_trade="allow")
    market.sell(5, at=100, by="ann")
    assert market.buy(5, at=100, by="ann", self_trade_prevention=instruction) == [
        "2 accepted",
        "trade 1: 5 @ 100, maker 1 of ann, taker 2 of ann buys",
    ]


def test_rule_17_a_stop_that_its_own_accounts_trade_elected_is_no_exception() -> None:
    """Two accounts trade; the stop of one of them then meets an order of the same account, and is canceled."""
    market = Market()
    market.sell(1, at=100, by="ann")
    market.sell(5, at=101, by="bob")
    market.buy(2, stop=100)
    assert market.buy(1, at=100) == [
        "4 accepted",
        "trade 1: 1 @ 100, maker 1 of ann, taker 4 of bob buys",
        "3 triggered",
        "3 canceled (self_trade_prevention): 2 of 2 @ market",
    ]


def test_rule_20_self_trade_prevention_does_not_apply_in_an_auction() -> None:
    market = Market()
    market.status("call")
    market.sell(5, at=100, by="ann")
    market.buy(5, at=100, by="ann", self_trade_prevention="cancel_both")
    assert market.status("open") == [
        "trade 1: 5 @ 100, maker 1 of ann, taker 2 of ann buys",
        "status open (operator)",
    ]
