"""What subscribers see: books built from messages are the core's book, numbers have no gap, reports add up."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import UNSET, Struct

from exchange.core import messages
from exchange.core.asset import MAX_INTEGER, Asset
from exchange.core.market_data import PUBLIC_TOPICS, Feed
from exchange.core.matching import Matching
from exchange.core.messages import ExecutionReport
from exchange.core.requests import (
    BUY,
    SELL,
    SIDES,
    AmendOrder,
    CancelOrder,
    DefineAsset,
    MassCancel,
    NewOrder,
    Record,
    Request,
    TimeInForce,
)
from exchange.pipeline.codec import encode
from tests.random_requests import PROFILES, random_requests

SEED = random.SystemRandom().randrange(2**32)  # a new one each run; a failure prints it


class Published:
    """A core with its feed, its asset defined unless the records to come do: requests in, messages out."""

    def __init__(self, define: bool = True) -> None:
        self.matching = Matching()
        self.feed = Feed("ACME")
        if define:
            self.request(DefineAsset(Asset(asset="ACME")), "")

    def apply(self, record: Record) -> None:
        """Apply a record; its messages are in `public` and `reports` until the next one."""
        self.feed.public.clear()
        self.feed.private.clear()
        self.feed.ended.clear()
        self.feed.apply(self.matching.apply(record))
        self.public = list(self.feed.public)
        self.reports = [report for _, report, _ in self.feed.private]

    def request(self, request: Request, account: str) -> list[dict[str, Any]]:
        """Apply a request and return its public messages as maps, without asset and time."""
        sequence = self.matching.sequence + 1
        self.apply(Record("ACME", sequence, sequence, account, request))
        return [plain(message) for _, message in self.public]

    def new(
        self, order_id: int, side: str, quantity: int, price: int, account: str, time_in_force: TimeInForce = "gtc"
    ) -> list[dict[str, Any]]:
        return self.request(
            NewOrder(order_id, f"c{order_id}", SIDES[side], quantity, price, time_in_force=time_in_force), account
        )


def plain(message: Struct) -> dict[str, Any]:
    """Return a message as it is on the wire, but for asset and time."""
    fields = {name: getattr(message, name) for name in message.__struct_fields__ if name not in ("asset", "time")}
    tag = message.__struct_config__.tag
    return {"type": tag} | {name: value for name, value in fields.items() if value is not UNSET}


def of_type(sent: list[dict[str, Any]], *types: str) -> list[dict[str, Any]]:
    return [message for message in sent if message["type"] in types]


# -- subscribers of the book -------------------------------------------------------------------------------------------


class LevelBook:
    """A book as a subscriber of `book/` and `bbo/` holds it: levels, as (quantity, orders) by price."""

    def __init__(self) -> None:
        self.sides: dict[str, dict[int, tuple[int, int]]] = {"buy": {}, "sell": {}}
        self.bbo: tuple[Any, Any] = (None, None)

    def take(self, message: Struct) -> None:
        if type(message) is messages.Bbo:
            self.bbo = (message.bid, message.ask)
        elif type(message) is messages.BookUpdate:
            for side, price, quantity, orders in message.changes:
                if quantity:
                    assert self.sides[side].get(price) != (quantity, orders), "a change changes something"
                    self.sides[side][price] = (quantity, orders)
                else:
                    del self.sides[side][price]


class OrderBook:
    """A book as a subscriber of `order/` holds it: each side's orders, (order id, price, quantity), in time order."""

    def __init__(self) -> None:
        self.sides: dict[str, dict[int, tuple[int, int]]] = {"buy": {}, "sell": {}}

    def take(self, message: Struct) -> None:
        match message:
            case messages.OrderAdded():
                assert self.side_of(message.order_id) is None, "an order is added once"
                self.sides[message.side][message.order_id] = (message.price, message.quantity)
            case messages.OrderExecuted() | messages.OrderReduced():
                orders = self.sides[self.side(message.order_id)]
                price, quantity = orders[message.order_id]
                if type(message) is messages.OrderExecuted:
                    assert message.price == price, "a trade prints at the resting order's price"
                rest = quantity - message.quantity
                assert rest > 0 or (rest == 0 and type(message) is messages.OrderExecuted)
                orders[message.order_id] = (price, rest)
                if not rest:
                    del orders[message.order_id]
            case messages.OrderDeleted():
                del self.sides[self.side(message.order_id)][message.order_id]
            case messages.OrderReplaced():
                orders = self.sides[self.side(message.order_id)]
                del orders[message.order_id]
                orders[message.order_id] = (message.price, message.quantity)

    def side_of(self, order_id: int) -> str | None:
        return next((side for side, orders in self.sides.items() if order_id in orders), None)

    def side(self, order_id: int) -> str:
        side = self.side_of(order_id)
        assert side is not None, f"order {order_id} is in the book"
        return side

    def queue(self, side: str) -> list[tuple[int, int, int]]:
        """Return a side's (price, order id, quantity) in priority order."""
        orders = [(price, order_id, quantity) for order_id, (price, quantity) in self.sides[side].items()]
        return sorted(orders, key=lambda order: -SIDES[side] * order[0])


def queue(matching: Matching, side: str) -> list[tuple[int, int, int]]:
    """Return a side of the core's book as (price, order id, quantity) in priority order."""
    return [
        (price, order.order_id, order.leaves)
        for price, _, orders in matching.book.ladders[SIDES[side]].best_first()
        for order in orders
    ]


def levels(matching: Matching, side: str) -> dict[int, tuple[int, int]]:
    ladder = matching.book.ladders[SIDES[side]]
    return {price: (quantity, len(orders)) for price, quantity, orders in ladder.best_first()}


@pytest.mark.parametrize(("profile", "count"), [("lively", 2000), ("deep", 500), ("huge", 1000), ("lonely", 500)])
def test_books_built_from_messages_are_the_cores_after_every_request(profile: str, count: int) -> None:
    print(f"seed {SEED}")
    published, level_book, order_book = Published(define=False), LevelBook(), OrderBook()
    for record in random_requests(SEED, PROFILES[profile], count):
        published.apply(record)
        for topic, message in published.public:
            assert topic.endswith("/ACME/")
            level_book.take(message)
            order_book.take(message)
        for side in ("buy", "sell"):
            assert order_book.queue(side) == queue(published.matching, side)
            assert level_book.sides[side] == levels(published.matching, side)
        assert level_book.bbo == (published.matching.book.best(BUY), published.matching.book.best(SELL))
        published.feed.check()


@pytest.mark.parametrize("profile", PROFILES)
def test_the_numbers_of_each_topic_have_no_gap(profile: str) -> None:
    print(f"seed {SEED}")
    last: dict[str, int] = {}
    feed = Feed("ACME")
    matching = Matching()
    for record in random_requests(SEED, PROFILES[profile], 500):
        feed.apply(matching.apply(record))
    sent: list[tuple[str, Any]] = [*feed.public, *((topic, report) for topic, report, _ in feed.private)]
    for topic, message in sent:
        last[topic] = last.get(topic, 0) + 1
        assert message.sequence == last[topic]
    assert {f"{topic}/ACME/": number for topic, number in feed.sequences.items()} == {
        f"{topic}/ACME/": last.get(f"{topic}/ACME/", 0) for topic in PUBLIC_TOPICS
    }
    assert last.get("trade/ACME/", 0) == matching.trade_id


def sent_bytes(profile: str, seed: int) -> Iterator[bytes]:
    matching, feed = Matching(), Feed("ACME")
    for record in random_requests(seed, PROFILES[profile], 500):
        feed.apply(matching.apply(record))
    for topic, message in feed.public:
        yield topic.encode() + encode(message)
    for topic, report, _ in feed.private:
        yield topic.encode() + encode(report)


def test_the_same_events_give_the_same_bytes() -> None:
    assert list(sent_bytes("lively", SEED)) == list(sent_bytes("lively", SEED)), f"seed {SEED}"


def test_a_record_that_is_not_the_next_is_our_own_mistake() -> None:
    matching, feed = Matching(), Feed("ACME")
    records = [matching.apply(record) for record in random_requests(1, PROFILES["lively"], 3)]
    feed.apply(records[0])
    with pytest.raises(AssertionError, match="ACME: 3 after 1"):
        feed.apply(records[2])


# -- reports -----------------------------------------------------------------------------------------------------------

ENDS = ("filled", "canceled", "rejected")


@pytest.mark.parametrize("profile", PROFILES)
def test_the_reports_of_each_order_add_up_and_tell_its_life_in_order(profile: str) -> None:
    print(f"seed {SEED}")
    matching, feed = Matching(), Feed("ACME")
    for record in random_requests(SEED, PROFILES[profile], 1500):
        feed.apply(matching.apply(record))
    last: dict[int, ExecutionReport] = {}
    for _, report, order in feed.private:
        before = last.get(report.order_id)
        if report.exec_type in ("cancel_rejected", "amend_rejected"):
            if order is None and before is not None and report.order_status is not UNSET:
                assert report.order_status == before.order_status, "a refused request changes nothing"
            continue
        assert order is not None
        assert (before is None) == (report.exec_type in ("new", "rejected")), "new or rejected comes first, and once"
        _check_report(report, before)
        last[report.order_id] = report
    ended = [order.order_id for order in feed.ended]
    assert sorted(ended) == sorted(order_id for order_id, report in last.items() if report.order_status in ENDS)
    open_orders = {order_id: report.leaves_quantity for order_id, report in last.items() if report.leaves_quantity}
    assert open_orders == {order_id: leaves for side in SIDES for _, order_id, leaves in queue(matching, side)}


def _check_report(report: ExecutionReport, before: ExecutionReport | None) -> None:
    quantity, cumulative, leaves = report.quantity, report.cumulative_quantity, report.leaves_quantity
    assert isinstance(quantity, int)
    assert isinstance(cumulative, int)
    assert isinstance(leaves, int)
    if before is None:
        assert cumulative == 0
        assert leaves == (0 if report.exec_type == "rejected" else quantity)
        return
    assert before.order_status not in ENDS, "nothing follows an order's end"
    assert isinstance(before.cumulative_quantity, int)
    if report.exec_type == "trade":
        assert isinstance(report.last_quantity, int)
        assert cumulative == before.cumulative_quantity + report.last_quantity
    else:
        assert cumulative == before.cumulative_quantity
    if report.exec_type == "canceled":
        assert (report.order_status, leaves) == ("canceled", 0)
        assert cumulative < quantity
    else:
        assert cumulative + leaves == quantity
        expected = "filled" if not leaves else "partially_filled" if cumulative else "new"
        assert report.order_status == expected


def test_the_makers_report_comes_before_the_takers() -> None:
    published = Published()
    published.new(1, "sell", 10, 100, "sue")
    published.new(2, "buy", 4, 105, "bob")
    assert [
        (r.account, r.exec_type, r.order_id, r.order_status, r.liquidity, r.last_price, r.last_quantity)
        for r in published.reports
    ] == [
        ("bob", "new", 2, "new", UNSET, UNSET, UNSET),
        ("sue", "trade", 1, "partially_filled", "maker", 100, 4),
        ("bob", "trade", 2, "filled", "taker", 100, 4),
    ]


def test_a_report_leaves_out_what_has_no_value() -> None:
    published = Published()
    published.request(NewOrder(1, "c1", BUY, 5, 0, "market", "gtc"), "bob")
    assert plain(published.reports[-1]) == {
        "type": "execution_report",
        "account": "bob",
        "sequence": 2,
        "exec_type": "canceled",
        "order_status": "canceled",
        "order_id": 1,
        "client_order_id": "c1",
        "side": "buy",
        "order_type": "market",
        "time_in_force": "gtc",
        "quantity": 5,
        "cumulative_quantity": 0,
        "leaves_quantity": 0,
        "reason": "market_remainder",
    }


def test_a_refused_request_for_an_order_that_is_not_live_is_reported_with_its_id_only() -> None:
    published = Published()
    published.request(CancelOrder(7, "r1"), "bob")
    assert [plain(report) for report in published.reports] == [
        {
            "type": "execution_report",
            "account": "bob",
            "sequence": 1,
            "exec_type": "cancel_rejected",
            "order_id": 7,
            "reason": "unknown_order",
        }
    ]


def test_a_refused_amend_of_a_live_order_is_reported_with_the_order_as_it_was() -> None:
    published = Published()
    published.new(1, "buy", MAX_INTEGER, 100, "ann")
    published.new(2, "buy", 5, 99, "bob")
    assert published.request(AmendOrder(2, None, 100), "bob") == []
    (report,) = published.reports
    assert (report.exec_type, report.reason, report.order_status) == ("amend_rejected", "invalid_quantity", "new")
    assert (report.price, report.quantity, report.leaves_quantity) == (99, 5, 5)


# -- messages of each kind of request ----------------------------------------------------------------------------------


def test_the_first_definition_opens_the_asset_and_a_later_one_is_not_a_status() -> None:
    published = Published()
    assert [plain(message) for _, message in published.public] == [
        {"type": "status", "sequence": 1, "status": "open", "reason": "defined"}
    ]
    assert published.request(DefineAsset(Asset(asset="ACME", tick_size=5)), "") == []
    assert published.feed.definition == Asset(asset="ACME", tick_size=5)


def test_an_order_that_rests_is_added_and_changes_its_level_and_the_best_price() -> None:
    published = Published()
    assert published.new(1, "buy", 10, 100, "bob") == [
        {"type": "order_added", "sequence": 1, "order_id": 1, "side": "buy", "price": 100, "quantity": 10},
        {"type": "book", "sequence": 1, "changes": [("buy", 100, 10, 1)]},
        {"type": "bbo", "sequence": 1, "bid": (100, 10), "ask": None},
    ]


def test_an_order_behind_the_best_price_changes_its_level_only() -> None:
    published = Published()
    published.new(1, "buy", 10, 100, "bob")
    assert [message["type"] for message in published.new(2, "buy", 10, 99, "bob")] == ["order_added", "book"]


def test_a_sweep_is_one_book_message_with_every_level_it_changed() -> None:
    published = Published()
    published.new(1, "sell", 10, 100, "sue")
    published.new(2, "sell", 10, 101, "sue")
    sent = published.new(3, "buy", 25, 101, "bob")
    assert of_type(sent, "book") == [
        {"type": "book", "sequence": 3, "changes": [("sell", 100, 0, 0), ("sell", 101, 0, 0), ("buy", 101, 5, 1)]}
    ]
    assert of_type(sent, "trade", "order_executed", "order_added") == [
        {
            "type": "trade",
            "sequence": 1,
            "trade_id": 1,
            "price": 100,
            "quantity": 10,
            "aggressor": "buy",
            "maker_order_id": 1,
            "taker_order_id": 3,
        },
        {"type": "order_executed", "sequence": 3, "order_id": 1, "quantity": 10, "price": 100, "trade_id": 1},
        {
            "type": "trade",
            "sequence": 2,
            "trade_id": 2,
            "price": 101,
            "quantity": 10,
            "aggressor": "buy",
            "maker_order_id": 2,
            "taker_order_id": 3,
        },
        {"type": "order_executed", "sequence": 4, "order_id": 2, "quantity": 10, "price": 101, "trade_id": 2},
        {"type": "order_added", "sequence": 5, "order_id": 3, "side": "buy", "price": 101, "quantity": 5},
    ]


def test_an_order_that_changes_nothing_in_the_book_is_not_public() -> None:
    published = Published()
    published.new(1, "sell", 10, 100, "sue")
    assert published.new(2, "buy", 10, 99, "bob", "ioc") == []
    assert published.new(3, "buy", 11, 100, "bob", "fok") == []
    assert published.new(4, "buy", 10, 100, "sue") == []
    assert [report.exec_type for report in published.reports] == ["new", "canceled"]


def test_an_amend_that_keeps_its_place_is_a_reduction() -> None:
    published = Published()
    published.new(1, "buy", 10, 100, "bob")
    sent = published.request(AmendOrder(1, 4, None), "bob")
    assert sent[0] == {"type": "order_reduced", "sequence": 2, "order_id": 1, "quantity": 6}
    assert published.request(AmendOrder(1, 4, None), "bob") == []
    assert [report.exec_type for report in published.reports] == ["replaced"]


def test_an_amend_that_loses_its_place_is_a_replacement() -> None:
    published = Published()
    published.new(1, "buy", 10, 100, "bob")
    assert published.request(AmendOrder(1, None, 99), "bob") == [
        {"type": "order_replaced", "sequence": 2, "order_id": 1, "price": 99, "quantity": 10},
        {"type": "book", "sequence": 2, "changes": [("buy", 100, 0, 0), ("buy", 99, 10, 1)]},
        {"type": "bbo", "sequence": 2, "bid": (99, 10), "ask": None},
    ]


def test_an_amend_that_trades_leaves_the_book_and_what_is_left_is_added() -> None:
    published = Published()
    published.new(1, "sell", 4, 101, "sue")
    published.new(2, "buy", 10, 100, "bob")
    sent = published.request(AmendOrder(2, None, 101), "bob")
    assert [message["type"] for message in sent] == [
        "order_deleted",
        "trade",
        "order_executed",
        "order_added",
        "book",
        "bbo",
    ]
    assert sent[3]["quantity"] == 6


def test_an_amend_that_ends_on_an_own_order_only_leaves_the_book() -> None:
    published = Published()
    published.new(1, "sell", 4, 101, "bob")
    published.new(2, "buy", 10, 100, "bob")
    sent = published.request(AmendOrder(2, None, 101), "bob")
    assert [message["type"] for message in sent] == ["order_deleted", "book", "bbo"]
    assert [report.exec_type for report in published.reports] == ["replaced", "canceled"]


def test_a_mass_cancel_deletes_each_order_and_is_one_book_message() -> None:
    published = Published()
    published.new(1, "buy", 10, 100, "bob")
    published.new(2, "sell", 10, 101, "bob")
    sent = published.request(MassCancel(0), "bob")
    assert [message["type"] for message in sent] == ["order_deleted", "order_deleted", "book", "bbo"]
    assert sent[-1] == {"type": "bbo", "sequence": 3, "bid": None, "ask": None}


def test_a_full_level_is_reported_as_rejected_and_ends_the_order() -> None:
    published = Published()
    published.new(1, "sell", MAX_INTEGER, 100, "ann")
    assert published.new(2, "sell", 1, 100, "sue") == []
    (report,) = published.reports
    assert (report.exec_type, report.order_status, report.reason) == ("rejected", "rejected", "invalid_quantity")
    assert (report.cumulative_quantity, report.leaves_quantity) == (0, 0)
    assert [order.order_id for order in published.feed.ended] == [2]
    assert queue(published.matching, "sell") == [(100, 1, MAX_INTEGER)]
