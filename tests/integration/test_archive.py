"""Retention: what everybody has passed goes, never sooner; what lives on from it goes on; all of it can be put back."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from exchange.status import read_pages
from tests.integration.operators import Operator
from tests.integration.outsider import Message, PatientPeer, Venue, whole_topic
from tests.support import PROJECT, Daemon, running, wait_until

DAY_S = 86_400
SETTINGS = "[journal]\nsegment_bytes = 1048576\n[snapshots]\nrequests = 500\nseconds = 1"


class SmallDaemon(Daemon):
    """One whose segments are soon full."""

    package = "tests.integration"


class Exchange:
    """An exchange with a database, whose files are as old as is asked for."""

    def __init__(self, folder: Path) -> None:
        self.venue = Venue(folder, SETTINGS)
        self.config = self.venue.config
        self.archive_folder = folder / "archive"
        venue = self.venue
        venue.order_handler = SmallDaemon(self.config, "small_files", "order_handler")
        venue.matching = {asset: SmallDaemon(self.config, "small_files", "matching", asset) for asset in venue.matching}
        venue.entry.close()
        venue.entry = PatientPeer(venue.context, venue.endpoints.order_entry)
        self.postgres, self.logger = Daemon(self.config, "postgres"), Daemon(self.config, "logger")
        self.daemons = [self.postgres, *self.venue.daemons, self.logger]

    def command(self, *arguments: str) -> tuple[int, Message]:
        """Run the command `exchange`; return its exit status and what it says to machines."""
        process = self.run(*arguments, "--json")
        assert process.stdout, process.stderr
        said: Message = json.loads(process.stdout)
        return process.returncode, said

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        environment = os.environ | {
            "EXCHANGE_CONFIG": str(self.config.folder),
            "EXCHANGE_DATA": str(self.config.data),
            "PYTHONPATH": str(PROJECT / "lib"),
        }
        return subprocess.run(
            [sys.executable, "-c", "from exchange.client.command import main; main()", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def archive(self, *arguments: str) -> dict[str, Message]:
        """Have what is older than three days archived; return what went of each log."""
        status, said = self.command("archive", "--older-than", "3", *(arguments or ("--to", str(self.archive_folder))))
        assert status == 0, said
        return {log["log"]: log for log in said["logs"]}

    def segments(self, folder: str) -> list[str]:
        return sorted(path.name for path in (self.config.data / folder).glob("*.log"))

    def age(self, days: float) -> None:
        """Make all segments look as if they had not been written to for so long."""
        then = time.time() - days * DAY_S
        for path in self.config.data.rglob("*.log"):
            os.utime(path, (then, then))

    def trade(self, count: int) -> None:
        """Enter pairs of orders that trade with each other, in batches."""
        for _ in range(count // 100):
            pairs = [
                self.venue.order(account, side, 10, 1000)
                for _ in range(50)
                for account, side in (("ann", "buy"), ("bob", "sell"))
            ]
            assert {reply["type"] for reply in self.venue.entry.ask(pairs)} == {"ack"}
        self.venue.settle()

    def wait_for_snapshots(self) -> None:
        """Return when logger, matching and notifier are past what was written up to now, by two snapshots each."""
        for _ in range(3):
            self.trade(600)
            for asset in ("ACME", "BTC-USD"):
                self.venue.settle(asset)

    def stop(self) -> None:
        for daemon in self.daemons:
            daemon.kill()

    def start(self) -> None:
        for daemon in self.daemons:
            daemon.start()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        self.venue.wait_until_ready()
        wait_until(lambda: self.command("archive", "--older-than", "3", "--delete", "--dry-run")[0] == 0, "SQL answers")


@pytest.fixture
def exchange(open_folder: Path) -> Iterator[Exchange]:
    exchange = Exchange(open_folder)
    try:
        with running(*exchange.daemons):
            exchange.wait_until_ready()
            yield exchange
    finally:
        exchange.venue.context.destroy(linger=0)


def verify(exchange: Exchange, *arguments: str) -> Message:
    status, said = exchange.command("verify", *arguments)
    assert status == 0, said
    return said


def test_old_segments_go_and_what_lives_on_from_them_goes_on_living(exchange: Exchange) -> None:
    venue = exchange.venue
    old = venue.order("cat", "buy", 20, 500)
    by_id, by_client_id, repeated = (venue.enter("cat", "buy", 20, 500 + 5 * number) for number in range(3))
    ack = venue.entry.ask(old)
    exchange.trade(6_000)
    before = {folder: exchange.segments(folder) for folder in ("journal", "events/ACME")}
    assert len(before["journal"]) > 3
    exchange.wait_for_snapshots()

    nothing = exchange.archive()
    assert all(log["segments"] == 0 for log in nothing.values()), "nothing is old"
    exchange.age(4)

    def gone() -> dict[str, Message] | None:
        found = exchange.archive("--to", str(exchange.archive_folder), "--dry-run")
        return found if all(found[log]["segments"] for log in ("journal", "event log of ACME")) else None

    planned = wait_until(gone, f"everybody has passed some segments: {exchange.archive('--delete', '--dry-run')}")
    assert exchange.segments("journal")[0] == before["journal"][0], "a dry run does nothing"
    check_that_nothing_goes_where_it_can_t_be_put(exchange)
    topic = whole_topic(venue, "trade/ACME/")
    done = exchange.archive()
    assert done["journal"]["segments"] >= planned["journal"]["segments"]
    moved = sorted(path.name for path in (exchange.archive_folder / "journal").glob("*.log"))
    assert moved == before["journal"][: len(moved)]
    assert len(moved) == done["journal"]["segments"]
    assert moved[-1] < exchange.segments("journal")[0]

    for round_ in range(2):
        assert venue.entry.ask(old) == ack | {"duplicate": True}, "sent again, an order that lives is still known"
        reply = venue.entry.ask(old | {"quantity": 30})
        assert reply["reason"] == "duplicate_client_order_id"
        quantity = 10 - round_
        for named in ({"order_id": by_id["order_id"]}, {"client_order_id": by_client_id["client_order_id"]}):
            amend = {"type": "amend_order", "account": "cat", "asset": "ACME", "quantity": 10 * (2 - round_), **named}
            assert venue.entry.ask(amend)["type"] == "ack", quantity
        assert whole_topic(venue, "trade/ACME/") == topic
        exchange.stop()
        exchange.start()
    venue.do("cancel_order", account="cat", asset="ACME", client_order_id=repeated["client_order_id"])
    venue.settle()
    live = venue.query.ask(type="open_orders", account="cat", asset="ACME")["orders"]
    assert sorted(order["order_id"] for order in live) == sorted(
        [by_id["order_id"], by_client_id["order_id"], ack["order_id"]]
    )
    exchange.trade(200)
    verify(exchange, "--journal", str(exchange.archive_folder / "journal"))
    verify(exchange)

    # And back again.
    exchange.stop()
    for path in exchange.archive_folder.rglob("*.log"):
        shutil.move(path, exchange.config.data / path.relative_to(exchange.archive_folder))
    for path in exchange.config.data.rglob("archived"):
        path.unlink()
    shutil.rmtree(exchange.config.data / "notifier")
    exchange.start()
    assert whole_topic(venue, "trade/ACME/")[: len(topic)] == topic, "all of it is folded again from the first event on"
    verify(exchange)


def check_that_nothing_goes_where_it_can_t_be_put(exchange: Exchange) -> None:
    before = [exchange.segments(folder) for folder in ("journal", "events/ACME")]
    blocked = exchange.archive_folder.with_name("file")
    blocked.write_bytes(b"")
    other = exchange.archive_folder / "journal" / before[0][0]
    other.parent.mkdir(parents=True)
    other.write_bytes(b"of another exchange")
    for destination, file in ((blocked / "archive", blocked), (exchange.archive_folder, other)):
        status, said = exchange.command("archive", "--older-than", "3", "--to", str(destination))
        assert status == 1
        assert str(file) in said["text"]
        assert [exchange.segments(folder) for folder in ("journal", "events/ACME")] == before
        assert not list(exchange.config.data.rglob("archived"))
    other.unlink()


def applied(exchange: Exchange, asset: str, by: str) -> int:
    """Return the last of an asset's requests that a daemon says it is done with."""
    pages = [page for page in read_pages(exchange.config.status_folder) if page["daemon"] == by]
    return pages[0]["processed"].get(asset, 0) if pages else 0


@pytest.mark.parametrize(
    ("away", "log", "reason"),
    [
        ("logger", "journal", "the database has it up to"),
        ("matching", "journal", "snapshots of matching are at 0"),
        ("notifier", "event log of ACME", "snapshots of the notifier are at"),
    ],
)
def test_what_somebody_has_not_passed_stays(exchange: Exchange, away: str, log: str, reason: str) -> None:
    victim = {"logger": exchange.logger, "notifier": exchange.venue.notifier}.get(away)
    if victim is not None:
        exchange.trade(200)
        victim.kill()
    for _ in range(60):
        orders = [exchange.venue.order("ann", "buy", 10, 1000) for _ in range(100)]
        assert {reply["type"] for reply in exchange.venue.entry.ask(orders)} == {"ack"}
    if victim is None:
        # What matching has not applied and sent the database can't have, and that would be the reason.
        requests = 1 + 60 * 100  # the asset's definition, and the orders
        wait_until(lambda: applied(exchange, "ACME", "logger") == requests, f"SQL has {requests} requests")
        exchange.venue.matching["ACME"].kill()
        shutil.rmtree(exchange.config.event_log_folder("ACME") / "snapshots", ignore_errors=True)
    exchange.age(4)

    def stays_for_that() -> bool:
        found = exchange.archive("--delete", "--dry-run")[log]
        assert found["segments"] == 0, found
        return reason in found["kept"]

    wait_until(stays_for_that, f"{log} stays: {reason}", pause=0.2)
    before = exchange.segments("journal"), exchange.segments("events/ACME")
    exchange.archive("--delete")
    after = exchange.segments("journal"), exchange.segments("events/ACME")
    assert (after[1] == before[1]) if away == "notifier" else (after[0] == before[0])


def test_assets_that_nobody_trades_any_more_hold_nothing_back(exchange: Exchange) -> None:
    """BTC-USD was never traded, GOLD was removed; what the journal has of them goes, and they go on without it."""
    venue = exchange.venue
    with closing(Operator(venue)) as operator:
        operator.do("add_asset", definition={"asset": "GOLD", "price_scale": 2})
        assets = exchange.config.folder / "assets.toml"
        listed = assets.read_text()
        assets.write_text(listed + '\n[[asset]]\nasset = "GOLD"\nprice_scale = 2\n')
        gold = Daemon(exchange.config, "matching", "GOLD")
        with running(gold):
            venue.enter("ann", "buy", 10, 1000, asset="GOLD")
            last = operator.do("remove_asset", asset="GOLD")["sequences"]["GOLD"]
            wait_until(lambda: applied(exchange, "GOLD", "matching-GOLD") == last, "GOLD is removed")
            # Nobody has its events once its matching daemon has ended.
            wait_until(lambda: applied(exchange, "GOLD", "logger") == last, "SQL has them")
            gold.signal(signal.SIGTERM)
            assert gold.wait() == 0
    assets.write_text(listed)
    exchange.trade(6_000)
    venue.settle()
    before = exchange.segments("journal")
    exchange.age(4)

    def gone(*how: str) -> bool:
        exchange.age(4)
        return bool(exchange.archive(*how, "--dry-run")["journal"]["segments"])

    wait_until(lambda: gone("--delete"), f"some may be deleted: {exchange.archive('--delete', '--dry-run')}")
    assert exchange.archive()["journal"]["segments"]
    assert exchange.segments("journal")[0] != before[0]
    exchange.stop()
    exchange.start()
    said = "request 1 was archived: the journal can't be compared there"
    wait_until(lambda: said in venue.matching["BTC-USD"].output(), said)
    venue.settle("BTC-USD")
    notes = verify(exchange)["notes"]
    assert any(note.startswith("GOLD: the journal has no request of it behind the segments that are") for note in notes)
    notes = verify(exchange, "--journal", str(exchange.archive_folder))["notes"]
    assert not any("GOLD" in note for note in notes), notes

    # What lives on from what was archived is not to be missed in silence.
    exchange.stop()
    carried = exchange.config.journal_folder / "carried"
    carried.unlink()
    venue.order_handler.start()
    assert venue.order_handler.wait() != 0
    said = venue.order_handler.output()
    assert f"{carried}: offset 0: is missing, and the segments before " in said
    assert "restore it from a copy, or put the archived segments back" in said


def test_wrong_usage_is_told(exchange: Exchange) -> None:
    for arguments in (("--older-than", "1", "--delete"), ("--older-than", "3"), ("--delete",)):
        assert exchange.run("archive", *arguments).returncode == 2
    inside = str(exchange.config.data / "archive")
    status, said = exchange.command("archive", "--older-than", "3", "--to", inside)
    assert status == 2
    assert inside in said["text"]
