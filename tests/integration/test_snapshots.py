"""Snapshots on disk: whole or not there, whatever happens while one is written; what is damaged is passed over."""

import errno
import logging
from pathlib import Path

import pytest

from exchange.pipeline.disk import Disk
from exchange.pipeline.snapshots import HEADER, VERSION, Snapshots


class FailingDisk(Disk):
    """A disk that fails at one of its calls, by their number, or has no room for a write."""

    def __init__(self, fail_at: int = 0, no_room: bool = False) -> None:
        self.fail_at = fail_at
        self.no_room = no_room
        self.calls = 0

    def count(self) -> None:
        self.calls += 1
        if self.calls == self.fail_at:
            raise Killed

    def write(self, file: int, data: bytes, offset: int) -> None:
        self.count()
        if self.no_room:
            super().write(file, data[: len(data) // 2], offset)
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(file, data, offset)

    def truncate(self, file: int, size: int) -> None:
        self.count()
        super().truncate(file, size)

    def sync(self, file: int) -> None:
        self.count()
        super().sync(file)

    def rename(self, old: Path, new: Path) -> None:
        self.count()
        super().rename(old, new)

    def sync_folder(self, folder: Path) -> None:
        self.count()
        super().sync_folder(folder)

    def unlink(self, path: Path, missing_ok: bool = False) -> None:
        self.count()
        super().unlink(path, missing_ok)


class Killed(Exception):
    """Stands for a process's end at that point."""


def found(folder: Path) -> list[tuple[int, bytes]]:
    return list(Snapshots(Disk(), folder).load())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def path_of(folder: Path, sequence: int) -> Path:
    return folder / f"{sequence:020d}.snapshot"


def test_the_newest_comes_first_and_two_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "snapshots"
    assert found(folder) == [], "no folder, no snapshots"
    snapshots = Snapshots(Disk(), folder)
    for sequence in (7, 90, 1000):
        assert snapshots.save(sequence, b"state %d" % sequence)
    assert found(folder) == [(1000, b"state 1000"), (90, b"state 90")]
    assert names(folder) == [path_of(folder, 90).name, path_of(folder, 1000).name]
    assert snapshots.sequences() == [90, 1000]


def test_a_snapshot_takes_the_place_of_one_of_the_same_sequence(tmp_path: Path) -> None:
    snapshots = Snapshots(Disk(), tmp_path)
    snapshots.save(5, b"a longer one than what follows")
    snapshots.save(5, b"")
    assert found(tmp_path) == [(5, b"")]


def test_what_is_later_than_the_one_saved_goes(tmp_path: Path) -> None:
    """It is of a history that was lost, and would stand in the way of those that come."""
    snapshots = Snapshots(Disk(), tmp_path)
    snapshots.save(500, b"lost")
    snapshots.save(20, b"now")
    assert found(tmp_path) == [(20, b"now")]


def test_every_byte_flipped_or_missing_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Snapshots(Disk(), tmp_path).save(3, b"the state")
    path = path_of(tmp_path, 3)
    sound = path.read_bytes()
    for offset in range(len(sound)):
        path.write_bytes(sound[:offset] + bytes([sound[offset] ^ 1]) + sound[offset + 1 :])
        assert found(tmp_path) == [], f"byte {offset} flipped"
        path.write_bytes(sound[:offset])
        assert found(tmp_path) == [], f"cut at {offset}"
    assert len(caplog.records) == 2 * len(sound)
    assert all(str(path) in record.message for record in caplog.records)
    path.write_bytes(sound + b"\0")
    assert found(tmp_path) == [], "one byte more"
    path.write_bytes(sound)
    assert found(tmp_path) == [(3, b"the state")]


def test_where_the_newest_is_damaged_the_one_before_is_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    snapshots = Snapshots(Disk(), tmp_path)
    snapshots.save(1, b"one")
    snapshots.save(2, b"two")
    path_of(tmp_path, 2).write_bytes(b"EXCHSNAP and then nothing that it should be, for more bytes than a header has")
    assert found(tmp_path) == [(1, b"one")]
    assert f"{path_of(tmp_path, 2)}: passed over: " in caplog.text
    snapshots.save(3, b"three")
    assert found(tmp_path) == [(3, b"three"), (1, b"one")], "two sound ones are kept, the damaged one is not"
    assert names(tmp_path) == [path_of(tmp_path, 1).name, path_of(tmp_path, 3).name]


def test_another_name_and_a_newer_format_are_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Snapshots(Disk(), tmp_path).save(1, b"one")
    path_of(tmp_path, 1).rename(path_of(tmp_path, 9))
    (tmp_path / "what.snapshot").write_bytes(b"")
    assert found(tmp_path) == []
    assert "it is the snapshot of 1, under another's name" in caplog.text
    data = bytearray(path_of(tmp_path, 9).read_bytes())
    data[8 : HEADER.size] = HEADER.pack(b"", VERSION + 1, 9, 1000)[8:]
    path_of(tmp_path, 9).write_bytes(data)
    assert found(tmp_path) == []
    assert f"format version {VERSION + 1}, and this program reads up to {VERSION}" in caplog.text


def test_what_is_unfinished_is_ignored_and_removed(tmp_path: Path) -> None:
    Snapshots(Disk(), tmp_path).save(1, b"one")
    (tmp_path / f"{2:020d}.unfinished").write_bytes(path_of(tmp_path, 1).read_bytes())
    assert found(tmp_path) == [(1, b"one")]
    assert names(tmp_path) == [path_of(tmp_path, 1).name]


def test_whatever_call_is_the_last_there_is_a_snapshot_to_start_from(tmp_path: Path) -> None:
    """Killed before each of its calls in turn: the newest is the new one or the one before, and whole."""
    calls = FailingDisk()
    Snapshots(calls, tmp_path / "counted").save(1, b"one")
    newest: list[int] = []
    for number in range(1, 100):
        folder = tmp_path / str(number)
        for sequence in (1, 2):
            Snapshots(Disk(), folder).save(sequence, b"state %d" % sequence)
        disk = FailingDisk(fail_at=number)
        try:
            Snapshots(disk, folder).save(3, b"state 3")
        except Killed:
            left = found(folder)
            newest.append(left[0][0])
            assert left == [(sequence, b"state %d" % sequence) for sequence, _ in left]
            assert [sequence for sequence, _ in left] in ([2, 1], [3, 2, 1])
            assert not [name for name in names(folder) if name.endswith("unfinished")], "removed by the load"
            continue
        break
    assert newest == [2] * 6 + [3] * 2, "three writes, truncate, sync, rename; then the folder's sync, the removal"


def test_without_room_nothing_is_lost_and_the_next_one_is_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = FailingDisk()
    snapshots = Snapshots(disk, tmp_path)
    snapshots.save(1, b"one")
    disk.no_room = True
    with caplog.at_level(logging.WARNING):
        assert not snapshots.save(2, b"two")
    assert "the snapshot of 2 could not be written: [Errno 28] No space left on device" in caplog.text
    assert names(tmp_path) == [path_of(tmp_path, 1).name], "what it had begun is gone, and so takes no room"
    disk.no_room = False
    assert snapshots.save(3, b"three")
    assert found(tmp_path) == [(3, b"three"), (1, b"one")]
