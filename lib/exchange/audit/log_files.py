"""A reader of the log format, for the audit alone.

Written from the format's description (`pipeline/log.py`), not with its code, so that a mistake there is not made here
as well. A log is a folder of segments, or several folders where older segments were moved away:

    segment  <8sIQQI   magic, version, size, base position, checksum of the record before; zeros; CRC-32 of 60 bytes
    record   <IIIIQ    magic, checksum, checksum of the record before, length of the body, durable position; the body

A record's checksum is the CRC-32 of all that follows it. After the last record of a segment come zeros, or the end.

Nothing is written and no lock is taken: the log may be that of a running exchange, and grow meanwhile.
"""

import os
import struct
import time
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Generator, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from msgspec import Struct

from exchange.audit.findings import Difference, Unreadable
from exchange.audit.values import shown

HEADER = struct.Struct("<8sIQQI")
HEADER_BYTES = 64
HEADER_MAGIC = b"EXCHLOG\n"
NEWEST_VERSION = 1
RECORD = struct.Struct("<IIIIQ")
RECORD_MAGIC = 0x64726F52
RECORD_MAGIC_BYTES = RECORD_MAGIC.to_bytes(4, "little")
LONGEST_BODY = 2**31
UNCHECKED_BYTES = 8  # magic and checksum, which the checksum does not cover
CHUNK_BYTES = 4 * 1024 * 1024
NEAR_RECORDS = 256
NEAR_BYTES = 2048  # records of one asset that are no further apart are read together
LOOKS = 5  # at a record that seems damaged, since its writer may be in the middle of it
PAUSE_S = 0.02


class SegmentFile(Struct, frozen=True):
    """A segment: `previous` is the checksum of the record before its first."""

    path: Path
    base: int
    size: int
    previous: int


class Place(Struct, frozen=True):
    """A position in a log with what has to come next: the checksum of the record before it."""

    position: int
    checksum: int


class LogFiles:
    """A log's segments as they are now. `durable` says that it was synced, and so that a later record proves it.

    Raises Difference where a header is damaged or a segment between two others is missing, Unreadable where a newer
    program wrote it. `check` is the name under which differences are reported, `remedy` what to do about damage.
    """

    def __init__(self, check: str, folders: Sequence[Path], durable: bool, remedy: str) -> None:
        self.check = check
        self.folders = folders
        self.durable = durable
        self.remedy = remedy
        self.unfinished = 0  # bytes of an unfinished write at the end, as of the last complete reading
        self.segments = self._list()
        self.bases = [segment.base for segment in self.segments]

    @property
    def start(self) -> Place:
        """The place of the first record that there is."""
        if not self.segments:
            return Place(HEADER_BYTES, 0)
        first = self.segments[0]
        return Place(first.base + HEADER_BYTES, first.previous)

    @property
    def whole(self) -> bool:
        """Whether the log's first segment is there."""
        return not self.segments or self.segments[0].base == 0

    def file_at(self, position: int) -> dict[str, str | int]:
        """Return a position as the file and offset of a difference."""
        if not self.segments:
            return {"file": str(self.folders[0])}
        segment = self.segment_at(position)
        return {"file": str(segment.path), "offset": position - segment.base}

    def relist(self) -> None:
        """Look for segments that were begun since."""
        self.segments = self._list()
        self.bases = [segment.base for segment in self.segments]

    @property
    def archived(self) -> int:
        """The position before which segments were moved away, as the log's folder says; 0: none were."""
        try:
            return int((self.folders[0] / "archived").read_text())
        except FileNotFoundError:
            return 0
        except ValueError:
            raise Difference(
                self.check,
                "the file that says which segments were archived is damaged",
                file=str(self.folders[0] / "archived"),
                expected="a position",
                found=shown((self.folders[0] / "archived").read_text(errors="replace")),
                remedy="restore it from a copy",
            ) from None

    # -- segments ------------------------------------------------------------------------------------------------------

    def _list(self) -> list[SegmentFile]:
        paths: dict[str, Path] = {}
        for folder in self.folders:
            for path in folder.glob("*.log"):
                paths.setdefault(path.name, path)
        segments = [self._segment_file(paths[name]) for name in sorted(paths)]
        if segments and segments[-1].path.stat().st_size < HEADER_BYTES:
            segments.pop()  # its header is being written: there is nothing in it yet
        if segments and segments[0].base > self.archived:
            raise Difference(
                self.check,
                "the first segments are missing",
                file=str(segments[0].path),
                offset=0,
                expected=f"a segment that begins at position {self.archived}: those before it were archived"
                if self.archived
                else "a segment that begins at position 0: none were archived",
                found=f"base position {segments[0].base}",
                remedy=self.remedy,
            )
        for before, segment in pairwise(segments):
            if segment.base != before.base + before.size:
                raise Difference(
                    self.check,
                    "a segment is missing",
                    file=str(segment.path),
                    offset=0,
                    expected=f"a segment that begins at position {before.base + before.size}, after {before.path.name}",
                    found=f"base position {segment.base}",
                    remedy=self.remedy,
                )
        return segments

    def _segment_file(self, path: Path) -> SegmentFile:
        for _ in range(LOOKS):
            with path.open("rb", buffering=0) as file:
                header = file.read(HEADER_BYTES)
            checksum = zlib.crc32(header[:-4]).to_bytes(4, "little")
            if len(header) == HEADER_BYTES and header[-4:] == checksum:
                break
            if len(header) < HEADER_BYTES:
                return SegmentFile(path, int(path.stem) if path.stem.isdecimal() else 0, 0, 0)
            time.sleep(PAUSE_S)
        else:
            raise Difference(
                self.check,
                "the segment's header is damaged",
                file=str(path),
                offset=0,
                expected=f"checksum {checksum.hex()}",
                found=header[-4:].hex(),
                remedy=self.remedy,
            )
        magic, version, size, base, previous = HEADER.unpack_from(header)
        if magic != HEADER_MAGIC or version > NEWEST_VERSION:
            raise Unreadable(
                f"{path}: format {magic!r} version {version}, and this program reads up to version {NEWEST_VERSION}; "
                "run the verify of the program that wrote it"
            )
        if path.name != f"{base:020d}.log":
            raise Difference(
                self.check,
                "the segment has another one's name",
                file=str(path),
                offset=0,
                expected=f"{base:020d}.log, by the base position in its header",
                found=path.name,
                remedy=self.remedy,
            )
        return SegmentFile(path, base, size, previous)

    def segment_at(self, position: int) -> SegmentFile:
        return self.segments[max(0, bisect_right(self.bases, position) - 1)]

    # -- reading all of it ---------------------------------------------------------------------------------------------

    def records(self, start: Place | None = None, end: int | None = None) -> Iterator[tuple[int, bytes, int]]:
        """Yield (position, body, checksum) of each record from a place on, each proved valid and the next of its chain.

        To the last one that is there, or to `end`, the position after one. Raises Difference where a record is damaged
        or missing; an unfinished write at the log's end is none, and counted in `unfinished`.
        """
        start = start or self.start
        self.unfinished = 0
        position, checksum = start.position, start.checksum
        for number, segment in enumerate(self.segments):
            if position >= segment.base + segment.size and segment is not self.segments[-1]:
                continue  # before the place to begin at
            first = segment.base + HEADER_BYTES
            if position < first:
                if segment.previous != checksum:
                    raise Difference(
                        self.check,
                        "the segment does not continue the one before: that one's end is missing or damaged",
                        file=str(segment.path),
                        offset=0,
                        expected=f"checksum {segment.previous:08x} of the record before, by the segment's header",
                        found=f"{checksum:08x}, of the last record there",
                        remedy=self.remedy,
                    )
                position = first
            last = number == len(self.segments) - 1
            place = yield from self._of_segment(segment, Place(position, checksum), last, end)
            position, checksum = place.position, place.checksum
            if end is not None and position >= end:
                return

    def _of_segment(
        self, segment: SegmentFile, start: Place, last: bool, end: int | None
    ) -> Generator[tuple[int, bytes, int], None, Place]:
        """Do as `records` in one segment, and return the place behind the last record."""
        unpack, crc32, header_bytes = RECORD.unpack_from, zlib.crc32, RECORD.size
        previous, offset, asked, looks = start.checksum, start.position - segment.base, CHUNK_BYTES, 0
        end_offset = segment.size if end is None else min(end - segment.base, segment.size)
        file = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while offset < end_offset:
                data = _read(file, min(asked, end_offset - offset), offset)
                view, size, at, needed = memoryview(data), len(data), 0, 0
                while size - at >= header_bytes:
                    magic, checksum, before, length, _ = unpack(data, at)
                    stop = at + header_bytes + length
                    if stop > size:
                        needed = header_bytes + length if magic == RECORD_MAGIC and length <= LONGEST_BODY else 0
                        break
                    if (
                        magic != RECORD_MAGIC
                        or before != previous
                        or crc32(view[at + UNCHECKED_BYTES : stop]) != checksum
                    ):
                        break
                    yield segment.base + offset + at, data[at + header_bytes : stop], checksum
                    previous, at = checksum, stop
                if at:  # again, from the first that is not whole in what was read
                    offset += at
                    asked, looks = max(CHUNK_BYTES, needed), 0
                elif needed > size == asked:
                    asked = needed
                elif self._is_end(segment, file, offset, last):
                    break
                elif looks < LOOKS:
                    looks += 1
                    time.sleep(PAUSE_S)
                else:
                    raise self._damaged(segment, file, offset, previous)
            return Place(segment.base + offset, previous)
        finally:
            os.close(file)

    def _is_end(self, segment: SegmentFile, file: int, offset: int, last: bool) -> bool:
        """Return whether the records end here: nothing follows, or, in the last segment, an unfinished write."""
        rest = _read(file, segment.size, offset)
        used = len(rest.rstrip(b"\0"))
        if used and (not last or self._is_proved(rest, segment.base + offset)):
            return False
        self.unfinished = used
        return True

    def _is_proved(self, rest: bytes, position: int) -> bool:
        """Return whether a valid record proves that what is at a position, where `rest` begins, was whole once.

        In a synced log it is one that was written when the position was on disk already; in another, any. One at the
        position itself has been written since, or follows one that is missing.
        """
        view = memoryview(rest)
        at = rest.find(RECORD_MAGIC_BYTES)
        while at >= 0 and len(rest) - at >= RECORD.size:
            _, checksum, _, length, durable = RECORD.unpack_from(rest, at)
            stop = at + RECORD.size + length
            if (
                (at == 0 or durable > position or not self.durable)
                and stop <= len(rest)
                and zlib.crc32(view[at + UNCHECKED_BYTES : stop]) == checksum
            ):
                return True
            at = rest.find(RECORD_MAGIC_BYTES, at + 1)
        return False

    def _damaged(self, segment: SegmentFile, file: int, offset: int, previous: int) -> Difference:
        data = _read(file, RECORD.size, offset).ljust(RECORD.size, b"\0")
        magic, checksum, before, length, _ = RECORD.unpack(data)
        what = "the record is damaged"
        expected, found = f"a record of checksum {checksum:08x}", "another checksum"
        if magic != RECORD_MAGIC:
            expected, found = f"a record, which begins with {RECORD_MAGIC:08x}", f"{magic:08x}"
        elif before != previous:
            body = _read(file, length, offset + RECORD.size) if length <= LONGEST_BODY else b""
            if zlib.crc32(data[UNCHECKED_BYTES:] + body) == checksum:
                what = "a record is missing before this one, or was put in its place"
            expected, found = (
                f"a record that follows the one of checksum {previous:08x}",
                f"one that follows {before:08x}",
            )
        return Difference(
            self.check,
            what,
            file=str(segment.path),
            offset=offset,
            expected=expected,
            found=found,
            remedy=self.remedy,
        )

    # -- reading some of it --------------------------------------------------------------------------------------------

    def bodies(self, positions: "array[int]") -> Iterator[bytes]:
        """Yield the bodies of records at rising positions, which have been proved valid before."""
        data, start, end, file, segment = b"", 0, 0, -1, None
        last = len(positions) - 1
        try:
            for number, position in enumerate(positions):
                at = position - start
                if position < end - RECORD.size:
                    body_at = at + RECORD.size
                    stop = body_at + int.from_bytes(data[at + 12 : at + 16], "little")
                    if stop <= len(data):
                        yield data[body_at:stop]
                        continue
                of = self.segment_at(position)
                if segment is None or of is not segment:
                    if file >= 0:
                        os.close(file)
                    segment, file = of, os.open(of.path, os.O_RDONLY | os.O_CLOEXEC)
                near = positions[min(number + NEAR_RECORDS, last)] - position
                wanted = near + NEAR_BYTES if near <= NEAR_RECORDS * NEAR_BYTES else NEAR_BYTES
                data, start = _read(file, wanted, position - segment.base), position
                stop = RECORD.size + int.from_bytes(data[12:16], "little")
                if stop > len(data):
                    data = _read(file, stop, position - segment.base)
                end = start + len(data)
                yield data[RECORD.size : stop]
        finally:
            if file >= 0:
                os.close(file)


def _read(file: int, size: int, offset: int) -> bytes:
    """Return that many bytes, or what there is up to the file's end."""
    data = os.pread(file, size, offset)
    while len(data) < size and (more := os.pread(file, size - len(data), offset + len(data))):
        data += more
    return data
