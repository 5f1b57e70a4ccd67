"""An order's life as its owner sees it on the private feed, in each variant: exactly these reports, in this order."""

from collections.abc import Iterator

import pytest

from tests.integration.lives import life
from tests.integration.outsider import Subscription, Venue
from tests.integration.outsider import venue as running_venue

MAX_QUANTITY = 2**53 - 1


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Venue, Subscription]]:
    with running_venue(tmp_path_factory.mktemp("reports")) as venue:
        feed = venue.private("execution/")
        yield venue, feed
        feed.close()


@pytest.fixture
def venue(shared: tuple[Venue, Subscription]) -> Iterator[Venue]:
    yield shared[0]
    shared[0].clear()


@pytest.fixture
def feed(shared: tuple[Venue, Subscription]) -> Subscription:
    return shared[1]


NEW_100 = ("new", "new", 0, 100)


def test_an_order_rests_is_filled_in_part_and_then_whole(venue: Venue, feed: Subscription) -> None:
    maker, taker = venue.account(), venue.account()
    venue.enter(maker, "sell", 100, 1000)
    venue.enter(taker, "buy", 40, 1005)
    venue.enter(taker, "buy", 60, 1000)
    assert life(venue, feed, maker) == [
        NEW_100,
        ("trade", "partially_filled", 40, 60),
        ("trade", "filled", 100, 0),
    ]
    assert life(venue, feed, taker) == [
        ("new", "new", 0, 40),
        ("trade", "filled", 40, 0),
        ("new", "new", 0, 60),
        ("trade", "filled", 60, 0),
    ]


def test_a_report_says_all_of_its_order_and_of_its_trade(venue: Venue, feed: Subscription) -> None:
    maker, taker = venue.account(), venue.account()
    resting = venue.enter(maker, "sell", 100, 1000)
    incoming = venue.enter(taker, "buy", 40, 1005, time_in_force="ioc")
    life(venue, feed, maker)
    life(venue, feed, taker)
    trade = feed.messages[f"execution/{taker}/ACME/"][1]
    assert trade == {
        "type": "execution_report",
        "account": taker,
        "asset": "ACME",
        "sequence": 2,
        "exec_type": "trade",
        "order_status": "filled",
        "order_id": incoming["order_id"],
        "client_order_id": incoming["client_order_id"],
        "side": "buy",
        "order_type": "limit",
        "time_in_force": "ioc",
        "price": 1005,
        "quantity": 40,
        "cumulative_quantity": 40,
        "leaves_quantity": 0,
        "last_price": 1000,
        "last_quantity": 40,
        "trade_id": trade["trade_id"],
        "liquidity": "taker",
        "time": incoming["time"],
    }
    made = feed.messages[f"execution/{maker}/ACME/"][1]
    assert (made["order_id"], made["liquidity"], made["trade_id"]) == (resting["order_id"], "maker", trade["trade_id"])
    assert (made["last_price"], made["last_quantity"], made["time"]) == (1000, 40, incoming["time"])


def test_the_makers_report_comes_before_the_takers(venue: Venue, feed: Subscription) -> None:
    makers, taker = [venue.account(), venue.account()], venue.account()
    for maker in makers:
        venue.enter(maker, "sell", 10, 1000)
    venue.enter(taker, "buy", 20, 1000)
    life(venue, feed, taker)
    trades = [
        (message["account"], message["liquidity"])
        for topic, message in feed.arrived
        if message["exec_type"] == "trade" and message["account"] in (*makers, taker)
    ]
    assert trades == [(makers[0], "maker"), (taker, "taker"), (makers[1], "maker"), (taker, "taker")]


def test_ioc_trades_what_it_can_and_the_rest_is_canceled(venue: Venue, feed: Subscription) -> None:
    maker, taker = venue.account(), venue.account()
    venue.enter(maker, "sell", 40, 1000)
    venue.enter(taker, "buy", 100, 1000, time_in_force="ioc")
    venue.enter(taker, "buy", 100, 1000, time_in_force="ioc")
    assert life(venue, feed, taker) == [
        NEW_100,
        ("trade", "partially_filled", 40, 60),
        ("canceled", "canceled", 40, 0, "immediate_or_cancel"),
        NEW_100,
        ("canceled", "canceled", 0, 0, "immediate_or_cancel"),
    ]


@pytest.mark.parametrize("order_type", ["limit", "market"])
def test_fok_is_filled_whole_or_killed_whole(venue: Venue, feed: Subscription, order_type: str) -> None:
    maker, taker = venue.account(), venue.account()
    price = 1000 if order_type == "limit" else None
    venue.enter(taker, "buy", 100, price, order_type=order_type, time_in_force="fok")
    venue.enter(maker, "sell", 90, 1000)
    venue.enter(taker, "buy", 100, price, order_type=order_type, time_in_force="fok")
    venue.enter(maker, "sell", 10, 1000)
    venue.enter(taker, "buy", 100, price, order_type=order_type, time_in_force="fok")
    killed = ("canceled", "canceled", 0, 0, "fill_or_kill")
    assert life(venue, feed, taker) == [
        NEW_100,
        killed,
        NEW_100,
        killed,
        NEW_100,
        ("trade", "partially_filled", 90, 10),
        ("trade", "filled", 100, 0),
    ]


@pytest.mark.parametrize("time_in_force", ["gtc", "ioc"])
def test_what_a_market_order_does_not_find_is_canceled(venue: Venue, feed: Subscription, time_in_force: str) -> None:
    maker, taker = venue.account(), venue.account()
    venue.enter(maker, "sell", 40, 1000)
    venue.enter(taker, "buy", 100, order_type="market", time_in_force=time_in_force)
    assert life(venue, feed, taker) == [
        NEW_100,
        ("trade", "partially_filled", 40, 60),
        ("canceled", "canceled", 40, 0, "market_remainder"),
    ]


def test_an_amend_is_replaced_with_the_new_total(venue: Venue, feed: Subscription) -> None:
    maker, taker = venue.account(), venue.account()
    order = venue.enter(maker, "sell", 100, 1000)
    named = {"account": maker, "asset": "ACME", "order_id": order["order_id"]}
    venue.do("amend_order", quantity=80, **named)
    venue.enter(taker, "buy", 30, 1000)
    venue.do("amend_order", quantity=60, **named)
    venue.do("amend_order", quantity=90, **named)
    venue.do("amend_order", price=1005, **named)
    venue.do("amend_order", price=1005, quantity=90, **named)
    assert life(venue, feed, maker) == [
        NEW_100,
        ("replaced", "new", 0, 80),
        ("trade", "partially_filled", 30, 50),
        ("replaced", "partially_filled", 30, 30),
        ("replaced", "partially_filled", 30, 60),
        ("replaced", "partially_filled", 30, 60),
        ("replaced", "partially_filled", 30, 60),
    ]
    last = feed.messages[f"execution/{maker}/ACME/"][-1]
    assert (last["price"], last["quantity"]) == (1005, 90)


def test_less_keeps_the_place_in_the_queue_and_more_loses_it(venue: Venue, feed: Subscription) -> None:
    first, second, taker = venue.account(), venue.account(), venue.account()
    orders = {account: venue.enter(account, "sell", 100, 1000) for account in (first, second)}
    named = {"asset": "ACME", "account": first, "order_id": orders[first]["order_id"]}
    venue.do("amend_order", quantity=50, **named)
    venue.enter(taker, "buy", 10, 1000)
    venue.do("amend_order", quantity=60, **named)
    venue.enter(taker, "buy", 10, 1000)
    assert life(venue, feed, first) == [
        NEW_100,
        ("replaced", "new", 0, 50),
        ("trade", "partially_filled", 10, 40),
        ("replaced", "partially_filled", 10, 50),
    ]
    assert life(venue, feed, second) == [NEW_100, ("trade", "partially_filled", 10, 90)]


def test_an_amend_that_crosses_trades(venue: Venue, feed: Subscription) -> None:
    maker, mover = venue.account(), venue.account()
    venue.enter(maker, "sell", 40, 1000)
    order = venue.enter(mover, "buy", 100, 900)
    venue.do("amend_order", account=mover, asset="ACME", order_id=order["order_id"], price=1000)
    assert life(venue, feed, mover) == [
        NEW_100,
        ("replaced", "new", 0, 100),
        ("trade", "partially_filled", 40, 60),
    ]
    assert feed.messages[f"execution/{mover}/ACME/"][2]["liquidity"] == "taker"
    assert life(venue, feed, maker) == [("new", "new", 0, 40), ("trade", "filled", 40, 0)]


@pytest.mark.parametrize("quantity", [30, 20])
def test_an_amend_at_or_below_what_has_filled_cancels(venue: Venue, feed: Subscription, quantity: int) -> None:
    maker, taker = venue.account(), venue.account()
    order = venue.enter(maker, "sell", 100, 1000)
    venue.enter(taker, "buy", 30, 1000)
    venue.do("amend_order", account=maker, asset="ACME", order_id=order["order_id"], quantity=quantity)
    assert life(venue, feed, maker) == [
        NEW_100,
        ("trade", "partially_filled", 30, 70),
        ("canceled", "canceled", 30, 0, "user_request"),
    ]


def test_an_order_is_canceled_once(venue: Venue, feed: Subscription) -> None:
    maker, taker = venue.account(), venue.account()
    order = venue.enter(maker, "sell", 100, 1000)
    venue.enter(taker, "buy", 40, 1000)
    named = {"account": maker, "asset": "ACME", "client_order_id": order["client_order_id"]}
    venue.do("cancel_order", **named)
    venue.do("cancel_order", **named)
    venue.do("amend_order", quantity=200, **named)
    assert life(venue, feed, maker) == [
        NEW_100,
        ("trade", "partially_filled", 40, 60),
        ("canceled", "canceled", 40, 0, "user_request"),
        ("cancel_rejected", None, None, None, "unknown_order"),
        ("amend_rejected", None, None, None, "unknown_order"),
    ]
    refused = feed.messages[f"execution/{maker}/ACME/"][-1]
    assert refused["order_id"] == order["order_id"]


def test_a_filled_order_is_neither_canceled_nor_amended(venue: Venue, feed: Subscription) -> None:
    maker, taker = venue.account(), venue.account()
    order = venue.enter(maker, "sell", 100, 1000)
    venue.enter(taker, "buy", 100, 1000)
    named = {"account": maker, "asset": "ACME", "order_id": order["order_id"]}
    venue.do("amend_order", price=900, **named)
    venue.do("cancel_order", **named)
    assert life(venue, feed, maker) == [
        NEW_100,
        ("trade", "filled", 100, 0),
        ("amend_rejected", None, None, None, "unknown_order"),
        ("cancel_rejected", None, None, None, "unknown_order"),
    ]


def test_a_mass_cancel_ends_the_accounts_orders_in_order_of_arrival(venue: Venue, feed: Subscription) -> None:
    account, other = venue.account(), venue.account()
    sides = ("buy", "sell", "buy")
    orders = [
        venue.enter(account, side, 100, price)["order_id"]
        for side, price in zip(sides, (1000, 1100, 1005), strict=True)
    ]
    bitcoin = venue.enter(account, "buy", 100, 1000, asset="BTC-USD")["order_id"]
    venue.enter(other, "buy", 100, 1000)
    venue.do("amend_order", account=account, asset="ACME", order_id=orders[0], price=995)
    venue.do("mass_cancel", account=account, asset="ACME", side="buy")
    venue.do("mass_cancel", account=account)
    canceled = ("canceled", "canceled", 0, 0, "mass_cancel")
    assert life(venue, feed, account) == [NEW_100] * 3 + [("replaced", "new", 0, 100)] + [canceled] * 3
    ended = [report["order_id"] for report in feed.messages[f"execution/{account}/ACME/"][-3:]]
    assert ended == [orders[0], orders[2], orders[1]]
    assert life(venue, feed, account, "BTC-USD") == [NEW_100, canceled]
    assert feed.messages[f"execution/{account}/BTC-USD/"][-1]["order_id"] == bitcoin
    assert life(venue, feed, other) == [NEW_100]


def test_a_mass_cancel_of_nothing_reports_nothing(venue: Venue, feed: Subscription) -> None:
    account = venue.account()
    venue.do("mass_cancel", account=account)
    assert life(venue, feed, account) == []


def test_an_account_does_not_trade_with_itself(venue: Venue, feed: Subscription) -> None:
    account, other = venue.account(), venue.account()
    venue.enter(other, "sell", 30, 1000)
    venue.enter(account, "sell", 100, 1000)
    venue.enter(account, "buy", 100, 1000)
    assert life(venue, feed, account) == [
        NEW_100,
        NEW_100,
        ("trade", "partially_filled", 30, 70),
        ("canceled", "canceled", 30, 0, "self_trade_prevention"),
    ]


def test_an_amend_that_meets_its_own_account_is_canceled(venue: Venue, feed: Subscription) -> None:
    account = venue.account()
    venue.enter(account, "sell", 100, 1000)
    order = venue.enter(account, "buy", 100, 900)
    venue.do("amend_order", account=account, asset="ACME", order_id=order["order_id"], price=1000)
    assert life(venue, feed, account) == [
        NEW_100,
        NEW_100,
        ("replaced", "new", 0, 100),
        ("canceled", "canceled", 0, 0, "self_trade_prevention"),
    ]


def test_an_order_that_would_overfill_its_level_is_rejected(venue: Venue, feed: Subscription) -> None:
    account = venue.account()
    room = (2**63 - 1) // MAX_QUANTITY
    orders = [venue.order(account, "buy", MAX_QUANTITY, 7, asset="BTC-USD") for _ in range(room + 1)]
    for start in range(0, len(orders), 100):
        replies = venue.entry.ask(orders[start : start + 100])
        assert {reply["type"] for reply in replies} == {"ack"}
    full = ("new", "new", 0, MAX_QUANTITY)
    reports = life(venue, feed, account, "BTC-USD")
    assert reports == [full] * room + [("rejected", "rejected", 0, 0, "invalid_quantity")]
