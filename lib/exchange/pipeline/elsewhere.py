"""Matching daemons on other hosts, as the order handler knows them: by what they say, since it can't read their files.

Of those on its own host it reads at its start how much they have logged: a journal that has less has lost its end, and
is refused before anything of it is touched. Of those elsewhere that has to be heard. So a start listens for a while
before it opens the journal. Of an asset that was not heard of until then, nothing is sent out and no request is taken
until it is: a journal without its end would give the lost places to other requests.
"""

import logging
from collections.abc import Callable, Mapping

import zmq

from exchange.config import Config
from exchange.pipeline import codec, sockets
from exchange.pipeline.daemon import Refused
from exchange.pipeline.sockets import Transport

HEAR_SECONDS = 2.0  # at a start, for matching daemons on other hosts: they speak four times a second
SILENT_SECONDS = 5.0  # after which the status page says so
DRAIN = 100

logger = logging.getLogger(__name__)


class Elsewhere:
    """What is known of the assets whose matching daemons are on other hosts; of others it has no opinion.

    `socket` is the ROUTER to which all matching daemons speak.
    """

    def __init__(self, config: Config, transport: Transport, monotonic: Callable[[], float]) -> None:
        names = [asset.asset for asset in config.assets]
        self.config = config
        self.hosts = {name: host for name in names if (host := config.hosts.of_asset(name)) != config.hosts.here}
        self.transport = transport
        self.socket = transport.router(config.journal_endpoint)
        self.monotonic = monotonic
        self.since = monotonic()
        self.heard_at: dict[str, float] = {}
        self.unheard: dict[str, int] = {}  # assets not heard of yet, each with what the journal had of it at the start

    def hear(self, seconds: float = HEAR_SECONDS) -> dict[str, int]:
        """Listen until all assets have been heard of, `seconds` at most, and return what each has logged.

        What else is said meanwhile is dropped: it will be said again.
        """
        logged: dict[str, int] = {}
        until = self.monotonic() + seconds
        poller = self.transport.poller()
        poller.register(self.socket, zmq.POLLIN)
        while (left := until - self.monotonic()) > 0 and len(logged) < len(self.hosts):
            poller.poll(round(left * 1000) + 1)
            for _, payload in sockets.drain_router(self.socket, DRAIN):
                control = None if payload is None else read_control(payload)
                if isinstance(control, codec.Progress) and control.asset in self.hosts:
                    logged[control.asset] = _logged(control)
                    self.heard_at[control.asset] = self.monotonic()
        for asset in self.hosts.keys() - logged.keys():
            logger.warning(
                "%s: its matching daemon, on host %s, has not been heard of: requests for it are answered busy until "
                "it is",
                asset,
                self.hosts[asset],
            )
        return logged

    def hold(self, last: Mapping[str, int]) -> None:
        """Hold the assets not heard of so far. `last` is what the journal has of each asset, as it was opened."""
        self.unheard = {asset: last.get(asset, 0) for asset in self.hosts if asset not in self.heard_at}

    def note(self, control: codec.Control, last: Callable[[str], int]) -> bool:
        """Note that a matching daemon has spoken; return False where it is not to be answered yet.

        `last` gives what the journal has of an asset. Raises Refused where that is less than was logged.
        """
        asset = control.asset
        if asset not in self.hosts:
            return True
        self.heard_at[asset] = self.monotonic()
        if not isinstance(control, codec.Progress):
            return asset not in self.unheard
        known = self.unheard.get(asset, -1)
        if known < 0:
            known = last(asset)
        if _logged(control) > known:
            raise Refused(
                f"{self.config.journal_folder}: the journal ends with request {known} of {asset}, and its matching "
                f"daemon, on host {self.hosts[asset]}, has request {_logged(control)}: the journal's end was lost; "
                "stop the exchange and restore the journal from a copy"
            )
        if asset in self.unheard:
            logger.info("%s: its matching daemon, on host %s, is heard of", asset, self.hosts[asset])
            del self.unheard[asset]
        return True

    def silent(self) -> dict[str, float]:
        """Return for how many seconds each matching daemon that has been silent for long has been so."""
        now = self.monotonic()
        found = {asset: now - self.heard_at.get(asset, self.since) for asset in self.hosts}
        return {asset: seconds for asset, seconds in found.items() if seconds >= SILENT_SECONDS}

    def seconds(self) -> dict[str, float]:
        """Return how long ago each was heard of, those not heard of yet left out."""
        now = self.monotonic()
        return {asset: round(now - at, 1) for asset, at in self.heard_at.items()}


def read_control(payload: bytes) -> codec.Control | None:
    """Return what a daemon says; None, and a line in the log, where that can't be read."""
    try:
        control: codec.Control = codec.decode_control(payload)
    except codec.DecodeError as error:
        logger.warning("a message that no daemon sends: %s", error)
        return None
    return control


def _logged(control: codec.Progress) -> int:
    return max(control.logged, control.sequence)
