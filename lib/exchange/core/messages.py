"""Messages as the outside sees them: MessagePack maps with a `type`, as `docs/protocol.md` lists them.

Requests refuse unknown keys and wrong types when decoded; a key that is absent is `UNSET` here and left out there. What
a value must be beyond its type is checked where it is used. A change here is a change of the protocol: table, types,
tests and changelog go together.
"""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

SideName = Literal["buy", "sell"]
RequestId = str | int | UnsetType
PriceQuantity = tuple[int, int]


class Request(Struct, tag_field="type", forbid_unknown_fields=True, frozen=True, gc=False, kw_only=True):
    """What every request may carry."""

    request_id: RequestId = UNSET


# -- order entry: requests ---------------------------------------------------------------------------------------------


class NewOrder(Request, tag="new_order", frozen=True, gc=False, kw_only=True):
    client_order_id: str
    asset: str
    side: SideName
    quantity: int | UnsetType = UNSET
    order_type: Literal["limit", "market", "stop", "stop_limit"] = "limit"
    price: int | UnsetType = UNSET
    stop_price: int | UnsetType = UNSET
    time_in_force: Literal["gtc", "ioc", "fok", "day", "gtd"] = "gtc"
    expire_time: int | UnsetType = UNSET
    display_quantity: int | UnsetType = UNSET
    min_quantity: int | UnsetType = UNSET
    post_only: bool = False
    self_trade_prevention: Literal["cancel_newest", "cancel_oldest", "cancel_both", "decrement_and_cancel"] = (
        "cancel_newest"
    )
    account: str | UnsetType = UNSET


class AmendOrder(Request, tag="amend_order", frozen=True, gc=False, kw_only=True):
    asset: str
    order_id: int | UnsetType = UNSET
    client_order_id: str | UnsetType = UNSET
    quantity: int | UnsetType = UNSET
    price: int | UnsetType = UNSET
    stop_price: int | UnsetType = UNSET
    account: str | UnsetType = UNSET


class CancelOrder(Request, tag="cancel_order", frozen=True, gc=False, kw_only=True):
    asset: str
    order_id: int | UnsetType = UNSET
    client_order_id: str | UnsetType = UNSET
    account: str | UnsetType = UNSET


class MassCancel(Request, tag="mass_cancel", frozen=True, gc=False, kw_only=True):
    asset: str | UnsetType = UNSET
    side: SideName | UnsetType = UNSET
    account: str | UnsetType = UNSET


class Session(Request, tag="session", frozen=True, gc=False, kw_only=True):
    """From now on the account lets hear from it at least once in each interval."""

    heartbeat_interval_ms: int
    cancel_on_disconnect: bool = False
    account: str | UnsetType = UNSET


class CancelAllAfter(Request, tag="cancel_all_after", frozen=True, gc=False, kw_only=True):
    timeout_ms: int
    account: str | UnsetType = UNSET


class Ping(Request, tag="ping", frozen=True, gc=False, kw_only=True):
    account: str | UnsetType = UNSET


OrderEntryRequest = NewOrder | AmendOrder | CancelOrder | MassCancel | Session | CancelAllAfter | Ping

# -- order entry: replies ----------------------------------------------------------------------------------------------

RejectReason = Literal[
    "malformed",
    "unknown_asset",
    "unknown_account",
    "not_authorized",
    "invalid_price",
    "invalid_quantity",
    "unsupported",
    "duplicate_client_order_id",
    "unknown_order",
    "market_closed",
    "halted",
    "risk_limit",
    "rate_limited",
    "busy",
    "too_old",
]


class Ack(Struct, tag_field="type", tag="ack", frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Received, valid and on disk. `sequence` is the request's place in its asset's queue, if it is of an asset."""

    request: str
    client_order_id: str | UnsetType = UNSET
    order_id: int | UnsetType = UNSET
    asset: str | UnsetType = UNSET
    sequence: int | UnsetType = UNSET
    sequences: dict[str, int] | UnsetType = UNSET
    time: int
    duplicate: bool = False
    request_id: RequestId = UNSET


class Reject(Struct, tag_field="type", tag="reject", frozen=True, gc=False, kw_only=True):
    """Nothing was journaled or changed. `text` gives the value and the rule."""

    request: str | UnsetType = UNSET
    reason: RejectReason
    text: str
    client_order_id: str | UnsetType = UNSET
    request_id: RequestId = UNSET
    earliest: int | UnsetType = UNSET


class Pong(Struct, tag_field="type", tag="pong", frozen=True, gc=False, kw_only=True):
    time: int
    request_id: RequestId = UNSET


OrderEntryReply = Ack | Reject | Pong

# -- market data -------------------------------------------------------------------------------------------------------

StatusName = Literal["open", "closed", "call", "halted"]


class Trade(Struct, tag_field="type", tag="trade", frozen=True, gc=False):
    asset: str
    sequence: int
    trade_id: int
    price: int
    quantity: int
    aggressor: SideName
    maker_order_id: int
    taker_order_id: int
    time: int


class Bbo(Struct, tag_field="type", tag="bbo", frozen=True, gc=False):
    asset: str
    sequence: int
    bid: PriceQuantity | None
    ask: PriceQuantity | None
    time: int


class BookUpdate(Struct, tag_field="type", tag="book", frozen=True, gc=False):
    """`changes` are (side, price, quantity, orders) with the level's new absolute values; quantity 0: gone."""

    asset: str
    sequence: int
    changes: list[tuple[SideName, int, int, int]]
    time: int


class OrderAdded(Struct, tag_field="type", tag="order_added", frozen=True, gc=False):
    asset: str
    sequence: int
    order_id: int
    side: SideName
    price: int
    quantity: int
    time: int


class OrderExecuted(Struct, tag_field="type", tag="order_executed", frozen=True, gc=False):
    asset: str
    sequence: int
    order_id: int
    quantity: int
    price: int
    trade_id: int
    time: int


class OrderReduced(Struct, tag_field="type", tag="order_reduced", frozen=True, gc=False):
    asset: str
    sequence: int
    order_id: int
    quantity: int
    time: int


class OrderDeleted(Struct, tag_field="type", tag="order_deleted", frozen=True, gc=False):
    asset: str
    sequence: int
    order_id: int
    time: int


class OrderReplaced(Struct, tag_field="type", tag="order_replaced", frozen=True, gc=False):
    asset: str
    sequence: int
    order_id: int
    price: int
    quantity: int
    time: int


class Status(Struct, tag_field="type", tag="status", frozen=True, gc=False):
    """The trading status; during a call, and only then, with what the auction would give if the call ended now."""

    asset: str
    sequence: int
    status: StatusName
    reason: str
    time: int
    indicative_price: int | UnsetType | None = UNSET  # nil: nothing would trade
    indicative_quantity: int | UnsetType = UNSET
    surplus_side: SideName | UnsetType | None = UNSET  # nil: neither has any left over
    surplus_quantity: int | UnsetType = UNSET


class Heartbeat(Struct, tag_field="type", tag="heartbeat", frozen=True, gc=False):
    time: int
    sequences: dict[str, int]


# -- private -----------------------------------------------------------------------------------------------------------


class ExecutionReport(Struct, tag_field="type", tag="execution_report", frozen=True, gc=False, omit_defaults=True):
    """Keys without a value are left out. (To be made by place: by name it takes twenty times as long.)"""

    account: str
    asset: str
    sequence: int
    time: int
    exec_type: str
    order_id: int
    reason: str | UnsetType = UNSET
    order_status: str | UnsetType = UNSET
    client_order_id: str | UnsetType = UNSET
    side: SideName | UnsetType = UNSET
    order_type: str | UnsetType = UNSET
    time_in_force: str | UnsetType = UNSET
    price: int | UnsetType = UNSET
    stop_price: int | UnsetType = UNSET
    quantity: int | UnsetType = UNSET
    cumulative_quantity: int | UnsetType = UNSET
    leaves_quantity: int | UnsetType = UNSET
    last_price: int | UnsetType = UNSET
    last_quantity: int | UnsetType = UNSET
    trade_id: int | UnsetType = UNSET
    liquidity: Literal["maker", "taker"] | UnsetType = UNSET


PublicMessage = (
    Trade
    | Bbo
    | BookUpdate
    | OrderAdded
    | OrderExecuted
    | OrderReduced
    | OrderDeleted
    | OrderReplaced
    | Status
    | Heartbeat
)

# -- queries -----------------------------------------------------------------------------------------------------------


class AssetsQuery(Request, tag="assets", frozen=True, kw_only=True):
    pass


class BookSnapshotQuery(Request, tag="book_snapshot", frozen=True, kw_only=True):
    asset: str
    depth: int | UnsetType = UNSET


class OrderSnapshotQuery(Request, tag="order_snapshot", frozen=True, kw_only=True):
    asset: str


class RetransmitQuery(Request, tag="retransmit", frozen=True, kw_only=True, rename={"from_": "from"}):
    topic: str
    from_: int
    to: int


class TradesQuery(Request, tag="trades", frozen=True, kw_only=True):
    asset: str
    limit: int = 100


class OrderStatusQuery(Request, tag="order_status", frozen=True, kw_only=True):
    account: str
    asset: str
    order_id: int | UnsetType = UNSET
    client_order_id: str | UnsetType = UNSET


class SequencesQuery(Request, tag="sequences", frozen=True, kw_only=True):
    account: str | UnsetType = UNSET


class OpenOrdersQuery(Request, tag="open_orders", frozen=True, kw_only=True):
    account: str
    asset: str | UnsetType = UNSET


Query = (
    AssetsQuery
    | BookSnapshotQuery
    | OrderSnapshotQuery
    | RetransmitQuery
    | TradesQuery
    | OrderStatusQuery
    | SequencesQuery
    | OpenOrdersQuery
)
