"""An append-only log of records in segment files: the order journal and the event logs are two of them.

A segment is a header and records, one after the other, to the first zero byte where a record would begin:

    header   <8sIQQI   magic, version, size, base position, checksum of the record before; zeros; its own CRC-32
    record   <IIIIQ    magic, checksum, checksum of the record before, length of the body, durable position
             body      `length` bytes

A record's checksum (CRC-32) covers all that follows it, the checksum of the record before included: each record proves
itself alone, and its place in the chain. `durable` is the position up to which the log was known to be on disk when the
record was written. It tells a torn write from damage: an invalid record with a later one that was written when the
first was on disk already is damage, and never cut.

A position is the address of a record in the whole log: its segment's base plus its offset in the file. Positions rise;
the next base is the last one plus the segment's size.

In a durable log, segments are written full of zeros ahead of their use, so that a sync is only of data, not of the
file's size; the next one is made ready by a thread, away from the writer's path. Other logs (which can be made again
from another) grow as they are written, and are never synced. A record that is larger than a segment, as the events of a
single request may be, has a segment of its own there, of its size; in a durable log there is none.
"""

import logging
import os
import struct
import zlib
from bisect import bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from exchange.pipeline.allocator import ZEROS, Allocator

VERSION = 1
SEGMENT = struct.Struct("<8sIQQI")
SEGMENT_MAGIC = b"EXCHLOG\n"
SEGMENT_HEADER_BYTES = 64
RECORD = struct.Struct("<IIIIQ")
CHAINED = struct.Struct("<IIQ")  # what of a record's header its checksum covers
MAGIC = 0x64726F52  # "Rord": never zero, and a landmark when looking for records behind damage
MAGIC_BYTES = MAGIC.to_bytes(4, "little")
MAX_BODY_BYTES = 2**31
READ_BYTES = 256 * 1024
NEAR_RECORDS = 256  # of an asset, read together where they lie near each other
NEAR_BYTES = 1024

logger = logging.getLogger(__name__)


class Damaged(Exception):
    """The log does not hold what was written to it. The text gives file, offset and what to do."""


class NoRoom(Exception):
    """No segment is left to write to, and the next one could not be allocated yet."""


class Tail(NamedTuple):
    """What follows the last valid record and is not empty: an unfinished write."""

    path: Path
    offset: int
    size: int


class Segment:
    """One segment file, open for reading and, where it is the last of a log being written, for writing."""

    __slots__ = ("base", "file", "path", "size")

    def __init__(self, path: Path, file: int, base: int, size: int) -> None:
        self.path, self.file, self.base, self.size = path, file, base, size


def segment_name(base: int) -> str:
    return f"{base:020d}.log"


def segment_header(base: int, size: int, previous: int) -> bytes:
    return _with_checksum(SEGMENT.pack(SEGMENT_MAGIC, VERSION, size, base, previous))


class Log:
    """A log in a folder. Open it with `scan`, then, to write to it, `start_writing`.

    One writer at a time, which the caller ensures by a lock. Readers in other processes may follow while it is written.
    """

    def __init__(self, folder: Path, segment_bytes: int, durable: bool) -> None:
        self.folder = folder
        self.segment_bytes = segment_bytes
        self.durable = durable
        self.segments: list[Segment] = []
        self.bases: list[int] = []
        self.checksum = 0  # of the last record
        self.end = 0  # the position after the last record written or buffered
        self.durable_end = 0  # the position up to which all is on disk
        self.buffer: list[bytes] = []
        self.buffer_start = 0  # the position of the buffer's first byte
        self.tail: Tail | None = None
        self.allocator: Allocator | None = None

    # -- opening -------------------------------------------------------------------------------------------------------

    def scan(self, on_record: Callable[[int, bytes], None] | None = None) -> None:
        """Read all segments, verify every record and its chain, and call `on_record(position, body)` for each.

        An unfinished write at the end is left alone and described in `tail`. Raises Damaged for anything else in a
        durable log; another log, which can be made again, ends where its damage begins.
        """
        paths = sorted(path for path in self.folder.glob("*.log"))
        for index, path in enumerate(paths):
            try:
                self._open_segment(path)
                self._scan_segment(self.segments[-1], on_record, last=path is paths[-1])
            except Damaged as error:
                if self.durable:
                    raise
                self._drop(paths[index:], error)
                break
        self.durable_end = self.end

    def _drop(self, paths: list[Path], error: Damaged) -> None:
        logger.warning("%s; dropped it and what follows, to be made again", error)
        if self.segments and self.segments[-1].path == paths[0]:
            os.close(self.segments.pop().file)
            self.bases.pop()
        for path in paths:
            path.unlink()

    def _open_segment(self, path: Path) -> None:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        header = os.pread(file, SEGMENT_HEADER_BYTES, 0)
        expected = self.segments[-1].base + self.segments[-1].size if self.segments else 0
        if not _is_header(header):
            os.close(file)
            raise Damaged(f"{path}: offset 0: the segment's header is damaged; restore the file from a copy")
        magic, version, size, base, _ = SEGMENT.unpack_from(header)
        if magic != SEGMENT_MAGIC or version > VERSION:
            os.close(file)
            raise Damaged(
                f"{path}: format {magic!r} version {version}, and this program reads up to version {VERSION}; "
                "run the program that wrote it, or a newer one"
            )
        if base != expected or path.name != segment_name(base):
            os.close(file)
            raise Damaged(f"{path}: begins at position {base}, {expected} is due: a segment is missing; restore it")
        self.segments.append(Segment(path, file, base, size))
        self.bases.append(base)

    def _scan_segment(self, segment: Segment, on_record: Callable[[int, bytes], None] | None, last: bool) -> None:
        data = _read_all(segment.file)
        previous = SEGMENT.unpack_from(data)[4]
        if previous != self.checksum:
            raise Damaged(
                f"{segment.path}: offset 0: does not continue the segment before, whose end is damaged or cut off; "
                "restore that one from a copy"
            )
        offset = SEGMENT_HEADER_BYTES
        while (found := parse_record(data, offset, self.checksum)) is not None:
            body, self.checksum = found
            if on_record is not None:
                on_record(segment.base + offset, body)
            offset += RECORD.size + len(body)
        self.end = segment.base + offset
        used = len(data.rstrip(b"\0"))
        if used <= offset:
            return
        if self.durable and (not last or _written_after(data, offset, segment.base)):
            raise Damaged(
                f"{segment.path}: offset {offset}: the record is damaged, and it was on disk before later ones were "
                "written, so this is no unfinished write; restore the file from a copy"
            )
        self.tail = Tail(segment.path, offset, used - offset)

    def forget_from(self, position: int) -> None:
        """Take the records from a position on, in the last segment, for an unfinished write. `start_writing` next."""
        segment = self.segments[-1]
        assert position >= segment.base + SEGMENT_HEADER_BYTES
        offset = position - segment.base
        size = self.end - position + (0 if self.tail is None else self.tail.size)
        self.checksum = RECORD.unpack(os.pread(segment.file, RECORD.size, offset))[2]
        self.end = self.durable_end = position
        self.tail = Tail(segment.path, offset, size)

    def start_writing(self) -> None:
        """Cut an unfinished write off, and make the log ready to append to."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.tail is not None:
            segment = self.segments[-1]
            logger.warning(
                "%s: offset %d: cut off an unfinished write of %d bytes",
                self.tail.path,
                self.tail.offset,
                self.tail.size,
            )
            os.ftruncate(segment.file, self.tail.offset)
            self.tail = None
        if self.segments and self.durable:
            segment = self.segments[-1]
            _fill_with_zeros(segment.file, os.fstat(segment.file).st_size, segment.size)
            os.fsync(segment.file)
        if self.durable:
            self.allocator = Allocator(self.folder, self.segment_bytes)
            if not self.segments:
                self.allocator.allocate()
                self._activate_next(0)
            self.allocator.start()
        elif not self.segments:
            self._activate_next(0)
        self.buffer_start = self.end

    # -- writing -------------------------------------------------------------------------------------------------------

    def append(self, body: bytes) -> int:
        """Add a record to the buffer and return its position. `write` or `sync` must follow.

        Raises NoRoom, changing nothing, where `has_room` says no.
        """
        size = RECORD.size + len(body)
        segment = self.segments[-1]
        if self.end + size > segment.base + segment.size:
            self._rotate(size)
        chained = CHAINED.pack(self.checksum, len(body), self.durable_end)
        self.checksum = checksum = zlib.crc32(body, zlib.crc32(chained))
        self.buffer.append(_PREFIX.pack(MAGIC, checksum) + chained + body)
        position = self.end
        self.end = position + size
        return position

    def has_room(self, size: int) -> bool:
        """Return whether records of `size` bytes in all, headers included, can be appended without a new allocation."""
        segment = self.segments[-1]
        if self.end + size <= segment.base + segment.size or self.allocator is None:
            return True
        return size <= self.segment_bytes - SEGMENT_HEADER_BYTES and self.allocator.ready.is_set()

    def keep_together(self, size: int) -> None:
        """Make sure that the next `size` bytes of records go to one segment and, so, to one write."""
        segment = self.segments[-1]
        if self.end + size > segment.base + segment.size:
            self._rotate(size)

    def write(self) -> None:
        """Write the buffer to the file. After an OSError all of it is still to be written, and may be tried again."""
        if not self.buffer:
            return
        segment = self.segments[-1]
        _pwrite_all(segment.file, b"".join(self.buffer), self.buffer_start - segment.base)
        self.buffer.clear()
        self.buffer_start = self.end

    def sync(self) -> None:
        """Write the buffer and return when all is on disk. An error leaves the log unusable: end the process."""
        self.write()
        os.fdatasync(self.segments[-1].file)
        self.durable_end = self.end

    def _rotate(self, size: int) -> None:
        if size > RECORD.size + MAX_BODY_BYTES:
            raise ValueError(f"{self.folder}: a record of {size} bytes, header included; {MAX_BODY_BYTES} is the most")
        if self.allocator is not None and not self.allocator.ready.is_set():
            raise NoRoom(
                f"{self.folder}: no room for the next segment of {self.segment_bytes} bytes: {self.allocator.error}"
            )
        if self.durable:
            self.sync()
        else:
            self.write()
        last = self.segments[-1]
        self._activate_next(last.base + last.size, size)

    def _activate_next(self, base: int, size: int = 0) -> None:
        """Begin a new segment, from the file allocated ahead where the log is durable."""
        path = self.folder / segment_name(base)
        total = max(self.segment_bytes, SEGMENT_HEADER_BYTES + size)
        header = segment_header(base, total, self.checksum)
        if self.allocator is not None:
            assert total == self.segment_bytes, "a durable record fits a segment"
            file = os.open(self.allocator.path, os.O_RDWR | os.O_CLOEXEC)
            _pwrite_all(file, header, 0)
            os.fdatasync(file)
            self.allocator.path.rename(path)
            _sync_folder(self.folder)
            self.allocator.taken()
        else:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                _pwrite_all(file, header, 0)
            except OSError:
                os.close(file)  # it is tried again for as long as the disk is full
                raise
        self.segments.append(Segment(path, file, base, total))
        self.bases.append(base)
        self.end = self.buffer_start = base + SEGMENT_HEADER_BYTES
        if self.durable:
            self.durable_end = self.end

    # -- reading -------------------------------------------------------------------------------------------------------

    def read_at(self, positions: Sequence[int], limit: int = READ_BYTES) -> list[bytes]:
        """Return the written records at rising positions, as many as about `limit` bytes of reading give.

        What lies between them is read where that is quicker than to begin anew, and not looked at.
        """
        bodies: list[bytes] = []
        data, start = b"", 0
        for number, position in enumerate(positions):
            body = _parse(data, position - start) if start <= position < start + len(data) else None
            if body is None:
                if limit <= 0:
                    break
                near = positions[min(number + NEAR_RECORDS, len(positions) - 1)]
                data, start = self._read_near(position, near + NEAR_BYTES - position), position
                limit -= len(data)
                body = _parse(data, 0)
                if body is None:
                    break
            bodies.append(body)
        return bodies

    def _read_near(self, position: int, size: int) -> bytes:
        """Return about `size` bytes of a segment from a position on, the record there whole, to where is written."""
        if position >= self.buffer_start:
            return b""
        segment = self.segments[bisect_right(self.bases, position) - 1]
        offset = position - segment.base
        end = min(segment.size, self.buffer_start - segment.base)
        data = os.pread(segment.file, min(max(size, RECORD.size), READ_BYTES, end - offset), offset)
        length = RECORD.size + _length_at(data)
        return data if length <= len(data) else os.pread(segment.file, length, offset)

    def read(self, position: int) -> bytes:
        """Return the body of the record at a position, written or still buffered."""
        if position >= self.buffer_start:
            at = self.buffer_start
            for record in self.buffer:
                if at == position:
                    return record[RECORD.size :]
                at += len(record)
        for body in self.read_at([position]):
            return body
        raise Damaged(f"{self.folder}: no record at position {position}")

    def close(self) -> None:
        if self.allocator is not None:
            self.allocator.stop()
        for segment in self.segments:
            os.close(segment.file)
        self.segments.clear()
        self.bases.clear()


_PREFIX = struct.Struct("<II")


def parse_record(data: bytes, offset: int, previous: int) -> tuple[bytes, int] | None:
    """Return (body, checksum) of the record at an offset, None where there is no valid one that follows `previous`."""
    if len(data) - offset < RECORD.size:
        return None
    magic, checksum, before, length, _ = RECORD.unpack_from(data, offset)
    start = offset + RECORD.size
    if magic != MAGIC or before != previous or length > MAX_BODY_BYTES or start + length > len(data):
        return None
    body = data[start : start + length]
    if zlib.crc32(body, zlib.crc32(data[offset + 8 : start])) != checksum:
        return None
    return body, checksum


def _parse(data: bytes, offset: int) -> bytes | None:
    """Return the body of the record at an offset, None where there is no whole and valid one."""
    if len(data) - offset < RECORD.size:
        return None
    found = parse_record(data, offset, RECORD.unpack_from(data, offset)[2])
    return None if found is None else found[0]


def _length_at(data: bytes) -> int:
    """Return the body's length of the record that begins the data, 0 where none does."""
    if len(data) < RECORD.size:
        return 0
    magic, _, _, length, _ = RECORD.unpack_from(data)
    return length if magic == MAGIC and length <= MAX_BODY_BYTES else 0


def _with_checksum(header: bytes) -> bytes:
    header = header.ljust(SEGMENT_HEADER_BYTES - 4, b"\0")
    return header + zlib.crc32(header).to_bytes(4, "little")


def _is_header(data: bytes) -> bool:
    header = data[:SEGMENT_HEADER_BYTES]
    return len(header) == SEGMENT_HEADER_BYTES and header == _with_checksum(header[:-4])


def _written_after(data: bytes, offset: int, base: int) -> bool:
    """Return whether a valid record behind `offset` was written when the bytes at `offset` were on disk already."""
    at = data.find(MAGIC_BYTES, offset + 1)
    while at >= 0:
        if len(data) - at >= RECORD.size:
            _, _, previous, _, durable = RECORD.unpack_from(data, at)
            if durable > base + offset and parse_record(data, at, previous) is not None:
                return True
        at = data.find(MAGIC_BYTES, at + 1)
    return False


def _pwrite_all(file: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view = view[written:]
        offset += written


def _read_all(file: int) -> bytes:
    """Return a file's bytes; one call may read less than all of a large one."""
    parts: list[bytes] = []
    offset = 0
    while part := os.pread(file, max(os.fstat(file).st_size - offset, 1), offset):
        parts.append(part)
        offset += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _fill_with_zeros(file: int, start: int, end: int) -> None:
    while start < end:
        start += os.pwrite(file, ZEROS[: end - start], start)


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def last_body(folder: Path) -> bytes | None:
    """Return the body of the last valid record of a log that another process may be writing, None where it is empty."""
    for path in sorted(folder.glob("*.log"), reverse=True):
        data = path.read_bytes()
        if not _is_header(data):
            continue
        checksum = SEGMENT.unpack_from(data)[4]
        offset, last = SEGMENT_HEADER_BYTES, None
        while (found := parse_record(data, offset, checksum)) is not None:
            last, checksum = found
            offset += RECORD.size + len(last)
        if last is not None:
            return last
    return None
