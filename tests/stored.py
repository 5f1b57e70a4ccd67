"""Records to store: what the real core makes of a few requests, or of many at random, over several assets."""

import random
from typing import Any, Literal

from exchange.core.asset import Asset
from exchange.core.events import (
    EventRecord,
    OrderAccepted,
    OrderCanceled,
    OrderDecremented,
    OrderExpired,
    OrderRejected,
    OrderReplaced,
    OrderTriggered,
    TradeExecuted,
)
from exchange.core.matching import Matching
from exchange.core.requests import (
    BUY,
    SELL,
    AmendOrder,
    CancelOrder,
    DefineAsset,
    Instructions,
    MassCancel,
    NewOrder,
    OrderType,
    Record,
    Request,
    Side,
    TimeInForce,
)
from exchange.store.writer import Applied

START = 1_700_000_000_123_456_789
KINDS: tuple[OrderType, OrderType] = ("market", "limit")


class Market:
    """The real core of some assets, with the records of all that it was asked so far."""

    def __init__(self, *assets: Asset, start: int = START) -> None:
        self.start = start  # of the first request; those after it are a millisecond and a nanosecond apart
        self.cores: dict[str, Matching] = {}
        self.records: list[EventRecord] = []
        self.last_order_id = 0
        for asset in assets or (Asset(asset="ACME", price_scale=2),):
            self.define(asset)

    def define(self, asset: Asset) -> EventRecord:
        self.cores.setdefault(asset.asset, Matching())
        return self.apply("", DefineAsset(asset), asset.asset)

    def apply(self, account: str, request: Request, asset: str = "ACME") -> EventRecord:
        core = self.cores[asset]
        time = self.start + 1_000_001 * len(self.records)
        record = core.apply(Record(asset, core.sequence + 1, time, account, request))
        self.records.append(record)
        return record

    def enter(
        self,
        account: str,
        side: Side,
        quantity: int,
        price: int = 0,
        time_in_force: TimeInForce = "gtc",
        asset: str = "ACME",
        **instructions: Any,
    ) -> int:
        """Enter an order and return its id. Without a price it is a market order; with a stop price, a stop."""
        self.last_order_id += 1
        kinds: tuple[OrderType, OrderType] = ("stop", "stop_limit") if "stop_price" in instructions else KINDS
        order_id, kind = self.last_order_id, kinds[bool(price)]
        says = Instructions(**instructions) if instructions else None
        self.apply(account, NewOrder(order_id, f"c{order_id}", side, quantity, price, kind, time_in_force, says), asset)
        return order_id

    def cancel(self, account: str, order_id: int) -> None:
        self.apply(account, CancelOrder(order_id))

    def amend(
        self,
        account: str,
        order_id: int,
        quantity: int | None = None,
        price: int | None = None,
        stop_price: int | None = None,
    ) -> None:
        self.apply(account, AmendOrder(order_id, quantity, price, stop_price=stop_price))

    def missing(self, applied: dict[str, Applied]) -> list[EventRecord]:
        """Return the records behind `applied`, as a restarted logger would fetch them."""
        return [record for record in self.records if record.sequence > applied.get(record.asset, Applied()).sequence]


def random_market(seed: int, requests: int) -> Market:
    """Return three assets after that many random requests of four accounts, of every kind, many of them too late."""
    chance = random.Random(seed)
    names = ("ACME", "BTC-USD", "ES.H27")
    market = Market(*(Asset(asset=name, self_trade=chance.choice(("prevent", "allow"))) for name in names))
    entered: list[tuple[int, str, str]] = []
    for _ in range(requests):
        name, account = chance.choice(names), chance.choice("abcd")
        draw = chance.random()
        if draw < 0.6 or not entered:
            side: Side = chance.choice((BUY, SELL))
            price = chance.randint(95, 105) if chance.random() < 0.9 else 0
            lives: tuple[TimeInForce, ...] = ("gtc", "gtc", "ioc", "fok") if price else ("ioc", "fok")
            order_id = market.enter(account, side, chance.randint(1, 20), price, chance.choice(lives), name)
            entered.append((order_id, account, name))
        elif draw < 0.75:
            order_id, account, name = chance.choice(entered[-60:])
            market.apply(account, CancelOrder(order_id), name)
        elif draw < 0.98:
            order_id, account, name = chance.choice(entered[-60:])
            quantity = chance.choice((None, chance.randint(1, 20)))
            new_price = chance.choice((None, chance.randint(95, 105)))
            market.apply(account, AmendOrder(order_id, quantity, new_price), name)
        else:
            scope: Literal[0, 1, -1] = chance.choice((0, BUY, SELL))
            market.apply(account, MassCancel(scope), name)
    return market


def folded(records: list[EventRecord]) -> dict[tuple[str, int], tuple[str, int, int]]:
    """Return each order's status, cumulative and leaves quantity, from its events."""
    total: dict[tuple[str, int], int] = {}
    traded: dict[tuple[str, int], int] = {}
    waiting: set[tuple[str, int]] = set()
    ended: dict[tuple[str, int], str] = {}
    for record in records:
        request = record.request
        for event in record.events:
            match event:
                case OrderAccepted(order_id) | OrderRejected(order_id):
                    assert isinstance(request, NewOrder)
                    total[record.asset, order_id] = request.quantity
                    traded[record.asset, order_id] = 0
                    if request.order_type in ("stop", "stop_limit"):
                        waiting.add((record.asset, order_id))
                    if isinstance(event, OrderRejected):
                        ended[record.asset, order_id] = "rejected"
                case TradeExecuted():
                    traded[record.asset, event.maker_order_id] += event.quantity
                    traded[record.asset, event.taker_order_id] += event.quantity
                case OrderTriggered(order_id):
                    waiting.remove((record.asset, order_id))
                case OrderReplaced(order_id) | OrderDecremented(order_id):
                    total[record.asset, order_id] = event.quantity
                    assert event.leaves == event.quantity - traded[record.asset, order_id]
                case OrderCanceled(order_id):
                    ended[record.asset, order_id] = "canceled"
                case OrderExpired(order_id):
                    ended[record.asset, order_id] = "expired"
    states = {}
    for key, quantity in total.items():
        leaves = 0 if key in ended else quantity - traded[key]
        live = "pending_trigger" if key in waiting else "partially_filled" if traded[key] else "new"
        states[key] = (ended.get(key, live if leaves else "filled"), traded[key], leaves)
    return states
