"""Where in a log the records of its streams are: in memory for segments that are not sealed, else in their seals.

A stream is numbered 1, 2, 3, ...: the queue of an asset, or the orders by their ids. Of a sealed segment 20 bytes are
kept in memory for each stream that has records in it, and a few of the chunks of offsets that were read last.
"""

import logging
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable

from exchange.pipeline.codec import stream_message
from exchange.pipeline.log import READ_BYTES, Log
from exchange.pipeline.log_format import MAGIC, RECORD, Damaged, Segment
from exchange.pipeline.seals import (
    CHUNK,
    Draft,
    Seal,
    Stream,
    read_offsets,
    read_part,
    read_seal,
    read_state,
    seal_name,
)

MOST_RECORDS = 5_000  # in the answer to one replay
CACHED_CHUNKS = 64  # 1 MiB
IN_MEMORY = 0xFFFFFFFF

logger = logging.getLogger(__name__)


class Index:
    """One stream's records: the slices of it that are in each segment, in order.

    `add(offset)` notes where in the log's last segment the stream's next record begins. It is another for each segment:
    take it after the record was appended.
    """

    __slots__ = ("_base", "_first", "_offsets", "add", "bases", "firsts", "indexes", "memory", "name", "places")

    def __init__(self, name: str, indexes: "Indexes") -> None:
        self.name = name
        self.indexes = indexes
        # Of each slice in a segment that is full: the first sequence,
        self.firsts = array("Q")
        self.bases = array("Q")  # the base of its segment,
        self.places = array("I")  # where in the body of that segment's seal its offsets are, or IN_MEMORY
        self.memory: dict[int, array[int]] = {}  # by base
        self._first = 1  # the first sequence in the last segment, whose base is
        self._base = indexes.log.base
        self._begin()

    def _begin(self) -> None:
        self._offsets = array("I")
        self.add = self._offsets.append

    @property
    def last(self) -> int:
        """The last sequence, 0 where there is none."""
        return self._first + len(self._offsets) - 1

    def begin_segment(self, base: int) -> None:
        """Note that what is added from now on is in another segment."""
        if self._offsets:
            self.firsts.append(self._first)
            self.bases.append(self._base)
            self.places.append(IN_MEMORY)
            self.memory[self._base] = self._offsets
            self._first += len(self._offsets)
            self._begin()
        self._base = base

    def add_sealed(self, base: int, first: int, count: int, place: int) -> None:
        """Note a slice that is in a sealed segment."""
        assert not self._offsets
        self.firsts.append(first)
        self.bases.append(base)
        self.places.append(place)
        self._first = first + count

    def seal(self, base: int, place: int) -> None:
        """Let go of a slice's offsets, which are in its segment's seal now."""
        at = bisect_left(self.bases, base)
        self.places[at] = place
        self.memory.pop(base, None)

    def unseal(self, base: int, offsets: "array[int]") -> None:
        """Keep a slice's offsets in memory, its segment's seal being damaged."""
        self.places[bisect_left(self.bases, base)] = IN_MEMORY
        self.memory[base] = offsets

    def first_in(self, base: int) -> int:
        """Return the sequence of the stream's first record in a segment that has some."""
        return self.firsts[bisect_left(self.bases, base)]

    def position(self, sequence: int) -> int:
        """Return where a record begins. Raises IndexError where there is none of that sequence."""
        base, offsets = self.offsets(sequence, 1)
        return base + offsets[0]

    def base_of(self, sequence: int) -> int:
        """Return the base of the segment that a record is in."""
        if sequence >= self._first:
            return self._base
        return self.bases[bisect_right(self.firsts, sequence) - 1]

    def offsets(self, sequence: int, count: int) -> "tuple[int, array[int]]":
        """Return a segment's base and, of `count` records from a sequence on, the offsets of those that are in it."""
        if not 1 <= sequence <= self.last:
            raise IndexError(f"{self.indexes.log.folder}: {self.name or 'the exchange'} has no record {sequence}")
        if sequence >= self._first:
            start = sequence - self._first
            return self._base, self._offsets[start : start + count]
        at = bisect_right(self.firsts, sequence) - 1
        base, first, end = self.bases[at], self.firsts[at], self._end(at)
        start, stop = sequence - first, min(sequence + count, end) - first
        if self.places[at] != IN_MEMORY:
            found = self.indexes.sealed_offsets(base, self.places[at], end - first, start, stop)
            if found is not None:
                return base, found
            self.indexes.seal_again(base)
        return base, self.memory[base][start:stop]

    def _end(self, slice_number: int) -> int:
        """Return the sequence of the first record behind a slice."""
        return self.firsts[slice_number + 1] if slice_number + 1 < len(self.firsts) else self._first

    def has(self, position: int) -> bool:
        """Return whether one of the stream's records begins at a position."""
        if position >= self._base:
            return position - self._base in self._offsets
        at = bisect_right(self.bases, position) - 1
        if at < 0:
            return False
        first = self.firsts[at]
        base, offsets = self.offsets(first, self._end(at) - first)
        return position - base in offsets

    def replay(self, sequence: int, limit: int = READ_BYTES) -> bytes:
        """Return a stream message of the records from a sequence on, about `limit` bytes of the log at most.

        Raises Damaged, with the sequence, where the first of them can't be read.
        """
        sequence = max(sequence, 1)
        if sequence > self.last:
            return stream_message(self.name, self.last, ())
        try:
            base, offsets = self.offsets(sequence, MOST_RECORDS)
            bodies = self.indexes.log.read_at(base, offsets, limit)
        except Damaged as error:
            error.sequence = sequence
            raise
        return stream_message(self.name, self.last, bodies)


class Indexes:
    """The indexes of all streams of a log, and what of them its seals hold.

    `streams_of(body)` says which streams a record is the next of.
    """

    def __init__(self, log: Log, streams_of: Callable[[bytes], Iterable[str]]) -> None:
        self.log = log
        self.streams_of = streams_of
        self.by_name: dict[str, Index] = {}
        log.on_segment = self._begin_segment
        self.bodies: dict[int, int] = {}  # of sealed segments: where the seal's body begins
        self.chunks: dict[tuple[int, int, int], array[int]] = {}  # read last: by base, place, number

    def of(self, name: str) -> Index:
        """Return a stream's index, made where there is none."""
        index = self.by_name.get(name)
        if index is None:
            index = self.by_name[name] = Index(name, self)
        return index

    def _begin_segment(self, base: int) -> None:
        for index in self.by_name.values():
            index.begin_segment(base)

    def load(self, seal: Seal) -> bool:
        """Note what a seal says of the next segment; return False, having noted nothing, where that can't be."""
        for stream in seal.streams:
            index = self.by_name.get(stream.name)
            if stream.count < 1 or stream.first != (1 if index is None else index.last + 1):
                logger.warning("%s: %s does not go on at %d", seal.path, stream.name, stream.first)
                return False
        for stream in seal.streams:
            self.of(stream.name).add_sealed(seal.base, stream.first, stream.count, stream.place)
        self.bodies[seal.base] = seal.body_at
        return True

    def proves(self, seal: Seal, stream: Stream) -> bool:
        """Return whether a seal is of the segment beside it: a record with the last one's checksum ends where it says.

        `stream` is the one that the last record is of. A call reads the record's header and a chunk of offsets.
        """
        disk, start, last_chunk = self.log.disk, seal.body_at + stream.place, max(stream.count - 1, 0) // CHUNK
        if offsets := read_offsets(disk, seal.path, start, stream.count, last_chunk):
            header = read_part(disk, seal.path.with_suffix(".log"), offsets[-1], RECORD.size)
            if len(header) == RECORD.size:
                magic, checksum, _, length, _ = RECORD.unpack(header)
                end = offsets[-1] + RECORD.size + length
                if (magic, checksum, end) == (MAGIC, seal.checksum, seal.end):
                    return True
        logger.warning("%s: the seal is of another segment, or one of them is damaged; the segment is read", seal.path)
        return False

    def streams_in(self, segment: Segment) -> "list[tuple[str, int, array[int]]]":
        """Return what of the streams is in a segment that has no seal: name, first sequence, offsets."""
        base = segment.base
        return [
            (name, index.first_in(base), index.memory[base])
            for name, index in self.by_name.items()
            if base in index.memory
        ]

    def sealed(self, seals: Iterable[Seal]) -> None:
        """Let go of what is in these seals now."""
        for seal in seals:
            for stream in seal.streams:
                self.by_name[stream.name].seal(seal.base, stream.place)
            self.bodies[seal.base] = seal.body_at
            self.chunks = {key: chunk for key, chunk in self.chunks.items() if key[0] != seal.base}

    def sealed_offsets(self, base: int, place: int, count: int, start: int, stop: int) -> "array[int] | None":
        """Return some of a slice's `count` offsets from its segment's seal, None where that is damaged."""
        found = array("I")
        for number in range(start // CHUNK, (stop - 1) // CHUNK + 1):
            chunk = self.chunks.get((base, place, number))
            if chunk is None:
                path = self.log.folder / seal_name(base)
                chunk = read_offsets(self.log.disk, path, self.bodies[base] + place, count, number)
                if chunk is None:
                    logger.warning("%s: the seal is damaged; it is made again from its segment", path)
                    return None
                if len(self.chunks) >= CACHED_CHUNKS:
                    del self.chunks[next(iter(self.chunks))]
                self.chunks[base, place, number] = chunk
            at = number * CHUNK
            found += chunk[max(start - at, 0) : stop - at]
        return found

    def find_again(self, base: int) -> Segment:
        """Find what is in a sealed segment without its seal, and keep it in memory until it is sealed again.

        Raises Damaged where the segment is damaged, Archived where it was moved away.
        """
        found: dict[str, array[int]] = {}

        def on_record(position: int, body: bytes) -> None:
            for name in self.streams_of(body):
                found.setdefault(name, array("I")).append(position - base)

        segment = self.log.read_again(base, on_record)
        for name, offsets in found.items():
            self.by_name[name].unseal(base, offsets)
        return segment

    def seal_again(self, base: int) -> None:
        """Have a segment sealed again, its seal being damaged, with the state that is in it. Raises as `find_again`."""
        segment = self.find_again(base)
        old = read_seal(self.log.disk, self.log.folder / seal_name(base))
        state = None if old is None else read_state(self.log.disk, old)
        draft = Draft(segment, self.streams_in(segment), state)
        if old is not None and old.state is not None:
            draft.position, draft.checksum = old.state.position, old.state.checksum
        self.log.sealer.add(draft)
