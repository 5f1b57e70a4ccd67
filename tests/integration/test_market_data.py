"""The public topics as an outsider sees them: exact keys, gapless numbers, books that can be rebuilt."""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from exchange.core.asset import Asset
from exchange.core.matching import Matching
from exchange.core.requests import BUY, DefineAsset, MassCancel, NewOrder, Record, Request
from exchange.pipeline import notifier as pipeline
from exchange.pipeline.board import AssetBoard
from exchange.pipeline.disk import Disk
from exchange.pipeline.message_store import MessageStore
from exchange.pipeline.sockets import Transport
from exchange.pipeline.sources import EventSources
from exchange.status import read_pages
from tests.integration.operators import MANUAL, SMALL, Operator
from tests.integration.outsider import Message, Subscription, Venue, trade_at_random, wait_for_sequences, whole_topic
from tests.integration.outsider import venue as running_venue
from tests.support import Daemon, wait_until, write_config

NAMES = ("trade", "bbo", "book", "order", "status")
KEYS = {
    "trade": {"trade_id", "price", "quantity", "aggressor", "maker_order_id", "taker_order_id"},
    "bbo": {"bid", "ask"},
    "book": {"changes"},
    "order_added": {"order_id", "side", "price", "quantity"},
    "order_executed": {"order_id", "quantity", "price", "trade_id"},
    "order_reduced": {"order_id", "quantity"},
    "order_deleted": {"order_id"},
    "order_replaced": {"order_id", "price", "quantity"},
    "status": {"status", "reason"},
}
INDICATIVE = {"indicative_price", "indicative_quantity", "surplus_side", "surplus_quantity"}  # of a status, in a call
COMMON = {"type", "asset", "sequence", "time"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Venue, Subscription]]:
    with running_venue(tmp_path_factory.mktemp("market-data"), "[limits]\nretained_messages = 100000") as venue:
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


# -- the messages ------------------------------------------------------------------------------------------------------


def test_each_messages_keys_are_those_of_its_type(venue: Venue, feed: Subscription) -> None:
    trade_at_random(venue, 200, seed=1)
    wait_for_sequences(venue, feed)
    seen = set()
    for asset in venue.matching:
        for name in NAMES:
            for message in whole_topic(venue, f"{name}/{asset}/"):
                kind = message["type"]
                call = INDICATIVE if message.get("status") == "call" else set()
                assert message.keys() == COMMON | KEYS[kind] | call
                assert message["asset"] == asset
                assert (kind if name != "order" else kind.split("_")[0]) == name
                seen.add(kind)
    assert seen == KEYS.keys()


def test_every_topics_numbers_are_1_2_3_and_so_on(venue: Venue, feed: Subscription) -> None:
    trade_at_random(venue, 100, seed=2)
    sequences = wait_for_sequences(venue, feed)
    assert sequences.keys() == {f"{name}/{asset}/" for name in NAMES for asset in venue.matching}
    for topic, last in sequences.items():
        messages = whole_topic(venue, topic)
        assert [message["sequence"] for message in messages] == list(range(1, last + 1))
        received = feed.messages[topic]
        if received:
            first = received[0]["sequence"]
            assert messages[first - 1 :] == received[: last - first + 1], "sent again as it was sent first"
        times = [message["time"] for message in messages]
        assert times == sorted(times)
    assert all(message["trade_id"] == message["sequence"] for message in feed.messages["trade/ACME/"])


def test_one_trade_seen_on_every_topic(venue: Venue, feed: Subscription) -> None:
    seller, buyer = venue.account(), venue.account()
    start = wait_for_sequences(venue, feed)
    maker = venue.enter(seller, "sell", 100, 1000)
    taker = venue.enter(buyer, "buy", 40, 1005)
    wait_for_sequences(venue, feed)

    def since(name: str) -> list[Message]:
        topic = f"{name}/ACME/"
        new = [message for message in feed.messages[topic] if message["sequence"] > start[topic]]
        return [{key: value for key, value in message.items() if key not in ("sequence", "asset")} for message in new]

    trade_id = start["trade/ACME/"] + 1
    assert since("trade") == [
        {
            "type": "trade",
            "trade_id": trade_id,
            "price": 1000,
            "quantity": 40,
            "aggressor": "buy",
            "maker_order_id": maker["order_id"],
            "taker_order_id": taker["order_id"],
            "time": taker["time"],
        }
    ]
    assert since("bbo") == [
        {"type": "bbo", "bid": None, "ask": [1000, 100], "time": maker["time"]},
        {"type": "bbo", "bid": None, "ask": [1000, 60], "time": taker["time"]},
    ]
    assert since("book") == [
        {"type": "book", "changes": [["sell", 1000, 100, 1]], "time": maker["time"]},
        {"type": "book", "changes": [["sell", 1000, 60, 1]], "time": taker["time"]},
    ]
    added = {"order_id": maker["order_id"], "side": "sell", "price": 1000, "quantity": 100, "time": maker["time"]}
    executed = {"order_id": maker["order_id"], "quantity": 40, "price": 1000, "trade_id": trade_id}
    assert since("order") == [
        {"type": "order_added", **added},
        {"type": "order_executed", **executed, "time": taker["time"]},
    ]
    assert since("status") == []


def test_a_call_and_its_auction_on_every_topic(venue: Venue, feed: Subscription) -> None:
    seller, buyer = venue.account(), venue.account()
    start = wait_for_sequences(venue, feed)

    def since(name: str) -> list[Message]:
        topic = f"{name}/ACME/"
        feed.wait(topic, lambda messages: bool(messages) and messages[-1]["time"] == end, f"{name} of the auction")
        new = [message for message in feed.messages[topic] if message["sequence"] > start[topic]]
        dropped = ("type", "sequence", "asset", "time")
        return [{key: value for key, value in message.items() if key not in dropped} for message in new]

    with closing(Operator(venue)) as operator:
        operator.do("change_status", asset="ACME", status="call")
        buy = venue.enter(buyer, "buy", 300, 1010, display_quantity=100)["order_id"]
        sell = venue.enter(seller, "sell", 140, 1000)["order_id"]
        end = operator.do("change_status", asset="ACME", status="open")["time"]
    trade_id = start["trade/ACME/"] + 1
    call = {"status": "call", "reason": "operator"}
    assert since("status") == [
        call | {"indicative_price": None, "indicative_quantity": 0, "surplus_side": None, "surplus_quantity": 0},
        call | {"indicative_price": 1010, "indicative_quantity": 140, "surplus_side": "buy", "surplus_quantity": 160},
        {"status": "open", "reason": "operator"},
    ]
    ids = {"maker_order_id": sell, "taker_order_id": buy}
    assert since("trade") == [{"trade_id": trade_id, "price": 1010, "quantity": 140, "aggressor": "buy"} | ids]
    assert since("bbo") == [
        {"bid": [1010, 100], "ask": None},
        {"bid": [1010, 100], "ask": [1000, 140]},
        {"bid": [1010, 100], "ask": None},
    ]
    assert since("book") == [
        {"changes": [["buy", 1010, 100, 1]]},
        {"changes": [["sell", 1000, 140, 1]]},
        {"changes": [["sell", 1000, 0, 0]]},
    ]
    assert since("order") == [
        {"order_id": buy, "side": "buy", "price": 1010, "quantity": 100},
        {"order_id": sell, "side": "sell", "price": 1000, "quantity": 140},
        {"order_id": sell, "quantity": 140, "price": 1010, "trade_id": trade_id},
        {"order_id": buy, "quantity": 100, "price": 1010, "trade_id": trade_id},
        {"order_id": buy, "side": "buy", "price": 1010, "quantity": 100},
    ]


def test_a_subscription_to_one_topic_gets_no_other(venue: Venue) -> None:
    only = venue.public("trade/ACME/")
    seller, buyer = venue.account(), venue.account()
    for asset in ("BTC-USD", "ACME"):
        venue.enter(seller, "sell", 10, 1000, asset=asset)
        venue.enter(buyer, "buy", 10, 1000, asset=asset)
    only.wait_for_count("trade/ACME/", 1)
    assert only.messages.keys() <= {"trade/ACME/", "heartbeat/"}
    only.close()


def test_the_heartbeat_says_each_public_topics_last_number(venue: Venue, feed: Subscription) -> None:
    sequences = wait_for_sequences(venue, feed)
    heartbeats = feed.wait(
        "heartbeat/", lambda messages: messages[-1]["sequences"] == sequences, f"a heartbeat with {sequences}"
    )
    assert heartbeats[-1].keys() == {"type", "time", "sequences"}
    assert heartbeats[-1]["type"] == "heartbeat"


def test_an_auction_of_thousands_of_trades_is_published_whole(venue: Venue, feed: Subscription) -> None:
    """More than is folded in and published at a time."""
    seller, buyer, count = venue.account(), venue.account(), 5500
    private = venue.private(f"execution/{seller}/ACME/", f"execution/{buyer}/ACME/")
    start = wait_for_sequences(venue, feed)
    with closing(Operator(venue)) as operator:
        operator.do("change_status", asset="ACME", status="call")
        for account, side in ((seller, "sell"), (buyer, "buy")):
            for _ in range(count // 100):
                replies = venue.entry.ask([venue.order(account, side, 10, 1000) for _ in range(100)])
                assert {reply["type"] for reply in replies} == {"ack"}
        operator.do("change_status", asset="ACME", status="open")
    last = {"trade/ACME/": start["trade/ACME/"] + count, "order/ACME/": start["order/ACME/"] + 4 * count}
    for topic, number in last.items():
        messages = feed.wait_for_sequence(topic, number)
        first = messages[0]["sequence"]
        assert [message["sequence"] for message in messages] == list(range(first, number + 1))
    for account in (seller, buyer):
        reports = private.wait_for_count(f"execution/{account}/ACME/", 2 * count)
        assert [report["exec_type"] for report in reports] == ["new"] * count + ["trade"] * count
        assert [report["sequence"] for report in reports] == list(range(1, 2 * count + 1))
    private.close()


def test_heartbeats_go_on_while_one_huge_request_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each says what has left so far, in the middle of the request too."""
    monkeypatch.setattr(pipeline, "HEARTBEAT_SECONDS", 0.0)
    config, asset, count = write_config(tmp_path), Asset(asset="ACME"), 12_000
    matching = Matching()
    requests: list[Request] = [DefineAsset(asset)]
    requests += [NewOrder(number, f"c{number}", BUY, 1, 100) for number in range(1, count + 1)]
    requests.append(MassCancel(0))
    with ExitStack() as ended:
        transport = Transport()
        ended.callback(transport.close)
        notifier = pipeline.Notifier(
            {},
            EventSources(transport, config),
            transport.public_publisher(config.endpoints.market_data, 1_000_000),
            transport.private_publisher(config.endpoints.private, 1_000_000),
            time.monotonic,
            time.time_ns,
        )
        store = MessageStore(Disk(), tmp_path, 1_000_000)
        ended.callback(store.close)
        board = notifier.boards["ACME"] = AssetBoard(asset, store, 1000)
        board.live_from = 0
        feed = Subscription(transport.context, config.endpoints.market_data, "order/ACME/", "heartbeat/")

        def subscribed() -> bool:
            notifier.serve_subscribers()
            notifier.heartbeat()
            feed.drain()
            return bool(feed.arrived)

        wait_until(subscribed, "the subscription is in effect")
        for number, request in enumerate(requests, 1):
            notifier.publish(board, [matching.apply(Record("ACME", number, number, "bob", request))])
        feed.wait_for_sequence("order/ACME/", 2 * count)
    last, said = 0, set()
    for topic, message in feed.arrived:
        if topic == "heartbeat/":
            assert message["sequences"]["order/ACME/"] == last
            said.add(last)
        else:
            last = message["sequence"]
    assert {number for number in said if count < number < 2 * count}, "in the middle"


# -- assets that come while it runs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", [SMALL, MANUAL])
def test_an_asset_that_comes_is_published_from_its_first_message_on_and_again_never(tmp_path: Path, extra: str) -> None:
    table = '\n[[asset]]\nasset = "SILVER"\n'
    with running_venue(tmp_path, extra) as exchange, closing(Operator(exchange)) as operator:
        assets = exchange.config.folder / "assets.toml"
        others = assets.read_text()
        public, private = (
            exchange.public(*(f"{name}/SILVER/" for name in NAMES)),
            exchange.private("execution/ann/SILVER/"),
        )
        operator.do("add_asset", definition={"asset": "SILVER"})
        exchange.enter("ann", "buy", 30, 1000, asset="SILVER")
        matching = Daemon(exchange.config, "matching", "SILVER")
        try:
            # The notifier hears of it when some of its requests are applied already.
            exchange.notifier.signal(signal.SIGSTOP)
            assets.write_text(others + table)
            matching.start()
            wait_until(lambda: applied(exchange, "SILVER") == 2, "the matching daemon has caught up")
            exchange.notifier.signal(signal.SIGCONT)
            assert [each["reason"] for each in public.wait_for_count("status/SILVER/", 1)] == ["defined"]
            exchange.enter("ben", "sell", 10, 1000, asset="SILVER")
            last = {"status": 1, "order": 2, "trade": 1, "book": 2, "bbo": 2}
            for name, number in last.items():
                public.wait_for_sequence(f"{name}/SILVER/", number)
            private.wait_for_sequence("execution/ann/SILVER/", 2)
            for topic, messages in (public.messages | private.messages).items():
                if "SILVER" in topic:
                    assert [message["sequence"] for message in messages] == list(range(1, len(messages) + 1)), topic

            # It is off the list while the notifier starts again, and comes back.
            assets.write_text(others)
            exchange.notifier.kill()
            exchange.notifier.start()
            exchange.wait_until_ready()
            public.close()
            public = exchange.public(*(f"{name}/SILVER/" for name in NAMES))
            assets.write_text(others + table)
            wait_until(lambda: "SILVER" in listed(exchange), "the notifier follows it again")
            exchange.settle("SILVER")
            exchange.enter("ben", "sell", 20, 1000, asset="SILVER")
            for name, number in last.items():
                if name != "status":
                    messages = public.wait_for_sequence(f"{name}/SILVER/", number + 1)
                    assert [message["sequence"] for message in messages] == [number + 1], "what is new, and no more"
            assert public.messages["status/SILVER/"] == []
            assert [message["sequence"] for message in whole_topic(exchange, "status/SILVER/")] == [1]
            public.close()
            private.close()
        finally:
            matching.kill()


def applied(venue: Venue, asset: str) -> int:
    """Return how many requests an asset's matching daemon says it has applied."""
    pages = read_pages(venue.config.status_folder)
    return next((page["processed"][asset] for page in pages if page["daemon"] == f"matching-{asset}"), 0)


def listed(venue: Venue) -> set[str]:
    return {each["asset"] for each in venue.query.ask(type="assets")["assets"]}


# -- books -------------------------------------------------------------------------------------------------------------


def apply_book(levels: dict[tuple[str, int], tuple[int, int]], message: Message) -> None:
    for side, price, quantity, orders in message["changes"]:
        if quantity:
            levels[side, price] = (quantity, orders)
        else:
            assert orders == 0
            del levels[side, price]


def test_a_snapshot_and_the_updates_after_it_give_the_next_snapshot(venue: Venue, feed: Subscription) -> None:
    trade_at_random(venue, 60, seed=3)
    venue.settle()
    first = venue.query.ask(type="book_snapshot", asset="ACME")
    assert first.keys() == {"type", "asset", "sequence", "bids", "asks", "time"}
    assert first["bids"] or first["asks"]
    levels: dict[tuple[str, int], tuple[int, int]] = {}
    for side, name in (("buy", "bids"), ("sell", "asks")):
        levels |= {(side, price): (quantity, orders) for price, quantity, orders in first[name]}
    trade_at_random(venue, 100, seed=4)
    wait_for_sequences(venue, feed)
    second = venue.query.ask(type="book_snapshot", asset="ACME")
    for message in feed.messages["book/ACME/"]:
        if first["sequence"] < message["sequence"] <= second["sequence"]:
            apply_book(levels, message)
    bids = sorted(([price, *level] for (side, price), level in levels.items() if side == "buy"), reverse=True)
    asks = sorted([price, *level] for (side, price), level in levels.items() if side == "sell")
    assert (bids, asks) == (second["bids"], second["asks"])
    one = venue.query.ask(type="book_snapshot", asset="ACME", depth=1)
    assert (one["bids"], one["asks"]) == (bids[:1], asks[:1])
    last = feed.messages["bbo/ACME/"][-1]
    assert last["bid"] == (bids[0][:2] if bids else None)
    assert last["ask"] == (asks[0][:2] if asks else None)


class OrderBook:
    """An order-by-order book, from the messages of an order/ topic alone."""

    def __init__(self) -> None:
        self.orders: dict[int, list[Any]] = {}  # side, price, quantity; in order of time

    def apply(self, message: Message) -> None:
        kind, order_id = message["type"], message["order_id"]
        if kind == "order_added":
            assert order_id not in self.orders
            self.orders[order_id] = [message["side"], message["price"], message["quantity"]]
        elif kind == "order_deleted":
            del self.orders[order_id]
        elif kind == "order_replaced":
            side = self.orders.pop(order_id)[0]
            self.orders[order_id] = [side, message["price"], message["quantity"]]
        else:
            self.orders[order_id][2] -= message["quantity"]
            assert self.orders[order_id][2] >= 0
            if not self.orders[order_id][2]:
                assert kind == "order_executed"
                del self.orders[order_id]

    def side(self, side: str) -> list[list[int]]:
        found = [[order_id, price, quantity] for order_id, (of, price, quantity) in self.orders.items() if of == side]
        return sorted(found, key=lambda order: -order[1] if side == "buy" else order[1])


def test_an_order_book_from_the_first_message_on_is_the_snapshot(venue: Venue, feed: Subscription) -> None:
    trade_at_random(venue, 200, seed=5)
    wait_for_sequences(venue, feed)
    snapshot = venue.query.ask(type="order_snapshot", asset="ACME")
    assert {"type", "asset", "sequence", "bids", "asks"} <= snapshot.keys()
    book = OrderBook()
    for message in whole_topic(venue, "order/ACME/")[: snapshot["sequence"]]:
        book.apply(message)
    assert (book.side("buy"), book.side("sell")) == (snapshot["bids"], snapshot["asks"])
    levels = venue.query.ask(type="book_snapshot", asset="ACME")
    for side, name in (("buy", "bids"), ("sell", "asks")):
        for price, quantity, orders in levels[name]:
            at = [order for order in book.side(side) if order[1] == price]
            assert (sum(order[2] for order in at), len(at)) == (quantity, orders)
