"""A feed's state as values: what a snapshot holds, so that a restart need not fold an asset's events from the first on.

A feed restored from its state goes on byte for byte as the one that the state was taken of. The same state is the same
values in the same order, whichever way the feed has come to it.
"""

from collections.abc import Callable, Mapping

from msgspec import Struct, structs

from exchange.core import messages
from exchange.core.asset import Asset
from exchange.core.book import Terms, orders_of
from exchange.core.execution_reports import PublishedOrder
from exchange.core.feed_notes import PUBLIC_TOPICS, Note, Reported
from exchange.core.market_data import Feed
from exchange.core.messages import ExecutionReport
from exchange.core.requests import BUY, SELL, OrderType, SelfTradePrevention, Side, TimeInForce

# To be raised whenever `Feed` gives other messages or numbers than it did: older states are not gone on from. (Those of
# version 1 are, see `converted`: it has reports in the place of notes, and is the same otherwise.)
VERSION = 2
FORMER_VERSION = 1

StoredTerms = tuple[OrderType, TimeInForce, int, int, int, bool, SelfTradePrevention, int, int, bool, int]  # of `Terms`


class OtherVersion(ValueError):
    """A state of a program whose feed gives other messages than this one's."""


class StoredOrder(Struct, frozen=True, array_like=True, gc=False):
    """A published order; its account by its place in `FeedState.accounts`."""

    order_id: int
    account: int
    side: Side
    price: int
    quantity: int
    leaves: int
    client_order_id: str
    order_type: OrderType
    time_in_force: TimeInForce
    number: int
    time: int
    last: Note | None = None
    terms: StoredTerms | None = None


class FeedState(Struct, frozen=True, array_like=True):
    """All that a feed is between two requests, and orders that ended, which it does not know any more."""

    version: int
    asset: str
    sequence: int  # of the last request folded in
    time: int
    definition: Asset | None
    status: messages.Status | None
    topics: dict[str, int]  # the last number of each public topic
    accounts: list[tuple[str, int]]  # each with the number of its last report, in the order in which they turned up
    resting: list[StoredOrder]  # of both sides, each from the worst level to the best, a level's in time order
    waiting: list[StoredOrder]  # stops, by order id
    ended: dict[int, Note]  # as they were given


def state_of(feed: Feed, ended: Mapping[int, Note] | None = None) -> FeedState:
    """Return the state of a feed that is between two requests and whose notes were taken. O(orders).

    `ended` are orders that have ended and are to be kept with it, each with the note of its last report.
    """
    within = (feed.entering, feed.replaced, feed.call, feed.touched)
    assert not any(within), "a state is one between two requests"
    assert not feed.notes, "what was not taken of them would be lost"
    assert not feed.reports.first, "as its notes, it is taken"
    places = {account: place for place, account in enumerate(feed.reports.topics)}
    resting = [
        _stored(feed.orders[order.order_id], places)
        for ladder in (feed.book.ladders[BUY], feed.book.ladders[SELL])
        for key in ladder.all_keys()
        for order in orders_of(ladder.levels[key])
    ]
    return FeedState(
        VERSION,
        feed.asset,
        feed.sequence,
        feed.time,
        feed.definition,
        feed.status,
        {name: feed.topics[name].sequence for name in PUBLIC_TOPICS},
        [(account, topic.sequence) for account, topic in feed.reports.topics.items()],
        resting,
        [_stored(order, places) for _, order in sorted(feed.orders.items()) if order.waiting],
        dict(ended or {}),
    )


def restore(state: FeedState) -> Feed:
    """Return a feed that goes on where the state was taken. Raises OtherVersion. O(orders)."""
    if state.version != VERSION or tuple(state.topics) != PUBLIC_TOPICS:
        raise OtherVersion(
            f"version {state.version}, topics {', '.join(state.topics)}: this program's is version {VERSION}, with "
            f"{', '.join(PUBLIC_TOPICS)}"
        )
    feed = Feed(state.asset)
    feed.sequence, feed.time = state.sequence, state.time
    feed.definition, feed.status = state.definition, state.status
    for name, number in state.topics.items():
        feed.topics[name].sequence = number
    for account, number in state.accounts:
        feed.reports.topic(account).sequence = number
    for stored in state.resting:
        order = feed.orders[stored.order_id] = _restored(feed, state, stored)
        feed.book.add(order)
        if order.terms is not None:
            # It shows what it showed, which is never more than it may: the book has hidden nothing of it by itself.
            feed.book.ladders[order.side].hide(order, order.terms)
    for stored in state.waiting:
        order = feed.orders[stored.order_id] = _restored(feed, state, stored)
        order.account.orders[order.order_id] = order
    feed.bbo = (feed.book.best(BUY), feed.book.best(SELL))
    return feed


# -- states of version 1 -----------------------------------------------------------------------------------------------


class FormerOrder(Struct, frozen=True, array_like=True, gc=False):
    """A `StoredOrder` of version 1, with its last report as it was sent."""

    order_id: int
    account: int
    side: Side
    price: int
    quantity: int
    leaves: int
    client_order_id: str
    order_type: OrderType
    time_in_force: TimeInForce
    report: bytes
    terms: StoredTerms | None = None


class FormerState(Struct, frozen=True, array_like=True):
    """A `FeedState` of version 1."""

    version: int
    asset: str
    sequence: int
    time: int
    definition: Asset | None
    status: messages.Status | None
    topics: dict[str, int]
    accounts: list[tuple[str, int]]
    resting: list[FormerOrder]
    waiting: list[FormerOrder]
    ended: list[FormerOrder]


def converted(former: FormerState, decode_report: Callable[[bytes], ExecutionReport]) -> FeedState:
    """Return a state of version 1 as one of this version."""

    def stored(order: FormerOrder) -> StoredOrder:
        report = decode_report(order.report)
        values = structs.asdict(order) | {"number": report.sequence, "time": report.time, "last": Reported(report)}
        del values["report"]
        return StoredOrder(**values)

    if former.version != FORMER_VERSION:
        raise OtherVersion(f"version {former.version}: this program reads {FORMER_VERSION} and {VERSION}")
    return FeedState(
        VERSION,
        former.asset,
        former.sequence,
        former.time,
        former.definition,
        former.status,
        former.topics,
        former.accounts,
        [stored(order) for order in former.resting],
        [stored(order) for order in former.waiting],
        {order.order_id: Reported(decode_report(order.report)) for order in former.ended},
    )


# ----------------------------------------------------------------------------------------------------------------------


def _stored(order: PublishedOrder, places: dict[str, int]) -> StoredOrder:
    return StoredOrder(
        order.order_id,
        places[order.account.name],
        order.side,
        order.price,
        order.quantity,
        order.leaves,
        order.client_order_id,
        order.order_type,  # type: ignore[arg-type] # one of them
        order.time_in_force,  # type: ignore[arg-type]
        order.number,
        order.time,
        order.last,
        None if order.terms is None else structs.astuple(order.terms),
    )


def _restored(feed: Feed, state: FeedState, stored: StoredOrder) -> PublishedOrder:
    account, _ = state.accounts[stored.account]
    return PublishedOrder(
        stored.order_id,
        feed.book.account(account),
        stored.side,
        stored.price,
        stored.quantity,
        stored.leaves,
        None if stored.terms is None else Terms(*stored.terms),
        stored.client_order_id,
        stored.order_type,
        stored.time_in_force,
        feed.reports.topic(account),
        stored.number,
        stored.time,
        stored.last,
    )
