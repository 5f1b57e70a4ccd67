"""A PostgreSQL server for the tests that store something, and in it, for each test, a database of its own."""

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from exchange.store.writer import Writer
from tests.database import Connection, database, postgres


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Yield the DSN of a server."""
    with postgres() as dsn:
        yield dsn


@pytest.fixture
def dsn(server: str) -> Iterator[str]:
    """Yield the DSN of an empty database."""
    with database(server) as dsn:
        yield dsn


@pytest.fixture
def writer(dsn: str) -> Iterator[Writer]:
    """Yield the database's writer, open."""
    with closing(Writer(dsn)) as writer:
        writer.open()
        yield writer


@pytest.fixture
def reader(dsn: str) -> Iterator[Connection]:
    """Yield a connection to the database."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection
