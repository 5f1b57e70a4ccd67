"""Order entry beside a bare echo and a bare `fdatasync`: `python -m benchmarks.order_entry`.

- acks/s, each durable: one order a message, and in batches of 100, from 1, 10 and 100 clients, 2,000 requests (or 40
  batches) in flight over all of them. The clients are sockets of one process, whose share of a core stands beside. The
  limit is a bare ROUTER/DEALER echo of single requests with as many clients, drained frame by frame, before and after.
- latency at 100, 1,000 and 10,000 orders/s, open-loop: an order is sent when it is due, whatever is answered when, and
  timed from when it was due to when its ack was read, so that no stall is hidden.

A percentile is that of each slice of a second or a few, and the figure the median of the slices, so that what another
program did to the machine in one of them does not count for all; a table has those of all slices together.

The limit of a latency is a bare `fdatasync` under the same load, in slices of a few seconds that alternate with the
exchange's, since a disk has its moods. Same load means two things. The bare loop has the same records due at the same
times, of the same size, in a file on the same disk that was filled with zeros before, and syncs whatever is due in one
piece: nobody can do less for an ack. And meanwhile the exchange gets the same orders at the same rate, but in batches
of 100: so matching, SQL and publishing go on as they do beside the order handler, PostgreSQL's own syncs included, and
only the order handler's syncs, which the bare loop makes in its place, are missing. For comparison, the bare loop has
the machine for itself before, and so has a bare echo at the same rate.
"""

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import zmq

from benchmarks import figures
from benchmarks.background import Background
from benchmarks.exchange import Database, running
from benchmarks.figures import Chart, Figure, Part, Table, percentile, shown
from benchmarks.limits import echo_latencies, echo_rates, sync_latencies
from benchmarks.load import ASSETS, BATCH, BATCHES_IN_FLIGHT, WINDOW, Load, Sent, batches, requests
from exchange.config import Config

PERCENTS = (0, 10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 92.5, 95, 97.5, 98, 99, 99.5, 99.75, 99.9, 99.95, 99.99)
ASKED_RATE = 1_000
IDLE_SLICES, IDLE_SECONDS = 2, 2.0  # of what has the machine for itself; a slice is no longer than that
P50_BEYOND_MS, P99_BEYOND_MS = 0.3, 1.0


@dataclass(frozen=True)
class Sizes:
    clients: tuple[int, ...] = (1, 10, 100)
    seconds: float = 0.8  # of each sample of acks/s
    repeats: int = 3
    echo_seconds: float = 0.5
    rates: tuple[int, ...] = (100, 1_000, 10_000)
    slices: tuple[int, ...] = (3, 8, 4)  # of the exchange, and of the bare loop under the same load, for each rate
    slice_seconds: tuple[float, ...] = (3.5, 1.5, 1.5)
    warm_seconds: float = 0.3


QUICK = Sizes(
    clients=(2,),
    seconds=0.1,
    repeats=1,
    echo_seconds=0.05,
    rates=(ASKED_RATE,),
    slices=(2,),
    slice_seconds=(0.1,),
    warm_seconds=0.05,
)


def measure(quick: bool = False, sizes: Sizes | None = None, folder: Path | None = None) -> dict[str, Any]:
    """Return the part's results. `folder` is where the exchange's data is, by default that of temporary files."""
    sizes = sizes or (QUICK if quick else Sizes())
    part = Part("order_entry", "Order entry")
    echoes = {clients: echo_rates(sizes.echo_seconds, 2, clients) for clients in sizes.clients}
    acks = 0
    with running(ASSETS, folder) as (config, _), zmq.Context() as context:
        database = Database(config)
        before = database.requests()
        for rate, slices, seconds in zip(sizes.rates, sizes.slices, sizes.slice_seconds, strict=True):
            acks += latency(part, context, config, rate, slices, seconds, sizes.warm_seconds)
        database.wait_for_requests(before + acks)
        sent = throughput(context, config, database, sizes)
        acks += sum(each.acks for samples in sent.values() for each in samples)
        database.wait_for_requests(before + acks)
        part.details["acks"], part.details["stored"] = acks, database.requests() - before
        database.close()
    for clients, rates in echoes.items():
        rates += echo_rates(sizes.echo_seconds, 2, clients)
    report_throughput(part, sent, echoes)
    return part.as_json()


def throughput(
    context: zmq.Context[zmq.Socket[bytes]], config: Config, database: Database, sizes: Sizes
) -> dict[tuple[int, bool], list[Sent]]:
    """Return what was sent, by number of clients and whether in batches: first what warms up, then each repeat."""
    sent: dict[tuple[int, bool], list[Sent]] = {}
    stored = database.requests()
    for in_batches in (False, True):
        for clients in sizes.clients:
            stream = requests(f"{'b' if in_batches else 's'}{clients}")
            next_message = (batches(stream) if in_batches else stream).__next__
            load = Load(context, config.endpoints.order_entry, clients)
            window = BATCHES_IN_FLIGHT if in_batches else WINDOW
            samples = sent[clients, in_batches] = []
            for seconds in (sizes.warm_seconds, *[sizes.seconds] * sizes.repeats):
                samples.append(load.run(seconds, next_message, window))
                stored += samples[-1].acks
                database.wait_for_requests(stored)  # a sample does not carry the rest of the one before
            load.close()
    return sent


def report_throughput(part: Part, sent: dict[tuple[int, bool], list[Sent]], echoes: dict[int, list[float]]) -> None:
    bars: dict[str, list[tuple[float, float]]] = {}
    for (clients, in_batches), (_, *samples) in sent.items():
        form = f"in batches of {BATCH}" if in_batches else "one by one"
        name = f"acks {form}, {clients} client{'s' if clients > 1 else ''}"
        share = figures.median([each.cpu_share for each in samples])
        figure = Figure(
            name,
            "acks/s",
            [each.acks_per_second for each in samples],
            limit_name=f"bare echo, {clients} client{'s' if clients > 1 else ''}, messages/s",
            limit_samples=echoes[clients],
            note=f"load generator: {share:.0%} of a core",
        )
        part.figures.append(figure)
        bars.setdefault(form, []).append((len(bars.get(form, ())), figure.value))
    bars["bare echo"] = [(place, figures.median(rates)) for place, rates in enumerate(echoes.values())]
    part.charts.append(
        Chart(
            "acks",
            "Durable acks/s",
            "clients",
            "acks/s",
            bars,
            "bars",
            y_scale="linear",
            categories=[str(clients) for clients in echoes],
        )
    )


@dataclass
class Slices:
    """The latencies of the slices of one kind, in seconds."""

    name: str
    slices: list[list[float]]

    @property
    def ordered(self) -> list[float]:
        return sorted(latency for each in self.slices for latency in each)

    def percentiles(self, percent: float) -> list[float]:
        """Return a percentile of each slice, in milliseconds."""
        return [percentile(sorted(each), percent) * 1000 for each in self.slices]

    def curve(self) -> list[tuple[float, float]]:
        """Return the points of the percentile plot: as many nines as there are values for.

        What came before what it is timed from, as a trade may before its order's ack, has no place on its axis.
        """
        ordered = self.ordered
        points = [
            (percent, percentile(ordered, percent) * 1000)
            for percent in PERCENTS
            if percent <= 50 or len(ordered) * (100 - percent) / 100 >= 1
        ]
        return [(percent, value) for percent, value in points if value > 0]


def latency(
    part: Part,
    context: zmq.Context[zmq.Socket[bytes]],
    config: Config,
    rate: int,
    slices: int,
    seconds: float,
    warm_seconds: float,
) -> int:
    """Add the latencies at a rate to the part, and return how many requests were acknowledged."""
    load = Load(context, config.endpoints.order_entry)
    next_request = requests(f"l{rate}").__next__
    acks = Slices("order to ack", [])
    loaded = Slices("bare fdatasync, same load", [])
    idle_seconds = min(seconds, IDLE_SECONDS)
    idle_syncs = [sync_latencies(config.data, rate, idle_seconds) for _ in range(IDLE_SLICES)]
    alone = Slices("bare fdatasync, idle machine", idle_syncs)
    echo = Slices("bare echo, idle machine", [echo_latencies(rate, idle_seconds) for _ in range(IDLE_SLICES)])
    shares = []
    with Background(config.endpoints.order_entry, rate, f"g{rate}") as background:
        acknowledged = BATCH + load.open_loop(rate, warm_seconds, next_request).acks
        for _ in range(slices):
            background.start(seconds)
            loaded.slices.append(sync_latencies(config.data, rate, seconds))
            acknowledged += background.acks()
            timed = load.open_loop(rate, seconds, next_request)
            acknowledged += timed.acks
            acks.slices.append(timed.latencies)
            shares.append(timed.cpu_seconds / seconds)
    load.close()
    asked = {50.0: P50_BEYOND_MS, 99.0: P99_BEYOND_MS} if rate == ASKED_RATE else {}
    for percent in (50.0, 99.0, 99.9):
        if len(acks.ordered) * (100 - percent) < 100:
            continue
        figure = Figure(
            f"order to ack at {rate:,} orders/s, p{percent:g}",
            "ms",
            acks.percentiles(percent),
            limit_name=f"bare fdatasync under the same load, p{percent:g}",
            limit_samples=loaded.percentiles(percent),
            compared="beyond",
            # A slice is too short for so rare ones: they are of all slices together.
            pooled=percentile(acks.ordered, percent) * 1000 if percent > 99 else None,
            limit_pooled=percentile(loaded.ordered, percent) * 1000 if percent > 99 else None,
            at_most=asked.get(percent),
            note=f"load generator: {figures.median(shares):.0%} of a core",
        )
        part.figures.append(figure)
    part.charts.append(
        Chart(
            f"latency_{rate}",
            f"Order to ack at {rate:,} orders/s, from when it was due",
            "percentile",
            "ms",
            {each.name: each.curve() for each in (acks, loaded, alone, echo)},
            "percentiles",
            dashed=[loaded.name, alone.name, echo.name],
        )
    )
    percents = [percent for percent in (50.0, 90.0, 99.0, 99.9) if len(acks.ordered) * (100 - percent) >= 100]
    rows: list[list[str | float]] = [
        [each.name, *(shown(percentile(each.ordered, percent) * 1000) for percent in percents)]
        for each in (acks, loaded, alone, echo)
    ]
    head = [f"{rate:,} orders/s, ms", *(f"p{percent:g}" for percent in percents)]
    part.tables.append(Table(f"Latency at {rate:,} orders/s, of all slices together", head, rows))
    return acknowledged


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, measures nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as well")
    parser.add_argument("--folder", type=Path, help="where the exchange's data is (default: for temporary files)")
    parser.add_argument("--clients", type=int, nargs="+", help="numbers of clients")
    parser.add_argument("--seconds", type=float, help="of each sample of acks/s")
    options = parser.parse_args(arguments)
    sizes = QUICK if options.quick else Sizes()
    if options.clients:
        sizes = replace(sizes, clients=tuple(options.clients))
    if options.seconds:
        sizes = replace(sizes, seconds=options.seconds)
    return figures.run(lambda: measure(sizes=sizes, folder=options.folder), options.json, options.quick, options.folder)


if __name__ == "__main__":
    sys.exit(main())
