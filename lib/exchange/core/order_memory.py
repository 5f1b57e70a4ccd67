"""What order entry remembers: queues, accounts, the latest orders. Older orders, and all ids, are in the journal.

All of it is a function of the journal's records: `restore` makes it again at the start, from all of them or from those
after a state (`order_entry_state.py`). Its memory does not grow with the orders: 8 bytes for each of the latest, about
400 for an account.
"""

from array import array
from typing import Literal, Protocol

from msgspec import Struct

from exchange.core import requests
from exchange.core.asset import Asset, Status
from exchange.core.requests import EXCHANGE, OrderType, Record
from exchange.core.trading_status import TradingStatus, first_status

RECENT_ORDERS = 2**19  # of which is known whose they are without a look into the journal, at least; twice that at most
MOST_ACCOUNTS = 1_000_000  # about 400 bytes each
ORDER_TYPES: tuple[OrderType, ...] = ("limit", "market", "stop", "stop_limit")
TYPE_PLACES: dict[OrderType, int] = {order_type: place for place, order_type in enumerate(ORDER_TYPES)}
TYPE_BITS = 2
MOST_TYPE = (1 << TYPE_BITS) - 1
ACCOUNT_SHIFT = 32
MOST_ASSET = (1 << ACCOUNT_SHIFT - TYPE_BITS) - 1  # every asset that ever was listed has a number


class AssetQueue(Struct):
    """An asset's queue as order entry sees it: `sequence` is the last place given, `applied` the last known as done.

    A negative `applied`: nothing is taken until somebody has said what was done (`ExchangeActs.hold`). `recorded` is
    the status as the journal's records alone have it; `status` is that too until a matching daemon has reported
    another.
    """

    number: int
    name: str
    definition: Asset
    status: TradingStatus
    recorded: TradingStatus
    sequence: int = 0
    applied: int = 0
    listed: bool = True  # whether the configuration still has it, or an operator
    delisted: bool = False  # by an operator: until one lists it again


class Account(Struct):
    """An account that has had anything taken. `assets` are the numbers of the queues in which it ever had an order."""

    number: int
    assets: set[int]


class Journal(Protocol):
    """The records that were taken before."""

    def read_order(self, order_id: int) -> Record | None:
        """Return the record that entered an order, None where the journal does not go back that far any more."""

    def find_order(self, account: str, client_order_id: str) -> Record | None:
        """Return the record that used a client_order_id first, None where none has."""

    def find_order_id(self, account: str, client_order_id: str) -> int | None:
        """Return the id of the order that used a client_order_id first, None where none has."""

    def find_requests(self, account: str, request_id: str | int) -> list[Record]:
        """Return the records of the request that used a request_id first: a mass cancel has several; none: empty."""


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
    """The queues, the accounts, the latest orders. `journal` finds what was taken before, a moment ago included."""

    def __init__(self, journal: Journal, timers: Timers | None, limits: Limits | None) -> None:
        self.journal = journal
        self.timers = timers
        self.limits = limits
        self.time = 0  # the latest seen; it never runs backwards
        self.record_time = 0  # of the last record
        self.queues: dict[str, AssetQueue] = {}
        # Of requests that concern no asset. No matching daemon applies it, so that it has no backlog.
        self.exchange = AssetQueue(
            -1, EXCHANGE, Asset(asset=EXCHANGE), TradingStatus("open"), TradingStatus("open"), listed=False
        )
        self.accounts: dict[str, Account] = {}
        self.remembered_ids = 0
        self.next_order_id = 1  # ids are dense
        # Of the latest orders, from the id `first_recent` on.
        self.first_recent = 1
        self.recent_orders = array("Q")  # each the numbers of its account and its asset, and its type's place

    def restore(self, record: Record) -> None:
        """Remember a record of the journal: all, in order, before any request; or those after a state's, and that."""
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
        self.record_time = record.time
        request = record.request
        if type(request) is requests.NewOrder:
            assert request.order_id == self.next_order_id, "order ids are dense"
            self.next_order_id += 1
            account = self.accounts.get(record.account) or self._account(record.account)
            recent_orders = self.recent_orders
            recent_orders.append(
                account.number << ACCOUNT_SHIFT | queue.number << TYPE_BITS | TYPE_PLACES[request.order_type]
            )
            if len(recent_orders) >= 2 * RECENT_ORDERS:
                self.forget_orders_before(self.first_recent + RECENT_ORDERS)
            account.assets.add(queue.number)
            self.remembered_ids += 1
            if self.limits is not None:
                self.limits.took_order(record.account, record.asset, record.sequence, request.quantity, request.price)
        elif type(request) is requests.CancelOrder:
            if request.request_id is not None:
                self._remember_request(record)
        elif type(request) is requests.MassCancel:
            if request.request_id is not None and request.part == 1:
                self._remember_request(record)
        elif type(request) is requests.AmendOrder:
            if request.request_id is not None:
                self._remember_request(record)
            if self.limits is not None:
                self.limits.took_amend(request.order_id, request.quantity, request.price)
        elif type(request) is requests.DefineAsset:
            queue.definition = request.definition
            if queue.delisted:
                queue.status = TradingStatus(first_status(request.definition), record.sequence)
                queue.recorded = TradingStatus(first_status(request.definition), record.sequence)
            queue.listed, queue.delisted = True, False
        elif type(request) is requests.ChangeStatus:
            queue.status.change(request, record.sequence)
            queue.recorded.change(request, record.sequence)
        elif type(request) is requests.Delist:
            queue.status = TradingStatus("closed", record.sequence)
            queue.recorded = TradingStatus("closed", record.sequence)
            queue.listed, queue.delisted = False, True
        elif queue is self.exchange and record.account not in self.accounts:
            self._account(record.account)
            self.remembered_ids += 1
        if self.timers is not None:
            self.timers.note(record)

    def forget_orders_before(self, order_id: int) -> None:
        """Look orders before this one up in the journal from now on."""
        del self.recent_orders[: order_id - self.first_recent]
        self.first_recent = order_id

    def _remember_request(self, record: Record) -> None:
        """Count a request_id: each is used once, since what repeats it is not taken."""
        if record.account not in self.accounts:
            self._account(record.account)
        self.remembered_ids += 1

    def _new_queue(self, definition: Asset) -> AssetQueue:
        status = first_status(definition)
        queue = AssetQueue(len(self.queues), definition.asset, definition, TradingStatus(status), TradingStatus(status))
        self.queues[definition.asset] = queue
        return queue

    def _account(self, name: str) -> Account:
        account = self.accounts.get(name)
        if account is None:
            account = self.accounts[name] = Account(len(self.accounts), set())
        return account

    # -- orders by their ids -------------------------------------------------------------------------------------------

    def _order_of(self, account: Account, queue: AssetQueue, order_id: int) -> OrderType | Literal[""] | None:
        """Return the type of an order that is the account's, in that queue; None where there is no such order.

        Empty where the journal does not go back that far any more: whose order it was is known to matching only.
        """
        place = order_id - self.first_recent
        if place >= 0:
            if place < len(self.recent_orders):
                owner: int = self.recent_orders[place]
                if owner >> ACCOUNT_SHIFT == account.number and owner >> TYPE_BITS & MOST_ASSET == queue.number:
                    return ORDER_TYPES[owner & MOST_TYPE]
            return None
        if order_id <= 0:
            return None
        record = self.journal.read_order(order_id)
        if record is None:
            return ""
        if record.asset != queue.name or self.accounts.get(record.account) is not account:
            return None
        assert type(record.request) is requests.NewOrder
        return record.request.order_type
