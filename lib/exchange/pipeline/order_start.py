"""The order handler's start: what it knew, from the newest state in the journal's seals and the requests after it."""

import logging
from pathlib import Path

import msgspec
from msgspec import Struct

from exchange.core import order_entry_state
from exchange.core.order_entry import OrderEntry
from exchange.core.order_entry_state import UnusableState
from exchange.core.requests import Record
from exchange.pipeline import id_table
from exchange.pipeline.codec import encode
from exchange.pipeline.journal import Journal
from exchange.pipeline.taken_requests import TakenRequests
from exchange.pipeline.world import World

logger = logging.getLogger(__name__)


class SealedState(Struct, frozen=True, array_like=True):
    """The order handler's state in a seal: order entry's, and which table of ids has all ids up to a position."""

    table: int
    position: int
    requests: int  # that order entry has taken so far
    entry: bytes


def open_ids(world: World, journal: Journal) -> TakenRequests:
    """Open the table of ids beside the journal; a new one, where there is none of use. Raises OSError."""
    folder = journal.log.folder
    table = id_table.IdTable(world, folder / "ids", id_table.SLOTS, id_table.FILTER_BYTES)
    try:
        table.open()
    except id_table.Unusable as error:
        table.close()
        if has_records(world, folder):
            logger.warning("%s; it is made again from the journal", error)
        table.create()
    taken = TakenRequests(journal, table)
    journal.ids = taken
    return taken


def has_records(world: World, folder: Path) -> bool:
    """Return whether there is a journal in the folder already."""
    return any(name.endswith(".log") for name in world.disk.names(folder))


def start(world: World, journal: Journal, taken: TakenRequests, entry: OrderEntry, applied: dict[str, int]) -> None:
    """Open the journal and restore order entry, and the ids, from it; say how much was read. `applied`: see there."""
    table = taken.table
    began = world.monotonic()
    read = from_state = 0

    def restore(record: Record) -> None:
        nonlocal read
        read += 1
        entry.restore(record)

    def restore_state(data: bytes) -> bool:
        nonlocal from_state
        try:
            state = msgspec.msgpack.decode(data, type=SealedState)
            order_entry_state.restore(entry, state.entry)
        except (msgspec.DecodeError, UnusableState) as error:
            logger.warning("%s: a state can't be used: %s", journal.log.folder, error)
            return False
        taken.complete = table.has_all(state.table, state.position)
        from_state = state.requests
        return True

    def state() -> bytes:
        requests = sum(queue.sequence for queue in (entry.exchange, *entry.queues.values()))
        position = journal.log.end
        table.mark(position)
        return encode(SealedState(table.number, position, requests, order_entry_state.state_of(entry)))

    journal.state = state
    journal.prepare_seal = table.sync
    journal.open(restore, applied, restore_state)
    taken.carried.read()
    table.start()
    seconds = world.monotonic() - began
    ids = "" if taken.complete else ", and all ids"
    logger.info("%d requests from a state, %d read from the journal%s, in %.1f s", from_state, read, ids, seconds)
    taken.complete = True
