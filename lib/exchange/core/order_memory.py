"""What order entry remembers: each asset's queue, and every order and id of every account, so that retries are safe.

All of it is a function of the journal's records: `restore` makes it again at the start.

Memory, per order: 17 bytes in arrays by order id, and about 200 for its `client_order_id`; at most
`max_remembered_ids` of the latter.
"""

from array import array
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from exchange.core import requests
from exchange.core.asset import Asset, Status
from exchange.core.requests import EXCHANGE, OrderType, Record
from exchange.core.trading_status import TradingStatus, first_status

ORDER_TYPES: tuple[OrderType, ...] = ("limit", "market", "stop", "stop_limit")
TYPE_PLACES: dict[OrderType, int] = {order_type: place for place, order_type in enumerate(ORDER_TYPES)}


class AssetQueue(Struct):
    """An asset's queue as order entry sees it: `sequence` is the last place given, `applied` the last known as done."""

    number: int
    name: str
    definition: Asset
    status: TradingStatus
    sequence: int = 0
    applied: int = 0
    listed: bool = True  # whether the configuration still has it, or an operator
    delisted: bool = False  # by an operator: until one lists it again


class AccountIds(Struct):
    """What an account has used: its client_order_ids with their orders, its request_ids with their records."""

    number: int
    name: str
    orders: dict[str, int]
    requests: dict[str | int, tuple[tuple[str, int], ...]]
    assets: set[int]  # numbers of the queues in which it ever had an order


class Timers(Protocol):
    """Who is told of each record, taken or restored, to know what falls due when."""

    def note(self, record: Record) -> None: ...

    def heard(self, account: str, time: int) -> None:
        """Note a sign of life that is no record: a ping of the account."""


class Limits(Protocol):
    """Who limits what accounts may enter. The checks raise Rejection; None is what an amend leaves as it is.

    It is told of every order and amend, taken or restored.
    """

    def check_rate(self, account: str, now: int, cancels: bool) -> None: ...

    def check_order(self, account: str, asset: str, quantity: int, price: int) -> None: ...

    def check_amend(self, account: str, asset: str, order_id: int, quantity: int | None, price: int | None) -> None: ...

    def took_order(self, account: str, asset: str, sequence: int, quantity: int, price: int) -> None: ...

    def took_amend(self, order_id: int, quantity: int | None, price: int | None) -> None: ...


class OrderMemory:
    """The queues, the accounts, the orders.

    `read(asset, sequence)` gives a record that was taken before.
    """

    def __init__(self, read: Callable[[str, int], Record], timers: Timers | None, limits: Limits | None) -> None:
        self.read = read
        self.timers = timers
        self.limits = limits
        self.time = 0  # of the last record; it never runs backwards
        self.queues: dict[str, AssetQueue] = {}
        # Of requests that concern no asset. No matching daemon applies it, so that it has no backlog.
        self.exchange = AssetQueue(-1, EXCHANGE, Asset(asset=EXCHANGE), TradingStatus("open"), listed=False)
        self.accounts: dict[str, AccountIds] = {}
        self.remembered_ids = 0
        # By order id: ids are dense, the first is 1, so that place 0 belongs to none.
        self.order_accounts = array("I", [0])
        self.order_assets = array("I", [0])  # by number: every asset that ever was listed has one
        self.order_sequences = array("Q", [0])
        self.order_types = array("B", [0])  # places in ORDER_TYPES

    def restore(self, record: Record) -> None:
        """Remember a record of the journal. To be called with all of them, in order, before any request."""
        self.time = record.time
        request = record.request
        queue = self.exchange if record.asset == EXCHANGE else self.queues.get(record.asset)
        if type(request) is requests.DefineAsset:
            queue = queue or self._new_queue(request.definition)
        assert queue is not None, "an asset's first record is its definition"
        queue.sequence = record.sequence
        self._remember(queue, record)
        if type(request) is requests.DefineAsset:
            queue.listed = False  # until the configuration says so

    def note_applied(self, asset: str, sequence: int) -> None:
        """Note up to where an asset's matching daemon has come. (While it rebuilds its book it seems to be behind.)"""
        queue = self.queues.get(asset)
        if queue is not None and sequence > queue.applied:
            queue.applied = sequence

    def note_status(self, asset: str, sequence: int, status: Status, call: int, call_ends: int) -> None:
        """Note the status that an asset's matching daemon has reported as of the place `sequence` of its queue.

        A volatility interruption is known there only. A report counts where nothing later is known: no change of the
        status that was taken since, and no later report (a daemon that rebuilds its book goes through old ones).
        """
        queue = self.queues.get(asset)
        if queue is not None and sequence >= queue.status.sequence:
            queue.status.set(status, sequence, call, call_ends)

    # -- remembering a record, taken or restored -----------------------------------------------------------------------

    def _remember(self, queue: AssetQueue, record: Record) -> None:
        request = record.request
        if type(request) is requests.NewOrder:
            self._remember_order(queue, record, request)
        elif type(request) is requests.CancelOrder or type(request) is requests.MassCancel:
            self._remember_request(record, request.request_id)
        elif type(request) is requests.AmendOrder:
            self._remember_request(record, request.request_id)
            if self.limits is not None:
                self.limits.took_amend(request.order_id, request.quantity, request.price)
        elif type(request) is requests.DefineAsset:
            queue.definition = request.definition
            if queue.delisted:
                queue.status = TradingStatus(first_status(request.definition), record.sequence)
            queue.listed, queue.delisted = True, False
        elif type(request) is requests.ChangeStatus:
            queue.status.change(request, record.sequence)
        elif type(request) is requests.Delist:
            queue.status = TradingStatus("closed", record.sequence)
            queue.listed, queue.delisted = False, True
        elif queue is self.exchange and record.account not in self.accounts:
            self._account(record.account)
            self.remembered_ids += 1
        if self.timers is not None:
            self.timers.note(record)

    def _remember_order(self, queue: AssetQueue, record: Record, request: requests.NewOrder) -> None:
        assert request.order_id == len(self.order_accounts), "order ids are dense"
        ids = self.accounts.get(record.account) or self._account(record.account)
        self.order_accounts.append(ids.number)
        self.order_assets.append(queue.number)
        self.order_sequences.append(record.sequence)
        self.order_types.append(TYPE_PLACES[request.order_type])
        ids.orders[request.client_order_id] = request.order_id
        ids.assets.add(queue.number)
        self.remembered_ids += 1
        if self.limits is not None:
            self.limits.took_order(record.account, record.asset, record.sequence, request.quantity, request.price)

    def _remember_request(self, record: Record, request_id: requests.RequestId) -> None:
        if request_id is not None:
            known = self._account(record.account).requests
            if request_id not in known:
                self.remembered_ids += 1
            known[request_id] = (*known.get(request_id, ()), (record.asset, record.sequence))

    def _new_queue(self, definition: Asset) -> AssetQueue:
        queue = AssetQueue(len(self.queues), definition.asset, definition, TradingStatus(first_status(definition)))
        self.queues[definition.asset] = queue
        return queue

    def _account(self, name: str) -> AccountIds:
        ids = self.accounts.get(name)
        if ids is None:
            ids = self.accounts[name] = AccountIds(len(self.accounts), name, {}, {}, set())
        return ids

    # -- orders by their ids -------------------------------------------------------------------------------------------

    def _asset_of(self, order_id: int) -> str:
        number = self.order_assets[order_id]
        return next(name for name, queue in self.queues.items() if queue.number == number)

    def _order_type(self, order_id: int) -> OrderType:
        return ORDER_TYPES[self.order_types[order_id]]
