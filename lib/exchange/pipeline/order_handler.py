"""The order handler's work: drain the clients' requests, put them on disk, answer, pass them on. One loop, no thread.

Group commit without a timer: what has been drained from the sockets, and what was due by the clock, is written and
synced together, so that a sync costs one request little when there are few, and each of many next to nothing. Answers
leave when their records are synced, in the order of the requests.

What is done for all requests of a turn is done in runs, one kind of work after another: all are received, all decoded,
all judged, all put in the journal's buffer, all replies encoded. To change from one to the next for each of them takes
a sixth more.

One turn of the loop: what the matching daemons report, what is due by the clock, the clients' requests, what is due
since somebody was silent, the operators' acts; then `commit`.
"""

import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, get_args, get_origin

import msgspec
import zmq

from exchange.core.asset import Status
from exchange.core.messages import MassCancel as MassCancelRequest
from exchange.core.messages import NewOrder, OrderEntryReply, OrderEntryRequest, Reject, Session
from exchange.core.order_entry import OrderEntry
from exchange.core.request_checks import readable_id
from exchange.core.requests import MassCancel, Record
from exchange.core.risk import RiskLimits
from exchange.core.timers import Timers
from exchange.pipeline import codec, sockets
from exchange.pipeline.clock import Clock
from exchange.pipeline.elsewhere import Elsewhere, read_control
from exchange.pipeline.journal import Journal
from exchange.pipeline.log import Archived

MAX_BATCH = 100  # requests in one frame
PATH = re.compile(r"\$\.(\w+)")
UNKNOWN_KEY = re.compile(r"Object contains unknown field `.*`\Z", re.DOTALL)  # of the request itself: there is no path
CHOICES: dict[str, tuple[str, ...]] = {  # what may stand in the fields that take one of a few words
    field.name: get_args(field.type) for field in msgspec.structs.fields(NewOrder) if get_origin(field.type) is Literal
}
CHOICES["status"] = get_args(Status)  # an operator's
COUNT_RETRY_SECONDS = 1.0  # after which a count of open orders that has not come is asked for again
MOST_RECEIVED_BYTES = 4 * 1024 * 1024  # in one turn, and one frame more: they are in memory together
MAX_TEXT = 400  # characters of a decoding error's text, which may quote a key of any length

Decoded = OrderEntryRequest | Reject | list[OrderEntryRequest | Reject]  # a frame; a reject where it can't be read

logger = logging.getLogger(__name__)


class OrderHandler:
    """Serves the clients on one ROUTER and the matching daemons on PUSH sockets and another ROUTER.

    What is taken, from whomever, is in the journal's buffer until `commit` puts it on disk and tells of it.
    `open_queue` makes the PUSH socket of an asset.
    """

    def __init__(
        self,
        entry: OrderEntry,
        journal: Journal,
        clients: zmq.Socket[bytes],
        daemons: zmq.Socket[bytes],
        open_queue: Callable[[str], zmq.Socket[bytes]],
        max_batch_requests: int,
        timers: Timers,
        clock: Clock,
        monotonic: Callable[[], float],
        limits: RiskLimits | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self.entry = entry
        self.journal = journal
        entry.has_room = self.has_room
        self.clients = clients
        self.daemons = daemons
        self.open_queue = open_queue
        self.queues: dict[str, zmq.Socket[bytes]] = {}
        self.max_batch_requests = max_batch_requests
        self.timers = timers
        self.clock = clock
        self.monotonic = monotonic
        self.limits = limits
        self.elsewhere = elsewhere  # where there are matching daemons on other hosts
        self.replies: list[tuple[list[bytes], bytes]] = []
        self.outgoing = defaultdict[str, list[bytes]](list)  # bodies by asset, to be pushed after the sync
        self.connection = b""  # over which the request came that is being handled
        self.heard_at = 0
        self.counts_asked: dict[str, float] = {}  # when an asset's matching daemon was asked for its open orders last
        self.noted: Record | None = None  # the record that the journal was told of last
        self.rejected = 0
        self.dropped = 0  # replies, to clients that read none
        self.dropped_at = float("-inf")

    def serve_asset(self, asset: str) -> None:
        """Open an asset's queue, unless it is open. Its matching daemon asks for what it has missed.

        That of an asset whose matching daemon, on another host, has to be heard of first is held until then.
        """
        if self.elsewhere is not None and asset in self.elsewhere.unheard:
            self.entry.hold(asset)
        elif asset not in self.queues:
            self.queues[asset] = self.open_queue(asset)

    def serve_clients(self) -> None:
        """Take what the clients have sent, up to the bound of one sync. `commit` must follow."""
        received: list[list[bytes]] = []
        payloads: list[bytes | None] = []
        requests = size = 0
        for envelope, payload in sockets.drain_router(self.clients, self.max_batch_requests):
            received.append(envelope)
            payloads.append(payload)
            if payload is None:
                requests += 1
            else:
                requests += codec.count_items(payload)
                size += len(payload)
            if requests >= self.max_batch_requests or size >= MOST_RECEIVED_BYTES:
                break
        decoded = [decode(payload) for payload in payloads]
        payloads.clear()
        replies = self._handle_all(received, decoded)
        self.journal_records()
        encode = codec.encode
        self.replies += zip(received, [encode(reply) for reply in replies], strict=True)

    def commit(self) -> None:
        """Put on disk all that was taken; then answer the clients, and push."""
        if self.outgoing:
            self.journal.sync_records()
        dropped = sockets.send_replies(self.clients, self.replies)
        if dropped:
            self.dropped += dropped
            self.dropped_at = self.monotonic()
        self.replies.clear()
        if self.outgoing:
            self.push()
            self.journal.settle()

    def push(self) -> None:
        """Pass on what is on disk. What a queue has no room for now, its matching daemon will ask for."""
        for asset, bodies in self.outgoing.items():
            queue = self.queues.get(asset)  # the exchange's own has none
            if queue is not None:
                sockets.try_send(queue, codec.stream_message(asset, self.journal.last(asset), bodies))
        self.outgoing.clear()

    def heartbeat(self) -> None:
        """Tell each matching daemon its queue's last sequence, so that it notices a lost end."""
        for asset, queue in self.queues.items():
            sockets.try_send(queue, codec.stream_message(asset, self.journal.last(asset), ()))

    def serve_daemons(self) -> None:
        """Answer replays; note progress, with the asset's status, and how many orders are open."""
        for envelope, payload in sockets.drain_router(self.daemons, 100):
            if payload is None:
                continue
            control = read_control(payload)
            if control is None or (self.elsewhere is not None and not self._hear_from(self.elsewhere, control)):
                continue
            if isinstance(control, codec.Replay):
                self._serve_replay(envelope, control)
            elif isinstance(control, codec.Progress):
                self._note_progress(control)
                self._ask_for_count(envelope, control.asset)
            elif isinstance(control, codec.OpenOrders) and self.limits is not None:
                self.limits.note_open(control.asset, control.sequence, control.counts, control.complete)

    def _hear_from(self, elsewhere: Elsewhere, control: codec.Control) -> bool:
        """Return whether what a matching daemon says may be acted on. Raises Refused."""
        may_act = elsewhere.note(control, self.journal.last)
        if may_act:
            self.serve_asset(control.asset)
        return may_act

    def _serve_replay(self, envelope: list[bytes], control: codec.Replay) -> None:
        """Send requests again; none, though there are some, where the first that is asked for was archived."""
        try:
            reply = self.journal.replay(control.asset, control.sequence)
        except Archived as error:
            logger.warning("%s: its matching daemon asks for request %d: %s", control.asset, control.sequence, error)
            reply = codec.stream_message(control.asset, self.journal.last(control.asset), ())
        sockets.send_reply(self.daemons, envelope, reply)

    def _note_progress(self, progress: codec.Progress) -> None:
        asset = progress.asset
        self.entry.note_applied(asset, progress.sequence)
        queue = self.entry.queues.get(asset)
        if queue is not None and progress.status:
            self.entry.note_status(asset, progress.sequence, progress.status, progress.call, progress.call_ends)
            self.timers.note_call(asset, queue.status.call, queue.status.call_ends)

    def _ask_for_count(self, envelope: list[bytes], asset: str) -> None:
        """Ask a matching daemon how many orders are open in its asset, where limits need it and nobody has said yet."""
        if self.limits is None or not self.limits.needs_count(asset):
            return
        now = self.monotonic()
        if now - self.counts_asked.get(asset, -COUNT_RETRY_SECONDS) >= COUNT_RETRY_SECONDS:
            self.counts_asked[asset] = now
            sockets.send_reply(self.daemons, envelope, codec.encode(codec.CountOpen(asset)))

    # -- one payload ---------------------------------------------------------------------------------------------------

    def _handle_all(self, received: list[list[bytes]], decoded: list[Decoded]) -> list[Any]:
        """Return the replies to frames, in order: to a batch a list. What they have taken is in `entry.records`."""
        timers, handle = self.timers, self._handle
        if timers.sessions:
            self.heard_at = self.clock.now()
        replies: list[Any] = []
        for envelope, message in zip(received, decoded, strict=True):
            self.connection = envelope[0]
            if timers.sessions:
                timers.hear_connection(envelope[0], self.heard_at)
            if isinstance(message, list):
                replies.append([handle(each) for each in message])
                continue
            reply = handle(message)
            if type(reply) is Reject:
                self.rejected += 1
            replies.append(reply)
        return replies

    def _handle(self, message: OrderEntryRequest | Reject) -> OrderEntryReply:
        if isinstance(message, Reject):
            return message
        if type(message) is MassCancelRequest:
            self.journal_records()  # before: its own records, and no others, are one group
        reply = self.entry.handle(message)
        records = self.entry.records
        if type(message) is MassCancelRequest:
            self.journal_records()
        elif records and records[-1] is not self.noted:
            self.noted = records[-1]
            self.journal.note(self.noted)
        if self.timers.sessions:
            self._hear(message)
        return reply

    def has_room(self, records: int) -> bool:
        """Return whether so many records more are sure to find room on disk, behind those that were taken."""
        self.journal_records()
        return self.journal.has_room(records)

    def _hear(self, message: OrderEntryRequest) -> None:
        account = message.account
        if isinstance(account, str):
            if type(message) is Session:
                self.timers.declare(account, self.connection)
            self.timers.heard(account, self.heard_at)

    def journal_records(self) -> None:
        """Put into the journal's buffer what order entry has taken, a mass cancel over several assets as one group.

        Raises NoRoom where the disk has none, which `has_room` can tell before.
        """
        records = self.entry.records
        if len(records) > 1 and type(records[0].request) is MassCancel:
            for record, body in zip(records, self.journal.append_together(records), strict=True):
                self.outgoing[record.asset].append(body)
        else:
            for record in records:
                self.outgoing[record.asset].append(self.journal.append(record))
        records.clear()


def decode(payload: bytes | None) -> Decoded:
    """Return what a frame asks for: a request, or of a batch each; where that can't be read, its reject."""
    if payload is None:
        return malformed(b"", "several payload frames: a request is one frame, or a batch in one frame")
    if len(payload) > sockets.MAX_REQUEST_BYTES:
        return too_long(payload)
    if codec.is_array(payload):
        return _decode_batch(payload)
    try:
        request: OrderEntryRequest = codec.decode_order_entry(payload)
    except codec.DecodeError as error:
        return malformed(payload, error)
    return request


def _decode_batch(payload: bytes) -> Decoded:
    try:
        items: list[OrderEntryRequest | Reject] = [*codec.decode_order_entry_batch(payload)]
    except codec.DecodeError:
        return _decode_one_by_one(payload)
    return _wrong_length(len(items)) or items


def _decode_one_by_one(payload: bytes) -> Decoded:
    """Decode a batch in which something does not fit: each item stands alone."""
    try:
        raws = codec.decode_raw_batch(payload)
    except codec.DecodeError as error:
        return malformed(payload, error)
    wrong_length = _wrong_length(len(raws))
    if wrong_length is not None:
        return wrong_length
    items: list[OrderEntryRequest | Reject] = []
    for raw in raws:
        try:
            items.append(codec.decode_order_entry(raw))
        except codec.DecodeError as error:
            items.append(malformed(bytes(raw), error))
    return items


def _wrong_length(count: int) -> Reject | None:
    if 1 <= count <= MAX_BATCH:
        return None
    return Reject(reason="malformed", text=f"a batch of {count} requests: must hold 1 to {MAX_BATCH}")


def too_long(payload: bytes) -> Reject:
    """Return the reject of a payload that is above the bound, and is not looked into."""
    return malformed(b"", f"a frame of {len(payload)} bytes: must be {sockets.MAX_REQUEST_BYTES} at most")


def keys_by_type(kinds: Iterable[Any]) -> dict[str, tuple[str, ...]]:
    """Return the keys that each of these kinds of request may have, by its type."""
    return {
        kind.__struct_config__.tag: tuple(field.encode_name for field in msgspec.structs.fields(kind)) for kind in kinds
    }


REQUEST_KEYS = keys_by_type(get_args(OrderEntryRequest))


def malformed(payload: bytes, error: object, kinds: Mapping[str, tuple[str, ...]] = REQUEST_KEYS) -> Reject:
    """Return the reject of a payload that could not be decoded, with what of it could be read.

    `kinds` are the types of request that the endpoint takes, each with its keys.
    """
    fields = codec.describe_map(payload)
    named = fields.get("type")
    kind = named if isinstance(named, str) and named in kinds else None
    text = str(error)
    path = PATH.search(text)
    if path is not None and path[1] in fields:
        key = path[1]
        text = f"{key} {fields[key]!r:.80}: {text}"
        choices = kinds if key == "type" else CHOICES.get(key, ())
        if choices:
            text += f"; must be one of {', '.join(choices)}"
    elif kind is not None and UNKNOWN_KEY.match(text):
        text += f"; {kind} takes {', '.join(kinds[kind])}"
    return Reject(
        request=msgspec.UNSET if kind is None else kind,
        reason="malformed",
        text=text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}...",
        client_order_id=readable_text(fields.get("client_order_id")),
        request_id=readable_id(fields.get("request_id")),
    )


def readable_text(value: object) -> Any:
    return readable_id(value) if isinstance(value, str) else msgspec.UNSET
