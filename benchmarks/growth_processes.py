"""What an order costs, and what memory is needed, as the exchange grows: `python -m benchmarks.growth_processes`.

- accounts: 1 to 100,000, each with an order that rests, and then orders of all of them in turn;
- assets: 1 to 50, each with a matching process of its own, the same orders spread over them; what an idle one costs;
- history: requests taken before, 10,000 to some hundred thousand; after each, what an order costs, and how long all
  daemons take to come back after they are killed, to the first ack, and to its trade at a subscriber and in SQL
  (`benchmarks.recovery` goes further, to ten million);
- memory: of a matching process, of the notifier for each subscriber, of each daemon for each order that rests.

The cost is CPU time of all processes but the load generator, per order, one order a message; each is compared with that
of the smallest size, taken in the same run. Memory is resident (what the process has in memory), and private (what it
shares with nobody).
"""

import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq

from benchmarks import figures
from benchmarks.exchange import Cpu, Database, memory_bytes, running, status, stored, until
from benchmarks.figures import Chart, Figure, Part, Table, shown
from benchmarks.load import ASSETS, BATCH, BATCHES_IN_FLIGHT, Load, asset_names, batches, encode, requests
from benchmarks.recovery import Exchange, together
from exchange.config import Config

START_SECONDS = 120.0
IDLE_SECONDS = 2.0
KILOBYTE = 1000


@dataclass(frozen=True)
class Sizes:
    accounts: tuple[int, ...] = (1, 10, 100, 1_000, 10_000, 100_000)
    assets: tuple[int, ...] = (1, 10, 50)
    history: tuple[int, ...] = (10_000, 100_000, 300_000)
    subscribers: int = 1_000
    resting: int = 50_000
    orders: int = 15_000  # of each sample
    repeats: int = 2


QUICK = Sizes((1, 20), (1, 2), (300,), 5, 300, 400, 1)


def measure(quick: bool = False, sizes: Sizes | None = None) -> dict[str, Any]:
    sizes = sizes or (QUICK if quick else Sizes())
    part = Part("growth_processes", "Growth: accounts, assets, history, memory")
    with zmq.Context() as context:
        context.set(zmq.MAX_SOCKETS, sizes.subscribers + 100)
        grow_accounts(part, context, sizes)
        grow_assets(part, context, sizes)
    if sizes.history:
        grow_history(part, sizes)
    return part.as_json()


@dataclass
class Cost:
    """What an order costs at one size: microseconds of each program, in repeats; acks/s."""

    size: int
    microseconds: list[dict[str, float]]
    rates: list[float]

    @property
    def totals(self) -> list[float]:
        return [sum(each.values()) for each in self.microseconds]

    def of(self, program: str) -> float:
        return figures.median([each[program] for each in self.microseconds])


def cost(
    load: Load, pids: dict[str, int], database: Database, stream: Iterator[bytes], size: int, sizes: Sizes
) -> Cost:
    """Send orders one by one and return what one costs, from its arrival to its row in SQL."""
    measured = Cost(size, [], [])
    for _ in range(sizes.repeats):
        before = database.requests()
        cpu = Cpu(pids)
        sent = load.run_count(sizes.orders, stream.__next__)
        database.wait_for_requests(before + sent.acks)
        measured.microseconds.append(cpu.microseconds(sizes.orders))
        measured.rates.append(sent.acks_per_second)
    return measured


def report_cost(part: Part, name: str, what: str, costs: Sequence[Cost]) -> None:
    """Add a figure of the largest size against the smallest, and a chart of all."""
    first, last = costs[0], costs[-1]
    part.figures.append(
        Figure(
            f"CPU time of an order, {last.size:,} {what}",
            "µs",
            last.totals,
            limit_name=f"with {first.size:,}",
            limit_samples=first.totals,
        )
    )
    programs = list(first.microseconds[0])
    series = {"all": [(float(each.size), figures.median(each.totals)) for each in costs]}
    series |= {name: [(float(each.size), max(each.of(name), 0.01)) for each in costs] for name in programs}
    part.charts.append(Chart(name, f"CPU time of an order against {what}", what, "µs", series))
    rows: list[list[str | float]] = [
        [f"{each.size:,}", shown(figures.median(each.totals)), *(shown(each.of(name)) for name in programs)]
        for each in costs
    ]
    part.tables.append(Table(f"CPU time of an order, µs, by {what}", [what, "all", *programs], rows))


# -- accounts, subscribers, resting orders -----------------------------------------------------------------------------


def resting(prefix: str, count: int, accounts: int) -> Iterator[bytes]:
    """Yield buy orders far below the market, of each account in turn, at a thousand prices."""
    source = random.Random(prefix)
    for number in range(count):
        yield encode(
            {
                "type": "new_order",
                "client_order_id": f"{prefix}{number}",
                "asset": ASSETS[number % len(ASSETS)],
                "side": "buy",
                "quantity": 10,
                "price": source.randint(1, 1000),
                "account": f"account{number % accounts}",
            }
        )


def enter(load: Load, database: Database, stream: Iterator[bytes], count: int) -> None:
    """Enter so many orders in batches, and wait until they are in SQL."""
    before = database.requests()
    whole = load.run_count(count // BATCH, batches(stream).__next__, BATCHES_IN_FLIGHT) if count >= BATCH else None
    rest = load.run_count(count % BATCH, stream.__next__)
    acks = (whole.acks if whole else 0) + rest.acks
    assert acks == count, f"{count - acks} of {count} orders were not taken"
    database.wait_for_requests(before + acks)


def grow_accounts(part: Part, context: zmq.Context[zmq.Socket[bytes]], sizes: Sizes) -> None:
    # Orders of one account trade with each other here: else a single account would have no trade.
    with running(ASSETS, settings='self_trade = "allow"') as (config, pids):
        load, database = Load(context, config.endpoints.order_entry), Database(config)
        grow_subscribers(part, context, config, pids, sizes)
        costs = []
        for size in sizes.accounts:
            enter(load, database, resting(f"r{size}-", size, size), size)
            stream = requests(f"a{size}", accounts=size, self_trade="allow")
            costs.append(cost(load, pids, database, stream, size, sizes))
        report_cost(part, "accounts", "accounts", costs)
        grow_resting(part, load, database, pids, sizes)
        load.close()
        database.close()


def grow_subscribers(
    part: Part, context: zmq.Context[zmq.Socket[bytes]], config: Config, pids: dict[str, int], sizes: Sizes
) -> None:
    before = memory_bytes(pids["notifier"])
    subscribers = []
    for _ in range(sizes.subscribers):
        subscriber = context.socket(zmq.SUB)
        subscriber.linger = 0
        subscriber.subscribe(b"")
        subscriber.connect(config.endpoints.market_data)
        subscribers.append(subscriber)
    for subscriber in subscribers:  # each has been sent something, if only a heartbeat
        if not subscriber.poll(round(START_SECONDS * 1000)):
            raise TimeoutError(f"a subscriber got no message within {START_SECONDS:g} s")
    after = memory_bytes(pids["notifier"])
    for subscriber in subscribers:
        subscriber.close()
    part.figures.append(
        Figure(
            "memory of the notifier per subscriber",
            "kB",
            [(after["private"] - before["private"]) / sizes.subscribers / KILOBYTE],
            compared="alone",
            note=f"{sizes.subscribers:,} subscribers",
        )
    )


def grow_resting(part: Part, load: Load, database: Database, pids: dict[str, int], sizes: Sizes) -> None:
    before = {name: memory_bytes(pid)["private"] for name, pid in pids.items()}
    enter(load, database, resting("m", sizes.resting, 20), sizes.resting)
    after = {name: memory_bytes(pid)["private"] for name, pid in pids.items()}
    grown = {name: after[name] - before[name] for name in pids}
    grown["matching"] = sum(grown.pop(f"matching-{asset}") for asset in ASSETS)
    part.tables.append(
        Table(
            "Memory of each order that rests",
            ["program", "bytes"],
            [
                [name, shown(grown[name] / sizes.resting)]
                for name in ("order_handler", "matching", "logger", "notifier")
            ],
        )
    )
    part.figures.append(
        Figure(
            "memory of a matching process per order that rests",
            "bytes",
            [grown["matching"] / sizes.resting],
            compared="alone",
            note=f"the process with all that it holds, {sizes.resting:,} orders over {len(ASSETS)} assets",
        )
    )


# -- assets ------------------------------------------------------------------------------------------------------------


def grow_assets(part: Part, context: zmq.Context[zmq.Socket[bytes]], sizes: Sizes) -> None:
    costs, rows, idle_shares = [], [], []
    memory: list[dict[str, int]] = []
    for size in sizes.assets:
        assets = asset_names(size)
        begun = time.monotonic()
        with running(assets) as (config, pids):
            started = time.monotonic() - begun
            load, database = Load(context, config.endpoints.order_entry), Database(config)
            memory = [memory_bytes(pids[f"matching-{asset}"]) for asset in assets]
            cpu = Cpu(pids)
            begun = time.monotonic()
            time.sleep(IDLE_SECONDS if sizes.repeats > 1 else 0.1)
            idle = sum(cpu.seconds().values()) / (time.monotonic() - begun)
            costs.append(cost(load, pids, database, requests(f"x{size}", assets), size, sizes))
            rows.append(
                [
                    f"{size}",
                    shown(figures.median(costs[-1].rates)),
                    f"{idle:.1%}",
                    shown(started),
                    *(shown(memory_bytes(pids[name])["private"] / 1e6) for name in ("order_handler", "notifier")),
                ]
            )
            idle_shares.append(idle)
            load.close()
            database.close()
    report_cost(part, "assets", "assets", costs)
    head = ["assets", "acks/s", "idle, of a core", "start, s", "order handler, MB", "notifier, MB"]
    part.tables.append(Table("Assets", head, rows))
    for kind in ("resident", "private"):
        part.figures.append(
            Figure(
                f"memory per asset: its matching process, {kind}",
                "MB",
                [each[kind] / 1e6 for each in memory],
                compared="alone",
            )
        )


# -- history -----------------------------------------------------------------------------------------------------------


def grow_history(part: Part, sizes: Sizes) -> None:
    place = Path(tempfile.mkdtemp(prefix="exchange-history-"))
    place.chmod(0o755)
    exchange = Exchange(place)
    costs: list[Cost] = []
    starts: list[dict[str, float]] = []
    taken: list[int] = []
    try:
        exchange.start()
        until(lambda: stored(exchange.config) >= len(ASSETS), "the exchange is up", START_SECONDS)
        for number, size in enumerate(sizes.history):
            costs.append(add_history(exchange, number, size, sizes))
            taken.append(costs[-1].size)
            exchange.kill()
            starts.append(together(exchange, number))
    finally:
        exchange.kill()
        shutil.rmtree(place, ignore_errors=True)
    report_cost(part, "history", "requests taken before", costs)
    series = {
        name: [(float(size), start[name]) for size, start in zip(taken, starts, strict=True)] for name in starts[0]
    }
    part.charts.append(
        Chart("start", "From a start to work, after kill -9 of all", "requests taken before", "s", series)
    )
    for name in starts[0]:
        part.figures.append(
            Figure(
                f"from the start of all daemons to {name}, {taken[-1]:,} requests taken before",
                "s",
                [starts[-1][name]],
                limit_name=f"with {taken[0]:,}",
                limit_samples=[starts[0][name]],
            )
        )


def add_history(exchange: Exchange, number: int, size: int, sizes: Sizes) -> Cost:
    """Have the exchange take requests until it has so many, and return what an order costs then."""
    config = exchange.config
    with zmq.Context() as context:
        load, database = Load(context, config.endpoints.order_entry), Database(config)
        before = database.requests()
        missing = max(0, size - before) // BATCH
        sent = load.run_count(missing, batches(requests(f"h{number}")).__next__, BATCHES_IN_FLIGHT)
        database.wait_for_requests(before + sent.acks, START_SECONDS)
        total = database.requests()
        until(lambda: sum(status(config, "notifier")["processed"].values()) >= total, "all is published", START_SECONDS)
        measured = cost(load, exchange.pids, database, requests(f"c{number}"), total, sizes)
        load.close()
        database.close()
    return measured


if __name__ == "__main__":
    sys.exit(figures.main(measure, __doc__))
