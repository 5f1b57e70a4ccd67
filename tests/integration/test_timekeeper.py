"""What is due by the clock, carried out into a real journal: much at once, a part a turn."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from exchange.core.asset import Asset
from exchange.core.messages import Ack, CancelAllAfter, NewOrder
from exchange.core.order_entry import OrderEntry
from exchange.core.requests import EXCHANGE
from exchange.core.timers import Timers
from exchange.pipeline import schedule
from exchange.pipeline.clock import ManualClock
from exchange.pipeline.journal import Journal
from exchange.pipeline.order_handler import OrderHandler
from exchange.pipeline.order_start import open_ids
from exchange.pipeline.timekeeper import TURN_ACTS, Timekeeper
from exchange.pipeline.world import World

NOON = 1_772_452_800 * 10**9
MILLISECOND = 1_000_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
def timekeeper(tmp_path: Path, clock: ManualClock) -> Iterator[Timekeeper]:
    """Yield the timekeeper of an order handler that has a journal, and sockets that nobody is connected to."""
    world = World()
    journal = Journal(world, tmp_path, 1024 * 1024)
    timers = Timers(schedule)
    taken = open_ids(world, journal)
    entry = OrderEntry(taken, journal.has_room, clock.now, 10**6, 10**6, timers)
    journal.open(entry.restore, {})
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    clients, daemons = context.socket(zmq.ROUTER), context.socket(zmq.ROUTER)
    handler = OrderHandler(entry, journal, clients, daemons, lambda asset: daemons, 1000, timers, clock, time.monotonic)
    entry.define(Asset(asset="ACME"))
    handler.journal_records()
    handler.commit()
    yield Timekeeper(handler)
    journal.close()
    taken.table.close()
    context.destroy(linger=0)


def test_many_that_fall_silent_at_once_leave_the_clients_their_turns(
    timekeeper: Timekeeper, clock: ManualClock
) -> None:
    handler = timekeeper.handler
    silent = 2 * TURN_ACTS + 1
    for number in range(silent):
        account = f"a{number}"
        for message in (
            NewOrder(client_order_id="1", asset="ACME", side="buy", quantity=1, price=1, account=account),
            CancelAllAfter(account=account, timeout_ms=10),
        ):
            assert isinstance(handler.entry.handle(message), Ack)
            handler.journal_records()
    handler.commit()
    before = handler.journal.last(EXCHANGE)
    timekeeper.start()
    clock.advance(NOON + 10 * MILLISECOND)
    done = []
    while (due := handler.timers.next_due()) is not None and due <= clock.now():
        timekeeper.act()
        timekeeper.act_on_silence()
        handler.commit()
        done.append(handler.journal.last(EXCHANGE) - before)
    assert done == [TURN_ACTS, 2 * TURN_ACTS, silent], "a part each turn, and nobody is forgotten"
    assert handler.journal.last("ACME") == 1 + 2 * silent, "each one's orders are canceled once"
