"""Order entry in memory, for tests: its journal a list, its clock a number."""

from collections.abc import Iterator
from typing import Any, cast

from exchange.core import messages, requests
from exchange.core.asset import Asset, Status
from exchange.core.messages import Ack, NewOrder, Reject
from exchange.core.order_entry import OrderEntry
from exchange.core.order_memory import Limits, Timers
from exchange.core.requests import Record

ACME = Asset(asset="ACME", price_scale=2, tick_size=5, lot_size=10, max_quantity=1000, min_price=10, max_price=10_000)
BTC = Asset(asset="BTC-USD", price_scale=2, quantity_scale=8)


class Entry:
    """Order entry with its journal in a list and its clock in a number; order entry looks into it."""

    def __init__(
        self,
        *assets: Asset,
        max_backlog: int = 1000,
        max_remembered_ids: int = 1000,
        timers: Timers | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.time = 1000
        self._room = 1000
        self.journal: list[Record] = []
        self.order_entry = OrderEntry(
            self,
            lambda count: count <= self.room,
            lambda: self.time,
            max_backlog,
            max_remembered_ids,
            timers,
            limits,
        )
        for asset in assets or (ACME, BTC):
            self.define(asset)

    @property
    def room(self) -> int:
        """How many records more have room. (In earnest it gets less only by those that are taken.)"""
        return self._room

    @room.setter
    def room(self, records: int) -> None:
        self._room = records
        self.order_entry.room = 0  # what was found before does not count

    def read_order(self, order_id: int) -> Record | None:
        return next(record for record, order in self._orders() if order.order_id == order_id)

    def find_order(self, account: str, client_order_id: str) -> Record | None:
        ids = (account, client_order_id)
        return next(
            (record for record, order in self._orders() if (record.account, order.client_order_id) == ids), None
        )

    def find_order_id(self, account: str, client_order_id: str) -> int | None:
        record = self.find_order(account, client_order_id)
        return None if record is None else cast(requests.NewOrder, record.request).order_id

    def find_requests(self, account: str, request_id: str | int) -> list[Record]:
        kinds = requests.AmendOrder | requests.CancelOrder | requests.MassCancel
        return [
            record
            for record in self.journal
            if isinstance(record.request, kinds)
            and (record.account, record.request.request_id) == (account, request_id)
        ]

    def _orders(self) -> Iterator[tuple[Record, requests.NewOrder]]:
        for record in self.journal:
            if type(record.request) is requests.NewOrder:
                yield record, record.request

    def define(self, asset: Asset, by: str = "") -> bool:
        changed = self.order_entry.define(asset, by)
        self.write()
        return changed

    def write(self) -> None:
        """Take over what order entry has taken, as the caller does that writes the journal."""
        self.journal.extend(self.order_entry.records)
        self.order_entry.records.clear()

    def handle(self, message: messages.OrderEntryRequest) -> messages.OrderEntryReply:
        reply = self.order_entry.handle(message)
        self.write()
        return reply

    def ack(self, message: messages.OrderEntryRequest) -> Ack:
        """Handle a message that has to be taken."""
        reply = self.handle(message)
        assert isinstance(reply, Ack), reply
        return reply

    def reject(self, message: messages.OrderEntryRequest) -> tuple[str, str]:
        """Handle a message that has to be rejected; return reason and text."""
        before = len(self.journal)
        reply = self.handle(message)
        assert isinstance(reply, Reject), reply
        assert len(self.journal) == before, "a reject means that nothing was journaled"
        return reply.reason, reply.text

    def change_status(self, asset: str, status: Status, reason: str = "operator", **options: Any) -> Record | None:
        """Change an asset's status, by an operator unless `by` is given."""
        record = self.order_entry.change_status(asset, status, reason, **({"by": "root"} | options))
        self.write()
        return record

    def restored(self, timers: Timers | None = None, limits: Limits | None = None) -> "Entry":
        """Return order entry as it would be after a restart: from the journal's records, then the configuration."""
        other = Entry.__new__(Entry)
        other.time, other._room, other.journal = self.time, self.room, list(self.journal)
        other.order_entry = OrderEntry(
            other,
            lambda count: count <= other.room,
            lambda: other.time,
            self.order_entry.max_backlog,
            self.order_entry.max_remembered_ids,
            timers,
            limits,
        )
        for record in self.journal:
            other.order_entry.restore(record)
        for queue in self.order_entry.queues.values():
            if queue.listed:
                assert not other.define(queue.definition)
        return other


def new_order(client_order_id: str = "a", **changes: Any) -> NewOrder:
    """Return an order for 20 ACME at 100, changed."""
    fields: dict[str, Any] = {"asset": "ACME", "side": "buy", "quantity": 20, "price": 100, "account": "ann"} | changes
    return NewOrder(client_order_id=client_order_id, **fields)
