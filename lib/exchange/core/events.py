"""What happened: the matching core's only output, and all that the database and the market data are made of.

One `EventRecord` for each request, in the request's order, holding the request and its events. Events are numbered per
asset from 1 without a gap. Written as tagged MessagePack arrays, as requests are: a new field goes to the end.
"""

from typing import Literal

from msgspec import Struct

from exchange.core.requests import Request, Side

CancelReason = Literal[
    "user_request",
    "mass_cancel",
    "immediate_or_cancel",
    "fill_or_kill",
    "market_remainder",
    "self_trade_prevention",
]
RejectReason = Literal["unknown_order", "invalid_quantity"]


class AssetDefined(Struct, frozen=True, array_like=True, tag="asset_defined", gc=False):
    """The asset has the definition of the request from here on."""


class OrderAccepted(Struct, frozen=True, array_like=True, tag="accepted", gc=False):
    """The new order of the request is live; its trades, rest or end follow."""

    order_id: int


class OrderRejected(Struct, frozen=True, array_like=True, tag="rejected", gc=False):
    """The new order of the request was refused for a reason that only the book could know."""

    order_id: int
    reason: RejectReason


class TradeExecuted(Struct, frozen=True, array_like=True, tag="trade", gc=False):
    """Two orders traded, at the maker's price. `trade_id` counts 1, 2, 3, ... per asset."""

    trade_id: int
    price: int
    quantity: int
    aggressor: Side
    maker_order_id: int
    taker_order_id: int
    maker_account: str
    taker_account: str


class OrderRested(Struct, frozen=True, array_like=True, tag="rested", gc=False):
    """What is left of the order joined the back of its price level's queue."""

    order_id: int
    price: int
    quantity: int


class OrderCanceled(Struct, frozen=True, array_like=True, tag="canceled", gc=False):
    """The order ended. `price` and `quantity` are its own (0: no price; total), `canceled` is what was still open."""

    order_id: int
    reason: CancelReason
    price: int
    quantity: int
    canceled: int


class OrderReplaced(Struct, frozen=True, array_like=True, tag="replaced", gc=False):
    """The order has a new price or total quantity.

    Where priority is kept the order stays where it is with `leaves` open. Where it is lost the order has left the book:
    its trades, and `OrderRested` for what is left, follow.
    """

    order_id: int
    price: int
    quantity: int
    leaves: int
    priority_kept: bool


class CancelRejected(Struct, frozen=True, array_like=True, tag="cancel_rejected", gc=False):
    order_id: int
    reason: RejectReason


class AmendRejected(Struct, frozen=True, array_like=True, tag="amend_rejected", gc=False):
    order_id: int
    reason: RejectReason


Event = (
    AssetDefined
    | OrderAccepted
    | OrderRejected
    | TradeExecuted
    | OrderRested
    | OrderCanceled
    | OrderReplaced
    | CancelRejected
    | AmendRejected
)


class EventRecord(Struct, frozen=True, array_like=True, gc=False):
    """One request and everything that came of it.

    `sequence`, `time` and `account` are the request's; the first of `events` has the number `event_sequence`, the
    others follow without a gap. A request that changed nothing has no events and takes no number.
    """

    asset: str
    sequence: int
    time: int
    account: str
    request: Request
    event_sequence: int
    events: list[Event]
