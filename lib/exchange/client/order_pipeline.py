"""Order entry with many requests in flight: batched, in order, and safe over broken connections.

After a broken connection ZeroMQ may deliver later messages although earlier ones were lost. So a socket here never
reconnects by itself: whatever was not answered when it broke, or fell silent, is sent again, in order, on a new one.
The exchange knows a repeated request by its id and answers it with the first ack.

A request that is answered `busy` or `rate_limited` is put off: nothing new is sent until all that is in flight has its
answer; then the requests put off go first, in order, after a pause, a single one at the beginning and for a while one
frame at a time. Later ones that had been in flight already, and were refused only because they need one that was put
off (`unknown_order`), are put off with it; those that the exchange took meanwhile can't be called back and are counted
as `overtaken`.
"""

import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self

import msgspec
import zmq
from msgspec import UNSET

from exchange.client.connection import default_context
from exchange.client.errors import ProtocolError, Rejected, Unreachable
from exchange.client.orders import FIRST_PAUSE_S, LONGEST_PAUSE_S, TRY_AGAIN, encoder, new_id
from exchange.core.messages import (
    Ack,
    AmendOrder,
    CancelAllAfter,
    CancelOrder,
    MassCancel,
    NewOrder,
    OrderEntryReply,
    OrderEntryRequest,
    Reject,
    Session,
)

MAX_BATCH = 100
MAX_FRAME_BYTES = 60_000  # a frame may have 64 KiB
PATIENCE_S = 5.0  # without any reply, after which a connection counts as broken
FIRST_RECONNECT_S = 0.05
LONGEST_RECONNECT_S = 0.5
GROWTH = 4  # of what may be in flight, after each flight without a `busy`
CAUTION_S = 10.0  # after a `busy`, in which a single frame is in flight at a time, so that nothing can be overtaken

CHANGES = AmendOrder | CancelOrder | MassCancel | Session | CancelAllAfter
Replies = OrderEntryReply | list[OrderEntryReply]
OnReply = Callable[[OrderEntryRequest, OrderEntryReply], None]
decoder: msgspec.msgpack.Decoder[Replies] = msgspec.msgpack.Decoder(Replies)


class Entry(NamedTuple):
    request: OrderEntryRequest
    encoded: bytes


def batch_frame(items: list[bytes]) -> bytes:
    """Return a MessagePack array of items that are encoded already, or the item itself where it is alone."""
    if len(items) == 1:
        return items[0]
    header = bytes((0x90 | len(items),)) if len(items) < 16 else b"\xdc" + len(items).to_bytes(2, "big")
    return header + b"".join(items)


class OrderPipeline:
    """Sends requests without waiting for each reply. Not for use by several threads.

    `on_reply(request, reply)` is called once for each request, in the order in which they were sent except where a
    request was put off; with an ack (which may carry `duplicate` after a broken connection) or the final reject.
    At most `window` requests are sent or kept without a reply, at most `batch` (1 to 100) of them in one frame.
    `timeout` is how many seconds may pass without any progress before a call raises Unreachable, or Rejected where the
    exchange did answer, but only `busy`.
    """

    def __init__(
        self,
        endpoint: str,
        on_reply: OnReply,
        *,
        window: int = 5_000,
        batch: int = MAX_BATCH,
        timeout: float = 60.0,
        patience: float = PATIENCE_S,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
    ) -> None:
        if not 1 <= batch <= MAX_BATCH:
            raise ValueError(f"batch = {batch}: a frame holds 1 to {MAX_BATCH} requests")
        if window < batch:
            raise ValueError(f"window = {window}: must be at least the batch, {batch}")
        self.endpoint = endpoint
        self.on_reply = on_reply
        self.window = window
        self.batch = batch
        self.timeout = timeout
        self.patience = patience
        self.context = context or default_context()
        self.unsent: deque[Entry] = deque()
        self.flight: deque[list[Entry]] = deque()
        self.put_off: list[Entry] = []
        self.in_flight = 0
        self.allowance = window
        self.cautious_until = 0.0
        self.pause = FIRST_PAUSE_S
        self.reconnect_pause = FIRST_RECONNECT_S
        self.reconnects = 0
        self.overtaken = 0
        self.progress_at = self.heard_at = time.monotonic()
        self.last_busy: Reject | None = None
        self._open()

    @property
    def outstanding(self) -> int:
        """How many requests have no final reply yet."""
        return len(self.unsent) + self.in_flight + len(self.put_off)

    # -- what callers do -----------------------------------------------------------------------------------------------

    def send(self, request: OrderEntryRequest) -> None:
        """Take one request, which goes out as soon as a batch is full; waits while the window is.

        Any but a new order or a ping gets a `request_id` where it has none.
        Raises Unreachable, Rejected (see the class), ProtocolError.
        """
        if isinstance(request, CHANGES) and request.request_id is UNSET:
            request = msgspec.structs.replace(request, request_id=new_id())
        if not self.outstanding:
            self.progress_at = self.heard_at = time.monotonic()
        self.unsent.append(Entry(request, encoder.encode(request)))
        if len(self.unsent) >= self.batch:
            self._push(self.batch)
            self._receive()
        while self.outstanding >= self.window:
            self._step(0.5)

    def flush(self) -> None:
        """Send what waits for its batch to fill, as far as the window allows, and take the replies that are there."""
        self._step(0.0)

    def drain(self) -> None:
        """Send everything and wait for all replies. Raises as `send` does."""
        while self.outstanding:
            self._step(0.5)

    # -- one turn ------------------------------------------------------------------------------------------------------

    def _step(self, seconds: float) -> None:
        """Send what may be sent, wait up to `seconds` for something to happen, handle it."""
        self._push(1)
        if not self._receive() and self.outstanding:
            self.poller.poll(int(seconds * 1000))
            if not self._receive() and self._broken():
                self._reconnect()
        self._check_deadline()

    def _push(self, smallest: int) -> None:
        """Send frames of `smallest` to `batch` requests, as long as the allowance has room for them."""
        while len(self.unsent) >= smallest and self.unsent and not self.put_off and self.in_flight < self.allowance:
            size = min(self.batch, len(self.unsent), self.allowance - self.in_flight)
            entries: list[Entry] = []
            length = 0
            while len(entries) < size and (not entries or length + len(self.unsent[0].encoded) <= MAX_FRAME_BYTES):
                entries.append(self.unsent.popleft())
                length += len(entries[-1].encoded)
            if not self.flight:
                self.heard_at = time.monotonic()
            self.flight.append(entries)
            self.in_flight += len(entries)
            try:
                self.socket.send(batch_frame([entry.encoded for entry in entries]), zmq.NOBLOCK)
            except zmq.Again:  # the connection is gone
                self._reconnect()
                return

    def _receive(self) -> bool:
        """Handle all replies that are there. Returns whether there were any."""
        any_reply = False
        while True:
            try:
                frame = self.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return any_reply
            if self.socket.getsockopt(zmq.RCVMORE):
                raise ProtocolError(f"{self.endpoint}: a reply of several frames")
            any_reply = True
            self.heard_at = time.monotonic()
            self.reconnect_pause = FIRST_RECONNECT_S
            self._handle(frame)

    def _handle(self, frame: bytes) -> None:
        try:
            reply = decoder.decode(frame)
        except msgspec.DecodeError as error:
            raise ProtocolError(f"{self.endpoint}: a reply that is none: {error}") from error
        if not self.flight:
            raise ProtocolError(f"{self.endpoint}: a reply to no request")
        entries = self.flight.popleft()
        self.in_flight -= len(entries)
        if isinstance(reply, list):
            if len(reply) != len(entries):
                raise ProtocolError(f"{self.endpoint}: {len(reply)} replies to {len(entries)} requests")
            replies = reply
        else:
            if len(entries) > 1 and not isinstance(reply, Reject):
                raise ProtocolError(f"{self.endpoint}: one {type(reply).__name__} for {len(entries)} requests")
            replies = [reply] * len(entries)
        for entry, each in zip(entries, replies, strict=True):
            self._answer(entry, each)
        if not self.flight:
            self._landed()

    def _answer(self, entry: Entry, reply: OrderEntryReply) -> None:
        request = entry.request
        if isinstance(reply, Reject):
            if reply.reason in TRY_AGAIN:
                self.last_busy = reply
                self.cautious_until = time.monotonic() + CAUTION_S
                self.put_off.append(entry)
                return
            if self.put_off and reply.reason == "unknown_order":
                self.put_off.append(entry)
                return
        elif isinstance(reply, Ack):
            if isinstance(request, NewOrder) and reply.client_order_id != request.client_order_id:
                raise ProtocolError(f"an ack for {reply.client_order_id!r} where {request.client_order_id!r} was next")
            if self.put_off:
                self.overtaken += 1
        self.progress_at = time.monotonic()
        self.on_reply(request, reply)

    def _landed(self) -> None:
        """Everything in flight has its answer: go on with what was put off, or with more at a time."""
        if not self.put_off:
            limit = self.window if time.monotonic() > self.cautious_until else self.batch
            self.allowance = min(limit, self.allowance * GROWTH)
            self.pause = FIRST_PAUSE_S
            return
        self._check_deadline()
        time.sleep(self.pause)
        self.pause = min(self.pause * 2, LONGEST_PAUSE_S)
        self.allowance = 1
        self.unsent.extendleft(reversed(self.put_off))
        self.put_off.clear()

    def _check_deadline(self) -> None:
        if not self.outstanding or time.monotonic() - self.progress_at <= self.timeout:
            return
        if self.last_busy is not None and self.heard_at > self.progress_at:
            raise Rejected(self.last_busy)
        raise Unreachable(self.endpoint, self.timeout)

    # -- the connection ------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.ipv6 = "[" in self.endpoint
        self.socket.sndhwm = 0  # the window is the bound
        self.socket.rcvhwm = 0
        self.socket.setsockopt(zmq.RECONNECT_IVL, -1)
        self.monitor = self.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED)
        self.socket.connect(self.endpoint)
        self.poller = zmq.Poller()
        self.poller.register(self.socket, zmq.POLLIN)
        self.poller.register(self.monitor, zmq.POLLIN)

    def _close(self) -> None:
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close(0)

    def _broken(self) -> bool:
        """Return whether the connection ended, could not be made, or has been silent for too long."""
        if self.monitor.poll(0):
            return True
        return bool(self.flight) and time.monotonic() - self.heard_at > self.patience

    def _reconnect(self) -> None:
        """Go on with a new socket; all that was in flight goes out again, behind what had been put off before it."""
        self._close()
        self.reconnects += 1
        again = self.put_off + [entry for entries in self.flight for entry in entries]
        self.unsent.extendleft(reversed(again))
        self.put_off.clear()
        self.flight.clear()
        self.in_flight = 0
        self._check_deadline()
        time.sleep(self.reconnect_pause)
        self.reconnect_pause = min(self.reconnect_pause * 2, LONGEST_RECONNECT_S)
        self._open()
        self.heard_at = time.monotonic()

    def close(self) -> None:
        """End the connection; replies that have not come are not waited for."""
        if not self.socket.closed:
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
