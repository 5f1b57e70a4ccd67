"""The client library against exchanges that misbehave: nothing is lost, nothing happens twice, order is kept."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from exchange.client import Feed, LostMessages, OrderEntry, OrderPipeline, ProtocolError, Queries, Rejected, Unreachable
from exchange.core.messages import (
    Ack,
    CancelAllAfter,
    CancelOrder,
    NewOrder,
    OrderEntryReply,
    OrderEntryRequest,
    Reject,
    Trade,
)
from tests.integration.misbehaving import Message, OrderEntryServer, TopicServer, serving
from tests.support import free_ports

TOPIC = "trade/ACME/"
PRIVATE = "execution/alice/ACME/"
TRADE: dict[str, Any] = {
    "type": "trade",
    "asset": "ACME",
    "trade_id": 1,
    "price": 1,
    "quantity": 1,
    "aggressor": "buy",
    "maker_order_id": 1,
    "taker_order_id": 2,
}
REPORT: dict[str, Any] = {
    "type": "execution_report",
    "account": "alice",
    "asset": "ACME",
    "exec_type": "new",
    "order_id": 1,
}


def new_order(number: int) -> NewOrder:
    return NewOrder(client_order_id=f"o{number}", asset="ACME", side="buy", quantity=10, price=100, account="alice")


@pytest.fixture
def server() -> Iterator[OrderEntryServer]:
    server = OrderEntryServer()
    with serving(server):
        yield server


@pytest.fixture
def topics() -> Iterator[TopicServer]:
    server = TopicServer()
    with serving(server):
        yield server


class Replies:
    """Collects the replies of a pipeline in the order in which they are handed out."""

    def __init__(self) -> None:
        self.acks: list[tuple[str, Ack]] = []
        self.rejects: list[Reject] = []

    def __call__(self, request: OrderEntryRequest, reply: OrderEntryReply) -> None:
        if isinstance(reply, Ack):
            name = request.client_order_id if isinstance(request, NewOrder) else request.request_id
            self.acks.append((str(name), reply))
        elif isinstance(reply, Reject):
            self.rejects.append(reply)

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.acks]


def run(server: OrderEntryServer, count: int, **options: float) -> tuple[Replies, OrderPipeline]:
    """Send orders `o0`, `o1`, ... and wait for all replies."""
    replies = Replies()
    with OrderPipeline(server.endpoint, replies, **options) as pipeline:  # type: ignore[arg-type]
        for number in range(count):
            pipeline.send(new_order(number))
        pipeline.drain()
    return replies, pipeline


def names(count: int) -> list[str]:
    return [f"o{number}" for number in range(count)]


def taken(server: OrderEntryServer) -> list[object]:
    return [key for _, key in server.taken]


# -- the pipeline ------------------------------------------------------------------------------------------------------


def test_requests_go_out_in_full_batches_and_replies_come_in_order(server: OrderEntryServer) -> None:
    replies, pipeline = run(server, 1050)
    assert replies.names == names(1050)
    assert taken(server) == names(1050)
    assert server.batch_sizes == [100] * 10 + [50]
    assert pipeline.reconnects == 0


def test_without_batches_each_request_is_a_map_of_its_own(server: OrderEntryServer) -> None:
    replies, _ = run(server, 50, batch=1, window=20)
    assert replies.names == names(50)
    assert server.batch_sizes == [1] * 50


def test_at_most_the_window_is_under_way(server: OrderEntryServer) -> None:
    server.mute = True
    with OrderPipeline(server.endpoint, Replies(), window=300, timeout=0.5) as pipeline:
        for number in range(299):
            pipeline.send(new_order(number))
        with pytest.raises(Unreachable):
            pipeline.send(new_order(299))  # waits for room
        assert pipeline.outstanding == 300


def test_deaths_in_the_middle_lose_nothing_and_repeat_nothing(server: OrderEntryServer) -> None:
    server.die_after = {3, 4, 11, 25}
    replies, pipeline = run(server, 3000)
    assert server.deaths == 4
    assert pipeline.reconnects >= 4
    assert replies.names == names(3000)
    assert taken(server) == names(3000)
    assert any(ack.duplicate for _, ack in replies.acks)  # what was taken just before a death


def test_a_silent_exchange_is_left_for_a_new_connection(server: OrderEntryServer) -> None:
    server.mute = True
    replies = Replies()
    with OrderPipeline(server.endpoint, replies, patience=0.2) as pipeline:
        for number in range(250):
            pipeline.send(new_order(number))
        pipeline.flush()
        time.sleep(0.3)
        server.mute = False
        pipeline.drain()
        assert pipeline.reconnects >= 1
    assert replies.names == names(250)
    assert taken(server) == names(250)


def test_an_exchange_that_is_not_there_yet_is_waited_for() -> None:
    server, replies = OrderEntryServer(), Replies()
    with OrderPipeline(server.endpoint, replies) as pipeline:
        pipeline.send(new_order(0))
        pipeline.flush()
        with serving(server):
            pipeline.drain()
    assert replies.names == ["o0"]


def test_requests_answered_busy_are_sent_again_in_order(server: OrderEntryServer) -> None:
    busy_since: list[float] = []

    def before(message: Message) -> str | None:
        """Room for 350, then none for a while."""
        if len(server.taken) < 350:
            return None
        if not busy_since:
            busy_since.append(time.monotonic())
        return "busy" if time.monotonic() - busy_since[0] < 0.3 else None

    server.before = before
    replies, pipeline = run(server, 2000)
    assert replies.names == names(2000)
    assert taken(server) == names(2000)
    assert pipeline.overtaken == 0
    assert replies.rejects == []


def test_a_cancel_of_an_order_that_was_put_off_is_put_off_with_it(server: OrderEntryServer) -> None:
    refused: list[Message] = []

    def before(message: Message) -> str | None:
        if message.get("client_order_id") == "o1" and message["type"] == "new_order" and len(refused) < 2:
            refused.append(message)
            return "rate_limited"
        return None

    server.before = before
    replies = Replies()
    with OrderPipeline(server.endpoint, replies) as pipeline:
        for number in range(3):
            pipeline.send(new_order(number))
            pipeline.send(
                CancelOrder(asset="ACME", client_order_id=f"o{number}", account="alice", request_id=f"c{number}")
            )
        pipeline.drain()
        assert pipeline.overtaken == 2  # o2 and its cancel, which were in flight already
    assert taken(server) == ["o0", "c0", "o2", "c2", "o1", "c1"]
    assert replies.rejects == []


def test_a_cancel_without_a_request_id_gets_one(server: OrderEntryServer) -> None:
    with OrderPipeline(server.endpoint, Replies()) as pipeline:
        pipeline.send(new_order(0))
        pipeline.send(CancelOrder(asset="ACME", client_order_id="o0", account="alice"))
        pipeline.send(CancelAllAfter(timeout_ms=10, account="alice"))
        pipeline.drain()
    assert all(isinstance(key, str) for key in taken(server)[1:])


def test_other_rejects_are_final_and_stand_alone(server: OrderEntryServer) -> None:
    server.before = lambda message: "invalid_price" if message["client_order_id"] == "o7" else None
    replies, _ = run(server, 20)
    assert replies.names == [name for name in names(20) if name != "o7"]
    assert [reject.client_order_id for reject in replies.rejects] == ["o7"]


def test_an_exchange_that_stays_busy_ends_in_a_reject(server: OrderEntryServer) -> None:
    server.before = lambda message: "busy"
    with pytest.raises(Rejected) as caught:
        run(server, 10, timeout=0.3)
    assert caught.value.reason == "busy"


def test_an_exchange_that_is_nowhere_ends_in_unreachable() -> None:
    with pytest.raises(Unreachable):
        run(OrderEntryServer(), 10, timeout=0.3)


def test_replies_that_do_not_fit_are_a_protocol_error() -> None:
    endpoint = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.bind(endpoint)
        with OrderPipeline(endpoint, Replies()) as pipeline:
            for number in range(2):
                pipeline.send(new_order(number))
            pipeline.flush()
            routing_id, _ = router.recv_multipart()
            router.send_multipart([routing_id, b"\x90"])
            with pytest.raises(ProtocolError, match="0 replies to 2 requests"):
                pipeline.drain()


# -- one request at a time ---------------------------------------------------------------------------------------------


def test_an_order_whose_ack_was_lost_is_acknowledged_once(server: OrderEntryServer) -> None:
    server.die_after = {1}
    with OrderEntry(server.endpoint, "alice") as orders:
        ack = orders.new_order("ACME", "buy", 10, 100, client_order_id="o1")
    assert ack.duplicate
    assert ack.order_id == 1
    assert taken(server) == ["o1"]


def test_amends_cancels_and_mass_cancels_carry_an_id_that_makes_them_safe_to_repeat(server: OrderEntryServer) -> None:
    server.die_after = {3, 5}
    with OrderEntry(server.endpoint, "alice") as orders:
        orders.new_order("ACME", "buy", 10, 100, client_order_id="o1")
        assert orders.amend_order("ACME", client_order_id="o1", quantity=20).request == "amend_order"
        assert orders.cancel_order("ACME", client_order_id="o1").duplicate
        assert orders.mass_cancel("ACME").duplicate
    assert len(server.taken) == 4


def test_an_order_carries_just_the_instructions_that_it_was_given(server: OrderEntryServer) -> None:
    plain = {"type": "new_order", "asset": "ACME", "side": "buy", "quantity": 10, "account": "alice"}
    plain |= {"order_type": "limit", "time_in_force": "gtc", "post_only": False}
    plain |= {"self_trade_prevention": "cancel_newest"}
    with OrderEntry(server.endpoint, "alice") as orders:
        orders.new_order("ACME", "buy", 10, 100, client_order_id="o1")
        orders.new_order("ACME", "buy", 10, stop_price=90, client_order_id="o2", time_in_force="day")
        orders.new_order("ACME", "buy", 10, 100, stop_price=90, client_order_id="o3", min_quantity=5)
        orders.new_order(
            "ACME",
            "buy",
            10,
            100,
            client_order_id="o4",
            display_quantity=2,
            post_only=True,
            time_in_force="gtd",
            expire_time=5,
            self_trade_prevention="cancel_both",
        )
        orders.new_order("ACME", "buy", 10, order_type="market", client_order_id="o5", account="bob")
        orders.new_order("ACME", "buy", 10, client_order_id="o6")  # not a market order: the exchange refuses it
        orders.amend_order("ACME", client_order_id="o2", stop_price=80, request_id="r7")
    assert server.requests == [
        plain | {"client_order_id": "o1", "price": 100},
        plain | {"client_order_id": "o2", "order_type": "stop", "stop_price": 90, "time_in_force": "day"},
        plain
        | {"client_order_id": "o3", "order_type": "stop_limit", "stop_price": 90, "price": 100, "min_quantity": 5},
        plain
        | {"client_order_id": "o4", "price": 100, "display_quantity": 2, "post_only": True, "time_in_force": "gtd"}
        | {"expire_time": 5, "self_trade_prevention": "cancel_both"},
        plain | {"client_order_id": "o5", "order_type": "market", "account": "bob"},
        plain | {"client_order_id": "o6"},
        {"type": "amend_order", "asset": "ACME", "client_order_id": "o2", "stop_price": 80, "account": "alice"}
        | {"request_id": "r7"},
    ]


def test_a_session_and_a_dead_mans_timer_are_safe_to_repeat(server: OrderEntryServer) -> None:
    server.die_after = {1, 3}
    with OrderEntry(server.endpoint, "alice") as orders:
        assert orders.session(2_000).duplicate
        assert orders.cancel_all_after(10_000).duplicate
        assert not orders.cancel_all_after(0, account="bob").duplicate
        assert orders.exchange_time() == 1
    assert [{key: value for key, value in each.items() if key != "request_id"} for each in server.requests] == [
        {"type": "session", "heartbeat_interval_ms": 2_000, "cancel_on_disconnect": True, "account": "alice"},
        {"type": "cancel_all_after", "timeout_ms": 10_000, "account": "alice"},
        {"type": "cancel_all_after", "timeout_ms": 0, "account": "bob"},
    ]


def test_busy_is_tried_again_and_other_rejects_are_raised(server: OrderEntryServer) -> None:
    reasons = iter(["busy", "rate_limited", None, "invalid_price"])
    server.before = lambda message: next(reasons)
    with OrderEntry(server.endpoint, "alice") as orders:
        assert orders.new_order("ACME", "buy", 10, 100).order_id == 1
        with pytest.raises(Rejected, match="invalid_price: as told") as caught:
            orders.new_order("ACME", "buy", 10, 100)
    assert caught.value.reason == "invalid_price"


def test_a_ping_measures_the_round_trip(server: OrderEntryServer) -> None:
    with OrderEntry(server.endpoint) as orders:
        assert 0 < orders.ping() < 5


def test_an_exchange_that_does_not_answer_is_unreachable_at_the_deadline(server: OrderEntryServer) -> None:
    server.mute = True
    started = time.monotonic()
    with OrderEntry(server.endpoint, "alice", timeout=0.2) as orders, pytest.raises(Unreachable, match=r"within 0\.2"):
        orders.cancel_order("ACME", 1)
    assert time.monotonic() - started < 2


# -- topics ------------------------------------------------------------------------------------------------------------


def sequences(feed: Feed, count: int) -> list[int]:
    """Return the numbers of the next messages, `count` of them, and of what follows at once."""
    found: list[int] = []
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        delivery = feed.receive(0.05 if len(found) >= count else 1.0)
        if delivery is not None:
            assert isinstance(delivery.message, Trade) or delivery.topic.startswith("execution/")
            found.append(delivery.message.sequence)  # type: ignore[union-attr]
        elif len(found) >= count:
            break
    return found


def test_a_feed_begins_with_what_happens_after_it_was_made(topics: TopicServer) -> None:
    topics.publish(TOPIC, **TRADE)
    with Queries(topics.query) as queries, Feed(topics.market_data, queries, [TOPIC]) as feed:
        topics.publish(TOPIC, **TRADE)
        topics.publish(TOPIC, **TRADE)
        assert sequences(feed, 2) == [2, 3]


def test_a_feed_can_begin_at_an_earlier_message(topics: TopicServer) -> None:
    for _ in range(5):
        topics.publish(TOPIC, lost=True, **TRADE)
    with Queries(topics.query) as queries, Feed(topics.market_data, queries, [TOPIC], after={TOPIC: 2}) as feed:
        assert sequences(feed, 3) == [3, 4, 5]


def test_duplicates_are_dropped_and_gaps_are_filled_in_order(topics: TopicServer) -> None:
    topics.batch = 7  # messages in one reply, so that a gap takes several
    with Queries(topics.query) as queries, Feed(topics.market_data, queries, [TOPIC]) as feed:
        for number in range(1, 101):
            topics.publish(TOPIC, lost=10 < number < 60 or number % 9 == 0, times=2 if number % 5 == 0 else 1, **TRADE)
        assert sequences(feed, 100) == list(range(1, 101))
        assert feed.recovered > 50


def test_a_lost_tail_is_noticed_by_the_heartbeat(topics: TopicServer) -> None:
    with Queries(topics.query) as queries, Feed(topics.market_data, queries, ["trade/"]) as feed:
        topics.publish(TOPIC, lost=True, **TRADE)
        topics.publish(TOPIC, lost=True, **TRADE)
        topics.publish("trade/OTHER/", lost=True, **TRADE)
        assert sorted(sequences(feed, 3)) == [1, 1, 2]


def test_a_lost_tail_of_a_private_topic_is_noticed_by_asking(topics: TopicServer) -> None:
    with Queries(topics.query) as queries, Feed(topics.market_data, queries, [PRIVATE]) as feed:
        topics.publish(PRIVATE, **REPORT)
        topics.publish(PRIVATE, lost=True, **REPORT)
        assert sequences(feed, 2) == [1, 2]
        assert feed.receive(0.05) is None


def test_catching_up_fetches_all_that_was_published_until_now(topics: TopicServer) -> None:
    topics.heartbeats = False
    with Queries(topics.query) as queries, Feed(topics.market_data, queries, [TOPIC]) as feed:
        for _ in range(2500):
            topics.publish(TOPIC, lost=True, **TRADE)
        feed.catch_up(10)
        assert [delivery.message.sequence for delivery in feed.receive_available()] == list(  # type: ignore[union-attr]
            range(1, 2501)
        )


def test_nothing_is_skipped_while_the_query_endpoint_is_away(topics: TopicServer) -> None:
    with Queries(topics.query) as queries, Feed(topics.market_data, queries, [TOPIC]) as feed:
        topics.publish(TOPIC, **TRADE)
        assert sequences(feed, 1) == [1]
        topics.deaf = True
        topics.publish(TOPIC, lost=True, **TRADE)
        for _ in range(10):
            topics.publish(TOPIC, **TRADE)
        started = time.monotonic()
        assert feed.receive_available() == []
        assert feed.receive(0.3) is None
        assert time.monotonic() - started < 1
        with pytest.raises(Unreachable):
            feed.catch_up(0.2)
        topics.deaf = False
        assert sequences(feed, 11) == list(range(2, 13))


def test_messages_past_retention_are_said_to_be_lost_and_the_rest_goes_on(topics: TopicServer) -> None:
    with Queries(topics.query) as queries, Feed(topics.market_data, queries, [TOPIC]) as feed:
        topics.earliest = 4
        for _ in range(5):
            topics.publish(TOPIC, lost=True, **TRADE)
        with pytest.raises(LostMessages, match="messages 1 to 3 are no longer kept; the first one left is 4"):
            sequences(feed, 1)
        assert sequences(feed, 2) == [4, 5]


def test_a_query_that_is_not_answered_ends_in_unreachable(topics: TopicServer) -> None:
    topics.deaf = True
    with Queries(topics.query, timeout=0.2) as queries, pytest.raises(Unreachable):
        queries.sequences()
