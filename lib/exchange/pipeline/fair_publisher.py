"""A publisher that gives nobody a place at the front: many PUB sockets behind one port, served in an order by lot.

ZeroMQ's PUB writes each message to its subscribers in one order, always the same: whoever is first there is first at
every trade. So there are several sockets, which listen on the same port (`shared_port`); a new subscriber ends at one
of those with few connections, knows nothing of it, and needs nothing but a SUB. For each message the order of
the sockets is drawn anew. Up to as many subscribers as there are sockets, each has one to itself; of more, those of one
socket follow each other closely, and only their order among each other is always the same.

A socket that nobody of a topic is connected to is passed over: a message that nobody wants costs a look into a table.
Who follows what is heard from the sockets (XPUB) and is only ever added to, until a socket has no connection left:
libzmq's word that the last follower of a topic is gone can be had by any subscriber that says so.
"""

import random
import select
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import zmq

from exchange.pipeline import talkative

NOBLOCK = int(zmq.NOBLOCK)
SNDMORE = int(zmq.SNDMORE)
POLLIN = int(zmq.POLLIN)
CAME, WENT = int(zmq.EVENT_ACCEPTED), int(zmq.EVENT_DISCONNECTED)
EVENT = struct.Struct("=HI")
SUBSCRIBE = b"\1"
MOST_TOPICS = 20_000  # remembered of a socket's subscriptions; one with more is sent everything, and libzmq chooses
LONGEST_TOPIC_BYTES = 100  # more than any has: what is longer is the beginning of none
MOST_ROUTES = 200_000  # topics of which it is remembered where they go
MOST_PLACES = 64  # that are given to connections to come before it is seen who has come
FLOOD = 1_000  # of which at once, from one socket, it is looked whether somebody there has sent too much
AT_ONCE = 50_000  # subscriptions taken from a socket before others have their turn
MOST_SENT_BYTES = 1024 * 1024  # by a subscriber, who has little to say; of one who floods libzmq would keep it all

Send = Callable[..., Any]


class Member:
    """One of the sockets: how many connections it has, and what they have subscribed to."""

    __slots__ = ("connections", "descriptors", "get", "monitor", "send", "socket", "topics")

    def __init__(self, socket: zmq.Socket[bytes], send: Send) -> None:
        self.socket = socket
        self.send = send
        self.get = socket.getsockopt
        self.connections = 0
        self.descriptors: set[int] = set()  # of the connections, which are libzmq's
        self.topics: set[bytes] = set()
        # A subscription to what somebody else follows is told as well: that one may be leaving just now.
        socket.xpub_verbose = True
        address = f"inproc://monitor-{id(self)}"
        socket.monitor(address, CAME | WENT)
        self.monitor = socket.context.socket(zmq.PAIR)
        self.monitor.linger = 0
        self.monitor.rcvhwm = 0  # libzmq would wait for room, with all its connections; it tells little, and rarely
        self.monitor.connect(address)

    def count_connections(self) -> int:
        """Return how many have come."""
        recv, came = self.monitor.recv, 0
        try:
            while True:
                event, descriptor = EVENT.unpack(recv(NOBLOCK))
                recv(NOBLOCK)  # the endpoint
                if event == CAME:
                    self.connections += 1
                    self.descriptors.add(descriptor)
                    came += 1
                else:
                    self.connections -= 1
                    self.descriptors.discard(descriptor)
        except zmq.Again:
            return came

    def take_subscriptions(self) -> bool:
        """Take what has been subscribed to, a part of it where that is much; return whether any of it is new.

        Called after `count_connections`: so the topics of somebody who has just come are never those that are forgotten
        with the last connection.
        """
        topics, recv = self.topics, self.socket.recv
        before = len(topics)
        try:
            for number in range(1, AT_ONCE + 1):
                message = recv(NOBLOCK)
                if number % FLOOD == 0:
                    self._end_floods()
                if message[:1] == SUBSCRIBE and len(message) <= LONGEST_TOPIC_BYTES and len(topics) < MOST_TOPICS:
                    topics.add(message[1:])
        except zmq.Again:
            pass
        if before < MOST_TOPICS <= len(topics):
            topics.add(b"")
        return len(topics) > before

    def _end_floods(self) -> None:
        for descriptor in self.descriptors:
            talkative.end_if_talkative(descriptor, MOST_SENT_BYTES)

    def follows(self, topic: bytes) -> bool:
        return any(topic[:length] in self.topics for length in range(len(topic) + 1))

    def close(self) -> None:
        self.socket.disable_monitor()  # before its other end is closed, or libzmq waits for that for ever
        self.monitor.close()


class Route:
    """Where messages of a topic go, and in which order the next one does.

    Of a random order of the sockets, and of its reverse, each message takes a rotation by lot; after as many messages
    as there are sockets the order is drawn anew. So every place is as likely as another, for each socket and before
    each other one, nobody can know the next, and it costs a fifth of a shuffle.
    """

    __slots__ = ("chance", "count", "forward", "left", "reverse", "sends")

    def __init__(self, sends: Sequence[Send], chance: random.Random) -> None:
        self.sends = list(sends)
        self.count = len(self.sends)
        self.chance = chance
        self.left = 0

    def order(self) -> list[Send]:
        count, chance = self.count, self.chance.random
        if self.left == 0:
            self.left = count
            self.chance.shuffle(self.sends)
            self.forward = 2 * self.sends
            self.reverse = self.forward[::-1]
        self.left -= 1
        start = int(chance() * 2 * count)
        if start < count:
            return self.forward[start : start + count]
        return self.reverse[start - count : start]


class FairPublisher:
    """Publishes on the sockets it is given, all bound, all XPUB, with what sends a frame on each.

    `steer` is told the numbers of the sockets that the next connections are to come to, one after the other. `serve` is
    to be called in each turn, and when `waitable`, a descriptor, is ready to be read.
    """

    def __init__(
        self,
        sockets: Sequence[zmq.Socket[bytes]],
        sends: Sequence[Send],
        steer: Callable[[Sequence[int]], None] | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self.chance = chance or random.Random()
        self.steer = steer
        self.members = [Member(socket, send) for socket, send in zip(sockets, sends, strict=True)]
        self.active: list[Member] = []  # those with a connection
        self.came_now = 0
        self.came = 0  # connections, as many as were seen at once the last time that any came
        self.routes: dict[bytes, Route | None] = {}
        self.arrivals = select.epoll()
        self.waitable = self.arrivals.fileno()
        self.member_of: dict[int, Member] = {}
        for member in self.members:
            for socket in (member.socket, member.monitor):
                descriptor = int(socket.getsockopt(zmq.FD))
                self.member_of[descriptor] = member
                self.arrivals.register(descriptor, select.EPOLLIN)
            self._take_note(member)
        self._steer()

    def send(self, topic: bytes, payload: bytes) -> None:
        """Publish a message: to whoever has subscribed to its topic or the beginning of that, by the last `serve`.

        Never waits: a subscriber that has no room loses the message.
        """
        self.send_all((topic,), (payload,))

    @property
    def followed(self) -> bool:
        """Whether anybody has subscribed to anything, by the last `serve`."""
        return any(member.topics for member in self.members)

    def follows(self, topic: bytes) -> bool:
        """Return whether anybody has subscribed to a topic or the beginning of it, by the last `serve`."""
        try:
            return self.routes[topic] is not None
        except KeyError:
            return self._find_route(topic) is not None

    def send_all(self, topics: Iterable[bytes], payloads: Iterable[bytes]) -> None:
        """Publish messages one after the other.

        Nothing else is done in between: each message of its own would wake ZeroMQ's thread, for a write of its own.
        """
        routes = self.routes
        for topic, payload in zip(topics, payloads, strict=True):
            try:
                route = routes[topic]
            except KeyError:
                route = self._find_route(topic)
            if route is not None:
                for send in route.order() if route.count > 1 else route.sends:
                    send(topic, SNDMORE)
                    send(payload)

    def serve(self) -> None:
        """Take note of who came and went, and of what they follow."""
        changed, self.came_now = False, 0
        for descriptor, _ in self.arrivals.poll(0):
            changed |= self._take_note(self.member_of[descriptor])
        for member in self.active:
            # What came while messages were sent is in the socket, and its descriptor does not tell any more.
            if member.get(zmq.EVENTS) & POLLIN:  # type: ignore[operator] # a number
                changed |= self._take_note(member)
        if changed:
            self.came = self.came_now or self.came
            self.routes.clear()
            self.active = [member for member in self.members if member.connections]
            self._steer()

    def close(self) -> None:
        """Let go of what watches the sockets, which are not closed. Nothing else is called afterwards."""
        self.arrivals.close()
        for member in self.members:
            member.close()

    def _take_note(self, member: Member) -> bool:
        """Return whether a member's connections or topics are others than they were."""
        before = member.connections
        self.came_now += member.count_connections()
        if not member.connections:
            member.topics.clear()
        return member.take_subscriptions() or member.connections != before

    def _find_route(self, topic: bytes) -> Route | None:
        if len(self.routes) >= MOST_ROUTES:
            self.routes.clear()
        sends = [member.send for member in self.members if member.follows(topic)]
        route = self.routes[topic] = Route(sends, self.chance) if sends else None
        return route

    def _steer(self) -> None:
        """Say where the next connections are to come, so that all sockets have the same number of them.

        As many of them as may come before this is done again: twice as many as the last time, and one for each socket.
        Were only the emptiest named, all that come while this process is busy would come to it. As long as a quarter of
        the sockets has no connection, those are named, for one to have each to itself.
        """
        if self.steer is None:
            return
        counts = [member.connections for member in self.members]
        empty = counts.count(0)
        at_least = empty if empty * 4 >= len(counts) else len(counts)
        places = []
        for _ in range(min(max(2 * self.came, at_least), MOST_PLACES)):
            places.append(counts.index(min(counts)))
            counts[places[-1]] += 1
        self.steer(places)
