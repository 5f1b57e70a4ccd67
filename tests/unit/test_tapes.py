"""Order flow that others have matched: tapes with the reports that other engines agree on, and a venue's own fills.

All of it lies in the folder `shared` beside the checkout.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from benchmarks.tape import CANCEL, HEADER, MAGIC, MODIFY, NEW, RECORD, Driver, digest, read_tape, run
from exchange.client.flow import read_flow
from exchange.core.asset import Asset
from exchange.core.events import OrderAccepted, OrderCanceled, OrderReplaced, OrderRested, TradeExecuted
from exchange.core.matching import Matching
from exchange.core.requests import (
    BUY,
    SELL,
    SIDES,
    AmendOrder,
    CancelOrder,
    DefineAsset,
    NewOrder,
    Record,
    Request,
    Side,
)
from tests.support import FLOWS, TAPES

HASHES = {
    "normal_s23": "d5fa1fcda1903969ae0d40910452f33b714e7e8ca0bff938739901f4d2026f1b",
    "static_s23": "b91bcf3715063a88cf7422df43766feee36593a18ea50e7e47fe7733d906732b",
    "swing-40_s23": "741bc71404d1fc4dc0d0d01e9444e4b9ebcaf27c158d0353a328537fe6b6cad0",
    "flash-crash_s23": "a38bf7d565e6ed5e5d252a8f2c590de2376151a79f3fe4c3a78bf133cf6abcc0",
}
CASES = (
    "cancel_middle_then_sweep",
    "multi_level_ioc_sweep",
    "partial_fill_then_cancel",
    "fifo_priority",
    "sweep_residual_becomes_bbo",
    "stale_modify_after_full_fill",
    "two_level_cancel_sell_priority",
    "taker_price_both_directions",
    "post_sweep_book_health",
    "cancel_best_level_minimal_reprobe",
    "limit_order_stops_at_own_price",
    "fifo_same_price_multi_aggressor",
    "cancel_never_issued_id",
    "wide_in_domain_price_ceiling",
    "deep_recursive_sweep_5000",
    "cancel_best_ask_minimal_reprobe",
    "modify_shared_level_sibling_survives",
)
OPERATIONS = {"new": NEW, "cancel": CANCEL, "modify": MODIFY}

# -- tapes -------------------------------------------------------------------------------------------------------------


@pytest.mark.shared
@pytest.mark.parametrize("tape", HASHES)
def test_a_tape_gives_the_reports_that_other_engines_give(tape: str) -> None:
    figures = run(TAPES / f"{tape}.tape.gz")
    assert figures["sha256"] == HASHES[tape]


def test_what_is_no_tape_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "short.tape"
    path.write_bytes(HEADER.pack(MAGIC, RECORD.size, 2) + bytes(RECORD.size))
    with pytest.raises(ValueError, match=r"short\.tape: not a tape of 2 records of 32 bytes"):
        read_tape(path)


# -- cases -------------------------------------------------------------------------------------------------------------


@cache
def cases() -> dict[str, Any]:
    """Return the hand-made cases by name."""
    lines = (TAPES / "cases.jsonl").read_text().splitlines()
    return {case["case"]: case for case in map(json.loads, lines)}


def tape_record(message: dict[str, Any], sequence: int) -> bytes:
    """Return a case's message as a tape has it; what a cancel says of price, quantity and side is made up."""
    return RECORD.pack(
        OPERATIONS[message["op"]],
        message.get("side") == "sell",
        message.get("ioc", False),
        message.get("qty", 77),
        message.get("price", 7),
        message["id"],
        sequence,
    )


def levels(driver: Driver, side: Side) -> list[list[int]]:
    return [[price, quantity] for price, quantity, _ in driver.matching.book.ladders[side].best_first()]


def best_price(driver: Driver, side: Side) -> int | None:
    best = driver.matching.book.best(side)
    return None if best is None else best[0]


@pytest.mark.shared
def test_the_cases_are_the_ones_known_here() -> None:
    assert tuple(cases()) == CASES


@pytest.mark.shared
@pytest.mark.parametrize("name", CASES)
def test_a_case_gives_its_reports_and_after_each_message_its_book(name: str) -> None:
    case = cases()[name]
    probes = {probe["after"]: probe for probe in case["probes"]}
    driver = Driver()
    probed = 0
    for sequence, message in enumerate(case["messages"]):
        driver.run(tape_record(message, sequence))
        probe = probes.get(sequence)
        if probe is not None:
            probed += 1
            driver.matching.check()
            assert [best_price(driver, BUY), best_price(driver, SELL)] == [probe["best_bid"], probe["best_ask"]]
            assert levels(driver, BUY) == probe["bids"]
            assert levels(driver, SELL) == probe["asks"]
    lines = driver.lines()
    assert probed == len(probes) > 0
    assert lines == case["reports"]
    assert digest(lines) == case["sha256"]


# -- recorded flow -----------------------------------------------------------------------------------------------------


class Replay:
    """A recorded flow through the core: one account enters, cancels and reduces, another one takes."""

    def __init__(self) -> None:
        self.matching = Matching()
        self.ids: dict[str, int] = {}  # by the venue's id
        self.totals: dict[int, int] = {}
        self.last_order_id = 0
        self.apply(DefineAsset(Asset(asset="GOOG", price_scale=4, tick_size=100)), "")

    def apply(self, request: Request, account: str) -> list[Any]:
        sequence = self.matching.sequence + 1
        return self.matching.apply(Record("GOOG", sequence, sequence, account, request)).events

    def enter(self, side: str, price: int, quantity: int, immediate: bool) -> tuple[int, list[Any]]:
        """Enter an order; return its id and its events."""
        self.last_order_id = order_id = self.last_order_id + 1
        self.totals[order_id] = quantity
        request = NewOrder(
            order_id, str(order_id), SIDES[side], quantity, price, "limit", "ioc" if immediate else "gtc"
        )
        return order_id, self.apply(request, "taker" if immediate else "maker")


@pytest.mark.shared
@pytest.mark.parametrize(
    ("flow", "takes", "fills"), [("GOOG.csv.gz", 5928, 7758), ("AAPL-first-hour.csv.gz", 3277, 4038)]
)
def test_recorded_flow_gives_each_of_the_venues_fills(flow: str, takes: int, fills: int) -> None:
    replay = Replay()
    taken = executed = 0
    for row in read_flow(FLOWS / flow):
        where = f"{flow}, line {row.number}"
        if row.action == "new":
            order_id, events = replay.enter(row.side, row.price, row.quantity, immediate=False)
            replay.ids[row.order_id] = order_id
            assert events == [OrderAccepted(order_id), OrderRested(order_id, row.price, row.quantity)], where
        elif row.action == "cancel":
            (event,) = replay.apply(CancelOrder(replay.ids[row.order_id]), "maker")
            assert type(event) is OrderCanceled, where
        elif row.action == "reduce":
            order_id = replay.ids[row.order_id]
            replay.totals[order_id] -= row.quantity
            (event,) = replay.apply(AmendOrder(order_id, replay.totals[order_id], None), "maker")
            assert type(event) is OrderCanceled or (type(event) is OrderReplaced and event.priority_kept), where
        else:
            order_id, events = replay.enter(row.side, row.price, row.quantity, immediate=True)
            trades = [event for event in events if type(event) is TradeExecuted]
            assert [(trade.maker_order_id, trade.price, trade.quantity) for trade in trades] == [
                (replay.ids[fill.order_id], fill.price, fill.quantity) for fill in row.fills
            ], where
            assert all(trade.taker_order_id == order_id for trade in trades)
            taken += 1
            executed += len(trades)
    replay.matching.check()
    assert (taken, executed, replay.matching.trade_id) == (takes, fills, fills)
