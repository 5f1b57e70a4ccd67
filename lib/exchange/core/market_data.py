"""From an asset's events to what subscribers see: a pure fold that gives the same messages and numbers every time.

`Feed.apply` takes the asset's event records in order and returns the messages of each topic, numbered 1, 2, 3, ... per
topic without a gap. Whoever replays the same records, from the first on, gets the same messages.
"""

from collections.abc import Callable
from typing import Any

from msgspec import UNSET, UnsetType

from exchange.core import events, messages
from exchange.core.asset import Asset
from exchange.core.book import Book, Order
from exchange.core.events import EventRecord
from exchange.core.messages import ExecutionReport, PublicMessage, SideName
from exchange.core.requests import BUY, SELL, SIDE_NAMES, AmendOrder, CancelOrder, DefineAsset, NewOrder

PUBLIC_TOPICS = ("trade", "bbo", "book", "order", "status")


class PublishedOrder(Order, gc=False):
    """An order with what its execution reports say, and the last of them as it was sent."""

    client_order_id: str
    order_type: str
    time_in_force: str
    report: bytes = b""

    @property
    def cumulative(self) -> int:
        return self.quantity - self.leaves


Message = tuple[str, PublicMessage]  # topic, message
Report = tuple[str, ExecutionReport, PublishedOrder | None]  # topic, report, its order where it is known


class Feed:
    """One asset's published state: its book, its live orders, and the last number of each topic."""

    def __init__(self, asset: str) -> None:
        self.asset = asset
        self.definition: Asset | None = None
        self.status: messages.Status | None = None
        self.book = Book()
        self.sequence = 0  # of the last request folded in
        self.time = 0
        self.entering: dict[int, PublishedOrder] = {}  # live orders outside the book, while their request is applied
        self.replaced: PublishedOrder | None = None  # left the book by an amend, and what it does next is not known yet
        self.topics = {name: f"{name}/{asset}/" for name in PUBLIC_TOPICS}
        self.sequences = dict.fromkeys(PUBLIC_TOPICS, 0)
        self.account_sequences: dict[str, int] = {}
        self.bbo: tuple[tuple[int, int] | None, tuple[int, int] | None] = (None, None)
        self.touched: dict[tuple[int, int], None] = {}  # (side, price) of the levels that the request has changed
        self.public: list[Message] = []
        self.private: list[Report] = []
        self.ended: list[PublishedOrder] = []
        self.handlers: dict[type, Callable[[EventRecord, Any], None]] = {
            events.AssetDefined: self._defined,
            events.OrderAccepted: self._accepted,
            events.OrderRejected: self._rejected,
            events.TradeExecuted: self._trade,
            events.OrderRested: self._rested,
            events.OrderCanceled: self._canceled,
            events.OrderReplaced: self._replaced,
            events.CancelRejected: self._cancel_rejected,
            events.AmendRejected: self._amend_rejected,
        }

    def apply(self, record: EventRecord) -> None:
        """Fold one request's events in. Its messages are added to `public` and `private`, orders that ended to `ended`.

        The caller empties the three lists.
        """
        assert record.sequence == self.sequence + 1, f"{self.asset}: {record.sequence} after {self.sequence}"
        self.sequence = record.sequence
        self.time = record.time
        handlers = self.handlers
        for event in record.events:
            handlers[type(event)](record, event)
        if self.touched:
            self._publish_levels(record.time)

    # -- events --------------------------------------------------------------------------------------------------------

    def _defined(self, record: EventRecord, event: events.AssetDefined) -> None:
        assert isinstance(record.request, DefineAsset)
        self.definition = record.request.definition
        if self.status is None:
            number = self._next("status")
            self.status = messages.Status(self.asset, number, "open", "defined", record.time)
            self.public.append((self.topics["status"], self.status))

    def _accepted(self, record: EventRecord, event: events.OrderAccepted) -> None:
        order = self._new_order(record)
        self.entering[order.order_id] = order
        self._report(record, "new", order, "new")

    def _rejected(self, record: EventRecord, event: events.OrderRejected) -> None:
        order = self._new_order(record)
        order.leaves = 0
        self._report(record, "rejected", order, "rejected", reason=event.reason, cumulative=0)
        self.ended.append(order)

    def _trade(self, record: EventRecord, event: events.TradeExecuted) -> None:
        if self.replaced is not None:
            self._publish_deletion(record.time)
        maker_id, quantity, price, time = event.maker_order_id, event.quantity, event.price, record.time
        maker = self.book.accounts[event.maker_account].orders[maker_id]
        assert isinstance(maker, PublishedOrder)
        if maker.leaves == quantity:
            self.book.remove(maker)
            maker.leaves = 0
            self.ended.append(maker)
        else:
            self.book.ladders[maker.side].reduce(maker, quantity)
        self.touched[maker.side, price] = None
        taker = self.entering[event.taker_order_id]
        taker.leaves -= quantity
        if not taker.leaves:
            del self.entering[event.taker_order_id]
            self.ended.append(taker)
        sequences = self.sequences
        sequences["trade"] = number = sequences["trade"] + 1
        assert number == event.trade_id
        self.public.append(
            (
                self.topics["trade"],
                messages.Trade(
                    self.asset,
                    number,
                    number,
                    price,
                    quantity,
                    SIDE_NAMES[event.aggressor],
                    maker_id,
                    event.taker_order_id,
                    time,
                ),
            )
        )
        sequences["order"] = at = sequences["order"] + 1
        self.public.append(
            (self.topics["order"], messages.OrderExecuted(self.asset, at, maker_id, quantity, price, number, time))
        )
        self._report_trade(record, maker, event, "maker")
        self._report_trade(record, taker, event, "taker")

    def _rested(self, record: EventRecord, event: events.OrderRested) -> None:
        order = self.entering.pop(event.order_id)
        assert order.leaves == event.quantity
        self.book.add(order)
        self.touched[order.side, order.price] = None
        sequences = self.sequences
        sequences["order"] = number = sequences["order"] + 1
        message: PublicMessage
        if self.replaced is order:
            self.replaced = None
            message = messages.OrderReplaced(self.asset, number, order.order_id, order.price, order.leaves, record.time)
        else:
            message = messages.OrderAdded(
                self.asset, number, order.order_id, SIDE_NAMES[order.side], order.price, order.leaves, record.time
            )
        self.public.append((self.topics["order"], message))

    def _canceled(self, record: EventRecord, event: events.OrderCanceled) -> None:
        if self.replaced is not None:
            self._publish_deletion(record.time)
        order = self.entering.pop(event.order_id, None)
        if order is None:
            order = self._resting(event.order_id, record.account)
            self.book.remove(order)
            self.touched[order.side, order.price] = None
            number = self._next("order")
            self.public.append(
                (self.topics["order"], messages.OrderDeleted(self.asset, number, order.order_id, record.time))
            )
        cumulative = order.cumulative
        order.leaves = 0
        self._report(record, "canceled", order, "canceled", reason=event.reason, cumulative=cumulative)
        self.ended.append(order)

    def _replaced(self, record: EventRecord, event: events.OrderReplaced) -> None:
        order = self._resting(event.order_id, record.account)
        cumulative = order.cumulative
        if event.priority_kept:
            reduced = order.leaves - event.leaves
            if reduced:
                self.touched[order.side, order.price] = None
                self.book.ladders[order.side].reduce(order, reduced)
                order.quantity = event.quantity
                number = self._next("order")
                self.public.append(
                    (
                        self.topics["order"],
                        messages.OrderReduced(self.asset, number, order.order_id, reduced, record.time),
                    )
                )
        else:
            self.touched[order.side, order.price] = None
            self.book.remove(order)
            order.price, order.quantity, order.leaves = event.price, event.quantity, event.leaves
            self.entering[order.order_id] = order
            self.replaced = order
        self._report(record, "replaced", order, "partially_filled" if cumulative else "new")

    def _cancel_rejected(self, record: EventRecord, event: events.CancelRejected) -> None:
        assert isinstance(record.request, CancelOrder)
        self._report_unknown(record, "cancel_rejected", event.order_id, event.reason)

    def _amend_rejected(self, record: EventRecord, event: events.AmendRejected) -> None:
        assert isinstance(record.request, AmendOrder)
        self._report_unknown(record, "amend_rejected", event.order_id, event.reason)

    # -- orders --------------------------------------------------------------------------------------------------------

    def _new_order(self, record: EventRecord) -> PublishedOrder:
        request = record.request
        assert isinstance(request, NewOrder)
        return PublishedOrder(
            request.order_id,
            self.book.account(record.account),
            request.side,
            request.price,
            request.quantity,
            request.quantity,
            request.client_order_id,
            request.order_type,
            request.time_in_force,
        )

    def _resting(self, order_id: int, account: str) -> PublishedOrder:
        order = self.book.accounts[account].orders[order_id]
        assert isinstance(order, PublishedOrder)
        return order

    # -- messages ------------------------------------------------------------------------------------------------------

    def _next(self, topic: str) -> int:
        self.sequences[topic] = number = self.sequences[topic] + 1
        return number

    def _publish_deletion(self, time: int) -> None:
        """An amended order that trades, or ends, has left the book: it is not merely replaced."""
        assert self.replaced is not None
        number = self._next("order")
        deleted = messages.OrderDeleted(self.asset, number, self.replaced.order_id, time)
        self.public.append((self.topics["order"], deleted))
        self.replaced = None

    def _publish_levels(self, time: int) -> None:
        """Publish the levels that the request has changed, and the best bid and offer where they have."""
        changes: list[tuple[SideName, int, int, int]] = []
        ladders = self.book.ladders
        for side, price in self.touched:
            changes.append((SIDE_NAMES[side], price, *ladders[side].at(price)))
        self.touched.clear()
        sequences = self.sequences
        sequences["book"] = number = sequences["book"] + 1
        self.public.append((self.topics["book"], messages.BookUpdate(self.asset, number, changes, time)))
        bbo = (self.book.best(BUY), self.book.best(SELL))
        if bbo != self.bbo:
            self.bbo = bbo
            sequences["bbo"] = number = sequences["bbo"] + 1
            self.public.append((self.topics["bbo"], messages.Bbo(self.asset, number, bbo[0], bbo[1], time)))

    def _next_report(self, account: str) -> int:
        self.account_sequences[account] = number = self.account_sequences.get(account, 0) + 1
        return number

    def _report(
        self,
        record: EventRecord,
        exec_type: str,
        order: PublishedOrder,
        status: str,
        reason: str | UnsetType = UNSET,
        cumulative: int | None = None,
    ) -> None:
        account = order.account.name
        report = ExecutionReport(
            account=account,
            asset=self.asset,
            sequence=self._next_report(account),
            exec_type=exec_type,
            order_status=status,
            order_id=order.order_id,
            client_order_id=order.client_order_id,
            side=SIDE_NAMES[order.side],
            order_type=order.order_type,
            time_in_force=order.time_in_force,
            price=order.price or UNSET,
            quantity=order.quantity,
            cumulative_quantity=order.cumulative if cumulative is None else cumulative,
            leaves_quantity=order.leaves,
            reason=reason,
            time=record.time,
        )
        self.private.append((f"execution/{account}/{self.asset}/", report, order))

    def _report_trade(
        self, record: EventRecord, order: PublishedOrder, event: events.TradeExecuted, liquidity: Any
    ) -> None:
        account, leaves = order.account.name, order.leaves
        self.account_sequences[account] = number = self.account_sequences.get(account, 0) + 1
        report = ExecutionReport(
            account=account,
            asset=self.asset,
            sequence=number,
            exec_type="trade",
            order_status="partially_filled" if leaves else "filled",
            order_id=order.order_id,
            client_order_id=order.client_order_id,
            side=SIDE_NAMES[order.side],
            order_type=order.order_type,
            time_in_force=order.time_in_force,
            price=order.price or UNSET,
            quantity=order.quantity,
            cumulative_quantity=order.quantity - leaves,
            leaves_quantity=leaves,
            last_price=event.price,
            last_quantity=event.quantity,
            trade_id=event.trade_id,
            liquidity=liquidity,
            time=record.time,
        )
        self.private.append((f"execution/{account}/{self.asset}/", report, order))

    def _report_unknown(self, record: EventRecord, exec_type: str, order_id: int, reason: str) -> None:
        """Report a refused cancel or amend; where its order is live, with the order's state."""
        order = self.book.find(order_id, record.account)
        account = record.account
        report = ExecutionReport(
            account=account,
            asset=self.asset,
            sequence=self._next_report(account),
            exec_type=exec_type,
            order_id=order_id,
            reason=reason,
            time=record.time,
        )
        if isinstance(order, PublishedOrder):
            # An amend that was refused has changed nothing: the order's last report stays what it was.
            report = _with_order(report, order)
        self.private.append((f"execution/{account}/{self.asset}/", report, None))

    def check(self) -> None:
        """Assert what holds between requests. O(orders)."""
        self.book.check()
        assert not self.entering, "an order enters within its request"
        assert self.replaced is None
        assert not self.touched


def _with_order(report: ExecutionReport, order: PublishedOrder) -> ExecutionReport:
    return ExecutionReport(
        account=report.account,
        asset=report.asset,
        sequence=report.sequence,
        exec_type=report.exec_type,
        order_status="partially_filled" if order.cumulative else "new",
        order_id=report.order_id,
        client_order_id=order.client_order_id,
        side=SIDE_NAMES[order.side],
        order_type=order.order_type,
        time_in_force=order.time_in_force,
        price=order.price or UNSET,
        quantity=order.quantity,
        cumulative_quantity=order.cumulative,
        leaves_quantity=order.leaves,
        reason=report.reason,
        time=report.time,
    )
