"""Snapshots of a daemon's state, so that a start need not begin with the first request. None of them is a truth.

    <sequence>.snapshot   <8sIQQ   magic, version, sequence, length of the body; all little-endian
                          body     `length` bytes
                          SHA-256  of all before it

`sequence` is the last of the stream whose effects the state holds, in the name with 20 digits. A snapshot is written
beside its place, as `.unfinished`, and named only when it is on disk: whatever is killed, one that has its name is
whole. Those before it go after that, so that there is always one to start from; what is in the body is its owner's.
"""

import hashlib
import logging
import struct
from collections.abc import Iterator
from pathlib import Path

from exchange.pipeline.disk import Disk

VERSION = 1
MAGIC = b"EXCHSNAP"
HEADER = struct.Struct("<8sIQQ")
HASH_BYTES = 32
SUFFIX = ".snapshot"
UNFINISHED = ".unfinished"
KEEP = 2  # sound ones: where the newest turns out to be damaged, there is the one before

logger = logging.getLogger(__name__)


class Unusable(Exception):
    """A file that is no snapshot to start from; the text says why."""


class Snapshots:
    """The snapshots in a folder. One process at a time writes there, which the caller ensures by a lock."""

    def __init__(self, disk: Disk, folder: Path, keep: int = KEEP) -> None:
        self.disk = disk
        self.folder = folder
        self.keep = keep

    def save(self, sequence: int, body: bytes) -> bool:
        """Write a snapshot, then remove all but the newest `keep` sound ones up to it.

        Returns False where it can't be written, for want of room for example: that is logged, and nothing else has
        changed. What is later than `sequence` is of a history that has been lost, and removed too.
        """
        try:
            self.disk.make_folder(self.folder)
            self._write(sequence, body)
        except OSError as error:
            logger.warning("%s: the snapshot of %d could not be written: %s", self.folder, sequence, error)
            self._remove_unfinished()
            return False
        self._remove_others(sequence)
        return True

    def load(self) -> Iterator[tuple[int, bytes]]:
        """Yield (sequence, body) of the sound snapshots, newest first; each other is logged, with its reason.

        Removes what was left unfinished.
        """
        self._remove_unfinished()
        yield from self.sound()

    def sound(self) -> Iterator[tuple[int, bytes]]:
        """Yield the same, and change nothing: also for who is not the one process that writes there."""
        for sequence in reversed(self.sequences()):
            try:
                yield sequence, self._read(sequence)
            except (Unusable, OSError) as error:
                logger.warning("%s: passed over: %s", self._path(sequence), error)

    def sequences(self) -> list[int]:
        """Return the sequences of which there are snapshots, sound or not, rising."""
        stems = [name.removesuffix(SUFFIX) for name in self.disk.names(self.folder) if name.endswith(SUFFIX)]
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    def _write(self, sequence: int, body: bytes) -> None:
        unfinished = self.folder / f"{sequence:020d}{UNFINISHED}"
        header = HEADER.pack(MAGIC, VERSION, sequence, len(body))
        file = self.disk.open(unfinished, create=True)
        try:
            self.disk.write(file, header, 0)
            self.disk.write(file, body, len(header))
            self.disk.write(file, _hash(header, body), len(header) + len(body))
            self.disk.truncate(file, len(header) + len(body) + HASH_BYTES)
            self.disk.sync(file)
        finally:
            self.disk.close(file)
        self.disk.rename(unfinished, self._path(sequence))
        self.disk.sync_folder(self.folder)

    def _read(self, sequence: int) -> bytes:
        """Return a snapshot's body. Raises Unusable, or OSError."""
        file = self.disk.open(self._path(sequence))
        try:
            data = memoryview(self.disk.read(file, self.disk.size(file), 0))
        finally:
            self.disk.close(file)
        if len(data) < HEADER.size + HASH_BYTES:
            raise Unusable(f"damaged: it has {len(data)} bytes, and the least is {HEADER.size + HASH_BYTES}")
        magic, version, found, length = HEADER.unpack_from(data)
        if magic != MAGIC:
            raise Unusable(f"damaged: it begins with {magic!r}, not {MAGIC!r}")
        if version > VERSION:
            raise Unusable(f"format version {version}, and this program reads up to {VERSION}: a newer one wrote it")
        if len(data) != HEADER.size + length + HASH_BYTES:
            raise Unusable(f"damaged: it has {len(data)} bytes and says {HEADER.size + length + HASH_BYTES}")
        body = data[HEADER.size : -HASH_BYTES]
        if _hash(data[: HEADER.size], body) != data[-HASH_BYTES:]:
            raise Unusable("damaged: its content is not what its SHA-256 says")
        if found != sequence:
            raise Unusable(f"it is the snapshot of {found}, under another's name")
        return bytes(body)

    def _remove_others(self, saved: int) -> None:
        """Remove all snapshots but one that was just saved, and the sound ones before it that are kept."""
        kept = 0
        for sequence in reversed(self.sequences()):
            if sequence <= saved and kept < self.keep and self._is_sound(sequence):
                kept += 1
            else:
                self.disk.unlink(self._path(sequence), missing_ok=True)

    def _is_sound(self, sequence: int) -> bool:
        try:
            self._read(sequence)
        except (Unusable, OSError):
            return False
        return True

    def _remove_unfinished(self) -> None:
        for name in self.disk.names(self.folder):
            if name.endswith(UNFINISHED):
                self.disk.unlink(self.folder / name, missing_ok=True)

    def _path(self, sequence: int) -> Path:
        return self.folder / f"{sequence:020d}{SUFFIX}"


def _hash(header: bytes | memoryview, body: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(header)
    digest.update(body)
    return digest.digest()
