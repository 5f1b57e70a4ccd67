"""What an order costs in the matching core, and what it takes in memory, as the book grows.

    python -m benchmarks.growth

- resting orders, 1,000 to 1,000,000, of 1,000 accounts, at up to 20,000 prices;
- price levels, 10 to 100,000, with 200,000 orders;
- accounts, 1 to 100,000, with 200,000 orders.

Each size has a process of its own, whose book is made of requests as a matching daemon decodes them, and whose garbage
collector is as the daemons have theirs, and runs. Then the processes take turns: in each round each applies the same
number of requests, half of which rest at a random price, a twentieth trade with the best order, and the others cancel
any order of the book, of which a random one is one that no cache remembers. The cost is CPU time of a request, the
collector's included; each size is compared with the smallest. The memory is what the process takes more than before it
made the book, per resting order.

(What grows outside the core, such as accounts at the order handler, assets and history: `benchmarks.growth_processes`.)
"""

import random
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from msgspec import Struct, json

from benchmarks import figures
from benchmarks.figures import Chart, Figure, Part, Table
from exchange.config import PROJECT
from exchange.core.asset import Asset
from exchange.core.matching import Matching
from exchange.core.requests import BUY, SELL, CancelOrder, DefineAsset, NewOrder, Record, Side
from exchange.pipeline.codec import decode_record, encode
from exchange.pipeline.world import World

REQUESTS = 20_000  # of a round
ROUNDS = 7
MOST_RATIO = 2.5
MOST_BYTES = 600
SEED = 7
MIDDLE = 10_000_000
START = 1_790_000_000_000_000_000  # in nanoseconds
QUANTITY = 1_000  # the least of an order


class Size(Struct, frozen=True):
    """How large a book is: orders that rest, at how many prices at most, of how many accounts."""

    orders: int
    prices: int
    accounts: int


class Ready(Struct, frozen=True):
    """What a process says when its book is made."""

    levels: int
    bytes_an_order: float
    seconds: float


RESTING = tuple(Size(orders, 20_000, 1_000) for orders in (1_000, 10_000, 100_000, 1_000_000))
LEVELS = tuple(Size(200_000, prices, 1_000) for prices in (10, 100, 1_000, 10_000, 100_000))
ACCOUNTS = tuple(Size(200_000, 20_000, accounts) for accounts in (1, 10, 100, 1_000, 10_000, 100_000))


def measure(quick: bool = False) -> dict[str, Any]:
    part = Part("growth", "Growth: the matching core")
    dimensions = {"resting orders": RESTING, "price levels": LEVELS, "accounts": ACCOUNTS}
    if quick:
        dimensions = {
            "resting orders": (Size(100, 50, 10), Size(1_000, 50, 10)),
            "price levels": (Size(500, 10, 10), Size(500, 300, 10)),
            "accounts": (Size(500, 50, 1), Size(500, 50, 400)),
        }
    for what, sizes in dimensions.items():
        grow(part, what, sizes, 300 if quick else REQUESTS, 2 if quick else ROUNDS)
    return part.as_json()


def grow(part: Part, what: str, sizes: Sequence[Size], requests: int, rounds: int) -> None:
    """Measure all sizes in turns, and add figures, a chart and a table of what came of it."""
    with ExitStack() as stack:
        books = [stack.enter_context(Book(size)) for size in sizes]
        ready = [book.ready() for book in books]
        samples: list[list[float]] = [[] for _ in books]
        for book in books:
            book.microseconds(requests)  # the first is of code that is not adapted yet
        for _ in range(rounds):
            for book, taken in zip(books, samples, strict=True):
                taken.append(book.microseconds(requests))
    counts = [count_of(what, size, each) for size, each in zip(sizes, ready, strict=True)]
    asked = what == "resting orders"
    part.figures.append(
        Figure(
            f"cost of an order in the core, {counts[-1]:,} {what}",
            "µs",
            samples[-1],
            limit_name=f"with {counts[0]:,}",
            limit_samples=samples[0],
            at_most=MOST_RATIO if asked else None,
        )
    )
    if asked:
        part.figures.append(
            Figure(
                f"memory of a resting order in the core, {counts[-1]:,} of them",
                "bytes",
                [ready[-1].bytes_an_order],
                compared="alone",
                at_most=MOST_BYTES,
                note=f"{ready[-1].levels:,} price levels, {sizes[-1].accounts:,} accounts",
            )
        )
    medians = [figures.median(each) for each in samples]
    points = [(float(count), median) for count, median in zip(counts, medians, strict=True)]
    part.charts.append(
        Chart(
            f"growth_core_{what.replace(' ', '_')}",
            f"What an order costs in the core against {what}",
            what,
            "µs",
            {"a request, random cancels": points},
        )
    )
    part.tables.append(
        Table(
            f"The core against {what}",
            (what, "orders", "levels", "accounts", "µs a request", "against the first", "bytes an order"),
            [
                (
                    f"{count:,}",
                    f"{size.orders:,}",
                    f"{each.levels:,}",
                    f"{size.accounts:,}",
                    round(median, 2),
                    round(median / medians[0], 2),
                    round(each.bytes_an_order),
                )
                for count, size, each, median in zip(counts, sizes, ready, medians, strict=True)
            ],
        )
    )


def count_of(what: str, size: Size, ready: Ready) -> int:
    return {"resting orders": size.orders, "price levels": ready.levels, "accounts": size.accounts}[what]


class Book:
    """A process with a book of some size, that applies requests to it when it is told to."""

    def __init__(self, size: Size) -> None:
        command = [sys.executable, "-m", "benchmarks.growth", "--book", json.encode(size).decode()]
        self.process = subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> "Book":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of a book ended with status {self.process.wait()}; it said why above")
        return line

    def ready(self) -> Ready:
        """Wait until the book is made."""
        return json.decode(self._line(), type=Ready)

    def microseconds(self, requests: int) -> float:
        """Have that many requests applied and return what each cost."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{requests}\n")
        self.process.stdin.flush()
        return float(self._line())


# -- within the process of a book --------------------------------------------------------------------------------------


class Market:
    """A matching core, the requests that make its book, and those that keep it at its size."""

    def __init__(self, size: Size) -> None:
        self.size = size
        self.matching = Matching()
        self.source = random.Random(SEED)
        self.sequence = 0
        self.order_id = 0
        self.live: list[tuple[int, str]] | None = (
            None  # what rests, once the book is made: notes of the benchmark's own
        )
        self.matching.apply(self.record("", DefineAsset(Asset(asset="GROWTH"))))

    def record(self, account: str, request: DefineAsset | NewOrder | CancelOrder) -> Record:
        """Return the next request as the daemon has it: decoded from bytes, so that nothing is shared with another."""
        self.sequence += 1
        record = Record("GROWTH", self.sequence, START + self.sequence, account, request)
        return decode_record(encode(record))

    def resting(self) -> Record:
        """Return an order that rests at a random price on its side of the middle."""
        source = self.source
        sides: tuple[Side, Side] = (BUY, SELL)
        side = sides[source.randrange(2)]
        price = MIDDLE - side * (1 + source.randrange(max(1, self.size.prices // 2)))
        account = f"account-{source.randrange(self.size.accounts)}"
        self.order_id += 1
        if self.live is not None:
            self.live.append((self.order_id, account))
        quantity = source.randint(QUANTITY, 2 * QUANTITY)
        return self.record(account, NewOrder(self.order_id, f"client-{self.order_id}", side, quantity, price))

    def canceled(self) -> Record:
        """Return the cancel of a random order that rests, unless it traded in this round."""
        live = self.live
        assert live is not None
        place = self.source.randrange(len(live))
        live[place], live[-1] = live[-1], live[place]
        order_id, account = live.pop()
        return self.record(account, CancelOrder(order_id))

    def taking(self) -> Record:
        """Return an order that trades with the best of the other side, and does not rest."""
        side: Side = BUY if self.source.randrange(2) else SELL
        self.order_id += 1
        price = MIDDLE + side * self.size.prices
        order = NewOrder(self.order_id, f"client-{self.order_id}", side, QUANTITY, price, "limit", "ioc")
        return self.record("taker", order)

    def fill(self) -> None:
        for _ in range(self.size.orders):
            self.matching.apply(self.resting())

    def round(self, requests: int) -> float:
        """Apply that many requests, made before, and return the CPU seconds of each."""
        accounts = self.matching.book.accounts
        self.live = [(order_id, name) for name, account in accounts.items() for order_id in account.orders]
        makers = [self.resting] * 10 + [self.taking] + [self.canceled] * 9
        records = [makers[number % 20]() for number in self.source.sample(range(requests), requests)]
        apply = self.matching.apply
        trades = self.matching.trade_id
        start = time.process_time()
        for record in records:
            apply(record)
        seconds = time.process_time() - start
        assert self.matching.trade_id > trades
        return seconds / requests


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def serve_book(size: Size) -> None:
    """Make a book, say what it took, and then apply as many requests as each line asks for."""
    world = World()
    world.settle_memory()
    market = Market(size)
    before, start = resident_bytes(), time.process_time()
    market.fill()
    spent = time.process_time() - start
    took = resident_bytes() - before
    levels = sum(len(ladder.levels) for ladder in market.matching.book.ladders[1:])
    world.settle_memory()
    print(json.encode(Ready(levels, took / size.orders, spent)).decode(), flush=True)
    for line in sys.stdin:
        print(market.round(int(line)) * 1e6, flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--book"]:
        serve_book(json.decode(sys.argv[2], type=Size))
    else:
        sys.exit(figures.main(measure, __doc__))
