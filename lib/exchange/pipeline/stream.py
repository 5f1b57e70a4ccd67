"""Sequenced streams: what makes an arrow of the pipeline lossless, whatever is killed on either end.

PUSH and PUB lose messages when a process dies or a queue is full. So a stream's messages carry sequence numbers per
asset, 1, 2, 3, ...; its sender has the stream on disk, says in every message (a heartbeat, where there is no other)
what its last sequence is, and sends any part of it again when asked. The receiver drops what it has seen and asks for
what it misses. The class here decides; it knows no socket and no clock. What a sender has on disk: `log_index.py`.
"""

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from exchange.pipeline.codec import Replay, encode

RETRY_SECONDS = 1.0  # after which a replay that was not answered is asked for again, or
LONGEST_RETRY_SECONDS = 8.0  # at most, over a link that is slow
HEARTBEAT_SECONDS = 0.25
LOST_END_SECONDS = 10.0  # for which a sender may have less than its receiver: it may be making its end again


class Sequenced(Protocol):
    """A record with its place in its asset's stream."""

    @property
    def sequence(self) -> int: ...


T = TypeVar("T", bound=Sequenced)


class Receiver(Generic[T]):
    """The receiving end of one asset's stream: gives each record once and in order, and says what to ask for.

    `sequence` is the last one given, `last` the last one that the sender is known to have on disk.
    """

    __slots__ = (
        "ahead_since",
        "asked_at",
        "asked_first",
        "asset",
        "known",
        "last",
        "patience",
        "sender_last",
        "sequence",
    )

    def __init__(self, asset: str, sequence: int = 0) -> None:
        self.asset = asset
        self.sequence = sequence
        self.last = sequence
        self.sender_last = 0  # what the sender's latest message said; less than `sequence` where it has lost its end
        self.known = False  # whether the sender has said anything yet
        self.ahead_since: float | None = None  # since when the sender has had less than was received
        self.asked_at: float | None = None  # when a replay was asked for that is not answered yet
        self.asked_first: float | None = None  # when it, or the one before it, was asked for for the first time
        self.patience = RETRY_SECONDS

    def receive(self, last: int, records: Sequence[T]) -> Sequence[T]:
        """Take a stream message and return those of its records that are next. The rest is a repetition, or ahead."""
        self.known = True
        self.sender_last = last
        if last > self.last:
            self.last = last
        if not records:
            return records
        first = records[0].sequence
        due = self.sequence + 1
        if first > due or first + len(records) <= due:
            return ()
        fresh = records[due - first :] if first < due else records
        self.sequence = fresh[-1].sequence
        return fresh

    def replayed(self, last: int, records: Sequence[T]) -> Sequence[T]:
        """Take the answer to a replay and return those of its records that are next.

        One that brings nothing new (a second answer to the same question, or of a sender that has not got it yet) does
        not count as the answer: what is missing is asked for again a second after it was, not at once.
        """
        fresh = self.receive(last, records)
        if fresh:
            self.asked_at = None
        return fresh

    def lost_end(self, now: float) -> bool:
        """Return whether the sender has said for some time that it has less than it once gave (`now` in seconds)."""
        if not self.known or self.sequence <= self.sender_last:
            self.ahead_since = None
        elif self.ahead_since is None:
            self.ahead_since = now
        return self.ahead_since is not None and now - self.ahead_since > LOST_END_SECONDS

    def request(self, now: float) -> bytes | None:
        """Return the replay to ask the sender for at the time `now` (seconds), None where there is nothing to ask.

        The answer to the one before says how long to wait before it is asked for again: over a slow link, where an
        answer takes longer than a second, the same would else be sent again and again, and take the room of the next.
        """
        if self.known and self.last <= self.sequence:
            self.asked_first = None
            return None
        if self.asked_at is None:
            took = 0.0 if self.asked_first is None else now - self.asked_first
            if took > LONGEST_RETRY_SECONDS:
                took = 0.0  # the sender was away
            self.patience = min(max(RETRY_SECONDS, 2 * took), LONGEST_RETRY_SECONDS)
            self.asked_first = now
        elif now - self.asked_at < self.patience:
            return None
        self.asked_at = now
        return encode(Replay(self.asset, self.sequence + 1))

    @property
    def behind(self) -> int:
        """How many records the sender has that this end has not."""
        return self.last - self.sequence
