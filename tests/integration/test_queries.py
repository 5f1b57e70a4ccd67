"""The query endpoint as an outsider sees it: snapshots, orders, retransmission, and what outlives a kill."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.operators import Operator
from tests.integration.outsider import (
    Message,
    Subscription,
    Venue,
    retransmit,
    trade_at_random,
    wait_for_sequences,
    whole_topic,
)
from tests.integration.outsider import venue as running_venue
from tests.support import Daemon, wait_until

LOW = 50


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Venue, Subscription]]:
    with running_venue(tmp_path_factory.mktemp("queries"), "[limits]\nretained_messages = 100000") as venue:
        feed = venue.public("")
        yield venue, feed
        feed.close()


@pytest.fixture
def venue(shared: tuple[Venue, Subscription]) -> Iterator[Venue]:
    yield shared[0]
    shared[0].clear()


@pytest.fixture
def feed(shared: tuple[Venue, Subscription]) -> Subscription:
    return shared[1]


def test_assets_say_how_their_numbers_are_meant(venue: Venue) -> None:
    reply = venue.query.ask(type="assets", request_id=7)
    assert reply.keys() == {"type", "assets", "request_id"}
    by_name = {asset["asset"]: asset for asset in reply["assets"]}
    assert by_name.keys() == venue.matching.keys()
    assert by_name["ACME"] == {
        "asset": "ACME",
        "price_scale": 2,
        "quantity_scale": 0,
        "tick_size": 5,
        "lot_size": 10,
        "min_quantity": 1,
        "max_quantity": 2**53 - 1,
        "min_price": 1,
        "max_price": 2**63 - 1,
        "self_trade": "prevent",
        "reference_price": 0,
        "price_band_ppm": 0,
        "volatility_band_ppm": 0,
        "call_seconds": 120,
        "schedule": [],
        "time_zone": "UTC",
        "trading_days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"],
        "closed_dates": [],
        "day_roll": "00:00",
        "status": "open",
    }


def test_assets_say_the_present_status(venue: Venue) -> None:
    def status() -> str:
        (found,) = (asset["status"] for asset in venue.query.ask(type="assets")["assets"] if asset["asset"] == "ACME")
        return str(found)

    with closing(Operator(venue)) as operator:
        for wanted in ("halted", "call", "closed", "open"):
            operator.do("change_status", asset="ACME", status=wanted)
            wait_until(lambda wanted=wanted: status() == wanted, f"ACME is {wanted}")  # type: ignore[misc]


def test_snapshots_show_what_is_public_in_priority_order(venue: Venue) -> None:
    account, other = venue.account(), venue.account()
    iceberg = venue.enter(account, "sell", 300, 1000, display_quantity=100)["order_id"]
    behind = venue.enter(other, "sell", 50, 1000)["order_id"]
    waiting = venue.enter(account, "sell", 10, 900, order_type="stop_limit", stop_price=905)["order_id"]
    venue.settle()
    assert venue.query.ask(type="order_snapshot", asset="ACME")["asks"] == [[iceberg, 1000, 100], [behind, 1000, 50]]
    assert venue.query.ask(type="book_snapshot", asset="ACME")["asks"] == [[1000, 150, 2]]
    venue.enter(other, "buy", 100, 1000)
    venue.settle()
    assert venue.query.ask(type="order_snapshot", asset="ACME")["asks"] == [[behind, 1000, 50], [iceberg, 1000, 100]]
    assert venue.query.ask(type="book_snapshot", asset="ACME")["asks"] == [[1000, 150, 2]]
    orders = venue.query.ask(type="open_orders", account=account, asset="ACME")["orders"]
    assert [(order["order_id"], order["order_status"], order["leaves_quantity"]) for order in orders] == [
        (iceberg, "partially_filled", 200),
        (waiting, "pending_trigger", 10),
    ]
    status = venue.query.ask(type="order_status", account=account, asset="ACME", order_id=waiting)
    assert (status["exec_type"], status["order_status"], status["stop_price"]) == ("new", "pending_trigger", 905)


def test_trades_come_newest_first(venue: Venue) -> None:
    seller, buyer = venue.account(), venue.account()
    for price in (1000, 1005, 1010):
        venue.enter(seller, "sell", 10, price)
        venue.enter(buyer, "buy", 10, price)
    venue.settle()
    reply = venue.query.ask(type="trades", asset="ACME", limit=2)
    assert [trade["price"] for trade in reply["trades"]] == [1010, 1005]
    topic = whole_topic(venue, "trade/ACME/")
    assert reply["trades"] == topic[:-3:-1]
    assert venue.query.ask(type="trades", asset="ACME", limit=2**40)["trades"] == topic[:-1001:-1]


def test_numbers_as_large_as_messagepack_has_them_ask_for_all_there_is(venue: Venue) -> None:
    venue.enter(venue.account(), "sell", 10, 1000)
    venue.settle()
    for largest in (2**63 - 1, 2**63, 2**64 - 1):
        book = venue.query.ask(type="book_snapshot", asset="ACME", depth=largest)
        assert (book["type"], book.get("asks")) == ("book_snapshot", [[1000, 10, 1]])
        assert venue.query.ask(type="trades", asset="ACME", limit=largest)["type"] == "trades"
        assert retransmit(venue, "order/ACME/", largest, largest)["messages"] == []


def test_open_orders_and_order_status_are_execution_reports(venue: Venue) -> None:
    account, other = venue.account(), venue.account()
    resting = venue.enter(account, "sell", 100, 1000)
    venue.enter(account, "buy", 10, 5, asset="BTC-USD")
    filled = venue.enter(other, "buy", 40, 1000)
    venue.settle()
    venue.settle("BTC-USD")
    topic = whole_topic(venue, f"execution/{account}/ACME/")
    reply = venue.query.ask(type="open_orders", account=account, asset="ACME")
    assert (reply["type"], reply["orders"], reply["sequences"]) == ("open_orders", [topic[-1]], {"ACME": 2})
    every = venue.query.ask(type="open_orders", account=account)
    assert [order["asset"] for order in every["orders"]] == ["ACME", "BTC-USD"]
    assert every["sequences"] == {"ACME": 2, "BTC-USD": 1}
    named = {"type": "order_status", "account": account, "asset": "ACME"}
    for key in ("order_id", "client_order_id"):
        status = venue.query.ask(named | {key: resting[key]})
        assert status["type"] == "order_status"
        assert status.items() >= {key: value for key, value in topic[-1].items() if key != "type"}.items()
    done = venue.query.ask(type="order_status", account=other, asset="ACME", order_id=filled["order_id"])
    assert (done["order_status"], done["leaves_quantity"]) == ("filled", 0)
    assert venue.query.ask(type="sequences", account=account)["sequences"] == {
        f"execution/{account}/ACME/": 2,
        f"execution/{account}/BTC-USD/": 1,
    }
    assert venue.query.ask(type="sequences", account="nobody")["sequences"] == {}
    assert venue.query.ask(type="open_orders", account="nobody", asset="ACME")["orders"] == []


def test_a_lost_tail_is_noticed_by_the_sequences_and_sent_again(venue: Venue) -> None:
    account = venue.account()
    topic = f"execution/{account}/ACME/"
    for _ in range(3):
        venue.enter(account, "buy", 10, 1000)
    venue.settle()
    last = venue.query.ask(type="sequences", account=account)["sequences"][topic]
    messages = retransmit(venue, topic, 2, last)["messages"]
    assert [message["sequence"] for message in messages] == [2, 3]


@pytest.mark.parametrize(
    ("first", "to", "expected"), [(1, 1, [1]), (2, 4, [2, 3, 4]), (4, 99, [4, 5]), (6, 9, []), (2**40, 2**62, [])]
)
def test_what_a_range_asks_for_and_is_there_is_sent(venue: Venue, first: int, to: int, expected: list[int]) -> None:
    account = venue.account()
    for _ in range(5):
        venue.enter(account, "buy", 10, 1000)
    venue.settle()
    reply = retransmit(venue, f"execution/{account}/ACME/", first, to)
    assert reply.keys() == {"type", "topic", "messages"}
    assert [message["sequence"] for message in reply["messages"]] == expected


def test_more_than_a_thousand_messages_come_in_parts(venue: Venue) -> None:
    account = venue.account()
    for _ in range(25):
        venue.entry.ask([venue.order(account, "buy", 10, 1000) for _ in range(100)])
    venue.settle()
    topic = f"execution/{account}/ACME/"
    for first, to, count, following in (
        (1, 2500, 1000, 1001),
        (1001, 2500, 1000, 2001),
        (2001, 2500, 500, None),
        (1, 1000, 1000, None),
        (1, 1001, 1000, 1001),
        (1501, 10**6, 1000, None),
    ):
        reply = retransmit(venue, topic, first, to)
        assert [message["sequence"] for message in reply["messages"]] == list(range(first, first + count))
        assert reply.get("next") == following


@pytest.mark.parametrize(
    ("reason", "query", "text"),
    [
        ("malformed", {"type": "book"}, ("'book'", "book_snapshot")),
        ("malformed", {"type": "new_order"}, ("'new_order'",)),
        ("malformed", {"type": "assets", "asset": "ACME"}, ("asset",)),
        ("malformed", {"type": "book_snapshot"}, ("asset",)),
        ("malformed", {"type": "book_snapshot", "asset": "ACME", "depth": 0}, ("depth 0", "1 or more")),
        ("malformed", {"type": "book_snapshot", "asset": "ACME", "depth": 1.5}, ("depth 1.5", "`int`")),
        ("unknown_asset", {"type": "book_snapshot", "asset": "NONE"}, ("'NONE'", "ACME")),
        ("unknown_asset", {"type": "order_snapshot", "asset": "NONE"}, ("'NONE'", "ACME")),
        ("unknown_asset", {"type": "trades", "asset": "NONE"}, ("'NONE'", "ACME")),
        ("malformed", {"type": "trades", "asset": "ACME", "limit": 0}, ("limit 0", "1 or more")),
        ("malformed", {"type": "trades", "asset": "ACME", "limit": -1}, ("limit -1", "1 or more")),
        ("malformed", {"type": "retransmit", "topic": "trade/ACME/", "from": 0, "to": 5}, ("from 0", "from 1 on")),
        ("malformed", {"type": "retransmit", "topic": "trade/ACME/", "from": 5, "to": 4}, ("from 5", "to 4")),
        ("malformed", {"type": "retransmit", "topic": "trade/ACME/", "from": 1}, ("to",)),
        ("malformed", {"type": "retransmit", "topic": "trade/ACME", "from": 1, "to": 1}, ("'trade/ACME'",)),
        ("malformed", {"type": "retransmit", "topic": "heartbeat/", "from": 1, "to": 1}, ("'heartbeat/'",)),
        ("malformed", {"type": "retransmit", "topic": "execution/a/", "from": 1, "to": 1}, ("'execution/a/'",)),
        ("unknown_asset", {"type": "retransmit", "topic": "trade/NONE/", "from": 1, "to": 1}, ("'NONE'",)),
        ("malformed", {"type": "order_status", "account": "a", "asset": "ACME"}, ("order_id or client_order_id",)),
        ("malformed", {"type": "order_status", "asset": "ACME", "order_id": 1}, ("account",)),
        ("unknown_order", {"type": "order_status", "account": "a", "asset": "ACME", "order_id": -1}, ("'a'",)),
        ("unknown_order", {"type": "order_status", "account": "a", "asset": "ACME", "order_id": 2**64 - 1}, ("'a'",)),
        ("malformed", {"type": "open_orders"}, ("account",)),
        ("unknown_asset", {"type": "open_orders", "account": "a", "asset": "NONE"}, ("'NONE'",)),
    ],
)
def test_a_query_that_cannot_be_answered_is_rejected(
    venue: Venue, reason: str, query: Message, text: tuple[str, ...]
) -> None:
    reply = venue.query.ask(query | {"request_id": "which"})
    assert (reply["type"], reply["reason"], reply["request_id"]) == ("reject", reason, "which"), reply
    assert all(part in reply["text"] for part in text), reply["text"]


@pytest.mark.parametrize("request_id", ["", "x" * 37, "nul\0", 2**63])
def test_a_querys_request_id_keeps_its_rule(venue: Venue, request_id: str | int) -> None:
    reply = venue.query.ask(type="assets", request_id=request_id)
    assert (reply["type"], reply["reason"]) == ("reject", "malformed")
    assert "request_id" in reply["text"]


# -- restarts, retention -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["notifier", "matching", "order_handler"])
def test_numbers_and_messages_outlive_a_kill(venue: Venue, feed: Subscription, which: str) -> None:
    account, other = venue.account(), venue.account()
    trade_at_random(venue, 50, seed=6)
    resting = venue.enter(account, "sell", 100, 1000000)
    before = wait_for_sequences(venue, feed)
    topics = [topic for topic, last in before.items() if last] + [f"execution/{account}/ACME/"]
    messages = {topic: whole_topic(venue, topic) for topic in topics}
    book = venue.query.ask(type="order_snapshot", asset="ACME")
    daemon: Daemon = venue.matching["ACME"] if which == "matching" else getattr(venue, which)
    daemon.kill()
    during = venue.order(other, "buy", 40, 1000000)
    if which == "notifier":
        venue.entry.ask(during)
    daemon.start()
    venue.wait_until_ready()
    if which != "notifier":
        venue.entry.ask(during)
    venue.settle()
    for topic in topics:
        assert whole_topic(venue, topic)[: len(messages[topic])] == messages[topic]
    after = venue.query.ask(type="sequences")["sequences"]
    assert all(after[topic] >= before[topic] for topic in before)
    assert after["trade/ACME/"] > before["trade/ACME/"]
    again = venue.query.ask(type="order_snapshot", asset="ACME")
    assert again["sequence"] > book["sequence"]
    reports = whole_topic(venue, f"execution/{account}/ACME/")
    assert [report["exec_type"] for report in reports][:1] == ["new"]
    assert reports[0]["order_id"] == resting["order_id"]
    heartbeats = len(feed.messages["heartbeat/"])
    feed.wait_for_count("heartbeat/", heartbeats + 1)
    last = after["book/ACME/"]
    venue.enter(other, "buy", 10, 15)
    feed.wait_for_sequence("book/ACME/", last + 1)


def test_past_retention_a_message_is_too_old(tmp_path: Path) -> None:
    with running_venue(tmp_path, "[limits]\nretained_messages = 1000\nretained_orders = 10") as venue:
        early, account = venue.account(), venue.account()
        oldest = venue.enter(early, "buy", 10, LOW, time_in_force="ioc")
        for _ in range(20):
            venue.entry.ask([venue.order(account, "buy", 10, LOW) for _ in range(100)])
            venue.settle()  # what is published at once is dropped at once
        for topic in ("order/ACME/", f"execution/{account}/ACME/"):
            reply = retransmit(venue, topic, 1, 5)
            assert (reply["type"], reply["reason"]) == ("reject", "too_old")
            earliest = reply["earliest"]
            assert 1000 < earliest <= 2000
            assert str(earliest) in reply["text"]
            assert retransmit(venue, topic, earliest - 1, earliest)["reason"] == "too_old"
            kept = retransmit(venue, topic, earliest, 10**6)
            assert kept["messages"][0]["sequence"] == earliest
            assert kept["messages"][-1]["sequence"] == 2000
        gone = retransmit(venue, f"execution/{early}/ACME/", 1, 1)
        assert (gone["reason"], gone["earliest"]) == ("too_old", 3), "the order's two reports were its last so far"
        ended = [venue.enter(early, "buy", 10, LOW, time_in_force="ioc")["order_id"] for _ in range(11)]
        venue.settle()
        named = {"type": "order_status", "account": early, "asset": "ACME"}
        assert venue.query.ask(named | {"order_id": oldest["order_id"]})["reason"] == "unknown_order"
        assert venue.query.ask(named | {"order_id": ended[-1]})["order_status"] == "canceled"
        trades = venue.query.ask(type="trades", asset="ACME")
        assert trades["trades"] == []
        book = venue.query.ask(type="book_snapshot", asset="ACME")
        assert book["bids"] == [[LOW, 20_000, 2000]]
