"""Topics, public and private, complete and in order: what a subscription may lose is fetched again.

PUB and SUB lose messages when a process dies, a connection breaks or a queue is full. But every topic numbers its
messages, so here a repeated one is dropped, a missing one is noticed by the next, by the `heartbeat/`, or, where
neither comes (private topics have no heartbeat), by asking for `sequences` after a second of silence; and whatever
is missing is fetched with `retransmit` before anything later of its topic is handed out.
"""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import NamedTuple, Self

import msgspec
import zmq

from exchange.client.connection import default_context
from exchange.client.errors import LostMessages, ProtocolError, Rejected, Unreachable
from exchange.client.queries import Message, Queries
from exchange.core.messages import Heartbeat

HEARTBEAT = "heartbeat/"
QUIET_S = 1.0  # without a message, after which the last sequences are asked for
RECEIVE_QUEUE = 100_000  # messages; beyond it they are dropped, and fetched again
FIRST_QUERY_S = 1.0
LONGEST_QUERY_S = 8.0
RETRY_S = 0.1

decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


class Delivery(NamedTuple):
    topic: str
    message: Message


def account_of(topic: str) -> str | None:
    """Return the account of a private topic, or None for a public one."""
    parts = topic.split("/")
    return parts[1] if parts[0] == "execution" and len(parts) > 1 and parts[1] else None


class Feed:
    """Subscriptions at the market data or the private endpoint. Every message of each topic comes once, in order.

    `topics` are subscribed to as prefixes, so `trade/` stands for every asset's; private ones name their account:
    `execution/alice/`. Delivery starts behind the sequences in `after`, and for topics that are not in it behind the
    last message of this moment: what happens from the return of this call on is delivered, however long the
    subscription itself takes. Raises Unreachable where the query endpoint does not answer.

    While the query endpoint is away, a gap stays open and is tried again; nothing is skipped. Not for use by several
    threads.
    """

    def __init__(
        self,
        endpoint: str,
        queries: Queries,
        topics: Sequence[str],
        *,
        after: Mapping[str, int] | None = None,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
    ) -> None:
        self.queries = queries
        self.topics = tuple(topics)
        self.accounts = sorted({account for topic in topics if (account := account_of(topic)) is not None})
        self.public = any(account_of(topic) is None for topic in topics)
        self.known: dict[str, int] = {}
        self.gaps: set[str] = set()
        self.ready: deque[Delivery] = deque()
        self.recovered = 0
        self.patience = FIRST_QUERY_S
        self.retry_at = 0.0
        self.heard_at = time.monotonic()
        self.socket = (context or default_context()).socket(zmq.SUB)
        self.socket.linger = 0
        self.socket.rcvhwm = RECEIVE_QUEUE
        self.socket.connect(endpoint)
        for topic in self.topics:
            self.socket.subscribe(topic)
        if self.public:
            self.socket.subscribe(HEARTBEAT)
        try:
            self.last = self._sequences(queries.timeout)
        except BaseException:
            self.close()
            raise
        self.last.update(after or {})

    # -- what callers do -----------------------------------------------------------------------------------------------

    def receive(self, timeout: float) -> Delivery | None:
        """Return the next message, or None where none came within `timeout` seconds.

        Raises LostMessages where some are past the exchange's retention; the topic then goes on with the first left.
        """
        deadline = time.monotonic() + timeout
        while not self.ready:
            left = deadline - time.monotonic()
            self._take(1_000)
            self._recover()
            if self.ready or left <= 0:
                break
            self.socket.poll(int(min(left, RETRY_S if self.gaps else QUIET_S) * 1000) + 1)
        return self.ready.popleft() if self.ready else None

    def receive_available(self, limit: int = 10_000) -> list[Delivery]:
        """Return at most about `limit` of the messages that are there, without waiting for any. Raises LostMessages."""
        self._take(limit)
        self._recover()
        deliveries = list(self.ready)
        self.ready.clear()
        return deliveries

    def messages(self, timeout: float) -> Iterator[Delivery]:
        """Yield messages until none has come for `timeout` seconds. Raises LostMessages."""
        while (delivery := self.receive(timeout)) is not None:
            yield delivery

    def catch_up(self, timeout: float) -> None:
        """Fetch all that the exchange has published until now, for the next calls to return.

        Raises Unreachable where that takes longer than `timeout` seconds, and LostMessages.
        """
        deadline = time.monotonic() + timeout
        self._take(RECEIVE_QUEUE)
        self._notice(self._sequences(timeout))
        while self.gaps:
            self._recover()
            if self.gaps:
                if time.monotonic() > deadline:
                    raise Unreachable(self.queries.endpoint, timeout)
                time.sleep(RETRY_S / 10)

    # -- sequences -----------------------------------------------------------------------------------------------------

    def _take(self, limit: int) -> None:
        """Sort what the socket holds into what is next, what was seen before, and what shows a gap."""
        for _ in range(limit):
            try:
                frame = self.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            if not self.socket.getsockopt(zmq.RCVMORE):
                raise ProtocolError("a message without a topic")
            payload = self.socket.recv()
            if self.socket.getsockopt(zmq.RCVMORE):
                raise ProtocolError("a message of more than two frames")
            self.heard_at = time.monotonic()
            message = _decode(payload)
            if isinstance(message, Heartbeat):
                self._notice(message.sequences)
            else:
                self._sort_in(frame.decode(), message)

    def _sort_in(self, topic: str, message: Message) -> None:
        assert not isinstance(message, Heartbeat)
        sequence = message.sequence
        last = self.last.get(topic, 0)
        if sequence == last + 1:
            self.last[topic] = sequence
            self.ready.append(Delivery(topic, message))
        elif sequence > last:
            self._notice({topic: sequence})

    def _notice(self, sequences: Mapping[str, int]) -> None:
        """Note how far topics are known to go; what is missing now has been lost."""
        for topic, sequence in sequences.items():
            if sequence > self.last.get(topic, 0) and topic.startswith(self.topics):
                self.known[topic] = max(sequence, self.known.get(topic, 0))
                self.gaps.add(topic)

    def _recover(self) -> None:
        """Fetch what is missing. Where that fails, it is tried again a moment later."""
        now = time.monotonic()
        if now < self.retry_at:
            return
        try:
            if not self.gaps and now - self.heard_at > QUIET_S:
                self.heard_at = now
                self._notice(self._sequences(self.patience))
            for topic in sorted(self.gaps):
                self._fetch(topic)
                if self.last.get(topic, 0) >= self.known[topic]:
                    self.gaps.discard(topic)
            self.patience = FIRST_QUERY_S
        except Unreachable:
            self.patience = min(self.patience * 2, LONGEST_QUERY_S)
            self.retry_at = time.monotonic() + RETRY_S
        if self.gaps:
            self.retry_at = time.monotonic() + RETRY_S

    def _fetch(self, topic: str) -> None:
        first = self.last.get(topic, 0) + 1
        while first <= self.known[topic]:
            try:
                answer = self.queries.retransmit(topic, first, self.known[topic], self.patience)
            except Rejected as rejected:
                if rejected.reason == "too_old" and isinstance(rejected.reject.earliest, int):
                    self.last[topic] = rejected.reject.earliest - 1
                    raise LostMessages(topic, first, rejected.reject.earliest) from rejected
                if rejected.reason == "busy":
                    return
                raise
            before = self.last.get(topic, 0)
            for message in answer.messages:
                self._sort_in(topic, message)
            self.recovered += self.last.get(topic, 0) - before
            first = self.last.get(topic, 0) + 1
            if first == before + 1:
                return  # the exchange is not as far yet

    def _sequences(self, timeout: float) -> dict[str, int]:
        found = self.queries.sequences(timeout=timeout) if self.public else {}
        for account in self.accounts:
            found.update(self.queries.sequences(account, timeout))
        return {topic: sequence for topic, sequence in found.items() if topic.startswith(self.topics)}

    def close(self) -> None:
        self.socket.close(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _decode(payload: bytes) -> Message:
    try:
        return decoder.decode(payload)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"a message that is none: {error}") from error
