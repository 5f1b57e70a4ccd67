"""Where in the journal each id that clients chose was used: a hash table on disk, so that memory does not grow with it.

An entry is a hint. What it points to is read and compared before anything follows from it; so neither two ids with one
hash do harm, nor an entry that outlived what it pointed to (of a request that was never acknowledged, say). An entry
must not be missing, though: after a start all that was taken since the last `sync` is added again.

    header         <8sI4xQQQI   magic, version, the two primes, what tells this table from others, CRC-32 of all that
    <number>.ids   slots of 8 bytes, of the machine's byte order: 0, or the low 16 bits of the hash, then the position
    checkpoint     MessagePack: what a start compares the files with; then the filter: a bit for each of the hash's top
                   bits, set where any id has them; then the CRC-32 of all that

A checkpoint is written by each `sync`, as a whole, and says up to which position of the journal the table is complete,
the CRC-32 of each file that is filled, and of the last one a sum over the entries up to that position, each with its
place. A table that does not agree with it has lost ids, or is an older copy: it is not used.

A file of slots is filled to a half, in which an id is at the first free slot from its hash's top bits on; then comes
the next one. So nothing is ever rebuilt. Most ids that are looked for are new, and most of those are not in the filter:
they cost one look, however many ids there are. The files are mapped into memory: the kernel keeps of them what is used,
and writes it when it likes. They are small, so that what is written before a `sync` returns is not much. The filter is
in the process's memory.

The hash is the text as a number, modulo two secret primes of 30 bits, by which Python divides quickest. The first gives
the slot: two texts of at most 80 bytes have the same one for 21 at most of the six million primes that may have been
drawn, and such that lie close together are spread by what a power of 256 is modulo the prime. So whoever does not know
it can't choose ids that meet, which would make lookups slower and nothing worse. (A keyed BLAKE2 takes four times the
time, which is a tenth of what an order costs.)
"""

import logging
import struct
import zlib
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from exchange.pipeline.allocator import RETRY_SECONDS, check_room
from exchange.pipeline.world import World

VERSION = 1
MAGIC = b"EXCHIDS\n"
HEADER = struct.Struct("<8sI4xQQQ")
HEADER_BYTES = HEADER.size + 4
SLOT_BYTES = 8
PRIME_BITS = 30
HASH_BITS = 2 * PRIME_BITS
POSITION_BITS = 48
MOST_POSITION = 2**POSITION_BITS - 1
SLOTS = 2**22  # of a file: 32 MiB, for two million ids
FILTER_BYTES = 2**25  # 32 MiB: of ten million ids, one new one in 27 is looked for in vain; of a hundred, one in three
PART_SLOTS = 2**12  # of a file, looked at at a time
PART_BYTES = 2**20  # of the filter, written or read at a time
SUFFIX = ".ids"
PADDING_BITS = 32  # below a text's number, so that a short one is larger than the prime too

Hash = tuple[int, int]  # the text modulo the first prime; and the tag: the low bits modulo the second, as in an entry

as_number = int.from_bytes

logger = logging.getLogger(__name__)


class Unusable(Exception):
    """There is no sound table in the folder; the text says why. `create` makes a new one."""


class NoRoom(Exception):
    """The table is full, and its next file could not be allocated yet: there was no `room`."""


class Mapped(NamedTuple):
    """A file and its content in memory."""

    content: memoryview
    file: int


class Mark(Struct, frozen=True, array_like=True):
    """The table as of a position of the journal: how many files it had, and the sum of the last one's entries."""

    position: int = 0
    files: int = 1
    sum: int = 0  # modulo 2^64


class Checkpoint(Struct, frozen=True, array_like=True):
    """What a start compares the table with. `filled` are the CRC-32s of the files before the mark's last one."""

    number: int
    mark: Mark
    filled: list[int]


class IdTable:
    """The table in a folder: `open` or `create` it, `add_again` what came since the last `sync`, then `start`.

    The next file of slots is allocated ahead of its use, beside the caller's loop. `slots` and `filter_bytes` are
    powers of 2, and what a table was made with.
    """

    def __init__(self, world: World, folder: Path, slots: int = SLOTS, filter_bytes: int = FILTER_BYTES) -> None:
        self.world = world
        self.disk = world.disk
        self.folder = folder
        self.slots = slots
        self.filter_bytes = filter_bytes
        self.primes: tuple[int, int] = (1, 1)
        self.number = 0
        self.error = ""  # why there is no room for the next file
        self._shift, self._mask = (
            PRIME_BITS + 1 - slots.bit_length(),
            slots - 1,
        )  # an id's first slot is `first >> shift`
        self._byte_shift = PRIME_BITS + 1 - filter_bytes.bit_length()  # of the filter
        self._bit_shift = self._byte_shift - 3
        assert min(self._shift, self._bit_shift) >= 0, "the first half of a hash says all"
        self._bits = bytearray()  # the filter
        self._files: list[Mapped] = []  # the last one is added to
        self._filled: list[int] = []  # the CRC-32s of the first of them, as far as they have been worked out
        self._sum = 0  # of the last one's entries, each times its place: see `_times_place`
        self._mark = Mark()
        self.position = 0  # up to which the table was complete when it was synced last
        self._left = 0  # how many more it takes
        self.room = 0  # how many ids are sure to find room on disk
        self._prepare_at = slots // 4  # how many it still takes when the next is allocated
        self._next: Mapped | None = None
        self._preparing = self._started = False
        self._failed_at: float | None = None

    # -- opening -------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the table that is there. Raises Unusable where there is none, or it is damaged, or a newer version's."""
        self._read_header()
        self.disk.unlink(self._ahead, missing_ok=True)
        numbers = [int(name.removesuffix(SUFFIX)) for name in self.disk.names(self.folder) if name.endswith(SUFFIX)]
        if not numbers or numbers != list(range(len(numbers))):
            raise Unusable(f"{self.folder}: a file of the table is missing: there are numbers {numbers}")
        for number in numbers:
            file = self._open(self._path(number), self.slots * SLOT_BYTES)
            self._files.append(Mapped(file.content.cast("Q"), file.file))
        self._compare(self._read_checkpoint())
        self._count_room()

    def _compare(self, checkpoint: Checkpoint) -> None:
        """Take over how full the last file is. Raises Unusable where the files have lost what was in them."""
        mark = checkpoint.mark
        if checkpoint.number != self.number or not 0 < mark.files <= len(self._files):
            raise Unusable(f"{self._checkpoint}: is of another table, or files of this one are missing")
        for number, crc in enumerate(checkpoint.filled[: mark.files - 1]):
            if zlib.crc32(self._files[number].content) != crc:
                raise Unusable(f"{self._path(number)}: is damaged")
        for number, mapped in enumerate(self._files[mark.files - 1 :], mark.files - 1):
            until, self._sum, used = _add_up(mapped.content, mark.position)
            self._left = max(self.slots // 2 - used, 0)
            if number == mark.files - 1 and until != mark.sum:
                raise Unusable(f"{self._path(number)}: is damaged, or an older copy")
        self._filled = checkpoint.filled[: mark.files - 1]
        self._mark, self.position = mark, mark.position

    def _read_checkpoint(self) -> Checkpoint:
        """Return the checkpoint, and take its filter. Raises Unusable."""
        try:
            file = self.disk.open(self._checkpoint)
        except FileNotFoundError:
            raise Unusable(f"{self._checkpoint}: is missing") from None
        try:
            data = self.disk.read(file, self.disk.size(file), 0)
        finally:
            self.disk.close(file)
        head = len(data) - self.filter_bytes - 4
        if head < 0 or zlib.crc32(memoryview(data)[:-4]) != int.from_bytes(data[-4:], "little"):
            raise Unusable(f"{self._checkpoint}: is damaged")
        self._bits = bytearray(memoryview(data)[head:-4])
        try:
            return msgspec.msgpack.decode(data[:head], type=Checkpoint)
        except msgspec.DecodeError as error:
            raise Unusable(f"{self._checkpoint}: is not understood: {error}") from None

    def _open(self, path: Path, size: int) -> Mapped:
        try:
            file = self.disk.open(path)
        except FileNotFoundError:
            raise Unusable(f"{path}: is missing") from None
        if self.disk.size(file) != size:
            self.disk.close(file)
            raise Unusable(f"{path}: has not the {size} bytes that were allocated for it")
        return Mapped(self.disk.map(file, size), file)

    def create(self) -> None:
        """Make a new table, with new secrets, in place of what is there. Raises OSError where there is no room."""
        self.close()
        self.disk.make_folder(self.folder)
        self.disk.unlink(self._header, missing_ok=True)  # first: what is left without it is no table
        self.disk.sync_folder(self.folder)
        for name in self.disk.names(self.folder):
            self.disk.unlink(self.folder / name)
        # The primes are near the power of two, so that nearly all slots have a hash.
        first, second = (_prime_from(7 << PRIME_BITS - 3 | self._random(PRIME_BITS - 3) | 1) for _ in range(2))
        self.primes = first, second
        self.number = self._random(HASH_BITS)
        self._bits = bytearray(self.filter_bytes)
        self._filled, self._mark, self.position = [], Mark(), 0
        self._begin_next()
        self._write_checkpoint(Checkpoint(self.number, self._mark, []))
        header = HEADER.pack(MAGIC, VERSION, *self.primes, self.number)
        unfinished = self.folder / "header.unfinished"
        file = self.disk.open(unfinished, create=True)
        try:
            self.disk.write(file, header + zlib.crc32(header).to_bytes(4, "little"), 0)
            self.disk.sync(file)
        finally:
            self.disk.close(file)
        self.disk.rename(unfinished, self._header)
        self.disk.sync_folder(self.folder)

    def _random(self, bits: int) -> int:
        return int.from_bytes(self.world.random_bytes(8), "little") >> 64 - bits

    def start(self) -> None:
        """From now on room is made beside the loop, and an `add` needs it (see `room`); so far `add` made it."""
        self._started = True
        if self._left <= self._prepare_at:
            self._prepare()

    def _read_header(self) -> None:
        try:
            file = self.disk.open(self._header)
        except FileNotFoundError:
            raise Unusable(f"{self.folder}: there is no table of ids") from None
        try:
            data = self.disk.read(file, HEADER_BYTES + 1, 0)
        finally:
            self.disk.close(file)
        if len(data) != HEADER_BYTES or zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
            raise Unusable(f"{self._header}: is damaged")
        magic, version, first, second, self.number = HEADER.unpack_from(data)
        self.primes = first, second
        if magic != MAGIC or version > VERSION:
            raise Unusable(f"{self._header}: format {magic!r} version {version}, and this program reads {VERSION}")

    def has_all(self, number: int, position: int) -> bool:
        """Return whether this is the table of that number, and was complete up to that position when it was opened."""
        return self.number == number and self.position >= position

    def mark(self, position: int) -> None:
        """Note that all ids up to a position of the journal are in the table: the next `sync` says so."""
        self._mark = Mark(position, len(self._files), self._sum % 2**64)

    # -- ids -----------------------------------------------------------------------------------------------------------

    def hash(self, text: str) -> Hash:
        """Return the hash under which a text is found."""
        number = as_number(text.encode(), "little") << PADDING_BITS
        first, second = self.primes
        return number % first, (number % second & 0xFFFF) << POSITION_BITS

    def add(self, ids: Iterable[tuple[Hash, int]]) -> None:
        """Note positions, from 1 on, under their hashes. Where one is there already, nothing changes."""
        bits, byte_shift, bit_shift = self._bits, self._byte_shift, self._bit_shift
        shift, mask = self._shift, self._mask
        slots, left, total = self._files[-1].content, self._left, self._sum
        for (first, tag), position in ids:
            if left <= 0:
                self._begin_next()
                slots, left, total = self._files[-1].content, self._left, 0
            bits[first >> byte_shift] |= 1 << (first >> bit_shift & 7)
            entry = tag | position
            place = first >> shift
            while (found := slots[place]) and found != entry:
                place = place + 1 & mask
            if not found:
                slots[place] = entry
                left -= 1
                total += entry * (place << 1 | 1)
        self._left, self._sum = left, total
        self._count_room()
        if left <= self._prepare_at and self._started and not self.error:
            self._prepare()

    def add_again(self, hash_: Hash, position: int) -> None:
        """Note a position that may have been noted before the last start."""
        if position not in self.find(hash_):
            self.add([(hash_, position)])

    def find(self, hash_: Hash) -> Iterable[int]:
        """Return the positions that may be meant, the latest first: hardly one of them was noted under another hash."""
        first = hash_[0]
        if self._bits[first >> self._byte_shift] >> (first >> self._bit_shift & 7) & 1:
            return self._find(hash_)
        return ()

    def find_text(self, text: str) -> tuple[Hash, Iterable[int]]:
        """Return a text's hash, and what `find` gives for it: both at once, since every order asks for them."""
        number = as_number(text.encode(), "little") << PADDING_BITS
        prime, second = self.primes
        first = number % prime
        hash_ = first, (number % second & 0xFFFF) << POSITION_BITS
        if self._bits[first >> self._byte_shift] >> (first >> self._bit_shift & 7) & 1:
            return hash_, self._find(hash_)
        return hash_, ()

    def _find(self, hash_: Hash) -> Iterator[int]:
        first, tag = hash_
        for slots, _ in reversed(self._files):
            place = first >> self._shift
            while entry := slots[place]:
                if entry & ~MOST_POSITION == tag:
                    yield entry & MOST_POSITION
                place = place + 1 & self._mask

    def sync(self) -> None:
        """Return when all that was added is on disk. May run beside the loop, or in a copy of the process.

        After an OSError the table is none any more, and the next start makes it again: what failed to get to disk the
        system takes for written from then on, so that no later sync would bring it there.
        """
        mark = self._mark
        try:
            for mapped in self._files[len(self._filled) :]:
                self.disk.sync(mapped.file)
        except OSError:
            self.disk.unlink(self._header, missing_ok=True)
            raise
        for mapped in self._files[len(self._filled) : mark.files - 1]:
            self._filled.append(zlib.crc32(mapped.content))
        self._write_checkpoint(Checkpoint(self.number, mark, self._filled))

    def _write_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint with the filter as it is: bits that are set meanwhile may or may not be in it."""
        unfinished = self._checkpoint.with_suffix(".unfinished")
        head = msgspec.msgpack.encode(checkpoint)
        check_room(self.world, unfinished, len(head) + self.filter_bytes)
        file = self.disk.open(unfinished, create=True)
        try:
            self.disk.truncate(file, 0)
            self.disk.write(file, head, 0)
            crc = zlib.crc32(head)
            for offset in range(0, self.filter_bytes, PART_BYTES):
                part = bytes(self._bits[offset : offset + PART_BYTES])
                self.disk.write(file, part, len(head) + offset)
                crc = zlib.crc32(part, crc)
            self.disk.write(file, crc.to_bytes(4, "little"), len(head) + self.filter_bytes)
            self.disk.sync(file)
        finally:
            self.disk.close(file)
        self.disk.rename(unfinished, self._checkpoint)
        self.disk.sync_folder(self.folder)

    # -- room ----------------------------------------------------------------------------------------------------------

    def _count_room(self) -> None:
        self.room = self._left + (0 if self._next is None else self.slots // 2)

    def tend(self, now: float) -> None:
        """Try again, a second after it failed, to allocate the next file. `now` is in seconds."""
        if not self.error or self._preparing or self._next is not None:
            return
        if self._failed_at is None:
            self._failed_at = now
        elif now - self._failed_at >= RETRY_SECONDS:
            self._failed_at = None
            self._prepare()

    def _prepare(self) -> None:
        """Have the next file of slots allocated, beside the loop."""
        if self._next is None and not self._preparing:
            self._preparing = True
            self.world.run_aside(self._attempt)

    def _attempt(self) -> None:
        try:
            self._next = self._allocate_slots()
            self._count_room()
            self.error = ""
        except OSError as error:
            if self.error != str(error):
                logger.warning("%s: no room for more ids: %s; trying again", self.folder, error)
            self.error = str(error)
        finally:
            self._preparing = False

    def _begin_next(self) -> None:
        if self._next is None:
            if self._started:
                raise NoRoom(f"{self.folder}: no room for more ids: {self.error or 'it is being allocated'}")
            self._next = self._allocate_slots()
        self.disk.rename(self._ahead, self._path(len(self._files)))
        self._files.append(self._next)
        self._next = None
        self._left, self._sum = self.slots // 2, 0
        self._count_room()

    def _allocate_slots(self) -> Mapped:
        mapped = self._allocate(self.slots * SLOT_BYTES)
        return Mapped(mapped.content.cast("Q"), mapped.file)

    def _allocate(self, size: int) -> Mapped:
        """Return a new file full of zeros, with room on disk, under the name of what is allocated ahead."""
        check_room(self.world, self._ahead, size)
        self.disk.unlink(self._ahead, missing_ok=True)
        file = self.disk.open(self._ahead, create=True)
        try:
            self.disk.allocate(file, size)
            self.disk.sync(file)
        except OSError:
            self.disk.close(file)
            self.disk.unlink(self._ahead, missing_ok=True)
            raise
        return Mapped(self.disk.map(file, size), file)

    @property
    def _header(self) -> Path:
        return self.folder / "header"

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint"

    @property
    def _ahead(self) -> Path:
        return self.folder / "next"

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}{SUFFIX}"

    @property
    def count(self) -> int:
        """About how many ids there are."""
        return len(self._files) * (self.slots // 2) - self._left

    @property
    def files(self) -> int:
        """How many files of slots there are."""
        return len(self._files)

    @property
    def disk_bytes(self) -> int:
        """How much of the disk the table takes, what is allocated ahead included."""
        return self.filter_bytes + (len(self._files) + (self._next is not None)) * self.slots * SLOT_BYTES

    def close(self) -> None:
        for mapped in (*self._files, *filter(None, [self._next])):
            mapped.content.release()
            if mapped.file >= 0:
                self.disk.close(mapped.file)
        self._next = None
        self._files.clear()


def _add_up(slots: memoryview, before: int) -> tuple[int, int, int]:
    """Return a file's sum of entries up to a position, that of all, and how many there are.

    Each entry counts times a number that its place gives. Those are odd, so that modulo 2^64 no bit is lost.
    """
    until = after = used = 0
    for start in range(0, len(slots), PART_SLOTS):
        part = slots[start : start + PART_SLOTS].tobytes()
        if part.count(0) == len(part):
            continue
        for place, entry in enumerate(array("Q", part), start):
            if entry:
                used += 1
                if entry & MOST_POSITION < before:
                    until += entry * (place << 1 | 1)
                else:
                    after += entry * (place << 1 | 1)
    return until % 2**64, until + after, used


def _prime_from(number: int) -> int:
    """Return the least prime from an odd number on."""
    while not _is_prime(number):
        number += 2
    return number


def _is_prime(number: int) -> bool:
    """Return whether an odd number is prime, by Miller and Rabin; these bases are enough up to 3 x 10^23."""
    bases = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
    if any(number % base == 0 for base in bases):
        return number in bases
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in bases:
        power = pow(base, odd, number)
        if power in (1, number - 1):
            continue
        for _ in range(twos - 1):
            power = power * power % number
            if power == number - 1:
                break
        else:
            return False
    return True
