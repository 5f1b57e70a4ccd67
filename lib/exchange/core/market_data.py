"""From an asset's events to what subscribers see: a pure fold that gives the same messages and numbers every time.

`Feed.apply` takes the asset's event records in order and notes what comes of them (`feed_notes.py`): the messages of
each topic, numbered 1, 2, 3, ... per topic without a gap. Whoever replays the same records, from the first on, gets the
same messages.

Of an iceberg the public sees what it shows, and of a stop that waits nothing. The feed's book is what the public sees,
with the hidden parts and the waiting stops beside it. It, and what is said of it, is in `published_book.py`; here is
what becomes of it with each event.
"""

from collections.abc import Callable, Iterator
from typing import Any

from exchange.core import events, messages
from exchange.core.asset import Asset
from exchange.core.events import EventRecord, OrderCanceled, OrderRested
from exchange.core.execution_reports import PublishedOrder
from exchange.core.feed_notes import Said, Traded
from exchange.core.messages import SideName
from exchange.core.published_book import PublishedBook
from exchange.core.requests import (
    SIDE_NAMES,
    AmendOrder,
    CancelOrder,
    DefineAsset,
    Delist,
    Expire,
    MassCancel,
    NewOrder,
)

REMOVALS = frozenset((MassCancel, Expire, Delist))  # requests that take orders out of the book and do nothing else
NO_INDICATIVE = events.IndicativeChanged(0, 0, 0, 0)


class Feed(PublishedBook):
    """One asset's published state: its book, its live orders, and the last number of each topic."""

    def __init__(self, asset: str) -> None:
        super().__init__(asset)
        self.definition: Asset | None = None
        self.status: messages.Status | None = None  # as it was last published
        self.call: events.StatusChanged | None = None  # the call that this request began, if that is not published yet
        self.sequence = 0  # of the last request folded in
        self.time = 0
        self.entering: PublishedOrder | None = None  # live, not in the book yet; one at a time
        self.replaced: PublishedOrder | None = None  # left the book by an amend, and what it does next is not known yet
        self.handlers: dict[type, Callable[[EventRecord, Any], None]] = {
            events.AssetDefined: self._defined,
            events.OrderAccepted: self._accepted,
            events.OrderRejected: self._rejected,
            events.TradeExecuted: self._trade,
            events.OrderRested: self._rested,
            events.OrderCanceled: self._canceled,
            events.OrderExpired: self._expired,
            events.OrderReplaced: self._replaced,
            events.OrderTriggered: self._triggered,
            events.OrderReplenished: self._replenished,
            events.OrderDecremented: self._decremented,
            events.StatusChanged: self._status_changed,
            events.IndicativeChanged: self._indicative_changed,
            events.CancelRejected: self._cancel_rejected,
            events.AmendRejected: self._amend_rejected,
        }

    def apply(self, record: EventRecord) -> None:
        """Fold one request's events in. What is to be said is added to `notes`, orders that ended to `ended`.

        The caller empties both, and `reports.first`.
        """
        sequence = record.sequence
        assert sequence == self.sequence + 1, f"{self.asset}: {sequence} after {self.sequence}"
        self.sequence = sequence
        self.time = record.time
        events = record.events
        request_type = type(record.request)
        # What most requests come to has ways of its own, which give what those of the single events do.
        if request_type is NewOrder:
            if len(events) == 2 and type(events[1]) is OrderRested and record.request.instructions is None:  # type: ignore[union-attr]
                self._entered_and_rested(record)
                return
        elif request_type is CancelOrder and len(events) == 1 and type(event := events[0]) is OrderCanceled:
            order = self.orders[event.order_id]
            if order.terms is None:
                self._canceled_alone(order, event, record.time)
                return
        self._begin(record)
        handlers = self.handlers
        for event in events:
            handlers[type(event)](record, event)
        self._finish(record)

    def apply_in_parts(self, record: EventRecord, size: int) -> Iterator[None]:
        """Do the same, and stop after every `size` events and at the end, for the caller to take what is noted.

        An auction may have hundreds of thousands of events. Before the end the feed is in the middle of a request.
        """
        assert record.sequence == self.sequence + 1, f"{self.asset}: {record.sequence} after {self.sequence}"
        self.sequence = record.sequence
        self.time = record.time
        self._begin(record)
        for place, event in enumerate(record.events, 1):
            self.handlers[type(event)](record, event)
            if place % size == 0:
                yield
        self._finish(record)
        yield

    def _begin(self, record: EventRecord) -> None:
        request_type = type(record.request)
        # A new order that only rests adds to a level, one that makes a single trade takes off one: both change it.
        self.compares = len(record.events) > 2 or request_type is not NewOrder
        if request_type in REMOVALS:
            self.book.begin_removing(len(record.events))

    def _finish(self, record: EventRecord) -> None:
        if self.book.removing_many:
            self.book.end_removing()
        if self.call is not None:
            self._publish_call(record.time)
        if self.touched:
            self._publish_levels(record.time)

    # -- orders enter, trade, rest -------------------------------------------------------------------------------------

    def _accepted(self, record: EventRecord, event: events.OrderAccepted) -> None:
        order = self._new_order(record)
        self.orders[order.order_id] = order
        if order.order_type in ("stop", "stop_limit"):
            assert order.terms is not None
            order.terms.waiting = True
            order.account.orders[order.order_id] = order
        else:
            self.entering = order
        self.reports.report_new(order, record.time)

    def _rejected(self, record: EventRecord, event: events.OrderRejected) -> None:
        order = self._new_order(record)
        self.ended[order.order_id] = self.reports.report_end("rejected", order, 0, record.time, event.reason)

    def _triggered(self, record: EventRecord, event: events.OrderTriggered) -> None:
        order = self.orders[event.order_id]
        assert order.waiting
        assert order.terms is not None
        order.terms.waiting = False
        del order.account.orders[order.order_id]
        self.entering = order
        self.reports.report("triggered", order, record.time)

    def _trade(self, record: EventRecord, event: events.TradeExecuted) -> None:
        if self.replaced is not None:
            self._publish_deletion(self.replaced, record.time)
            self.replaced = None
        topic = self.trade_topic
        topic.sequence = number = topic.sequence + 1
        assert number == event.trade_id
        quantity, maker_id, taker_id = event.quantity, event.maker_order_id, event.taker_order_id
        orders = self.orders
        maker, taker = orders[maker_id], self.entering
        shown = taker_shown = self._execute(maker, quantity)
        if taker is None:
            taker = orders[taker_id]  # in an auction both rest
            taker_shown = self._execute(taker, quantity)
            order_number = 0
        else:
            assert taker.order_id == taker_id
            assert shown == quantity
            taker.leaves = leaves = taker.leaves - quantity
            if not leaves:
                self.entering = None
            topic = self.order_topic
            topic.sequence = order_number = topic.sequence + 1
        party = self.reports.party
        of_maker, of_taker = party(maker), party(taker)
        note = Traded(record.time, number, event.price, quantity, event.aggressor, order_number, of_maker, of_taker)
        self.notes.append(note)
        if of_maker.leaves:
            maker.last = note
        else:
            del orders[maker_id]
            self.ended[maker_id] = note
        if of_taker.leaves:
            taker.last = note
        else:
            del orders[taker_id]
            self.ended[taker_id] = note
        if not order_number:
            self._publish_execution(maker_id, shown, event, record.time)
            self._publish_execution(taker_id, taker_shown, event, record.time)

    def _publish_execution(self, order_id: int, shown: int, event: events.TradeExecuted, time: int) -> None:
        """In an auction a trade has taken so much, if any, off what an order shows."""
        if shown:
            number = self._next("order")
            message = messages.OrderExecuted(self.asset, number, order_id, shown, event.price, event.trade_id, time)
            self.notes.append(Said(message))

    def _execute(self, order: PublishedOrder, quantity: int) -> int:
        """Take a trade off a resting order, what it shows first; return how much of that.

        Only an auction takes more than that, hidden quantity. An order with hidden quantity left and nothing shown is
        out of the book: what it shows next comes with `OrderReplenished`, in the same record.
        """
        shown = order.leaves
        if quantity < shown:
            self._touch(order)
            self.book.ladders[order.side].reduce(order, quantity)
            return quantity
        if shown:
            self._touch(order)
            self.book.remove(order)
            order.leaves = 0
        terms = order.terms
        if terms is not None and terms.hidden:
            terms.hidden -= quantity - shown
        return shown

    def _rested(self, record: EventRecord, event: events.OrderRested) -> None:
        order = self.entering
        assert order is not None
        assert order.order_id == event.order_id
        assert order.leaves == event.quantity
        self.entering = None
        self._touch(order)
        self.book.add(order)
        if self.replaced is order:
            self.replaced = None
            number = self._next("order")
            replaced = messages.OrderReplaced(
                self.asset, number, order.order_id, order.price, order.leaves, record.time
            )
            self.notes.append(Said(replaced))
        else:
            self._publish_addition(order, record.time)

    def _replenished(self, record: EventRecord, event: events.OrderReplenished) -> None:
        order = self.orders[event.order_id]
        self._touch(order)
        shows = self.book.replenish(order)
        assert shows
        assert order.leaves == event.shown
        self._publish_addition(order, record.time)
        self.reports.report("restated", order, record.time)

    # -- orders change, end --------------------------------------------------------------------------------------------

    def _replaced(self, record: EventRecord, event: events.OrderReplaced) -> None:
        order = self.orders[event.order_id]
        if order.waiting:
            assert order.terms is not None
            order.price, order.leaves = event.price, event.leaves
            order.terms.stop_price = event.stop_price
        elif event.priority_kept:
            self._shrink(order, order.open - event.leaves, record.time)
        else:
            self._touch(order)
            self.book.remove(order)
            order.price, order.leaves = event.price, event.leaves
            if order.terms is not None:
                order.terms.hidden = 0  # it enters whole, and hides again what it does not show when it rests
            self.entering = self.replaced = order
        order.quantity = event.quantity
        self.reports.report("replaced", order, record.time)

    def _decremented(self, record: EventRecord, event: events.OrderDecremented) -> None:
        order = self.orders[event.order_id]
        if order is self.entering:
            order.leaves = event.leaves
        else:
            self._shrink(order, order.open - event.leaves, record.time)
        order.quantity = event.quantity
        self.reports.report("restated", order, record.time, "self_trade_prevention")

    def _shrink(self, order: PublishedOrder, by: int, time: int) -> None:
        """Take off what a resting order has open, its place kept; what is hidden goes first, and is not public."""
        if not by:
            return
        reduced = by - order.hidden
        if reduced > 0:
            self._touch(order)
        self.book.ladders[order.side].shrink(order, by)
        if reduced > 0:
            message = messages.OrderReduced(self.asset, self._next("order"), order.order_id, reduced, time)
            self.notes.append(Said(message))

    def _canceled(self, record: EventRecord, event: events.OrderCanceled) -> None:
        self._leave(self.orders[event.order_id], event.canceled, "canceled", event.reason, record.time)

    def _expired(self, record: EventRecord, event: events.OrderExpired) -> None:
        self._leave(self.orders[event.order_id], event.expired, "expired", "expired", record.time)

    def _leave(self, order: PublishedOrder, left: int, exec_type: str, reason: str, time: int) -> None:
        """End a live order, wherever it is, with `left` still open."""
        terms = order.terms
        assert left == (order.leaves if terms is None else order.open)
        if order is self.entering:
            self.entering = None
            if order is self.replaced:
                self.replaced = None
                self._publish_deletion(order, time)
        elif terms is not None and terms.waiting:
            del order.account.orders[order.order_id]
        else:
            self._touch(order)
            self.book.remove(order)
            self._publish_deletion(order, time)
        cumulative = order.quantity - left
        order.leaves = 0
        if terms is not None:
            terms.hidden = 0
        del self.orders[order.order_id]
        self.ended[order.order_id] = self.reports.report_end(exec_type, order, cumulative, time, reason)

    def _cancel_rejected(self, record: EventRecord, event: events.CancelRejected) -> None:
        assert isinstance(record.request, CancelOrder)
        self._refused(record, "cancel_rejected", event)

    def _amend_rejected(self, record: EventRecord, event: events.AmendRejected) -> None:
        assert isinstance(record.request, AmendOrder)
        self._refused(record, "amend_rejected", event)

    def _refused(
        self, record: EventRecord, exec_type: str, event: events.CancelRejected | events.AmendRejected
    ) -> None:
        order = self.find(event.order_id, record.account)
        self.reports.report_refusal(exec_type, event.order_id, order, record.account, event.reason, record.time)

    # -- the asset -----------------------------------------------------------------------------------------------------

    def _defined(self, record: EventRecord, event: events.AssetDefined) -> None:
        assert isinstance(record.request, DefineAsset)
        self.definition = record.request.definition
        if self.status is None and len(record.events) == 1:
            # Without sessions it is open from here on. With them its status is said in the next event.
            self._publish_status("open", "defined", record.time)

    def _status_changed(self, record: EventRecord, event: events.StatusChanged) -> None:
        if self.call is not None:
            self._publish_call(record.time)
        if event.status == "call":
            self.call = event  # what its auction would give comes in the same request, if it would give anything
        else:
            self._publish_status(event.status, event.reason, record.time)

    def _indicative_changed(self, record: EventRecord, event: events.IndicativeChanged) -> None:
        if self.call is not None:
            self._publish_call(record.time, event)
            return
        assert self.status is not None
        assert self.status.status == "call"
        self._publish_status("call", self.status.reason, record.time, event)

    def _publish_call(self, time: int, indicative: events.IndicativeChanged = NO_INDICATIVE) -> None:
        """Publish that a call has begun, with what its auction would give."""
        assert self.call is not None
        self._publish_status("call", self.call.reason, time, indicative)
        self.call = None

    def _publish_status(
        self,
        status: messages.StatusName,
        reason: str,
        time: int,
        indicative: events.IndicativeChanged = NO_INDICATIVE,
    ) -> None:
        """Publish the status, during a call with what the auction would give."""
        number = self._next("status")
        if status == "call":
            side: SideName | None = SIDE_NAMES[indicative.surplus_side] if indicative.surplus_side else None
            self.status = messages.Status(
                self.asset,
                number,
                status,
                reason,
                time,
                indicative.price or None,
                indicative.quantity,
                side,
                indicative.surplus_quantity,
            )
        else:
            self.status = messages.Status(self.asset, number, status, reason, time)
        self.notes.append(Said(self.status))

    def check(self) -> None:
        """Assert what holds between requests. O(orders)."""
        self.book.check(may_cross=self.status is not None and self.status.status != "open")
        live = {
            order_id: order for account in self.book.accounts.values() for order_id, order in account.orders.items()
        }
        assert live == self.orders, "every live order is its account's"
        assert self.entering is None, "an order enters within its request"
        assert self.replaced is None
        assert self.call is None, "that a call has begun is published within its request"
        assert not self.touched
