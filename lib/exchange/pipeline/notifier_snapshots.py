"""The notifier's snapshots: what it starts from, asset by asset, so that it need not fold every event again.

A snapshot is of a board once the request `sequence` was folded in and its messages were kept: the feed, the orders that
ended of late, the last trades, and the message store's place. It holds what came of that request too: a board restored
from it is gone on with only when the event log is heard to have the same there.
"""

import logging
import zlib
from collections.abc import Iterable, Sequence
from math import inf
from pathlib import Path

import msgspec
from msgspec import Struct

from exchange.core.feed_notes import Party, Traded
from exchange.core.feed_state import FeedState, FormerState, OtherVersion, converted, restore, state_of
from exchange.core.messages import ExecutionReport, Trade
from exchange.core.requests import SIDES
from exchange.pipeline.board import AssetBoard, Proof, proof_of
from exchange.pipeline.codec import DecodeError, encode
from exchange.pipeline.message_chunk import ChunkPlace
from exchange.pipeline.message_store import NOTHING
from exchange.pipeline.snapshots import SUFFIX, Snapshots
from exchange.pipeline.world import World

VERSION = 2
FORMER_VERSION = 1  # which has messages in the place of notes
COMPRESSION = 0  # none: a third of the bytes would take longer than all the rest of a snapshot
WORTH_ONE = 50_000  # requests since the last snapshot, from which a notifier that ends takes another
NO_PLACE = ChunkPlace(1, 0, 0, 0, 0, list(NOTHING))
END_SECONDS = 10.0  # that a notifier which ends waits for its snapshots, at most

logger = logging.getLogger(__name__)


class BoardSnapshot(Struct, frozen=True, array_like=True):
    """The body of a snapshot's file, within a stream of zlib's."""

    version: int
    proof: Proof
    place: ChunkPlace
    trades: Sequence[Traded]
    state: FeedState


class FormerSnapshot(Struct, frozen=True, array_like=True):
    """A snapshot of FORMER_VERSION, with messages in the place of notes."""

    version: int
    proof: Proof
    place: msgspec.Raw
    trades: Sequence[bytes]
    state: FormerState


class _Version(Struct, frozen=True, array_like=True):
    version: int


_decode_version = msgspec.msgpack.Decoder(_Version).decode
_decode_snapshot = msgspec.msgpack.Decoder(BoardSnapshot).decode
_decode_former = msgspec.msgpack.Decoder(FormerSnapshot).decode
_decode_report = msgspec.msgpack.Decoder(ExecutionReport).decode
_decode_trade = msgspec.msgpack.Decoder(Trade).decode


def decode(body: bytes) -> tuple[BoardSnapshot, bool]:
    """Return a snapshot, and whether its store's place is of use. Raises OtherVersion, or DecodeError."""
    version = _decode_version(body).version
    if version == VERSION:
        return _decode_snapshot(body), True
    if version != FORMER_VERSION:
        raise OtherVersion(f"it has version {version}, and this program reads {FORMER_VERSION} and {VERSION}")
    former = _decode_former(body)
    trades = [former_trade(_decode_trade(payload)) for payload in former.trades]
    return BoardSnapshot(VERSION, former.proof, NO_PLACE, trades, converted(former.state, _decode_report)), False


def former_trade(trade: Trade) -> Traded:
    """Return a note that has a trade's message, and of its orders no more than that says."""
    aggressor = SIDES[trade.aggressor]
    maker, taker = (
        Party(order_id, "", "", side, "limit", "gtc", 0, 0, 0, 0, 0)
        for order_id, side in ((trade.maker_order_id, -aggressor), (trade.taker_order_id, aggressor))
    )
    return Traded(trade.time, trade.trade_id, trade.price, trade.quantity, aggressor, 0, maker, taker)


class NotifierSnapshots:
    """Finds each asset's newest snapshot at a start, and takes one after every so many of its requests."""

    def __init__(self, world: World, folder: Path, requests: int, seconds: float = inf) -> None:
        """`folder` is the notifier's; `requests` are those of an asset from one snapshot to the next.

        After so many seconds the next is due however few they were, if any: what is older may be archived then.
        """
        self.world = world
        self.folder = folder
        self.requests = requests
        self.seconds = seconds
        self.started_at = world.monotonic()
        self.begun_at: dict[str, float] = {}  # by asset
        self.taking: AssetBoard | None = None  # of which the last one was begun

    # -- at a start ----------------------------------------------------------------------------------------------------

    def start(self, board: AssetBoard) -> None:
        """Have a new board go on from the newest snapshot of use; without one all that was kept of it is dropped.

        One whose messages are still retained is preferred. Where there is none, the newest is gone on from without
        messages: the event log's first segments, of which they could be made again, may have been moved away.
        """
        asset = board.feed.asset
        snapshots = self._snapshots(asset)
        for with_messages in (True, False):
            for sequence, body in snapshots.load():
                refused = self._restore(board, sequence, body, with_messages)
                if not refused:
                    logger.info("%s: going on from the snapshot of request %d", asset, sequence)
                    return
                logger.warning("%s: the snapshot of request %d is of no use: %s", asset, sequence, refused)
        self.forget(board)

    def _restore(self, board: AssetBoard, sequence: int, body: bytes, with_messages: bool) -> str:
        """Restore a board. Returns why that can't be, empty where it could; the board is untouched then."""
        try:
            snapshot, has_place = decode(zlib.decompress(body))
            if (snapshot.state.asset, snapshot.state.sequence) != (board.feed.asset, sequence):
                return f"it is of {snapshot.state.asset}, request {snapshot.state.sequence}"
            feed = restore(snapshot.state)
        except (zlib.error, OtherVersion, *DecodeError) as error:
            return str(error)
        if not with_messages:
            board.store.clear(feed.numbers)
            logger.warning(
                "%s: what was published before is not kept any more, and too old for who asks for it; to have it made "
                "again from the whole event log, stop the notifier, remove %s, and start it",
                board.feed.asset,
                self.folder / board.feed.asset,
            )
        elif not has_place:
            return "a former version of the program kept the messages of before it"
        elif not board.store.go_on(snapshot.place):
            return "the messages of before it are not all there"
        board.restored(feed, snapshot.state.ended, snapshot.trades, snapshot.proof)
        return ""

    def forget(self, board: AssetBoard) -> None:
        """Drop all that was kept of an asset, its snapshots first: without them nobody relies on the rest."""
        snapshots = self._snapshots(board.feed.asset)
        disk = self.world.disk
        for name in disk.names(snapshots.folder):
            if name.endswith(SUFFIX):
                disk.unlink(snapshots.folder / name, missing_ok=True)
        board.store.clear()

    # -- while it runs -------------------------------------------------------------------------------------------------

    def take_if_due(self, board: AssetBoard) -> None:
        """Begin a snapshot where enough has been folded in since the last."""
        requests = board.feed.sequence - board.snapshot_at
        if requests >= self.requests or (requests > 0 and self._is_old(board)):
            self._begin(board)

    def _is_old(self, board: AssetBoard) -> bool:
        begun_at = self.begun_at.get(board.feed.asset, self.started_at)
        return self.world.monotonic() - begun_at >= self.seconds

    def take_overdue(self, boards: Iterable[AssetBoard]) -> None:
        """Begin a snapshot that was due while another board's was taken. To be called now and then."""
        self.look()
        for board in boards:
            if board.proof is None:
                self.take_if_due(board)

    def take_last(self, boards: Iterable[AssetBoard]) -> None:
        """Take a snapshot of each board where that spares the next start enough. Not for longer than END_SECONDS."""
        until = self.world.monotonic() + END_SECONDS
        for board in boards:
            if board.feed.sequence - board.snapshot_at >= min(self.requests, WORTH_ONE) and board.proof is None:
                if not self.world.wait_for_fork(until - self.world.monotonic()):
                    return
                self._begin(board)
        self.world.wait_for_fork(until - self.world.monotonic())

    def look(self) -> None:
        """Let go of a copy that has ended, and note the snapshot that it has made."""
        board = self.taking
        if board is not None and self.world.reap():
            self.taking = None
            if board.snapshot_at in self._snapshots(board.feed.asset).sequences():
                board.snapshot = board.snapshot_at

    def _begin(self, board: AssetBoard) -> None:
        sequence = board.feed.sequence
        self.look()
        board.store.flush()
        if self.world.fork(f"{board.feed.asset}: the snapshot of request {sequence}", lambda: self._save(board)):
            self.begun_at[board.feed.asset] = self.world.monotonic()
            board.snapshot_at = sequence  # should it fail, the next is due as if it had not: no sooner
            self.taking = board

    def _save(self, board: AssetBoard) -> None:
        assert board.last is not None
        board.store.sync()
        state = state_of(board.feed, board.ended.items())
        body = encode(BoardSnapshot(VERSION, proof_of(board.last), board.store.place, list(board.trades), state))
        self._snapshots(board.feed.asset).save(board.feed.sequence, zlib.compress(body, COMPRESSION))

    def _snapshots(self, asset: str) -> Snapshots:
        return Snapshots(self.world.disk, snapshots_folder(self.folder, asset))


def snapshots_folder(folder: Path, asset: str) -> Path:
    """Return where an asset's snapshots are in the notifier's folder."""
    return folder / asset / "snapshots"
