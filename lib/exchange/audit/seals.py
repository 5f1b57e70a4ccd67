"""Seals: what is beside a full segment, so that a start need not read it, says what is in the segment.

    head       <8sIIQQQIII   magic, version, length of the directory, base, size, end, checksum before the first record,
                             checksum of the last, CRC-32 of the segment up to `end`
               directory     MessagePack: [[name, first sequence, count, place], ...] of the streams, the state
               SHA-256 of all that
    body       offsets       of each stream in turn, u32, 4,096 of them and their CRC-32 at a time
               state         of the log's owner, which is not looked at

A seal that is missing or damaged is made again at the next start: that is noted, and no difference. One that is whole
and wrong would be believed.
"""

import hashlib
import struct
import zlib
from array import array
from typing import Any

import msgspec

from exchange.audit.findings import Difference
from exchange.audit.log_files import RECORD, LogFiles, SegmentFile

CHECK = "seal"
REMEDY = "stop the daemon that writes this log, remove the seal, and start the daemon: it makes the seal again"
MAGIC = b"EXCHSEAL"
VERSION = 1
HEAD = struct.Struct("<8sIIQQQIII")
DIGEST_BYTES = 32
CHUNK = 4096
READ_BYTES = 4 * 1024 * 1024


class Seals:
    """Told of each record of a log, compares the seals of its full segments with what is there."""

    def __init__(self, files: LogFiles, notes: list[str]) -> None:
        self.files = files
        self.notes = notes
        self.checked = 0
        self.segment: SegmentFile | None = None
        self.base = self.until = 0
        self.streams: dict[str, tuple[int, array[int]]] = {}  # first sequence, offsets

    def note(self, name: str, sequence: int, position: int) -> None:
        """Take the next record of a stream. Raises Difference where the segment before it has a seal that is wrong."""
        if position >= self.until:
            self._begin(position)
        stream = self.streams.get(name)
        if stream is None:
            stream = self.streams[name] = (sequence, array("I"))
        stream[1].append(position - self.base)

    def _begin(self, position: int) -> None:
        if self.segment is not None:
            self._check(self.segment)
        self.segment = segment = self.files.segment_at(position)
        self.base, self.until = segment.base, segment.base + segment.size
        self.streams = {}

    def _check(self, segment: SegmentFile) -> None:
        path = segment.path.with_suffix(".seal")
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return
        directory = self._directory(data)
        if directory is None:
            self.notes.append(f"{path}: the seal is damaged; the next start makes it again")
            return
        self.checked += 1
        end, checksum = self._last_record(segment)
        expected = (segment.base, segment.size, end, segment.previous, checksum, _crc(segment, end))
        found = HEAD.unpack_from(data)[3:]
        names = ("base", "size", "end", "checksum before the first record", "checksum of the last", "CRC-32")
        self._compare(path, names, expected, found)
        streams = {name: (first, count, place) for name, first, count, place in directory[0]}
        self._compare(path, ("streams",), (sorted(self.streams),), (sorted(streams),))
        body_at = HEAD.size + HEAD.unpack_from(data)[2] + DIGEST_BYTES
        for name, (first, offsets) in self.streams.items():
            found_first, count, place = streams[name]
            where = f"{name or 'the exchange'}: "
            facts = (f"{where}first sequence", f"{where}count")
            self._compare(path, facts, (first, len(offsets)), (found_first, count))
            self._check_offsets(path, where, data[body_at + place :], offsets)

    def _directory(self, data: bytes) -> Any:
        """Return the directory of a seal, None where it is damaged or another version's."""
        if len(data) < HEAD.size:
            return None
        magic, version, length = HEAD.unpack_from(data)[:3]
        head = data[: HEAD.size + length]
        digest = data[len(head) : len(head) + DIGEST_BYTES]
        if magic != MAGIC or version != VERSION or hashlib.sha256(head).digest() != digest:
            return None
        return msgspec.msgpack.decode(head[HEAD.size :])

    def _last_record(self, segment: SegmentFile) -> tuple[int, int]:
        """Return the offset after the segment's last record, and that record's checksum."""
        at = max(offsets[-1] for _, offsets in self.streams.values())
        with segment.path.open("rb") as file:
            file.seek(at)
            _, checksum, _, length, _ = RECORD.unpack(file.read(RECORD.size))
        return at + RECORD.size + length, checksum

    def _check_offsets(self, path: Any, where: str, data: bytes, offsets: "array[int]") -> None:
        at = 0
        for start in range(0, len(offsets), CHUNK):
            chunk = offsets[start : start + CHUNK]
            expected = chunk.tobytes()
            found = data[at : at + len(expected)]
            checksum = data[at + len(expected) : at + len(expected) + 4]
            if checksum != zlib.crc32(found).to_bytes(4, "little"):
                self.notes.append(f"{path}: {where}offsets are damaged; they are found again when they are asked for")
            elif found != expected:
                listed = array("I", found)
                number = next(number for number, (a, b) in enumerate(zip(chunk, listed, strict=True)) if a != b)
                self._compare(path, (f"{where}offset of record {start + number}",), (chunk[number],), (listed[number],))
            at += len(expected) + 4

    def _compare(self, path: Any, names: tuple[str, ...], expected: tuple[Any, ...], found: tuple[Any, ...]) -> None:
        for name, one, other in zip(names, expected, found, strict=True):
            if one != other:
                raise Difference(
                    CHECK,
                    f"the seal says something else than its segment: {name}",
                    file=str(path),
                    expected=str(one),
                    found=str(other),
                    remedy=REMEDY,
                )


def _crc(segment: SegmentFile, end: int) -> int:
    crc = 0
    with segment.path.open("rb", buffering=0) as file:
        while end > 0 and (data := file.read(min(READ_BYTES, end))):
            crc = zlib.crc32(data, crc)
            end -= len(data)
    return crc
