"""The core's benchmarks run, in tiny sizes, and return what the report reads. None of this looks at speed."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import core, growth
from benchmarks.core import RULEBOOK, SEED, plain_requests
from exchange.core.asset import Asset
from exchange.core.events import (
    Event,
    IndicativeChanged,
    OrderDecremented,
    OrderExpired,
    OrderReplaced,
    OrderReplenished,
    OrderTriggered,
    TradeExecuted,
)
from exchange.core.matching import Matching
from tests.random_requests import random_requests
from tests.support import TAPES


def names(part: dict[str, Any]) -> list[str]:
    return [figure["name"] for figure in part["figures"]]


@pytest.mark.shared
def test_the_slowest_tape_is_what_is_asked_for() -> None:
    part = core.measure(quick=True)
    slowest, *others = part["figures"]
    tapes = [figure for figure in others if figure["name"].startswith("tape ")]
    assert [figure["name"] for figure in tapes] == [
        f"tape {path.name.removesuffix('.tape.gz')}" for path in sorted(TAPES.glob("*.tape.gz"))
    ]
    assert slowest["result"] == min(figure["result"] for figure in tapes)
    assert slowest["at_least"] == 0.20
    assert all(0 < figure["result"] < 1 for figure in part["figures"])


def test_without_tapes_there_are_the_streams(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(core, "TAPES", tmp_path)
    part = core.measure(quick=True)
    assert names(part) == [
        "requests of plain orders, decoded and applied",
        "requests of the whole rulebook, decoded and applied",
    ]
    assert part["details"]["tapes"] == f"none in {tmp_path}: the streams only"


def test_the_stream_of_the_whole_rulebook_has_all_of_it_and_is_open_most_of_the_time() -> None:
    matching = Matching()
    events: list[Event] = []
    count = opened = 0
    for record in random_requests(SEED, RULEBOOK, 5_000):
        events.extend(matching.apply(record).events)
        count += 1
        opened += matching.status == "open"
    wanted = {TradeExecuted, OrderTriggered, OrderReplenished, OrderExpired, OrderReplaced, IndicativeChanged}
    assert wanted | {OrderDecremented} <= {type(event) for event in events}
    assert opened > count / 2


def test_the_stream_of_plain_orders_trades_rests_and_is_the_same_each_time() -> None:
    records = plain_requests(2_000)
    assert records == plain_requests(2_000)
    matching = Matching(Asset(asset="BTC-USD"))
    for record in records:
        matching.apply(record)
    matching.check()
    live = sum(len(account.orders) for account in matching.book.accounts.values())
    assert len(records) / 10 < matching.trade_id
    assert live > 100


def test_growth_compares_each_largest_size_with_its_smallest() -> None:
    part = growth.measure(quick=True)
    cost, memory, levels, accounts = part["figures"]
    assert (cost["name"], cost["limit_name"]) == ("cost of an order in the core, 1,000 resting orders", "with 100")
    assert (cost["at_most"], memory["at_most"]) == (2.5, 600)
    assert memory["value"] > 0
    assert levels["name"].endswith("price levels")
    assert accounts["name"] == "cost of an order in the core, 400 accounts"
    assert [len(table["rows"]) for table in part["tables"]] == [2, 2, 2]


def test_a_book_keeps_its_size_while_it_is_measured() -> None:
    market = growth.Market(growth.Size(2_000, 100, 20))
    market.fill()
    for _ in range(5):
        market.round(1_000)
    market.matching.check()
    live = sum(len(account.orders) for account in market.matching.book.accounts.values())
    assert 1_500 < live < 2_500
