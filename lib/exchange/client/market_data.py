"""Topics, public and private, complete and in order: what a subscription may lose is fetched again.

PUB and SUB lose messages when a process dies, a connection breaks or a queue is full. But every topic numbers its
messages, so here a repeated one is dropped, a missing one is noticed by the next, by the `heartbeat/`, or, where
neither comes (private topics have no heartbeat), by asking for `sequences` after a moment of silence; and whatever
is missing is fetched with `retransmit` before anything later of its topic is handed out.
"""

import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec
import zmq

from exchange.client.background_query import BackgroundQuery
from exchange.client.connection import default_context
from exchange.client.errors import LostMessages, ProtocolError, Rejected, Unreachable
from exchange.client.orders import TRY_AGAIN
from exchange.client.queries import Message, Queries, Retransmitted, convert
from exchange.core.messages import Heartbeat, Query, Reject, RetransmitQuery, SequencesQuery

HEARTBEAT = "heartbeat/"
QUIET_S = 1.5  # without a message, after which the last sequences are asked for
RECEIVE_QUEUE = 100_000  # messages; beyond it they are dropped, and fetched again
QUIET_MS = 250  # the longest wait at a time
RETRY_MS = 50

decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


class Delivery(NamedTuple):
    topic: str
    message: Message


def account_of(topic: str) -> str | None:
    """Return the account of a private topic, or None for a public one."""
    parts = topic.split("/")
    return parts[1] if parts[0] == "execution" and len(parts) > 1 and parts[1] else None


def asset_of(topic: str) -> str | None:
    """Return the asset that a topic names, or None for a prefix that stands for every asset's."""
    parts = topic.split("/")
    place = 2 if parts[0] == "execution" else 1
    return parts[place] if len(parts) > place and parts[place] else None


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
        self.questions: deque[SequencesQuery] = deque()
        self.retry_at = 0.0
        self.heard_at = time.monotonic()
        self.query = BackgroundQuery(queries.endpoint, context)
        self.socket = (context or default_context()).socket(zmq.SUB)
        self.socket.linger = 0
        self.socket.ipv6 = "[" in endpoint
        self.socket.rcvhwm = RECEIVE_QUEUE
        self.socket.connect(endpoint)
        for topic in self.topics:
            self.socket.subscribe(topic)
        if self.public:
            self.socket.subscribe(HEARTBEAT)
        try:
            self.last = self._sequences()
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
            self._wait(min(int(left * 1000) + 1, RETRY_MS if self.gaps or self.questions else QUIET_MS))
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
        self._ask_sequences()
        while self.questions or self.gaps or not self.query.idle:
            self._recover()
            if time.monotonic() > deadline:
                raise Unreachable(self.queries.endpoint, timeout)
            self.query.socket.poll(RETRY_MS)

    def _wait(self, milliseconds: int) -> None:
        """Wait for a message, or for the reply to a query that is under way."""
        poller = zmq.Poller()
        poller.register(self.socket, zmq.POLLIN)
        poller.register(self.query.socket, zmq.POLLIN)
        poller.poll(milliseconds)

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
        """Take the reply to what was asked for, and ask for what is missing; never waits."""
        answered = self.query.reply()
        if answered is not None:
            self._answered(*answered)
        for topic in [topic for topic in self.gaps if self.last.get(topic, 0) >= self.known[topic]]:
            self.gaps.discard(topic)  # it was late, not lost
        now = time.monotonic()
        if not self.gaps and now - self.heard_at > QUIET_S:
            self.heard_at = now
            self._ask_sequences()
        if self.query.idle and now >= self.retry_at:
            if self.gaps:
                topic = min(self.gaps)
                first = self.last.get(topic, 0) + 1
                self.query.start(RetransmitQuery(topic=topic, from_=first, to=self.known[topic]))
            elif self.questions:
                self.query.start(self.questions.popleft())

    def _ask_sequences(self) -> None:
        """Ask for the last sequences, so that a lost tail is noticed."""
        self.questions.clear()
        if self.public:
            self.questions.append(SequencesQuery())
        self.questions.extend(SequencesQuery(account=account) for account in self.accounts)

    def _answered(self, query: Query, reply: dict[str, Any]) -> None:
        if reply.get("type") == "reject":
            self._refused(query, convert(reply, Reject))
        elif isinstance(query, SequencesQuery):
            self._notice(convert(reply.get("sequences"), dict[str, int]))
            if self._follows(convert(reply.get("rebuilding", []), list[str])):
                self.retry_at = time.monotonic() + RETRY_MS / 1000
                self.questions.append(query)
        else:
            self._fetched(convert(reply, Retransmitted))

    def _fetched(self, answer: Retransmitted) -> None:
        topic = answer.topic
        before = self.last.get(topic, 0)
        for message in answer.messages:
            self._sort_in(topic, message)
        last = self.last.get(topic, 0)
        self.recovered += last - before
        if last >= self.known[topic]:
            self.gaps.discard(topic)
        elif last == before:  # the exchange is not as far yet
            self.retry_at = time.monotonic() + RETRY_MS / 1000

    def _refused(self, query: Query, reject: Reject) -> None:
        if isinstance(query, RetransmitQuery) and reject.reason == "too_old" and isinstance(reject.earliest, int):
            self.last[query.topic] = reject.earliest - 1
            raise LostMessages(query.topic, query.from_, reject.earliest)
        if reject.reason not in TRY_AGAIN:
            raise Rejected(reject)
        self.retry_at = time.monotonic() + RETRY_MS / 1000
        if isinstance(query, SequencesQuery):
            self.questions.append(query)

    def _sequences(self) -> dict[str, int]:
        found: dict[str, int] = {}
        if self.public:
            found |= self.queries.sequences(unless_rebuilding=self._follows)
        for account in self.accounts:
            found |= self.queries.sequences(account, unless_rebuilding=self._follows)
        return {topic: sequence for topic, sequence in found.items() if topic.startswith(self.topics)}

    def _follows(self, assets: Collection[str]) -> bool:
        """Return whether a topic of one of the assets is among those subscribed to."""
        followed = {asset_of(topic) for topic in self.topics}
        return bool(assets) and (None in followed or not followed.isdisjoint(assets))

    def close(self) -> None:
        self.query.close()
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
