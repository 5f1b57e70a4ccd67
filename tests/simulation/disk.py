"""A disk whose promises are those of a real one, and no more.

What a process has written is there for everybody, also after a kill -9. Only what has been synced is there after a
power failure; of anything else each sector of 512 bytes is, by chance, as it was after one of the writes since, or as
it was before them. New, moved and removed names are there in their order up to some moment, folder by folder, unless
the folder was synced. After an error on sync the written data can still be read and later syncs succeed, but some of it
never gets to the disk.
"""

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from exchange.pipeline.disk import Disk

if TYPE_CHECKING:
    from tests.simulation.world import Life

SECTOR = 512
ROOMY = 1 << 40


class File:
    """A file's content as processes see it, and as it is on the disk."""

    __slots__ = ("clean", "data", "durable", "mapped", "writes")

    def __init__(self) -> None:
        self.data = bytearray()
        self.durable = bytearray()
        self.writes: list[tuple[int, bytes | None]] = []  # since the last sync; None: cut to that size
        self.mapped = False
        self.clean: dict[int, bytes] = {}  # sectors of a mapping that count as written since a sync failed, and are not

    def write(self, data: bytes, offset: int) -> None:
        end = offset + len(data)
        content = self.data
        if offset > len(content):
            content.extend(bytes(offset - len(content)))
        content[offset:end] = data
        self.writes.append((offset, data))

    def truncate(self, size: int) -> None:
        _resize(self.data, size)
        self.writes.append((size, None))

    def sync(self) -> None:
        if self.mapped:
            old = self.durable
            self.durable = bytearray(self.data)
            for at, content in list(self.clean.items()):
                if self.data[at : at + SECTOR] == content:
                    self.durable[at : at + SECTOR] = old[at : at + SECTOR].ljust(len(content), b"\0")
                else:
                    del self.clean[at]
        else:
            for offset, data in self.writes:
                _apply(self.durable, offset, data)
        self.writes.clear()

    def lose(self, chance: random.Random) -> bool:
        """Keep what a power failure leaves; return whether anything is lost."""
        before, durable = bytes(self.data), self.durable
        writes = self.writes
        if self.mapped:
            places = range(0, len(before), SECTOR)
            sectors = [(at, before[at : at + SECTOR]) for at in places]
            writes = [(at, data) for at, data in sectors if data != durable[at : at + SECTOR]]
        if writes:
            how_much = chance.choice((0.0, 0.5, 0.5, 1.0))
            by_sector: dict[int, list[tuple[int, bytes]]] = {}
            for offset, data in writes:
                if data is None:
                    # A cut is an act on the names' side: it is done, or nothing behind it is.
                    if chance.random() < how_much:
                        _write_sectors(durable, by_sector, chance, how_much)
                        by_sector.clear()
                        _resize(durable, offset)
                    else:
                        break
                    continue
                at = offset
                end = offset + len(data)
                while at < end:
                    stop = min(end, (at // SECTOR + 1) * SECTOR)
                    by_sector.setdefault(at // SECTOR, []).append((at, data[at - offset : stop - offset]))
                    at = stop
            _write_sectors(durable, by_sector, chance, how_much)
        self.writes = []
        self.data = bytearray(durable)
        self.mapped = False
        self.clean.clear()
        return bytes(self.data) != before

    def fail_sync(self, chance: random.Random) -> None:
        """Of what was to be synced some is on disk, and the rest counts as written for whoever asks next."""
        if self.mapped:
            for at in range(0, len(self.data), SECTOR):
                content = bytes(self.data[at : at + SECTOR])
                if content != self.durable[at : at + SECTOR] and chance.random() < 0.5:
                    self.clean[at] = content
        self.writes = [write for write in self.writes if write[1] is None or chance.random() < 0.5]
        self.sync()


def _resize(content: bytearray, size: int) -> None:
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        _resize(content, offset)
        return
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _write_sectors(
    content: bytearray, by_sector: dict[int, list[tuple[int, bytes]]], chance: random.Random, how_much: float
) -> None:
    for pieces in by_sector.values():
        if chance.random() < how_much:
            for at, piece in pieces[: chance.randint(1, len(pieces))]:
                _apply(content, at, piece)


class Storage:
    """The machine's one disk, which outlives the processes."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.names: dict[str, File] = {}
        self.durable_names: dict[str, File] = {}
        self.unsynced: dict[str, list[Callable[[dict[str, File]], None]]] = {}  # acts on names, by folder
        self.free = ROOMY

    def change(self, act: Callable[[dict[str, File]], None], *paths: str) -> None:
        act(self.names)
        self.unsynced.setdefault(paths[-1].rpartition("/")[0], []).append(act)

    def sync_folder(self, folder: str) -> None:
        for act in self.unsynced.pop(folder, ()):
            act(self.durable_names)

    def take(self, size: int) -> int:
        """Take room for so many bytes; return how many there was room for."""
        taken = max(0, min(size, self.free))
        self.free -= taken
        return taken

    def power_failure(self) -> bool:
        """Lose what was not synced; return whether that was anything."""
        lost = False
        for acts in self.unsynced.values():
            kept = self.chance.randint(0, len(acts))
            lost = lost or kept < len(acts)
            for act in acts[:kept]:
                act(self.durable_names)
        self.unsynced.clear()
        self.names = dict(self.durable_names)
        for path in sorted(self.names):
            lost = self.names[path].lose(self.chance) or lost
        return lost

    def in_folder(self, folder: str) -> list[str]:
        prefix = f"{folder}/"
        length = len(prefix)
        return sorted({path[length:].split("/", 1)[0] for path in self.names if path.startswith(prefix)})


class SimDisk(Disk):
    """The disk as one life of a daemon uses it."""

    def __init__(self, storage: Storage, life: "Life") -> None:
        self.storage = storage
        self.life = life
        self.files: dict[int, File] = {}
        self.opened = 2

    def open(self, path: Path, create: bool = False) -> int:
        self.life.call("open")
        name = str(path)
        file = self.storage.names.get(name)
        if file is None:
            if not create:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
            new = file = File()

            def act(names: dict[str, File]) -> None:
                names[name] = new

            self.storage.change(act, name)
        self.opened += 1
        self.files[self.opened] = file
        return self.opened

    def close(self, file: int) -> None:
        if not self.life.over:
            del self.files[file]

    def size(self, file: int) -> int:
        return len(self.files[file].data)

    def truncate(self, file: int, size: int) -> None:
        self.life.call("truncate")
        found = self.files[file]
        self.storage.free += len(found.data) - size
        found.truncate(size)

    def read(self, file: int, size: int, offset: int) -> bytes:
        self.life.call("read")
        return bytes(self.files[file].data[offset : offset + size])

    def write(self, file: int, data: bytes, offset: int) -> None:
        found = self.files[file]
        data = bytes(data)
        storage = self.storage
        if self.life.will_be_killed("write"):
            # A kill in the middle of a long write leaves its beginning.
            end = storage.chance.randint(0, len(data))
            if end:
                self.life.kernel.seen["write torn by a kill"] += 1
                found.write(data[:end], offset)
        self.life.call("write")
        more = offset + len(data) - len(found.data)
        if more > 0 and (room := storage.take(more)) < more:
            storage.free += room
            part = len(data) - more + storage.chance.randint(0, room)
            if part > 0:
                before = len(found.data)
                found.write(data[:part], offset)
                storage.free -= len(found.data) - before
            self.life.kernel.seen["write without room"] += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        found.write(data, offset)

    def sync(self, file: int) -> None:
        life = self.life
        life.call("sync")
        found = self.files[file]
        if life.sync_fails():
            found.fail_sync(self.storage.chance)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        found.sync()

    def sync_folder(self, folder: Path) -> None:
        self.life.call("sync_folder")
        self.storage.sync_folder(str(folder))

    def allocate(self, file: int, size: int) -> None:
        self.life.call("allocate")
        found = self.files[file]
        more = size - len(found.data)
        if more > 0:
            if (room := self.storage.take(more)) < more:
                self.storage.free += room
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            found.truncate(size)

    def map(self, file: int, size: int) -> memoryview:
        self.life.call("map")
        found = self.files[file]
        found.mapped = True
        return memoryview(found.data)[:size]

    def rename(self, old: Path, new: Path) -> None:
        self.life.call("rename")
        before, after = str(old), str(new)
        if before not in self.storage.names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), before)
        moved = self.storage.names[before]

        def act(names: dict[str, File]) -> None:
            names.pop(before, None)
            names[after] = moved

        self.storage.change(act, before, after)

    def unlink(self, path: Path, missing_ok: bool = False) -> None:
        self.life.call("unlink")
        name = str(path)
        found = self.storage.names.get(name)
        if found is None:
            if missing_ok:
                return
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        self.storage.free += len(found.data)

        def act(names: dict[str, File]) -> None:
            names.pop(name, None)

        self.storage.change(act, name)

    def exists(self, path: Path) -> bool:
        return str(path) in self.storage.names

    def names(self, folder: Path) -> list[str]:
        return self.storage.in_folder(str(folder))

    def make_folder(self, folder: Path) -> None:
        pass

    def free_bytes(self, folder: Path) -> int:
        return self.storage.free
