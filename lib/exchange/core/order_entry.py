"""Order entry: judges each request, gives it its place, and remembers it so that a retry is safe. No socket, no file.

A request that is taken becomes a `Record` (in `records`, for the caller to write to the journal) and an `Ack` (to be
sent once the record is on disk). One that is not becomes a `Reject`, and changes nothing. What is remembered is rebuilt
at the start by `restore` from the journal's records.

Memory, per order: 14 bytes in arrays by order id, and about 200 for its `client_order_id`; at most
`max_remembered_ids` of the latter.
"""

from array import array
from collections.abc import Callable
from typing import Any, Literal, NoReturn

from msgspec import UNSET, Struct

from exchange.core import messages, requests
from exchange.core.asset import ACCOUNT_NAME, Asset
from exchange.core.messages import Ack, OrderEntryReply, Pong, Reject
from exchange.core.request_checks import (
    MAX_ID_LENGTH,
    Rejection,
    check_account,
    check_request_id,
    is_id,
    readable_id,
    reject_account,
    reject_id,
    reject_price,
    reject_quantity,
    supported,
)
from exchange.core.requests import Record, Request

SIDES = requests.SIDES


class AssetQueue(Struct):
    """An asset's queue as order entry sees it: `sequence` is the last place given, `applied` the last known as done."""

    number: int
    definition: Asset
    sequence: int = 0
    applied: int = 0
    listed: bool = True  # whether the configuration still has it


class AccountIds(Struct):
    """What an account has used: its client_order_ids with their orders, its request_ids with their records."""

    number: int
    name: str
    orders: dict[str, int]
    requests: dict[str | int, tuple[tuple[str, int], ...]]


class OrderEntry:
    """Order entry for all assets.

    `read(asset, sequence)` gives a record that was taken before; `has_room(count)` says whether `count` more can be put
    on disk; `clock` gives nanoseconds since the Unix epoch.
    """

    def __init__(
        self,
        read: Callable[[str, int], Record],
        has_room: Callable[[int], bool],
        clock: Callable[[], int],
        max_backlog: int,
        max_remembered_ids: int,
    ) -> None:
        self.read = read
        self.has_room = has_room
        self.clock = clock
        self.max_backlog = max_backlog
        self.max_remembered_ids = max_remembered_ids
        self.time = 0  # of the last record; it never runs backwards
        self.queues: dict[str, AssetQueue] = {}
        self.accounts: dict[str, AccountIds] = {}
        self.remembered_ids = 0
        # By order id: ids are dense, the first is 1, so that place 0 belongs to none.
        self.order_accounts = array("I", [0])
        self.order_assets = array("H", [0])
        self.order_sequences = array("Q", [0])
        self.records: list[Record] = []  # taken since the caller last emptied it
        self.handlers: dict[type, Callable[[Any], OrderEntryReply]] = {
            messages.NewOrder: self._new_order,
            messages.AmendOrder: self._amend_order,
            messages.CancelOrder: self._cancel_order,
            messages.MassCancel: self._mass_cancel,
            messages.Ping: self._ping,
        }

    # -- assets --------------------------------------------------------------------------------------------------------

    def define(self, asset: Asset) -> bool:
        """Take an asset's definition into its queue if it is new or has changed; return whether it was.

        Raises ValueError where a scale differs from the one the asset has traded with.
        """
        queue = self.queues.get(asset.asset)
        if queue is not None:
            queue.listed = True
            known = queue.definition
            if known == asset:
                return False
            for scale in ("price_scale", "quantity_scale"):
                if getattr(known, scale) != getattr(asset, scale):
                    raise ValueError(
                        f"{scale} = {getattr(asset, scale)}: {asset.asset} has traded with {getattr(known, scale)}, "
                        "and a scale can't change, since all its prices or quantities on record would; list it under "
                        "another name"
                    )
        self._take(asset.asset, "", requests.DefineAsset(asset))
        return True

    def restore(self, record: Record) -> None:
        """Remember a record of the journal. To be called with all of them, in order, before any request."""
        self.time = record.time
        request = record.request
        if type(request) is requests.DefineAsset:
            self._define(record.asset, request.definition)
            self.queues[record.asset].listed = False  # until the configuration says so
        queue = self.queues[record.asset]
        queue.sequence = record.sequence
        if type(request) is requests.NewOrder:
            self._remember_order(self._account(record.account), queue, record.sequence, request)
        elif type(request) in (requests.AmendOrder, requests.CancelOrder, requests.MassCancel):
            self._remember_request(record)

    def note_applied(self, asset: str, sequence: int) -> None:
        """Note up to where an asset's matching daemon has come. (While it rebuilds its book it seems to be behind.)"""
        queue = self.queues.get(asset)
        if queue is not None and sequence > queue.applied:
            queue.applied = sequence

    # -- requests ------------------------------------------------------------------------------------------------------

    def handle(self, message: messages.OrderEntryRequest) -> OrderEntryReply:
        """Judge a request: return its Ack (records in `records`), Pong or Reject."""
        try:
            return self.handlers[type(message)](message)
        except Rejection as rejection:
            return Reject(
                request=TYPE_NAMES[type(message)],
                reason=rejection.reason,
                text=rejection.text,
                client_order_id=readable_id(getattr(message, "client_order_id", UNSET)),
                request_id=readable_id(message.request_id),
            )

    def _ping(self, message: messages.Ping) -> Pong:
        if message.request_id is not UNSET:
            check_request_id(message.request_id)
        return Pong(time=self._now(), request_id=message.request_id)

    def _new_order(self, message: messages.NewOrder) -> Ack:
        account, client_order_id = message.account, message.client_order_id
        if type(account) is not str or (account not in self.accounts and not ACCOUNT_NAME.match(account)):
            reject_account(account)
        if not (
            0 < len(client_order_id) <= MAX_ID_LENGTH and client_order_id.isascii() and client_order_id.isprintable()
        ):
            reject_id("client_order_id", client_order_id)
        if message.request_id is not UNSET:
            check_request_id(message.request_id)
        queue = self._queue(message.asset)
        order_type, time_in_force = supported(message)
        side, quantity = SIDES[message.side], message.quantity
        if quantity is UNSET:
            raise Rejection("invalid_quantity", "quantity: is missing; every order needs one")
        price = 0
        if message.price is not UNSET:
            if order_type == "market":
                raise Rejection("invalid_price", f"price {message.price}: a market order takes no price; leave it out")
            price = message.price
        ids = self.accounts.get(account)
        if ids is not None and (order_id := ids.orders.get(client_order_id)) is not None:
            candidate = requests.NewOrder(order_id, client_order_id, side, quantity, price, order_type, time_in_force)
            return self._repeat_order(message, candidate)
        definition = queue.definition
        if not definition.min_quantity <= quantity <= definition.max_quantity or quantity % definition.lot_size:
            reject_quantity(quantity, definition)
        if order_type == "limit" and (
            not definition.min_price <= price <= definition.max_price or price % definition.tick_size
        ):
            reject_price(message.price, definition)
        self._check_bounds(queue, True)
        order_id = len(self.order_accounts)
        request = requests.NewOrder(order_id, client_order_id, side, quantity, price, order_type, time_in_force)
        record = self._take(message.asset, account, request)
        return Ack(
            request="new_order",
            client_order_id=client_order_id,
            order_id=order_id,
            asset=message.asset,
            sequence=record.sequence,
            time=record.time,
            request_id=message.request_id,
        )

    def _amend_order(self, message: messages.AmendOrder) -> Ack:
        if message.stop_price is not UNSET:
            raise Rejection("unsupported", "stop_price: this version has no stop orders yet; leave it out")
        if message.quantity is UNSET and message.price is UNSET:
            raise Rejection("malformed", "an amend needs at least one of quantity and price")
        account, queue, order_id = self._known_order(message)
        quantity = None if message.quantity is UNSET else message.quantity
        price = None if message.price is UNSET else message.price
        request_id = None if message.request_id is UNSET else message.request_id
        request = requests.AmendOrder(order_id, quantity, price, request_id)
        repeated = self._repeat_request(message, account, message.asset, request)
        if repeated is not None:
            return repeated
        definition = queue.definition
        if quantity is not None and (
            not definition.min_quantity <= quantity <= definition.max_quantity or quantity % definition.lot_size
        ):
            reject_quantity(quantity, definition)
        if price is not None and (
            not definition.min_price <= price <= definition.max_price or price % definition.tick_size
        ):
            reject_price(price, definition)
        return self._take_for_order(message, account, queue, request, order_id)

    def _cancel_order(self, message: messages.CancelOrder) -> Ack:
        account, queue, order_id = self._known_order(message)
        request_id = None if message.request_id is UNSET else message.request_id
        request = requests.CancelOrder(order_id, request_id)
        return self._repeat_request(message, account, message.asset, request) or self._take_for_order(
            message, account, queue, request, order_id
        )

    def _mass_cancel(self, message: messages.MassCancel) -> Ack:
        account = check_account(message.account)
        request_id = None if message.request_id is UNSET else check_request_id(message.request_id)
        every = message.asset is UNSET
        names = [name for name, queue in self.queues.items() if queue.listed] if every else [message.asset]
        queues = [self._queue(name) for name in names if type(name) is str]
        side: Literal[0, 1, -1] = 0 if message.side is UNSET else SIDES[message.side]
        asset = queues[0].definition.asset
        parts = len(queues)
        request = requests.MassCancel(side, request_id, every, 1, parts)
        repeated = self._repeat_request(message, account, asset, request)
        if repeated is not None:
            return repeated
        for queue in queues:
            self._check_bounds(queue, request_id is not None, parts)
        taken = [
            self._take(queue.definition.asset, account, requests.MassCancel(side, request_id, every, part, parts))
            for part, queue in enumerate(queues, 1)
        ]
        return _mass_ack(message, taken)

    # -- safe retries --------------------------------------------------------------------------------------------------

    def _repeat_order(self, message: messages.NewOrder, candidate: requests.NewOrder) -> Ack:
        """Acknowledge a new order again where it is the same as the one its client_order_id was used for."""
        order_id = candidate.order_id
        sequence = self.order_sequences[order_id]
        asset = self._asset_of(order_id)
        first = self.read(asset, sequence)
        if asset != message.asset or first.request != candidate:
            raise Rejection(
                "duplicate_client_order_id",
                f"client_order_id {message.client_order_id!r}: used before, for order {order_id} of {asset}, with "
                "other content; a new order takes a new one",
            )
        return Ack(
            request="new_order",
            client_order_id=message.client_order_id,
            order_id=order_id,
            asset=asset,
            sequence=sequence,
            time=first.time,
            duplicate=True,
            request_id=message.request_id,
        )

    def _repeat_request(
        self, message: messages.OrderEntryRequest, account: str, asset: str, request: Request
    ) -> Ack | None:
        """Acknowledge an amend, cancel or mass cancel again where its request_id was used for the same before."""
        ids = self.accounts.get(account)
        if ids is None or message.request_id is UNSET:
            return None
        places = ids.requests.get(message.request_id)
        if places is None:
            return None
        taken = [self.read(*place) for place in places]
        first = taken[0].request
        if type(first) is type(request) is requests.MassCancel and first.all_assets and request.all_assets:
            # The same, although assets may have been added since.
            same = first.side == request.side
        else:
            same = first == request and taken[0].asset == asset
        if not same:
            raise Rejection(
                "duplicate_client_order_id",
                f"request_id {message.request_id!r}: used before with other content; a new request takes a new one",
            )
        if type(message) is messages.MassCancel:
            return _mass_ack(message, taken, duplicate=True)
        assert isinstance(message, messages.AmendOrder | messages.CancelOrder)
        assert isinstance(request, requests.AmendOrder | requests.CancelOrder)
        return _order_ack(message, taken[0], request.order_id, duplicate=True)

    # -- places in the queues ------------------------------------------------------------------------------------------

    def _take(self, asset: str, account: str, request: Request) -> Record:
        """Give a request the next place in its asset's queue."""
        if type(request) is requests.DefineAsset:
            self._define(asset, request.definition)
        queue = self.queues[asset]
        queue.sequence = sequence = queue.sequence + 1
        record = Record(asset, sequence, self._now(), account, request)
        self.records.append(record)
        if type(request) is requests.NewOrder:
            self._remember_order(self._account(account), queue, sequence, request)
        elif type(request) is not requests.DefineAsset:
            self._remember_request(record)
        return record

    def _take_for_order(
        self,
        message: messages.AmendOrder | messages.CancelOrder,
        account: str,
        queue: AssetQueue,
        request: requests.AmendOrder | requests.CancelOrder,
        order_id: int,
    ) -> Ack:
        self._check_bounds(queue, request.request_id is not None)
        return _order_ack(message, self._take(message.asset, account, request), order_id)

    def _now(self) -> int:
        now = self.clock()
        if now > self.time:
            self.time = now
        return self.time

    def _define(self, asset: str, definition: Asset) -> None:
        queue = self.queues.get(asset)
        if queue is None:
            self.queues[asset] = AssetQueue(len(self.queues), definition)
        else:
            queue.definition = definition

    def _account(self, name: str) -> AccountIds:
        ids = self.accounts.get(name)
        if ids is None:
            ids = self.accounts[name] = AccountIds(len(self.accounts), name, {}, {})
        return ids

    def _remember_order(self, ids: AccountIds, queue: AssetQueue, sequence: int, request: requests.NewOrder) -> None:
        assert request.order_id == len(self.order_accounts), "order ids are dense"
        self.order_accounts.append(ids.number)
        self.order_assets.append(queue.number)
        self.order_sequences.append(sequence)
        ids.orders[request.client_order_id] = request.order_id
        self.remembered_ids += 1

    def _remember_request(self, record: Record) -> None:
        request = record.request
        assert isinstance(request, requests.AmendOrder | requests.CancelOrder | requests.MassCancel)
        if request.request_id is not None:
            known = self._account(record.account).requests
            if request.request_id not in known:
                self.remembered_ids += 1
            known[request.request_id] = (*known.get(request.request_id, ()), (record.asset, record.sequence))

    def _asset_of(self, order_id: int) -> str:
        number = self.order_assets[order_id]
        return next(name for name, queue in self.queues.items() if queue.number == number)

    def _queue(self, asset: str) -> AssetQueue:
        queue = self.queues.get(asset)
        if queue is None:
            self._reject_asset(asset)
        return queue

    def _reject_asset(self, asset: str) -> NoReturn:
        listed = [name for name, queue in self.queues.items() if queue.listed]
        raise Rejection("unknown_asset", f"asset {asset!r:.80}: not traded here; there are {', '.join(listed[:20])}")

    def _check_bounds(self, queue: AssetQueue, remembers: bool, records: int = 1) -> None:
        """Raise Rejection where one of the bounds of the exchange is reached.

        `remembers` says whether the request has an id to be remembered. One that has none is taken when no more ids
        can be: whoever can't enter an order any more must be able to cancel. An asset that is listed no more takes
        nothing new; what repeats an earlier request has been answered before this is asked.
        """
        if not queue.listed:
            self._reject_asset(queue.definition.asset)
        if queue.sequence - queue.applied >= self.max_backlog:
            raise Rejection(
                "busy", f"{queue.definition.asset} has {self.max_backlog} requests waiting, its bound; try again later"
            )
        if remembers and self.remembered_ids >= self.max_remembered_ids:
            raise Rejection(
                "busy",
                f"{self.max_remembered_ids} ids are remembered, the bound; tell the operator; amends and cancels "
                "without a request_id are still taken",
            )
        if not self.has_room(records):
            raise Rejection("busy", "there is no room on disk for another request; try again later")

    def _known_order(self, message: messages.AmendOrder | messages.CancelOrder) -> tuple[str, AssetQueue, int]:
        """Return the account, the queue, and the id of an order that is the account's. Raises Rejection."""
        account = check_account(message.account)
        if message.request_id is not UNSET:
            check_request_id(message.request_id)
        queue = self._queue(message.asset)
        order_id, client_order_id = message.order_id, message.client_order_id
        if order_id is UNSET and client_order_id is UNSET:
            raise Rejection("malformed", "needs order_id or client_order_id, to say which order")
        ids = self.accounts.get(account)
        if client_order_id is not UNSET:
            if not is_id(client_order_id):
                reject_id("client_order_id", client_order_id)
            found = None if ids is None else ids.orders.get(client_order_id)
            if found is None or (order_id is not UNSET and order_id != found):
                raise Rejection(
                    "unknown_order",
                    f"client_order_id {client_order_id!r}: account {account} never had such an order"
                    + ("" if found is None else f" with order_id {order_id}"),
                )
            order_id = found
        assert isinstance(order_id, int)
        if (
            ids is None
            or not 0 < order_id < len(self.order_accounts)
            or self.order_accounts[order_id] != ids.number
            or self.order_assets[order_id] != queue.number
        ):
            raise Rejection(
                "unknown_order", f"order_id {order_id}: account {account} never had such an order in {message.asset}"
            )
        return account, queue, order_id


TYPE_NAMES: dict[type, str] = {
    messages.NewOrder: "new_order",
    messages.AmendOrder: "amend_order",
    messages.CancelOrder: "cancel_order",
    messages.MassCancel: "mass_cancel",
    messages.Ping: "ping",
}


def _order_ack(
    message: messages.AmendOrder | messages.CancelOrder, record: Record, order_id: int, duplicate: bool = False
) -> Ack:
    return Ack(
        request=TYPE_NAMES[type(message)],
        client_order_id=message.client_order_id,
        order_id=order_id,
        asset=record.asset,
        sequence=record.sequence,
        time=record.time,
        duplicate=duplicate,
        request_id=message.request_id,
    )


def _mass_ack(message: messages.MassCancel, taken: list[Record], duplicate: bool = False) -> Ack:
    first = taken[0]
    several = message.asset is UNSET
    return Ack(
        request="mass_cancel",
        asset=UNSET if several else first.asset,
        sequence=UNSET if several else first.sequence,
        sequences={record.asset: record.sequence for record in taken} if several else UNSET,
        time=first.time,
        duplicate=duplicate,
        request_id=message.request_id,
    )
