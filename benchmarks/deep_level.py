"""Show that taking orders from one price level costs the same per order, however many rest there.

    python -m benchmarks.deep_level [--orders N ...]

rests so many orders (1,000, 10,000 and 100,000 unless told otherwise) at one price, takes them one by one, and prints
a JSON line for each depth: `orders`, `microseconds_per_order` of the whole, `slices`, the same for each tenth in turn,
and `last_to_first`, the last slice's cost as a ratio of the first's. Flat means: about 1 from the first slice to the
last, and about the same from depth to depth. A queue that scans what has left it would show costs that grow with both.
(The first tenth costs about twice as much: with the first order that is taken the queue becomes one that can be eaten
from its front.)

The seconds are CPU time; each figure is the best of several runs, since whatever disturbs a run only adds to it.
"""

import argparse
import gc
import json
import sys
import time
from collections.abc import Sequence

from exchange.core.asset import Asset
from exchange.core.matching import Matching
from exchange.core.requests import BUY, SELL, DefineAsset, NewOrder, Record, Side

DEPTHS = (1_000, 10_000, 100_000)
SLICES = 10
RUNS = 3
PRICE = 10_000
QUANTITY = 10


def order(order_id: int, side: Side, account: str) -> Record:
    request = NewOrder(order_id, str(order_id), side, QUANTITY, PRICE)
    return Record("DEEP", order_id + 1, order_id, account, request)


def run(orders: int) -> list[float]:
    """Rest that many orders at one price and take each with one order; return the seconds of each slice."""
    matching = Matching()
    matching.apply(Record("DEEP", 1, 0, "", DefineAsset(Asset(asset="DEEP"))))
    for order_id in range(1, orders + 1):
        matching.apply(order(order_id, SELL, "maker"))
    takers = [order(orders + number, BUY, "taker") for number in range(1, orders + 1)]
    apply = matching.apply
    seconds: list[float] = []
    gc.collect()
    gc.disable()
    for number in range(SLICES):
        part = takers[number * orders // SLICES : (number + 1) * orders // SLICES]
        start = time.process_time()
        for taker in part:
            apply(taker)
        seconds.append(time.process_time() - start)
    gc.enable()
    assert matching.trade_id == orders, "each order took one"
    assert matching.book.best(SELL) is None, "and none is left"
    return seconds


def figures(orders: int, runs: int = RUNS) -> dict[str, object]:
    """Measure one depth and return the figures of its line."""
    best = [min(seconds) for seconds in zip(*(run(orders) for _ in range(runs)), strict=True)]
    in_slice = orders / SLICES
    return {
        "orders": orders,
        "microseconds_per_order": round(sum(best) / orders * 1e6, 3),
        "slices": [round(seconds / in_slice * 1e6, 3) for seconds in best],
        "last_to_first": round(best[-1] / best[0], 2),
    }


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deep_level", description="One deep price level.")
    parser.add_argument("--orders", type=int, nargs="+", default=DEPTHS, help=f"depths, {SLICES} or more each")
    options = parser.parse_args(arguments)
    if min(options.orders) < SLICES:
        parser.error(f"--orders {min(options.orders)}: must be {SLICES} or more, for {SLICES} slices")
    for orders in options.orders:
        print(json.dumps(figures(orders)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
