"""What the private feed says: each order's life as its owner sees it, in reports numbered per account and asset."""

from msgspec import UNSET, UnsetType, field

from exchange.core.book import Account, Book, Order
from exchange.core.feed_notes import PUBLIC_TOPICS, Accepted, Note, Party, Reported, report_of
from exchange.core.messages import ExecutionReport
from exchange.core.requests import SIDE_NAMES


class Topic:
    """A topic of an asset: the frame that is sent, and the number of its last message.

    `place` is, of a public one, its place among PUBLIC_TOPICS; of the private ones they are counted apart, in the order
    in which their accounts turned up. (A plain class, since to set an attribute of one is much quicker than a
    Struct's.)
    """

    __slots__ = ("account", "frame", "place", "sequence")

    def __init__(self, frame: bytes = b"", place: int = 0, account: Account | None = None) -> None:
        self.frame = frame
        self.place = place
        self.account = account  # whose reports they are, of the private ones
        self.sequence = 0

    @property
    def name(self) -> str:
        """Return the topic as text."""
        return self.frame.decode()

    @property
    def kind(self) -> str:
        """Return the first part of its name."""
        return "execution" if self.account is not None else PUBLIC_TOPICS[self.place]


class PublishedOrder(Order, gc=False):
    """An order with what its execution reports say.

    `last` is the note of its last report; None where that is the one that it is new, with `number` and `time`, and it
    is as it was then. (To be made by place: by name it takes several times as long. All that follows `terms` is given,
    but for `last`.)
    """

    client_order_id: str = ""
    order_type: str = "limit"
    time_in_force: str = "gtc"
    topic: Topic = field(default_factory=Topic)  # of its account's reports
    number: int = 0
    time: int = 0
    last: Note | None = None

    @property
    def cumulative(self) -> int:
        """What has filled of a live order."""
        return self.quantity - self.open

    @property
    def waiting(self) -> bool:
        """Whether this is a stop that has not been triggered."""
        return self.terms is not None and self.terms.waiting

    @property
    def status(self) -> str:
        """The `order_status` of a live order."""
        if self.waiting:
            return "pending_trigger"
        return "partially_filled" if self.cumulative else "new"


class Reports:
    """Numbers an asset's execution reports, and notes them among `notes`, which whoever takes them empties.

    `first` is emptied then too: of each topic that has a new report, by its place, the number of the first.
    """

    def __init__(self, asset: str, book: Book, notes: list[Note]) -> None:
        self.asset = asset
        self.book = book
        self.topics: dict[str, Topic] = {}  # by account
        self.notes = notes
        self.first: dict[int, int] = {}

    def topic(self, account: str) -> Topic:
        """Return the topic of an account's reports."""
        topic = self.topics.get(account)
        if topic is None:
            frame = f"execution/{account}/{self.asset}/".encode()
            topic = self.topics[account] = Topic(frame, len(self.topics), self.book.account(account))
        return topic

    def last(self, account: str) -> int:
        """Return the number of an account's last report, 0 where it has none."""
        topic = self.topics.get(account)
        return 0 if topic is None else topic.sequence

    def last_of(self, order: PublishedOrder) -> ExecutionReport:
        """Return a live order's last report, as it was or would have been sent."""
        if order.last is not None:
            return report_of(self.asset, order.last, order.order_id)
        return report_of(self.asset, self._accepted(order), order.order_id)

    def number(self, topic: Topic) -> int:
        """Return the number of a topic's next report."""
        topic.sequence = number = topic.sequence + 1
        place = topic.place
        if place not in self.first:
            self.first[place] = number
        return number

    def report_new(self, order: PublishedOrder, time: int) -> None:
        """Report a new order, before anything else happens to it."""
        if order.terms is not None:
            self.report("new", order, time)
            return
        order.number = self.number(order.topic)
        order.time = time
        self.notes.append(self._accepted(order))

    @staticmethod
    def _accepted(order: PublishedOrder) -> Accepted:
        return Accepted(
            order.time,
            order.order_id,
            order.account.name,
            order.client_order_id,
            order.side,
            order.quantity,
            order.price,
            order.order_type,  # type: ignore[arg-type] # one of them
            order.time_in_force,  # type: ignore[arg-type]
            order.number,
        )

    def report(self, exec_type: str, order: PublishedOrder, time: int, reason: str | UnsetType = UNSET) -> None:
        """Report what happened to a live order."""
        order.last = self._report(exec_type, order.status, order, order.cumulative, order.open, time, reason)

    def report_end(
        self, exec_type: str, order: PublishedOrder, cumulative: int, time: int, reason: str | UnsetType
    ) -> Note:
        """Report an order's end by something else than a trade; return the note of it."""
        return self._report(exec_type, exec_type, order, cumulative, 0, time, reason)

    def _report(
        self,
        exec_type: str,
        status: str,
        order: PublishedOrder,
        cumulative: int,
        leaves: int,
        time: int,
        reason: str | UnsetType = UNSET,
    ) -> Note:
        report = ExecutionReport(
            order.account.name,
            self.asset,
            self.number(order.topic),
            time,
            exec_type,
            order.order_id,
            reason,
            status,
            order.client_order_id,
            SIDE_NAMES[order.side],
            order.order_type,
            order.time_in_force,
            order.price or UNSET,
            UNSET if order.terms is None else order.terms.stop_price or UNSET,
            order.quantity,
            cumulative,
            leaves,
        )
        note = Reported(report)
        self.notes.append(note)
        return note

    def party(self, order: PublishedOrder) -> Party:
        """Return an order that has just traded, the trade taken off it, and number its report of that."""
        terms, leaves = order.terms, order.leaves
        stop_price = 0
        if terms is not None:
            leaves += terms.hidden
            stop_price = terms.stop_price
        topic = order.topic
        topic.sequence = number = topic.sequence + 1
        if topic.place not in self.first:
            self.first[topic.place] = number
        return Party(
            order.order_id,
            order.account.name,
            order.client_order_id,
            order.side,
            order.order_type,  # type: ignore[arg-type] # one of them
            order.time_in_force,  # type: ignore[arg-type]
            order.price,
            stop_price,
            order.quantity,
            leaves,
            number,
        )

    def report_refusal(
        self, exec_type: str, order_id: int, order: PublishedOrder | None, account: str, reason: str, time: int
    ) -> None:
        """Report a refused cancel or amend, to who asked; where the order is live and its own, with the order's state.

        What was refused has changed nothing: the order's last report stays what it was.
        """
        if order is not None:
            self._report(exec_type, order.status, order, order.cumulative, order.open, time, reason)
            return
        number = self.number(self.topic(account))
        self.notes.append(Reported(ExecutionReport(account, self.asset, number, time, exec_type, order_id, reason)))
