"""What subscribers know of an asset's book, and the messages that say how it changes.

`PublishedBook` is the part of the feed (`market_data.py`) that holds orders and levels: it makes orders of records, and
publishes what becomes of the levels. What most requests come to, a plain order that rests or is canceled, it does at
once; `Feed.apply_in_parts` does the same event by event, and the tests compare the two.
"""

from exchange.core import messages
from exchange.core.book import Book, Level, Terms
from exchange.core.events import EventRecord, OrderCanceled
from exchange.core.execution_reports import PublishedOrder, Report, Reports, Topic
from exchange.core.messages import PublicMessage, SideName
from exchange.core.requests import BUY, SELL, SIDE_NAMES, NewOrder

PUBLIC_TOPICS = ("trade", "bbo", "book", "order", "status")
NOTHING = (0, 0)  # quantity and orders where there is no level

Best = tuple[int, int]  # price and shown quantity of the best level of a side
Message = tuple[Topic, PublicMessage]


class PublishedBook:
    """One asset's book as it was published, its live orders, and the last number of each topic."""

    def __init__(self, asset: str) -> None:
        self.asset = asset
        self.book = Book()
        self.orders: dict[int, PublishedOrder] = {}  # all live ones: events name orders of any account
        self.reports = Reports(asset)
        self.topics = {name: Topic(f"{name}/{asset}/") for name in PUBLIC_TOPICS}
        self.trade_topic, self.order_topic = self.topics["trade"], self.topics["order"]
        self.book_topic, self.bbo_topic = self.topics["book"], self.topics["bbo"]
        self.bbo: tuple[Best | None, Best | None] = (None, None)
        self.touched: dict[tuple[int, int], tuple[int, int] | None] = {}  # see _touch
        self.compares = False  # whether a level may be touched and be what it was
        self.public: list[Message] = []
        self.private: list[Report] = self.reports.made
        self.ended: list[PublishedOrder] = []

    def find(self, order_id: int, account: str) -> PublishedOrder | None:
        """Return the account's live order with that id. Nobody sees another account's."""
        order = self.orders.get(order_id)
        return order if order is not None and order.account.name == account else None

    def _new_order(self, record: EventRecord) -> PublishedOrder:
        request = record.request
        account = record.account
        assert type(request) is NewOrder
        terms: Terms | None = None
        if request.instructions is not None:
            terms = Terms(
                order_type=request.order_type,
                time_in_force=request.time_in_force,
                stop_price=request.instructions.stop_price,
                display_quantity=request.instructions.display_quantity,
            )
        return PublishedOrder(
            request.order_id,
            self.book.accounts.get(account) or self.book.account(account),
            request.side,
            request.price,
            request.quantity,
            request.quantity,
            terms,
            request.client_order_id,
            request.order_type,
            request.time_in_force,
            self.reports.topics.get(account) or self.reports.topic(account),
        )

    # -- what most requests come to, at once ---------------------------------------------------------------------------

    def _entered_and_rested(self, record: EventRecord) -> None:
        """Do at once what a new order's two events come to when it only rests, as most do."""
        time = record.time
        order = self._new_order(record)
        self.orders[order.order_id] = order
        self.reports.report_new(order, time)
        book = self.book
        book.add(order)
        side, price = order.side, order.price
        name = SIDE_NAMES[side]
        topic = self.order_topic
        topic.sequence = number = topic.sequence + 1
        added = messages.OrderAdded(self.asset, number, order.order_id, name, price, order.leaves, time)
        self.public.append((topic, added))
        bid, ask = self.bbo
        if side > 0:
            level = book.buys.levels[price]
            if price == book.buys.best:
                bid = (price, level.leaves)
        else:
            level = book.sells.levels[-price]
            if -price == book.sells.best:
                ask = (price, level.leaves)
        orders = len(level.orders) if type(level) is Level else 1
        self._publish_changes([(name, price, level.leaves, orders)], bid, ask, time)

    def _canceled_alone(self, order: PublishedOrder, event: OrderCanceled, time: int) -> None:
        """Do at once what the cancel of a plain order that rests comes to, where the request did nothing else."""
        left = order.leaves
        assert left == event.canceled
        order_id, side, price = order.order_id, order.side, order.price
        book = self.book
        bid, ask = self.bbo
        if side > 0:
            ladder = book.buys
            key = price
        else:
            ladder = book.sells
            key = -price
        was_best = key == ladder.best
        book.remove(order)
        if not was_best:
            pass
        elif side > 0:
            bid = book.best(BUY)
        else:
            ask = book.best(SELL)
        topic = self.order_topic
        topic.sequence = number = topic.sequence + 1
        self.public.append((topic, messages.OrderDeleted(self.asset, number, order_id, time)))
        order.leaves = 0
        self.reports.report_end("canceled", order, order.quantity - left, time, event.reason)
        del self.orders[order_id]
        self.ended.append(order)
        level = ladder.levels.get(key)
        if level is None:
            change = (SIDE_NAMES[side], price, 0, 0)
        else:
            change = (SIDE_NAMES[side], price, level.leaves, len(level.orders) if type(level) is Level else 1)
        self._publish_changes([change], bid, ask, time)

    # -- messages ------------------------------------------------------------------------------------------------------

    def _next(self, name: str) -> int:
        topic = self.topics[name]
        topic.sequence += 1
        return topic.sequence

    def _publish_addition(self, order: PublishedOrder, time: int) -> None:
        """An order, or an iceberg's next part, has joined the back of its level's queue."""
        topic = self.order_topic
        topic.sequence = number = topic.sequence + 1
        added = messages.OrderAdded(
            self.asset, number, order.order_id, SIDE_NAMES[order.side], order.price, order.leaves, time
        )
        self.public.append((topic, added))

    def _publish_deletion(self, order: PublishedOrder, time: int) -> None:
        """An order has left the book, by its end or by an amend after which it trades or ends: it is not replaced."""
        topic = self.order_topic
        topic.sequence = number = topic.sequence + 1
        self.public.append((topic, messages.OrderDeleted(self.asset, number, order.order_id, time)))

    def _touch(self, order: PublishedOrder) -> None:
        """Note an order's level, before it changes; and where that may come to nothing in the end, how the level was.

        An iceberg's next part, for one, may make up for all that was taken of the part before.
        """
        key = (order.side, order.price)
        touched = self.touched
        if not self.compares:
            touched[key] = None
        elif key not in touched:
            touched[key] = self.book.ladders[order.side].at(order.price)

    def _publish_levels(self, time: int) -> None:
        """Publish the levels that the request has changed, and the best bid and offer where they have."""
        changes: list[tuple[SideName, int, int, int]] = []
        bid, ask = self.bbo
        book = self.book
        for (side, price), before in self.touched.items():
            if side > 0:
                ladder = book.buys
                key = price
            else:
                ladder = book.sells
                key = -price
            level = ladder.levels.get(key)
            if level is None:
                now = NOTHING
            elif type(level) is Level:
                now = (level.leaves, len(level.orders))
            else:
                now = (level.leaves, 1)
            if now != before:
                changes.append((SIDE_NAMES[side], price, *now))
                # A level that is worse than the best now is not the best, and where it was, a better one has come.
                if key < ladder.best:
                    pass
                elif side > 0:
                    bid = book.best(BUY)
                else:
                    ask = book.best(SELL)
        self.touched.clear()
        if changes:
            self._publish_changes(changes, bid, ask, time)

    def _publish_changes(
        self, changes: list[tuple[SideName, int, int, int]], bid: Best | None, ask: Best | None, time: int
    ) -> None:
        """Publish changes of levels, and the best bid and offer as they are now, where that is not how they were."""
        public = self.public
        topic = self.book_topic
        topic.sequence = number = topic.sequence + 1
        public.append((topic, messages.BookUpdate(self.asset, number, changes, time)))
        was_bid, was_ask = self.bbo
        if bid != was_bid or ask != was_ask:
            self.bbo = (bid, ask)
            topic = self.bbo_topic
            topic.sequence = number = topic.sequence + 1
            public.append((topic, messages.Bbo(self.asset, number, bid, ask, time)))
