"""An asset's event log: what came of each request, in order, written once and read by everybody downstream."""

from pathlib import Path

from exchange.pipeline.log import Log
from exchange.pipeline.stream import Index
from exchange.pipeline.world import World


class EventLog:
    """An asset's event log: a function of its part of the journal, kept so that nobody has to compute it again."""

    def __init__(self, world: World, folder: Path, asset: str, segment_bytes: int) -> None:
        self.log = Log(folder, segment_bytes, durable=False)
        self.index = Index(asset)
        self.last_body = b""

    def open(self) -> None:
        """Read what is there; what a crash left unfinished at the end is cut off, and will be made again."""
        self.log.scan(self._on_record)
        self.log.start_writing()

    def _on_record(self, position: int, body: bytes) -> None:
        self.index.add(position)
        self.last_body = body

    def append(self, body: bytes) -> None:
        """Buffer the next record. `write` must follow."""
        self.index.add(self.log.append(body))

    def write(self) -> None:
        self.log.write()

    def replay(self, sequence: int) -> bytes:
        """Return a stream message of the records from a sequence on, as many as one message carries."""
        return self.index.replay(self.log, sequence)

    def close(self) -> None:
        self.log.close()
