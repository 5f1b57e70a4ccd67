"""The database server of the simulation, beside a real one: the same writer, records and mishaps give the same rows."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from psycopg import errors

from exchange.core.asset import Asset, ScheduledChange
from exchange.core.events import EventRecord
from exchange.core.requests import ChangeStatus, MassCancel
from exchange.store.rows import COLUMNS
from exchange.store.writer import ASSET_COLUMNS, Applied, DatabaseUnavailable, NotContiguous, Writer
from tests.database import Connection, rows
from tests.simulation.kernel import Actor, Kernel
from tests.simulation.world import Life, Machine
from tests.stored import Market, random_market

LAST = {
    "assets": (*ASSET_COLUMNS, "sequence", "defined_at", "defined_at_ns"),
    "applied": ("asset", "sequence", "event_sequence", "trade_id", "time", "time_ns"),
}


def records(seed: int) -> list[EventRecord]:
    """Return records of every table: orders, trades, statuses, operators' acts, definitions with all that they have."""
    market: Market = random_market(seed, 300)
    market.define(Asset(asset="ACME", price_band_ppm=5, schedule=(ScheduledChange("09:00", "open"),)))
    market.apply("", ChangeStatus("halted", "operator", by="root"))
    market.apply("a", MassCancel(0, reason="operator", by="root"))
    order = market.enter("a", 1, 5, 100, "gtc", display_quantity=2, post_only=True)
    market.cancel("a", order)
    return market.records


@contextmanager
def simulated() -> Iterator[tuple[Machine, Life, Writer]]:
    machine = Machine(Kernel(1))
    life = Life(machine, Actor(machine.kernel, "logger"))
    with closing(Writer("", connect=machine.server.connect(life))) as writer:
        writer.open()
        yield machine, life, writer


def found(reader: Connection) -> dict[str, list[tuple[Any, ...]]]:
    return {
        table: sorted(rows(reader, f"SELECT {', '.join(columns)} FROM {table}"), key=repr)
        for table, columns in (COLUMNS | LAST).items()
    }


def held(machine: Machine) -> dict[str, list[tuple[Any, ...]]]:
    """Return the simulated server's rows as a reader of the real one would see them."""
    tables = machine.server.tables
    values: dict[str, list[tuple[Any, ...]]] = {table: list(tables[table].values()) for table in COLUMNS}
    values["applied"] = [(asset, *row) for asset, row in tables["applied"].items()]
    values["assets"] = [
        tuple(list(value) if isinstance(value, tuple) else value for value in row) for row in tables["assets"].values()
    ]
    return {table: sorted(found, key=repr) for table, found in values.items()}


def test_both_servers_have_the_same_rows(writer: Writer, reader: Connection) -> None:
    """In several transactions, each asset's first and later ones."""
    seed = 20_231_114
    everything = records(seed)
    with simulated() as (machine, _, other):
        for start in range(0, len(everything), 70):
            for each in (writer, other):
                each.write(everything[start : start + 70])
        assert writer.applied() == other.applied()
        real, simulation = found(reader), held(machine)
        for table, contents in real.items():
            assert contents, f"{table} has rows"
            assert simulation[table] == contents, table
        other.open()
        writer.open()
        assert writer.applied() == other.applied(), "what a next life reads"


def test_both_servers_refuse_the_same(writer: Writer, reader: Connection) -> None:
    """A gap, a row that is there already, and `applied` moved by somebody else; nothing of it is left behind."""
    everything = records(7)
    with simulated() as (machine, _, other):
        for each in (writer, other):
            each.write(everything[:100])
            with pytest.raises(NotContiguous):
                each.write(everything[101:])
            each.open()
            each._applied["ACME"] = Applied()
            with pytest.raises((errors.UniqueViolation, NotContiguous)) as refused:
                each.write([record for record in everything[:100] if record.asset == "ACME"])
            assert isinstance(refused.value, NotContiguous)
            each.open()
            del each._applied["ACME"]
            with pytest.raises(errors.UniqueViolation):
                each.write([record for record in everything[:100] if record.asset == "ACME"])
            each.open()
        assert held(machine) == found(reader)


def test_a_simulated_server_that_goes_away_has_all_of_a_transaction_or_nothing() -> None:
    everything = records(3)
    with simulated() as (machine, _life, writer):
        writer.write(everything[:50])
        before = held(machine)
        machine.server.go_away()
        with pytest.raises(DatabaseUnavailable):
            writer.write(everything[50:])
        with pytest.raises(DatabaseUnavailable):
            writer.open()
        machine.server.away = False
        writer.open()
        assert held(machine) == before
        writer.write(everything[50:])
        after = held(machine)
        machine.server.crash()
        assert held(machine) in (after, before, {table: [] for table in before}), "the last transactions, each whole"


def test_a_statement_that_the_simulated_server_does_not_know_fails() -> None:
    with simulated() as (_, _, writer):
        connection = writer._connection
        assert connection is not None
        with pytest.raises(AssertionError, match="does not know this statement: VACUUM"):
            connection.execute(b"VACUUM")
