"""A part of what is kept for retransmission: a file of pages that grows, and an index beside it once it is full.

    <number>.messages   pages, each
                        <III     length of the body, CRC-32 of the page before, and of this one, which goes on from it
                        body     `Page`, MessagePack
    <number>.index      <8sIII   magic, version, length of the table, CRC-32 of the table
                        table    `IndexTable`, MessagePack

All numbers are little-endian. A page has notes of the feed, some dozens or hundreds, from which the messages of its
topics are made when somebody asks for them. It is read whole and checked: what is damaged is noticed, and never sent.
Nothing is synced here: who takes a snapshot syncs first.
"""

import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from zlib import crc32

import msgspec
from msgspec import Struct

from exchange.core.execution_reports import Topic
from exchange.core.feed_notes import PUBLIC_TOPICS, Note
from exchange.pipeline.codec import DecodeError, encode
from exchange.pipeline.disk import Disk

MAGIC = b"EXCHMIDX"
VERSION = 2
HEADER = struct.Struct("<8sIII")
PAGE_HEADER = struct.Struct("<III")
MESSAGES, INDEX = ".messages", ".index"
READ_AHEAD = 32 * 1024  # most pages are shorter, and read with one call

Numbers = Sequence[int]  # of the last message of each of PUBLIC_TOPICS


class DamagedChunk(Exception):
    """A file that is not what was written; the text says where."""


class Page(Struct, frozen=True, array_like=True):
    """Notes, the public topics' last numbers before them, and by their places the first of each private topic's."""

    before: list[int]
    first: dict[int, int]
    notes: list[Note]


class PageHead(Struct, frozen=True, array_like=True):
    """A page without its notes."""

    before: list[int]
    first: dict[int, int]


class IndexTable(Struct, frozen=True, array_like=True):
    """What a full chunk has: how many messages, the CRC-32 before its first page and of its last, and a `PageIndex`."""

    count: int
    previous: int
    last: int
    after: list[int]
    offsets: bytes
    before: list[bytes]
    places: bytes
    pages: bytes
    firsts: bytes


class ChunkPlace(Struct, frozen=True, array_like=True):
    """A growing chunk as it was: what is needed to go on with its file from there."""

    number: int
    count: int  # of messages
    size: int
    previous: int  # CRC-32s, as in `IndexTable`
    last: int
    after: list[int]


decode_page = msgspec.msgpack.Decoder(Page).decode
decode_head = msgspec.msgpack.Decoder(PageHead).decode
decode_table = msgspec.msgpack.Decoder(IndexTable).decode


class PageIndex:
    """Where a chunk's pages begin, and which topics' messages are in them.

    Memory: 44 bytes a page, and 16 for each private topic in it.
    """

    __slots__ = ("after", "before", "firsts", "offsets", "pages", "places")

    def __init__(self, after: Numbers) -> None:
        self.after = list(after)  # the public topics' last numbers at the end of it
        self.offsets = array("I")
        self.before = [array("Q") for _ in PUBLIC_TOPICS]  # the last number before each page, topic by topic
        # Page by page: the private topics in it, each with the number of its first message there.
        self.places, self.pages, self.firsts = array("I"), array("I"), array("Q")

    def add(self, offset: int, first: dict[int, int], after: Numbers) -> None:
        """Add a page, given the public topics' last numbers at its end."""
        for numbers, number in zip(self.before, self.after, strict=True):
            numbers.append(number)
        self.after = list(after)
        self.places.extend(first.keys())
        self.firsts.extend(first.values())
        self.pages.extend(repeat(len(self.offsets), len(first)))
        self.offsets.append(offset)

    def first(self, topic: Topic) -> int | None:
        """Return the number of a topic's first message here, None where there is none. O(private topics of pages)."""
        if topic.account is None:
            before = self.before[topic.place]
            return before[0] + 1 if before and before[0] < self.after[topic.place] else None
        return next((self.firsts[at] for at in self._entries(topic.place)), None)

    def pages_from(self, topic: Topic, number: int) -> Iterable[int]:
        """Return the pages that have a topic's message of that number, and later ones; the first is here."""
        if topic.account is None:
            before, last = self.before[topic.place], len(self.offsets) - 1
            pages = range(max(bisect_right(before, number - 1) - 1, 0), last + 1)
            ends = (before[page + 1] if page < last else self.after[topic.place] for page in pages)
            return (page for page, end in zip(pages, ends, strict=True) if end > before[page])
        entries = list(self._entries(topic.place))
        start = bisect_right([self.firsts[at] for at in entries], number) - 1
        return [self.pages[at] for at in entries[max(start, 0) :]]

    def _entries(self, place: int) -> Iterator[int]:
        at, find = -1, self.places.index
        try:
            while True:
                at = find(place, at + 1)
                yield at
        except ValueError:
            return

    def table(self, count: int, previous: int, last: int) -> IndexTable:
        return IndexTable(
            count,
            previous,
            last,
            self.after,
            self.offsets.tobytes(),
            [numbers.tobytes() for numbers in self.before],
            self.places.tobytes(),
            self.pages.tobytes(),
            self.firsts.tobytes(),
        )

    @classmethod
    def of(cls, table: IndexTable) -> "PageIndex":
        index = cls(table.after)
        index.offsets = array("I", table.offsets)
        index.before = [array("Q", numbers) for numbers in table.before]
        index.places, index.pages = array("I", table.places), array("I", table.pages)
        index.firsts = array("Q", table.firsts)
        return index


def page_at(disk: Disk, file: int, offset: int, size: int) -> tuple[bytes, int, int]:
    """Return the body of the page at an offset of a file of that size, and the CRC-32s of the one before and of it.

    Raises DamagedChunk, or OSError.
    """
    data = disk.read(file, READ_AHEAD, offset)
    if len(data) < PAGE_HEADER.size:
        raise DamagedChunk(f"it ends at offset {offset}, within a page")
    length, previous, checksum = PAGE_HEADER.unpack_from(data)
    end = PAGE_HEADER.size + length
    if end > len(data):
        data = disk.read(file, end, offset) if offset + end <= size else b""
    body = data[PAGE_HEADER.size : end]
    # (Of zeros, as a file system may leave them, the checksum is right.)
    if not length or len(body) != length or crc32(body, previous) != checksum:
        raise DamagedChunk(f"the page at offset {offset} is not what was written")
    return body, previous, checksum


class GrowingChunk:
    """The newest pages. Its index is in memory."""

    def __init__(self, disk: Disk, folder: Path, number: int, after: Numbers, previous: int = 0) -> None:
        """`after` are the public topics' last numbers before it, `previous` the CRC-32 of the page before."""
        self.disk = disk
        self.folder = folder
        self.number = number
        self.file: int | None = None  # made by the first write
        self.index = PageIndex(after)
        self.count = 0  # messages
        self.size = 0
        self.previous = self.last = previous

    def write(self, notes: list[Note], first: dict[int, int], after: Numbers, count: int) -> None:
        """Write a page of so many messages. Raises OSError; this chunk is of no more use then."""
        if self.file is None:
            self.disk.make_folder(self.folder)
            self.file = self.disk.open(messages_path(self.folder, self.number), create=True)
            self.disk.truncate(self.file, 0)
        body = encode((self.index.after, first, notes))  # a `Page`
        checksum = crc32(body, self.last)
        self.disk.write(self.file, PAGE_HEADER.pack(len(body), self.last, checksum) + body, self.size)
        self.index.add(self.size, first, after)
        self.size += PAGE_HEADER.size + len(body)
        self.count += count
        self.last = checksum

    def first(self, topic: Topic) -> int | None:
        """Return the number of a topic's first message here, None where there is none."""
        return self.index.first(topic)

    def read(self, topic: Topic, number: int) -> Iterator[list[Note]]:
        """Yield the notes of the pages with a topic's messages, from a number on that is here.

        Raises DamagedChunk, or OSError.
        """
        assert self.file is not None
        yield from _notes(self.disk, self.file, self.index, topic, number, self.size)

    @property
    def place(self) -> ChunkPlace:
        """What `go_on` needs."""
        return ChunkPlace(self.number, self.count, self.size, self.previous, self.last, self.index.after)

    def go_on(self, place: ChunkPlace) -> None:
        """Have again what was there, and cut off what was written since. Raises DamagedChunk, or OSError.

        All of it is read, at some GB/s, for the index.
        """
        if not place.size:
            return
        self.file = self.disk.open(messages_path(self.folder, self.number))
        found = self.disk.size(self.file)
        if found < place.size:
            raise DamagedChunk(f"has {found} bytes of {place.size}")
        heads: list[PageHead] = []
        offsets: list[int] = []
        while self.size < place.size:
            body, previous, checksum = page_at(self.disk, self.file, self.size, place.size)
            if previous != self.last:
                raise DamagedChunk(f"the page at offset {self.size} does not go on from the one before")
            offsets.append(self.size)
            heads.append(decode_head(body))
            self.size += PAGE_HEADER.size + len(body)
            self.last = checksum
        if (self.size, self.last) != (place.size, place.last):
            raise DamagedChunk(f"its page before offset {place.size} is another")
        self.index = PageIndex(heads[0].before)
        afters = [*(head.before for head in heads[1:]), place.after]
        for offset, head, after in zip(offsets, heads, afters, strict=True):
            self.index.add(offset, head.first, after)
        self.count = place.count
        self.disk.truncate(self.file, self.size)

    def fill(self) -> "FullChunk":
        """Write the index, close the file, and return the chunk as one that grows no more. Raises OSError."""
        table = self.index.table(self.count, self.previous, self.last)
        body = encode(table)
        file = self.disk.open(index_path(self.folder, self.number), create=True)
        try:
            self.disk.truncate(file, 0)
            self.disk.write(file, HEADER.pack(MAGIC, VERSION, len(body), crc32(body)) + body, 0)
        finally:
            self.disk.close(file)
        self.close()
        return FullChunk(self.disk, self.folder, self.number, table)

    def close(self) -> None:
        if self.file is not None:
            self.disk.close(self.file)
            self.file = None


class FullChunk:
    """Pages of before. Its index is read, and its file open, only while it is asked for something: see `close`."""

    def __init__(self, disk: Disk, folder: Path, number: int, table: IndexTable) -> None:
        self.disk = disk
        self.folder = folder
        self.number = number
        self.count = table.count
        self.previous, self.last = table.previous, table.last
        self.before, self.after = [array("Q", numbers)[0] for numbers in table.before], table.after
        self.file: int | None = None
        self.index: PageIndex | None = None

    @classmethod
    def load(cls, disk: Disk, folder: Path, number: int) -> "FullChunk":
        """Return the chunk of that number by its index. Raises DamagedChunk, or OSError."""
        return cls(disk, folder, number, read_table(disk, folder, number))

    def open(self) -> PageIndex:
        """Open its file and read its index. Raises DamagedChunk, or OSError."""
        if self.index is None:
            table = read_table(self.disk, self.folder, self.number)
            if (table.count, table.last) != (self.count, self.last):
                raise DamagedChunk("its index is another than it was")
            self.file = self.disk.open(messages_path(self.folder, self.number))
            self.index = PageIndex.of(table)
        return self.index

    def first(self, topic: Topic) -> int | None:
        """Return the number of a topic's first message here, None where there is none. Raises as `open` does."""
        if topic.account is None:
            before = self.before[topic.place]
            return before + 1 if before < self.after[topic.place] else None
        return self.open().first(topic)

    def read(self, topic: Topic, number: int) -> Iterator[list[Note]]:
        """Yield notes as `GrowingChunk.read` does."""
        index = self.open()
        assert self.file is not None
        yield from _notes(self.disk, self.file, index, topic, number, self.disk.size(self.file))

    def check_next(self, previous: int) -> None:
        """Raise DamagedChunk unless what comes next goes on from this one."""
        if previous != self.last:
            raise DamagedChunk("what comes next does not go on from it")

    def close(self) -> None:
        """Close the file and drop the index; who asks for something next opens it again."""
        if self.file is not None:
            self.disk.close(self.file)
        self.file = self.index = None


Chunk = GrowingChunk | FullChunk


def _notes(disk: Disk, file: int, index: PageIndex, topic: Topic, number: int, size: int) -> Iterator[list[Note]]:
    for page in index.pages_from(topic, number):
        body, _, _ = page_at(disk, file, index.offsets[page], size)
        yield decode_page(body).notes


def read_table(disk: Disk, folder: Path, number: int) -> IndexTable:
    """Return the table of a full chunk's index. Raises DamagedChunk, or OSError."""
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
    try:
        return decode_table(body)
    except DecodeError as error:
        raise DamagedChunk(f"its index can't be read: {error}") from error


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
