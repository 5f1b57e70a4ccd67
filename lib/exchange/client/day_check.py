"""What was seen of a trading day on the public and the private feeds, put together and checked. Pure."""

from collections import deque
from collections.abc import Iterable

from msgspec import Struct

from exchange.client.day_orders import Entry
from exchange.core.messages import ExecutionReport, NewOrder, Status, Trade

MAX_DIFFERENCES = 50
FINAL = ("canceled", "expired", "rejected")
REFUSED = ("cancel_rejected", "amend_rejected")


class Period(Struct):
    """The time between two changes of the status, with what traded in it. Prices and quantities are the wire's.

    `auction_*` are of the auction with which the call before it ended; `indicative_changes` counts, of a call, how
    often what its auction would give was another.
    """

    time: int
    status: str
    reason: str
    auction_price: int | None = None
    auction_quantity: int = 0
    auction_trades: int = 0
    trades: int = 0
    quantity: int = 0
    lowest: int | None = None
    highest: int | None = None
    last: int | None = None
    indicative_changes: int = 0


class OrderLife(Struct):
    """An order by its reports: where its quantity went."""

    account: str
    side: str
    quantity: int  # the present total, fills included
    filled: int = 0
    decremented: int = 0
    live: bool = False
    ended: bool = False
    reports: list[str] = []


class Ledger:
    """Takes the day's messages as they come; `differences` says what does not fit."""

    def __init__(self) -> None:
        self.trades: list[Trade] = []
        self.statuses: list[Status] = []
        self.orders: dict[str, OrderLife] = {}
        self.names: dict[int, str] = {}
        self.fills: dict[int, list[ExecutionReport]] = {}
        self.counts: dict[str, int] = {}
        self.differences: list[str] = []

    def differ(self, text: str) -> None:
        """Note a difference; beyond some they are not kept."""
        if len(self.differences) < MAX_DIFFERENCES:
            self.differences.append(text)

    # -- orders --------------------------------------------------------------------------------------------------------

    def note_report(self, report: ExecutionReport) -> None:
        """Follow an order by one of its reports: each must follow from the one before."""
        kind = report.exec_type
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if isinstance(report.client_order_id, str):
            self.names[report.order_id] = report.client_order_id
        name = self.names.get(report.order_id, str(report.order_id))
        order = self.orders.get(name)
        if kind in ("new", "rejected"):
            if order is not None:
                return self.differ(f"order {name}: reported {kind} twice")
            order = self.orders[name] = OrderLife(report.account, str(report.side), _number(report.quantity))
            order.live, order.ended = kind == "new", kind == "rejected"
        elif order is None:
            return self.differ(f"order {name}: {kind} before it was new")
        reason = f":{report.reason}" if isinstance(report.reason, str) else ""
        order.reports.append(f"{kind}{reason}")
        if kind in REFUSED:
            return None
        if order.ended and kind != "rejected":
            return self.differ(f"order {name}: {kind} after its end")
        if kind == "trade":
            order.filled += _number(report.last_quantity)
            self.fills.setdefault(_number(report.trade_id), []).append(report)
        elif kind == "restated" and reason:
            order.decremented += order.quantity - _number(report.quantity)
            order.quantity = _number(report.quantity)
        elif kind == "replaced":
            order.quantity = _number(report.quantity)
        elif kind in FINAL:
            order.live, order.ended = False, True
        if order.filled == order.quantity:
            order.live, order.ended = False, True
        expected = (order.quantity, order.filled, order.quantity - order.filled if order.live else 0)
        found = (report.quantity, report.cumulative_quantity, report.leaves_quantity)
        if found != expected:
            self.differ(
                f"order {name}: {kind} at sequence {report.sequence} says quantity, filled, open {found}; by the "
                f"reports before it they are {expected}"
            )
        return None

    def check_scene(self, entries: Iterable[Entry]) -> None:
        """Compare what came of the orders of scenes with what was to come of them."""
        for entry in entries:
            if isinstance(entry.request, NewOrder) and entry.reports:
                name = entry.request.client_order_id
                order = self.orders.get(name)
                found = ", ".join(order.reports) if order is not None else "nothing"
                if found != entry.reports:
                    self.differ(f"order {name}: expected {entry.reports}; got {found}")

    def check_open(self, open_orders: Iterable[ExecutionReport]) -> None:
        """Compare the orders that are open by their reports with those that the exchange has."""
        mine = {name: order.quantity - order.filled for name, order in self.orders.items() if order.live}
        its = {str(report.client_order_id): report.leaves_quantity for report in open_orders}
        for name in sorted(mine.keys() | its.keys()):
            if mine.get(name) != its.get(name):
                self.differ(
                    f"order {name}: open by its reports {mine.get(name, 'no more')}, at the exchange "
                    f"{its.get(name, 'no more')}"
                )

    # -- trades --------------------------------------------------------------------------------------------------------

    def check_trades(self) -> None:
        """Each public trade is reported to one buyer and one seller, with its price and quantity; nothing else is."""
        sums = {"buy": 0, "sell": 0}
        for trade in self.trades:
            fills = self.fills.get(trade.trade_id, [])
            sides = sorted(str(fill.side) for fill in fills)
            same = all((fill.last_price, fill.last_quantity) == (trade.price, trade.quantity) for fill in fills)
            orders = {fill.order_id for fill in fills} == {trade.maker_order_id, trade.taker_order_id}
            if sides != ["buy", "sell"] or not same or not orders:
                self.differ(f"trade {trade.trade_id}: not reported to one buyer and one seller as it was published")
        for fills in self.fills.values():
            for fill in fills:
                sums[str(fill.side)] += _number(fill.last_quantity)
        published = sum(trade.quantity for trade in self.trades)
        if not sums["buy"] == sums["sell"] == published:
            self.differ(f"bought {sums['buy']}, sold {sums['sell']}, published {published}: must be the same")
        unknown = self.fills.keys() - {trade.trade_id for trade in self.trades}
        if unknown:
            self.differ(f"{len(unknown)} trades were reported and not published, the first {min(unknown)}")

    # -- periods -------------------------------------------------------------------------------------------------------

    def periods(self) -> list[Period]:
        """Return the day's periods. Checks the auctions at the ends of calls: one price, the indicative's volume."""
        starts = [place for place in range(len(self.statuses)) if self._is_change(place)]
        periods: list[Period] = []
        trades = deque(self.trades)
        call: Status | None = None  # the last message of the call before
        for start, stop in zip(starts, [*starts[1:], len(self.statuses)], strict=True):
            messages = self.statuses[start:stop]
            period = Period(messages[0].time, messages[0].status, messages[0].reason)
            period.indicative_changes = sum(isinstance(message.indicative_price, int) for message in messages)
            periods.append(period)
            left = 0  # of the auction's volume
            if call is not None and period.status != "call" and isinstance(call.indicative_price, int):
                period.auction_price, left = call.indicative_price, _number(call.indicative_quantity)
            call = messages[-1] if period.status == "call" else None
            until = self.statuses[stop] if stop < len(self.statuses) else None
            while trades and _belongs(trades[0], until):
                left = self._note_trade(period, trades.popleft(), left)
            self._check_left(period, left)
        return periods

    def _check_left(self, period: Period, left: int) -> None:
        if left:
            self.differ(f"{period.status} at {period.time}: its auction left out {left} of what it was to trade")

    def _is_change(self, place: int) -> bool:
        """Return whether a status message begins a period: another status, or a call that begins anew."""
        if place == 0:
            return True
        before, status = self.statuses[place - 1], self.statuses[place]
        return (status.status, status.reason) != (before.status, before.reason)

    def _note_trade(self, period: Period, trade: Trade, left: int) -> int:
        """Count a trade, and return what the auction has left to trade."""
        if period.status == "call":
            self.differ(f"trade {trade.trade_id}: in a call")
        if trade.time != period.time:
            self._check_left(period, left)
        elif left:
            period.auction_trades += 1
            period.auction_quantity += trade.quantity
            if trade.price != period.auction_price or trade.quantity > left:
                self.differ(
                    f"trade {trade.trade_id} of the auction at {period.time}: {trade.quantity} at {trade.price}; "
                    f"{left} at {period.auction_price} was to trade"
                )
            return max(left - trade.quantity, 0)
        period.trades += 1
        period.quantity += trade.quantity
        period.last = trade.price
        period.lowest = trade.price if period.lowest is None else min(period.lowest, trade.price)
        period.highest = trade.price if period.highest is None else max(period.highest, trade.price)
        return 0


def _belongs(trade: Trade, until: Status | None) -> bool:
    """Return whether a trade comes before a change of the status.

    At the same time, those come before which a request made that went too far and began a call; those of an auction
    come with the change that follows it.
    """
    return until is None or trade.time < until.time or (trade.time == until.time and until.status == "call")


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
