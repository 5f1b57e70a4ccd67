"""The database's one writer: event records in, rows out, each exactly once.

The rows of a batch and, for each of its assets, the row of `applied` that says how far the asset is stored, are written
in one transaction: both are there or neither is. Whoever starts again reads `applied` and goes on behind it.

That is also why the session runs with `synchronous_commit = off`: a crash of the server may take the last transactions
back, each of them whole, `applied` with the rows; the event logs still have them, and they are written again.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import msgspec
import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.json import Jsonb

from exchange.core.asset import Asset
from exchange.core.events import EventRecord
from exchange.core.requests import DefineAsset
from exchange.store import schema
from exchange.store.rows import COLUMNS, Applied, NotContiguous, Reached, Rows
from exchange.store.schema import SchemaError

__all__ = ["Applied", "DatabaseUnavailable", "NotContiguous", "SchemaError", "Writer", "WriterRunning"]

LOCK = 0x65786368616E6765  # "exchange": a number that other users of advisory locks will not hit upon
LOCK_SECONDS = 5.0  # a writer killed a moment ago leaves its backend behind until that notices

# Where the DSN says nothing else. A vanished peer is noticed on either side: here, so that `write` ends; by the server,
# so that it releases the lock.
CONNECTION: dict[str, str | int | None] = {
    "application_name": "exchange logger",
    "connect_timeout": 10,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
SETTINGS = b"""
    SET synchronous_commit = off;
    SET tcp_keepalives_idle = 15;
    SET tcp_keepalives_interval = 5;
    SET tcp_keepalives_count = 3;
"""

COPY = {
    table: f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT binary)".encode()
    for table, columns in COLUMNS.items()
}
ASSET_COLUMNS = Asset.__struct_fields__
DEFINE_ASSET = f"""
    INSERT INTO assets ({", ".join(ASSET_COLUMNS)}, sequence, defined_at, defined_at_ns)
    VALUES ({", ".join(f"%({column})s" for column in ASSET_COLUMNS)}, %(sequence)s, %(time)s, %(time_ns)s)
    ON CONFLICT (asset) DO UPDATE
    SET {", ".join(f"{column} = excluded.{column}" for column in (*ASSET_COLUMNS[1:], "sequence", "defined_at"))},
        defined_at_ns = excluded.defined_at_ns
""".encode()
FIRST_APPLIED = b"""
    INSERT INTO applied (asset, sequence, event_sequence, trade_id, time, time_ns)
    SELECT * FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::timestamptz[], %s::bigint[])
"""
NEXT_APPLIED = b"""
    UPDATE applied
    SET sequence = reached.sequence, event_sequence = reached.event_sequence, trade_id = reached.trade_id,
        time = reached.time, time_ns = reached.time_ns
    FROM unnest(
        %s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::timestamptz[], %s::bigint[], %s::bigint[]
    ) AS reached (asset, sequence, event_sequence, trade_id, time, time_ns, before)
    WHERE applied.asset = reached.asset AND applied.sequence = reached.before
"""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class DatabaseUnavailable(Exception):
    """The database can't be reached, went away, or can't work now. Nothing is wrong here: open again, later."""


class WriterRunning(Exception):
    """Another writer holds the database's lock; the text says which."""


class Writer:
    """Stores event records of any number of assets.

    Closed at first, and again after `close` or any DatabaseUnavailable: `open` it (again), and go on behind `applied`,
    which may be further than the last `commit` that returned: a connection can go just after it. What was added and not
    committed is forgotten then.

    `connect` is psycopg's; another can stand in its place, for a server that is simulated.
    """

    def __init__(
        self,
        dsn: str,
        lock_seconds: float = LOCK_SECONDS,
        connect: Callable[..., psycopg.Connection] = psycopg.connect,
    ) -> None:
        self.dsn = dsn
        self.lock_seconds = lock_seconds
        self.connect = connect
        self._connection: psycopg.Connection | None = None
        self._applied: dict[str, Applied] = {}
        self._forget_added()

    def open(self) -> None:
        """Connect, become the only writer, and create the tables where there are none.

        Raises DatabaseUnavailable; WriterRunning where another writer stays for `lock_seconds`; SchemaError where the
        tables are a newer program's, or somebody else's. The writer is closed then.
        """
        self.close()
        with self._errors():
            parameters = CONNECTION | conninfo_to_dict(self.dsn) | {"client_encoding": "UTF8"}
            self._connection = connection = self.connect(make_conninfo("", **parameters), autocommit=True)
            connection.execute(SETTINGS)
            self._lock(connection)
            with connection.transaction():
                schema.prepare(connection)
            self._applied = read_applied(connection)
        self._forget_added()

    def close(self) -> None:
        """Close the connection, which releases the lock. Does nothing where it is closed."""
        connection, self._connection, self._applied = self._connection, None, {}
        self._forget_added()
        if connection is not None:
            connection.close()

    @property
    def backend(self) -> int:
        """The process id of the server's end of the connection; 0 where it is closed."""
        return 0 if self._connection is None else self._connection.info.backend_pid

    def applied(self) -> dict[str, Applied]:
        """Return how far each asset is stored. An asset of which nothing is stored is not in it."""
        return dict(self._applied)

    def check(self) -> None:
        """Ask the server for a sign of life. Raises DatabaseUnavailable where there is none, the writer then closed."""
        assert self._connection is not None, "check after open"
        with self._errors():
            self._connection.execute(b"SELECT 1")

    def add(self, records: Sequence[EventRecord]) -> None:
        """Take records for the next `commit`. Each asset's follow on what is `applied`, or was added, without a gap.

        Raises NotContiguous where they don't, and forgets all that was added. Their rows are made here, so that nothing
        but those is kept, some 100 bytes an order and again as much a trade.
        """
        assert self._connection is not None, "add after open"
        try:
            self._rows.add(records, self._reached)
        except NotContiguous:
            self._forget_added()
            raise

    def commit(self) -> None:
        """Store what was added, all or nothing, in one transaction.

        Raises DatabaseUnavailable, the writer then being closed and whether the records are stored unknown until it is
        opened again; NotContiguous where `applied` is not as this writer left it; and psycopg's own errors where the
        database refuses the rows, which is a mistake in this program.

        Takes some 4 µs a row, nearly all of it PostgreSQL's, in batches of thousands; their rows are in memory twice.
        Waits as long as the server does, for a lock on a table for example.
        """
        rows, reached = self._rows, self._reached
        if not reached:
            return
        connection = self._connection
        assert connection is not None, "commit after open"
        with self._errors():
            self._store(connection, rows, reached)
        self._applied |= reached
        self._forget_added()

    def write(self, records: Sequence[EventRecord]) -> None:
        """Store records, all or none, in one transaction: `add` and `commit`."""
        self.add(records)
        self.commit()

    def _forget_added(self) -> None:
        self._rows, self._reached = Rows(), Reached(self._applied)

    def _store(self, connection: psycopg.Connection, rows: Rows, reached: dict[str, Applied]) -> None:
        with connection.transaction():
            self._advance(connection, reached)
            for record in rows.definitions.values():
                define_asset(connection, record)
            for table, data in rows.tables().items():
                self._copy(connection, table, data)

    def _copy(self, connection: psycopg.Connection, table: str, data: bytes) -> None:
        with connection.cursor() as cursor, cursor.copy(COPY[table]) as copy:
            copy.write(data)

    def _advance(self, connection: psycopg.Connection, reached: dict[str, Applied]) -> None:
        """Move `applied` on, from where this writer believes it to be and from nowhere else."""
        known = {asset: place for asset, place in reached.items() if asset in self._applied}
        new = {asset: place for asset, place in reached.items() if asset not in self._applied}
        if known:
            before = [self._applied[asset].sequence for asset in known]
            moved = connection.execute(NEXT_APPLIED, [*columns_of(known), before]).rowcount
            if moved != len(known):
                raise NotContiguous(
                    f"the table applied no longer says of {', '.join(known)} what this writer wrote there; "
                    "something else changes it, or the database was restored from a copy: stop that, start again"
                )
        if new:
            connection.execute(FIRST_APPLIED, columns_of(new))

    def _lock(self, connection: psycopg.Connection) -> None:
        """Take the lock for as long as the connection lasts."""
        try:
            with connection.transaction():
                # Not 0, which would be no timeout at all.
                connection.execute(f"SET LOCAL lock_timeout = {max(1, round(self.lock_seconds * 1000))}".encode())
                connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        except errors.LockNotAvailable:
            raise WriterRunning(
                f"another logger writes to this database, through its backend {lock_holder(connection)}; stop that one "
                "first, or end it there with pg_terminate_backend"
            ) from None

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Close the writer at any error that leaves it unknown what is stored; name those that time may mend."""
        try:
            yield
        except BaseException as error:
            lost = self._connection is not None and self._connection.closed
            self.close()
            # Not only lost connections: a full disk, a standby, a statement that the operator canceled.
            unavailable = psycopg.OperationalError | errors.ReadOnlySqlTransaction
            if isinstance(error, unavailable) or (lost and isinstance(error, psycopg.Error)):
                raise DatabaseUnavailable(str(error).strip()) from error
            raise


def read_applied(connection: psycopg.Connection) -> dict[str, Applied]:
    rows = connection.execute("SELECT asset, sequence, event_sequence, trade_id, time_ns FROM applied")
    return {asset: Applied(*place) for asset, *place in rows}


def columns_of(reached: dict[str, Applied]) -> list[Sequence[object]]:
    """Return the places column by column, as `applied` has them."""
    places = reached.values()
    return [
        list(reached),
        [place.sequence for place in places],
        [place.event_sequence for place in places],
        [place.trade_id for place in places],
        [timestamp(place.time) for place in places],
        [place.time for place in places],
    ]


def define_asset(connection: psycopg.Connection, record: EventRecord) -> None:
    request = record.request
    assert type(request) is DefineAsset, "only a definition defines"
    definition: dict[str, object] = msgspec.structs.asdict(request.definition)
    for column in ("reference_price", "price_band_ppm", "volatility_band_ppm"):
        definition[column] = definition[column] or None
    definition["schedule"] = Jsonb(msgspec.to_builtins(request.definition.schedule))
    definition["trading_days"] = list(request.definition.trading_days)
    definition["closed_dates"] = list(request.definition.closed_dates)
    place = {"sequence": record.sequence, "time": timestamp(record.time), "time_ns": record.time}
    connection.execute(DEFINE_ASSET, definition | place)


def timestamp(nanoseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=nanoseconds // 1000)


def lock_holder(connection: psycopg.Connection) -> str:
    """Return the process id of the backend that holds the lock, with what is known of its client."""
    row = connection.execute(
        """
        SELECT format('%%s (%%s, connected %%s from %%s)', pid, application_name,
            to_char(backend_start, 'YYYY-MM-DD HH24:MI:SS OF'), coalesce(host(client_addr), 'this host'))
        FROM pg_locks JOIN pg_database ON pg_database.oid = database JOIN pg_stat_activity USING (pid)
        WHERE locktype = 'advisory' AND pg_database.datname = current_database() AND granted
            AND classid::bigint = %s AND objid::bigint = %s AND objsubid = 1
        """,
        [LOCK >> 32, LOCK & 0xFFFFFFFF],
    ).fetchone()
    return "(just gone)" if row is None else str(row[0])
