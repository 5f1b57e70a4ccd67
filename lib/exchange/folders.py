"""The folders that an exchange needs before its first daemon starts: made here, or refused with the reason."""

import os
import pwd
import stat
from pathlib import Path

from exchange.config import Config

LONGEST_SOCKET = 107  # bytes of a Unix socket's path, without the closing zero


class FolderError(Exception):
    """A folder that can't be used; the text says why and what to do."""


def prepare_folders(config: Config) -> None:
    """Make the data folder, its `log` and `status`, and the run folder.

    Raises FolderError where one can't be made or holds something that this user can't write.
    """
    for folder in (config.data, config.data / "log", config.status_folder):
        _make(folder)
    _check_writable(config.data)
    prepare_run_folder(config)


def prepare_run_folder(config: Config) -> None:
    """Make the folder of the sockets between daemons: ours, for nobody else.

    Where it lies in the folder for temporary files anybody may have made it before us, so it is refused unless it is a
    real folder of our own. It may be that of the user who ran the exchange before: root takes it over, in the data
    folder from whomever, elsewhere from the owner of the data folder. Raises FolderError.
    """
    _make(config.data)
    folder = config.run_folder
    private_folder(folder, take_over=folder.parent == config.data, take_over_from=config.owner)


def private_folder(
    folder: Path, owner: int | None = None, *, take_over: bool = False, take_over_from: int | None = None
) -> None:
    """Make a folder with mode 0700, or give that mode to the one that is there.

    `owner` is the user id that it has to belong to, else the caller's own. Root makes it so with `take_over`, and where
    it belongs to `take_over_from` or to root. Raises FolderError.
    """
    owner = os.geteuid() if owner is None else owner
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        may_take = stat.S_ISDIR(found.st_mode) and (take_over or found.st_uid in (0, take_over_from))
        if os.geteuid() == 0 and found.st_uid != owner and may_take:
            os.chown(folder, owner, -1, follow_symlinks=False)
            found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner:
            raise FolderError(
                f"{folder}: must be a folder of {user_name(owner)}'s and is {describe(folder)}; remove it and start "
                "again"
            )
        if stat.S_IMODE(found.st_mode) != 0o700:
            folder.chmod(0o700)
    except OSError as error:
        raise FolderError(f"{folder}: can't be made: {error.strerror}") from None


def replace_file(path: Path, text: str, *, durable: bool = False) -> None:
    """Write a file as a whole: whoever reads it finds the old text or the new; if `durable`, after a power failure too.

    It keeps its mode and, where root writes it, its owner; a new one gets its folder's.
    """
    path = path.resolve()  # what a symbolic link leads to is replaced, not the link
    unfinished = path.with_name(f"{path.name}.unfinished")
    with unfinished.open("w", encoding="utf-8") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    old = path if path.exists() else path.parent
    if os.geteuid() == 0:
        os.chown(unfinished, old.stat().st_uid, old.stat().st_gid)
    if old is path:
        unfinished.chmod(stat.S_IMODE(old.stat().st_mode))
    unfinished.replace(path)


def user_name(uid: int) -> str:
    """Return the name of a user, or the number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def describe(path: Path) -> str:
    """Return what a path is and whose, for a message."""
    found = path.lstat()
    kinds = ((stat.S_ISLNK, "a symbolic link"), (stat.S_ISDIR, "a folder"), (stat.S_ISREG, "a file"))
    kind = next((name for test, name in kinds if test(found.st_mode)), "something else")
    return f"{kind} of {user_name(found.st_uid)}'s"


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FolderError(
            f"{folder}: can't be made: {error.strerror}; set EXCHANGE_DATA to a folder that {user_name(os.geteuid())} "
            "may write"
        ) from None


def _check_writable(data: Path) -> None:
    """Find what another user left in the data folder. The database's own folder has its own rules."""
    for parent, folders, files in os.walk(data):
        if Path(parent) == data and "postgres" in folders:
            folders.remove("postgres")
        for path in (Path(parent), *(Path(parent, name) for name in files)):
            if path.is_socket() or path.is_symlink() or os.access(path, os.W_OK):
                continue
            us = user_name(os.geteuid())
            raise FolderError(
                f"{path}: is {describe(path)}, which {us} can't write; start the exchange as that user, or give it "
                f"the folder (chown -R {us} '{data}'), or set EXCHANGE_DATA to another folder"
            )
