"""The rows that event records have to have led to, as PostgreSQL's COPY writes them out: a line of text each.

Written from `docs/database.md` and the comments of the schema, not from the program that stores the rows. A line is its
columns with a tab between them and a line feed at the end; `\\N` is NULL. Comparing lines is comparing rows.
"""

import time
from collections.abc import Callable
from typing import Any

from exchange.core.events import (
    AmendRejected,
    CancelRejected,
    Event,
    EventRecord,
    OrderCanceled,
    OrderDecremented,
    OrderExpired,
    OrderRejected,
    OrderReplaced,
    OrderReplenished,
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
)


def names(text: str) -> list[str]:
    return text.split()


COLUMNS = {
    "orders": names(
        "asset order_id sequence account client_order_id side order_type time_in_force price stop_price quantity"
        " display_quantity min_quantity post_only self_trade_prevention expire_time expire_time_ns received_at"
        " received_at_ns"
    ),
    "trades": names(
        "asset trade_id price quantity aggressor maker_order_id taker_order_id maker_account taker_account executed_at"
        " executed_at_ns"
    ),
    "order_events": names(
        "asset event_sequence order_id exec_type reason price quantity leaves_quantity stop_price occurred_at"
        " occurred_at_ns"
    ),
    "asset_statuses": names(
        "asset event_sequence sequence status reason operator call_ends call_ends_ns occurred_at occurred_at_ns"
    ),
    "operator_acts": names(
        "asset sequence operator act account side status reason first_event last_event occurred_at occurred_at_ns"
    ),
    "order_states": names("asset order_id status cumulative_quantity leaves_quantity"),
}
KEYS = {
    "orders": "order_id",
    "trades": "trade_id",
    "order_events": "event_sequence",
    "asset_statuses": "event_sequence",
    "operator_acts": "sequence",
    "order_states": "order_id",
}
NULL = "\\N"
PLAIN = Instructions()
SECOND = 10**9
ESCAPED = str.maketrans(
    {"\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\0": ""}
)

Row = tuple[str, bytes]  # table, line


def text(value: str) -> str:
    """Return a text as COPY writes it. What PostgreSQL's text can't hold, a zero byte, is not stored."""
    return value if value.isprintable() and "\\" not in value else value.translate(ESCAPED)


def optional(value: int) -> int | str:
    """Return a number of which 0 says that there is none."""
    return value or NULL


class Times:
    """Times as COPY writes a timestamptz (in UTC, ISO style, cut to microseconds), and in nanoseconds."""

    def __init__(self) -> None:
        self.second = -1
        self.text = ""

    def both(self, nanoseconds: int) -> str:
        """Return the two columns of a time."""
        second, rest = divmod(nanoseconds, SECOND)
        if second != self.second:
            self.second = second
            self.text = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(second))
        fraction = f".{rest // 1000:06}".rstrip("0") if rest >= 1000 else ""
        return f"{self.text}{fraction}+00\t{nanoseconds}"

    def both_or_null(self, nanoseconds: int) -> str:
        """Return the two columns of a time of which 0 says that there is none."""
        return self.both(nanoseconds) if nanoseconds else "\\N\t\\N"

    def single(self, nanoseconds: int) -> str:
        return self.both(nanoseconds).partition("\t")[0]


class ExpectedRows:
    """Makes the rows of one asset's event records, in the order of the records and, in each table, of its key."""

    def __init__(self, asset: str) -> None:
        self.asset = asset
        self.times = Times()
        self.expire_times = Times()

    def of(self, record: EventRecord) -> list[Row]:
        """Return the rows of a record."""
        rows: list[Row] = []
        request, asset = record.request, self.asset
        at = self.times.both(record.time)
        if type(request) is NewOrder:
            rows.append(("orders", self._order(record, request, at)))
        elif type(request) in ACTS and request.by:  # type: ignore[union-attr] # one of ACTS
            rows.append(("operator_acts", self._act(record, at)))
        number = record.event_sequence
        for event in record.events:
            kind = type(event)
            if kind is TradeExecuted:
                rows.append(("trades", self._trade(event, at)))  # type: ignore[arg-type] # by its type
            elif kind is StatusChanged:
                rows.append(("asset_statuses", self._status(record, number, event, at)))  # type: ignore[arg-type]
            elif (columns := ORDER_EVENTS.get(kind)) is not None:
                rows.append(("order_events", f"{asset}\t{number}\t{columns(event, record)}\t{at}\n".encode()))
            number += 1
        return rows

    def _order(self, record: EventRecord, request: NewOrder, at: str) -> bytes:
        says = request.instructions
        if says is None:
            stop_price: int | str = NULL
            rest = "\\N\t\\N\tf\tcancel_newest\t\\N\t\\N"
        else:
            stop_price = optional(says.stop_price)
            rest = (
                f"{optional(says.display_quantity)}\t{optional(says.min_quantity)}\t{'t' if says.post_only else 'f'}\t"
                f"{says.self_trade_prevention}\t{self.expire_times.both_or_null(says.expire_time)}"
            )
        return (
            f"{self.asset}\t{request.order_id}\t{record.sequence}\t{text(record.account)}\t"
            f"{text(request.client_order_id)}\t{SIDE_NAMES[request.side]}\t{request.order_type}\t"
            f"{request.time_in_force}\t{optional(request.price)}\t{stop_price}\t{request.quantity}\t{rest}\t{at}\n"
        ).encode()

    def _trade(self, event: TradeExecuted, at: str) -> bytes:
        return (
            f"{self.asset}\t{event.trade_id}\t{event.price}\t{event.quantity}\t{SIDE_NAMES[event.aggressor]}\t"
            f"{event.maker_order_id}\t{event.taker_order_id}\t{text(event.maker_account)}\t"
            f"{text(event.taker_account)}\t{at}\n"
        ).encode()

    def _status(self, record: EventRecord, number: int, event: StatusChanged, at: str) -> bytes:
        by = text(getattr(record.request, "by", "")) or NULL
        return (
            f"{self.asset}\t{number}\t{record.sequence}\t{event.status}\t{text(event.reason)}\t{by}\t"
            f"{self.expire_times.both_or_null(event.call_ends)}\t{at}\n"
        ).encode()

    def _act(self, record: EventRecord, at: str) -> bytes:
        request, count = record.request, len(record.events)
        account = side = status = reason = NULL
        if type(request) is MassCancel:
            account, reason = text(record.account), request.reason
            side = SIDE_NAMES[request.side] if request.side else NULL
        elif type(request) is ChangeStatus:
            status, reason = request.status, text(request.reason) or NULL
        first, last = (record.event_sequence, record.event_sequence + count - 1) if count else (NULL, NULL)
        by = text(request.by)  # type: ignore[union-attr] # one of ACTS
        return (
            f"{self.asset}\t{record.sequence}\t{by or NULL}\t{ACTS[type(request)]}\t{account}\t{side}\t{status}\t"
            f"{reason}\t{first}\t{last}\t{at}\n"
        ).encode()


# What an operator may ask for.
ACTS: dict[type, str] = {
    DefineAsset: "define_asset",
    ChangeStatus: "change_status",
    MassCancel: "mass_cancel",
    Delist: "delist",
}


# -- order_events: order_id, exec_type, reason, price, quantity, leaves_quantity, stop_price ---------------------------


def _canceled(event: OrderCanceled, record: EventRecord) -> str:
    return f"{event.order_id}\tcanceled\t{event.reason}\t{optional(event.price)}\t{event.quantity}\t0\t\\N"


def _expired(event: OrderExpired, record: EventRecord) -> str:
    return f"{event.order_id}\texpired\texpired\t{optional(event.price)}\t{event.quantity}\t0\t\\N"


def _rejected(event: OrderRejected, record: EventRecord) -> str:
    request = record.request
    assert type(request) is NewOrder, "the book rejects new orders only"
    return f"{event.order_id}\trejected\t{event.reason}\t{optional(request.price)}\t{request.quantity}\t0\t\\N"


def _replaced(event: OrderReplaced, record: EventRecord) -> str:
    return (
        f"{event.order_id}\treplaced\t\\N\t{optional(event.price)}\t{event.quantity}\t{event.leaves}\t"
        f"{optional(event.stop_price)}"
    )


def _triggered(event: OrderTriggered, record: EventRecord) -> str:
    return f"{event.order_id}\ttriggered\t\\N\t\\N\t\\N\t\\N\t\\N"


def _replenished(event: OrderReplenished, record: EventRecord) -> str:
    return f"{event.order_id}\trestated\t\\N\t{optional(event.price)}\t\\N\t\\N\t\\N"


def _decremented(event: OrderDecremented, record: EventRecord) -> str:
    return (
        f"{event.order_id}\trestated\tself_trade_prevention\t{optional(event.price)}\t{event.quantity}\t"
        f"{event.leaves}\t\\N"
    )


def _cancel_rejected(event: CancelRejected, record: EventRecord) -> str:
    return f"{event.order_id}\tcancel_rejected\t{event.reason}\t\\N\t\\N\t\\N\t\\N"


def _amend_rejected(event: AmendRejected, record: EventRecord) -> str:
    return f"{event.order_id}\tamend_rejected\t{event.reason}\t\\N\t\\N\t\\N\t\\N"


ORDER_EVENTS: dict[type[Event], Callable[[Any, EventRecord], str]] = {
    OrderCanceled: _canceled,
    OrderExpired: _expired,
    OrderRejected: _rejected,
    OrderReplaced: _replaced,
    OrderTriggered: _triggered,
    OrderReplenished: _replenished,
    OrderDecremented: _decremented,
    CancelRejected: _cancel_rejected,
    AmendRejected: _amend_rejected,
}
