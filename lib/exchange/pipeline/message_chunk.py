"""A part of the messages that are kept for retransmission: a file that grows, and an index beside it once it is full.

    <number>.messages   each message as the length (u32) of its payload, and the payload
    <number>.index      <8sIII   magic, version, length of the table, CRC-32 of the table
                        table    `IndexTable`, MessagePack
                        offsets  where each message begins (u32), topic by topic in the order of the table

All numbers are little-endian. Both files have a CRC-32 for each block of BLOCK bytes; the growing file's are in memory
and in the snapshots, the full one's in its index. A message is read in whole blocks, which are checked: what is damaged
is noticed, and never sent. Nothing is synced here: who takes a snapshot syncs first.
"""

import struct
from array import array
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import msgspec
from msgspec import Struct

from exchange.pipeline.codec import encode
from exchange.pipeline.disk import Disk

MAGIC = b"EXCHMIDX"
VERSION = 1
HEADER = struct.Struct("<8sIII")
MESSAGES, INDEX = ".messages", ".index"
BLOCK = 8192
SUM_BYTES = 16 * 1024  # that are summed up together
LENGTH_BYTES = 4
READ_AHEAD = 1024  # most messages are shorter, and read with one call
LENGTHS = tuple(length.to_bytes(LENGTH_BYTES, "little") for length in range(READ_AHEAD))  # as they are written


class DamagedChunk(Exception):
    """A file that is not what was written; the text says where."""


class Sums(Struct, frozen=True, array_like=True):
    """The CRC-32 of each block of so many bytes: of the whole ones (u32 each), and of what is in the last."""

    size: int
    whole: bytes
    last: int


class IndexTable(Struct, frozen=True, array_like=True):
    """What a full chunk has: of each topic how many messages, and the number of the first."""

    count: int
    topics: list[tuple[str, int, int]]  # name, first number, count
    messages: Sums
    offsets: Sums


class ChunkPlace(Struct, frozen=True, array_like=True):
    """A growing chunk as it was: what is needed to go on with its file from there."""

    number: int
    count: int
    topics: list[tuple[str, int, bytes]]  # name, first number, offsets (u32 each)
    messages: Sums


decode_table = msgspec.msgpack.Decoder(IndexTable).decode


class Blocks:
    """A run of bytes at the end of a file, with what each of its blocks must be when it is read."""

    __slots__ = ("begin", "last", "ready", "ready_at", "size", "summed", "unsummed", "whole")

    def __init__(self, sums: Sums | None = None, begin: int = 0) -> None:
        self.begin = begin  # where in the file
        self.size = self.summed = sums.size if sums else 0
        self.unsummed: list[bytes] = []  # what comes after `summed`
        self.whole = array("I", sums.whole if sums else b"")
        self.last = sums.last if sums else 0
        self.ready = b""  # what was read and checked last, from `ready_at` on
        self.ready_at = 0

    @property
    def sums(self) -> Sums:
        self._sum_up()
        return Sums(self.size, self.whole.tobytes(), self.last)

    def extend(self, data: bytes) -> None:
        """Take note of data that is written at the end."""
        self.unsummed.append(data)
        self.size += len(data)
        if self.size - self.summed >= SUM_BYTES:
            self._sum_up()

    def _sum_up(self) -> None:
        """Sum up what was written: many writes together, since each call of `crc32` costs as much as 1,000 bytes."""
        data = memoryview(b"".join(self.unsummed))
        self.unsummed.clear()
        place = 0
        while place < len(data):
            stop = place + BLOCK - self.summed % BLOCK
            part = data[place:stop]
            self.last = crc32(part, self.last)
            self.summed += len(part)
            if not self.summed % BLOCK:
                self.whole.append(self.last)
                self.last = 0
            place = stop

    def read(self, disk: Disk, file: int, offset: int, length: int) -> bytes:
        """Return bytes from an offset on, fewer only where all of them end. Raises DamagedChunk, or OSError."""
        end = min(offset + length, self.size)
        if not self.ready_at <= offset <= end <= self.ready_at + len(self.ready):
            self._sum_up()
            first, stop = offset // BLOCK, -(-end // BLOCK)
            data = disk.read(file, min(stop * BLOCK, self.size) - first * BLOCK, self.begin + first * BLOCK)
            sums = self.whole[first:stop]
            if len(sums) < stop - first:
                sums.append(self.last)
            for number, place in enumerate(range(0, (stop - first) * BLOCK, BLOCK)):
                if crc32(data[place : place + BLOCK]) != sums[number]:
                    raise DamagedChunk(
                        f"what is at offset {self.begin + first * BLOCK + place} is not what was written"
                    )
            self.ready, self.ready_at = data, first * BLOCK
        return self.ready[offset - self.ready_at : end - self.ready_at]

    def read_message(self, disk: Disk, file: int, offset: int) -> bytes:
        """Return the payload of the message at an offset. Raises DamagedChunk, or OSError."""
        data = self.read(disk, file, offset, LENGTH_BYTES + READ_AHEAD)
        length = int.from_bytes(data[:LENGTH_BYTES], "little")
        if length > READ_AHEAD:
            data = self.read(disk, file, offset, LENGTH_BYTES + length)
        return data[LENGTH_BYTES : LENGTH_BYTES + length]


class GrowingChunk:
    """The newest messages of all topics. Its index is in memory: 4 bytes a message."""

    def __init__(self, disk: Disk, folder: Path, number: int) -> None:
        self.disk = disk
        self.folder = folder
        self.number = number
        self.file: int | None = None  # made by the first write
        self.firsts: dict[str, int] = {}  # each topic's first number
        self.offsets: dict[str, array[int]] = {}  # where in the file its messages begin, from that one on
        self.count = 0  # of what was written
        self.size = 0  # what was added included
        self.parts: list[bytes] = []  # what is to be written: lengths and payloads in turn
        self.blocks = Blocks()

    def add(self, topic: str, sequence: int, payload: bytes) -> None:
        """Add a topic's next message."""
        offsets = self.offsets.get(topic)
        if offsets is None:
            self.firsts[topic] = sequence
            offsets = self.offsets[topic] = array("I")
        size, parts, length = self.size, self.parts, len(payload)
        offsets.append(size)
        parts.append(LENGTHS[length] if length < READ_AHEAD else length.to_bytes(LENGTH_BYTES, "little"))
        parts.append(payload)
        self.size = size + LENGTH_BYTES + length

    def write(self) -> None:
        """Write what was added. Raises OSError; what was added is unknown then, and this chunk of no more use."""
        if self.file is None:
            self.disk.make_folder(self.folder)
            self.file = self.disk.open(messages_path(self.folder, self.number), create=True)
            self.disk.truncate(self.file, 0)
        data = b"".join(self.parts)
        self.disk.write(self.file, data, self.blocks.size)
        self.blocks.extend(data)
        self.count += len(self.parts) // 2
        self.parts.clear()

    def first(self, topic: str) -> int | None:
        """Return the number of a topic's first message here, None where there is none."""
        return self.firsts.get(topic)

    def read(self, topic: str, sequence: int) -> bytes | None:
        """Return a message that was written here, None where it was not. Raises DamagedChunk, or OSError."""
        offsets = self.offsets.get(topic)
        if offsets is None or self.file is None or not 0 <= (at := sequence - self.firsts[topic]) < len(offsets):
            return None
        return self.blocks.read_message(self.disk, self.file, offsets[at])

    @property
    def place(self) -> ChunkPlace:
        """What `go_on` needs. What was added must be written."""
        assert not self.parts
        topics = [(topic, first, self.offsets[topic].tobytes()) for topic, first in self.firsts.items()]
        return ChunkPlace(self.number, self.count, topics, self.blocks.sums)

    def go_on(self, place: ChunkPlace) -> None:
        """Have again what was there, and cut off what was written since. Raises DamagedChunk, or OSError."""
        self.number, self.count, self.size = place.number, place.count, place.messages.size
        self.firsts = {topic: first for topic, first, _ in place.topics}
        self.offsets = {topic: array("I", offsets) for topic, _, offsets in place.topics}
        self.blocks = Blocks(place.messages)
        if not place.count:
            return
        self.file = self.disk.open(messages_path(self.folder, self.number))
        found = self.disk.size(self.file)
        if found < self.size:
            raise DamagedChunk(f"has {found} bytes of {self.size}")
        self.blocks.read(self.disk, self.file, self.size - 1, 1)  # its last block is what it was
        self.disk.truncate(self.file, self.size)

    def fill(self) -> "FullChunk":
        """Write the index, close the file, and return the chunk as one that grows no more. Raises OSError."""
        assert not self.parts
        offsets = b"".join(self.offsets[topic].tobytes() for topic in self.firsts)
        blocks = Blocks()
        blocks.extend(offsets)
        topics = [(topic, first, len(self.offsets[topic])) for topic, first in self.firsts.items()]
        table = IndexTable(self.count, topics, self.blocks.sums, blocks.sums)
        body = encode(table)
        data = HEADER.pack(MAGIC, VERSION, len(body), crc32(body)) + body
        file = self.disk.open(index_path(self.folder, self.number), create=True)
        try:
            self.disk.truncate(file, 0)
            self.disk.write(file, data + offsets, 0)
        finally:
            self.disk.close(file)
        self.close()
        return FullChunk(self.disk, self.folder, self.number, table, len(data))

    def close(self) -> None:
        if self.file is not None:
            self.disk.close(self.file)
            self.file = None


class FullChunk:
    """Messages of before. Its index is on disk, but for where each topic begins; its files are open only to be read."""

    def __init__(self, disk: Disk, folder: Path, number: int, table: IndexTable, begin: int) -> None:
        self.disk = disk
        self.folder = folder
        self.number = number
        self.count = table.count
        self.topics: dict[str, tuple[int, int, int]] = {}  # first number, count, place of the first among the offsets
        place = 0
        for topic, first, count in table.topics:
            self.topics[topic] = (first, count, place)
            place += count
        self.blocks, self.offsets = Blocks(table.messages), Blocks(table.offsets, begin)
        self.files: tuple[int, int] | None = None  # of messages and index

    @classmethod
    def load(cls, disk: Disk, folder: Path, number: int) -> "FullChunk":
        """Return the chunk of that number by its index. Raises DamagedChunk, or OSError."""
        file = disk.open(index_path(folder, number))
        try:
            header = disk.read(file, HEADER.size, 0)
            if len(header) < HEADER.size:
                raise DamagedChunk("its index is cut short")
            magic, version, length, checksum = HEADER.unpack(header)
            if magic != MAGIC or version != VERSION:
                raise DamagedChunk(f"its index begins with {magic!r}, version {version}: not {MAGIC!r}, {VERSION}")
            body = disk.read(file, length, HEADER.size)
            if crc32(body) != checksum:
                raise DamagedChunk("its index is not what was written")
        finally:
            disk.close(file)
        return cls(disk, folder, number, decode_table(body), HEADER.size + length)

    def first(self, topic: str) -> int | None:
        """Return the number of a topic's first message here, None where there is none."""
        found = self.topics.get(topic)
        return None if found is None else found[0]

    def read(self, topic: str, sequence: int) -> bytes | None:
        """Return a message, None where it is not here. Raises DamagedChunk, or OSError."""
        found = self.topics.get(topic)
        if found is None or not 0 <= (at := sequence - found[0]) < found[1]:
            return None
        if self.files is None:
            messages = self.disk.open(messages_path(self.folder, self.number))
            try:
                self.files = (messages, self.disk.open(index_path(self.folder, self.number)))
            except OSError:
                self.disk.close(messages)
                raise
        messages, index = self.files
        offset = self.offsets.read(self.disk, index, (found[2] + at) * LENGTH_BYTES, LENGTH_BYTES)
        return self.blocks.read_message(self.disk, messages, int.from_bytes(offset, "little"))

    def check_next(self, firsts: dict[str, int]) -> None:
        """Raise DamagedChunk unless each topic goes on with the number that is its first in the chunks after this."""
        for topic, (first, count, _) in self.topics.items():
            following = firsts.get(topic, first + count)
            if following != first + count:
                raise DamagedChunk(f"{topic} ends with {first + count - 1} and goes on with {following}")

    def close(self) -> None:
        """Close the files; the next read opens them again."""
        for file in self.files or ():
            self.disk.close(file)
        self.files = None


Chunk = GrowingChunk | FullChunk


def messages_path(folder: Path, number: int) -> Path:
    return folder / f"{number:010d}{MESSAGES}"


def index_path(folder: Path, number: int) -> Path:
    return folder / f"{number:010d}{INDEX}"


def remove(disk: Disk, folder: Path, number: int) -> None:
    """Remove a chunk's files, those that there are."""
    for path in (index_path(folder, number), messages_path(folder, number)):
        disk.unlink(path, missing_ok=True)


def numbers(disk: Disk, folder: Path) -> Sequence[int]:
    """Return the numbers of which there is a file, rising."""
    stems = {name.partition(".")[0] for name in disk.names(folder) if name.endswith((MESSAGES, INDEX))}
    return sorted(int(stem) for stem in stems if stem.isdecimal())
