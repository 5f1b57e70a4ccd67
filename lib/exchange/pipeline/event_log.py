"""An asset's event log: what came of each request, in order, written once and read by everybody downstream."""

import logging
from collections.abc import Sequence
from pathlib import Path

from exchange.pipeline import codec
from exchange.pipeline.archive import archived_base
from exchange.pipeline.log import READ_BYTES, SEGMENT_HEADER_BYTES, Damaged, Log, segment_name
from exchange.pipeline.log_format import parse_alone
from exchange.pipeline.log_index import Indexes
from exchange.pipeline.seals import Draft, Seal, read_part
from exchange.pipeline.world import World

logger = logging.getLogger(__name__)


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
        self.kept_from = 0  # the position before which segments were archived
        self.foreign: tuple[int, str] | None = None  # the first record that is of another log: where, and what it is

    def open(self) -> None:
        """Read what is not sealed; what a crash left unfinished at the end is cut off, and will be made again.

        So are records of another log, whose file was put there, and what follows them; but where segments were archived
        they may be needed to make it again, and so it raises Damaged, changing nothing.
        """
        self.kept_from = archived_base(self.world.disk, self.folder)
        self.log.scan(self._note, self._load)
        if self.log.dropped and self.foreign is None and self.kept_from:
            self._look_at_dropped(self.log.dropped[0])
        if self.foreign is not None:
            position, text = self.foreign
            if self.kept_from:
                raise Damaged(
                    f"{text}; segments before it were archived, so it may not be possible to make it again: put "
                    f"{self.asset}'s file of that name back from a copy, or remove this one"
                )
            logger.warning("%s; dropped it and what follows, to be made again", text)
            self._drop_from(position)
            return
        self.log.start_writing()
        self._seal()

    def _note(self, position: int, body: bytes) -> None:
        """Note where a record is that was read at the start."""
        if self.foreign is None:
            self._check(position, body)
        if self.foreign is None:
            self.index.add(position - self.log.base)

    def _check(self, position: int, body: bytes) -> None:
        """Note that the log is another's from here on, if the next record is not this log's next."""
        text = self._other(body, self.index.last + 1)
        if text:
            path = self.folder / segment_name(self.log.base)
            self.foreign = position, f"{path}: offset {position - self.log.base}: {text}"

    def _other(self, body: bytes, due: int = 0) -> str:
        """Return what a record is where it is not of this asset, or not the one that is due; else nothing."""
        try:
            place = codec.decode_event_place(body)
        except codec.DecodeError as error:
            return f"no event record of {self.asset}: {error}"
        if place.asset != self.asset or due not in (0, place.sequence):
            return f"record {place.sequence} of {place.asset}, and {due or 'one'} of {self.asset} is due"
        return ""

    def _load(self, seal: Seal) -> bool:
        """Take what a seal says of its segment; return whether it is the seal of this log's next one."""
        if self.foreign is not None:
            return True  # all of it is dropped
        if [stream.name for stream in seal.streams] != [self.asset]:
            logger.warning("%s: the seal is of another log; the segment is read", seal.path)
            return False
        if seal.base >= self.kept_from and not self.indexes.proves(seal, seal.streams[0]):
            return False
        return self.indexes.load(seal)

    def _look_at_dropped(self, base: int) -> None:
        """See whether a segment that does not continue the one before is another asset's."""
        path = self.folder / segment_name(base)
        body = parse_alone(read_part(self.world.disk, path, SEGMENT_HEADER_BYTES, READ_BYTES), 0)
        if body is not None and (text := self._other(body)):
            self.foreign = base + SEGMENT_HEADER_BYTES, f"{path}: offset {SEGMENT_HEADER_BYTES}: {text}"

    def drop_from(self, sequence: int) -> None:
        """Take away the records from a sequence on, which are to be made again: one of them is damaged.

        There may be more damage before it: see then what `index.last` is.
        """
        try:
            position = self.index.position(sequence)
        except Damaged:  # its segment and the seal both are
            position = self.index.base_of(sequence) + SEGMENT_HEADER_BYTES
        self._drop_from(position)

    def _drop_from(self, position: int) -> None:
        self.log.drop_from(position)
        self._prepare()
        self.open()

    def append(self, body: bytes) -> None:
        """Buffer the next record. `write` must follow."""
        self.append_run((body,))

    def append_run(self, bodies: Sequence[bytes]) -> int:
        """Buffer the next records, one at least, as many as go to one segment; return how many. `write` must follow.

        Raises OSError, having buffered none, where the next segment can't be made.
        """
        count = self.log.append_run(bodies, self.index.add)
        if not count:
            offset = self.log.append(bodies[0]) - self.log.base  # begins the next segment, and so is before `index.add`
            self.index.add(offset)
            count = 1
        return count

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
