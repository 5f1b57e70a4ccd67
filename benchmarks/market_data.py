"""Market data to many subscribers, beside a bare PUB loop in the same run: `python -m benchmarks.market_data`.

- deliveries/s: a flood, from the first word of it to the last byte at the last subscriber; by the real notifier, whose
  trades real orders make, to 1,000; and by the notifier's publisher alone, in a process of its own, to 10 to 5,000,
  which shows what it costs without the rest of the exchange. The bare loop is a PUB socket and a `for`.
- from the first subscriber to the last, and who is first: one message at a time, the next when all have got the last.
- fairness: the mean place in the order of receipt, of each of 100 subscribers over 10,000 real trades: from an order in
  to the trade out of the notifier, one at a time.

Subscribers are connections of this process that speak ZMTP, and the order of receipt is that of the kernel's stamps
(`benchmarks.receivers` says why). That it can be trusted shows at the plain PUB: 0, 1, 2, ..., as they connected.
"""

import resource
import sys
import time
from dataclasses import dataclass, field
from typing import Any, Literal

import zmq

from benchmarks import figures
from benchmarks.exchange import allow_files, running
from benchmarks.figures import Chart, Figure, Part, Table, percentile, shown
from benchmarks.load import encode
from benchmarks.publishing import Publisher, publisher
from benchmarks.receivers import Places, Receivers
from exchange.config import Config
from exchange.core.messages import NewOrder
from exchange.pipeline.sockets import FAIR_PLACES

ASSET = "ACME"
BATCH = 100
SPARE_FILES = 200
PLAIN, FAIR = "plain", str(FAIR_PLACES)
KINDS = (PLAIN, FAIR)
NAMES = {PLAIN: "bare PUB loop", FAIR: "fair publisher"}


@dataclass(frozen=True)
class Sizes:
    """`paced` and `flooded` are messages, for each number of subscribers."""

    subscribers: tuple[int, ...] = (10, 100, 1_000, 5_000)
    paced: tuple[int, ...] = (2_000, 2_000, 200, 40)
    flooded: tuple[int, ...] = (20_000, 4_000, 600, 100)
    repeats: int = 5
    watched: int = 100  # subscribers of the real notifier whose places are looked at,
    trades: int = 10_000  # over so many trades
    plain_messages: int = 2_000  # and over so many of a plain PUB
    many: int = 1_000  # subscribers of the real notifier that are flooded,
    burst: int = 1_000  # with so many trades


QUICK = Sizes((3, 20), (20, 10), (50, 20), 2, 20, 40, 20, 20, 100)


@dataclass
class Samples:
    """What was measured of one kind with one number of subscribers."""

    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)  # of the publisher, µs a delivery
    places: Places | None = None


def measure(quick: bool = False, sizes: Sizes | None = None) -> dict[str, Any]:
    sizes = sizes or (QUICK if quick else Sizes())
    allow_files()
    part = Part("market_data", "Market data")
    measured = {count: measure_size(count, at, sizes) for at, count in enumerate(sizes.subscribers) if fits(count)}
    for count in sizes.subscribers:
        if count not in measured:
            files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            part.details[f"skipped_{count}"] = (
                f"{count} connections don't fit the {files} files a process may have open"
            )
    with running([ASSET]) as (config, _), zmq.Context() as context:
        exchange = Trades(config, context)
        measure_fairness(part, exchange, config, sizes)
        measure_notifier(part, exchange, config, sizes)
        exchange.close()
    for count, samples in measured.items():
        report_size(part, count, samples)
    add_tables(part, measured)
    return part.as_json()


def fits(count: int) -> bool:
    return count + SPARE_FILES <= resource.getrlimit(resource.RLIMIT_NOFILE)[0]


# -- the publisher alone -----------------------------------------------------------------------------------------------


def measure_size(count: int, at: int, sizes: Sizes) -> dict[str, Samples]:
    """Measure both kinds with so many subscribers, in turns."""
    samples = {kind: Samples() for kind in KINDS}
    with publisher(PLAIN) as plain, publisher(FAIR) as fair:
        publishers = {PLAIN: plain, FAIR: fair}
        with connected(plain, count) as of_plain, connected(fair, count) as of_fair:
            receivers = {PLAIN: of_plain, FAIR: of_fair}
            for kind in KINDS:
                samples[kind].places = pace(publishers[kind], receivers[kind], sizes.paced[at])
            for _ in range(sizes.repeats):
                for kind in KINDS:
                    flood(publishers[kind], receivers[kind], sizes.flooded[at], samples[kind])
    return samples


def connected(source: Publisher, count: int) -> Receivers:
    receivers = Receivers(source.endpoint, b"trade/", count)
    receivers.settle(source.publish)
    return receivers


def pace(source: Publisher, receivers: Receivers, messages: int) -> Places:
    """Publish one message at a time."""
    places = Places(receivers.all)
    for _ in range(messages):
        source.publish()
        receivers.take(len(receivers.all))
        places.note()
    return places


def flood(source: Publisher, receivers: Receivers, messages: int, samples: Samples) -> None:
    deliveries = messages * len(receivers.all)
    used = source.cpu_seconds()
    start = time.perf_counter()
    source.publish(messages)
    receivers.take_burst(messages)
    samples.rates.append(deliveries / (time.perf_counter() - start))
    samples.cpu.append((source.cpu_seconds() - used) / deliveries * 1e6)


# -- the real notifier -------------------------------------------------------------------------------------------------


class Trades:
    """Has trades made by a real exchange: one large order rests, and each order takes 1 of it."""

    def __init__(self, config: Config, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.connect(config.endpoints.order_entry)
        self.number = 0
        self.socket.send(encode(self._order("sell", 1_000_000_000)))
        self.await_replies(1)

    def _order(self, side: Literal["buy", "sell"], quantity: int) -> NewOrder:
        self.number += 1
        return NewOrder(
            client_order_id=str(self.number), asset=ASSET, side=side, quantity=quantity, price=10_000, account=side
        )

    def make(self, count: int = 1) -> int:
        """Enter orders for so many trades; return the number of replies that will come."""
        orders = [self._order("buy", 1) for _ in range(count)]
        if count == 1:
            self.socket.send(encode(orders[0]))
            return 1
        batches = [orders[start : start + BATCH] for start in range(0, count, BATCH)]
        for batch in batches:
            self.socket.send(encode(batch))
        return len(batches)

    def one(self) -> None:
        self.await_replies(self.make())

    def await_replies(self, count: int) -> None:
        for _ in range(count):
            if not self.socket.poll(30_000):
                raise TimeoutError("an order is not answered within 30 s")
            reply = self.socket.recv()
            if b"\xa6reject" in reply:
                raise ValueError(f"rejected: {reply!r:.300}")

    def close(self) -> None:
        self.socket.close()


def measure_fairness(part: Part, exchange: Trades, config: Config, sizes: Sizes) -> None:
    """Measure the places of the real notifier's subscribers, and of those of a plain PUB."""
    with Receivers(config.endpoints.market_data, f"trade/{ASSET}/".encode(), sizes.watched) as receivers:
        receivers.settle(exchange.one)
        places = Places(receivers.all)
        for _ in range(sizes.trades):
            replies = exchange.make()
            receivers.take(len(receivers.all))
            places.note()
            exchange.await_replies(replies)
    with publisher(PLAIN) as plain, connected(plain, sizes.watched) as receivers:
        before = pace(plain, receivers, sizes.plain_messages)
    middle = (sizes.watched - 1) / 2
    part.figures += [
        Figure(
            f"furthest mean place of {sizes.watched} subscribers of the notifier from the middle, {middle:g}",
            "of the middle",
            [places.furthest],
            "plain PUB",
            [before.furthest],
            compared="alone",
            at_most=0.1,
            note=f"mean places over {sizes.trades} trades: {min(places.means):.1f} to {max(places.means):.1f}; "
            f"of a plain PUB {min(before.means):.1f} to {max(before.means):.1f}",
        ),
        Figure(
            "the subscriber that is first most often is first",
            "of the trades",
            [places.most_often_first],
            "plain PUB",
            [before.most_often_first],
            compared="alone",
            note=f"{1 / sizes.watched:g} would be each one's part",
        ),
    ]
    part.details["mean_places"] = {"notifier": places.means, "plain PUB": before.means}
    part.charts.append(
        Chart(
            "market_data_places",
            f"Mean place in the order of receipt, of each of {sizes.watched} subscribers",
            "subscriber, in the order of connection",
            "mean place, 0 is first",
            {
                "the notifier": list(enumerate(places.means, 1)),
                "plain PUB": list(enumerate(before.means, 1)),
            },
            x_scale="linear",
            y_scale="linear",
            dashed=["plain PUB"],
        )
    )


def measure_notifier(part: Part, exchange: Trades, config: Config, sizes: Sizes) -> None:
    """Measure the deliveries of real trades, in turns with those of the bare loop, with as many subscribers."""
    rates: list[float] = []
    limits = Samples()
    with (
        publisher(PLAIN) as plain,
        connected(plain, sizes.many) as of_plain,
        Receivers(config.endpoints.market_data, f"trade/{ASSET}/".encode(), sizes.many) as receivers,
    ):
        receivers.settle(exchange.one)
        for _ in range(sizes.repeats):
            flood(plain, of_plain, sizes.burst, limits)
            start = time.perf_counter()
            replies = exchange.make(sizes.burst)
            receivers.take_burst(sizes.burst)
            rates.append(sizes.burst * sizes.many / (time.perf_counter() - start))
            exchange.await_replies(replies)
    part.figures.append(
        Figure(
            f"deliveries/s of real trades, {sizes.many} subscribers",
            "1/s",
            rates,
            NAMES[PLAIN],
            limits.rates,
            at_least=0.6,
            note="from the first order in to the last trade at the last subscriber",
        )
    )


# -- what is said of it ------------------------------------------------------------------------------------------------


def report_size(part: Part, count: int, samples: dict[str, Samples]) -> None:
    plain, fair = samples[PLAIN], samples[FAIR]
    part.figures.append(
        Figure(
            f"deliveries/s of the publisher alone, {count} subscribers",
            "1/s",
            fair.rates,
            NAMES[PLAIN],
            plain.rates,
        )
    )
    part.details[f"publisher_{count}"] = {
        NAMES[kind]: {"rates": each.rates, "cpu_microseconds_per_delivery": each.cpu, "spans_ms": spans(each)}
        for kind, each in samples.items()
    }


def spans(samples: Samples) -> dict[str, float]:
    """Return p50 and p99 of the times from the first receiver to the last, in ms."""
    assert samples.places is not None
    ordered = sorted(samples.places.spans)
    return {"p50": percentile(ordered, 50), "p99": percentile(ordered, 99)}


def add_tables(part: Part, measured: dict[int, dict[str, Samples]]) -> None:
    rows: list[list[str | float]] = []
    for count, samples in measured.items():
        for kind, each in samples.items():
            assert each.places is not None
            means, span = each.places.means, spans(each)
            rows.append(
                [
                    count,
                    NAMES[kind],
                    shown(figures.median(each.rates)),
                    shown(figures.median(each.cpu)),
                    shown(span["p50"]),
                    shown(span["p99"]),
                    f"{min(means):.1f} to {max(means):.1f}",
                    f"{each.places.most_often_first:.0%}",
                ]
            )
    head = (
        "subscribers",
        "publisher",
        "deliveries/s",
        "its CPU, µs a delivery",
        "first to last, p50, ms",
        "p99, ms",
        "mean places",
        "first most often",
    )
    part.tables.append(Table("Publishers alone, one message at a time and in floods", head, rows))
    part.charts.append(
        Chart(
            "market_data_deliveries",
            "Deliveries/s by the number of subscribers",
            "subscribers",
            "deliveries/s",
            {
                NAMES[kind]: [(count, figures.median(samples[kind].rates)) for count, samples in measured.items()]
                for kind in KINDS
            },
            y_scale="linear",
            dashed=[NAMES[PLAIN]],
        )
    )


if __name__ == "__main__":
    sys.exit(figures.main(measure, __doc__))
