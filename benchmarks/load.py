"""The load that benchmarks put on an exchange: a seeded stream of requests, and the clients that send them.

The stream is a cycle of limit orders and cancels that is encoded ahead, so that the generator, which shares the cores
with what it measures, costs little: to send a request is then to put the number of the cycle between two halves.
"""

import random
import select
import string
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain, islice, product
from typing import Any, Literal, NamedTuple

import msgspec
import zmq

from exchange.core.asset import Asset
from exchange.core.matching import Matching
from exchange.core.requests import BUY, SELL, CancelOrder, NewOrder, Record, Side

ACCOUNTS = 20
WINDOW = 2_000  # requests in flight, over all clients
BATCH = 100  # requests of a batch
BATCHES_IN_FLIGHT = 40
CYCLE = 50_000  # requests that differ
CANCEL_AFTER = 4_000  # requests between an order and its cancel, so that no cancel of another client overtakes it
MIDDLE = 10_000  # price
ANSWER_SECONDS = 60
ACK = b"\xa3ack"
NAME_LENGTH = 8
SEED = 1
NOBLOCK = int(zmq.NOBLOCK)

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder().decode


def asset_names(count: int) -> tuple[str, ...]:
    """Return so many assets' names: A, B, ..., Z, AA, AB, ..."""
    letters = string.ascii_uppercase
    return tuple(islice(chain(letters, map("".join, product(letters, letters))), count))


ASSETS = asset_names(4)


def requests(
    name: str,
    assets: Sequence[str] = ASSETS,
    accounts: int = ACCOUNTS,
    cycle: int = CYCLE,
    self_trade: Literal["prevent", "allow"] = "prevent",
) -> Iterator[bytes]:
    """Yield encoded requests without an end: three limit orders and a cancel, over the assets in turn.

    Orders are around a price that moves by a tick at most from one to the next; a third of them trade at once. A cycle
    ends with the cancels of all that is left, so that the book is as it was. `name` is 1 to 8 characters that no other
    stream of the same exchange has: client_order_ids begin with it, and nothing else differs.
    """
    halves = _cycle(tuple(assets), accounts, cycle, self_trade)
    turn = 0
    while True:
        middle = client_order_id(name, turn).encode()
        for before, after in halves:
            yield before + middle + after
        turn += 1


def client_order_id(name: str, turn: int) -> str:
    """Return what the client_order_ids of a turn of a stream begin with, always as long."""
    assert 1 <= len(name) <= NAME_LENGTH
    return f"{name:_<{NAME_LENGTH}}{turn:04d}"


@cache
def _cycle(
    assets: tuple[str, ...], accounts: int, cycle: int, self_trade: Literal["prevent", "allow"]
) -> list[tuple[bytes, bytes]]:
    """Return each request of a cycle as what stands before and after the stream's name and the cycle's number.

    The core itself says which orders still rest, so that cancels find one.
    """
    source = random.Random(SEED)
    middle = dict.fromkeys(assets, MIDDLE)
    cores = {asset: Matching(Asset(asset=asset, self_trade=self_trade)) for asset in assets}
    entered: deque[Entered] = deque()
    halves: list[tuple[bytes, bytes]] = []
    name = client_order_id("x", 0)

    def add(message: dict[str, str | int]) -> None:
        before, _, after = encode(message).partition(name.encode())
        halves.append((before, after))

    def cancel(order: Entered) -> None:
        core = cores[order.asset]
        core.apply(Record(order.asset, core.sequence + 1, 0, order.account, CancelOrder(order.order_id)))
        text = f"{name}{order.order_id:05d}"
        add({"type": "cancel_order", "asset": order.asset, "client_order_id": text, "account": order.account})

    def rests(order: Entered) -> bool:
        return order.order_id in cores[order.asset].book.account(order.account).orders

    while len(halves) + len(entered) < cycle:
        number = len(halves)
        while entered and not rests(entered[0]):
            entered.popleft()
        if number % 4 == 3 and entered and number - entered[0].order_id >= CANCEL_AFTER:
            cancel(entered.popleft())
            continue
        asset = assets[number // 4 % len(assets)]
        account = f"account{source.randrange(accounts)}"
        middle[asset] += source.choice((-1, 0, 1))
        side: Side = source.choice((BUY, SELL))
        distance = source.randrange(-3, 9)
        price, quantity = middle[asset] - side * distance, source.randint(1, 100)
        text = f"{name}{number:05d}"
        add(
            {
                "type": "new_order",
                "client_order_id": text,
                "asset": asset,
                "side": "buy" if side == BUY else "sell",
                "quantity": quantity,
                "price": price,
                "account": account,
            }
        )
        core = cores[asset]
        core.apply(Record(asset, core.sequence + 1, 0, account, NewOrder(number, text, side, quantity, price)))
        entered.append(Entered(number, asset, account))
    for order in entered:
        if rests(order):
            cancel(order)
    return halves


class Entered(NamedTuple):
    """An order of a cycle."""

    order_id: int
    asset: str
    account: str


def batches(stream: Iterator[bytes], size: int = BATCH) -> Iterator[bytes]:
    """Yield batches of a stream's requests."""
    head = b"\xdc" + size.to_bytes(2, "big")
    take = stream.__next__
    while True:
        yield head + b"".join([take() for _ in range(size)])


@dataclass
class Sent:
    """What came of a load: messages (requests, or batches of them), acks and all other replies in them, seconds."""

    messages: int
    acks: int
    seconds: float
    cpu_seconds: float  # of this process

    @property
    def acks_per_second(self) -> float:
        return self.acks / self.seconds

    @property
    def cpu_share(self) -> float:
        """The share of one core that this process had."""
        return self.cpu_seconds / self.seconds


@dataclass
class Timed:
    """An open-loop load's answers, in the order in which they were due: seconds from then to each, and the answers."""

    started: float  # time.monotonic() at which the first was due
    rate: float
    latencies: list[float] = field(default_factory=list)
    replies: list[bytes] = field(default_factory=list)
    lateness: list[float] = field(default_factory=list)  # from when a request was due to when it was sent
    cpu_seconds: float = 0.0

    @property
    def acks(self) -> int:
        return sum(reply.count(ACK) for reply in self.replies)

    def due(self, number: int) -> float:
        """Return the time.monotonic() at which a request was due."""
        return self.started + number / self.rate


class Load:
    """Clients, each with a DEALER of its own, in this process."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, clients: int = 1) -> None:
        self.sockets: list[zmq.Socket[bytes]] = []
        self.poller = zmq.Poller()
        for _ in range(clients):
            socket = context.socket(zmq.DEALER)
            socket.linger = 0
            socket.sndhwm = socket.rcvhwm = 2 * WINDOW
            socket.connect(endpoint)
            self.sockets.append(socket)
            self.poller.register(socket, zmq.POLLIN)

    def close(self) -> None:
        for socket in self.sockets:
            socket.close()

    def run(self, seconds: float, next_message: Callable[[], bytes], window: int = WINDOW) -> Sent:
        """Keep `window` messages in flight over all clients, for so many seconds, and take all replies.

        Raises TimeoutError where one does not come.
        """
        polled, monotonic = self.poller.poll, time.monotonic
        cpu = time.process_time()
        start = monotonic()
        end = start + seconds
        in_flight = messages = acks = 0
        for socket in self.sockets:
            for _ in range(max(1, window // len(self.sockets))):
                socket.send(next_message())
                in_flight += 1
        while in_flight:
            ready = polled(ANSWER_SECONDS * 1000)
            if not ready:
                raise TimeoutError(f"{in_flight} messages are not answered within {ANSWER_SECONDS} s")
            for socket, _ in ready:
                answered = 0
                recv, send = socket.recv, socket.send
                try:
                    while True:
                        acks += recv(NOBLOCK).count(ACK)
                        answered += 1
                except zmq.Again:
                    pass
                messages += answered
                if monotonic() < end:
                    for _ in range(answered):
                        send(next_message())
                else:
                    in_flight -= answered
        return Sent(messages, acks, monotonic() - start, time.process_time() - cpu)

    def run_count(self, count: int, next_message: Callable[[], bytes], window: int = WINDOW) -> Sent:
        """Send so many messages over the first client, a window of them in flight, and take all replies."""
        socket = self.sockets[0]
        cpu, start = time.process_time(), time.monotonic()
        sent = messages = acks = 0
        while messages < count:
            while sent < count and sent - messages < window:
                socket.send(next_message())
                sent += 1
            if not socket.poll(ANSWER_SECONDS * 1000):
                raise TimeoutError(f"{sent - messages} messages are not answered within {ANSWER_SECONDS} s")
            acks += socket.recv().count(ACK)
            messages += 1
        return Sent(messages, acks, time.monotonic() - start, time.process_time() - cpu)

    def open_loop(self, rate: float, seconds: float, next_message: Callable[[], bytes]) -> Timed:
        """Send a message each 1/rate s over the first client, whatever is answered when, and take all replies.

        Raises TimeoutError where one does not come.
        """
        socket = self.sockets[0]
        send, recv, descriptor = socket.send, socket.recv, int(socket.getsockopt(zmq.FD))
        monotonic = time.monotonic
        total = round(rate * seconds)
        cpu = time.process_time()
        start = monotonic() + 0.05
        timed = Timed(start, rate)
        latencies, replies, lateness = timed.latencies, timed.replies, timed.lateness
        sent = 0
        while len(latencies) < total:
            now = monotonic()
            while sent < total and start + sent / rate <= now:
                send(next_message())
                lateness.append(now - (start + sent / rate))
                sent += 1
            try:
                while len(latencies) < sent:
                    reply = recv(NOBLOCK)
                    latencies.append(monotonic() - (start + len(latencies) / rate))
                    replies.append(reply)
            except zmq.Again:
                pass
            now = monotonic()
            if now > start + seconds + ANSWER_SECONDS:
                raise TimeoutError(f"{total - len(latencies)} messages are not answered within {ANSWER_SECONDS} s")
            # The socket's own descriptor, since zmq's poll counts in whole milliseconds. It tells of a change once:
            # so the socket is asked first.
            wait = start + sent / rate - now if sent < total else 0.01
            if wait > 0 and not int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                select.select([descriptor], [], [], wait)
        timed.cpu_seconds = time.process_time() - cpu
        return timed


def order_ids(replies: Sequence[bytes]) -> list[int]:
    """Return the order id of each ack of a new order, 0 for every other reply."""
    ids: list[int] = []
    for reply in replies:
        answer: dict[str, Any] = decode(reply)
        is_new = answer["type"] == "ack" and answer["request"] == "new_order"
        ids.append(answer["order_id"] if is_new else 0)
    return ids
