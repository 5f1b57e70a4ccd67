"""The order journal: every request that was taken, of all assets, in one log, durable before it is acknowledged.

What concerns no asset (sessions, and the like) is in it too, as the queue of the asset "", which nobody is sent.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from exchange.core.requests import MassCancel, NewOrder, Record, Request
from exchange.pipeline.archive import archived_base
from exchange.pipeline.codec import decode_record, encode
from exchange.pipeline.log import RECORD, Damaged, Log
from exchange.pipeline.log_format import ARCHIVED
from exchange.pipeline.log_index import Index, Indexes
from exchange.pipeline.seals import Draft, Seal, read_seal, read_state
from exchange.pipeline.world import World

MAX_RECORD_BYTES = 512 + RECORD.size  # every field of a request is bounded, so its record is; a definition's is larger
ORDERS = "orders"  # the stream of all assets' orders by their ids; no asset's name has small letters

logger = logging.getLogger(__name__)


class Ids(Protocol):
    """Who knows where in the journal each id that clients chose was used; `taken_requests.py` is one.

    `complete` says whether it has the ids up to the state that was restored; else a start reads the whole journal.
    """

    complete: bool

    def note(self, record: Record) -> None: ...

    def add_order(self, record: Record, position: int) -> None: ...

    def add_request(self, record: Record, position: int) -> None: ...

    def add_again(self, record: Record, position: int) -> None: ...

    def synced(self) -> None: ...

    def has_room(self, ids: int) -> bool: ...

    def tend(self, now: float) -> None: ...


class Journal:
    """The journal, and where in it each record of each asset, and each order, is.

    `open` it first. `append` buffers, `sync` puts all on disk; what was appended may be read at once. To be tended now
    and then.

    Whoever is restored from the records may set `state`, which returns all that it has made from the records appended
    so far; it is called from `settle` and `open` only, when all of them are on disk. A state is kept in the seal of
    each segment, and the next start goes on from it. `prepare_seal` is called, beside the loop, after that and before
    the seal is written. `ids` is told of each record that is appended or that a start restores, and of each sync; of
    one that is to be appended a moment later it can be told before (`note`).
    """

    def __init__(self, world: World, folder: Path, segment_bytes: int) -> None:
        self.log = Log(world, folder, segment_bytes, durable=True)
        self.indexes = Indexes(self.log, lambda body: streams_of(decode_record(body)))
        self.by_name = self.indexes.by_name
        self.orders = self.indexes.of(ORDERS)
        self.state: Callable[[], bytes] | None = None
        self.prepare_seal: Callable[[], None] | None = None
        self.ids: Ids | None = None

    # -- opening -------------------------------------------------------------------------------------------------------

    def open(
        self,
        restore: Callable[[Record], None],
        downstream: dict[str, int],
        restore_state: Callable[[bytes], bool] | None = None,
    ) -> None:
        """Verify the journal, have restored what is in it, and cut an unfinished write off its end.

        `restore_state` is given the newest state that is whole; where it returns False, having done nothing, the one
        before. Then `restore` is given the records that came after, in order: all, where there is no state.

        `downstream` gives, per asset, the last sequence that somebody is known to have applied. Raises Damaged,
        changing nothing, where the journal is damaged or ends before one of them: it has lost what was acknowledged; or
        where no state is of use and segments that would have to be read were archived.
        """
        restored = 0  # the position up to which the state has it all
        sealed = 0  # the position up to which the seals say where records are
        stateless = True  # whether the newest seal has no state of use
        if restore_state is not None:
            restored, stateless = self._restore_state(restore_state)
        self._check_archived(restored)
        all_ids = self.ids is not None and not self.ids.complete
        group: list[tuple[int, Record]] = []  # of a mass cancel, until it is whole

        def on_record(position: int, body: bytes) -> None:
            record = decode_record(body)
            group.append((position, record))
            request = record.request
            if type(request) is MassCancel and request.part < request.parts:
                return
            for at, each in group:
                if at >= sealed:
                    for name in streams_of(each):
                        self._index(name).add(at - self.log.base)
                if self.ids is not None and (all_ids or at >= restored):
                    self.ids.add_again(each, at)
                if at >= restored:
                    restore(each)
            group.clear()

        def on_sealed(seal: Seal) -> bool:
            nonlocal sealed
            if not self.indexes.load(seal):
                return False
            sealed = seal.base + seal.end
            return True

        self.log.scan(on_record, on_sealed, 0 if all_ids else restored)
        if group:
            self.log.forget_from(group[0][0])
        for asset, sequence in downstream.items():
            known = self.last(asset)
            if sequence > known:
                raise Damaged(
                    f"{self.end_of_file()}: the journal ends with request {known} of {asset}, and its matching daemon "
                    f"has applied request {sequence}: the journal's end was lost; restore the file from a copy"
                )
        self.log.start_writing()
        segments = self.log.segments
        if (stateless or all_ids) and self.state is not None and len(segments) > 1 and segments[-2].sealed:
            self.log.filled.append(self.indexes.find_again(segments[-2].base))
        self._seal()

    def _restore_state(self, restore_state: Callable[[bytes], bool]) -> tuple[int, bool]:
        """Return up to which position a state was restored, 0 without one; and whether it was not the newest seal's."""
        disk, folder = self.log.disk, self.log.folder
        newest = True
        for name in reversed(disk.names(folder)):
            if not name.endswith(".seal"):
                continue
            seal = read_seal(disk, folder / name)
            if seal is not None and seal.state is not None:
                state = read_state(disk, seal)
                if state is not None and self.log.continues(seal.state.position, seal.state.checksum):
                    if restore_state(state):
                        return seal.state.position, not newest
                    logger.warning("%s: the state in the seal can't be used; an older one is taken", seal.path)
            newest = False
        return 0, True

    def _check_archived(self, restored: int) -> None:
        """Raise Damaged where records behind what was restored are in segments that were archived."""
        folder = self.log.folder
        start = archived_base(self.log.disk, folder)
        if restored < start:
            raise Damaged(
                f"{folder}: no seal here has a state that can be used, so all requests have to be read, and the "
                f"segments before position {start} were archived; put them back into this folder, with their names, "
                f"remove {folder / ARCHIVED}, and start again"
            )

    def end_of_file(self) -> str:
        """Return the file and offset at which the journal ends, for an error's text."""
        if not self.log.segments:
            return f"{self.log.folder}: (no segment)"
        segment = self.log.segments[-1]
        return f"{segment.path}: offset {self.log.end - segment.base}"

    # -- writing -------------------------------------------------------------------------------------------------------

    def note(self, record: Record) -> None:
        """Have the ids of a record known before it is appended, as one of the next: whoever repeats them is told."""
        if self.ids is not None:
            self.ids.note(record)

    def append(self, record: Record) -> bytes:
        """Buffer a record and return its body, as its asset's queue is to be sent it."""
        body = encode(record)
        log, ids, request = self.log, self.ids, record.request
        position = log.append(body)
        offset = position - log.base
        (self.by_name.get(record.asset) or self._index(record.asset)).add(offset)
        if type(request) is NewOrder:
            self.orders.add(offset)
            if ids is not None:
                ids.add_order(record, position)
        elif ids is not None:
            ids.add_request(record, position)
        return body

    def append_together(self, records: list[Record]) -> list[bytes]:
        """Buffer records that one write must carry whole."""
        self.log.keep_together(len(records) * MAX_RECORD_BYTES)
        return [self.append(record) for record in records]

    def has_room(self, records: int) -> bool:
        """Return whether so many records more, and their ids, are sure to find room on disk."""
        return self.log.has_room(records * MAX_RECORD_BYTES) and (self.ids is None or self.ids.has_room(records))

    def has_room_for(self, request: Request) -> bool:
        """Return whether a request of any size, such as a definition, is sure to find room on disk."""
        return self.log.has_room(len(encode(request)) + MAX_RECORD_BYTES)

    def sync(self) -> None:
        """Put all that was appended on disk, and settle what follows from that. Raises OSError, as `sync_records`."""
        self.sync_records()
        self.settle()

    def sync_records(self) -> None:
        """Return when all that was appended is on disk. Raises OSError, after which the process must end.

        `settle` must follow, before anything else is appended; whoever waits for the records can be told before that.
        """
        self.log.sync()

    def settle(self) -> None:
        """Note the ids that are on disk now, and have the segments sealed that were filled."""
        if self.ids is not None:
            self.ids.synced()
        if self.log.filled:
            self._seal()

    def _seal(self) -> None:
        """Have the segments that were filled sealed, the last of them with the state as of now.

        That is a few records after the segment's end: order entry takes a request before it is appended, and so before
        it is known that it will be in the next segment. All that it has taken is on disk at a sync, and not before.
        """
        log = self.log
        for segment in log.filled:
            draft = Draft(segment, self.indexes.streams_in(segment), prepare=self.prepare_seal)
            if segment is log.filled[-1] and self.state is not None:
                draft.state, draft.position, draft.checksum = self.state(), log.end, log.checksum
            log.sealer.add(draft)
        log.filled.clear()
        self.indexes.sealed(log.sealer.finished())

    def tend(self, now: float) -> None:
        """Try again what failed for want of room; let go of what has been sealed. `now` in seconds."""
        self.indexes.sealed(self.log.tend(now))
        if self.ids is not None:
            self.ids.tend(now)

    # -- reading -------------------------------------------------------------------------------------------------------

    def read(self, asset: str, sequence: int) -> Record:
        """Return a record by its place in its asset's queue. Raises IndexError, Damaged, Archived."""
        return self.record_at(self._index(asset).position(sequence))

    def read_order(self, order_id: int) -> Record:
        """Return the record that entered an order. Raises IndexError, Damaged, Archived."""
        return self.record_at(self.orders.position(order_id))

    def record_at(self, position: int) -> Record:
        """Return the record at a position. Raises Damaged, also where none begins there, and Archived."""
        return decode_record(self.log.read(position))

    def has_record_at(self, position: int) -> bool:
        """Return whether a record begins at a position, by the indexes alone. Slow where a segment has many records."""
        return any(index.has(position) for index in self.indexes.by_name.values())

    def replay(self, asset: str, sequence: int) -> bytes:
        """Return a stream message of an asset's records from a sequence on, as many as one message carries."""
        return self._index(asset).replay(sequence)

    def last(self, asset: str) -> int:
        """Return the last sequence of an asset's queue."""
        return self._index(asset).last

    def _index(self, asset: str) -> Index:
        return self.indexes.by_name.get(asset) or self.indexes.of(asset)

    def close(self) -> None:
        self.log.close()


def streams_of(record: Record) -> tuple[str, ...]:
    """Return the streams that a record is the next of."""
    return (record.asset, ORDERS) if type(record.request) is NewOrder else (record.asset,)
