"""Order entry: judges each request, gives it its place, and remembers it so that a retry is safe. No socket, no file.

A request that is taken becomes a `Record` (in `records`, for the caller to write to the journal) and an `Ack` (to be
sent once the record is on disk). One that is not becomes a `Reject`, and changes nothing. What is remembered
(`order_memory.py`) is rebuilt at the start by `restore` from the journal's records; what the exchange does of itself is
in `exchange_acts.py`.

A request is judged in this order: what it says, by itself; whether it repeats one that was taken, which gets that one's
ack again; what it says, against the asset's definition and the time; whether the asset takes it now; the account's
limits; the exchange's bounds.
"""

from collections.abc import Callable
from typing import Any, Literal

from msgspec import UNSET

from exchange.core import messages, requests
from exchange.core.asset import ACCOUNT_NAME
from exchange.core.exchange_acts import ExchangeActs
from exchange.core.messages import Ack, OrderEntryReply, Pong, Reject
from exchange.core.order_memory import AssetQueue, Journal, Limits, Timers
from exchange.core.request_checks import (
    MAX_ID_LENGTH,
    Rejection,
    check_account,
    check_instructions,
    check_interval,
    check_request_id,
    check_stop_price,
    is_id,
    read_instructions,
    readable_id,
    reject_account,
    reject_id,
    reject_price,
    reject_quantity,
)
from exchange.core.requests import OrderType, Record, Request

SIDES = requests.SIDES


class OrderEntry(ExchangeActs):
    """Order entry for all assets: see `ExchangeActs` for what it is made with."""

    def __init__(
        self,
        journal: Journal,
        has_room: Callable[[int], bool],
        clock: Callable[[], int],
        max_backlog: int,
        max_remembered_ids: int,
        timers: Timers | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(journal, has_room, clock, max_backlog, max_remembered_ids, timers, limits)
        self.handlers: dict[type, Callable[[Any], OrderEntryReply]] = {
            messages.NewOrder: self._new_order,
            messages.AmendOrder: self._amend_order,
            messages.CancelOrder: self._cancel_order,
            messages.MassCancel: self._mass_cancel,
            messages.Session: self._session,
            messages.CancelAllAfter: self._cancel_all_after,
            messages.Ping: self._ping,
        }

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

    # -- orders --------------------------------------------------------------------------------------------------------

    def _new_order(self, message: messages.NewOrder) -> Ack:
        account, client_order_id = message.account, message.client_order_id
        if type(account) is not str or (account not in self.accounts and not ACCOUNT_NAME.match(account)):
            reject_account(account)
        limits = self.limits
        if limits is not None:
            limits.check_rate(account, self._now(), False)
        if not (
            0 < len(client_order_id) <= MAX_ID_LENGTH and client_order_id.isascii() and client_order_id.isprintable()
        ):
            reject_id("client_order_id", client_order_id)
        if message.request_id is not UNSET:
            check_request_id(message.request_id)
        queue = self._queue(message.asset)
        order_type, time_in_force = message.order_type, message.time_in_force
        side, quantity = SIDES[message.side], message.quantity
        if quantity is UNSET:
            raise Rejection("invalid_quantity", "quantity: is missing; every order needs one")
        price = 0
        if message.price is not UNSET:
            if order_type == "market":
                raise Rejection("invalid_price", f"price {message.price}: a market order takes no price; leave it out")
            price = message.price
        instructions = None
        if (
            (order_type != "limit" and order_type != "market")
            or time_in_force == "gtd"
            or message.post_only
            or message.self_trade_prevention != "cancel_newest"
            or message.stop_price is not UNSET
            or message.display_quantity is not UNSET
            or message.min_quantity is not UNSET
            or message.expire_time is not UNSET
        ):
            instructions = read_instructions(message)
        first = self.journal.find_order(account, client_order_id)
        if first is not None:
            order_id = _entered(first).order_id
            return self._repeat_order(
                message,
                first,
                requests.NewOrder(
                    order_id, client_order_id, side, quantity, price, order_type, time_in_force, instructions
                ),
            )
        definition = queue.definition
        if not definition.min_quantity <= quantity <= definition.max_quantity or quantity % definition.lot_size:
            reject_quantity(quantity, definition)
        if (order_type == "limit" or order_type == "stop_limit") and (
            not definition.min_price <= price <= definition.max_price or price % definition.tick_size
        ):
            reject_price(message.price, definition, order_type)
        if instructions is not None:
            check_instructions(instructions, message, definition, self._now())
        if queue.status.status != "open" and queue.listed:
            queue.status.check_order(queue.name, order_type, time_in_force)
        if limits is not None:
            limits.check_order(account, queue.name, quantity, price)
        self._check_bounds(queue, account)
        order_id = self.next_order_id
        record = self._take(
            queue,
            account,
            requests.NewOrder(
                order_id, client_order_id, side, quantity, price, order_type, time_in_force, instructions
            ),
        )
        return Ack(
            request="new_order",
            client_order_id=client_order_id,
            order_id=order_id,
            asset=record.asset,
            sequence=record.sequence,
            time=record.time,
            request_id=message.request_id,
        )

    def _amend_order(self, message: messages.AmendOrder) -> Ack:
        account, queue, order_id, order_type = self._known_order(message)
        quantity = None if message.quantity is UNSET else message.quantity
        price = None if message.price is UNSET else message.price
        stop_price = None if message.stop_price is UNSET else message.stop_price
        if quantity is None and price is None and stop_price is None:
            raise Rejection("malformed", "an amend needs at least one of quantity, price and stop_price")
        if not order_type:
            raise Rejection(
                "unknown_order",
                f"order_id {order_id}: the journal that has this order was archived; cancel it and enter another",
            )
        if price is not None and (order_type == "market" or order_type == "stop"):
            raise Rejection(
                "invalid_price", f"price {price}: order {order_id} is a {order_type} order, which has no price"
            )
        if stop_price is not None and (order_type == "limit" or order_type == "market"):
            raise Rejection(
                "invalid_price", f"stop_price {stop_price}: order {order_id} is a {order_type} order, which has none"
            )
        request_id = None if message.request_id is UNSET else message.request_id
        request = requests.AmendOrder(order_id, quantity, price, request_id, stop_price)
        repeated = self._repeat_request(message, account, queue.name, request)
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
        if stop_price is not None:
            check_stop_price(stop_price, definition)
        if queue.listed:
            queue.status.check_amend(queue.name)
        if self.limits is not None:
            self.limits.check_amend(account, queue.name, order_id, quantity, price)
        return self._take_for_order(message, account, queue, request, order_id)

    def _cancel_order(self, message: messages.CancelOrder) -> Ack:
        account, queue, order_id, _ = self._known_order(message)
        request_id = None if message.request_id is UNSET else message.request_id
        request = requests.CancelOrder(order_id, request_id)
        return self._repeat_request(message, account, queue.name, request) or self._take_for_order(
            message, account, queue, request, order_id
        )

    def _mass_cancel(self, message: messages.MassCancel) -> Ack:
        account = self._account_of(message, cancels=True)
        request_id = None if message.request_id is UNSET else check_request_id(message.request_id)
        if message.asset is UNSET:
            every, asset = True, ""
            queues = [queue for queue in self.queues.values() if queue.listed]
        else:
            every, asset = False, message.asset
            queues = [self._queue(asset)]
        side: Literal[0, 1, -1] = 0 if message.side is UNSET else SIDES[message.side]
        parts = len(queues)
        request = requests.MassCancel(side, request_id, every, 1, parts)
        repeated = self._repeat_request(message, account, asset, request)
        if repeated is not None:
            return repeated
        if not queues:
            raise Rejection("unknown_asset", "asset: none is traded here now")
        for queue in queues:
            self._check_bounds(queue, None if request_id is None else account, parts)
        taken = [
            self._take(queue, account, requests.MassCancel(side, request_id, every, part, parts))
            for part, queue in enumerate(queues, 1)
        ]
        return _mass_ack(message, taken)

    # -- signs of life -------------------------------------------------------------------------------------------------

    def _session(self, message: messages.Session) -> Ack:
        interval = check_interval("heartbeat_interval_ms", message.heartbeat_interval_ms)
        return self._take_for_exchange(
            message, lambda request_id: requests.SetSession(interval, message.cancel_on_disconnect, request_id)
        )

    def _cancel_all_after(self, message: messages.CancelAllAfter) -> Ack:
        timeout = check_interval("timeout_ms", message.timeout_ms, may_be_zero=True)
        return self._take_for_exchange(message, lambda request_id: requests.CancelAllAfter(timeout, request_id))

    def _take_for_exchange(
        self,
        message: messages.Session | messages.CancelAllAfter,
        make: Callable[[requests.RequestId], requests.SetSession | requests.CancelAllAfter],
    ) -> Ack:
        """Take a request that concerns no asset. Sent again it counts again: it is a sign of life, and renews."""
        account = self._account_of(message, cancels=type(message) is messages.CancelAllAfter)
        request_id = None if message.request_id is UNSET else check_request_id(message.request_id)
        if account not in self.accounts:
            self._check_memory(account)
        self._check_room(1)
        record = self._take(self.exchange, account, make(request_id))
        return Ack(request=TYPE_NAMES[type(message)], time=record.time, request_id=message.request_id)

    def _ping(self, message: messages.Ping) -> Pong:
        if message.account is not UNSET:
            account = check_account(message.account)
        if message.request_id is not UNSET:
            check_request_id(message.request_id)
        now = self._now()
        if message.account is not UNSET and self.timers is not None:
            self.timers.heard(account, now)
        return Pong(time=now, request_id=message.request_id)

    # -- safe retries --------------------------------------------------------------------------------------------------

    def _repeat_order(self, message: messages.NewOrder, first: Record, candidate: requests.NewOrder) -> Ack:
        """Acknowledge a new order again where it is the same as the one its client_order_id was used for."""
        asset, order_id = first.asset, candidate.order_id
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
            sequence=first.sequence,
            time=first.time,
            duplicate=True,
            request_id=message.request_id,
        )

    def _repeat_request(
        self, message: messages.OrderEntryRequest, account: str, asset: str, request: Request
    ) -> Ack | None:
        """Acknowledge an amend, cancel or mass cancel again where its request_id was used for the same before."""
        if message.request_id is UNSET or account not in self.accounts:
            return None
        assert message.request_id is not None
        taken = self.journal.find_requests(account, message.request_id)
        if not taken:
            return None
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

    # -- what requests have in common ----------------------------------------------------------------------------------

    def _account_of(
        self,
        message: messages.AmendOrder
        | messages.CancelOrder
        | messages.MassCancel
        | messages.Session
        | messages.CancelAllAfter,
        cancels: bool,
    ) -> str:
        """Return the request's account, which may send one more now. Raises Rejection."""
        account = check_account(message.account)
        if self.limits is not None:
            self.limits.check_rate(account, self._now(), cancels)
        return account

    def _take_for_order(
        self,
        message: messages.AmendOrder | messages.CancelOrder,
        account: str,
        queue: AssetQueue,
        request: requests.AmendOrder | requests.CancelOrder,
        order_id: int,
    ) -> Ack:
        self._check_bounds(queue, None if request.request_id is None else account)
        return _order_ack(message, self._take(queue, account, request), order_id)

    def _known_order(
        self, message: messages.AmendOrder | messages.CancelOrder
    ) -> tuple[str, AssetQueue, int, OrderType | Literal[""]]:
        """Return the account, the queue, and the id and type of an order that is the account's. Raises Rejection.

        The type is empty where it is not known any more: see `_order_of`.
        """
        account = self._account_of(message, cancels=type(message) is messages.CancelOrder)
        if message.request_id is not UNSET:
            check_request_id(message.request_id)
        queue = self._queue(message.asset)
        order_id, client_order_id = message.order_id, message.client_order_id
        if order_id is UNSET and client_order_id is UNSET:
            raise Rejection("malformed", "needs order_id or client_order_id, to say which order")
        known = self.accounts.get(account)
        if client_order_id is not UNSET:
            if not is_id(client_order_id):
                reject_id("client_order_id", client_order_id)
            found = None if known is None else self.journal.find_order_id(account, client_order_id)
            if found is None or (order_id is not UNSET and order_id != found):
                raise Rejection(
                    "unknown_order",
                    f"client_order_id {client_order_id!r}: account {account} never had such an order"
                    + ("" if found is None else f" with order_id {order_id}"),
                )
            order_id = found
        assert isinstance(order_id, int)
        order_type = None if known is None else self._order_of(known, queue, order_id)
        if order_type is None:
            raise Rejection(
                "unknown_order", f"order_id {order_id}: account {account} never had such an order in {message.asset}"
            )
        return account, queue, order_id, order_type


def _entered(record: Record) -> requests.NewOrder:
    """Return the order that a record entered."""
    assert type(record.request) is requests.NewOrder
    return record.request


TYPE_NAMES: dict[type, str] = {
    messages.NewOrder: "new_order",
    messages.AmendOrder: "amend_order",
    messages.CancelOrder: "cancel_order",
    messages.MassCancel: "mass_cancel",
    messages.Session: "session",
    messages.CancelAllAfter: "cancel_all_after",
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
