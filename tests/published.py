"""A matching core with its feed, and the books that subscribers build from its messages."""

from typing import Any

from msgspec import UNSET, Struct

from exchange.core import messages
from exchange.core.asset import Asset, Status
from exchange.core.execution_reports import Topic
from exchange.core.feed_notes import MAKERS, NumberedMessage, public_on, reports_of
from exchange.core.market_data import Feed
from exchange.core.matching import Matching
from exchange.core.messages import ExecutionReport
from exchange.core.requests import (
    SIDES,
    ChangeStatus,
    DefineAsset,
    Instructions,
    NewOrder,
    OrderType,
    Record,
    Request,
    TimeInForce,
)


def public_of(feed: Feed) -> list[tuple[Topic, NumberedMessage]]:
    """Return the public messages of what a feed has noted, each after its topic, in the order of sending."""
    asset = feed.asset
    return [
        (feed.topics[name], message)
        for note in feed.notes
        for name in MAKERS
        for message in public_on(name, asset, (note,))
    ]


def private_of(feed: Feed) -> list[tuple[Topic, ExecutionReport]]:
    """Return the reports of what a feed has noted, each after its topic, in the order of sending."""
    reports = [report for note in feed.notes for report in reports_of(feed.asset, note)]
    return [(feed.reports.topics[report.account], report) for report in reports]


def take(feed: Feed) -> None:
    """Empty what a feed has noted."""
    feed.notes.clear()
    feed.reports.first.clear()
    feed.ended.clear()


class Published:
    """A core with its feed, its asset defined unless the records to come do: requests in, messages out."""

    def __init__(self, define: bool = True, **definition: Any) -> None:
        self.matching = Matching()
        self.feed = Feed("ACME")
        if define:
            self.request(DefineAsset(Asset(asset="ACME", **definition)), "")

    def apply(self, record: Record) -> None:
        """Apply a record; its messages are in `public` and `reports` until the next one."""
        take(self.feed)
        self.feed.apply(self.matching.apply(record))
        self.public = public_of(self.feed)
        self.reports = [report for _, report in private_of(self.feed)]

    def request(self, request: Request, account: str) -> list[dict[str, Any]]:
        """Apply a request and return its public messages as maps, without asset and time."""
        sequence = self.matching.sequence + 1
        self.apply(Record("ACME", sequence, sequence, account, request))
        return [plain(message) for _, message in self.public]

    def new(
        self,
        order_id: int,
        side: str,
        quantity: int,
        price: int,
        account: str,
        time_in_force: TimeInForce = "gtc",
        order_type: OrderType = "limit",
        **instructions: Any,
    ) -> list[dict[str, Any]]:
        says = Instructions(**instructions) if instructions else None
        order = NewOrder(order_id, f"c{order_id}", SIDES[side], quantity, price, order_type, time_in_force, says)
        return self.request(order, account)

    def status(self, status: Status, reason: str = "schedule", ends_day: bool = False) -> list[dict[str, Any]]:
        return self.request(ChangeStatus(status, reason, ends_day=ends_day), "")

    def told(self, *names: str) -> list[tuple[Any, ...]]:
        """Return the last request's reports: account, exec_type, order_status, and the fields named."""
        return [
            (report.account, report.exec_type, report.order_status, *(getattr(report, name) for name in names))
            for report in self.reports
        ]


def plain(message: Struct) -> dict[str, Any]:
    """Return a message as it is on the wire, but for asset and time."""
    fields = {name: getattr(message, name) for name in message.__struct_fields__ if name not in ("asset", "time")}
    tag = message.__struct_config__.tag
    return {"type": tag} | {name: value for name, value in fields.items() if value is not UNSET}


def of_type(sent: list[dict[str, Any]], *types: str) -> list[dict[str, Any]]:
    return [message for message in sent if message["type"] in types]


# -- subscribers of the book -------------------------------------------------------------------------------------------


class LevelBook:
    """A book as a subscriber of `book/` and `bbo/` holds it: levels, as (quantity, orders) by price."""

    def __init__(self) -> None:
        self.sides: dict[str, dict[int, tuple[int, int]]] = {"buy": {}, "sell": {}}
        self.bbo: tuple[Any, Any] = (None, None)

    def take(self, message: Struct) -> None:
        if type(message) is messages.Bbo:
            self.bbo = (message.bid, message.ask)
        elif type(message) is messages.BookUpdate:
            for side, price, quantity, orders in message.changes:
                if quantity:
                    assert self.sides[side].get(price) != (quantity, orders), "a change changes something"
                    self.sides[side][price] = (quantity, orders)
                else:
                    del self.sides[side][price]


class OrderBook:
    """A book as a subscriber of `order/` holds it: each side's orders, (order id, price, quantity), in time order."""

    def __init__(self) -> None:
        self.sides: dict[str, dict[int, tuple[int, int]]] = {"buy": {}, "sell": {}}

    def take(self, message: Struct) -> None:
        match message:
            case messages.OrderAdded():
                assert self.side_of(message.order_id) is None, "an order is added once"
                self.sides[message.side][message.order_id] = (message.price, message.quantity)
            case messages.OrderExecuted() | messages.OrderReduced():
                orders = self.sides[self.side(message.order_id)]
                price, quantity = orders[message.order_id]
                if type(message) is messages.OrderExecuted:
                    assert SIDES[self.side(message.order_id)] * (price - message.price) >= 0, "within its limit"
                rest = quantity - message.quantity
                assert rest > 0 or (rest == 0 and type(message) is messages.OrderExecuted)
                orders[message.order_id] = (price, rest)
                if not rest:
                    del orders[message.order_id]
            case messages.OrderDeleted():
                del self.sides[self.side(message.order_id)][message.order_id]
            case messages.OrderReplaced():
                orders = self.sides[self.side(message.order_id)]
                del orders[message.order_id]
                orders[message.order_id] = (message.price, message.quantity)

    def side_of(self, order_id: int) -> str | None:
        return next((side for side, orders in self.sides.items() if order_id in orders), None)

    def side(self, order_id: int) -> str:
        side = self.side_of(order_id)
        assert side is not None, f"order {order_id} is in the book"
        return side

    def queue(self, side: str) -> list[tuple[int, int, int]]:
        """Return a side's (price, order id, quantity) in priority order."""
        orders = [(price, order_id, quantity) for order_id, (price, quantity) in self.sides[side].items()]
        return sorted(orders, key=lambda order: -SIDES[side] * order[0])


def queue(matching: Matching, side: str) -> list[tuple[int, int, int]]:
    """Return a side of the core's book as (price, order id, quantity) in priority order."""
    return [
        (price, order.order_id, order.leaves)
        for price, _, orders in matching.book.ladders[SIDES[side]].best_first()
        for order in orders
    ]


def levels(matching: Matching, side: str) -> dict[int, tuple[int, int]]:
    ladder = matching.book.ladders[SIDES[side]]
    return {price: (quantity, len(orders)) for price, quantity, orders in ladder.best_first()}
