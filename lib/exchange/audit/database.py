"""The database as of one moment, read table by table in the order of the keys, in bounded memory.

One REPEATABLE READ transaction holds the moment; each table is read through a connection of its own that shares its
snapshot, with COPY, so that several can be read side by side. Nothing is locked, and nothing held up but the clearing
of rows that are dead.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
from msgspec import Struct
from psycopg import Error as DatabaseError
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from exchange.audit.findings import Unreadable
from exchange.audit.rows import COLUMNS, KEYS, names

SCHEMA_VERSION = 2
SETTINGS = b"""
    SET TIME ZONE 'UTC';
    SET DateStyle = 'ISO, YMD';
    SET statement_timeout = 0;
    SET idle_in_transaction_session_timeout = 0;
"""
BEGIN = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
CONNECTION: dict[str, str | int | None] = {"application_name": "exchange verify", "connect_timeout": 10}
DEFINITION_COLUMNS = names(
    "price_scale quantity_scale tick_size lot_size min_quantity max_quantity min_price max_price self_trade"
    " reference_price price_band_ppm volatility_band_ppm call_seconds schedule time_zone trading_days closed_dates"
    " day_roll sequence defined_at_ns"
)

__all__ = ["Applied", "Database", "DatabaseError"]

Connection = psycopg.Connection[tuple[Any, ...]]


class Applied(Struct, frozen=True):
    """A row of `applied`."""

    sequence: int = 0
    event_sequence: int = 0
    trade_id: int = 0
    time_ns: int = 0
    time: str = ""


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())


class Database:
    """What is stored, as of when this was made. `close` it.

    Raises Unreadable where the database can't be reached, or its tables are none that this program knows. Where the
    logger has not made them yet, nothing is stored: `applied` is empty.
    """

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.resources = ExitStack()
        self.readers: dict[str, Connection] = {}
        try:
            self.leader = self._connect()
            self.leader.execute(BEGIN)
            row = self.leader.execute("SELECT pg_export_snapshot(), to_regclass('schema_version') IS NULL").fetchone()
            assert row is not None
            self.snapshot, self.is_empty = row
            self._check_version()
            self.applied = self._read_applied()
        except DatabaseError as error:
            self.close()
            raise Unreadable(
                f"the database can't be read: {one_line(error)}; start it (while the exchange is stopped: "
                ".venv/bin/python -m daemons.postgres runs the embedded one), or leave it out with --no-database"
            ) from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.resources.close()

    def _connect(self) -> Connection:
        parameters = CONNECTION | conninfo_to_dict(self.dsn) | {"client_encoding": "UTF8"}
        connection = psycopg.connect(make_conninfo("", **parameters), autocommit=True)
        self.resources.callback(connection.close)
        connection.execute(SETTINGS)
        return connection

    def _check_version(self) -> None:
        if self.is_empty:
            return
        versions = [version for (version,) in self.leader.execute("SELECT version FROM schema_version")]
        if versions != [SCHEMA_VERSION]:
            found = ", ".join(map(str, versions)) or "none"
            raise Unreadable(
                f"the database has schema version {found}, and this program reads version {SCHEMA_VERSION}; start the "
                "logger, which migrates an older one, or run the verify of the program that wrote it"
            )

    def _read_applied(self) -> dict[str, Applied]:
        if self.is_empty:
            return {}
        query = "SELECT asset, sequence, event_sequence, trade_id, time_ns, time::text FROM applied"
        return {asset: Applied(*place) for asset, *place in self.leader.execute(query)}

    # -- rows ----------------------------------------------------------------------------------------------------------

    def rows(self, table: str, asset: str, first: int = 0) -> Iterator[bytes]:
        """Yield an asset's rows of a table, from a key on and in its order, each a line of COPY's text format.

        To be read to its end, or the table not to be read again.
        """
        if self.is_empty:
            return
        query = sql.SQL("COPY (SELECT {} FROM {} WHERE asset = {} AND {} >= {} ORDER BY {}) TO STDOUT").format(
            sql.SQL(", ").join(map(sql.Identifier, COLUMNS[table])),
            sql.Identifier(table),
            sql.Literal(asset),
            sql.Identifier(KEYS[table]),
            sql.Literal(first),
            sql.Identifier(KEYS[table]),
        )
        with self.reader(table).cursor().copy(query) as copy:
            for line in copy:
                yield bytes(line)

    def reader(self, table: str) -> Connection:
        """Return the connection through which a table is read."""
        reader = self.readers.get(table)
        if reader is None:
            self.readers[table] = reader = self._connect()
            reader.execute(BEGIN)
            reader.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(self.snapshot)))
        return reader

    def definition(self, asset: str) -> tuple[Any, ...] | None:
        """Return an asset's row of `assets`, its columns as in DEFINITION_COLUMNS and its units; None: no row."""
        if self.is_empty:
            return None
        columns = sql.SQL(", ").join(map(sql.Identifier, DEFINITION_COLUMNS))
        query = sql.SQL("SELECT {}, price_unit, quantity_unit, defined_at::text FROM assets WHERE asset = {}")
        return self.leader.execute(query.format(columns, sql.Literal(asset))).fetchone()

    def assets(self) -> dict[str, set[str]]:
        """Return the assets that each table has rows of, by the table's name."""
        if self.is_empty:
            return {}
        found: dict[str, set[str]] = {}
        for table in ("applied", "assets", *(table for table in COLUMNS if table != "order_states")):
            names: set[str] = set()
            query = sql.SQL("SELECT min(asset) FROM {} WHERE asset > {}")  # a step of the key's index each
            last: str | None = ""
            # The empty name is the exchange's own queue, which is not stored.
            while last is not None:
                row = self.leader.execute(query.format(sql.Identifier(table), sql.Literal(last))).fetchone()
                last = None if row is None else row[0]
                if last is not None:
                    names.add(last)
            found[table] = names
        return found
