"""Exchanges that misbehave on purpose, on real sockets: one for order entry, one for topics and queries.

They speak MessagePack through another library than the client's, and keep what they were sent for the tests to read.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgpack
import zmq

from tests.support import free_ports

Message = dict[str, Any]


class OrderEntryServer:
    """Order entry in a thread. What it took survives its deaths, as a journal would.

    `before(message)` may return a reject's reason to answer with. `die_after` are counts of frames at which it dies:
    the frame is taken, but its answer is lost with the connection, and what comes until the socket is bound again is
    too. `mute` swallows frames whole.
    """

    def __init__(self) -> None:
        self.endpoint = f"tcp://127.0.0.1:{free_ports(1)[0]}"
        self.before: Callable[[Message], str | None] = lambda message: None
        self.die_after: set[int] = set()
        self.mute = False
        self.taken: dict[tuple[str, object], Message] = {}  # by account and id, in order: the first ack
        self.requests: list[Message] = []  # each that was taken, once
        self.frames = 0
        self.deaths = 0
        self.batch_sizes: list[int] = []

    def serve(self, stop: threading.Event) -> None:
        context = zmq.Context()
        socket = self._bind(context)
        while not stop.is_set():
            if not socket.poll(10):
                continue
            routing_id, payload = socket.recv_multipart()
            if self.mute:
                continue
            self.frames += 1
            content = msgpack.unpackb(payload)
            many = isinstance(content, list)
            self.batch_sizes.append(len(content) if many else 1)
            replies = [self._answer(message) for message in (content if many else [content])]
            if self.frames in self.die_after:
                self.deaths += 1
                socket.close(0)
                time.sleep(0.1)
                socket = self._bind(context)
                continue
            socket.send_multipart([routing_id, msgpack.packb(replies if many else replies[0])])
        socket.close(0)
        context.term()

    def _bind(self, context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
        socket = context.socket(zmq.ROUTER)
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.bind(self.endpoint)
            except zmq.ZMQError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return socket

    def _answer(self, message: Message) -> Message:
        kind = message["type"]
        echo = {"request_id": message["request_id"]} if "request_id" in message else {}
        if kind == "ping":
            return {"type": "pong", "time": 1} | echo
        name = message.get("client_order_id")
        named = {"client_order_id": name} if name is not None else {}
        reason = self.before(message)
        if reason is None and kind == "cancel_order" and ("alice", name) not in self.taken:
            reason = "unknown_order"
        if reason is not None:
            return {"type": "reject", "request": kind, "reason": reason, "text": "as told"} | named
        key = ("alice", name if kind == "new_order" else message["request_id"])
        if key in self.taken:
            return self.taken[key] | {"duplicate": True}
        number = len(self.taken) + 1
        ack = {"type": "ack", "request": kind, "order_id": number, "sequence": number, "time": number}
        asset = {"asset": message["asset"]} if "asset" in message else {}
        self.requests.append(message)
        self.taken[key] = ack | asset | named | echo
        return self.taken[key]


class TopicServer:
    """A PUB and a query ROUTER in a thread. `publish` notes a message and sends it, unless it is to be lost."""

    def __init__(self) -> None:
        ports = free_ports(2)
        self.market_data, self.query = (f"tcp://127.0.0.1:{port}" for port in ports)
        self.messages: dict[str, list[Message]] = {}
        self.outgoing: list[tuple[str, Message]] = []
        self.lock = threading.Lock()
        self.deaf = False  # queries are not answered
        self.heartbeats = True
        self.earliest = 1
        self.batch = 1000
        self.queries: list[Message] = []

    def publish(self, topic: str, lost: bool = False, times: int = 1, **fields: Any) -> None:
        with self.lock:
            messages = self.messages.setdefault(topic, [])
            message = {"sequence": len(messages) + 1, "time": 0} | fields
            messages.append(message)
            if not lost:
                self.outgoing.extend([(topic, message)] * times)

    def serve(self, stop: threading.Event) -> None:
        context = zmq.Context()
        publisher, router = context.socket(zmq.PUB), context.socket(zmq.ROUTER)
        publisher.bind(self.market_data)
        router.bind(self.query)
        beat = 0.0
        while not stop.is_set():
            with self.lock:
                for topic, message in self.outgoing:
                    publisher.send_multipart([topic.encode(), msgpack.packb(message)])
                self.outgoing.clear()
                if self.heartbeats and time.monotonic() > beat:
                    beat = time.monotonic() + 0.1
                    heartbeat = {"type": "heartbeat", "time": 0, "sequences": self._sequences()}
                    publisher.send_multipart([b"heartbeat/", msgpack.packb(heartbeat)])
            if router.poll(5):
                routing_id, payload = router.recv_multipart()
                query = msgpack.unpackb(payload)
                self.queries.append(query)
                if not self.deaf:
                    with self.lock:
                        reply = self._answer(query) | {"request_id": query["request_id"]}
                    # One to an earlier request first: a client must not take it for its own.
                    router.send_multipart([routing_id, msgpack.packb(reply | {"request_id": 0})])
                    router.send_multipart([routing_id, msgpack.packb(reply)])
        publisher.close(0)
        router.close(0)
        context.term()

    def _sequences(self, account: str | None = None) -> dict[str, int]:
        start = f"execution/{account}/" if account else "trade/"
        return {topic: len(messages) for topic, messages in self.messages.items() if topic.startswith(start)}

    def _answer(self, query: Message) -> Message:
        if query["type"] == "sequences":
            return {"type": "sequences", "sequences": self._sequences(query.get("account"))}
        first, last = query["from"], query["to"]
        if first < self.earliest:
            reject = {"type": "reject", "reason": "too_old", "text": "gone", "earliest": self.earliest}
            return reject | {"request": "retransmit"}
        found = self.messages[query["topic"]][first - 1 : last]
        reply = {"type": "retransmit", "topic": query["topic"], "messages": found[: self.batch]}
        return reply | ({"next": first + self.batch} if len(found) > self.batch else {})


@contextmanager
def serving(server: OrderEntryServer | TopicServer) -> Iterator[None]:
    """Run a server in a thread of its own while the block lasts."""
    stop = threading.Event()
    thread = threading.Thread(target=server.serve, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
        assert not thread.is_alive()
