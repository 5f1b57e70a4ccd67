"""The embedded PostgreSQL, as the real process that supervisord starts: starting, dying, coming back."""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from exchange.config import Config
from exchange.store import embedded
from exchange.store.embedded import BELONGS_TO, home_folder
from tests.database import accepts
from tests.support import PROJECT, Daemon, wait_until, write_config

NOBODY = "nobody"


@contextmanager
def server(config: Config) -> Iterator[Daemon]:
    """Run the server until it accepts connections; end it afterwards, fast."""
    daemon = Daemon(config, "postgres").start()
    try:
        wait_until_up(daemon)
        yield daemon
    finally:
        if daemon.alive:
            daemon.signal(signal.SIGINT)
            daemon.wait()


def wait_until_up(daemon: Daemon) -> None:
    dsn = embedded.dsn(daemon.config)
    wait_until(lambda: accepts(dsn) or not daemon.alive, "the server accepts connections", seconds=60)
    assert daemon.alive, daemon.output()


def server_processes(config: Config) -> list[int]:
    """Return the processes that work in the database's folder."""
    data = (home_folder(config) / "data").resolve()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cwd").readlink() == data:
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def test_a_new_database_is_utf8_and_durable_and_listens_on_no_network(open_folder: Path) -> None:
    config = write_config(open_folder)
    with server(config), psycopg.connect(embedded.dsn(config)) as connection:
        for setting, value in (
            ("server_encoding", "UTF8"),
            ("fsync", "on"),
            ("listen_addresses", ""),
            ("max_wal_size", "2GB"),
        ):
            assert connection.execute(f"SHOW {setting}").fetchone() == (value,)
        collation = "SELECT datcollate, datctype FROM pg_database WHERE datname = current_database()"
        assert connection.execute(collation).fetchone() == ("C", "C")
    assert embedded.socket_folder(config).stat().st_mode & 0o777 == 0o700
    assert (home_folder(config) / "data").stat().st_mode & 0o777 == 0o700


def test_the_stop_signal_ends_it_cleanly_whoever_is_connected(open_folder: Path) -> None:
    config = write_config(open_folder)
    with server(config) as daemon:
        client = psycopg.connect(embedded.dsn(config))
        daemon.signal(signal.SIGINT)
        assert daemon.wait() == 0
        client.close()
        assert "database system is shut down" in daemon.output()
    assert server_processes(config) == []


def test_what_was_committed_survives_a_kill_and_nothing_blocks_the_restart(open_folder: Path) -> None:
    config = write_config(open_folder)
    with server(config) as daemon:
        with psycopg.connect(embedded.dsn(config)) as connection:
            connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 100) AS number")
        daemon.kill()
        daemon.start()
        wait_until_up(daemon)
        with psycopg.connect(embedded.dsn(config)) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (100,)


def test_an_interrupted_initdb_is_made_again(open_folder: Path) -> None:
    config = write_config(open_folder)
    unfinished = home_folder(config) / "data.unfinished"
    daemon = Daemon(config, "postgres").start()
    wait_until(lambda: (unfinished / "base").exists(), "initdb is at work", pause=0.001)
    daemon.kill()
    assert not (home_folder(config) / "data").exists()
    with server(config):
        assert not unfinished.exists()


def test_a_second_server_on_the_same_database_is_refused(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write_config(open_folder)
    monkeypatch.setattr(embedded, "LOCK_SECONDS", 0.2)
    umask = os.umask(0o022)
    try:
        with server(config) as daemon:
            assert daemon.process is not None
            with pytest.raises(embedded.EmbeddedError, match=f"running already, as process {daemon.process.pid}"):
                embedded.run(config)
    finally:
        os.umask(umask)


def test_a_restart_waits_for_the_last_processes_of_a_killed_server(open_folder: Path) -> None:
    """A backend that does not notice at once (here: frozen) still has the database open."""
    config = write_config(open_folder)
    with server(config) as daemon, psycopg.connect(embedded.dsn(config)) as connection:
        backend = connection.info.backend_pid
        os.kill(backend, signal.SIGSTOP)
        try:
            daemon.kill()
            daemon.start()
            wait_until(lambda: server_processes(config) == [backend], "the other processes ended")
            assert not accepts(embedded.dsn(config))
        finally:
            os.kill(backend, signal.SIGCONT)
        wait_until_up(daemon)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become another user")
def test_where_its_user_cannot_reach_the_data_folder_root_finds_another_place(open_folder: Path) -> None:
    config = write_config(open_folder)
    open_folder.chmod(0o700)
    try:
        with server(config), psycopg.connect(embedded.dsn(config)) as connection:
            assert connection.execute("SELECT current_user").fetchone() == ("exchange",)
            place = home_folder(config).readlink()
            assert (place / BELONGS_TO).read_text() == f"{config.data}\n"
    finally:
        if home_folder(config).is_symlink():
            shutil.rmtree(home_folder(config).readlink())


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests run as an ordinary user")
def test_an_ordinary_user_starts_it_and_then_root_does(open_folder: Path) -> None:
    config = write_config(open_folder)
    shutil.chown(open_folder, NOBODY)
    python = interpreter_of(NOBODY)
    if python is None:
        pytest.skip(f"{NOBODY} can't reach an interpreter and its packages here")
    environment = os.environ | {
        "EXCHANGE_CONFIG": str(config.folder),
        "EXCHANGE_DATA": str(config.data),
        "PYTHONPATH": os.pathsep.join((str(PROJECT), str(PROJECT / "lib"), sysconfig.get_path("platlib"))),
    }
    with (open_folder / "ordinary.log").open("wb") as log:
        ordinary = subprocess.Popen(
            [python, "-m", "daemons.postgres"],
            cwd=PROJECT,
            env=environment,
            stdout=log,
            stderr=log,
            user=NOBODY,
            group="nogroup",
            extra_groups=[],
        )
    try:
        wait_until(lambda: accepts(embedded.dsn(config)) or ordinary.poll() is not None, "the server is up", seconds=60)
        assert ordinary.poll() is None, (open_folder / "ordinary.log").read_text()
    finally:
        ordinary.send_signal(signal.SIGINT)
        ordinary.wait(30)
    assert (home_folder(config) / "data").owner() == NOBODY
    with server(config):
        assert (home_folder(config) / "data").owner() == NOBODY


def interpreter_of(user: str) -> str | None:
    """Return an interpreter of our version that a user can run, with our packages in its path."""
    check = f"import sys, psycopg; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    environment = os.environ | {"PYTHONPATH": sysconfig.get_path("platlib")}
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        try:
            done = subprocess.run(
                [python, "-c", check],
                cwd="/",
                env=environment,
                user=user,
                group="nogroup",
                extra_groups=[],
                timeout=30,
                stderr=subprocess.DEVNULL,
            )
        except OSError:
            continue
        if done.returncode == 0:
            return python
    return None
