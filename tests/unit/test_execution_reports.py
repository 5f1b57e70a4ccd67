"""What each order's owner is told: every order's life in order, and that its reports add up."""

import random
from typing import Any

import pytest
from msgspec import UNSET

from exchange.core.asset import MAX_INTEGER
from exchange.core.market_data import Feed
from exchange.core.matching import Matching
from exchange.core.messages import ExecutionReport
from exchange.core.requests import BUY, AmendOrder, CancelOrder, Delist, Expire, MassCancel, NewOrder
from tests.published import Published, plain, private_of
from tests.random_requests import PROFILES, random_requests

SEED = random.SystemRandom().randrange(2**32)  # a new one each run; a failure prints it
ENDS = ("filled", "canceled", "rejected", "expired")

# -- all that any order is told ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
def test_the_reports_of_each_order_add_up_and_tell_its_life_in_order(profile: str) -> None:
    print(f"seed {SEED}")
    matching, feed = Matching(), Feed("ACME")
    for record in random_requests(SEED, PROFILES[profile], 1500):
        feed.apply(matching.apply(record))
    last: dict[int, ExecutionReport] = {}
    for _, report in private_of(feed):
        before = last.get(report.order_id)
        if report.exec_type in ("cancel_rejected", "amend_rejected"):
            if before is not None and report.order_status is not UNSET:
                assert report.order_status == before.order_status, "a refused request changes nothing"
            continue
        assert (before is None) == (report.exec_type in ("new", "rejected")), "new or rejected comes first, and once"
        _check_report(report, before)
        last[report.order_id] = report
    assert sorted(feed.ended) == sorted(order_id for order_id, report in last.items() if report.order_status in ENDS)
    told = {
        order_id: (report.quantity, report.leaves_quantity, report.order_status == "pending_trigger")
        for order_id, report in last.items()
        if report.leaves_quantity
    }
    live = {
        order_id: (order.quantity, order.open, order.terms is not None and order.terms.waiting)
        for account in matching.book.accounts.values()
        for order_id, order in account.orders.items()
    }
    assert told == live


def _check_report(report: ExecutionReport, before: ExecutionReport | None) -> None:
    quantity, cumulative, leaves = report.quantity, report.cumulative_quantity, report.leaves_quantity
    assert isinstance(quantity, int)
    assert isinstance(cumulative, int)
    assert isinstance(leaves, int)
    is_stop = report.order_type in ("stop", "stop_limit")
    assert (report.stop_price is not UNSET) == is_stop
    assert (report.price is UNSET) == (report.order_type in ("market", "stop"))
    if before is None:
        assert cumulative == 0
        assert leaves == (0 if report.exec_type == "rejected" else quantity)
        first = "pending_trigger" if is_stop else "new"
        assert report.order_status == (first if report.exec_type == "new" else "rejected")
        return
    assert before.order_status not in ENDS, "nothing follows an order's end"
    assert isinstance(before.cumulative_quantity, int)
    assert isinstance(before.quantity, int)
    waited = before.order_status == "pending_trigger"
    if report.exec_type == "trade":
        assert not waited
        assert isinstance(report.last_quantity, int)
        assert cumulative == before.cumulative_quantity + report.last_quantity
    else:
        assert cumulative == before.cumulative_quantity
    if report.exec_type == "restated":
        assert report.reason in (UNSET, "self_trade_prevention")
        assert (quantity < before.quantity) == (report.reason is not UNSET)
    elif report.exec_type != "replaced":
        assert quantity == before.quantity
    if report.exec_type in ("canceled", "expired"):
        assert (report.order_status, leaves) == (report.exec_type, 0)
        assert cumulative < quantity
    else:
        assert cumulative + leaves == quantity
        waits = waited and report.exec_type != "triggered"
        assert waited or report.exec_type != "triggered"
        going = "pending_trigger" if waits else "partially_filled" if cumulative else "new"
        assert report.order_status == (going if leaves else "filled")


@pytest.mark.parametrize("profile", PROFILES)
def test_what_is_bought_is_sold_and_both_sides_of_each_trade_are_told(profile: str) -> None:
    print(f"seed {SEED}")
    matching, feed = Matching(), Feed("ACME")
    for record in random_requests(SEED, PROFILES[profile], 1000):
        feed.apply(matching.apply(record))
    trades = [report for _, report in private_of(feed) if report.exec_type == "trade"]
    makers, takers = trades[::2], trades[1::2]
    assert [report.trade_id for report in makers] == list(range(1, matching.trade_id + 1))
    for maker, taker in zip(makers, takers, strict=True):
        assert (maker.liquidity, taker.liquidity) == ("maker", "taker")
        assert {maker.side, taker.side} == {"buy", "sell"}
        for name in ("trade_id", "last_price", "last_quantity", "time"):
            assert getattr(maker, name) == getattr(taker, name)


# -- one at a time -----------------------------------------------------------------------------------------------------


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


def test_a_refused_request_for_an_order_of_another_account_says_nothing_of_it() -> None:
    published = Published()
    published.new(1, "buy", 5, 99, "ann")
    published.request(CancelOrder(1), "bob")
    assert [plain(report) for report in published.reports] == [
        {
            "type": "execution_report",
            "account": "bob",
            "sequence": 1,
            "exec_type": "cancel_rejected",
            "order_id": 1,
            "reason": "unknown_order",
        }
    ]


def test_a_stop_waits_is_triggered_and_trades() -> None:
    published = Published()
    published.new(1, "sell", 10, 100, "sue")
    published.new(2, "sell", 10, 103, "sue")
    published.new(3, "buy", 4, 104, "bob", order_type="stop_limit", stop_price=100)
    assert published.told("price", "stop_price", "leaves_quantity") == [("bob", "new", "pending_trigger", 104, 100, 4)]
    published.new(4, "buy", 10, 100, "ann")
    assert published.told("order_id", "stop_price", "leaves_quantity") == [
        ("ann", "new", "new", 4, UNSET, 10),
        ("sue", "trade", "filled", 1, UNSET, 0),
        ("ann", "trade", "filled", 4, UNSET, 0),
        ("bob", "triggered", "new", 3, 100, 4),
        ("sue", "trade", "partially_filled", 2, UNSET, 6),
        ("bob", "trade", "filled", 3, 100, 0),
    ]


def test_an_amend_of_a_waiting_stop_is_reported_with_its_new_stop_price() -> None:
    published = Published()
    published.new(1, "buy", 4, 0, "bob", order_type="stop", stop_price=100)
    published.request(AmendOrder(1, 6, None, stop_price=105), "bob")
    assert published.told("price", "stop_price", "quantity", "leaves_quantity") == [
        ("bob", "replaced", "pending_trigger", UNSET, 105, 6, 6)
    ]
    published.request(AmendOrder(1, 3, None), "bob")
    assert published.told("stop_price", "leaves_quantity") == [("bob", "replaced", "pending_trigger", 105, 3)]


def test_a_refused_amend_of_a_triggered_stop_tells_its_state() -> None:
    published = Published()
    published.new(1, "sell", 1, 100, "sue")
    published.new(2, "buy", 1, 100, "ann")
    published.new(3, "buy", 4, 99, "bob", order_type="stop_limit", stop_price=100)
    assert published.told() == [("bob", "new", "pending_trigger"), ("bob", "triggered", "new")]
    published.request(AmendOrder(3, None, None, stop_price=101), "bob")
    assert published.told("reason", "stop_price", "leaves_quantity") == [
        ("bob", "amend_rejected", "new", "triggered", 100, 4)
    ]


def test_a_refused_amend_of_a_waiting_stop_says_that_it_waits() -> None:
    published = Published()
    published.new(1, "buy", 4, 0, "bob", order_type="stop", stop_price=100)
    published.status("halted")
    published.request(AmendOrder(1, 6, None), "bob")
    assert published.told("reason", "quantity") == [("bob", "amend_rejected", "pending_trigger", "halted", 4)]


def test_an_icebergs_reports_count_what_it_hides() -> None:
    published = Published()
    published.new(1, "sell", 30, 100, "sue", display_quantity=10)
    assert published.told("quantity", "leaves_quantity") == [("sue", "new", "new", 30, 30)]
    published.new(2, "buy", 10, 100, "bob")
    assert published.told("account", "cumulative_quantity", "leaves_quantity", "reason")[1:] == [
        ("sue", "trade", "partially_filled", "sue", 10, 20, UNSET),
        ("bob", "trade", "filled", "bob", 10, 0, UNSET),
        ("sue", "restated", "partially_filled", "sue", 10, 20, UNSET),
    ]
    published.request(AmendOrder(1, 25, None), "sue")
    assert published.told("quantity", "cumulative_quantity", "leaves_quantity") == [
        ("sue", "replaced", "partially_filled", 25, 10, 15)
    ]
    published.request(CancelOrder(1), "sue")
    assert published.told("quantity", "cumulative_quantity", "leaves_quantity", "reason") == [
        ("sue", "canceled", "canceled", 25, 10, 0, "user_request")
    ]


def test_decrementing_restates_the_larger_and_cancels_the_smaller() -> None:
    published = Published()
    published.new(1, "sell", 30, 100, "sue")
    published.new(2, "buy", 10, 100, "sue", self_trade_prevention="decrement_and_cancel")
    assert published.told("order_id", "quantity", "cumulative_quantity", "leaves_quantity", "reason") == [
        ("sue", "new", "new", 2, 10, 0, 10, UNSET),
        ("sue", "restated", "new", 1, 20, 0, 20, "self_trade_prevention"),
        ("sue", "canceled", "canceled", 2, 10, 0, 0, "self_trade_prevention"),
    ]


@pytest.mark.parametrize(
    ("status", "price", "reason"),
    [("halted", 100, "halted"), ("closed", 100, "market_closed"), ("", 120, "price_band")],
)
def test_an_order_that_only_the_book_could_refuse_is_rejected(status: Any, price: int, reason: str) -> None:
    published = Published(reference_price=100, price_band_ppm=100_000)
    if status:
        published.status(status)
    assert published.new(1, "buy", 5, price, "bob") == []
    assert published.told("reason", "cumulative_quantity", "leaves_quantity") == [
        ("bob", "rejected", "rejected", reason, 0, 0)
    ]
    assert list(published.feed.ended) == [1]


def test_the_exchange_ends_orders_of_any_account() -> None:
    published = Published()
    published.new(1, "buy", 5, 99, "bob", "day")
    published.new(2, "buy", 5, 0, "sue", "day", "stop", stop_price=120)
    published.new(3, "buy", 5, 99, "ann", "gtd", expire_time=8, display_quantity=2)
    published.new(4, "buy", 5, 98, "bob")
    published.new(5, "buy", 5, 0, "sue", order_type="stop", stop_price=120)
    published.new(6, "buy", 5, 97, "ann")
    published.request(Expire(), "")
    assert published.told("order_id", "reason", "leaves_quantity") == [("ann", "expired", "expired", 3, "expired", 0)]
    published.request(Expire(day=True), "")
    assert published.told("order_id", "reason") == [
        ("bob", "expired", "expired", 1, "expired"),
        ("sue", "expired", "expired", 2, "expired"),
    ]
    published.request(MassCancel(0, reason="disconnected"), "ann")
    assert published.told("order_id", "reason") == [("ann", "canceled", "canceled", 6, "disconnected")]
    published.request(Delist(), "")
    assert published.told("order_id", "reason") == [
        ("bob", "canceled", "canceled", 4, "operator"),
        ("sue", "canceled", "canceled", 5, "operator"),
    ]
    published.feed.check()
    assert not published.feed.orders


def test_cancel_oldest_ends_the_makers_order_and_goes_on() -> None:
    published = Published()
    published.new(1, "sell", 5, 100, "sue")
    published.new(2, "sell", 5, 100, "ann")
    published.new(3, "buy", 5, 100, "sue", self_trade_prevention="cancel_oldest")
    assert published.told("order_id", "reason") == [
        ("sue", "new", "new", 3, UNSET),
        ("sue", "canceled", "canceled", 1, "self_trade_prevention"),
        ("ann", "trade", "filled", 2, UNSET),
        ("sue", "trade", "filled", 3, UNSET),
    ]


def test_in_an_auction_the_sellers_report_comes_first() -> None:
    published = Published()
    published.status("call")
    published.new(1, "buy", 8, 105, "bob")
    published.new(2, "sell", 5, 100, "sue")
    published.status("open")
    assert published.told("order_id", "liquidity", "last_quantity", "leaves_quantity") == [
        ("sue", "trade", "filled", 2, "maker", 5, 0),
        ("bob", "trade", "partially_filled", 1, "taker", 5, 3),
    ]
