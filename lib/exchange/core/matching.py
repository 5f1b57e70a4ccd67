"""The matching core: an asset's requests in, events out. A pure function of the requests, byte for byte.

No clock, no randomness, no set order, no `hash()`: time comes with the request, and so does the asset's definition.
Whatever a request says has been checked by the order handler; what only the book can know is checked here.
"""

from collections.abc import Callable
from typing import Any

from exchange.core.asset import MAX_INTEGER, Asset, Status
from exchange.core.book import Order, Terms
from exchange.core.events import (
    AmendRejected,
    AssetDefined,
    CancelRejected,
    Event,
    EventRecord,
    OrderAccepted,
    OrderRejected,
    OrderReplaced,
    OrderTriggered,
    RejectReason,
    StatusChanged,
    TradeExecuted,
)
from exchange.core.requests import (
    MAX_PARTS,
    AmendOrder,
    CancelOrder,
    ChangeStatus,
    DefineAsset,
    Delist,
    Expire,
    Instructions,
    MassCancel,
    NewOrder,
    Record,
)
from exchange.core.stops import reached
from exchange.core.trading import PLAIN, RESTING, Trading

NO_INSTRUCTIONS = Instructions()
STOPS = ("stop", "stop_limit")


class OutOfSequence(Exception):
    """A request that is not the next of its asset's queue."""


class Matching(Trading):
    """One asset's book and counters.

    `apply` is what daemons call; `enter` and `cancel` are its hot path, for drivers that make their own requests. Both
    append to `events`.
    """

    __slots__ = ("delisted", "event_sequence", "handlers")

    def __init__(self, asset: Asset | None = None) -> None:
        super().__init__()
        self.asset = asset
        self.event_sequence = 0  # of the last event
        self.delisted = False
        self.handlers: dict[type, Callable[[Any, str], None]] = {
            DefineAsset: self._define_asset,
            NewOrder: self._new_order,
            AmendOrder: self._amend_order,
            CancelOrder: self._cancel_order,
            MassCancel: self._mass_cancel,
            ChangeStatus: self._change_status,
            Expire: self._expire,
            Delist: self._delist,
        }
        self.refresh()

    def apply(self, record: Record) -> EventRecord:
        """Apply the next request of the asset's queue and return what came of it.

        Raises OutOfSequence, changing nothing, where the record is not the next.
        """
        sequence = record.sequence
        if sequence != self.sequence + 1:
            raise OutOfSequence(f"{record.asset}: request {sequence} after {self.sequence}")
        self.sequence = sequence
        self.time = time = record.time
        events: list[Event] = []
        self.events = events
        request, account, traded = record.request, record.account, self.trade_id
        self.handlers[type(request)](request, account)
        stops = self.stops
        if stops.elected or (self.trade_id != traded and stops):
            self._enter_elected_stops()
        if self.crossing is not None:
            self.publish_indicative()
        before = self.event_sequence
        self.event_sequence = before + len(events)
        return EventRecord(record.asset, sequence, time, account, request, before + 1, events)

    # -- orders --------------------------------------------------------------------------------------------------------

    def _new_order(self, request: NewOrder, account: str) -> None:
        time_in_force = request.time_in_force
        if not self.plain or request.instructions is not None or time_in_force == "day":
            self._new_order_with_terms(request, account)
            return
        order_id, side, price, quantity = request.order_id, request.side, request.price, request.quantity
        book = self.book
        owner = book.accounts.get(account) or book.account(account)
        if request.order_type == "market":
            self.events.append(OrderAccepted(order_id))
            self.enter_market(Order(order_id, owner, side, 0, quantity, quantity), time_in_force)
        elif time_in_force == "gtc" and book.ladders[side].open_at(price) + quantity > MAX_INTEGER:
            self.events.append(OrderRejected(order_id, "invalid_quantity"))
        else:
            self.events.append(OrderAccepted(order_id))
            self.enter(order_id, owner, side, price, quantity, time_in_force)

    def _new_order_with_terms(self, request: NewOrder, account: str) -> None:
        reason = self._refused(request)
        if reason is not None:
            self.events.append(OrderRejected(request.order_id, reason))
            return
        self.events.append(OrderAccepted(request.order_id))
        order, terms = self._order(request, account)
        if request.order_type not in STOPS:
            self.enter_with_terms(order, terms)
        elif self._reached(order, terms.stop_price):
            self._trigger(order, terms)
        else:
            self.stops.add(order)
            self.expiries.add(order)

    def _refused(self, request: NewOrder) -> RejectReason | None:
        """Return why a new order can't be taken, or None where it can."""
        order_type, time_in_force, price = request.order_type, request.time_in_force, request.price
        if self.status != "open" and (reason := self._not_now()) is not None:
            return reason
        if self.status == "call" and (
            order_type == "market" or (order_type == "limit" and time_in_force not in RESTING)
        ):
            return "market_closed"
        if price and self.beyond_price_band(price):
            return "price_band"
        if order_type == "limit" and time_in_force in RESTING:
            display_quantity = (request.instructions or NO_INSTRUCTIONS).display_quantity
            if self.no_room(request.side, price, request.quantity, display_quantity, None):
                return "invalid_quantity"
        return None

    def _order(self, request: NewOrder, account: str) -> tuple[Order, Terms]:
        """Return a new order and its terms, which it carries only where they are not a plain limit order's."""
        said = request.instructions or NO_INSTRUCTIONS
        terms = Terms(
            request.order_type,
            request.time_in_force,
            said.stop_price,
            said.display_quantity,
            said.min_quantity,
            said.post_only,
            said.self_trade_prevention,
            said.expire_time,
        )
        order = Order(
            request.order_id,
            self.book.account(account),
            request.side,
            request.price,
            request.quantity,
            request.quantity,
            None if terms == PLAIN else terms,
        )
        return order, terms

    def _amend_order(self, request: AmendOrder, account: str) -> None:
        order = self.book.find(request.order_id, account)
        if order is None:
            self.events.append(AmendRejected(request.order_id, "unknown_order"))
            return
        terms = order.terms or PLAIN
        price = order.price if request.price is None else request.price
        quantity = order.quantity if request.quantity is None else request.quantity
        stop_price = terms.stop_price if request.stop_price is None else request.stop_price
        leaves = quantity - (order.quantity - order.open)
        reason: RejectReason | None = self._not_now()
        if reason is None and request.stop_price is not None and not terms.waiting:
            reason = "triggered"
        if reason is not None:
            self.events.append(AmendRejected(request.order_id, reason))
        elif leaves <= 0:
            self.cancel(order, "user_request")
        elif price == order.price and quantity <= order.quantity and stop_price == terms.stop_price:
            self._reduce(order, terms, quantity, leaves)
        elif price != order.price and self.beyond_price_band(price):
            self.events.append(AmendRejected(request.order_id, "price_band"))
        elif terms.display_quantity and leaves > MAX_PARTS * terms.display_quantity:
            self.events.append(AmendRejected(request.order_id, "invalid_quantity"))
        elif terms.waiting:
            self._replace_stop(order, terms, price, quantity, leaves, stop_price)
        else:
            self._replace(order, terms, price, quantity, leaves)

    def _reduce(self, order: Order, terms: Terms, quantity: int, leaves: int) -> None:
        """Give an order a smaller total quantity, or the same, in its place."""
        reduced = order.quantity - quantity
        order.quantity = quantity
        if terms.waiting:
            order.leaves = leaves
        elif reduced:
            self.book.ladders[order.side].shrink(order, reduced)
            if self.crossing is not None:
                self.crossing.change(order.side, order.price, -reduced)
        stop_price = terms.stop_price if terms.waiting else 0
        self.events.append(OrderReplaced(order.order_id, order.price, quantity, leaves, True, stop_price))

    def _replace(self, order: Order, terms: Terms, price: int, quantity: int, leaves: int) -> None:
        """Give a resting order another price or more quantity: it enters anew."""
        best = self.book.ladders[-order.side].best
        if terms.post_only and self.status == "open" and best >= -order.side * price:
            self.events.append(AmendRejected(order.order_id, "post_only"))
            return
        if self.no_room(order.side, price, leaves, terms.display_quantity, order):
            self.events.append(AmendRejected(order.order_id, "invalid_quantity"))
            return
        self.book.remove(order)
        if self.crossing is not None:
            self.crossing.change(order.side, order.price, -order.open)
        self.events.append(OrderReplaced(order.order_id, price, quantity, leaves, False))
        order.price, order.quantity, order.leaves = price, quantity, leaves
        if order.terms is not None:
            order.terms.hidden = 0
        self.enter_with_terms(order, terms, again=True)

    def _cancel_order(self, request: CancelOrder, account: str) -> None:
        owner = self.book.accounts.get(account)
        order = None if owner is None else owner.orders.get(request.order_id)
        if order is None:
            self.events.append(CancelRejected(request.order_id, "unknown_order"))
        else:
            self.cancel(order, "user_request")

    def _mass_cancel(self, request: MassCancel, account: str) -> None:
        owner = self.book.accounts.get(account)
        if owner is None:
            return
        # By id is by arrival: ids rise, and an amend moves an order in its queue but not in its age.
        orders = [order for _, order in sorted(owner.orders.items()) if request.side in (0, order.side)]
        self.book.begin_removing(len(orders))
        for order in orders:
            self.cancel(order, request.reason)
        self.book.end_removing()

    # -- stops ---------------------------------------------------------------------------------------------------------

    def _reached(self, order: Order, stop_price: int) -> bool:
        """Return whether a stop need not wait, since the last trade has reached its price."""
        return self.status == "open" and reached(order.side, stop_price, self.last_price)

    def _trigger(self, order: Order, terms: Terms) -> None:
        """Have a stop that does not wait any more enter as a market or limit order."""
        self.events.append(OrderTriggered(order.order_id))
        rests = terms.order_type == "stop_limit" and terms.time_in_force in RESTING
        if rests and self.no_room(order.side, order.price, order.leaves, terms.display_quantity, None):
            self._end_incoming(order, "invalid_quantity")
        else:
            self.enter_with_terms(order, terms)

    def _replace_stop(
        self, order: Order, terms: Terms, price: int, quantity: int, leaves: int, stop_price: int
    ) -> None:
        """Give a stop that waits other prices or more quantity: it waits anew, or is triggered."""
        self.stops.remove(order)
        self.events.append(OrderReplaced(order.order_id, price, quantity, leaves, False, stop_price))
        order.price, order.quantity, order.leaves, terms.stop_price = price, quantity, leaves, stop_price
        if self._reached(order, stop_price):
            self._trigger(order, terms)
        else:
            self.stops.add(order)

    def _enter_elected_stops(self) -> None:
        """Elect the stops that the request's trades have reached, have them enter, and so on until none is elected.

        A loop, not a recursion: a round is what the trades of the round before have elected.
        """
        events, stops = self.events, self.stops
        looked_at = 0
        while True:
            prices = [event.price for event in events[looked_at:] if type(event) is TradeExecuted]
            looked_at = len(events)
            if prices:
                stops.elect(min(prices), max(prices))
            if self.status != "open" or not stops.elected:
                return
            for order in stops.round():
                if self.status != "open":
                    break
                stops.remove(order)
                assert order.terms is not None
                self._trigger(order, order.terms)

    # -- the asset -----------------------------------------------------------------------------------------------------

    def _define_asset(self, request: DefineAsset, account: str) -> None:
        first = self.asset is None
        self.asset = request.definition
        self.events.append(AssetDefined())
        status: Status = "closed" if self.asset.has_sessions else "open"
        if self.delisted or (first and status == "closed"):
            self.status = status
            self.events.append(StatusChanged(status, "defined"))
        self.delisted = False
        self.refresh()

    def _change_status(self, request: ChangeStatus, account: str) -> None:
        if self.delisted:
            return
        if request.call and (self.status != "call" or self.call != request.call):
            return
        status = request.status
        if status == "call":
            self.begin_call(request.reason)
        elif status != self.status:
            if status != "halted" and self.book.crossed:
                self.hold_auction()
            self._set_status(status, request.reason)
            if status == "open" and self.last_price:
                self.stops.elect(self.last_price, self.last_price)
        if request.ends_day:
            self._expire(Expire(day=True), account)

    def _set_status(self, status: Status, reason: str) -> None:
        self.status, self.call, self.call_ends, self.crossing = status, 0, 0, None
        self.events.append(StatusChanged(status, reason))
        self.refresh()

    def _expire(self, request: Expire, account: str) -> None:
        due = self.expiries.due(self.time, request.day)
        self.book.begin_removing(len(due))
        for order in due:
            self.expire(order)
        self.book.end_removing()

    def _delist(self, request: Delist, account: str) -> None:
        live = [order for owner in self.book.accounts.values() for order in owner.orders.values()]
        self.book.begin_removing(len(live))
        for order in sorted(live, key=lambda order: order.order_id):
            self.cancel(order, "operator")
        self.book.end_removing()
        self.delisted = True
        self._set_status("closed", "delisted")

    def _not_now(self) -> RejectReason | None:
        """Return why the status takes cancels only, or None where it takes more."""
        if self.status == "closed":
            return "market_closed"
        return "halted" if self.status == "halted" else None

    def check(self) -> None:
        """Assert every invariant of the book. O(orders)."""
        self.book.check(may_cross=self.status != "open")
        self.stops.check()
        live = {order_id: order for owner in self.book.accounts.values() for order_id, order in owner.orders.items()}
        waiting = sum(order.terms is not None and order.terms.waiting for order in live.values())
        assert waiting == sum(map(len, self.stops.orders.values())) + len(self.stops.elected), "what waits is a stop"
        self.expiries.check(live)
        assert self.status != "open" or not self.stops.elected, "what is elected enters while trading is open"
        assert (self.status == "call") == (self.crossing is not None) == (self.call > 0)
        if self.crossing is not None:
            self.crossing.check()
