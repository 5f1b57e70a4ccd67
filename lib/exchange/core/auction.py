"""The auction price, and what a call would come to if it ended now.

Rule: among the limit prices in the book the one with most volume; then least surplus; then, all that are left with
their surplus on the buy side, the highest, all on the sell side, the lowest; otherwise the reference price, held within
the lowest and the highest of them, or without a reference their midpoint, rounded up to the tick.

With D(p) all that is bid at p or above and S(p) all that is offered at p or below, D - S falls as p rises. So the
volume, min(D, S), is largest beside the price at which D - S changes its sign, and nowhere else need be looked:
on either side of it prices with equal volume and equal surplus are at most two, since between them nothing is bid and
nothing offered. `Crossing` keeps that price from order to order, so that publishing the indicative price after each
request of a call costs a few steps and not a walk through the book.
"""

from itertools import takewhile

from msgspec import Struct

from exchange.core.asset import MAX_INTEGER
from exchange.core.book import Book, Ladder
from exchange.core.events import IndicativeChanged
from exchange.core.requests import BUY, SELL, Side


class Price(Struct, frozen=True, gc=False):
    """A price, and what is bid there or above, and offered there or below."""

    price: int
    demand: int
    supply: int

    @property
    def volume(self) -> int:
        return min(self.demand, self.supply)

    @property
    def surplus(self) -> int:
        """What is left over: above 0 on the buy side, below on the sell side."""
        return self.demand - self.supply


class Crossing:
    """The highest price in the book at which as much is bid as offered, or more, kept as orders come and go.

    `change` must be told of each change of what is open; `auction` moves to where the price is now, a step a level.
    """

    __slots__ = ("buys", "demand", "price", "sells", "supply")

    def __init__(self, book: Book) -> None:
        self.buys, self.sells = book.ladders[BUY], book.ladders[SELL]
        self.price = self.buys.best if self.buys.keys else 0
        self.demand = self.buys.open_at(self.price)
        self.supply = sum(
            self.sells.open_at(-key)
            for key in takewhile(lambda key: key >= -self.price, self.sells.all_keys_best_first())
        )

    def change(self, side: Side, price: int, by: int) -> None:
        """Note that what is open at a price has changed."""
        if side == BUY:
            if price >= self.price:
                self.demand += by
        elif price <= self.price:
            self.supply += by

    def auction(self, reference: int, tick: int) -> Price | None:
        """Return the auction's price with demand and supply there, None where nothing would trade.

        `reference` is the reference price, 0 where there is none.
        """
        self._settle()
        here = Price(self.price, self.demand, self.supply)
        below = self._step_down(here)
        above = self._step_up(here)
        around = [below and self._step_down(below), below, here, above, above and self._step_up(above)]
        prices = [price for price in around if price is not None and price.volume]
        if not prices:
            return None
        most = max(price.volume for price in prices)
        prices = [price for price in prices if price.volume == most]
        least = min(abs(price.surplus) for price in prices)
        prices = [price for price in prices if abs(price.surplus) == least]
        if all(price.surplus > 0 for price in prices):
            return prices[-1]
        if all(price.surplus < 0 for price in prices):
            return prices[0]
        low, high = prices[0].price, prices[-1].price
        middle = min(-(-(low + high) // (2 * tick)) * tick, high)
        price = min(max(reference, low), high) if reference else middle
        at_or_above = next(each for each in prices if each.price >= price)
        at_or_below = next(each for each in reversed(prices) if each.price <= price)
        return Price(price, at_or_above.demand, at_or_below.supply)

    def check(self) -> None:
        """Assert that the sums are the book's. O(levels)."""
        buys, sells = self.buys, self.sells
        assert self.demand == sum(buys.open_at(key) for key in buys.all_keys() if key >= self.price)
        assert self.supply == sum(sells.open_at(-key) for key in sells.all_keys() if -key <= self.price)

    def _settle(self) -> None:
        """Move to the highest price in the book with no surplus of sells, or else to the lowest there is."""
        here = Price(self.price, self.demand, self.supply)
        if not self.buys.open_at(here.price) and not self.sells.open_at(here.price):
            here = self._step_down(here) or self._step_up(here) or here
        while here.surplus < 0 and (below := self._step_down(here)) is not None:
            here = below
        while (above := self._step_up(here)) is not None and above.surplus >= 0:
            here = above
        self.price, self.demand, self.supply = here.price, here.demand, here.supply

    def _step_up(self, here: Price) -> Price | None:
        """Return the next price in the book above one."""
        price = min(_above(self.buys, here.price), _above(self.sells, here.price))
        if price > MAX_INTEGER:
            return None
        demand = here.demand - self.buys.open_at(here.price)
        return Price(price, demand, here.supply + self.sells.open_at(price))

    def _step_down(self, here: Price) -> Price | None:
        """Return the next price in the book below one."""
        price = max(_below(self.buys, here.price), _below(self.sells, here.price))
        if not price:
            return None
        supply = here.supply - self.sells.open_at(here.price)
        return Price(price, here.demand + self.buys.open_at(price), supply)


def indicative(price: Price | None) -> IndicativeChanged:
    """Return what is published of an auction that would be held now."""
    if price is None:
        return NO_AUCTION
    surplus = price.surplus
    side: Side | int = (surplus > 0) - (surplus < 0)
    return IndicativeChanged(
        price.price,
        min(price.volume, MAX_INTEGER),
        side,  # type: ignore[arg-type] # 1, 0 or -1
        min(abs(surplus), MAX_INTEGER),
    )


NO_AUCTION = IndicativeChanged(0, 0, 0, 0)


def _above(ladder: Ladder, price: int) -> int:
    """Return the lowest price of a ladder above one, or a number above all prices."""
    if ladder.side == BUY:
        key = ladder.better(price)
        return MAX_INTEGER + 1 if key is None else key
    key = ladder.worse(-price)
    return MAX_INTEGER + 1 if key is None else -key


def _below(ladder: Ladder, price: int) -> int:
    """Return the highest price of a ladder below one, or 0."""
    key = ladder.worse(price) if ladder.side == BUY else ladder.better(-price)
    return 0 if key is None else ladder.side * key
