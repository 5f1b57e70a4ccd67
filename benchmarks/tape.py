"""Drive the real matching core over a tape of messages, and show that what comes out is right and how fast.

    python -m benchmarks.tape FILE.tape[.gz] [...]

prints one JSON line a file: `file`, `messages`, `seconds`, `messages_per_second`, `sha256`. The seconds are the CPU
time from the first record to the last, decoding included; formatting, sorting and hashing of the reports is not timed.
They are those of the best of three runs, each with a new book, since others use the machine too.

A tape has no accounts, and its modify is a cancel and an entry. The driver bridges that: all orders belong to one
account of an asset that allows self-trades, and a modify removes and enters. (Ids on a tape come back after their order
is gone; the core does not mind.) The format and the expected hashes are those of the public benchmark
`flash1-dev/matching-engine-benchmark`.

`--limit` also times the loop that decodes each record and makes only its first report, which no engine can beat.
"""

import gc
import gzip
import hashlib
import json
import struct
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from exchange.core.asset import Asset
from exchange.core.events import Event, OrderCanceled, OrderRested, TradeExecuted
from exchange.core.matching import Matching
from exchange.core.requests import BUY, SELL, Side

HEADER = struct.Struct("<8sII")
RECORD = struct.Struct("<BBBxIqQQ")
MAGIC = b"OMTAPE1\0"
NEW, CANCEL, MODIFY = 0, 1, 2
RUNS = 3
SIDES: tuple[Side, Side] = (BUY, SELL)

# A report as (type, sequence, the rest of the message), and the events of a message with its place among the reports.
Report = tuple[int, ...]


def read_tape(path: Path) -> bytes:
    """Return the records of a tape, plain or gzipped. Raises ValueError where it is not one."""
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    magic, size, count = HEADER.unpack_from(data)
    if magic != MAGIC or size != RECORD.size or len(data) != HEADER.size + size * count:
        raise ValueError(f"{path}: not a tape of {count} records of {size} bytes")
    return data[HEADER.size :]


class Driver:
    """The bridge between a tape's messages and the matching core."""

    def __init__(self) -> None:
        self.matching = Matching(Asset(asset="TAPE", self_trade="allow"))
        self.reports: list[Report] = []

    def run(self, data: bytes) -> None:
        """Apply all records, making each one's first report; the core's events stay in `matching.events`."""
        matching = self.matching
        account = matching.book.account("tape")
        find, remove = account.orders.get, matching.book.remove
        enter, cancel = matching.enter, matching.cancel
        report = self.reports.append
        for kind, side_index, immediate, quantity, price, order_id, sequence in RECORD.iter_unpack(data):
            if kind == NEW:
                report((0, sequence, side_index, order_id, price, quantity))
                side = SIDES[side_index]
            else:
                order = find(order_id)
                if order is None:
                    report((4 if kind == CANCEL else 5, sequence, order_id))
                    continue
                side = order.side
                side_index = 0 if side > 0 else 1
                if kind == CANCEL:
                    report((2, sequence, side_index, order_id, order.price))
                    cancel(order, "user_request")
                    continue
                report((3, sequence, side_index, order_id, price, quantity))
                remove(order)
            enter(order_id, account, side, price, quantity, "ioc" if immediate else "gtc")

    def lines(self) -> list[str]:
        """Return all reports in the tape's form: sorted by sequence and type, stable."""
        events = iter(self.matching.events)
        rows: list[Report] = []
        for report in self.reports:
            rows.append(report)
            if report[0] == 2:
                assert type(next(events)) is OrderCanceled
            elif report[0] in (0, 3):
                rows.extend(entry_reports(report, events))
        assert next(events, None) is None, "each event has its message"
        rows.sort(key=lambda row: (row[1], row[0]))
        return [",".join(str(int(value)) for value in row) for row in rows]


def entry_reports(report: Report, events: Iterator[Event]) -> Iterator[Report]:
    """Yield the reports of what came of an order's entry, taking just its events."""
    _, sequence, side_index, order_id, price, leaves = report
    while leaves:
        event = next(events)
        if type(event) is not TradeExecuted:
            assert type(event) in (OrderRested, OrderCanceled)
            if type(event) is OrderCanceled:
                yield (2, sequence, side_index, order_id, price)
            return
        assert event.taker_order_id == order_id
        yield (1, sequence, event.price, event.quantity, event.maker_order_id, order_id)
        leaves -= event.quantity


def digest(lines: list[str]) -> str:
    """Return the SHA-256 of the reports, as the tapes' publisher computes it."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def cpu_seconds(action: Callable[[], object]) -> float:
    """Return the CPU time that an action takes, the garbage collector off.

    The daemons don't turn it off: they freeze what they hold at the start, and make little that it has to look at.
    """
    gc.collect()
    gc.disable()
    start = time.process_time()
    made = action()
    seconds = time.process_time() - start
    del made  # not before: to free it takes time too
    gc.enable()
    return seconds


def run(path: Path) -> dict[str, object]:
    """Drive the core over one tape and return the figures of its line."""
    data = read_tape(path)
    best = float("inf")
    for _ in range(RUNS):
        driver = Driver()
        best = min(best, cpu_seconds(partial(driver.run, data)))
        driver.matching.check()
    messages = len(data) // RECORD.size
    return {
        "file": str(path),
        "messages": messages,
        "seconds": round(best, 4),
        "messages_per_second": round(messages / best),
        "sha256": digest(driver.lines()),
    }


def first_reports(data: bytes) -> list[Report]:
    """Decode each record and make only its first report."""
    reports: list[Report] = []
    report = reports.append
    for kind, side_index, _immediate, quantity, price, tape_id, sequence in RECORD.iter_unpack(data):
        if kind == NEW:
            report((0, sequence, side_index, tape_id, price, quantity))
        elif kind == CANCEL:
            report((2, sequence, side_index, tape_id, price))
        else:
            report((3, sequence, side_index, tape_id, price, quantity))
    return reports


def run_limit(path: Path) -> dict[str, object]:
    """Time the loop that makes only the first reports, as often."""
    data = read_tape(path)
    best = min(cpu_seconds(partial(first_reports, data)) for _ in range(RUNS))
    return {"limit_seconds": round(best, 4), "limit_per_second": round(len(data) // RECORD.size / best)}


def main(arguments: list[str]) -> int:
    limit = "--limit" in arguments
    files = [Path(argument) for argument in arguments if argument != "--limit"]
    if not files:
        print("usage: python -m benchmarks.tape [--limit] FILE.tape[.gz] [...]", file=sys.stderr)
        return 2
    for path in files:
        try:
            read_tape(path)
        except (OSError, EOFError, ValueError, struct.error) as error:
            print(f"{path}: can't be read as a tape: {error}", file=sys.stderr)
            return 2
    for path in files:
        figures = run(path)
        if limit:
            figures |= run_limit(path)
        print(json.dumps(figures), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
