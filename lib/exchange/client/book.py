"""A book as market data shows it: price levels from a snapshot, kept up to date by `book/` messages."""

from itertools import islice
from typing import Self

from sortedcontainers import SortedDict

from exchange.client.queries import BookSnapshot
from exchange.core.messages import BookUpdate

Level = tuple[int, int, int]  # price, quantity, orders


class BookGap(Exception):
    """An update is missing between the book and the one given; take a new snapshot, or fetch what is missing."""


class Book:
    """The price levels of one asset, in the wire's integers. `sequence` is that of the last message applied.

    >>> book = Book("ACME")
    >>> book.apply(BookUpdate("ACME", 1, [("buy", 995, 20, 1), ("buy", 1000, 10, 1), ("sell", 1005, 30, 2)], 0))
    True
    >>> book.bids(), book.asks()
    ([(1000, 10, 1), (995, 20, 1)], [(1005, 30, 2)])
    """

    def __init__(self, asset: str) -> None:
        self.asset = asset
        self.sequence = 0
        self.time = 0
        self.sides: dict[str, SortedDict[int, tuple[int, int]]] = {
            "buy": SortedDict(),
            "sell": SortedDict(),
        }  # by price

    @classmethod
    def from_snapshot(cls, snapshot: BookSnapshot) -> Self:
        """Return the book of a snapshot of all its levels."""
        book = cls(snapshot.asset)
        book.sequence = snapshot.sequence
        book.time = snapshot.time
        for side, levels in (("buy", snapshot.bids), ("sell", snapshot.asks)):
            book.sides[side].update({price: (quantity, orders) for price, quantity, orders in levels})
        book.check()
        return book

    def apply(self, update: BookUpdate) -> bool:
        """Apply the next update. Returns False, and does nothing, for one that the book holds already.

        Raises BookGap, and does nothing, where one before it is missing.
        """
        if update.sequence <= self.sequence:
            return False
        if update.sequence > self.sequence + 1:
            raise BookGap(f"{self.asset}: update {update.sequence} where {self.sequence + 1} is next")
        for side, price, quantity, orders in update.changes:
            levels = self.sides[side]
            if quantity:
                levels[price] = (quantity, orders)
            else:
                levels.pop(price, None)
        self.sequence = update.sequence
        self.time = update.time
        return True

    def bids(self, depth: int | None = None) -> list[Level]:
        """Return the buy side's levels, best (highest) first, all or the first `depth`."""
        levels = self.sides["buy"]
        return [(price, *levels[price]) for price in islice(reversed(levels), depth)]

    def asks(self, depth: int | None = None) -> list[Level]:
        """Return the sell side's levels, best (lowest) first, all or the first `depth`."""
        return [(price, *level) for price, level in islice(self.sides["sell"].items(), depth)]

    def check(self) -> None:
        """Assert what always holds of a book."""
        for levels in self.sides.values():
            assert all(quantity > 0 and orders > 0 for quantity, orders in levels.values()), "an empty level"
