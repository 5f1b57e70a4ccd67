"""Bugs that are planted into the real code, one at a time: the simulation has to find each within a thousand seeds.

Each is what somebody might write, or forget: `python -m tests.simulation --mutation NAME --seeds 1-1000`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any
from unittest import mock

from msgspec.structs import replace

from exchange.core import matching_state
from exchange.core.exchange_acts import ExchangeActs
from exchange.core.matching import Matching
from exchange.pipeline import log_format, log_reader, matching_snapshots, sockets, stream
from exchange.pipeline.id_table import Checkpoint, IdTable
from exchange.pipeline.log import Log
from exchange.pipeline.log_format import RECORD, SEGMENT_HEADER_BYTES
from exchange.pipeline.order_handler import OrderHandler
from exchange.pipeline.seals import read_part
from exchange.pipeline.taken_requests import TakenRequests
from exchange.store.rows import Applied, Rows
from exchange.store.writer import Writer, define_asset

Plant = Callable[[], AbstractContextManager[object]]
MUTATIONS: dict[str, Plant] = {}


def mutation(plant: Plant) -> Plant:
    MUTATIONS[plant.__name__] = plant
    return plant


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Have the bug of that name while this lasts."""
    with MUTATIONS[name]():
        yield


# -- the order handler -------------------------------------------------------------------------------------------------


@mutation
def ack_before_sync() -> AbstractContextManager[object]:
    def commit(self: OrderHandler) -> None:
        for envelope, reply in self.replies:
            sockets.send_reply(self.clients, envelope, reply)
        self.replies.clear()
        if self.outgoing:
            self.journal.sync()
        self.push()

    return mock.patch.object(OrderHandler, "commit", commit)


@mutation
def push_before_sync() -> AbstractContextManager[object]:
    real = OrderHandler.commit

    def commit(self: OrderHandler) -> None:
        outgoing = dict(self.outgoing)
        self.push()
        self.outgoing.update(outgoing)
        real(self)

    return mock.patch.object(OrderHandler, "commit", commit)


@mutation
def journal_written_and_not_synced() -> AbstractContextManager[object]:
    def sync(self: Log) -> None:
        self.write()
        self.durable_end = self.end

    return mock.patch.object(Log, "sync", sync)


@mutation
def failed_sync_counts_as_done() -> AbstractContextManager[object]:
    def sync(self: Log) -> None:
        self.write()
        with suppress(OSError):
            self.disk.sync(self.file)
        self.durable_end = self.end

    return mock.patch.object(Log, "sync", sync)


@mutation
def ids_forgotten_at_a_start() -> AbstractContextManager[object]:
    def add_again(self: TakenRequests, record: Any, position: int) -> None:
        pass

    return mock.patch.object(TakenRequests, "add_again", add_again)


@mutation
def ids_neither_synced_nor_compared() -> AbstractContextManager[object]:
    """Either alone does no harm: ids that are lost are noticed, and read again."""

    def sync(self: IdTable) -> None:
        self._write_checkpoint(Checkpoint(self.number, self._mark, []))

    def compare(self: IdTable, checkpoint: Checkpoint) -> None:
        self._mark, self.position = checkpoint.mark, checkpoint.mark.position

    return mock.patch.multiple(IdTable, sync=sync, _compare=compare)


@mutation
def time_as_the_clock_has_it() -> AbstractContextManager[object]:
    def now(self: ExchangeActs) -> int:
        self.time = self.clock()
        return self.time

    return mock.patch.object(ExchangeActs, "_now", now)


# -- the logs ----------------------------------------------------------------------------------------------------------


@mutation
def chained_checksum_forgotten() -> AbstractContextManager[object]:
    """A record is taken although the one before it is another than when it was written; a segment likewise."""

    def parse_record(data: bytes, offset: int, previous: int) -> tuple[bytes, int] | None:
        if len(data) - offset < RECORD.size:
            return None
        before = RECORD.unpack_from(data, offset)[2]
        return real(data, offset, before)

    def open_segment(self: log_reader.LogReader, path: Any) -> Any:
        segment = log_format.read_header(path, read_part(self.disk, path, 0, SEGMENT_HEADER_BYTES))
        segment.previous = self.checksum
        return segment

    real = log_format.parse_record
    stack = ExitStack()
    stack.enter_context(mock.patch.object(log_format, "parse_record", parse_record))
    stack.enter_context(mock.patch.object(log_reader.LogReader, "_open_segment", open_segment))
    return stack


@mutation
def appended_behind_a_torn_tail() -> AbstractContextManager[object]:
    real = Log._open_last

    def open_last(self: Log, segment: Any) -> None:
        if self.tail is not None:
            self.end = self.durable_end = segment.base + self.tail.offset + self.tail.size
            self.tail = None
        real(self, segment)

    return mock.patch.object(Log, "_open_last", open_last)


@mutation
def segment_named_and_folder_not_synced() -> AbstractContextManager[object]:
    real = Log._activate_next

    def activate_next(self: Log, base: int, size: int = 0) -> None:
        with mock.patch.object(type(self.disk), "sync_folder"):
            real(self, base, size)

    return mock.patch.object(Log, "_activate_next", activate_next)


# -- between the daemons -----------------------------------------------------------------------------------------------


@mutation
def gap_check_skipped() -> AbstractContextManager[object]:
    def receive(self: stream.Receiver[Any], last: int, records: Sequence[Any]) -> Sequence[Any]:
        self.known = True
        self.sender_last = last
        self.last = max(self.last, last)
        fresh = [record for record in records if record.sequence > self.sequence]
        if fresh:
            self.sequence = fresh[-1].sequence
        return fresh

    return mock.patch.object(stream.Receiver, "receive", receive)


@mutation
def repetition_not_dropped() -> AbstractContextManager[object]:
    def receive(self: stream.Receiver[Any], last: int, records: Sequence[Any]) -> Sequence[Any]:
        self.known = True
        self.sender_last = last
        self.last = max(self.last, last)
        if not records or records[0].sequence > self.sequence + 1:
            return ()
        self.sequence = records[-1].sequence
        return records

    return mock.patch.object(stream.Receiver, "receive", receive)


# -- matching ----------------------------------------------------------------------------------------------------------


def changed_when_restored(**changes: Any) -> AbstractContextManager[object]:
    def changed(state: matching_state.MatchingState) -> Matching:
        return matching_state.restore(replace(state, **changes))

    return mock.patch.object(matching_snapshots, "restore", changed)


@mutation
def restored_without_stops() -> AbstractContextManager[object]:
    return changed_when_restored(buy_stops=[], sell_stops=[], elected=[])


@mutation
def restored_without_last_price() -> AbstractContextManager[object]:
    return changed_when_restored(last_price=0)


@mutation
def snapshot_ahead_of_the_event_log() -> AbstractContextManager[object]:
    """A snapshot is taken without the event log on disk up to there, and used whatever the log has."""

    def decode(self: matching_snapshots.MatchingSnapshots, sequence: int, body: bytes) -> Any:
        snapshot = matching_snapshots._decode_snapshot(body)
        return snapshot, matching_snapshots._decode_state(snapshot.state)

    stack = ExitStack()
    stack.enter_context(mock.patch.object(matching_snapshots.MatchingSnapshots, "_decode", decode))
    stack.enter_context(mock.patch("exchange.pipeline.event_log.EventLog.sync", lambda self: self.write()))
    return stack


# -- the database ------------------------------------------------------------------------------------------------------


@mutation
def applied_outside_the_transaction() -> AbstractContextManager[object]:
    def store(self: Writer, connection: Any, rows: Rows, reached: dict[str, Applied]) -> None:
        with connection.transaction():
            for table, data in rows.tables().items():
                self._copy(connection, table, data)
        for record in rows.definitions.values():
            define_asset(connection, record)
        self._advance(connection, reached)

    return mock.patch.object(Writer, "_store", store)
