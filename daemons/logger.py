"""The logger: stores every order received and every trade in PostgreSQL, exactly once. `python -m daemons.logger`."""

import logging
from collections.abc import Callable

import zmq

from exchange.config import Config
from exchange.pipeline import faults
from exchange.pipeline.asset_list import AssetList
from exchange.pipeline.daemon import Refused, Stop, load_config, run
from exchange.pipeline.sources import EventSources
from exchange.pipeline.world import World
from exchange.status import StatusPage
from exchange.store.embedded import database_dsn
from exchange.store.writer import DatabaseUnavailable, NotContiguous, SchemaError, Writer, WriterRunning

BATCH_ROWS = 60_000  # in one transaction, about
# After which what there is is written: a few rows, and many. PostgreSQL makes room for a thousand rows in each COPY: of
# one with a few thousand rows that is a fifth of the time.
FEW_ROWS, FEW_SECONDS = 2_000, 0.1
MANY_SECONDS = 0.5
IDLE_SECONDS = 2.0  # without anything to write, after which the database is asked whether it is there
RETRY_SECONDS = 1.0  # between attempts to reach the database
AHEAD_SECONDS = (
    10.0  # for which an event log may be shorter than the database: a matching daemon may be remaking its end
)
POLL_MS = 50


class LoggerDaemon:
    """The parts of the logger, and one turn of its loop."""

    def __init__(self, config: Config, world: World, writer: Writer) -> None:
        # Parts
        self.world = world
        world.lock(config.data / "logger.lock", "a logger on this data folder")
        self.sources = EventSources(world.transport, config)
        self.assets = AssetList(config)
        self.writer = writer
        self.storage = Storage(writer, self.sources, world.monotonic)
        self.page = world.status_page(config.status_folder, "logger")
        self.poller = world.transport.poller()
        for socket in self.sources.sockets():
            self.poller.register(socket, zmq.POLLIN)
        world.settle_memory()

    def turn(self) -> None:
        # Loop
        storage, monotonic = self.storage, self.world.monotonic
        for asset in self.assets.added(monotonic()):
            logging.info("%s: is new", asset.asset)
            self.poller.register(self.sources.add(asset.asset, storage.stored_up_to(asset.asset)), zmq.POLLIN)
        if not storage.connected and not storage.connect():
            storage.wait()
            report(self.page, storage)
            return
        self.poller.poll(POLL_MS)
        storage.collect()
        if storage.due():
            storage.write()
        elif storage.idle():
            storage.check()
        self.sources.ask(monotonic())
        storage.check_history(monotonic())
        if self.page.due():
            report(self.page, storage)

    def close(self) -> None:
        if self.storage.connected:
            self.storage.write()
        self.writer.close()


def main(arguments: list[str], stop: Stop) -> None:
    # Config
    config = load_config()
    world = World()
    daemon = LoggerDaemon(config, world, faults.arm_writer(Writer(database_dsn(config))))
    while not stop:
        daemon.turn()
    daemon.close()
    world.close()


class Storage:
    """Moves event records from the sources to the writer, in batches.

    Nothing is held for a database that is away: the writer forgets what has been collected, nothing more is taken from
    the sockets, and when it is back the matching daemons are asked for all that it has not got.
    """

    def __init__(self, writer: Writer, sources: EventSources, monotonic: Callable[[], float]) -> None:
        self.writer = writer
        self.monotonic = monotonic
        self.sources = sources
        self.connected = False
        self.error = ""
        self.pending = False  # whether there is anything to be written
        self.rows = 0  # of that, about
        self.heard_at = 0.0  # when the database was spoken to last
        self.collected_at = 0.0  # when the oldest of the pending ones came
        self.last_applied: dict[str, int] = {}
        self.stored = 0  # rows, since the start

    def connect(self) -> bool:
        """Open the database and go on after what it has; return whether it could be reached."""
        try:
            self.writer.open()
        except DatabaseUnavailable as error:
            if str(error) != self.error:
                self.error = str(error)
                logging.warning("waiting for the database: %s", self.error)
            return False
        except (SchemaError, WriterRunning) as error:
            raise Refused(str(error)) from None
        applied = {asset: place.sequence for asset, place in self.writer.applied().items()}
        self.sources.resume(applied)
        self.connected, self.error = True, ""
        logging.info("the database is there, and has %s", applied)
        return True

    def collect(self) -> None:
        """Take what has arrived, up to a batch."""
        for _, records in self.sources.receive():
            if not self.pending:
                self.pending, self.collected_at = True, self.monotonic()
            try:
                self.writer.add(records)
            except NotContiguous as error:
                raise Refused(str(error)) from None
            self.rows += sum(len(record.events) for record in records)
            if self.rows >= BATCH_ROWS:
                return

    def due(self) -> bool:
        """Return whether what is pending should be written now."""
        if not self.pending:
            return False
        waited = FEW_SECONDS if self.rows < FEW_ROWS else MANY_SECONDS
        return self.rows >= BATCH_ROWS or self.monotonic() - self.collected_at >= waited

    def idle(self) -> bool:
        """Return whether the database has not been heard of for some time."""
        return not self.pending and self.monotonic() - self.heard_at >= IDLE_SECONDS

    def check(self) -> None:
        """Find out whether the database is still there."""
        self.heard_at = self.monotonic()
        try:
            self.writer.check()
        except DatabaseUnavailable as error:
            self._lost(error)

    def _lost(self, error: DatabaseUnavailable) -> None:
        self.connected, self.error = False, str(error)
        logging.warning("the database went away: %s", error)

    def write(self) -> None:
        """Write what is pending, in one transaction."""
        self.heard_at = self.monotonic()
        try:
            self.writer.commit()
            self.stored += self.rows
        except DatabaseUnavailable as error:
            self._lost(error)
        except NotContiguous as error:
            raise Refused(str(error)) from None
        self.pending, self.rows = False, 0

    def wait(self) -> None:
        """Wait before the database is tried again, and keep an eye on how much waits for it."""
        until = self.monotonic() + RETRY_SECONDS
        while (left := until - self.monotonic()) > 0:
            self.sources.live.poll(round(left * 1000) + 1)
            self.sources.note()

    def check_history(self, now: float) -> None:
        """Refuse to go on where the database has more of an asset than its event log: they are not of one history."""
        stream = self.sources.lost_end(now)
        if stream is not None:
            raise Refused(
                f"the database has requests of {stream.asset} up to {stream.sequence}, and its event log ends with "
                f"{stream.sender_last}: they are of different histories; restore the data folder that belongs to the "
                "database, or give this exchange another, empty, database (database.dsn)"
            )

    def stored_up_to(self, asset: str) -> int:
        """Return the last request of an asset that is stored, 0 where that is none, or the database is away."""
        place = self.writer.applied().get(asset) if self.connected else None
        return place.sequence if place is not None else 0

    def applied(self) -> dict[str, int]:
        """Return the last request of each asset that is stored, as of when the database was there last."""
        if self.connected:
            self.last_applied = {asset: place.sequence for asset, place in self.writer.applied().items()}
        return {asset: self.last_applied.get(asset, 0) for asset in self.sources.receivers}


def report(page: StatusPage, storage: Storage) -> None:
    """Say on the status page what has been stored, and what waits."""
    applied = storage.applied()
    page.write(
        "running" if storage.connected else f"waiting for the database: {storage.error}",
        applied,
        {asset: max(0, receiver.last - applied[asset]) for asset, receiver in storage.sources.receivers.items()},
        rows=storage.stored,
    )


if __name__ == "__main__":
    run("logger", main)
