"""The simulated day's own arithmetic: its orders are repeatable and fit the asset; its checks find what is wrong."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.client.day import next_day
from exchange.client.day_check import Ledger
from exchange.client.day_orders import IN_CALL, IN_TRADING, WIDTH_STEPS, DayMarket, Entry, Stage, step_of
from exchange.client.times import time_ns
from exchange.core.asset import Asset, ScheduledChange
from exchange.core.messages import AmendOrder, CancelOrder, ExecutionReport, NewOrder, Status, Trade

ACME = Asset(asset="ACME", price_scale=2, reference_price=10_000, price_band_ppm=100_000, volatility_band_ppm=30_000)
NAMES = ["sim-1", "sim-2"]
DAY = (
    ScheduledChange("08:50", "call"),
    ScheduledChange("09:00", "open"),
    ScheduledChange("17:25", "call"),
    ScheduledChange("17:30", "closed"),
)


# -- orders ------------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_crowd_and_another_seed_another_one() -> None:
    first, again, other = (
        list(DayMarket(ACME, seed, NAMES, "p-").orders(IN_TRADING, 10_000, 500, 0)) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    orders = [request for request in first if isinstance(request, NewOrder)]
    assert {type(request) for request in first} == {NewOrder, AmendOrder, CancelOrder}
    assert {order.order_type for order in orders} == {"limit", "market", "stop", "stop_limit"}
    assert {order.time_in_force for order in orders} == {"gtc", "day", "gtd", "ioc", "fok"}
    assert len({order.self_trade_prevention for order in orders}) == 4


def test_in_a_call_the_crowd_sends_only_what_a_call_takes() -> None:
    for request in DayMarket(ACME, 7, NAMES, "p-").orders(IN_CALL, 10_000, 500, 0):
        if isinstance(request, NewOrder):
            assert request.order_type != "market"
            assert request.time_in_force in ("gtc", "day")


@given(seed=st.integers(0, 2**32), tick=st.integers(1, 50), lot=st.integers(1, 1000), ticks=st.integers(2_000, 10**6))
def test_prices_and_quantities_are_on_the_grid_and_near_the_middle(seed: int, tick: int, lot: int, ticks: int) -> None:
    asset = Asset(asset="ANY", tick_size=tick, lot_size=lot, min_quantity=lot + 1, reference_price=ticks * tick)
    centre = ticks * tick
    width = (WIDTH_STEPS + 2) * step_of(asset, centre)
    for request in DayMarket(asset, seed, NAMES, "p-").orders(IN_TRADING, centre, 100, 0):
        for price in (getattr(request, "price", None), getattr(request, "stop_price", None)):
            if isinstance(price, int):
                assert price % tick == 0
                assert abs(price - centre) <= width
        for quantity in (getattr(request, "quantity", None), getattr(request, "display_quantity", None)):
            if isinstance(quantity, int):
                assert quantity % lot == 0
                assert quantity >= asset.min_quantity


def test_each_order_of_a_scene_has_an_id_of_its_own_and_is_said_what_comes_of_it() -> None:
    stage = Stage(ACME, 10_000, "p-")
    stage.trading(5)
    stage.interruption(10_301)
    stage.interrupted(10_301)
    orders = [entry for entry in stage.entries if isinstance(entry.request, NewOrder)]
    assert len({entry.request.client_order_id for entry in orders}) == len(orders)
    assert all(entry.reports for entry in orders)


def test_the_next_day_is_a_whole_one_on_which_there_is_trading() -> None:
    asset = Asset(asset="ACME", schedule=DAY, trading_days=("mon", "fri"), closed_dates=("2026-11-27",))
    wednesday = time_ns("2026-11-25T12:00:00Z")
    assert next_day(asset, wednesday)[0] == time_ns("2026-11-30T08:50:00Z")
    assert next_day(asset, time_ns("2026-11-30T08:00:00Z"))[3] == time_ns("2026-11-30T17:30:00Z")
    assert next_day(asset, time_ns("2026-11-30T08:49:30Z"))[1] == time_ns("2026-12-04T09:00:00Z")
    berlin = msgspec.structs.replace(asset, time_zone="Europe/Berlin")
    assert next_day(berlin, wednesday)[0] == time_ns("2026-11-30T07:50:00Z")


# -- checks ------------------------------------------------------------------------------------------------------------


def report(number: int, kind: str, account: str, quantity: int, filled: int, **fields: Any) -> ExecutionReport:
    live = kind in ("new", "replaced", "restated", "triggered") or (kind == "trade" and filled < quantity)
    values: dict[str, Any] = {
        "sequence": 1,
        "time": 1,
        "client_order_id": f"o{number}",
        "side": "buy" if account == "ann" else "sell",
        "leaves_quantity": quantity - filled if live else 0,
    }
    return ExecutionReport(
        account=account,
        asset="ACME",
        exec_type=kind,
        order_id=number,
        quantity=quantity,
        cumulative_quantity=filled,
        **(values | fields),
    )


def sound() -> Ledger:
    """Return a ledger of a call, its auction of 5, a trade of 2, and an expiry."""
    ledger = Ledger()
    call = {"indicative_price": 100, "indicative_quantity": 5, "surplus_side": "buy", "surplus_quantity": 4}
    ledger.statuses += [
        Status("ACME", 1, "call", "schedule", 10, None, 0, None, 0),
        Status("ACME", 2, "call", "schedule", 11, **call),  # type: ignore[arg-type] # as they are
        Status("ACME", 3, "open", "schedule", 20),
        Status("ACME", 4, "closed", "schedule", 40),
    ]
    ledger.trades += [Trade("ACME", 1, 1, 100, 5, "buy", 2, 1, 20), Trade("ACME", 2, 2, 101, 2, "sell", 1, 3, 30)]
    trade = {"last_price": 100, "last_quantity": 5, "trade_id": 1}
    other = {"last_price": 101, "last_quantity": 2, "trade_id": 2}
    for each in (
        report(1, "new", "ann", 9, 0),
        report(2, "new", "sue", 5, 0),
        report(2, "trade", "sue", 5, 5, **trade),
        report(1, "trade", "ann", 9, 5, **trade),
        report(3, "new", "sue", 2, 0),
        report(1, "trade", "ann", 9, 7, **other),
        report(3, "trade", "sue", 2, 2, **other),
        report(1, "restated", "ann", 8, 7, reason="self_trade_prevention"),
        report(1, "expired", "ann", 8, 7, reason="expired"),
    ):
        ledger.note_report(each)
    return ledger


def check(ledger: Ledger) -> list[str]:
    ledger.check_trades()
    ledger.check_open([])
    ledger.periods()
    return ledger.differences


def test_a_sound_day_has_no_differences_and_its_periods_are_told_apart() -> None:
    ledger = sound()
    assert check(ledger) == []
    call, trading, closed = ledger.periods()
    assert (call.status, call.indicative_changes, call.trades) == ("call", 1, 0)
    assert (trading.auction_price, trading.auction_quantity, trading.auction_trades) == (100, 5, 1)
    assert (trading.trades, trading.quantity, trading.last) == (1, 2, 101)
    assert (closed.auction_price, closed.trades) == (None, 0)
    assert ledger.orders["o1"].decremented == 1


def drop_trade(ledger: Ledger) -> None:
    ledger.trades.pop()


def auction_elsewhere(ledger: Ledger) -> None:
    ledger.trades[0] = msgspec.structs.replace(ledger.trades[0], price=99)


def auction_of_less(ledger: Ledger) -> None:
    ledger.statuses[1] = msgspec.structs.replace(ledger.statuses[1], indicative_quantity=6)


def trade_in_call(ledger: Ledger) -> None:
    ledger.trades[0] = msgspec.structs.replace(ledger.trades[0], time=15)


def wrong_sum(ledger: Ledger) -> None:
    ledger.note_report(report(4, "new", "ann", 9, 0))
    ledger.note_report(report(4, "canceled", "ann", 9, 1))


def life_after_death(ledger: Ledger) -> None:
    ledger.note_report(report(3, "canceled", "sue", 2, 2))


def still_open(ledger: Ledger) -> None:
    ledger.note_report(report(4, "new", "ann", 9, 0))


def twice(ledger: Ledger) -> None:
    ledger.note_report(report(3, "new", "sue", 2, 0))


def unborn(ledger: Ledger) -> None:
    ledger.note_report(report(4, "canceled", "sue", 2, 0))


def unpublished(ledger: Ledger) -> None:
    ledger.note_report(report(4, "new", "ann", 9, 0))
    ledger.note_report(report(4, "trade", "ann", 9, 9, last_price=5, last_quantity=9, trade_id=7))


def other_scene(ledger: Ledger) -> None:
    order = NewOrder(client_order_id="o3", asset="ACME", side="sell")
    ledger.check_scene([Entry(order, "new, canceled:post_only"), Entry(order, "new, trade")])


@pytest.mark.parametrize(
    ("spoil", "difference"),
    [
        (drop_trade, "1 trades were reported and not published, the first 2"),
        (auction_elsewhere, "trade 1 of the auction at 20: 5 at 99; 5 at 100 was to trade"),
        (auction_of_less, "open at 20: its auction left out 1 of what it was to trade"),
        (trade_in_call, "trade 1: in a call"),
        (wrong_sum, "order o4: canceled at sequence 1 says quantity, filled, open (9, 1, 0); by the reports before it"),
        (life_after_death, "order o3: canceled after its end"),
        (still_open, "order o4: open by its reports 9, at the exchange no more"),
        (twice, "order o3: reported new twice"),
        (unborn, "order o4: canceled before it was new"),
        (unpublished, "bought 16, sold 7, published 7: must be the same"),
        (other_scene, "order o3: expected new, canceled:post_only; got new, trade"),
    ],
)
def test_what_does_not_fit_is_said(spoil: Callable[[Ledger], None], difference: str) -> None:
    ledger = sound()
    spoil(ledger)
    assert any(difference in found for found in check(ledger)), ledger.differences
