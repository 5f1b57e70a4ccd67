"""The query endpoint: assets, books, trades, orders, and messages over again. All calls are safe to repeat.

Each method sends one request, again on a fresh connection where no answer comes, and returns its reply as a Struct
with the fields that the protocol lists; prices and quantities are the wire's integers.
"""

import itertools
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
import zmq
from msgspec import UNSET, Struct

from exchange.client.connection import RequestSocket
from exchange.client.errors import ProtocolError, Rejected, Unreachable
from exchange.client.orders import FIRST_PAUSE_S, LONGEST_PAUSE_S, TRY_AGAIN
from exchange.core.asset import Asset
from exchange.core.messages import (
    AssetsQuery,
    BookSnapshotQuery,
    ExecutionReport,
    OpenOrdersQuery,
    OrderSnapshotQuery,
    OrderStatusQuery,
    PublicMessage,
    Query,
    Reject,
    RetransmitQuery,
    SequencesQuery,
    Trade,
    TradesQuery,
)

Message = PublicMessage | ExecutionReport
Value = TypeVar("Value")
REBUILDING_PAUSE_S = 0.1  # before what the exchange is still rebuilding is asked for again


class ListedAsset(Asset, frozen=True, forbid_unknown_fields=False, kw_only=True):
    """An asset's definition as the exchange gives it, and its status."""

    status: str = "open"


class BookSnapshot(Struct, frozen=True):
    """`bids` and `asks` are (price, quantity, orders), best first; `sequence` is that of `book/<asset>/`."""

    asset: str
    sequence: int
    bids: list[tuple[int, int, int]]
    asks: list[tuple[int, int, int]]
    time: int


class OrderSnapshot(Struct, frozen=True):
    """`bids` and `asks` are (order_id, price, quantity) in priority order; `sequence` is that of `order/<asset>/`."""

    asset: str
    sequence: int
    bids: list[tuple[int, int, int]]
    asks: list[tuple[int, int, int]]


class Retransmitted(Struct, frozen=True):
    """Messages of a topic, in order; `next` is the first one left out where there are more."""

    topic: str
    messages: list[Message]
    next: int | None = None


class OpenOrders(Struct, frozen=True):
    """The account's live orders, and per asset the last sequence of the private topic that they reflect."""

    orders: list[ExecutionReport]
    sequences: dict[str, int]


class Queries:
    """The query endpoint. `timeout` is in seconds, for each call as a whole, retries included.

    All calls raise Rejected where the exchange refuses and Unreachable where it does not answer in time. Not for use
    by several threads.
    """

    def __init__(
        self, endpoint: str, *, timeout: float = 10.0, context: zmq.Context[zmq.Socket[bytes]] | None = None
    ) -> None:
        self.endpoint = endpoint
        self.timeout = timeout
        self.connection: RequestSocket[dict[str, Any]] = RequestSocket(endpoint, context)
        self.numbers = itertools.count(1)

    def ask(self, query: Query, timeout: float | None = None) -> dict[str, Any]:
        """Send any query and return its reply as a plain map."""
        query = msgspec.structs.replace(query, request_id=next(self.numbers))
        frame = msgspec.msgpack.encode(query)

        def read(reply: bytes) -> dict[str, Any] | None:
            try:
                answer = msgspec.msgpack.decode(reply, type=dict[str, Any])
            except msgspec.DecodeError as error:
                raise ProtocolError(f"{self.endpoint}: a reply that is no map: {error}") from error
            return answer if answer.get("request_id") == query.request_id else None

        timeout = timeout if timeout is not None else self.timeout
        deadline = time.monotonic() + timeout
        pause = FIRST_PAUSE_S
        refused: Rejected | None = None
        while True:
            try:
                reply = self.connection.ask(frame, max(deadline - time.monotonic(), FIRST_PAUSE_S), read)
            except Unreachable:
                if refused is not None:  # it did answer, if not as was hoped
                    raise refused from None
                raise
            if reply.get("type") != "reject":
                reply.pop("request_id", None)
                return reply
            refused = Rejected(convert(reply, Reject))
            if refused.reason not in TRY_AGAIN or time.monotonic() + pause >= deadline:
                raise refused
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    def assets(self) -> list[ListedAsset]:
        return convert(self.ask(AssetsQuery())["assets"], list[ListedAsset])

    def asset(self, name: str) -> ListedAsset:
        """Return one asset's definition. Raises Rejected (`unknown_asset`) where there is none of that name."""
        assets = self.assets()
        for asset in assets:
            if asset.asset == name:
                return asset
        known = ", ".join(asset.asset for asset in assets)
        raise Rejected(Reject(request="assets", reason="unknown_asset", text=f"asset {name!r}: there are {known}"))

    def book_snapshot(self, asset: str, depth: int | None = None) -> BookSnapshot:
        """Return a book's `depth` best levels of each side, or all."""
        query = BookSnapshotQuery(asset=asset, depth=depth if depth is not None else UNSET)
        return convert(self.ask(query), BookSnapshot)

    def order_snapshot(self, asset: str) -> OrderSnapshot:
        return convert(self.ask(OrderSnapshotQuery(asset=asset)), OrderSnapshot)

    def retransmit(self, topic: str, first: int, last: int, timeout: float | None = None) -> Retransmitted:
        """Return the topic's messages `first` to `last`, both included; at most 1,000 come at a time.

        Raises Rejected with reason `too_old` where `first` is past retention; its `reject.earliest` is what is left.
        """
        return convert(self.ask(RetransmitQuery(topic=topic, from_=first, to=last), timeout), Retransmitted)

    def trades(self, asset: str, limit: int = 100) -> list[Trade]:
        """Return the last trades, newest first."""
        return convert(self.ask(TradesQuery(asset=asset, limit=limit))["trades"], list[Trade])

    def order_status(
        self, account: str, asset: str, order_id: int | None = None, client_order_id: str | None = None
    ) -> ExecutionReport:
        """Return an order's last execution report. Raises Rejected (`unknown_order`)."""
        query = OrderStatusQuery(
            account=account,
            asset=asset,
            order_id=order_id if order_id is not None else UNSET,
            client_order_id=client_order_id if client_order_id is not None else UNSET,
        )
        return order_report(self.ask(query))

    def sequences(
        self,
        account: str | None = None,
        timeout: float | None = None,
        unless_rebuilding: Callable[[list[str]], bool] = bool,
    ) -> dict[str, int]:
        """Return topic to last sequence: the account's private topics, or, without one, the public topics.

        The exchange leaves out the assets that it is rebuilding after a start. They are asked for again while
        `unless_rebuilding` says of their names that they matter (by default, any does); in the end that is Rejected.
        """
        timeout = timeout if timeout is not None else self.timeout
        deadline = time.monotonic() + timeout
        query = SequencesQuery(account=account if account is not None else UNSET)
        while True:
            reply = self.ask(query, max(deadline - time.monotonic(), FIRST_PAUSE_S))
            rebuilding = convert(reply.get("rebuilding", []), list[str])
            if not unless_rebuilding(rebuilding):
                return convert(reply["sequences"], dict[str, int])
            if time.monotonic() + REBUILDING_PAUSE_S >= deadline:
                text = f"{', '.join(rebuilding)}: still being rebuilt after a start, for {timeout:g} s or more"
                raise Rejected(Reject(request="sequences", reason="busy", text=text))
            time.sleep(REBUILDING_PAUSE_S)

    def open_orders(self, account: str, asset: str | None = None) -> OpenOrders:
        query = OpenOrdersQuery(account=account, asset=asset if asset is not None else UNSET)
        return convert(self.ask(query), OpenOrders)

    def close(self) -> None:
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def order_report(reply: dict[str, Any]) -> ExecutionReport:
    """Return the execution report that an `order_status` reply holds."""
    return convert(reply["report"], ExecutionReport)


def convert(value: Any, kind: type[Value]) -> Value:
    """Return a decoded reply as the type that it should have. Raises ProtocolError where it has not."""
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, KeyError) as error:
        raise ProtocolError(f"a reply that does not fit its query: {error}") from error
