"""ZeroMQ sockets as the daemons use them: plain, non-blocking, drained frame by frame, every queue bounded.

Measured on two cores: `recv(NOBLOCK)` and `send(SNDMORE)` frame by frame carry three times what `recv_multipart` does,
and ten times what asyncio does.
"""

import ctypes
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import zmq

from exchange.pipeline.fair_publisher import FairPublisher
from exchange.pipeline.shared_port import Listener, Steering, can_share, listen

NOBLOCK = int(zmq.NOBLOCK)  # numbers: to join two of pyzmq's flags costs as much as to send a frame
SNDMORE = int(zmq.SNDMORE)
NOBLOCK_SNDMORE = NOBLOCK | SNDMORE
EVENTS = int(zmq.EVENTS)
POLLIN = int(zmq.POLLIN)
INTERNAL_QUEUE = 1_000  # stream messages between daemons; what does not fit is asked for again later
REPLY_QUEUE = 10_000  # replies that one client of order entry has yet to read, beyond which they are dropped
QUERY_REPLY_QUEUE = 100  # the same of queries, whose replies are larger
RECEIVE_QUEUE = 1_000  # requests of one client, beyond which TCP holds it back
MAX_REQUEST_BYTES = 64 * 1024
MAX_FRAME_BYTES = 2 * MAX_REQUEST_BYTES  # what is too long is answered up to here; beyond, the connection ends
MAX_CONTROL_BYTES = 4096
FAIR_PLACES = (
    16  # sockets of a publisher that are served in turn: each costs a send of each message once it has a client
)
MAX_REPORT_BYTES = 1024 * 1024  # between daemons: the longest is of 5,000 accounts' open orders


def new_context() -> zmq.Context[zmq.Socket[bytes]]:
    """Return a context for a daemon.

    libzmq numbers its peers from an unseeded `rand()`, and a peer that guesses another's number can abort the process:
    it is seeded before the first socket.
    """
    ctypes.CDLL(None).srand(int.from_bytes(os.urandom(4), "little"))
    return zmq.Context()


class Transport:
    """Makes a daemon's sockets, each kind with its bounds; another can stand in its place, and carry nothing far."""

    def __init__(self) -> None:
        self.context = new_context()
        self.fair_publishers: list[FairPublisher] = []

    def poller(self) -> zmq.Poller:
        return zmq.Poller()

    def client_router(self, endpoint: str, reply_queue: int) -> zmq.Socket[bytes]:
        """A ROUTER that clients connect to. A frame of more than MAX_FRAME_BYTES ends its sender's connection."""
        socket = self._new(zmq.ROUTER, reply_queue, RECEIVE_QUEUE)
        socket.maxmsgsize = MAX_FRAME_BYTES
        socket.router_mandatory = 1  # so that `send_reply` can tell what it could not send
        _keep_alive(socket)
        return _bind(socket, endpoint)

    def public_publisher(self, endpoint: str, send_queue: int, places: int = FAIR_PLACES) -> FairPublisher:
        """What clients subscribe to with a SUB; a slow one loses messages, and nobody else does.

        No subscriber is systematically ahead of the others. Where the system can't share a port, there is one place,
        and they are served in the order in which they came.
        """
        if not can_share():
            places = 1
        listeners = self._listen(endpoint, places) if places > 1 else []
        publishers = [self._client_publisher(send_queue) for _ in range(places)]
        steering = Steering(listeners[0]) if listeners else None
        for publisher, listener in zip(publishers, listeners, strict=False):
            publisher.use_fd = listener.detach()  # libzmq closes it with the socket
        for publisher in publishers:
            _bind(publisher, endpoint)
        return self._fair(publishers, steering.to if steering else None)

    def private_publisher(self, endpoint: str, send_queue: int) -> FairPublisher:
        """The same for topics that each have one follower or two: there is no order to be fair in, so one socket."""
        return self._fair([_bind(self._client_publisher(send_queue), endpoint)])

    def _client_publisher(self, send_queue: int) -> zmq.Socket[bytes]:
        socket = self._new(zmq.XPUB, send_queue, RECEIVE_QUEUE)
        socket.maxmsgsize = MAX_CONTROL_BYTES
        _keep_alive(socket)
        return socket

    def _fair(
        self, publishers: Sequence[zmq.Socket[bytes]], steer: Callable[[Sequence[int]], None] | None = None
    ) -> FairPublisher:
        publisher = FairPublisher(publishers, [bare_send(each) for each in publishers], steer)
        self.fair_publishers.append(publisher)
        return publisher

    def _listen(self, endpoint: str, count: int) -> list[Listener]:
        """Return so many sockets that listen on an endpoint together. Raises OSError where nobody can listen there."""
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        try:
            return listen(self._address(host), int(port), count)
        except OSError as error:
            raise _no_listening(endpoint, error.errno, os.strerror(error.errno or 0)) from None

    def _address(self, host: str) -> str:
        """Return the address that libzmq would bind to for a host, which may be a name, an interface, or `*`."""
        with suppress(ValueError):
            return str(ip_address(host.strip("[]")))
        with self._new(zmq.PUB, 1, 1) as probe:
            _bind(probe, f"tcp://{host}:*")
            bound = str(probe.getsockopt_string(zmq.LAST_ENDPOINT))
        return bound.removeprefix("tcp://").rpartition(":")[0].strip("[]")

    def push(self, endpoint: str) -> zmq.Socket[bytes]:
        return _bind(_between_hosts(self._new(zmq.PUSH, INTERNAL_QUEUE, 1)), endpoint)

    def pull(self, endpoint: str) -> zmq.Socket[bytes]:
        return _connect(self._new(zmq.PULL, 1, INTERNAL_QUEUE), endpoint)

    def publisher(self, endpoint: str) -> zmq.Socket[bytes]:
        return _bind(_between_hosts(self._new(zmq.PUB, INTERNAL_QUEUE, 1)), endpoint)

    def subscriber(self, endpoints: Iterable[str]) -> zmq.Socket[bytes]:
        socket = self._new(zmq.SUB, 1, INTERNAL_QUEUE)
        _reconnect_quickly(_between_hosts(socket))
        socket.subscribe(b"")
        for endpoint in endpoints:
            add_endpoint(socket, endpoint)
        return socket

    def router(self, endpoint: str) -> zmq.Socket[bytes]:
        """A ROUTER for the other daemons: replays, progress, open orders."""
        socket = self._new(zmq.ROUTER, INTERNAL_QUEUE, INTERNAL_QUEUE)
        socket.maxmsgsize = MAX_REPORT_BYTES
        return _bind(_between_hosts(socket), endpoint)

    def dealer(self, endpoint: str) -> zmq.Socket[bytes]:
        """The other end of `router`. What is sent while nobody listens there is not kept: its sender asks again."""
        socket = self._new(zmq.DEALER, INTERNAL_QUEUE, INTERNAL_QUEUE)
        socket.immediate = 1
        return _connect(socket, endpoint)

    def close(self) -> None:
        """Close every socket. What was not sent yet is dropped."""
        for publisher in self.fair_publishers:
            publisher.close()
        self.context.destroy(linger=0)
        self.fair_publishers.clear()

    def _new(self, kind: int, send: int, receive: int) -> zmq.Socket[bytes]:
        try:
            socket = self.context.socket(kind)
        except zmq.ZMQError as error:
            raise OSError(error.errno, f"no room for another socket: {error.strerror}") from None
        socket.linger = 0
        socket.sndhwm = send
        socket.rcvhwm = receive
        return socket


def _bind(socket: zmq.Socket[bytes], endpoint: str) -> zmq.Socket[bytes]:
    socket.ipv6 = "[" in endpoint
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        socket.close()
        raise _no_listening(endpoint, error.errno, error.strerror) from None
    if endpoint.startswith("ipc://"):
        Path(endpoint.removeprefix("ipc://")).chmod(0o600)
    return socket


def _no_listening(endpoint: str, number: int | None, text: str | None) -> OSError:
    return OSError(number, f"can't listen on {endpoint}: {text}; is another exchange there?")


def _keep_alive(socket: zmq.Socket[bytes]) -> None:
    """Notice clients that went without a word, and forget them.

    By TCP, not by ZMTP heartbeats: libzmq 4.3.5 aborts the process when a heartbeat is due for a peer that has gone
    while its input was held back.
    """
    socket.tcp_keepalive = 1
    socket.tcp_keepalive_idle = 10
    socket.tcp_keepalive_intvl = 5
    socket.tcp_keepalive_cnt = 4
    socket.tcp_maxrt = 30_000


def add_endpoint(socket: zmq.Socket[bytes], endpoint: str) -> None:
    """Have a subscriber listen to one more publisher."""
    socket.ipv6 = "[" in endpoint
    socket.connect(endpoint)


def _connect(socket: zmq.Socket[bytes], endpoint: str) -> zmq.Socket[bytes]:
    _reconnect_quickly(_between_hosts(socket))
    add_endpoint(socket, endpoint)
    return socket


def _reconnect_quickly(socket: zmq.Socket[bytes]) -> None:
    socket.reconnect_ivl = 20
    socket.reconnect_ivl_max = 500


def _between_hosts(socket: zmq.Socket[bytes]) -> zmq.Socket[bytes]:
    """Notice within some five seconds that another host, or the way to it, went without a word, and connect anew.

    Otherwise whoever only listens would wait for ever, who sends would for a quarter of an hour, and an attempt to
    connect, which is repeated after ever longer pauses, would not notice that the way is there again. Of Unix sockets
    the kernel says all that at once; they don't know these options.
    """
    socket.tcp_keepalive = 1
    socket.tcp_keepalive_idle = 2
    socket.tcp_keepalive_intvl = 1
    socket.tcp_keepalive_cnt = 3
    socket.tcp_maxrt = 5_000
    socket.connect_timeout = 2_000
    return socket


def try_send(socket: zmq.Socket[bytes], message: bytes) -> bool:
    """Send a message if there is room for it now; return whether there was."""
    try:
        socket.send(message, NOBLOCK)
    except zmq.Again:
        return False
    return True


def bare_send(socket: zmq.Socket[bytes]) -> Callable[..., Any]:
    """Return what sends a frame, without the checks that pyzmq puts before it: measured, in half the time."""
    return super(zmq.Socket, socket).send if type(socket) is zmq.Socket else socket.send


def drain(socket: zmq.Socket[bytes], limit: int) -> Iterator[bytes]:
    """Yield the single-frame messages that are waiting, `limit` at most."""
    for _ in range(limit):
        try:
            yield socket.recv(NOBLOCK)
        except zmq.Again:
            return


def drain_router(socket: zmq.Socket[bytes], limit: int) -> Iterator[tuple[list[bytes], bytes | None]]:
    """Yield (envelope, payload) of the messages waiting on a ROUTER, `limit` at most.

    The envelope is the routing id and, from a REQ, its empty delimiter: what goes before the reply. The payload is None
    where there was not exactly one frame of it. Messages of peers that chose their own routing id are dropped.
    """
    recv = socket.recv
    for number in range(limit):
        # Of a message that came alone, which is in a hurry: to ask takes half of what pyzmq's exception does, and a
        # third when other processes had the caches meanwhile.
        if number == 1 and not int(socket.getsockopt(EVENTS)) & POLLIN:
            return
        try:
            identity = recv(NOBLOCK)
        except zmq.Again:
            return
        envelope = [identity]
        # A frame that is not copied tells whether more follow; to ask the socket takes twice as long.
        frame = recv(NOBLOCK, False)
        payload: bytes | None = frame.bytes
        if frame.more and not payload:
            envelope.append(b"")
            frame = recv(NOBLOCK, False)
            payload = frame.bytes
        while frame.more:
            frame = recv(NOBLOCK, False)
            payload = None
        if identity[:1] == b"\0":
            yield envelope, payload


def send_replies(socket: zmq.Socket[bytes], replies: Iterable[tuple[list[bytes], bytes]]) -> int:
    """Send replies, each an envelope and a payload, as `send_reply` does; return how many it returned False for."""
    send = bare_send(socket)
    dropped = 0
    for envelope, payload in replies:
        try:
            for frame in envelope:
                send(frame, NOBLOCK_SNDMORE)
            send(payload, NOBLOCK)
        except zmq.Again:
            dropped += 1
        except zmq.ZMQError:
            pass
    return dropped


def send_reply(socket: zmq.Socket[bytes], envelope: list[bytes], payload: bytes) -> bool:
    """Send a reply on a ROUTER; one for a peer that is gone, or that does not read its replies, is dropped.

    Returns False where it was dropped although the peer is there (of a `client_router`; of others that is not known).
    """
    return not send_replies(socket, ((envelope, payload),))
