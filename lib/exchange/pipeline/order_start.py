"""The order handler's start: what it knew, from the newest state in the journal's seals and the requests after it."""

import logging

from exchange.core.order_entry import OrderEntry
from exchange.pipeline import id_table
from exchange.pipeline.journal import Journal
from exchange.pipeline.taken_requests import TakenRequests
from exchange.pipeline.world import World

logger = logging.getLogger(__name__)


def open_ids(world: World, journal: Journal) -> TakenRequests:
    """Open the table of ids beside the journal; a new one, where there is none of use. Raises OSError."""
    table = id_table.IdTable(world, journal.log.folder / "ids", id_table.SLOTS, id_table.FILTER_BYTES)
    try:
        table.open()
    except id_table.Unusable as error:
        if any(name.endswith(".log") for name in world.disk.names(journal.log.folder)):
            logger.warning("%s; it is made again from the whole journal", error)
        table.create()
    taken = TakenRequests(journal, table)
    journal.ids = taken
    return taken


def start(world: World, journal: Journal, taken: TakenRequests, entry: OrderEntry, applied: dict[str, int]) -> None:
    """Open the journal and restore order entry from it. `applied`: see `Journal.open`."""
    journal.open(entry.restore, applied)
    taken.table.start()
