"""An exchange of its own for a benchmark: real daemons, free ports, a data folder that is removed afterwards."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psycopg
import zmq

from exchange import config as configuration
from exchange.config import PROJECT, Config
from exchange.store.embedded import database_dsn

START_SECONDS = 60.0


def free_ports(count: int) -> list[int]:
    """Return TCP ports of the loopback interface that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@contextmanager
def running(assets: list[str], folder: Path | None = None) -> Iterator[tuple[Config, dict[str, int]]]:
    """Run an exchange with these assets; yield its configuration and the process id of each daemon.

    `folder` is where its data is, by default one in the folder for temporary files: what a disk costs depends on it.
    """
    place = Path(tempfile.mkdtemp(prefix="exchange-benchmark-", dir=folder))
    config = _write_config(place, assets)
    names = [["postgres"], ["order_handler"], *(["matching", asset] for asset in assets), ["logger"], ["notifier"]]
    environment = os.environ | {"EXCHANGE_CONFIG": str(config.folder), "EXCHANGE_DATA": str(config.data)}
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        with (place / "log").open("wb") as log:
            for name in names:
                nice = [] if name[0] in ("order_handler", "matching") else ["nice", "-n", "5"]
                command = [*nice, sys.executable, "-m", f"daemons.{name[0]}", *name[1:]]
                processes["-".join(name)] = subprocess.Popen(
                    command, cwd=PROJECT, env=environment, stdout=log, stderr=log
                )
        _wait_until_up(config)
        yield config, {name: process.pid for name, process in processes.items()}
    finally:
        for process in reversed(processes.values()):
            process.terminate()
        for process in processes.values():
            process.wait(60)
        shutil.rmtree((config.data / "postgres").resolve(), ignore_errors=True)
        shutil.rmtree(place, ignore_errors=True)


def _write_config(place: Path, assets: list[str]) -> Config:
    folder = place / "config"
    folder.mkdir()
    names = ("order_entry", "market_data", "private", "query")
    lines = [f'{name} = "tcp://127.0.0.1:{port}"' for name, port in zip(names, free_ports(4), strict=True)]
    (folder / "exchange.toml").write_text("[endpoints]\n" + "\n".join(lines) + "\n")
    (folder / "assets.toml").write_text("".join(f'[[asset]]\nasset = "{asset}"\nprice_scale = 2\n' for asset in assets))
    return configuration.load(folder, place / "var")


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
