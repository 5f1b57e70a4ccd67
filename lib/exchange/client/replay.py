"""Recorded order flow sent to an asset as fast as it goes, and the executions compared with the recorded ones.

The flow's resting orders come from one account, what takes them from another. Requests are pipelined and batched; all
carry ids that make it safe to send them again, so that daemons may be killed and started again meanwhile.
"""

import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import zmq

from exchange.client.decimals import price_text, quantity_text
from exchange.client.errors import ClientError, Unreachable
from exchange.client.flow import FlowError, Row, Units, read_flow
from exchange.client.flow_orders import FlowOrders
from exchange.client.market_data import Feed
from exchange.client.order_pipeline import OrderPipeline
from exchange.client.orders import OrderEntry
from exchange.client.queries import ListedAsset, Queries
from exchange.client.replay_check import ReplayCheck
from exchange.config import Config
from exchange.core.messages import Ack, ExecutionReport, NewOrder, OrderEntryReply, OrderEntryRequest, Reject, Trade

TURN_ROWS = 500  # after so many rows the feeds are read
HEARD_S = 0.7  # within which the order handler hears how far a matching daemon is
CLEAR_S = 30.0
QUIET_S = 3.0  # without --check, how long to wait for trades that are not there
LONGEST_PREFIX = 16  # leaves 20 characters of a client_order_id for the venue's


class ReplayRefused(ClientError):
    """The check can't be made: orders of others rest in the asset."""


@dataclass
class Replay:
    """A replay's result, and its progress while it runs.

    `seconds` is from the first request to the last ack; `settled_seconds` to when all was executed and read back.
    `differences` are between recorded and real, the first first; `recovered` counts messages fetched again.
    """

    asset: str
    rows: int
    checked: bool
    sent: int = 0
    acks: int = 0
    rejects: int = 0
    trades: int = 0
    recorded: int = 0
    seconds: float = 0.0
    settled_seconds: float = 0.0
    reconnects: int = 0
    overtaken: int = 0
    recovered: int = 0
    differences: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.differences and self.acks == self.rows

    @property
    def orders_per_second(self) -> float:
        return self.acks / self.seconds if self.seconds else 0.0


def replay(
    config: Config,
    path: Path,
    asset: str,
    *,
    rate: float | None = None,
    check: bool = False,
    maker: str = "replay-maker",
    taker: str = "replay-taker",
    prefix: str | None = None,
    window: int = 5_000,
    batch: int = 100,
    timeout: float = 60.0,
    on_progress: Callable[[Replay], None] | None = None,
    context: zmq.Context[zmq.Socket[bytes]] | None = None,
) -> Replay:
    """Replay a flow file into an asset and return what came of it.

    `rate` is in rows a second (default: as fast as it goes); `timeout` is how many seconds the exchange may be away
    meanwhile. `prefix` starts the ids of this run (default: one that was never used). First both accounts' orders in
    the asset are canceled. With `check`, all executions are read back and compared.

    Raises FlowError, before anything is sent, where the asset can't take the file's rows; ReplayRefused where, with
    `check`, orders of others rest in the asset; Rejected and Unreachable.
    """
    prefix = prefix if prefix is not None else f"r{secrets.token_hex(4)}-"
    if maker == taker:
        raise ValueError(
            f"maker and taker are both {maker!r}: they must differ, since an account can't trade with itself"
        )
    if len(prefix) > LONGEST_PREFIX:
        raise ValueError(f"prefix = {prefix!r}: at most {LONGEST_PREFIX} characters, to leave room for the venue's ids")
    with Queries(config.endpoints.query, timeout=10.0, context=context) as queries:
        definition = queries.asset(asset)
        result = Replay(asset, scan(path, definition), check)
        _clear(config, queries, definition, (maker, taker), check, context)
        player = _Player(config, queries, definition, result, prefix, (maker, taker), on_progress, context)
        try:
            player.play(path, rate, OrderPipelineSettings(window, batch, timeout))
        finally:
            player.close()
    return result


@dataclass(frozen=True)
class OrderPipelineSettings:
    window: int
    batch: int
    timeout: float


def scan(path: Path, asset: ListedAsset) -> int:
    """Return how many rows a file has. Raises FlowError where the asset can't take one of them."""
    units = Units(asset)
    rows = 0
    for row in read_flow(path):
        try:
            units.check(row)
        except FlowError as error:
            raise FlowError(f"{path}: line {row.number}: {error}; nothing was sent") from None
        rows += 1
    return rows


def _clear(
    config: Config,
    queries: Queries,
    asset: ListedAsset,
    accounts: tuple[str, str],
    check: bool,
    context: zmq.Context[zmq.Socket[bytes]] | None,
) -> None:
    """Cancel what earlier replays left, and wait until it is gone; with `check`, refuse where others' orders rest."""
    with OrderEntry(config.endpoints.order_entry, timeout=10.0, context=context) as orders:
        for account in accounts:
            orders.mass_cancel(asset.asset, account=account)
    deadline = time.monotonic() + CLEAR_S
    before: object = None
    while True:
        left = sum(len(queries.open_orders(account, asset.asset).orders) for account in accounts)
        now = [queries.sequences(account, unless_rebuilding=lambda names: asset.asset in names) for account in accounts]
        if not left and now == before:
            break
        if time.monotonic() > deadline:
            raise ReplayRefused(
                f"{asset.asset}: {left} orders of {' and '.join(accounts)} are still live, {CLEAR_S:g} s after they "
                f"were canceled; see with `exchange status` whether matching-{asset.asset} is running and has caught up"
            )
        before = now
        time.sleep(0.05)
    if not check:
        return
    snapshot = queries.book_snapshot(asset.asset, 1)
    for side, levels in (("bid", snapshot.bids), ("ask", snapshot.asks)):
        for price, quantity, count in levels:
            raise ReplayRefused(
                f"{asset.asset}: others' orders rest there (best {side} {price_text(price, asset)} x "
                f"{quantity_text(quantity, asset)}, {count} orders), so the recorded executions can't come out; "
                "cancel them, or replay into an asset of its own"
            )


class _Player:
    """One replay under way: the requests going out, their acks, and the feeds coming in."""

    def __init__(
        self,
        config: Config,
        queries: Queries,
        asset: ListedAsset,
        result: Replay,
        prefix: str,
        accounts: tuple[str, str],
        on_progress: Callable[[Replay], None] | None,
        context: zmq.Context[zmq.Socket[bytes]] | None,
    ) -> None:
        self.config = config
        self.result = result
        self.context = context
        self.on_progress = on_progress or (lambda _: None)
        self.bound = max(config.limits.max_backlog * 9 // 10, 1)
        self.applied: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])  # when how many rows were through
        self.turn_rows = min(TURN_ROWS, max(self.bound // 2, 1))
        self.orders = FlowOrders(asset, prefix, *accounts)
        self.check = ReplayCheck(asset, prefix, *accounts)
        self.feeds = [Feed(config.endpoints.market_data, queries, [f"trade/{asset.asset}/"], context=context)]
        try:
            if result.checked:
                topics = [f"execution/{account}/{asset.asset}/" for account in accounts]
                self.feeds.append(Feed(config.endpoints.private, queries, topics, context=context))
        except BaseException:
            self.close()
            raise

    def play(self, path: Path, rate: float | None, settings: OrderPipelineSettings) -> None:
        """Send all rows, wait for all replies, then for what they cause."""
        started = time.monotonic()
        with OrderPipeline(
            self.config.endpoints.order_entry,
            self._on_reply,
            window=settings.window,
            batch=settings.batch,
            timeout=settings.timeout,
            context=self.context,
        ) as pipeline:
            for row in read_flow(path):
                self._send(pipeline, row)
                if rate is not None:
                    self._pace(pipeline, started + self.result.sent / rate)
                if self.result.sent % self.turn_rows == 0:
                    self._turn()
                    self._hold_back(pipeline, settings.timeout)
            pipeline.drain()
            self.result.reconnects, self.result.overtaken = pipeline.reconnects, pipeline.overtaken
        self.result.seconds = time.monotonic() - started
        self._settle(settings.timeout)
        self.result.settled_seconds = time.monotonic() - started
        self._conclude()

    def _send(self, pipeline: OrderPipeline, row: Row) -> None:
        self.check.record(row)
        pipeline.send(self.orders.request(row))
        self.result.sent += 1

    def _pace(self, pipeline: OrderPipeline, due: float) -> None:
        """Wait until the next row is due; meanwhile acks and feeds are read."""
        while (left := due - time.monotonic()) > 0.001:
            pipeline.flush()
            self._turn()
            time.sleep(max(min(left, due - time.monotonic(), 0.02), 0.0))

    def _hold_back(self, pipeline: OrderPipeline, timeout: float) -> None:
        """Keep what the matching daemon has yet to apply under the exchange's bound: a `busy` may cost the order.

        The order handler hears a moment later than we do how far the matching daemon is, so what counts is how far it
        was that long ago.
        """
        deadline = time.monotonic() + timeout
        while self.result.checked and self._backlog() + self.turn_rows > self.bound and time.monotonic() < deadline:
            pipeline.flush()
            self._turn()
            time.sleep(0.002)

    def _backlog(self) -> int:
        """Return the rows sent that were not known as applied to the order handler, as far as can be told."""
        now = time.monotonic()
        if now - self.applied[-1][0] > HEARD_S / 20:
            self.applied.append((now, self.check.applied))
        while len(self.applied) > 1 and self.applied[1][0] <= now - HEARD_S:
            self.applied.popleft()
        return self.result.sent - self.result.rejects - self.applied[0][1]

    def _on_reply(self, request: OrderEntryRequest, reply: OrderEntryReply) -> None:
        if isinstance(reply, Ack):
            self.result.acks += 1
            if isinstance(request, NewOrder) and isinstance(reply.order_id, int):
                self.check.acknowledged[reply.order_id] = request.client_order_id
        elif isinstance(reply, Reject):
            self.result.rejects += 1
            name = getattr(request, "client_order_id", "")
            self.check.differ(f"order {name}: {reply.request} rejected: {reply.reason}: {reply.text}")

    def _turn(self) -> int:
        """Take what the feeds hold. Returns how many messages that was."""
        count = 0
        for feed in self.feeds:
            for _, message in feed.receive_available():
                count += 1
                if isinstance(message, ExecutionReport):
                    self.check.report(message, self.orders.late)
                elif isinstance(message, Trade):
                    self.check.trades.append(message)
        self.result.trades = len(self.check.trades)
        self.on_progress(self.result)
        return count

    def _settle(self, timeout: float) -> None:
        """Wait until everything acknowledged is executed and read back, or nothing has come for too long."""
        patience = timeout if self.result.checked else QUIET_S
        quiet_since = time.monotonic()
        while not self._complete():
            if self._turn():
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since > patience:
                break
            else:
                time.sleep(0.005)
        for feed in self.feeds:
            try:
                feed.catch_up(timeout)
            except Unreachable as error:
                if self.result.checked:
                    self.check.differ(f"can't read back: {error}")
        self._turn()

    def _complete(self) -> bool:
        if self.result.checked:
            return self.check.applied >= self.result.acks
        return len(self.check.trades) >= len(self.check.recorded)

    def _conclude(self) -> None:
        result = self.result
        result.recovered = sum(feed.recovered for feed in self.feeds)
        result.recorded = len(self.check.recorded)
        if result.checked:
            if self.check.applied < result.acks:
                self.check.differ(f"{result.acks} requests were acknowledged, {self.check.applied} reported as applied")
            self.check.compare()
            if result.overtaken and self.check.differences:
                self.check.differ(
                    f"{result.overtaken} requests were overtaken by later ones while the exchange was busy; a lower "
                    "rate keeps their order"
                )
        result.differences = self.check.differences

    def close(self) -> None:
        for feed in self.feeds:
            feed.close()
