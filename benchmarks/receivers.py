"""Many subscribers in one process, cheap, and exact in what came when: plain TCP connections that speak ZMTP.

A SUB socket tells when it was asked, not when a message arrived, and to ask a thousand of them takes longer than what
is to be measured. Here the kernel stamps each arrival (SO_TIMESTAMPNS) when the bytes come in; so the order of receipt
is that of the stamps, in whatever order the connections are read afterwards. On one machine that happens within the
sender's write, which makes it the order of sending too.
"""

import select
import socket
import struct
import time
from collections.abc import Callable, Sequence

SO_TIMESTAMPNS = 35
TIME = struct.Struct("@qq")
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16 + 1 + 31)
COMMAND, LONG, MORE = 4, 2, 1
DEADLINE_SECONDS = 20.0
READ_BYTES = 1 << 18


class Receiver:
    """One subscriber. `messages` counts those that have come whole, `bytes` all, `arrived` is the last stamp, in ns."""

    __slots__ = ("arrived", "bytes", "connection", "messages", "rest")

    def __init__(self, host: str, port: int, topic: bytes) -> None:
        self.connection = socket.create_connection((host, port), timeout=DEADLINE_SECONDS)
        self.messages = 0
        self.bytes = 0
        self.arrived = 0
        self.rest = b""
        self._shake_hands()
        self.connection.sendall(bytes((0, 1 + len(topic))) + b"\1" + topic)
        self.connection.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.connection.setblocking(False)

    def _shake_hands(self) -> None:
        self.connection.sendall(GREETING)
        self._receive(len(GREETING))
        ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", 3) + b"SUB"
        self.connection.sendall(bytes((COMMAND, len(ready))) + ready)
        flags, length = self._receive(2)
        if flags != COMMAND:
            raise OSError(f"a handshake with flags {flags}; a command has {COMMAND}")
        self._receive(length)

    def _receive(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self.connection.recv(count - len(data))
            if not part:
                raise OSError("the publisher has closed the connection")
            data += part
        return data

    def read(self) -> int:
        """Take what is there, note when its last part came, and return how many messages were completed by it."""
        data, ancillary, _, _ = self.connection.recvmsg(READ_BYTES, 64)
        if not data:
            raise OSError("the publisher has closed the connection")
        self.bytes += len(data)
        for _, _, stamp in ancillary:
            seconds, nanoseconds = TIME.unpack(stamp)
            self.arrived = seconds * 1_000_000_000 + nanoseconds
        data, place, complete = self.rest + data, 0, 0
        while len(data) >= place + 9 or (len(data) >= place + 2 and not data[place] & LONG):
            flags = data[place]
            head = 9 if flags & LONG else 2
            length = int.from_bytes(data[place + 1 : place + head], "big")
            if len(data) < place + head + length:
                break
            place += head + length
            complete += not flags & (MORE | COMMAND)
        self.rest = data[place:]
        self.messages += complete
        return complete


class Receivers:
    """So many subscribers of one topic. Raises OSError where one can't connect or is closed, TimeoutError of waits."""

    def __init__(self, endpoint: str, topic: bytes, count: int) -> None:
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        self.all = [Receiver(host, int(port), topic) for _ in range(count)]
        self.epoll = select.epoll()
        self.by_descriptor = {receiver.connection.fileno(): receiver for receiver in self.all}
        for descriptor in self.by_descriptor:
            self.epoll.register(descriptor, select.EPOLLIN)

    def take(self, total: int) -> None:
        """Read until so many messages were completed, over all."""
        by_descriptor, poll = self.by_descriptor, self.epoll.poll
        deadline = time.monotonic() + DEADLINE_SECONDS
        while total > 0:
            ready = poll(1.0)
            for descriptor, _ in ready:
                total -= by_descriptor[descriptor].read()
            if not ready and time.monotonic() > deadline:
                raise TimeoutError(f"{total} messages have not come within {DEADLINE_SECONDS:g} s")
        if total < 0:
            raise ValueError(f"{-total} messages more than were expected")

    def take_burst(self, messages: int) -> None:
        """Read until so many messages have come to each, all the same to all; what is read is hardly looked at.

        One receiver counts messages, and so says how many bytes they are; of the others only bytes are counted.
        """
        counting = self.all[0]
        connections = {descriptor: receiver.connection for descriptor, receiver in self.by_descriptor.items()}
        counted_descriptor = counting.connection.fileno()
        counting.messages = counting.bytes = others = 0
        buffer, poll = bytearray(READ_BYTES), self.epoll.poll
        deadline = time.monotonic() + DEADLINE_SECONDS
        while counting.messages < messages or others < counting.bytes * (len(self.all) - 1):
            ready = poll(1.0)
            for descriptor, _ in ready:
                if descriptor == counted_descriptor:
                    counting.read()
                else:
                    others += connections[descriptor].recv_into(buffer)
            if not ready and time.monotonic() > deadline:
                raise TimeoutError(f"{messages} messages have not come to all within {DEADLINE_SECONDS:g} s")
        if others > counting.bytes * (len(self.all) - 1):
            raise ValueError("some receivers have got more than others")

    def settle(self, publish: Callable[[], object], seconds: float = DEADLINE_SECONDS) -> None:
        """Have messages published until one has come to every receiver, and read what is left of them."""
        deadline = time.monotonic() + seconds
        for receiver in self.all:
            receiver.messages = 0
        while not all(receiver.messages for receiver in self.all):
            if time.monotonic() > deadline:
                missing = sum(not receiver.messages for receiver in self.all)
                raise TimeoutError(f"{missing} receivers have got no message within {seconds:g} s")
            publish()
            while ready := self.epoll.poll(0.1):
                for descriptor, _ in ready:
                    self.by_descriptor[descriptor].read()

    def close(self) -> None:
        self.epoll.close()
        for receiver in self.all:
            receiver.connection.close()

    def __enter__(self) -> "Receivers":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Places:
    """Who was how far ahead, over many messages: of each receiver its place in the order of receipt, 0 the first."""

    def __init__(self, receivers: Sequence[Receiver]) -> None:
        self.receivers = receivers
        self.messages = 0
        self.sums = [0] * len(receivers)
        self.firsts = [0] * len(receivers)
        self.spans: list[float] = []  # of each message, from the first receiver to the last, in ms

    def note(self) -> None:
        """Take the arrival of one message, which all have got."""
        receivers, sums = self.receivers, self.sums
        order = sorted(range(len(receivers)), key=lambda number: receivers[number].arrived)
        for place, number in enumerate(order):
            sums[number] += place
        self.firsts[order[0]] += 1
        self.spans.append((receivers[order[-1]].arrived - receivers[order[0]].arrived) / 1e6)
        self.messages += 1

    @property
    def means(self) -> list[float]:
        return [total / self.messages for total in self.sums]

    @property
    def furthest(self) -> float:
        """How far the furthest mean place is from the middle, as a part of the middle."""
        middle = (len(self.receivers) - 1) / 2
        return max(abs(mean - middle) for mean in self.means) / middle

    @property
    def most_often_first(self) -> float:
        """The part of the messages at which the one that is first most often is first."""
        return max(self.firsts) / self.messages
