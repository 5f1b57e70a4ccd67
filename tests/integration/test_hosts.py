"""Two hosts that share a machine: what each is told of the other, and a journal that has lost its end."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

from exchange.client.errors import Rejected
from exchange.client.orders import OrderEntry
from exchange.client.queries import Queries
from exchange.pipeline import codec
from exchange.status import read_pages
from tests.spread import Spread
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
    with OrderEntry(spread.config.endpoints.order_entry, timeout=10) as orders:
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
        with Queries(spread.config.endpoints.query, timeout=10) as queries:
            for asset in ("ACME", "GOLD"):
                wait_until(lambda: len(queries.trades(asset)) == 1, "the trade is published")  # noqa: B023
        assert not spread.config.event_log_folder("GOLD").exists()
        assert not spread.second.event_log_folder("ACME").exists()

        # The notifier, started again, knows what it published, though the event log is elsewhere.
        spread.notifier.stop()
        spread.notifier.start()
        wait_until_applied(spread, "GOLD", trade(spread, "GOLD"))
        with Queries(spread.config.endpoints.query, timeout=10) as queries:
            wait_until(lambda: [each.sequence for each in queries.trades("GOLD")] == [2, 1], "both trades are there")
        spread.stop()


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
        with OrderEntry(spread.config.endpoints.order_entry, timeout=10) as orders:
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
