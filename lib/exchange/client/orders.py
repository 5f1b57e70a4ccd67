"""Order entry, one request at a time: each call returns the exchange's ack or raises.

Every request can be sent again safely: `new_order` by its `client_order_id`, the others by their `request_id`, which
is made up where the caller gives none. Where an answer fails to come, the call opens a fresh connection and sends the
same request again until its deadline; the ack then may carry `duplicate`. `busy` and `rate_limited` are tried again
likewise, with growing pauses.
"""

import secrets
import time
from types import TracebackType
from typing import Any, Self

import msgspec
import zmq
from msgspec import UNSET, UnsetType

from exchange.client.connection import RequestSocket
from exchange.client.errors import ProtocolError, Rejected
from exchange.core.messages import (
    Ack,
    AmendOrder,
    CancelOrder,
    MassCancel,
    NewOrder,
    OrderEntryReply,
    OrderEntryRequest,
    Ping,
    Pong,
    Reject,
    SideName,
)

TRY_AGAIN = ("busy", "rate_limited")
FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 1.0

encoder = msgspec.msgpack.Encoder()
decoder: msgspec.msgpack.Decoder[OrderEntryReply] = msgspec.msgpack.Decoder(OrderEntryReply)


def new_id(prefix: str = "") -> str:
    """Return an id that was never used before: the prefix and 16 hexadecimal digits."""
    return prefix + secrets.token_hex(8)


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
        **options: Any,
    ) -> Ack:
        """Enter an order. `options` are the request's other fields, such as `order_type` or `time_in_force`."""
        options.setdefault("account", self.account)
        return self.send(
            NewOrder(
                client_order_id=client_order_id or new_id(),
                asset=asset,
                side=side,
                quantity=quantity,
                price=price if price is not None else UNSET,
                **options,
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
        account: str | None = None,
        request_id: str | int | None = None,
    ) -> Ack:
        """Change an order's total quantity (fills included), its price, or both. Name the order by either id."""
        return self.send(
            AmendOrder(
                asset=asset,
                order_id=order_id if order_id is not None else UNSET,
                client_order_id=client_order_id if client_order_id is not None else UNSET,
                quantity=quantity if quantity is not None else UNSET,
                price=price if price is not None else UNSET,
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

    def ping(self, timeout: float | None = None) -> float:
        """Return the round trip in seconds. Raises Unreachable."""
        request = Ping(request_id=new_id())
        started = time.monotonic()
        reply = self._ask(request, timeout if timeout is not None else self.timeout)
        if isinstance(reply, Reject):
            raise Rejected(reply)
        return time.monotonic() - started

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
