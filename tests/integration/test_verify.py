"""`exchange verify`: an exchange's files and its database, and real daemons that trade meanwhile."""

import json
import os
import random
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.json import Jsonb

from daemons import verify
from exchange.audit.audit import audit
from exchange.audit.database import Database
from exchange.audit.findings import Unreadable
from exchange.config import Config
from exchange.core.events import EventRecord
from exchange.core.matching import Matching
from exchange.core.requests import ChangeStatus, DefineAsset, Delist, MassCancel
from exchange.store.writer import Writer
from tests.audited import described, found, journal_records, write_event_log, write_files, write_journal
from tests.database import TABLES, database, rows
from tests.integration.operators import Operator
from tests.integration.outsider import Venue, trade_at_random
from tests.log_writer import archive_first
from tests.random_requests import PROFILES, random_requests
from tests.support import PROJECT, Daemon, running, wait_until, write_config

FORMER = Path(__file__).parent / "data" / "before_sessions.tar.xz"
SEED = 31  # whose market has rows in every table


def operated_market(seed: int, count: int) -> list[EventRecord]:
    """Return what comes of random requests of all kinds, half of the exchange's own by an operator."""
    core, chance, records = Matching(), random.Random(seed), []
    for record in random_requests(seed, PROFILES["everything"], count):
        request = record.request
        if isinstance(request, DefineAsset | ChangeStatus | MassCancel | Delist) and chance.random() < 0.5:
            record = replace(record, request=replace(request, by="olga \\ o'hara"))
        records.append(core.apply(replace(record, time=record.time + 1_700_000_000_123_456_000)))
    return records


@pytest.fixture(scope="module")
def records() -> list[EventRecord]:
    return operated_market(SEED, 600)


@pytest.fixture(scope="module")
def filled(server: str, records: list[EventRecord]) -> Iterator[str]:
    """Yield the DSN of a database that has all of it."""
    with database(server) as dsn:
        with closing(Writer(dsn)) as writer:
            writer.open()
            writer.write(records)
        yield dsn


@pytest.fixture
def stored(server: str, filled: str) -> Iterator[str]:
    """Yield the DSN of a copy of it, to be changed."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    identifier = sql.Identifier(name)
    with psycopg.connect(server, autocommit=True) as connection:
        template = sql.Identifier(str(conninfo_to_dict(filled)["dbname"]))
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(identifier, template))
        try:
            yield make_conninfo(server, dbname=name)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifier))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, records: list[EventRecord]) -> Config:
    config = write_config(tmp_path_factory.mktemp("verify"))
    write_files(config, records)
    return config


def execute(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statement.encode())


# -- the database ------------------------------------------------------------------------------------------------------


def test_what_the_writer_has_stored_is_clean(config: Config, filled: str, records: list[EventRecord]) -> None:
    with psycopg.connect(filled) as connection:
        counts = {table: rows(connection, f"SELECT count(*) FROM {table}")[0][0] for table in TABLES}
    assert all(counts.values()), counts
    summary = audit(config, filled, complete=True)
    (asset,) = summary.assets
    assert asset.database == asset.event_log == asset.journal == len(records)
    assert asset.rows == sum(counts.values()) - counts["assets"] - counts["applied"] + counts["orders"]  # the view's


def columns(dsn: str) -> list[tuple[str, str, str]]:
    """Return table, column and type of all that is stored."""
    query = """
        SELECT table_name::text, column_name::text, data_type::text FROM information_schema.columns
        WHERE table_name = ANY(%s) AND is_generated = 'NEVER' ORDER BY table_name, ordinal_position
    """
    with psycopg.connect(dsn) as connection:
        return [(table, column, kind) for table, column, kind in rows(connection, query, list(TABLES))]


def another(value: Any, kind: str) -> Any:
    """Return another value of a column that its checks allow."""
    if kind == "text":
        return {"buy": "sell", "sell": "buy", None: "x"}.get(value, f"{value}x")
    if kind == "jsonb":
        return Jsonb([{"at": "01:00", "status": "open"}])
    if kind == "ARRAY":
        return [*value, "x"]
    if kind == "boolean":
        return not value
    far = 2**40 if kind == "bigint" else 1  # no key that is there
    return value - far if value and value > far else (value or 0) + far


def test_another_value_in_any_column_of_any_table_is_found(config: Config, stored: str) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with psycopg.connect(stored, autocommit=True) as connection:
        for table, column, kind in columns(stored):
            (count,) = rows(connection, f"SELECT count(*) FROM {table}")[0]
            at = chance.randrange(count)
            key, value = rows(connection, f"SELECT ctid::text, {column} FROM {table} ORDER BY ctid OFFSET {at}")[0]
            if kind.startswith("timestamp"):
                change = f"coalesce({column}, now()) + interval '1 microsecond'"
                changed = rows(
                    connection, f"UPDATE {table} SET {column} = {change} WHERE ctid = %s RETURNING ctid::text", key
                )
            else:
                query = f"UPDATE {table} SET {column} = %s WHERE ctid = %s RETURNING ctid::text"
                changed = rows(connection, query, another(value, kind), key)
            finding = described(found(config, stored))
            assert finding.startswith("database | "), (table, column, value, finding)
            assert table in finding or column in ("asset", "sequence"), finding
            back = Jsonb(value) if kind == "jsonb" else value
            ((key,),) = changed
            connection.execute(f"UPDATE {table} SET {column} = %s WHERE ctid = %s".encode(), [back, key])
    assert found(config, stored) is None


KEYS = {
    "orders": "order_id",
    "trades": "trade_id",
    "order_events": "event_sequence",
    "asset_statuses": "event_sequence",
    "operator_acts": "sequence",
}


@pytest.mark.parametrize("table", KEYS)
def test_a_row_that_is_missing_too_many_or_doubled_is_found(config: Config, stored: str, table: str) -> None:
    key = KEYS[table]
    with psycopg.connect(stored, autocommit=True) as connection:
        numbers = [number for (number,) in rows(connection, f"SELECT {key} FROM {table} ORDER BY 1")]
        copied = ", ".join(
            column for name, column, _ in columns(stored) if (name, column) not in ((table, key),) and name == table
        )
        for number in (numbers[0], numbers[len(numbers) // 2], numbers[-1]):
            connection.execute(f"CREATE TABLE removed AS SELECT * FROM {table} WHERE {key} = {number}".encode())
            connection.execute(f"DELETE FROM {table} WHERE {key} = {number}".encode())
            finding = found(config, stored)
            assert finding is not None
            assert (finding.what, finding.key, finding.found) == (f"{table}: a row is missing", str(number), "no row")
            connection.execute(f"INSERT INTO {table} SELECT * FROM removed; DROP TABLE removed".encode())

        unused = next((each for each in range(1, numbers[-1]) if each not in numbers), 0)
        for number in (unused, numbers[-1] + 1_000):
            connection.execute(
                f"INSERT INTO {table} ({key}, {copied}) SELECT {number}, {copied} FROM {table} LIMIT 1".encode()
            )
            finding = found(config, stored)
            assert finding is not None
            assert (finding.what, finding.key) == (f"{table}: a row too many", str(number))
            assert finding.expected == "no row"
            connection.execute(f"DELETE FROM {table} WHERE {key} = {number}".encode())

        connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {table}_pkey".encode())
        connection.execute(f"INSERT INTO {table} SELECT * FROM {table} WHERE {key} = {numbers[0]}".encode())
    finding = found(config, stored)
    assert finding is not None
    assert (finding.what, finding.key) == (f"{table}: a row too many", str(numbers[0]))


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("UPDATE applied SET sequence = sequence + 1", "the database is ahead of the journal"),
        ("UPDATE applied SET sequence = sequence - 1, event_sequence = event_sequence - 1", "a row too many"),
        ("UPDATE applied SET event_sequence = event_sequence + 1", "the row of applied differs"),
        ("DELETE FROM applied", "there are rows of ACME, and no row of applied"),
        ("DELETE FROM assets", "assets: a row is missing"),
        ("INSERT INTO applied SELECT 'OTHER', 1, 1, 0, now(), 1", "there are rows of OTHER"),
        ("UPDATE trades SET asset = 'OTHER' WHERE trade_id = 1", "trades: there are rows of OTHER"),
        (
            "ALTER VIEW order_states RENAME TO real_states; CREATE VIEW order_states AS SELECT asset, order_id, status,"
            " cumulative_quantity + (order_id = 99)::integer AS cumulative_quantity, leaves_quantity FROM real_states",
            "order_states: a row differs",
        ),
        (
            "ALTER VIEW order_states RENAME TO real_states; CREATE VIEW order_states AS SELECT * FROM real_states"
            " WHERE order_id <> 99",
            "order_states: a row is missing",
        ),
        (
            "ALTER VIEW order_states RENAME TO real_states; CREATE VIEW order_states AS SELECT * FROM real_states"
            " UNION ALL SELECT 'ACME', 99999, 'new', 0, 1",
            "order_states: a row too many",
        ),
    ],
)  # fmt: skip
def test_what_else_is_wrong_in_the_database_is_named(
    config: Config, stored: str, statement: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exchange.audit.states.BLOCK_ROWS", 40)  # so that the view has several blocks
    execute(stored, statement)
    finding = found(config, stored)
    assert finding is not None
    assert text in described(finding)
    if finding.table == "order_states":
        assert finding.key in ("99", "99999")


def test_a_database_that_is_ahead_of_the_event_log_is_found(
    tmp_path: Path, filled: str, records: list[EventRecord]
) -> None:
    config = write_config(tmp_path)
    write_journal(config, journal_records(records))
    write_event_log(config, records[:500])
    finding = found(config, filled)
    assert finding is not None
    assert finding.what == "the database is ahead of the event log, which has lost its end"
    assert finding.found == "request 500 as the last"


def test_a_database_that_lags_is_compared_up_to_where_it_is(
    config: Config, dsn: str, records: list[EventRecord]
) -> None:
    assert audit(config, dsn).lagging == [f"ACME: the database has 0 of {len(records)} requests"]
    with closing(Writer(dsn)) as writer:
        writer.open()
        for first in range(0, 450, 150):
            writer.write(records[first : first + 150])
            summary = audit(config, dsn)
            assert summary.lagging == [f"ACME: the database has {first + 150} of {len(records)} requests"]
    assert "the database has 450 of" in described(found(config, dsn, complete=True))


def test_rows_of_the_time_before_the_first_segments_are_left_alone(
    tmp_path: Path, stored: str, records: list[EventRecord]
) -> None:
    config = write_config(tmp_path)
    write_files(config, records)
    for folder in (config.journal_folder, config.event_log_folder("ACME")):
        archive_first(folder)
    summary = audit(config, stored)
    assert summary.assets[0].rows > 100
    execute(stored, f"UPDATE orders SET quantity = quantity + 1 WHERE sequence = {orders_of(records)[0]}")
    assert found(config, stored) is None
    execute(stored, f"UPDATE orders SET quantity = quantity + 1 WHERE sequence = {orders_of(records)[-1]}")
    assert "orders: a row differs" in described(found(config, stored))


def orders_of(records: list[EventRecord]) -> list[int]:
    """Return the sequences of the orders."""
    return [record.sequence for record in records if hasattr(record.request, "client_order_id")]


def test_a_database_of_another_schema_can_not_be_read(stored: str) -> None:
    execute(stored, "UPDATE schema_version SET version = 99")
    with pytest.raises(Unreadable, match="schema version 99, and this program reads version 2"):
        Database(stored)


# -- the command -------------------------------------------------------------------------------------------------------


def environment(config: Config) -> dict[str, str]:
    return os.environ | {
        "EXCHANGE_CONFIG": str(config.folder),
        "EXCHANGE_DATA": str(config.data),
        "PYTHONPATH": str(PROJECT / "lib"),
    }


def start(config: Config, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "exchange.client.command", "verify", *arguments],
        env=environment(config),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outcome(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Return exit status, standard output and standard error."""
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def with_database(folder: Path, dsn: str) -> Config:
    return write_config(folder, extra=f'[database]\ndsn = "{dsn}"')


def test_the_command_says_what_it_has_looked_at(tmp_path: Path, stored: str, records: list[EventRecord]) -> None:
    config = with_database(tmp_path, stored)
    write_files(config, records)
    status, out, err = outcome(start(config, "--complete"))
    assert (status, err) == (0, "")
    assert f"journal: {len(records):,} requests" in out
    lines = out.splitlines()
    assert lines[1].split("  ")[0] == "asset"
    assert lines[2].split()[:5] == ["ACME", *[f"{len(records):,}"] * 4]
    assert len(lines[2].split()) == len(("asset", *verify.REACHED, *verify.COUNTED))
    assert lines[-1].startswith("clean: no difference")

    execute(stored, "UPDATE trades SET price = price + 1 WHERE trade_id = 1")
    status, out, err = outcome(start(config))
    assert (status, err) == (1, "")
    assert out.startswith("difference: trades: a row differs\n")
    for name in ("asset", "request", "file", "offset", "table", "key", "expected", "found", "what to do"):
        assert f"\n  {name:<10}  " in out

    status, out, err = outcome(start(config, "--json"))
    assert (status, err) == (1, "")
    difference = json.loads(out)["difference"]
    assert (difference["table"], difference["key"], difference["asset"]) == ("trades", "1", "ACME")

    status, out, _ = outcome(start(config, "--no-database", "--json", "--asset", "ACME"))
    assert status == 0
    reply = json.loads(out)
    assert (reply["type"], reply["ok"], reply["assets"][0]["database"]) == ("verify", True, None)


def test_the_command_s_other_exit_statuses(tmp_path: Path, records: list[EventRecord]) -> None:
    config = with_database(tmp_path, f"host={tmp_path} dbname=nobody user=nobody connect_timeout=2")
    status, _, err = outcome(start(config, "--no-database"))
    assert status == 3
    assert "there is no journal" in err

    write_files(config, records[:50])
    status, out, _ = outcome(start(config, "--json"))
    assert status == 3
    reply = json.loads(out)
    assert (reply["type"], reply["reason"]) == ("error", "unreadable")
    assert "the database can't be read" in reply["text"]
    assert "--no-database" in reply["text"]

    status, _, err = outcome(start(config, "--no-database", "--asset", "NONE"))
    assert status == 2
    assert "'NONE': the journal has none" in err
    assert outcome(start(config, "--asset"))[0] == 2
    assert outcome(start(config, "--journal", str(tmp_path / "nowhere")))[0] == 2


def test_what_a_former_program_wrote_is_clean(tmp_path: Path) -> None:
    with tarfile.open(FORMER) as archive:
        archive.extractall(tmp_path / "var", filter="data")
    config = write_config(tmp_path)
    summary = audit(config, None, complete=True)
    assert [one.asset for one in summary.assets] == ["ACME", "BTC-USD"]
    assert all(one.replayed_from == 1 for one in summary.assets)


# -- real daemons ------------------------------------------------------------------------------------------------------


@contextmanager
def exchange(folder: Path, dsn: str) -> Iterator[Venue]:
    """Run an exchange with its logger; wait at the end until all is stored, and stop it."""
    venue = Venue(folder, f'[database]\ndsn = "{dsn}"\n[journal]\nsegment_bytes = 1048576')
    logger = Daemon(venue.config, "logger")
    try:
        with running(*venue.daemons, logger):
            venue.wait_until_ready()
            yield venue
            venue.check_alive()
            venue.stop()
            logger.stop()
    finally:
        venue.context.destroy(linger=0)


def trade_all_kinds(venue: Venue, count: int, seed: int) -> None:
    """Enter orders of every type and condition, and have an operator interfere."""
    chance = random.Random(seed)
    accounts = [venue.account() for _ in range(3)]
    with closing(Operator(venue)) as operator:
        for number in range(count):
            account, side = chance.choice(accounts), chance.choice(("buy", "sell"))
            price, quantity = chance.randrange(980, 1025, 5), chance.randrange(20, 200, 10)
            kind = chance.choice(("limit", "limit", "stop", "stop_limit"))
            more: dict[str, Any] = {"order_type": kind}
            if kind.startswith("stop"):
                more["stop_price"] = chance.randrange(980, 1025, 5)
            if kind == "limit" and chance.random() < 0.6:
                more |= chance.choice(
                    (
                        {"post_only": True},
                        {"display_quantity": 10},
                        {"min_quantity": 10},
                        {"time_in_force": "day"},
                        {"self_trade_prevention": "decrement_and_cancel"},
                        {"self_trade_prevention": "cancel_both"},
                    )
                )
            venue.enter(account, side, quantity, None if kind == "stop" else price, **more)
            if number % 20 == 7:
                venue.do("mass_cancel", account=account)
            if number % 30 == 11:
                for status in chance.choice((("call", "open"), ("halted", "open"), ("call", "halted", "call", "open"))):
                    operator.do("change_status", asset="ACME", status=status)
            if number % 40 == 23:
                operator.do("cancel", account=account)


def test_a_running_exchange_is_clean_and_so_is_what_it_leaves(tmp_path: Path, dsn: str) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    with exchange(tmp_path, dsn) as venue:
        trade_at_random(venue, 150, seed)
        running_verify = start(venue.config, "--json")
        rounds = 0
        while running_verify.poll() is None:
            trade_at_random(venue, 30, seed + rounds)
            trade_all_kinds(venue, 30, seed + rounds)
            rounds += 1
            assert rounds < 1000
        status, out, err = outcome(running_verify)
        assert (status, err) == (0, ""), out
        bound = json.loads(out)["assets"][0]["journal"]
        assert bound > 150
        trade_all_kinds(venue, 120, seed)
        last = venue.enter("last", "buy", 10, 5)["sequence"]
        assert bound < last

        def stored() -> bool:
            with psycopg.connect(dsn) as connection:
                found = rows(connection, "SELECT sequence FROM applied WHERE asset = 'ACME'")
            return found == [(last,)]

        wait_until(stored, "all is stored")
        config = venue.config
    status, out, err = outcome(start(config, "--json", "--complete"))
    assert (status, err) == (0, ""), out
    summary = json.loads(out)
    acme = next(one for one in summary["assets"] if one["asset"] == "ACME")
    assert acme["journal"] == acme["event_log"] == acme["database"] == last
    assert acme["trades"] > 0

    (path, *_) = sorted(config.event_log_folder("ACME").glob("*.log"))
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    status, out, _ = outcome(start(config, "--json"))
    assert status == 1
    assert json.loads(out)["difference"]["file"] == str(path)
