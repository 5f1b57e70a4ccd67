"""How a log lies on disk: segment files, with a header and records each.

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
"""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from exchange.pipeline.disk import Disk

VERSION = 1
SEGMENT = struct.Struct("<8sIQQI")
SEGMENT_MAGIC = b"EXCHLOG\n"
SEGMENT_HEADER_BYTES = 64
RECORD = struct.Struct("<IIIIQ")
PREFIX = struct.Struct("<II")
CHAINED = struct.Struct("<IIQ")  # what of a record's header its checksum covers
MAGIC = 0x64726F52  # "Rord": never zero, and a landmark when looking for records behind damage
MAGIC_BYTES = MAGIC.to_bytes(4, "little")
MAX_BODY_BYTES = 2**31
READ_WHOLE_BYTES = 4 * 1024 * 1024  # at a time, of what is only summed up
ARCHIVED = "archived"  # the file that says up to which position a log's segments were moved away


class Damaged(Exception):
    """The log does not hold what was written to it. The text gives file, offset and what to do.

    `sequence` is of the record that was asked for and is not there, where one was asked for by its sequence, else 0.
    """

    sequence = 0


class Archived(Exception):
    """The record is in a segment that was moved away. The text says where it was, and what to do."""


class Segment:
    """One segment file. `end` is 0, and what follows it says nothing, until the segment is filled."""

    __slots__ = ("base", "checksum", "crc", "end", "path", "previous", "sealed", "size")

    def __init__(self, path: Path, base: int, size: int, previous: int) -> None:
        self.path, self.base, self.size = path, base, size
        self.previous = previous  # the checksum of the record before the first
        self.end = 0  # the offset in the file after the last record
        self.checksum = 0  # of the last record
        self.crc = 0  # CRC-32 of the file up to `end`
        self.sealed = False


def segment_name(base: int) -> str:
    return f"{base:020d}.log"


def segment_header(base: int, size: int, previous: int) -> bytes:
    return _with_checksum(SEGMENT.pack(SEGMENT_MAGIC, VERSION, size, base, previous))


def read_header(path: Path, header: bytes) -> Segment:
    """Return the segment that a file's first bytes describe. Raises Damaged."""
    if not is_header(header):
        raise Damaged(f"{path}: offset 0: the segment's header is damaged; restore the file from a copy")
    magic, version, size, base, previous = SEGMENT.unpack_from(header)
    if magic != SEGMENT_MAGIC or version > VERSION:
        raise Damaged(
            f"{path}: format {magic!r} version {version}, and this program reads up to version {VERSION}; "
            "run the program that wrote it, or a newer one"
        )
    return Segment(path, base, size, previous)


def is_header(data: bytes) -> bool:
    header = data[:SEGMENT_HEADER_BYTES]
    return len(header) == SEGMENT_HEADER_BYTES and header == _with_checksum(header[:-4])


def _with_checksum(header: bytes) -> bytes:
    header = header.ljust(SEGMENT_HEADER_BYTES - 4, b"\0")
    return header + zlib.crc32(header).to_bytes(4, "little")


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


def parse_records(
    data: bytes, offset: int, previous: int, base: int, on_record: Callable[[int, bytes], None] | None = None
) -> tuple[int, int]:
    """Call `on_record(position, body)` for each record of a chain; return the offset after the last, and its checksum.

    `previous` is the checksum that the first continues.
    """
    while (found := parse_record(data, offset, previous)) is not None:
        body, previous = found
        if on_record is not None:
            on_record(base + offset, body)
        offset += RECORD.size + len(body)
    return offset, previous


def parse_alone(data: bytes, offset: int) -> bytes | None:
    """Return the body of the record at an offset, None where there is no whole and valid one."""
    if len(data) - offset < RECORD.size:
        return None
    found = parse_record(data, offset, RECORD.unpack_from(data, offset)[2])
    return None if found is None else found[0]


def length_at(data: bytes) -> int:
    """Return the body's length of the record that begins the data, 0 where none does."""
    if len(data) < RECORD.size:
        return 0
    magic, _, _, length, _ = RECORD.unpack_from(data)
    return length if magic == MAGIC and length <= MAX_BODY_BYTES else 0


def written_after(data: bytes, offset: int, base: int) -> bool:
    """Return whether a valid record behind `offset` was written when the bytes at `offset` were on disk already."""
    at = data.find(MAGIC_BYTES, offset + 1)
    while at >= 0:
        if len(data) - at >= RECORD.size:
            _, _, previous, _, durable = RECORD.unpack_from(data, at)
            if durable > base + offset and parse_record(data, at, previous) is not None:
                return True
        at = data.find(MAGIC_BYTES, at + 1)
    return False


def durable_before(data: bytes, end: int) -> int:
    """Return the position up to which the log was on disk when the record that ends at `end` was written; 0: none."""
    at = data.rfind(MAGIC_BYTES, 0, end)
    while at >= 0:
        body = parse_alone(data, at)
        if body is not None and at + RECORD.size + len(body) == end:
            return int(RECORD.unpack_from(data, at)[4])
        at = data.rfind(MAGIC_BYTES, 0, at + len(MAGIC_BYTES) - 1)
    return 0


def written_to(data: bytes) -> int:
    """Return the offset behind the last byte of a segment that is not zero."""
    return len(data.rstrip(b"\0"))


def read_file(disk: Disk, path: Path) -> bytes:
    """Return all of a file."""
    file = disk.open(path)
    try:
        return disk.read(file, disk.size(file), 0)
    finally:
        disk.close(file)


def is_whole(disk: Disk, file: int, end: int, crc: int) -> bool:
    """Return whether a file's bytes up to `end` have that CRC-32, and those behind are zero. 2 to 4 GB/s."""
    found, offset = 0, 0
    while offset < end:
        data = disk.read(file, min(end - offset, READ_WHOLE_BYTES), offset)
        if not data:
            return False
        found = zlib.crc32(data, found)
        offset += len(data)
    while found == crc and (data := disk.read(file, READ_WHOLE_BYTES, offset)):
        if data.count(0) != len(data):
            return False
        offset += len(data)
    return found == crc
