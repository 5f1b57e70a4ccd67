"""The rest of the rulebook in SQL: instructions, stops, icebergs, expiries, statuses, and what operators did."""

import random
from datetime import UTC, datetime
from typing import Any, get_args

import pytest

from exchange.core.asset import DAYS, Asset, ScheduledChange
from exchange.core.events import AssetDefined, Event, EventRecord, StatusChanged, TradeExecuted
from exchange.core.matching import Matching
from exchange.core.requests import (
    BUY,
    SELL,
    AmendOrder,
    ChangeStatus,
    DefineAsset,
    Delist,
    Expire,
    Instructions,
    MassCancel,
    NewOrder,
)
from exchange.store.rows import ACTS, ENCODERS
from exchange.store.writer import Writer
from tests.database import Connection, documented, rows, state
from tests.random_requests import PROFILES, random_requests
from tests.stored import START, Market, folded

CALL = ChangeStatus("call", "operator", by="olivia")
OPEN = ChangeStatus("open", "operator", by="olivia")
EVENTS = (
    "SELECT order_id, exec_type, reason, price, stop_price, quantity, leaves_quantity FROM order_events"
    " ORDER BY event_sequence"
)


# -- orders ------------------------------------------------------------------------------------------------------------


def test_what_an_order_says_is_stored_and_what_it_does_not_say_is_null(writer: Writer, reader: Connection) -> None:
    market = Market()
    market.enter("alice", BUY, 10, 100)
    expire_time = START + 3_600_000_000_123
    market.enter(
        "alice", BUY, 10, 100, "gtd", stop_price=105, display_quantity=3, min_quantity=2, expire_time=expire_time
    )
    market.enter("alice", BUY, 10, 90, "day", post_only=True, self_trade_prevention="decrement_and_cancel")
    market.enter("alice", SELL, 10, stop_price=80)
    market.apply("alice", NewOrder(9, "c9", SELL, 10, 200, instructions=Instructions()))
    writer.write(market.records)

    assert rows(
        reader,
        "SELECT order_id, order_type, time_in_force, price, stop_price, quantity, display_quantity, min_quantity,"
        " post_only, self_trade_prevention, expire_time_ns FROM orders ORDER BY order_id",
    ) == [
        (1, "limit", "gtc", 100, None, 10, None, None, False, "cancel_newest", None),
        (2, "stop_limit", "gtd", 100, 105, 10, 3, 2, False, "cancel_newest", expire_time),
        (3, "limit", "day", 90, None, 10, None, None, True, "decrement_and_cancel", None),
        (4, "stop", "gtc", None, 80, 10, None, None, False, "cancel_newest", None),
        (9, "limit", "gtc", 200, None, 10, None, None, False, "cancel_newest", None),
    ]
    assert rows(
        reader, "SELECT (extract(epoch FROM expire_time) * 1000000)::bigint FROM orders WHERE order_id = 2"
    ) == [(expire_time // 1000,)]
    assert rows(reader, "SELECT stop_price::text, display_quantity::text FROM orders_decimal WHERE order_id = 2") == [
        ("1.05", "3")
    ]


# -- order events ------------------------------------------------------------------------------------------------------


def test_every_event_has_its_rows_or_its_reason_to_have_none() -> None:
    assert {*ENCODERS, TradeExecuted, AssetDefined, StatusChanged} == set(get_args(Event))


def test_a_stop_waits_is_amended_is_triggered_and_trades(writer: Writer, reader: Connection) -> None:
    market = Market()
    stop = market.enter("alice", BUY, 10, 104, stop_price=102)
    market.amend("alice", stop, 8)
    market.amend("alice", stop, stop_price=103)
    market.amend("alice", stop, price=105)
    writer.write(market.records)
    assert state(reader, stop) == ("pending_trigger", 0, 8)

    market.enter("bob", SELL, 5, 103)
    market.enter("carol", BUY, 2, 103)
    writer.write(market.missing(writer.applied()))
    assert state(reader, stop) == ("partially_filled", 3, 5)
    market.amend("alice", stop, stop_price=104)
    market.amend("alice", stop, 7)
    market.cancel("alice", stop)
    writer.write(market.missing(writer.applied()))

    assert rows(reader, EVENTS) == [
        (stop, "replaced", None, 104, 102, 8, 8),
        (stop, "replaced", None, 104, 103, 8, 8),
        (stop, "replaced", None, 105, 103, 8, 8),
        (stop, "triggered", None, None, None, None, None),
        (stop, "amend_rejected", "triggered", None, None, None, None),
        (stop, "replaced", None, 105, None, 7, 4),
        (stop, "canceled", "user_request", 105, None, 7, 0),
    ]
    assert state(reader, stop) == ("canceled", 3, 0)


def test_a_stop_that_ends_without_a_trade_has_no_price(writer: Writer, reader: Connection) -> None:
    market = Market()
    reached = market.enter("alice", BUY, 10, stop_price=102)
    waits = market.enter("alice", BUY, 10, stop_price=200)
    market.enter("bob", SELL, 1, 102)
    market.enter("carol", BUY, 1, 102)
    market.apply("alice", MassCancel(0, reason="disconnected"))
    writer.write(market.records)
    assert rows(reader, EVENTS) == [
        (reached, "triggered", None, None, None, None, None),
        (reached, "canceled", "market_remainder", None, None, 10, 0),
        (waits, "canceled", "disconnected", None, None, 10, 0),
    ]
    assert state(reader, reached) == state(reader, waits) == ("canceled", 0, 0)


def test_an_iceberg_s_next_part_changes_neither_its_total_nor_what_is_open(writer: Writer, reader: Connection) -> None:
    market = Market()
    iceberg = market.enter("alice", SELL, 10, 100, display_quantity=3)
    market.enter("bob", BUY, 3, 100)
    writer.write(market.records)
    assert rows(reader, EVENTS) == [(iceberg, "restated", None, 100, None, None, None)]
    assert state(reader, iceberg) == ("partially_filled", 3, 7)

    market.amend("alice", iceberg, 9)
    market.enter("bob", BUY, 4, 100)
    writer.write(market.missing(writer.applied()))
    assert state(reader, iceberg) == ("partially_filled", 7, 2)
    market.enter("bob", BUY, 4, 100)
    writer.write(market.missing(writer.applied()))
    assert state(reader, iceberg) == ("filled", 9, 0)


def test_a_decremented_order_s_quantity_is_its_reduced_total(writer: Writer, reader: Connection) -> None:
    market = Market()
    resting = market.enter("alice", SELL, 10, 100)
    market.enter("bob", BUY, 2, 100)
    incoming = market.enter("alice", BUY, 5, 100, self_trade_prevention="decrement_and_cancel")
    writer.write(market.records)
    assert rows(reader, EVENTS) == [
        (resting, "restated", "self_trade_prevention", 100, None, 5, 3),
        (incoming, "canceled", "self_trade_prevention", 100, None, 5, 0),
    ]
    assert state(reader, resting) == ("partially_filled", 2, 3)
    assert state(reader, incoming) == ("canceled", 0, 0)

    market.enter("bob", BUY, 3, 100)
    writer.write(market.missing(writer.applied()))
    assert state(reader, resting) == ("filled", 5, 0)


def test_orders_expire_with_what_they_had_traded(writer: Writer, reader: Connection) -> None:
    market = Market()
    day = market.enter("alice", BUY, 10, 100, "day")
    market.enter("bob", SELL, 4, 100)
    stop = market.enter("alice", BUY, 10, time_in_force="day", stop_price=120)
    market.apply("", Expire(day=True))
    writer.write(market.records)
    assert rows(reader, EVENTS) == [
        (day, "expired", "expired", 100, None, 10, 0),
        (stop, "expired", "expired", None, None, 10, 0),
    ]
    assert state(reader, day) == ("expired", 4, 0)
    assert state(reader, stop) == ("expired", 0, 0)


def test_conditions_and_bands_have_their_reasons(writer: Writer, reader: Connection) -> None:
    market = Market(Asset(asset="ACME", reference_price=100, price_band_ppm=100_000))
    market.enter("bob", SELL, 4, 100)
    market.enter("alice", BUY, 5, 100, post_only=True)
    market.enter("alice", BUY, 5, 100, min_quantity=5)
    market.enter("alice", BUY, 5, 111)
    resting = market.enter("alice", BUY, 5, 95, post_only=True)
    market.amend("alice", resting, price=100)
    market.amend("alice", resting, price=80)
    market.apply("", ChangeStatus("halted", "operator", by="olivia"))
    market.enter("alice", BUY, 5, 95)
    market.amend("alice", resting, 6)
    market.apply("", ChangeStatus("closed", "operator", by="olivia"))
    market.enter("alice", BUY, 5, 95)
    writer.write(market.records)
    assert rows(reader, "SELECT order_id, exec_type, reason, price FROM order_events ORDER BY event_sequence") == [
        (2, "canceled", "post_only", 100),
        (3, "canceled", "minimum_quantity", 100),
        (4, "rejected", "price_band", 111),
        (5, "amend_rejected", "post_only", None),
        (5, "amend_rejected", "price_band", None),
        (6, "rejected", "halted", 95),
        (5, "amend_rejected", "halted", None),
        (7, "rejected", "market_closed", 95),
    ]
    assert rows(reader, "SELECT order_id, status, leaves_quantity FROM order_states ORDER BY order_id") == [
        (1, "new", 4),
        (2, "canceled", 0),
        (3, "canceled", 0),
        (4, "rejected", 0),
        (5, "new", 5),
        (6, "rejected", 0),
        (7, "rejected", 0),
    ]


def test_in_an_auction_the_sell_is_the_maker_and_the_buy_the_taker(writer: Writer, reader: Connection) -> None:
    market = Market()
    market.apply("", CALL)
    buy = market.enter("alice", BUY, 10, 102)
    sell = market.enter("bob", SELL, 4, 100)
    market.apply("", OPEN)
    writer.write(market.records)
    assert rows(reader, "SELECT aggressor, quantity, maker_order_id, taker_order_id, maker_account FROM trades") == [
        ("buy", 4, sell, buy, "bob")
    ]
    assert state(reader, buy) == ("partially_filled", 4, 6)
    assert state(reader, sell) == ("filled", 4, 0)
    assert rows(reader, EVENTS) == [], "no row of an indicative price"


@pytest.mark.parametrize("profile", PROFILES)
def test_random_orders_have_the_states_that_the_core_gives_them(
    writer: Writer, reader: Connection, profile: str
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    core = Matching()
    records = [core.apply(record) for record in random_requests(seed, PROFILES[profile], 1_500)]
    for first in range(0, len(records), 400):
        writer.write(records[first : first + 400])
    stored = {
        (asset, order_id): (status, cumulative, leaves)
        for asset, order_id, status, cumulative, leaves in rows(reader, "SELECT * FROM order_states")
    }
    assert stored == folded(records)
    live = ("new", "partially_filled", "pending_trigger")
    assert {key: leaves for key, (status, _, leaves) in stored.items() if status in live} == {
        ("ACME", order_id): order.open
        for account in core.book.accounts.values()
        for order_id, order in account.orders.items()
    }
    assert rows(reader, "SELECT status FROM asset_states") == [(core.status,)]


# -- statuses and operators --------------------------------------------------------------------------------------------


def stored_statuses(reader: Connection) -> list[tuple[Any, ...]]:
    return rows(
        reader,
        "SELECT event_sequence, sequence, status, reason, operator, call_ends_ns, occurred_at_ns FROM asset_statuses"
        " ORDER BY event_sequence",
    )


def test_each_change_of_the_status_is_stored_with_who_did_it(writer: Writer, reader: Connection) -> None:
    market = Market(
        Asset(
            asset="ACME", reference_price=100, volatility_band_ppm=100_000, schedule=(ScheduledChange("09:00", "open"),)
        )
    )
    market.apply("", ChangeStatus("open", "schedule", scheduled_time=START))
    market.enter("bob", SELL, 4, 120)
    interrupting = market.enter("alice", BUY, 1, 120)
    market.apply("", ChangeStatus("halted", "operator", by="olivia"))
    market.apply("", ChangeStatus("halted", "operator", by="oscar"))
    market.apply("", Delist(by="oscar"))
    writer.write(market.records)

    times = [record.time for record in market.records]
    assert stored_statuses(reader) == [
        (2, 1, "closed", "defined", None, None, times[0]),
        (3, 2, "open", "schedule", None, None, times[1]),
        (7, 4, "call", "volatility_interruption", None, times[3] + 120 * 10**9, times[3]),
        (10, 5, "halted", "operator", "olivia", None, times[4]),
        (13, 7, "closed", "delisted", "oscar", None, times[6]),
    ]
    assert rows(reader, "SELECT order_id FROM orders JOIN asset_statuses USING (asset, sequence)") == [(interrupting,)]
    assert rows(reader, "SELECT asset, status, reason, operator, since_ns FROM asset_states") == [
        ("ACME", "closed", "delisted", "oscar", times[6])
    ]
    assert rows(
        reader, "SELECT extract(epoch FROM call_ends - occurred_at)::int FROM asset_statuses WHERE status = 'call'"
    ) == [(120,)]


def test_an_asset_whose_status_never_changed_is_open(writer: Writer, reader: Connection) -> None:
    writer.write(Market().records)
    assert rows(reader, "SELECT * FROM asset_states") == [("ACME", "open", *[None] * 6)]


def test_what_an_operator_did_is_stored_also_where_it_changed_nothing(writer: Writer, reader: Connection) -> None:
    market = Market()
    first, second = market.enter("alice", BUY, 5, 100), market.enter("alice", BUY, 5, 101)
    market.enter("bob", BUY, 5, 99)
    market.apply("alice", MassCancel(BUY, reason="operator", by="olivia"))
    market.apply("alice", MassCancel(0, reason="operator", by="olivia"))
    market.apply("alice", MassCancel(0))
    market.apply("", ChangeStatus("open", "operator", by="oscar"))
    market.apply("", ChangeStatus("halted", "operator", by="oscar"))
    market.apply("", ChangeStatus("open", "schedule"))
    market.apply("", DefineAsset(Asset(asset="ACME", price_scale=2, tick_size=5), by="olivia"))
    market.apply("", Delist(by="oscar"))
    writer.write(market.records)

    times = [record.time for record in market.records]
    assert rows(
        reader,
        "SELECT sequence, operator, act, account, side, status, reason, first_event, last_event, occurred_at_ns"
        " FROM operator_acts ORDER BY sequence",
    ) == [
        (5, "olivia", "mass_cancel", "alice", "buy", None, "operator", 8, 9, times[4]),
        (6, "olivia", "mass_cancel", "alice", None, None, "operator", None, None, times[5]),
        (8, "oscar", "change_status", None, None, "open", "operator", None, None, times[7]),
        (9, "oscar", "change_status", None, None, "halted", "operator", 10, 10, times[8]),
        (11, "olivia", "define_asset", None, None, None, None, 12, 12, times[10]),
        (12, "oscar", "delist", None, None, None, None, 13, 14, times[11]),
    ]
    assert rows(
        reader,
        "SELECT operator, order_id FROM operator_acts AS act JOIN order_events AS event ON event.asset = act.asset"
        " AND event_sequence BETWEEN first_event AND last_event ORDER BY event_sequence",
    ) == [("olivia", first), ("olivia", second), ("oscar", 3)]


def test_every_request_that_names_an_operator_is_an_act() -> None:
    requests = get_args(EventRecord.__annotations__["request"])
    assert {request for request in requests if "by" in request.__struct_fields__} == set(ACTS)


def test_a_text_that_sql_can_t_hold_does_not_stop_the_store(writer: Writer, reader: Connection) -> None:
    market = Market()
    market.apply("", ChangeStatus("halted", "too \0 wild", by="\0liv\0ia é"))
    writer.write(market.records)
    assert rows(reader, "SELECT reason, operator FROM asset_statuses") == [("too  wild", "livia é")]
    assert rows(reader, "SELECT reason, operator FROM operator_acts") == [("too  wild", "livia é")]


# -- definitions -------------------------------------------------------------------------------------------------------


def test_a_definition_s_bands_and_schedule_are_stored(writer: Writer, reader: Connection) -> None:
    asset = Asset(
        asset="ACME",
        reference_price=10_000,
        price_band_ppm=100_000,
        volatility_band_ppm=50_000,
        call_seconds=300,
        schedule=(ScheduledChange("08:50", "call"), ScheduledChange("09:00", "open")),
        time_zone="Europe/Berlin",
        trading_days=("mon", "fri"),
        closed_dates=("2026-12-25",),
        day_roll="17:30",
    )
    query = (
        "SELECT reference_price, price_band_ppm, volatility_band_ppm, call_seconds, schedule, time_zone, trading_days,"
        " closed_dates, day_roll FROM assets"
    )
    market = Market(asset)
    writer.write(market.records)
    schedule = [{"at": "08:50", "status": "call"}, {"at": "09:00", "status": "open"}]
    assert rows(reader, query) == [
        (10_000, 100_000, 50_000, 300, schedule, "Europe/Berlin", ["mon", "fri"], ["2026-12-25"], "17:30")
    ]
    market.define(Asset(asset="ACME"))
    writer.write(market.missing(writer.applied()))
    assert rows(reader, query) == [(None, None, None, 120, [], "UTC", list(DAYS), [], "00:00")]


# -- the documentation's examples --------------------------------------------------------------------------------------


def test_the_documented_queries_answer_what_they_say(writer: Writer, reader: Connection) -> None:
    asset = "BTC-USD"
    nine = datetime(2026, 3, 2, 9, tzinfo=UTC)
    market = Market(
        Asset(asset=asset, reference_price=100, volatility_band_ppm=100_000), start=round(nine.timestamp()) * 10**9
    )
    iceberg = market.enter("bob", SELL, 10, 100, asset=asset, display_quantity=4)
    triggered = market.enter("alice", BUY, 6, asset=asset, stop_price=100)
    waiting = market.enter("alice", BUY, 6, asset=asset, stop_price=200)
    market.apply("alice", AmendOrder(waiting, None, None, stop_price=150), asset)
    market.enter("carol", BUY, 5, 100, asset=asset)
    day = market.enter("dave", BUY, 5, 50, "day", asset)
    market.enter("erin", SELL, 1, 120, asset=asset)
    interrupting = market.enter("frank", BUY, 1, 120, asset=asset)
    market.apply("", ChangeStatus("halted", "operator", by="olivia"), asset)
    market.apply("", Expire(day=True), asset)
    market.apply("alice", MassCancel(0, reason="operator", by="oscar"), asset)
    writer.write(market.records)

    def answer(title: str) -> list[tuple[Any, ...]]:
        """Return a query's rows, without their times."""
        return [
            tuple(value for value in row if not isinstance(value, datetime)) for row in rows(reader, documented(title))
        ]

    assert answer("An account's stops") == [
        (asset, triggered, "buy", 100, "canceled", 5, 0),
        (asset, waiting, "buy", 150, None, "canceled", 0, 0),
    ]
    assert (iceberg, triggered) == (1, 2)
    assert answer("An iceberg's restatements") == [("next part", 100, None, None)] * 2
    assert answer("What expired on a day") == [(asset, day, "dave", "day", 50, 5)]
    assert answer("The statuses of a day") == [
        ("call", "volatility_interruption", None),
        ("halted", "operator", "olivia", None),
    ]
    assert answer("Who halted it last") == [(asset, "halted", "olivia")]
    assert answer("What brought a volatility interruption") == [
        ("frank", interrupting, "buy", "limit", 120, 1),
    ]
    assert answer("What operators did on a day") == [
        ("olivia", "change_status", asset, None, "halted", 0),
        ("oscar", "mass_cancel", asset, "alice", None, 1),
    ]
    assert [steps for _, *steps in rows(reader, documented("An order's whole life"))] == [
        ["new", None, 100, None, 10, None],
        ["trade", "maker", 100, None, 4, 4],
        ["trade", "maker", 100, None, 1, 4],
        ["trade", "maker", 100, None, 3, 2],
        ["trade", "maker", 100, None, 2, 2],
        ["restated", None, 100, None, None, None],
        ["restated", None, 100, None, None, None],
    ]
