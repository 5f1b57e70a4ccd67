"""The query endpoint: snapshots, retransmission, open orders, as of what the notifier has published."""

from collections.abc import Callable
from itertools import islice
from typing import Any, get_args

import msgspec
import zmq
from msgspec import UNSET

from exchange.core import messages
from exchange.core.asset import MAX_INTEGER
from exchange.core.execution_reports import PublishedOrder, Topic
from exchange.core.feed_notes import PUBLIC_TOPICS, public_on
from exchange.core.messages import Reject, RejectReason
from exchange.core.request_checks import Rejection, check_request_id, readable_id
from exchange.core.requests import BUY, SELL, Side
from exchange.pipeline import codec, sockets
from exchange.pipeline.board import AssetBoard
from exchange.pipeline.notifier import Notifier
from exchange.pipeline.order_handler import keys_by_type, malformed, too_long

MAX_MESSAGES = 1000  # in one reply
DRAIN = 20  # queries answered, at most, before the events get their turn
TURN_SECONDS = 0.005  # after which no other query is begun before that
MOST_NOTES = 10_000  # of what is kept, in the pages that are read for one reply: some 8 ms
MAX_REPLY_BYTES = 1024 * 1024  # of retransmitted messages in one reply

Reply = dict[str, Any]


class Refusal(Exception):
    """A query that can't be answered."""

    def __init__(self, reason: RejectReason, text: str, earliest: int | None = None) -> None:
        super().__init__(text)
        self.reason: RejectReason = reason
        self.text = text
        self.earliest = earliest


class Queries:
    """Answers queries from the notifier's state."""

    def __init__(self, notifier: Notifier, clients: zmq.Socket[bytes]) -> None:
        self.notifier = notifier
        self.clients = clients
        self.handlers: dict[type, Callable[[Any], Reply]] = {
            messages.AssetsQuery: self._assets,
            messages.BookSnapshotQuery: self._book_snapshot,
            messages.OrderSnapshotQuery: self._order_snapshot,
            messages.RetransmitQuery: self._retransmit,
            messages.TradesQuery: self._trades,
            messages.OrderStatusQuery: self._order_status,
            messages.SequencesQuery: self._sequences,
            messages.OpenOrdersQuery: self._open_orders,
        }
        self.kinds = keys_by_type(get_args(messages.Query))

    def serve(self) -> None:
        """Answer the queries that are waiting."""
        until = self.notifier.monotonic() + TURN_SECONDS
        for envelope, payload in sockets.drain_router(self.clients, DRAIN):
            sockets.send_reply(self.clients, envelope, codec.encode(self.answer(payload)))
            if self.notifier.monotonic() > until:
                return

    def answer(self, payload: bytes | None) -> Reply | Reject:
        """Return the reply to a query."""
        if payload is None:
            return malformed(b"", "several payload frames: a query is one frame")
        if len(payload) > sockets.MAX_REQUEST_BYTES:
            return too_long(payload)
        try:
            query = codec.decode_query(payload)
        except codec.DecodeError as error:
            return malformed(payload, error, self.kinds)
        kind = query.__struct_config__.tag
        assert isinstance(kind, str)
        try:
            if query.request_id is not UNSET:
                check_request_id(query.request_id)
            reply = self.handlers[type(query)](query) | {"type": kind}
        except Rejection as rejection:
            request_id = readable_id(query.request_id)
            return Reject(request=kind, reason=rejection.reason, text=rejection.text, request_id=request_id)
        except Refusal as refusal:
            return Reject(
                request=kind,
                reason=refusal.reason,
                text=refusal.text,
                request_id=query.request_id,
                earliest=UNSET if refusal.earliest is None else refusal.earliest,
            )
        if query.request_id is not UNSET:
            reply["request_id"] = query.request_id
        return reply

    def _board(self, asset: str) -> AssetBoard:
        board = self.notifier.boards.get(asset)
        if board is None:
            names = ", ".join(list(self.notifier.boards)[:20])
            raise Refusal("unknown_asset", f"asset {asset!r:.80}: not traded here; there are {names}")
        if board.rebuilding:
            raise Refusal("busy", f"{asset} is being rebuilt after a start; try again in a moment")
        return board

    def _assets(self, query: messages.AssetsQuery) -> Reply:
        return {
            "assets": [
                msgspec.structs.asdict(board.definition) | {"status": board.status}
                for board in self.notifier.boards.values()
            ]
        }

    def _book_snapshot(self, query: messages.BookSnapshotQuery) -> Reply:
        feed = self._board(query.asset).feed
        depth = None if query.depth is UNSET else min(query.depth, MAX_INTEGER)
        if depth is not None and depth < 1:
            raise Refusal("malformed", f"depth {depth}: must be 1 or more; leave it out for the whole book")

        def levels(side: Side) -> list[tuple[int, int, int]]:
            best = feed.book.ladders[side].best_first(depth)
            return [(price, quantity, len(orders)) for price, quantity, orders in best]

        return {
            "asset": query.asset,
            "sequence": feed.topics["book"].sequence,
            "bids": levels(BUY),
            "asks": levels(SELL),
            "time": feed.time,
        }

    def _order_snapshot(self, query: messages.OrderSnapshotQuery) -> Reply:
        feed = self._board(query.asset).feed

        def orders(side: Side) -> list[tuple[int, int, int]]:
            return [
                (order.order_id, price, order.leaves)
                for price, _, queue in feed.book.ladders[side].best_first()
                for order in queue
            ]

        return {
            "asset": query.asset,
            "sequence": feed.topics["order"].sequence,
            "bids": orders(BUY),
            "asks": orders(SELL),
            "time": feed.time,
        }

    def _retransmit(self, query: messages.RetransmitQuery) -> Reply:
        board, topic = self._topic(query.topic)
        last = 0 if topic is None else topic.sequence
        first = query.from_
        if first < 1 or query.to < first:
            raise Refusal("malformed", f"from {first}, to {query.to}: must be from 1 on, and from not after to")
        earliest = None if topic is None else board.store.earliest(topic)
        if first <= last and (earliest is None or first < earliest):
            raise self._too_old(query, earliest, last)
        to = min(query.to, last)
        stop = min(to, first + MAX_MESSAGES - 1)
        found: list[msgspec.Raw] = []
        size = 0
        if topic is not None and first <= stop:
            for sequence, payload in board.store.read(board.feed.asset, topic, first, MOST_NOTES):
                found.append(msgspec.Raw(payload))
                size += len(payload)
                if sequence == stop or size >= MAX_REPLY_BYTES:
                    break
            if not found:  # it was damaged on disk, which is found out now: it is kept no more
                raise self._too_old(query, board.store.earliest(topic), last)
        reply: Reply = {"topic": query.topic, "messages": found}
        if found and (following := first + len(found)) <= to:
            reply["next"] = following
        return reply

    def _too_old(self, query: messages.RetransmitQuery, earliest: int | None, last: int) -> Refusal:
        """Return the refusal of what is not retained; `earliest` is the first that is, None where none is."""
        earliest = last + 1 if earliest is None else earliest
        text = f"{query.topic} {query.from_}: past retention; the first kept is {earliest}"
        return Refusal("too_old", text, earliest)

    def _topic(self, topic: str) -> tuple[AssetBoard, Topic | None]:
        """Return the board of a topic, and the topic, unless it is of an account that has had no report."""
        parts = topic.split("/")
        if len(parts) == 3 and parts[2] == "" and parts[0] in PUBLIC_TOPICS:
            board = self._board(parts[1])
            return board, board.feed.topics[parts[0]]
        if len(parts) == 4 and parts[0] == "execution" and parts[3] == "":
            board = self._board(parts[2])
            return board, board.feed.reports.topics.get(parts[1])
        raise Refusal(
            "malformed",
            f"topic {topic!r:.80}: must be like trade/ASSET/ or execution/ACCOUNT/ASSET/, numbered, with its /",
        )

    def _trades(self, query: messages.TradesQuery) -> Reply:
        if query.limit < 1:
            raise Refusal("malformed", f"limit {query.limit}: must be 1 or more")
        trades = self._board(query.asset).trades
        count = min(query.limit, len(trades), MAX_MESSAGES)
        newest_first = islice(reversed(trades), count)
        return {"asset": query.asset, "trades": list(public_on("trade", query.asset, newest_first))}

    def _order_status(self, query: messages.OrderStatusQuery) -> Reply:
        board = self._board(query.asset)
        order_id = query.order_id
        if query.client_order_id is not UNSET:
            found = board.find(query.account, query.client_order_id)
            if order_id is UNSET:
                order_id = -1 if found is None else found
            elif order_id != found:
                order_id = -1
        if order_id is UNSET:
            raise Refusal("malformed", "needs order_id or client_order_id, to say which order")
        report = board.last_report(order_id, query.account)
        if report is None:
            raise Refusal(
                "unknown_order", f"account {query.account!r:.80} has no such order in {query.asset} on record"
            )
        # The report's fields are the reply's; `report` is the report itself, as it was published.
        payload = codec.encode(report)
        return codec.describe_map(payload) | {"report": msgspec.Raw(payload)}

    def _sequences(self, query: messages.SequencesQuery) -> Reply:
        reply = self._rebuilding()
        if query.account is UNSET:
            return reply | {"sequences": self.notifier.public_sequences()}
        return reply | {"account": query.account, "sequences": self.notifier.private_sequences(query.account)}

    def _open_orders(self, query: messages.OpenOrdersQuery) -> Reply:
        reply: Reply = {}
        if query.asset is UNSET:
            reply = self._rebuilding()
            boards = [board for board in self.notifier.boards.values() if not board.rebuilding]
        else:
            boards = [self._board(query.asset)]
        orders: list[msgspec.Raw] = []
        sequences: dict[str, int] = {}
        for board in boards:
            feed = board.feed
            sequences[feed.asset] = feed.reports.last(query.account)
            account = feed.book.accounts.get(query.account)
            if account is not None:
                orders.extend(
                    msgspec.Raw(codec.encode(feed.reports.last_of(order)))
                    for _, order in sorted(account.orders.items())
                    if isinstance(order, PublishedOrder)
                )
        return reply | {"account": query.account, "orders": orders, "sequences": sequences}

    def _rebuilding(self) -> Reply:
        """Return which assets a reply about all of them leaves out.

        One whose matching daemon is away is no reason to say nothing of the others. While what is to be rebuilt after a
        start is under way, though, there is nothing to be said.
        """
        rebuilding = [asset for asset, board in self.notifier.boards.items() if board.rebuilding]
        if rebuilding and self.notifier.soon_rebuilt(self.notifier.monotonic()):
            raise Refusal("busy", f"{', '.join(rebuilding)}: being rebuilt after a start; try again in a moment")
        return {"rebuilding": rebuilding} if rebuilding else {}
