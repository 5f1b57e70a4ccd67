"""A matching daemon's snapshots, against a fresh run of the core: each is the state of that run at its sequence.

    <sequence>.snapshot   <8sIQQ   magic, version, sequence, length of the body; the body; SHA-256 of all before it
    body                  MessagePack: [SHA-256 of the event log's record `sequence`, when it was taken, the state]

One that is damaged, or whose record is not the event log's, is passed over by a start: that is noted, and no
difference. One that is sound and wrong would be gone on from.
"""

import hashlib
import struct
from pathlib import Path

import msgspec
from msgspec import Struct

from exchange.audit.findings import Difference
from exchange.audit.values import shown
from exchange.core.matching import Matching
from exchange.core.matching_state import VERSION as STATE_VERSION
from exchange.core.matching_state import MatchingState, StateVersion, restore, state_of

CHECK = "snapshot"
REMEDY = "stop the matching daemon, remove the snapshot, and start the daemon: it goes on from another"
MAGIC = b"EXCHSNAP"
VERSION = 1
HEADER = struct.Struct("<8sIQQ")
HASH_BYTES = 32


class Body(Struct, frozen=True, array_like=True):
    record_hash: bytes
    taken: int
    state: msgspec.Raw


class Snapshot(Struct, frozen=True):
    """A sound snapshot of a state that this program reads."""

    path: Path
    sequence: int
    record_hash: bytes
    state: MatchingState

    def is_of(self, record: bytes) -> bool:
        """Return whether it was taken where the event log has this record."""
        return hashlib.sha256(record).digest() == self.record_hash

    def matching(self) -> Matching:
        return restore(self.state)

    def check(self, matching: Matching) -> None:
        """Compare it with a core that has come to its sequence. Raises Difference."""
        fresh = state_of(matching)
        for field in MatchingState.__struct_fields__:
            expected, found = getattr(fresh, field), getattr(self.state, field)
            if field == "version" or expected == found:
                continue
            if isinstance(expected, list):
                pairs = enumerate(zip(expected, found, strict=False))
                number = next((n for n, (a, b) in pairs if a != b), min(len(expected), len(found)))
                field = f"{field}, {number + 1} of {len(expected)}"
                expected, found = (each[number] if number < len(each) else "no more" for each in (expected, found))
            raise Difference(
                CHECK,
                f"the snapshot is not what a fresh run of the matching core comes to: {field}",
                file=str(self.path),
                sequence=self.sequence,
                expected=shown(expected),
                found=shown(found),
                remedy=REMEDY,
            )


def read_snapshots(folder: Path, notes: list[str]) -> dict[int, Snapshot]:
    """Return the sound snapshots in a folder by their sequences; what is passed over goes to `notes`."""
    found: dict[int, Snapshot] = {}
    for path in sorted(folder.glob("*.snapshot")):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue  # an older one, which has just gone
        try:
            snapshot = _decode(path, data)
        except (ValueError, msgspec.DecodeError, struct.error) as error:
            notes.append(f"{path}: the snapshot is passed over, here and by a start: {error}")
        else:
            found[snapshot.sequence] = snapshot
    return found


def _decode(path: Path, data: bytes) -> Snapshot:
    """Return what a file holds. Raises ValueError, DecodeError or struct.error where it can't be read."""
    magic, version, sequence, length = HEADER.unpack_from(data)
    if magic != MAGIC or len(data) != HEADER.size + length + HASH_BYTES:
        raise ValueError("it is damaged")
    if hashlib.sha256(data[:-HASH_BYTES]).digest() != data[-HASH_BYTES:]:
        raise ValueError("it is damaged")
    if version > VERSION:
        raise ValueError(f"format version {version}, and this program reads up to {VERSION}")
    body = msgspec.msgpack.decode(data[HEADER.size : -HASH_BYTES], type=Body)
    state_version = msgspec.msgpack.decode(body.state, type=StateVersion).version
    if state_version > STATE_VERSION:
        raise ValueError(f"its state has version {state_version}, and this program reads up to {STATE_VERSION}")
    state = msgspec.msgpack.decode(body.state, type=MatchingState)
    if not sequence == state.sequence == int(path.stem):
        raise ValueError(f"it is of request {sequence}, and holds request {state.sequence}")
    return Snapshot(path, sequence, body.record_hash, state)
