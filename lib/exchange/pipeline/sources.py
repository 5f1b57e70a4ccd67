"""The matching daemons' event streams, as the logger and the notifier receive them: every record once, in order."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import zmq

from exchange.config import Config
from exchange.core.events import EventRecord
from exchange.pipeline import codec, sockets
from exchange.pipeline.sockets import Transport
from exchange.pipeline.stream import Receiver

DRAIN = 100  # messages taken from a socket before the others get their turn


class EventSources:
    """One subscription to all assets' events, and a socket to each matching daemon to ask for what is missing."""

    def __init__(self, transport: Transport, config: Config, applied: Mapping[str, int] | None = None) -> None:
        """Follow the configured assets, each after the last sequence that has been applied."""
        self.transport = transport
        self.config = config
        self.receivers: dict[str, Receiver[EventRecord]] = {}
        self.live = transport.subscriber(())
        self.replays: dict[str, zmq.Socket[bytes]] = {}
        for asset in config.assets:
            self.add(asset.asset, (applied or {}).get(asset.asset, 0))

    def add(self, asset: str, applied: int = 0) -> zmq.Socket[bytes]:
        """Follow another asset after the last sequence that has been applied. Returns the socket to wait for as well.

        The other assets' streams go on as they were.
        """
        self.receivers[asset] = Receiver(asset, applied)
        sockets.add_endpoint(self.live, self.config.events_endpoint(asset))
        self.replays[asset] = replays = self.transport.dealer(self.config.event_log_endpoint(asset))
        return replays

    def sockets(self) -> Iterable[zmq.Socket[bytes]]:
        """Yield the sockets to wait for."""
        yield self.live
        yield from self.replays.values()

    def resume(self, applied: dict[str, int]) -> None:
        """Go on, for each asset, after the last sequence that has been applied; what came since is given again."""
        for asset in self.receivers:
            self.receivers[asset] = Receiver(asset, applied.get(asset, 0))

    def restart(self, asset: str) -> None:
        """Have one asset's records given again from the first on."""
        self.receivers[asset] = Receiver(asset)

    def receive(self, limit: int = DRAIN) -> Iterator[tuple[str, Sequence[EventRecord]]]:
        """Yield the records that have arrived, by asset and in order, from `limit` messages of each socket at most.

        The caller may stop at any time; what it has not been given stays in the sockets.
        """
        for payload in sockets.drain(self.live, limit):
            asset, last, records = codec.decode_event_stream(payload)
            receiver = self.receivers.get(asset)
            if receiver is not None and (fresh := receiver.receive(last, records)):
                yield asset, fresh
        for asset, socket in self.replays.items():
            for payload in sockets.drain(socket, limit):
                _, last, records = codec.decode_event_stream(payload)
                if fresh := self.receivers[asset].replayed(last, records):
                    yield asset, fresh

    def ask(self, now: float) -> None:
        """Ask for what is missing, if anything is."""
        for asset, receiver in self.receivers.items():
            request = receiver.request(now)
            if request is not None:
                sockets.try_send(self.replays[asset], request)

    def note(self) -> None:
        """Read only how far the matching daemons are, and drop what they send: it will be asked for again."""
        for payload in sockets.drain(self.live, DRAIN):
            asset, last = codec.decode_stream_place(payload)
            if asset in self.receivers:
                self.receivers[asset].receive(last, ())

    def lost_end(self, now: float) -> Receiver[EventRecord] | None:
        """Return a stream of which more was received than its sender has (see Receiver.lost_end), if there is one."""
        return next((receiver for receiver in self.receivers.values() if receiver.lost_end(now)), None)

    @property
    def processed(self) -> dict[str, int]:
        return {asset: receiver.sequence for asset, receiver in self.receivers.items()}

    @property
    def behind(self) -> dict[str, int]:
        return {asset: receiver.behind for asset, receiver in self.receivers.items()}
