"""Event records of the real core, stored in a real PostgreSQL."""

import random
import signal
import string
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from exchange.core.asset import MAX_INTEGER, MAX_QUANTITY, Asset
from exchange.core.events import (
    AmendRejected,
    CancelRejected,
    EventRecord,
    OrderCanceled,
    OrderReplaced,
    TradeExecuted,
)
from exchange.core.requests import (
    BUY,
    SELL,
    AmendOrder,
    CancelOrder,
    MassCancel,
    NewOrder,
    Record,
)
from exchange.store import schema
from exchange.store.embedded import database_dsn
from exchange.store.writer import (
    Applied,
    DatabaseUnavailable,
    NotContiguous,
    SchemaError,
    Writer,
    WriterRunning,
)
from tests.database import Connection, accepts, contents, database, documented, rows, state
from tests.stored import START, Market, folded, random_market
from tests.support import Daemon, wait_until, write_config

# -- rows --------------------------------------------------------------------------------------------------------------


def test_orders_trades_and_events_are_stored_row_by_row(writer: Writer, reader: Connection) -> None:
    market = Market(Asset(asset="ACME", price_scale=2, quantity_scale=3, tick_size=5, lot_size=10, max_price=10_000))
    market.enter("alice", SELL, 100, 1005)
    market.enter("bob", BUY, 60, 1010, "ioc")
    market.amend("alice", 1, 90)
    market.cancel("alice", 1)
    market.cancel("alice", 1)
    market.amend("alice", 1, price=1000)
    writer.write(market.records)

    times = [record.time for record in market.records]
    unused = (None, None, False, "cancel_newest", None, None)
    assert rows(
        reader,
        "SELECT asset, order_id, sequence, account, client_order_id, side, order_type, time_in_force, price,"
        " stop_price, quantity, display_quantity, min_quantity, post_only, self_trade_prevention, expire_time,"
        " expire_time_ns, received_at_ns FROM orders ORDER BY order_id",
    ) == [
        ("ACME", 1, 2, "alice", "c1", "sell", "limit", "gtc", 1005, None, 100, *unused, times[1]),
        ("ACME", 2, 3, "bob", "c2", "buy", "limit", "ioc", 1010, None, 60, *unused, times[2]),
    ]
    assert rows(
        reader,
        "SELECT asset, trade_id, price, quantity, aggressor, maker_order_id, taker_order_id, maker_account,"
        " taker_account, executed_at_ns FROM trades",
    ) == [("ACME", 1, 1005, 60, "buy", 1, 2, "alice", "bob", times[2])]
    assert rows(
        reader,
        "SELECT asset, event_sequence, order_id, exec_type, reason, price, quantity, leaves_quantity, occurred_at_ns"
        " FROM order_events ORDER BY event_sequence",
    ) == [
        ("ACME", 6, 1, "replaced", None, 1005, 90, 30, times[3]),
        ("ACME", 7, 1, "canceled", "user_request", 1005, 90, 0, times[4]),
        ("ACME", 8, 1, "cancel_rejected", "unknown_order", None, None, None, times[5]),
        ("ACME", 9, 1, "amend_rejected", "unknown_order", None, None, None, times[6]),
    ]
    assert rows(
        reader,
        "SELECT asset, price_scale, quantity_scale, tick_size, lot_size, min_quantity, max_quantity, min_price,"
        " max_price, self_trade, sequence, defined_at_ns FROM assets",
    ) == [("ACME", 2, 3, 5, 10, 1, MAX_QUANTITY, 1, 10_000, "prevent", 1, times[0])]
    assert rows(reader, "SELECT asset, sequence, event_sequence, trade_id, time_ns FROM applied") == [
        ("ACME", 7, 9, 1, times[6])
    ]
    assert writer.applied() == {"ACME": Applied(7, 9, 1, times[6])}


def test_every_time_is_its_nanoseconds_cut_to_microseconds(writer: Writer, reader: Connection) -> None:
    market = Market()
    market.enter("alice", SELL, 2, 100)
    market.enter("bob", BUY, 1, 100)
    market.cancel("alice", 1)
    last = market.apply("bob", NewOrder(9, "last", BUY, 1, 1))
    market.records[-1] = msgspec.structs.replace(last, time=MAX_INTEGER)
    writer.write(market.records)

    for table, column in [
        ("assets", "defined_at"),
        ("orders", "received_at"),
        ("trades", "executed_at"),
        ("order_events", "occurred_at"),
        ("applied", "time"),
    ]:
        found = rows(
            reader, f"SELECT (extract(epoch FROM {column}) * 1000000)::bigint * 1000, {column}_ns FROM {table}"
        )
        assert found
        for cut, nanoseconds in found:
            assert cut == nanoseconds // 1000 * 1000


def test_a_market_order_has_no_price(writer: Writer, reader: Connection) -> None:
    market = Market()
    market.enter("alice", BUY, 5, 0, "ioc")
    writer.write(market.records)

    assert rows(reader, "SELECT order_type, price FROM orders") == [("market", None)]
    assert rows(reader, "SELECT exec_type, reason, price, quantity, leaves_quantity FROM order_events") == [
        ("canceled", "market_remainder", None, 5, 0)
    ]
    assert rows(reader, "SELECT price, quantity FROM orders_decimal") == [(None, Decimal(5))]


def test_an_order_that_the_book_rejects_is_stored_with_its_reason(writer: Writer, reader: Connection) -> None:
    market = Market()
    for _ in range(1024):
        market.enter("alice", BUY, MAX_QUANTITY, 7)
    rejected = market.enter("alice", BUY, MAX_QUANTITY, 7)
    writer.write(market.records)

    assert rows(reader, "SELECT price, quantity FROM orders WHERE order_id = %s", rejected) == [(7, MAX_QUANTITY)]
    assert rows(reader, "SELECT order_id, exec_type, reason, price, quantity, leaves_quantity FROM order_events") == [
        (rejected, "rejected", "invalid_quantity", 7, MAX_QUANTITY, 0)
    ]
    assert state(reader, rejected) == ("rejected", 0, 0)


def test_any_printable_text_and_the_largest_integers_are_stored_as_they_are(writer: Writer, reader: Connection) -> None:
    printable = "".join(chr(code) for code in range(0x20, 0x7F))
    texts = [printable[first : first + 36] for first in range(0, len(printable), 36)]
    texts += ["\\.", "\\N", "\\\\x41", "'; DROP TABLE orders; --", '"', "%s", " ", "NULL"]
    market = Market(Asset(asset="A._-9", price_scale=18, quantity_scale=18))
    account = (string.ascii_lowercase + string.digits)[:30] + "_-"
    for number, text in enumerate(texts):
        market.apply(account, NewOrder(MAX_INTEGER - number, text, SELL, MAX_QUANTITY, MAX_INTEGER - number), "A._-9")
    writer.write(market.records)

    assert rows(reader, "SELECT client_order_id, account, order_id, price, quantity FROM orders ORDER BY sequence") == [
        (text, account, MAX_INTEGER - number, MAX_INTEGER - number, MAX_QUANTITY) for number, text in enumerate(texts)
    ]


def test_the_last_definition_of_an_asset_wins(writer: Writer, reader: Connection) -> None:
    market = Market(Asset(asset="ACME"), Asset(asset="OTHER"))
    market.define(Asset(asset="ACME", tick_size=3))
    writer.write(market.records)
    assert rows(reader, "SELECT asset, tick_size FROM assets ORDER BY asset") == [("ACME", 3), ("OTHER", 1)]

    again = market.define(Asset(asset="ACME", tick_size=7, self_trade="allow"))
    writer.write([again])
    assert rows(reader, "SELECT tick_size, self_trade, sequence, defined_at_ns FROM assets WHERE asset = 'ACME'") == [
        (7, "allow", 3, again.time)
    ]


@pytest.mark.parametrize(("price_scale", "quantity_scale"), [(0, 0), (2, 8), (18, 18)])
def test_the_decimal_views_are_exact(writer: Writer, reader: Connection, price_scale: int, quantity_scale: int) -> None:
    market = Market(Asset(asset="ACME", price_scale=price_scale, quantity_scale=quantity_scale))
    for price, quantity in [(1, 1), (MAX_INTEGER, MAX_QUANTITY), (123_456_789, 10**15 + 7)]:
        market.enter("alice", SELL, quantity, price)
    market.enter("bob", BUY, MAX_QUANTITY, MAX_INTEGER)
    writer.write(market.records)

    for view, table in [("orders_decimal", "orders"), ("trades_decimal", "trades")]:
        keys = "asset, order_id" if table == "orders" else "asset, trade_id"
        found = rows(
            reader,
            f"SELECT exact.price, exact.quantity, whole.price, whole.quantity FROM {view} AS exact"
            f" JOIN {table} AS whole USING ({keys})",
        )
        assert len(found) >= 2
        for price, quantity, whole_price, whole_quantity in found:
            assert price == Decimal(whole_price).scaleb(-price_scale)
            assert quantity == Decimal(whole_quantity).scaleb(-quantity_scale)
            assert price.as_tuple().exponent == -price_scale


# -- the states of orders ----------------------------------------------------------------------------------------------


def rests(market: Market) -> int:
    return market.enter("alice", BUY, 10, 100)


def partly_traded(market: Market) -> int:
    order_id = market.enter("alice", BUY, 10, 100)
    market.enter("bob", SELL, 4, 100)
    return order_id


def filled_as_maker(market: Market) -> int:
    order_id = partly_traded(market)
    market.enter("bob", SELL, 7, 99)
    return order_id


def filled_as_taker(market: Market) -> int:
    market.enter("bob", SELL, 4, 99)
    market.enter("bob", SELL, 20, 100)
    return market.enter("alice", BUY, 10, 100)


def taker_then_rests(market: Market) -> int:
    market.enter("bob", SELL, 4, 99)
    return market.enter("alice", BUY, 10, 100)


def taker_then_maker(market: Market) -> int:
    order_id = taker_then_rests(market)
    market.enter("bob", SELL, 5, 100)
    return order_id


def immediate_remainder(market: Market) -> int:
    market.enter("bob", SELL, 4, 99)
    return market.enter("alice", BUY, 10, 100, "ioc")


def market_remainder(market: Market) -> int:
    market.enter("bob", SELL, 4, 99)
    return market.enter("alice", BUY, 10, 0, "ioc")


def fill_or_kill(market: Market) -> int:
    market.enter("bob", SELL, 4, 99)
    return market.enter("alice", BUY, 10, 100, "fok")


def self_trade(market: Market) -> int:
    market.enter("bob", SELL, 4, 99)
    market.enter("alice", SELL, 4, 100)
    return market.enter("alice", BUY, 10, 100)


def canceled(market: Market) -> int:
    order_id = partly_traded(market)
    market.cancel("alice", order_id)
    market.cancel("alice", order_id)
    return order_id


def mass_canceled(market: Market) -> int:
    order_id = rests(market)
    market.apply("alice", MassCancel(0))
    return order_id


def amended_down(market: Market) -> int:
    order_id = partly_traded(market)
    market.amend("alice", order_id, 7)
    return order_id


def amended_up_twice(market: Market) -> int:
    order_id = partly_traded(market)
    market.amend("alice", order_id, 20)
    market.amend("alice", order_id, 15)
    return order_id


def amended_price_trades(market: Market) -> int:
    order_id = partly_traded(market)
    market.enter("bob", SELL, 3, 105)
    market.amend("alice", order_id, price=105)
    return order_id


def amended_into_a_fill(market: Market) -> int:
    order_id = partly_traded(market)
    market.enter("bob", SELL, 30, 105)
    market.amend("alice", order_id, 12, 105)
    return order_id


def amended_below_its_fills(market: Market) -> int:
    order_id = partly_traded(market)
    market.amend("alice", order_id, 3)
    return order_id


def amended_down_then_filled(market: Market) -> int:
    order_id = amended_down(market)
    market.enter("bob", SELL, 3, 100)
    return order_id


def filled_then_asked_again(market: Market) -> int:
    order_id = filled_as_maker(market)
    market.cancel("alice", order_id)
    market.amend("alice", order_id, 50, 1)
    return order_id


def anothers_requests(market: Market) -> int:
    order_id = partly_traded(market)
    market.cancel("bob", order_id)
    market.amend("bob", order_id, 50, 1)
    return order_id


@pytest.mark.parametrize(
    ("life", "expected"),
    [
        (rests, ("new", 0, 10)),
        (partly_traded, ("partially_filled", 4, 6)),
        (filled_as_maker, ("filled", 10, 0)),
        (filled_as_taker, ("filled", 10, 0)),
        (taker_then_rests, ("partially_filled", 4, 6)),
        (taker_then_maker, ("partially_filled", 9, 1)),
        (immediate_remainder, ("canceled", 4, 0)),
        (market_remainder, ("canceled", 4, 0)),
        (fill_or_kill, ("canceled", 0, 0)),
        (self_trade, ("canceled", 4, 0)),
        (canceled, ("canceled", 4, 0)),
        (mass_canceled, ("canceled", 0, 0)),
        (amended_down, ("partially_filled", 4, 3)),
        (amended_up_twice, ("partially_filled", 4, 11)),
        (amended_price_trades, ("partially_filled", 7, 3)),
        (amended_into_a_fill, ("filled", 12, 0)),
        (amended_below_its_fills, ("canceled", 4, 0)),
        (amended_down_then_filled, ("filled", 7, 0)),
        (filled_then_asked_again, ("filled", 10, 0)),
        (anothers_requests, ("partially_filled", 4, 6)),
    ],
)
def test_the_state_of_an_order(
    writer: Writer, reader: Connection, life: Callable[[Market], int], expected: tuple[str, int, int]
) -> None:
    market = Market()
    order_id = life(market)
    writer.write(market.records)
    assert state(reader, order_id) == expected


def test_states_that_are_still_to_come(writer: Writer, reader: Connection) -> None:
    market = Market()
    stop, expiring = market.enter("alice", BUY, 10, 100), market.enter("alice", BUY, 10, 100)
    writer.write(market.records)
    reader.execute("UPDATE orders SET order_type = 'stop_limit', stop_price = 101 WHERE order_id = %s", [stop])
    insert = (
        "INSERT INTO order_events (asset, event_sequence, order_id, exec_type, occurred_at, occurred_at_ns)"
        " VALUES ('ACME', %s, %s, %s, now(), 0)"
    )
    assert state(reader, stop) == ("pending_trigger", 0, 10)
    reader.execute(insert.encode(), [100, stop, "triggered"])
    assert state(reader, stop) == ("new", 0, 10)
    reader.execute(insert.encode(), [101, expiring, "expired"])
    assert state(reader, expiring) == ("expired", 0, 0)


@pytest.mark.parametrize(
    "seed", [random.SystemRandom().randrange(2**32) for _ in range(3)], ids=["first", "second", "third"]
)
def test_random_orders_have_the_states_that_the_core_gives_them(writer: Writer, reader: Connection, seed: int) -> None:
    print(f"seed {seed}")
    market = random_market(seed, 3000)
    for first in range(0, len(market.records), 700):
        writer.write(market.records[first : first + 700])

    stored = {
        (asset, order_id): (status, cumulative, leaves)
        for asset, order_id, status, cumulative, leaves in rows(reader, "SELECT * FROM order_states")
    }
    assert stored == folded(market.records)
    live = {key: leaves for key, (status, _, leaves) in stored.items() if status in ("new", "partially_filled")}
    assert live == {
        (asset, order_id): order.leaves
        for asset, core in market.cores.items()
        for account in core.book.accounts.values()
        for order_id, order in account.orders.items()
    }
    kinds = {type(event) for record in market.records for event in record.events}
    assert kinds >= {TradeExecuted, OrderCanceled, OrderReplaced, CancelRejected, AmendRejected}


def test_one_order_s_state_is_looked_up_not_searched_for(writer: Writer, reader: Connection) -> None:
    writer.write(random_market(1, 5000).records)
    for statistics in ("", "ANALYZE"):
        if statistics:
            reader.execute(statistics.encode())
        for query in [
            "SELECT * FROM order_states WHERE asset = 'ACME' AND order_id = 1000",
            "SELECT * FROM orders JOIN order_states USING (asset, order_id) WHERE asset = 'ACME' AND order_id = 1000",
        ]:
            plan = rows(reader, f"EXPLAIN (FORMAT json) {query}")[0][0][0]["Plan"]
            scans = [node["Node Type"] for node in nodes(plan) if "Scan" in node["Node Type"]]
            assert scans
            assert "Seq Scan" not in scans


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


# -- the documentation's examples --------------------------------------------------------------------------------------


def test_the_documented_queries_answer_what_they_say(writer: Writer, reader: Connection) -> None:
    now = time.time_ns() - 10**9
    market = Market(Asset(asset="BTC-USD", price_scale=2, quantity_scale=3))
    first = market.enter("alice", BUY, 10_000, 10_000, asset="BTC-USD")
    market.enter("bob", SELL, 4_000, 10_000, asset="BTC-USD")
    market.enter("bob", SELL, 1_500, 10_050, asset="BTC-USD")
    market.apply("alice", AmendOrder(first, 9_000, 10_050), "BTC-USD")
    market.apply("alice", CancelOrder(first), "BTC-USD")
    market.enter("alice", SELL, 1_000, 20_000, asset="BTC-USD")
    writer.write([msgspec.structs.replace(record, time=now + record.sequence) for record in market.records])
    last_trades, positions, volume, live, life, applied = (
        rows(reader, documented(title))
        for title in (
            "The last trades",
            "What an account holds",
            "Volume by hour",
            "An account's live orders",
            "An order's whole life",
            "How far the database is",
        )
    )

    assert [(trade, side, str(price), str(quantity)) for trade, _, side, price, quantity in last_trades] == [
        (2, "buy", "100.50", "1.500"),
        (1, "sell", "100.00", "4.000"),
    ]
    assert positions == [("BTC-USD", Decimal("5.5"), Decimal("-550.75"))]
    assert [(asset, *figures) for asset, _, *figures in volume] == [
        ("BTC-USD", 2, Decimal("5.5"), Decimal("550.75"), Decimal(100), Decimal("100.5"))
    ]
    assert live == [("BTC-USD", 4, "c4", "sell", "new", 0, 1_000)]
    assert [steps for _, *steps in life] == [
        ["new", None, 10_000, None, 10_000, None],
        ["trade", "maker", 10_000, None, 4_000, 2],
        ["replaced", None, 10_050, None, 9_000, None],
        ["trade", "taker", 10_050, None, 1_500, 3],
        ["canceled", "user_request", 10_050, None, 9_000, None],
    ]
    assert [place[:4] for place in applied] == [("BTC-USD", 7, 13, 2)]


# -- exactly once ------------------------------------------------------------------------------------------------------


class Interrupted(Writer):
    """A writer whose connection the server ends once, when that many tables of a batch have been copied."""

    def __init__(self, dsn: str, tables: int) -> None:
        super().__init__(dsn)
        self.tables: int | None = tables

    def _copy(self, connection: psycopg.Connection, table: str, data: bytes) -> None:
        if self.tables == 0:
            self._interrupt()
        super()._copy(connection, table, data)
        if self.tables is not None:
            self.tables -= 1
        if self.tables == 0 and table == "order_events":
            self._interrupt()

    def _interrupt(self) -> None:
        self.tables = None
        terminate(self.dsn, self.backend)


def terminate(dsn: str, backend: int) -> None:
    """End a backend and wait until it is gone."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 10000)", [backend])


@pytest.mark.parametrize("tables", [0, 1, 2, 3])
def test_a_connection_lost_before_the_commit_leaves_nothing_behind(server: str, dsn: str, tables: int) -> None:
    market = random_market(2, 600)
    before, batch = market.records[:300], market.records[300:]
    with closing(Interrupted(dsn, 99)) as writer:
        writer.open()
        writer.write(before)
        applied, stored = writer.applied(), contents(dsn)
        writer.tables = tables
        with pytest.raises(DatabaseUnavailable):
            writer.write(batch)
        assert contents(dsn) == stored

        writer.open()
        assert writer.applied() == applied
        assert market.missing(writer.applied()) == batch
        writer.write(batch)
    assert contents(dsn) == written_at_once(server, market)


def test_a_connection_lost_just_after_the_commit_makes_nothing_twice(server: str, dsn: str) -> None:
    market = random_market(3, 400)
    with closing(Writer(dsn)) as writer:
        writer.open()
        writer.write(market.records[:200])
        terminate(dsn, writer.backend)
        with pytest.raises(DatabaseUnavailable):
            writer.write(market.records[200:])
        writer.open()
        with pytest.raises(NotContiguous):
            writer.write(market.records)
        writer.write(market.missing(writer.applied()))
    assert contents(dsn) == written_at_once(server, market)


def test_connections_lost_at_any_moment_make_and_lose_nothing(server: str, dsn: str) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    market = random_market(seed, 8000)
    chance = random.Random(seed)
    losses = 0
    done = threading.Event()
    deadline = time.monotonic() + 60

    def disturb() -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            while not done.wait(chance.uniform(0.0, 0.03)) and time.monotonic() < deadline:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND application_name = 'exchange logger'"
                )

    disturber = threading.Thread(target=disturb)
    disturber.start()
    with closing(Writer(dsn)) as writer:
        while True:
            assert time.monotonic() < deadline
            try:
                writer.open()
                while missing := market.missing(writer.applied()):
                    writer.write(missing[: 1 + len(missing) // 20])
                    if losses >= 20:
                        done.set()
                break
            except DatabaseUnavailable:
                losses += 1
    done.set()
    disturber.join(10)
    print(f"{losses} connections lost")
    assert losses
    assert contents(dsn) == written_at_once(server, market)


def written_at_once(server: str, market: Market) -> dict[str, list[tuple[Any, ...]]]:
    """Return what the tables hold where nothing came between."""
    with database(server) as dsn, closing(Writer(dsn)) as writer:
        writer.open()
        writer.write(market.records)
        return contents(dsn)


def test_a_crash_of_the_server_is_made_up_for(server: str, open_folder: Path) -> None:
    config = write_config(open_folder)
    dsn = database_dsn(config)
    market = random_market(4, 4000)
    daemon = Daemon(config, "postgres").start()
    with closing(Writer(dsn)) as writer:
        try:
            wait_until(lambda: accepts(dsn), "the server accepts connections", seconds=120)
            writer.open()
            for first in range(0, 3000, 100):
                writer.write(market.records[first : first + 100])
            daemon.kill()
            with pytest.raises(DatabaseUnavailable):
                writer.write(market.records[3000:])
            with pytest.raises(DatabaseUnavailable):
                writer.open()

            daemon.start()
            wait_until(lambda: accepts(dsn), "the server accepts connections again", seconds=60)
            writer.open()
            writer.write(market.missing(writer.applied()))
            assert contents(dsn) == written_at_once(server, market)
        finally:
            daemon.signal(signal.SIGINT)
            daemon.wait(60)


@pytest.mark.parametrize(
    ("records", "text"),
    [
        (lambda records: records[1:], "ACME: request 2 after 0"),
        (lambda records: [*records, records[-1]], "ACME: request 4 after 4"),
        (lambda records: records[:2] + records[3:], "ACME: request 4 after 2"),
        (
            lambda records: [*records[:3], msgspec.structs.replace(records[3], event_sequence=9)],
            "ACME: event 9 after 5, at request 4",
        ),
        (
            lambda records: [*records[:3], msgspec.structs.replace(records[3], events=records[2].events)],
            "ACME: trade 1 after 1, at request 4",
        ),
    ],
)
def test_records_that_leave_a_gap_or_repeat_are_refused(
    writer: Writer, dsn: str, records: Callable[[list[EventRecord]], list[EventRecord]], text: str
) -> None:
    market = Market()
    market.enter("alice", SELL, 5, 100)
    market.enter("bob", BUY, 5, 100)
    market.enter("bob", BUY, 5, 100)
    market.cancel("bob", 3)
    with pytest.raises(NotContiguous, match=text):
        writer.write(records(market.records[:4]))
    assert not any(contents(dsn).values())
    assert writer.applied() == {}

    writer.write(market.records)
    assert writer.applied()["ACME"].sequence == 5


def test_a_request_without_events_moves_applied_on(writer: Writer, reader: Connection) -> None:
    market = Market()
    market.apply("alice", MassCancel(0))
    market.enter("alice", BUY, 1, 1)
    for record in market.records:
        writer.write([record])
    assert rows(reader, "SELECT sequence, event_sequence, trade_id FROM applied") == [(3, 3, 0)]


def test_nothing_is_written_where_applied_was_changed_by_somebody_else(
    writer: Writer, reader: Connection, dsn: str
) -> None:
    market = Market()
    writer.write(market.records)
    reader.execute("UPDATE applied SET sequence = 7")
    stored = contents(dsn)
    market.enter("alice", BUY, 1, 1)
    with pytest.raises(NotContiguous, match="applied"):
        writer.write(market.records[1:])
    assert contents(dsn) == stored


def test_rows_that_the_database_refuses_are_our_mistake_and_change_nothing(writer: Writer, dsn: str) -> None:
    market = Market()
    writer.write(market.records)
    stored = contents(dsn)
    core = market.cores["ACME"]
    for order_id in (5, 5):
        market.records.append(
            core.apply(Record("ACME", core.sequence + 1, START, "alice", NewOrder(order_id, "c", 1, 1, 1)))
        )
    with pytest.raises(psycopg.errors.UniqueViolation):
        writer.write(market.records[1:])
    assert contents(dsn) == stored


# -- opening -----------------------------------------------------------------------------------------------------------


def test_a_writer_goes_on_where_the_last_one_stopped(dsn: str, server: str) -> None:
    market = random_market(5, 500)
    for _ in range(3):
        with closing(Writer(dsn)) as writer:
            writer.open()
            writer.write(market.missing(writer.applied())[:200])
    assert contents(dsn) == written_at_once(server, market)


def test_a_second_writer_is_refused_and_told_who_is_the_first(writer: Writer, dsn: str) -> None:
    second = Writer(dsn, lock_seconds=0.1)
    with pytest.raises(WriterRunning, match=rf"\b{writer.backend}\b"):
        second.open()
    assert second.backend == 0

    writer.close()
    with closing(second):
        second.open()


def test_a_writer_waits_a_moment_for_one_that_is_just_going(writer: Writer, dsn: str) -> None:
    going = threading.Timer(0.3, writer.close)
    going.start()
    with closing(Writer(dsn)) as second:
        second.open()
    going.join(10)


def test_the_dsn_s_own_settings_are_kept(dsn: str, reader: Connection) -> None:
    with closing(Writer(f"{dsn} application_name=nightly", lock_seconds=0)) as writer:
        writer.open()
        query = "SELECT application_name FROM pg_stat_activity WHERE pid = %s"
        assert rows(reader, query, writer.backend) == [("nightly",)]
        with pytest.raises(WriterRunning):
            Writer(dsn, lock_seconds=0).open()


def test_a_dsn_that_is_none_is_a_mistake_not_an_absence() -> None:
    with pytest.raises(psycopg.ProgrammingError):
        Writer("not a dsn").open()


def test_two_databases_of_a_server_have_a_writer_each(writer: Writer, server: str) -> None:
    with database(server) as other, closing(Writer(other, lock_seconds=0.1)) as second:
        second.open()


def test_a_database_of_a_newer_program_is_refused(writer: Writer, reader: Connection, dsn: str) -> None:
    writer.close()
    reader.execute("UPDATE schema_version SET version = 99")
    with pytest.raises(SchemaError, match="version 99, this program knows up to 2"):
        Writer(dsn).open()


def test_an_older_database_is_migrated(
    writer: Writer, reader: Connection, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.write(Market().records)
    writer.close()
    migrations = ("ALTER TABLE orders ADD COLUMN colour text", "ALTER TABLE orders RENAME COLUMN colour TO color")
    monkeypatch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS + migrations)
    for _ in range(2):
        with closing(Writer(dsn)) as again:
            again.open()
            assert again.applied()["ACME"].sequence == 1
    assert rows(reader, "SELECT version FROM schema_version") == [(4,)]
    assert rows(reader, "SELECT color FROM orders") == []


def test_somebody_else_s_tables_are_left_alone(dsn: str, reader: Connection) -> None:
    reader.execute("CREATE TABLE trades (theirs integer)")
    with pytest.raises(SchemaError, match='"trades" already exists'):
        Writer(dsn).open()
    assert rows(reader, "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'") == [("trades",)]


def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable):
        Writer(f"host={tmp_path} user=exchange dbname=exchange").open()


# -- the contract ------------------------------------------------------------------------------------------------------

COLUMNS = {
    "orders": "asset order_id sequence account client_order_id side order_type time_in_force price stop_price quantity"
    " display_quantity min_quantity post_only self_trade_prevention expire_time received_at",
    "trades": "asset trade_id price quantity aggressor maker_order_id taker_order_id maker_account taker_account"
    " executed_at",
    "order_events": "asset event_sequence order_id exec_type reason price quantity leaves_quantity occurred_at"
    " stop_price",
    "asset_statuses": "asset event_sequence sequence status reason operator call_ends occurred_at",
    "operator_acts": "asset sequence operator act account side status reason first_event last_event occurred_at",
    "asset_states": "asset status reason operator call_ends since",
    "applied": "asset sequence event_sequence trade_id time",
    "order_states": "asset order_id status cumulative_quantity leaves_quantity",
}


@pytest.mark.parametrize("table", COLUMNS)
def test_columns_are_those_of_the_protocol(writer: Writer, reader: Connection, table: str) -> None:
    found = dict(
        rows(
            reader,
            "SELECT column_name::text, data_type::text FROM information_schema.columns WHERE table_name = %s"
            " ORDER BY ordinal_position",
            table,
        )
    )
    assert [name for name in found if not name.endswith("_ns")] == COLUMNS[table].split()
    assert {name + "_ns" for name, kind in found.items() if kind == "timestamp with time zone"} == {
        name for name in found if name.endswith("_ns")
    }


def test_every_table_and_column_says_what_it_is(writer: Writer, reader: Connection) -> None:
    assert not rows(
        reader,
        "SELECT relname::text, attname::text FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid"
        " WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0"
        " AND (col_description(pg_class.oid, attnum) IS NULL OR obj_description(pg_class.oid) IS NULL)",
    )
