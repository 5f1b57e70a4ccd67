"""Seals: what a start need not find out again about a segment that is full, in a file `<base>.seal` beside it.

    head       <8sIIQQQIII   magic, version, length of the directory, base, size, end (the offset after the last
                             record), checksum of the record before the first, of the last one, CRC-32 of the segment
                             up to `end`
               directory     MessagePack: the streams that have records in the segment, with their places; the state
               SHA-256 of all that
    body       offsets       of each stream in turn: where in the segment its records begin, u32, 4,096 of them and
                             their CRC-32 at a time
               state         what the log's owner would otherwise make from all records so far; it has a SHA-256 too

Places in the body count from its beginning. All numbers are little-endian. A seal is written once, under another name,
synced, and renamed; it is never changed. To lose one is no loss: the segment is read, and sealed again.
"""

import hashlib
import logging
import struct
import zlib
from array import array
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from exchange.pipeline.allocator import RETRY_SECONDS, check_room
from exchange.pipeline.disk import Disk
from exchange.pipeline.log_format import Segment
from exchange.pipeline.world import World

VERSION = 1
MAGIC = b"EXCHSEAL"
HEAD = struct.Struct("<8sIIQQQIII")
DIGEST_BYTES = 32
HEAD_READ_BYTES = 16 * 1024  # most heads are shorter, and read with one call
MAX_DIRECTORY_BYTES = 2**28
CHUNK = 4096  # offsets
CHUNK_BYTES = CHUNK * 4 + 4
UNFINISHED = ".unfinished"

logger = logging.getLogger(__name__)


class Stream(Struct, frozen=True, array_like=True, gc=False):
    """A stream's records in a segment: the first's sequence, how many, where in the seal's body their offsets are."""

    name: str
    first: int
    count: int
    place: int


class State(Struct, frozen=True, array_like=True, gc=False):
    """An owner's state as of a position, at or behind the segment's end, and the checksum of the record before it."""

    position: int
    checksum: int
    place: int
    size: int
    digest: bytes


class Directory(Struct, frozen=True, array_like=True, gc=False):
    streams: list[Stream]
    state: State | None = None


class Seal(Struct, frozen=True, gc=False):
    """A seal's head, as it was read or written. `previous`, `checksum`, `crc`: see the module."""

    path: Path
    base: int
    size: int
    end: int
    previous: int
    checksum: int
    crc: int
    streams: list[Stream]
    state: State | None
    body_at: int  # offset in the file


class Draft:
    """What is to be in a seal. `prepare` is called, beside the loop, before it is written."""

    def __init__(
        self,
        segment: Segment,
        streams: "list[tuple[str, int, array[int]]]",
        state: bytes | None = None,
        position: int = 0,
        checksum: int = 0,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self.segment = segment
        self.streams = streams
        self.state, self.position, self.checksum = state, position, checksum
        self.prepare = prepare
        self.seal: Seal | None = None  # once it is written, under its unfinished name
        self.failed = False  # the last attempt
        self.error = ""  # of the last attempt that failed

    def encode(self) -> tuple[bytes, Seal]:
        """Return the seal's bytes and what they say."""
        parts: list[bytes] = []
        streams: list[Stream] = []
        place = 0
        for name, first, offsets in self.streams:
            streams.append(Stream(name, first, len(offsets), place))
            for start in range(0, len(offsets), CHUNK):
                data = offsets[start : start + CHUNK].tobytes()
                parts += (data, zlib.crc32(data).to_bytes(4, "little"))
                place += len(data) + 4
        state = None
        if self.state is not None:
            digest = hashlib.sha256(self.state).digest()
            state = State(self.position, self.checksum, place, len(self.state), digest)
            parts.append(self.state)
        segment = self.segment
        directory = msgspec.msgpack.encode(Directory(streams, state))
        facts = (segment.base, segment.size, segment.end, segment.previous, segment.checksum, segment.crc)
        head = HEAD.pack(MAGIC, VERSION, len(directory), *facts) + directory
        head += hashlib.sha256(head).digest()
        return b"".join((head, *parts)), Seal(seal_path(segment.path), *facts, streams, state, len(head))


def seal_path(segment: Path) -> Path:
    return segment.with_suffix(".seal")


def seal_name(base: int) -> str:
    return f"{base:020d}.seal"


def read_seal(disk: Disk, path: Path) -> Seal | None:
    """Return a seal's head; None, saying why unless it is missing, where there is no valid one of this version."""
    try:
        file = disk.open(path)
    except FileNotFoundError:
        return None
    try:
        head = disk.read(file, HEAD_READ_BYTES, 0)
        if len(head) >= HEAD.size:
            end = HEAD.size + min(HEAD.unpack_from(head)[2], MAX_DIRECTORY_BYTES) + DIGEST_BYTES
            head = head[:end] if end <= len(head) else disk.read(file, end, 0)
    finally:
        disk.close(file)
    try:
        seal = _decode(path, head)
    except ValueError as error:
        logger.warning("%s: %s; it is made again from its segment", path, error)
        return None
    return seal


def _decode(path: Path, head: bytes) -> Seal:
    """Return what a head says. Raises ValueError where it is damaged, or of another version."""
    if len(head) < HEAD.size + DIGEST_BYTES:
        raise ValueError("the seal is cut off")
    magic, version, _, base, size, end, previous, checksum, crc = HEAD.unpack_from(head)
    if hashlib.sha256(head[:-DIGEST_BYTES]).digest() != head[-DIGEST_BYTES:]:
        raise ValueError("the seal is damaged")
    if magic != MAGIC or version != VERSION:
        raise ValueError(f"a seal of format {magic!r} version {version}, and this program reads version {VERSION}")
    try:
        directory = msgspec.msgpack.decode(head[HEAD.size : -DIGEST_BYTES], type=Directory)
    except msgspec.DecodeError as error:
        raise ValueError(f"the seal is not understood: {error}") from None
    if seal_name(base) != path.name:
        raise ValueError(f"the seal is of the segment at {base}")
    return Seal(path, base, size, end, previous, checksum, crc, directory.streams, directory.state, len(head))


def read_offsets(disk: Disk, seal: Path, at: int, count: int, number: int) -> "array[int] | None":
    """Return a chunk of a stream's offsets, None where it is damaged.

    The `number`-th, from 0 on, of the `count` offsets that begin at `at` in the file.
    """
    size = min(CHUNK, count - number * CHUNK) * 4
    data = read_part(disk, seal, at + number * CHUNK_BYTES, size + 4)
    if len(data) != size + 4 or zlib.crc32(data[:size]) != int.from_bytes(data[size:], "little"):
        return None
    offsets = array("I")
    offsets.frombytes(data[:size])
    return offsets


def read_state(disk: Disk, seal: Seal) -> bytes | None:
    """Return the state in a seal, None where there is none or it is damaged."""
    if seal.state is None:
        return None
    data = read_part(disk, seal.path, seal.body_at + seal.state.place, seal.state.size)
    if hashlib.sha256(data).digest() == seal.state.digest:
        return data
    logger.warning("%s: the state in the seal is damaged; an older one is taken", seal.path)
    return None


def read_part(disk: Disk, path: Path, offset: int, size: int) -> bytes:
    """Return a part of a file, less where it ends, nothing where there is no such file."""
    try:
        file = disk.open(path)
    except FileNotFoundError:
        return b""
    try:
        return disk.read(file, size, offset)
    finally:
        disk.close(file)


class Sealer:
    """Writes seals beside the loop, one after the other. Where one can't be written, it is kept, and tried again.

    `durable` says whether the segments are on disk when they are filled; otherwise each is synced before it is sealed.
    """

    def __init__(self, world: World, durable: bool) -> None:
        self.world = world
        self.disk = world.disk
        self.durable = durable
        self.drafts: deque[Draft] = deque()
        self.retry_at: float | None = None
        self.stopping = False

    def add(self, draft: Draft) -> None:
        """Have a seal written, after those before it."""
        self.drafts.append(draft)
        if len(self.drafts) == 1:
            self._begin(draft)

    def finished(self) -> list[Seal]:
        """Put the seals that are written in their places and return them; begin the next."""
        seals: list[Seal] = []
        while self.drafts and (seal := self.drafts[0].seal) is not None:
            try:
                self.disk.rename(seal.path.with_name(seal.path.name + UNFINISHED), seal.path)
            except OSError as error:
                self._failed(self.drafts[0], error)
                break
            self.drafts.popleft().segment.sealed = True
            seals.append(seal)
            if self.drafts:
                self._begin(self.drafts[0])
        return seals

    def tend(self, now: float) -> list[Seal]:
        """Do as `finished`, and try again what failed, at most once a second. `now` in seconds."""
        seals = self.finished()
        if not self.drafts or not self.drafts[0].failed:
            self.retry_at = None
        elif self.retry_at is None:
            self.retry_at = now + RETRY_SECONDS
        elif now >= self.retry_at:
            self.retry_at = None
            self._begin(self.drafts[0])
        return seals

    def forget_from(self, base: int) -> None:
        """Write no seal of a segment at or behind a base, whose records are to be made again."""
        self.drafts = deque(draft for draft in self.drafts if draft.segment.base < base)

    def stop(self) -> None:
        self.stopping = True

    def _begin(self, draft: Draft) -> None:
        draft.failed = False
        self.world.run_aside(lambda: self._write(draft))

    def _write(self, draft: Draft) -> None:
        if self.stopping:
            return
        try:
            if draft.prepare is not None:
                draft.prepare()
            if not self.durable:
                self._sync(draft.segment.path)
            data, seal = draft.encode()
            unfinished = seal.path.with_name(seal.path.name + UNFINISHED)
            check_room(self.world, unfinished, len(data))
            file = self.disk.open(unfinished, create=True)
            try:
                self.disk.truncate(file, 0)
                self.disk.write(file, data, 0)
                self.disk.sync(file)
            finally:
                self.disk.close(file)
        except OSError as error:
            self._failed(draft, error)
        else:
            draft.seal = seal

    def _sync(self, path: Path) -> None:
        file = self.disk.open(path)
        try:
            self.disk.sync(file)
        finally:
            self.disk.close(file)

    def _failed(self, draft: Draft, error: OSError) -> None:
        if draft.error != str(error):
            logger.warning("%s: can't be sealed: %s; trying again", draft.segment.path, error)
        draft.seal = None
        draft.error = str(error)
        draft.failed = True
