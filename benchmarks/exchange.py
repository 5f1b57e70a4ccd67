"""An exchange of its own for a benchmark: real daemons, free ports, a data folder that is removed afterwards."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psycopg
import zmq

from exchange.config import Config
from exchange.store.embedded import database_dsn
from tests.support import Daemon, write_config

START_SECONDS = 60.0


@contextmanager
def running(assets: list[str], folder: Path | None = None) -> Iterator[tuple[Config, dict[str, int]]]:
    """Run an exchange with these assets; yield its configuration and the process id of each daemon.

    `folder` is where its data is, by default one in the folder for temporary files: what a disk costs depends on it.
    """
    place = Path(tempfile.mkdtemp(prefix="exchange-benchmark-", dir=folder))
    place.chmod(0o755)  # started by root, PostgreSQL runs as another user, who must get through
    config = write_config(place, "".join(f'[[asset]]\nasset = "{asset}"\nprice_scale = 2\n' for asset in assets))
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
        for daemon in reversed(daemons.values()):
            daemon.stop()
        shutil.rmtree(place)


def _wait_until_up(config: Config) -> None:
    """Wait until the order handler answers and the logger has made its tables."""
    deadline = time.monotonic() + START_SECONDS
    with zmq.Context() as context, context.socket(zmq.DEALER) as client:
        client.linger = 0
        client.connect(config.endpoints.order_entry)
        client.send(msgspec.msgpack.encode({"type": "ping"}))
        if not client.poll(round(START_SECONDS * 1000)):
            raise TimeoutError("the order handler does not answer")
    while stored(config) < 0:
        if time.monotonic() > deadline:
            raise TimeoutError("the logger has not reached its database")
        time.sleep(0.1)


def stored(config: Config) -> int:
    """Return the number of requests stored in SQL, over all assets, -1 while there is no table."""
    try:
        with psycopg.connect(database_dsn(config), connect_timeout=5) as connection:
            row = connection.execute("SELECT coalesce(sum(sequence), 0) FROM applied").fetchone()
            return -1 if row is None else int(row[0])
    except psycopg.Error:
        return -1


def count(config: Config, table: str) -> int:
    """Return a table's number of rows."""
    with psycopg.connect(database_dsn(config)) as connection:
        row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
        assert row is not None
        return int(row[0])


def cpu_seconds(pids: dict[str, int]) -> dict[str, float]:
    """Return the CPU time that each daemon, with the processes it started, has used so far."""
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
        used[pid] = (int(fields[11]) + int(fields[12])) / ticks

    def total(pid: int) -> float:
        return used.get(pid, 0.0) + sum(total(child) for child in children.get(pid, ()))

    return {name: total(pid) for name, pid in pids.items()}
