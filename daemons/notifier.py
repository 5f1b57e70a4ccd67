"""The notifier: publishes trades and all else that happens, answers queries. `python -m daemons.notifier`."""

import logging
import time

import zmq

from exchange.core.asset import Asset
from exchange.pipeline import sockets
from exchange.pipeline.asset_list import AssetList
from exchange.pipeline.daemon import Stop, load_config, run, settle_memory
from exchange.pipeline.message_store import MessageStore
from exchange.pipeline.notifier import AssetBoard, Notifier, logged_assets
from exchange.pipeline.queries import Queries
from exchange.pipeline.sources import EventSources
from exchange.status import Lock, StatusPage

POLL_MS = 250


def main(arguments: list[str], stop: Stop) -> None:
    # Config
    config = load_config()
    folder = config.data / "notifier"
    lock = Lock(folder / "lock", "a notifier on this data folder")
    logged_before = logged_assets(config)

    # Parts
    context = sockets.new_context()
    queue, limits = config.limits.send_queue, config.limits

    def new_board(asset: Asset) -> AssetBoard:
        return AssetBoard(asset, MessageStore(folder, limits.retained_messages), limits.retained_orders)

    notifier = Notifier(
        {asset.asset: new_board(asset) for asset in config.assets},
        EventSources(context, config),
        sockets.client_publisher(context, config.endpoints.market_data, queue),
        sockets.client_publisher(context, config.endpoints.private, queue, zmq.XPUB),
    )
    queries = Queries(notifier, sockets.client_router(context, config.endpoints.query, sockets.QUERY_REPLY_QUEUE))
    assets = AssetList(config)
    page = StatusPage(config.status_folder, "notifier")
    settle_memory()

    # Loop
    poller = zmq.Poller()
    for socket in (*notifier.sources.sockets(), notifier.private, queries.clients):
        poller.register(socket, zmq.POLLIN)
    settled = False
    while not stop:
        for asset in assets.added(time.monotonic()):
            logging.info("%s: is new", asset.asset)
            poller.register(notifier.add(new_board(asset), asset.asset in logged_before), zmq.POLLIN)
        ready = dict(poller.poll(POLL_MS))
        notifier.serve_events()
        if queries.clients in ready:
            queries.serve()
        if notifier.private in ready:
            for _ in sockets.drain(notifier.private, 1000):
                pass  # who subscribes to what is not used; not read, it would pile up
        notifier.sources.ask(time.monotonic())
        notifier.heartbeat()
        if page.due():
            page.write(
                "catching up" if notifier.catching_up else "running",
                notifier.sources.processed,
                notifier.sources.behind,
                published=notifier.published,
            )
        if not settled and not notifier.catching_up:
            settled = True
            settle_memory()
            logging.info("caught up with all assets: %s", notifier.sources.processed)
    context.destroy(linger=0)
    lock.release()


if __name__ == "__main__":
    run("notifier", main)
