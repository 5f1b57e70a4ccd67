"""An asset's event log: what came of each request, in order, written once and read by everybody downstream."""

from pathlib import Path

from exchange.pipeline.log import SEGMENT_HEADER_BYTES, Damaged, Log
from exchange.pipeline.log_index import Indexes
from exchange.pipeline.seals import Draft
from exchange.pipeline.world import World


class EventLog:
    """An asset's event log: a function of its part of the journal, kept so that nobody has to compute it again.

    `index.last` is the last record's sequence. To be tended now and then.
    """

    def __init__(self, world: World, folder: Path, asset: str, segment_bytes: int) -> None:
        self.world = world
        self.folder = folder
        self.asset = asset
        self.segment_bytes = segment_bytes
        self._prepare()

    def _prepare(self) -> None:
        self.log = Log(self.world, self.folder, self.segment_bytes, durable=False)
        self.indexes = Indexes(self.log, lambda body: (self.asset,))
        self.index = self.indexes.of(self.asset)

    def open(self) -> None:
        """Read what is not sealed; what a crash left unfinished at the end is cut off, and will be made again."""
        self.log.scan(lambda position, _: self.index.add(position - self.log.base), self.indexes.load)
        self.log.start_writing()
        self._seal()

    def drop_from(self, sequence: int) -> None:
        """Take away the records from a sequence on, which are to be made again: one of them is damaged.

        There may be more damage before it: see then what `index.last` is.
        """
        try:
            position = self.index.position(sequence)
        except Damaged:  # its segment and the seal both are
            position = self.index.base_of(sequence) + SEGMENT_HEADER_BYTES
        self.log.drop_from(position)
        self._prepare()
        self.open()

    def append(self, body: bytes) -> None:
        """Buffer the next record. `write` must follow."""
        offset = self.log.append(body) - self.log.base
        self.index.add(offset)

    def write(self) -> None:
        """Write what was appended. After an OSError all of it is still to be written, and may be tried again."""
        self.log.write()
        if self.log.filled:
            self._seal()

    def _seal(self) -> None:
        for segment in self.log.filled:
            self.log.sealer.add(Draft(segment, self.indexes.streams_in(segment)))
        self.log.filled.clear()
        self.indexes.sealed(self.log.sealer.finished())

    def tend(self, now: float) -> None:
        """Let go of what has been sealed; try again to seal what could not be. `now` in seconds."""
        self.indexes.sealed(self.log.tend(now))

    def sync(self) -> None:
        """Return when all that is written is on disk."""
        self.log.sync_all()

    def read(self, sequence: int) -> bytes:
        """Return a record by its sequence. Raises IndexError, Damaged, Archived."""
        return self.log.read(self.index.position(sequence))

    @property
    def last_body(self) -> bytes:
        """The last record, empty where there is none."""
        return self.read(self.index.last) if self.index.last else b""

    def replay(self, sequence: int) -> bytes:
        """Return a stream message of the records from a sequence on, as many as one message carries.

        Raises Damaged, with the sequence, where the first of them is: `drop_from` it, and make it again. Raises
        Archived where it was moved away.
        """
        return self.index.replay(sequence)

    def close(self) -> None:
        self.log.close()
