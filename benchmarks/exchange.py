"""An exchange of its own for a benchmark: real daemons, free ports, a data folder that is removed afterwards."""

import os
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import zmq

from exchange.config import Config
from exchange.status import read_pages
from exchange.store.embedded import database_dsn
from tests.support import Daemon, write_config

START_SECONDS = 60.0
MOST_FILES = 65536  # connections that a daemon may have open, where the system allows as many
PAUSE_SECONDS = 0.02


@contextmanager
def running(
    assets: Sequence[str], folder: Path | None = None, settings: str = ""
) -> Iterator[tuple[Config, dict[str, int]]]:
    """Run an exchange with these assets; yield its configuration and the process id of each daemon.

    `folder` is where its data is, by default one in the folder for temporary files: what a disk costs depends on it.
    `settings` are further lines of each asset's table.
    """
    allow_files()
    place = Path(tempfile.mkdtemp(prefix="exchange-benchmark-", dir=folder))
    place.chmod(0o755)  # started by root, PostgreSQL runs as another user, who must get through
    config = write_config(
        place, "".join(f'[[asset]]\nasset = "{asset}"\nprice_scale = 2\n{settings}\n' for asset in assets)
    )
    daemons = {
        "postgres": Daemon(config, "postgres", nice=5),
        "order_handler": Daemon(config, "order_handler"),
        **{f"matching-{asset}": Daemon(config, "matching", asset) for asset in assets},
        "logger": Daemon(config, "logger", nice=5),
        "notifier": Daemon(config, "notifier", nice=5),
    }
    try:
        for daemon in daemons.values():
            daemon.start()
        _wait_until_up(config)
        yield config, {name: daemon.pid for name, daemon in daemons.items()}
    finally:
        # All at once, since each takes a moment; PostgreSQL last, which the logger still writes to.
        postgres = daemons.pop("postgres")
        started = [daemon for daemon in daemons.values() if daemon.process is not None]
        for daemon in started:
            daemon.signal(signal.SIGTERM)
        for daemon in started:
            daemon.wait()
        postgres.stop()
        shutil.rmtree(place)


def allow_files() -> None:
    """Let this process, and the daemons that it starts, have as many connections open as a real start would."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = MOST_FILES if most == resource.RLIM_INFINITY else min(most, MOST_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))


def until(condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Wait until a condition holds. Raises TimeoutError, which says what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(PAUSE_SECONDS)


def _wait_until_up(config: Config) -> None:
    """Wait until the order handler answers, and each asset's definition is matched, published and in SQL."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as client:
        client.linger = 0
        client.connect(config.endpoints.order_entry)
        client.send(msgspec.msgpack.encode({"type": "ping"}))
        if not client.poll(round(START_SECONDS * 1000)):
            raise TimeoutError("the order handler does not answer")
    until(lambda: stored(config) >= len(config.assets), "the assets' definitions are in SQL")
    until(
        lambda: all(
            set(page["processed"]) >= {asset.asset for asset in config.assets}
            for page in read_pages(config.status_folder)
            if page["daemon"] == "notifier"
        ),
        "the notifier knows all assets",
    )


class Database:
    """What is in SQL, asked over one connection."""

    def __init__(self, config: Config) -> None:
        self.connection = psycopg.connect(database_dsn(config), connect_timeout=5, autocommit=True)

    def close(self) -> None:
        self.connection.close()

    def requests(self) -> int:
        """Return the number of requests stored, over all assets."""
        return self._number("SELECT coalesce(sum(sequence), 0) FROM applied")

    def last_trades(self) -> dict[str, int]:
        """Return the last trade's number of each asset that has traded."""
        return dict(self.connection.execute("SELECT asset, max(trade_id) FROM trades GROUP BY asset").fetchall())

    def rows(self, table: str) -> int:
        return self._number(f"SELECT count(*) FROM {table}")

    def _number(self, query: str) -> int:
        row = self.connection.execute(query.encode()).fetchone()
        assert row is not None
        return int(row[0])

    def wait_for_requests(self, count: int, seconds: float = START_SECONDS) -> float:
        """Wait until so many requests are stored, and no more, and return the time.monotonic() of it."""
        until(lambda: self.requests() >= count, f"{count} acknowledged requests are in SQL", seconds)
        now = time.monotonic()
        assert self.requests() == count, f"{self.requests()} requests are in SQL, and {count} were acknowledged"
        return now


def stored(config: Config) -> int:
    """Return the number of requests stored in SQL, over all assets, -1 while there is no table."""
    try:
        database = Database(config)
    except psycopg.Error:
        return -1
    try:
        return database.requests()
    except psycopg.Error:
        return -1
    finally:
        database.close()


def cpu_seconds(pids: Mapping[str, int]) -> dict[str, float]:
    """Return the CPU time that each process, with those that it started, has used so far: user and system.

    A resolution of 10 ms, so measure a second or more.
    """
    ticks = os.sysconf("SC_CLK_TCK")
    children: dict[int, list[int]] = {}
    used: dict[int, float] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        pid = int(path.parent.name)
        children.setdefault(int(fields[1]), []).append(pid)
        used[pid] = sum(int(field) for field in fields[11:15]) / ticks  # with that of children that ended

    def total(pid: int) -> float:
        return used.get(pid, 0.0) + sum(total(child) for child in children.get(pid, ()))

    return {name: total(pid) for name, pid in pids.items()}


def by_daemon(values: Mapping[str, float]) -> dict[str, float]:
    """Return values by program, those of all matching daemons added up as `matching`."""
    summed: dict[str, float] = {}
    for name, value in values.items():
        daemon = name.partition("-")[0]
        summed[daemon] = summed.get(daemon, 0.0) + value
    return summed


def memory_bytes(pid: int) -> dict[str, int]:
    """Return a process's resident memory, and the part of it that no other process shares."""
    resident = private = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == "Rss":
            resident = int(rest.split()[0]) * 1024
        elif name in ("Private_Clean", "Private_Dirty"):
            private += int(rest.split()[0]) * 1024
    return {"resident": resident, "private": private}


class Cpu:
    """The CPU time of an exchange's daemons between two moments."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self.pids = pids
        self.start()

    def start(self) -> None:
        self.before = cpu_seconds(self.pids)

    def seconds(self) -> dict[str, float]:
        """Return the seconds by program since the start."""
        now = cpu_seconds(self.pids)
        return by_daemon({name: now[name] - self.before[name] for name in now})

    def microseconds(self, count: int, **others: float) -> dict[str, float]:
        """Return microseconds of each of `count` requests by program; `others` are seconds of other processes."""
        return {name: used / count * 1e6 for name, used in (self.seconds() | others).items()}


def status(config: Config, daemon: str) -> dict[str, Any]:
    """Return a daemon's status page; empty where there is none yet."""
    return next((dict(page) for page in read_pages(config.status_folder) if page["daemon"] == daemon), {})
