"""The real core and the naive book, side by side on the same requests; and what became of each order, added up.

    python -m tests.naive --requests 1000000 --seed 7 [--profile deep]
    python -m tests.naive --requests 100000 --seeds 1-50

runs both over as many requests and prints a JSON line a seed: the seed, the counts, and the SHA-256 of the encoded
events. It stops at the first request on which they differ.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Sequence

from msgspec import Struct

from exchange.core.events import (
    EventRecord,
    OrderAccepted,
    OrderCanceled,
    OrderDecremented,
    OrderExpired,
    OrderReplaced,
    OrderRested,
    TradeExecuted,
)
from exchange.core.matching import Matching
from exchange.core.requests import BUY, SELL, SIDES, NewOrder, Record, Side
from exchange.pipeline.codec import encode
from tests.naive import NaiveMatching
from tests.random_requests import PROFILES, random_requests

CHECK_EVERY = 1000  # requests of a long run, between two looks at the real book's invariants


class Sum(Struct):
    """An order's sum: what it has to come to, and what has become of it."""

    side: Side
    quantity: int  # as asked for, by the order or its last amend, and what was decremented before that
    filled: int = 0
    canceled: int = 0
    expired: int = 0
    decremented: int = 0

    @property
    def open(self) -> int:
        return self.quantity - self.filled - self.canceled - self.expired - self.decremented


class Ledger:
    """What became of each order, added up from the events alone (rule 22). An order that is done is dropped."""

    def __init__(self) -> None:
        self.orders: dict[int, Sum] = {}
        self.traded = {BUY: 0, SELL: 0}

    def add(self, record: EventRecord) -> None:
        """Add a request's events up. Asserts that no order ends with more or less than it had."""
        for event in record.events:
            match event:
                case OrderAccepted():
                    assert isinstance(record.request, NewOrder)
                    self.orders[event.order_id] = Sum(record.request.side, record.request.quantity)
                case OrderReplaced():
                    order = self.orders[event.order_id]
                    order.quantity = event.quantity + order.decremented
                    assert order.open == event.leaves
                case TradeExecuted():
                    for order_id in (event.maker_order_id, event.taker_order_id):
                        order = self.orders[order_id]
                        order.filled += event.quantity
                        self.traded[order.side] += event.quantity
                        self._settle(order_id)
                case OrderRested():
                    assert self.orders[event.order_id].open == event.quantity
                case OrderDecremented():
                    order = self.orders[event.order_id]
                    order.decremented = order.quantity - event.quantity
                    assert order.open == event.leaves > 0
                case OrderCanceled():
                    self.orders[event.order_id].canceled += event.canceled
                    self._end(event.order_id, event.quantity)
                case OrderExpired():
                    self.orders[event.order_id].expired += event.expired
                    self._end(event.order_id, event.quantity)

    def open(self) -> dict[int, int]:
        """Return what must be open, by order."""
        return {order_id: order.open for order_id, order in self.orders.items()}

    def _end(self, order_id: int, quantity: int) -> None:
        order = self.orders[order_id]
        assert not order.open
        assert order.quantity - order.decremented == quantity
        self._settle(order_id)

    def _settle(self, order_id: int) -> None:
        assert self.orders[order_id].open >= 0
        if not self.orders[order_id].open:
            del self.orders[order_id]


class Difference(AssertionError):
    """The two books disagree; the text says on which request and how."""


class Pair:
    """The real core and the naive book, side by side."""

    def __init__(self) -> None:
        self.matching = Matching()
        self.naive = NaiveMatching()
        self.ledger = Ledger()

    def apply(self, record: Record) -> EventRecord:
        """Apply a request to both. Raises Difference unless their events are the same."""
        expected = self.naive.apply(record)
        result = self.matching.apply(record)
        if result.events != expected:
            raise Difference(f"{record}\nthe core:       {result.events}\nthe naive book: {expected}")
        self.ledger.add(result)
        return result

    def check(self) -> None:
        """Assert that both hold the same orders in the same order, that the book is sound, and rule 22. O(orders)."""
        self.matching.check()
        assert self.matching.status == self.naive.status
        for side in SIDES.values():
            queue = [
                (price, order.order_id, order.leaves, order.terms.hidden if order.terms else 0)
                for price, _, orders in self.matching.book.ladders[side].best_first()
                for order in orders
            ]
            assert queue == self.naive.queue(side), "both books have the same queue"
        for side in SIDES.values():
            levels = [(price, shown) for price, shown, _ in self.matching.book.ladders[side].best_first()]
            expected: dict[int, int] = {}
            for price, _, shown, _ in self.naive.queue(side):
                expected[price] = expected.get(price, 0) + shown
            assert levels == list(expected.items()), "each level shows what its orders show"
        assert self.waiting() == {
            order.order_id: (order.side, order.stop_price, order.price, order.open) for order in self.naive.waiting
        }, "the same stops wait"
        if self.naive.status == "open":
            best = {side: [order[0] for order in self.naive.queue(side)[:1]] for side in SIDES.values()}
            assert not best[BUY] or not best[SELL] or best[BUY] < best[SELL], "neither crossed nor locked"
        assert self.ledger.open() == self.naive.open_quantities()
        assert self.ledger.traded[BUY] == self.ledger.traded[SELL], "bought is sold"

    def waiting(self) -> dict[int, tuple[Side, int, int, int]]:
        """Return the side, stop price, price and open quantity of each stop that waits in the core."""
        return {
            order.order_id: (order.side, order.terms.stop_price, order.price, order.leaves + order.terms.hidden)
            for account in self.matching.book.accounts.values()
            for order in account.orders.values()
            if order.terms and order.terms.waiting
        }

    def deepest_level(self) -> int:
        """Return the number of orders of the level that has most."""
        ladders = self.matching.book.ladders[1:]
        return max((len(orders) for ladder in ladders for _, _, orders in ladder.best_first()), default=0)


def run(seed: int, profile: str, count: int, check_every: int = 1) -> dict[str, object]:
    """Run both over random requests and return the figures of the JSON line. Raises Difference."""
    pair = Pair()
    digest = hashlib.sha256()
    deepest = most_live = 0
    for record in random_requests(seed, PROFILES[profile], count):
        digest.update(encode(pair.apply(record)))
        if record.sequence % check_every == 0:
            try:
                pair.check()
            except AssertionError as error:
                raise Difference(f"after {record}: {error}") from error
            deepest = max(deepest, pair.deepest_level())
            most_live = max(most_live, len(pair.ledger.orders))
    pair.check()
    return {
        "seed": seed,
        "profile": profile,
        "requests": count,
        "events": pair.matching.event_sequence,
        "trades": pair.matching.trade_id,
        "deepest_level": deepest,
        "most_live": most_live,
        "sha256": digest.hexdigest(),
    }


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.naive", description="The real book against a naive one.")
    parser.add_argument("--requests", type=int, default=100_000, help="of each seed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", metavar="FIRST-LAST", help="one after the other, in place of --seed")
    parser.add_argument("--profile", choices=PROFILES, default="everything")
    parser.add_argument("--check-every", type=int, default=CHECK_EVERY, help="requests between two looks at both books")
    options = parser.parse_args(arguments)
    first, last = options.seed, options.seed
    if options.seeds:
        first, last = map(int, options.seeds.split("-"))
    for seed in range(first, last + 1):
        started = time.monotonic()
        try:
            figures = run(seed, options.profile, options.requests, options.check_every)
        except Difference as difference:
            print(f"seed {seed}, profile {options.profile}: {difference}", file=sys.stderr)
            return 1
        speed = round(options.requests / (time.monotonic() - started))
        print(json.dumps(figures | {"requests_per_second": speed}), flush=True)
    return 0
