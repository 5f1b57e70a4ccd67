"""The exchange as an outsider meets it: real daemons, and clients made of nothing but `zmq` and `msgpack`."""

import itertools
import random
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import zmq

from tests.support import ASSETS, Daemon, running, wait_until, write_config

Message = dict[str, Any]
DEADLINE_SECONDS = 60.0
NOTHING = object()
LOWEST = 5  # ACME's lowest price: nothing else in the tests is traded there


class Peer:
    """A client of a ROUTER endpoint."""

    def __init__(self, context: zmq.Context[Any], endpoint: str, kind: int = zmq.DEALER, **options: Any) -> None:
        self.socket = context.socket(kind)
        self.socket.linger = 0
        self.socket.rcvtimeo = self.socket.sndtimeo = round(DEADLINE_SECONDS * 1000)
        for name, value in options.items():
            setattr(self.socket, name, value)
        self.socket.connect(endpoint)

    def send(self, message: Any) -> None:
        self.socket.send(msgpack.packb(message))

    def receive(self) -> Any:
        return msgpack.unpackb(self.socket.recv(), strict_map_key=False)

    def ask(self, message: Any = NOTHING, /, **fields: Any) -> Any:
        """Send a message, or a map of the fields, and return the reply."""
        self.send(fields if message is NOTHING else message)
        return self.receive()

    def ask_bytes(self, *frames: bytes) -> Any:
        """Send frames as they are and return the reply."""
        self.socket.send_multipart(frames)
        return self.receive()

    def answers(self, within_seconds: float) -> bool:
        """Return whether something to read arrives within that time."""
        return bool(self.socket.poll(round(within_seconds * 1000)))

    def close(self) -> None:
        self.socket.close()


class PatientPeer(Peer):
    """One that sends again what the order handler is too busy for: where files are small, it waits for new ones."""

    def ask(self, message: Any = NOTHING, /, **fields: Any) -> Any:
        asked = fields if message is NOTHING else message
        reply = super().ask(asked)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while busy := [place for place, each in enumerate(listed(reply)) if each.get("reason") == "busy"]:
            assert time.monotonic() < deadline, reply
            time.sleep(0.01)
            if not isinstance(asked, list):
                reply = super().ask(asked)
                continue
            for place, each in zip(busy, super().ask([asked[place] for place in busy]), strict=True):
                reply[place] = each
        return reply


def listed(reply: Any) -> list[Message]:
    """Return the replies to a batch, or the one to a request as the only one."""
    return reply if isinstance(reply, list) else [reply]


class Subscription:
    """A SUB that keeps what it has received, by topic."""

    def __init__(self, context: zmq.Context[Any], endpoint: str, *topics: str) -> None:
        self.socket = context.socket(zmq.SUB)
        self.socket.linger = 0
        self.socket.rcvhwm = 1_000_000
        self.socket.connect(endpoint)
        self.messages: defaultdict[str, list[Message]] = defaultdict(list)
        self.arrived: list[tuple[str, Message]] = []
        for topic in topics:
            self.socket.subscribe(topic.encode())

    def drain(self) -> None:
        """Keep what has arrived."""
        while self.socket.poll(0):
            frames = self.socket.recv_multipart()
            assert len(frames) == 2, f"{len(frames)} frames: {frames!r:.200}"
            topic, message = frames[0].decode(), msgpack.unpackb(frames[1])
            self.messages[topic].append(message)
            self.arrived.append((topic, message))

    def wait(self, topic: str, condition: Callable[[list[Message]], bool], what: str) -> list[Message]:
        """Return a topic's messages as soon as they meet the condition."""

        def met() -> bool:
            self.drain()
            return condition(self.messages[topic])

        try:
            wait_until(met, what, DEADLINE_SECONDS, pause=0.002)
        except AssertionError as error:
            raise AssertionError(f"{error}; {topic} has {self.messages[topic]}") from None
        return self.messages[topic]

    def wait_for_count(self, topic: str, count: int) -> list[Message]:
        return self.wait(topic, lambda messages: len(messages) >= count, f"{count} messages of {topic}")

    def wait_for_sequence(self, topic: str, sequence: int) -> list[Message]:
        return self.wait(
            topic,
            lambda messages: bool(messages) and messages[-1]["sequence"] >= sequence,
            f"message {sequence} of {topic}",
        )

    def close(self) -> None:
        self.socket.close()


class Venue:
    """A running exchange, without a database: order handler, a matching daemon for each asset, notifier."""

    def __init__(self, folder: Path, extra: str = "", assets: str = ASSETS) -> None:
        self.config = write_config(folder, assets, extra)
        self.endpoints = self.config.endpoints
        self.context: zmq.Context[Any] = zmq.Context()
        self.order_handler = Daemon(self.config, "order_handler")
        self.matching = {asset.asset: Daemon(self.config, "matching", asset.asset) for asset in self.config.assets}
        self.notifier = Daemon(self.config, "notifier")
        self.numbers = itertools.count(1)
        self.accounts: list[str] = []
        self.entry = Peer(self.context, self.endpoints.order_entry)
        self.query = Peer(self.context, self.endpoints.query)

    @property
    def daemons(self) -> list[Daemon]:
        return [self.order_handler, *self.matching.values(), self.notifier]

    def peer(self, **options: Any) -> Peer:
        """Return another client of order entry."""
        return Peer(self.context, self.endpoints.order_entry, **options)

    def wait_until_ready(self) -> None:
        """Return when orders are taken and the notifier knows all that was taken so far."""
        self.query.close()  # what is sent while the connection to a notifier that was killed seems to be there is lost
        self.query = Peer(self.context, self.endpoints.query)
        assert self.entry.ask(type="ping")["type"] == "pong"

        def ready() -> bool:
            reply = self.query.ask(type="sequences")
            return reply["type"] == "sequences" and "rebuilding" not in reply

        wait_until(ready, "the notifier is ready", DEADLINE_SECONDS)

    def account(self) -> str:
        """Return an account that has not traded yet; its orders are canceled at the end of the test."""
        self.accounts.append(f"account-{next(self.numbers)}")
        return self.accounts[-1]

    def order(self, account: str, side: str, quantity: int, price: int | None = None, **more: Any) -> Message:
        """Return a new order for ACME, unless told otherwise, with a new client_order_id."""
        message = {
            "type": "new_order",
            "client_order_id": f"order {next(self.numbers)}",
            "asset": "ACME",
            "side": side,
            "quantity": quantity,
            "account": account,
        }
        return message | ({} if price is None else {"price": price}) | more

    def enter(self, account: str, side: str, quantity: int, price: int | None = None, **more: Any) -> Message:
        """Enter an order and return its ack."""
        ack: Message = self.entry.ask(self.order(account, side, quantity, price, **more))
        assert ack["type"] == "ack", ack
        return ack

    def do(self, kind: str, **fields: Any) -> Message:
        """Amend or cancel, and return the ack."""
        ack: Message = self.entry.ask({"type": kind, **fields})
        assert ack["type"] == "ack", ack
        return ack

    def clear(self) -> None:
        """Cancel what the test's accounts have left, and wait until the books show it."""
        for account in self.accounts:
            self.do("mass_cancel", account=account)
        self.accounts.clear()
        for asset in self.matching:
            self.settle(asset)
            snapshot = self.query.ask(type="book_snapshot", asset=asset)
            assert (snapshot["bids"], snapshot["asks"]) == ([], []), snapshot

    def settle(self, asset: str = "ACME") -> None:
        """Return when the notifier has seen all that was acknowledged for the asset so far."""
        price = LOWEST if asset == "ACME" else 1
        ack = self.enter("settle", "buy", 10, price, asset=asset, time_in_force="ioc")

        def seen() -> bool:
            reply = self.query.ask(type="order_status", account="settle", asset=asset, order_id=ack["order_id"])
            return bool(reply.get("order_status") == "canceled")

        wait_until(seen, f"order {ack['order_id']} is reported", DEADLINE_SECONDS, pause=0.002)

    def public(self, *topics: str) -> Subscription:
        """Return a subscription to public topics (all: an empty text) that is in effect."""
        subscription = Subscription(self.context, self.endpoints.market_data, *topics, "heartbeat/")
        subscription.wait_for_count("heartbeat/", 1)
        return subscription

    def private(self, *topics: str) -> Subscription:
        """Return a subscription to private topics (all: an empty text) that is in effect."""
        probe = f"probe-{next(self.numbers)}"
        topic = f"execution/{probe}/ACME/"
        subscription = Subscription(self.context, self.endpoints.private, *topics, topic)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not subscription.messages[topic]:
            assert time.monotonic() < deadline, "the private feed is silent"
            self.enter(probe, "buy", 10, LOWEST, time_in_force="ioc")
            subscription.socket.poll(50)
            subscription.drain()
        return subscription

    def check_alive(self) -> None:
        """Fail where a daemon has ended."""
        for daemon in self.daemons:
            assert daemon.alive, f"{daemon.arguments} has ended:\n{daemon.output()[-4000:]}"

    def stop(self) -> None:
        """End every daemon in the proper way; each must end in peace."""
        for daemon in self.daemons:
            daemon.signal(signal.SIGTERM)
        for daemon in self.daemons:
            assert daemon.wait() == 0, daemon.output()[-4000:]


@contextmanager
def venue(folder: Path, extra: str = "", assets: str = ASSETS) -> Iterator[Venue]:
    """Run an exchange; at its end every daemon must be alive and end in peace."""
    exchange = Venue(folder, extra, assets)
    try:
        with running(*exchange.daemons):
            exchange.wait_until_ready()
            yield exchange
            exchange.check_alive()
            exchange.stop()
    finally:
        exchange.context.destroy(linger=0)


def retransmit(venue: Venue, topic: str, first: int, to: int) -> Message:
    reply: Message = venue.query.ask({"type": "retransmit", "topic": topic, "from": first, "to": to})
    return reply


def whole_topic(venue: Venue, topic: str) -> list[Message]:
    """Return all messages of a topic, asked for in parts as the replies say."""
    messages: list[Message] = []
    start: int | None = 1
    while start is not None:
        reply = retransmit(venue, topic, start, 2**62)
        assert reply["type"] == "retransmit", reply
        assert reply["topic"] == topic
        assert len(reply["messages"]) <= 1000
        messages += reply["messages"]
        start = reply.get("next")
        assert start is None or start == len(messages) + 1
    return messages


def wait_for_sequences(venue: Venue, feed: Subscription) -> dict[str, int]:
    """Return each public topic's last number, once a subscription made before the first order has it."""
    for asset in venue.matching:
        venue.settle(asset)
    sequences: dict[str, int] = venue.query.ask(type="sequences")["sequences"]
    for topic, last in sequences.items():
        if last and not topic.startswith("status/"):  # which was published before anybody could subscribe
            feed.wait_for_sequence(topic, last)
    return sequences


def trade_at_random(venue: Venue, count: int, seed: int) -> None:
    """Enter, amend and cancel orders of four accounts at random."""
    random_ = random.Random(seed)
    accounts = [venue.account() for _ in range(4)]
    orders: list[tuple[str, int]] = []
    for _ in range(count):
        account = random_.choice(accounts)
        if orders and random_.random() < 0.4:
            owner, order_id = random_.choice(orders)
            named = {"account": owner, "asset": "ACME", "order_id": order_id}
            if random_.random() < 0.4:
                venue.do("cancel_order", **named)
            else:
                venue.do("amend_order", price=random_.randrange(980, 1025, 5), **named)
                venue.do("amend_order", quantity=random_.randrange(10, 200, 10), **named)
            continue
        side, quantity, price = random_.choice(("buy", "sell")), random_.randrange(10, 200, 10), None
        kind = random_.choice(("limit", "limit", "limit", "market"))
        if kind == "limit":
            price = random_.randrange(980, 1025, 5)
        time_in_force = random_.choice(("gtc", "gtc", "gtc", "ioc", "fok"))
        ack = venue.enter(account, side, quantity, price, order_type=kind, time_in_force=time_in_force)
        if price is not None:  # which is what an amend may change
            orders.append((account, ack["order_id"]))
