"""Reading a log: what a start finds of it, and records by their places. `log.py` is the whole of it."""

import logging
import sys
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from exchange.pipeline.archive import archived_base
from exchange.pipeline.disk import Disk
from exchange.pipeline.log_format import (
    MAGIC_BYTES,
    RECORD,
    SEGMENT_HEADER_BYTES,
    Archived,
    Damaged,
    Segment,
    is_header,
    is_whole,
    length_at,
    parse_alone,
    parse_records,
    read_file,
    read_header,
    segment_name,
    written_after,
    written_to,
)
from exchange.pipeline.seals import Seal, read_part, read_seal, seal_name, seal_path

READ_BYTES = 256 * 1024
NEAR_RECORDS = 256  # of a stream, read together where they lie near each other
NEAR_BYTES = 1024
OPEN_FILES = 32  # of filled segments, for reading
LAST_RECORD_BYTES = 64 * 1024  # read at first to find a log's last record

logger = logging.getLogger(__name__)


class Tail(NamedTuple):
    """What follows the last valid record and is not empty: an unfinished write."""

    path: Path
    offset: int
    size: int


class LogReader:
    """The part of a `Log` that changes nothing. Open it with `scan`."""

    def __init__(self, disk: Disk, folder: Path, durable: bool) -> None:
        self.disk = disk
        self.folder = folder
        self.durable = durable
        self.segments: list[Segment] = []  # those that were not moved away
        self.bases: list[int] = []
        self.base = 0  # of the last segment
        self.on_segment: Callable[[int], None] | None = None  # is told the base of each segment that begins, before
        self.filled: list[Segment] = []  # that have no seal, nor a draft of one with the sealer: for the owner to clear
        self.file = -1  # of the last segment, where it is written
        self.files: dict[int, int] = {}  # of others, by base, the one opened first first
        self.checksum = 0  # of the last record
        self.crc = 0  # of the last segment's bytes, up to where it is written
        self.end = 0  # the position after the last record written or buffered
        self.durable_end = 0  # the position up to which all is on disk
        self.buffer: list[bytes] = []
        self.buffer_start = 0  # the position of the buffer's first byte
        self.tail: Tail | None = None
        self.dropped: list[int] = []  # bases of segments that are to be made again

    # -- opening -------------------------------------------------------------------------------------------------------

    def scan(
        self,
        on_record: Callable[[int, bytes], None] | None = None,
        on_sealed: Callable[[Seal], bool] | None = None,
        read_from: int = sys.maxsize,
    ) -> None:
        """Read and verify the log, changing nothing.

        `on_record(position, body)` is called for each record, in order. With `on_sealed` a sealed segment's records are
        not read, except from the position `read_from` on: it is called with the seal instead, before any of them, and
        returns whether it can do with that. Segments that were moved away are known by their seals only.

        An unfinished write at the end is left alone and described in `tail`. Raises Damaged for anything else in a
        durable log; another log, which can be made again, ends where its damage begins.
        """
        start = archived_base(self.disk, self.folder)
        names = self.disk.names(self.folder)
        self._pass_archived([name for name in names if name.endswith(".seal")], start, on_sealed)
        names = [name for name in names if name.endswith(".log") and name >= segment_name(start)]
        for number, name in enumerate(names):
            try:
                last = number + 1 == len(names)
                segment = self._open_segment(self.folder / name)
                self._begin_segment(segment.base)
                if not self._take_sealed(segment, on_record, on_sealed, read_from, last):
                    self._scan_segment(segment, on_record, last)
                    self.filled.append(segment)
            except Damaged as error:
                if self.durable:
                    raise
                logger.warning("%s; dropped it and what follows, to be made again", error)
                self.dropped = [int(each.removesuffix(".log")) for each in names[number:]]
                break
        if self.filled and self.filled[-1] is self.segments[-1]:
            self.filled.pop()  # it is the one that is written
        self.durable_end = self.end

    def _pass_archived(self, names: list[str], start: int, on_sealed: Callable[[Seal], bool] | None) -> None:
        while self.end < start:
            path = self.folder / seal_name(self.end)
            seal = read_seal(self.disk, path) if path.name in names else None
            if seal is None or seal.previous != self.checksum or (on_sealed is not None and not on_sealed(seal)):
                raise Damaged(
                    f"{path}: offset 0: the seal is missing or damaged, and its segment was moved away (all before "
                    f"{start} were); restore it from a copy"
                )
            self.end, self.checksum = seal.base + seal.size, seal.checksum

    def _open_segment(self, path: Path) -> Segment:
        segment = read_header(path, read_part(self.disk, path, 0, SEGMENT_HEADER_BYTES))
        expected = self.segments[-1].base + self.segments[-1].size if self.segments else self.end
        if segment.base != expected or path.name != segment_name(segment.base):
            raise Damaged(
                f"{path}: begins at position {segment.base}, {expected} is due: a segment is missing; restore it"
            )
        if segment.previous != self.checksum:
            raise Damaged(
                f"{path}: offset 0: does not continue the segment before, whose end is damaged or cut off; restore "
                "that one from a copy"
            )
        return segment

    def _begin_segment(self, base: int) -> None:
        self.base = base
        if self.on_segment is not None:
            self.on_segment(base)

    def _take_sealed(
        self,
        segment: Segment,
        on_record: Callable[[int, bytes], None] | None,
        on_sealed: Callable[[Seal], bool] | None,
        read_from: int,
        last: bool,
    ) -> bool:
        """Pass a segment by its seal. Return False, having changed nothing, where it must be read for want of one."""
        seal = None if on_sealed is None else read_seal(self.disk, seal_path(segment.path))
        if seal is None or on_sealed is None or (seal.size, seal.previous) != (segment.size, segment.previous):
            return False
        file = self.disk.open(segment.path)
        try:
            if self.disk.size(file) < seal.end:
                raise Damaged(
                    f"{segment.path}: offset {self.disk.size(file)}: ends here, and has records up to {seal.end}: its "
                    "end was lost; restore the file from a copy"
                )
            if self.durable and not is_whole(self.disk, file, seal.end, seal.crc):
                self._find_damage(segment, seal)
                return False
        finally:
            self.disk.close(file)
        if last and self.durable:
            missing = self.folder / segment_name(segment.base + segment.size)
            raise Damaged(
                f"{missing}: offset 0: the segment is missing, and the one before is full; restore it from a copy"
            )
        if not on_sealed(seal):
            return False
        self._append(segment)
        if segment.base + seal.end > read_from and on_record is not None:
            self._scan_segment(segment, on_record, last)
        segment.end, segment.checksum, segment.crc, segment.sealed = seal.end, seal.checksum, seal.crc, True
        self.end, self.checksum, self.crc = segment.base + seal.end, seal.checksum, seal.crc
        return True

    def _find_damage(self, segment: Segment, seal: Seal) -> None:
        """Raise Damaged, with the offset, unless it is the seal that does not belong to the segment."""
        data = read_file(self.disk, segment.path)
        offset, checksum = parse_records(data, SEGMENT_HEADER_BYTES, segment.previous, segment.base)
        if offset < seal.end or written_to(data) > offset:
            raise self._damaged(segment, offset)
        logger.warning("%s: is of another segment; it is made again (%d, %d)", seal.path, offset, checksum)

    def _append(self, segment: Segment) -> None:
        if not self.segments or self.segments[-1] is not segment:
            self.segments.append(segment)
            self.bases.append(segment.base)

    def _scan_segment(self, segment: Segment, on_record: Callable[[int, bytes], None] | None, last: bool) -> None:
        self._append(segment)
        data = read_file(self.disk, segment.path)
        offset, self.checksum = parse_records(data, SEGMENT_HEADER_BYTES, segment.previous, segment.base, on_record)
        self.crc = zlib.crc32(memoryview(data)[:offset])
        segment.end, segment.checksum, segment.crc = offset, self.checksum, self.crc
        self.end = segment.base + offset
        written = written_to(data)
        if written <= offset:
            return
        if self.durable and (not last or written_after(data, offset, segment.base)):
            raise self._damaged(segment, offset)
        self.tail = Tail(segment.path, offset, written - offset)

    def _damaged(self, segment: Segment, offset: int) -> Damaged:
        text = f"{segment.path}: offset {offset}: the record is damaged"
        if self.durable:
            text += (
                ", and it was on disk before later ones were written, so this is no unfinished write; restore the file "
                "from a copy"
            )
        return Damaged(text)

    # -- reading -------------------------------------------------------------------------------------------------------

    def read_at(self, base: int, offsets: Sequence[int], limit: int = READ_BYTES) -> list[bytes]:
        """Return the written records at rising offsets of a segment, as many as about `limit` bytes of reading give.

        What lies between them is read where that is quicker than to begin anew, and not looked at. Raises Damaged where
        the first of them is, Archived where the segment was moved away.
        """
        segment = self._segment(base)
        bodies: list[bytes] = []
        data, start = b"", 0
        for number, offset in enumerate(offsets):
            body = parse_alone(data, offset - start) if start <= offset < start + len(data) else None
            if body is None:
                if limit <= 0 or base + offset >= self.buffer_start:
                    break
                near = offsets[min(number + NEAR_RECORDS, len(offsets) - 1)]
                data, start = self._read_near(segment, offset, near + NEAR_BYTES - offset), offset
                limit -= len(data)
                body = parse_alone(data, 0)
                if body is None:
                    if bodies:
                        break
                    raise self._damaged(segment, offset)
            bodies.append(body)
        return bodies

    def _read_near(self, segment: Segment, offset: int, size: int) -> bytes:
        """Return about `size` bytes of a segment from an offset on, the record there whole, to where is written."""
        end = segment.end if segment is not self.segments[-1] else self.buffer_start - segment.base
        file = self._file(segment)
        data = self.disk.read(file, min(max(size, RECORD.size), READ_BYTES, max(end - offset, 0)), offset)
        length = RECORD.size + length_at(data)
        return data if length <= len(data) else self.disk.read(file, min(length, max(end - offset, 0)), offset)

    def read(self, position: int) -> bytes:
        """Return the body of the record at a position, written or still buffered. Raises Damaged, Archived."""
        if position >= self.buffer_start:
            at = self.buffer_start
            for record in self.buffer:
                if at == position:
                    return record[RECORD.size :]
                at += len(record)
            raise Damaged(f"{self.folder}: no record at position {position}")
        if position < self.bases[0]:
            raise self._archived(position)
        base = self.bases[bisect_right(self.bases, position) - 1]
        return self.read_at(base, array("Q", [position - base]))[0]

    def read_again(self, base: int, on_record: Callable[[int, bytes], None]) -> Segment:
        """Call `on_record(position, body)` for each record of a filled segment. Raises Damaged, Archived."""
        segment = self._segment(base)
        file = self._file(segment)
        data = self.disk.read(file, segment.end, 0)
        offset, checksum = parse_records(data, SEGMENT_HEADER_BYTES, segment.previous, base, on_record)
        if (offset, checksum) != (segment.end, segment.checksum):
            raise self._damaged(segment, offset)
        return segment

    def continues(self, position: int, checksum: int) -> bool:
        """Return whether the record that ends at a position has that checksum. The log need not be open."""
        names = [name for name in self.disk.names(self.folder) if name.endswith(".log")]
        number = bisect_left(names, segment_name(position)) - 1
        if number < 0:
            return False
        path = self.folder / names[number]
        offset = position - int(names[number].removesuffix(".log"))
        data = read_part(self.disk, path, 0, offset)
        if len(data) < offset or not is_header(data):
            return False
        segment = read_header(path, data)
        return parse_records(data, SEGMENT_HEADER_BYTES, segment.previous, 0) == (offset, checksum)

    def _segment(self, base: int) -> Segment:
        number = bisect_left(self.bases, base)
        if number == len(self.bases) or self.bases[number] != base:
            raise self._archived(base)
        return self.segments[number]

    def _archived(self, position: int) -> Archived:
        return Archived(
            f"{self.folder}: the record at {position} was moved away with its segment, as were all before "
            f"{self.bases[0]}; it is in the archive"
        )

    def _file(self, segment: Segment) -> int:
        if segment is self.segments[-1] and self.file >= 0:
            return self.file
        file = self.files.get(segment.base)
        if file is None:
            try:
                file = self.disk.open(segment.path)
            except FileNotFoundError:
                if segment.base < archived_base(self.disk, self.folder):
                    raise self._archived(segment.base) from None
                raise Damaged(f"{segment.path}: offset 0: the segment is missing; restore it from a copy") from None
            self._keep_open(segment.base, file)
        return file

    def _keep_open(self, base: int, file: int) -> None:
        self.files[base] = file
        if len(self.files) > OPEN_FILES:
            self.disk.close(self.files.pop(next(iter(self.files))))


def last_body(disk: Disk, folder: Path) -> bytes | None:
    """Return the body of the last valid record of a log that another process may be writing, None where it is empty.

    It is looked for from the end, so that this takes no longer for a longer log.
    """
    for name in reversed(disk.names(folder)):
        if not name.endswith(".log"):
            continue
        try:
            file = disk.open(folder / name)
        except FileNotFoundError:
            continue  # it was taken away meanwhile
        try:
            body = _last_in(disk, file)
        finally:
            disk.close(file)
        if body is not None:
            return body
    return None


def _last_in(disk: Disk, file: int) -> bytes | None:
    if not is_header(disk.read(file, SEGMENT_HEADER_BYTES, 0)):
        return None
    end = disk.size(file)
    size = LAST_RECORD_BYTES
    while end > SEGMENT_HEADER_BYTES:
        start = max(end - size, SEGMENT_HEADER_BYTES)
        data = disk.read(file, end - start, start)
        if start > SEGMENT_HEADER_BYTES and data.count(0) == len(data):
            end = start  # not written yet
            continue
        at = len(data)
        while (at := data.rfind(MAGIC_BYTES, 0, at)) >= 0:
            body = parse_alone(data, at)
            if body is not None:
                return body
            at += len(MAGIC_BYTES) - 1
        if start == SEGMENT_HEADER_BYTES:
            return None
        size *= 2
    return None
