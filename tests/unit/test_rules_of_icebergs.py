"""The rulebook's rules 8 to 10, and 13 where part of the book is hidden: icebergs, post_only, min_quantity."""

from typing import Any

import pytest

from exchange.core.asset import MAX_INTEGER
from exchange.core.requests import MAX_HIDDEN_PARTS, MAX_PARTS
from tests.market import Market

# -- 8. icebergs -------------------------------------------------------------------------------------------------------


def test_rule_8_an_iceberg_shows_its_display_quantity() -> None:
    market = Market()
    assert market.sell(10, at=100, show=3) == [
        "1 accepted",
        "1 rests 10 @ 100",
    ]
    assert market.book() == ["sell 100: 1 has 3 (+7 hidden)"]


def test_rule_8_one_with_less_than_that_left_shows_what_is_left() -> None:
    market = Market()
    market.buy(8, at=100)
    assert market.sell(10, at=100, show=3) == [
        "2 accepted",
        "trade 1: 8 @ 100, maker 1 of bob, taker 2 of sue sells",
        "2 rests 2 @ 100",
    ]
    assert market.book() == ["sell 100: 2 has 2"]


def test_rule_8_the_whole_quantity_matches_on_entry() -> None:
    market = Market()
    market.buy(4, at=101)
    market.buy(8, at=100)
    assert market.sell(10, at=100, show=3) == [
        "3 accepted",
        "trade 1: 4 @ 101, maker 1 of bob, taker 3 of sue sells",
        "trade 2: 6 @ 100, maker 2 of bob, taker 3 of sue sells",
    ]


def test_rule_8_the_next_part_joins_the_back_of_its_levels_queue() -> None:
    market = Market()
    market.sell(10, at=100, show=3)
    market.sell(5, at=100, by="max")
    assert market.buy(3, at=100) == [
        "3 accepted",
        "trade 1: 3 @ 100, maker 1 of sue, taker 3 of bob buys",
        "1 replenished: 3 @ 100",
    ]
    assert market.book() == ["sell 100: 2 has 5, 1 has 3 (+4 hidden)"]
    assert market.buy(6, at=100) == [
        "4 accepted",
        "trade 2: 5 @ 100, maker 2 of max, taker 4 of bob buys",
        "trade 3: 1 @ 100, maker 1 of sue, taker 4 of bob buys",
    ]
    assert market.book() == ["sell 100: 1 has 2 (+4 hidden)"]


def test_rule_8_an_order_goes_through_the_next_parts_as_it_goes_through_the_queue() -> None:
    market = Market()
    market.sell(7, at=100, show=3)
    market.sell(1, at=100, by="max")
    market.sell(9, at=101, by="max")
    assert market.buy(9, at=101) == [
        "4 accepted",
        "trade 1: 3 @ 100, maker 1 of sue, taker 4 of bob buys",
        "1 replenished: 3 @ 100",
        "trade 2: 1 @ 100, maker 2 of max, taker 4 of bob buys",
        "trade 3: 3 @ 100, maker 1 of sue, taker 4 of bob buys",
        "1 replenished: 1 @ 100",
        "trade 4: 1 @ 100, maker 1 of sue, taker 4 of bob buys",
        "trade 5: 1 @ 101, maker 3 of max, taker 4 of bob buys",
    ]
    assert market.book() == ["sell 101: 3 has 8"]


def test_rule_8_several_icebergs_refill_in_the_order_in_which_their_parts_ran_out() -> None:
    market = Market()
    market.sell(6, at=100, show=2)
    market.sell(6, at=100, show=3, by="max")
    market.sell(1, at=100, by="pat")
    assert market.buy(6, at=100) == [
        "4 accepted",
        "trade 1: 2 @ 100, maker 1 of sue, taker 4 of bob buys",
        "1 replenished: 2 @ 100",
        "trade 2: 3 @ 100, maker 2 of max, taker 4 of bob buys",
        "2 replenished: 3 @ 100",
        "trade 3: 1 @ 100, maker 3 of pat, taker 4 of bob buys",
    ]
    assert market.book() == ["sell 100: 1 has 2 (+2 hidden), 2 has 3"]
    assert market.buy(5, at=100) == [
        "5 accepted",
        "trade 4: 2 @ 100, maker 1 of sue, taker 5 of bob buys",
        "1 replenished: 2 @ 100",
        "trade 5: 3 @ 100, maker 2 of max, taker 5 of bob buys",
    ]
    assert market.book() == ["sell 100: 1 has 2"]


def test_rule_8_a_partial_fill_of_the_shown_part_keeps_its_place_and_shows_no_more() -> None:
    market = Market()
    market.sell(10, at=100, show=3)
    market.sell(5, at=100, by="max")
    market.buy(2, at=100)
    assert market.book() == ["sell 100: 1 has 1 (+7 hidden), 2 has 5"]


def test_rule_8_the_last_part_is_what_is_left_and_after_it_the_order_is_gone() -> None:
    market = Market()
    market.sell(5, at=100, show=3)
    assert market.buy(3, at=100) == [
        "2 accepted",
        "trade 1: 3 @ 100, maker 1 of sue, taker 2 of bob buys",
        "1 replenished: 2 @ 100",
    ]
    assert market.book() == ["sell 100: 1 has 2"]
    assert market.buy(2, at=100) == [
        "3 accepted",
        "trade 2: 2 @ 100, maker 1 of sue, taker 3 of bob buys",
    ]
    assert market.cancel(1, by="sue") == ["cancel of 1 rejected (unknown_order)"]


def test_rule_8_an_amend_down_takes_from_the_hidden_part_first_and_keeps_the_place() -> None:
    market = Market()
    market.sell(10, at=100, show=3)
    market.sell(5, at=100, by="max")
    assert market.amend(1, quantity=5, by="sue") == ["1 replaced: 5 @ 100, 5 open, place kept"]
    assert market.book() == ["sell 100: 1 has 3 (+2 hidden), 2 has 5"]
    assert market.amend(1, quantity=2, by="sue") == ["1 replaced: 2 @ 100, 2 open, place kept"]
    assert market.book() == ["sell 100: 1 has 2, 2 has 5"]


def test_rule_8_an_amend_down_counts_fills_of_earlier_parts() -> None:
    market = Market()
    market.sell(10, at=100, show=3)
    market.buy(4, at=100)
    assert market.book() == ["sell 100: 1 has 2 (+4 hidden)"]
    assert market.amend(1, quantity=6, by="sue") == ["1 replaced: 6 @ 100, 2 open, place kept"]
    assert market.book() == ["sell 100: 1 has 2"]
    assert market.amend(1, quantity=4, by="sue") == ["1 canceled (user_request): 2 of 6 @ 100"]


def test_rule_8_an_amend_up_loses_the_place_and_shows_a_full_part_again() -> None:
    market = Market()
    market.sell(10, at=100, show=3)
    market.sell(5, at=100, by="max")
    market.buy(2, at=100)
    assert market.amend(1, quantity=11, by="sue") == [
        "1 replaced: 11 @ 100, 9 open, place lost",
        "1 rests 9 @ 100",
    ]
    assert market.book() == ["sell 100: 2 has 5, 1 has 3 (+6 hidden)"]


def test_rule_8_an_amend_to_another_price_and_less_than_it_shows_hides_nothing() -> None:
    market = Market()
    market.sell(10, at=100, show=3)
    assert market.amend(1, quantity=2, at=101, by="sue") == [
        "1 replaced: 2 @ 101, 2 open, place lost",
        "1 rests 2 @ 101",
    ]
    assert market.book() == ["sell 101: 1 has 2"]
    assert market.buy(3, at=101) == [
        "2 accepted",
        "trade 1: 2 @ 101, maker 1 of sue, taker 2 of bob buys",
        "2 rests 1 @ 101",
    ]


def test_rule_8_an_amend_that_crosses_trades_the_whole_quantity() -> None:
    market = Market()
    market.buy(6, at=99)
    market.sell(10, at=100, show=3)
    assert market.amend(2, at=99, by="sue") == [
        "2 replaced: 10 @ 99, 10 open, place lost",
        "trade 1: 6 @ 99, maker 1 of bob, taker 2 of sue sells",
        "2 rests 4 @ 99",
    ]
    assert market.book() == ["sell 99: 2 has 3 (+1 hidden)"]


def test_rule_8_a_cancel_reports_all_that_was_open() -> None:
    market = Market()
    market.sell(10, at=100, show=3)
    market.buy(1, at=100)
    assert market.cancel(1, by="sue") == ["1 canceled (user_request): 9 of 10 @ 100"]


def test_rule_8_a_levels_bound_counts_what_is_hidden() -> None:
    market = Market()
    market.buy(MAX_INTEGER - 1, at=100, show=2**60)
    assert market.buy(2, at=100) == ["2 rejected (invalid_quantity)"]
    assert market.buy(1, at=100) == [
        "3 accepted",
        "3 rests 1 @ 100",
    ]
    assert market.amend(3, quantity=2) == ["amend of 3 rejected (invalid_quantity)"]
    market.buy(1, at=99)
    assert market.amend(4, at=100) == ["amend of 4 rejected (invalid_quantity)"]
    market.cancel(1)
    assert market.amend(4, at=100) == [
        "4 replaced: 1 @ 100, 1 open, place lost",
        "4 rests 1 @ 100",
    ]


def test_rule_8_an_amend_that_would_make_too_many_parts_is_rejected() -> None:
    """Each part is a trade and an event of its own, so there are 10,000 of them at most."""
    market = Market()
    market.buy(100, at=100, show=2)
    assert market.amend(1, quantity=2 * MAX_PARTS + 1) == ["amend of 1 rejected (invalid_quantity)"]
    assert market.book() == ["buy 100: 1 has 2 (+98 hidden)"]
    assert market.amend(1, quantity=2 * MAX_PARTS) == [
        "1 replaced: 20000 @ 100, 20000 open, place lost",
        "1 rests 20000 @ 100",
    ]


def test_rule_8_an_iceberg_may_be_a_stop_limit_that_shows_a_part_when_it_rests() -> None:
    market = Market()
    market.sell(1, at=100)
    market.buy(10, at=99, stop=100, show=4)
    assert market.buy(1, at=100, by="ann") == [
        "3 accepted",
        "trade 1: 1 @ 100, maker 1 of sue, taker 3 of ann buys",
        "2 triggered",
        "2 rests 10 @ 99",
    ]
    assert market.book() == ["buy 99: 2 has 4 (+6 hidden)"]


# -- 9. post_only ------------------------------------------------------------------------------------------------------


def test_rule_9_a_post_only_order_that_would_not_trade_rests() -> None:
    market = Market()
    market.sell(5, at=101)
    assert market.buy(5, at=100, post_only=True) == [
        "2 accepted",
        "2 rests 5 @ 100",
    ]


@pytest.mark.parametrize("at", [101, 102])
def test_rule_9_one_that_would_trade_in_any_part_is_canceled_whole(at: int) -> None:
    market = Market()
    market.sell(1, at=101)
    assert market.buy(5, at=at, post_only=True) == ["2 accepted", f"2 canceled (post_only): 5 of 5 @ {at}"]
    assert market.book() == ["sell 101: 1 has 1"]


def test_rule_9_its_own_accounts_orders_count() -> None:
    market = Market()
    market.sell(1, at=101, by="ann")
    assert market.buy(5, at=101, post_only=True, by="ann", self_trade_prevention="cancel_oldest") == [
        "2 accepted",
        "2 canceled (post_only): 5 of 5 @ 101",
    ]


def test_rule_9_an_amend_that_would_trade_is_rejected_and_changes_nothing() -> None:
    market = Market()
    market.sell(1, at=101)
    market.buy(5, at=100, post_only=True)
    market.buy(5, at=100)
    assert market.amend(2, at=101) == ["amend of 2 rejected (post_only)"]
    assert market.amend(2, quantity=9, at=102) == ["amend of 2 rejected (post_only)"]
    assert market.book() == [
        "sell 101: 1 has 1",
        "buy 100: 2 has 5, 3 has 5",
    ]


def test_rule_9_an_amend_that_would_not_is_done() -> None:
    market = Market()
    market.sell(1, at=101)
    market.buy(5, at=99, post_only=True)
    assert market.amend(2, at=100) == [
        "2 replaced: 5 @ 100, 5 open, place lost",
        "2 rests 5 @ 100",
    ]
    assert market.amend(2, quantity=6) == [
        "2 replaced: 6 @ 100, 6 open, place lost",
        "2 rests 6 @ 100",
    ]


def test_rule_9_a_post_only_order_that_rests_trades_as_a_maker() -> None:
    market = Market()
    market.buy(5, at=100, post_only=True)
    assert market.sell(5, at=100) == [
        "2 accepted",
        "trade 1: 5 @ 100, maker 1 of bob, taker 2 of sue sells",
    ]


def test_rule_9_in_a_call_nothing_trades_on_entry_so_it_rests_and_may_trade_in_the_auction() -> None:
    market = Market()
    market.sell(5, at=100)
    market.status("call")
    assert market.buy(5, at=101, post_only=True) == [
        "2 accepted",
        "2 rests 5 @ 101",
        "indicative: 5 @ 101, no surplus",
    ]
    assert market.amend(2, at=102) == [
        "2 replaced: 5 @ 102, 5 open, place lost",
        "2 rests 5 @ 102",
    ]
    assert market.status("open") == [
        "trade 1: 5 @ 101, maker 1 of sue, taker 2 of bob buys",
        "status open (operator)",
    ]


def test_rule_9_a_stop_limit_is_judged_when_it_is_triggered() -> None:
    market = Market()
    market.sell(2, at=100)
    assert market.buy(5, at=100, stop=100, post_only=True) == ["2 accepted"]
    assert market.buy(1, at=100, by="ann") == [
        "3 accepted",
        "trade 1: 1 @ 100, maker 1 of sue, taker 3 of ann buys",
        "2 triggered",
        "2 canceled (post_only): 5 of 5 @ 100",
    ]


# -- 10. min_quantity --------------------------------------------------------------------------------------------------


def test_rule_10_with_that_much_to_trade_it_trades_and_what_is_left_rests() -> None:
    market = Market()
    market.sell(4, at=100)
    market.sell(4, at=101)
    assert market.buy(10, at=101, at_least=8) == [
        "3 accepted",
        "trade 1: 4 @ 100, maker 1 of sue, taker 3 of bob buys",
        "trade 2: 4 @ 101, maker 2 of sue, taker 3 of bob buys",
        "3 rests 2 @ 101",
    ]


def test_rule_10_with_less_than_that_it_is_canceled_whole_and_nothing_else_happens() -> None:
    market = Market()
    market.sell(4, at=100)
    market.sell(4, at=102)
    assert market.buy(10, at=101, at_least=5) == [
        "3 accepted",
        "3 canceled (minimum_quantity): 10 of 10 @ 101",
    ]
    assert market.book() == [
        "sell 102: 2 has 4",
        "sell 100: 1 has 4",
    ]
    assert market.buy(10, at=101, at_least=4) == [
        "4 accepted",
        "trade 1: 4 @ 100, maker 1 of sue, taker 4 of bob buys",
        "4 rests 6 @ 101",
    ]


def test_rule_10_with_nothing_to_trade_it_does_not_rest() -> None:
    market = Market()
    assert market.buy(10, at=101, at_least=1) == [
        "1 accepted",
        "1 canceled (minimum_quantity): 10 of 10 @ 101",
    ]


def test_rule_10_with_ioc_and_as_a_market_order_the_rest_is_canceled_as_usual() -> None:
    market = Market()
    market.sell(4, at=100)
    assert market.buy(10, at=100, at_least=4, time_in_force="ioc") == [
        "2 accepted",
        "trade 1: 4 @ 100, maker 1 of sue, taker 2 of bob buys",
        "2 canceled (immediate_or_cancel): 6 of 10 @ 100",
    ]
    market.sell(4, at=100)
    assert market.buy(10, at_least=5) == [
        "4 accepted",
        "4 canceled (minimum_quantity): 10 of 10 @ market",
    ]
    assert market.buy(10, at_least=4) == [
        "5 accepted",
        "trade 2: 4 @ 100, maker 3 of sue, taker 5 of bob buys",
        "5 canceled (market_remainder): 6 of 10 @ market",
    ]


def test_rule_10_it_counts_hidden_quantity() -> None:
    market = Market()
    market.sell(8, at=100, show=1)
    assert market.buy(10, at=100, at_least=9) == [
        "2 accepted",
        "2 canceled (minimum_quantity): 10 of 10 @ 100",
    ]
    assert market.buy(3, at=100, at_least=3) == [
        "3 accepted",
        "trade 1: 1 @ 100, maker 1 of sue, taker 3 of bob buys",
        "1 replenished: 1 @ 100",
        "trade 2: 1 @ 100, maker 1 of sue, taker 3 of bob buys",
        "1 replenished: 1 @ 100",
        "trade 3: 1 @ 100, maker 1 of sue, taker 3 of bob buys",
        "1 replenished: 1 @ 100",
    ]


def test_rule_10_several_orders_add_up() -> None:
    market = Market()
    for _ in range(5):
        market.sell(1, at=100)
    assert market.buy(5, at=100, at_least=5)[-1] == "trade 5: 1 @ 100, maker 5 of sue, taker 6 of bob buys"


@pytest.mark.parametrize(
    ("instruction", "enough", "too_much"),
    [("cancel_newest", 3, 4), ("cancel_oldest", 6, 7), ("cancel_both", 3, 4), ("decrement_and_cancel", 6, 7)],
)
def test_rule_10_it_counts_what_would_trade_under_its_own_self_trade_prevention(
    instruction: str, enough: int, too_much: int
) -> None:
    market = Market()
    market.sell(3, at=100)
    market.sell(2, at=100, by="ann")
    market.sell(3, at=100, by="max")
    said: dict[str, Any] = {"by": "ann", "self_trade_prevention": instruction}
    assert market.buy(9, at=100, at_least=too_much, **said) == [
        "4 accepted",
        "4 canceled (minimum_quantity): 9 of 9 @ 100",
    ]
    assert market.book() == ["sell 100: 1 has 3, 2 has 2, 3 has 3"]
    events = market.buy(9, at=100, at_least=enough, **said)
    assert sum(event.startswith("trade") for event in events) == enough // 3


def test_rule_10_a_decrement_takes_from_what_could_still_trade() -> None:
    """Of 6, the own order takes 4 off; 2 are left to trade, so 3 can't."""
    market = Market()
    market.sell(4, at=100, by="ann")
    market.sell(9, at=100)
    said: dict[str, Any] = {"by": "ann", "self_trade_prevention": "decrement_and_cancel"}
    assert market.buy(6, at=100, at_least=3, **said) == [
        "3 accepted",
        "3 canceled (minimum_quantity): 6 of 6 @ 100",
    ]
    assert market.buy(6, at=100, at_least=2, **said) == [
        "4 accepted",
        "1 canceled (self_trade_prevention): 4 of 4 @ 100",
        "4 decremented: 2 open of 2 @ 100",
        "trade 1: 2 @ 100, maker 2 of sue, taker 4 of ann buys",
    ]


def test_rule_10_a_decrement_counts_an_own_icebergs_hidden_quantity_as_nothing_to_trade() -> None:
    market = Market()
    market.sell(5, at=100, show=2, by="ann")
    market.sell(5, at=100)
    said: dict[str, Any] = {"by": "ann", "self_trade_prevention": "decrement_and_cancel"}
    assert market.buy(20, at=100, at_least=6, **said) == [
        "3 accepted",
        "3 canceled (minimum_quantity): 20 of 20 @ 100",
    ]
    assert market.buy(20, at=100, at_least=5, **said)[-2:] == [
        "trade 1: 5 @ 100, maker 2 of sue, taker 4 of ann buys",
        "4 rests 10 @ 100",
    ]


def test_rule_10_an_amend_is_asked_for_no_minimum() -> None:
    market = Market()
    market.sell(4, at=100)
    market.buy(10, at=100, at_least=4)
    market.sell(1, at=101)
    assert market.amend(2, at=101) == [
        "2 replaced: 10 @ 101, 6 open, place lost",
        "trade 2: 1 @ 101, maker 3 of sue, taker 2 of bob buys",
        "2 rests 5 @ 101",
    ]


def test_rule_10_a_stop_limit_is_judged_when_it_is_triggered() -> None:
    market = Market()
    market.sell(3, at=100)
    market.buy(5, at=100, stop=100, at_least=3)
    market.buy(5, at=100, stop=100, at_least=2)
    assert market.buy(1, at=100, by="ann") == [
        "4 accepted",
        "trade 1: 1 @ 100, maker 1 of sue, taker 4 of ann buys",
        "2 triggered",
        "2 canceled (minimum_quantity): 5 of 5 @ 100",
        "3 triggered",
        "trade 2: 2 @ 100, maker 1 of sue, taker 3 of bob buys",
        "3 rests 3 @ 100",
    ]


def test_rule_10_a_waiting_stop_that_was_reduced_below_its_minimum_is_canceled_when_it_is_triggered() -> None:
    market = Market()
    market.sell(9, at=100)
    market.buy(8, stop=100, at_least=6)
    assert market.amend(2, quantity=5) == ["2 replaced: 5 @ market, stop 100, 5 open, place kept"]
    assert market.buy(1, at=100, by="ann")[2:] == [
        "2 triggered",
        "2 canceled (minimum_quantity): 5 of 5 @ market",
    ]


def test_rule_10_in_a_call_nothing_trades_at_once_so_it_is_canceled() -> None:
    market = Market()
    market.status("call")
    market.sell(9, at=100)
    assert market.buy(5, at=100, at_least=1) == [
        "2 accepted",
        "2 canceled (minimum_quantity): 5 of 5 @ 100",
    ]


# -- 13. fok where quantity is hidden ----------------------------------------------------------------------------------


def test_rule_13_fok_counts_hidden_quantity() -> None:
    market = Market()
    market.sell(5, at=100, show=1)
    market.sell(5, at=101, show=2)
    assert market.buy(11, at=101, time_in_force="fok") == [
        "3 accepted",
        "3 canceled (fill_or_kill): 11 of 11 @ 101",
    ]
    assert market.buy(7, at=101, time_in_force="fok") == [
        "4 accepted",
        "trade 1: 1 @ 100, maker 1 of sue, taker 4 of bob buys",
        "1 replenished: 1 @ 100",
        "trade 2: 1 @ 100, maker 1 of sue, taker 4 of bob buys",
        "1 replenished: 1 @ 100",
        "trade 3: 1 @ 100, maker 1 of sue, taker 4 of bob buys",
        "1 replenished: 1 @ 100",
        "trade 4: 1 @ 100, maker 1 of sue, taker 4 of bob buys",
        "1 replenished: 1 @ 100",
        "trade 5: 1 @ 100, maker 1 of sue, taker 4 of bob buys",
        "trade 6: 2 @ 101, maker 2 of sue, taker 4 of bob buys",
        "2 replenished: 2 @ 101",
    ]


def test_rule_13_fok_does_not_count_what_is_hidden_behind_an_own_order() -> None:
    """The iceberg's next part joins the queue behind the own order, which would be met before it."""
    market = Market()
    market.sell(5, at=100, show=2)
    market.sell(1, at=100, by="ann")
    assert market.buy(3, at=100, time_in_force="fok", by="ann") == [
        "3 accepted",
        "3 canceled (fill_or_kill): 3 of 3 @ 100",
    ]
    assert market.buy(2, at=100, time_in_force="fok", by="ann") == [
        "4 accepted",
        "trade 1: 2 @ 100, maker 1 of sue, taker 4 of ann buys",
        "1 replenished: 2 @ 100",
    ]


def test_rule_13_fok_does_not_count_its_own_hidden_quantity() -> None:
    market = Market()
    market.sell(5, at=100, show=2, by="ann")
    market.sell(5, at=100)
    said: dict[str, Any] = {"time_in_force": "fok", "by": "ann", "self_trade_prevention": "cancel_oldest"}
    assert market.buy(6, at=100, **said) == [
        "3 accepted",
        "3 canceled (fill_or_kill): 6 of 6 @ 100",
    ]
    assert market.buy(5, at=100, **said) == [
        "4 accepted",
        "1 canceled (self_trade_prevention): 5 of 5 @ 100",
        "trade 1: 5 @ 100, maker 2 of sue, taker 4 of ann buys",
    ]


def test_rule_13_fok_with_decrement_that_meets_an_own_order_before_it_is_full_is_killed() -> None:
    market = Market()
    market.sell(3, at=100)
    market.sell(1, at=100, by="ann")
    market.sell(9, at=100)
    said: dict[str, Any] = {"time_in_force": "fok", "by": "ann", "self_trade_prevention": "decrement_and_cancel"}
    assert market.buy(4, at=100, **said) == [
        "4 accepted",
        "4 canceled (fill_or_kill): 4 of 4 @ 100",
    ]
    assert market.buy(3, at=100, **said) == [
        "5 accepted",
        "trade 1: 3 @ 100, maker 1 of sue, taker 5 of ann buys",
    ]


def test_rule_8_the_icebergs_of_a_side_have_so_many_parts_and_no_more() -> None:
    """One order may trade with all of them: that must stay one request's work, and fit one record of the event log."""
    market = Market()
    icebergs = MAX_HIDDEN_PARTS // (MAX_PARTS - 1)
    for _ in range(icebergs):
        market.sell(MAX_PARTS, at=100, show=1)
    left = MAX_HIDDEN_PARTS - icebergs * (MAX_PARTS - 1)
    too_many, just = icebergs + 1, icebergs + 2
    assert market.sell(left + 2, at=101, show=1) == [f"{too_many} rejected (invalid_quantity)"]
    assert market.sell(left + 1, at=101, show=1)[0] == f"{just} accepted"
    assert market.amend(just, quantity=left + 2, by="sue") == [f"amend of {just} rejected (invalid_quantity)"]
    assert market.buy(10, at=99, show=1)[0] == f"{just + 1} accepted", "the other side has its own"
    assert market.sell(10, at=102)[0] == f"{just + 2} accepted", "what hides nothing is no matter"
    market.buy(3, at=100)
    assert market.sell(4, at=101, show=1)[0] == f"{just + 4} accepted", "three parts have been shown since"
    market.matching.check()
