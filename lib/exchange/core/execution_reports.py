"""What the private feed says: each order's life as its owner sees it, in reports numbered per account and asset."""

from typing import Literal

from msgspec import UNSET, UnsetType, field

from exchange.core.book import Order
from exchange.core.events import TradeExecuted
from exchange.core.messages import ExecutionReport
from exchange.core.requests import SIDE_NAMES


class Topic:
    """A topic, as text and as the frame that is sent, and the number of its last message.

    A plain class, since to set an attribute of one is much quicker than a Struct's.
    """

    __slots__ = ("frame", "name", "sequence")

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.frame = name.encode()
        self.sequence = 0


class PublishedOrder(Order, gc=False):
    """An order with what its execution reports say, and the last of them as it was sent.

    (To be made by place: by name it takes several times as long. All of what follows `terms` is given.)
    """

    client_order_id: str = ""
    order_type: str = "limit"
    time_in_force: str = "gtc"
    topic: Topic = field(default_factory=Topic)  # of its account's reports
    report: bytes = b""

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


Report = tuple[Topic, ExecutionReport, PublishedOrder | None]  # its order where it is known, and the report is its last


class Reports:
    """Makes and numbers an asset's execution reports. They are added to `made`, which whoever takes them empties."""

    def __init__(self, asset: str) -> None:
        self.asset = asset
        self.topics: dict[str, Topic] = {}  # by account
        self.made: list[Report] = []

    def topic(self, account: str) -> Topic:
        """Return the topic of an account's reports."""
        topic = self.topics.get(account)
        if topic is None:
            topic = self.topics[account] = Topic(f"execution/{account}/{self.asset}/")
        return topic

    def last(self, account: str) -> int:
        """Return the number of an account's last report, 0 where it has none."""
        topic = self.topics.get(account)
        return 0 if topic is None else topic.sequence

    def report_new(self, order: PublishedOrder, time: int) -> None:
        """Report a new order, before anything else happens to it."""
        terms = order.terms
        stop_price: int | UnsetType = UNSET
        status = "new"
        if terms is not None:
            stop_price = terms.stop_price or UNSET
            if terms.waiting:
                status = "pending_trigger"
        topic = order.topic
        topic.sequence = number = topic.sequence + 1
        report = ExecutionReport(
            order.account.name,
            self.asset,
            number,
            time,
            "new",
            order.order_id,
            UNSET,
            status,
            order.client_order_id,
            SIDE_NAMES[order.side],
            order.order_type,
            order.time_in_force,
            order.price or UNSET,
            stop_price,
            order.quantity,
            0,
            order.leaves,
        )
        self.made.append((topic, report, order))

    def report(self, exec_type: str, order: PublishedOrder, time: int, reason: str | UnsetType = UNSET) -> None:
        """Report what happened to a live order."""
        self._report(exec_type, order.status, order, order.cumulative, order.open, time, reason)

    def report_end(
        self, exec_type: str, order: PublishedOrder, cumulative: int, time: int, reason: str | UnsetType
    ) -> None:
        """Report an order's end by something else than a trade."""
        self._report(exec_type, exec_type, order, cumulative, 0, time, reason)

    def _report(
        self,
        exec_type: str,
        status: str,
        order: PublishedOrder,
        cumulative: int,
        leaves: int,
        time: int,
        reason: str | UnsetType = UNSET,
    ) -> None:
        topic = order.topic
        topic.sequence = number = topic.sequence + 1
        report = ExecutionReport(
            order.account.name,
            self.asset,
            number,
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
        self.made.append((topic, report, order))

    def report_trade(
        self, order: PublishedOrder, event: TradeExecuted, liquidity: Literal["maker", "taker"], time: int
    ) -> None:
        """Report a trade to one of its two orders, which has what it left open."""
        terms, leaves = order.terms, order.leaves
        stop_price: int | UnsetType = UNSET
        if terms is not None:
            leaves += terms.hidden
            stop_price = terms.stop_price or UNSET
        topic = order.topic
        topic.sequence = number = topic.sequence + 1
        report = ExecutionReport(
            order.account.name,
            self.asset,
            number,
            time,
            "trade",
            order.order_id,
            UNSET,
            "partially_filled" if leaves else "filled",
            order.client_order_id,
            SIDE_NAMES[order.side],
            order.order_type,
            order.time_in_force,
            order.price or UNSET,
            stop_price,
            order.quantity,
            order.quantity - leaves,
            leaves,
            event.price,
            event.quantity,
            event.trade_id,
            liquidity,
        )
        self.made.append((topic, report, order))

    def report_refusal(
        self, exec_type: str, order_id: int, order: PublishedOrder | None, account: str, reason: str, time: int
    ) -> None:
        """Report a refused cancel or amend, to who asked; where the order is live and its own, with the order's state.

        What was refused has changed nothing: the order's last report stays what it was.
        """
        if order is not None:
            self._report(exec_type, order.status, order, order.cumulative, order.open, time, reason)
            topic, report, _ = self.made[-1]
            self.made[-1] = (topic, report, None)
            return
        topic = self.topic(account)
        topic.sequence = number = topic.sequence + 1
        report = ExecutionReport(account, self.asset, number, time, exec_type, order_id, reason)
        self.made.append((topic, report, None))
