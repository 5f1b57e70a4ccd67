"""The whole pipeline beside its physical limits: `python -m benchmarks.pipeline`.

A real exchange with four assets, a client that sends limit orders around a price that moves (of 20 accounts; a third of
them trade) and cancels, and a subscriber in a process of its own that takes every trade and looks whether one is
missing. All on one machine, the client and the subscriber included.

- latency, first, on a quiet exchange: 1,000 orders/s, open-loop. From when an order was due, and from when its ack was
  read, to when its trade was at the subscriber. The limit is the same hops with nothing in them: a PUSH and two PUBs
  through processes that pass messages on.
- sustained: as many orders as the exchange takes with 2,000 in flight, one by one, and in batches of 100 (40 in
  flight); the clock stops when the last row is in PostgreSQL and the last trade at the subscriber. The limit is a bare
  ROUTER/DEALER echo of single requests, drained frame by frame, before and after each of the two.
- where the CPU time goes: microseconds an order of each daemon while that went on; in a run of its own, by function.

What was acknowledged, stored and received must agree, or it fails.
"""

import argparse
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import zmq

from benchmarks import figures
from benchmarks.exchange import Cpu, Database, running
from benchmarks.figures import Chart, Figure, Part, Table, shown
from benchmarks.limits import echo_rates
from benchmarks.load import ASSETS, BATCH, BATCHES_IN_FLIGHT, WINDOW, Load, batches, order_ids, requests
from benchmarks.order_entry import Slices
from benchmarks.profiles import profile
from benchmarks.relay import hop_latencies
from benchmarks.subscriber import Subscriber
from exchange.config import Config

ASKED_SINGLE, ASKED_BATCHES, ASKED_TRADE_MS = 0.12, 0.25, 1.0
RATE = 1_000
SLICE_SECONDS = 10.0  # of a sustained load, about, between which it pauses for the answers under way


@dataclass(frozen=True)
class Sizes:
    seconds: float = 60.0  # of sustained single orders
    batch_seconds: float = 20.0
    hops: int = 2  # slices of the bare hops
    slices: int = 6  # of latencies
    slice_seconds: float = 2.0
    echo_seconds: float = 1.0
    echo_repeats: int = 3
    profile_seconds: float = 4.0  # of each profiler, 0: none
    warm_seconds: float = 1.0


QUICK = Sizes(0.3, 0.3, 1, 2, 0.2, 0.05, 1, 0.0, 0.1)


class Pipeline:
    """A running exchange, a client and a subscriber of it."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        config: Config,
        pids: dict[str, int],
        subscriber: Subscriber,
    ) -> None:
        self.config, self.pids, self.subscriber = config, pids, subscriber
        self.load = Load(context, config.endpoints.order_entry)
        self.database = Database(config)
        self.stored = self.database.requests()
        self.trades_before = self.database.rows("trades")

    def close(self) -> None:
        self.load.close()
        self.database.close()

    def settle(self, acks: int) -> tuple[float, float]:
        """Wait until these further acks are in SQL and their trades at the subscriber; return when each was."""
        self.stored += acks
        in_sql = self.database.wait_for_requests(self.stored)
        report = self.subscriber.wait_for(self.last_trades())
        return in_sql, report.last_at

    def last_trades(self) -> dict[str, int]:
        """Return the last trade's number of each asset that is traded here."""
        return {asset: number for asset, number in self.database.last_trades().items() if asset in ASSETS}

    def check(self, part: Part) -> None:
        """Fail where what was acknowledged, stored and received does not agree."""
        assert self.database.requests() == self.stored, "what is stored is what was acknowledged"
        stored, last = self.database.rows("trades"), self.last_trades()
        report = self.subscriber.report()
        numbers = self.database.last_trades()
        assert stored == sum(numbers.values()), f"{stored} trades are stored, numbered up to {numbers}"
        trades = stored - self.trades_before
        assert (report.trades, report.gaps, report.last) == (trades, 0, last), f"{report} of {trades} trades, {last}"
        part.details |= {"requests_stored": self.stored, "trades_stored": trades, "trades_received": report.trades}


def measure(quick: bool = False, sizes: Sizes | None = None, folder: Path | None = None) -> dict[str, Any]:
    """Return the part's results. `folder` is where the exchange's data is, by default that of temporary files."""
    sizes = sizes or (QUICK if quick else Sizes())
    part = Part("pipeline", "The whole pipeline")
    before = echo_rates(sizes.echo_seconds, sizes.echo_repeats)
    hops = [sorted(hop_latencies(RATE, sizes.slice_seconds)) for _ in range(sizes.hops)]
    with (
        running(ASSETS, folder) as (config, pids),
        zmq.Context() as context,
        Subscriber(config.endpoints.market_data) as subscriber,
    ):
        pipeline = Pipeline(context, config, pids, subscriber)
        trade_latency(part, pipeline, sizes, hops)
        single = sustained(part, pipeline, sizes, in_batches=False)
        between = echo_rates(sizes.echo_seconds, sizes.echo_repeats)
        batched = sustained(part, pipeline, sizes, in_batches=True)
        after = echo_rates(sizes.echo_seconds, sizes.echo_repeats)
        if sizes.profile_seconds:
            part.tables += profiled(pipeline, sizes.profile_seconds)
        pipeline.check(part)
        pipeline.close()
    report_sustained(part, single, batched, before + between, between + after)
    report_history(part, single, batched)
    return part.as_json()


# -- latency -----------------------------------------------------------------------------------------------------------


def trade_latency(part: Part, pipeline: Pipeline, sizes: Sizes, hops: list[list[float]]) -> None:
    """Add the times from an order's due time, and from its ack, to its trade at the subscriber."""
    next_request = requests("t").__next__
    timed = pipeline.load.open_loop(RATE, sizes.warm_seconds, next_request)
    pipeline.settle(timed.acks)
    pipeline.subscriber.times()
    after_ack, after_due = Slices("ack to trade", []), Slices("order to trade", [])
    for _ in range(sizes.slices):
        timed = pipeline.load.open_loop(RATE, sizes.slice_seconds, next_request)
        pipeline.settle(timed.acks)
        seen: dict[int, float] = {}
        for order_id, at in pipeline.subscriber.times():
            seen.setdefault(order_id, at)  # an order's first trade
        numbers = [number for number, order_id in enumerate(order_ids(timed.replies)) if order_id in seen]
        ids = order_ids(timed.replies)
        after_due.slices.append([seen[ids[number]] - timed.due(number) for number in numbers])
        after_ack.slices.append([seen[ids[number]] - timed.due(number) - timed.latencies[number] for number in numbers])
    bare = Slices("the same hops with nothing in them", hops)
    for percent in (50.0, 99.0):
        for slices, at_most in ((after_ack, ASKED_TRADE_MS if percent == 50.0 else None), (after_due, None)):
            what = "a trade at the subscriber after its order's ack" if slices is after_ack else "order to trade seen"
            part.figures.append(
                Figure(
                    f"{what} at {RATE:,} orders/s, p{percent:g}",
                    "ms",
                    slices.percentiles(percent),
                    limit_name=f"the hops from order handler to subscriber with nothing in them, p{percent:g}",
                    limit_samples=bare.percentiles(percent),
                    compared="alone",
                    at_most=at_most,
                )
            )
    part.charts.append(
        Chart(
            "trade_latency",
            f"A trade at the subscriber, {RATE:,} orders/s",
            "percentile",
            "ms",
            {each.name: each.curve() for each in (after_due, after_ack, bare)},
            "percentiles",
            dashed=[bare.name],
        )
    )
    part.details["trades_timed"] = len(after_ack.ordered)


# -- throughput --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Slice:
    """Ten seconds or so of a sustained load: requests taken by its end, acks/s, CPU of an order in all daemons."""

    requests: int
    rate: float
    microseconds: float


@dataclass
class Sustained:
    """What came of a sustained load: acks, seconds to the last one, to the last SQL row, to the last trade seen."""

    in_batches: bool
    acks: int
    to_ack: float
    to_sql: float
    to_trade: float
    microseconds: dict[str, float]  # CPU of an order, by program
    client_share: float
    slices: list["Slice"]

    @property
    def rate_to_sql(self) -> float:
        return self.acks / self.to_sql

    @property
    def rate_to_all(self) -> float:
        """Orders a second until the last one's row is in SQL, and the last trade at the subscriber too."""
        return self.acks / max(self.to_sql, self.to_trade)


def sustained(part: Part, pipeline: Pipeline, sizes: Sizes, *, in_batches: bool) -> Sustained:
    """Load the exchange for the time asked, and wait until all is in SQL and at the subscriber."""
    stream = requests("b" if in_batches else "s")
    next_message = (batches(stream) if in_batches else stream).__next__
    window = BATCHES_IN_FLIGHT if in_batches else WINDOW
    seconds = sizes.batch_seconds if in_batches else sizes.seconds
    load = pipeline.load
    pipeline.settle(load.run(sizes.warm_seconds, next_message, window).acks)
    cpu, subscribed = Cpu(pipeline.pids), pipeline.subscriber.report().cpu_seconds
    start = time.monotonic()
    acks = messages = 0
    client = 0.0
    slices: list[Slice] = []
    count = max(1, round(seconds / SLICE_SECONDS))
    for _ in range(count):
        slice_cpu = Cpu(pipeline.pids)
        sent = load.run(seconds / count, next_message, window)
        acks, messages, client = acks + sent.acks, messages + sent.messages, client + sent.cpu_seconds
        used = sum(slice_cpu.microseconds(sent.acks).values())
        slices.append(Slice(pipeline.stored + acks, sent.acks_per_second, used))
    taken = time.monotonic() - start
    in_sql, seen = pipeline.settle(acks)
    name = "batches" if in_batches else "single"
    part.details[name] = {"messages": messages, "acks": acks, "seconds": taken}
    subscriber = pipeline.subscriber.report().cpu_seconds - subscribed
    return Sustained(
        in_batches,
        acks,
        taken,
        in_sql - start,
        seen - start,
        cpu.microseconds(acks, client=client, subscriber=subscriber),
        client / taken,
        slices,
    )


def report_sustained(
    part: Part, single: Sustained, batched: Sustained, beside_single: list[float], beside_batched: list[float]
) -> None:
    """Add what came of both, each beside the echoes before and after it."""
    for each, asked, echoes in (
        (single, ASKED_SINGLE, beside_single),
        (batched, ASKED_BATCHES, beside_batched),
    ):
        form = f"in batches of {BATCH}" if each.in_batches else "one by one"
        figure = Figure(
            f"orders {form} to the last SQL row, for {each.to_ack:.0f} s",
            "orders/s",
            [each.rate_to_sql],
            limit_name="bare echo, messages/s",
            limit_samples=echoes,
            at_least=asked,
            note=f"{each.acks / each.to_ack:,.0f} durable acks/s; after the last ack, the last row came in "
            f"{each.to_sql - each.to_ack:.2f} s, the last trade in {each.to_trade - each.to_ack:.2f} s; "
            f"load generator: {each.client_share:.0%} of a core",
        )
        name = f"orders {form} to the last SQL row and the last trade at a subscriber, for {each.to_ack:.0f} s"
        part.figures += [figure, replace(figure, name=name, samples=[each.rate_to_all], at_least=None, note="")]
    programs = list(single.microseconds)
    rows: list[list[str | float]] = [
        [name, *(shown(each.microseconds[name]) for each in (single, batched))] for name in programs
    ]
    rows.append(["all", *(shown(sum(each.microseconds.values())) for each in (single, batched))])
    part.tables.append(Table("CPU time of an order, µs", ["program", "one by one", f"in batches of {BATCH}"], rows))
    part.charts.append(
        Chart(
            "cpu",
            "CPU time of an order",
            "",
            "µs",
            {
                ("in batches" if each.in_batches else "one by one"): [
                    (place, each.microseconds[name]) for place, name in enumerate(programs)
                ]
                for each in (single, batched)
            },
            "bars",
            y_scale="linear",
            categories=programs,
        )
    )


def report_history(part: Part, single: Sustained, batched: Sustained) -> None:
    """Show whether an order costs more, the more were taken before."""
    part.figures.append(
        Figure(
            f"CPU time of an order in all daemons, {single.slices[-1].requests:,} requests taken, one by one",
            "µs",
            [single.slices[-1].microseconds],
            limit_name=f"with {single.slices[0].requests:,}",
            limit_samples=[single.slices[0].microseconds],
        )
    )
    part.tables.append(
        Table(
            "Over the run",
            ["orders", "requests taken by then", "acks/s", "CPU of an order in all daemons, µs"],
            [
                [form, f"{each.requests:,}", shown(each.rate), shown(each.microseconds)]
                for form, run in (("one by one", single), (f"in batches of {BATCH}", batched))
                for each in run.slices
            ],
        )
    )


def profiled(pipeline: Pipeline, seconds: float) -> list[Table]:
    """Return the profiles of the daemons under single orders; of the matching daemons, one stands for all."""
    stream = requests("p").__next__
    pids = {name: pid for name, pid in pipeline.pids.items() if not name.startswith("matching-")}
    pids["matching"] = pipeline.pids[f"matching-{ASSETS[0]}"]

    def load(seconds: float) -> None:
        pipeline.settle(pipeline.load.run(seconds, stream).acks)

    return profile(pids, seconds, load)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, measures nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as well")
    parser.add_argument("--folder", type=Path, help="where the exchange's data is (default: for temporary files)")
    parser.add_argument("--seconds", type=float, help="of sustained single orders")
    parser.add_argument("--batch-seconds", type=float, help="of sustained batches")
    parser.add_argument("--no-profile", action="store_true", help="leave out the profiles by function")
    options = parser.parse_args(arguments)
    sizes = QUICK if options.quick else Sizes()
    if options.seconds is not None:
        sizes = replace(sizes, seconds=options.seconds)
    if options.batch_seconds is not None:
        sizes = replace(sizes, batch_seconds=options.batch_seconds)
    if options.no_profile:
        sizes = replace(sizes, profile_seconds=0.0)
    return figures.run(lambda: measure(sizes=sizes, folder=options.folder), options.json, options.quick, options.folder)


if __name__ == "__main__":
    sys.exit(main())
