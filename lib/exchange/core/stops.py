"""Stops that wait outside the book, and those that trades have elected to enter it.

A stop's key is `side * stop_price`: on either side the smaller key is elected first (buys from the lowest stop price
up, sells from the highest down), and a trade at `price` elects all with a key up to `side * price`.
"""

from sortedcontainers import SortedDict

from exchange.core.book import Order, Terms
from exchange.core.requests import BUY, SELL, Side

Place = tuple[int, int]  # key, arrival


class Stops:
    """An asset's waiting stops. Adding, removing and electing one costs O(log n)."""

    __slots__ = ("arrivals", "elected", "orders")

    def __init__(self) -> None:
        self.orders: dict[Side, SortedDict[Place, Order]] = {BUY: SortedDict(), SELL: SortedDict()}
        self.elected: dict[int, Order] = {}  # by order id
        self.arrivals = 0

    def __bool__(self) -> bool:
        return bool(self.orders[BUY] or self.orders[SELL] or self.elected)

    def add(self, order: Order) -> None:
        """Have an order wait, behind all that wait for the same price."""
        terms = _terms(order)
        self.arrivals += 1
        terms.waiting, terms.arrival = True, self.arrivals
        order.account.orders[order.order_id] = order
        self.orders[order.side][place(order)] = order

    def remove(self, order: Order) -> None:
        """Take out an order that waits, elected or not."""
        _terms(order).waiting = False
        del order.account.orders[order.order_id]
        if self.elected.pop(order.order_id, None) is None:
            del self.orders[order.side][place(order)]

    def elect(self, low: int, high: int) -> None:
        """Elect those that trades between the prices `low` and `high` have reached."""
        for side, price in ((BUY, high), (SELL, low)):
            waiting = self.orders[side]
            while waiting:
                (key, _), order = waiting.peekitem(0)
                if key > side * price:
                    break
                waiting.popitem(0)
                self.elected[order.order_id] = order

    def round(self) -> list[Order]:
        """Return those that are elected in the order in which they enter: buys first, then by price and arrival."""
        return sorted(self.elected.values(), key=lambda order: (-order.side, *place(order)))

    def check(self) -> None:
        """Assert every invariant. O(stops)."""
        waiting = [order for orders in self.orders.values() for order in orders.values()]
        for side, orders in self.orders.items():
            assert all(order.side == side and found == place(order) for found, order in orders.items())
        for order in (*waiting, *self.elected.values()):
            assert _terms(order).waiting
            assert order.account.orders[order.order_id] is order, "an account holds its stops"
            assert 0 < order.leaves == order.open <= order.quantity


def place(order: Order) -> Place:
    terms = _terms(order)
    return order.side * terms.stop_price, terms.arrival


def reached(side: Side, stop_price: int, last_price: int) -> bool:
    """Return whether a trade at `last_price` (0: none yet) elects a stop."""
    return last_price > 0 and side * stop_price <= side * last_price


def _terms(order: Order) -> Terms:
    assert order.terms is not None
    return order.terms
