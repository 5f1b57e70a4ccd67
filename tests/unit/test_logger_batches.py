"""When the logger writes: few rows soon, many together, and never more than a batch."""

from collections.abc import Iterator, Sequence
from typing import Any

from daemons.logger import BATCH_ROWS, FEW_ROWS, FEW_SECONDS, MANY_SECONDS, Storage
from exchange.core.events import EventRecord, OrderAccepted
from exchange.core.requests import CancelOrder


class Recorded:
    """Sources that give what they are told to, and a writer that notes what comes."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waiting: list[list[EventRecord]] = []
        self.added = 0
        self.commits: list[int] = []
        parts: Any = self
        self.storage = Storage(parts, parts, lambda: self.now)

    def receive(self) -> Iterator[tuple[str, Sequence[EventRecord]]]:
        while self.waiting:
            yield "ACME", self.waiting.pop(0)

    def add(self, records: Sequence[EventRecord]) -> None:
        self.added += len(records)

    def commit(self) -> None:
        self.commits.append(self.added)
        self.added = 0

    def arrive(self, *messages: int) -> None:
        """Have messages of so many rows each arrive, and the logger look."""
        record = EventRecord("ACME", 1, 1, "alice", CancelOrder(1), 1, [OrderAccepted(1)])
        self.waiting += [[record] * rows for rows in messages]
        self.storage.collect()

    def turn(self, seconds: float) -> None:
        self.now += seconds
        if self.storage.due():
            self.storage.write()


def test_a_few_rows_are_written_soon() -> None:
    logger = Recorded()
    logger.turn(10 * MANY_SECONDS)
    assert logger.commits == [], "nothing came"
    logger.arrive(FEW_ROWS - 1)
    logger.turn(FEW_SECONDS / 2)
    assert logger.commits == []
    logger.turn(FEW_SECONDS)
    assert logger.commits == [FEW_ROWS - 1]


def test_many_rows_wait_for_more_and_no_longer_than_that() -> None:
    logger = Recorded()
    logger.arrive(FEW_ROWS)
    logger.turn(FEW_SECONDS)
    assert logger.commits == []
    logger.arrive(1)
    logger.turn(MANY_SECONDS)
    assert logger.commits == [FEW_ROWS + 1]
    logger.turn(10 * MANY_SECONDS)
    assert logger.commits == [FEW_ROWS + 1], "all is written"


def test_a_full_batch_is_written_at_once_and_what_follows_waits_in_the_sockets() -> None:
    logger = Recorded()
    logger.arrive(BATCH_ROWS, 1)
    logger.turn(0)
    assert (logger.commits, len(logger.waiting)) == ([BATCH_ROWS], 1)
