"""What happened: the matching core's only output, and all that the database and the market data are made of.

One `EventRecord` for each request, in the request's order, holding the request and its events. Events are numbered per
asset from 1 without a gap. Written as tagged MessagePack arrays, as requests are: a new field goes to the end.
"""

from typing import Literal

from msgspec import Struct

from exchange.core.asset import Status
from exchange.core.requests import Request, Side

CancelReason = Literal[
    "user_request",
    "mass_cancel",
    "immediate_or_cancel",
    "fill_or_kill",
    "market_remainder",
    "self_trade_prevention",
    "minimum_quantity",
    "post_only",
    "halted",
    "disconnected",
    "operator",
    "invalid_quantity",
]
RejectReason = Literal[
    "unknown_order", "invalid_quantity", "post_only", "price_band", "market_closed", "halted", "triggered"
]


class AssetDefined(Struct, frozen=True, array_like=True, tag="asset_defined", gc=False):
    """The asset has the definition of the request from here on."""


class OrderAccepted(Struct, frozen=True, array_like=True, tag="accepted", gc=False):
    """The new order of the request is live; its trades, rest or end follow. A stop waits until it is triggered."""

    order_id: int


class OrderRejected(Struct, frozen=True, array_like=True, tag="rejected", gc=False):
    """The new order of the request was refused for a reason that only the book could know."""

    order_id: int
    reason: RejectReason


class TradeExecuted(Struct, frozen=True, array_like=True, tag="trade", gc=False):
    """Two orders traded: at the maker's price, or in an auction at its price. `trade_id` counts 1, 2, 3, ... per asset.

    In an auction both rest, and the buy order is reported as the taker.
    """

    trade_id: int
    price: int
    quantity: int
    aggressor: Side
    maker_order_id: int
    taker_order_id: int
    maker_account: str
    taker_account: str


class OrderRested(Struct, frozen=True, array_like=True, tag="rested", gc=False):
    """What is left of the order joined the back of its price level's queue.

    Of an iceberg `quantity` is all that is open: it shows the smaller of that and its display quantity.
    """

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

    Where priority is kept the order stays where it is with `leaves` open; an iceberg's hidden part is reduced first.
    Where it is lost the order has left the book: its trades, and `OrderRested` for what is left, follow. A stop that
    waits goes on waiting unless `OrderTriggered` follows; `stop_price` is 0 for all others.
    """

    order_id: int
    price: int
    quantity: int
    leaves: int
    priority_kept: bool
    stop_price: int = 0


class OrderTriggered(Struct, frozen=True, array_like=True, tag="triggered", gc=False):
    """A stop that waited enters the book as a new market or limit order: its trades, rest or end follow."""

    order_id: int


class OrderReplenished(Struct, frozen=True, array_like=True, tag="replenished", gc=False):
    """An iceberg's shown part was used up: the next, `shown`, joined the back of its price level's queue."""

    order_id: int
    price: int
    shown: int


class OrderDecremented(Struct, frozen=True, array_like=True, tag="decremented", gc=False):
    """Self-trade prevention took off what an order had open, in part: `quantity` is the new total, `leaves` is open.

    A resting order keeps its place; an iceberg's hidden part is reduced first.
    """

    order_id: int
    price: int
    quantity: int
    leaves: int


class OrderExpired(Struct, frozen=True, array_like=True, tag="expired", gc=False):
    """The order's time was up. `price` and `quantity` are its own (0: no price; total), `expired` was still open."""

    order_id: int
    price: int
    quantity: int
    expired: int


class StatusChanged(Struct, frozen=True, array_like=True, tag="status", gc=False):
    """The asset's trading status is another. A call that ends by itself does so at `call_ends` (ns), else that is 0."""

    status: Status
    reason: str
    call_ends: int = 0


class IndicativeChanged(Struct, frozen=True, array_like=True, tag="indicative", gc=False):
    """What the auction would give if the call ended now; all 0 where nothing would trade.

    `surplus_side` is the side with quantity left over at that price, 0 where neither has. Quantities beyond 2^63 - 1
    are given as that.
    """

    price: int
    quantity: int
    surplus_side: Literal[0, 1, -1]
    surplus_quantity: int


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
    | OrderTriggered
    | OrderReplenished
    | OrderDecremented
    | OrderExpired
    | StatusChanged
    | IndicativeChanged
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
