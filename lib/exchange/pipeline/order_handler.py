"""The order handler's work: drain the clients' requests, put them on disk, answer, pass them on. One loop, no thread.

Group commit without a timer: what has been drained from the socket is written and synced together, so that a sync costs
one request little when there are few, and each of many next to nothing. Answers leave when their records are synced,
in the order of the requests.
"""

import re
from collections.abc import Sequence
from typing import Any, Literal, get_args, get_origin

import msgspec
import zmq

from exchange.core.messages import NewOrder, OrderEntryReply, OrderEntryRequest, Reject
from exchange.core.order_entry import TYPE_NAMES, OrderEntry
from exchange.core.request_checks import readable_id
from exchange.pipeline import codec, sockets
from exchange.pipeline.journal import Journal

MAX_BATCH = 100  # requests in one frame
REQUEST_TYPES = tuple(TYPE_NAMES.values())
PATH = re.compile(r"\$\.(\w+)")
CHOICES: dict[str, tuple[str, ...]] = {  # what may stand in the fields that take one of a few words
    field.name: get_args(field.type) for field in msgspec.structs.fields(NewOrder) if get_origin(field.type) is Literal
}
MAX_TEXT = 400  # characters of a decoding error's text, which may quote a key of any length


class OrderHandler:
    """Serves the clients on one ROUTER and the matching daemons on PUSH sockets and another ROUTER."""

    def __init__(
        self,
        entry: OrderEntry,
        journal: Journal,
        clients: zmq.Socket[bytes],
        daemons: zmq.Socket[bytes],
        queues: dict[str, zmq.Socket[bytes]],
        max_batch_requests: int,
    ) -> None:
        self.entry = entry
        self.journal = journal
        self.clients = clients
        self.daemons = daemons
        self.queues = queues
        self.max_batch_requests = max_batch_requests
        self.replies: list[tuple[list[bytes], bytes]] = []
        self.outgoing: dict[str, list[bytes]] = {}  # bodies by asset, to be pushed after the sync
        self.drained = 0
        self.rejected = 0

    def serve_clients(self) -> None:
        """Take what the clients have sent, up to the bound of one sync; sync, answer, and push."""
        self.drained = 0
        for envelope, payload in sockets.drain_router(self.clients, self.max_batch_requests):
            self.replies.append((envelope, self.answer(payload)))
            if self.drained >= self.max_batch_requests:
                break
        if self.outgoing:
            self.journal.sync()
        for envelope, reply in self.replies:
            sockets.send_reply(self.clients, envelope, reply)
        self.replies.clear()
        self.push()

    def push(self) -> None:
        """Pass on what is on disk. What a queue has no room for now, its matching daemon will ask for."""
        for asset, bodies in self.outgoing.items():
            queue = self.queues.get(asset)
            if queue is not None:
                sockets.try_send(queue, codec.stream_message(asset, self.journal.last(asset), bodies))
        self.outgoing.clear()

    def heartbeat(self) -> None:
        """Tell each matching daemon its queue's last sequence, so that it notices a lost end."""
        for asset, queue in self.queues.items():
            sockets.try_send(queue, codec.stream_message(asset, self.journal.last(asset), ()))

    def serve_daemons(self) -> None:
        """Answer replays and note progress."""
        for envelope, payload in sockets.drain_router(self.daemons, 100):
            if payload is None:
                continue
            control = codec.decode_control(payload)
            if isinstance(control, codec.Replay):
                sockets.send_reply(self.daemons, envelope, self.journal.replay(control.asset, control.sequence))
            else:
                self.entry.note_applied(control.asset, control.sequence)

    def take_definitions(self) -> None:
        """Journal the definitions that order entry took at the start. Raises NoRoom where the disk has none."""
        self._journal_records()
        if self.outgoing:
            self.journal.sync()
        self.push()

    # -- one payload ---------------------------------------------------------------------------------------------------

    def answer(self, payload: bytes | None) -> bytes:
        """Return the encoded reply to a payload; what it has taken is in the journal's buffer."""
        if payload is None:
            self.drained += 1
            return self._encode(
                malformed(b"", "several payload frames: a request is one frame, or a batch in one frame")
            )
        if len(payload) > sockets.MAX_REQUEST_BYTES:
            self.drained += 1
            return self._encode(too_long(payload))
        if codec.is_array(payload):
            return codec.encode(self._answer_batch(payload))
        self.drained += 1
        try:
            message = codec.decode_order_entry(payload)
        except codec.DecodeError as error:
            return self._encode(malformed(payload, error))
        return self._encode(self._handle(message))

    def _encode(self, reply: OrderEntryReply) -> bytes:
        if type(reply) is Reject:
            self.rejected += 1
        return codec.encode(reply)

    def _answer_batch(self, payload: bytes) -> OrderEntryReply | list[OrderEntryReply]:
        try:
            items = codec.decode_order_entry_batch(payload)
        except codec.DecodeError:
            return self._answer_one_by_one(payload)
        self.drained += max(len(items), 1)
        return _wrong_length(len(items)) or [self._handle(item) for item in items]

    def _answer_one_by_one(self, payload: bytes) -> OrderEntryReply | list[OrderEntryReply]:
        """Answer a batch in which something does not fit: each item stands alone."""
        try:
            raws = codec.decode_raw_batch(payload)
        except codec.DecodeError as error:
            self.drained += 1
            return malformed(payload, error)
        self.drained += max(len(raws), 1)
        wrong_length = _wrong_length(len(raws))
        if wrong_length is not None:
            return wrong_length
        replies: list[OrderEntryReply] = []
        for raw in raws:
            try:
                replies.append(self._handle(codec.decode_order_entry(raw)))
            except codec.DecodeError as error:
                replies.append(malformed(bytes(raw), error))
        return replies

    def _handle(self, message: OrderEntryRequest) -> OrderEntryReply:
        reply = self.entry.handle(message)
        if self.entry.records:
            self._journal_records()
        return reply

    def _journal_records(self) -> None:
        records = self.entry.records
        if len(records) == 1:
            body = self.journal.append(records[0])
            self._outgoing(records[0].asset).append(body)
        else:
            for record, body in zip(records, self.journal.append_together(records), strict=True):
                self._outgoing(record.asset).append(body)
        records.clear()

    def _outgoing(self, asset: str) -> list[bytes]:
        bodies = self.outgoing.get(asset)
        if bodies is None:
            bodies = self.outgoing[asset] = []
        return bodies


def _wrong_length(count: int) -> Reject | None:
    if 1 <= count <= MAX_BATCH:
        return None
    return Reject(reason="malformed", text=f"a batch of {count} requests: must hold 1 to {MAX_BATCH}")


def too_long(payload: bytes) -> Reject:
    """Return the reject of a payload that is above the bound, and is not looked into."""
    return malformed(b"", f"a frame of {len(payload)} bytes: must be {sockets.MAX_REQUEST_BYTES} at most")


def malformed(payload: bytes, error: object, kinds: Sequence[str] = REQUEST_TYPES) -> Reject:
    """Return the reject of a payload that could not be decoded, with what of it could be read.

    `kinds` are the types of request that the endpoint takes.
    """
    fields = codec.describe_map(payload)
    kind = fields.get("type")
    text = str(error)
    path = PATH.search(text)
    if path is not None and path[1] in fields:
        key = path[1]
        text = f"{key} {fields[key]!r:.80}: {text}"
        choices = kinds if key == "type" else CHOICES.get(key, ())
        if choices:
            text += f"; must be one of {', '.join(choices)}"
    return Reject(
        request=kind if isinstance(kind, str) and kind in kinds else msgspec.UNSET,
        reason="malformed",
        text=text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}...",
        client_order_id=readable_text(fields.get("client_order_id")),
        request_id=readable_id(fields.get("request_id")),
    )


def readable_text(value: object) -> Any:
    return readable_id(value) if isinstance(value, str) else msgspec.UNSET
