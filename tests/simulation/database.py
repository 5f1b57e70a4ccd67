"""A database server that understands exactly what the logger's writer sends, so that the real writer runs on it.

Each statement is known by its text; any other fails the simulation. Rows are held as PostgreSQL holds them: the fields
of COPY's binary format are read into values, a key that is there already is an error. A transaction is there whole or
not at all; a crash of the server takes back the last ones, each whole, as `synchronous_commit = off` permits.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import errors
from psycopg.types.json import Jsonb

from exchange.store import schema, writer
from exchange.store.rows import COLUMNS, COPY_HEADER
from tests.simulation.kernel import Kernel

if TYPE_CHECKING:
    from tests.simulation.world import Life

EPOCH_2000 = datetime(2000, 1, 1, tzinfo=UTC)
KEYS = {
    "orders": ("asset", "order_id"),
    "trades": ("asset", "trade_id"),
    "order_events": ("asset", "event_sequence"),
    "asset_statuses": ("asset", "event_sequence"),
    "operator_acts": ("asset", "sequence"),
}
TIMES = frozenset(("expire_time", "received_at", "executed_at", "occurred_at", "call_ends"))
WORDS = frozenset(
    [
        "asset",
        "account",
        "client_order_id",
        "side",
        "order_type",
        "time_in_force",
        "self_trade_prevention",
        "aggressor",
        "maker_account",
        "taker_account",
        "exec_type",
        "reason",
        "status",
        "operator",
        "act",
    ]
)
APPLIED = ("sequence", "event_sequence", "trade_id", "time", "time_ns")
SYNCED_SECONDS = 0.6  # after which a commit is on the server's disk: three times its wal_writer_delay

Row = tuple[Any, ...]
Tables = dict[str, dict[Any, Row]]


def read_copy(table: str, data: bytes) -> list[Row]:
    """Return the rows of binary COPY data, their values in the order of COLUMNS."""
    columns = COLUMNS[table]
    assert data.startswith(COPY_HEADER)
    at = len(COPY_HEADER)
    rows: list[Row] = []
    while (count := struct.unpack_from(">h", data, at)[0]) != -1:
        assert count == len(columns), f"{table}: {count} fields, {len(columns)} columns"
        at += 2
        row: list[Any] = []
        for column in columns:
            (length,) = struct.unpack_from(">i", data, at)
            at += 4
            if length < 0:
                row.append(None)
                continue
            row.append(_value(column, data[at : at + length]))
            at += length
        rows.append(tuple(row))
    assert at + 2 == len(data), f"{table}: bytes after the trailer"
    return rows


def _value(column: str, field: bytes) -> Any:
    if column in WORDS:
        return field.decode()
    if column == "post_only":
        return field == b"\1"
    (number,) = struct.unpack(">q", field)
    return EPOCH_2000 + timedelta(microseconds=number) if column in TIMES else number


class Server:
    """The server: its tables, its sessions, and what of its commits is on its disk."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.tables: Tables = {table: {} for table in (*COLUMNS, "assets", "applied")}
        self.version = 0
        self.commits: list[tuple[float, list[tuple[str, Any, Row | None]], int]] = []  # when, what was there before
        self.sessions: list[Connection] = []
        self.away = False
        self.backends = 0

    def connect(self, life: "Life") -> Callable[..., Any]:
        """Return what a life of the logger connects with."""

        def connect(conninfo: str, autocommit: bool) -> Connection:
            assert autocommit
            life.call("connect")
            if self.away:
                raise psycopg.OperationalError("connection refused: the simulated server is away")
            self.backends += 1
            connection = Connection(self, life, self.backends)
            self.sessions.append(connection)
            life.closing.append(connection.lost_client)
            return connection

        return connect

    def go_away(self) -> None:
        self.away = True
        for session in list(self.sessions):
            session.lose()

    def crash(self) -> None:
        """Lose every session, and the commits that were not on disk yet, from some moment on."""
        self.go_away()
        young = sum(self.kernel.now - when < SYNCED_SECONDS for when, _, _ in self.commits)
        lost = self.kernel.chance.randint(0, young)
        if lost:
            self.kernel.seen["transactions taken back"] += lost
        for _ in range(lost):
            _, before, version = self.commits.pop()
            for table, key, row in reversed(before):
                if row is None:
                    self.tables[table].pop(key, None)
                else:
                    self.tables[table][key] = row
            self.version = version

    def commit(self, staged: list[tuple[str, Any, Row]], version: int) -> None:
        before: list[tuple[str, Any, Row | None]] = []
        for table, key, row in staged:
            before.append((table, key, self.tables[table].get(key)))
            self.tables[table][key] = row
        if len(self.commits) > 50:
            del self.commits[:25]
        self.commits.append((self.kernel.now, before, self.version))
        self.version = version


class Info:
    def __init__(self, backend_pid: int) -> None:
        self.backend_pid = backend_pid


class Result:
    """What `execute` returns."""

    def __init__(self, rows: Sequence[Row] = (), rowcount: int = -1) -> None:
        self.rows = list(rows)
        self.rowcount = rowcount

    def fetchone(self) -> Row | None:
        return self.rows[0] if self.rows else None

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)


class Connection:
    """A session, with psycopg's methods as far as the writer uses them."""

    def __init__(self, server: Server, life: "Life", backend: int) -> None:
        self.server = server
        self.life = life
        self.info = Info(backend)
        self.closed = False
        self.locked = False
        self.depth = 0
        self.staged: list[tuple[str, Any, Row]] = []
        self.staged_keys: set[tuple[str, Any]] = set()
        self.lock_timeout = 0.0
        self.version = server.version
        self.lingers_until = 0.0

    # -- its life ------------------------------------------------------------------------------------------------------

    def lose(self) -> None:
        """Be lost, to either end."""
        self.closed = True
        self.locked = False
        if self in self.server.sessions:
            self.server.sessions.remove(self)

    def lost_client(self) -> None:
        """The client was killed: the server notices in a while, and holds the lock until then."""
        if self.locked and not self.closed:
            self.closed = True
            self.lingers_until = self.server.kernel.now + self.server.kernel.chance.random() * 3
            self.server.kernel.seen["backend left behind"] += 1
        else:
            self.lose()

    def close(self) -> None:
        if not self.life.over:
            self.lose()

    def _call(self, what: str) -> None:
        self.life.call(what)
        if self.closed:
            raise psycopg.OperationalError("the connection is closed")
        if self.life.connection_fails():
            self.lose()
            raise psycopg.OperationalError("server closed the connection unexpectedly")

    # -- as psycopg has them -------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._call("begin")
        assert not self.depth, "the writer's transactions are not nested"
        self.depth = 1
        self._forget()
        self.version = self.server.version
        try:
            yield
        except BaseException:
            self._forget()
            self.depth = 0
            raise
        self.depth = 0
        self._call("commit")
        self.server.commit(self.staged, self.version)
        self._forget()
        if self.life.will_be_killed("committed") or self.life.connection_fails():
            self.server.kernel.seen["end after commit"] += 1
            self._end_after_commit()

    def _end_after_commit(self) -> None:
        self.life.call("committed")
        self.lose()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    def execute(self, statement: bytes | str, parameters: Any = None) -> Result:
        self._call("execute")
        text = statement if isinstance(statement, bytes) else statement.encode()
        if text.startswith(b"SET LOCAL lock_timeout = "):
            self.lock_timeout = int(text.split()[-1]) / 1000
            return Result()
        handler = STATEMENTS.get(text)
        assert handler is not None, f"the simulated server does not know this statement: {text.decode()}"
        return handler(self, parameters)

    @contextmanager
    def cursor(self) -> Iterator["Connection"]:
        yield self

    @contextmanager
    def copy(self, statement: bytes) -> Iterator["Copy"]:
        self._call("copy")
        copy = Copy(TABLE_OF[statement])
        yield copy
        self._call("copied")
        for row in read_copy(copy.table, b"".join(copy.data)):
            columns = dict(zip(COLUMNS[copy.table], row, strict=True))
            self.insert(copy.table, tuple(columns[key] for key in KEYS[copy.table]), row)
        self._staged_alone(Result())

    def insert(self, table: str, key: Any, row: Row) -> None:
        if key in self.server.tables[table] or (table, key) in self.staged_keys:
            raise errors.UniqueViolation(f"{table}: there is a row {key} already")
        self.staged_keys.add((table, key))
        self.staged.append((table, key, row))

    # -- the statements ------------------------------------------------------------------------------------------------

    def _nothing(self, parameters: Any) -> Result:
        return Result()

    def _lock(self, parameters: Any) -> Result:
        assert parameters == [writer.LOCK]
        now = self.server.kernel.now
        holder = next((session for session in self.server.sessions if session is not self and session.locked), None)
        if holder is not None:
            wait = holder.lingers_until - now
            if not holder.closed or wait > self.lock_timeout:
                raise errors.LockNotAvailable("canceling statement due to lock timeout")
            self.life.local += max(0.0, wait)
            holder.lose()
        self.locked = True
        return Result([(None,)])

    def _regclass(self, parameters: Any) -> Result:
        return Result([("schema_version" if self.version else None,)])

    def _get_version(self, parameters: Any) -> Result:
        return Result([(self.version,)])

    def _set_version(self, parameters: Any) -> Result:
        assert self.depth
        self.version = parameters[0]
        return Result()

    def _read_applied(self, parameters: Any) -> Result:
        return Result([(key, *row[:3], row[4]) for key, row in self.server.tables["applied"].items()])

    def _first_applied(self, columns: Any) -> Result:
        for asset, *place in zip(*columns, strict=True):
            self.insert("applied", asset, tuple(place))
        return self._staged_alone(Result(rowcount=len(columns[0])))

    def _next_applied(self, columns: Any) -> Result:
        moved = 0
        for asset, *place, before in zip(*columns, strict=True):
            there = self.server.tables["applied"].get(asset)
            if there is not None and there[0] == before:
                self.staged.append(("applied", asset, tuple(place)))
                moved += 1
        return self._staged_alone(Result(rowcount=moved))

    def _define(self, definition: Any) -> Result:
        row = {key: value.obj if isinstance(value, Jsonb) else value for key, value in definition.items()}
        self.staged.append(("assets", row["asset"], tuple(row[column] for column in ASSET_ROW)))
        return self._staged_alone(Result(rowcount=1))

    def _staged_alone(self, result: Result) -> Result:
        """Outside of a transaction each statement is one."""
        if not self.depth:
            self.server.commit(self.staged, self.version)
            self._forget()
        return result

    def _forget(self) -> None:
        self.staged.clear()
        self.staged_keys.clear()


class Copy:
    def __init__(self, table: str) -> None:
        self.table = table
        self.data: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.data.append(data)


ASSET_ROW = (*writer.ASSET_COLUMNS, "sequence", "time", "time_ns")
TABLE_OF = {statement: table for table, statement in writer.COPY.items()}
STATEMENTS: dict[bytes, Callable[[Connection, Any], Result]] = {
    writer.SETTINGS: Connection._nothing,
    b"SELECT 1": Connection._nothing,
    b"SELECT pg_advisory_lock(%s)": Connection._lock,
    b"SELECT to_regclass('schema_version')": Connection._regclass,
    b"SELECT version FROM schema_version": Connection._get_version,
    (schema.FILES / "schema.sql").read_bytes(): Connection._nothing,
    b"DELETE FROM schema_version": Connection._nothing,
    b"INSERT INTO schema_version (version) VALUES (%s)": Connection._set_version,
    b"SELECT asset, sequence, event_sequence, trade_id, time_ns FROM applied": Connection._read_applied,
    writer.FIRST_APPLIED: Connection._first_applied,
    writer.NEXT_APPLIED: Connection._next_applied,
    writer.DEFINE_ASSET: Connection._define,
}
