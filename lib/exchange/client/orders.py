"""Order entry, one request at a time: each call returns the exchange's ack or raises.

Every request can be sent again safely: `new_order` by its `client_order_id`, the others by their `request_id`, which
is made up where the caller gives none. Where an answer fails to come, the call opens a fresh connection and sends the
same request again until its deadline; the ack then may carry `duplicate`. `busy` and `rate_limited` are tried again
likewise, with growing pauses.
"""

import secrets
import time
from types import TracebackType
from typing import Literal, Self

import msgspec
import zmq
from msgspec import UNSET, UnsetType

from exchange.client.connection import RequestSocket
from exchange.client.errors import ProtocolError, Rejected
from exchange.core.messages import (
    Ack,
    AmendOrder,
    CancelAllAfter,
    CancelOrder,
    MassCancel,
    NewOrder,
    OrderEntryReply,
    OrderEntryRequest,
    Ping,
    Pong,
    Reject,
    Session,
    SideName,
)

OrderType = Literal["limit", "market", "stop", "stop_limit"]
TimeInForce = Literal["gtc", "ioc", "fok", "day", "gtd"]
SelfTradePrevention = Literal["cancel_newest", "cancel_oldest", "cancel_both", "decrement_and_cancel"]

TRY_AGAIN = ("busy", "rate_limited")
FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 1.0

encoder = msgspec.msgpack.Encoder()
decoder: msgspec.msgpack.Decoder[OrderEntryReply] = msgspec.msgpack.Decoder(OrderEntryReply)


def new_id(prefix: str = "") -> str:
    """Return an id that was never used before: the prefix and 16 hexadecimal digits."""
    return prefix + secrets.token_hex(8)


def order_type_of(price: int | None, stop_price: int | None) -> OrderType:
    """Return the type of an order by the prices that it has. No prices make no market order.

    >>> order_type_of(100, None), order_type_of(None, 90), order_type_of(100, 90)
    ('limit', 'stop', 'stop_limit')
    """
    if stop_price is None:
        return "limit"  # without a price the exchange refuses it: a forgotten price must not buy at any price
    return "stop" if price is None else "stop_limit"


def new_order(
    asset: str,
    side: SideName,
    quantity: int,
    price: int | None = None,
    *,
    client_order_id: str | None = None,
    order_type: OrderType | None = None,
    time_in_force: TimeInForce = "gtc",
    stop_price: int | None = None,
    display_quantity: int | None = None,
    min_quantity: int | None = None,
    post_only: bool = False,
    self_trade_prevention: SelfTradePrevention = "cancel_newest",
    expire_time: int | None = None,
    account: str | None = None,
    request_id: str | int | None = None,
) -> NewOrder:
    """Return the request that enters an order, with an id of its own unless one is given: for `OrderPipeline.send`.

    The order's type follows from its prices (see `order_type_of`) unless it is given. What is None is left out.
    """
    return NewOrder(
        client_order_id=client_order_id if client_order_id is not None else new_id(),
        asset=asset,
        side=side,
        quantity=quantity,
        order_type=order_type if order_type is not None else order_type_of(price, stop_price),
        price=price if price is not None else UNSET,
        stop_price=stop_price if stop_price is not None else UNSET,
        time_in_force=time_in_force,
        expire_time=expire_time if expire_time is not None else UNSET,
        display_quantity=display_quantity if display_quantity is not None else UNSET,
        min_quantity=min_quantity if min_quantity is not None else UNSET,
        post_only=post_only,
        self_trade_prevention=self_trade_prevention,
        account=account if account is not None else UNSET,
        request_id=request_id if request_id is not None else UNSET,
    )


def _given(value: str | UnsetType) -> str | None:
    return value if isinstance(value, str) else None


class OrderEntry:
    """The order-entry endpoint. `account` is put into every request that names none; `timeout` is in seconds.

    Prices and quantities are the wire's integers (`exchange.client.decimals` converts). All calls return an `Ack` and
    raise Rejected where the exchange refuses (it still says `busy` at the deadline included) and Unreachable where it
    does not answer in time. Not for use by several threads.
    """

    def __init__(
        self,
        endpoint: str,
        account: str | None = None,
        *,
        timeout: float = 10.0,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
    ) -> None:
        self.account: str | UnsetType = account if account is not None else UNSET
        self.timeout = timeout
        self.connection: RequestSocket[OrderEntryReply] = RequestSocket(endpoint, context)

    def new_order(
        self,
        asset: str,
        side: SideName,
        quantity: int,
        price: int | None = None,
        *,
        client_order_id: str | None = None,
        order_type: OrderType | None = None,
        time_in_force: TimeInForce = "gtc",
        stop_price: int | None = None,
        display_quantity: int | None = None,
        min_quantity: int | None = None,
        post_only: bool = False,
        self_trade_prevention: SelfTradePrevention = "cancel_newest",
        expire_time: int | None = None,
        account: str | None = None,
        request_id: str | int | None = None,
    ) -> Ack:
        """Enter an order. Its type follows from its prices (see `order_type_of`) unless it is given.

        `display_quantity` makes it an iceberg; `expire_time` is in nanoseconds since the Unix epoch, for a gtd order.
        """
        return self.send(
            new_order(
                asset,
                side,
                quantity,
                price,
                client_order_id=client_order_id,
                order_type=order_type,
                time_in_force=time_in_force,
                stop_price=stop_price,
                display_quantity=display_quantity,
                min_quantity=min_quantity,
                post_only=post_only,
                self_trade_prevention=self_trade_prevention,
                expire_time=expire_time,
                account=account if account is not None else _given(self.account),
                request_id=request_id,
            )
        )

    def amend_order(
        self,
        asset: str,
        order_id: int | None = None,
        *,
        client_order_id: str | None = None,
        quantity: int | None = None,
        price: int | None = None,
        stop_price: int | None = None,
        account: str | None = None,
        request_id: str | int | None = None,
    ) -> Ack:
        """Change an order's total quantity (fills included), its price, its stop price. Name the order by either id."""
        return self.send(
            AmendOrder(
                asset=asset,
                order_id=order_id if order_id is not None else UNSET,
                client_order_id=client_order_id if client_order_id is not None else UNSET,
                quantity=quantity if quantity is not None else UNSET,
                price=price if price is not None else UNSET,
                stop_price=stop_price if stop_price is not None else UNSET,
                account=account if account is not None else self.account,
                request_id=request_id if request_id is not None else new_id(),
            )
        )

    def cancel_order(
        self,
        asset: str,
        order_id: int | None = None,
        *,
        client_order_id: str | None = None,
        account: str | None = None,
        request_id: str | int | None = None,
    ) -> Ack:
        """Cancel an order, named by either id. That it is not live any more shows on the private feed only."""
        return self.send(
            CancelOrder(
                asset=asset,
                order_id=order_id if order_id is not None else UNSET,
                client_order_id=client_order_id if client_order_id is not None else UNSET,
                account=account if account is not None else self.account,
                request_id=request_id if request_id is not None else new_id(),
            )
        )

    def mass_cancel(
        self,
        asset: str | None = None,
        side: SideName | None = None,
        *,
        account: str | None = None,
        request_id: str | int | None = None,
    ) -> Ack:
        """Cancel the account's live orders, in one asset or all, on one side or both."""
        return self.send(
            MassCancel(
                asset=asset if asset is not None else UNSET,
                side=side if side is not None else UNSET,
                account=account if account is not None else self.account,
                request_id=request_id if request_id is not None else new_id(),
            )
        )

    def session(
        self,
        heartbeat_interval_ms: int,
        *,
        cancel_on_disconnect: bool = True,
        account: str | None = None,
        request_id: str | int | None = None,
    ) -> Ack:
        """Promise that the account is heard of at least once in each interval: by any request, `ping` included.

        With `cancel_on_disconnect` its orders are canceled (`disconnected`) when it is not; without, nothing comes of
        it, and an earlier session's promise is over.
        """
        return self.send(
            Session(
                heartbeat_interval_ms=heartbeat_interval_ms,
                cancel_on_disconnect=cancel_on_disconnect,
                account=account if account is not None else self.account,
                request_id=request_id if request_id is not None else new_id(),
            )
        )

    def cancel_all_after(
        self, timeout_ms: int, *, account: str | None = None, request_id: str | int | None = None
    ) -> Ack:
        """Have the account's orders canceled that long from now, unless this is called again before; 0 calls it off."""
        return self.send(
            CancelAllAfter(
                timeout_ms=timeout_ms,
                account=account if account is not None else self.account,
                request_id=request_id if request_id is not None else new_id(),
            )
        )

    def ping(self, timeout: float | None = None) -> float:
        """Return the round trip in seconds; the account was heard of. Raises Unreachable."""
        started = time.monotonic()
        self._pong(timeout)
        return time.monotonic() - started

    def exchange_time(self, timeout: float | None = None) -> int:
        """Return the time by the exchange's clock, in nanoseconds since the Unix epoch. Raises Unreachable."""
        return self._pong(timeout).time

    def _pong(self, timeout: float | None) -> Pong:
        request = Ping(request_id=new_id(), account=self.account)
        reply = self._ask(request, timeout if timeout is not None else self.timeout)
        if isinstance(reply, Reject):
            raise Rejected(reply)
        if isinstance(reply, Ack):
            raise ProtocolError("an ack in answer to a ping")
        return reply

    def send(self, request: OrderEntryRequest) -> Ack:
        """Send any request but a ping, made up by the caller with an id that makes it safe to repeat."""
        deadline = time.monotonic() + self.timeout
        pause = FIRST_PAUSE_S
        while True:
            reply = self._ask(request, max(deadline - time.monotonic(), FIRST_PAUSE_S))
            if isinstance(reply, Ack):
                return reply
            if isinstance(reply, Pong):
                raise ProtocolError(f"a pong in answer to {type(request).__name__}")
            if reply.reason not in TRY_AGAIN or time.monotonic() + pause >= deadline:
                raise Rejected(reply)
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    def _ask(self, request: OrderEntryRequest, timeout: float) -> OrderEntryReply:
        return self.connection.ask(encoder.encode(request), timeout, _read)

    def close(self) -> None:
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _read(frame: bytes) -> OrderEntryReply:
    try:
        reply: OrderEntryReply = decoder.decode(frame)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"a reply that is none: {error}") from error
    return reply
