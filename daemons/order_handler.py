"""The order handler: takes requests, puts them on disk, acknowledges, passes on. `python -m daemons.order_handler`."""

import logging
import time
from pathlib import Path

import zmq

from exchange.config import Config
from exchange.core.order_entry import OrderEntry
from exchange.pipeline import sockets
from exchange.pipeline.codec import decode_event_record
from exchange.pipeline.daemon import Refused, Stop, load_config, run, settle_memory
from exchange.pipeline.journal import Journal
from exchange.pipeline.log import last_body
from exchange.pipeline.order_handler import OrderHandler
from exchange.pipeline.stream import HEARTBEAT_SECONDS
from exchange.status import Lock, StatusPage


def main(arguments: list[str], stop: Stop) -> None:
    # Config
    config = load_config()
    lock = Lock(config.journal_folder / "lock", "an order handler on this journal")

    # Parts
    journal = Journal(config.journal_folder, config.journal.segment_bytes)
    entry = OrderEntry(
        journal.read, journal.has_room, time.time_ns, config.limits.max_backlog, config.limits.max_remembered_ids
    )
    applied = last_applied(config.data / "events")
    journal.open(entry.restore, applied)
    for asset, sequence in applied.items():
        entry.note_applied(asset, sequence)
    logging.info("the journal holds %s", {asset: queue.sequence for asset, queue in entry.queues.items()})
    context = sockets.new_context()
    handler = OrderHandler(
        entry,
        journal,
        sockets.client_router(context, config.endpoints.order_entry, sockets.REPLY_QUEUE),
        sockets.router(context, config.journal_endpoint),
        {asset.asset: sockets.push(context, config.orders_endpoint(asset.asset)) for asset in config.assets},
        config.limits.max_batch_requests,
    )
    define_assets(config, entry)
    handler.take_definitions()
    tell_of_removed(entry)
    page = StatusPage(config.status_folder, "order_handler")
    settle_memory()
    logging.info("taking requests at %s", config.endpoints.order_entry)

    # Loop
    poller = zmq.Poller()
    poller.register(handler.clients, zmq.POLLIN)
    poller.register(handler.daemons, zmq.POLLIN)
    heartbeat_due = 0.0
    while not stop:
        ready = dict(poller.poll(round(HEARTBEAT_SECONDS * 1000)))
        if handler.clients in ready:
            handler.serve_clients()
        if handler.daemons in ready:
            handler.serve_daemons()
        now = time.monotonic()
        if now >= heartbeat_due:
            heartbeat_due = now + HEARTBEAT_SECONDS
            handler.heartbeat()
        if page.due():
            report(page, handler)
    context.destroy(linger=0)
    journal.close()
    lock.release()


def define_assets(config: Config, entry: OrderEntry) -> None:
    """Take the configuration's assets into their queues where they are new or changed."""
    for asset in config.assets:
        try:
            if entry.define(asset):
                logging.info("%s: defined", asset)
        except ValueError as error:
            raise Refused(f"{config.folder / 'assets.toml'}: [[asset]] {asset.asset}: {error}") from None


def tell_of_removed(entry: OrderEntry) -> None:
    """Say which assets have a past and are not in the configuration any more."""
    for asset, queue in entry.queues.items():
        if not queue.listed:
            logging.warning(
                "%s: not in the configuration any more: it takes no requests; its orders stay as they are, and %d "
                "requests wait for a matching daemon",
                asset,
                queue.sequence - queue.applied,
            )


def last_applied(events: Path) -> dict[str, int]:
    """Return, per asset, the last request in its event log."""
    applied: dict[str, int] = {}
    for folder in events.glob("*"):
        body = last_body(folder)
        if body is not None:
            applied[folder.name] = decode_event_record(body).sequence
    return applied


def report(page: StatusPage, handler: OrderHandler) -> None:
    """Say on the status page what has been taken, and what waits for its matching daemon."""
    queues = handler.entry.queues
    room = handler.journal.has_room(1)
    page.write(
        "running" if room else "busy: no room on disk for the next segment of the journal",
        {asset: queue.sequence for asset, queue in queues.items()},
        {asset: queue.sequence - queue.applied for asset, queue in queues.items()},
        rejected=handler.rejected,
        remembered_ids=handler.entry.remembered_ids,
    )


if __name__ == "__main__":
    run("order_handler", main)
