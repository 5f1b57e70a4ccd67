"""All that a `Matching` holds between two requests, as values: taken out of one, and made into another.

    state = state_of(matching)      # changes no more, whatever the matching does
    other = restore(state)          # goes on byte for byte as that one does

What follows from the rest is not in it: sums, ladders, expiries, an auction's crossing. Nor are accounts without a live
order, which nothing is known of. The same matching gives the same state, and so the same bytes, whether it was itself
restored or not.

Written as MessagePack arrays, a plain order in about 25 bytes. A new field goes to the end, with the default that older
states mean; where that is not enough, VERSION rises.
"""

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import astuple

from exchange.core.asset import Asset, Status
from exchange.core.auction import Crossing
from exchange.core.book import Account, Ladder, Order, Terms, orders_of
from exchange.core.events import IndicativeChanged
from exchange.core.matching import Matching
from exchange.core.requests import BUY, SELL, Side
from exchange.core.stops import Stops, place

VERSION = 1


class StoredTerms(Terms, array_like=True, gc=False):
    """An order's terms, with the same fields."""


class StoredOrder(Struct, frozen=True, array_like=True, gc=False):
    """A live order. `account` is a place in the state's `accounts`; the side is that of the list it is in."""

    order_id: int
    account: int
    price: int
    quantity: int
    leaves: int
    terms: StoredTerms | None = None


class MatchingState(Struct, frozen=True, array_like=True):
    """One asset's book and counters as of the request `sequence`.

    `buys` and `sells` are what rests, the worst price first, each price in time order. The stops wait, those that are
    `elected` (order ids, rising) included; they are in the order in which they would enter.
    """

    version: int
    sequence: int
    time: int
    event_sequence: int
    trade_id: int
    asset: Asset | None
    delisted: bool
    status: Status
    call: int
    call_ends: int
    indicative: IndicativeChanged
    last_price: int
    auction_price: int
    accounts: list[str]
    buys: list[StoredOrder]
    sells: list[StoredOrder]
    buy_stops: list[StoredOrder]
    sell_stops: list[StoredOrder]
    elected: list[int]
    arrivals: int


class StateVersion(Struct, frozen=True, array_like=True):
    """The beginning of a state of whatever version."""

    version: int


def state_of(matching: Matching) -> MatchingState:
    """Return the state as of the last request applied. O(orders): about a second a million."""
    stops = matching.stops
    accounts: dict[str, int] = {}
    return MatchingState(
        version=VERSION,
        sequence=matching.sequence,
        time=matching.time,
        event_sequence=matching.event_sequence,
        trade_id=matching.trade_id,
        asset=matching.asset,
        delisted=matching.delisted,
        status=matching.status,
        call=matching.call,
        call_ends=matching.call_ends,
        indicative=matching.indicative,
        last_price=matching.last_price,
        auction_price=matching.auction_price,
        buys=_stored(_resting(matching.book.ladders[BUY]), accounts),
        sells=_stored(_resting(matching.book.ladders[SELL]), accounts),
        buy_stops=_stored(_waiting(stops, BUY), accounts),
        sell_stops=_stored(_waiting(stops, SELL), accounts),
        accounts=list(accounts),  # in the order in which the lists name them first
        elected=sorted(stops.elected),
        arrivals=stops.arrivals,
    )


def restore(state: MatchingState) -> Matching:
    """Return a matching in that state. O(orders): about a second a million."""
    matching = Matching(state.asset)
    matching.sequence, matching.time = state.sequence, state.time
    matching.event_sequence, matching.trade_id = state.event_sequence, state.trade_id
    matching.delisted = state.delisted
    matching.status, matching.call, matching.call_ends = state.status, state.call, state.call_ends
    matching.indicative = state.indicative
    matching.last_price, matching.auction_price = state.last_price, state.auction_price
    book, stops, expiries = matching.book, matching.stops, matching.expiries
    accounts = [book.account(name) for name in state.accounts]
    for side, resting in ((BUY, state.buys), (SELL, state.sells)):
        ladder = book.ladders[side]
        for order in _orders(side, resting, accounts):
            book.add(order)
            if order.terms is not None:
                ladder.hide(order, order.terms)
                expiries.add(order)
    elected = set(state.elected)
    for side, waiting in ((BUY, state.buy_stops), (SELL, state.sell_stops)):
        for order in _orders(side, waiting, accounts):
            order.account.orders[order.order_id] = order
            expiries.add(order)
            if order.order_id in elected:
                stops.elected[order.order_id] = order
            else:
                stops.orders[side][place(order)] = order
    stops.arrivals = state.arrivals
    if state.status == "call":
        matching.crossing = Crossing(book)
    matching.refresh()
    return matching


def _resting(ladder: Ladder) -> Iterable[Order]:
    return (order for key in ladder.all_keys() for order in orders_of(ladder.levels[key]))


def _waiting(stops: Stops, side: Side) -> Iterable[Order]:
    elected = (order for order in stops.elected.values() if order.side == side)
    return sorted((*elected, *stops.orders[side].values()), key=place)


def _stored(orders: Iterable[Order], accounts: dict[str, int]) -> list[StoredOrder]:
    """Return orders as the state has them. `accounts` numbers those that they name, from 0."""
    return [
        StoredOrder(
            order.order_id,
            accounts.setdefault(order.account.name, len(accounts)),
            order.price,
            order.quantity,
            order.leaves,
            None if order.terms is None else StoredTerms(*astuple(order.terms)),
        )
        for order in orders
    ]


def _orders(side: Side, stored: Iterable[StoredOrder], accounts: list[Account]) -> Iterable[Order]:
    for each in stored:
        terms = None if each.terms is None else Terms(*astuple(each.terms))
        yield Order(each.order_id, accounts[each.account], side, each.price, each.quantity, each.leaves, terms)
