"""What subscribers see: books built from messages are the core's book, numbers have no gap, reports add up."""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from exchange.core.asset import MAX_INTEGER, Asset, ScheduledChange
from exchange.core.book import MANY
from exchange.core.events import Event, EventRecord, IndicativeChanged, StatusChanged
from exchange.core.execution_reports import Topic
from exchange.core.feed_notes import PUBLIC_TOPICS
from exchange.core.market_data import Feed
from exchange.core.matching import Matching
from exchange.core.requests import BUY, SELL, AmendOrder, ChangeStatus, DefineAsset, Delist, MassCancel, Record
from exchange.pipeline.codec import encode
from tests.published import (
    LevelBook,
    OrderBook,
    Published,
    levels,
    of_type,
    plain,
    private_of,
    public_of,
    queue,
    take,
)
from tests.random_requests import PROFILES, random_requests

SEED = random.SystemRandom().randrange(2**32)  # a new one each run; a failure prints it


@pytest.mark.parametrize("profile", PROFILES)
def test_books_built_from_messages_are_the_cores_after_every_request(profile: str) -> None:
    print(f"seed {SEED}")
    published, level_book, order_book = Published(define=False), LevelBook(), OrderBook()
    for record in random_requests(SEED, PROFILES[profile], 600 if profile == "deep" else 1200):
        published.apply(record)
        for topic, message in published.public:
            assert topic.name.endswith("/ACME/")
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
    sent: list[tuple[Topic, Any]] = [*public_of(feed), *private_of(feed)]
    for topic, message in sent:
        last[topic.name] = last.get(topic.name, 0) + 1
        assert message.sequence == last[topic.name]
    assert {name: topic.sequence for name, topic in feed.topics.items()} == {
        name: last.get(f"{name}/ACME/", 0) for name in PUBLIC_TOPICS
    }
    assert last.get("trade/ACME/", 0) == matching.trade_id


@pytest.mark.parametrize("profile", PROFILES)
def test_a_request_has_one_status_message_for_each_change_or_for_another_indicative_alone(profile: str) -> None:
    feed, matching = Feed("ACME"), Matching()
    for record in random_requests(SEED, PROFILES[profile], 500):
        events = matching.apply(record)
        take(feed)
        feed.apply(events)
        kinds = [type(event) for event in events.events]
        first = record.sequence == 1 and len(kinds) == 1  # the definition of an asset without sessions
        expected = max(kinds.count(StatusChanged), kinds.count(IndicativeChanged), first)
        sent = [message for topic, message in public_of(feed) if topic.name == "status/ACME/"]
        assert len(sent) == expected, f"seed {SEED}, {record}"


def sent_bytes(profile: str, seed: int) -> Iterator[bytes]:
    matching, feed = Matching(), Feed("ACME")
    for record in random_requests(seed, PROFILES[profile], 500):
        feed.apply(matching.apply(record))
    for topic, message in (*public_of(feed), *private_of(feed)):
        yield topic.frame + encode(message)


def test_the_same_events_give_the_same_bytes() -> None:
    assert list(sent_bytes("lively", SEED)) == list(sent_bytes("lively", SEED)), f"seed {SEED}"


@pytest.mark.parametrize("profile", ["lively", "deep", "sessions", "everything"])
def test_a_request_folded_in_part_by_part_gives_the_same_messages(profile: str) -> None:
    """As a whole, what most requests come to is done at once; in parts, event by event."""
    whole, parts = Feed("ACME"), Feed("ACME")
    matching = Matching()
    for record in random_requests(SEED, PROFILES[profile], 800):
        events = matching.apply(record)
        whole.apply(events)
        for _ in parts.apply_in_parts(events, 2):
            pass
    for one, other in ((public_of(whole), public_of(parts)), (private_of(whole), private_of(parts))):
        assert [(sent[0].name, sent[1]) for sent in one] == [(sent[0].name, sent[1]) for sent in other], f"seed {SEED}"
    assert list(whole.ended) == list(parts.ended)
    assert whole.reports.first == parts.reports.first
    assert {each: whole.reports.last_of(order) for each, order in whole.orders.items()} == {
        each: parts.reports.last_of(order) for each, order in parts.orders.items()
    }


def test_a_record_that_is_not_the_next_is_our_own_mistake() -> None:
    matching, feed = Matching(), Feed("ACME")
    records = [matching.apply(record) for record in random_requests(1, PROFILES["lively"], 3)]
    feed.apply(records[0])
    with pytest.raises(AssertionError, match="ACME: 3 after 1"):
        feed.apply(records[2])


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
    assert list(published.feed.ended) == [2]
    assert queue(published.matching, "sell") == [(100, 1, MAX_INTEGER)]


# -- icebergs, stops ---------------------------------------------------------------------------------------------------


def test_an_iceberg_shows_its_next_part_as_a_new_order_behind_the_others() -> None:
    published = Published()
    added = published.new(1, "sell", 30, 100, "sue", display_quantity=10)
    assert added == [
        {"type": "order_added", "sequence": 1, "order_id": 1, "side": "sell", "price": 100, "quantity": 10},
        {"type": "book", "sequence": 1, "changes": [("sell", 100, 10, 1)]},
        {"type": "bbo", "sequence": 1, "bid": None, "ask": (100, 10)},
    ]
    published.new(2, "sell", 5, 100, "ann")
    sent = published.new(3, "buy", 12, 100, "bob")
    assert of_type(sent, "order_executed", "order_added", "book") == [
        {"type": "order_executed", "sequence": 3, "order_id": 1, "quantity": 10, "price": 100, "trade_id": 1},
        {"type": "order_added", "sequence": 4, "order_id": 1, "side": "sell", "price": 100, "quantity": 10},
        {"type": "order_executed", "sequence": 5, "order_id": 2, "quantity": 2, "price": 100, "trade_id": 2},
        {"type": "book", "sequence": 3, "changes": [("sell", 100, 13, 2)]},
    ]


def test_a_level_that_is_what_it_was_is_not_published() -> None:
    published = Published()
    published.new(1, "sell", 30, 100, "sue", display_quantity=10)
    sent = published.new(2, "buy", 10, 100, "bob")
    assert [message["type"] for message in sent] == ["trade", "order_executed", "order_added"]


def test_what_is_taken_off_an_icebergs_hidden_part_is_not_public() -> None:
    published = Published()
    published.new(1, "sell", 30, 100, "sue", display_quantity=10)
    assert published.request(AmendOrder(1, 12, None), "sue") == []
    sent = published.request(AmendOrder(1, 7, None), "sue")
    assert of_type(sent, "order_reduced", "book") == [
        {"type": "order_reduced", "sequence": 2, "order_id": 1, "quantity": 3},
        {"type": "book", "sequence": 2, "changes": [("sell", 100, 7, 1)]},
    ]


def test_decrementing_takes_hidden_quantity_first() -> None:
    published = Published()
    published.new(1, "sell", 30, 100, "sue", display_quantity=10)
    assert published.new(2, "buy", 15, 100, "sue", self_trade_prevention="decrement_and_cancel") == []
    sent = published.new(3, "buy", 10, 100, "sue", self_trade_prevention="decrement_and_cancel")
    assert of_type(sent, "order_reduced") == [
        {"type": "order_reduced", "sequence": 2, "order_id": 1, "quantity": 5},
    ]


def test_a_stop_is_public_from_the_moment_it_rests() -> None:
    published = Published()
    assert published.new(1, "buy", 4, 99, "bob", order_type="stop_limit", stop_price=100) == []
    assert published.request(AmendOrder(1, 6, None, stop_price=101), "bob") == []
    published.new(2, "sell", 5, 101, "sue")
    sent = published.new(3, "buy", 5, 101, "ann")
    assert [message["type"] for message in sent] == ["trade", "order_executed", "order_added", "book", "bbo"]
    assert sent[2] == {
        "type": "order_added",
        "sequence": 3,
        "order_id": 1,
        "side": "buy",
        "price": 99,
        "quantity": 6,
    }


# -- sessions, auctions ------------------------------------------------------------------------------------------------

SESSIONS = (ScheduledChange("08:00", "call"), ScheduledChange("09:00", "open"), ScheduledChange("17:00", "closed"))
NOTHING_YET = {"indicative_price": None, "indicative_quantity": 0, "surplus_side": None, "surplus_quantity": 0}


def test_an_asset_with_sessions_begins_closed() -> None:
    published = Published(schedule=SESSIONS)
    assert [plain(message) for _, message in published.public] == [
        {"type": "status", "sequence": 1, "status": "closed", "reason": "defined"}
    ]


def test_an_asset_that_is_taken_off_the_list_and_listed_again() -> None:
    published = Published()
    assert published.request(Delist(), "") == [
        {"type": "status", "sequence": 2, "status": "closed", "reason": "delisted"}
    ]
    assert published.request(DefineAsset(Asset(asset="ACME")), "") == [
        {"type": "status", "sequence": 3, "status": "open", "reason": "defined"}
    ]


def test_a_call_says_what_its_auction_would_give_whenever_that_changes() -> None:
    published = Published()
    call = {"type": "status", "status": "call", "reason": "schedule"}
    assert published.status("call") == [call | {"sequence": 2} | NOTHING_YET]
    assert of_type(published.new(1, "buy", 8, 105, "bob"), "status") == []
    found = {"indicative_price": 105, "indicative_quantity": 5, "surplus_side": "buy", "surplus_quantity": 3}
    sent = published.new(2, "sell", 5, 100, "sue")
    assert of_type(sent, "status") == [call | {"sequence": 3} | found]
    assert of_type(sent, "bbo") == [{"type": "bbo", "sequence": 2, "bid": (105, 8), "ask": (100, 5)}], "crossed"
    published.feed.check()
    sent = published.request(MassCancel(0), "sue")
    assert of_type(sent, "status") == [call | {"sequence": 4} | NOTHING_YET]
    assert published.status("halted", "operator") == [
        {"type": "status", "sequence": 5, "status": "halted", "reason": "operator"}
    ]


def test_in_an_auction_both_orders_are_executed_at_one_price() -> None:
    published = Published()
    published.status("call")
    published.new(1, "buy", 8, 105, "bob")
    published.new(2, "sell", 5, 100, "sue")
    assert published.status("open") == [
        {
            "type": "trade",
            "sequence": 1,
            "trade_id": 1,
            "price": 105,
            "quantity": 5,
            "aggressor": "buy",
            "maker_order_id": 2,
            "taker_order_id": 1,
        },
        {"type": "order_executed", "sequence": 3, "order_id": 2, "quantity": 5, "price": 105, "trade_id": 1},
        {"type": "order_executed", "sequence": 4, "order_id": 1, "quantity": 5, "price": 105, "trade_id": 1},
        {"type": "status", "sequence": 4, "status": "open", "reason": "schedule"},
        {"type": "book", "sequence": 3, "changes": [("sell", 100, 0, 0), ("buy", 105, 3, 1)]},
        {"type": "bbo", "sequence": 3, "bid": (105, 3), "ask": None},
    ]


def test_an_auction_takes_what_an_iceberg_hides_and_says_what_was_taken_off_what_it_shows() -> None:
    published = Published()
    published.status("call")
    published.new(1, "sell", 30, 100, "sue", display_quantity=10)
    for order_id in (2, 3, 4):
        published.new(order_id, "buy", 8, 100, "bob")
    sent = published.status("open")
    assert [
        (message["order_id"], message["quantity"], message["trade_id"]) for message in of_type(sent, "order_executed")
    ] == [(1, 8, 1), (2, 8, 1), (1, 2, 2), (3, 8, 2), (4, 8, 3)]
    assert of_type(sent, "order_added") == [
        {"type": "order_added", "sequence": 10, "order_id": 1, "side": "sell", "price": 100, "quantity": 6}
    ]
    assert queue(published.matching, "sell") == [(100, 1, 6)]
    published.feed.check()


def test_an_interruption_stops_the_trades_and_what_is_left_rests_in_the_call() -> None:
    published = Published(reference_price=100, volatility_band_ppm=20_000)
    published.new(1, "sell", 5, 101, "sue")
    published.new(2, "sell", 5, 110, "sue")
    sent = published.new(3, "buy", 9, 110, "bob")
    assert [message["type"] for message in sent] == ["trade", "order_executed", "order_added", "status", "book", "bbo"]
    found = {"indicative_price": 110, "indicative_quantity": 4, "surplus_side": "sell", "surplus_quantity": 1}
    assert sent[3] == {
        "type": "status",
        "sequence": 2,
        "status": "call",
        "reason": "volatility_interruption",
        **found,
    }
    assert sent[-1] == {"type": "bbo", "sequence": 2, "bid": (110, 4), "ask": (110, 5)}


def test_a_call_that_begins_with_a_crossed_book_says_at_once_what_its_auction_would_give() -> None:
    """It begins again after a halt, or by schedule after an operator's: no subscriber is told that nothing trades."""
    published = Published()
    published.status("call", "operator")
    published.new(1, "buy", 8, 105, "bob")
    published.new(2, "sell", 5, 100, "sue")
    found = {"indicative_price": 105, "indicative_quantity": 5, "surplus_side": "buy", "surplus_quantity": 3}
    call = {"type": "status", "status": "call"} | found
    assert published.status("call", "schedule") == [call | {"sequence": 4, "reason": "schedule"}]
    published.status("halted", "operator")
    assert published.status("call", "operator") == [call | {"sequence": 6, "reason": "operator"}]
    published.feed.check()
    sent = published.request(MassCancel(0), "sue")
    assert of_type(sent, "status") == [call | {"sequence": 7, "reason": "operator"} | NOTHING_YET]


def test_each_change_of_status_within_a_request_is_published_and_the_last_call_has_the_indicative() -> None:
    feed = Feed("ACME")
    changes: list[Event] = [
        StatusChanged("call", "operator"),
        StatusChanged("open", "operator"),
        StatusChanged("call", "schedule"),
        StatusChanged("call", "volatility_interruption"),
        IndicativeChanged(105, 5, 1, 3),
    ]
    request = ChangeStatus("call", "operator")
    feed.apply(EventRecord("ACME", 1, 1, "", request, 1, changes))
    assert [
        (message["sequence"], message["status"], message["reason"], message.get("indicative_price", "none"))
        for message in (plain(message) for _, message in public_of(feed))
    ] == [
        (1, "call", "operator", None),
        (2, "open", "operator", "none"),
        (3, "call", "schedule", None),
        (4, "call", "volatility_interruption", 105),
    ]
    feed.check()


@pytest.mark.parametrize("by_parts", [False, True])
def test_a_mass_cancel_of_many_levels_leaves_the_others(by_parts: bool) -> None:
    published = Published()
    for price in range(1, 4 * MANY):
        published.new(price, "buy", 1, price, "bob" if price % 3 else "ann")
    record = Record("ACME", published.matching.sequence + 1, 0, "bob", MassCancel(0))
    events = published.matching.apply(record)
    if by_parts:
        for _ in published.feed.apply_in_parts(events, 10):
            pass
    else:
        published.feed.apply(events)
    published.feed.check()
    book = list(published.feed.book.ladders[BUY].best_first())
    assert [price for price, _, _ in book] == list(reversed(range(3, 4 * MANY, 3)))
