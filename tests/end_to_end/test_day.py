"""A trading day on the whole exchange, from the command line; what the database has of it is what was published."""

import signal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from exchange.client.day import ASSET_TABLE
from exchange.config import Config, load
from exchange.store.embedded import database_dsn
from tests.end_to_end.exchange import Shell, answers, is_ready, process_exists, started
from tests.support import Daemon, running, wait_until, write_config

OTHERS = """
[[asset]]
asset = "PLAIN"

[[asset]]
asset = "COARSE"
reference_price = 100
volatility_band = "0.03"
schedule = [
    { at = "08:50", status = "call" },
    { at = "09:00", status = "open" },
    { at = "17:25", status = "call" },
    { at = "17:30", status = "closed" },
]
"""
MANUAL = '[clock]\nmode = "manual"'


@pytest.fixture
def temporary(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that the command makes its temporary folders in."""
    monkeypatch.setenv("TMPDIR", str(open_folder))
    return open_folder


def rows(config: Config, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database_dsn(config)) as connection:
        return connection.execute(query.encode()).fetchall()


def test_a_day_passes_its_checks_and_is_in_the_database_as_it_was_published(open_folder: Path) -> None:
    config = write_config(open_folder, ASSET_TABLE.format(asset="ACME") + OTHERS, MANUAL)
    shell = Shell(config)
    with started(config) as start:
        start.wait_until_running()
        day = shell.json("simulate", "--day", "--here", "--seed", "5", "--orders", "900")
        assert day["ok"], day["differences"]
        assert [(each["status"], each["reason"]) for each in day["periods"]] == [
            ("call", "schedule"),
            ("open", "schedule"),
            ("call", "volatility_interruption"),
            ("open", "call_ended"),
            ("call", "schedule"),
            ("closed", "schedule"),
        ]

        # Every trade that was published, and no other, at its price and place.
        published = shell.json("trades", "ACME", "--limit", "1000")["trades"]
        assert len(published) == day["trades"]
        fields = ("trade_id", "price", "quantity", "aggressor", "maker_order_id", "taker_order_id", "time")
        query = (
            "SELECT trade_id, price, quantity, aggressor, maker_order_id, taker_order_id, executed_at_ns FROM trades "
            "WHERE asset = 'ACME' ORDER BY trade_id"
        )
        wait_until(lambda: len(rows(config, query)) == len(published), "all trades are stored")
        assert rows(config, query) == [tuple(trade[field] for field in fields) for trade in reversed(published)]

        # The statuses, each at its time, and the trades of auctions at one price.
        first = day["periods"][0]["time"]
        assert rows(
            config,
            "SELECT status, reason, occurred_at_ns FROM asset_statuses "
            f"WHERE asset = 'ACME' AND occurred_at_ns >= {first} ORDER BY event_sequence",
        ) == [(each["status"], each["reason"], each["time"]) for each in day["periods"]]
        for period in day["periods"]:
            if period["auction_trades"]:
                trades = (
                    f"SELECT * FROM trades WHERE asset = 'ACME' AND executed_at_ns = {period['time']} "
                    f"ORDER BY trade_id LIMIT {period['auction_trades']}"
                )
                query = f"SELECT count(*), sum(quantity), min(price), max(price) FROM ({trades}) AS auction"
                (found,) = rows(config, query)
                price = period["auction_price"]
                assert found == (period["auction_trades"], period["auction_quantity"], price, price)

        # Nothing is open, no day order lives on, and what was bought was sold.
        assert (
            rows(config, "SELECT DISTINCT status FROM order_states WHERE asset = 'ACME' AND leaves_quantity > 0") == []
        )
        query = "SELECT side, sum(cumulative_quantity) FROM order_states JOIN orders USING (asset, order_id) "
        traded = dict(rows(config, f"{query} WHERE asset = 'ACME' GROUP BY side"))
        assert traded == {"buy": day["quantity"], "sell": day["quantity"]}
        kinds = dict(rows(config, "SELECT exec_type, count(*) FROM order_events WHERE asset = 'ACME' GROUP BY 1"))
        assert kinds["expired"] == day["reports"]["expired"]
        assert kinds["triggered"] == day["reports"]["triggered"]

        # The next day is another one.
        again = shell.json("simulate", "--day", "--here", "--seed", "5")
        assert again["ok"], again["differences"]
        assert again["periods"][0]["time"] == first + 86_400 * 10**9


def test_a_day_starts_an_exchange_of_its_own_and_leaves_nothing(tmp_path: Path, temporary: Path) -> None:
    shell = Shell(write_config(tmp_path))
    shown = shell.run("simulate", "--day", "--seed", "3")
    assert "open (schedule)" in shown
    assert "call (volatility_interruption)" in shown
    assert "check passed: " in shown
    assert list(temporary.iterdir()) == []

    kept = shell.json("simulate", "--day", "--seed", "3", "--asset", "KEPT", "--keep")
    assert list(temporary.iterdir()) == [Path(kept["folder"])]
    config = load(Path(kept["folder"]) / "config", Path(kept["folder"]) / "var")
    assert config.asset("KEPT").has_sessions
    assert config.clock.mode == "manual"
    assert not answers(config)
    assert list(config.journal_folder.iterdir())


def test_a_day_that_is_broken_off_leaves_nothing_either(tmp_path: Path, temporary: Path) -> None:
    shell = Shell(write_config(tmp_path))
    simulation = shell.start("simulate", "--day")
    try:
        lock = wait_until(lambda: next(temporary.glob("exchange-day-*/var/lock"), None), "its exchange starts")
        starter = wait_until(lambda: lock.read_text().strip(), "it is locked")
        simulation.send_signal(signal.SIGTERM)
        simulation.communicate(timeout=120)
    finally:
        simulation.kill()
        simulation.communicate(timeout=30)
    assert not process_exists(int(starter))
    assert list(temporary.iterdir()) == []


def test_a_day_is_refused_where_the_clock_or_the_asset_is_not_made_for_it(tmp_path: Path) -> None:
    config = write_config(tmp_path, ASSET_TABLE.format(asset="ACME") + OTHERS)
    shell = Shell(config)
    daemons = [Daemon(config, "order_handler"), Daemon(config, "notifier")]
    daemons += [Daemon(config, "matching", asset.asset) for asset in config.assets]
    with running(*daemons):
        wait_until(lambda: is_ready(config), "the exchange is up")
        shown = shell.run("simulate", "--day", "--here", status=1)
        assert f"the exchange on {config.data} goes by the system's clock" in shown
    (config.folder / "exchange.toml").write_text(f"{(config.folder / 'exchange.toml').read_text()}\n{MANUAL}\n")
    with running(*daemons):
        wait_until(lambda: is_ready(config), "the exchange is up again")
        shown = shell.run("simulate", "--day", "--here", "--asset", "PLAIN", status=1)
        assert "PLAIN needs a schedule of call, open, call, closed and a reference_price and a volatility_band" in shown
        assert "the tick finer" in shell.run("simulate", "--day", "--here", "--asset", "COARSE", status=1)
        assert shell.run("simulate", "--day", "--here", "--keep", status=2)
    assert "is the exchange running there?" in shell.run("simulate", "--day", "--here", "--timeout", "0.2", status=3)
