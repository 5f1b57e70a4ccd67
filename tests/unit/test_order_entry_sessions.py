"""Order entry: sessions, the dead man's timer, pings, and who else is told of what is taken."""

from typing import Any

import pytest
from msgspec import UNSET

from exchange.core import messages, requests
from exchange.core.messages import Ack, AmendOrder, CancelAllAfter, CancelOrder, MassCancel, Ping, Pong, Session
from exchange.core.request_checks import Rejection
from exchange.core.requests import EXCHANGE, Record
from exchange.core.risk import RiskLimit, RiskLimits
from tests.entry import ACME, Entry, new_order

# -- the exchange's own queue ------------------------------------------------------------------------------------------


def test_a_session_is_acknowledged_and_recorded_in_the_exchanges_own_queue() -> None:
    entry = Entry()
    session = Session(account="ann", heartbeat_interval_ms=500, cancel_on_disconnect=True, request_id="s")
    assert entry.handle(session) == Ack(request="session", time=1000, request_id="s")
    assert entry.handle(Session(account="ann", heartbeat_interval_ms=10)) == Ack(request="session", time=1000)
    assert entry.journal[-2:] == [
        Record(EXCHANGE, 1, 1000, "ann", requests.SetSession(500, True, "s")),
        Record(EXCHANGE, 2, 1000, "ann", requests.SetSession(10, False)),
    ]


def test_a_cancel_all_after_is_acknowledged_and_each_is_a_new_one() -> None:
    entry = Entry()
    request = CancelAllAfter(account="ann", timeout_ms=60_000, request_id=1)
    assert entry.handle(request) == Ack(request="cancel_all_after", time=1000, request_id=1)
    entry.time = 2000
    assert entry.handle(request) == Ack(request="cancel_all_after", time=2000, request_id=1), (
        "it renews, and is no retry"
    )
    assert entry.handle(CancelAllAfter(account="ann", timeout_ms=0)) == Ack(request="cancel_all_after", time=2000)
    assert entry.journal[-3:] == [
        Record(EXCHANGE, 1, 1000, "ann", requests.CancelAllAfter(60_000, 1)),
        Record(EXCHANGE, 2, 2000, "ann", requests.CancelAllAfter(60_000, 1)),
        Record(EXCHANGE, 3, 2000, "ann", requests.CancelAllAfter(0)),
    ]


def test_the_exchanges_own_queue_is_no_asset_and_goes_on_after_a_restart() -> None:
    entry = Entry()
    entry.ack(Session(account="ann", heartbeat_interval_ms=500))
    restored = entry.restored()
    assert list(restored.order_entry.queues) == ["ACME", "BTC-USD"]
    restored.ack(CancelAllAfter(account="ann", timeout_ms=500))
    assert restored.journal[-1].sequence == 2
    assert restored.reject(new_order(asset=EXCHANGE)) == (
        "unknown_asset",
        "asset '': not traded here; there are ACME, BTC-USD",
    )
    assert restored.ack(MassCancel(account="ann")).sequences == {"ACME": 2, "BTC-USD": 2}


def test_the_exchanges_own_queue_has_no_backlog() -> None:
    entry = Entry(max_backlog=1)
    for _ in range(3):
        entry.ack(CancelAllAfter(account="ann", timeout_ms=500))


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (Session(heartbeat_interval_ms=500), "account: is missing"),
        (Session(account="Ann", heartbeat_interval_ms=500), "account 'Ann': must be 1 to 32 characters"),
        (Session(account="ann", heartbeat_interval_ms=9), "heartbeat_interval_ms 9: must be 10 to 86400000 millisec"),
        (Session(account="ann", heartbeat_interval_ms=0), "heartbeat_interval_ms 0: must be 10 to 86400000 millisec"),
        (Session(account="ann", heartbeat_interval_ms=86_400_001), "must be 10 to 86400000 milliseconds"),
        (Session(account="ann", heartbeat_interval_ms=500, request_id=""), "request_id '': must be 1 to 36 printable"),
        (CancelAllAfter(timeout_ms=500), "account: is missing"),
        (CancelAllAfter(account="ann", timeout_ms=-1), "timeout_ms -1: must be 0, which disarms, or 10 to 86400000"),
        (CancelAllAfter(account="ann", timeout_ms=9), "timeout_ms 9: must be 0, which disarms, or 10 to 86400000"),
        (CancelAllAfter(account="ann", timeout_ms=86_400_001), "timeout_ms 86400001: must be 0, which disarms, or 10"),
    ],
)
def test_a_mistake_is_rejected_with_the_value_and_the_rule(message: messages.OrderEntryRequest, text: str) -> None:
    reason, found = Entry().reject(message)
    assert reason == "malformed"
    assert text in found


def test_accounts_that_only_have_sessions_are_bounded_too() -> None:
    entry = Entry(max_remembered_ids=2)
    entry.ack(Session(account="ann", heartbeat_interval_ms=500))
    entry.ack(CancelAllAfter(account="bob", timeout_ms=500))
    for each in (entry, entry.restored()):
        assert each.reject(Session(account="eve", heartbeat_interval_ms=500))[0] == "busy"
        each.ack(Session(account="ann", heartbeat_interval_ms=600))
        each.ack(CancelAllAfter(account="ann", timeout_ms=600))


def test_a_full_disk_is_busy_for_them_too() -> None:
    entry = Entry()
    entry.room = 0
    assert entry.reject(CancelAllAfter(account="ann", timeout_ms=500))[0] == "busy"


# -- who is told -------------------------------------------------------------------------------------------------------


class Told:
    """Timers that write down what they are told."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.accounts: list[tuple[str, int]] = []

    def note(self, record: Record) -> None:
        self.records.append(record)

    def heard(self, account: str, time: int) -> None:
        self.accounts.append((account, time))


def test_the_timers_are_told_of_every_record_taken_or_restored() -> None:
    live, restored = Told(), Told()
    entry = Entry(timers=live)
    entry.ack(new_order("a"))
    entry.ack(CancelOrder(asset="ACME", order_id=1, account="ann"))
    entry.ack(MassCancel(account="ann"))
    entry.ack(Session(account="ann", heartbeat_interval_ms=500))
    entry.change_status("ACME", "halted")
    entry.reject(new_order("b"))
    entry.ack(new_order("a"))
    assert live.records == entry.journal
    entry.restored(timers=restored)
    assert restored.records == entry.journal


def test_a_ping_that_names_an_account_is_a_sign_of_its_life() -> None:
    told = Told()
    entry = Entry(timers=told)
    assert entry.handle(Ping()) == Pong(time=1000)
    entry.time = 2000
    assert entry.handle(Ping(account="ann", request_id=3)) == Pong(time=2000, request_id=3)
    assert entry.reject(Ping(account="Ann"))[0] == "malformed"
    assert told.accounts == [("ann", 2000)]
    assert Entry().handle(Ping(account="ann")) == Pong(time=1000)


class Strict:
    """Limits that write down what they are asked and told, and refuse where they are set to."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.told: list[tuple[object, ...]] = []
        self.too_fast = self.too_large = False

    def check_rate(self, account: str, time: int, cancels: bool) -> None:
        self.asked.append((account, time, "cancels" if cancels else "enters"))
        if self.too_fast and not cancels:
            raise Rejection("rate_limited", "too fast")

    def check_order(self, account: str, asset: str, quantity: int, price: int) -> None:
        self.asked.append((account, asset, quantity, price, "new"))
        if self.too_large:
            raise Rejection("risk_limit", "too large")

    def check_amend(self, account: str, asset: str, order_id: int, quantity: int | None, price: int | None) -> None:
        self.asked.append((account, asset, order_id, quantity, price, "amend"))
        if self.too_large:
            raise Rejection("risk_limit", "too large")

    def took_order(self, account: str, asset: str, sequence: int, quantity: int, price: int) -> None:
        self.told.append((account, asset, sequence, quantity, price))

    def took_amend(self, order_id: int, quantity: int | None, price: int | None) -> None:
        self.told.append((order_id, quantity, price))


def test_the_limits_are_asked_before_an_order_is_taken_and_told_after() -> None:
    limits = Strict()
    entry = Entry(ACME, limits=limits)
    entry.ack(new_order("a"))
    entry.ack(new_order("b", order_type="market", price=UNSET))
    entry.ack(AmendOrder(asset="ACME", order_id=1, price=105, account="ann"))
    entry.ack(CancelOrder(asset="ACME", order_id=1, account="ann"))
    entry.ack(MassCancel(account="bob"))
    entry.ack(Session(account="ann", heartbeat_interval_ms=500))
    entry.ack(CancelAllAfter(account="ann", timeout_ms=500))
    assert limits.asked == [
        ("ann", 1000, "enters"),
        ("ann", "ACME", 20, 100, "new"),
        ("ann", 1000, "enters"),
        ("ann", "ACME", 20, 0, "new"),
        ("ann", 1000, "enters"),
        ("ann", "ACME", 1, None, 105, "amend"),
        ("ann", 1000, "cancels"),
        ("bob", 1000, "cancels"),
        ("ann", 1000, "enters"),
        ("ann", 1000, "cancels"),
    ]
    assert limits.told == [("ann", "ACME", 2, 20, 100), ("ann", "ACME", 3, 20, 0), (1, None, 105)]
    after = Strict()
    entry.restored(limits=after)
    assert after.told == limits.told
    assert after.asked == []


def test_an_order_beyond_a_limit_is_rejected_and_one_that_was_taken_is_known_still() -> None:
    limits = Strict()
    entry = Entry(limits=limits)
    entry.ack(new_order("a"))
    limits.too_large = True
    assert entry.reject(new_order("b")) == ("risk_limit", "too large")
    assert entry.reject(AmendOrder(asset="ACME", order_id=1, price=105, account="ann")) == ("risk_limit", "too large")
    assert entry.reject(new_order("b", price=101))[0] == "invalid_price", "before the limits"
    assert entry.ack(new_order("a")).duplicate
    assert len(limits.told) == 1


def test_what_an_amend_leaves_out_is_known_to_the_limits_also_after_a_restart() -> None:
    def limits() -> RiskLimits:
        return RiskLimits([RiskLimit(account="ann", max_order_notional=4000)])

    def amend(order_id: int, **changes: Any) -> AmendOrder:
        return AmendOrder(asset="ACME", order_id=order_id, account="ann", **changes)

    def judge(entry: Entry) -> None:
        assert entry.reject(amend(2, price=205))[0] == "risk_limit", "its 20"
        assert entry.reject(amend(2, quantity=50))[0] == "risk_limit", "at 100"
        entry.ack(amend(2, quantity=10))
        entry.ack(amend(2, price=150))
        assert entry.reject(amend(2, quantity=30))[0] == "risk_limit", "at 150 by now"
        assert entry.reject(amend(3, price=205))[0] == "risk_limit", "the limit price of a stop"
        entry.ack(amend(3, stop_price=300))
        entry.ack(amend(4, quantity=1000))  # a stop has no price

    entry = Entry(limits=limits())
    entry.ack(new_order("of another", account="bob", quantity=1000))
    entry.ack(new_order("limit"))
    entry.ack(new_order("stop limit", order_type="stop_limit", stop_price=100))
    entry.ack(new_order("stop", order_type="stop", price=UNSET, stop_price=100))
    judge(entry.restored(limits=limits()))
    judge(entry)
    again = entry.restored(limits=limits())
    assert again.reject(amend(2, quantity=30))[0] == "risk_limit", "amends are restored too"
    again.ack(AmendOrder(asset="ACME", order_id=1, price=1000, account="bob"))


def test_a_repeated_amend_is_acknowledged_whatever_the_limits_say_by_now() -> None:
    entry = Entry(limits=RiskLimits([RiskLimit(max_order_notional=2000)]))
    entry.ack(new_order())
    first = AmendOrder(asset="ACME", order_id=1, quantity=10, request_id=1, account="ann")
    entry.ack(first)
    entry.ack(AmendOrder(asset="ACME", order_id=1, quantity=10, price=200, account="ann"))
    assert entry.ack(first).duplicate


def test_too_many_requests_are_rejected_whatever_they_say_but_for_cancels() -> None:
    limits = Strict()
    entry = Entry(limits=limits)
    entry.ack(new_order("a"))
    limits.too_fast = True
    assert entry.reject(new_order("a")) == ("rate_limited", "too fast"), "a repeat is a request too"
    assert entry.reject(new_order("b", price=101))[0] == "rate_limited"
    assert entry.reject(AmendOrder(asset="NONE", order_id=1, price=105, account="ann"))[0] == "rate_limited"
    assert entry.reject(new_order("b", account="Ann"))[0] == "malformed", "no account, no rate"
    entry.ack(CancelOrder(asset="ACME", order_id=1, account="ann"))
    entry.ack(MassCancel(account="ann"))
