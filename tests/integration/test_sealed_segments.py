"""Seals of an event log's segments: what is in them is not read at a start, and to lose one is no loss."""

import os
import shutil
from pathlib import Path

import pytest

from exchange.pipeline import codec
from exchange.pipeline.archive import archive_up_to
from exchange.pipeline.event_log import EventLog
from exchange.pipeline.log import RECORD, SEGMENT_HEADER_BYTES, Archived, Damaged, last_body, segment_name
from exchange.pipeline.seals import read_seal, seal_name
from tests.inline_world import Crash, InlineWorld, TestedDisk

SEGMENT_BYTES = 1024
COUNT = 60
BODIES = [codec.encode(["ACME", number + 1, "x" * (20 + number % 50)]) for number in range(COUNT)]


def opened(folder: Path, disk: TestedDisk | None = None) -> EventLog:
    event_log = EventLog(InlineWorld(disk), folder, "ACME", SEGMENT_BYTES)
    event_log.open()
    return event_log


def append_rest(event_log: EventLog) -> None:
    """Append what of the records is not there, as who makes them again would."""
    for body in BODIES[event_log.index.last :]:
        event_log.append(body)
        event_log.write()


def written(folder: Path) -> None:
    event_log = opened(folder)
    append_rest(event_log)
    event_log.tend(0.0)
    event_log.close()


def replayed(event_log: EventLog, sequence: int = 1) -> list[bytes]:
    """Return the records from a sequence on, as a receiver gets them."""
    bodies: list[bytes] = []
    while sequence <= event_log.index.last:
        asset, last, records = codec.decode_anything(event_log.replay(sequence))
        assert (asset, last) == ("ACME", event_log.index.last)
        assert records, "each answer gets on"
        bodies += map(codec.encode, records)
        sequence += len(records)
    return bodies


def check(event_log: EventLog) -> None:
    """Compare each record, read alone and replayed from every place, with what was written."""
    assert event_log.index.last == COUNT
    assert [event_log.read(sequence) for sequence in range(COUNT, 0, -1)] == BODIES[::-1]
    for sequence in range(1, COUNT + 1, 7):
        assert replayed(event_log, sequence) == BODIES[sequence - 1 :]


def names(folder: Path, ending: str) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.endswith(ending))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a log of several sealed segments and one that is not full."""
    written(tmp_path / "log")
    assert len(names(tmp_path / "log", ".seal")) == len(names(tmp_path / "log", ".log")) - 1 >= 4
    return tmp_path / "log"


def test_records_appended_in_runs_over_segments_are_as_those_appended_one_by_one(folder: Path, tmp_path: Path) -> None:
    event_log = opened(tmp_path / "runs")
    runs, left = [], BODIES
    while left:
        runs.append(event_log.append_run(left))
        left = left[runs[-1] :]
    event_log.write()
    check(event_log)
    event_log.tend(0.0)
    event_log.close()
    assert len(runs) > len(names(folder, ".log")), "a run ends with its segment"
    assert files(tmp_path / "runs") == files(folder)


def test_a_start_reads_the_last_segment_only(folder: Path) -> None:
    disk = TestedDisk()
    event_log = opened(folder, disk)
    last = folder / names(folder, ".log")[-1]
    segments = len(names(folder, ".log"))
    assert disk.read_bytes <= last.stat().st_size + segments * (SEGMENT_HEADER_BYTES + RECORD.size)
    check(event_log)
    event_log.close()


def test_offsets_are_in_memory_for_the_last_segment_only(folder: Path) -> None:
    event_log = opened(folder)
    check(event_log)
    assert event_log.index.memory == {}
    event_log.close()
    shutil.rmtree(folder)
    event_log = opened(folder)
    append_rest(event_log)
    event_log.tend(0.0)
    assert event_log.index.memory == {}, "nor while it grows"
    check(event_log)
    event_log.close()


def test_it_goes_on_over_starts(folder: Path) -> None:
    whole = files(folder)
    shutil.rmtree(folder)
    for count in range(0, COUNT + 1, 3):
        event_log = opened(folder)
        assert event_log.last_body == (BODIES[count - 4] if count >= 4 else b"")
        for body in BODIES[event_log.index.last : count]:
            event_log.append(body)
            event_log.write()
        event_log.close()
    written(folder)
    assert files(folder).keys() == whole.keys()
    event_log = opened(folder)
    check(event_log)
    event_log.close()


def test_segments_without_seals_are_read_and_sealed(folder: Path) -> None:
    """As those that an older program wrote."""
    whole = files(folder)
    for name in names(folder, ".seal"):
        (folder / name).unlink()
    event_log = opened(folder)
    check(event_log)
    event_log.tend(0.0)
    check(event_log)
    event_log.close()
    assert files(folder) == whole


def test_a_damaged_seal_changes_nothing(folder: Path) -> None:
    """One bit in every byte of one, and it cut off at every byte: it is made again, at the start or when it is read."""
    whole = files(folder)
    for name in names(folder, ".seal")[1:2]:
        data = whole[name]
        damaged = [data[:offset] for offset in range(len(data))]
        for offset in range(len(data)):
            flipped = bytearray(data)
            flipped[offset] ^= 1 << (offset % 8)
            damaged.append(bytes(flipped))
        for each in damaged:
            (folder / name).write_bytes(each)
            event_log = opened(folder)
            assert replayed(event_log) == BODIES
            event_log.tend(0.0)
            assert event_log.read(COUNT) == BODIES[-1]
            event_log.close()
            assert (folder / name).read_bytes() == data
    assert files(folder) == whole


def test_a_seal_of_another_segment_is_not_taken(folder: Path) -> None:
    whole = files(folder)
    second, third = names(folder, ".seal")[1:3]
    (folder / second).write_bytes(whole[third])
    event_log = opened(folder)
    check(event_log)
    event_log.close()


def test_without_room_for_a_seal_it_is_kept_in_memory_and_tried_again(tmp_path: Path) -> None:
    disk = TestedDisk()
    event_log = opened(tmp_path, disk)
    room = disk.free_bytes
    disk.free_bytes = lambda folder: 0  # type: ignore[method-assign]
    append_rest(event_log)
    for now in range(10):
        event_log.tend(float(now))
    assert names(tmp_path, ".seal") == []
    assert len(event_log.index.memory) == len(event_log.log.segments) - 1
    check(event_log)
    disk.free_bytes = room  # type: ignore[method-assign]
    tries = disk.changes
    event_log.tend(9.5)
    assert disk.changes == tries, "at most once a second"
    for now in range(10, 13):
        event_log.tend(float(now))
    assert len(names(tmp_path, ".seal")) == len(names(tmp_path, ".log")) - 1
    assert event_log.index.memory == {}
    check(event_log)
    event_log.close()


# -- damage ------------------------------------------------------------------------------------------------------------


def test_damage_in_a_sealed_segment_is_not_served_and_made_again(folder: Path) -> None:
    """One bit in every byte of a segment: what is before is read, and it is known from which record on it is not.

    The start itself sees damage in the header of the segment's last record.
    """
    name = names(folder, ".log")[2]
    event_log = opened(folder)
    last = event_log.index.position(event_log.index.firsts[3] - 1) - event_log.index.bases[2]
    event_log.close()
    whole = files(folder)
    seen_at_start = 0
    for offset in range(SEGMENT_HEADER_BYTES, len(whole[name]), 13):
        flipped = bytearray((folder / name).read_bytes())
        flipped[offset] ^= 1 << (offset % 8)
        (folder / name).write_bytes(flipped)
        event_log = opened(folder)
        if event_log.index.last < COUNT:
            assert last <= offset < last + RECORD.size
            seen_at_start += 1
            sequence = event_log.index.last + 1
        else:
            with pytest.raises(Damaged, match=rf"{name}: offset \d+: the record is damaged") as caught:
                replayed(event_log)
            sequence = caught.value.sequence
            assert 0 < sequence < COUNT
            assert [event_log.read(each) for each in range(1, sequence)] == BODIES[: sequence - 1]
            event_log.drop_from(sequence)
        assert event_log.index.last == sequence - 1
        assert replayed(event_log) == BODIES[: sequence - 1]
        append_rest(event_log)
        event_log.tend(0.0)
        check(event_log)
        event_log.close()
        assert files(folder).keys() == whole.keys()
    assert seen_at_start


def test_where_segment_and_seal_are_damaged_both_the_segment_is_dropped_whole(folder: Path) -> None:
    """While they are in use: a start sees it by itself."""
    segment, seal = names(folder, ".log")[2], names(folder, ".seal")[2]
    event_log = opened(folder)
    for name, offset in ((segment, 500), (seal, -10)):
        data = bytearray((folder / name).read_bytes())
        data[offset] ^= 1
        (folder / name).write_bytes(data)
    with pytest.raises(Damaged, match=rf"{segment}: offset \d+: the record is damaged") as caught:
        replayed(event_log)
    first = caught.value.sequence
    assert first == event_log.index.firsts[2]
    event_log.drop_from(first + 1)
    assert event_log.index.last == first - 1
    append_rest(event_log)
    event_log.tend(0.0)
    check(event_log)
    event_log.close()


def test_a_sealed_segment_that_was_cut_off_is_dropped_with_what_follows_and_made_again(folder: Path) -> None:
    whole = files(folder)
    name = names(folder, ".log")[2]
    for size in (0, 10, SEGMENT_HEADER_BYTES, 500, len(whole[name]) - 1):
        os.truncate(folder / name, size)
        event_log = opened(folder)
        assert replayed(event_log) == BODIES[: event_log.index.last]
        append_rest(event_log)
        event_log.tend(0.0)
        check(event_log)
        event_log.close()
        assert files(folder).keys() == whole.keys()


def test_a_missing_segment_is_made_again_with_what_follows(folder: Path) -> None:
    whole = files(folder)
    segments = names(folder, ".log")
    for name in (segments[0], segments[2], segments[-1]):
        (folder / name).unlink()
        event_log = opened(folder)
        assert event_log.index.last < COUNT
        append_rest(event_log)
        event_log.tend(0.0)
        check(event_log)
        event_log.close()
        assert files(folder).keys() == whole.keys()


@pytest.mark.parametrize("torn", [False, True], ids=["whole writes", "torn writes"])
def test_a_crash_between_any_two_changes_of_files_loses_nothing_that_can_not_be_made_again(
    tmp_path: Path, torn: bool
) -> None:
    whole = tmp_path / "whole"
    written(whole)
    crash_at = 0
    while True:
        folder = tmp_path / "log"
        disk = TestedDisk(crash_at, torn)
        try:
            event_log = opened(folder, disk)
            append_rest(event_log)
            event_log.tend(0.0)
            event_log.close()
            break
        except Crash:
            disk.close_all()
        event_log = opened(folder)
        assert replayed(event_log) == BODIES[: event_log.index.last]
        append_rest(event_log)
        event_log.tend(0.0)
        check(event_log)
        event_log.close()
        assert files(folder).keys() == files(whole).keys(), f"crash at change {crash_at}"
        shutil.rmtree(folder)
        crash_at += 1
    assert crash_at > 80


def test_a_crash_while_damage_is_dropped_leaves_a_log_that_opens(tmp_path: Path, folder: Path) -> None:
    crash_at = 0
    while True:
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        disk = TestedDisk()
        event_log = opened(copy, disk)
        disk.crash_at = disk.changes + crash_at
        try:
            event_log.drop_from(12)
            break
        except Crash:
            disk.close_all()
        event_log = opened(copy)
        assert event_log.index.last >= 11
        assert replayed(event_log) == BODIES[: event_log.index.last]
        event_log.close()
        shutil.rmtree(copy)
        crash_at += 1
    assert crash_at > 5


# -- the last record ---------------------------------------------------------------------------------------------------


def test_the_last_record_is_found_from_the_end(folder: Path) -> None:
    disk = TestedDisk()
    assert last_body(disk, folder) == BODIES[-1]
    last = folder / names(folder, ".log")[-1]
    while len(names(folder, ".log")) > 2:
        size = last.stat().st_size
        os.truncate(last, size - 1)
        body = last_body(disk, folder)
        assert body in BODIES
        last = folder / names(folder, ".log")[-1]
        if size == SEGMENT_HEADER_BYTES:
            last.unlink()
            last = folder / names(folder, ".log")[-1]


def test_the_last_record_is_found_behind_what_is_allocated_and_however_large_it_is(tmp_path: Path) -> None:
    event_log = EventLog(InlineWorld(), tmp_path, "ACME", 2**20)
    event_log.open()
    large = codec.encode("Rord" * 200_000)
    for body in (b"small", large):
        event_log.append(body)
        event_log.write()
        assert last_body(event_log.log.disk, tmp_path) == body
        path = event_log.log.segments[-1].path
        os.truncate(path, path.stat().st_size + 200_000)
        assert last_body(event_log.log.disk, tmp_path) == body
        os.truncate(path, path.stat().st_size - 200_000)
    event_log.close()


# -- archive -----------------------------------------------------------------------------------------------------------


NAMED = segment_name, seal_name


def archived(folder: Path, disk: TestedDisk, segments: int, destination: Path | None) -> int:
    """Archive so many segments, and return the sequence of the first record that is kept."""
    base = segments * SEGMENT_BYTES
    archive_up_to(disk, folder, base, destination)
    seal = read_seal(disk, folder / seal_name(base))
    assert seal is not None
    return seal.streams[0].first


@pytest.fixture(params=[True, False], ids=["moved", "deleted"])
def destination(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "archive" if request.param else None


def test_a_log_goes_on_without_the_segments_that_were_archived(folder: Path, destination: Path | None) -> None:
    whole = files(folder)
    for segments in (2, 3):
        first = archived(folder, TestedDisk(), segments, destination)
        assert names(folder, ".seal") == sorted(name for name in whole if name.endswith(".seal"))
        assert names(folder, ".log")[0] == segment_name(segments * SEGMENT_BYTES)
        if destination is not None:
            moved = [suffixed(segment * SEGMENT_BYTES) for segment in range(segments) for suffixed in NAMED]
            assert files(destination) == {name: whole[name] for name in moved}
        event_log = opened(folder)
        assert event_log.index.last == COUNT
        assert replayed(event_log, first) == BODIES[first - 1 :]
        for sequence in (1, first - 1):
            with pytest.raises(Archived, match="was moved away"):
                event_log.replay(sequence)
            with pytest.raises(Archived, match="was moved away"):
                event_log.read(sequence)
        with pytest.raises(Archived, match="was moved away"):
            event_log.drop_from(first - 1)
        event_log.append(b"next")
        event_log.write()
        assert event_log.read(COUNT + 1) == b"next"
        event_log.drop_from(COUNT + 1)
        assert event_log.index.last == COUNT
        event_log.close()


def test_segments_are_archived_under_a_daemon_that_goes_on(folder: Path) -> None:
    event_log = opened(folder)
    assert event_log.read(1) == BODIES[0]
    first = archived(folder, TestedDisk(), 3, None)
    event_log.log.files.clear()  # as when many others were read meanwhile
    with pytest.raises(Archived, match="was moved away"):
        event_log.read(1)
    assert replayed(event_log, first) == BODIES[first - 1 :]
    event_log.close()


def test_what_is_not_sealed_is_not_archived(folder: Path) -> None:
    (folder / names(folder, ".seal")[1]).unlink()
    before = files(folder)
    disk = TestedDisk()
    for base, why in ((3 * SEGMENT_BYTES, "is not sealed"), (100, "no segment at 100"), (2**30, "no segment at")):
        with pytest.raises(ValueError, match=why):
            archive_up_to(disk, folder, base)
        assert files(folder) == before
    archive_up_to(disk, folder, SEGMENT_BYTES)
    assert before.keys() - files(folder).keys() == {segment_name(0)}


@pytest.mark.parametrize("damage", ["a seal", "the file"])
def test_without_the_seals_of_what_was_archived_the_start_says_what_is_missing(folder: Path, damage: str) -> None:
    archived(folder, TestedDisk(), 2, None)
    path = folder / (names(folder, ".seal")[1] if damage == "a seal" else "archived")
    path.write_bytes(b"?")
    with pytest.raises(Damaged, match=rf"{path}: offset 0: .*restore it from a copy"):
        opened(folder)


def test_a_segment_that_nobody_archived_is_missed(folder: Path) -> None:
    """An event log is made again from its beginning then."""
    archived(folder, TestedDisk(), 2, None)
    (folder / segment_name(2 * SEGMENT_BYTES)).unlink()
    event_log = opened(folder)
    assert event_log.index.last < COUNT
    event_log.close()


def test_a_crash_while_segments_are_archived_loses_none(tmp_path: Path, folder: Path, destination: Path | None) -> None:
    """Each segment is in its place or in the archive, the log opens, and archiving ends when it is asked for again."""
    whole = files(folder)
    crash_at = 0
    while True:
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        disk = TestedDisk(crash_at, torn=True)
        try:
            archived(copy, disk, 3, destination)
            break
        except Crash:
            disk.close_all()
        if destination is not None:
            there = files(destination) if destination.exists() else {}
            for name in names(folder, ".log"):
                assert there.get(name) == whole[name] or (copy / name).read_bytes() == whole[name]
        event_log = opened(copy)
        assert event_log.index.last == COUNT
        assert event_log.read(COUNT) == BODIES[-1]
        event_log.close()
        first = archived(copy, TestedDisk(), 3, destination)
        assert names(copy, ".log") == names(folder, ".log")[3:]
        event_log = opened(copy)
        assert replayed(event_log, first) == BODIES[first - 1 :]
        event_log.close()
        shutil.rmtree(copy)
        if destination is not None:
            shutil.rmtree(destination)
        crash_at += 1
    assert crash_at >= 8


def test_where_the_destination_can_t_be_written_nothing_is_archived_and_the_next_run_does_it(
    tmp_path: Path, folder: Path
) -> None:
    whole = files(folder)
    blocked, there = tmp_path / "file", tmp_path / "there"
    blocked.write_bytes(b"")
    with pytest.raises(OSError, match=str(blocked)):
        archive_up_to(TestedDisk(), folder, 2 * SEGMENT_BYTES, blocked / "archive")
    assert files(folder) == whole
    there.mkdir()
    other = there / segment_name(SEGMENT_BYTES)
    other.write_bytes(b"of another exchange")
    with pytest.raises(ValueError, match=f"{other}: is there already, with another content"):
        archive_up_to(TestedDisk(), folder, 2 * SEGMENT_BYTES, there)
    assert files(folder) == whole
    assert files(there) == {other.name: b"of another exchange"}
    other.write_bytes(whole[other.name])
    archive_up_to(TestedDisk(), folder, 2 * SEGMENT_BYTES, there)
    assert {name for name in whole if name not in files(folder)} == {segment_name(0), other.name}
    assert files(there) == {name: whole[name] for name in files(there)}
