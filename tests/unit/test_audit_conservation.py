"""Quantities added up from events alone: every event that can't be is named."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from exchange.audit.conservation import Conservation
from exchange.audit.findings import Difference
from exchange.core.events import (
    Event,
    EventRecord,
    OrderAccepted,
    OrderCanceled,
    OrderDecremented,
    OrderExpired,
    OrderReplaced,
    OrderReplenished,
    OrderRested,
    OrderTriggered,
    TradeExecuted,
)
from exchange.core.requests import BUY, SELL, Expire
from tests.audited import event_records
from tests.random_requests import PROFILES
from tests.stored import START, Market, folded


def fold(records: Sequence[EventRecord], whole: bool = True) -> Conservation:
    """Fold records to their end."""
    conservation = Conservation(records[0].asset, whole, keep_states=True)
    for record in records:
        conservation.add(record)
    conservation.finish()
    return conservation


def difference(records: Sequence[EventRecord]) -> str:
    """Return what the first difference is."""
    with pytest.raises(Difference) as raised:
        fold(records)
    assert raised.value.finding.check == "conservation"
    return raised.value.finding.what


@pytest.mark.parametrize("profile", PROFILES)
def test_what_the_core_does_adds_up_and_each_order_ends_as_it_did(profile: str) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    records = event_records(seed, profile, 300)
    conservation = fold(records)
    conservation.note_live()
    expected = {order_id: (traded, leaves) for (_, order_id), (_, traded, leaves) in folded(records).items()}
    found = zip(conservation.order_ids, conservation.traded, conservation.leaves, strict=True)
    assert {order_id: (traded, leaves) for order_id, traded, leaves in found} == expected
    assert sum(conservation.positions.values()) == 0


def test_from_a_later_record_on_nothing_is_said_of_earlier_orders() -> None:
    records = event_records(1, "everything", 2000)
    for start in range(0, 2000, 97):
        fold(records[start:], whole=start == 0)


# -- what can't be -----------------------------------------------------------------------------------------------------


def a_market() -> list[EventRecord]:
    """Return the records of a market with an event of nearly each kind.

    Order 1 (sell 10 at 100) trades 4 with order 2, is amended to 8, and canceled; order 3 (a stop) is triggered by that
    trade and rests; order 4 (an iceberg) is hit by order 5; order 6 decrements order 7; order 8 expires.
    """
    market = Market()
    market.enter("ann", SELL, 10, 100)  # record 1
    market.enter("cat", SELL, 3, 105, stop_price=100)  # 2: order 2, a stop
    market.enter("bob", BUY, 4, 100)  # 3: order 3; trades with 1, triggers 2
    market.amend("ann", 1, quantity=8)  # 4
    market.cancel("ann", 1)  # 5
    market.enter("dan", SELL, 9, 101, display_quantity=3)  # 6: order 4
    market.enter("bob", BUY, 4, 101)  # 7: order 5, trades with 4 twice
    market.enter("eve", SELL, 5, 103)  # 8: order 6
    market.cancel("dan", 4)  # 9
    market.enter("eve", BUY, 2, 103, self_trade_prevention="decrement_and_cancel")  # 10: order 7
    market.enter("fay", BUY, 1, 90, "gtd", expire_time=START + 1)  # 11: order 8
    market.apply("", Expire())  # 12
    return market.records


def test_the_market_of_these_tests_is_sound() -> None:
    kinds = {type(event) for record in a_market() for event in record.events}
    assert kinds >= {
        OrderAccepted,
        OrderRested,
        TradeExecuted,
        OrderTriggered,
        OrderReplaced,
        OrderReplenished,
        OrderDecremented,
        OrderCanceled,
        OrderExpired,
    }
    fold(a_market())


def place_of(records: Sequence[EventRecord], kind: type[Event], number: int = 0) -> tuple[int, int]:
    """Return the places of the `number`th event of a kind, of its record and its own."""
    places = [
        (at, place)
        for at, record in enumerate(records)
        for place, event in enumerate(record.events)
        if type(event) is kind
    ]
    return places[number]


def with_event(kind: type[Event], number: int = 0, **fields: Any) -> list[EventRecord]:
    """Return the market with fields of an event changed."""
    records = a_market()
    at, place = place_of(records, kind, number)
    events = list(records[at].events)
    events[place] = replace(events[place], **fields)
    records[at] = replace(records[at], events=events)
    return records


def without_event(kind: type[Event], number: int = 0) -> list[EventRecord]:
    """Return the market without an event, the later ones numbered anew."""
    records = a_market()
    at, place = place_of(records, kind, number)
    records[at] = replace(records[at], events=[each for n, each in enumerate(records[at].events) if n != place])
    return numbered(records)


def numbered(records: list[EventRecord]) -> list[EventRecord]:
    first = 1
    for at, record in enumerate(records):
        records[at] = replace(record, event_sequence=first)
        first += len(record.events)
    return records


def at_the_end(*events: Event) -> list[EventRecord]:
    """Return the market with one more request that does nothing but these events."""
    records = a_market()
    last = records[-1]
    records.append(replace(last, sequence=last.sequence + 1, events=list(events)))
    return numbered(records)


@pytest.mark.parametrize(
    ("records", "text"),
    [
        (lambda: with_event(TradeExecuted, quantity=11), "order 1 trades more than it has"),
        (lambda: with_event(TradeExecuted, quantity=0), "trade 1 is of nothing"),
        (lambda: with_event(TradeExecuted, quantity=3), "order 3 neither rests nor waits nor has ended"),
        (lambda: with_event(TradeExecuted, price=99), "trade 1 is beyond the limit of order 1"),
        (lambda: with_event(TradeExecuted, price=101), "trade 1 is beyond the limit of order 3"),
        (lambda: with_event(TradeExecuted, trade_id=2), "trade ids are not contiguous"),
        (lambda: with_event(TradeExecuted, maker_account="bob"), "trade 1 is not with order 1 as it is"),
        (lambda: with_event(TradeExecuted, aggressor=SELL), "trade 1 is not with order 1 as it is"),
        (lambda: with_event(TradeExecuted, maker_order_id=2), "order 2 trades as a maker and does not rest"),
        (lambda: with_event(TradeExecuted, taker_order_id=2), "trade 1 is not with order 2 as it is"),
        (lambda: with_event(TradeExecuted, maker_order_id=99), "order 99, which was never entered"),
        (lambda: with_event(TradeExecuted, 1, maker_order_id=1), "something happens to order 1 after its end"),
        (lambda: at_the_end(TradeExecuted(4, 100, 1, BUY, 2, 3, "cat", "bob")), "order 3 after its end"),
        (lambda: with_event(OrderRested, quantity=9), "order 1 rests with something else than it has"),
        (lambda: with_event(OrderRested, price=99), "order 1 rests with something else than it has"),
        (lambda: at_the_end(OrderRested(2, 105, 3)), "order 2 comes to rest and rests already"),
        (lambda: without_event(OrderRested), "order 1 neither rests nor waits nor has ended"),
        (lambda: with_event(OrderCanceled, canceled=3), "order 1 has something else than the event says"),
        (lambda: with_event(OrderCanceled, quantity=10), "order 1 has something else than the event says"),
        (lambda: at_the_end(OrderCanceled(1, "user_request", 100, 8, 4)), "order 1 after its end"),
        (lambda: with_event(OrderExpired, expired=2), "order 8 has something else than the event says"),
        (lambda: with_event(OrderReplaced, leaves=5), "order 1 has something else than the event says"),
        (lambda: with_event(OrderReplaced, quantity=4, leaves=0), "order 1 has something else than the event says"),
        (lambda: with_event(OrderDecremented, quantity=5), "order 6 is decremented to more"),
        (lambda: with_event(OrderDecremented, quantity=4), "order 6 has something else than the event says"),
        (lambda: with_event(OrderReplenished, shown=10), "order 4 shows something else than it has"),
        (lambda: at_the_end(OrderTriggered(2)), "order 2 is triggered and does not wait"),
        (lambda: without_event(OrderTriggered), "order 2 comes to rest and waits"),
        (lambda: without_event(OrderAccepted), "something happens to order 1, which was never entered"),
        (lambda: at_the_end(OrderAccepted(9)), "order 9 is not the one of the request"),
        (lambda: with_event(OrderAccepted, order_id=7), "order 7 is not the one of the request"),
        (lambda: [replace(each, event_sequence=each.event_sequence + (each.sequence > 4)) for each in a_market()],
         "the numbers of an asset's events are not contiguous"),
        (lambda: numbered([replace(each, events=[]) for each in a_market()]), "nothing became of order 1"),
    ],
)  # fmt: skip
def test_what_can_not_be_is_named(records: Callable[[], list[EventRecord]], text: str) -> None:
    assert text in difference(records())


def test_sums_are_added_up_apart_from_the_orders() -> None:
    records = a_market()
    for name in ("entered", "canceled", "bought"):
        conservation = Conservation("ACME", True, keep_states=False)
        for record in records:
            conservation.add(record)
        setattr(conservation, name, getattr(conservation, name) + 1)
        with pytest.raises(Difference, match="do not add up"):
            conservation.finish()
