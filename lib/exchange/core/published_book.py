"""What subscribers know of an asset's book, and the messages that say how it changes.

`PublishedBook` is the part of the feed (`market_data.py`) that holds orders and levels: it makes orders of records, and
notes what becomes of the levels. What most requests come to, a plain order that rests or is canceled, it does at
once; `Feed.apply_in_parts` does the same event by event, and the tests compare the two.
"""

from exchange.core import messages
from exchange.core.book import Book, Level, Terms
from exchange.core.events import EventRecord, OrderCanceled
from exchange.core.execution_reports import PublishedOrder, Reports, Topic
from exchange.core.feed_notes import PUBLIC_TOPICS, Best, Canceled, Changed, Note, NumberedBest, Rested, Said
from exchange.core.messages import SideName
from exchange.core.requests import BUY, SELL, SIDE_NAMES, NewOrder

NOTHING = (0, 0)  # quantity and orders where there is no level


class PublishedBook:
    """One asset's book as it was published, its live orders, and the last number of each topic."""

    def __init__(self, asset: str) -> None:
        self.asset = asset
        self.book = Book()
        self.orders: dict[int, PublishedOrder] = {}  # all live ones: events name orders of any account
        self.notes: list[Note] = []
        self.reports = Reports(asset, self.book, self.notes)
        self.topics = {name: Topic(f"{name}/{asset}/".encode(), place) for place, name in enumerate(PUBLIC_TOPICS)}
        self.trade_topic, self.order_topic = self.topics["trade"], self.topics["order"]
        self.book_topic, self.bbo_topic = self.topics["book"], self.topics["bbo"]
        self.bbo: tuple[Best | None, Best | None] = (None, None)
        self.touched: dict[tuple[int, int], tuple[int, int] | None] = {}  # see _touch
        self.compares = False  # whether a level may be touched and be what it was
        self.ended: dict[int, Note] = {}  # orders that ended, each with the note of its last report

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
        topic = self.reports.topics.get(account) or self.reports.topic(account)
        return PublishedOrder(
            request.order_id,
            topic.account,  # type: ignore[arg-type] # a private topic has one
            request.side,
            request.price,
            request.quantity,
            request.quantity,
            terms,
            request.client_order_id,
            request.order_type,
            request.time_in_force,
            topic,
        )

    @property
    def numbers(self) -> list[int]:
        """Return the last number of each of PUBLIC_TOPICS."""
        return [topic.sequence for topic in self.topics.values()]

    # -- what most requests come to, at once ---------------------------------------------------------------------------

    def _entered_and_rested(self, record: EventRecord) -> None:
        """Do at once what a plain new order's two events come to when it only rests, as most do."""
        time, account = record.time, record.account
        request = record.request
        assert type(request) is NewOrder
        order_id, side, price, quantity = request.order_id, request.side, request.price, request.quantity
        client_order_id, order_type, time_in_force = request.client_order_id, request.order_type, request.time_in_force
        book, reports = self.book, self.reports
        topic = reports.topics.get(account) or reports.topic(account)
        topic.sequence = number = topic.sequence + 1
        if topic.place not in reports.first:
            reports.first[topic.place] = number
        self.orders[order_id] = order = PublishedOrder(
            order_id,
            topic.account,  # type: ignore[arg-type] # a private topic has one
            side,
            price,
            quantity,
            quantity,
            None,
            client_order_id,
            order_type,
            time_in_force,
            topic,
            number,
            time,
        )
        book.add(order)
        bid, ask = self.bbo
        if side > 0:
            level = book.buys.levels[price]
            if price == book.buys.best:
                bid = (price, level.leaves)
        else:
            level = book.sells.levels[-price]
            if -price == book.sells.best:
                ask = (price, level.leaves)
        order_topic, book_topic = self.order_topic, self.book_topic
        order_topic.sequence = order_number = order_topic.sequence + 1
        book_topic.sequence = book_number = book_topic.sequence + 1
        was_bid, was_ask = self.bbo
        self.notes.append(
            Rested(
                time,
                order_id,
                account,
                client_order_id,
                side,
                quantity,
                price,
                order_type,
                time_in_force,
                number,
                order_number,
                book_number,
                level.leaves,
                len(level.orders) if type(level) is Level else 1,
                None if bid == was_bid and ask == was_ask else self._numbered(bid, ask),
            )
        )

    def _canceled_alone(self, order: PublishedOrder, event: OrderCanceled, time: int) -> None:
        """Do at once what the cancel of a plain order that rests comes to, where the request did nothing else."""
        left = order.leaves
        assert left == event.canceled
        order_id, side, price = order.order_id, order.side, order.price
        book = self.book
        bid, ask = was_bid, was_ask = self.bbo
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
        level = ladder.levels.get(key)
        if level is None:
            quantity, orders = NOTHING
        else:
            quantity, orders = level.leaves, len(level.orders) if type(level) is Level else 1
        order_topic, book_topic = self.order_topic, self.book_topic
        order_topic.sequence = order_number = order_topic.sequence + 1
        book_topic.sequence = book_number = book_topic.sequence + 1
        del self.orders[order_id]
        note = self.ended[order_id] = Canceled(
            time,
            order_id,
            order.account.name,
            order.client_order_id,
            side,
            order.quantity,
            price,
            order.order_type,  # type: ignore[arg-type] # one of them
            order.time_in_force,  # type: ignore[arg-type]
            self.reports.number(order.topic),
            left,
            event.reason,
            order_number,
            book_number,
            quantity,
            orders,
            None if bid == was_bid and ask == was_ask else self._numbered(bid, ask),
        )
        self.notes.append(note)

    # -- messages ------------------------------------------------------------------------------------------------------

    def _next(self, name: str) -> int:
        topic = self.topics[name]
        topic.sequence += 1
        return topic.sequence

    def _publish_addition(self, order: PublishedOrder, time: int) -> None:
        """An order, or an iceberg's next part, has joined the back of its level's queue."""
        number = self._next("order")
        side = SIDE_NAMES[order.side]
        added = messages.OrderAdded(self.asset, number, order.order_id, side, order.price, order.leaves, time)
        self.notes.append(Said(added))

    def _publish_deletion(self, order: PublishedOrder, time: int) -> None:
        """An order has left the book, by its end or by an amend after which it trades or ends: it is not replaced."""
        self.notes.append(Said(messages.OrderDeleted(self.asset, self._next("order"), order.order_id, time)))

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
            topic = self.book_topic
            topic.sequence = number = topic.sequence + 1
            changed = (bid, ask) != self.bbo
            self.notes.append(Changed(time, number, changes, self._numbered(bid, ask) if changed else None))

    def _numbered(self, bid: Best | None, ask: Best | None) -> NumberedBest:
        """Have the best bid and offer be those from now on, and number the message that they are."""
        self.bbo = (bid, ask)
        topic = self.bbo_topic
        topic.sequence = number = topic.sequence + 1
        return (number, bid, ask)
