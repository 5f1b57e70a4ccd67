"""Show that a request that moves many orders costs the same per order, however many they are.

    python -m benchmarks.large_requests [--orders N ...]

For each number of orders (1,000, 10,000 and 100,000 unless told otherwise) prints a JSON line for each case:

- `stops_at_once`: one trade elects that many stops, each of which enters and trades;
- `stops_in_chain`: one trade elects a stop, whose trade elects the next, and so on: as many rounds as stops;
- `sweep`: one market order trades with that many resting orders, at ten orders a price;
- `iceberg`: one market order trades with that many parts of one iceberg;
- `mass_cancel`: one request cancels that many orders, each at its own price, the worst ones first;
- `call`: that many orders enter during a call, each with the indicative price worked out anew;
- `auction`: the auction that ends it; half of them buy and half sell, at 200 prices that cross.

A line has `orders`, `microseconds_per_order`, and `to_first`, that cost as a ratio of the first number's: flat means
about 1. The seconds are CPU time, the best of several runs, since whatever disturbs a run only adds to it.
"""

import argparse
import gc
import json
import random
import sys
import time
from collections.abc import Callable, Sequence

from exchange.core.asset import Asset
from exchange.core.events import OrderTriggered, TradeExecuted
from exchange.core.matching import Matching
from exchange.core.requests import (
    BUY,
    SELL,
    ChangeStatus,
    DefineAsset,
    Instructions,
    MassCancel,
    NewOrder,
    Record,
    Request,
    Side,
)

SIZES = (1_000, 10_000, 100_000)
RUNS = 3
BASE = 1_000_000
SEED = 1


class Asked:
    """A matching core and the requests that are to be made of it."""

    def __init__(self) -> None:
        self.matching = Matching()
        self.order_id = 0
        self.apply(DefineAsset(Asset(asset="LARGE")), "")

    def apply(self, request: Request, account: str) -> list[object]:
        sequence = self.matching.sequence + 1
        return list(self.matching.apply(Record("LARGE", sequence, sequence, account, request)).events)

    def order(self, account: str, side: Side, quantity: int, price: int, stop: int = 0, show: int = 0) -> list[object]:
        self.order_id += 1
        kind = "limit" if price else "stop" if stop else "market"
        said = Instructions(stop_price=stop, display_quantity=show) if stop or show else None
        request = NewOrder(self.order_id, str(self.order_id), side, quantity, price, kind, "gtc", said)  # type: ignore[arg-type]
        return self.apply(request, account)


Case = Callable[[int], tuple[Asked, Callable[[], list[object]]]]


def stops_at_once(count: int) -> tuple[Asked, Callable[[], list[object]]]:
    asked = Asked()
    for number in range(count):
        asked.order("stopper", BUY, 1, 0, stop=BASE - number % 1000)
    for _ in range(count + 1):
        asked.order("maker", SELL, 1, BASE)
    return asked, lambda: asked.order("taker", BUY, 1, 0)


def stops_in_chain(count: int) -> tuple[Asked, Callable[[], list[object]]]:
    asked = Asked()
    for number in range(count + 1):
        asked.order("maker", SELL, 1, BASE + number)
    for number in range(count):
        asked.order("stopper", BUY, 1, 0, stop=BASE + number)
    return asked, lambda: asked.order("taker", BUY, 1, 0)


def sweep(count: int) -> tuple[Asked, Callable[[], list[object]]]:
    asked = Asked()
    for number in range(count):
        asked.order("maker", SELL, 1, BASE + number // 10)
    return asked, lambda: asked.order("taker", BUY, count, 0)


def iceberg(count: int) -> tuple[Asked, Callable[[], list[object]]]:
    asked = Asked()
    asked.order("maker", SELL, count, BASE, show=1)
    asked.order("other", SELL, 1, BASE + 1)
    return asked, lambda: asked.order("taker", BUY, count, 0)


def entries(count: int) -> list[tuple[str, Side, int, int]]:
    source = random.Random(SEED)
    sides: tuple[Side, Side] = (BUY, SELL)
    return [
        (f"account {number % 100}", sides[number % 2], source.randint(1, 20), BASE + source.randint(-100, 100))
        for number in range(count)
    ]


def call(count: int) -> tuple[Asked, Callable[[], list[object]]]:
    asked = Asked()
    asked.apply(ChangeStatus("call", "schedule"), "")

    def enter() -> list[object]:
        for entry in entries(count):
            asked.order(*entry)
        return []

    return asked, enter


def mass_cancel(count: int) -> tuple[Asked, Callable[[], list[object]]]:
    asked = Asked()
    for number in range(count):
        asked.order("maker", BUY, 1, 1 + number)
    return asked, lambda: asked.apply(MassCancel(0), "maker")


def auction(count: int) -> tuple[Asked, Callable[[], list[object]]]:
    asked, enter = call(count)
    enter()
    return asked, lambda: asked.apply(ChangeStatus("open", "schedule"), "")


CASES: dict[str, Case] = {
    "stops_at_once": stops_at_once,
    "stops_in_chain": stops_in_chain,
    "sweep": sweep,
    "iceberg": iceberg,
    "mass_cancel": mass_cancel,
    "call": call,
    "auction": auction,
}


def seconds(case: Case, count: int) -> float:
    """Prepare a case and return the CPU time of what is to be measured."""
    asked, measured = case(count)
    gc.collect()
    gc.disable()
    start = time.process_time()
    events = measured()
    spent = time.process_time() - start
    gc.enable()
    if case in (stops_at_once, stops_in_chain):
        assert sum(type(event) is OrderTriggered for event in events) == count
    if case not in (call, auction, mass_cancel):
        assert sum(type(event) is TradeExecuted for event in events) >= count
    asked.matching.check()
    return spent


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large_requests", description="Requests that move many.")
    parser.add_argument("--orders", type=int, nargs="+", default=SIZES)
    parser.add_argument("--case", choices=CASES, nargs="+", default=list(CASES))
    options = parser.parse_args(arguments)
    for name in options.case:
        first = 0.0
        for count in options.orders:
            cost = min(seconds(CASES[name], count) for _ in range(RUNS)) / count * 1e6
            first = first or cost
            line = {"case": name, "orders": count, "microseconds_per_order": round(cost, 3)}
            print(json.dumps(line | {"to_first": round(cost / first, 2)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
