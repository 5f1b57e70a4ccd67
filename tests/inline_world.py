"""A world whose work beside the loop is done at once, on a real disk that may fail at a given call."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

from exchange.pipeline.disk import Disk
from exchange.pipeline.world import World


class Crash(BaseException):
    """The process ended here. No code of the exchange's own catches it."""


class TestedDisk(Disk):
    """The real one, without its waits; it counts what changes files, and can crash or be full.

    With `crash_at` n the n-th change does not happen any more: everything before it has. `torn` lets half of a write
    happen that is the n-th. While it is `full`, nothing that takes room succeeds. `read_bytes` is what was read of
    segments.
    """

    __test__ = False

    def __init__(self, crash_at: int | None = None, torn: bool = False) -> None:
        self.changes = 0
        self.crash_at = crash_at
        self.torn = torn
        self.full = False
        self.read_bytes = 0
        self.segments: set[int] = set()
        self.open_files: set[int] = set()

    def _change(self, half: Callable[[], object] | None = None) -> None:
        if self.crash_at is not None and self.changes >= self.crash_at:
            if self.torn and half is not None and self.changes == self.crash_at:
                half()
            self.changes += 1
            raise Crash
        self.changes += 1

    def _room(self) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def open(self, path: Path, create: bool = False) -> int:
        if create and not path.exists():
            self._change()
            self._room()
        file = super().open(path, create)
        self.open_files.add(file)
        if path.suffix == ".log":
            self.segments.add(file)
        return file

    def close(self, file: int) -> None:
        self.segments.discard(file)
        self.open_files.remove(file)
        super().close(file)

    def close_all(self) -> None:
        """Close what a crashed process had open."""
        for file in tuple(self.open_files):
            self.close(file)

    def read(self, file: int, size: int, offset: int) -> bytes:
        data = super().read(file, size, offset)
        if file in self.segments:
            self.read_bytes += len(data)
        return data

    def write(self, file: int, data: bytes, offset: int) -> None:
        self._change(lambda: Disk.write(self, file, data[: len(data) // 2], offset))
        self._room()
        super().write(file, data, offset)

    def truncate(self, file: int, size: int) -> None:
        self._change()
        super().truncate(file, size)

    def sync(self, file: int) -> None:
        self._change()

    def sync_folder(self, folder: Path) -> None:
        self._change()

    def rename(self, old: Path, new: Path) -> None:
        self._change()
        super().rename(old, new)

    def unlink(self, path: Path, missing_ok: bool = False) -> None:
        self._change()
        super().unlink(path, missing_ok)

    def free_bytes(self, folder: Path) -> int:
        return 0 if self.full else super().free_bytes(folder)


class InlineWorld(World):
    """Does at once what is to be done beside the loop."""

    def __init__(self, disk: Disk | None = None) -> None:
        super().__init__()
        self.disk = disk or TestedDisk()

    def run_aside(self, job: Callable[[], None]) -> None:
        job()
