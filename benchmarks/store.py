"""How fast event records get into PostgreSQL, against a bare COPY of the same bytes.

    python -m benchmarks.store [--dsn DSN] [--requests N] [--batch N] [--rounds N]

prints one JSON object. Without a DSN it runs a server of its own for the time; with one it creates a database beside
that which the DSN names, and drops it in the end. The records are the real core's, of a flow of new, canceled and
amended orders over four assets.

Three ways into the same tables, alternating, of each the fastest round:

- `writer`: `Writer.write`, all included: rows from records, COPY, `applied`, commit.
- `copy`: COPY of the very bytes that the writer made, into the tables as they are.
- `keyless`: the same bytes into tables without keys, indexes and checks: what nobody can beat.

`python_us` and `postgres_us` are CPU time per row in this process and in the server's backend; the latter is missing
where the server is on another machine.
"""

import argparse
import gc
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg

from exchange.core.asset import Asset
from exchange.core.events import EventRecord
from exchange.core.matching import Matching
from exchange.core.requests import AmendOrder, CancelOrder, DefineAsset, NewOrder, Record, Request
from exchange.store.rows import COLUMNS, Reached, Rows
from exchange.store.writer import COPY, Writer
from tests.database import database, postgres

ASSETS = ("AAPL", "BTC-USD", "ES.H27", "GOOG")
ACCOUNTS = tuple(f"account-{number}" for number in range(200))
START = 1_700_000_000_000_000_000

Figures = dict[str, float]


def flow(requests: int, seed: int) -> list[EventRecord]:
    """Return the events of a random flow: per 100 requests some 55 new orders, 40 cancels, 5 amends."""
    chance = random.Random(seed)
    cores = {name: Matching() for name in ASSETS}
    records: list[EventRecord] = []

    def apply(name: str, account: str, request: Request) -> None:
        core = cores[name]
        records.append(core.apply(Record(name, core.sequence + 1, START + 1000 * len(records), account, request)))

    for name in ASSETS:
        apply(name, "", DefineAsset(Asset(asset=name, price_scale=2)))
    live: dict[str, list[tuple[int, str]]] = {name: [] for name in ASSETS}
    for order_id in range(1, requests + 1):
        name, account = chance.choice(ASSETS), chance.choice(ACCOUNTS)
        orders, draw = live[name], chance.random()
        if draw < 0.55 or not orders:
            side = chance.choice((1, -1))
            price = 10_000 - side * round(chance.expovariate(0.1)) + side * 12
            apply(name, account, NewOrder(order_id, f"{account}-{order_id}", side, chance.randint(1, 500), price))  # type: ignore[arg-type]
            orders.append((order_id, account))
            continue
        position = chance.randrange(len(orders))
        if draw < 0.95:
            orders[position], orders[-1] = orders[-1], orders[position]
            canceled, owner = orders.pop()
            apply(name, owner, CancelOrder(canceled))
        else:
            amended, owner = orders[position]
            apply(name, owner, AmendOrder(amended, chance.randint(1, 500), None))
    return records


def copy_data(batches: list[list[EventRecord]]) -> list[dict[str, bytes]]:
    """Return what the writer sends for each batch."""
    reached = Reached({})
    data = []
    for batch in batches:
        rows = Rows()
        rows.add(batch, reached)
        data.append(rows.tables())
    return data


def backend_seconds(process_id: int) -> float:
    """Return the CPU time of a process on this machine; 0 where it is not here."""
    try:
        fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(work: Callable[[], None], backend: int) -> Figures:
    gc.collect()
    gc.disable()
    wall, python, server = time.perf_counter(), time.process_time(), backend_seconds(backend)
    work()
    figures = {
        "seconds": time.perf_counter() - wall,
        "python": time.process_time() - python,
        "postgres": backend_seconds(backend) - server,
    }
    gc.enable()
    return figures


def run_writer(dsn: str, batches: list[list[EventRecord]]) -> Figures:
    with closing(Writer(dsn)) as writer, psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"TRUNCATE assets, applied, {', '.join(COLUMNS)}".encode())
        connection.execute("CHECKPOINT")
        writer.open()

        def work() -> None:
            for batch in batches:
                writer.write(batch)

        return measure(work, writer.backend)


def run_copy(dsn: str, data: list[dict[str, bytes]], prefix: str) -> Figures:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        connection.execute(f"TRUNCATE {', '.join(prefix + table for table in COLUMNS)}".encode())
        connection.execute("CHECKPOINT")
        statements = {table: COPY[table].replace(b"COPY ", b"COPY " + prefix.encode()) for table in COLUMNS}

        def work() -> None:
            for tables in data:
                with connection.transaction():
                    for table, rows in tables.items():
                        with connection.cursor() as cursor, cursor.copy(statements[table]) as copy:
                            copy.write(rows)

        return measure(work, connection.info.backend_pid)


def prepare(dsn: str) -> None:
    """Make the tables, and beside them ones without keys, indexes and checks."""
    with closing(Writer(dsn)) as writer:
        writer.open()
    with psycopg.connect(dsn) as connection:
        for table in COLUMNS:
            connection.execute(f"CREATE TABLE keyless_{table} (LIKE {table} INCLUDING DEFAULTS)".encode())


def count_rows(dsn: str) -> dict[str, int]:
    with psycopg.connect(dsn) as connection:
        return {
            table: connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchall()[0][0] for table in COLUMNS
        }


@contextmanager
def server(dsn: str | None) -> Iterator[str]:
    if dsn is None:
        with postgres() as own:
            yield own
    else:
        yield dsn


def run(dsn: str, requests: int, batch_records: int, rounds: int, seed: int) -> dict[str, object]:
    """Measure all three ways and return the figures."""
    records = flow(requests, seed)
    batches = [records[first : first + batch_records] for first in range(0, len(records), batch_records)]
    data = copy_data(batches)
    prepare(dsn)
    ways: dict[str, Callable[[], Figures]] = {
        "writer": lambda: run_writer(dsn, batches),
        "copy": lambda: run_copy(dsn, data, ""),
        "keyless": lambda: run_copy(dsn, data, "keyless_"),
    }
    best: dict[str, Figures] = {}
    for _ in range(rounds):
        for way, measured in ways.items():
            figures = measured()
            if way not in best or figures["seconds"] < best[way]["seconds"]:
                best[way] = figures
    rows = count_rows(dsn)
    total = sum(rows.values())
    result: dict[str, object] = {
        "requests": len(records),
        "rows": rows,
        "rows_per_batch": round(total / len(batches)),
        "seed": seed,
    }
    for way, figures in best.items():
        result[way] = {
            "rows_per_second": round(total / figures["seconds"]),
            "us": round(figures["seconds"] / total * 1e6, 2),
            "python_us": round(figures["python"] / total * 1e6, 2),
            **({"postgres_us": round(figures["postgres"] / total * 1e6, 2)} if figures["postgres"] else {}),
        }
    result["copy_to_writer"] = round(best["copy"]["seconds"] / best["writer"]["seconds"], 3)
    result["keyless_to_writer"] = round(best["keyless"]["seconds"] / best["writer"]["seconds"], 3)
    return result


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.store", description=__doc__.splitlines()[0])
    parser.add_argument("--dsn", help="a server to measure on; default: one of its own")
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--batch", type=int, default=10_000, help="requests in a transaction")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    with server(options.dsn) as server_dsn, database(server_dsn) as dsn:
        print(json.dumps(run(dsn, options.requests, options.batch, options.rounds, options.seed)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
