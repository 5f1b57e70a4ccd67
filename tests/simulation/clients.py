"""Who uses the exchange: traders that retry until they are answered, subscribers that miss nothing, an operator."""

from typing import TYPE_CHECKING, Any

import msgspec
import zmq
from msgspec import UNSET

from exchange.config import Config
from exchange.core import admin_messages, messages, requests
from exchange.core.asset import Asset, Status
from exchange.core.messages import Ack, OrderEntryReply, Reject
from exchange.pipeline.codec import encode
from tests.simulation.kernel import NEVER, Actor, Failed, Kernel
from tests.simulation.network import Network, Socket, client_socket

if TYPE_CHECKING:
    from tests.simulation.exchange import Profile

decode_reply = msgspec.msgpack.Decoder(OrderEntryReply | list[OrderEntryReply]).decode
decode_done = msgspec.msgpack.Decoder(admin_messages.AdminReply).decode
decode = msgspec.msgpack.Decoder().decode


class Messages(msgspec.Struct):
    messages: list[msgspec.Raw]


decode_messages = msgspec.msgpack.Decoder(Messages).decode

NOT_NOW = ("busy", "rate_limited")  # worth another try
PERMITTED = ("market_closed", "halted", "risk_limit", "invalid_price", *NOT_NOW)
MOST_TRIES = 4  # of a request that the exchange is too busy for


def fetch(socket: Socket) -> list[list[bytes]]:
    """Return the messages that have come, each as its frames."""
    found: list[list[bytes]] = []
    while True:
        try:
            frames = [socket.recv()]
        except zmq.Again:
            return found
        while socket.getsockopt(zmq.RCVMORE):
            frames.append(socket.recv())
        found.append(frames)


class Sent:
    """A request that a trader has sent, until it is answered for good."""

    __slots__ = ("key", "message", "tries", "unanswered", "wrong")

    def __init__(self, key: tuple[str, str], message: Any, wrong: str = "") -> None:
        self.key = key
        self.message = message
        self.tries = 0
        self.unanswered = False  # whether an earlier sending may still arrive, and be taken
        self.wrong = wrong  # the reason for which it must be rejected


class Trader(Actor):
    """One account, with many requests in flight, which it sends again over a new socket until each is answered.

    What it learns is checked at once: a repeated ack is the first one again, a reject has a reason that it may have.
    """

    def __init__(self, kernel: Kernel, network: Network, config: Config, account: str, profile: "Profile") -> None:
        super().__init__(kernel, account)
        self.network = network
        self.endpoint = config.endpoints.order_entry
        self.assets = config.assets
        self.account = account
        self.profile = profile
        self.chance = kernel.chance
        self.socket = client_socket(network, self, zmq.DEALER, self.endpoint)
        self.frames: list[list[Sent]] = []  # in flight, in order, as they were sent
        self.waiting: list[Sent] = []  # to be sent again later
        self.deadline = NEVER
        self.count = 0
        self.trading = True
        self.stopped = False  # reads nothing, for a while
        self.acked: dict[tuple[str, str], Ack] = {}
        self.contents: dict[tuple[str, str], Any] = {}  # every request that was sent with an id of its own
        self.gave_up: set[tuple[str, str]] = set()
        self.orders: list[tuple[str, int, str, str]] = []  # acked: asset, order id, client_order_id, order type
        self.next_at = 0.0
        self.anonymous = 0

    @property
    def outstanding(self) -> int:
        return sum(map(len, self.frames)) + len(self.waiting)

    def run(self) -> None:
        now = self.kernel.now
        if not self.stopped:
            for frames in fetch(self.socket):
                self.answered(decode_reply(frames[0]))
            if self.frames and now >= self.deadline:
                self.send_again()
        if now >= self.next_at:
            self.next_at = now + self.chance.expovariate(self.profile.requests_per_second)
            if self.waiting:
                self.send([self.waiting.pop(0)])
            elif self.trading and self.outstanding < self.profile.in_flight:
                self.trade()
        if self.stopped:
            self.wake(self.next_at)
        else:
            self.wake(min(self.deadline if self.frames else NEVER, self.next_at, self.socket.next_at()))

    def send(self, batch: list[Sent]) -> None:
        payload = encode(batch[0].message) if len(batch) == 1 else encode([sent.message for sent in batch])
        try:
            self.socket.send(payload)
        except zmq.Again:
            self.waiting.extend(batch)
            return
        for sent in batch:
            sent.tries += 1
        if not self.frames:
            self.deadline = self.kernel.now + 1 + self.chance.random()
        self.frames.append(batch)

    def send_again(self) -> None:
        """Open a new socket and send what was not answered again, in order."""
        self.kernel.fault("retries on a new connection", self.account, len(self.frames))
        self.socket.close()
        self.socket = client_socket(self.network, self, zmq.DEALER, self.endpoint)
        frames, self.frames = self.frames, []
        for batch in frames:
            for sent in batch:
                sent.unanswered = True
            self.send(batch)

    # -- replies -------------------------------------------------------------------------------------------------------

    def answered(self, reply: Any) -> None:
        replies = reply if isinstance(reply, list) else [reply]
        # A reply is to the oldest frame; but after a connection that broke by itself earlier frames may be lost.
        ids = [each.request_id for each in replies]
        for place, batch in enumerate(self.frames):
            if [sent.message.request_id for sent in batch] == ids:
                del self.frames[place]
                break
        else:
            raise Failed(f"{self.account}: a reply to nothing that was asked: {replies}")
        self.deadline = self.kernel.now + 1 + self.chance.random()
        for sent, each in zip(batch, replies, strict=True):
            self.judge(sent, each)

    def judge(self, sent: Sent, reply: Any) -> None:
        kind = type(reply)
        if kind is Ack:
            self.judge_ack(sent, reply)
        elif kind is Reject:
            self.judge_reject(sent, reply)
        elif type(sent.message) is not messages.Ping:
            raise Failed(f"{self.account}: {sent.message} got {reply}")

    def judge_ack(self, sent: Sent, ack: Ack) -> None:
        if sent.wrong:
            raise Failed(f"{self.account}: {sent.message} should be rejected as {sent.wrong} and got {ack}")
        if type(sent.message) in (messages.Session, messages.CancelAllAfter):
            return
        before = self.acked.get(sent.key)
        if ack.duplicate:
            self.kernel.seen["duplicate ack"] += 1
        if before is not None:
            same = (before.order_id, before.asset, before.sequence, before.sequences, before.time)
            if not ack.duplicate or (ack.order_id, ack.asset, ack.sequence, ack.sequences, ack.time) != same:
                raise Failed(f"{self.account}: {sent.key} was acked as {before}, and now as {ack}")
            return
        if ack.duplicate and not sent.unanswered:
            raise Failed(f"{self.account}: {sent.message} was sent once, and acked as a duplicate: {ack}")
        self.acked[sent.key] = ack
        if type(sent.message) is messages.NewOrder:
            message = sent.message
            assert isinstance(ack.order_id, int)
            self.orders.append((message.asset, ack.order_id, message.client_order_id, message.order_type))

    def judge_reject(self, sent: Sent, reject: Reject) -> None:
        reason = reject.reason
        self.kernel.seen[f"reject: {reason}"] += 1
        if sent.wrong:
            if reason not in (sent.wrong, *NOT_NOW):
                raise Failed(f"{self.account}: {sent.message} should be rejected as {sent.wrong} and got {reject}")
            return
        if reason == "unsupported" and getattr(sent.message, "expire_time", UNSET) is not UNSET:
            reason = "market_closed"  # its time has passed before it could be judged: too late, and no mistake
        if reason not in PERMITTED or sent.key in self.acked:
            raise Failed(f"{self.account}: {sent.message} (sent {sent.tries} times) got {reject}")
        if reason in NOT_NOW and sent.tries < MOST_TRIES:
            self.waiting.append(sent)
        else:
            if not sent.unanswered:
                self.gave_up.add(sent.key)

    # -- what it does --------------------------------------------------------------------------------------------------

    def trade(self) -> None:
        size = 1 if self.chance.random() < 0.8 else self.chance.randint(2, 8)
        self.send([self.request() for _ in range(size)])

    def request(self) -> Sent:
        draw = self.chance.random() * 100
        self.count += 1
        number = f"r{self.count}"
        asset = self.chance.choice(self.assets)
        if draw < 58 or not self.orders:
            return self.new_order(asset, number)
        if draw < 72:
            name, order_id, client_order_id, _ = self.chance.choice(self.orders[-40:])
            which = {"order_id": order_id} if draw < 66 else {"client_order_id": client_order_id}
            return self.known("request", messages.CancelOrder(asset=name, request_id=number, **which))
        if draw < 87:
            return self.amend(number)
        if draw < 90:
            where: dict[str, Any] = {} if draw < 88.5 else {"asset": asset.asset}
            side: Any = self.chance.choice((UNSET, UNSET, "buy", "sell"))
            return self.known("request", messages.MassCancel(request_id=number, side=side, **where))
        if draw < 92:
            return Sent(("", ""), self.signed(messages.Ping(request_id=number)))
        if draw < 93:
            interval = self.chance.choice((1_000, 3_000, 60_000))
            on = self.chance.random() < 0.5
            message = messages.Session(heartbeat_interval_ms=interval, cancel_on_disconnect=on, request_id=number)
            return Sent(("", ""), self.signed(message))
        if draw < 94:
            timeout = self.chance.choice((0, 1_000, 4_000, 60_000))
            return Sent(("", ""), self.signed(messages.CancelAllAfter(timeout_ms=timeout, request_id=number)))
        if draw < 97 and self.acked:
            return self.again(number)
        return self.mistake(asset, number)

    def signed(self, message: Any) -> Any:
        return msgspec.structs.replace(message, account=self.account)

    def known(self, kind: str, message: Any) -> Sent:
        key = (kind, message.client_order_id if kind == "order" else message.request_id)
        message = self.signed(message)
        self.contents[key] = message
        return Sent(key, message)

    def price(self, asset: Asset) -> int:
        return 100 * asset.tick_size + self.chance.randint(-5, 5) * asset.tick_size

    def quantity(self, asset: Asset) -> int:
        return self.chance.randint(1, 20) * asset.lot_size

    def new_order(self, asset: Asset, number: str) -> Sent:
        chance = self.chance
        side = chance.choice(("buy", "sell"))
        quantity, price = self.quantity(asset), self.price(asset)
        fields: dict[str, Any] = {"price": price}
        draw = chance.random() * 100
        if draw < 8:
            fields = {"order_type": "market", "time_in_force": "ioc"}
        elif draw < 16:
            fields["time_in_force"] = chance.choice(("ioc", "fok"))
        elif draw < 32:
            stop_price = price + (3 if side == "buy" else -3) * asset.tick_size
            fields = {"order_type": "stop", "stop_price": stop_price, "time_in_force": "gtc"}
            if draw < 24:
                fields |= {"order_type": "stop_limit", "price": stop_price}
        elif draw < 40:
            fields["display_quantity"] = max(1, quantity // asset.lot_size // 4) * asset.lot_size
            quantity += asset.lot_size
        elif draw < 44:
            fields["time_in_force"] = "day"
        elif draw < 50:
            fields["time_in_force"] = "gtd"
            fields["expire_time"] = self.kernel.time_ns(self.kernel.now) + chance.randint(3, 12) * 10**9 + 3_600 * 10**9
            if draw < 48:
                fields["expire_time"] -= 3_600 * 10**9
        elif draw < 54:
            fields["post_only"] = True
        elif draw < 58:
            fields["self_trade_prevention"] = chance.choice(("cancel_oldest", "cancel_both", "decrement_and_cancel"))
        client_order_id = f"o{number[1:]}"
        message = messages.NewOrder(
            client_order_id=client_order_id,
            asset=asset.asset,
            side=side,  # type: ignore[arg-type]
            quantity=quantity,
            request_id=number,
            **fields,
        )
        return self.known("order", message)

    def amend(self, number: str) -> Sent:
        chance = self.chance
        name, order_id, client_order_id, kind = chance.choice(self.orders[-40:])
        asset = next(each for each in self.assets if each.asset == name)
        which: dict[str, Any] = {"order_id": order_id}
        if chance.random() < 0.3:
            which["client_order_id"] = client_order_id
        changes: dict[str, Any] = {}
        if chance.random() < 0.6:
            changes["quantity"] = self.quantity(asset)
        if kind in ("limit", "stop_limit") and (not changes or chance.random() < 0.5):
            changes["price"] = self.price(asset)
        if not changes:
            changes["quantity"] = self.quantity(asset)
        return self.known("request", messages.AmendOrder(asset=name, request_id=number, **which, **changes))

    def again(self, number: str) -> Sent:
        """Send something again that was acked long ago; or the same id with other content."""
        key = self.chance.choice(list(self.acked))
        message = self.contents[key]
        if key[0] == "order":
            message = msgspec.structs.replace(message, request_id=number)
            if self.chance.random() < 0.3:
                return Sent(
                    ("", ""),
                    msgspec.structs.replace(message, quantity=message.quantity + 1_000_000),
                    wrong="duplicate_client_order_id",
                )
        sent = Sent(key, message)
        sent.unanswered = True
        return sent

    def mistake(self, asset: Asset, number: str) -> Sent:
        if self.chance.random() < 0.5:
            message: Any = messages.CancelOrder(asset=asset.asset, order_id=10**9, request_id=number)
            return Sent(("", ""), self.signed(message), wrong="unknown_order")
        message = messages.NewOrder(
            client_order_id=f"m{number}", asset="NONE", side="buy", quantity=1, price=1, request_id=number
        )
        return Sent(("", ""), self.signed(message), wrong="unknown_asset")


class Subscriber(Actor):
    """Follows all topics, public and private, keeps every message by its number, and asks for those it misses."""

    def __init__(self, kernel: Kernel, network: Network, config: Config, accounts: list[str], name: str) -> None:
        super().__init__(kernel, name)
        endpoints = config.endpoints
        self.network = network
        self.accounts = accounts
        self.public = client_socket(network, self, zmq.SUB, endpoints.market_data, [b""])
        self.private = client_socket(network, self, zmq.SUB, endpoints.private, [b"execution/"])
        self.queries = client_socket(network, self, zmq.DEALER, endpoints.query)
        self.query_endpoint = endpoints.query
        self.topics: dict[str, dict[int, bytes]] = {}
        self.complete: dict[str, int] = {}  # up to which number a topic's messages are there
        self.last: dict[str, int] = {}  # a topic's highest known number
        self.told: dict[str, int] = {}  # what the last heartbeat said of it
        self.asked: dict[str, Any] = {}
        self.too_old: dict[str, int] = {}  # the first number that is retained
        self.look_at = 0.5
        self.asked_at = NEVER
        self.number = 0

    def run(self) -> None:
        for socket in (self.public, self.private):
            for topic, payload in fetch(socket):
                if topic == b"heartbeat/":
                    self.heard(decode(payload)["sequences"], heartbeat=True)
                else:
                    self.take(topic.decode(), decode(payload)["sequence"], payload)
        for frames in fetch(self.queries):
            self.answered(frames[0])
        now = self.kernel.now
        if now >= self.look_at:
            self.look_at = now + 0.5
            if now - self.asked_at > 2:
                self.queries.close()
                self.queries = client_socket(self.network, self, zmq.DEALER, self.query_endpoint)
                self.asked_at = NEVER
            if self.asked_at == NEVER:
                self.ask()
        self.wake(min(self.look_at, self.public.next_at(), self.private.next_at(), self.queries.next_at()))

    def take(self, topic: str, number: int, payload: bytes) -> None:
        known = self.topics.setdefault(topic, {})
        if known.setdefault(number, payload) != payload:
            raise Failed(f"{self.name}: {topic} {number} was {decode(known[number])} and is {decode(payload)} now")
        if number > self.last.get(topic, 0):
            self.last[topic] = number

    def heard(self, sequences: dict[str, int], heartbeat: bool = False) -> None:
        for topic, number in sequences.items():
            if heartbeat:
                self.heartbeat(topic, number)
            if number > self.last.get(topic, 0):
                self.last[topic] = number

    def heartbeat(self, topic: str, number: int) -> None:
        """Check that a topic's number never goes back.

        It may after a power failure: what that takes of an event log was published before, and is made again. And a
        connection that has broken may leave a heartbeat to be read after a later one.
        """
        seen = self.kernel.seen
        before = self.told.get(topic, 0)
        self.told[topic] = number
        if number < before:
            if not (seen["power failure"] or seen["connection broken"]):
                raise Failed(f"{self.name}: {topic} ends with {number}, and with {before} a heartbeat before")
            seen["published before it was lost"] += bool(seen["power failure"])

    def missing(self) -> list[str]:
        """Return the topics of which something is missing, having noted how far each is there."""
        found = []
        for topic, last in self.last.items():
            known = self.topics.setdefault(topic, {})
            at = max(self.complete.get(topic, 0), self.too_old.get(topic, 1) - 1)
            while at + 1 in known:
                at += 1
            self.complete[topic] = at
            if at < last:
                found.append(topic)
        return found

    def ask(self) -> None:
        try:
            for topic in self.missing()[:6]:
                first = self.complete[topic] + 1
                known = self.topics[topic]
                to = next((number for number in range(first, self.last[topic]) if number in known), self.last[topic])
                self.send({"type": "retransmit", "topic": topic, "from": first, "to": max(first, to)})
            account = self.network.kernel.chance.choice(self.accounts)
            self.send({"type": "sequences", "account": account})
        except zmq.Again:
            self.asked_at = self.kernel.now - 10

    def send(self, query: dict[str, Any]) -> None:
        self.number += 1
        self.queries.send(encode(query | {"request_id": self.number}))
        self.asked_at = self.kernel.now

    def answered(self, payload: bytes) -> None:
        reply = decode(payload)
        if reply["request_id"] == self.number:
            self.asked_at = NEVER
        kind = reply["type"]
        if kind == "retransmit":
            self.kernel.seen["retransmission"] += 1
            sent = decode_messages(payload).messages  # as they are: bytes, not values
            for message, raw in zip(reply["messages"], sent, strict=True):
                self.take(reply["topic"], message["sequence"], bytes(raw))
        elif kind == "sequences":
            self.heard(reply["sequences"])
        elif kind == "reject":
            if reply["reason"] == "too_old":
                self.kernel.seen["too old"] += 1
                # The query is not echoed; the topic is the text's first word.
                topic = reply["text"].split()[0]
                self.too_old[topic] = max(self.too_old.get(topic, 1), reply["earliest"])
            elif reply["reason"] != "busy":
                raise Failed(f"{self.name}: {reply}")
            else:
                self.kernel.seen["query busy"] += 1


class Operator(Actor):
    """Halts, opens, calls, defines, cancels; and keeps what was done."""

    def __init__(self, kernel: Kernel, network: Network, config: Config, accounts: list[str], seconds: float) -> None:
        super().__init__(kernel, "operator")
        self.network = network
        self.endpoint = config.admin_endpoint
        self.assets = config.assets
        self.accounts = accounts
        self.seconds = seconds
        self.socket = client_socket(network, self, zmq.DEALER, self.endpoint)
        self.act_at = seconds
        self.done: list[tuple[Any, admin_messages.Done]] = []
        self.asked: list[Any] = []
        self.acting = True

    def run(self) -> None:
        for frames in fetch(self.socket):
            reply = decode_done(frames[0])
            act = self.asked.pop(0) if self.asked else None
            if isinstance(reply, admin_messages.Done) and act is not None:
                self.done.append((act, reply))
        now = self.kernel.now
        if now >= self.act_at and self.acting:
            self.act_at = now + self.kernel.chance.random() * 2 * self.seconds
            if self.asked:  # not answered: it is not known whether it was done
                self.asked.clear()
                self.socket.close()
                self.socket = client_socket(self.network, self, zmq.DEALER, self.endpoint)
            self.act(self.choose())
        self.wake(min(self.act_at if self.acting else NEVER, self.socket.next_at()))

    def act(self, act: Any) -> None:
        try:
            self.socket.send(encode(act))
        except zmq.Again:
            return
        self.asked.append(act)

    def choose(self) -> Any:
        chance = self.kernel.chance
        asset = chance.choice(self.assets)
        draw = chance.random()
        if draw < 0.15:
            account = chance.choice(self.accounts)
            where: dict[str, Any] = {"asset": asset.asset} if draw < 0.07 else {}
            return admin_messages.Cancel(by="sim", account=account, **where)
        if draw < 0.3:
            changed = msgspec.structs.replace(asset, max_quantity=10**9 + chance.randint(0, 3))
            return admin_messages.AddAsset(by="sim", definition=changed)
        statuses: tuple[Status, ...] = ("open", "open", "open", "halted", "call", "closed")
        status = chance.choice(statuses)
        return admin_messages.ChangeStatus(by="sim", asset=asset.asset, status=status)


def expected(message: Any, order_id: int) -> requests.Request:
    """Return the request that the journal has to hold for a message that was acked."""

    def said(name: str, otherwise: int | None = 0) -> Any:
        value = getattr(message, name)
        return otherwise if value is UNSET else value

    if type(message) is messages.NewOrder:
        instructions = requests.Instructions(
            said("stop_price"),
            said("display_quantity"),
            said("min_quantity"),
            message.post_only,
            message.self_trade_prevention,
            said("expire_time"),
        )
        return requests.NewOrder(
            order_id,
            message.client_order_id,
            requests.SIDES[message.side],
            said("quantity"),
            said("price"),
            message.order_type,
            message.time_in_force,
            None if instructions == requests.Instructions() else instructions,
        )
    if type(message) is messages.CancelOrder:
        return requests.CancelOrder(order_id, said("request_id", None))
    assert type(message) is messages.AmendOrder
    return requests.AmendOrder(order_id, said("quantity", None), said("price", None), said("request_id", None))
