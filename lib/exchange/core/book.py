"""The order book: two ladders of price levels, each level a queue in time order.

Buys and sells are one code path. A level's key is `side * price` (side: buy 1, sell -1), so that on either ladder the
better price has the larger key and the best level is the last of the sorted keys.

Most levels hold a single order, so such a level is that order, and nothing is built around it: measured, a tenth of the
core's time less, and 337 bytes an order instead of 593 where each is alone at its price. From the second order on a
level is a `Level`, whose queue is a dict by order id: insertion order is time order, and a cancel is a `del`. A plain
dict is quickest; but reading the front of one scans the slots of those who left it, which makes a deep queue that is
eaten order by order quadratic. So a queue that has once held DEEP orders becomes an `OrderedDict` when its front is
first asked for: that one reads it at the same cost however many have left. (It also takes twice the memory and twice
the time to join and to leave, which a queue that nobody trades with is spared; a feed's book, which never asks, too.)

A ladder's sorted keys are in chunks of at most MOST_KEYS, since to insert into a list moves all that is behind: at
100,000 levels 10 µs. `keys` is the chunk of the best levels, and all there is in most markets; the others are `far`.

What an order has beyond a plain limit is in its `terms`, which most orders have not. Of an iceberg the book holds the
shown part in `leaves`, as if that were all, and the rest in `terms.hidden`; the hidden quantity of each level is summed
up on the side.

Costs: add, remove and reduce O(1), plus O(log n) and a short move of memory to place or take out a level that is not
the best.
"""

from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Collection, Iterator
from itertools import chain, islice
from typing import final

from msgspec import Struct

from exchange.core.requests import BUY, SELL, OrderType, SelfTradePrevention, Side, TimeInForce

DEEP = 64  # orders that a level's queue has once held, from which its front is read as an OrderedDict's
MOST_KEYS = 1024  # in a chunk of a ladder's keys
NO_KEY = -(2**65)
MANY = 64  # orders to be removed, from which their levels' keys go together


class Account(Struct, gc=False):
    """An account's live orders in this asset, stops that wait included; in no order that means anything."""

    name: str
    orders: "dict[int, Order]"


class Terms(Struct, gc=False):
    """What an order has beyond a plain limit order that is good till canceled; 0 where it has not."""

    order_type: OrderType = "limit"
    time_in_force: TimeInForce = "gtc"
    stop_price: int = 0
    display_quantity: int = 0
    min_quantity: int = 0
    post_only: bool = False
    self_trade_prevention: SelfTradePrevention = "cancel_newest"
    expire_time: int = 0
    hidden: int = 0  # open, and not shown; 0 unless it rests
    waiting: bool = False  # a stop outside the book
    arrival: int = 0  # of a stop that waits: its place among those of the same stop price

    @property
    def hidden_parts(self) -> int:
        """How many more parts there are to be shown."""
        return -(-self.hidden // self.display_quantity) if self.hidden else 0


class Order(Struct, gc=False):
    """A live order. `quantity` is its total, fills included; `leaves` is open, and shown where it rests."""

    order_id: int
    account: Account
    side: Side
    price: int
    quantity: int
    leaves: int
    terms: Terms | None = None

    @property
    def hidden(self) -> int:
        """What is open and not shown."""
        return 0 if self.terms is None else self.terms.hidden

    @property
    def open(self) -> int:
        """All that is open."""
        return self.leaves + self.hidden


@final
class Level:
    """The orders at one price, first in, first out, and the sum of what they show.

    A plain class, since to set an attribute of one is much quicker than a Struct's.
    """

    __slots__ = ("deep", "leaves", "orders")

    def __init__(self, leaves: int, orders: dict[int, Order]) -> None:
        self.leaves = leaves
        self.orders = orders
        self.deep = False  # whether it has once held DEEP orders

    def first(self) -> Order:
        """Return the order that is first in time. O(1), however many before it have left."""
        orders = self.orders
        if self.deep and type(orders) is dict:
            orders = self.orders = OrderedDict(orders)
        return orders[next(iter(orders))]


Queue = Order | Level  # what is at a price: one order, or several; either says by `leaves` how much is open


def two_orders(first: Order, second: Order) -> Level:
    """Return the level of an order that has been alone at its price, and of one that joins it."""
    return Level(first.leaves + second.leaves, {first.order_id: first, second.order_id: second})


class Ladder:
    """One side's price levels. `best` is the best level's key; NO_KEY, below all, where there is none."""

    __slots__ = ("best", "bounds", "far", "hidden", "hidden_parts", "keys", "levels", "side")

    def __init__(self, side: Side) -> None:
        self.side: Side = side
        self.levels: dict[int, Queue] = {}  # by key
        self.best = NO_KEY
        self.keys: list[int] = []  # of the best levels, sorted, the best last; empty only where there is no level
        self.far: list[list[int]] = []  # the keys below those, in chunks, each sorted, the best chunk last
        self.bounds: list[int] = []  # of each chunk in `far`: above its keys, and not above those of the next
        self.hidden: dict[int, int] = {}  # by key, of the levels that have hidden quantity
        self.hidden_parts = 0  # of all levels

    def reduce(self, order: Order, by: int) -> None:
        """Take `by` off what an order shows, its place in the queue kept; something must stay shown."""
        leaves = order.leaves
        assert 0 < by < leaves
        order.leaves = leaves - by
        level = self.levels[order.side * order.price]
        if level is not order:
            level.leaves -= by

    def shrink(self, order: Order, by: int) -> None:
        """Take `by` off what an order has open, hidden quantity first, its place kept; something must stay open."""
        terms = order.terms
        if terms is not None and terms.hidden:
            hidden = min(by, terms.hidden)
            self.reveal(order, terms)
            terms.hidden -= hidden
            self.hide(order, terms)
            by -= hidden
        if by:
            self.reduce(order, by)

    def hide_beyond_display(self, order: Order, terms: Terms) -> None:
        """Have an order that is about to rest show what it may, and hide the rest."""
        if 0 < terms.display_quantity < order.leaves:
            terms.hidden = order.leaves - terms.display_quantity
            order.leaves = terms.display_quantity
            self.hide(order, terms)

    def hide(self, order: Order, terms: Terms) -> None:
        """Count an order's hidden quantity to its level's."""
        if terms.hidden:
            key = order.side * order.price
            self.hidden[key] = self.hidden.get(key, 0) + terms.hidden
            self.hidden_parts += terms.hidden_parts

    def reveal(self, order: Order, terms: Terms) -> None:
        """Count an order's hidden quantity to its level's no more."""
        if terms.hidden:
            key = order.side * order.price
            self.hidden[key] -= terms.hidden
            if not self.hidden[key]:
                del self.hidden[key]
            self.hidden_parts -= terms.hidden_parts

    def insert(self, key: int) -> None:
        """Give a level's key its place among the keys."""
        place, chunk = self._chunk(key)
        insort(chunk, key)
        if len(chunk) > MOST_KEYS:
            self._split(place, chunk)

    def discard(self, key: int) -> None:
        """Take a level's key out of the keys."""
        place, chunk = self._chunk(key)
        del chunk[bisect_left(chunk, key)]
        if len(chunk) > MOST_KEYS:
            self._split(place, chunk)
        elif chunk:
            return
        elif chunk is self.keys:
            self.refill()
        else:
            del self.far[place], self.bounds[place]

    def _chunk(self, key: int) -> tuple[int, list[int]]:
        """Return the chunk in which a key has its place, and that chunk's own."""
        place = bisect_right(self.bounds, key)
        return place, (self.far[place] if place < len(self.far) else self.keys)

    def _split(self, place: int, chunk: list[int]) -> None:
        """Split a chunk into some of about half the size: the last remains, the others come before it."""
        size = -(-len(chunk) // (2 * len(chunk) // MOST_KEYS))
        parts = [chunk[start : start + size] for start in range(0, len(chunk), size)]
        self.bounds[place:place] = [part[0] for part in parts[1:]]
        chunk[:] = parts.pop()
        self.far[place:place] = parts

    def refill(self) -> None:
        """Take the next chunk for `keys`, which has become empty, if there is one."""
        if self.far:
            self.keys[:] = self.far.pop()
            self.bounds.pop()
        self.best = self.keys[-1] if self.keys else NO_KEY

    def discard_emptied(self) -> None:
        """Take out all keys that have no level any more. O(levels)."""
        for chunk in (*self.far, self.keys):
            chunk[:] = [key for key in chunk if key in self.levels]
        self.bounds = [bound for bound, chunk in zip(self.bounds, self.far, strict=True) if chunk]
        self.far = [chunk for chunk in self.far if chunk]
        if self.keys:
            self.best = self.keys[-1]
        else:
            self.refill()

    def all_keys(self) -> Iterator[int]:
        """Yield the keys of all levels, the best last."""
        return chain(*self.far, self.keys)

    def all_keys_best_first(self) -> Iterator[int]:
        """Yield the keys of all levels, the best first."""
        if not self.far:
            return reversed(self.keys)
        return chain.from_iterable(map(reversed, (self.keys, *reversed(self.far))))

    def better(self, key: int) -> int | None:
        """Return the worst key that is better than one, None where there is none."""
        keys = self.keys
        if not self.far or key >= keys[0]:
            place = bisect_right(keys, key)
            return keys[place] if place < len(keys) else None
        place, chunk = self._chunk(key)
        if chunk[-1] <= key:
            chunk = self.far[place + 1] if place + 1 < len(self.far) else keys
        return chunk[bisect_right(chunk, key)]

    def worse(self, key: int) -> int | None:
        """Return the best key that is worse than one, None where there is none."""
        keys = self.keys
        if not self.far or key > keys[0]:
            place = bisect_left(keys, key)
            return keys[place - 1] if place else None
        place, chunk = self._chunk(key)
        if chunk[0] < key:
            return chunk[bisect_left(chunk, key) - 1]
        return self.far[place - 1][-1] if place else None

    def at(self, price: int) -> tuple[int, int]:
        """Return the shown quantity at a price and the number of its orders, zeros where there is no level."""
        level = self.levels.get(self.side * price)
        if level is None:
            return (0, 0)
        return (level.leaves, len(level.orders) if type(level) is Level else 1)

    def open_at(self, price: int) -> int:
        """Return the quantity at a price, hidden quantity included."""
        key = self.side * price
        level = self.levels.get(key)
        if level is None:
            return 0
        return level.leaves + self.hidden.get(key, 0) if self.hidden else level.leaves

    def first(self) -> Order:
        """Return the order that trades first. There must be one."""
        level = self.levels[self.best]
        return level.first() if type(level) is Level else level

    def best_first(self, depth: int | None = None) -> Iterator[tuple[int, int, Collection[Order]]]:
        """Yield (price, shown quantity, orders in time order) of all levels, or the best `depth`, from the best on."""
        for key in islice(self.all_keys_best_first(), depth):
            level = self.levels[key]
            yield self.side * key, level.leaves, orders_of(level)

    def check(self) -> None:
        """Assert every invariant of the ladder. O(orders)."""
        assert list(self.all_keys()) == sorted(self.levels), "the keys are the levels', sorted"
        assert self.best == max(self.levels, default=NO_KEY) == (self.keys[-1] if self.keys else NO_KEY)
        assert all(self.far), "no chunk is empty"
        assert len(self.bounds) == len(self.far)
        for chunk, bound, after in zip(self.far, self.bounds, (*self.far, self.keys)[1:], strict=True):
            assert chunk[-1] < bound <= after[0], "each chunk is within its bounds"
        assert self.hidden.keys() <= self.levels.keys(), "what is hidden is in a level"
        parts = 0
        for key, level in self.levels.items():
            orders = orders_of(level)
            assert self.hidden.get(key, 0) == sum(order.hidden for order in orders), (
                "a level's hidden sum is its orders'"
            )
            assert orders, "a level that can be seen holds orders"
            assert level.leaves == sum(order.leaves for order in orders), "a level's sum is its orders'"
            assert type(level) is not Level or list(level.orders) == [order.order_id for order in orders]
            for order in orders:
                assert order.side == self.side
                assert order.side * order.price == key
                assert 0 < order.leaves <= order.open <= order.quantity
                if order.terms is not None:
                    assert not order.terms.waiting, "what waits is not in the book"
                    assert not order.hidden or order.leaves <= order.terms.display_quantity
                assert order.account.orders[order.order_id] is order, "an account holds all that it has in the book"
                parts += 0 if order.terms is None else order.terms.hidden_parts
        assert self.hidden_parts == parts, "the parts are the orders'"


def orders_of(level: Queue) -> Collection[Order]:
    """Return a level's orders, first in time first."""
    return level.orders.values() if type(level) is Level else (level,)


class Book:
    """Both ladders, and every account with its live orders."""

    __slots__ = ("accounts", "buys", "ladders", "removing_many", "sells")

    def __init__(self) -> None:
        buys, sells = self.buys, self.sells = Ladder(BUY), Ladder(SELL)
        self.ladders = (sells, buys, sells)  # by side: [1] the buys, [-1] the sells
        self.accounts: dict[str, Account] = {}
        self.removing_many = False

    def account(self, name: str) -> Account:
        """Return the account of that name, new where it has none yet."""
        account = self.accounts.get(name)
        if account is None:
            account = self.accounts[name] = Account(name, {})
        return account

    def find(self, order_id: int, account: str) -> Order | None:
        """Return the account's live order with that id. Nobody reaches another account's."""
        owner = self.accounts.get(account)
        return None if owner is None else owner.orders.get(order_id)

    def add(self, order: Order) -> None:
        """Rest an order at the back of its price level's queue. An iceberg shows its display quantity of it."""
        order_id = order.order_id
        order.account.orders[order_id] = order
        if order.side > 0:
            ladder = self.buys
            key = order.price
        else:
            ladder = self.sells
            key = -order.price
        if order.terms is not None:
            ladder.hide_beyond_display(order, order.terms)
        levels = ladder.levels
        if key > ladder.best:
            levels[key] = order
            ladder.best = key
            ladder.keys.append(key)
        elif (level := levels.get(key)) is None:
            levels[key] = order
            ladder.insert(key)
        elif type(level) is Level:
            level.leaves += order.leaves
            orders = level.orders
            orders[order_id] = order
            if len(orders) == DEEP:
                level.deep = True
        else:
            levels[key] = two_orders(level, order)

    def remove(self, order: Order) -> None:
        """Take a resting order out of the book, wherever it stands in its queue. What it has hidden stays with it."""
        order_id = order.order_id
        del order.account.orders[order_id]
        if order.side > 0:
            ladder = self.buys
            key = order.price
        else:
            ladder = self.sells
            key = -order.price
        if order.terms is not None:
            ladder.reveal(order, order.terms)
        levels = ladder.levels
        level = levels[key]
        if level is not order:
            orders = level.orders  # type: ignore[union-attr] # a level that is another order it can't be
            del orders[order_id]
            if orders:
                level.leaves -= order.leaves
                return
        del levels[key]
        if key == ladder.best:
            keys = ladder.keys
            keys.pop()
            if keys:
                ladder.best = keys[-1]
            else:
                ladder.refill()
        elif not self.removing_many:
            ladder.discard(key)

    def begin_removing(self, count: int) -> None:
        """Prepare for the removal of that many orders, in any order, and nothing else, until `end_removing`.

        Where they are many, the keys of levels that go are taken out of the ladders together at the end: one by one
        each would move all those behind it.
        """
        self.removing_many = count >= MANY

    def end_removing(self) -> None:
        if self.removing_many:
            self.removing_many = False
            for ladder in self.ladders[1:]:
                ladder.discard_emptied()

    def replenish(self, order: Order) -> bool:
        """Show the next part of an order that was just removed with its shown part used up; False where it has none."""
        terms = order.terms
        if terms is None or not terms.hidden:
            return False
        order.leaves, terms.hidden = terms.hidden, 0
        self.add(order)
        return True

    def best(self, side: Side) -> tuple[int, int] | None:
        """Return a side's best (price, shown quantity), or None where it is empty."""
        ladder = self.ladders[side]
        key = ladder.best
        return None if key == NO_KEY else (side * key, ladder.levels[key].leaves)

    @property
    def crossed(self) -> bool:
        """Whether the best buy and the best sell could trade."""
        return NO_KEY != self.buys.best >= -self.sells.best != -NO_KEY

    def check(self, may_cross: bool = False) -> None:
        """Assert every invariant of the book. O(orders). It may be crossed only where that is said."""
        assert not self.removing_many
        resting = 0
        for ladder in self.ladders[1:]:
            ladder.check()
            resting += sum(len(orders) for _, _, orders in ladder.best_first())
        for name, account in self.accounts.items():
            assert account.name == name
            assert all(order.account is account for order in account.orders.values())
            resting -= sum(order.terms is None or not order.terms.waiting for order in account.orders.values())
        assert resting == 0, "the accounts hold exactly what rests, and what waits"
        assert may_cross or not self.crossed, f"the book is crossed or locked: {self.best(BUY)} {self.best(SELL)}"
