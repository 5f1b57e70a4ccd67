"""A database that an earlier version made, brought up to date in place."""

from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from exchange.core.asset import Asset
from exchange.core.requests import BUY, SELL, MassCancel
from exchange.store import schema
from exchange.store.writer import Writer
from tests.database import Connection, contents, database, rows
from tests.stored import Market

VERSION_1 = Path(__file__).with_name("schema_1.sql")  # its tables, with the rows of `market_of_version_1`


def market_of_version_1() -> Market:
    """Return a market of what version 1 knew. Its rows are in the file: change neither."""
    market = Market(Asset(asset="ACME", price_scale=2, tick_size=5), Asset(asset="BTC-USD", quantity_scale=8))
    market.enter("alice", SELL, 100, 1005)
    market.enter("bob", BUY, 60, 1010, "ioc")
    market.amend("alice", 1, 90)
    market.enter("carol", BUY, 7, asset="BTC-USD")
    market.enter("carol", BUY, 7, 20, asset="BTC-USD")
    market.cancel("bob", 2)
    market.amend("bob", 1, 5)
    market.enter("dave", SELL, 7, 19, "fok", asset="BTC-USD")
    market.enter("dave", SELL, 7, 30, "fok", asset="BTC-USD")
    market.enter("alice", SELL, 3, 1010)
    market.apply("alice", MassCancel(SELL))
    return market


CATALOG = {
    "columns": "SELECT table_name::text, ordinal_position::int, column_name::text, data_type::text, udt_name::text,"
    " is_nullable::text, column_default::text, collation_name::text, generation_expression::text"
    " FROM information_schema.columns WHERE table_schema = 'public'",
    "comments": "SELECT relname::text, attname::text, obj_description(pg_class.oid),"
    " col_description(pg_class.oid, attnum) FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid"
    " WHERE relnamespace = 'public'::regnamespace AND attnum > 0 AND relkind IN ('r', 'v')",
    "constraints": "SELECT conrelid::regclass::text, conname::text, pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE connamespace = 'public'::regnamespace",
    "indexes": "SELECT tablename::text, indexname::text, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "views": "SELECT viewname::text, definition FROM pg_views WHERE schemaname = 'public'",
    "options": "SELECT relname::text, relkind::text, reloptions::text FROM pg_class"
    " WHERE relnamespace = 'public'::regnamespace",
}


def catalog(dsn: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return all that the server knows of the tables and views, but for their rows."""
    with psycopg.connect(dsn) as connection:
        return {kind: sorted(rows(connection, query), key=repr) for kind, query in CATALOG.items()}


@pytest.fixture
def old(dsn: str) -> str:
    """Return the DSN of a database as version 1 made and filled it."""
    with psycopg.connect(dsn) as connection:
        connection.execute(VERSION_1.read_bytes())
    return dsn


def test_a_database_of_version_1_becomes_one_that_the_newest_could_have_made(old: str, server: str) -> None:
    market = market_of_version_1()
    with database(server) as new, closing(Writer(new)) as fresh, closing(Writer(old)) as migrated:
        fresh.open()
        fresh.write(market.records)
        migrated.open()
        assert catalog(old) == catalog(new)
        assert contents(old) == contents(new)
        assert migrated.applied() == fresh.applied()

        market.enter("alice", SELL, 5, 1000)
        market.define(Asset(asset="ACME", price_scale=2, tick_size=5, price_band_ppm=100_000))
        market.apply("alice", MassCancel(0, reason="operator", by="olivia"))
        for writer in (fresh, migrated):
            writer.write(market.missing(writer.applied()))
        assert contents(old) == contents(new)


def test_a_database_is_migrated_once(old: str, reader: Connection) -> None:
    for _ in range(2):
        with closing(Writer(old)) as writer:
            writer.open()
        assert rows(reader, "SELECT version FROM schema_version") == [(1 + len(schema.MIGRATIONS),)]


def test_a_migration_that_fails_changes_nothing(old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = catalog(old)
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, "ALTER TABLE nowhere ADD COLUMN anything text"))
    with pytest.raises(psycopg.errors.UndefinedTable):
        Writer(old).open()
    assert catalog(old) == before


def test_views_of_one_s_own_outlive_a_migration(old: str, reader: Connection) -> None:
    reader.execute(
        "CREATE VIEW mine AS SELECT order_events.*, tick_size, status FROM order_events JOIN assets USING (asset)"
        " JOIN order_states USING (asset, order_id)"
    )
    held = rows(reader, "SELECT count(*) FROM mine")
    with closing(Writer(old)) as writer:
        writer.open()
    assert rows(reader, "SELECT count(*) FROM mine") == held
