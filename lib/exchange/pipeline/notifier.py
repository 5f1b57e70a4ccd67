"""The notifier's work: fold the assets' events, publish what comes of them, keep it for queries and retransmission."""

import logging
from collections.abc import Callable, Sequence

import zmq

from exchange.config import Config
from exchange.core import messages
from exchange.core.events import EventRecord
from exchange.core.feed_notes import MAKERS, accounts_of, reports_of
from exchange.core.market_data import Feed
from exchange.pipeline.board import AssetBoard, proof_of
from exchange.pipeline.codec import encode
from exchange.pipeline.disk import Disk
from exchange.pipeline.fair_publisher import FairPublisher
from exchange.pipeline.notifier_snapshots import NotifierSnapshots
from exchange.pipeline.sources import EventSources
from exchange.pipeline.stream import LOST_END_SECONDS

HEARTBEAT_TOPIC = b"heartbeat/"
HEARTBEAT_SECONDS = 1.0
PATIENCE_SECONDS = 5.0  # after a start, for matching daemons that have not been heard of
TURN_SECONDS = 0.05  # of publishing, after which queries and heartbeats get their turn
AT_ONCE = 100  # notes that are made, about, before their messages are sent: to change from one to the other takes time
# Of one request, folded in and published at a time: what comes of more is never all in memory, nor in one page of what
# is kept, of which all is read for any message of it.
PART_EVENTS = 400

logger = logging.getLogger(__name__)


def logged_assets(disk: Disk, config: Config) -> frozenset[str]:
    """Return the assets that have an event log, traded now or not: of any other nothing has ever been published.

    Whether an asset of another host has one can't be seen from here; one of which something was kept here had one.
    """
    kept = disk.names(config.data / "notifier") if config.hosts else []
    elsewhere = [asset for asset in kept if not config.hosts.runs_matching(asset)]
    return frozenset([*disk.names(config.event_log_folder("")), *elsewhere])


class Notifier:
    """Publishes with two publishers, one for the public and one for the private topics."""

    def __init__(
        self,
        boards: dict[str, AssetBoard],
        sources: EventSources,
        public: FairPublisher,
        private: FairPublisher,
        monotonic: Callable[[], float],
        time_ns: Callable[[], int],
        snapshots: NotifierSnapshots | None = None,
    ) -> None:
        self.boards = boards
        self.added: dict[str, AssetBoard] = {}  # of assets that are new, until their matching daemons are heard of
        self.sources = sources
        self.public = public
        self.private = private
        self.published = 0
        self.monotonic = monotonic
        self.time_ns = time_ns
        self.snapshots = snapshots
        self.shorter: dict[
            str, tuple[int, float]
        ] = {}  # logs that end before a snapshot: their last sequence, and when
        self.started_at = monotonic()
        self.heartbeat_due = 0.0

    def add(self, board: AssetBoard, logged_before: bool) -> zmq.Socket[bytes]:
        """Take up another asset, as soon as its matching daemon is heard of; nobody waits for it until then.

        Unless it had an event log before this process started, all of it is published, however late it is heard of.
        (The time of its first record would not tell: a clock that is set by hand shows any.) Returns the socket to wait
        for as well.
        """
        asset = board.feed.asset
        if not logged_before:
            board.live_from = 0
        self.added[asset] = board
        return self.sources.add(asset, board.wanted)

    def serve_events(self) -> None:
        """Publish what the matching daemons have sent, up to a turn's worth; queries and heartbeats come in between."""
        until = self.monotonic() + TURN_SECONDS
        for asset, records in self.sources.receive():
            if asset in self.added:
                self.boards[asset] = self.added.pop(asset)
            self.publish(self.boards[asset], records)
            if self.monotonic() > until:
                return

    def serve_subscribers(self) -> None:
        """Take note of who came, went, and subscribed to what."""
        self.public.serve()
        self.private.serve()

    def publish(self, board: AssetBoard, records: Sequence[EventRecord]) -> None:
        """Fold records in and publish their messages, unless they are of before the start.

        What was published before a start is not published again: who missed it sees a gap and asks for it.
        """
        if board.live_from is None:
            board.live_from = self.sources.receivers[board.feed.asset].last
        if board.proof is not None:
            if proof_of(records[0]) != board.proof:
                self._rebuild(board, "its event log has another record there: it is of another history")
                return
            board.proof, board.last = None, records[0]
            records = records[1:]
        feed, live_from = board.feed, board.live_from
        apply, notes = feed.apply, feed.notes
        live = bool(records) and records[0].sequence > live_from
        for record in records:
            if not live and record.sequence > live_from:
                self._publish(board, False)
                live = True
            if len(record.events) > PART_EVENTS:
                for _ in feed.apply_in_parts(record, PART_EVENTS):
                    self._publish(board, live)
                    if live:
                        self.heartbeat()
            else:
                apply(record)
                if len(notes) >= AT_ONCE:
                    self._publish(board, live)
        self._publish(board, live)
        if records:
            board.last = records[-1]
            if self.snapshots is not None:
                self.snapshots.take_if_due(board)

    def check_restored(self, now: float) -> None:
        """Rebuild what was restored from a snapshot that its event log stays behind of. `now` in seconds.

        After a power failure a log may be shorter for a while: its matching daemon makes the end again.
        """
        for asset, board in self.boards.items():
            if board.proof is None:
                continue
            receiver = self.sources.receivers[asset]
            last = receiver.sender_last
            if not receiver.known or last >= board.feed.sequence:
                self.shorter.pop(asset, None)
            elif self.shorter.setdefault(asset, (last, now))[0] != last:
                self.shorter[asset] = (last, now)
            elif now - self.shorter[asset][1] > LOST_END_SECONDS:
                del self.shorter[asset]
                self._rebuild(board, f"its event log ends with request {last}")

    def _rebuild(self, board: AssetBoard, reason: str) -> None:
        """Drop what a board was restored from, and fold its events from the first on."""
        asset = board.feed.asset
        logger.warning(
            "%s: the snapshot of request %d is of no use, rebuilding from the first request on: %s",
            asset,
            board.feed.sequence,
            reason,
        )
        assert self.snapshots is not None
        self.snapshots.forget(board)
        board.begin_anew()
        self.sources.restart(asset)

    def _publish(self, board: AssetBoard, live: bool) -> None:
        """Publish what the feed has noted, as far as somebody follows it, and have the board keep it."""
        feed = board.feed
        if not feed.notes:
            return
        if live:
            self._publish_public(feed)
            self._publish_private(feed)
        count = board.take()
        if live:
            self.published += count

    def _publish_public(self, feed: Feed) -> None:
        asset, follows = feed.asset, self.public.follows
        wanted = [(frame, makers) for name, makers in MAKERS.items() if follows(frame := feed.topics[name].frame)]
        if not wanted:
            return
        frames: list[bytes] = []
        payloads: list[bytes] = []
        for note in feed.notes:
            kind = type(note)
            for frame, makers in wanted:
                make = makers.get(kind)
                if make is not None and (message := make(asset, note)) is not None:
                    frames.append(frame)
                    payloads.append(encode(message))
        self.public.send_all(frames, payloads)

    def _publish_private(self, feed: Feed) -> None:
        if not self.private.followed:
            return
        asset, topics, follows = feed.asset, feed.reports.topics, self.private.follows
        frames: list[bytes] = []
        payloads: list[bytes] = []
        for note in feed.notes:
            if any(follows(topics[account].frame) for account in accounts_of(note)):
                for report in reports_of(asset, note):
                    if follows(frame := topics[report.account].frame):
                        frames.append(frame)
                        payloads.append(encode(report))
        self.private.send_all(frames, payloads)

    def heartbeat(self) -> None:
        """Publish the public topics' last numbers, where that is due."""
        now = self.monotonic()
        if now < self.heartbeat_due:
            return
        self.heartbeat_due = now + HEARTBEAT_SECONDS
        message = messages.Heartbeat(self.time_ns(), self.public_sequences())
        self.public.send(HEARTBEAT_TOPIC, encode(message))

    def public_sequences(self) -> dict[str, int]:
        """Return the last number of each public topic, but for those of assets that are being rebuilt."""
        return {
            topic.name: topic.sequence
            for board in self.boards.values()
            if not board.rebuilding
            for topic in board.feed.topics.values()
        }

    def private_sequences(self, account: str) -> dict[str, int]:
        """Return the last number of each of an account's topics, but for those of assets that are being rebuilt."""
        return {
            topic.name: topic.sequence
            for board in self.boards.values()
            if not board.rebuilding and (topic := board.feed.reports.topics.get(account)) is not None
        }

    def soon_rebuilt(self, now: float) -> bool:
        """Return whether what is still to be rebuilt is under way, or may be in a moment.

        Otherwise the matching daemons of what is left are away, for who knows how long.
        """
        unheard_of = any(board.live_from is None for board in self.boards.values())
        under_way = any(board.live_from is not None and board.rebuilding for board in self.boards.values())
        return under_way or (unheard_of and now - self.started_at < PATIENCE_SECONDS)

    @property
    def folded(self) -> dict[str, int]:
        """How many requests of each asset were folded in since the start."""
        return {asset: board.feed.sequence - board.started_from for asset, board in self.boards.items()}

    @property
    def catching_up(self) -> bool:
        """Whether some asset's events of before the start are still being folded in."""
        return any(board.rebuilding for board in self.boards.values())
