"""A synthetic market from a seed: accounts that quote around a random walk, take, amend and cancel.

`market` is pure: the same seed, asset and start give the same requests (only the ids' prefix differs between runs, so
that each run's orders are new). `simulate` sends them.
"""

import random
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from msgspec import UNSET

from exchange.client.errors import LostMessages, Unreachable
from exchange.client.market_data import Feed
from exchange.client.order_pipeline import OrderPipeline
from exchange.client.queries import Queries
from exchange.config import Config
from exchange.core.asset import Asset
from exchange.core.messages import (
    Ack,
    AmendOrder,
    CancelOrder,
    NewOrder,
    OrderEntryReply,
    OrderEntryRequest,
    Reject,
    SideName,
    Trade,
)

ACTIONS = {"limit": 60, "ioc": 10, "market": 8, "cancel": 17, "amend": 5}  # weights
MAX_RESTING = 500  # of the simulation's own orders, by its own account; beyond it, it cancels
DEEPEST_TICKS = 12
TYPICAL_LOTS = 20
SETTLE_S = 3.0


@dataclass
class Simulation:
    """What a simulation did. Prices and volume are the wire's integers."""

    asset: str
    seed: int
    orders: int
    sent: int = 0
    acks: int = 0
    rejects: dict[str, int] = field(default_factory=dict)
    trades: int = 0
    volume: int = 0
    first_price: int | None = None
    last_price: int | None = None
    lowest: int | None = None
    highest: int | None = None
    seconds: float = 0.0


def market(
    asset: Asset, start: int, seed: int, orders: int, accounts: list[str], prefix: str
) -> Iterator[NewOrder | AmendOrder | CancelOrder]:
    """Yield `orders` requests around a random walk that begins at the price `start`."""
    rng = random.Random(seed)
    lowest, highest = -(-asset.min_price // asset.tick_size), asset.max_price // asset.tick_size
    middle = start // asset.tick_size
    resting: list[NewOrder] = []
    for number in range(orders):
        middle = min(max(middle + rng.choice((-1, 0, 0, 1)), lowest), highest)
        action = rng.choices(list(ACTIONS), list(ACTIONS.values()))[0]
        if len(resting) > MAX_RESTING:
            action = "cancel"
        if action in ("cancel", "amend") and resting:
            yield _change(asset, rng, action, resting, f"{prefix}{number}")
            continue
        side: SideName = rng.choice(("buy", "sell"))
        taking = action in ("ioc", "market")
        # What rests lies around the middle, sometimes beyond it, so that limit orders trade too.
        distance = -2 if taking else min(int(rng.expovariate(0.35)), DEEPEST_TICKS) - 1
        ticks = middle - distance if side == "buy" else middle + distance
        order = NewOrder(
            client_order_id=f"{prefix}{number}",
            asset=asset.asset,
            side=side,
            quantity=_quantity(rng, asset),
            price=UNSET if action == "market" else min(max(ticks, lowest), highest) * asset.tick_size,
            account=rng.choice(accounts),
            order_type="market" if action == "market" else "limit",
            time_in_force="ioc" if taking else "gtc",
        )
        if not taking:
            resting.append(order)
        yield order


def _change(
    asset: Asset, rng: random.Random, action: str, resting: list[NewOrder], request_id: str
) -> AmendOrder | CancelOrder:
    """Return a cancel or an amend of one of the orders that were entered to rest, traded meanwhile or not."""
    place = rng.randrange(len(resting))
    order = resting[place]
    if action == "amend":
        return AmendOrder(
            asset=asset.asset,
            client_order_id=order.client_order_id,
            account=order.account,
            request_id=request_id,
            quantity=_quantity(rng, asset),
        )
    resting[place] = resting[-1]
    resting.pop()
    return CancelOrder(
        asset=asset.asset, client_order_id=order.client_order_id, account=order.account, request_id=request_id
    )


def _quantity(rng: random.Random, asset: Asset) -> int:
    """Return a few hundredths of a unit, or a few lots where the asset has no such fractions, within its limits."""
    hundredth: int = 10 ** max(asset.quantity_scale - 2, 0)
    lot = max(hundredth // asset.lot_size, 1) * asset.lot_size
    smallest = -(-asset.min_quantity // asset.lot_size) * asset.lot_size
    largest = asset.max_quantity // asset.lot_size * asset.lot_size
    return min(max(rng.randint(1, TYPICAL_LOTS) * lot, smallest), largest)


def start_price(queries: Queries, asset: Asset) -> int:
    """Return where the walk begins: the last trade, else the book's middle, else about 100."""
    trades = queries.trades(asset.asset, 1)
    if trades:
        return trades[0].price
    book = queries.book_snapshot(asset.asset, 1)
    best = [levels[0][0] for levels in (book.bids, book.asks) if levels]
    if best:
        return sum(best) // len(best)
    hundred: int = 100 * 10**asset.price_scale
    return hundred if asset.min_price <= hundred <= asset.max_price else (asset.min_price + asset.max_price) // 2


def simulate(
    config: Config,
    asset: str,
    *,
    seed: int,
    orders: int,
    rate: float | None,
    accounts: int,
    timeout: float = 60.0,
    on_progress: Callable[[Simulation], None] | None = None,
) -> Simulation:
    """Send a synthetic market's requests, `rate` a second (None: as fast as it goes), and count what came of them.

    Raises Rejected (`unknown_asset`) and Unreachable.
    """
    names = [f"sim-{number}" for number in range(1, accounts + 1)]
    prefix = f"s{secrets.token_hex(4)}-"
    with Queries(config.endpoints.query) as queries:
        definition = queries.asset(asset)
        start = start_price(queries, definition)
        with Feed(config.endpoints.market_data, queries, [f"trade/{asset}/"]) as feed:
            runner = _Runner(Simulation(asset, seed, orders), feed, on_progress or (lambda _: None))
            with OrderPipeline(config.endpoints.order_entry, runner.on_reply, timeout=timeout) as pipeline:
                runner.run(pipeline, market(definition, start, seed, orders, names, prefix), rate)
            runner.settle()
    return runner.result


class _Runner:
    def __init__(self, result: Simulation, feed: Feed, on_progress: Callable[[Simulation], None]) -> None:
        self.result = result
        self.feed = feed
        self.on_progress = on_progress

    def run(self, pipeline: OrderPipeline, requests: Iterator[OrderEntryRequest], rate: float | None) -> None:
        started = time.monotonic()
        for request in requests:
            pipeline.send(request)
            self.result.sent += 1
            if rate is not None:
                due = started + self.result.sent / rate
                while (left := due - time.monotonic()) > 0.001:
                    pipeline.flush()
                    self._turn()
                    time.sleep(max(min(left, due - time.monotonic(), 0.02), 0.0))
            elif self.result.sent % 500 == 0:
                self._turn()
        pipeline.drain()
        self.result.seconds = time.monotonic() - started

    def settle(self) -> None:
        """Wait for the last trades: until none has come for a moment and the feed is complete."""
        deadline = time.monotonic() + SETTLE_S
        quiet = 0
        while quiet < 5 and time.monotonic() < deadline:
            try:
                self.feed.catch_up(SETTLE_S)
            except (Unreachable, LostMessages):
                return
            quiet = 0 if self._turn() else quiet + 1
            time.sleep(0.02)

    def on_reply(self, request: OrderEntryRequest, reply: OrderEntryReply) -> None:
        if isinstance(reply, Ack):
            self.result.acks += 1
        elif isinstance(reply, Reject):
            self.result.rejects[reply.reason] = self.result.rejects.get(reply.reason, 0) + 1

    def _turn(self) -> int:
        count = 0
        for _, message in self.feed.receive_available():
            if isinstance(message, Trade):
                count += 1
                self._note(message)
        self.on_progress(self.result)
        return count

    def _note(self, trade: Trade) -> None:
        result, price = self.result, trade.price
        result.trades += 1
        result.volume += trade.quantity
        result.first_price = price if result.first_price is None else result.first_price
        result.last_price = price
        result.lowest = price if result.lowest is None else min(result.lowest, price)
        result.highest = price if result.highest is None else max(result.highest, price)
