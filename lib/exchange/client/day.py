"""A whole trading day on a running exchange whose clock is manual, gone through in moments and checked.

The day has an opening call and its auction, trading with every kind of order, a volatility interruption and the auction
that ends it, a closing call and its auction; then its day orders expire. The crowd's orders are from a seed. In between
are scenes, on an empty book, of which it is known what comes of each order. All of it is followed on the public and the
private feeds, and put together by a `Ledger`.
"""

import secrets
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from msgspec import Struct

from exchange.client.admin import Admin
from exchange.client.day_check import Ledger, Period
from exchange.client.day_orders import (
    IN_CALL,
    IN_TRADING,
    NEEDED_STEPS,
    NEEDED_UNITS,
    WIDTH_STEPS,
    DayMarket,
    Request,
    Stage,
    beyond,
    step_of,
    unit_of,
)
from exchange.client.errors import Failed, Rejected
from exchange.client.market_data import Delivery, Feed
from exchange.client.order_pipeline import OrderPipeline
from exchange.client.orders import OrderEntry
from exchange.client.queries import Queries
from exchange.client.times import SECOND, time_text
from exchange.config import Config
from exchange.core.asset import DAYS, MILLION, Asset
from exchange.core.messages import ExecutionReport, OrderEntryReply, OrderEntryRequest, Reject, Status, Trade

PLAN = ("call", "open", "call", "closed")
COURSE = [  # of the statuses, with their reasons
    ("call", "schedule"),
    ("open", "schedule"),
    ("call", "volatility_interruption"),
    ("open", "call_ended"),
    ("call", "schedule"),
    ("closed", "schedule"),
]
CHUNKS = 8  # in which a crowd's orders come, with time passing in between
MARKER = "day-marker"
LONGEST_HOUR_S = 3600

ASSET_TABLE = """\
[[asset]]
asset = "{asset}"
price_scale = 2
reference_price = 10000
price_band = "0.10"
volatility_band = "0.03"
call_seconds = 300
schedule = [
    {{ at = "08:50", status = "call" }},
    {{ at = "09:00", status = "open" }},
    {{ at = "17:25", status = "call" }},
    {{ at = "17:30", status = "closed" }},
]
"""


class DayResult(Struct):
    """What a day was. `reports` counts the execution reports by kind; `refused` the requests, by reason."""

    asset: str
    seed: int
    orders: int = 0
    trades: int = 0
    quantity: int = 0
    reports: dict[str, int] = {}
    refused: dict[str, int] = {}
    periods: list[Period] = []
    differences: list[str] = []

    @property
    def ok(self) -> bool:
        return not self.differences


def check_asset(config: Config, name: str) -> Asset:
    """Return the definition of an asset that a day can be simulated in. Raises Failed where it can't."""
    asset = config.asset(name)
    missing = []
    if tuple(change.status for change in asset.schedule) != PLAN:
        missing.append(f"a schedule of {', '.join(PLAN)}")
    if not asset.reference_price:
        missing.append("a reference_price")
    if not asset.volatility_band_ppm:
        missing.append("a volatility_band")
    if missing:
        raise Failed(
            f"{config.folder / 'assets.toml'}: {name} needs {' and '.join(missing)} for the simulation of a day"
        )
    price, step = asset.reference_price, step_of(asset, asset.reference_price)
    if price * asset.volatility_band_ppm < NEEDED_STEPS * step * MILLION:
        raise Failed(
            f"{name}: volatility_band is narrower than {NEEDED_STEPS} steps of {step} around {price}: for the "
            "simulation of a day it has to be wider, or the tick finer"
        )
    highest = beyond(asset, price + WIDTH_STEPS * step, asset.volatility_band_ppm)
    if asset.price_band_ppm and beyond(asset, price - WIDTH_STEPS * step, asset.price_band_ppm) <= highest:
        raise Failed(f"{name}: price_band is not wider than volatility_band, which nothing can reach then")
    if NEEDED_UNITS * unit_of(asset) > asset.max_quantity:
        raise Failed(f"{name}: max_quantity is below {NEEDED_UNITS} times the smallest quantity, {unit_of(asset)}")
    return asset


def next_day(asset: Asset, after_ns: int) -> list[int]:
    """Return the times of the schedule's changes on its next whole day."""
    zone = UTC if asset.time_zone == "UTC" else ZoneInfo(asset.time_zone)
    day = datetime.fromtimestamp(after_ns / SECOND, zone).date()
    for _ in range(1000):
        if DAYS[day.weekday()] in asset.trading_days and day.isoformat() not in asset.closed_dates:
            times = [
                int(datetime.fromisoformat(f"{day}T{change.at}").replace(tzinfo=zone).timestamp()) * SECOND
                for change in asset.schedule
            ]
            if times[0] - 60 * SECOND > after_ns:
                return times
        day += timedelta(days=1)
    raise Failed(f"{asset.asset}: has no trading day within a thousand days")


class Day:
    """One day. `run` goes through it; `on_change` is told where it is.

    The making raises Failed where the exchange's clock is not manual, or the asset has not what a day needs.
    """

    def __init__(
        self,
        config: Config,
        asset: str,
        *,
        seed: int,
        orders: int,
        accounts: int,
        timeout: float = 30.0,
        on_change: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.config = config
        self.timeout = timeout
        self.admin = Admin(config, timeout=timeout)
        self._check_clock()
        self.asset = check_asset(config, asset)
        self.on_change = on_change
        self.count = orders
        self.prefix = f"d{secrets.token_hex(4)}-"
        self.result = DayResult(asset, seed)
        self.ledger = Ledger()
        self.crowd = [f"sim-{number}" for number in range(1, accounts + 1)]
        self.market = DayMarket(self.asset, seed, self.crowd, self.prefix)
        self.accounts = [*self.crowd, *Stage.ACCOUNTS]
        self.markers = 0
        self.marked = 0

    def run(self) -> DayResult:
        """Go through the day. Raises Failed, and what the client's parts raise; what differs is in the result."""
        endpoints = self.config.endpoints
        with (
            Queries(endpoints.query, timeout=self.timeout) as self.queries,
            OrderEntry(endpoints.order_entry, timeout=self.timeout) as self.orders,
            OrderPipeline(endpoints.order_entry, self._on_reply, timeout=self.timeout) as self.pipeline,
        ):
            times = next_day(self.asset, int(self.admin.clock().time or 0))
            self._prepare(times[0] - 60 * SECOND)
            topics = [f"trade/{self.asset.asset}/", f"status/{self.asset.asset}/"]
            private = [f"execution/{account}/{self.asset.asset}/" for account in (*self.accounts, MARKER)]
            with (
                Feed(endpoints.market_data, self.queries, topics) as self.public,
                Feed(endpoints.private, self.queries, private) as self.private,
            ):
                self._go_through(times)
                self._check()
        return self.result

    def _check_clock(self) -> None:
        if self.admin.clock().mode != "manual":
            raise Failed(
                f"the exchange on {self.config.data} goes by the system's clock, and a day is simulated by one that "
                f'can be set: write [clock] mode = "manual" into {self.config.folder / "exchange.toml"} and start it '
                "again, or leave out --here"
            )

    # -- the day -------------------------------------------------------------------------------------------------------

    def _prepare(self, before: int) -> None:
        """Go to the morning, and see to it that nothing rests in the asset."""
        self.admin.set_clock(before)
        for account in self.accounts:
            self.orders.mass_cancel(self.asset.asset, account=account)
        deadline = time.monotonic() + self.timeout
        while True:
            status = self.queries.asset(self.asset.asset).status
            book = self.queries.book_snapshot(self.asset.asset)
            if status == "closed" and not book.bids and not book.asks:
                break
            if time.monotonic() > deadline:
                raise Failed(
                    f"{self.asset.asset} is {status}, with {len(book.bids) + len(book.asks)} price levels of others' "
                    "orders: a simulated day begins closed, and with an empty book"
                )
            time.sleep(0.02)
        trades = self.queries.trades(self.asset.asset, 1)
        self.centre = trades[0].price if trades else self.asset.reference_price

    def _go_through(self, times: list[int]) -> None:
        call, opening, closing_call, close = times
        self._refused_order("closed", "market_closed", price=self.centre)

        self.admin.set_clock(call)
        self._until("call")
        self._enter_marker()
        self._refused_order("in-call", "market_closed", order_type="market")
        self._crowd(IN_CALL, self.count // 6, call, opening)
        self._set_clock(opening, "open")
        self.centre = self._last_price()

        morning = opening + (closing_call - opening) * 4 // 10
        self._crowd(IN_TRADING, self.count // 3, opening + SECOND, morning)
        self._clear()
        hour = morning + min((closing_call - opening) // 10, LONGEST_HOUR_S * SECOND)
        stage = Stage(self.asset, self.centre, f"{self.prefix}s-")
        stage.trading(hour)
        self._play(stage)
        self._set_clock(hour, "open")

        far = beyond(self.asset, self.centre, self.asset.volatility_band_ppm)
        stage.interruption(far)
        self._play(stage)
        self._until("call")
        stage.interrupted(far)
        self._play(stage)
        resumption = hour + self.asset.call_seconds * SECOND
        if resumption >= closing_call:
            raise Failed(f"{self.asset.asset}: its day is too short for a volatility interruption of its call_seconds")
        self._set_clock(resumption, "open")
        self._clear()
        self.ledger.check_scene(stage.entries)
        self.centre = self._last_price()

        self._crowd(IN_TRADING, self.count // 3, resumption + SECOND, closing_call)
        self._set_clock(closing_call, "call")
        self._crowd(IN_CALL, self.count // 6, closing_call, close)
        self._set_clock(close, "closed")
        self._refused_order("after", "market_closed", price=self.centre)

    def _crowd(self, weights: dict[str, int], count: int, begin: int, end: int) -> None:
        """Have the crowd send orders, spread over the time from `begin` on, before `end`."""
        for chunk in range(CHUNKS):
            now = begin + (end - begin) * chunk // CHUNKS
            self.admin.set_clock(max(now, int(self.admin.clock().time or 0)))
            size = count * (chunk + 1) // CHUNKS - count * chunk // CHUNKS
            self._send(self.market.orders(weights, self.centre, size, now))

    def _clear(self) -> None:
        """Have everybody's orders canceled: the stage is empty then."""
        for account in self.accounts:
            self.orders.mass_cancel(self.asset.asset, account=account)
        self.market.forget()
        self._settle()

    def _play(self, stage: Stage) -> None:
        """Send what has been added to the stage."""
        self._send(entry.request for entry in stage.entries if not entry.sent)
        for entry in stage.entries:
            entry.sent = True

    # -- requests ------------------------------------------------------------------------------------------------------

    def _send(self, requests: Iterator[Request]) -> None:
        for request in requests:
            self.result.orders += 1
            self.pipeline.send(request)
        self.pipeline.drain()
        self._settle()

    def _on_reply(self, request: OrderEntryRequest, reply: OrderEntryReply) -> None:
        if isinstance(reply, Reject):
            self.result.refused[reply.reason] = self.result.refused.get(reply.reason, 0) + 1
            self.ledger.differ(f"a request was refused: {reply.reason}: {reply.text}")

    def _refused_order(self, name: str, reason: str, price: int | None = None, order_type: str | None = None) -> None:
        """Enter an order that is to be refused."""
        try:
            self.orders.new_order(
                self.asset.asset,
                "buy",
                unit_of(self.asset),
                price,
                client_order_id=f"{self.prefix}{name}",
                order_type="market" if order_type == "market" else None,
                account=self.crowd[0],
            )
        except Rejected as rejected:
            self.result.refused[rejected.reason] = self.result.refused.get(rejected.reason, 0) + 1
            if rejected.reason != reason:
                self.ledger.differ(f"order {name}: refused with {rejected.reason}, not {reason}")
        else:
            self.ledger.differ(f"order {name}: was taken, and is to be refused with {reason}")

    # -- time ----------------------------------------------------------------------------------------------------------

    def _set_clock(self, to_ns: int, status: str) -> None:
        """Set the clock, and wait until the asset is in the status that it is to be in then."""
        self.admin.set_clock(to_ns)
        self._until(status)
        self._settle()
        self.on_change(f"{time_text(to_ns)} {status}")

    def _until(self, status: str) -> None:
        deadline = time.monotonic() + self.timeout
        while not self.ledger.statuses or self.ledger.statuses[-1].status != status:
            delivery = self.public.receive(0.2)
            if delivery is not None:
                self._note([delivery])
            elif time.monotonic() > deadline:
                now = self.ledger.statuses[-1].status if self.ledger.statuses else "unknown"
                raise Failed(f"{self.asset.asset} is {now}, and was to be {status} for {self.timeout:g} s")

    def _last_price(self) -> int:
        if not self.ledger.trades:
            raise Failed(f"{self.asset.asset}: nothing has traded yet: choose another seed, or more orders")
        return self.ledger.trades[-1].price

    # -- what is seen --------------------------------------------------------------------------------------------------

    def _enter_marker(self) -> None:
        """Enter an order of an account of its own, far from all others, to be canceled again and again."""
        price = self.centre - 2 * WIDTH_STEPS * step_of(self.asset, self.centre)
        self.orders.new_order(
            self.asset.asset,
            "buy",
            unit_of(self.asset),
            price,
            client_order_id=f"{self.prefix}marker",
            account=MARKER,
        )

    def _settle(self) -> None:
        """Wait until all that was sent has been applied, and take all that was published of it.

        By a cancel of the marker: what it leads to, a report in any case, is published after all before it.
        """
        self.markers += 1
        request_id = f"{self.prefix}m{self.markers}"
        self.orders.cancel_order(
            self.asset.asset, client_order_id=f"{self.prefix}marker", account=MARKER, request_id=request_id
        )
        deadline = time.monotonic() + self.timeout
        while self.marked < self.markers:
            delivery = self.private.receive(0.2)
            if delivery is not None:
                self._note([delivery])
            elif time.monotonic() > deadline:
                raise Failed(f"{self.asset.asset}: nothing is reported any more, for {self.timeout:g} s")
        for feed in (self.private, self.public):
            feed.catch_up(self.timeout)
            while deliveries := feed.receive_available():
                self._note(deliveries)

    def _note(self, deliveries: list[Delivery]) -> None:
        for _, message in deliveries:
            if isinstance(message, Trade):
                self.ledger.trades.append(message)
            elif isinstance(message, Status):
                self.ledger.statuses.append(message)
            elif isinstance(message, ExecutionReport):
                if message.account != MARKER:
                    self.ledger.note_report(message)
                elif message.exec_type in ("canceled", "cancel_rejected"):
                    self.marked += 1

    # -- the end -------------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Check the day as a whole, cancel what is left of it, and fill in the result."""
        ledger, result = self.ledger, self.result
        ledger.check_trades()
        open_orders = [
            order for account in self.accounts for order in self.queries.open_orders(account, self.asset.asset).orders
        ]
        ledger.check_open(open_orders)
        if any(order.time_in_force == "day" for order in open_orders):
            ledger.differ("day orders are open after the close")
        result.periods = ledger.periods()
        course = [(period.status, period.reason) for period in result.periods]
        if course != COURSE:
            ledger.differ(f"the statuses were {course}, and were to be {COURSE}")
        for period in result.periods:
            if period.status == "call" and period.reason == "schedule" and period.indicative_changes < 2:
                ledger.differ(f"the call at {time_text(period.time)}: what its auction would give hardly changed")
        auctions = [period for period in result.periods if period.auction_trades]
        if len(auctions) != 3:
            ledger.differ(f"{len(auctions)} auctions traded, and three were to")
        for kind in ("trade", "canceled", "replaced", "expired", "triggered", "restated"):
            if not ledger.counts.get(kind):
                ledger.differ(f"nothing was reported as {kind}")
        for account in self.accounts:
            self.orders.mass_cancel(self.asset.asset, account=account)
        result.trades = len(ledger.trades)
        result.quantity = sum(trade.quantity for trade in ledger.trades)
        result.reports = dict(sorted(ledger.counts.items()))
        result.differences = ledger.differences
