"""What a matching daemon tells the order handler: how far it is, the asset's status, and the open orders."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from exchange.core import requests
from exchange.core.asset import Asset, ScheduledChange
from exchange.core.requests import BUY, Record
from exchange.pipeline import codec, sockets
from exchange.pipeline.event_log import EventLog
from exchange.pipeline.matching_engine import PROGRESS_SECONDS, MatchingEngine
from exchange.pipeline.world import World

SESSIONS = Asset(asset="ACME", schedule=(ScheduledChange("09:00", "open"), ScheduledChange("17:00", "closed")))


class OrderHandlerEnd:
    """The order handler's end of the sockets, and an engine at the other."""

    def __init__(self, folder: Path) -> None:
        self.world = World()
        transport = self.world.transport
        names = {name: f"ipc://{folder}/{name}" for name in ("journal", "orders", "events", "replays")}
        self.router = transport.router(names["journal"])
        self.router.rcvtimeo = 30_000
        self.orders = transport.push(names["orders"])
        self.event_log = EventLog(self.world, folder / "log", "ACME", 1024 * 1024)
        self.event_log.open()
        self.engine = MatchingEngine(
            "ACME",
            self.event_log,
            queue=transport.pull(names["orders"]),
            journal=transport.dealer(names["journal"]),
            events=transport.publisher(names["events"]),
            replays=transport.router(names["replays"]),
        )
        assert self.engine.journal.poll(30_000, zmq.POLLOUT), "what the engine says before it is connected is lost"
        self.sequence = 0
        self.envelope = b""

    def take(self, request: requests.Request, account: str = "") -> None:
        """Have the engine apply the next request, as if the order handler had pushed it."""
        self.sequence += 1
        record = Record("ACME", self.sequence, self.sequence * 1000, account, request)
        self.engine.apply(self.engine.receiver.receive(self.sequence, [record]))

    def heard(self) -> codec.Control:
        """Return the next of what the engine has said."""
        self.envelope, payload = self.router.recv_multipart()
        control: codec.Control = codec.decode_control(payload)
        return control

    def silent(self) -> bool:
        return not self.router.poll(50)


@pytest.fixture
def end(open_folder: Path) -> Iterator[OrderHandlerEnd]:
    end = OrderHandlerEnd(open_folder)
    yield end
    end.world.close()
    end.event_log.close()


def test_a_new_status_is_told_at_once_and_progress_after_a_moment(end: OrderHandlerEnd) -> None:
    end.take(requests.DefineAsset(SESSIONS))
    end.engine.report_progress(1.0)
    assert end.heard() == codec.Progress("ACME", 1, "closed", logged=1)
    end.take(requests.ChangeStatus("call", "schedule"))
    end.engine.report_progress(1.0)
    assert end.heard() == codec.Progress("ACME", 2, "call", 2, logged=2)
    end.take(requests.NewOrder(1, "1", BUY, 1, 100), "ann")
    end.engine.report_progress(1.0)
    assert end.silent(), "told a moment ago, and the status is the same"
    end.engine.report_progress(1.0 + 2 * PROGRESS_SECONDS)
    assert end.heard() == codec.Progress("ACME", 3, "call", 2, logged=3)
    end.take(requests.ChangeStatus("call", "operator"))
    end.engine.report_progress(1.0 + 2 * PROGRESS_SECONDS)
    assert end.heard() == codec.Progress("ACME", 4, "call", 4, logged=4), "another call"


def test_a_heartbeat_has_everything_told_again(end: OrderHandlerEnd) -> None:
    end.engine.report_progress(1.0)
    assert end.heard() == codec.Progress("ACME", 0, logged=0), "of an asset that is not defined yet"
    end.take(requests.DefineAsset(Asset(asset="ACME")))
    end.engine.report_progress(2.0)
    assert end.heard() == codec.Progress("ACME", 1, "open", logged=1)
    end.engine.report_progress(3.0)
    assert end.silent()
    end.engine.heartbeat()
    end.engine.report_progress(3.0)
    assert end.heard() == codec.Progress("ACME", 1, "open", logged=1)


def test_open_orders_are_told_once_they_are_asked_for(end: OrderHandlerEnd) -> None:
    end.take(requests.DefineAsset(Asset(asset="ACME")))
    end.take(requests.NewOrder(1, "1", BUY, 1, 100), "ann")
    end.engine.report_open_orders()
    assert end.silent()
    end.engine.report_progress(1.0)
    assert end.heard() == codec.Progress("ACME", 2, "open", logged=2)
    sockets.send_reply(end.router, [end.envelope], codec.encode(codec.CountOpen("ACME")))
    assert end.engine.journal.poll(30_000, zmq.POLLIN)
    end.engine.serve_journal()
    end.engine.report_open_orders()
    assert end.heard() == codec.OpenOrders("ACME", 2, {"ann": 1}, True)
    end.take(requests.CancelOrder(1), "ann")
    end.engine.report_open_orders()
    assert end.heard() == codec.OpenOrders("ACME", 3, {"ann": 0})


def test_open_orders_are_not_told_while_requests_are_missing(end: OrderHandlerEnd) -> None:
    end.engine.watch_open_orders()
    end.engine.report_open_orders()
    assert end.silent(), "nothing is known of the journal yet"
    end.take(requests.DefineAsset(Asset(asset="ACME")))
    end.engine.receiver.receive(3, ())
    end.engine.report_open_orders()
    assert end.silent(), "two are missing"
    end.take(requests.NewOrder(1, "1", BUY, 1, 100), "ann")
    end.take(requests.NewOrder(2, "2", BUY, 1, 100), "bob")
    end.engine.report_open_orders()
    assert end.heard() == codec.OpenOrders("ACME", 3, {"ann": 1, "bob": 1}, True)
