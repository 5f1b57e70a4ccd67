"""Each type of order and each instruction over the wire, its life followed on the private feed to its end."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.integration.lives import first_reports, life
from tests.integration.operators import DAY, HOUR, MANUAL, MINUTE, Operator
from tests.integration.outsider import Message, Subscription, Venue
from tests.integration.outsider import venue as running_venue

ASSETS = """
[[asset]]
asset = "ACME"
price_scale = 2
tick_size = 5
lot_size = 10

[[asset]]
asset = "BANDS"
reference_price = 1000
price_band = "0.10"

[[asset]]
asset = "SWINGS"
reference_price = 1000
volatility_band = "0.05"
call_seconds = 60
"""
NEW_100 = ("new", "new", 0, 100)
WAITING_100 = ("new", "pending_trigger", 0, 100)
TRIGGERED_100 = ("triggered", "new", 0, 100)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Venue, Subscription]]:
    with running_venue(tmp_path_factory.mktemp("order-types"), MANUAL, ASSETS) as venue:
        feed = venue.private("execution/")
        yield venue, feed
        feed.close()


@pytest.fixture
def venue(shared: tuple[Venue, Subscription]) -> Iterator[Venue]:
    venue = shared[0]
    trade(venue, 1000)
    yield venue
    for account in venue.accounts:
        venue.do("mass_cancel", account=account)
    venue.accounts.clear()
    venue.settle()


@pytest.fixture
def feed(shared: tuple[Venue, Subscription]) -> Subscription:
    return shared[1]


@pytest.fixture
def operator(venue: Venue) -> Iterator[Operator]:
    with closing(Operator(venue)) as operator:
        yield operator


def trade(venue: Venue, price: int, asset: str = "ACME") -> None:
    """Have two others trade at a price."""
    venue.enter(venue.account(), "sell", 10, price, asset=asset)
    venue.enter(venue.account(), "buy", 10, price, asset=asset, time_in_force="ioc")


def named(account: str, order: Message) -> Message:
    return {"account": account, "asset": order["asset"], "order_id": order["order_id"]}


# -- stops -------------------------------------------------------------------------------------------------------------


def test_a_stop_waits_until_a_trade_reaches_it_and_takes_what_there_is(venue: Venue, feed: Subscription) -> None:
    account, maker = venue.account(), venue.account()
    stop = venue.enter(account, "buy", 100, order_type="stop", stop_price=1010)
    trade(venue, 1005)
    assert life(venue, feed, account) == [WAITING_100]
    venue.enter(maker, "sell", 60, 1020)
    trade(venue, 1010)
    assert life(venue, feed, account) == [
        WAITING_100,
        TRIGGERED_100,
        ("trade", "partially_filled", 60, 40),
        ("canceled", "canceled", 60, 0, "market_remainder"),
    ]
    reports = feed.messages[f"execution/{account}/ACME/"]
    assert {report["order_id"] for report in reports} == {stop["order_id"]}
    assert {report["stop_price"] for report in reports} == {1010}
    assert (reports[2]["last_price"], reports[2]["liquidity"]) == (1020, "taker")


def test_a_stop_limit_rests_once_it_is_triggered(venue: Venue, feed: Subscription) -> None:
    account, taker = venue.account(), venue.account()
    venue.enter(account, "sell", 100, 995, order_type="stop_limit", stop_price=995)
    trade(venue, 995)
    venue.enter(taker, "buy", 100, 1000)
    assert life(venue, feed, account) == [WAITING_100, TRIGGERED_100, ("trade", "filled", 100, 0)]
    last = feed.messages[f"execution/{account}/ACME/"][-1]
    assert (last["price"], last["stop_price"], last["last_price"], last["liquidity"]) == (995, 995, 995, "maker")


def test_a_stop_that_the_last_trade_has_reached_is_triggered_at_once(venue: Venue, feed: Subscription) -> None:
    account = venue.account()
    venue.enter(account, "buy", 100, order_type="stop", stop_price=1000)
    assert life(venue, feed, account) == [
        WAITING_100,
        TRIGGERED_100,
        ("canceled", "canceled", 0, 0, "market_remainder"),
    ]


def test_a_stop_is_amended_while_it_waits_and_no_more_once_it_is_triggered(venue: Venue, feed: Subscription) -> None:
    account = venue.account()
    stop = venue.enter(account, "buy", 100, 990, order_type="stop_limit", stop_price=1020)
    venue.do("amend_order", quantity=60, **named(account, stop))
    venue.do("amend_order", stop_price=1010, price=985, **named(account, stop))
    trade(venue, 1010)
    venue.do("amend_order", stop_price=1030, **named(account, stop))
    venue.do("amend_order", price=980, **named(account, stop))
    venue.do("cancel_order", **named(account, stop))
    assert life(venue, feed, account) == [
        WAITING_100,
        ("replaced", "pending_trigger", 0, 60),
        ("replaced", "pending_trigger", 0, 60),
        ("triggered", "new", 0, 60),
        ("amend_rejected", "new", 0, 60, "triggered"),
        ("replaced", "new", 0, 60),
        ("canceled", "canceled", 0, 0, "user_request"),
    ]
    reports = feed.messages[f"execution/{account}/ACME/"]
    assert [(report["price"], report["stop_price"]) for report in reports] == [
        (990, 1020),
        (990, 1020),
        (985, 1010),
        (985, 1010),
        (985, 1010),
        (980, 1010),
        (980, 1010),
    ]


def test_stops_that_wait_are_canceled_like_all_live_orders(venue: Venue, feed: Subscription) -> None:
    account = venue.account()
    one = venue.enter(account, "buy", 100, order_type="stop", stop_price=1020)
    venue.enter(account, "sell", 100, order_type="stop", stop_price=980)
    venue.do("cancel_order", **named(account, one))
    venue.do("mass_cancel", account=account)
    assert life(venue, feed, account) == [
        WAITING_100,
        WAITING_100,
        ("canceled", "canceled", 0, 0, "user_request"),
        ("canceled", "canceled", 0, 0, "mass_cancel"),
    ]


# -- icebergs, post_only, min_quantity ---------------------------------------------------------------------------------


def test_an_iceberg_is_restated_with_each_next_part(venue: Venue, feed: Subscription) -> None:
    account, taker = venue.account(), venue.account()
    venue.enter(account, "sell", 100, 1000, display_quantity=40)
    venue.enter(taker, "buy", 100, 1000)
    assert life(venue, feed, account) == [
        NEW_100,
        ("trade", "partially_filled", 40, 60),
        ("restated", "partially_filled", 40, 60),
        ("trade", "partially_filled", 80, 20),
        ("restated", "partially_filled", 80, 20),
        ("trade", "filled", 100, 0),
    ]
    assert [kind for kind, *_ in life(venue, feed, taker)] == ["new", "trade", "trade", "trade"]


def test_post_only_rests_or_is_canceled_whole(venue: Venue, feed: Subscription) -> None:
    account, other = venue.account(), venue.account()
    venue.enter(other, "sell", 10, 1000)
    venue.enter(account, "buy", 100, 1000, post_only=True)
    resting = venue.enter(account, "buy", 100, 995, post_only=True)
    venue.do("amend_order", price=1000, **named(account, resting))
    venue.enter(other, "sell", 100, 995)
    assert life(venue, feed, account) == [
        NEW_100,
        ("canceled", "canceled", 0, 0, "post_only"),
        NEW_100,
        ("amend_rejected", "new", 0, 100, "post_only"),
        ("trade", "filled", 100, 0),
    ]
    assert feed.messages[f"execution/{account}/ACME/"][3]["price"] == 995


def test_min_quantity_trades_at_once_or_nothing_does(venue: Venue, feed: Subscription) -> None:
    account, maker = venue.account(), venue.account()
    venue.enter(maker, "sell", 50, 1000)
    venue.enter(account, "buy", 100, 1000, min_quantity=60)
    venue.enter(account, "buy", 100, 1000, min_quantity=50)
    venue.enter(maker, "sell", 50, 1000)
    assert life(venue, feed, account) == [
        NEW_100,
        ("canceled", "canceled", 0, 0, "minimum_quantity"),
        NEW_100,
        ("trade", "partially_filled", 50, 50),
        ("trade", "filled", 100, 0),
    ]


# -- time in force -----------------------------------------------------------------------------------------------------


def test_day_and_gtd_orders_expire_those_that_wait_too(venue: Venue, feed: Subscription, operator: Operator) -> None:
    midnight = operator.next_day(8 * HOUR)
    account, other, until = venue.account(), venue.account(), midnight + 9 * HOUR
    venue.enter(account, "buy", 100, 900, time_in_force="gtd", expire_time=until)
    venue.enter(account, "buy", 100, order_type="stop", stop_price=1100, time_in_force="gtd", expire_time=until)
    venue.enter(account, "buy", 100, 905, time_in_force="day", display_quantity=20)
    venue.enter(account, "buy", 100, 900)
    venue.enter(other, "sell", 30, 905)
    operator.set_clock(midnight + DAY)
    expected = [
        NEW_100,
        WAITING_100,
        NEW_100,
        NEW_100,
        ("trade", "partially_filled", 20, 80),
        ("restated", "partially_filled", 20, 80),
        ("trade", "partially_filled", 30, 70),
        ("expired", "expired", 0, 0, "expired"),
        ("expired", "expired", 0, 0, "expired"),
        ("expired", "expired", 30, 0, "expired"),
    ]
    assert first_reports(feed, account, len(expected)) == expected
    ends = feed.messages[f"execution/{account}/ACME/"][-3:]
    assert [report["time"] for report in ends] == [until, until, midnight + DAY]
    assert life(venue, feed, account) == expected, "the gtc order lives on"


@pytest.mark.parametrize(
    ("time_in_force", "price", "reason"),
    [
        ("ioc", 1000, "immediate_or_cancel"),
        ("fok", 1000, "fill_or_kill"),
        ("gtc", None, "market_remainder"),
        ("fok", None, "fill_or_kill"),
    ],
)
def test_what_does_not_rest(
    venue: Venue, feed: Subscription, time_in_force: str, price: int | None, reason: str
) -> None:
    account, maker = venue.account(), venue.account()
    venue.enter(maker, "sell", 40, 1000)
    kind = "limit" if price else "market"
    venue.enter(account, "buy", 100, price, order_type=kind, time_in_force=time_in_force)
    filled = [] if reason == "fill_or_kill" else [("trade", "partially_filled", 40, 60)]
    assert life(venue, feed, account) == [
        NEW_100,
        *filled,
        ("canceled", "canceled", 40 * len(filled), 0, reason),
    ]


# -- self-trade prevention ---------------------------------------------------------------------------------------------

PREVENTED = "self_trade_prevention"
ENDED = ("canceled", "canceled", 0, 0, PREVENTED)
NEW_60 = ("new", "new", 0, 60)


@pytest.mark.parametrize(
    ("instruction", "own", "told"),
    [
        ("cancel_newest", 60, [NEW_60, NEW_100, ENDED]),
        ("cancel_oldest", 60, [NEW_60, NEW_100, ENDED, ("trade", "partially_filled", 30, 70)]),
        ("cancel_both", 60, [NEW_60, NEW_100, ENDED, ENDED]),
        (
            "decrement_and_cancel",
            60,
            [NEW_60, NEW_100, ENDED, ("restated", "new", 0, 40, PREVENTED), ("trade", "partially_filled", 30, 10)],
        ),
        ("decrement_and_cancel", 100, [NEW_100, NEW_100, ENDED, ENDED]),
        ("decrement_and_cancel", 160, [("new", "new", 0, 160), NEW_100, ("restated", "new", 0, 60, PREVENTED), ENDED]),
    ],
)
def test_an_order_that_meets_its_own_account_does_as_it_was_told(
    venue: Venue, feed: Subscription, instruction: str, own: int, told: list[tuple[object, ...]]
) -> None:
    account, other = venue.account(), venue.account()
    venue.enter(account, "sell", own, 1000)
    venue.enter(other, "sell", 30, 1000)
    venue.enter(account, "buy", 100, 1000, self_trade_prevention=instruction)
    assert life(venue, feed, account) == told


# -- bands, calls, operators -------------------------------------------------------------------------------------------


def test_beyond_the_price_band_an_order_is_rejected_and_an_amend_refused(venue: Venue, feed: Subscription) -> None:
    account = venue.account()
    order = venue.enter(account, "buy", 100, 900, asset="BANDS")
    venue.enter(account, "buy", 100, 899, asset="BANDS")
    venue.do("amend_order", price=1101, **named(account, order))
    expected = [
        NEW_100,
        ("rejected", "rejected", 0, 0, "price_band"),
        ("amend_rejected", "new", 0, 100, "price_band"),
    ]
    assert first_reports(feed, account, 3, "BANDS") == expected
    status = venue.query.ask(
        type="order_status", account=account, asset="BANDS", client_order_id=order["client_order_id"]
    )
    assert (status["exec_type"], status["price"]) == ("new", 900)


def test_an_order_that_the_book_rejected_is_found_by_its_client_order_id(venue: Venue, feed: Subscription) -> None:
    account = venue.account()
    order = venue.enter(account, "buy", 100, 1200, asset="BANDS")
    first_reports(feed, account, 1, "BANDS")
    status = venue.query.ask(
        type="order_status", account=account, asset="BANDS", client_order_id=order["client_order_id"]
    )
    assert (status["order_status"], status["reason"]) == ("rejected", "price_band")


def test_in_a_call_orders_collect_and_its_auction_trades_them(
    venue: Venue, feed: Subscription, operator: Operator
) -> None:
    buyer, seller, picky = venue.account(), venue.account(), venue.account()
    operator.do("change_status", asset="ACME", status="call")
    venue.enter(buyer, "buy", 100, 1010)
    venue.enter(seller, "sell", 40, 990)
    venue.enter(picky, "sell", 40, 990, min_quantity=10)
    operator.do("change_status", asset="ACME", status="open")
    assert life(venue, feed, seller) == [("new", "new", 0, 40), ("trade", "filled", 40, 0)]
    assert life(venue, feed, buyer) == [NEW_100, ("trade", "partially_filled", 40, 60)]
    assert life(venue, feed, picky) == [("new", "new", 0, 40), ("canceled", "canceled", 0, 0, "minimum_quantity")]
    sold = feed.messages[f"execution/{seller}/ACME/"][-1]
    bought = feed.messages[f"execution/{buyer}/ACME/"][-1]
    assert (sold["liquidity"], bought["liquidity"]) == ("maker", "taker")
    assert sold["last_price"] == bought["last_price"] == 1010


def test_an_interruption_cancels_a_market_orders_rest_and_the_call_ends_by_itself(
    venue: Venue, feed: Subscription, operator: Operator
) -> None:
    maker, account, waiting = venue.account(), venue.account(), venue.account()
    venue.enter(maker, "sell", 60, 1050, asset="SWINGS")
    venue.enter(maker, "sell", 60, 1051, asset="SWINGS")
    venue.enter(account, "buy", 100, order_type="market", asset="SWINGS")
    assert first_reports(feed, account, 3, "SWINGS") == [
        NEW_100,
        ("trade", "partially_filled", 60, 40),
        ("canceled", "canceled", 60, 0, "halted"),
    ]
    venue.enter(waiting, "buy", 100, 1051, asset="SWINGS")
    first_reports(feed, waiting, 1, "SWINGS")
    operator.pass_time(MINUTE)
    assert first_reports(feed, waiting, 2, "SWINGS") == [NEW_100, ("trade", "partially_filled", 60, 40)]


def test_an_operator_and_the_dead_mans_timer_cancel_what_waits_too(
    venue: Venue, feed: Subscription, operator: Operator
) -> None:
    ann, bob = venue.account(), venue.account()
    for account in (ann, bob):
        venue.enter(account, "buy", 100, 900)
        venue.enter(account, "buy", 100, order_type="stop", stop_price=1100)
    operator.do("cancel", account=ann)
    assert venue.entry.ask(type="cancel_all_after", account=bob, timeout_ms=60_000)["type"] == "ack"
    operator.pass_time(MINUTE)
    for account, reason in ((ann, "operator"), (bob, "disconnected")):
        canceled = ("canceled", "canceled", 0, 0, reason)
        assert first_reports(feed, account, 4) == [NEW_100, WAITING_100, canceled, canceled]
