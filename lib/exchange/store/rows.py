"""Event records as rows of the database, in the binary format of PostgreSQL's COPY.

A row is a 16-bit count of fields, then each field as a 32-bit length and that many bytes, all big-endian; a NULL is the
length -1. A bigint has 8 bytes, a timestamptz is a bigint of microseconds since 2000, text is its UTF-8. Rows are built
from a few pieces, the numbers in one `struct` call, words looked up whole: a small part of what psycopg's `write_row`
costs, and the server reads this faster than text. The columns are in the order in which the pieces come, not in the
tables'.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from struct import Struct
from typing import Any

from exchange.core.events import (
    AmendRejected,
    AssetDefined,
    CancelRejected,
    EventRecord,
    IndicativeChanged,
    OrderAccepted,
    OrderCanceled,
    OrderDecremented,
    OrderExpired,
    OrderRejected,
    OrderReplaced,
    OrderReplenished,
    OrderRested,
    OrderTriggered,
    StatusChanged,
    TradeExecuted,
)
from exchange.core.requests import (
    SIDE_NAMES,
    ChangeStatus,
    DefineAsset,
    Delist,
    Instructions,
    MassCancel,
    NewOrder,
    Request,
)

COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_TRAILER = b"\xff\xff"

COLUMNS = {
    "orders": (
        "order_id",
        "sequence",
        "quantity",
        "received_at",
        "received_at_ns",
        "price",
        "client_order_id",
        "account",
        "asset",
        "side",
        "order_type",
        "time_in_force",
        "stop_price",
        "display_quantity",
        "min_quantity",
        "post_only",
        "self_trade_prevention",
        "expire_time",
        "expire_time_ns",
    ),
    "trades": (
        "trade_id",
        "price",
        "quantity",
        "maker_order_id",
        "taker_order_id",
        "executed_at",
        "executed_at_ns",
        "asset",
        "aggressor",
        "maker_account",
        "taker_account",
    ),
    "order_events": (
        "event_sequence",
        "order_id",
        "occurred_at",
        "occurred_at_ns",
        "asset",
        "exec_type",
        "reason",
        "stop_price",
        "price",
        "quantity",
        "leaves_quantity",
    ),
    "asset_statuses": (
        "asset",
        "event_sequence",
        "sequence",
        "status",
        "reason",
        "operator",
        "call_ends",
        "call_ends_ns",
        "occurred_at",
        "occurred_at_ns",
    ),
    "operator_acts": (
        "asset",
        "sequence",
        "operator",
        "act",
        "account",
        "side",
        "status",
        "reason",
        "first_event",
        "last_event",
        "occurred_at",
        "occurred_at_ns",
    ),
}

EPOCH_2000_US = 946_684_800_000_000  # PostgreSQL's epoch in microseconds since the Unix epoch
MAX_REMEMBERED = 65_536  # accounts, and so on, that are kept encoded

NULL = b"\xff\xff\xff\xff"
pack_length = Struct(">i").pack
pack_count = Struct(">h").pack
pack_bigint = Struct(">iq").pack
pack_two = Struct(">iqiq").pack
# Rows' beginnings, from the count of fields on: the numbers, and of an order the length of its client_order_id.
pack_order = Struct(">hiqiqiqiqiqiqi").pack
pack_order_without_price = Struct(">hiqiqiqiqiqii").pack
pack_trade = Struct(">hiqiqiqiqiqiqiq").pack
pack_order_event = Struct(">hiqiqiqiq").pack
ORDER_FIELDS, TRADE_FIELDS, EVENT_FIELDS = (len(COLUMNS[table]) for table in ("orders", "trades", "order_events"))


def text(value: str) -> bytes:
    """Return a text field."""
    encoded = value.encode()
    return pack_length(len(encoded)) + encoded


def optional(price: int) -> bytes:
    """Return a price's field: NULL for 0, which is a request's and an event's way to say that there is none."""
    return pack_bigint(8, price) if price else NULL


def optional_text(value: str) -> bytes:
    """Return a text field, NULL for the empty text. PostgreSQL's text has no zero byte: it is left out."""
    return text(value.replace("\0", "")) if value else NULL


def both_times(nanoseconds: int) -> bytes:
    """Return a time's two fields, the timestamptz and the nanoseconds, NULL for 0."""
    return pack_two(8, nanoseconds // 1000 - EPOCH_2000_US, 8, nanoseconds) if nanoseconds else NULL + NULL


def instructions(given: Instructions) -> bytes:
    """Return the fields of an order's instructions, stop_price to expire_time_ns."""
    return b"".join(
        (
            optional(given.stop_price),
            optional(given.display_quantity),
            optional(given.min_quantity),
            b"\0\0\0\1\1" if given.post_only else b"\0\0\0\1\0",
            WORD[given.self_trade_prevention],
            both_times(given.expire_time),
        )
    )


class Remembered(dict[str, bytes]):
    """Text fields, each between the same two pieces, by their text: what comes again and again is encoded once."""

    def __init__(self, before: bytes = b"", after: bytes = b"") -> None:
        self.before = before
        self.after = after

    def __missing__(self, value: str) -> bytes:
        if len(self) >= MAX_REMEMBERED:
            self.clear()
        self[value] = encoded = self.before + text(value) + self.after
        return encoded


class Words(dict[tuple[str, ...], bytes]):
    """Text fields one after the other, and what follows them, by their texts."""

    def __init__(self, after: bytes = b"") -> None:
        self.after = after

    def __missing__(self, values: tuple[str, ...]) -> bytes:
        if len(self) >= MAX_REMEMBERED:
            self.clear()
        self[values] = encoded = b"".join(map(text, values)) + self.after
        return encoded


# How rows that are rare begin, by asset: the count of their fields, and the asset.
ASSET_STATUSES, OPERATOR_ACTS = (
    Remembered(pack_count(len(COLUMNS[table]))) for table in ("asset_statuses", "operator_acts")
)
ASSET, ACCOUNT, WORD = Remembered(), Remembered(), Remembered()
ORDER_WORDS = Words()  # asset, side, order_type, time_in_force
PLAIN_ORDER_WORDS = Words(instructions(Instructions()))  # the same of an order without instructions, with what follows
TRADE_WORDS = Words()  # asset, aggressor
SIDE = {side: text(name) for side, name in SIDE_NAMES.items()}
# exec_type, reason, stop_price
CANCELED, REJECTED = Remembered(text("canceled"), NULL), Remembered(text("rejected"), NULL)
CANCEL_REJECTED, AMEND_REJECTED = Remembered(text("cancel_rejected"), NULL), Remembered(text("amend_rejected"), NULL)
REPLACED = text("replaced") + NULL
TRIGGERED, REPLENISHED = text("triggered") + NULL * 2, text("restated") + NULL * 2
DECREMENTED = text("restated") + text("self_trade_prevention") + NULL
EXPIRED = text("expired") + text("expired") + NULL


class NotContiguous(Exception):
    """A record that does not follow the last one of its asset."""


@dataclass(slots=True)
class Applied:
    """How far an asset is stored: its last request, event and trade, and that request's time in nanoseconds."""

    sequence: int = 0
    event_sequence: int = 0
    trade_id: int = 0
    time: int = 0


class Reached(dict[str, Applied]):
    """How far assets are stored once the rows are that are being made, of those that have any."""

    def __init__(self, applied: Mapping[str, Applied]) -> None:
        self.applied = applied  # before

    def __missing__(self, asset: str) -> Applied:
        self[asset] = place = replace(self.applied.get(asset, Applied()))
        return place


class Rows:
    """The rows of some records: COPY data by table, and each asset's last definition.

    A record may hold any number of events: a sweep, an auction or a cascade of stops is one request.

    Every value of a row is the record's, none is the clock's or the database's: the same records give the same rows.
    """

    def __init__(self) -> None:
        self.orders: list[bytes] = []  # pieces, to be joined
        self.trades: list[bytes] = []
        self.order_events: list[bytes] = []
        self.asset_statuses: list[bytes] = []
        self.operator_acts: list[bytes] = []
        self.definitions: dict[str, EventRecord] = {}

    def add(self, records: Iterable[EventRecord], reached: Reached) -> None:
        """Append records' rows and move each asset's place in `reached` on to them.

        Raises NotContiguous where a request, its first event or one of its trades is not the next. All rows are to be
        thrown away then.
        """
        orders, trades, order_events = self.orders, self.trades, self.order_events
        for record in records:
            asset, sequence, event_sequence, time = record.asset, record.sequence, record.event_sequence, record.time
            place = reached[asset]
            if sequence != place.sequence + 1:
                raise NotContiguous(f"{asset}: request {sequence} after {place.sequence}")
            if event_sequence != place.event_sequence + 1:
                raise NotContiguous(
                    f"{asset}: event {event_sequence} after {place.event_sequence}, at request {sequence}"
                )
            place.sequence = sequence
            place.time = time
            microseconds = time // 1000 - EPOCH_2000_US
            request = record.request
            if type(request) is NewOrder:
                orders += order(record, request, microseconds)
            elif (describe := ACTS.get(type(request))) is not None and request.by:  # type: ignore[union-attr]
                self._add_act(record, describe(request, record), pack_two(8, microseconds, 8, time))
            for event in record.events:
                kind = type(event)
                if kind is OrderAccepted or kind is OrderRested:
                    pass
                elif type(event) is TradeExecuted:
                    trade_id = event.trade_id
                    if trade_id != place.trade_id + 1:
                        raise NotContiguous(f"{asset}: trade {trade_id} after {place.trade_id}, at request {sequence}")
                    place.trade_id = trade_id
                    trades += trade(asset, event, microseconds, time)
                elif type(event) is AssetDefined:
                    self.definitions[asset] = record
                elif type(event) is StatusChanged:
                    self._add_status(record, event, event_sequence, pack_two(8, microseconds, 8, time))
                elif (encode := ENCODERS[kind]) is not None:
                    what = encode(event, record)
                    order_id = event.order_id  # type: ignore[union-attr] # all that have a row here are of an order
                    numbers = pack_order_event(EVENT_FIELDS, 8, event_sequence, 8, order_id, 8, microseconds, 8, time)
                    order_events += (numbers, ASSET[asset], what)
                event_sequence += 1
            place.event_sequence = event_sequence - 1

    def _add_status(self, record: EventRecord, event: StatusChanged, event_sequence: int, times: bytes) -> None:
        self.asset_statuses += (
            ASSET_STATUSES[record.asset],
            pack_two(8, event_sequence, 8, record.sequence),
            WORD[event.status],
            text(event.reason.replace("\0", "")),
            optional_text(getattr(record.request, "by", "")),
            both_times(event.call_ends),
            times,
        )

    def _add_act(self, record: EventRecord, what: bytes, times: bytes) -> None:
        first, count = record.event_sequence, len(record.events)
        self.operator_acts += (
            OPERATOR_ACTS[record.asset],
            pack_bigint(8, record.sequence),
            optional_text(record.request.by),  # type: ignore[union-attr] # one of ACTS
            what,
            pack_two(8, first, 8, first + count - 1) if count else NULL + NULL,
            times,
        )

    def tables(self) -> dict[str, bytes]:
        """Return the COPY data of each table that has rows, its fields as in `COLUMNS`."""
        pieces: dict[str, list[bytes]] = {table: getattr(self, table) for table in COLUMNS}
        return {table: b"".join((COPY_HEADER, *rows, COPY_TRAILER)) for table, rows in pieces.items() if rows}


def order(record: EventRecord, request: NewOrder, microseconds: int) -> tuple[bytes, ...]:
    """Return an order's row, in pieces. `microseconds` is the record's time as the database counts it."""
    client_order_id, given = request.client_order_id.encode(), request.instructions
    words = record.asset, SIDE_NAMES[request.side], request.order_type, request.time_in_force
    order_id, quantity, price = request.order_id, request.quantity, request.price
    sequence, time = record.sequence, record.time
    length = len(client_order_id)
    if price:
        numbers = pack_order(
            ORDER_FIELDS, 8, order_id, 8, sequence, 8, quantity, 8, microseconds, 8, time, 8, price, length
        )
    else:
        numbers = pack_order_without_price(
            ORDER_FIELDS, 8, order_id, 8, sequence, 8, quantity, 8, microseconds, 8, time, -1, length
        )
    if given is None:
        return numbers, client_order_id, ACCOUNT[record.account], PLAIN_ORDER_WORDS[words]
    return numbers, client_order_id, ACCOUNT[record.account], ORDER_WORDS[words], instructions(given)


def trade(asset: str, event: TradeExecuted, microseconds: int, time: int) -> tuple[bytes, ...]:
    """Return a trade's row, in pieces. `microseconds` is its `time` as the database counts it."""
    trade_id, price, quantity = event.trade_id, event.price, event.quantity
    maker, taker = event.maker_order_id, event.taker_order_id
    return (
        pack_trade(TRADE_FIELDS, 8, trade_id, 8, price, 8, quantity, 8, maker, 8, taker, 8, microseconds, 8, time),
        TRADE_WORDS[asset, SIDE_NAMES[event.aggressor]],
        ACCOUNT[event.maker_account],
        ACCOUNT[event.taker_account],
    )


# -- order events: exec_type, reason, stop_price, price, quantity, leaves_quantity -------------------------------------


def canceled(event: OrderCanceled, record: EventRecord) -> bytes:
    return CANCELED[event.reason] + optional(event.price) + pack_two(8, event.quantity, 8, 0)


def expired(event: OrderExpired, record: EventRecord) -> bytes:
    return EXPIRED + optional(event.price) + pack_two(8, event.quantity, 8, 0)


def replaced(event: OrderReplaced, record: EventRecord) -> bytes:
    what = REPLACED + optional(event.stop_price)
    return what + optional(event.price) + pack_two(8, event.quantity, 8, event.leaves)


def triggered(event: OrderTriggered, record: EventRecord) -> bytes:
    return TRIGGERED + NULL + NULL + NULL


def replenished(event: OrderReplenished, record: EventRecord) -> bytes:
    """The next part of an iceberg; it says nothing of the order's total, nor of all that is open."""
    return REPLENISHED + optional(event.price) + NULL + NULL


def decremented(event: OrderDecremented, record: EventRecord) -> bytes:
    return DECREMENTED + optional(event.price) + pack_two(8, event.quantity, 8, event.leaves)


def rejected(event: OrderRejected, record: EventRecord) -> bytes:
    request = record.request
    assert type(request) is NewOrder, "only a new order is rejected so"
    what = REJECTED[event.reason]
    return what + optional(request.price) + pack_two(8, request.quantity, 8, 0)


def cancel_rejected(event: CancelRejected, record: EventRecord) -> bytes:
    return CANCEL_REJECTED[event.reason] + NULL + NULL + NULL


def amend_rejected(event: AmendRejected, record: EventRecord) -> bytes:
    return AMEND_REJECTED[event.reason] + NULL + NULL + NULL


# Every event but trades, definitions and changes of the status; None: no row. What there is to say of an accepted or
# rested order is in other rows. An indicative price is not stored: it is what would be, anew with each order of a call,
# and what came of the call is in its trades.
ENCODERS: dict[type, Callable[[Any, EventRecord], bytes] | None] = {
    OrderAccepted: None,
    OrderRested: None,
    IndicativeChanged: None,
    OrderCanceled: canceled,
    OrderExpired: expired,
    OrderReplaced: replaced,
    OrderTriggered: triggered,
    OrderReplenished: replenished,
    OrderDecremented: decremented,
    OrderRejected: rejected,
    CancelRejected: cancel_rejected,
    AmendRejected: amend_rejected,
}


# -- operators' acts: act, account, side, status, reason ---------------------------------------------------------------


def mass_cancel(request: MassCancel, record: EventRecord) -> bytes:
    side = SIDE[request.side] if request.side else NULL
    return text("mass_cancel") + ACCOUNT[record.account] + side + NULL + WORD[request.reason]


def change_status(request: ChangeStatus, record: EventRecord) -> bytes:
    return text("change_status") + NULL + NULL + WORD[request.status] + optional_text(request.reason)


def define_asset(request: DefineAsset, record: EventRecord) -> bytes:
    return text("define_asset") + NULL * 4


def delist(request: Delist, record: EventRecord) -> bytes:
    return text("delist") + NULL * 4


# The requests that an operator can make; `by` is empty where it is not an operator's.
ACTS: dict[type[Request], Callable[[Any, EventRecord], bytes]] = {
    MassCancel: mass_cancel,
    ChangeStatus: change_status,
    DefineAsset: define_asset,
    Delist: delist,
}
