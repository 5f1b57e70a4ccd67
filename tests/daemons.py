"""All daemons of an exchange as real processes, each started again when it has ended, as supervisord would."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exchange.config import Config
from exchange.store.embedded import database_dsn
from tests.support import Daemon, running, write_config


class Daemons:
    """Order handler, a matching daemon for each asset, logger, notifier, and the embedded database.

    `extra` is added to `exchange.toml`; where it gives a DSN, there is no embedded database.
    """

    def __init__(self, folder: Path, assets: str, extra: str = "") -> None:
        self.config: Config = write_config(folder, assets, extra)
        self.order_handler = Daemon(self.config, "order_handler")
        self.matching = {asset.asset: Daemon(self.config, "matching", asset.asset) for asset in self.config.assets}
        self.logger = Daemon(self.config, "logger")
        self.notifier = Daemon(self.config, "notifier")
        self.all = [self.order_handler, *self.matching.values(), self.logger, self.notifier]
        if not self.config.database.dsn:
            self.all.append(Daemon(self.config, "postgres"))

    def replace(self, daemon: Daemon, other: Daemon) -> None:
        """Have another process in an order handler's or a matching daemon's place, before it is started."""
        self.all[self.all.index(daemon)] = other
        if daemon is self.order_handler:
            self.order_handler = other
        self.matching = {asset: other if each is daemon else each for asset, each in self.matching.items()}

    @property
    def dsn(self) -> str:
        return database_dsn(self.config)

    @contextmanager
    def running(self) -> Iterator[None]:
        with running(*self.all):
            yield

    def start_again(self) -> None:
        for daemon in self.all:
            if not daemon.alive:
                daemon.start()

    def stop(self) -> None:
        """End every daemon in the proper way; each must end in peace."""
        for daemon in self.all:
            daemon.signal(signal.SIGINT if daemon.arguments == ("postgres",) else signal.SIGTERM)
        for daemon in self.all:
            assert daemon.wait(60) == 0, f"{daemon.arguments}: {daemon.output()[-4000:]}"

    def explain(self) -> str:
        return "\n".join(f"--- {daemon.arguments}\n{daemon.output()[-3000:]}" for daemon in self.all)


def name_of(daemon: Daemon) -> str:
    """Return a daemon's name as supervisord has it, such as matching-ACME."""
    return "-".join(daemon.arguments)
