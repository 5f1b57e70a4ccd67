"""A second book, written from the rulebook alone: one list, searched from the front each time. Slow and plain.

It shares with the real core the requests and the events, and nothing that decides. Where the two agree event for event
on random requests, either both are right or both err alike.

    python -m tests.naive --requests 1000000 --seed 7 [--profile deep]

runs both over as many requests and prints a JSON line: the seed, the counts, and the SHA-256 of the encoded events. It
stops at the first request on which they differ.
"""

import argparse
import copy
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import Struct

from exchange.core.events import (
    AmendRejected,
    AssetDefined,
    CancelReason,
    CancelRejected,
    Event,
    EventRecord,
    OrderAccepted,
    OrderCanceled,
    OrderRejected,
    OrderReplaced,
    OrderRested,
    TradeExecuted,
)
from exchange.core.matching import Matching
from exchange.core.requests import (
    BUY,
    SELL,
    SIDES,
    AmendOrder,
    CancelOrder,
    DefineAsset,
    MassCancel,
    NewOrder,
    Record,
    Side,
)
from exchange.pipeline.codec import encode
from tests.random_requests import PROFILES, random_requests

LARGEST_LEVEL = 2**63 - 1
CHECK_EVERY = 1000  # requests of a long run, between two looks at the real book's invariants


@dataclass(eq=False)
class NaiveOrder:
    order_id: int
    account: str
    side: Side
    price: int  # 0: a market order's
    quantity: int
    open: int

    def crosses(self, resting: "NaiveOrder") -> bool:
        if resting.side == self.side:
            return False
        if self.price == 0:
            return True
        return self.price >= resting.price if self.side == 1 else self.price <= resting.price


class NaiveMatching:
    """An asset's resting orders, in one list in the order of time priority."""

    def __init__(self) -> None:
        self.resting: list[NaiveOrder] = []
        self.self_trades = False
        self.trades = 0
        self.events: list[Event] = []

    def apply(self, record: Record) -> list[Event]:
        """Return the events of a request."""
        self.events = []
        account, request = record.account, record.request
        match request:
            case DefineAsset():
                self.self_trades = request.definition.self_trade == "allow"
                self.events.append(AssetDefined())
            case NewOrder():
                self._new(request, account)
            case AmendOrder():
                self._amend(request, account)
            case CancelOrder():
                order = self._find(request.order_id, account)
                if order is None:
                    self.events.append(CancelRejected(request.order_id, "unknown_order"))
                else:
                    self._end(order, "user_request")
            case MassCancel():
                mine = [order for order in self.resting if order.account == account]
                for order in sorted(mine, key=lambda order: order.order_id):
                    if request.side == 0 or order.side == request.side:
                        self._end(order, "mass_cancel")
        return self.events

    def queue(self, side: Side) -> list[tuple[int, int, int]]:
        """Return a side's (price, order_id, open quantity) in the order in which they would trade."""
        orders = [order for order in self.resting if order.side == side]
        orders.sort(key=lambda order: -side * order.price)  # stable: at one price, in the order of the list
        return [(order.price, order.order_id, order.open) for order in orders]

    def _new(self, request: NewOrder, account: str) -> None:
        order = NaiveOrder(request.order_id, account, request.side, request.price, request.quantity, request.quantity)
        may_rest = request.order_type == "limit" and request.time_in_force == "gtc"
        if may_rest and self._level_total(order.side, order.price) + order.open > LARGEST_LEVEL:
            self.events.append(OrderRejected(order.order_id, "invalid_quantity"))
            return
        self.events.append(OrderAccepted(order.order_id))
        if request.time_in_force == "fok" and not self._would_fill(order):
            self._end(order, "fill_or_kill")
        elif self._trade(order):
            if may_rest:
                self._rest(order)
            else:
                self._end(order, "market_remainder" if request.order_type == "market" else "immediate_or_cancel")

    def _amend(self, request: AmendOrder, account: str) -> None:
        order = self._find(request.order_id, account)
        if order is None:
            self.events.append(AmendRejected(request.order_id, "unknown_order"))
            return
        quantity = request.quantity if request.quantity is not None else order.quantity
        price = request.price if request.price is not None else order.price
        filled = order.quantity - order.open
        if quantity <= filled:
            self._end(order, "user_request")
            return
        keeps_place = price == order.price and quantity <= order.quantity
        others = self._level_total(order.side, price) - (order.open if price == order.price else 0)
        if not keeps_place and others + quantity - filled > LARGEST_LEVEL:
            self.events.append(AmendRejected(request.order_id, "invalid_quantity"))
            return
        order.price, order.quantity, order.open = price, quantity, quantity - filled
        self.events.append(OrderReplaced(order.order_id, price, quantity, order.open, keeps_place))
        if not keeps_place:
            self.resting.remove(order)
            if self._trade(order):
                self._rest(order)

    def _trade(self, order: NaiveOrder) -> bool:
        """Trade an incoming order until nothing more crosses; return whether it is still live."""
        while order.open:
            crossing = [resting for resting in self.resting if order.crosses(resting)]
            if not crossing:
                return True
            # min gives the first of equals, and the list is in the order of time.
            maker = min(crossing, key=lambda resting: order.side * resting.price)
            if maker.account == order.account and not self.self_trades:
                self._end(order, "self_trade_prevention")
                return False
            quantity = min(order.open, maker.open)
            self.trades += 1
            self.events.append(
                TradeExecuted(
                    self.trades,
                    maker.price,
                    quantity,
                    order.side,
                    maker.order_id,
                    order.order_id,
                    maker.account,
                    order.account,
                )
            )
            order.open -= quantity
            maker.open -= quantity
            if maker.open == 0:
                self.resting.remove(maker)
        return False

    def _would_fill(self, order: NaiveOrder) -> bool:
        """Try it on a copy of everything."""
        trial, incoming = copy.deepcopy((self, order))
        trial._trade(incoming)
        return incoming.open == 0

    def _rest(self, order: NaiveOrder) -> None:
        self.resting.append(order)
        self.events.append(OrderRested(order.order_id, order.price, order.open))

    def _end(self, order: NaiveOrder, reason: CancelReason) -> None:
        if order in self.resting:
            self.resting.remove(order)
        self.events.append(OrderCanceled(order.order_id, reason, order.price, order.quantity, order.open))

    def _find(self, order_id: int, account: str) -> NaiveOrder | None:
        for order in self.resting:
            if order.order_id == order_id and order.account == account:
                return order
        return None

    def _level_total(self, side: Side, price: int) -> int:
        return sum(order.open for order in self.resting if (order.side, order.price) == (side, price))


class Sum(Struct):
    """An order's sum: what it has to come to, and what has become of it."""

    side: Side
    quantity: int
    filled: int = 0
    canceled: int = 0

    @property
    def open(self) -> int:
        return self.quantity - self.filled - self.canceled


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
                    order.quantity = event.quantity
                    assert order.open == event.leaves
                case TradeExecuted():
                    for order_id in (event.maker_order_id, event.taker_order_id):
                        order = self.orders[order_id]
                        order.filled += event.quantity
                        self.traded[order.side] += event.quantity
                        self._settle(order_id)
                case OrderRested():
                    assert self.orders[event.order_id].open == event.quantity
                case OrderCanceled():
                    self.orders[event.order_id].canceled += event.canceled
                    assert not self.orders[event.order_id].open
                    self._settle(event.order_id)

    def open(self) -> dict[int, int]:
        """Return what must be open, by order."""
        return {order_id: order.open for order_id, order in self.orders.items()}

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
        result = self.matching.apply(record)
        expected = self.naive.apply(record)
        if result.events != expected:
            raise Difference(f"{record}\nthe core:       {result.events}\nthe naive book: {expected}")
        self.ledger.add(result)
        return result

    def check(self) -> None:
        """Assert that both hold the same orders in the same order, that the book is sound, and rule 22. O(orders)."""
        self.matching.check()
        for side in SIDES.values():
            queue = [
                (price, order.order_id, order.leaves)
                for price, _, orders in self.matching.book.ladders[side].best_first()
                for order in orders
            ]
            assert queue == self.naive.queue(side), "both books have the same queue"
        assert self.ledger.open() == {order.order_id: order.open for order in self.naive.resting}
        assert self.ledger.traded[BUY] == self.ledger.traded[SELL], "bought is sold"

    def deepest_level(self) -> int:
        """Return the number of orders of the level that has most."""
        ladders = self.matching.book.ladders[1:]
        return max((len(orders) for ladder in ladders for _, _, orders in ladder.best_first()), default=0)


def run(seed: int, profile: str, count: int, check_every: int = 1) -> dict[str, object]:
    """Run both over random requests and return the figures of the JSON line. Raises Difference."""
    pair = Pair()
    digest = hashlib.sha256()
    deepest = 0
    for record in random_requests(seed, PROFILES[profile], count):
        digest.update(encode(pair.apply(record)))
        if record.sequence % check_every == 0:
            pair.check()
            deepest = max(deepest, pair.deepest_level())
    pair.check()
    return {
        "seed": seed,
        "profile": profile,
        "requests": count,
        "events": pair.matching.event_sequence,
        "trades": pair.matching.trade_id,
        "deepest_level": deepest,
        "sha256": digest.hexdigest(),
    }


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.naive", description="The real book against a naive one.")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--profile", choices=PROFILES, default="lively")
    options = parser.parse_args(arguments)
    try:
        print(json.dumps(run(options.seed, options.profile, options.requests, CHECK_EVERY)))
    except Difference as difference:
        print(f"seed {options.seed}, profile {options.profile}: {difference}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
