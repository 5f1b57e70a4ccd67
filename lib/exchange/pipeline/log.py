"""An append-only log of records in segment files: the order journal and the event logs are two of them.

How it lies on disk, and what a position is, is in `log_format.py`.

In a durable log, segments are written full of zeros ahead of their use, so that a sync is only of data, not of the
file's size; the next one is made ready beside the loop, away from the writer's path. Other logs (which can be made
again from another) grow as they are written, and the one that is being written is never synced. A record that is larger
than a segment, as the events of a single request may be, has a segment of its own there, of its size; in a durable log
there is none.

A segment that is full gets a seal (`seals.py`): its owner finds it in `filled`, and gives the `sealer` what is to be in
it. At a start, sealed segments are not read record by record: those of a durable log are compared with their CRC-32,
others are not read at all, each record proving itself when it is.
"""

import logging
import zlib
from bisect import bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path
from zlib import crc32

from exchange.pipeline.allocator import ZEROS, Allocator
from exchange.pipeline.log_format import (
    CHAINED,
    MAGIC,
    MAX_BODY_BYTES,
    PREFIX,
    RECORD,
    SEGMENT_HEADER_BYTES,
    Archived,
    Damaged,
    Segment,
    durable_before,
    read_file,
    segment_header,
    segment_name,
    written_to,
)
from exchange.pipeline.log_reader import READ_BYTES, LogReader, Tail, last_body
from exchange.pipeline.seals import UNFINISHED, Seal, Sealer, seal_name, seal_path
from exchange.pipeline.world import World

__all__ = [
    "MAX_BODY_BYTES",
    "READ_BYTES",
    "RECORD",
    "SEGMENT_HEADER_BYTES",
    "Archived",
    "Damaged",
    "Log",
    "NoRoom",
    "last_body",
    "segment_name",
]

RECORD_BYTES = RECORD.size  # of a record's header

logger = logging.getLogger(__name__)


class NoRoom(Exception):
    """No segment is left to write to, and the next one could not be allocated yet."""


class Log(LogReader):
    """A log in a folder. Open it with `scan`, then, to write to it, `start_writing`.

    One writer at a time, which the caller ensures by a lock. Readers in other processes may follow while it is written.
    """

    def __init__(self, world: World, folder: Path, segment_bytes: int, durable: bool) -> None:
        super().__init__(world.disk, folder, durable)
        self.world = world
        self.segment_bytes = segment_bytes
        self.sealer = Sealer(world, durable)
        self.allocator: Allocator | None = None
        self.until = 0  # the position up to which the last segment takes records

    def forget_from(self, position: int) -> None:
        """Take the records from a position on, in the last segment, for an unfinished write. `start_writing` next."""
        segment = self.segments[-1]
        assert position >= segment.base + SEGMENT_HEADER_BYTES
        offset = position - segment.base
        data = read_file(self.disk, segment.path)
        self.checksum = RECORD.unpack_from(data, offset)[2]
        self.crc = zlib.crc32(memoryview(data)[:offset])
        self.tail = Tail(segment.path, offset, written_to(data) - offset)
        self.end = self.durable_end = position

    def drop_from(self, position: int) -> None:
        """Take away the records from a position on, of a log that can be made again, and close it. Open another then.

        Its end may be before the position, if there is damage too.
        """
        assert not self.durable, "what was acknowledged is not dropped"
        if position < self.bases[0]:
            raise self._archived(position)
        number = bisect_right(self.bases, position) - 1
        segment = self.segments[number]
        self.sealer.forget_from(segment.base)
        for base in reversed(self.bases[number + 1 :]):
            self._remove(base)
        self.disk.unlink(seal_path(segment.path), missing_ok=True)
        file = self.disk.open(segment.path)
        try:
            self.disk.truncate(file, position - segment.base)
        finally:
            self.disk.close(file)
        self.close()

    def _remove(self, base: int) -> None:
        self.disk.unlink(self.folder / seal_name(base), missing_ok=True)
        self.disk.unlink(self.folder / segment_name(base), missing_ok=True)

    def start_writing(self) -> None:
        """Cut an unfinished write off, and make the log ready to append to."""
        self.disk.make_folder(self.folder)
        for name in self.disk.names(self.folder):
            if name.endswith(UNFINISHED):
                self.disk.unlink(self.folder / name)
        for base in reversed(self.dropped):
            self._remove(base)
        if self.segments:
            self._open_last(self.segments[-1])
        if self.durable:
            self.allocator = Allocator(self.world, self.folder, self.segment_bytes)
            if not self.segments:
                self.allocator.allocate()
                self._activate_next(self.end)
            elif self.segments[-1].base + self.segments[-1].size - self.end < self.segment_bytes // 4:
                self._allocate_at_once(self.allocator)
            else:
                self.allocator.begin()
        elif not self.segments:
            self._activate_next(self.end)
        elif (last := self.segments[-1]).sealed:
            file = self.file
            self._activate_next(last.base + last.size)
            self._keep_open(last.base, file)
        self.buffer_start = self.end

    def _allocate_at_once(self, allocator: Allocator) -> None:
        """Make the next segment before the start goes on: the start may have more to write than the last one takes."""
        try:
            allocator.allocate()
        except OSError:
            allocator.begin()

    def _open_last(self, segment: Segment) -> None:
        self.file = self.disk.open(segment.path)
        self.until = segment.base + segment.size
        if self.tail is not None:
            path, offset, size = self.tail
            logger.warning("%s: offset %d: cut off an unfinished write of %d bytes", path, offset, size)
            self.disk.truncate(self.file, offset)
            self.tail = None
        if not segment.sealed:
            self.disk.unlink(seal_path(segment.path), missing_ok=True)
        if self.durable:
            done = self.disk.size(self.file)
            while done < segment.size:
                self.disk.write(self.file, ZEROS[: segment.size - done], done)
                done += len(ZEROS)
            self._write_end_again(segment)
            self.disk.sync(self.file)
            self.disk.sync_folder(self.folder)  # whoever gave the segment its name may have been killed before that

    def _write_end_again(self, segment: Segment) -> None:
        """Write what was not known to be on disk when it was written once more, for a sync to come to put it there.

        After a sync that failed, whose process ended with that, the kernel may take it for written: it can be read, and
        the next sync would pass it over.
        """
        end = self.end - segment.base
        data = self.disk.read(self.file, end, 0)
        start = max(durable_before(data, end) - segment.base, SEGMENT_HEADER_BYTES)
        if start < end:
            self.disk.write(self.file, data[start:], start)

    # -- writing -------------------------------------------------------------------------------------------------------

    def append(self, body: bytes) -> int:
        """Add a record to the buffer and return its position. `write` or `sync` must follow.

        Raises NoRoom, changing nothing, where `has_room` says no.
        """
        length = len(body)
        position = self.end
        end = position + RECORD_BYTES + length
        if end > self.until:
            self._rotate(RECORD_BYTES + length)
            position = self.end
            end = position + RECORD_BYTES + length
        chained = CHAINED.pack(self.checksum, length, self.durable_end) + body
        self.checksum = checksum = crc32(chained)
        self.buffer.append(PREFIX.pack(MAGIC, checksum) + chained)
        self.end = end
        return position

    def append_run(self, bodies: Sequence[bytes], note: Callable[[int], None]) -> int:
        """Add the first of some records, as many as the last segment has room for, and return how many these are.

        `note` is given the offset of each in the segment. It does what `append` does, in two thirds of the time.
        """
        base, until, durable_end, add = self.base, self.until, self.durable_end, self.buffer.append
        position, checksum = self.end, self.checksum
        count = 0
        for body in bodies:
            length = len(body)
            end = position + RECORD_BYTES + length
            if end > until:
                break
            chained = CHAINED.pack(checksum, length, durable_end) + body
            checksum = crc32(chained)
            add(PREFIX.pack(MAGIC, checksum) + chained)
            note(position - base)
            position = end
            count += 1
        self.end, self.checksum = position, checksum
        return count

    def has_room(self, size: int) -> bool:
        """Return whether records of `size` bytes in all, headers included, can be appended without a new allocation."""
        if self.end + size <= self.until or self.allocator is None:
            return True
        return size <= self.segment_bytes - SEGMENT_HEADER_BYTES and self.allocator.ready

    def keep_together(self, size: int) -> None:
        """Make sure that the next `size` bytes of records go to one segment and, so, to one write."""
        if self.end + size > self.until:
            self._rotate(size)

    def write(self) -> None:
        """Write the buffer to the file. After an OSError all of it is still to be written, and may be tried again."""
        if not self.buffer:
            return
        data = b"".join(self.buffer)
        self.disk.write(self.file, data, self.buffer_start - self.segments[-1].base)
        self.crc = zlib.crc32(data, self.crc)
        self.buffer.clear()
        self.buffer_start = self.end

    def sync(self) -> None:
        """Write the buffer and return when all is on disk. An error leaves the log unusable: end the process."""
        self.write()
        self.disk.sync(self.file)
        self.durable_end = self.end

    def sync_all(self) -> None:
        """Do as `sync`, of a log that is not durable: with the segments that are filled and not sealed."""
        for segment in reversed(self.segments[:-1]):
            if segment.sealed:
                break
            self.disk.sync(self._file(segment))
        self.sync()

    def tend(self, now: float) -> list[Seal]:
        """Try again what failed for want of room, and return the seals that are in place since. `now` in seconds."""
        if self.allocator is not None:
            self.allocator.tend(now)
        return self.sealer.tend(now)

    def _rotate(self, size: int) -> None:
        if size > RECORD.size + MAX_BODY_BYTES:
            raise ValueError(f"{self.folder}: a record of {size} bytes, header included; {MAX_BODY_BYTES} is the most")
        if self.allocator is not None and not self.allocator.ready:
            raise NoRoom(
                f"{self.folder}: no room for the next segment of {self.segment_bytes} bytes: {self.allocator.error}"
            )
        if self.durable:
            self.sync()
        else:
            self.write()
        last, end, crc, file = self.segments[-1], self.end, self.crc, self.file
        self._activate_next(last.base + last.size, size)
        last.end, last.checksum, last.crc = end - last.base, self.checksum, crc
        self._keep_open(last.base, file)
        self.filled.append(last)

    def _activate_next(self, base: int, size: int = 0) -> None:
        """Begin a new segment, from the file allocated ahead where the log is durable."""
        path = self.folder / segment_name(base)
        total = max(self.segment_bytes, SEGMENT_HEADER_BYTES + size)
        header = segment_header(base, total, self.checksum)
        self.disk.unlink(seal_path(path), missing_ok=True)
        allocated = None if self.allocator is None else self.allocator.path
        assert allocated is None or total == self.segment_bytes, "a durable record fits a segment"
        file = self.disk.open(path if allocated is None else allocated, create=allocated is None)
        try:
            self.disk.write(file, header, 0)
            if allocated is not None:
                self.disk.sync(file)
                self.disk.rename(allocated, path)
                self.disk.sync_folder(self.folder)
        except OSError:
            self.disk.close(file)  # it is tried again for as long as the disk is full
            raise
        if self.allocator is not None:
            self.allocator.begin()
        self.file = file
        self.segments.append(Segment(path, base, total, self.checksum))
        self.bases.append(base)
        self.until = base + total
        self._begin_segment(base)
        self.crc = zlib.crc32(header)
        self.end = self.buffer_start = base + SEGMENT_HEADER_BYTES
        if self.durable:
            self.durable_end = self.end

    def close(self) -> None:
        self.sealer.stop()
        if self.allocator is not None:
            self.allocator.stop()
        for file in (*self.files.values(), self.file):
            if file >= 0:
                self.disk.close(file)
        self.files.clear()
        self.file = -1
        self.segments.clear()
        self.bases.clear()
