"""One request with a great many events: a sweep, an auction, a cascade of stops.

It is one record, larger than a segment of the event log and than what is read or sent at a time; every part of the way
has to carry it whole.
"""

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from exchange.core.events import EventRecord, OrderTriggered, TradeExecuted
from exchange.core.requests import BUY, NewOrder
from exchange.pipeline import codec
from exchange.pipeline.event_log import EventLog
from exchange.pipeline.log import MAX_BODY_BYTES, RECORD, segment_name
from exchange.pipeline.stream import Receiver
from exchange.pipeline.world import World
from exchange.store.embedded import database_dsn
from exchange.store.writer import Applied, DatabaseUnavailable, Writer
from tests.database import Connection, contents, rows
from tests.integration.outsider import Venue
from tests.support import Daemon, running, wait_until

SEGMENT_BYTES = 1024 * 1024  # the least that can be configured
START = 1_700_000_000_000_000_000


def sweep(sequence: int, event_sequence: int, trade_id: int, trades: int) -> EventRecord:
    """Return the record of a buy order that trades so many times, and triggers a stop at each trade."""
    order_id = 10_000_000 + sequence
    events: list[TradeExecuted | OrderTriggered] = []
    for number in range(trade_id, trade_id + trades):
        events.append(TradeExecuted(number, 100 + number, 1, BUY, number, order_id, "sue", "bob"))
        events.append(OrderTriggered(5_000_000 + number))
    request = NewOrder(order_id, f"c{order_id}", BUY, max(trades, 1), 10**9)
    return EventRecord("ACME", sequence, START + sequence, "bob", request, event_sequence, list(events))


def sweeps(*trades: int) -> list[EventRecord]:
    """Return records of so many trades each, one after the other."""
    records: list[EventRecord] = []
    for count in trades:
        records.append(
            sweep(len(records) + 1, 1 + 2 * sum(trades[: len(records)]), 1 + sum(trades[: len(records)]), count)
        )
    return records


# -- the event log -----------------------------------------------------------------------------------------------------


def opened(folder: Path) -> EventLog:
    event_log = EventLog(World(), folder, "ACME", SEGMENT_BYTES)
    event_log.open()
    return event_log


def written(folder: Path, records: list[EventRecord]) -> None:
    """Append the records that the event log has not got."""
    event_log = opened(folder)
    for record in records[event_log.index.last :]:
        event_log.append(codec.encode(record))
        event_log.write()
    event_log.close()


def replayed(event_log: EventLog, after: int = 0) -> list[EventRecord]:
    """Return the records that a receiver gets who asks for all after a sequence, as often as it takes."""
    receiver: Receiver[EventRecord] = Receiver("ACME", after)
    records: list[EventRecord] = []
    now = 0.0
    while (request := receiver.request(now)) is not None:
        control = codec.decode_control(request)
        _, last, sent = codec.decode_event_stream(event_log.replay(control.sequence))
        fresh = receiver.replayed(last, sent)
        assert fresh or receiver.behind == 0, "each answer gets on"
        records += fresh
    return records


SIZES = (0, 1, 60_000, 2, 0, 60_000, 40_000, 1)  # of which the large ones take several segments' room


def test_records_larger_than_a_segment_are_written_read_again_and_replayed(tmp_path: Path) -> None:
    records = sweeps(*SIZES)
    assert len(codec.encode(records[2])) > 2 * SEGMENT_BYTES
    written(tmp_path, records)
    event_log = opened(tmp_path)
    assert event_log.index.last == len(records)
    assert event_log.last_body == codec.encode(records[-1])
    for after in range(len(records) + 1):
        assert replayed(event_log, after) == records[after:]
    event_log.close()


def test_the_first_record_of_a_log_may_be_a_large_one(tmp_path: Path) -> None:
    records = sweeps(40_000, 1)
    written(tmp_path, records)
    event_log = opened(tmp_path)
    assert replayed(event_log) == records
    event_log.close()


@pytest.mark.parametrize("kept", [0, 10, 64, 64 + RECORD.size, 1_000, SEGMENT_BYTES, 2 * SEGMENT_BYTES])
def test_a_large_record_that_was_cut_off_is_made_again(tmp_path: Path, kept: int) -> None:
    """Whatever of its segment was on disk, its header included, when the process or the machine ended."""
    records = sweeps(1, 2, 60_000, 3)
    written(tmp_path, records[:3])
    os.truncate(sorted(tmp_path.glob("*.log"))[-1], kept)
    event_log = opened(tmp_path)
    assert event_log.index.last == 2
    event_log.close()
    written(tmp_path, records)
    event_log = opened(tmp_path)
    assert replayed(event_log) == records
    event_log.close()


def test_while_the_disk_is_full_nothing_is_used_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = sweeps(1, 40_000)
    event_log = opened(tmp_path)
    event_log.append(codec.encode(records[0]))
    event_log.write()

    def fail(file: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = open_files()
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", fail)
        for _ in range(100):
            with pytest.raises(OSError, match="No space"):
                event_log.append(codec.encode(records[1]))
    assert open_files() == before
    event_log.append(codec.encode(records[1]))
    event_log.write()
    assert replayed(event_log) == records
    event_log.close()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_record_that_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return MAX_BODY_BYTES + 1

    event_log = opened(tmp_path)
    with pytest.raises(ValueError, match="is the most"):
        event_log.append(Huge())
    event_log.close()
    assert (tmp_path / segment_name(0)).stat().st_size == 64


# -- the database ------------------------------------------------------------------------------------------------------


def test_a_record_of_a_great_many_events_is_stored_once_in_one_transaction(
    writer: Writer, reader: Connection, dsn: str
) -> None:
    records = sweeps(3, 100_000, 2)
    writer.write(records[:1])
    stored = contents(dsn)
    with psycopg.connect(dsn, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 10000)", [writer.backend])
    with pytest.raises(DatabaseUnavailable):
        writer.write(records[1:2])
    assert contents(dsn) == stored

    writer.open()
    assert writer.applied()["ACME"].sequence == 1
    writer.write(records[1:])
    assert writer.applied() == {"ACME": Applied(3, 200_010, 100_005, START + 3)}
    assert rows(reader, "SELECT count(*), min(trade_id), max(trade_id), sum(price - trade_id) FROM trades") == [
        (100_005, 1, 100_005, 100 * 100_005)
    ]
    assert rows(
        reader, "SELECT count(*), count(DISTINCT event_sequence), max(event_sequence), min(exec_type) FROM order_events"
    ) == [(100_005, 100_005, 200_010, "triggered")]
    assert rows(reader, "SELECT count(DISTINCT xmin::text) FROM trades WHERE trade_id BETWEEN 4 AND 100_003") == [(1,)]
    assert rows(
        reader, "SELECT status, cumulative_quantity, leaves_quantity FROM order_states WHERE order_id = 10000002"
    ) == [("filled", 100_000, 0)]


# -- the processes -----------------------------------------------------------------------------------------------------


@pytest.fixture
def venue(open_folder: Path) -> Iterator[Venue]:
    venue = Venue(open_folder, f"[journal]\nsegment_bytes = {SEGMENT_BYTES}")
    yield venue
    venue.context.destroy(linger=0)


def test_one_request_s_events_reach_the_database_whole_though_they_are_larger_than_a_segment(venue: Venue) -> None:
    """A mass cancel of 40,000 orders: the logger gets it live, and again, in a replay, after all it stored was lost."""
    count = 40_000
    postgres, logger = Daemon(venue.config, "postgres"), Daemon(venue.config, "logger")
    matching = venue.matching["ACME"]
    with running(*venue.daemons, postgres, logger):
        venue.wait_until_ready()
        for _ in range(0, count, 100):
            replies = venue.entry.ask([venue.order("alice", "buy", 10, 1000) for _ in range(100)])
            assert {reply["type"] for reply in replies} == {"ack"}
        venue.do("mass_cancel", account="alice")
        wait_until(lambda: canceled(venue) == count, "all are stored as canceled", 60)
        large = max(venue.config.event_log_folder("ACME").glob("*.log"), key=lambda path: path.stat().st_size)
        assert large.stat().st_size > SEGMENT_BYTES

        logger.kill()
        for daemon in (matching, venue.notifier):
            daemon.signal(signal.SIGTERM)
            assert daemon.wait() == 0, daemon.output()[-2000:]
            daemon.start()
        with psycopg.connect(database_dsn(venue.config), autocommit=True) as connection:
            connection.execute("TRUNCATE assets, orders, trades, order_events, applied")
        logger.start()
        wait_until(lambda: canceled(venue) == count, "all are stored again", 60)
        venue.settle()
        reply = venue.query.ask(type="sequences", account="alice")
        assert reply["sequences"] == {"execution/alice/ACME/": 2 * count}
        venue.check_alive()
        assert logger.alive, logger.output()


def canceled(venue: Venue) -> int:
    """Return how many of alice's orders are stored as canceled."""
    try:
        with psycopg.connect(database_dsn(venue.config), connect_timeout=30) as connection:
            query = "SELECT count(*) FROM order_events WHERE exec_type = 'canceled' AND reason = 'mass_cancel'"
            return int(connection.execute(query).fetchall()[0][0])
    except (psycopg.OperationalError, psycopg.errors.UndefinedTable):
        return 0
