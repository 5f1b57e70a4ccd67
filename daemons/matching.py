"""A matching daemon: one asset's book. `python -m daemons.matching BTC-USD`."""

import logging

import zmq

from exchange.config import Config
from exchange.core.risk import watches_open_orders
from exchange.pipeline.daemon import Refused, Stop, load_config, run
from exchange.pipeline.event_log import EventLog
from exchange.pipeline.matching_engine import MatchingEngine
from exchange.pipeline.matching_snapshots import MatchingSnapshots
from exchange.pipeline.stream import HEARTBEAT_SECONDS
from exchange.pipeline.world import World


class MatchingDaemon:
    """The parts of a matching daemon, and one turn of its loop."""

    def __init__(self, config: Config, world: World, asset: str) -> None:
        # Parts
        self.world = world
        folder = config.event_log_folder(asset)
        world.lock(folder / "lock", f"a matching daemon for {asset}")
        self.event_log = EventLog(world, folder, asset, config.journal.segment_bytes)
        self.event_log.open()
        self.snapshots = MatchingSnapshots(
            world, folder, self.event_log, config.snapshots.requests, config.snapshots.seconds
        )
        transport = world.transport
        self.engine = MatchingEngine(
            asset,
            self.event_log,
            queue=transport.pull(config.orders_endpoint(asset)),
            journal=transport.dealer(config.journal_endpoint),
            events=transport.publisher(config.events_endpoint(asset)),
            replays=transport.router(config.event_log_endpoint(asset)),
            watch_open_orders=watches_open_orders(config.risk_limits, asset),
            snapshots=self.snapshots,
            max_backlog=config.limits.max_backlog,
        )
        self.page = world.status_page(config.status_folder, f"matching-{asset}")
        self.poller = transport.poller()
        for socket in (self.engine.queue, self.engine.journal, self.engine.replays):
            self.poller.register(socket, zmq.POLLIN)
        self.heartbeat_due = 0.0
        self.settled = False
        world.settle_memory()

    def turn(self) -> None:
        # Loop
        engine = self.engine
        if engine.no_room:
            self.world.sleep(HEARTBEAT_SECONDS)
            engine.log_and_publish()
        else:
            ready = dict(self.poller.poll(engine.wait_ms(self.world.monotonic())))
            if engine.queue in ready:
                engine.serve_queue()
            if engine.journal in ready and not engine.no_room:
                engine.serve_journal()
            if engine.replays in ready and not engine.no_room:
                engine.serve_replays()
        now = self.world.monotonic()
        engine.ask(now)
        engine.check_journal(now)
        if now >= self.heartbeat_due and not engine.no_room:
            self.heartbeat_due = now + HEARTBEAT_SECONDS
            engine.heartbeat()
            self.event_log.tend(now)
        engine.report_progress(now)
        engine.report_open_orders()
        engine.take_snapshot()
        if self.page.due():
            self.report()
        if not self.settled and not engine.catching_up:
            self.settled = True
            self.world.settle_memory()
            applied = engine.matching.sequence
            logging.info(
                "%s: caught up, with %d requests applied, %d since the start",
                engine.asset,
                applied,
                applied - engine.started_at,
            )

    def report(self) -> None:
        """Say on the status page what has been applied, and what is known to wait."""
        engine, matching = self.engine, self.engine.matching
        snapshot = self.snapshots.look()
        self.page.write(
            f"waiting for room on disk: {engine.no_room}"
            if engine.no_room
            else "catching up"
            if engine.catching_up
            else "running",
            {engine.asset: matching.sequence},
            {engine.asset: engine.receiver.behind},
            events=matching.event_sequence,
            trades=matching.trade_id,
            resting_orders=sum(len(account.orders) for account in matching.book.accounts.values()),
            snapshot=snapshot.sequence,
            snapshot_age_seconds=(self.world.time_ns() - snapshot.taken) // 10**9 if snapshot.sequence else None,
        )

    def close(self) -> None:
        self.engine.close()
        self.event_log.close()


def main(arguments: list[str], stop: Stop) -> None:
    # Config
    config = load_config()
    if len(arguments) != 1:
        raise Refused("usage: python -m daemons.matching ASSET")
    world = World()
    daemon = MatchingDaemon(config, world, config.asset(arguments[0]).asset)
    while not stop:
        daemon.turn()
    daemon.close()
    world.close()


if __name__ == "__main__":
    run("matching", main)
