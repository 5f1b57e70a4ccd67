"""The notifier: publishes trades and all else that happens, answers queries. `python -m daemons.notifier`."""

import logging

import zmq

from exchange.config import Config
from exchange.core.asset import Asset
from exchange.pipeline import sockets
from exchange.pipeline.asset_list import AssetList
from exchange.pipeline.board import AssetBoard
from exchange.pipeline.daemon import Stop, load_config, run
from exchange.pipeline.message_store import MessageStore
from exchange.pipeline.notifier import Notifier, logged_assets
from exchange.pipeline.notifier_snapshots import NotifierSnapshots
from exchange.pipeline.queries import Queries
from exchange.pipeline.sources import EventSources
from exchange.pipeline.world import World

POLL_MS = 250


class NotifierDaemon:
    """The parts of the notifier, and one turn of its loop."""

    def __init__(self, config: Config, world: World) -> None:
        # Parts
        self.world = world
        self.folder, self.limits = config.data / "notifier", config.limits
        world.lock(self.folder / "lock", "a notifier on this data folder")
        self.logged_before = logged_assets(world.disk, config)
        self.snapshots = NotifierSnapshots(world, self.folder, config.snapshots.requests, config.snapshots.seconds)
        transport, queue = world.transport, config.limits.send_queue
        boards = {asset.asset: self.new_board(asset) for asset in config.assets}
        self.notifier = Notifier(
            boards,
            EventSources(transport, config, {asset: board.wanted for asset, board in boards.items()}),
            transport.public_publisher(config.endpoints.market_data, queue),
            transport.private_publisher(config.endpoints.private, queue),
            world.monotonic,
            world.time_ns,
            self.snapshots,
        )
        self.queries = Queries(
            self.notifier, transport.client_router(config.endpoints.query, sockets.QUERY_REPLY_QUEUE)
        )
        self.assets = AssetList(config)
        self.page = world.status_page(config.status_folder, "notifier")
        self.poller = transport.poller()
        for socket in (*self.notifier.sources.sockets(), self.queries.clients):
            self.poller.register(socket, zmq.POLLIN)
        for publisher in (self.notifier.public, self.notifier.private):
            self.poller.register(publisher.waitable, zmq.POLLIN)
        self.settled = False
        world.settle_memory()

    def new_board(self, asset: Asset) -> AssetBoard:
        store = MessageStore(self.world.disk, self.folder / asset.asset, self.limits.retained_messages)
        board = AssetBoard(asset, store, self.limits.retained_orders)
        if asset.asset in self.logged_before:
            self.snapshots.start(board)
        else:
            self.snapshots.forget(board)
        return board

    def turn(self) -> None:
        # Loop
        notifier, monotonic = self.notifier, self.world.monotonic
        for asset in self.assets.added(monotonic()):
            logging.info("%s: is new", asset.asset)
            socket = notifier.add(self.new_board(asset), asset.asset in self.logged_before)
            self.poller.register(socket, zmq.POLLIN)
        ready = dict(self.poller.poll(POLL_MS))
        notifier.serve_subscribers()
        notifier.serve_events()
        if self.queries.clients in ready:
            self.queries.serve()
        notifier.check_restored(monotonic())
        notifier.sources.ask(monotonic())
        notifier.heartbeat()
        if self.page.due():
            self.snapshots.take_overdue(notifier.boards.values())
            self.page.write(
                "catching up" if notifier.catching_up else "running",
                notifier.sources.processed,
                notifier.sources.behind,
                published=notifier.published,
                folded=notifier.folded,
                snapshots={asset: board.snapshot for asset, board in notifier.boards.items()},
            )
        if not self.settled and not notifier.catching_up:
            self.settled = True
            self.world.settle_memory()
            logging.info(
                "caught up with all assets: %s, folded in since the start: %s",
                notifier.sources.processed,
                notifier.folded,
            )

    def close(self) -> None:
        self.snapshots.take_last(self.notifier.boards.values())
        for board in self.notifier.boards.values():
            board.store.close()


def main(arguments: list[str], stop: Stop) -> None:
    # Config
    config = load_config()
    world = World()
    daemon = NotifierDaemon(config, world)
    while not stop:
        daemon.turn()
    daemon.close()
    world.close()


if __name__ == "__main__":
    run("notifier", main)
