"""A part of what is kept for retransmission: a file of pages that grows, and an index beside it once it is full.

    <number>.messages   pages, each
                        <III     length of the body, CRC-32 of the page before, and of this one, which goes on from it
                        body     `Page`, MessagePack
    <number>.index      <8sIII   magic, version, length of the table, CRC-32 of the table
                        table    `IndexTable`, MessagePack
                        ends     <II each, by private topic's place: its first and last entry, see `Entries`
                        entries  <IIQ each: the entry before of the same topic, the page's offset, the first number

All numbers are little-endian. A page has notes of the feed, some dozens or hundreds, from which the messages of its
topics are made when somebody asks for them. It is read whole and checked: what is damaged is noticed, and never sent.
Of an index no more is read than is asked for; what it has of private topics is checked after a start, and an entry that
is wrong leads to a page without the message. Nothing is synced here: who takes a snapshot syncs first.
"""

import struct
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from zlib import crc32

import msgspec
from msgspec import Struct

from exchange.core.execution_reports import Topic
from exchange.core.feed_notes import Note
from exchange.pipeline.chunk_index import (
    ENDS,
    ENTRY,
    DamagedChunk,
    GrowingEntries,
    IndexTable,
    Numbers,
    PublicIndex,
    StoredEntries,
    first_of,
    offsets_from,
)
from exchange.pipeline.codec import DecodeError, encode
from exchange.pipeline.disk import Disk

MAGIC = b"EXCHMIDX"
VERSION = 3
HEADER = struct.Struct("<8sIII")
PAGE_HEADER = struct.Struct("<III")
MESSAGES, INDEX = ".messages", ".index"
READ_AHEAD = 32 * 1024  # most pages are shorter, and read with one call


class Page(Struct, frozen=True, array_like=True):
    """Notes, the public topics' last numbers before them, and by their places the first of each private topic's."""

    before: list[int]
    first: dict[int, int]
    notes: list[Note]


class EncodedPage(Struct, frozen=True, array_like=True):
    """A page whose notes are yet to be decoded, one by one."""

    before: msgspec.Raw
    first: msgspec.Raw
    notes: list[msgspec.Raw]


class PageHead(Struct, frozen=True, array_like=True):
    """A page without its notes."""

    before: list[int]
    first: dict[int, int]


class ChunkPlace(Struct, frozen=True, array_like=True):
    """A growing chunk as it was: what is needed to go on with its file from there."""

    number: int
    count: int  # of messages
    size: int
    previous: int  # CRC-32s, as in `IndexTable`
    last: int
    after: list[int]


decode_page = msgspec.msgpack.Decoder(Page).decode
decode_encoded_page = msgspec.msgpack.Decoder(EncodedPage).decode
decode_note = msgspec.msgpack.Decoder(Note).decode
decode_head = msgspec.msgpack.Decoder(PageHead).decode
decode_table = msgspec.msgpack.Decoder(IndexTable).decode


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
        self.index = PublicIndex(after)
        self.entries = GrowingEntries()
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
        self.index.add(self.size, after)
        self.entries.add(self.size, first)
        self.size += PAGE_HEADER.size + len(body)
        self.count += count
        self.last = checksum

    def first(self, topic: Topic) -> int | None:
        """Return the number of a topic's first message here, None where there is none."""
        return self.index.first(topic.place) if topic.account is None else first_of(self.entries, topic.place)

    def read(self, topic: Topic, number: int) -> Iterator[tuple[int, list[Note]]]:
        """Yield of the pages with a topic's messages, from a number on, how many notes each has, and those for it.

        Raises DamagedChunk, or OSError.
        """
        if self.file is None:
            return
        if topic.account is None:
            offsets = list(self.index.offsets_from(topic.place, number))
        else:
            offsets = offsets_from(self.entries, topic.place, number)
        for offset in offsets:
            yield _notes(self.disk, self.file, offset, self.size, topic)

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
        self.index = PublicIndex(heads[0].before)
        afters = [*(head.before for head in heads[1:]), place.after]
        for offset, head, after in zip(offsets, heads, afters, strict=True):
            self.index.add(offset, after)
            self.entries.add(offset, head.first)
        self.count = place.count
        self.disk.truncate(self.file, self.size)

    def fill(self) -> "FullChunk":
        """Write the index, close the file, and return the chunk as one that grows no more. Raises OSError."""
        entries = self.entries.tobytes()
        table = IndexTable(
            self.count,
            self.previous,
            self.last,
            self.index.after,
            self.index.offsets.tobytes(),
            [numbers.tobytes() for numbers in self.index.before],
            len(self.entries.latest),
            len(self.entries.first),
            crc32(entries),
        )
        body = encode(table)
        header = HEADER.pack(MAGIC, VERSION, len(body), crc32(body))
        file = self.disk.open(index_path(self.folder, self.number), create=True)
        try:
            self.disk.truncate(file, 0)
            self.disk.write(file, header + body + entries, 0)
        finally:
            self.disk.close(file)
        self.close()
        return FullChunk(self.disk, self.folder, self.number, table, header)

    def close(self) -> None:
        if self.file is not None:
            self.disk.close(self.file)
            self.file = None


class FullChunk:
    """Pages of before. No file is open but while something is read. Memory: some hundred bytes."""

    def __init__(self, disk: Disk, folder: Path, number: int, table: IndexTable, header: bytes) -> None:
        self.disk = disk
        self.folder = folder
        self.number = number
        self.header = header
        self.entries_at = HEADER.size + HEADER.unpack(header)[2]
        self.places = table.places
        self.count = table.count
        self.previous, self.last = table.previous, table.last
        self.before, self.after = [array("Q", numbers)[0] for numbers in table.before], table.after

    @classmethod
    def load(cls, disk: Disk, folder: Path, number: int) -> "FullChunk":
        """Return the chunk of that number by its index, of which all is checked. Raises DamagedChunk, or OSError."""
        with _open(disk, index_path(folder, number)) as file:
            header, table = read_table(disk, file)
            chunk = cls(disk, folder, number, table, header)
            size = ENDS.size * table.places + ENTRY.size * table.entries
            entries = disk.read(file, size, chunk.entries_at)
        if len(entries) != size or crc32(entries) != table.checksum:
            raise DamagedChunk("the entries of its index are not what was written")
        return chunk

    def first(self, topic: Topic) -> int | None:
        """Return the number of a topic's first message here, None where there is none.

        Raises DamagedChunk, or OSError.
        """
        if topic.account is None:
            before = self.before[topic.place]
            return before + 1 if before < self.after[topic.place] else None
        with self._open_index() as file:
            return first_of(StoredEntries(self.disk, file, self.entries_at, self.places), topic.place)

    def read(self, topic: Topic, number: int) -> Iterator[tuple[int, list[Note]]]:
        """Yield notes as `GrowingChunk.read` does."""
        with self._open_index() as file:
            if topic.account is None:
                _, table = read_table(self.disk, file)
                offsets = list(PublicIndex.of(table).offsets_from(topic.place, number))
            else:
                entries = StoredEntries(self.disk, file, self.entries_at, self.places)
                offsets = offsets_from(entries, topic.place, number)
        if not offsets:
            return
        with _open(self.disk, messages_path(self.folder, self.number)) as file:
            size = self.disk.size(file)
            for offset in offsets:
                yield _notes(self.disk, file, offset, size, topic)

    @contextmanager
    def _open_index(self) -> Iterator[int]:
        with _open(self.disk, index_path(self.folder, self.number)) as file:
            if self.disk.read(file, HEADER.size, 0) != self.header:
                raise DamagedChunk("its index is another than it was")
            yield file

    def check_next(self, previous: int) -> None:
        """Raise DamagedChunk unless what comes next goes on from this one."""
        if previous != self.last:
            raise DamagedChunk("what comes next does not go on from it")


Chunk = GrowingChunk | FullChunk


@contextmanager
def _open(disk: Disk, path: Path) -> Iterator[int]:
    file = disk.open(path)
    try:
        yield file
    finally:
        disk.close(file)


def _notes(disk: Disk, file: int, offset: int, size: int, topic: Topic) -> tuple[int, list[Note]]:
    """Return how many notes a page has, and them, but for those that have nothing for the topic.

    Of an account there are few in a page, and most of the others are told by its name, which they don't have.
    """
    body, _, _ = page_at(disk, file, offset, size)
    if topic.account is None:
        notes = decode_page(body).notes
        return len(notes), notes
    name = encode(topic.account.name)
    encoded = decode_encoded_page(body).notes
    return len(encoded), [decode_note(note) for note in map(bytes, encoded) if name in note]


def read_table(disk: Disk, file: int) -> tuple[bytes, IndexTable]:
    """Return the header and the table of a full chunk's index. Raises DamagedChunk, or OSError."""
    header = disk.read(file, HEADER.size, 0)
    if len(header) < HEADER.size:
        raise DamagedChunk("its index is cut short")
    magic, version, length, checksum = HEADER.unpack(header)
    if magic != MAGIC or version != VERSION:
        raise DamagedChunk(f"its index begins with {magic!r}, version {version}: not {MAGIC!r}, {VERSION}")
    body = disk.read(file, length, HEADER.size)
    if crc32(body) != checksum:
        raise DamagedChunk("its index is not what was written")
    try:
        return header, decode_table(body)
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
