"""Retention: segments of a log that everybody has passed are moved away, or deleted. Their seals stay."""

from pathlib import Path

from exchange.pipeline.disk import Disk
from exchange.pipeline.log_format import ARCHIVED, READ_WHOLE_BYTES, Damaged, segment_name
from exchange.pipeline.seals import UNFINISHED, read_seal, seal_name


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

    Whoever writes the log may go on meanwhile. What was begun and not finished is finished when this is called again,
    with the same base or a later one. Raises ValueError, changing nothing, where the log is not sealed up to there or
    has no segment at `base`.
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
    if base > archived:
        replace_file(disk, folder / ARCHIVED, b"%d\n" % base)
    gone = [name for name in names if name.endswith(".log") and name < segment_name(base)]
    for name in gone:
        if destination is not None:
            disk.make_folder(destination)
            _copy(disk, folder / name, destination / name)
        disk.unlink(folder / name)
    disk.sync_folder(folder)
    return gone


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


def _copy(disk: Disk, old: Path, new: Path) -> None:
    unfinished = new.with_name(new.name + UNFINISHED)
    source = disk.open(old)
    target = disk.open(unfinished, create=True)
    try:
        disk.truncate(target, 0)
        offset = 0
        while data := disk.read(source, READ_WHOLE_BYTES, offset):
            disk.write(target, data, offset)
            offset += len(data)
        disk.sync(target)
    finally:
        disk.close(source)
        disk.close(target)
    disk.rename(unfinished, new)
    disk.sync_folder(new.parent)
