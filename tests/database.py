"""A PostgreSQL server for tests, databases of their own in it, and what is in them.

Where `EXCHANGE_TEST_DSN` names a server, tests use that one, as a role that may create databases.
"""

import os
import re
import shutil
import signal
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import conninfo, sql

from exchange.store.embedded import database_dsn
from tests.support import PROJECT, Daemon, wait_until, write_config

TABLES = ("assets", "orders", "trades", "order_events", "asset_statuses", "operator_acts", "applied")
Connection = psycopg.Connection[tuple[Any, ...]]


@contextmanager
def postgres() -> Iterator[str]:
    """Run the exchange's own embedded server in a new folder, unless there is one to use, and yield its DSN."""
    if given := os.environ.get("EXCHANGE_TEST_DSN"):
        yield given
        return
    folder = Path(tempfile.mkdtemp(prefix="exchange-"))
    folder.chmod(0o755)  # started by root, the server runs as another user, who must get through
    try:
        config = write_config(folder)
        server = Daemon(config, "postgres").start()
        dsn = database_dsn(config)
        try:
            wait_until(lambda: accepts(dsn) or not server.alive, "the server accepts connections", seconds=120)
            assert server.alive, server.output()
            yield dsn
        finally:
            if server.alive:
                server.signal(signal.SIGINT)  # a fast shutdown: clients don't hold it up
            server.wait(60)
    finally:
        shutil.rmtree(folder)


def accepts(dsn: str) -> bool:
    try:
        psycopg.connect(dsn, connect_timeout=30).close()
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


def rows(reader: Connection, query: str, *parameters: object) -> list[tuple[Any, ...]]:
    return reader.execute(query.encode(), parameters).fetchall()


def contents(dsn: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table, in order."""
    with psycopg.connect(dsn) as connection:
        return {table: rows(connection, f"SELECT * FROM {table} ORDER BY 1, 2") for table in TABLES}


def state(reader: Connection, order_id: int) -> tuple[str, int, int]:
    """Return the status, cumulative and leaves quantity of an order of ACME, as the view has them."""
    query = (
        "SELECT status, cumulative_quantity, leaves_quantity FROM order_states WHERE asset = 'ACME' AND order_id = %s"
    )
    (found,) = rows(reader, query, order_id)
    return found


def documented(title: str) -> str:
    """Return the query of docs/database.md whose paragraph begins so."""
    text = (PROJECT / "docs" / "database.md").read_text()
    found = re.search(rf"^{re.escape(title)}(?:(?!```).)*```sql\n(.*?);\n```", text, re.DOTALL | re.MULTILINE)
    assert found, f"docs/database.md has no query {title!r}"
    return found[1]
