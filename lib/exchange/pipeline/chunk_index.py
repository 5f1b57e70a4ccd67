"""Which messages a chunk has, and in which of its pages: of the public topics by page, of the private ones by topic.

What is looked up is found without a walk through all of it: of a full chunk, whose index is on disk, a few bytes are
read.
"""

import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Protocol

from msgspec import Struct

from exchange.core.feed_notes import PUBLIC_TOPICS
from exchange.pipeline.disk import Disk

ENDS = struct.Struct("<II")
ENTRY = struct.Struct("<IIQ")
ENTRIES_AT_ONCE = 256  # read with one call: those of a topic may be close to each other
NO_ENTRY = 2**32 - 1

Numbers = Sequence[int]  # of the last message of each of PUBLIC_TOPICS


class DamagedChunk(Exception):
    """A file that is not what was written; the text says where."""


class IndexTable(Struct, frozen=True, array_like=True):
    """What a full chunk has, but for what its index has of private topics: of that, how much, and its CRC-32.

    How many messages, the CRC-32 before its first page and of its last, the public topics' last numbers at its end;
    where its pages begin, and topic by topic the last number before each.
    """

    count: int
    previous: int
    last: int
    after: list[int]
    offsets: bytes
    before: list[bytes]
    places: int
    entries: int
    checksum: int


class PublicIndex:
    """Where a chunk's pages begin, and which numbers of the public topics are in them. Memory: 44 bytes a page."""

    __slots__ = ("after", "before", "offsets")

    def __init__(self, after: Numbers) -> None:
        self.after = list(after)  # the public topics' last numbers at the end of it
        self.offsets = array("I")
        self.before = [array("Q") for _ in PUBLIC_TOPICS]  # the last number before each page, topic by topic

    def add(self, offset: int, after: Numbers) -> None:
        """Add a page, given the public topics' last numbers at its end."""
        for numbers, number in zip(self.before, self.after, strict=True):
            numbers.append(number)
        self.after = list(after)
        self.offsets.append(offset)

    def first(self, place: int) -> int | None:
        """Return the number of a topic's first message here, None where there is none."""
        before = self.before[place]
        return before[0] + 1 if before and before[0] < self.after[place] else None

    def offsets_from(self, place: int, number: int) -> Iterator[int]:
        """Return the offsets of the pages that have a topic's message of that number or later ones."""
        before, last = self.before[place], len(self.offsets) - 1
        pages = range(max(bisect_right(before, number - 1) - 1, 0), last + 1)
        ends = (before[page + 1] if page < last else self.after[place] for page in pages)
        return (self.offsets[page] for page, end in zip(pages, ends, strict=True) if end > before[page])

    @classmethod
    def of(cls, table: IndexTable) -> "PublicIndex":
        index = cls(table.after)
        index.offsets = array("I", table.offsets)
        index.before = [array("Q", numbers) for numbers in table.before]
        return index


class Entries(Protocol):
    """Which private topics' messages are in a chunk's pages: of each topic and page that has any, an entry.

    An entry has the number of the one before of the same topic (NO_ENTRY before the first), the page's offset, and the
    number of the topic's first message in it.
    """

    def ends(self, place: int) -> tuple[int, int]:
        """Return the first and the last entry of a topic, NO_ENTRY where it has none."""

    def entry(self, number: int) -> tuple[int, int, int]: ...


def first_of(entries: Entries, place: int) -> int | None:
    """Return the number of a private topic's first message, None where there is none."""
    earliest, _ = entries.ends(place)
    return None if earliest == NO_ENTRY else entries.entry(earliest)[2]


def offsets_from(entries: Entries, place: int, number: int) -> list[int]:
    """Return the offsets of the pages that have a private topic's message of that number, and later ones.

    O(pages from there on that have any of the topic).
    """
    found: list[int] = []
    _, at = entries.ends(place)
    while at != NO_ENTRY:
        before, offset, first = entries.entry(at)
        found.append(offset)
        if first <= number:
            break
        if before >= at and before != NO_ENTRY:
            raise DamagedChunk(f"entry {at} of its index has {before} before it")
        at = before
    found.reverse()
    return found


class GrowingEntries:
    """Entries in memory: 16 bytes each, and 8 for each private topic of the asset."""

    __slots__ = ("before", "earliest", "first", "latest", "offsets")

    def __init__(self) -> None:
        self.earliest, self.latest = array("I"), array("I")  # by place
        self.before, self.offsets, self.first = array("I"), array("I"), array("Q")  # by entry

    def add(self, offset: int, first: dict[int, int]) -> None:
        """Add those of a page, given the first numbers by place."""
        if not first:
            return
        earliest, latest = self.earliest, self.latest
        missing = max(first) + 1 - len(latest)
        if missing > 0:
            earliest.extend(repeat(NO_ENTRY, missing))
            latest.extend(repeat(NO_ENTRY, missing))
        at = len(self.first)
        before = [latest[place] for place in first]
        if NO_ENTRY in before:
            for entry, place in enumerate(first, at):
                if latest[place] == NO_ENTRY:
                    earliest[place] = entry
        for entry, place in enumerate(first, at):
            latest[place] = entry
        # (To extend an array by an iterator takes several times as long.)
        self.before.fromlist(before)
        self.offsets.extend(array("I", [offset]) * len(first))
        self.first.fromlist(list(first.values()))

    def ends(self, place: int) -> tuple[int, int]:
        return (self.earliest[place], self.latest[place]) if place < len(self.latest) else (NO_ENTRY, NO_ENTRY)

    def entry(self, number: int) -> tuple[int, int, int]:
        return self.before[number], self.offsets[number], self.first[number]

    def tobytes(self) -> bytes:
        """Return it as it is in an index."""
        ends, entries = array("I", bytes(8 * len(self.latest))), array("I", bytes(16 * len(self.first)))
        ends[0::2], ends[1::2] = self.earliest, self.latest
        halves = array("I", self.first.tobytes())
        entries[0::4], entries[1::4], entries[2::4], entries[3::4] = (
            self.before,
            self.offsets,
            halves[0::2],
            halves[1::2],
        )
        return ends.tobytes() + entries.tobytes()


class StoredEntries:
    """Entries in an open index, of which a few are read at a time. All may raise DamagedChunk, or OSError."""

    __slots__ = ("at", "block", "block_begin", "disk", "file", "places")

    def __init__(self, disk: Disk, file: int, at: int, places: int) -> None:
        self.disk = disk
        self.file = file
        self.at = at  # the offset of the ends
        self.places = places
        self.block, self.block_begin = b"", 0  # entries that were read, from which on

    def ends(self, place: int) -> tuple[int, int]:
        if place >= self.places:
            return NO_ENTRY, NO_ENTRY
        data = self.disk.read(self.file, ENDS.size, self.at + ENDS.size * place)
        if len(data) != ENDS.size:
            raise DamagedChunk("its index is cut short")
        earliest, latest = ENDS.unpack(data)
        return earliest, latest

    def entry(self, number: int) -> tuple[int, int, int]:
        begin = self.block_begin
        if not begin <= number < begin + len(self.block) // ENTRY.size:
            begin = self.block_begin = max(number + 1 - ENTRIES_AT_ONCE, 0)  # the next is one before
            offset = self.at + ENDS.size * self.places + ENTRY.size * begin
            self.block = self.disk.read(self.file, ENTRY.size * (number + 1 - begin), offset)
            if len(self.block) != ENTRY.size * (number + 1 - begin):
                raise DamagedChunk("its index is cut short")
        before, offset, first = ENTRY.unpack_from(self.block, ENTRY.size * (number - begin))
        return before, offset, first
