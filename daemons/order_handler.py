"""The order handler: takes requests, puts them on disk, acknowledges, passes on. `python -m daemons.order_handler`."""

import logging
from pathlib import Path

import zmq

from exchange.config import Config
from exchange.core.order_entry import OrderEntry
from exchange.core.risk import RiskLimits
from exchange.core.timers import Timers
from exchange.pipeline import order_start, schedule, sockets
from exchange.pipeline.admin import Admin
from exchange.pipeline.clock import ManualClock, SystemClock
from exchange.pipeline.codec import decode_event_record
from exchange.pipeline.daemon import Refused, Stop, load_config, run
from exchange.pipeline.disk import Disk
from exchange.pipeline.elsewhere import Elsewhere
from exchange.pipeline.journal import Journal
from exchange.pipeline.log import last_body
from exchange.pipeline.order_handler import OrderHandler
from exchange.pipeline.stream import HEARTBEAT_SECONDS
from exchange.pipeline.timekeeper import Timekeeper
from exchange.pipeline.world import World
from exchange.status import StatusPage

DROPPED_SECONDS = 10.0  # for which the status page tells of a reply that was dropped


class OrderHandlerDaemon:
    """The parts of the order handler, and one turn of its loop."""

    def __init__(self, config: Config, world: World) -> None:
        # Parts
        self.world = world
        world.lock(config.journal_folder / "lock", "an order handler on this journal")
        self.journal = journal = Journal(world, config.journal_folder, config.journal.segment_bytes)
        clock = ManualClock(world.time_ns()) if config.clock.mode == "manual" else SystemClock(world.time_ns)
        timers = Timers(schedule)
        limits = RiskLimits(config.risk_limits) if config.risk_limits else None
        self.taken = taken = order_start.open_ids(world, journal)
        entry = OrderEntry(
            taken,
            journal.has_room,
            clock.now,
            config.limits.max_backlog,
            config.limits.max_remembered_ids,
            timers,
            limits,
        )
        transport = world.transport
        applied = last_applied(world.disk, config.data / "events")
        self.elsewhere = elsewhere = Elsewhere(config, transport, world.monotonic) if config.hosts else None
        if elsewhere is not None:
            for asset, sequence in elsewhere.hear().items():
                applied[asset] = max(sequence, applied.get(asset, 0))
        order_start.start(world, journal, taken, entry, applied)
        if elsewhere is not None:
            elsewhere.hold({asset: queue.sequence for asset, queue in entry.queues.items()})
        for asset, sequence in applied.items():
            entry.note_applied(asset, sequence)
        if isinstance(clock, ManualClock) and entry.time:
            clock.time = entry.time
        logging.info("the journal holds %s", {asset: queue.sequence for asset, queue in entry.queues.items()})
        self.handler = OrderHandler(
            entry,
            journal,
            transport.client_router(config.endpoints.order_entry, sockets.REPLY_QUEUE),
            transport.router(config.journal_endpoint) if elsewhere is None else elsewhere.socket,
            lambda asset: transport.push(config.orders_endpoint(asset)),
            config.limits.max_batch_requests,
            timers,
            clock,
            world.monotonic,
            limits,
            elsewhere,
        )
        self.timekeeper = Timekeeper(self.handler)
        self.operators = transport.client_router(config.admin_endpoint, sockets.QUERY_REPLY_QUEUE)
        self.admin = Admin(self.operators, self.handler, self.timekeeper)
        define_assets(config, self.handler)
        start_clock(config, self.timekeeper)
        self.handler.commit()
        tell_of_removed(entry)
        self.page = world.status_page(config.status_folder, "order_handler")
        self.poller = transport.poller()
        for socket in (self.handler.clients, self.handler.daemons, self.operators):
            self.poller.register(socket, zmq.POLLIN)
        self.heartbeat_due = 0.0
        world.settle_memory()
        logging.info("taking requests at %s", config.endpoints.order_entry)

    def turn(self) -> None:
        # Loop
        handler, timekeeper = self.handler, self.timekeeper
        ready = dict(self.poller.poll(timekeeper.wait_ms()))
        if handler.daemons in ready:
            handler.serve_daemons()
        timekeeper.act()
        if handler.clients in ready:
            handler.serve_clients()
        timekeeper.act_on_silence()
        if self.operators in ready:
            self.admin.serve()
        handler.commit()
        self.admin.send_replies()
        now = self.world.monotonic()
        if now >= self.heartbeat_due:
            self.heartbeat_due = now + HEARTBEAT_SECONDS
            handler.heartbeat()
            self.journal.tend(now)
        if self.page.due():
            report(self.page, handler)

    def close(self) -> None:
        self.journal.close()
        self.taken.table.close()


def main(arguments: list[str], stop: Stop) -> None:
    # Config
    config = load_config()
    world = World()
    daemon = OrderHandlerDaemon(config, world)
    while not stop:
        daemon.turn()
    daemon.close()
    world.close()


def define_assets(config: Config, handler: OrderHandler) -> None:
    """Open the queues of the configuration's assets, and take into them the definitions that are new or changed.

    Raises NoRoom where the disk has none.
    """
    for asset in config.assets:
        try:
            if handler.entry.define(asset):
                logging.info("%s: defined", asset)
        except ValueError as error:
            raise Refused(f"{config.folder / 'assets.toml'}: [[asset]] {asset.asset}: {error}") from None
        handler.serve_asset(asset.asset)
    handler.journal_records()


def start_clock(config: Config, timekeeper: Timekeeper) -> None:
    """Do what was due while nobody was here, and from now on all that is due."""
    try:
        timekeeper.start()
    except schedule.ScheduleError as error:
        raise Refused(f"{config.folder / 'assets.toml'}: {error}") from None


def tell_of_removed(entry: OrderEntry) -> None:
    """Say which assets have a past and are not traded any more."""
    for asset, queue in entry.queues.items():
        if queue.delisted:
            logging.info("%s: an operator took it off the list: it takes no requests until one lists it again", asset)
        elif not queue.listed:
            logging.warning(
                "%s: not in the configuration any more: it takes no requests; its orders stay as they are, and %d "
                "requests wait for a matching daemon",
                asset,
                queue.sequence - queue.applied,
            )


def last_applied(disk: Disk, events: Path) -> dict[str, int]:
    """Return, per asset, the last request in its event log."""
    applied: dict[str, int] = {}
    for asset in disk.names(events):
        body = last_body(disk, events / asset)
        if body is not None:
            applied[asset] = decode_event_record(body).sequence
    return applied


def report(page: StatusPage, handler: OrderHandler) -> None:
    """Say on the status page what has been taken, and what waits for its matching daemon."""
    queues, elsewhere = handler.entry.queues, handler.elsewhere
    state = "running"
    details: dict[str, object] = {}
    if elsewhere is not None:
        details["heard_seconds"] = elsewhere.seconds()
        if silent := elsewhere.silent():
            state += f"; not heard of for {min(silent.values()):.0f} s: " + ", ".join(
                f"matching-{asset} on host {elsewhere.hosts[asset]}" for asset in silent
            )
    if not handler.journal.has_room(1):
        state = "busy: no room on disk for the next segment of the journal, or for more ids"
    elif handler.monotonic() - handler.dropped_at < DROPPED_SECONDS:
        state = "running; a client does not read its replies, and loses them"
    page.write(
        state,
        {asset: queue.sequence for asset, queue in queues.items()},
        {asset: queue.sequence - max(queue.applied, 0) for asset, queue in queues.items()},
        rejected=handler.rejected,
        dropped_replies=handler.dropped,
        remembered_ids=handler.entry.remembered_ids,
        recent_orders=len(handler.entry.recent_orders),
        **details,
    )


if __name__ == "__main__":
    run("order_handler", main)
