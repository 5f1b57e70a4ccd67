"""A network as ZeroMQ shows it: sockets whose messages are late, in order on each connection, and lost with it.

What a sender has queued is bounded: PUSH and DEALER then refuse (`zmq.Again`), PUB and ROUTER drop. A connection that
breaks loses what is under way in both directions, but for a part that the survivors may still read; a new one gets a
new routing id, and nothing that was published before the subscription has arrived.
"""

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import zmq

from exchange.pipeline import sockets
from tests.simulation.kernel import NEVER, Actor, Kernel

if TYPE_CHECKING:
    from tests.simulation.world import Life

SNDMORE = int(zmq.SNDMORE)
POLLIN = int(zmq.POLLIN)
INTERNAL, CLIENT = "internal", "client"


class Nothing(zmq.Again):
    """Nothing to read, no room to send. (pyzmq's own looks its text up, which takes longer than a turn.)"""

    def __init__(self) -> None:
        Exception.__init__(self)


class Frame(NamedTuple):
    """A frame that was not copied, as pyzmq gives it."""

    bytes: bytes
    more: bool


class Pipe:
    """One direction of a connection: messages with the times at which they arrive, rising."""

    __slots__ = ("last", "messages")

    def __init__(self) -> None:
        self.messages: deque[tuple[float, list[bytes]]] = deque()
        self.last = 0.0


class Link:
    """A connection of a socket that connects with one that is bound."""

    __slots__ = ("bound", "connector", "endpoint", "live", "routing_id", "subscriptions", "to_bound", "to_connector")

    def __init__(self, endpoint: str, connector: "Socket", bound: "Socket", routing_id: bytes) -> None:
        self.endpoint, self.connector, self.bound, self.routing_id = endpoint, connector, bound, routing_id
        self.to_bound, self.to_connector = Pipe(), Pipe()
        self.subscriptions: list[bytes] = []
        self.live = True

    def inbound(self, socket: "Socket") -> Pipe:
        return self.to_bound if socket is self.bound else self.to_connector

    def outbound(self, socket: "Socket") -> Pipe:
        return self.to_connector if socket is self.bound else self.to_bound


class Network:
    """Who is bound where, who connects there, and what is under way."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.bound: dict[str, Socket] = {}
        self.connectors: dict[str, list[Socket]] = {}
        self.links: list[Link] = []
        self.count = 0
        self.queue = 1_000  # messages on an arrow between daemons
        self.client_queue = 10_000
        self.slow = 0.0  # the part of the messages that are late
        self.late = 0.3  # seconds, at most

    def delay(self) -> float:
        chance = self.kernel.chance
        if self.slow and chance.random() < self.slow:
            self.kernel.seen["message late"] += 1
            return chance.random() * self.late
        return 0.00005 + chance.random() * 0.0005

    def bind(self, socket: "Socket", endpoint: str) -> None:
        if endpoint in self.bound:
            raise OSError(98, f"can't listen on {endpoint}: is another exchange there?")
        self.bound[endpoint] = socket
        socket.endpoints.append(endpoint)
        for connector in self.connectors.get(endpoint, ()):
            self.establish_later(connector, endpoint, 0.002 + self.kernel.chance.random() * 0.1)

    def connect(self, socket: "Socket", endpoint: str) -> None:
        self.connectors.setdefault(endpoint, []).append(socket)
        self.establish_later(socket, endpoint, 0.0005 + self.kernel.chance.random() * 0.005)

    def establish_later(self, connector: "Socket", endpoint: str, seconds: float) -> None:
        self.kernel.push(max(self.kernel.now, connector.now()) + seconds, lambda: self.establish(connector, endpoint))

    def establish(self, connector: "Socket", endpoint: str) -> None:
        bound = self.bound.get(endpoint)
        if bound is None or bound.closed or connector.closed:
            return
        if any(link.endpoint == endpoint and link.live for link in connector.links):
            return
        self.count += 1
        link = Link(endpoint, connector, bound, b"\0" + self.count.to_bytes(4, "big"))
        self.links.append(link)
        connector.links.append(link)
        bound.links.append(link)
        bound.routes[link.routing_id] = link
        at = self.kernel.now
        for prefix in connector.prefixes:
            self.subscribe(link, prefix)
        while connector.pending:
            self.put(link.to_bound, connector.pending.popleft(), bound, at)
        connector.owner.wake(at)  # it may have waited for that

    def subscribe(self, link: Link, prefix: bytes) -> None:
        """Have a subscription travel to the publisher: what it publishes before that is not for this subscriber."""
        bound = link.bound

        def arrive() -> None:
            if link.live:
                link.subscriptions.append(prefix)
                if bound.kind == zmq.XPUB:
                    self.put(link.to_bound, [b"\1" + prefix], bound, self.kernel.now)

        self.kernel.push(self.kernel.now + self.delay(), arrive)

    def put(self, pipe: Pipe, frames: list[bytes], receiver: "Socket", at: float) -> None:
        when = at + self.delay()
        if when < pipe.last:
            when = pipe.last
        pipe.last = when
        pipe.messages.append((when, frames))
        receiver.owner.wake(when)

    def break_link(self, link: Link, reconnect: bool = True) -> None:
        """End a connection. Of what is under way to each end, what has come so far or a little more can be read."""
        if not link.live:
            return
        link.live = False
        now, chance = self.kernel.now, self.kernel.chance
        link.bound.routes.pop(link.routing_id, None)
        for end, pipe in ((link.bound, link.to_bound), (link.connector, link.to_connector)):
            waiting = pipe.messages
            came = sum(when <= now for when, _ in waiting)
            kept = chance.randint(came, len(waiting))
            lost = [frames for _, frames in list(waiting)[kept:]]
            if lost:
                self.kernel.seen["messages lost with a connection"] += 1
            while len(waiting) > kept:
                waiting.pop()
            if end.closed:
                waiting.clear()
            if pipe is link.to_bound and link.connector.keeps and not link.connector.closed:
                # The end of what was queued may be sent over the next connection, although its beginning is lost.
                again = lost[chance.randint(0, len(lost)) :]
                if again and len(again) < len(lost):
                    self.kernel.seen["later messages without the earlier ones"] += 1
                link.connector.pending.extend(again)
            if not waiting and link in end.links:
                end.links.remove(link)
            # What is left keeps its place in the socket's list until it has been read.
        self.links.remove(link)
        if reconnect and not link.connector.closed:
            self.establish_later(link.connector, link.endpoint, 0.01 + chance.random() * 0.3)

    def close(self, socket: "Socket") -> None:
        socket.closed = True
        for endpoint in socket.endpoints:
            if self.bound.get(endpoint) is socket:
                del self.bound[endpoint]
            if socket in (connectors := self.connectors.get(endpoint, [])):
                connectors.remove(socket)
        for link in list(socket.links):
            self.break_link(link)
        socket.links.clear()


class Socket:
    """One socket, of a daemon's life or of a client."""

    def __init__(self, network: Network, owner: Actor, kind: int, queue: str, life: "Life | None" = None) -> None:
        self.network = network
        self.owner = owner
        self.kind = kind
        self.life = life
        self.client = queue == CLIENT
        self.keeps = False  # what is sent while there is no connection (a client's DEALER)
        self.closed = False
        self.endpoints: list[str] = []
        self.links: list[Link] = []
        self.routes: dict[bytes, Link] = {}
        self.prefixes: list[bytes] = []
        self.pending: deque[list[bytes]] = deque()
        self.rest: deque[bytes] = deque()  # frames of the message that is being read
        self.sending: list[bytes] = []
        self.place = 0

    def now(self) -> float:
        return self.network.kernel.now if self.life is None else self.life.local

    # -- as pyzmq has them ---------------------------------------------------------------------------------------------

    def connect(self, endpoint: str) -> None:
        self.endpoints.append(endpoint)
        self.network.connect(self, endpoint)

    def subscribe(self, prefix: bytes) -> None:
        self.prefixes.append(prefix)
        for link in self.links:
            if link.live:
                self.network.subscribe(link, prefix)

    def close(self, linger: int | None = None) -> None:
        if not self.closed:
            self.network.close(self)

    def recv(self, flags: int = 0, copy: bool = True, track: bool = False) -> Any:
        """Return the next frame: its bytes, or with `copy` False what also tells whether more follow."""
        frame = self._receive()
        return frame if copy else Frame(frame, bool(self.rest))

    def getsockopt(self, option: int) -> int:
        if option == zmq.RCVMORE:
            return bool(self.rest)
        assert option == zmq.EVENTS, option
        return POLLIN if self.next_at() <= self.now() else 0

    def _receive(self) -> bytes:
        if self.rest:
            return self.rest.popleft()
        if self.life is not None:
            self.life.call("recv")
        link, at = self._next()
        if link is None or at > self.now():
            raise Nothing
        pipe = link.inbound(self)
        _, frames = pipe.messages.popleft()
        if not link.live and not pipe.messages:
            self.links.remove(link)
        kernel = self.network.kernel
        kernel.digest = (kernel.digest * 31 + len(frames[-1])) & 0xFFFFFFFF
        if self.kind == zmq.ROUTER:
            self.rest.extend(frames)
            return link.routing_id
        self.rest.extend(frames[1:])
        return frames[0]

    def _next(self) -> tuple[Link | None, float]:
        """Return the connection to be read from, in turn, and when its next message arrives or did."""
        now, links = self.now(), self.links
        best, best_at = None, NEVER
        count = len(links)
        for step in range(count):
            link = links[(self.place + step) % count]
            messages = link.inbound(self).messages
            if messages:
                at = messages[0][0]
                if at <= now:
                    self.place = (self.place + step + 1) % count
                    return link, at
                if at < best_at:
                    best, best_at = link, at
        return best, best_at

    def next_at(self) -> float:
        """Return when there will be, or was, something to read, as far as is known."""
        if self.rest:
            return 0.0
        best = NEVER
        for link in self.links:
            messages = link.inbound(self).messages
            if messages and messages[0][0] < best:
                best = messages[0][0]
        return best

    def poll(self, timeout: int, flags: int = POLLIN) -> int:
        """Wait inside of a turn: this process's time goes on."""
        assert self.life is not None
        at, until = self.next_at(), self.life.local + timeout / 1000
        self.life.local = max(self.life.local, min(at, until))
        return POLLIN if at <= self.life.local else 0

    def send(self, data: bytes, flags: int = 0, copy: bool = True, track: bool = False) -> None:
        if flags & SNDMORE:
            self.sending.append(bytes(data))
            return
        frames = [*self.sending, bytes(data)]
        self.sending.clear()
        if self.life is not None:
            self.life.call("send")
        kernel = self.network.kernel
        kernel.digest = (kernel.digest * 33 + len(frames[-1])) & 0xFFFFFFFF
        self._send(frames)

    def _send(self, frames: list[bytes]) -> None:
        network = self.network
        now = self.now()
        most = network.client_queue if self.client else network.queue
        kind = self.kind
        if kind == zmq.ROUTER:
            link = self.routes.get(frames[0])
            if link is None or len(link.to_connector.messages) >= most:
                network.kernel.seen["reply dropped"] += 1
                return
            network.put(link.to_connector, frames[1:], link.connector, now)
        elif kind in (zmq.PUB, zmq.XPUB):
            topic = frames[0]
            for link in self.links:
                if link.live and any(topic.startswith(prefix) for prefix in link.subscriptions):
                    if len(link.to_connector.messages) >= most:
                        network.kernel.seen["publication dropped"] += 1
                    else:
                        network.put(link.to_connector, frames, link.connector, now)
        else:
            for link in self.links:
                pipe = link.outbound(self)
                if link.live and len(pipe.messages) < most:
                    network.put(pipe, frames, link.connector if self is link.bound else link.bound, now)
                    return
            if not (self.keeps and not any(link.live for link in self.links) and len(self.pending) < most):
                network.kernel.seen["queue full"] += any(link.live for link in self.links)
                raise Nothing
            self.pending.append(frames)


class Poller:
    """Says what is ready, and never waits: the next turn comes when something is, or the time is over."""

    def __init__(self, life: "Life") -> None:
        self.life = life
        self.sockets: list[Socket] = []

    def register(self, socket: Any, flags: int = POLLIN) -> None:
        self.sockets.append(socket)

    def poll(self, timeout: float) -> list[tuple[Any, int]]:
        life = self.life
        life.call("poll")
        now = life.local
        ready = [(socket, POLLIN) for socket in self.sockets if socket.next_at() <= now]
        life.poller = self
        life.deadline = now + timeout / 1000
        return ready


class Publisher:
    """A socket in the place of a `FairPublisher`: nobody here is ahead of others for his place in an order."""

    def __init__(self, socket: Any) -> None:
        self.waitable = socket

    followed = True

    def follows(self, topic: bytes) -> bool:
        return True

    def send(self, topic: bytes, payload: bytes) -> None:
        self.waitable.send(topic, SNDMORE)
        self.waitable.send(payload)

    def send_all(self, topics: Iterable[bytes], payloads: Iterable[bytes]) -> None:
        for topic, payload in zip(topics, payloads, strict=True):
            self.send(topic, payload)

    def serve(self) -> None:
        for _ in sockets.drain(self.waitable, 1000):
            pass  # as the real one, it takes what has been subscribed to


class SimTransport:
    """The sockets of one life of a daemon, as `exchange.pipeline.sockets.Transport` makes them."""

    def __init__(self, network: Network, life: "Life") -> None:
        self.network = network
        self.life = life
        self.sockets: list[Socket] = []

    def poller(self) -> Any:
        return Poller(self.life)

    def _new(self, kind: int, queue: str = INTERNAL) -> Socket:
        socket = Socket(self.network, self.life.process, kind, queue, self.life)
        self.sockets.append(socket)
        return socket

    def _bound(self, kind: int, endpoint: str, queue: str = INTERNAL) -> Any:
        self.life.call("bind")
        socket = self._new(kind, queue)
        self.network.bind(socket, endpoint)
        return socket

    def client_router(self, endpoint: str, reply_queue: int) -> Any:
        return self._bound(zmq.ROUTER, endpoint, CLIENT)

    def public_publisher(self, endpoint: str, send_queue: int) -> Any:
        return Publisher(self._bound(zmq.XPUB, endpoint, CLIENT))

    def private_publisher(self, endpoint: str, send_queue: int) -> Any:
        return Publisher(self._bound(zmq.XPUB, endpoint, CLIENT))

    def push(self, endpoint: str) -> Any:
        return self._bound(zmq.PUSH, endpoint)

    def pull(self, endpoint: str) -> Any:
        socket = self._new(zmq.PULL)
        socket.connect(endpoint)
        return socket

    def publisher(self, endpoint: str) -> Any:
        return self._bound(zmq.PUB, endpoint)

    def subscriber(self, endpoints: Iterable[str]) -> Any:
        socket = self._new(zmq.SUB)
        socket.subscribe(b"")
        for endpoint in endpoints:
            socket.connect(endpoint)
        return socket

    def router(self, endpoint: str) -> Any:
        return self._bound(zmq.ROUTER, endpoint)

    def dealer(self, endpoint: str) -> Any:
        socket = self._new(zmq.DEALER)
        socket.connect(endpoint)
        return socket

    def close(self) -> None:
        for socket in self.sockets:
            socket.close()
        self.sockets.clear()


def client_socket(network: Network, owner: Actor, kind: int, endpoint: str, prefixes: Iterable[bytes] = ()) -> Socket:
    """Return a socket of a client, which queues what it sends until there is a connection."""
    socket = Socket(network, owner, kind, CLIENT)
    socket.keeps = kind == zmq.DEALER
    socket.prefixes.extend(prefixes)
    socket.connect(endpoint)
    return socket
