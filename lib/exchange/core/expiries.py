"""Live orders that end by themselves: `gtd` at their time, `day` with the trading day."""

from sortedcontainers import SortedDict

from exchange.core.book import Order


class Expiries:
    """Adding and removing an order costs O(log n), finding what is due costs O(due)."""

    __slots__ = ("dated", "day")

    def __init__(self) -> None:
        self.day: dict[int, Order] = {}  # by order id
        self.dated: SortedDict[tuple[int, int], Order] = SortedDict()  # by expire time and order id

    def add(self, order: Order) -> None:
        """Note an order that is live, if it is one that expires. An order that is noted already is no other."""
        terms = order.terms
        if terms is None:
            return
        if terms.time_in_force == "day":
            self.day[order.order_id] = order
        elif terms.time_in_force == "gtd":
            self.dated[terms.expire_time, order.order_id] = order

    def remove(self, order: Order) -> None:
        """Forget an order that ended, if it was noted."""
        terms = order.terms
        if terms is None:
            return
        if terms.time_in_force == "day":
            self.day.pop(order.order_id, None)
        elif terms.time_in_force == "gtd":
            self.dated.pop((terms.expire_time, order.order_id), None)

    def due(self, time: int, day: bool) -> list[Order]:
        """Return the orders whose time has come, by order id, and with `day` the day orders among them."""
        dated = [self.dated[key] for key in self.dated.irange(maximum=(time, 2**64))]
        return sorted((*dated, *(self.day.values() if day else ())), key=lambda order: order.order_id)

    def check(self, live: dict[int, Order]) -> None:
        """Assert that just the orders of `live` that expire are noted. O(orders)."""
        noted = {order.order_id: order for orders in (self.day, self.dated) for order in orders.values()}
        expiring = {
            order_id: order
            for order_id, order in live.items()
            if order.terms is not None and order.terms.time_in_force in ("day", "gtd")
        }
        assert noted == expiring, "what expires is noted, and nothing else"
