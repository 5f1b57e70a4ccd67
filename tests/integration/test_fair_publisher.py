"""The publisher of market data: fair to its subscribers, alone on its port, and otherwise what a PUB is."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest
import zmq

from benchmarks.receivers import GREETING, Places, Receivers
from exchange.pipeline import shared_port, sockets
from exchange.pipeline.fair_publisher import FairPublisher
from exchange.pipeline.sockets import FAIR_PLACES, Transport
from tests.support import free_ports, wait_until

TOPIC = b"trade/ACME/"
QUEUE = 100_000


@pytest.fixture
def transport() -> Iterator[Transport]:
    with closing(Transport()) as transport:
        yield transport


@pytest.fixture
def endpoint() -> str:
    return f"tcp://127.0.0.1:{free_ports(1)[0]}"


def connections(publisher: FairPublisher) -> list[int]:
    publisher.serve()
    return sorted(member.connections for member in publisher.members)


def noticed(publisher: FairPublisher, condition: Callable[[], object]) -> Callable[[], object]:
    """Return a condition that is looked at when the publisher has taken note of what there is."""

    def look() -> object:
        publisher.serve()
        return condition()

    return look


def watched(count: int, publish: Callable[[], object], messages: int, endpoint: str) -> Places:
    """Return the places in the order of receipt of so many subscribers, over messages published one at a time."""
    with closing(Receivers(endpoint, b"trade/", count)) as receivers:
        receivers.settle(publish)
        places = Places(receivers.all)
        for _ in range(messages):
            publish()
            receivers.take(count)
            places.note()
    return places


def test_of_forty_subscribers_nobody_is_ahead_of_the_others_in_the_mean(transport: Transport, endpoint: str) -> None:
    publisher = transport.public_publisher(endpoint, QUEUE)

    def publish() -> None:
        publisher.serve()
        publisher.send(TOPIC, b"a trade")

    places = watched(40, publish, 500, endpoint)
    # Within a socket the order is fixed, and a place in it counts; the rest is chance, within six standard deviations.
    assert places.furthest < 0.5, places.means
    assert places.most_often_first < 4 / FAIR_PLACES
    assert len([times for times in places.firsts if times]) >= FAIR_PLACES // 2


def test_the_same_measurement_shows_the_order_of_connection_at_one_socket(transport: Transport, endpoint: str) -> None:
    """So it can be trusted; and this is what there is where the system can't share a port."""
    publisher = transport.public_publisher(endpoint, QUEUE, places=1)

    def publish() -> None:
        publisher.serve()
        publisher.send(TOPIC, b"a trade")

    places = watched(40, publish, 50, endpoint)
    assert places.furthest > 0.9
    assert places.most_often_first > 0.9


def test_a_system_that_cannot_share_a_port_has_one_socket(
    transport: Transport, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "can_share", lambda: False)
    assert len(transport.public_publisher(endpoint, QUEUE).members) == 1
    with closing(Transport()) as second, pytest.raises(OSError, match="is another exchange there"):
        second.public_publisher(endpoint, QUEUE)


def test_subscribers_who_come_one_by_one_have_a_socket_each(transport: Transport, endpoint: str) -> None:
    publisher = transport.public_publisher(endpoint, QUEUE)
    several = FAIR_PLACES * 3 // 4
    with ExitStack() as ended:
        for number in range(several):
            ended.enter_context(closing(Receivers(endpoint, b"trade/", 1)))
            wait_until(lambda: sum(connections(publisher)) == number + 1, "it is noticed", pause=0.001)  # noqa: B023
        assert connections(publisher) == [0] * (FAIR_PLACES - several) + [1] * several
    wait_until(lambda: not any(connections(publisher)), "all have left")


def test_many_at_once_are_spread_while_the_publisher_is_busy(transport: Transport, endpoint: str) -> None:
    publisher = transport.public_publisher(endpoint, QUEUE)
    with closing(Receivers(endpoint, b"trade/", 320)):  # nobody serves it meanwhile
        wait_until(lambda: sum(connections(publisher)) == 320, "all are noticed")
        assert max(connections(publisher)) < 3 * 320 / FAIR_PLACES


def test_where_the_kernel_takes_no_program_its_hash_spreads_them(
    transport: Transport, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_port, "SO_ATTACH_REUSEPORT_CBPF", 12345)
    publisher = transport.public_publisher(endpoint, QUEUE)
    with closing(Receivers(endpoint, b"trade/", 160)):
        wait_until(lambda: sum(connections(publisher)) == 160, "all are noticed")
        assert max(connections(publisher)) < 160 / 4


# -- one exchange on a port --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "*"), ("*", "127.0.0.1"), ("lo", "localhost"), ("[::1]", "[::1]")],
)
def test_a_second_exchange_on_the_port_is_refused(transport: Transport, first: str, second: str) -> None:
    port = free_ports(1)[0]
    if first == "[::1]" and not has_ipv6():
        pytest.skip("there is no IPv6 here")
    publisher = transport.public_publisher(f"tcp://{first}:{port}", QUEUE)
    message = rf"can't listen on tcp://.*:{port}: Address already in use.*; is another exchange there\?"
    with closing(Transport()) as other:
        for kind in (other.public_publisher, other.private_publisher):
            with pytest.raises(OSError, match=message):
                kind(f"tcp://{second}:{port}", QUEUE)
    host = "::1" if first == "[::1]" else "127.0.0.1"
    with closing(socket.create_connection((host, port), timeout=5)):
        wait_until(lambda: sum(connections(publisher)) == 1, "the first still takes connections")


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_a_port_that_another_program_listens_on_is_refused(transport: Transport) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # which alone would let us join it
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(OSError, match="Address already in use; is another exchange there"):
            transport.public_publisher(f"tcp://127.0.0.1:{other.getsockname()[1]}", QUEUE)


@pytest.mark.parametrize(("host", "text"), [("192.0.2.1", "Cannot assign"), ("nowhere.invalid", "No such device")])
def test_an_address_that_is_not_ours_is_named(transport: Transport, host: str, text: str) -> None:
    with pytest.raises(OSError, match=rf"can't listen on tcp://{host}:5556: {text}"):
        transport.public_publisher(f"tcp://{host}:5556", QUEUE)


def test_the_port_is_free_when_the_publisher_has_ended_and_subscribers_come_back(endpoint: str) -> None:
    with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.linger = 0
        subscriber.subscribe(b"trade/")
        subscriber.connect(endpoint)
        for life in (b"first", b"second", b"third"):
            with closing(Transport()) as transport:
                publisher = transport.public_publisher(endpoint, QUEUE)

                def arrives(life: bytes = life, publisher: FairPublisher = publisher) -> bool:
                    publisher.serve()
                    publisher.send(TOPIC, life)
                    return bool(subscriber.poll(10)) and subscriber.recv_multipart()[1] == life

                wait_until(arrives, f"a message of the {life.decode()} life", pause=0)


# -- as any PUB --------------------------------------------------------------------------------------------------------


def test_each_subscriber_gets_what_it_has_subscribed_to_in_order_from_then_on(
    transport: Transport, endpoint: str
) -> None:
    publisher = transport.public_publisher(endpoint, QUEUE)
    with ExitStack() as ended:
        context = ended.enter_context(zmq.Context())
        subscribers = [ended.enter_context(context.socket(zmq.SUB)) for _ in range(2 * FAIR_PLACES)]
        for number, subscriber in enumerate(subscribers):
            subscriber.linger = 0
            subscriber.rcvhwm = 0
            subscriber.connect(endpoint)
            subscriber.subscribe((b"trade/", b"book/")[number % 2])
        wait_until(lambda: sum(connections(publisher)) == len(subscribers), "all are there")
        started = {}

        def everybody_has_started() -> bool:
            publisher.serve()
            for topic in (b"trade/A/", b"book/A/", b"status/A/"):
                publisher.send(topic, b"start")
            for number, subscriber in enumerate(subscribers):
                while subscriber.poll(0):
                    started[number] = subscriber.recv_multipart()[0]
            return len(started) == len(subscribers)

        wait_until(everybody_has_started, "all subscriptions are in effect")
        for number in range(300):
            for topic in (b"trade/A/", b"book/A/", b"status/A/"):
                publisher.send(topic, b"%d" % number)
        for number, subscriber in enumerate(subscribers):
            topic = (b"trade/A/", b"book/A/")[number % 2]
            assert started[number] == topic
            got: list[int] = []
            while len(got) < 300:
                assert subscriber.poll(10_000), f"{len(got)} messages of 300"
                frames = subscriber.recv_multipart()
                assert frames[0] == topic
                if frames[1] != b"start":
                    got.append(int(frames[1]))
            assert got == list(range(300))


def test_a_subscription_that_the_socket_took_in_while_it_sent_is_noticed(transport: Transport, endpoint: str) -> None:
    """Its descriptor does not tell any more then: the socket has to be looked at."""
    publisher = transport.public_publisher(endpoint, QUEUE, places=1)
    bound = publisher.members[0].socket
    with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.linger = 0
        subscriber.connect(endpoint)
        wait_until(lambda: connections(publisher) == [1], "it is connected")
        subscriber.subscribe(b"trade/")
        wait_until(lambda: bound.poll(0), "the subscription is in the socket", pause=0)
        publisher.serve()
        publisher.send(TOPIC, b"")
        assert subscriber.poll(10_000)


def test_nothing_is_sent_where_nobody_follows(transport: Transport, endpoint: str) -> None:
    publisher = transport.private_publisher(endpoint, QUEUE)
    sent: list[bytes] = []
    publisher.members[0].send = lambda frame, flags=0: sent.append(frame)
    publisher.send(b"execution/ann/A/", b"")
    assert sent == []
    with closing(Receivers(endpoint, b"execution/ann/", 1)):
        wait_until(noticed(publisher, lambda: publisher.members[0].topics), "the subscription is noticed")
        publisher.send(b"execution/annabel/A/", b"")
        publisher.send(b"execution/", b"")
        assert sent == []
        publisher.send(b"execution/ann/A/", b"report")
        assert sent == [b"execution/ann/A/", b"report"]
    wait_until(lambda: not any(connections(publisher)), "it has left")
    publisher.send(b"execution/ann/A/", b"report")
    assert len(sent) == 2


def test_a_subscriber_that_does_not_read_costs_nobody_else_a_message(transport: Transport, endpoint: str) -> None:
    publisher = transport.public_publisher(endpoint, 100, places=2)
    payload, messages = bytes(10_000), 3_000

    def publish() -> None:
        publisher.serve()
        publisher.send(TOPIC, payload)

    with closing(Receivers(endpoint, b"trade/", 4)) as deaf, closing(Receivers(endpoint, b"trade/", 4)) as others:
        others.settle(publish)
        assert sum(connections(publisher)) == 8
        for _ in range(messages):
            publish()
            others.take(4)
        deaf.settle(publish)  # they get what is new again,
        assert all(receiver.messages < messages for receiver in deaf.all), "and have lost what there was no room for"


# -- misbehaving peers -------------------------------------------------------------------------------------------------


def test_who_unsubscribes_what_others_follow_takes_nothing_from_them(transport: Transport, endpoint: str) -> None:
    publisher = transport.public_publisher(endpoint, QUEUE, places=1)

    def publish() -> None:
        publisher.serve()
        publisher.send(TOPIC, b"a trade")

    with closing(Receivers(endpoint, b"trade/", 3)) as honest, closing(Receivers(endpoint, b"none/", 1)) as hostile:
        honest.settle(publish)
        hostile.all[0].connection.sendall(b"\0\7\0trade/" * 5 + b"\0\6\1mark/")
        wait_until(noticed(publisher, lambda: b"mark/" in publisher.members[0].topics), "it is heard")
        publish()
        honest.take(3)
    with closing(Receivers(endpoint, b"trade/", 1)) as newcomer:  # whose coming has the routes found anew
        newcomer.settle(publish)


def test_a_subscriber_that_takes_the_place_of_one_that_leaves_is_served(transport: Transport, endpoint: str) -> None:
    """ZeroMQ may still know the topic from the one that leaves, and would not tell that there is a new follower."""
    publisher = transport.public_publisher(endpoint, QUEUE, places=1)

    def publish() -> None:
        publisher.serve()
        publisher.send(TOPIC, b"a trade")

    for _ in range(50):
        with closing(Receivers(endpoint, b"trade/", 1)) as receivers:

            def arrives(receivers: Receivers = receivers) -> bool:
                publish()
                return bool(receivers.epoll.poll(0))

            wait_until(arrives, "a message", 10.0, pause=0.0005)


def test_connections_that_say_nothing_or_nonsense_are_counted_until_they_end(
    transport: Transport, endpoint: str
) -> None:
    publisher = transport.public_publisher(endpoint, QUEUE)
    port = int(endpoint.rpartition(":")[2])
    for words in (b"", b"GET / HTTP/1.1\r\n\r\n", GREETING, GREETING + b"\4\4junk", bytes(64)):
        for _ in range(4):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as peer:
                peer.sendall(words)
    with closing(Receivers(endpoint, b"trade/", 3)) as receivers:
        receivers.settle(noticed(publisher, lambda: publisher.send(TOPIC, b"")))
        wait_until(lambda: sum(connections(publisher)) == 3, "only who is there is counted")
    wait_until(lambda: not any(connections(publisher)), "nobody is left")


def test_more_topics_than_are_remembered_and_ones_too_long_hide_nothing(
    transport: Transport, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exchange.pipeline.fair_publisher.MOST_TOPICS", 50)
    publisher = transport.public_publisher(endpoint, QUEUE)
    with zmq.Context() as context, context.socket(zmq.SUB) as greedy:
        greedy.linger = 0
        greedy.connect(endpoint)
        greedy.subscribe(b"x" * 500)
        for number in range(200):
            greedy.subscribe(b"trade/%d/" % number)

        def arrives() -> bool:
            publisher.serve()
            publisher.send(b"trade/199/", b"")
            return bool(greedy.poll(10))

        wait_until(arrives, "the last of its topics")
        assert max(len(member.topics) for member in publisher.members) == 51


@pytest.mark.parametrize("flood", [b"\1trade/ACME/", b"\2" + bytes(3000)])
def test_who_floods_with_words_is_ended_and_others_are_not(
    transport: Transport, endpoint: str, flood: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """One repeats a subscription, or sends messages of its own, without an end; one follows very many topics."""
    publisher = transport.public_publisher(endpoint, QUEUE)
    with zmq.Context() as context, ExitStack() as stack:
        hostile, patient = (stack.enter_context(context.socket(kind)) for kind in (zmq.XSUB, zmq.SUB))
        for peer in (hostile, patient):
            peer.linger = peer.sndhwm = 0  # else libzmq drops subscriptions beyond a thousand at once
            peer.connect(endpoint)
        for number in range(25_000):
            patient.subscribe(b"trade/%d/" % number)
        patient.subscribe(b"trade/last/")

        def arrives() -> bool:
            publisher.serve()
            publisher.send(b"trade/last/", b"")
            return bool(patient.poll(10))

        wait_until(arrives, "the last of the patient one's topics")

        def ended() -> bool:
            for _ in range(2_000):
                hostile.send(flood)
            publisher.serve()
            return "its connection is ended" in caplog.text

        wait_until(ended, "the end of the hostile one's connection", pause=0)
        hostile.close()
        wait_until(lambda: sum(connections(publisher)) == 1, "the patient one is left")
        while patient.poll(0):
            patient.recv_multipart()
        publisher.send(b"trade/last/", b"still here")
        assert patient.poll(5000)
        assert patient.recv_multipart()[1] == b"still here"
