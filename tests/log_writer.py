"""Logs as the exchange writes them, made by hand: to say anything, with valid checksums, and to change what is there.

Written from the format's description, as the audit's reader is.
"""

import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

HEADER = struct.Struct("<8sIQQI")
RECORD = struct.Struct("<IIIIQ")
MAGIC = 0x64726F52
HEADER_BYTES = 64


def write_log(folder: Path, bodies: Sequence[bytes], segment_bytes: int = 1 << 20, durable: bool = False) -> None:
    """Write a log of these records in place of what is in the folder; a durable one's segments are full of zeros."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.log"):
        path.unlink()
    base, checksum = 0, 0
    data = _header(base, segment_bytes, checksum)
    for body in bodies:
        if len(data) + RECORD.size + len(body) > segment_bytes:
            _write(folder, base, data, segment_bytes if durable else 0)
            base += segment_bytes
            data = _header(base, segment_bytes, checksum)
        chained = struct.pack("<IIQ", checksum, len(body), base + len(data) if durable else 0)
        checksum = zlib.crc32(chained + body)
        data += struct.pack("<II", MAGIC, checksum) + chained + body
    _write(folder, base, data, segment_bytes if durable else 0)


def read_log(folder: Path) -> list[bytes]:
    """Return the bodies of a sound log."""
    bodies: list[bytes] = []
    for path in sorted(folder.glob("*.log")):
        data, at = path.read_bytes(), HEADER_BYTES
        while len(data) - at >= RECORD.size and (found := RECORD.unpack_from(data, at))[0] == MAGIC:
            at += RECORD.size + found[3]
            bodies.append(data[at - found[3] : at])
    return bodies


def rewrite(folder: Path, change: Callable[[list[bytes]], None], durable: bool = False) -> None:
    """Write a log again with its records changed."""
    bodies = read_log(folder)
    (first, *_) = sorted(folder.glob("*.log"))
    segment_bytes = HEADER.unpack_from(first.read_bytes())[2]
    change(bodies)
    write_log(folder, bodies, segment_bytes, durable)


def archive_first(folder: Path, destination: Path | None = None) -> None:
    """Move a log's first segment away, or delete it, as `exchange archive` does."""
    first, second, *_ = sorted(folder.glob("*.log"))
    (folder / "archived").write_text(f"{int(second.stem)}\n")
    if destination is None:
        first.unlink()
    else:
        destination.mkdir(parents=True, exist_ok=True)
        first.rename(destination / first.name)


def flip_bit(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)


def _header(base: int, segment_bytes: int, checksum: int) -> bytearray:
    header = HEADER.pack(b"EXCHLOG\n", 1, segment_bytes, base, checksum).ljust(HEADER_BYTES - 4, b"\0")
    return bytearray(header + zlib.crc32(header).to_bytes(4, "little"))


def _write(folder: Path, base: int, data: bytearray, size: int) -> None:
    (folder / f"{base:020d}.log").write_bytes(data.ljust(size, b"\0"))
