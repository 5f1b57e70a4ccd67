"""What a feed notes of what happened: enough to make its messages from, when and if somebody wants them.

Most topics are followed by nobody most of the time, and to make and encode every message of every topic costs more than
all else that a feed does. So a feed makes notes, small and of plain values, and numbers the messages that each stands
for. Who publishes makes those that somebody follows, who is asked for one of before makes it from the note that was
kept: the same, byte for byte, since a message is a function of its note and the asset's name alone.

Of each public topic a note stands for one message at most; of the private ones a trade stands for two. What is rare is
noted as the message itself. Notes are written as tagged MessagePack arrays: a new field goes to the end.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

from msgspec import UNSET, Struct

from exchange.core import messages
from exchange.core.events import CancelReason
from exchange.core.messages import ExecutionReport, SideName
from exchange.core.requests import SIDE_NAMES, OrderType, Side, TimeInForce

PUBLIC_TOPICS = ("trade", "bbo", "book", "order", "status")

Best = tuple[int, int]  # price and shown quantity of the best level of a side
NumberedBest = tuple[int, Best | None, Best | None]  # the number of a message about the best bid and offer, and these
OfOrders = (
    messages.OrderAdded
    | messages.OrderExecuted
    | messages.OrderReduced
    | messages.OrderDeleted
    | messages.OrderReplaced
)
NumberedMessage = OfOrders | messages.Trade | messages.Bbo | messages.BookUpdate | messages.Status


class Accepted(Struct, frozen=True, array_like=True, tag=1, gc=False):
    """A plain order is live. `number` is its report's, here and below."""

    time: int
    order_id: int
    account: str
    client_order_id: str
    side: Side
    quantity: int
    price: int
    order_type: OrderType
    time_in_force: TimeInForce
    number: int


class Rested(Struct, frozen=True, array_like=True, tag=2, gc=False):
    """A plain order is live and rests, whole. The level is as it is then; `bbo` where that has changed."""

    time: int
    order_id: int
    account: str
    client_order_id: str
    side: Side
    quantity: int
    price: int
    order_type: OrderType
    time_in_force: TimeInForce
    number: int
    order_number: int
    book_number: int
    level_quantity: int
    level_orders: int
    bbo: NumberedBest | None


class Canceled(Struct, frozen=True, array_like=True, tag=3, gc=False):
    """A plain order that rested was canceled with `left` open, and the request did nothing else."""

    time: int
    order_id: int
    account: str
    client_order_id: str
    side: Side
    quantity: int
    price: int
    order_type: OrderType
    time_in_force: TimeInForce
    number: int
    left: int
    reason: CancelReason
    order_number: int
    book_number: int
    level_quantity: int
    level_orders: int
    bbo: NumberedBest | None


class Party(Struct, frozen=True, array_like=True, gc=False):
    """An order that has traded, as it is after that; `leaves` is all that is open."""

    order_id: int
    account: str
    client_order_id: str
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    price: int
    stop_price: int
    quantity: int
    leaves: int
    number: int


class Traded(Struct, frozen=True, array_like=True, tag=4, gc=False):
    """Two orders traded. Where `order_number` is not 0 all of it was taken off what the maker showed."""

    time: int
    trade_id: int
    price: int
    quantity: int
    aggressor: Side
    order_number: int
    maker: Party
    taker: Party


class Changed(Struct, frozen=True, array_like=True, tag=5, gc=False):
    """A request has changed levels of the book: `changes` as in `messages.BookUpdate`."""

    time: int
    book_number: int
    changes: list[tuple[SideName, int, int, int]]
    bbo: NumberedBest | None


class Said(Struct, frozen=True, array_like=True, tag=6, gc=False):
    """A public message."""

    message: OfOrders | messages.Status


class Reported(Struct, frozen=True, array_like=True, tag=7, gc=False):
    """An execution report."""

    report: ExecutionReport


Note = Accepted | Rested | Canceled | Traded | Changed | Said | Reported

# -- public messages ---------------------------------------------------------------------------------------------------


def _trade(asset: str, note: Traded) -> messages.Trade:
    number = note.trade_id
    return messages.Trade(
        asset,
        number,
        number,
        note.price,
        note.quantity,
        SIDE_NAMES[note.aggressor],
        note.maker.order_id,
        note.taker.order_id,
        note.time,
    )


def _bbo(asset: str, note: Rested | Canceled | Changed) -> messages.Bbo | None:
    if note.bbo is None:
        return None
    number, bid, ask = note.bbo
    return messages.Bbo(asset, number, bid, ask, note.time)


def _level(asset: str, note: Rested | Canceled) -> messages.BookUpdate:
    change = (SIDE_NAMES[note.side], note.price, note.level_quantity, note.level_orders)
    return messages.BookUpdate(asset, note.book_number, [change], note.time)


def _levels(asset: str, note: Changed) -> messages.BookUpdate:
    return messages.BookUpdate(asset, note.book_number, note.changes, note.time)


def _added(asset: str, note: Rested) -> messages.OrderAdded:
    return messages.OrderAdded(
        asset, note.order_number, note.order_id, SIDE_NAMES[note.side], note.price, note.quantity, note.time
    )


def _deleted(asset: str, note: Canceled) -> messages.OrderDeleted:
    return messages.OrderDeleted(asset, note.order_number, note.order_id, note.time)


def _executed(asset: str, note: Traded) -> messages.OrderExecuted | None:
    if not note.order_number:
        return None
    return messages.OrderExecuted(
        asset, note.order_number, note.maker.order_id, note.quantity, note.price, note.trade_id, note.time
    )


def _said_of_order(asset: str, note: Said) -> NumberedMessage | None:
    return None if type(note.message) is messages.Status else note.message


def _said_of_status(asset: str, note: Said) -> NumberedMessage | None:
    return note.message if type(note.message) is messages.Status else None


# What makes the message of a topic from a note of a kind, given the asset; of a kind that is not there it has none.
MAKERS: dict[str, dict[type, Callable[[str, Any], NumberedMessage | None]]] = {
    "trade": {Traded: _trade},
    "order": {Rested: _added, Canceled: _deleted, Traded: _executed, Said: _said_of_order},
    "book": {Rested: _level, Canceled: _level, Changed: _levels},
    "bbo": {Rested: _bbo, Canceled: _bbo, Changed: _bbo},
    "status": {Said: _said_of_status},
}


def public_on(name: str, asset: str, notes: Iterable[Note]) -> Iterator[NumberedMessage]:
    """Yield the messages of a topic that notes stand for, in the order of sending; a note's are sent as in `MAKERS`."""
    makers = MAKERS[name]
    for note in notes:
        make = makers.get(type(note))
        message = None if make is None else make(asset, note)
        if message is not None:
            yield message


# -- execution reports -------------------------------------------------------------------------------------------------


def reports_of(asset: str, note: Note) -> tuple[ExecutionReport, ...]:
    """Return the reports that a note stands for, in the order of sending."""
    if type(note) is Traded:
        return _fill(asset, note, note.maker, "maker"), _fill(asset, note, note.taker, "taker")
    if type(note) is Reported:
        return (note.report,)
    if type(note) is Canceled:
        return (_canceled(asset, note),)
    if type(note) is Accepted or type(note) is Rested:
        return (_new(asset, note),)
    return ()


def reports_to(account: str, asset: str, notes: Iterable[Note]) -> Iterator[ExecutionReport]:
    """Yield the reports to an account that notes stand for."""
    for note in notes:
        if type(note) is Traded:
            if note.maker.account == account:
                yield _fill(asset, note, note.maker, "maker")
            if note.taker.account == account:
                yield _fill(asset, note, note.taker, "taker")
        elif type(note) is Reported:
            if note.report.account == account:
                yield note.report
        elif isinstance(note, Accepted | Rested | Canceled) and note.account == account:
            yield from reports_of(asset, note)


def report_of(asset: str, note: Note, order_id: int) -> ExecutionReport:
    """Return the report about an order, which has one there."""
    reports = reports_of(asset, note)
    # Of a trade with itself an order can't be a party: so there is one at most.
    return next(report for report in reports if report.order_id == order_id)


def client_order_id_of(note: Note, order_id: int) -> str:
    """Return the client_order_id of an order that has a report there."""
    if type(note) is Traded:
        return (note.maker if note.maker.order_id == order_id else note.taker).client_order_id
    if type(note) is Reported:
        return note.report.client_order_id or ""
    assert isinstance(note, Accepted | Rested | Canceled)
    return note.client_order_id


def accounts_of(note: Note) -> tuple[str, ...]:
    """Return the accounts to which a note has reports."""
    if type(note) is Traded:
        return (note.maker.account, note.taker.account)
    if type(note) is Reported:
        return (note.report.account,)
    if isinstance(note, Accepted | Rested | Canceled):
        return (note.account,)
    return ()


def account_of(note: Note, order_id: int) -> str:
    """Return whose an order is that has a report there."""
    if type(note) is Traded:
        return (note.maker if note.maker.order_id == order_id else note.taker).account
    if type(note) is Reported:
        return note.report.account
    assert isinstance(note, Accepted | Rested | Canceled)
    return note.account


def _new(asset: str, note: Accepted | Rested) -> ExecutionReport:
    return ExecutionReport(
        note.account,
        asset,
        note.number,
        note.time,
        "new",
        note.order_id,
        UNSET,
        "new",
        note.client_order_id,
        SIDE_NAMES[note.side],
        note.order_type,
        note.time_in_force,
        note.price or UNSET,
        UNSET,
        note.quantity,
        0,
        note.quantity,
    )


def _canceled(asset: str, note: Canceled) -> ExecutionReport:
    return ExecutionReport(
        note.account,
        asset,
        note.number,
        note.time,
        "canceled",
        note.order_id,
        note.reason,
        "canceled",
        note.client_order_id,
        SIDE_NAMES[note.side],
        note.order_type,
        note.time_in_force,
        note.price or UNSET,
        UNSET,
        note.quantity,
        note.quantity - note.left,
        0,
    )


def _fill(asset: str, note: Traded, party: Party, liquidity: Literal["maker", "taker"]) -> ExecutionReport:
    return ExecutionReport(
        party.account,
        asset,
        party.number,
        note.time,
        "trade",
        party.order_id,
        UNSET,
        "partially_filled" if party.leaves else "filled",
        party.client_order_id,
        SIDE_NAMES[party.side],
        party.order_type,
        party.time_in_force,
        party.price or UNSET,
        party.stop_price or UNSET,
        party.quantity,
        party.quantity - party.leaves,
        party.leaves,
        note.price,
        note.quantity,
        note.trade_id,
        liquidity,
    )
