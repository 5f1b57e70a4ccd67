"""The log on a real disk: what was written is read, an unfinished write is cut off, damage is never read as data."""

import errno
import os
import shutil
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from exchange.pipeline.allocator import Allocator
from exchange.pipeline.log import (
    READ_BYTES,
    RECORD,
    Damaged,
    Log,
    NoRoom,
    last_body,
    segment_name,
)
from exchange.pipeline.world import World
from tests.support import wait_until

SEGMENT_BYTES = 4096
WORLD = World()
BODIES = [bytes([65 + number]) * (10 + 7 * number) for number in range(6)]


def opened(folder: Path, durable: bool = True, segment_bytes: int = SEGMENT_BYTES) -> tuple[Log, list[bytes]]:
    """Open a log for writing and return it with the bodies that it held."""
    bodies: list[bytes] = []
    log = Log(WORLD, folder, segment_bytes, durable)
    log.scan(lambda _, body: bodies.append(body))
    log.start_writing()
    return log, bodies


def written(folder: Path, groups: list[list[bytes]], durable: bool = True) -> list[int]:
    """Write groups of records, each group with one sync, and return the records' positions."""
    log, _ = opened(folder, durable)
    positions = []
    for group in groups:
        positions += [append_when_ready(log, body) for body in group]
        log.sync()
    close(log)
    return positions


def close(log: Log) -> None:
    """Close a log, and wait until nothing is made for it any more: a test may move or remove its folder then."""
    log.close()
    idle = threading.Event()
    WORLD.run_aside(idle.set)
    assert idle.wait(30), "the next segment is being made still"


def append_when_ready(log: Log, body: bytes) -> int:
    """Append a record, once the next segment is allocated where it needs that."""
    wait_until(lambda: log.has_room(RECORD.size + len(body)), "room for a record", pause=0.001)
    return log.append(body)


def read_some(log: Log, positions: list[int], limit: int = READ_BYTES) -> list[bytes]:
    """Return the records at positions, as many of one segment as a read of about `limit` bytes gives."""
    base = max(segment.base for segment in log.segments if segment.base < positions[0])
    end = base + SEGMENT_BYTES
    return log.read_at(base, [position - base for position in positions if position < end], limit)


def contents(folder: Path) -> list[bytes]:
    log, bodies = opened(folder)
    close(log)
    return bodies


def test_what_was_synced_is_there_after_opening_again(tmp_path: Path) -> None:
    written(tmp_path, [BODIES[:2], BODIES[2:]])
    assert contents(tmp_path) == BODIES
    written(tmp_path, [[b"more"]])
    assert contents(tmp_path) == [*BODIES, b"more"]


def test_records_go_on_in_the_next_segment_and_the_chain_with_them(tmp_path: Path) -> None:
    bodies = [number.to_bytes(2, "big") * 250 for number in range(40)]
    written(tmp_path, [[body] for body in bodies])
    assert len(list(tmp_path.glob("*.log"))) > 4
    assert contents(tmp_path) == bodies


def test_records_are_read_at_their_positions_over_segments_and_to_what_is_written(tmp_path: Path) -> None:
    log, _ = opened(tmp_path)
    bodies = [number.to_bytes(2, "big") * 250 for number in range(20)]
    positions = [append_when_ready(log, body) for body in bodies]
    log.sync()
    for step in (1, 3, 7):
        for first in range(len(bodies)):
            found: list[bytes] = []
            while len(found) < len(bodies[first::step]):
                chunk = read_some(log, positions[first::step][len(found) :], 1200)
                assert chunk, "each read gets on"
                found += chunk
            assert found == bodies[first::step]
    unwritten = log.append(b"not written yet")
    assert log.read(unwritten) == b"not written yet"
    assert read_some(log, [positions[-1], unwritten]) == [bodies[-1]]
    log.sync()
    assert read_some(log, [positions[-1], unwritten]) == [bodies[-1], b"not written yet"]
    close(log)


def test_a_record_larger_than_a_read_is_read_whole(tmp_path: Path) -> None:
    log, _ = opened(tmp_path, durable=False)
    large = bytes(range(256)) * 4000  # larger than a segment, too: a segment is made for it
    positions = [log.append(large), log.append(b"next")]
    log.write()
    assert log.read_at(SEGMENT_BYTES, [positions[0] - SEGMENT_BYTES], 100) == [large]
    assert log.read(positions[1]) == b"next"
    close(log)


def test_a_segment_larger_than_one_read_of_the_system_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system reads 2 GiB at a time at most; here 1,000 bytes."""
    written(tmp_path, [BODIES])
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda file, size, offset: pread(file, min(size, 1000), offset))
    assert contents(tmp_path) == BODIES


def test_a_write_that_found_no_room_is_made_again_when_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, _ = opened(tmp_path, durable=False)
    log.append(BODIES[0])

    def fail(file: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", fail)
        with pytest.raises(OSError, match="No space"):
            log.write()
    log.append(BODIES[1])
    log.write()
    close(log)
    assert opened(tmp_path, durable=False)[1] == BODIES[:2]


@pytest.mark.parametrize("cut_to_size", [True, False], ids=["file cut short", "rest of the file zero"])
def test_a_write_cut_anywhere_in_the_last_three_records_loses_only_what_is_cut(
    tmp_path: Path, cut_to_size: bool
) -> None:
    """Whether the file ends there, or its blocks of zeros follow, as after a power failure."""
    positions = written(tmp_path / "whole", [BODIES[:3], BODIES[3:]])
    end = positions[-1] + RECORD.size + len(BODIES[-1])
    for cut in range(positions[3], end):
        folder = tmp_path / "cut"
        shutil.copytree(tmp_path / "whole", folder)
        path = folder / segment_name(0)
        if cut_to_size:
            os.truncate(path, cut)
        else:
            data = path.read_bytes()
            path.write_bytes(data[:cut].ljust(len(data), b"\0"))
        intact = sum(
            position + RECORD.size + len(body) <= cut for position, body in zip(positions, BODIES, strict=True)
        )
        assert contents(folder) == BODIES[:intact], f"cut at {cut}"
        written(folder, [[b"and on"]])
        assert contents(folder) == [*BODIES[:intact], b"and on"], f"cut at {cut}"
        shutil.rmtree(folder)


def test_a_bit_flipped_anywhere_is_never_read_as_data(tmp_path: Path) -> None:
    """Either the start is refused, naming file and offset, or what is read is a beginning of what was written."""
    path = tmp_path / "flipped" / segment_name(0)
    positions = written(tmp_path / "whole", [[body] for body in BODIES])
    end = positions[-1] + RECORD.size + len(BODIES[-1])
    data = (tmp_path / "whole" / segment_name(0)).read_bytes()
    for offset in range(end):
        path.parent.mkdir()
        flipped = bytearray(data)
        flipped[offset] ^= 1 << (offset % 8)
        path.write_bytes(flipped)
        if offset >= positions[-1]:
            assert contents(path.parent) == BODIES[:-1], f"nothing says that the last record was whole; bit in {offset}"
        else:
            with pytest.raises(Damaged, match=rf"{path}: offset \d+"):
                contents(path.parent)
        shutil.rmtree(path.parent)


def test_a_torn_group_with_a_later_part_on_disk_is_cut_and_not_refused(tmp_path: Path) -> None:
    """Pages of one write reach the disk in any order: a hole before valid records of the same write is no damage."""
    positions = written(tmp_path, [BODIES[:2], BODIES[2:]])
    path = tmp_path / segment_name(0)
    data = bytearray(path.read_bytes())
    data[positions[3] : positions[4]] = bytes(positions[4] - positions[3])
    path.write_bytes(data)
    assert contents(tmp_path) == BODIES[:3]


def test_a_hole_in_what_was_synced_is_damage(tmp_path: Path) -> None:
    positions = written(tmp_path, [[body] for body in BODIES])
    path = tmp_path / segment_name(0)
    data = bytearray(path.read_bytes())
    data[positions[2] : positions[4]] = bytes(positions[4] - positions[2])
    path.write_bytes(data)
    with pytest.raises(Damaged, match=f"offset {positions[2]}: the record is damaged"):
        contents(tmp_path)


def lose_a_segment(folder: Path) -> None:
    sorted(folder.glob("*.log"))[1].unlink()


def lose_the_end_of_a_segment(folder: Path) -> None:
    path = sorted(folder.glob("*.log"))[1]
    path.write_bytes(path.read_bytes()[:1000].ljust(SEGMENT_BYTES, b"\0"))


def swap_two_segments(folder: Path) -> None:
    second, third = sorted(folder.glob("*.log"))[1:3]
    data = second.read_bytes()
    second.write_bytes(third.read_bytes())
    third.write_bytes(data)


def come_from_a_newer_program(folder: Path) -> None:
    path = sorted(folder.glob("*.log"))[0]
    data = bytearray(path.read_bytes())
    data[8] = 99
    data[60:64] = zlib.crc32(data[:60]).to_bytes(4, "little")
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage", [lose_a_segment, lose_the_end_of_a_segment, swap_two_segments, come_from_a_newer_program]
)
def test_damage_to_whole_segments_stops_the_start(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    written(tmp_path, [[number.to_bytes(2, "big") * 250] for number in range(40)])
    damage(tmp_path)
    with pytest.raises(Damaged, match=r"\.log: "):
        contents(tmp_path)


def test_a_log_that_can_be_made_again_ends_where_its_damage_begins(tmp_path: Path) -> None:
    bodies = [number.to_bytes(2, "big") * 250 for number in range(40)]
    written(tmp_path, [[body] for body in bodies], durable=False)
    lose_the_end_of_a_segment(tmp_path)
    log, found = opened(tmp_path, durable=False)
    assert found == bodies[: len(found)]
    assert 7 <= len(found) < 16
    for body in bodies[len(found) :]:
        log.append(body)
    log.write()
    close(log)
    assert opened(tmp_path, durable=False)[1] == bodies


def test_records_are_forgotten_from_a_position_on(tmp_path: Path) -> None:
    positions = written(tmp_path, [BODIES])
    log = Log(WORLD, tmp_path, SEGMENT_BYTES, durable=True)
    log.scan()
    log.forget_from(positions[4])
    log.start_writing()
    log.append(b"instead")
    log.sync()
    close(log)
    assert contents(tmp_path) == [*BODIES[:4], b"instead"]


def test_without_room_for_the_next_segment_there_is_no_room_until_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one failure that is not real here: the disk says that it is full when the allocator writes."""
    log, _ = opened(tmp_path)
    wait_until(lambda: log.allocator is not None and log.allocator.ready, "the next segment")
    allocate = Allocator.allocate

    def fail(allocator: Allocator) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Allocator, "allocate", fail)
    body = b"x" * 1000
    taken = 0
    while log.has_room(RECORD.size + len(body)):
        log.append(body)
        taken += 1
    assert taken == 6, "what is left of the first segment, and the one allocated ahead"
    wait_until(lambda: log.allocator is not None and "No space" in log.allocator.error, "the allocator has tried")
    with pytest.raises(NoRoom, match="No space left"):
        log.append(body)
    log.sync()
    monkeypatch.setattr(Allocator, "allocate", allocate)
    log.tend(100.0)
    log.tend(100.9)
    assert not log.has_room(RECORD.size + len(body)), "it is tried again at most once a second"
    log.tend(101.0)
    append_when_ready(log, body)
    log.sync()
    close(log)
    assert contents(tmp_path) == [body] * 7


def test_the_last_record_can_be_read_while_the_log_is_written(tmp_path: Path) -> None:
    assert last_body(WORLD.disk, tmp_path) is None
    log, _ = opened(tmp_path, durable=False)
    assert last_body(WORLD.disk, tmp_path) is None
    for body in BODIES:
        log.append(body)
        log.write()
        assert last_body(WORLD.disk, tmp_path) == body
    close(log)
