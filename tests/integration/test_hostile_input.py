"""What no honest client sends. After each of it the same processes serve everybody else, and nothing was journaled."""

import random
import socket
import struct
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
import zmq

from tests.integration.outsider import Message, Peer, Venue
from tests.integration.outsider import venue as running_venue
from tests.support import wait_until

DEEP = 60_000
MAX_REQUEST_BYTES = 64 * 1024
MAX_FRAME_BYTES = 2 * MAX_REQUEST_BYTES
QUIET_SECONDS = 0.3  # in which an answer that must not come would have come
ROUTERS = ["order_entry", "query"]
ENDPOINTS = ["order_entry", "market_data", "private", "query"]
PING = msgpack.packb({"type": "ping"})


class Witness:
    """Somebody honest, who trades and listens while others misbehave."""

    def __init__(self, venue: Venue) -> None:
        self.venue = venue
        self.processes = [daemon.process for daemon in venue.daemons]
        self.public = venue.public("trade/ACME/")
        self.private = venue.private("execution/honest/")

    def enter(self) -> tuple[Message, int]:
        """Enter an order; return its ack, and the number of reports there are then."""
        ack = self.venue.enter("honest", "buy", 10, 1000)
        topic = "execution/honest/ACME/"
        reports = self.private.wait(
            topic, lambda reports: any(report["order_id"] == ack["order_id"] for report in reports), "the new order"
        )
        return ack, len(reports)

    def check(self, before: Message, reported: int) -> None:
        """Fail where somebody else could disturb what the order, entered before that, is due."""
        venue = self.venue
        venue.check_alive()
        assert [daemon.process for daemon in venue.daemons] == self.processes
        assert venue.entry.ask(type="ping")["type"] == "pong"
        after = venue.enter("seller", "sell", 10, 1000)
        assert after["sequence"] == before["sequence"] + 1, "something was journaled"
        self.private.wait_for_count("execution/honest/ACME/", reported + 1)
        self.public.wait(
            "trade/ACME/",
            lambda trades: any(trade["maker_order_id"] == before["order_id"] for trade in trades),
            "the trade",
        )
        assert venue.query.ask(type="book_snapshot", asset="ACME")["type"] == "book_snapshot"


@pytest.fixture(scope="module")
def witness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Witness]:
    with running_venue(tmp_path_factory.mktemp("hostile")) as venue:
        witness = Witness(venue)
        yield witness
        witness.public.close()
        witness.private.close()


@pytest.fixture
def venue(witness: Witness) -> Iterator[Venue]:
    """The venue. Whatever the test does to it, others are served afterwards as if it had not."""
    before, reported = witness.enter()
    yield witness.venue
    witness.check(before, reported)


@pytest.fixture(params=ROUTERS)
def endpoint(request: pytest.FixtureRequest, venue: Venue) -> str:
    return str(getattr(venue.endpoints, request.param))


@pytest.fixture(params=ENDPOINTS)
def any_endpoint(request: pytest.FixtureRequest, venue: Venue) -> str:
    return str(getattr(venue.endpoints, request.param))


@pytest.fixture
def peer(venue: Venue, endpoint: str) -> Iterator[Peer]:
    peer = Peer(venue.context, endpoint)
    yield peer
    peer.close()


def tcp(endpoint: str) -> socket.socket:
    host, port = endpoint.removeprefix("tcp://").rsplit(":", 1)
    return socket.create_connection((host, int(port)), 30)


def refused(reply: Any) -> bool:
    """Return whether a reply, or each of a batch's, is a reject for being malformed, with a text of bearable length."""
    if isinstance(reply, list):
        return all(refused(each) for each in reply)
    return (reply["type"], reply["reason"]) == ("reject", "malformed") and 0 < len(reply["text"]) < 500


def order_with(**fields: bytes) -> bytes:
    """Return an encoded order in which fields have the given encoding."""
    order = {
        "client_order_id": b"\xa1c",
        "asset": b"\xa4ACME",
        "side": b"\xa3buy",
        "quantity": b"\x0a",
        "price": b"\x64",
    }
    items = {"type": b"\xa9new_order", "account": b"\xa7mallory"} | order | fields
    return b"\xde" + struct.pack(">H", len(items)) + b"".join(msgpack.packb(key) + items[key] for key in items)


PAYLOADS = {
    "nothing": b"",
    "a byte that MessagePack never uses": b"\xc1",
    "two values": PING + PING,
    "a map without an end": b"\x82\xa4type\xa4ping",
    "an array that claims 2^32 - 1 items": b"\xdd\xff\xff\xff\xff",
    "a map that claims 2^32 - 1 items": b"\xdf\xff\xff\xff\xff",
    "text that claims 2^32 - 1 bytes": b"\xdb\xff\xff\xff\xff",
    "a field that claims 2^32 - 1 items": b"\x81\xa4type\xdd\xff\xff\xff\xff",
    "60,000 arrays in each other": b"\x91" * DEEP + b"\xc0",
    "60,000 arrays without an end": b"\x91" * DEEP,
    "maps in each other": b"\x81\xa1a" * (DEEP // 3) + b"\xc0",
    "maps as keys in each other": b"\x81" * DEEP + b"\xc0",
    "a deep field": order_with(quantity=b"\x91" * DEEP + b"\xc0"),
    "a deep unknown field": order_with(depth=b"\x81\x01" * (DEEP // 2) + b"\xc0"),
    "a field just too deep to show": order_with(quantity=b"\x91" * 985 + b"\xc0"),
    "a key that is a map": b"\x81\x80\x01",
    "a key that is an array": b"\x81\x91\x80\x01",
    "a key that is not a number": b"\x81\xcb\x7f\xf8\0\0\0\0\0\0\x01",
    "an extension": b"\xd4\x01\x00",
    "an extension as a field": order_with(quantity=b"\xd4\x01\x00"),
    "an extension as a key": b"\x81\xd4\x01\x00\x01",
    "a time that does not exist": order_with(quantity=b"\xd7\xff" + b"\xff" * 8),
    "a time far away": order_with(expire_time=b"\xc7\x0c\xff\x00\x00\x00\x00\x7f" + b"\xff" * 7),
    "text that is not UTF-8": order_with(client_order_id=b"\xa2\xff\xfe"),
    "text with half a surrogate pair": order_with(side=b"\xa3\xed\xa0\x80"),
    "a type that is not UTF-8": b"\x81\xa4type\xa2\xff\xfe",
    "a key that is not UTF-8": b"\x81\xa2\xff\xfe\x01",
    "bytes for text": order_with(client_order_id=b"\xc4\x01c"),
    "a whole number as a float": order_with(quantity=b"\xcb\x40\x24\0\0\0\0\0\0"),
    "infinity": order_with(price=b"\xcb\x7f\xf0\0\0\0\0\0\0"),
    "a key of 60,000 characters": b"\x82\xa4type\xa9new_order\xda\xea\x60" + b"k" * 60_000 + b"\x01",
    "a value of 60,000 characters": order_with(side=b"\xda\xea\x60" + b"v" * 60_000),
    "an id of 60,000 characters": order_with(client_order_id=b"\xda\xea\x60" + b"i" * 60_000),
    "60,000 keys": b"\xde\xea\x60" + b"\xa0\x01" * 30_000 + b"\xa1a\x01" * 1_000,
    "HTTP": b"GET / HTTP/1.1\r\nHost: exchange\r\n\r\n",
    "JSON": b'{"type": "ping"}',
}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())
def test_a_payload_that_is_no_request_is_malformed(peer: Peer, payload: bytes) -> None:
    assert refused(peer.ask_bytes(payload))


@pytest.mark.parametrize("number", [-(2**63), -1, 0, 2**63 - 1, 2**63, 2**64 - 1])
def test_numbers_at_the_ends_of_64_bits_are_refused(venue: Venue, number: int) -> None:
    for key in ("quantity", "price"):
        encoded = msgpack.packb(number) if number != 2**63 - 1 else b"\xcf\x7f" + b"\xff" * 7
        reply = venue.entry.ask_bytes(order_with(**{key: encoded}))
        assert (reply["type"], reply["reason"]) == ("reject", f"invalid_{key}")
        assert str(number) in reply["text"]


def test_of_duplicate_keys_the_last_counts(venue: Venue) -> None:
    reply = venue.entry.ask_bytes(b"\x83\xa4type\xa4ping\xaarequest_id\x01\xaarequest_id\x02")
    assert (reply["type"], reply["request_id"]) == ("pong", 2)


@pytest.mark.parametrize("nested", [b"\x91" * DEEP + b"\xc0", b"\x81\x01" * (DEEP // 2) + b"\xc0"])
def test_an_item_nested_too_deeply_spoils_no_other(venue: Venue, nested: bytes) -> None:
    assert [reply["type"] for reply in venue.entry.ask_bytes(b"\x93" + PING + nested + PING)] == [
        "pong",
        "reject",
        "pong",
    ]


def test_an_item_without_an_end_spoils_its_batch(venue: Venue) -> None:
    reply = venue.entry.ask_bytes(b"\x92" + PING + b"\x91" * DEEP)
    assert isinstance(reply, dict)
    assert refused(reply)


def test_random_bytes_are_refused_or_at_most_a_pong(peer: Peer) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    random_ = random.Random(seed)
    for _ in range(300):
        payload = random_.randbytes(random_.randrange(200))
        assert refused(peer.ask_bytes(payload)), payload


def test_every_beginning_of_a_request_is_refused(peer: Peer) -> None:
    order = order_with()
    for length in range(len(order)):
        assert refused(peer.ask_bytes(order[:length])), length


def test_a_damaged_request_is_answered(peer: Peer) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    random_ = random.Random(seed)
    request = msgpack.packb({"type": "ping", "request_id": "0123456789", "account": "x"})
    for _ in range(300):
        damaged = bytearray(request)
        for _ in range(random_.randrange(1, 4)):
            damaged[random_.randrange(len(damaged))] = random_.randrange(256)
        reply = peer.ask_bytes(bytes(damaged))
        replies = reply if isinstance(reply, list) else [reply]
        assert {each["type"] for each in replies} <= {"reject", "pong"}, bytes(damaged)


# -- frames ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [2, 100, 10_000])
def test_a_request_of_several_frames_is_malformed(peer: Peer, parts: int) -> None:
    reply = peer.ask_bytes(*[PING] * parts)
    assert refused(reply)
    assert "frames" in reply["text"]


@pytest.mark.parametrize("frames", [[b"", b""], [b"", b"", PING], [b"", PING, PING], [b"", *[b""] * 100]])
def test_a_delimiter_does_not_hide_further_frames(peer: Peer, frames: list[bytes]) -> None:
    peer.socket.send_multipart(frames)
    delimiter, reply = peer.socket.recv_multipart()
    assert delimiter == b""
    assert refused(msgpack.unpackb(reply))


def padded_to(size: int) -> bytes:
    """Return a map of a size, with a key that no request has."""
    start = b"\x82\xa4type\xa4ping\xa7padding\xdb"
    return start + struct.pack(">I", size - len(start) - 4) + b"x" * (size - len(start) - 4)


def test_a_frame_of_64_kib_is_read_and_a_longer_one_is_not(peer: Peer) -> None:
    exact = peer.ask_bytes(padded_to(MAX_REQUEST_BYTES))
    assert refused(exact)
    assert str(MAX_REQUEST_BYTES) not in exact["text"]
    for size in (MAX_REQUEST_BYTES + 1, MAX_FRAME_BYTES):
        reply = peer.ask_bytes(padded_to(size))
        assert refused(reply)
        assert f"{size} bytes" in reply["text"]
        assert f"{MAX_REQUEST_BYTES} at most" in reply["text"]


@pytest.mark.parametrize("size", [MAX_FRAME_BYTES + 1, 10 * 1024 * 1024])
def test_a_frame_far_too_long_ends_its_senders_connection(venue: Venue, peer: Peer, size: int) -> None:
    monitor = peer.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    peer.socket.send(padded_to(size))
    assert monitor.poll(30_000), "the connection is still there"
    assert not peer.answers(0)
    monitor.close()
    peer.socket.disable_monitor()


# -- peers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("routing_id", [b"me", b"x" * 255])
def test_a_peer_with_a_routing_id_of_its_own_is_not_answered(venue: Venue, endpoint: str, routing_id: bytes) -> None:
    peer = Peer(venue.context, endpoint, routing_id=routing_id)
    peer.socket.send(PING)
    peer.socket.send(order_with())
    assert not peer.answers(QUIET_SECONDS)
    peer.close()


@pytest.mark.parametrize("kind", [zmq.SUB, zmq.XSUB, zmq.PUB, zmq.PUSH, zmq.PULL, zmq.REP, zmq.PAIR, zmq.ROUTER])
def test_a_socket_of_the_wrong_type_does_no_harm(venue: Venue, any_endpoint: str, kind: int) -> None:
    with venue.context.socket(kind) as stranger:
        stranger.linger = 0
        stranger.connect(any_endpoint)
        if kind == zmq.SUB:
            stranger.subscribe(b"")
        elif kind in (zmq.XSUB, zmq.PUB, zmq.PUSH, zmq.PAIR):
            stranger.poll(20, zmq.POLLOUT)
            for message in (PING, order_with(), b"\x01" + b"x" * 5000, b"\x01" * 100):
                try:
                    stranger.send(message, zmq.NOBLOCK)
                except zmq.Again:
                    break  # such a socket finds no peer here
        stranger.poll(30)


def test_ten_thousand_subscriptions_do_no_harm(venue: Venue) -> None:
    for endpoint in (venue.endpoints.market_data, venue.endpoints.private):
        with venue.context.socket(zmq.SUB) as greedy:
            greedy.linger = 0
            greedy.connect(endpoint)
            for number in range(10_000):
                greedy.subscribe(f"execution/{number}/".encode())
            greedy.subscribe(b"x" * 10_000)
            greedy.poll(30)


GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16 + 1 + 31)
RAW = {
    "nothing": b"",
    "a web browser": b"GET / HTTP/1.1\r\nHost: exchange\r\n\r\n",
    "garbage": random.Random(1).randbytes(10_000),
    "zeros": bytes(10_000),
    "half a greeting": GREETING[:20],
    "a greeting and garbage": GREETING + random.Random(2).randbytes(10_000),
    "another security mechanism": GREETING.replace(b"NULL", b"EVIL"),
    "a frame of 2^63 bytes": GREETING + b"\x02" + struct.pack(">Q", 2**63),
    "a frame that never ends": GREETING + b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x06DEALER" + b"\x00\xff",
    "an old ZMTP": b"\x01\x00" + bytes([len(PING) + 1, 0]) + PING,
}


@pytest.mark.parametrize("data", RAW.values(), ids=RAW.keys())
def test_a_raw_connection_does_no_harm(venue: Venue, any_endpoint: str, data: bytes) -> None:
    with tcp(any_endpoint) as raw:
        raw.sendall(data)
        assert venue.entry.ask(type="ping")["type"] == "pong"


def test_a_hundred_half_open_connections_keep_nobody_out(venue: Venue, any_endpoint: str) -> None:
    raws = [tcp(any_endpoint) for _ in range(100)]
    newcomer = venue.peer()
    assert newcomer.ask(type="ping")["type"] == "pong"
    newcomer.close()
    for raw in raws:
        raw.close()


def test_a_client_that_never_reads_its_replies_holds_up_nobody(venue: Venue, peer: Peer) -> None:
    peer.socket.rcvhwm = 1
    for number in range(20_000):
        peer.socket.send(msgpack.packb({"type": "assets" if number % 2 else "ping", "request_id": number}))
        if number % 5_000 == 0:
            assert venue.entry.ask(type="ping")["type"] == "pong"
            assert venue.query.ask(type="sequences")["type"] == "sequences"


def test_a_subscriber_that_never_reads_holds_up_nobody(venue: Venue) -> None:
    with venue.context.socket(zmq.SUB) as deaf:
        deaf.linger = 0
        deaf.rcvhwm = 1
        deaf.subscribe(b"")
        deaf.connect(venue.endpoints.market_data)
        for _ in range(50):
            replies = venue.entry.ask([venue.order("busy", "buy", 10, 500, asset="BTC-USD") for _ in range(100)])
            assert {reply["type"] for reply in replies} == {"ack"}
    venue.do("mass_cancel", account="busy", asset="BTC-USD")


def test_clients_that_come_and_go_leave_nothing(venue: Venue, endpoint: str) -> None:
    """Each leaves before its answer: the exchange drops what it can't deliver."""
    for _ in range(200):
        client = Peer(venue.context, endpoint, linger=1000)
        client.socket.send(PING)
        client.close()

    def served() -> bool:
        client = Peer(venue.context, endpoint)
        reply = client.ask_bytes(PING)
        client.close()
        return reply["type"] in ("pong", "reject")

    wait_until(served, "a new client is served")
