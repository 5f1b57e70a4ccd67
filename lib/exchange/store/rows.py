"""Event records as rows of the database, in the binary format of PostgreSQL's COPY.

A row is a 16-bit count of fields, then each field as a 32-bit length and that many bytes, all big-endian; a NULL is the
length -1. A bigint has 8 bytes, a timestamptz is a bigint of microseconds since 2000, text is its UTF-8. Rows are built
from a few pieces, each one `struct` call or looked up whole: a quarter of what psycopg's `write_row` costs, and the
server reads this faster than text.

Columns that no request carries yet are left to their defaults in `schema.sql`.
"""

from collections.abc import Callable
from struct import Struct
from typing import Any

import msgspec

from exchange.core.events import (
    AmendRejected,
    AssetDefined,
    CancelRejected,
    EventRecord,
    OrderAccepted,
    OrderCanceled,
    OrderRejected,
    OrderReplaced,
    OrderRested,
    TradeExecuted,
)
from exchange.core.requests import BUY, SIDE_NAMES, NewOrder

COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_TRAILER = b"\xff\xff"

COLUMNS = {
    "orders": (
        "asset",
        "order_id",
        "sequence",
        "account",
        "client_order_id",
        "side",
        "order_type",
        "time_in_force",
        "price",
        "quantity",
        "received_at",
        "received_at_ns",
    ),
    "trades": (
        "asset",
        "trade_id",
        "price",
        "quantity",
        "aggressor",
        "maker_order_id",
        "taker_order_id",
        "maker_account",
        "taker_account",
        "executed_at",
        "executed_at_ns",
    ),
    "order_events": (
        "asset",
        "event_sequence",
        "order_id",
        "exec_type",
        "reason",
        "price",
        "quantity",
        "leaves_quantity",
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
# trade_id, price, quantity, aggressor, maker_order_id, taker_order_id
pack_buy_trade = Struct(">iqiqiqi3siqiq").pack
pack_sell_trade = Struct(">iqiqiqi4siqiq").pack


def text(value: str) -> bytes:
    """Return a text field."""
    encoded = value.encode()
    return pack_length(len(encoded)) + encoded


def optional(price: int) -> bytes:
    """Return a price's field: NULL for 0, which is a request's and an event's way to say that there is none."""
    return pack_bigint(8, price) if price else NULL


class Remembered(dict[str, bytes]):
    """Text fields, each after the same prefix, by their text: what comes again and again is encoded once."""

    def __init__(self, prefix: bytes = b"") -> None:
        self.prefix = prefix

    def __missing__(self, value: str) -> bytes:
        if len(self) >= MAX_REMEMBERED:
            self.clear()
        self[value] = encoded = self.prefix + text(value)
        return encoded


# How each row begins, by asset: the count of its fields, and the asset.
ORDERS, TRADES, ORDER_EVENTS = (Remembered(pack_count(len(columns))) for columns in COLUMNS.values())
ACCOUNT, WORD = Remembered(), Remembered()
SIDE = {side: text(name) for side, name in SIDE_NAMES.items()}
CANCELED, REJECTED = Remembered(text("canceled")), Remembered(text("rejected"))
CANCEL_REJECTED, AMEND_REJECTED = Remembered(text("cancel_rejected")), Remembered(text("amend_rejected"))
REPLACED = text("replaced") + NULL


class NotContiguous(Exception):
    """A record that does not follow the last one of its asset."""


class Applied(msgspec.Struct):
    """How far an asset is stored: its last request, event and trade, and that request's time in nanoseconds."""

    sequence: int = 0
    event_sequence: int = 0
    trade_id: int = 0
    time: int = 0


class Rows:
    """The rows of some records: COPY data by table, and each asset's last definition.

    Every value of a row is the record's, none is the clock's or the database's: the same records give the same rows.
    """

    def __init__(self) -> None:
        self.orders: list[bytes] = []  # pieces, to be joined
        self.trades: list[bytes] = []
        self.order_events: list[bytes] = []
        self.definitions: dict[str, EventRecord] = {}

    def add(self, record: EventRecord, reached: Applied) -> None:
        """Append a record's rows and move `reached`, where its asset stood before, on to it.

        Raises NotContiguous where the request, its first event or one of its trades is not the next. All rows are to be
        thrown away then.
        """
        asset, sequence, event_sequence, time = record.asset, record.sequence, record.event_sequence, record.time
        if sequence != reached.sequence + 1:
            raise NotContiguous(f"{asset}: request {sequence} after {reached.sequence}")
        if event_sequence != reached.event_sequence + 1:
            raise NotContiguous(
                f"{asset}: event {event_sequence} after {reached.event_sequence}, at request {sequence}"
            )
        reached.sequence = sequence
        reached.event_sequence += len(record.events)
        reached.time = time
        times = pack_two(8, time // 1000 - EPOCH_2000_US, 8, time)
        if type(record.request) is NewOrder:
            self._add_order(record, record.request, times)
        for event in record.events:
            if type(event) is TradeExecuted:
                if event.trade_id != reached.trade_id + 1:
                    raise NotContiguous(
                        f"{asset}: trade {event.trade_id} after {reached.trade_id}, at request {sequence}"
                    )
                reached.trade_id = event.trade_id
                self._add_trade(asset, event, times)
            elif type(event) is AssetDefined:
                self.definitions[asset] = record
            elif (encode := ENCODERS[type(event)]) is not None:
                self.order_events += (
                    ORDER_EVENTS[asset],
                    pack_bigint(8, event_sequence),
                    encode(event, record),
                    times,
                )
            event_sequence += 1

    def _add_order(self, record: EventRecord, request: NewOrder, times: bytes) -> None:
        price = request.price
        self.orders += (
            ORDERS[record.asset],
            pack_two(8, request.order_id, 8, record.sequence),
            ACCOUNT[record.account],
            text(request.client_order_id),
            SIDE[request.side],
            WORD[request.order_type],
            WORD[request.time_in_force],
            pack_two(8, price, 8, request.quantity) if price else NULL + pack_bigint(8, request.quantity),
            times,
        )

    def _add_trade(self, asset: str, event: TradeExecuted, times: bytes) -> None:
        maker, taker = event.maker_order_id, event.taker_order_id
        if event.aggressor == BUY:
            trade = pack_buy_trade(8, event.trade_id, 8, event.price, 8, event.quantity, 3, b"buy", 8, maker, 8, taker)
        else:
            trade = pack_sell_trade(
                8, event.trade_id, 8, event.price, 8, event.quantity, 4, b"sell", 8, maker, 8, taker
            )
        self.trades += (TRADES[asset], trade, ACCOUNT[event.maker_account], ACCOUNT[event.taker_account], times)

    def tables(self) -> dict[str, bytes]:
        """Return the COPY data of each table that has rows, its fields as in `COLUMNS`."""
        pieces = {"orders": self.orders, "trades": self.trades, "order_events": self.order_events}
        return {table: b"".join((COPY_HEADER, *rows, COPY_TRAILER)) for table, rows in pieces.items() if rows}


# -- order events: order_id, exec_type, reason, price, quantity, leaves_quantity ---------------------------------------


def canceled(event: OrderCanceled, record: EventRecord) -> bytes:
    what = pack_bigint(8, event.order_id) + CANCELED[event.reason]
    return what + optional(event.price) + pack_two(8, event.quantity, 8, 0)


def replaced(event: OrderReplaced, record: EventRecord) -> bytes:
    what = pack_bigint(8, event.order_id) + REPLACED
    return what + optional(event.price) + pack_two(8, event.quantity, 8, event.leaves)


def rejected(event: OrderRejected, record: EventRecord) -> bytes:
    request = record.request
    assert type(request) is NewOrder, "only a new order is rejected so"
    what = pack_bigint(8, event.order_id) + REJECTED[event.reason]
    return what + optional(request.price) + pack_two(8, request.quantity, 8, 0)


def cancel_rejected(event: CancelRejected, record: EventRecord) -> bytes:
    return pack_bigint(8, event.order_id) + CANCEL_REJECTED[event.reason] + NULL + NULL + NULL


def amend_rejected(event: AmendRejected, record: EventRecord) -> bytes:
    return pack_bigint(8, event.order_id) + AMEND_REJECTED[event.reason] + NULL + NULL + NULL


# Every event but trades and definitions; None: no row, since what there is to say is in other rows.
ENCODERS: dict[type, Callable[[Any, EventRecord], bytes] | None] = {
    OrderAccepted: None,
    OrderRested: None,
    OrderCanceled: canceled,
    OrderReplaced: replaced,
    OrderRejected: rejected,
    CancelRejected: cancel_rejected,
    AmendRejected: amend_rejected,
}
