"""The matching core: an asset's requests in, events out. A pure function of the requests, byte for byte.

No clock, no randomness, no set order, no `hash()`: time comes with the request, and so does the asset's definition.
Whatever a request says has been checked by the order handler; what only the book can know is checked here.
"""

from collections.abc import Callable
from typing import Any

from exchange.core.asset import MAX_INTEGER, Asset
from exchange.core.book import Book, Level, Order, orders_of
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
from exchange.core.requests import AmendOrder, CancelOrder, DefineAsset, MassCancel, NewOrder, Record, TimeInForce

NO_LIMIT = -(2**64)  # below every key of a ladder: a market order reaches all of them


class OutOfSequence(Exception):
    """A request that is not the next of its asset's queue."""


class Matching:
    """One asset's book and counters.

    `apply` is what daemons call; `enter` and `cancel` are its hot path, for drivers that make their own requests. Both
    append to `events`.
    """

    __slots__ = ("allow_self_trade", "asset", "book", "event_sequence", "events", "handlers", "sequence", "trade_id")

    def __init__(self, asset: Asset | None = None) -> None:
        self.asset = asset
        self.allow_self_trade = asset is not None and asset.self_trade == "allow"
        self.book = Book()
        self.events: list[Event] = []
        self.sequence = 0  # of the last request applied
        self.event_sequence = 0  # of the last event
        self.trade_id = 0  # of the last trade
        self.handlers: dict[type, Callable[[Any, str], None]] = {
            DefineAsset: self._define_asset,
            NewOrder: self._new_order,
            AmendOrder: self._amend_order,
            CancelOrder: self._cancel_order,
            MassCancel: self._mass_cancel,
        }

    def apply(self, record: Record) -> EventRecord:
        """Apply the next request of the asset's queue and return what came of it.

        Raises OutOfSequence, changing nothing, where the record is not the next.
        """
        if record.sequence != self.sequence + 1:
            raise OutOfSequence(f"{record.asset}: request {record.sequence} after {self.sequence}")
        self.sequence = record.sequence
        events: list[Event] = []
        self.events = events
        request = record.request
        self.handlers[type(request)](request, record.account)
        first = self.event_sequence + 1
        self.event_sequence += len(events)
        return EventRecord(record.asset, record.sequence, record.time, record.account, request, first, events)

    # -- requests ------------------------------------------------------------------------------------------------------

    def _define_asset(self, request: DefineAsset, account: str) -> None:
        self.asset = request.definition
        self.allow_self_trade = self.asset.self_trade == "allow"
        self.events.append(AssetDefined())

    def _new_order(self, request: NewOrder, account: str) -> None:
        quantity, side, price = request.quantity, request.side, request.price
        order = Order(request.order_id, self.book.account(account), side, price, quantity, quantity)
        if request.order_type == "market":
            self.events.append(OrderAccepted(order.order_id))
            self.enter(order, request.time_in_force, NO_LIMIT, "market_remainder")
        elif request.time_in_force == "gtc" and self.book.ladders[side].at(price)[0] + quantity > MAX_INTEGER:
            self.events.append(OrderRejected(order.order_id, "invalid_quantity"))
        else:
            self.events.append(OrderAccepted(order.order_id))
            self.enter(order, request.time_in_force, -side * price)

    def _amend_order(self, request: AmendOrder, account: str) -> None:
        order = self.book.find(request.order_id, account)
        if order is None:
            self.events.append(AmendRejected(request.order_id, "unknown_order"))
            return
        price = order.price if request.price is None else request.price
        quantity = order.quantity if request.quantity is None else request.quantity
        leaves = quantity - (order.quantity - order.leaves)
        if leaves <= 0:
            self.cancel(order, "user_request")
        elif price == order.price and quantity <= order.quantity:
            if quantity < order.quantity:
                self.book.ladders[order.side].reduce(order, order.quantity - quantity)
                order.quantity = quantity
            self.events.append(OrderReplaced(order.order_id, price, quantity, leaves, True))
        else:
            beside = self.book.ladders[order.side].at(price)[0] - (order.leaves if price == order.price else 0)
            if beside + leaves > MAX_INTEGER:
                self.events.append(AmendRejected(request.order_id, "invalid_quantity"))
                return
            self.book.remove(order)
            self.events.append(OrderReplaced(order.order_id, price, quantity, leaves, False))
            order.price, order.quantity, order.leaves = price, quantity, leaves
            self.enter(order, "gtc", -order.side * price)

    def _cancel_order(self, request: CancelOrder, account: str) -> None:
        order = self.book.find(request.order_id, account)
        if order is None:
            self.events.append(CancelRejected(request.order_id, "unknown_order"))
        else:
            self.cancel(order, "user_request")

    def _mass_cancel(self, request: MassCancel, account: str) -> None:
        owner = self.book.accounts.get(account)
        if owner is None:
            return
        # By id is by arrival: ids rise, and an amend moves an order in its queue but not in its age.
        for _, order in sorted(owner.orders.items()):
            if request.side in (0, order.side):
                self.cancel(order, "mass_cancel")

    # -- the hot path --------------------------------------------------------------------------------------------------

    def cancel(self, order: Order, reason: CancelReason) -> None:
        """End a resting order."""
        self.book.remove(order)
        self.events.append(OrderCanceled(order.order_id, reason, order.price, order.quantity, order.leaves))

    def enter(
        self,
        order: Order,
        time_in_force: TimeInForce,
        limit: int,
        remainder: CancelReason = "immediate_or_cancel",
    ) -> None:
        """Trade an order against the book, then rest or cancel what is left.

        `limit` is the smallest key of the opposite ladder that the order may reach: `-side * price`, or NO_LIMIT, which
        never rests. `remainder` is the reason with which an order that does not rest is canceled.
        """
        keys = self.book.ladders[-order.side].keys
        if keys and keys[-1] >= limit:
            if time_in_force == "fok" and not self._fills(order, limit):
                self._cancel_incoming(order, "fill_or_kill")
                return
            if self._trade(order, limit):
                return
        elif time_in_force == "fok":
            remainder = "fill_or_kill"
        if time_in_force == "gtc" and limit != NO_LIMIT:
            self.book.add(order)
            self.events.append(OrderRested(order.order_id, order.price, order.leaves))
        else:
            self._cancel_incoming(order, remainder)

    def _trade(self, taker: Order, limit: int) -> bool:
        """Trade against all levels within the limit, best first, each first in, first out.

        Returns whether the order has ended: filled, or canceled because it met one of its own account.
        """
        side, taker_id, account, leaves = taker.side, taker.order_id, taker.account, taker.leaves
        own = None if self.allow_self_trade else account
        append, remove = self.events.append, self.book.remove
        opposite = self.book.ladders[-side]
        keys, levels = opposite.keys, opposite.levels
        while keys and (key := keys[-1]) >= limit:
            level = levels[key]
            maker = level.orders[next(iter(level.orders))] if type(level) is Level else level
            assert isinstance(maker, Order)
            owner = maker.account
            if owner is own:
                taker.leaves = leaves
                self._cancel_incoming(taker, "self_trade_prevention")
                return True
            maker_leaves = maker.leaves
            quantity = leaves if leaves < maker_leaves else maker_leaves
            self.trade_id = trade_id = self.trade_id + 1
            append(
                TradeExecuted(trade_id, -side * key, quantity, side, maker.order_id, taker_id, owner.name, account.name)
            )
            if quantity == maker_leaves:
                remove(maker)
            else:
                opposite.reduce(maker, quantity)
            leaves -= quantity
            if not leaves:
                return True
        taker.leaves = leaves
        return False

    def _fills(self, order: Order, limit: int) -> bool:
        """Return whether an order would fill at once and whole, before it met an order of its own account.

        What lies behind an own order is out of reach: there the incoming order would be canceled.
        """
        wanted = order.leaves
        own = {} if self.allow_self_trade else order.account.orders
        opposite = self.book.ladders[-order.side]
        for key in reversed(opposite.keys):
            if key < limit:
                return False
            level = opposite.levels[key]
            if own:
                for maker in orders_of(level):
                    if maker.order_id in own:
                        return False
                    wanted -= maker.leaves
                    if wanted <= 0:
                        return True
            else:
                wanted -= level.leaves
                if wanted <= 0:
                    return True
        return False

    def _cancel_incoming(self, order: Order, reason: CancelReason) -> None:
        self.events.append(OrderCanceled(order.order_id, reason, order.price, order.quantity, order.leaves))

    def check(self) -> None:
        """Assert every invariant of the book. O(orders)."""
        self.book.check()
