"""A client that trades at random and does not give up: what was not answered it sends again, by its ids.

Nothing but `zmq` and `msgpack`. It has batches of requests in flight on one socket that never reconnects by itself;
when that falls silent, all that was not answered goes out again, in order, on a new one.
"""

import random
import time
from collections import Counter, deque
from contextlib import suppress
from typing import Any

import msgpack
import zmq

Message = dict[str, Any]
Key = tuple[str, str, str]  # the account, which of the two ids, and the id

ACCOUNTS = ("ann", "bob", "dan", "sue")
BATCH = 20
FRAMES_IN_FLIGHT = 4
SILENCE_SECONDS = 0.25
TRY_AGAIN = ("busy", "halted", "market_closed")
PREVENTIONS = ("cancel_newest", "cancel_oldest", "cancel_both", "decrement_and_cancel")
REPEATED_PERCENT = 2  # of the requests, sent again although they were answered


class Trader:
    """Call `turn` again and again, then `drain`. `acks` has the first ack of each id, `rejects` the reasons."""

    def __init__(self, endpoint: str, assets: tuple[str, ...], seed: int) -> None:
        self.endpoint = endpoint
        self.assets = assets
        self.random = random.Random(seed)
        self.context: zmq.Context[Any] = zmq.Context()
        self.socket = self._connect()
        self.number = 0
        self.in_flight: deque[list[Message]] = deque()
        self.again: list[Message] = []  # what was answered "try again"
        self.heard_at = time.monotonic()
        self.requests: dict[Key, Message] = {}
        self.acks: dict[Key, Message] = {}
        self.rejects: Counter[str] = Counter()
        self.rejected: set[Key] = set()
        self.reconnects = 0
        self.last_expiry = 0  # when the last of its orders expires, in nanoseconds since the Unix epoch
        self.orders: deque[tuple[str, str, str, bool]] = deque(
            maxlen=60
        )  # account, asset, client_order_id, has a price

    def turn(self, wait_ms: int = 5) -> None:
        """Send as much as may be in flight, and take the replies that come within the wait."""
        while len(self.in_flight) < FRAMES_IN_FLIGHT:
            batch, self.again = self.again[:BATCH], self.again[BATCH:]
            batch += [self._any_request() for _ in range(BATCH - len(batch))]
            self._send(batch)
        self._receive(wait_ms)

    def drain(self, seconds: float) -> None:
        """Return when all is answered."""
        deadline = time.monotonic() + seconds
        while self.in_flight or self.again:
            assert time.monotonic() < deadline, f"{len(self.in_flight)} frames not answered within {seconds:g} s"
            if self.again and not self.in_flight:
                batch, self.again = self.again[:BATCH], self.again[BATCH:]
                self._send(batch)
            self._receive(5)

    def close(self) -> None:
        self.context.destroy(linger=0)

    # -- the wire ------------------------------------------------------------------------------------------------------

    def _connect(self) -> zmq.Socket[Any]:
        socket: zmq.Socket[Any] = self.context.socket(zmq.DEALER)
        socket.linger = 0
        socket.sndhwm = socket.rcvhwm = 0
        socket.reconnect_ivl = -1
        socket.connect(self.endpoint)
        return socket

    def _send(self, batch: list[Message]) -> None:
        if not self.in_flight:
            self.heard_at = time.monotonic()
        self.in_flight.append(batch)
        self._write(batch)

    def _write(self, batch: list[Message]) -> None:
        with suppress(zmq.Again):  # where the connection has ended silence will tell
            self.socket.send(msgpack.packb(batch), zmq.NOBLOCK)

    def _receive(self, wait_ms: int) -> None:
        while self.in_flight and self.socket.poll(wait_ms):
            wait_ms = 0
            self.heard_at = time.monotonic()
            batch = self.in_flight.popleft()
            replies = msgpack.unpackb(self.socket.recv())
            assert isinstance(replies, list), replies
            for request, reply in zip(batch, replies, strict=True):
                self._take(request, reply)
        if self.in_flight and time.monotonic() - self.heard_at > SILENCE_SECONDS:
            self.reconnects += 1
            self.socket.close()
            self.socket = self._connect()
            self.heard_at = time.monotonic()
            for batch in self.in_flight:
                self._write(batch)

    def _take(self, request: Message, reply: Message) -> None:
        key = key_of(request)
        assert reply.get("request_id") == request["request_id"], f"{request} is answered {reply}"
        if reply["type"] == "reject":
            if reply["reason"] in TRY_AGAIN:
                self.again.append(request)
                return
            assert key not in self.acks, f"{request} was acknowledged, {self.acks[key]}, and is answered {reply}"
            self.rejects[reply["reason"]] += 1
            self.rejected.add(key)
            return
        assert reply["type"] == "ack", reply
        duplicate = reply.pop("duplicate", False)
        first = self.acks.setdefault(key, reply)
        assert first == reply, f"{request} was acknowledged as {first}, and again as {reply}"
        assert duplicate or first is reply, f"{request} was acknowledged before, and this is no duplicate: {reply}"
        assert key not in self.rejected, f"{request} was rejected, and is answered {reply}"
        if request["type"] == "new_order":
            has_price = request["order_type"] in ("limit", "stop_limit")
            self.orders.append((request["account"], request["asset"], request["client_order_id"], has_price))

    # -- what is asked for ---------------------------------------------------------------------------------------------

    def _any_request(self) -> Message:
        if self.acks and self.random.randrange(100) < REPEATED_PERCENT:
            return self.requests[self.random.choice(self._recent)]
        self.number += 1
        request = self._new_request() | {"request_id": f"r{self.number}"}
        self.requests[key_of(request)] = request
        return request

    @property
    def _recent(self) -> list[Key]:
        """Ids of the last orders that were acknowledged, or the very first ones."""
        recent = [(account, "client_order_id", name) for account, _, name, _ in self.orders]
        return recent or list(self.acks)[:100]

    def _new_request(self) -> Message:
        dice = self.random.randrange(1000)
        if dice < 650 or not self.orders:
            return self._new_order()
        if dice < 995:
            account, asset, name, has_price = self.random.choice(self.orders)
            named = {"account": account, "asset": asset, "client_order_id": name}
            if dice < 850:
                return named | {"type": "cancel_order"}
            change = {"price": self._price()} if has_price and dice < 930 else {"quantity": self._quantity()}
            return named | {"type": "amend_order"} | change
        where = {} if dice < 998 else {"asset": self.random.choice(self.assets)}
        return {"type": "mass_cancel", "account": self.random.choice(ACCOUNTS)} | where

    def _new_order(self) -> Message:
        draw = self.random
        order: Message = {
            "type": "new_order",
            "account": draw.choice(ACCOUNTS),
            "client_order_id": f"c{self.number}",
            "asset": draw.choice(self.assets),
            "side": draw.choice(("buy", "sell")),
            "quantity": self._quantity(),
            "order_type": draw.choice(("limit",) * 7 + ("market", "stop", "stop_limit")),
            "self_trade_prevention": draw.choice(PREVENTIONS),
        }
        has_price = order["order_type"] in ("limit", "stop_limit")
        if has_price:
            order["price"] = self._price()
        if order["order_type"] in ("stop", "stop_limit"):
            order["stop_price"] = self._price()
        order["time_in_force"] = draw.choice(
            ("gtc", "gtc", "gtc", "ioc", "fok", "day", "gtd") if has_price else ("gtc",)
        )
        if order["time_in_force"] == "gtd":
            order["expire_time"] = time.time_ns() + draw.randrange(2 * 10**8, 2 * 10**9)
            self.last_expiry = max(self.last_expiry, order["expire_time"])
        if has_price and order["time_in_force"] not in ("ioc", "fok"):
            extra = draw.randrange(10)
            if extra == 0:
                order["display_quantity"] = draw.randint(1, order["quantity"])
            elif extra == 1:
                order["post_only"] = True
            elif extra == 2:
                order["min_quantity"] = draw.randint(1, order["quantity"])
        return order

    def _price(self) -> int:
        return self.random.randint(95, 105)

    def _quantity(self) -> int:
        return self.random.randint(1, 40)


def key_of(request: Message) -> Key:
    """Return the id by which a request can be sent again safely."""
    name = "client_order_id" if request["type"] == "new_order" else "request_id"
    return request["account"], name, request[name]
