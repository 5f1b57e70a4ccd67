"""The rulebook's rules 6 and 7: stops wait, are elected by trades, and enter in rounds."""

import pytest

from exchange.core.asset import MAX_INTEGER
from tests.market import Market


def trade(market: Market, at: int) -> None:
    """Have one unit trade at a price; both orders are gone after it."""
    market.sell(1, at=at, by="max")
    market.buy(1, at=at, by="mia")


# -- 6. waiting, and what elects ---------------------------------------------------------------------------------------


def test_rule_6_a_stop_waits_outside_the_book() -> None:
    market = Market()
    assert market.buy(5, stop=105) == ["1 accepted"]
    assert market.sell(5, at=90, stop=95) == ["2 accepted"]
    assert market.book() == [
        "stop buy 105: 1 has 5 @ market",
        "stop sell 95: 2 has 5 @ 90",
    ]


def test_rule_6_a_buy_stop_is_elected_by_a_trade_at_its_stop_price() -> None:
    market = Market()
    market.buy(5, stop=105)
    market.sell(9, at=105)
    assert market.buy(1, at=105, by="ann") == [
        "3 accepted",
        "trade 1: 1 @ 105, maker 2 of sue, taker 3 of ann buys",
        "1 triggered",
        "trade 2: 5 @ 105, maker 2 of sue, taker 1 of bob buys",
    ]


def test_rule_6_a_buy_stop_is_elected_by_a_trade_above_its_stop_price_and_by_none_below() -> None:
    market = Market()
    market.buy(5, stop=105)
    market.sell(1, at=104)
    market.sell(9, at=106)
    assert market.buy(1, at=104, by="ann") == [
        "4 accepted",
        "trade 1: 1 @ 104, maker 2 of sue, taker 4 of ann buys",
    ]
    assert market.buy(1, at=106, by="ann") == [
        "5 accepted",
        "trade 2: 1 @ 106, maker 3 of sue, taker 5 of ann buys",
        "1 triggered",
        "trade 3: 5 @ 106, maker 3 of sue, taker 1 of bob buys",
    ]


def test_rule_6_a_sell_stop_is_elected_by_a_trade_at_or_below_its_stop_price_and_by_none_above() -> None:
    market = Market()
    market.sell(5, stop=95)
    market.buy(1, at=96)
    market.buy(9, at=95)
    assert market.sell(1, at=96, by="ann") == [
        "4 accepted",
        "trade 1: 1 @ 96, maker 2 of bob, taker 4 of ann sells",
    ]
    assert market.sell(1, at=95, by="ann") == [
        "5 accepted",
        "trade 2: 1 @ 95, maker 3 of bob, taker 5 of ann sells",
        "1 triggered",
        "trade 3: 5 @ 95, maker 3 of bob, taker 1 of sue sells",
    ]


def test_rule_6_a_price_in_the_book_elects_nothing() -> None:
    market = Market()
    market.buy(5, stop=105)
    market.sell(5, stop=95)
    market.sell(1, at=94, by="ann")
    market.cancel(3, by="ann")
    assert market.buy(1, at=110, by="ann") == [
        "4 accepted",
        "4 rests 1 @ 110",
    ]


def test_rule_6_a_stop_becomes_a_market_order_whose_rest_is_canceled() -> None:
    market = Market()
    market.sell(1, at=100)
    market.sell(3, at=107)
    market.buy(5, stop=100)
    assert market.buy(1, at=100, by="ann") == [
        "4 accepted",
        "trade 1: 1 @ 100, maker 1 of sue, taker 4 of ann buys",
        "3 triggered",
        "trade 2: 3 @ 107, maker 2 of sue, taker 3 of bob buys",
        "3 canceled (market_remainder): 2 of 5 @ market",
    ]
    assert market.book() == []


def test_rule_6_a_stop_limit_becomes_a_limit_order_whose_rest_rests() -> None:
    market = Market()
    market.sell(1, at=100)
    market.sell(3, at=102)
    market.sell(3, at=104)
    market.buy(5, at=103, stop=100)
    assert market.buy(1, at=100, by="ann") == [
        "5 accepted",
        "trade 1: 1 @ 100, maker 1 of sue, taker 5 of ann buys",
        "4 triggered",
        "trade 2: 3 @ 102, maker 2 of sue, taker 4 of bob buys",
        "4 rests 2 @ 103",
    ]
    assert market.book() == [
        "sell 104: 3 has 3",
        "buy 103: 4 has 2",
    ]


@pytest.mark.parametrize(("time_in_force", "reason"), [("ioc", "immediate_or_cancel"), ("fok", "fill_or_kill")])
def test_rule_6_a_stop_limit_has_its_time_in_force_from_when_it_is_triggered(time_in_force: str, reason: str) -> None:
    market = Market()
    market.sell(1, at=100)
    assert market.buy(5, at=103, stop=100, time_in_force=time_in_force) == ["2 accepted"]
    assert market.buy(1, at=100, by="ann")[2:] == ["2 triggered", f"2 canceled ({reason}): 5 of 5 @ 103"]


def test_rule_6_a_stop_that_is_fok_fills_or_is_killed_when_it_is_triggered() -> None:
    market = Market()
    market.sell(4, at=100)
    market.buy(4, stop=100, time_in_force="fok")
    market.buy(3, stop=100, time_in_force="fok")
    assert market.buy(1, at=100, by="ann") == [
        "4 accepted",
        "trade 1: 1 @ 100, maker 1 of sue, taker 4 of ann buys",
        "2 triggered",
        "2 canceled (fill_or_kill): 4 of 4 @ market",
        "3 triggered",
        "trade 2: 3 @ 100, maker 1 of sue, taker 3 of bob buys",
    ]


def test_rule_6_a_print_in_the_middle_of_a_sweep_counts() -> None:
    """The sweep begins at 100, which elects the sell stop, and ends at 102, which would not."""
    market = Market()
    market.sell(1, at=100)
    market.sell(1, at=102)
    market.buy(9, at=98)
    market.sell(5, stop=100)
    assert market.buy(2, at=102, by="ann") == [
        "5 accepted",
        "trade 1: 1 @ 100, maker 1 of sue, taker 5 of ann buys",
        "trade 2: 1 @ 102, maker 2 of sue, taker 5 of ann buys",
        "4 triggered",
        "trade 3: 5 @ 98, maker 3 of bob, taker 4 of sue sells",
    ]


def test_rule_6_a_trade_that_an_amend_makes_elects_too() -> None:
    market = Market()
    market.sell(5, at=100)
    market.buy(1, at=90)
    market.buy(2, stop=100, by="ann")
    assert market.amend(2, at=100) == [
        "2 replaced: 1 @ 100, 1 open, place lost",
        "trade 1: 1 @ 100, maker 1 of sue, taker 2 of bob buys",
        "3 triggered",
        "trade 2: 2 @ 100, maker 1 of sue, taker 3 of ann buys",
    ]


def test_rule_6_a_stop_whose_price_the_last_trade_has_reached_triggers_on_entry() -> None:
    market = Market()
    trade(market, at=100)
    market.sell(9, at=101)
    market.buy(9, at=99)
    assert market.buy(1, stop=100) == [
        "5 accepted",
        "5 triggered",
        "trade 2: 1 @ 101, maker 3 of sue, taker 5 of bob buys",
    ]
    trade(market, at=100)
    assert market.sell(1, stop=100) == [
        "8 accepted",
        "8 triggered",
        "trade 4: 1 @ 99, maker 4 of bob, taker 8 of sue sells",
    ]
    trade(market, at=100)
    assert market.buy(1, at=99, stop=95) == [
        "11 accepted",
        "11 triggered",
        "11 rests 1 @ 99",
    ]


def test_rule_6_one_whose_price_it_has_not_reached_waits_also_where_an_earlier_trade_had() -> None:
    market = Market()
    trade(market, at=110)
    trade(market, at=90)
    trade(market, at=100)
    assert market.buy(1, stop=101) == ["7 accepted"]
    assert market.sell(1, stop=99) == ["8 accepted"]


def test_rule_6_without_a_trade_no_stop_triggers_on_entry() -> None:
    market = Market()
    market.define(reference_price=100)
    assert market.buy(1, stop=1) == ["1 accepted"]
    assert market.sell(1, stop=1_000_000) == ["2 accepted"]


def test_rule_6_a_stop_that_waits_is_canceled_like_any_live_order_and_by_nobody_else() -> None:
    market = Market()
    market.buy(5, stop=105)
    market.buy(5, at=107, stop=105)
    assert market.cancel(1, by="ann") == ["cancel of 1 rejected (unknown_order)"]
    assert market.cancel(1) == ["1 canceled (user_request): 5 of 5 @ market"]
    assert market.cancel(2) == ["2 canceled (user_request): 5 of 5 @ 107"]
    assert market.cancel(2) == ["cancel of 2 rejected (unknown_order)"]


def test_rule_6_mass_cancel_reaches_stops_in_order_of_arrival() -> None:
    market = Market()
    market.buy(5, stop=105)
    market.buy(5, at=100)
    market.sell(5, stop=90, by="bob")
    market.buy(5, at=107, stop=105)
    assert market.mass_cancel("buy") == [
        "1 canceled (mass_cancel): 5 of 5 @ market",
        "2 canceled (mass_cancel): 5 of 5 @ 100",
        "4 canceled (mass_cancel): 5 of 5 @ 107",
    ]
    assert market.mass_cancel() == ["3 canceled (mass_cancel): 5 of 5 @ market"]


# -- 7. rounds ---------------------------------------------------------------------------------------------------------


def test_rule_7_elected_stops_enter_after_the_request_that_elected_them_is_done() -> None:
    """The incoming order has its trades and its place in the book before the stop has anything."""
    market = Market()
    market.sell(2, at=100)
    market.sell(2, at=101)
    market.buy(3, stop=100)
    assert market.buy(9, at=101, by="ann") == [
        "4 accepted",
        "trade 1: 2 @ 100, maker 1 of sue, taker 4 of ann buys",
        "trade 2: 2 @ 101, maker 2 of sue, taker 4 of ann buys",
        "4 rests 5 @ 101",
        "3 triggered",
        "3 canceled (market_remainder): 3 of 3 @ market",
    ]


def test_rule_7_buys_enter_by_stop_price_ascending_and_then_by_arrival() -> None:
    market = Market()
    market.sell(9, at=105)
    for stop in (104, 103, 105, 103):
        market.buy(1, stop=stop)
    assert market.buy(1, at=105, by="ann") == [
        "6 accepted",
        "trade 1: 1 @ 105, maker 1 of sue, taker 6 of ann buys",
        "3 triggered",
        "trade 2: 1 @ 105, maker 1 of sue, taker 3 of bob buys",
        "5 triggered",
        "trade 3: 1 @ 105, maker 1 of sue, taker 5 of bob buys",
        "2 triggered",
        "trade 4: 1 @ 105, maker 1 of sue, taker 2 of bob buys",
        "4 triggered",
        "trade 5: 1 @ 105, maker 1 of sue, taker 4 of bob buys",
    ]


def test_rule_7_sells_enter_by_stop_price_descending_and_then_by_arrival() -> None:
    market = Market()
    market.buy(9, at=95)
    for stop in (96, 97, 95, 97):
        market.sell(1, stop=stop)
    assert market.sell(1, at=95, by="ann") == [
        "6 accepted",
        "trade 1: 1 @ 95, maker 1 of bob, taker 6 of ann sells",
        "3 triggered",
        "trade 2: 1 @ 95, maker 1 of bob, taker 3 of sue sells",
        "5 triggered",
        "trade 3: 1 @ 95, maker 1 of bob, taker 5 of sue sells",
        "2 triggered",
        "trade 4: 1 @ 95, maker 1 of bob, taker 2 of sue sells",
        "4 triggered",
        "trade 5: 1 @ 95, maker 1 of bob, taker 4 of sue sells",
    ]


def test_rule_7_buys_enter_before_sells() -> None:
    market = Market()
    market.sell(9, at=101, by="max")
    market.buy(9, at=99, by="mia")
    market.sell(1, stop=100)
    market.buy(1, stop=100)
    assert market.sell(1, at=100, by="max") == [
        "5 accepted",
        "5 rests 1 @ 100",
    ]
    assert market.buy(1, at=100, by="mia") == [
        "6 accepted",
        "trade 1: 1 @ 100, maker 5 of max, taker 6 of mia buys",
        "4 triggered",
        "trade 2: 1 @ 101, maker 1 of max, taker 4 of bob buys",
        "3 triggered",
        "trade 3: 1 @ 99, maker 2 of mia, taker 3 of sue sells",
    ]


def test_rule_7_each_is_done_before_the_next_and_what_their_trades_elect_makes_the_next_round() -> None:
    """The first stop's trade at 102 elects one at 102, which waits until the second of the first round is done."""
    market = Market()
    market.sell(1, at=100)
    market.sell(1, at=102)
    market.sell(1, at=103)
    market.sell(1, at=104)
    market.buy(1, stop=100)
    market.buy(1, stop=102, by="ann")
    market.buy(1, stop=100, by="dan")
    assert market.buy(1, at=100, by="eve") == [
        "8 accepted",
        "trade 1: 1 @ 100, maker 1 of sue, taker 8 of eve buys",
        "5 triggered",
        "trade 2: 1 @ 102, maker 2 of sue, taker 5 of bob buys",
        "7 triggered",
        "trade 3: 1 @ 103, maker 3 of sue, taker 7 of dan buys",
        "6 triggered",
        "trade 4: 1 @ 104, maker 4 of sue, taker 6 of ann buys",
    ]


def test_rule_7_each_round_has_its_buys_before_its_sells() -> None:
    """Of the first round one trades at 110 and one at 95, which elects one on either side for the second."""
    market = Market()
    market.sell(1, at=100)
    market.sell(9, at=110, by="max")
    market.buy(9, at=95, by="mia")
    market.sell(1, stop=98, by="ann")
    market.buy(1, stop=105)
    market.sell(1, stop=100, by="ann")
    market.buy(1, stop=100)
    assert market.buy(1, at=100, by="eve") == [
        "8 accepted",
        "trade 1: 1 @ 100, maker 1 of sue, taker 8 of eve buys",
        "7 triggered",
        "trade 2: 1 @ 110, maker 2 of max, taker 7 of bob buys",
        "6 triggered",
        "trade 3: 1 @ 95, maker 3 of mia, taker 6 of ann sells",
        "5 triggered",
        "trade 4: 1 @ 110, maker 2 of max, taker 5 of bob buys",
        "4 triggered",
        "trade 5: 1 @ 95, maker 3 of mia, taker 4 of ann sells",
    ]


def test_rule_7_the_loop_runs_until_nothing_is_elected_however_long() -> None:
    market = Market()
    steps = 3000
    for step in range(steps + 1):
        market.sell(1, at=100 + step)
    for step in range(steps):
        market.buy(1, stop=100 + step)
    events = market.buy(1, at=100, by="ann")
    assert len([event for event in events if event.startswith("trade")]) == steps + 1
    assert market.book() == []


def test_rule_7_a_triggered_stop_limit_has_new_time_priority_and_keeps_its_order_id() -> None:
    market = Market()
    market.sell(5, at=110, stop=95)
    market.sell(5, at=110)
    market.buy(1, at=95)
    market.sell(1, at=95, by="ann")
    assert market.book() == ["sell 110: 2 has 5, 1 has 5"]
    assert market.cancel(1, by="sue") == ["1 canceled (user_request): 5 of 5 @ 110"]


def test_rule_7_a_triggered_stop_is_subject_to_self_trade_prevention_by_its_own_instruction() -> None:
    market = Market()
    market.sell(5, at=101, by="bob")
    market.buy(3, stop=100, self_trade_prevention="cancel_oldest")
    market.buy(3, stop=100)
    market.sell(9, at=102, by="max")
    market.sell(1, at=100)
    assert market.buy(1, at=100, by="ann") == [
        "6 accepted",
        "trade 1: 1 @ 100, maker 5 of sue, taker 6 of ann buys",
        "2 triggered",
        "1 canceled (self_trade_prevention): 5 of 5 @ 101",
        "trade 2: 3 @ 102, maker 4 of max, taker 2 of bob buys",
        "3 triggered",
        "trade 3: 3 @ 102, maker 4 of max, taker 3 of bob buys",
    ]


def test_rule_7_a_triggered_stop_limit_that_would_overfill_its_level_is_canceled() -> None:
    market = Market()
    market.buy(MAX_INTEGER - 4, at=90, by="ann")
    market.buy(4, at=90, stop=100)
    market.buy(5, at=90, stop=100)
    market.buy(5, at=90, stop=100, time_in_force="ioc")
    market.sell(1, at=100)
    assert market.buy(1, at=100, by="ann") == [
        "6 accepted",
        "trade 1: 1 @ 100, maker 5 of sue, taker 6 of ann buys",
        "2 triggered",
        "2 rests 4 @ 90",
        "3 triggered",
        "3 canceled (invalid_quantity): 5 of 5 @ 90",
        "4 triggered",
        "4 canceled (immediate_or_cancel): 5 of 5 @ 90",
    ]


# -- amends of stops that wait -----------------------------------------------------------------------------------------


def test_rule_14_less_quantity_keeps_a_waiting_stops_place() -> None:
    market = Market()
    market.sell(9, at=100)
    market.buy(2, stop=100)
    market.buy(2, stop=100, by="ann")
    assert market.amend(2, quantity=1) == ["2 replaced: 1 @ market, stop 100, 1 open, place kept"]
    assert market.amend(2, stop=100) == ["2 replaced: 1 @ market, stop 100, 1 open, place kept"]
    assert market.buy(1, at=100, by="eve") == [
        "4 accepted",
        "trade 1: 1 @ 100, maker 1 of sue, taker 4 of eve buys",
        "2 triggered",
        "trade 2: 1 @ 100, maker 1 of sue, taker 2 of bob buys",
        "3 triggered",
        "trade 3: 2 @ 100, maker 1 of sue, taker 3 of ann buys",
    ]


def test_rule_14_more_quantity_or_another_stop_price_loses_it() -> None:
    market = Market()
    market.sell(9, at=100)
    market.buy(2, stop=100)
    market.buy(2, stop=100, by="ann")
    market.buy(2, stop=100, by="dan")
    assert market.amend(2, quantity=3) == ["2 replaced: 3 @ market, stop 100, 3 open, place lost"]
    assert market.amend(3, stop=99, by="ann") == ["3 replaced: 2 @ market, stop 99, 2 open, place lost"]
    assert market.amend(3, stop=100, by="ann") == ["3 replaced: 2 @ market, stop 100, 2 open, place lost"]
    assert market.buy(1, at=100, by="eve") == [
        "5 accepted",
        "trade 1: 1 @ 100, maker 1 of sue, taker 5 of eve buys",
        "4 triggered",
        "trade 2: 2 @ 100, maker 1 of sue, taker 4 of dan buys",
        "2 triggered",
        "trade 3: 3 @ 100, maker 1 of sue, taker 2 of bob buys",
        "3 triggered",
        "trade 4: 2 @ 100, maker 1 of sue, taker 3 of ann buys",
    ]


def test_rule_14_a_stop_limits_price_can_be_amended_while_it_waits() -> None:
    market = Market()
    market.sell(9, at=100)
    market.buy(2, at=101, stop=100)
    assert market.amend(2, at=100) == ["2 replaced: 2 @ 100, stop 100, 2 open, place lost"]
    assert market.amend(2, quantity=1, stop=102) == ["2 replaced: 1 @ 100, stop 102, 1 open, place lost"]
    assert market.book() == [
        "sell 100: 1 has 9",
        "stop buy 102: 2 has 1 @ 100",
    ]


def test_rule_14_an_amend_to_a_stop_price_that_the_last_trade_has_reached_triggers() -> None:
    market = Market()
    trade(market, at=100)
    market.sell(9, at=103)
    market.buy(2, stop=105)
    assert market.amend(4, stop=101) == ["4 replaced: 2 @ market, stop 101, 2 open, place lost"]
    assert market.amend(4, stop=100) == [
        "4 replaced: 2 @ market, stop 100, 2 open, place lost",
        "4 triggered",
        "trade 2: 2 @ 103, maker 3 of sue, taker 4 of bob buys",
    ]


def test_rule_14_a_waiting_stop_amended_to_nothing_is_canceled() -> None:
    market = Market()
    market.buy(2, stop=105)
    assert market.amend(1, quantity=0) == ["1 canceled (user_request): 2 of 2 @ market"]


def test_rule_14_the_stop_price_of_what_is_no_waiting_stop_can_not_be_amended() -> None:
    market = Market()
    market.buy(2, at=90, stop=100)
    market.buy(2, at=90)
    trade(market, at=100)
    assert market.book() == ["buy 90: 2 has 2, 1 has 2"]
    assert market.amend(1, stop=110) == ["amend of 1 rejected (triggered)"]
    assert market.amend(1, quantity=1, stop=100) == ["amend of 1 rejected (triggered)"]
    assert market.amend(2, stop=110) == ["amend of 2 rejected (triggered)"]
    assert market.amend(1, at=91) == [
        "1 replaced: 2 @ 91, 2 open, place lost",
        "1 rests 2 @ 91",
    ]


# -- stops and what is not open ----------------------------------------------------------------------------------------


def interrupted() -> Market:
    """Return a market in a volatility interruption, which a stop of ann began with two other stops still to enter.

    The band is 95 to 105. Order 3, the first of the round, finds nothing nearer than 106.
    """
    market = Market()
    market.define(reference_price=100, volatility_band_ppm=50_000)
    market.sell(1, at=100)
    market.sell(5, at=106)
    market.buy(1, stop=100, by="ann")
    market.buy(2, at=106, stop=100)
    market.buy(3, at=105, stop=100, by="dan")
    return market


def test_rule_7_stops_that_an_interruption_kept_from_entering_wait_on_elected() -> None:
    market = interrupted()
    assert market.buy(1, at=100, by="eve") == [
        "6 accepted",
        "trade 1: 1 @ 100, maker 1 of sue, taker 6 of eve buys",
        "3 triggered",
        "status call (volatility_interruption) until 120 s",
        "3 canceled (halted): 1 of 1 @ market",
    ]
    assert market.book() == [
        "sell 106: 2 has 5",
        "stop buy 100: 4 has 2 @ 106",
        "stop buy 100: 5 has 3 @ 105",
    ]
    assert market.status("open") == [
        "status open (operator)",
        "4 triggered",
        "status call (volatility_interruption) until 120 s",
        "4 rests 2 @ 106",
        "indicative: 2 @ 106, surplus sell 3",
    ]
    assert market.status("open") == [
        "trade 2: 2 @ 106, maker 2 of sue, taker 4 of bob buys",
        "status open (operator)",
        "5 triggered",
        "5 rests 3 @ 105",
    ]


def test_rule_7_elected_stops_that_wait_can_be_canceled_and_expire() -> None:
    market = interrupted()
    market.buy(4, at=104, stop=100, time_in_force="gtd", expire_time=1, by="pat")
    market.buy(1, at=100, by="eve")
    assert market.cancel(4) == ["4 canceled (user_request): 2 of 2 @ 106"]
    market.wait(1)
    assert market.expire() == ["6 expired: 4 of 4 @ 104"]
    assert market.status("open") == [
        "status open (operator)",
        "5 triggered",
        "5 rests 3 @ 105",
    ]


def test_rule_7_an_elected_stop_that_is_reduced_stays_elected() -> None:
    market = interrupted()
    market.buy(1, at=100, by="eve")
    assert market.amend(4, quantity=1) == ["4 replaced: 1 @ 106, stop 100, 1 open, place kept"]
    assert market.status("open") == [
        "status open (operator)",
        "4 triggered",
        "status call (volatility_interruption) until 120 s",
        "4 rests 1 @ 106",
        "indicative: 1 @ 106, surplus sell 4",
    ]


def test_rule_7_an_elected_stop_that_gets_another_stop_price_is_elected_no_more() -> None:
    market = interrupted()
    market.buy(1, at=100, by="eve")
    assert market.amend(4, stop=101) == ["4 replaced: 2 @ 106, stop 101, 2 open, place lost"]
    assert market.status("open") == [
        "status open (operator)",
        "5 triggered",
        "5 rests 3 @ 105",
    ]


def test_rule_7_an_elected_stop_that_lost_its_place_enters_behind_the_others() -> None:
    """The last price, 100, elects it anew when the asset opens, with what had been elected before, in one round."""
    market = interrupted()
    market.buy(1, at=100, by="eve")
    assert market.amend(4, quantity=4) == ["4 replaced: 4 @ 106, stop 100, 4 open, place lost"]
    assert market.status("open") == [
        "status open (operator)",
        "5 triggered",
        "5 rests 3 @ 105",
        "4 triggered",
        "status call (volatility_interruption) until 120 s",
        "4 rests 4 @ 106",
        "indicative: 4 @ 106, surplus sell 1",
    ]


def test_rule_6_a_stop_entered_in_a_call_waits_and_the_last_price_elects_it_when_the_asset_opens() -> None:
    market = Market()
    trade(market, at=100)
    market.sell(9, at=101)
    market.status("call")
    assert market.buy(1, stop=100, time_in_force="ioc") == ["4 accepted"]
    assert market.buy(1, at=101, stop=100, time_in_force="fok") == ["5 accepted"]
    assert market.buy(1, stop=101) == ["6 accepted"]
    assert market.status("open") == [
        "status open (operator)",
        "4 triggered",
        "trade 2: 1 @ 101, maker 3 of sue, taker 4 of bob buys",
        "5 triggered",
        "trade 3: 1 @ 101, maker 3 of sue, taker 5 of bob buys",
        "6 triggered",
        "trade 4: 1 @ 101, maker 3 of sue, taker 6 of bob buys",
    ]


def test_rule_6_a_stop_amended_in_a_call_waits_too() -> None:
    market = Market()
    trade(market, at=100)
    market.buy(1, at=99, stop=105)
    market.status("call")
    assert market.amend(3, stop=99) == ["3 replaced: 1 @ 99, stop 99, 1 open, place lost"]
    assert market.status("halted") == ["status halted (operator)"]
    assert market.amend(3, quantity=2) == ["amend of 3 rejected (halted)"]
    assert market.status("open") == [
        "status open (operator)",
        "3 triggered",
        "3 rests 1 @ 99",
    ]


def test_rule_6_the_trades_of_an_auction_elect() -> None:
    market = Market()
    market.status("call")
    market.buy(5, at=103)
    market.sell(2, at=97)
    market.sell(1, stop=103)
    market.buy(1, stop=103, by="ann")
    market.buy(1, stop=104, by="ann")
    assert market.status("open") == [
        "trade 1: 2 @ 103, maker 2 of sue, taker 1 of bob buys",
        "status open (operator)",
        "4 triggered",
        "4 canceled (market_remainder): 1 of 1 @ market",
        "3 triggered",
        "trade 2: 1 @ 103, maker 1 of bob, taker 3 of sue sells",
    ]


def test_rule_6_the_trades_of_a_closing_auction_elect_for_the_next_opening() -> None:
    market = Market()
    market.buy(1, at=101, stop=100, by="ann")
    market.status("call")
    market.buy(5, at=100)
    market.sell(5, at=100)
    assert market.status("closed") == [
        "trade 1: 5 @ 100, maker 3 of sue, taker 2 of bob buys",
        "status closed (operator)",
    ]
    assert market.status("call") == ["status call (operator)"]
    assert market.status("open") == [
        "status open (operator)",
        "1 triggered",
        "1 rests 1 @ 101",
    ]
