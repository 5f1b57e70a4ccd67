"""A matching daemon: one asset's book. `python -m daemons.matching BTC-USD`."""

import logging
import time

import zmq

from exchange.core.risk import watches_open_orders
from exchange.pipeline import sockets
from exchange.pipeline.daemon import Refused, Stop, load_config, run, settle_memory
from exchange.pipeline.log import Log
from exchange.pipeline.matching_engine import EventLog, MatchingEngine
from exchange.pipeline.stream import HEARTBEAT_SECONDS
from exchange.status import Lock, StatusPage


def main(arguments: list[str], stop: Stop) -> None:
    # Config
    config = load_config()
    if len(arguments) != 1:
        raise Refused("usage: python -m daemons.matching ASSET")
    asset = config.asset(arguments[0]).asset
    folder = config.event_log_folder(asset)
    lock = Lock(folder / "lock", f"a matching daemon for {asset}")

    # Parts
    event_log = EventLog(Log(folder, config.journal.segment_bytes, durable=False), asset)
    event_log.open()
    context = sockets.new_context()
    engine = MatchingEngine(
        asset,
        event_log,
        queue=sockets.pull(context, config.orders_endpoint(asset)),
        journal=sockets.dealer(context, config.journal_endpoint),
        events=sockets.publisher(context, config.events_endpoint(asset)),
        replays=sockets.router(context, config.event_log_endpoint(asset)),
        watch_open_orders=watches_open_orders(config.risk_limits, asset),
    )
    page = StatusPage(config.status_folder, f"matching-{asset}")
    settle_memory()

    # Loop
    poller = zmq.Poller()
    for socket in (engine.queue, engine.journal, engine.replays):
        poller.register(socket, zmq.POLLIN)
    heartbeat_due = 0.0
    settled = False
    while not stop:
        if engine.no_room:
            time.sleep(HEARTBEAT_SECONDS)
            engine.log_and_publish()
        else:
            ready = dict(poller.poll(round(HEARTBEAT_SECONDS * 1000)))
            if engine.queue in ready:
                engine.serve_queue()
            if engine.journal in ready and not engine.no_room:
                engine.serve_journal()
            if engine.replays in ready and not engine.no_room:
                engine.serve_replays()
        now = time.monotonic()
        engine.ask(now)
        engine.check_journal(now)
        if now >= heartbeat_due and not engine.no_room:
            heartbeat_due = now + HEARTBEAT_SECONDS
            engine.heartbeat()
        engine.report_progress(now)
        engine.report_open_orders()
        if page.due():
            report(page, engine)
        if not settled and not engine.catching_up:
            settled = True
            settle_memory()
            logging.info("%s: caught up, with %d requests applied", asset, engine.matching.sequence)
    context.destroy(linger=0)
    event_log.close()
    lock.release()


def report(page: StatusPage, engine: MatchingEngine) -> None:
    """Say on the status page what has been applied, and what is known to wait."""
    asset, matching = engine.asset, engine.matching
    page.write(
        f"waiting for room on disk: {engine.no_room}"
        if engine.no_room
        else "catching up"
        if engine.catching_up
        else "running",
        {asset: matching.sequence},
        {asset: engine.receiver.behind},
        events=matching.event_sequence,
        trades=matching.trade_id,
        resting_orders=sum(len(account.orders) for account in matching.book.accounts.values()),
    )


if __name__ == "__main__":
    run("matching", main)
