"""The matching core alone, in messages a second of CPU time: `python -m benchmarks.core`.

- tapes: the four recorded tapes (`benchmarks.tape` has the driver), each in turns with a loop over the same tape that
  only decodes each record and makes its first report, which no engine can beat;
- streams of requests as the journal holds them, each decoded and applied: plain limit orders, cancels and amends around
  a price that moves; and the whole rulebook, with stops, icebergs, post-only, minimum quantities, day and dated orders,
  every kind of self-trade prevention, price bands, volatility interruptions, calls, auctions and halts. In turns with a
  loop that only decodes them.

Each round runs both, one after the other, the garbage collector off in both; a ratio is that of one round. What is
compared is the tape with the lowest median. The tapes lie in `../shared/tapes` beside the checkout: without them there
are the streams only.
"""

import random
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from benchmarks import figures
from benchmarks.figures import Chart, Figure, Part, Table, shown
from benchmarks.tape import RECORD, Driver, cpu_seconds, first_reports, read_tape
from exchange.core.asset import Asset
from exchange.core.matching import Matching
from exchange.core.requests import BUY, SELL, AmendOrder, CancelOrder, DefineAsset, NewOrder, Record, Request, Side
from exchange.pipeline.codec import decode_record, encode
from tests.random_requests import Profile, random_requests
from tests.support import TAPES

ROUNDS = 21
STREAM_ROUNDS = 7
REQUESTS = 50_000
LEAST_RATIO = 0.20
SEED = 23
START = 1_790_000_000_000_000_000  # in nanoseconds

RULEBOOK = Profile(
    prices=range(9_900, 10_101),
    quantities=range(1, 101),
    accounts=tuple(f"account-{number}" for number in range(20)),
    remembered=300,
    time_steps=(1_000, 10_000, 100_000),
    amends=15,
    cancels=30,
    stops=10,
    icebergs=10,
    post_onlys=10,
    min_quantities=5,
    timed=20,
    preventions=30,
    statuses=4,
    expiries=2,
    definitions=1,
    reference_prices=(10_000,),
    price_bands=(100_000,),
    volatility_bands=(0, 10_000),
)


def measure(quick: bool = False) -> dict[str, Any]:
    part = Part("core", "The matching core alone")
    tapes = sorted(TAPES.glob("*.tape.gz"))
    if tapes:
        measure_tapes(part, {path.name.removesuffix(".tape.gz"): read_tape(path) for path in tapes}, quick)
    else:
        part.details["tapes"] = f"none in {TAPES}: the streams only"
        print(f"core: no tapes in {TAPES}", file=sys.stderr)
    measure_streams(part, quick)
    return part.as_json()


def in_turns(one: Callable[[], object], other: Callable[[], object], rounds: int) -> tuple[list[float], list[float]]:
    """Return the CPU seconds of two actions in each round, the first of the two first in every other.

    Each is done once before, since the interpreter adapts its code to what it meets.
    """
    one()
    other()
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        for place in (0, 1) if number % 2 else (1, 0):
            seconds[place].append(cpu_seconds((one, other)[place]))
    return seconds


def ratios(seconds: Sequence[float], limit_seconds: Sequence[float]) -> list[float]:
    """Return the speed against the limit's of each round."""
    return [limit / spent for spent, limit in zip(seconds, limit_seconds, strict=True)]


def measure_tapes(part: Part, tapes: dict[str, bytes], quick: bool) -> None:
    measured: list[Figure] = []
    for name, records in tapes.items():
        data = records[: 2_000 * RECORD.size] if quick else records
        messages = len(data) // RECORD.size
        seconds, limits = in_turns(partial(drive, data), partial(first_reports, data), 2 if quick else ROUNDS)
        measured.append(
            Figure(
                f"tape {name}",
                "messages/s",
                [messages / each for each in seconds],
                limit_name="a loop that only decodes and makes the first report",
                limit_samples=[messages / each for each in limits],
                results=ratios(seconds, limits),
            )
        )
    slowest = min(measured, key=lambda figure: figure.result)
    part.figures.append(
        Figure(
            "matching core, the slowest of the tapes",
            slowest.unit,
            slowest.samples,
            limit_name=slowest.limit_name,
            limit_samples=slowest.limit_samples,
            results=slowest.results,
            at_least=LEAST_RATIO,
            note=slowest.name,
        )
    )
    part.figures.extend(measured)
    part.charts.append(
        Chart(
            "core_tapes",
            "The core over recorded tapes, and the loop that only decodes and makes the first report",
            "",
            "million messages/s",
            {
                "core": [(place, figure.value / 1e6) for place, figure in enumerate(measured)],
                "decoding and the first report": [
                    (place, (figure.limit or 0) / 1e6) for place, figure in enumerate(measured)
                ],
            },
            "bars",
            "linear",
            "linear",
            categories=list(tapes),
        )
    )


def drive(data: bytes) -> Driver:
    """Return the driver that has matched a tape: to let go of what it made is not part of the work."""
    driver = Driver()
    driver.run(data)
    return driver


# -- streams of requests -----------------------------------------------------------------------------------------------


def measure_streams(part: Part, quick: bool) -> None:
    count = 500 if quick else REQUESTS
    streams = {
        "plain orders": plain_requests(count),
        "the whole rulebook": list(random_requests(SEED, RULEBOOK, count)),
    }
    rows: list[list[str | float]] = []
    for name, records in streams.items():
        encoded = [encode(record) for record in records]
        rounds = 2 if quick else STREAM_ROUNDS
        seconds, limits = in_turns(partial(apply_all, encoded), partial(decode_all, encoded), rounds)
        part.figures.append(
            Figure(
                f"requests of {name}, decoded and applied",
                "requests/s",
                [len(records) / each for each in seconds],
                limit_name="a loop that only decodes them",
                limit_samples=[len(records) / each for each in limits],
                results=ratios(seconds, limits),
            )
        )
        rows.append([name, *describe(records)])
        part.details[name] = dict(zip(HEAD[1:], rows[-1][1:], strict=True))
    part.tables.append(Table("What the streams of requests come to", HEAD, rows))


def apply_all(encoded: Sequence[bytes]) -> Matching:
    matching = Matching()
    apply = matching.apply
    for payload in encoded:
        apply(decode_record(payload))
    return matching


def decode_all(encoded: Sequence[bytes]) -> None:
    for payload in encoded:
        decode_record(payload)


HEAD = ("stream", "requests", "events", "trades", "orders live in the end", "accounts")


def describe(records: Sequence[Record]) -> list[str | float]:
    """Return what came of a stream, in numbers."""
    matching = Matching()
    for record in records:
        matching.apply(record)
    matching.check()
    accounts = matching.book.accounts.values()
    live = sum(len(account.orders) for account in accounts)
    counts = (len(records), matching.event_sequence, matching.trade_id, live, len(accounts))
    return [shown(count) for count in counts]


def plain_requests(count: int) -> list[Record]:
    """Return requests of limit orders around a price that moves, with cancels and amends; the same each time.

    About a third of what is entered trades at once.
    """
    source = random.Random(SEED)
    sides: tuple[Side, Side] = (BUY, SELL)
    records = [Record("BTC-USD", 1, START, "", DefineAsset(Asset(asset="BTC-USD")))]
    live: list[tuple[int, str]] = []
    price, order_id = 100_000, 0
    while len(records) <= count:
        dice = source.random()
        if dice < 0.4 and live:
            named, account = live[-1 - source.randrange(min(len(live), 100))]
            request: Request = CancelOrder(named)
            if dice < 0.1:
                request = AmendOrder(named, None, price - source.randrange(20))
            else:
                live.remove((named, account))
        else:
            order_id += 1
            account = f"account-{source.randrange(100)}"
            side = source.choice(sides)
            price += source.choice((-1, 0, 1))
            quantity, away = source.randint(1, 100), source.randint(-3, 20)
            request = NewOrder(order_id, f"client-{order_id}", side, quantity, price - side * away)
            live.append((order_id, account))
        sequence = len(records) + 1
        records.append(Record("BTC-USD", sequence, START + 1_000 * sequence, account, request))
    return records


if __name__ == "__main__":
    sys.exit(figures.main(measure, __doc__))
