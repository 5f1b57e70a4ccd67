"""Requests as the journal holds them: checked, completed, numbered. The matching core's only input.

They are written as MessagePack arrays (the field order below is the format; a new field goes to the end, with a
default, so that older journals stay readable), each tagged with its name. `Record` is what the order handler writes,
syncs and passes on to the asset's queue: one encoding for both.
"""

from typing import Literal

from msgspec import Struct

from exchange.core.asset import Asset, Status

Side = Literal[1, -1]
BUY: Literal[1] = 1
SELL: Literal[-1] = -1
SIDE_NAMES: dict[int, Literal["buy", "sell"]] = {BUY: "buy", SELL: "sell"}
SIDES: dict[str, Side] = {"buy": BUY, "sell": SELL}

OrderType = Literal["limit", "market", "stop", "stop_limit"]
TimeInForce = Literal["gtc", "ioc", "fok", "day", "gtd"]
SelfTradePrevention = Literal["cancel_newest", "cancel_oldest", "cancel_both", "decrement_and_cancel"]
RequestId = str | int | None
MassCancelReason = Literal["mass_cancel", "disconnected", "operator"]
MAX_PARTS = 10_000  # of an iceberg: each is a trade and an event of its own, and one order may trade with them all
MAX_HIDDEN_PARTS = 500_000  # of all icebergs on one side of an asset's book: one order may trade with them all
EXCHANGE = ""  # the "asset" of the exchange's own queue: of requests that concern no asset, and no matching daemon


class DefineAsset(Struct, frozen=True, array_like=True, tag="define_asset", gc=False):
    """The asset's definition, first in its queue, and again when it changes. `by` is the operator, if one did it."""

    definition: Asset
    by: str = ""


class Instructions(Struct, frozen=True, array_like=True, gc=False):
    """What an order says beyond side, quantity, price, type and time in force; 0 where it says nothing."""

    stop_price: int = 0
    display_quantity: int = 0
    min_quantity: int = 0
    post_only: bool = False
    self_trade_prevention: SelfTradePrevention = "cancel_newest"
    expire_time: int = 0  # nanoseconds since the Unix epoch


class NewOrder(Struct, frozen=True, array_like=True, tag="new_order", gc=False):
    """Enter an order. `price` is 0 for a market or stop order; `instructions` nil where all are at their defaults."""

    order_id: int
    client_order_id: str
    side: Side
    quantity: int
    price: int
    order_type: OrderType = "limit"
    time_in_force: TimeInForce = "gtc"
    instructions: Instructions | None = None


class AmendOrder(Struct, frozen=True, array_like=True, tag="amend_order", gc=False):
    """Change an order's total quantity (fills included), its price, its stop price; nil leaves a value as it is."""

    order_id: int
    quantity: int | None
    price: int | None
    request_id: RequestId = None
    stop_price: int | None = None


class CancelOrder(Struct, frozen=True, array_like=True, tag="cancel_order", gc=False):
    order_id: int
    request_id: RequestId = None


class MassCancel(Struct, frozen=True, array_like=True, tag="mass_cancel", gc=False):
    """Cancel the account's live orders in this asset, on one side or (0) both.

    A mass cancel over all assets takes one place in each queue. Its records are written together and say which of how
    many they are, so that a torn write can be told from a whole one.
    """

    side: Literal[0, 1, -1]
    request_id: RequestId = None
    all_assets: bool = False
    part: int = 1
    parts: int = 1
    reason: MassCancelReason = "mass_cancel"
    by: str = ""  # the operator, if one did it


class ChangeStatus(Struct, frozen=True, array_like=True, tag="change_status", gc=False):
    """Change the asset's trading status, by schedule or by hand; a call that ends does so with an auction.

    Where `call` is not 0 it is the sequence of the request that began a call, and nothing happens unless that very call
    goes on still. `ends_day` says that this ends the trading day: day orders expire.
    """

    status: Status
    reason: str
    call: int = 0
    ends_day: bool = False
    by: str = ""
    scheduled_time: int = 0  # when the schedule has it, in nanoseconds since the Unix epoch; 0: not of the schedule


class Expire(Struct, frozen=True, array_like=True, tag="expire", gc=False):
    """Expire the gtd orders whose time has come, as of the record's time, and with `day` the day orders."""

    day: bool = False


class Delist(Struct, frozen=True, array_like=True, tag="delist", gc=False):
    """Take the asset off the list: cancel every live order and close it."""

    by: str = ""


class SetSession(Struct, frozen=True, array_like=True, tag="set_session", gc=False):
    """Cancel the account's orders when its session is silent for the interval, if it says so. The exchange's queue."""

    heartbeat_interval_ms: int
    cancel_on_disconnect: bool
    request_id: RequestId = None


class CancelAllAfter(Struct, frozen=True, array_like=True, tag="cancel_all_after", gc=False):
    """Cancel the account's orders that long after the record's time unless renewed; 0 disarms. The exchange's queue."""

    timeout_ms: int
    request_id: RequestId = None


Request = (
    DefineAsset
    | NewOrder
    | AmendOrder
    | CancelOrder
    | MassCancel
    | ChangeStatus
    | Expire
    | Delist
    | SetSession
    | CancelAllAfter
)


class Record(Struct, frozen=True, array_like=True, gc=False):
    """A request with its place in its asset's queue.

    `sequence` counts 1, 2, 3, ... per asset without a gap; `time` is in nanoseconds since the Unix epoch, UTC, and
    never runs backwards; `account` is empty where the exchange itself is the author.
    """

    asset: str
    sequence: int
    time: int
    account: str
    request: Request
