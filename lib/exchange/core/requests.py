"""Requests as the journal holds them: checked, completed, numbered. The matching core's only input.

They are written as MessagePack arrays (the field order below is the format; a new field goes to the end, with a
default, so that older journals stay readable), each tagged with its name. `Record` is what the order handler writes,
syncs and passes on to the asset's queue: one encoding for both.
"""

from typing import Literal

from msgspec import Struct

from exchange.core.asset import Asset

Side = Literal[1, -1]
BUY: Literal[1] = 1
SELL: Literal[-1] = -1
SIDE_NAMES: dict[int, Literal["buy", "sell"]] = {BUY: "buy", SELL: "sell"}
SIDES: dict[str, Side] = {"buy": BUY, "sell": SELL}

OrderType = Literal["limit", "market"]
TimeInForce = Literal["gtc", "ioc", "fok"]
RequestId = str | int | None


class DefineAsset(Struct, frozen=True, array_like=True, tag="define_asset", gc=False):
    """The asset's definition, first in its queue, and again whenever the configuration changes it."""

    definition: Asset


class NewOrder(Struct, frozen=True, array_like=True, tag="new_order", gc=False):
    """Enter an order. `price` is 0 for a market order."""

    order_id: int
    client_order_id: str
    side: Side
    quantity: int
    price: int
    order_type: OrderType = "limit"
    time_in_force: TimeInForce = "gtc"


class AmendOrder(Struct, frozen=True, array_like=True, tag="amend_order", gc=False):
    """Change an order's total quantity (fills included), its price, or both; nil leaves a value as it is."""

    order_id: int
    quantity: int | None
    price: int | None
    request_id: RequestId = None


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


Request = DefineAsset | NewOrder | AmendOrder | CancelOrder | MassCancel


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
