"""Quantities conserved: what became of each order, added up from the events of an asset alone.

A fold of its own, which knows no book and no priorities. What is open of an order is its total less what it traded;
every event that says how much is open, canceled or expired must say that very figure. Of orders that ended only the id
is kept (8 bytes each), and, where the caller wants the states of all orders, 17 bytes more.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

from exchange.audit.findings import Difference
from exchange.audit.values import shown
from exchange.core.events import (
    AmendRejected,
    AssetDefined,
    CancelRejected,
    EventRecord,
    IndicativeChanged,
    OrderAccepted,
    OrderCanceled,
    OrderDecremented,
    OrderExpired,
    OrderRejected,
    OrderReplaced,
    OrderReplenished,
    OrderRested,
    OrderTriggered,
    StatusChanged,
    TradeExecuted,
)
from exchange.core.requests import BUY, SELL, SIDE_NAMES, NewOrder

CHECK = "conservation"
REMEDY = "the matching core and its log agree on what can't be: halt the asset, keep the data folder, and report it"
LIVE, FILLED, CANCELED, EXPIRED, REJECTED, WAITING = range(6)
ENDS = ("live", "filled", "canceled", "expired", "rejected", "pending_trigger")


class Order:
    """A live order: `total` is what it is for, as amended and decremented, `traded` how much of that has traded."""

    __slots__ = ("account", "order_id", "place", "price", "resting", "side", "total", "traded", "waiting")

    def __init__(self, order_id: int, account: str, request: NewOrder, place: int) -> None:
        self.order_id = order_id
        self.account = account
        self.side = request.side
        self.price = request.price
        self.total = request.quantity
        self.traded = 0
        self.waiting = request.order_type in ("stop", "stop_limit")
        self.resting = False
        self.place = place  # among all orders of the asset

    @property
    def open(self) -> int:
        return self.total - self.traded


class Conservation:
    """Folds an asset's event records, from the first one on or (`whole` is false) from a later one.

    Then orders may be met that were entered before: nothing is known of them, and nothing is said of them.
    """

    def __init__(self, asset: str, whole: bool, keep_states: bool) -> None:
        self.asset = asset
        self.whole = whole
        self.keep_states = keep_states
        self.live: dict[int, Order] = {}
        self.order_ids = array("Q")  # of all orders, rising
        self.ends = array("B")  # by the place of the id; places in ENDS
        self.traded = array("Q")
        self.leaves = array("Q")
        self.event_sequence: int | None = 0 if whole else None  # of the last event; None: not known yet
        self.trade_id: int | None = 0 if whole else None
        self.trades = 0
        self.events = 0
        self.positions: dict[str, int] = {}  # by account
        # Of all orders that were accepted, for the sum at the end.
        self.entered = self.amended = self.decremented = self.canceled = self.expired = 0
        self.bought = self.sold = 0
        self.entering: list[Order] = []  # by this request: each must rest, wait or have ended at its end
        self.record: EventRecord  # the one that is being folded
        self.handlers: dict[type, Callable[[Any], None] | None] = {
            OrderAccepted: self._accepted,
            OrderRejected: self._rejected,
            TradeExecuted: self._trade,
            OrderRested: self._rested,
            OrderCanceled: self._canceled,
            OrderExpired: self._expired,
            OrderReplaced: self._replaced,
            OrderTriggered: self._triggered,
            OrderReplenished: self._replenished,
            OrderDecremented: self._decremented,
            CancelRejected: None,
            AmendRejected: None,
            AssetDefined: None,
            StatusChanged: None,
            IndicativeChanged: None,
        }

    def add(self, record: EventRecord) -> None:
        """Fold the next record. Raises Difference."""
        self.record = record
        events = record.events
        if self.event_sequence is not None and record.event_sequence != self.event_sequence + 1:
            raise self._difference(
                "the numbers of an asset's events are not contiguous",
                expected=f"event {self.event_sequence + 1}",
                found=f"event {record.event_sequence}",
            )
        self.event_sequence = record.event_sequence + len(events) - 1
        self.events += len(events)
        handlers = self.handlers
        for event in events:
            handler = handlers[type(event)]
            if handler is not None:
                handler(event)
        request = record.request
        if type(request) is NewOrder and (not self.order_ids or self.order_ids[-1] != request.order_id):
            raise self._difference(
                f"nothing became of order {request.order_id}", expected="accepted or rejected", found=shown(events)
            )
        if self.entering:
            for order in self.entering:
                if not (order.resting or order.waiting) and order.order_id in self.live:
                    raise self._difference(
                        f"order {order.order_id} neither rests nor waits nor has ended",
                        expected=f"something to become of the {order.open} that it has open",
                        found=shown(events),
                    )
            self.entering.clear()

    def finish(self) -> None:
        """Check the sums over all orders. Raises Difference."""
        still_open = sum(order.open for order in self.live.values())
        have = self.entered + self.amended
        became = self.bought + self.sold + self.canceled + self.expired + self.decremented + still_open
        if have != became:
            raise Difference(
                CHECK,
                "the quantities of all orders do not add up",
                asset=self.asset,
                expected=f"{self.entered} entered {self.amended:+} amended = {have}",
                found=f"{self.bought + self.sold} traded + {self.canceled} canceled + {self.expired} expired + "
                f"{self.decremented} decremented + {still_open} open = {became}",
                remedy=REMEDY,
            )
        if self.whole and self.bought != self.sold:
            raise Difference(
                CHECK,
                "as much must be bought as is sold",
                asset=self.asset,
                expected=f"{self.sold} bought",
                found=f"{self.bought}",
                remedy=REMEDY,
            )
        position: int = sum(self.positions.values())
        if self.whole and position:
            raise Difference(
                CHECK,
                "the positions of all accounts must add up to 0",
                asset=self.asset,
                expected="0",
                found=str(position),
                remedy=REMEDY,
            )

    # -- an order's life -----------------------------------------------------------------------------------------------

    def _enter(self, order_id: int, end: int) -> Order:
        request = self.record.request
        if type(request) is not NewOrder or request.order_id != order_id:
            raise self._difference(
                f"order {order_id} is not the one of the request", expected=shown(request), found=f"order {order_id}"
            )
        if self.order_ids and self.order_ids[-1] >= order_id:
            raise self._difference(
                f"order {order_id} was entered before",
                expected=f"an id above {self.order_ids[-1]}",
                found=str(order_id),
            )
        order = Order(order_id, self.record.account, request, len(self.order_ids))
        self.order_ids.append(order_id)
        if self.keep_states:
            self.ends.append(end)
            self.traded.append(0)
            self.leaves.append(0)
        return order

    def _accepted(self, event: OrderAccepted) -> None:
        order = self._enter(event.order_id, LIVE)
        self.live[event.order_id] = order
        self.entering.append(order)
        self.entered += order.total

    def _rejected(self, event: OrderRejected) -> None:
        self._enter(event.order_id, REJECTED)

    def _order(self, order_id: int, event: object) -> Order | None:
        """Return a live order; None for one that was entered before the first record here."""
        order = self.live.get(order_id)
        if order is not None:
            return order
        place = bisect_left(self.order_ids, order_id)
        if place < len(self.order_ids) and self.order_ids[place] == order_id:
            ended = ENDS[self.ends[place]] if self.keep_states else "not live any more"
            raise self._difference(
                f"something happens to order {order_id} after its end",
                expected=f"nothing: it is {ended}",
                found=shown(event),
            )
        if not self.whole and (not self.order_ids or order_id < self.order_ids[0]):
            return None
        raise self._difference(
            f"something happens to order {order_id}, which was never entered",
            expected="a live order",
            found=shown(event),
        )

    def _end(self, order: Order, end: int) -> None:
        del self.live[order.order_id]
        if self.keep_states:
            self.ends[order.place] = end
            self.traded[order.place] = order.traded
            self.leaves[order.place] = 0

    def _trade(self, event: TradeExecuted) -> None:
        if self.trade_id is not None and event.trade_id != self.trade_id + 1:
            raise self._difference(
                "trade ids are not contiguous", expected=f"trade {self.trade_id + 1}", found=shown(event)
            )
        self.trade_id = event.trade_id
        self.trades += 1
        quantity, aggressor = event.quantity, event.aggressor
        if quantity <= 0:
            raise self._difference(f"trade {event.trade_id} is of nothing", expected="1 or more", found=shown(event))
        maker = self._order(event.maker_order_id, event)
        taker = self._order(event.taker_order_id, event)
        if maker is not None and not maker.resting:
            raise self._difference(
                f"order {maker.order_id} trades as a maker and does not rest",
                expected="a resting order",
                found=shown(event),
            )
        for order, side, account in (
            (maker, -aggressor, event.maker_account),
            (taker, aggressor, event.taker_account),
        ):
            if order is not None:
                self._fill(order, side, account, event)
        self.positions[event.taker_account] = self.positions.get(event.taker_account, 0) + aggressor * quantity
        self.positions[event.maker_account] = self.positions.get(event.maker_account, 0) - aggressor * quantity

    def _fill(self, order: Order, side: int, account: str, event: TradeExecuted) -> None:
        quantity, price = event.quantity, event.price
        if order.side != side or order.account != account:
            raise self._difference(
                f"trade {event.trade_id} is not with order {order.order_id} as it is",
                expected=f"a {SIDE_NAMES[order.side]} order of account {order.account}",
                found=shown(event),
            )
        if order.waiting:
            raise self._difference(
                f"order {order.order_id} trades before it is triggered",
                expected="a stop that waits",
                found=shown(event),
            )
        if price <= 0 or (order.price and side * price > side * order.price):
            raise self._difference(
                f"trade {event.trade_id} is beyond the limit of order {order.order_id}",
                expected=f"a price of {order.price} or better, since it is a {SIDE_NAMES[order.side]} order",
                found=shown(event),
            )
        order.traded += quantity
        if order.traded > order.total:
            raise self._difference(
                f"order {order.order_id} trades more than it has",
                expected=f"at most {order.total - order.traded + quantity}, which it had open of {order.total}",
                found=shown(event),
            )
        if side == BUY:
            self.bought += quantity
        else:
            self.sold += quantity
        if order.traded == order.total:
            self._end(order, FILLED)

    def _rested(self, event: OrderRested) -> None:
        order = self._order(event.order_id, event)
        if order is None:
            return
        if order.waiting or order.resting:
            raise self._difference(
                f"order {order.order_id} comes to rest and {'waits' if order.waiting else 'rests already'}",
                expected="an order that entered with this request",
                found=shown(event),
            )
        order.resting = True
        if event.quantity != order.open or event.price != order.price:
            raise self._difference(
                f"order {order.order_id} rests with something else than it has",
                expected=f"{order.open} at {order.price}",
                found=shown(event),
            )

    def _canceled(self, event: OrderCanceled) -> None:
        order = self._order(event.order_id, event)
        if order is not None:
            self._check_rest(order, event.canceled, event.quantity, event.price, event)
            self.canceled += event.canceled
            self._end(order, CANCELED)

    def _expired(self, event: OrderExpired) -> None:
        order = self._order(event.order_id, event)
        if order is not None:
            self._check_rest(order, event.expired, event.quantity, event.price, event)
            self.expired += event.expired
            self._end(order, EXPIRED)

    def _check_rest(self, order: Order, leaves: int, total: int, price: int, event: object) -> None:
        """Check what an event that takes an order's rest away, or changes it, says of the order."""
        if leaves != order.open or total != order.total or price != order.price or leaves <= 0:
            raise self._difference(
                f"order {order.order_id} has something else than the event says",
                expected=f"{order.open} open of {order.total}, at {order.price}",
                found=shown(event),
            )

    def _replaced(self, event: OrderReplaced) -> None:
        order = self._order(event.order_id, event)
        if order is None:
            return
        self.amended += event.quantity - order.total
        order.total, order.price = event.quantity, event.price
        self._check_rest(order, event.leaves, event.quantity, event.price, event)
        if not (event.priority_kept or order.waiting):
            order.resting = False
            self.entering.append(order)

    def _decremented(self, event: OrderDecremented) -> None:
        order = self._order(event.order_id, event)
        if order is None:
            return
        by = order.total - event.quantity
        if by <= 0:
            raise self._difference(
                f"order {order.order_id} is decremented to more",
                expected=f"less than {order.total}",
                found=shown(event),
            )
        self.decremented += by
        order.total = event.quantity
        self._check_rest(order, event.leaves, event.quantity, event.price, event)

    def _triggered(self, event: OrderTriggered) -> None:
        order = self._order(event.order_id, event)
        if order is None:
            return
        if not order.waiting:
            raise self._difference(
                f"order {order.order_id} is triggered and does not wait",
                expected="a stop that waits",
                found=shown(event),
            )
        order.waiting = False
        self.entering.append(order)

    def _replenished(self, event: OrderReplenished) -> None:
        order = self._order(event.order_id, event)
        if order is not None and not (order.resting and 0 < event.shown <= order.open and event.price == order.price):
            raise self._difference(
                f"order {order.order_id} shows something else than it has",
                expected=f"1 to {order.open} at {order.price}, of an order that rests",
                found=shown(event),
            )

    # -- afterwards ----------------------------------------------------------------------------------------------------

    def note_live(self) -> None:
        """Enter the live orders in `ends`, `traded` and `leaves`, as they are now."""
        for order in self.live.values():
            self.ends[order.place] = WAITING if order.waiting else LIVE
            self.traded[order.place] = order.traded
            self.leaves[order.place] = order.open

    def _difference(self, what: str, **more: str) -> Difference:
        return Difference(CHECK, what, asset=self.asset, sequence=self.record.sequence, remedy=REMEDY, **more)


assert {BUY, SELL} == {1, -1}, "a side is a sign"
