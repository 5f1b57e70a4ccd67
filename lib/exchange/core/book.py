"""The order book: two ladders of price levels, each level a queue in time order.

Buys and sells are one code path. A level's key is `side * price` (side: buy 1, sell -1), so that on either ladder the
better price has the larger key and the best level is the last of the sorted keys.

Most levels hold a single order, so such a level is that order, and nothing is built around it: measured, a tenth of the
core's time less, and 337 bytes an order instead of 593 where each is alone at its price. From the second order on a
level is a `Level`, whose queue is a dict by order id: insertion order is time order, and a cancel is a `del`. A plain
dict is quickest; but reading the front of one scans the slots of those who left it, which makes a deep queue that is
eaten order by order quadratic. So a queue that grows to DEEP becomes an `OrderedDict`, whose front is read at the same
cost however many have left.

What an order has beyond a plain limit is in its `terms`, which most orders have not. Of an iceberg the book holds the
shown part in `leaves`, as if that were all, and the rest in `terms.hidden`; the hidden quantity of each level is summed
up on the side.

Costs: add, remove and reduce O(1), plus O(log n) and a short move of memory to place or take out a level that is not
the best.
"""

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Collection, Iterator
from itertools import islice

from msgspec import Struct

from exchange.core.requests import BUY, SELL, OrderType, SelfTradePrevention, Side, TimeInForce

DEEP = 64  # orders in a level's queue, from which it is an OrderedDict
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


class Level(Struct, gc=False):
    """The orders at one price, first in, first out, and the sum of what they show."""

    leaves: int
    orders: dict[int, Order]


Queue = Order | Level  # what is at a price: one order, or several; either says by `leaves` how much is open


class Ladder:
    """One side's price levels."""

    __slots__ = ("hidden", "hidden_parts", "keys", "levels", "side")

    def __init__(self, side: Side) -> None:
        self.side: Side = side
        self.levels: dict[int, Queue] = {}  # by key
        self.keys: list[int] = []  # sorted, the best last
        self.hidden: dict[int, int] = {}  # by key, of the levels that have hidden quantity
        self.hidden_parts = 0  # of all levels

    def reduce(self, order: Order, by: int) -> None:
        """Take `by` off what an order shows, its place in the queue kept; something must stay shown."""
        assert 0 < by < order.leaves
        order.leaves -= by
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

    def at(self, price: int) -> tuple[int, int]:
        """Return the shown quantity at a price and the number of its orders, zeros where there is no level."""
        level = self.levels.get(self.side * price)
        return (0, 0) if level is None else (level.leaves, len(orders_of(level)))

    def open_at(self, price: int) -> int:
        """Return the quantity at a price, hidden quantity included."""
        key = self.side * price
        level = self.levels.get(key)
        return 0 if level is None else level.leaves + (self.hidden.get(key, 0) if self.hidden else 0)

    def best_first(self, depth: int | None = None) -> Iterator[tuple[int, int, Collection[Order]]]:
        """Yield (price, shown quantity, orders in time order) of all levels, or the best `depth`, from the best on."""
        for key in islice(reversed(self.keys), depth):
            level = self.levels[key]
            yield self.side * key, level.leaves, orders_of(level)

    def check(self) -> None:
        """Assert every invariant of the ladder. O(orders)."""
        assert self.keys == sorted(self.levels), "the keys are the levels', sorted"
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
    return level.orders.values() if type(level) is Level else (level,)  # type: ignore[return-value] # narrowed by type


class Book:
    """Both ladders, and every account with its live orders."""

    __slots__ = ("accounts", "ladders", "removing_many")

    def __init__(self) -> None:
        buys, sells = Ladder(BUY), Ladder(SELL)
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
        side = order.side
        key = side * order.price
        ladder = self.ladders[side]
        terms = order.terms
        if terms is not None and 0 < terms.display_quantity < order.leaves:
            terms.hidden = order.leaves - terms.display_quantity
            order.leaves = terms.display_quantity
            ladder.hide(order, terms)
        levels = ladder.levels
        level = levels.get(key)
        if level is None:
            levels[key] = order
            keys = ladder.keys
            if not keys or key > keys[-1]:
                keys.append(key)
            else:
                insort(keys, key)
        elif type(level) is Level:
            orders = level.orders
            orders[order_id] = order
            level.leaves += order.leaves
            if len(orders) == DEEP and type(orders) is dict:
                level.orders = OrderedDict(orders)
        else:
            assert isinstance(level, Order)
            levels[key] = Level(level.leaves + order.leaves, {level.order_id: level, order_id: order})

    def remove(self, order: Order) -> None:
        """Take a resting order out of the book, wherever it stands in its queue. What it has hidden stays with it."""
        order_id = order.order_id
        del order.account.orders[order_id]
        side = order.side
        key = side * order.price
        ladder = self.ladders[side]
        if order.terms is not None:
            ladder.reveal(order, order.terms)
        levels = ladder.levels
        level = levels[key]
        if level is not order:
            assert type(level) is Level
            orders = level.orders
            del orders[order_id]
            if orders:
                level.leaves -= order.leaves
                return
        del levels[key]
        keys = ladder.keys
        if keys[-1] == key:
            keys.pop()
        elif not self.removing_many:
            del keys[bisect_left(keys, key)]

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
                if len(ladder.keys) != len(ladder.levels):
                    ladder.keys[:] = [key for key in ladder.keys if key in ladder.levels]

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
        if not ladder.keys:
            return None
        key = ladder.keys[-1]
        return side * key, ladder.levels[key].leaves

    @property
    def crossed(self) -> bool:
        """Whether the best buy and the best sell could trade."""
        buys, sells = self.ladders[BUY].keys, self.ladders[SELL].keys
        return bool(buys and sells) and buys[-1] >= -sells[-1]

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
