"""Real order flow replayed into an exchange with the command that users have, and what must have come of it.

The flows are those of `../shared/flows`: what was sent to a real venue, and which orders it executed for it.
"""

import csv
import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from exchange.audit.audit import audit
from exchange.core.events import EventRecord, TradeExecuted
from exchange.core.requests import DefineAsset, MassCancel, NewOrder
from exchange.pipeline.codec import decode_event_record
from tests.aftermath import keys_of, read_journal, read_log
from tests.daemons import Daemons
from tests.support import FLOWS, PROJECT, wait_until

GOOG, AAPL = "GOOG.csv.gz", "AAPL-first-hour.csv.gz"
ASSETS = "".join(f'[[asset]]\nasset = "{name}"\nprice_scale = 4\ntick_size = 100\n' for name in ("GOOG", "AAPL"))
SECONDS = 240.0

Fill = tuple[str, int, int]  # the maker's id at the venue, price, quantity


def recorded(flow: str) -> tuple[int, int, list[Fill]]:
    """Return the number of rows in a flow, and of orders among them, and its fills in order."""
    rows, orders, fills = 0, 0, []
    with gzip.open(FLOWS / flow, "rt") as file:
        for row in csv.DictReader(file):
            rows += 1
            orders += row["action"] in ("new", "take")
            for fill in filter(None, row["fills"].split(";")):
                order_id, price, quantity = fill.split(":")
                fills.append((order_id, int(price), int(quantity)))
    return rows, orders, fills


@contextmanager
def replay(
    daemons: Daemons, flow: str, asset: str, rate: float | None = None, through: Sequence[str] = ()
) -> Iterator[subprocess.Popen[str]]:
    """Replay a flow until the block ends, `rate` rows a second or as fast as it goes. `through`: see `Daemon`."""
    config = daemons.config
    environment = os.environ | {
        "EXCHANGE_CONFIG": str(config.folder),
        "EXCHANGE_DATA": str(config.data),
        "PYTHONPATH": str(PROJECT / "lib"),
    }
    command = [sys.executable, "-c", "from exchange.client.command import main; main()", "replay"]
    pace = [] if rate is None else ["--rate", str(rate)]
    process = subprocess.Popen(
        [*through, *command, str(FLOWS / flow), "--asset", asset, "--check", "--json", *pace],
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


def finish(daemons: Daemons, process: subprocess.Popen[str], seconds: float = SECONDS) -> dict[str, Any]:
    """Wait for a replay's end and return its result."""
    output, errors = process.communicate(timeout=seconds)
    assert process.returncode == 0, f"{output}\n{errors}\n{daemons.explain()}"
    result = json.loads(output.splitlines()[-1])
    assert isinstance(result, dict)
    return result


def stored_fills(dsn: str, asset: str) -> list[Fill]:
    """Return the fills in SQL, in order, each with its maker's id at the venue."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            """
            SELECT client_order_id, trades.price, trades.quantity FROM trades
            JOIN orders ON orders.asset = trades.asset AND orders.order_id = maker_order_id
            WHERE trades.asset = %s ORDER BY trade_id
            """,
            [asset],
        ).fetchall()
    return [(client_order_id.rpartition("-")[2], price, quantity) for client_order_id, price, quantity in rows]


def value(dsn: str, query: str, *arguments: object) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query.encode(), arguments).fetchone()
    return 0 if row is None or row[0] is None else int(row[0])


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


def check_journaled(daemons: Daemons, result: dict[str, Any], flow: str, asset: str) -> None:
    """Fail unless the journal has each acknowledged request of a replay exactly once."""
    rows, orders, _ = recorded(flow)
    assert result["acks"] == rows
    queue = read_journal(daemons.config)[asset]
    ids = Counter(key for record in queue for key in keys_of(record) if not isinstance(record.request, MassCancel))
    assert set(ids.values()) == {1}, [key for key, count in ids.items() if count > 1][:5]
    assert len(ids) == rows
    assert sum(isinstance(record.request, NewOrder) for record in queue) == orders


def check_stored(daemons: Daemons, flow: str, asset: str) -> None:
    """Compare the event log and SQL with what the flow recorded."""
    _, orders, fills = recorded(flow)
    records = [decode_event_record(body) for body in read_log(daemons.config.event_log_folder(asset))]
    assert [record.sequence for record in records] == list(range(1, len(records) + 1))
    assert isinstance(records[0].request, DefineAsset)
    assert logged_fills(records) == fills
    wait_until(
        lambda: stored_up_to(daemons.dsn, asset) == len(records),
        f"all {len(records)} requests of {asset} in SQL\n{daemons.explain()}",
        seconds=60,
    )
    assert stored_fills(daemons.dsn, asset) == fills
    assert value(daemons.dsn, "SELECT count(*) FROM orders WHERE asset = %s", asset) == orders
    assert value(daemons.dsn, "SELECT max(trade_id) FROM trades WHERE asset = %s", asset) == len(fills)


def check_all(daemons: Daemons) -> None:
    """Audit the exchange, all of it."""
    audit(daemons.config, daemons.dsn, complete=True)


def stored_up_to(dsn: str, asset: str) -> int:
    """Return an asset's last request in SQL; 0 where the database can't be reached."""
    try:
        return value(dsn, "SELECT sequence FROM applied WHERE asset = %s", asset)
    except psycopg.OperationalError:
        return 0
