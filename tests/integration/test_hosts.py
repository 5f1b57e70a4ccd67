"""Two hosts that share a machine: what each is told of the other, and a journal that has lost its end."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

from exchange.audit.audit import audit
from exchange.audit.findings import Unreadable
from exchange.client.admin import Admin, add_asset
from exchange.client.errors import Failed, Rejected
from exchange.client.health import DaemonHealth, check_health
from exchange.client.orders import OrderEntry
from exchange.client.queries import Queries
from exchange.config import Config
from exchange.listing import ListingError
from exchange.pipeline import codec
from exchange.pipeline.carried import read_carried
from exchange.pipeline.disk import Disk
from exchange.pipeline.retention import Plan, Retention
from exchange.status import read_pages
from tests.integration.outsider import PatientPeer
from tests.spread import HERE, HostDaemon, Spread
from tests.support import running, wait_until


@pytest.fixture
def spread(tmp_path: Path) -> Spread:
    return Spread(tmp_path, here=("ACME",), there=("GOLD",))


def page(spread: Spread, daemon: str) -> dict[str, Any]:
    """Return what a daemon says on its status page, on whichever host."""
    pages = [*read_pages(spread.config.status_folder), *read_pages(spread.second.status_folder)]
    return next((dict(each) for each in pages if each["daemon"] == daemon), {"processed": {}, "behind": {}})


def trade(spread: Spread, asset: str) -> int:
    """Have two orders trade. Returns the second one's place in the asset's queue."""
    with OrderEntry(spread.config.endpoints.order_entry, timeout=30) as orders:
        orders.new_order(asset, "sell", 10, price=100, account="alice")
        sequence = orders.new_order(asset, "buy", 10, price=100, account="bob").sequence
    assert isinstance(sequence, int)
    return sequence


def applied(spread: Spread, asset: str) -> int:
    return int(page(spread, f"matching-{asset}")["processed"].get(asset, 0))


def wait_until_applied(spread: Spread, asset: str, sequence: int) -> None:
    wait_until(
        lambda: applied(spread, asset) >= sequence, f"{asset}: request {sequence} is applied\n{spread.explain()}"
    )


@contextmanager
def stranger(endpoint: str) -> Iterator[zmq.Socket[bytes]]:
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    try:
        socket.connect(endpoint)
        yield socket
    finally:
        socket.close(linger=0)
        context.term()


def test_an_asset_of_another_host_is_matched_there_and_published_here(spread: Spread) -> None:
    with spread.running():
        for asset in ("ACME", "GOLD"):
            wait_until_applied(spread, asset, trade(spread, asset))
        with Queries(spread.config.endpoints.query, timeout=30) as queries:
            for asset in ("ACME", "GOLD"):
                wait_until(lambda: len(queries.trades(asset)) == 1, "the trade is published")  # noqa: B023
        assert not spread.config.event_log_folder("GOLD").exists()
        assert not spread.second.event_log_folder("ACME").exists()

        # The notifier, started again, knows what it published, though the event log is elsewhere.
        spread.notifier.stop()
        spread.notifier.start()
        wait_until_applied(spread, "GOLD", trade(spread, "GOLD"))
        with Queries(spread.config.endpoints.query, timeout=30) as queries:
            wait_until(lambda: [each.sequence for each in queries.trades("GOLD")] == [2, 1], "both trades are there")
        spread.stop()


def test_a_notifier_on_another_host_publishes_the_assets_of_both(tmp_path: Path) -> None:
    spread = Spread(tmp_path, ("ACME",), ("GOLD",), moved=("notifier",))
    with running(spread.order_handler, *spread.matching.values(), spread.notifier):
        for asset in ("ACME", "GOLD"):
            wait_until_applied(spread, asset, trade(spread, asset))
            with Queries(spread.config.endpoints.query, timeout=30) as queries:
                wait_until(lambda: len(queries.trades(asset)) == 1, "the trade is published")  # noqa: B023
    assert (spread.second.data / "notifier").exists()
    assert not (spread.config.data / "notifier").exists()


def test_until_another_host_is_heard_of_its_assets_take_nothing_and_others_do(spread: Spread) -> None:
    gold = spread.matching["GOLD"]
    with running(spread.order_handler, spread.matching["ACME"]):
        trade(spread, "ACME")
        with OrderEntry(spread.config.endpoints.order_entry, timeout=0.3) as orders, pytest.raises(Rejected) as caught:
            orders.new_order("GOLD", "buy", 10, price=100, account="alice")
        assert caught.value.reason == "busy"
        assert "GOLD: its matching daemon, on another host, has not been heard of" in str(caught.value)
        assert "GOLD: its matching daemon, on host second, has not been heard of" in spread.order_handler.output()
        with running(gold):
            wait_until_applied(spread, "GOLD", trade(spread, "GOLD"))

        # It is known now: while it is away again its requests are taken, and wait for it.
        last = trade(spread, "GOLD")
        with running(gold):
            wait_until_applied(spread, "GOLD", last)


def test_a_journal_that_lost_its_end_is_refused_by_what_another_host_says(spread: Spread) -> None:
    handler, gold = spread.order_handler, spread.matching["GOLD"]
    journal, copy = spread.config.journal_folder, spread.config.data / "copy"
    with running(handler, gold):
        trade(spread, "GOLD")
        shutil.copytree(journal, copy)
        last = trade(spread, "GOLD")
        wait_until_applied(spread, "GOLD", last)
    shutil.rmtree(journal)
    copy.rename(journal)
    before = {path.name: path.read_bytes() for path in journal.glob("*.log")}

    # The other host is heard of while the start listens: nothing of the journal is touched.
    with running(gold, handler):
        assert handler.wait() == 2, spread.explain()
        assert f"its matching daemon has applied request {last}: the journal's end was lost" in handler.output()
    assert {path.name: path.read_bytes() for path in journal.glob("*.log")} == before

    # It is heard of later: until then nothing was taken that could be in the lost requests' places.
    with running(handler):
        with OrderEntry(spread.config.endpoints.order_entry, timeout=30) as orders:
            orders.ping()
        with running(gold):
            assert handler.wait() == 2, spread.explain()
            said = handler.output()
            assert f"its matching daemon, on host second, has request {last}: the journal's end was lost" in said


def test_what_no_daemon_sends_ends_nobody(spread: Spread) -> None:
    """Whoever is on the hosts' network reaches their sockets."""
    with running(spread.order_handler, spread.matching["GOLD"]):
        wait_until_applied(spread, "GOLD", trade(spread, "GOLD"))
        for endpoint in (spread.config.journal_endpoint, spread.config.event_log_endpoint("GOLD")):
            with stranger(endpoint) as dealer:
                for message in (b"", b"nonsense", msgpack.packb({"type": "replay"}), codec.encode(["replay", "GOLD"])):
                    dealer.send(message)
                dealer.send(codec.encode(codec.Replay("GOLD", 1)))
                assert dealer.poll(10_000), "it answers what it can read"
        wait_until_applied(spread, "GOLD", trade(spread, "GOLD"))
        assert "a message that no daemon sends" in spread.order_handler.output()
        assert "a message that no daemon sends" in spread.matching["GOLD"].output()


# -- operating several hosts -------------------------------------------------------------------------------------------


class SmallDaemon(HostDaemon):
    """One whose segments are soon full."""

    package = "tests.integration"


def enter(spread: Spread, count: int) -> None:
    """Enter so many orders for GOLD, a hundred at a time."""
    with zmq.Context() as context, closing(PatientPeer(context, spread.config.endpoints.order_entry)) as client:
        for start in range(0, count, 100):
            order = {"type": "new_order", "account": "ann", "asset": "GOLD", "side": "buy", "quantity": 1, "price": 5}
            replies = client.ask([order | {"client_order_id": f"{start + each}"} for each in range(100)])
            assert {reply["type"] for reply in replies} == {"ack"}, replies


def archivable(config: Config, log: str) -> Plan:
    """Return what may go of a log now, were it old, and were all of it in the database."""
    retention = Retention(Disk(), config, {"GOLD": 10**9}, time.time() + 60, 1)
    return next(plan for plan in retention.plans() if plan.log == log)


def copy_snapshots(source: Config, target: Config, folder: str) -> None:
    shutil.copytree(source.data / folder, target.data / folder)


def test_each_host_archives_its_own_logs_by_copies_of_the_others_snapshots(tmp_path: Path) -> None:
    spread = Spread(tmp_path, (), ("GOLD",), extra="[snapshots]\nrequests = 500\n")
    first, second = spread.config, spread.second
    gold = SmallDaemon(second, HERE, "small_files", "matching", "GOLD")
    with running(SmallDaemon(first, HERE, "small_files", "order_handler"), gold, spread.notifier):
        enter(spread, 5000)
        wait_until_applied(spread, "GOLD", 5001)
        wait_until(lambda: page(spread, "notifier")["processed"].get("GOLD") == 5001, "the notifier has all")
        for daemon in (gold, spread.notifier):  # each ends with a snapshot
            daemon.stop()
    assert {plan.log for plan in Retention(Disk(), second, {}, 0, 1).plans()} == {"event log of GOLD"}

    journal, event_log = archivable(first, "journal"), archivable(second, "event log of GOLD")
    assert journal.segments == event_log.segments == 0
    assert journal.kept.endswith("and sound snapshots of matching on host second, copied here, are at 0")
    assert event_log.kept.endswith("and sound snapshots of the notifier on host main, copied here, are at 0")

    copy_snapshots(second, first, "events/GOLD/snapshots")
    copy_snapshots(first, second, "notifier/GOLD/snapshots")
    plan = archivable(first, "journal")
    assert plan.segments > 0
    assert archivable(second, "event log of GOLD").segments > 0

    # What lives on from what went is kept: it is known from the copies.
    retention = Retention(Disk(), first, {"GOLD": 10**9}, time.time() + 60, 1)
    retention.carry_out(plan, tmp_path / "archive")
    assert len(read_carried(Disk(), first.journal_folder)) > 1000
    with running(spread.order_handler, spread.matching["GOLD"]):
        with OrderEntry(first.endpoints.order_entry, timeout=30) as orders:
            orders.cancel_order("GOLD", client_order_id="0", account="ann")
        wait_until_applied(spread, "GOLD", 5002)


def test_each_host_has_its_own_status_and_the_first_tells_what_it_hears_of_the_others(spread: Spread) -> None:
    def of_gold() -> DaemonHealth:
        return next(each for each in check_health(spread.config, 0.2).daemons if each.daemon == "matching-GOLD")

    with running(spread.order_handler, spread.matching["GOLD"]):
        last = trade(spread, "GOLD")
        wait_until(lambda: of_gold().processed == {"GOLD": last}, "the order handler has heard how far it is")
        found = of_gold()
        assert (found.alive, found.state, found.pid) == (True, "on host second, heard of", None)
        health = check_health(spread.second, 0.2)
        assert [(each.daemon, each.alive) for each in health.daemons] == [("matching-GOLD", True)]
        assert health.host == "second"
    assert of_gold().state == "on host second; the order handler, which would hear of it, does not run"


def test_an_asset_of_another_host_is_added_in_the_files(spread: Spread) -> None:
    for settings in ({"host": "second", "port": "13000"}, {}):
        name = "TIN" if settings else "GOLD"
        with pytest.raises(ListingError, match=f"{name} is matched on host second, .*: put its table into the file on"):
            add_asset(spread.config, name, settings, 1.0)


def test_operators_act_where_the_order_handler_is(spread: Spread) -> None:
    with pytest.raises(Failed, match="operators act on host main, where the order handler is, and this is host second"):
        Admin(spread.second)


def test_verify_asks_for_what_is_on_another_host(spread: Spread) -> None:
    with running(spread.order_handler, *spread.matching.values()):
        wait_until_applied(spread, "GOLD", trade(spread, "GOLD"))
    with pytest.raises(Unreadable, match="GOLD: its event log is on host second: copy that host's data folder"):
        audit(spread.config, None)
    summary = audit(spread.config, None, [spread.second.data], complete=True)
    assert {one.asset: one.trades for one in summary.assets} == {"ACME": 0, "GOLD": 1}


# -- market data -------------------------------------------------------------------------------------------------------


PROXY = """
import sys, zmq
context = zmq.Context()
towards, at = context.socket(zmq.XSUB), context.socket(zmq.XPUB)
towards.connect(sys.argv[1])
at.bind(sys.argv[2])
zmq.proxy(towards, at)
"""


@contextmanager
def proxy(towards: str, at: str) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", PROXY, towards, at])
    try:
        yield
    finally:
        process.kill()
        process.wait(60)


def test_proxies_in_a_row_carry_the_public_topics(spread: Spread, tmp_path: Path) -> None:
    """As docs/scaling.md says: the notifier serves them, and they the subscribers, who know nothing of it."""
    near, far = f"ipc://{tmp_path}/near", f"ipc://{tmp_path}/far"
    with zmq.Context() as context, context.socket(zmq.SUB) as feed:
        feed.linger = 0
        feed.connect(far)
        feed.subscribe(b"trade/GOLD/")
        feed.subscribe(b"heartbeat/")
        with (
            proxy(spread.config.endpoints.market_data, near),
            proxy(near, far),
            running(spread.order_handler, spread.matching["GOLD"], spread.notifier),
        ):
            assert feed.poll(20_000), spread.explain()
            # What the notifier finds there when it first hears of an asset it does not publish.
            wait_until(lambda: page(spread, "notifier")["processed"].get("GOLD"), "the notifier has heard of GOLD")
            for _ in range(3):
                trade(spread, "GOLD")
            numbers: list[int] = []
            deadline = time.monotonic() + 20
            while len(numbers) < 3:
                assert time.monotonic() < deadline, f"{numbers}\n{spread.explain()}"
                if feed.poll(1000):
                    topic, payload = feed.recv_multipart()
                    if topic == b"trade/GOLD/":
                        numbers.append(msgpack.unpackb(payload)["sequence"])
            assert numbers == [1, 2, 3]
