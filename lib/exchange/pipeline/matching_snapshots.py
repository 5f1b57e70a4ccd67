"""A matching daemon's snapshots: what it starts from, and when the next one is taken.

A snapshot is of the event log's record `sequence`: its book and counters once that request was applied. It holds that
record's hash, and is of use only beside an event log that has the same record there. It is written by a copy of the
process, which first has the event log on disk up to there; the daemon itself goes on meanwhile.
"""

import hashlib
import logging
from math import inf
from pathlib import Path

import msgspec
from msgspec import Struct

from exchange.core.matching import Matching
from exchange.core.matching_state import VERSION, MatchingState, StateVersion, restore, state_of
from exchange.pipeline import codec
from exchange.pipeline.archive import archived_base
from exchange.pipeline.event_log import EventLog
from exchange.pipeline.log import Archived, Damaged
from exchange.pipeline.snapshots import Snapshots, Unusable
from exchange.pipeline.world import World

WORTH_ONE = 5_000  # requests since the last snapshot, from which a daemon that ends takes another
END_SECONDS = 10.0  # that a daemon which ends waits for one, at most

logger = logging.getLogger(__name__)


class MatchingSnapshot(Struct, frozen=True, array_like=True):
    """The body of a snapshot's file. `taken` is the system's time, in nanoseconds since the Unix epoch."""

    record_hash: bytes
    taken: int
    state: msgspec.Raw


class Taken(Struct, frozen=True):
    """Of which request a snapshot is, and when it was taken; zeros: there is none."""

    sequence: int = 0
    taken: int = 0


class MatchingSnapshots:
    """Finds the newest snapshot at a start, and takes one after every so many requests."""

    def __init__(self, world: World, folder: Path, event_log: EventLog, requests: int, seconds: float = inf) -> None:
        """`folder` is the event log's; `requests` are those from one snapshot to the next.

        After so many seconds the next is due however few they were, if any: what is older may be archived then.
        """
        self.world = world
        self.folder = folder
        self.snapshots = Snapshots(world.disk, folder / "snapshots")
        self.event_log = event_log
        self.requests = requests
        self.seconds = seconds
        self.begun_at = world.monotonic()  # when the last was begun, or this process
        self.newest = Taken()  # what is on disk
        self.begun = Taken()  # the last that was begun, now or before

    # -- at a start ----------------------------------------------------------------------------------------------------

    def start(self) -> Matching:
        """Return the asset's matching as of the newest snapshot of use, or one that has not begun where there is none.

        Each that is passed over is logged, with the reason.
        """
        for sequence, body in self.snapshots.load():
            try:
                snapshot, state = self._decode(sequence, body)
            except Unusable as error:
                logger.warning("%s: the snapshot of request %d is passed over: %s", self.folder, sequence, error)
                continue
            self.newest = self.begun = Taken(sequence, snapshot.taken)
            orders = sum(map(len, (state.buys, state.sells, state.buy_stops, state.sell_stops)))
            logger.info("%s: going on from the snapshot of request %d, %d orders", self.folder, sequence, orders)
            return restore(state)
        return Matching()

    def _decode(self, sequence: int, body: bytes) -> tuple[MatchingSnapshot, MatchingState]:
        """Return what a snapshot holds. Raises Unusable."""
        last = self.event_log.index.last
        if sequence > last:
            raise Unusable(f"the event log ends with request {last}")
        try:
            snapshot = _decode_snapshot(body)
            version = _decode_version(snapshot.state).version
            if version > VERSION:
                raise Unusable(f"its state has version {version}, and this program reads up to {VERSION}")
            state = _decode_state(snapshot.state)
        except codec.DecodeError as error:
            raise Unusable(f"it can't be decoded: {error}") from error
        if state.sequence != sequence:
            raise Unusable(f"it holds the state as of request {state.sequence}")
        if snapshot.record_hash != _hash(self._logged(sequence)):
            raise Unusable("the event log has another record there: it is of another history")
        return snapshot, state

    def _logged(self, sequence: int) -> bytes:
        """Return the event log's record. Raises Unusable."""
        try:
            return self.event_log.read(sequence)
        except Archived as error:
            raise Unusable(str(error)) from error
        except Damaged as error:
            self.drop_damaged(sequence, error)
            raise Unusable(f"{error}; dropped it and what follows, to be made again") from error

    def drop_damaged(self, sequence: int, error: Damaged) -> None:
        """Cut the event log off before a record that is damaged, to be made again from what was before it.

        Raises the error where there may be nothing before it: where logs have been archived, and no snapshot is as old.
        """
        older = any(each < sequence for each in self.snapshots.sequences())
        if archived_base(self.world.disk, self.folder) and not older:
            raise error
        self.event_log.drop_from(sequence)

    # -- while it runs -------------------------------------------------------------------------------------------------

    def take_if_due(self, matching: Matching) -> None:
        """Begin a snapshot where enough has been applied since the last. To be called when all of that is logged."""
        requests = matching.sequence - self.begun.sequence
        if requests >= self.requests or (requests > 0 and self.world.monotonic() - self.begun_at >= self.seconds):
            self._begin(matching)

    def take_last(self, matching: Matching) -> None:
        """Take a snapshot before the daemon ends, where that spares the next start enough; wait until it is there.

        In any case where the asset was delisted: it may be the last chance for one, and what is older than the newest
        can be archived.
        Not for longer than END_SECONDS: what is not done by then is given up.
        """
        requests = matching.sequence - self.begun.sequence
        if requests >= min(self.requests, WORTH_ONE) or (matching.delisted and requests > 0):
            self.world.wait_for_fork(END_SECONDS / 2)
            self._begin(matching)
        self.world.wait_for_fork(END_SECONDS / 2)

    def look(self) -> Taken:
        """Return the newest snapshot on disk. To be called now and then: it lets go of a copy that has ended."""
        begun = self.begun
        if (
            self.world.reap()
            and begun.sequence != self.newest.sequence
            and begun.sequence in self.snapshots.sequences()
        ):
            self.newest = begun
        return self.newest

    def _begin(self, matching: Matching) -> None:
        self.look()
        begun = Taken(matching.sequence, self.world.time_ns())
        if self.world.fork(f"snapshot of request {begun.sequence}", lambda: self._save(matching, begun)):
            self.begun_at = self.world.monotonic()
            self.begun = begun  # should it fail, the next is due as if it had not: no sooner

    def _save(self, matching: Matching, begun: Taken) -> None:
        self.event_log.sync()  # a snapshot that is ahead of it would be of no use
        state = msgspec.Raw(codec.encode(state_of(matching)))
        body = codec.encode(MatchingSnapshot(_hash(self.event_log.read(begun.sequence)), begun.taken, state))
        self.snapshots.save(begun.sequence, body)


def _hash(record: bytes) -> bytes:
    return hashlib.sha256(record).digest()


_decode_snapshot = msgspec.msgpack.Decoder(MatchingSnapshot).decode
_decode_version = msgspec.msgpack.Decoder(StateVersion).decode
_decode_state = msgspec.msgpack.Decoder(MatchingState).decode
