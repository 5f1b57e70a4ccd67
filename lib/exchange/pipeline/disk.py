"""Files as logs, snapshots and tables use them: positioned reads and writes, and when they are on disk.

All that the daemons keep goes through a `Disk`, so that another can stand in its place: one that runs full, tears a
write or loses what was not synced.
"""

import mmap
import os
from pathlib import Path


class Disk:
    """The machine's own. Everything may raise OSError."""

    def open(self, path: Path, create: bool = False) -> int:
        """Return a file open for reading and writing. Raises FileNotFoundError unless it is to be created."""
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o644)

    def close(self, file: int) -> None:
        os.close(file)

    def size(self, file: int) -> int:
        return os.fstat(file).st_size

    def truncate(self, file: int, size: int) -> None:
        os.ftruncate(file, size)

    def read(self, file: int, size: int, offset: int) -> bytes:
        """Return `size` bytes from an offset on, less only where the file ends. (One system call may give less.)"""
        data = os.pread(file, size, offset)
        if len(data) == size or not data:
            return data
        parts, done = [data], len(data)
        while done < size and (part := os.pread(file, size - done, offset + done)):
            parts.append(part)
            done += len(part)
        return b"".join(parts)

    def write(self, file: int, data: bytes, offset: int) -> None:
        """Write all of the data. After an error it is unknown how much of it is there."""
        written = os.pwrite(file, data, offset)
        while written < len(data):
            written += os.pwrite(file, memoryview(data)[written:], offset + written)

    def sync(self, file: int) -> None:
        """Return when the file's data is on disk. After an error it is unknown what is: never try again."""
        os.fdatasync(file)

    def sync_folder(self, folder: Path) -> None:
        """Return when the names in a folder are on disk."""
        file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(file)
        finally:
            os.close(file)

    def allocate(self, file: int, size: int) -> None:
        """Have room for a file of `size` bytes, so that to write there can't fail for want of it."""
        os.posix_fallocate(file, 0, size)

    def map(self, file: int, size: int) -> memoryview:
        """Return the file's first bytes as memory that is read and written. Have room allocated for them first."""
        return memoryview(mmap.mmap(file, size))

    def rename(self, old: Path, new: Path) -> None:
        """Give a file a new name, in one step; another of that name is gone."""
        old.rename(new)

    def unlink(self, path: Path, missing_ok: bool = False) -> None:
        path.unlink(missing_ok)

    def exists(self, path: Path) -> bool:
        return path.exists()

    def names(self, folder: Path) -> list[str]:
        """Return the sorted names in a folder, none where there is no such folder."""
        try:
            return sorted(os.listdir(folder))  # noqa: PTH208 - names, not paths
        except FileNotFoundError:
            return []

    def make_folder(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)

    def free_bytes(self, folder: Path) -> int:
        """Return how much this user may still write where a folder is."""
        room = os.statvfs(folder)
        return room.f_bavail * room.f_frsize
