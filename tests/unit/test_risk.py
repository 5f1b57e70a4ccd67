"""Risk limits: which entry holds, what each refuses, and that no order too many is ever open."""

import random
from typing import Any

import pytest

from exchange.core import requests
from exchange.core.asset import Asset
from exchange.core.book import Order
from exchange.core.events import AmendRejected
from exchange.core.matching import Matching
from exchange.core.request_checks import Rejection
from exchange.core.requests import BUY, SELL, Record
from exchange.core.risk import FEW_BUCKETS, NANOSECONDS, RiskLimit, RiskLimits, watches_open_orders
from exchange.pipeline import codec
from exchange.pipeline.open_orders import MOST_COUNTS, OpenOrderReports
from tests.random_requests import PROFILES, random_requests

SECOND = NANOSECONDS
IN_FORCE: tuple[requests.TimeInForce, ...] = ("gtc", "gtc", "ioc", "day")


def refused(check: Any, *arguments: Any, **named: Any) -> tuple[str, str] | None:
    """Return reason and text of the rejection, None where there is none."""
    try:
        check(*arguments, **named)
    except Rejection as rejection:
        return rejection.reason, rejection.text
    return None


def most(limits: RiskLimits, account: str, asset: str) -> int:
    """Return the largest quantity of 1 to 9 that an order may have."""
    return max(
        quantity for quantity in range(1, 10) if refused(limits.check_order, account, asset, quantity, 1) is None
    )


# -- which entry holds -------------------------------------------------------------------------------------------------


def test_the_most_specific_entry_that_has_a_limit_holds() -> None:
    limits = RiskLimits(
        [
            RiskLimit(max_order_quantity=2, max_order_notional=1000),
            RiskLimit(asset="ACME", max_order_quantity=3),
            RiskLimit(account="ann", max_order_quantity=4),
            RiskLimit(account="ann", asset="ACME", max_order_quantity=5),
        ]
    )
    assert most(limits, "bob", "BTC-USD") == 2
    assert most(limits, "bob", "ACME") == 3
    assert most(limits, "ann", "BTC-USD") == 4
    assert most(limits, "ann", "ACME") == 5
    assert refused(limits.check_order, "ann", "ACME", 5, 201), "the notional is that of all"


def test_several_entries_of_one_account_add_up_to_one() -> None:
    limits = RiskLimits(
        [RiskLimit(account="ann", max_order_quantity=5), RiskLimit(account="ann", max_order_notional=8)]
    )
    assert refused(limits.check_order, "ann", "ACME", 6, 1)
    assert refused(limits.check_order, "ann", "ACME", 3, 3)
    assert refused(limits.check_order, "ann", "ACME", 4, 2) is None


def test_who_has_no_limits_is_not_limited_and_not_remembered() -> None:
    limits = RiskLimits([RiskLimit(account="ann", max_open_orders=1, max_requests_per_second=1, max_order_quantity=1)])
    for sequence in range(1, 1000):
        limits.check_rate("bob", 0, False)
        limits.check_order("bob", "ACME", 10**15, 10**15)
        limits.took_order("bob", "ACME", sequence, 1, 1)
    limits.note_open("ACME", 999, {"bob": 5}, True)
    assert limits._open["ACME"].accounts == {}
    assert limits._buckets == {}


def test_a_specific_limit_can_be_higher_than_the_general_one() -> None:
    limits = RiskLimits([RiskLimit(max_requests_per_second=1), RiskLimit(account="ann", max_requests_per_second=3)])
    assert [refused(limits.check_rate, "ann", 0, False) is None for _ in range(4)] == [True, True, True, False]
    assert [refused(limits.check_rate, "bob", 0, False) is None for _ in range(2)] == [True, False]


# -- quantity and notional ---------------------------------------------------------------------------------------------


def test_a_quantity_above_the_limit_is_refused_by_name_value_and_remedy() -> None:
    limits = RiskLimits([RiskLimit(account="ann", max_order_quantity=100)])
    assert refused(limits.check_order, "ann", "ACME", 100, 0) is None
    assert refused(limits.check_order, "ann", "ACME", 101, 0) == (
        "risk_limit",
        "max_order_quantity 100: quantity 101 is above what account ann may enter in one order in ACME; enter less",
    )


def test_a_notional_is_price_times_quantity() -> None:
    limits = RiskLimits([RiskLimit(max_order_notional=1000)])
    assert refused(limits.check_order, "ann", "ACME", 10, 100) is None
    assert refused(limits.check_order, "ann", "ACME", 11, 100) == (
        "risk_limit",
        "max_order_notional 1000: price 100 x quantity 11 = 1100 is above what account ann may enter in one order in "
        "ACME; enter less",
    )


def test_an_order_without_a_price_has_no_notional() -> None:
    limits = RiskLimits([RiskLimit(max_order_notional=1, max_order_quantity=10)])
    assert refused(limits.check_order, "ann", "ACME", 10, 0) is None
    assert refused(limits.check_order, "ann", "ACME", 11, 0)
    limits.took_order("ann", "ACME", 1, 5, 0)
    assert refused(limits.check_amend, "ann", "ACME", 1, 10, None) is None
    assert refused(limits.check_amend, "ann", "ACME", 1, 11, None)


def test_an_amend_is_judged_by_what_it_gives() -> None:
    limits = RiskLimits([RiskLimit(account="ann", max_order_quantity=10), RiskLimit(asset="X", max_order_notional=100)])
    limits.took_order("ann", "ACME", 1, 1000, 1000)
    assert refused(limits.check_amend, "ann", "ACME", 1, None, 10**9) is None
    assert refused(limits.check_amend, "ann", "ACME", 1, 11, None)
    limits.took_order("bob", "X", 1, 1000, 1000)
    assert refused(limits.check_amend, "bob", "X", 2, None, None) is None, "only the stop price"
    assert refused(limits.check_amend, "bob", "X", 2, 10, 10) is None
    assert refused(limits.check_amend, "bob", "X", 2, 11, 10) == (
        "risk_limit",
        "max_order_notional 100: price 10 x quantity 11 = 110 is above what account bob may enter in one order in X; "
        "enter less",
    )


def test_an_amend_of_one_of_the_two_is_judged_with_the_other_as_it_was_entered() -> None:
    limits = RiskLimits([RiskLimit(max_order_notional=1000)])
    limits.took_order("ann", "ACME", 1, 10, 80)
    assert refused(limits.check_amend, "ann", "ACME", 1, 9, None) is None
    assert refused(limits.check_amend, "ann", "ACME", 1, 12, None) is None
    assert refused(limits.check_amend, "ann", "ACME", 1, None, 100) is None
    assert refused(limits.check_amend, "ann", "ACME", 1, 13, None) == (
        "risk_limit",
        "max_order_notional 1000: price 80 x quantity 13 = 1040 is above what account ann may enter in one order in "
        "ACME; enter less, or give both: the price is the largest that order 1 or an amend of it came with",
    )
    assert refused(limits.check_amend, "ann", "ACME", 1, None, 101) == (
        "risk_limit",
        "max_order_notional 1000: price 101 x quantity 10 = 1010 is above what account ann may enter in one order in "
        "ACME; enter less, or give both: the quantity is the largest that order 1 or an amend of it came with",
    )


def test_an_amend_of_one_of_the_two_is_judged_with_the_largest_that_the_other_may_be() -> None:
    limits = RiskLimits([RiskLimit(max_order_notional=1000)])
    limits.took_order("ann", "ACME", 1, 10, 80)
    limits.took_amend(1, 5, None)  # which may have been refused: there may be 10 still
    assert refused(limits.check_amend, "ann", "ACME", 1, None, 100) is None
    assert refused(limits.check_amend, "ann", "ACME", 1, None, 101)
    assert refused(limits.check_amend, "ann", "ACME", 1, 5, 200) is None, "with both there is nothing to guess"
    limits.took_amend(1, 5, 200)
    assert refused(limits.check_amend, "ann", "ACME", 1, 5, None) is None
    assert refused(limits.check_amend, "ann", "ACME", 1, 6, None)


@pytest.mark.parametrize("seed", range(5))
def test_no_order_is_ever_above_its_notional_whatever_amends_are_refused(seed: int) -> None:
    print(f"seed {seed}")
    choose = random.Random(seed)
    matching = Matching()
    limits = RiskLimits([RiskLimit(max_order_notional=1000)])
    sequence = order_id = refusals = amend_rejects = 0

    def apply(account: str, request: requests.Request) -> None:
        nonlocal sequence, amend_rejects
        sequence += 1
        record = matching.apply(Record("ACME", sequence, sequence, account, request))
        amend_rejects += any(isinstance(event, AmendRejected) for event in record.events)

    def live() -> list[Order]:
        return [order for account in matching.book.accounts.values() for order in account.orders.values()]

    apply("", requests.DefineAsset(Asset(asset="ACME", reference_price=100, price_band_ppm=200_000)))
    for _ in range(2000):
        account, quantity, price = choose.choice("ab"), choose.randrange(1, 20), choose.randrange(50, 150)
        if choose.random() < 0.3 and refused(limits.check_order, account, "ACME", quantity, price) is None:
            order_id += 1
            limits.took_order(account, "ACME", sequence + 1, quantity, price)
            side = choose.choice((BUY, SELL))
            apply(account, requests.NewOrder(order_id, str(order_id), side, quantity, price, "limit"))
        elif live():
            order = choose.choice(live())
            amend = requests.AmendOrder(
                order.order_id, *choose.choice(((quantity, None), (None, price), (quantity, price)))
            )
            if refused(limits.check_amend, "a", "ACME", amend.order_id, amend.quantity, amend.price) is None:
                limits.took_amend(amend.order_id, amend.quantity, amend.price)
                apply(order.account.name, amend)
            else:
                refusals += 1
        assert all(order.quantity * order.price <= 1000 for order in live())
    assert refusals > 100
    assert amend_rejects > 10


def test_only_the_latest_orders_are_remembered_for_a_limit_of_a_notional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exchange.core.risk.KNOWN_NOTIONALS", 4)
    limits = RiskLimits([RiskLimit(max_order_notional=1000)])
    for number in range(1, 20):
        limits.took_order("ann", "ACME", number, number, 10)
        assert len(limits._quantities) < 8
    for order_id in range(17, 20):
        assert refused(limits.check_amend, "ann", "ACME", order_id, None, 1000 // order_id) is None
        assert refused(limits.check_amend, "ann", "ACME", order_id, None, 1000 // order_id + 1) is not None
    limits.took_amend(1, 1000, 1000)
    assert "give both" in str(refused(limits.check_amend, "ann", "ACME", 1, None, 5))
    assert refused(limits.check_amend, "ann", "ACME", 1, 5, 5) is None


def test_without_a_limit_of_a_notional_no_order_is_remembered() -> None:
    limits = RiskLimits([RiskLimit(max_order_quantity=10)])
    limits.took_order("ann", "ACME", 1, 10, 80)
    limits.took_amend(1, 5, 90)
    assert refused(limits.check_amend, "ann", "ACME", 1, None, 10**15) is None
    assert (len(limits._quantities), len(limits._prices)) == (0, 0)


# -- rate --------------------------------------------------------------------------------------------------------------


def test_a_seconds_worth_may_come_at_once_and_comes_back_over_a_second() -> None:
    limits = RiskLimits([RiskLimit(account="ann", max_requests_per_second=4)])
    for _ in range(4):
        limits.check_rate("ann", 0, False)
    assert refused(limits.check_rate, "ann", SECOND // 4 - 1, False) == (
        "rate_limited",
        "max_requests_per_second 4: account ann has sent that many within a second; send fewer, or send this one again "
        "later; cancels are taken at any rate",
    )
    limits.check_rate("ann", SECOND // 4, False)
    assert refused(limits.check_rate, "ann", SECOND // 4, False)
    for _ in range(4):
        limits.check_rate("ann", 10 * SECOND, False)
    assert refused(limits.check_rate, "ann", 10 * SECOND, False)


def test_a_steady_rate_at_the_limit_is_never_refused() -> None:
    limits = RiskLimits([RiskLimit(max_requests_per_second=7)])
    assert not any(refused(limits.check_rate, "ann", number * SECOND // 7 + 1, False) for number in range(1000))


def test_cancels_count_and_are_never_refused() -> None:
    limits = RiskLimits([RiskLimit(max_requests_per_second=2)])
    for _ in range(100):
        limits.check_rate("ann", 0, True)
    assert refused(limits.check_rate, "ann", 0, False)
    assert refused(limits.check_rate, "ann", SECOND // 2, False) is None, "a storm of cancels costs a second, not more"


def test_a_clock_that_stands_still_or_jumps_back_gives_nothing() -> None:
    limits = RiskLimits([RiskLimit(max_requests_per_second=1)])
    limits.check_rate("ann", SECOND, False)
    assert refused(limits.check_rate, "ann", SECOND, False)
    assert refused(limits.check_rate, "ann", 0, False)
    assert refused(limits.check_rate, "ann", 2 * SECOND, False) is None


def test_accounts_that_are_silent_are_forgotten() -> None:
    limits = RiskLimits([RiskLimit(max_requests_per_second=10)])
    for number in range(5 * FEW_BUCKETS):
        limits.check_rate(f"a{number}", number * SECOND // 1000, False)  # a thousand accounts a second
        assert len(limits._buckets) <= FEW_BUCKETS


# -- open orders -------------------------------------------------------------------------------------------------------


def watched(limit: int = 3, account: str = "") -> RiskLimits:
    """Return limits with one of open orders, a complete count of none noted for ACME."""
    limits = RiskLimits([RiskLimit(account=account, max_open_orders=limit)])
    limits.note_open("ACME", 0, {}, True)
    return limits


def may_enter(limits: RiskLimits, account: str = "ann") -> bool:
    return refused(limits.check_order, account, "ACME", 1, 1) is None


def test_until_a_complete_count_has_come_nothing_is_taken() -> None:
    limits = RiskLimits([RiskLimit(account="ann", max_open_orders=3)])
    expected = (
        "busy",
        "max_open_orders 3: how many orders account ann has open in ACME is not known until its matching daemon has "
        "reported after a start; try again in a moment",
    )
    assert refused(limits.check_order, "ann", "ACME", 1, 1) == expected
    assert limits.needs_count("ACME")
    limits.note_open("ACME", 5, {"ann": 1}, False)
    assert refused(limits.check_order, "ann", "ACME", 1, 1) == expected
    assert refused(limits.check_amend, "ann", "ACME", 1, 1, 1) is None, "an amend opens none"
    limits.note_open("ACME", 6, {}, True)
    assert may_enter(limits)
    assert not limits.needs_count("ACME")
    assert limits.needs_count("BTC-USD")


def test_where_no_limit_needs_it_no_count_is_asked_for() -> None:
    limits = [RiskLimit(asset="ACME", max_open_orders=3), RiskLimit(max_order_quantity=3)]
    assert RiskLimits(limits).needs_count("ACME")
    assert not RiskLimits(limits).needs_count("BTC-USD")
    assert [watches_open_orders(limits, asset) for asset in ("ACME", "BTC-USD")] == [True, False]
    assert watches_open_orders([RiskLimit(account="ann", max_open_orders=3)], "BTC-USD")
    assert not watches_open_orders([], "ACME")


def test_orders_taken_since_the_last_report_count_as_open() -> None:
    limits = watched(3)
    for sequence in (1, 2, 3):
        assert may_enter(limits)
        limits.took_order("ann", "ACME", sequence, 1, 1)
    assert refused(limits.check_order, "ann", "ACME", 1, 1) == (
        "risk_limit",
        "max_open_orders 3: account ann has 3 orders open in ACME; cancel one, or wait until one has ended",
    )
    assert may_enter(limits, "bob")
    limits.note_open("ACME", 2, {"ann": 1}, False)  # one of the first two has ended
    assert may_enter(limits)
    limits.took_order("ann", "ACME", 4, 1, 1)
    assert not may_enter(limits)
    limits.note_open("ACME", 4, {"ann": 3}, False)
    assert not may_enter(limits)
    limits.note_open("ACME", 9, {"bob": 1}, False)
    assert not may_enter(limits), "who is not named has what it had"
    limits.note_open("ACME", 9, {"ann": 0}, False)
    assert may_enter(limits)


def test_a_limit_of_no_open_orders_takes_none() -> None:
    limits = watched(0, account="ann")
    assert not may_enter(limits)
    assert may_enter(limits, "bob")


def test_a_report_that_is_older_than_the_last_changes_nothing() -> None:
    limits = watched(1)
    limits.took_order("ann", "ACME", 7, 1, 1)
    limits.note_open("ACME", 7, {"ann": 1}, False)
    limits.note_open("ACME", 6, {"ann": 0}, True)
    assert not may_enter(limits)


def test_a_complete_count_in_several_messages_leaves_none_to_who_is_not_named() -> None:
    limits = watched(1)
    limits.note_open("ACME", 5, {"ann": 1, "bob": 1, "cat": 1}, False)
    limits.took_order("cat", "ACME", 8, 1, 1)
    limits.note_open("ACME", 7, {"ann": 1}, False)
    assert not may_enter(limits, "bob")
    limits.note_open("ACME", 7, {"dan": 1}, True)
    assert [may_enter(limits, account) for account in ("ann", "bob", "cat", "dan")] == [False, True, False, False]


def test_a_complete_count_of_what_was_restored_takes_account_of_what_came_later() -> None:
    limits = RiskLimits([RiskLimit(account="ann", max_open_orders=2)])
    for sequence in range(1, 101):
        limits.took_order("ann", "ACME", sequence, 1, 1)
    limits.note_open("ACME", 99, {"ann": 1}, True)
    assert not may_enter(limits), "one as of 99, and the 100th"
    limits.note_open("ACME", 100, {"ann": 1}, False)
    assert may_enter(limits)


def test_who_has_nothing_open_is_forgotten() -> None:
    limits = watched(5)
    for number in range(1, 1000):
        limits.took_order(f"a{number}", "ACME", number, 1, 1)
        limits.note_open("ACME", number, {f"a{number}": 0}, False)
    assert limits._open["ACME"].accounts == {}


# -- what the matching daemon reports ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_what_is_reported_is_what_is_open_whatever_is_lost(seed: int) -> None:
    """Random requests, reported in random batches, some of the messages lost or late: no count is ever too small."""
    print(f"seed {seed}")
    choose = random.Random(seed)
    matching = Matching()
    reports = OpenOrderReports("ACME", matching.book.accounts)
    limits = RiskLimits([RiskLimit(max_open_orders=4)])
    accounts = ["ann", "bob", "cat"]
    order_id = sequence = 0

    def send(message: bytes) -> bool:
        if choose.random() < 0.2:
            return False
        control = codec.decode_control(message)
        assert isinstance(control, codec.OpenOrders)
        limits.note_open(control.asset, control.sequence, control.counts, control.complete)
        return True

    def apply(account: str, request: requests.Request) -> None:
        nonlocal sequence
        sequence += 1
        reports.note(matching.apply(Record("ACME", sequence, sequence * 1000, account, request)))

    apply("", requests.DefineAsset(Asset(asset="ACME")))
    for _ in range(800):
        account = choose.choice(accounts)
        kind = choose.random()
        if kind < 0.75:
            if may_enter(limits, account):
                order_id += 1
                side = choose.choice((BUY, SELL))
                stop = kind < 0.15
                instructions = requests.Instructions(stop_price=choose.randrange(95, 105)) if stop else None
                price = 0 if stop else choose.randrange(95, 105)
                limits.took_order(account, "ACME", sequence + 1, 1, 1)
                order_type: requests.OrderType = "stop" if stop else "limit"
                quantity = choose.randrange(1, 5)
                in_force: requests.TimeInForce = choose.choice(IN_FORCE)
                apply(
                    account,
                    requests.NewOrder(
                        order_id, str(order_id), side, quantity, price, order_type, in_force, instructions
                    ),
                )
        elif kind < 0.9:
            apply(account, requests.CancelOrder(choose.randrange(1, order_id + 2)))
        elif kind < 0.95:
            apply(account, requests.MassCancel(0))
        elif kind < 0.97:
            apply("", requests.Expire(True))
        else:
            request: Any = requests.AmendOrder(choose.randrange(1, order_id + 2), None, choose.randrange(95, 105))
            apply(account, request)
        for name in accounts:
            live = matching.book.accounts.get(name)
            assert live is None or len(live.orders) <= 4, f"{name} at request {sequence}"
        if choose.random() < 0.3:
            reports.send(sequence, send)
    assert order_id > 100, "the limit does not stick"
    reports.complete_due = True
    reports.send(sequence, lambda message: send(message) or send(message) or send(message) or send(message))
    while reports.complete_due:
        reports.send(sequence, send)
    known = limits._open["ACME"].accounts
    for name in accounts:
        assert (known[name].count if name in known else 0) == len(matching.book.accounts[name].orders)


def test_only_accounts_that_a_request_may_have_changed_are_reported() -> None:
    matching = Matching()
    reports = OpenOrderReports("ACME", matching.book.accounts)
    sent: list[codec.OpenOrders] = []

    def send(message: bytes) -> bool:
        control = codec.decode_control(message)
        assert isinstance(control, codec.OpenOrders)
        sent.append(control)
        return True

    entered: list[tuple[str, requests.Request]] = [
        ("", requests.DefineAsset(Asset(asset="ACME"))),
        ("ann", requests.NewOrder(1, "1", SELL, 5, 100)),
        ("bob", requests.NewOrder(2, "2", SELL, 5, 101)),
        ("cat", requests.NewOrder(3, "3", BUY, 5, 100)),
        ("cat", requests.CancelOrder(3)),
    ]
    for sequence, (account, request) in enumerate(entered, 1):
        reports.note(matching.apply(Record("ACME", sequence, 1000, account, request)))
        reports.send(sequence, send)
        reports.send(sequence, send)  # of nothing new
    assert sent == [
        codec.OpenOrders("ACME", 1, {}, True),
        codec.OpenOrders("ACME", 2, {"ann": 1}),
        codec.OpenOrders("ACME", 3, {"bob": 1}),
        codec.OpenOrders("ACME", 4, {"ann": 0, "cat": 0}),
        codec.OpenOrders("ACME", 5, {"cat": 0}),
    ]


class Reported:
    """The counts that an asset's reports have given, as the order handler comes to know them."""

    def __init__(self, matching: Matching) -> None:
        self.matching = matching
        self.reports = OpenOrderReports("ACME", matching.book.accounts)
        self.sequence = 0
        self.counts: dict[str, int] = {}
        self.complete = 0  # how many complete counts there were

    def apply(self, account: str, request: requests.Request) -> dict[str, int]:
        """Apply a request, and return what is reported after it."""
        return self.note(Record("ACME", self.sequence + 1, (self.sequence + 1) * 1000, account, request))

    def note(self, record: Record) -> dict[str, int]:
        self.sequence = record.sequence
        self.reports.note(self.matching.apply(record))
        told: dict[str, int] = {}

        def send(message: bytes) -> bool:
            control = codec.decode_control(message)
            assert isinstance(control, codec.OpenOrders)
            told.update(control.counts)
            self.complete += control.complete
            return True

        self.reports.send(record.sequence, send)
        self.counts |= told
        return told


def timed(order_id: int, side: requests.Side, price: int, until: int) -> requests.NewOrder:
    """Return an order for one that is good till a time, or (0) for the day."""
    instructions = requests.Instructions(expire_time=until) if until else None
    return requests.NewOrder(order_id, "x", side, 1, price, "limit", "gtd" if until else "day", instructions)


def test_of_what_the_exchange_ends_by_itself_only_the_owners_are_reported() -> None:
    reported = Reported(Matching())
    reported.apply("", requests.DefineAsset(Asset(asset="ACME")))
    for order_id, (account, until) in enumerate((("ann", 5000), ("bob", 90_000), ("cat", 0), ("dan", 0)), 1):
        reported.apply(account, timed(order_id, BUY, 90, until))
    reported.apply("eve", requests.NewOrder(5, "x", BUY, 1, 90))
    assert reported.apply("", requests.Expire()) == {"ann": 0}
    assert reported.apply("", requests.Expire(day=True)) == {"cat": 0, "dan": 0}
    assert reported.apply("", requests.Expire()) == {}
    assert reported.apply("", requests.ChangeStatus("call", "operator")) == {}
    reported.apply("fay", requests.NewOrder(6, "x", SELL, 1, 90))
    assert reported.apply("", requests.ChangeStatus("open", "operator")) == {"fay": 0, "bob": 0}
    assert reported.apply("", requests.Delist("olga")) == {"eve": 0}
    assert reported.complete == 1, "the first"


def test_stops_that_anybody_s_trade_elects_are_reported_for_their_owners() -> None:
    reported = Reported(Matching())
    reported.apply("", requests.DefineAsset(Asset(asset="ACME")))
    for order_id, account in enumerate(("ann", "bob"), 1):
        stop = requests.Instructions(stop_price=100)
        reported.apply(account, requests.NewOrder(order_id, "x", BUY, 1, 0, "stop", "gtc", stop))
    reported.apply("cat", requests.NewOrder(3, "x", SELL, 2, 100))
    told = reported.apply("dan", requests.NewOrder(4, "x", BUY, 1, 100))
    assert told == {"ann": 0, "bob": 0, "cat": 0, "dan": 0}, "one stop took what cat had left, the other nothing"
    assert reported.complete == 1


def test_a_report_that_could_not_be_sent_is_sent_later_and_is_of_the_same_accounts() -> None:
    reported = Reported(Matching())
    reported.apply("", requests.DefineAsset(Asset(asset="ACME")))
    reported.apply("ann", requests.NewOrder(1, "x", BUY, 1, 100))
    reported.reports.note(
        reported.matching.apply(Record("ACME", 3, 3000, "bob", requests.NewOrder(2, "x", BUY, 1, 100)))
    )
    reported.reports.send(3, lambda _: False)
    reported.sequence = 3
    assert reported.apply("cat", requests.NewOrder(3, "x", BUY, 1, 100)) == {"bob": 1, "cat": 1}
    assert reported.complete == 1


@pytest.mark.parametrize("profile", ["everything", "lonely", "stops", "sessions"])
def test_after_one_complete_count_what_is_reported_is_what_is_open_whatever_happens(profile: str) -> None:
    """Random requests of every kind: expiries, calls, delistings, cascades of stops, self-trades."""
    matching = Matching()
    reported = Reported(matching)
    told = 0
    for record in random_requests(7, PROFILES[profile], 3000):
        told += bool(reported.note(record))
        accounts = matching.book.accounts
        open_orders = {name: len(account.orders) for name, account in accounts.items() if account.orders}
        assert {name: count for name, count in reported.counts.items() if count} == open_orders, record
        assert len(reported.reports.owners) == sum(open_orders.values()), "nothing is remembered of what ended"
    assert told > 1000
    assert reported.complete == 1


def test_a_great_many_accounts_are_reported_in_parts_that_fit() -> None:
    matching = Matching(Asset(asset="ACME"))
    for number in range(1, 2 * MOST_COUNTS + 2):
        request = requests.NewOrder(number, "x", BUY, 1, 1)
        matching.apply(Record("ACME", number, 1000, f"{number:032}", request))
    sent: list[bytes] = []

    def send(message: bytes) -> bool:
        sent.append(message)
        return True

    OpenOrderReports("A" * 24, matching.book.accounts).send(2**63 - 1, send)
    controls = [codec.decode_control(message) for message in sent]
    assert [len(control.counts) for control in controls if isinstance(control, codec.OpenOrders)] == [5000, 5000, 1]
    assert [control.complete for control in controls if isinstance(control, codec.OpenOrders)] == [False, False, True]
    assert max(map(len, sent)) < 1024 * 1024 // 2
