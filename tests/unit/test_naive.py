"""The naive book is right by itself: the rulebook's examples and the stories of its tests come out of it too.

Where it agrees with the core on random requests, that says something only if it isn't wrong in the same way. So each
story that was written for the core is told to it as well; and the corner cases below are told to both.
"""

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from exchange.core.events import EventRecord
from exchange.core.requests import BUY, SELL, SIDE_NAMES, Record, Request
from tests.market import SECOND, Market
from tests.naive import NaiveMatching
from tests.unit import test_rulebook_document

LARGEST = 2**63 - 1


class NaiveMarket(Market):
    """A market whose book is the naive one."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.naive = NaiveMatching()
        super().__init__(*arguments, **options)

    def record(self, request: Request, by: str) -> EventRecord:
        record = Record("ACME", self.naive.sequence + 1, self.seconds * SECOND, by, request)
        return EventRecord("ACME", record.sequence, record.time, by, request, 0, self.naive.apply(record))

    def book(self) -> list[str]:
        lines: list[str] = []
        for side in (SELL, BUY):
            levels: dict[int, list[str]] = {}
            for price, order_id, shown, hidden in self.naive.queue(side):
                behind = f" (+{hidden} hidden)" if hidden else ""
                levels.setdefault(price, []).append(f"{order_id} has {shown}{behind}")
            highest_first = sorted(levels.items(), reverse=True)
            lines += [f"{SIDE_NAMES[side]} {price}: " + ", ".join(queue) for price, queue in highest_first]
        for order in sorted(self.naive.waiting, key=lambda order: order.order_id):
            side_name, limit = SIDE_NAMES[order.side], order.price or "market"
            lines.append(f"stop {side_name} {order.stop_price}: {order.order_id} has {order.open} @ {limit}")
        return lines


# -- stories that were written for the core ----------------------------------------------------------------------------


def stories() -> dict[str, tuple[ModuleType, Callable[[], None]]]:
    """Return the tests of rules that tell a whole story by themselves, by name, with the modules they are in."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("test_rules*.py")):
        module = importlib.import_module(f"tests.unit.{path.stem}")
        for name, story in vars(module).items():
            # Not those about the core's own shape or speed, nor those that pytest has to give something to.
            tells_all = name.startswith("test_rule_") and not inspect.signature(story).parameters
            if tells_all and "however_long" not in name and "matching" not in story.__code__.co_names:
                found[name] = module, story
    return found


STORIES = stories()


@pytest.mark.parametrize("name", STORIES)
def test_a_story_of_the_rules_comes_out_of_the_naive_book_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, story = STORIES[name]
    monkeypatch.setattr(module, "Market", NaiveMarket)
    story()


@pytest.mark.parametrize("number", range(len(test_rulebook_document.EXAMPLES)))
def test_an_example_of_the_rulebook_comes_out_of_the_naive_book_too(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_rulebook_document, "Market", NaiveMarket)
    test_rulebook_document.test_an_example_prints_what_the_document_says(number)


# -- corner cases, told to both ----------------------------------------------------------------------------------------


@pytest.fixture(params=[Market, NaiveMarket])
def market(request: pytest.FixtureRequest) -> Market:
    made: Market = request.param()
    return made


def test_rule_19_a_midpoint_rounded_up_stays_within_the_candidates_where_the_tick_was_another(market: Market) -> None:
    market.status("call")
    market.sell(5, at=101)
    market.buy(5, at=103)
    assert market.define(tick_size=1) == ["asset defined"]
    assert market.define(tick_size=10) == ["asset defined", "indicative: 5 @ 103, no surplus"]
    assert market.status("open") == [
        "trade 1: 5 @ 103, maker 1 of sue, taker 2 of bob buys",
        "status open (operator)",
    ]


def test_rule_20_an_indicative_quantity_beyond_the_largest_is_given_as_that(market: Market) -> None:
    market.status("call")
    for price in (101, 102):
        market.buy(LARGEST, at=price)
    market.sell(LARGEST, at=99)
    assert market.sell(LARGEST, at=100) == [
        "4 accepted",
        f"4 rests {LARGEST} @ 100",
        f"indicative: {LARGEST} @ 101, no surplus",
    ]


def test_rule_13_fok_counts_a_part_that_comes_behind_an_own_order_only_where_that_one_is_canceled(
    market: Market,
) -> None:
    market.sell(10, at=100, show=5)
    market.sell(5, at=100, by="bob")
    assert market.buy(10, at=100, time_in_force="fok") == [
        "3 accepted",
        "3 canceled (fill_or_kill): 10 of 10 @ 100",
    ]
    assert market.buy(10, at=100, time_in_force="fok", self_trade_prevention="decrement_and_cancel") == [
        "4 accepted",
        "4 canceled (fill_or_kill): 10 of 10 @ 100",
    ]
    assert market.buy(10, at=100, time_in_force="fok", self_trade_prevention="cancel_oldest") == [
        "5 accepted",
        "trade 1: 5 @ 100, maker 1 of sue, taker 5 of bob buys",
        "1 replenished: 5 @ 100",
        "2 canceled (self_trade_prevention): 5 of 5 @ 100",
        "trade 2: 5 @ 100, maker 1 of sue, taker 5 of bob buys",
    ]


def test_rule_10_a_stop_amended_below_its_minimum_can_never_trade_that_much(market: Market) -> None:
    market.sell(20, at=100)
    market.buy(10, stop=100, at_least=8, by="ann")
    assert market.amend(2, quantity=5, by="ann") == ["2 replaced: 5 @ market, stop 100, 5 open, place kept"]
    assert market.buy(1, at=100) == [
        "3 accepted",
        "trade 1: 1 @ 100, maker 1 of sue, taker 3 of bob buys",
        "2 triggered",
        "2 canceled (minimum_quantity): 5 of 5 @ market",
    ]


def test_rule_17_an_own_order_beyond_the_volatility_band_interrupts_before_it_is_prevented(market: Market) -> None:
    market.define(reference_price=100, volatility_band_ppm=10_000)
    market.sell(5, at=102, by="bob")
    assert market.buy(5) == [
        "2 accepted",
        "status call (volatility_interruption) until 120 s",
        "2 canceled (halted): 5 of 5 @ market",
    ]


def test_rule_10_what_lies_beyond_the_volatility_band_counts_not(market: Market) -> None:
    market.define(reference_price=100, volatility_band_ppm=10_000)
    market.sell(5, at=101)
    market.sell(5, at=102)
    assert market.buy(10, at=102, at_least=6) == [
        "3 accepted",
        "3 canceled (minimum_quantity): 10 of 10 @ 102",
    ]
    assert market.buy(10, at=102, at_least=5) == [
        "4 accepted",
        "trade 1: 5 @ 101, maker 1 of sue, taker 4 of bob buys",
        "status call (volatility_interruption) until 120 s",
        "4 rests 5 @ 102",
        "indicative: 5 @ 102, no surplus",
    ]


def test_rule_18_orders_that_crossed_before_a_halt_trade_in_an_auction_before_the_market_opens(market: Market) -> None:
    market.status("call")
    market.buy(5, at=101)
    market.sell(5, at=100)
    market.buy(1, stop=101, by="ann")
    assert market.status("halted") == ["status halted (operator)"]
    assert market.cancel(1, by="eve") == ["cancel of 1 rejected (unknown_order)"]
    assert market.status("open") == [
        "trade 1: 5 @ 101, maker 2 of sue, taker 1 of bob buys",
        "status open (operator)",
        "3 triggered",
        "3 canceled (market_remainder): 1 of 1 @ market",
    ]


def test_rule_6_a_stop_that_a_closing_auction_elected_enters_at_the_next_opening_at_any_price(market: Market) -> None:
    market.buy(1, at=104, stop=105, by="ann")
    market.status("call")
    market.buy(5, at=106)
    market.sell(5, at=106)
    assert market.status("closed") == [
        "trade 1: 5 @ 106, maker 3 of sue, taker 2 of bob buys",
        "status closed (operator)",
    ]
    market.status("call")
    market.buy(5, at=100)
    market.sell(5, at=100)
    assert market.status("open") == [
        "trade 2: 5 @ 100, maker 5 of sue, taker 4 of bob buys",
        "status open (operator)",
        "1 triggered",
        "1 rests 1 @ 104",
    ]
