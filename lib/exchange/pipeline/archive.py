"""Retention: segments of a log that everybody has passed are moved away, or deleted. Their seals stay."""

from pathlib import Path

from exchange.pipeline.disk import Disk
from exchange.pipeline.log_format import ARCHIVED, READ_WHOLE_BYTES, Damaged, segment_name
from exchange.pipeline.seals import UNFINISHED, read_seal, seal_name, seal_path


def archived_base(disk: Disk, folder: Path) -> int:
    """Return the position before which a log's segments were moved away, 0 where none were. Raises Damaged."""
    path = folder / ARCHIVED
    try:
        file = disk.open(path)
    except FileNotFoundError:
        return 0
    try:
        text = disk.read(file, 100, 0)
    finally:
        disk.close(file)
    try:
        return int(text)
    except ValueError:
        raise Damaged(
            f"{path}: offset 0: {text!r}: must be the position of the first segment that is kept; restore it "
            "from a copy"
        ) from None


def archive_up_to(disk: Disk, folder: Path, base: int, destination: Path | None = None) -> list[str]:
    """Move a log's segments before the one at `base` to another folder, or delete them; return their names.

    Copies of their seals go there too. Nothing changes here before all copies are on disk. Whoever writes the log may
    go on meanwhile. What was begun and not finished is finished when this is called again, with the same base or a
    later one. Raises OSError, and ValueError, changing nothing, where the log is not sealed up to there, has no segment
    at `base`, or the destination has a file of another content.
    """
    names = disk.names(folder)
    archived = archived_base(disk, folder)
    if base < archived or segment_name(base) not in names:
        raise ValueError(f"{folder}: there is no segment at {base}, behind {archived}; say where one begins")
    end = archived
    while end < base:
        seal = read_seal(disk, folder / seal_name(end))
        if seal is None:
            raise ValueError(f"{folder}: the segment at {end} is not sealed; its log's daemon seals it when it starts")
        end = seal.base + seal.size
    gone = segments_before(names, base)
    if destination is not None and gone:
        copied = _with_seals(names, gone)
        there = _same_there(disk, folder, copied, destination)
        _make_folder(disk, destination)
        for name in copied:
            if name not in there:
                _copy(disk, folder / name, destination / name)
        disk.sync_folder(destination)
    if base > archived:
        replace_file(disk, folder / ARCHIVED, b"%d\n" % base)
    for name in gone:
        disk.unlink(folder / name)
    disk.sync_folder(folder)
    return gone


def check_destination(disk: Disk, folder: Path, base: int, destination: Path) -> None:
    """Raise ValueError where `archive_up_to` would, because of what the destination has."""
    names = disk.names(folder)
    _same_there(disk, folder, _with_seals(names, segments_before(names, base)), destination)


def segments_before(names: list[str], base: int) -> list[str]:
    """Return which of a log's files are segments before a position."""
    return [name for name in names if name.endswith(".log") and name < segment_name(base)]


def replace_file(disk: Disk, path: Path, data: bytes) -> None:
    """Write a file as a whole: whoever reads it finds the old one or the new, after a power failure too."""
    unfinished = path.with_name(path.name + UNFINISHED)
    file = disk.open(unfinished, create=True)
    try:
        disk.truncate(file, 0)
        disk.write(file, data, 0)
        disk.sync(file)
    finally:
        disk.close(file)
    disk.rename(unfinished, path)
    disk.sync_folder(path.parent)


def _with_seals(names: list[str], segments: list[str]) -> list[str]:
    seals = [seal_path(Path(name)).name for name in segments]
    return sorted([*segments, *(name for name in seals if name in names)])


def _same_there(disk: Disk, folder: Path, names: list[str], destination: Path) -> set[str]:
    """Return which files the destination has already. Raises ValueError where one of them has another content."""
    there = {name for name in names if disk.exists(destination / name)}
    for name in sorted(there):
        if not _same(disk, folder / name, destination / name):
            raise ValueError(
                f"{destination / name}: is there already, with another content than {folder / name}: it is not "
                "overwritten; name another folder, or move that file away"
            )
    return there


def _same(disk: Disk, one: Path, other: Path) -> bool:
    files: list[int] = []
    try:
        for path in (one, other):
            files.append(disk.open(path))
        if disk.size(files[0]) != disk.size(files[1]):
            return False
        for offset in range(0, disk.size(files[0]), READ_WHOLE_BYTES):
            if disk.read(files[0], READ_WHOLE_BYTES, offset) != disk.read(files[1], READ_WHOLE_BYTES, offset):
                return False
        disk.sync(files[1])  # somebody may have copied it by hand, a moment ago
        return True
    finally:
        for file in files:
            disk.close(file)


def _make_folder(disk: Disk, folder: Path) -> None:
    made = [each for each in (folder, *folder.parents) if not disk.exists(each)]
    disk.make_folder(folder)
    for each in made:
        disk.sync_folder(each.parent)


def _copy(disk: Disk, old: Path, new: Path) -> None:
    unfinished = new.with_name(new.name + UNFINISHED)
    source = disk.open(old)
    try:
        target = disk.open(unfinished, create=True)
        try:
            disk.truncate(target, 0)
            offset = 0
            while data := disk.read(source, READ_WHOLE_BYTES, offset):
                disk.write(target, data, offset)
                offset += len(data)
            disk.sync(target)
        finally:
            disk.close(target)
    finally:
        disk.close(source)
    disk.rename(unfinished, new)
