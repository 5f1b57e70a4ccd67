"""One asset: its event log, a fresh run of the matching core, quantities and rows, in one pass over its requests."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from exchange.audit.conservation import Conservation
from exchange.audit.database import Database
from exchange.audit.findings import AssetSummary, Difference
from exchange.audit.journal import STEP, DecodeError, Journal, Progress, Queue, decode_record
from exchange.audit.log_files import LogFiles
from exchange.audit.seals import Seals
from exchange.audit.snapshots import read_snapshots
from exchange.audit.stored import Stored
from exchange.audit.values import record_difference, request_difference, shown
from exchange.core.events import EventRecord
from exchange.core.matching import Matching
from exchange.core.requests import Record

CHECK = "event log"
REMEDY = (
    "an event log is a function of the journal: where it is damaged, move that segment and those after it away and "
    "start the matching daemon, which makes them again; where it was written by another program, run that one"
)

encode = msgspec.msgpack.Encoder().encode
decode_event_record = msgspec.msgpack.Decoder(EventRecord).decode


class Step(Struct):
    """A request's result, and where it is on disk."""

    result: EventRecord
    files: LogFiles
    position: int


class AssetAudit:
    """Audits an asset up to the journal's bound; the database, where one is given, up to `applied`.

    `folders` are those of its event log, the one that is written first.
    """

    def __init__(self, journal: Journal, queue: Queue, folders: Sequence[Path], database: Database | None) -> None:
        self.journal = journal
        self.queue = queue
        self.asset = queue.asset
        self.notes: list[str] = []
        self.log = LogFiles(CHECK, folders, durable=False, remedy=REMEDY)
        self.seals = Seals(self.log, self.notes)
        self.logged = self.log.records()
        self.next = next(self.logged, None)  # of the log's records, the next one
        self.log_first = 0 if self.next is None else self._decode(self.next[0], self.next[1]).sequence
        self.log_last = self.log_first - 1 if self.log_first else 0
        if self.log.whole and self.log_first > 1:
            start = self.log.start.position
            raise self._of_log(start, "its first requests are missing", "request 1", f"request {self.log_first}")
        self.core = Matching() if queue.first == 1 else None
        self.replayed_from = 1 if self.core else 0
        self.whole = self.core is not None or self.log_first == 1
        self.fold = Conservation(self.asset, self.whole, keep_states=database is not None)
        self.stored = None if database is None else Stored(database, self.asset, self.whole)
        self.snapshots = read_snapshots(folders[0] / "snapshots", self.notes)
        self.snapshots_checked = 0

    def run(self, progress: Progress) -> AssetSummary:
        """Go through all of it. Raises Difference."""
        self._check_bound()
        if self.stored is None:
            return self._run(progress, 0)
        self.stored.begin()
        try:
            return self._run(progress, self.stored.applied.sequence)
        finally:
            self.stored.end()

    def _run(self, progress: Progress, applied: int) -> AssetSummary:
        queue, fold, stored = self.queue, self.fold, self.stored
        if stored is not None and not applied and self.whole:
            stored.finish(None, fold)
        total = queue.last
        for step in self._replay() if self.core is not None else self._read_log():
            result = step.result
            sequence = result.sequence
            try:
                fold.add(result)
                if stored is not None and sequence <= applied:
                    stored.take(result)
                    if sequence == applied:
                        stored.finish(result, fold)
            except Difference as difference:
                raise difference.at(sequence=sequence, **step.files.file_at(step.position)) from None
            if not sequence % STEP:
                progress(self.asset, sequence, total)
        fold.finish()
        self._read_beyond(applied)
        for snapshot in self.snapshots.values():
            if snapshot.sequence <= queue.last:  # a later one has been taken since
                self.notes.append(f"{snapshot.path}: the event log does not have its record: a start passes it over")
        progress(self.asset, total, total)
        return self._summary()

    def _check_bound(self) -> None:
        applied = 0 if self.stored is None else self.stored.applied.sequence
        if applied > self.queue.last:
            raise Difference(
                "database",
                "the database is ahead of the journal, which has lost its end or is another exchange's",
                asset=self.asset,
                sequence=applied,
                table="applied",
                key=self.asset,
                expected=f"at most request {self.queue.last}, the journal's last of {self.asset}",
                found=f"request {applied}",
                remedy="restore the journal from a copy, or give this exchange the database that belongs to it",
                **self.journal.file_at(self.journal.end.position),
            )

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _replay(self) -> Iterator[Step]:
        """Run the matching core over the journal and compare the event log, up to where it reaches, with it."""
        journal, queue = self.journal, self.queue
        step = Step(None, journal.files, 0)  # type: ignore[arg-type] # the first turn sets it
        for sequence, body in enumerate(journal.files.bodies(queue.positions), queue.first):
            record = decode_record(body)
            step.result = result = self._apply(record)
            if self.next is not None and sequence >= self.log_first:
                position, logged_body, _ = self.next
                if logged_body != encode(result):
                    self._compare(record, result, position, logged_body)
                step.files, step.position = self.log, position
                self._advance(sequence, position, logged_body)
            else:
                step.files, step.position = journal.files, queue.positions[sequence - queue.first]
            yield step

    def _read_log(self) -> Iterator[Step]:
        """Go through the event log, the journal's first requests being elsewhere; compare what there is of those.

        From the first snapshot on the core can be run.
        """
        queue = self.queue
        bodies = self.journal.files.bodies(queue.positions)
        reached = queue.first - 1
        while self.next is not None:
            position, body, _ = self.next
            logged = self._decode(position, body)
            sequence = logged.sequence
            if logged.asset != self.asset or sequence != self.log_last + 1:
                raise self._of_log(
                    position,
                    "its requests are not contiguous",
                    f"request {self.log_last + 1} of {self.asset}",
                    f"request {sequence} of {logged.asset}",
                )
            if sequence > queue.last:
                return
            while reached < sequence:
                record = decode_record(next(bodies))
                reached += 1
                if reached < sequence:
                    continue
                if (difference := request_difference(record, logged)) is not None:
                    raise self._request_difference(position, sequence, *difference)
                if self.core is not None and (result := self._apply(record)) != logged:
                    self._compare(record, result, position, body)
            self._advance(sequence, position, body)
            yield Step(logged, self.log, position)

    def _apply(self, record: Record) -> EventRecord:
        assert self.core is not None, "it is run from somewhere on"
        try:
            return self.core.apply(record)
        except Exception as error:  # whatever it is, it is the finding
            found = f"{type(error).__name__}: {error}"
            what = "the matching core fails on the request"
            raise self._of_journal(record.sequence, what, "events", found) from error

    def _advance(self, sequence: int, position: int, body: bytes) -> None:
        """Go on to the log's next record; compare a snapshot that was taken behind this one."""
        self.seals.note(self.asset, sequence, position)
        self.log_last = sequence
        self.next = next(self.logged, None)
        snapshot = self.snapshots.pop(sequence, None)
        if snapshot is None:
            return
        if not snapshot.is_of(body):
            self.notes.append(f"{snapshot.path}: the snapshot is of another history, and passed over by a start")
        elif self.core is not None:
            try:
                snapshot.check(self.core)
            except Difference as difference:
                raise difference.at(asset=self.asset) from None
            self.snapshots_checked += 1
        elif sequence >= self.queue.first - 1:
            self.core, self.replayed_from = snapshot.matching(), sequence + 1

    def _compare(self, record: Record, result: EventRecord, position: int, body: bytes) -> None:
        """Compare a logged record with what its request gives now, by value: older logs lack later fields."""
        logged = self._decode(position, body)
        if logged == result:
            return
        if (difference := request_difference(record, logged)) is not None:
            raise self._request_difference(position, result.sequence, *difference)
        what, expected, found = record_difference(result, logged)
        raised = self._of_log(
            position, f"a fresh run of the matching core gives other events: {what}", expected, found, result.sequence
        )
        try:
            self.fold.add(logged)
        except Difference as also:
            raised.finding.also = also.finding.what
        raise raised

    def _read_beyond(self, applied: int) -> None:
        """Count what the event log has behind the bound, and check that the database is not ahead of it."""
        if self.next is not None and self.log_last >= self.queue.last:
            self.log_last += 1 + sum(1 for _ in self.logged)
        if applied > self.log_last:
            raise self._of_log(
                self._log_end(),
                "the database is ahead of the event log, which has lost its end",
                f"request {applied}, the last one stored",
                f"request {self.log_last} as the last",
                applied,
            )

    # -- what came of it -----------------------------------------------------------------------------------------------

    def _summary(self) -> AssetSummary:
        stored, fold = self.stored, self.fold
        return AssetSummary(
            asset=self.asset,
            first=self.queue.first,
            journal=self.queue.last,
            event_log=self.log_last,
            database=None if stored is None else stored.applied.sequence,
            replayed_from=self.replayed_from,
            orders=len(fold.order_ids),
            trades=fold.trades,
            events=fold.events,
            rows=0 if stored is None else stored.rows,
            accounts=len(fold.positions),
            open_orders=len(fold.live),
            snapshots=self.snapshots_checked,
            seals=self.seals.checked,
        )

    def _decode(self, position: int, body: bytes) -> EventRecord:
        try:
            return decode_event_record(body)
        except DecodeError as error:
            raise self._of_log(position, "the record is no event record", "an event record", str(error)) from None

    def _log_end(self) -> int:
        segments = self.log.segments
        return segments[-1].base if segments else 0

    def _request_difference(self, position: int, sequence: int, what: str, expected: str, found: str) -> Difference:
        return self._of_log(position, f"it has another request than the journal: {what}", expected, found, sequence)

    def _of_log(self, position: int, what: str, expected: str, found: str, sequence: int | None = None) -> Difference:
        difference = Difference(
            CHECK, what, asset=self.asset, expected=shown(expected), found=shown(found), remedy=REMEDY
        ).at(**self.log.file_at(position))
        return difference if sequence is None else difference.at(sequence=sequence)

    def _of_journal(self, sequence: int, what: str, expected: str, found: str) -> Difference:
        position = self.queue.positions[sequence - self.queue.first]
        return Difference(
            "matching", what, asset=self.asset, sequence=sequence, expected=expected, found=shown(found)
        ).at(**self.journal.file_at(position))
