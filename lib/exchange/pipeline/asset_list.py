"""Which assets the configuration has, as a daemon sees it that runs on while assets are added."""

import logging
from pathlib import Path

from exchange import config as configuration
from exchange.config import Config, ConfigError
from exchange.core.asset import Asset

CHECK_SECONDS = 1.0

logger = logging.getLogger(__name__)


class AssetList:
    """Notices assets that `assets.toml` gets while a daemon runs: it looks once a second whether the file has changed.

    One that is taken off the list is no news: what a daemon has for it stays until its next start.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.file = config.folder / "assets.toml"
        self.known = {asset.asset for asset in config.assets}
        self.looked_at = float("-inf")
        # What is new since the configuration was read, a moment ago, is found at the first look.
        self.version: tuple[int, ...] | None = None

    def added(self, now: float) -> list[Asset]:
        """Return the assets that are new since the last call; at most one look a second (`now` in seconds).

        While the configuration has mistakes nothing is new, and the log says which they are.
        """
        if now - self.looked_at < CHECK_SECONDS:
            return []
        self.looked_at = now
        version = _version(self.file)
        if version is None or version == self.version:
            return []
        self.version = version
        try:
            read = configuration.load(self.config.folder, self.config.data)
        except ConfigError as error:
            logger.warning("the configuration can't be read again, so what is new in it is not taken up: %s", error)
            return []
        new = [asset for asset in read.assets if asset.asset not in self.known]
        self.known.update(asset.asset for asset in new)
        for asset in new:
            if read.hosts.needs_ports(asset.asset):
                logger.warning("%s: is of another host, and is followed from the next start on", asset.asset)
        return [asset for asset in new if not read.hosts.needs_ports(asset.asset)]


def _version(file: Path) -> tuple[int, ...] | None:
    """Return what tells one version of a file from another, None where there is no file at the moment."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
