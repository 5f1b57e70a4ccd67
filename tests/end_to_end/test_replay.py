"""A real trading day through the whole exchange: every recorded execution comes out, exactly, whatever is killed.

The flows are those of `../shared/flows`: what was sent to a real venue, and which orders it executed for it. All
daemons are real processes and the database is a real PostgreSQL.
"""

import csv
import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psycopg
import pytest

from exchange.config import Config
from exchange.core.events import EventRecord, TradeExecuted
from exchange.core.requests import DefineAsset, NewOrder
from exchange.pipeline.codec import decode_event_record
from exchange.pipeline.log import Log
from exchange.pipeline.world import World
from exchange.status import read_pages
from exchange.store.embedded import database_dsn
from tests.support import FLOWS, PROJECT, Daemon, running, wait_until, write_config

pytestmark = pytest.mark.shared

ASSETS = "".join(f'[[asset]]\nasset = "{name}"\nprice_scale = 4\ntick_size = 100\n' for name in ("GOOG", "AAPL"))
SECONDS = 240.0

Fill = tuple[str, int, int]  # the maker's id at the venue, price, quantity


def recorded(path: Path) -> tuple[int, list[Fill]]:
    """Return the number of orders in a flow, and its fills in order."""
    orders, fills = 0, []
    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            orders += row["action"] in ("new", "take")
            for fill in filter(None, row["fills"].split(";")):
                order_id, price, quantity = fill.split(":")
                fills.append((order_id, int(price), int(quantity)))
    return orders, fills


class Exchange:
    """All daemons, each started again when it ends, as supervisord would."""

    def __init__(self, folder: Path, assets: tuple[str, ...]) -> None:
        self.config = write_config(folder, ASSETS)
        self.matching = {asset: Daemon(self.config, "matching", asset) for asset in assets}
        self.order_handler = Daemon(self.config, "order_handler")
        self.logger = Daemon(self.config, "logger")
        self.notifier = Daemon(self.config, "notifier")
        self.postgres = Daemon(self.config, "postgres")
        self.daemons = (self.order_handler, *self.matching.values(), self.logger, self.notifier, self.postgres)

    def start_again(self) -> None:
        for daemon in self.daemons:
            if not daemon.alive:
                daemon.start()

    @contextmanager
    def replay(self, flow: str, asset: str) -> Iterator[subprocess.Popen[str]]:
        """Replay a flow with the command that users have, until the block ends."""
        environment = os.environ | {
            "EXCHANGE_CONFIG": str(self.config.folder),
            "EXCHANGE_DATA": str(self.config.data),
            "PYTHONPATH": str(PROJECT / "lib"),
        }
        command = [sys.executable, "-c", "from exchange.client.command import main; main()", "replay"]
        process = subprocess.Popen(
            [*command, str(FLOWS / flow), "--asset", asset, "--check", "--json"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate(timeout=30)

    def explain(self) -> str:
        return "\n".join(f"--- {daemon.arguments}\n{daemon.output()[-3000:]}" for daemon in self.daemons)


def finish(exchange: Exchange, process: subprocess.Popen[str]) -> dict[str, object]:
    """Wait for a replay's end and return its result."""
    output, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, f"{output}\n{errors}\n{exchange.explain()}"
    result = json.loads(output.splitlines()[-1])
    assert isinstance(result, dict)
    return result


def stored_fills(config: Config, asset: str) -> list[Fill]:
    """Return the fills in SQL, in order, each with its maker's id at the venue."""
    with psycopg.connect(database_dsn(config)) as connection:
        rows = connection.execute(
            """
            SELECT client_order_id, trades.price, trades.quantity FROM trades
            JOIN orders ON orders.asset = trades.asset AND orders.order_id = maker_order_id
            WHERE trades.asset = %s ORDER BY trade_id
            """,
            [asset],
        ).fetchall()
    return [(client_order_id.rpartition("-")[2], price, quantity) for client_order_id, price, quantity in rows]


def value(config: Config, query: str, *arguments: object) -> int:
    with psycopg.connect(database_dsn(config)) as connection:
        row = connection.execute(query.encode(), arguments).fetchone()
    return 0 if row is None or row[0] is None else int(row[0])


def event_records(config: Config, asset: str) -> list[EventRecord]:
    """Return an asset's event log."""
    records: list[EventRecord] = []
    log = Log(World(), config.event_log_folder(asset), 2**26, durable=False)
    log.scan(lambda _, body: records.append(decode_event_record(body)))
    log.close()
    return records


def logged_fills(records: list[EventRecord]) -> list[Fill]:
    """Return the fills in an event log, in order, each with its maker's id at the venue."""
    venue_ids: dict[int, str] = {}
    fills: list[Fill] = []
    for record in records:
        request = record.request
        if isinstance(request, NewOrder):
            venue_ids[request.order_id] = request.client_order_id.rpartition("-")[2]
        for event in record.events:
            if isinstance(event, TradeExecuted):
                fills.append((venue_ids[event.maker_order_id], event.price, event.quantity))
    return fills


def check_stored(exchange: Exchange, flow: str, asset: str) -> None:
    """Compare the event log and SQL with what the flow recorded."""
    config = exchange.config
    orders, fills = recorded(FLOWS / flow)
    records = event_records(config, asset)
    assert [record.sequence for record in records] == list(range(1, len(records) + 1))
    assert isinstance(records[0].request, DefineAsset)
    assert logged_fills(records) == fills
    wait_until(
        lambda: value(config, "SELECT sequence FROM applied WHERE asset = %s", asset) == len(records),
        f"all {len(records)} requests of {asset} in SQL\n{exchange.explain()}",
        seconds=60,
    )
    assert stored_fills(config, asset) == fills
    assert value(config, "SELECT count(*) FROM orders WHERE asset = %s", asset) == orders
    assert value(config, "SELECT max(trade_id) FROM trades WHERE asset = %s", asset) == len(fills)


def test_two_real_flows_at_the_same_time_come_out_exactly(open_folder: Path) -> None:
    exchange = Exchange(open_folder, ("GOOG", "AAPL"))
    with (
        running(*exchange.daemons),
        exchange.replay("GOOG.csv.gz", "GOOG") as goog,
        exchange.replay("AAPL-first-hour.csv.gz", "AAPL") as aapl,
    ):
        assert finish(exchange, goog)["trades"] == 7758
        assert finish(exchange, aapl)["trades"] == 4038
        check_stored(exchange, "GOOG.csv.gz", "GOOG")
        check_stored(exchange, "AAPL-first-hour.csv.gz", "AAPL")


def test_a_real_flow_comes_out_exactly_while_every_daemon_is_killed(open_folder: Path) -> None:
    """Each daemon is killed once while orders flow, and started again, in an order drawn from a printed seed."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    source = random.Random(seed)
    exchange = Exchange(open_folder, ("GOOG",))
    with running(*exchange.daemons), exchange.replay("GOOG.csv.gz", "GOOG") as goog:
        victims = list(exchange.daemons)
        source.shuffle(victims)
        for number, victim in enumerate(victims, 1):
            due = number * 20_000
            wait_until(partial(reached, exchange, goog, due), f"{due} requests\n{exchange.explain()}", seconds=90)
            if goog.poll() is not None:
                said = goog.communicate(timeout=30)
                raise AssertionError(f"over before {victim.arguments} was killed: {said}\n{exchange.explain()}")
            victim.signal(signal.SIGKILL)
            victim.wait()
            time.sleep(source.uniform(0, 0.5))
            exchange.start_again()
        assert finish(exchange, goog)["trades"] == 7758
        check_stored(exchange, "GOOG.csv.gz", "GOOG")
        for daemon in exchange.daemons:
            assert daemon.alive, daemon.output()[-3000:]


def reached(exchange: Exchange, replay: subprocess.Popen[str], requests: int) -> bool:
    """Return whether so many requests of GOOG have been applied, or the replay is over."""
    pages = {page["daemon"]: page for page in read_pages(exchange.config.status_folder)}
    page = pages.get("matching-GOOG")
    return replay.poll() is not None or (page is not None and page["processed"].get("GOOG", 0) >= requests)
