"""A feed restored from its state says what the feed that never stopped says: every message, number and report."""

import random

import msgspec
import pytest
from msgspec import structs

from exchange.core.asset import Asset
from exchange.core.book import Account, Book, Ladder, Order, Terms
from exchange.core.execution_reports import PublishedOrder, Reports, Topic
from exchange.core.feed_notes import report_of
from exchange.core.feed_state import FeedState, OtherVersion, StoredOrder, restore, state_of
from exchange.core.market_data import Feed
from exchange.core.matching import Matching
from exchange.core.requests import BUY, SELL, Instructions, NewOrder, Record
from exchange.pipeline.codec import encode
from tests.published import Published, private_of, public_of, take
from tests.random_requests import PROFILES, random_requests

SEED = random.SystemRandom().randrange(2**32)  # a new one each run; a failure prints it
decode = msgspec.msgpack.Decoder(FeedState).decode


def taken(feed: Feed) -> list[tuple[str, bytes]]:
    """Empty what a feed has noted as the notifier does, and return its topics and payloads."""
    sent = [(topic.name, encode(message)) for topic, message in (*public_of(feed), *private_of(feed))]
    sent += [(f"ended {order_id}", encode(report_of("ACME", note, order_id))) for order_id, note in feed.ended.items()]
    take(feed)
    return sent


def last_reports(feed: Feed) -> dict[int, bytes]:
    """Return the last report of each live order."""
    return {order_id: encode(feed.reports.last_of(order)) for order_id, order in feed.orders.items()}


def through_bytes(feed: Feed) -> Feed:
    body = encode(state_of(feed))
    feed = restore(decode(body))
    assert encode(state_of(feed)) == body
    return feed


@pytest.mark.parametrize("profile", PROFILES)
def test_a_restored_feed_goes_on_with_the_same_messages(profile: str) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    matching, feed, restored = Matching(), Feed("ACME"), Feed("ACME")
    for record in random_requests(SEED, PROFILES[profile], 600 if profile == "deep" else 1200):
        events = matching.apply(record)
        feed.apply(events)
        restored.apply(events)
        assert taken(restored) == taken(feed), record
        if chance.random() < 0.03:
            restored = through_bytes(restored)
            restored.check()
            assert restored.bbo == feed.bbo
            assert last_reports(restored) == last_reports(feed)
    assert encode(state_of(restored)) == encode(state_of(feed))


def test_the_state_of_a_feed_that_has_folded_nothing_is_a_new_feeds() -> None:
    feed = through_bytes(Feed("ACME"))
    matching = Matching()
    record = next(random_requests(1, PROFILES["lively"], 1))
    feed.apply(matching.apply(record))
    assert feed.sequence == 1


def test_an_iceberg_comes_back_with_what_it_shows_and_hides_in_its_place() -> None:
    published = Published()
    published.new(1, "sell", 100, 10, "ann", display_quantity=10)
    published.new(2, "sell", 5, 10, "bob")
    published.new(3, "buy", 4, 10, "dan")
    taken(published.feed)
    published.feed = through_bytes(published.feed)
    ladder = published.feed.book.ladders[SELL]
    shown = [(order.order_id, order.leaves) for _, _, orders in ladder.best_first() for order in orders]
    assert shown == [(1, 6), (2, 5)]
    assert published.feed.orders[1].hidden == 90
    assert ladder.hidden == {-10: 90}
    published.new(4, "buy", 6, 10, "dan")
    shown = [(order.order_id, order.leaves) for _, _, orders in ladder.best_first() for order in orders]
    assert shown == [(2, 5), (1, 10)], "its next part is behind"


def test_orders_that_ended_are_kept_with_it_where_they_are_given() -> None:
    published = Published()
    published.new(1, "sell", 100, 10, "ann")
    published.new(2, "buy", 100, 10, "bob", time_in_force="ioc")
    feed = published.feed
    ended = dict(feed.ended)
    taken(feed)
    state = decode(encode(state_of(feed, ended)))
    assert list(state.ended) == [1, 2]
    assert state.ended == ended


def test_a_state_of_a_feed_that_gives_other_messages_is_refused() -> None:
    state = state_of(Feed("ACME"))
    with pytest.raises(OtherVersion, match="version 999"):
        restore(structs.replace(state, version=999))
    with pytest.raises(OtherVersion, match="trade, auction"):
        restore(structs.replace(state, topics={"trade": 1, "auction": 1}))


def test_a_state_is_not_taken_with_messages_that_nobody_has_taken() -> None:
    feed = Published().feed
    with pytest.raises(AssertionError, match="would be lost"):
        state_of(feed)


def test_an_order_takes_few_bytes() -> None:
    """What a snapshot costs on disk. The time is as long as it is in this century."""
    matching, feed = Matching(Asset(asset="ACME")), Feed("ACME")
    for number in range(1, 1001):
        order = NewOrder(10**9 + number, f"client-{number}", BUY, 10, 1000 + number % 50)
        feed.apply(matching.apply(Record("ACME", number, 1_790_000_000_000_000_000, "alice", order)))
    taken(feed)
    assert len(encode(state_of(feed))) < 80 * 1000


# Whoever adds an attribute says here what becomes of it: it is in the state, it follows from what is there, or it is
# empty between two requests. Without that a restored feed would be another feed.
IN_THE_STATE = {
    Feed: {"asset", "definition", "status", "book", "orders", "reports", "sequence", "time", "topics"},
    Reports: {"asset", "topics"},
    Book: {"accounts", "buys", "ladders", "sells"},
    Ladder: {"levels"},
    Account: {"name", "orders"},
    Topic: {"account", "sequence"},
    PublishedOrder: {*StoredOrder.__struct_fields__, "topic"},
    Order: {"order_id", "account", "side", "price", "quantity", "leaves", "terms"},
    Terms: set(Terms.__struct_fields__),
}
DERIVED = {
    Feed: {"bbo", "trade_topic", "order_topic", "book_topic", "bbo_topic", "handlers"},
    Ladder: {"side", "best", "bounds", "far", "keys", "hidden", "hidden_parts"},
    Reports: {"book"},
    Topic: {"frame", "place"},
}
EMPTY = {
    Feed: {"call", "entering", "replaced", "touched", "compares", "notes", "ended"},
    Reports: {"notes", "first"},
    Book: {"removing_many"},
}


@pytest.mark.parametrize("kind", IN_THE_STATE)
def test_every_attribute_is_in_the_state_or_said_not_to_be(kind: type) -> None:
    if issubclass(kind, msgspec.Struct):
        names = set(kind.__struct_fields__)
    elif hasattr(kind, "__slots__"):
        names = set(kind.__slots__)
    else:
        feed = Feed("ACME")
        names = set(vars({Feed: feed, Reports: feed.reports}[kind]))
    assert names == IN_THE_STATE[kind] | DERIVED.get(kind, set()) | EMPTY.get(kind, set())


def test_all_terms_are_stored_by_place() -> None:
    terms = Terms("stop_limit", "gtd", 1, 2, 3, True, "cancel_both", 4, 5, True, 6)
    assert all(structs.asdict(terms)[name] for name in Terms.__struct_fields__), "each has a value of its own here"
    published = Published()
    published.request(
        NewOrder(1, "c1", BUY, 10, 99, "stop_limit", "gtd", Instructions(101, 2, 0, expire_time=10**18)), "ann"
    )
    taken(published.feed)
    published.feed.orders[1].terms = terms
    assert through_bytes(published.feed).orders[1].terms == terms
