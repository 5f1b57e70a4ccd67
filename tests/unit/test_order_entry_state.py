"""Order entry that is restored from a state, and the records after it, is as one that is restored from all records."""

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from msgspec import UNSET
from msgspec.structs import fields

from exchange.core import messages, order_entry_state, order_memory
from exchange.core.asset import Asset, ScheduledChange
from exchange.core.messages import AmendOrder, CancelAllAfter, CancelOrder, MassCancel, Session
from exchange.core.order_entry import OrderEntry
from exchange.core.order_entry_state import EntryState, StoredQueue, StoredTimes, UnusableState, restore, state_of
from exchange.core.order_memory import Account, AssetQueue
from exchange.core.request_checks import Rejection
from exchange.core.risk import RiskLimit, RiskLimits
from exchange.core.timers import AssetTimes, CallOver, CancelAllDue, ChangeDue, ExpireDue, SessionOver, Timers
from exchange.core.trading_status import TradingStatus
from exchange.pipeline import schedule
from tests.entry import ACME, BTC, Entry, new_order

SEED = random.SystemRandom().randrange(2**32)  # a new one each run; a failure prints it
SECOND = 10**9
SESSIONS = Asset(
    asset="DAY",
    schedule=(
        ScheduledChange("08:00", "call"),
        ScheduledChange("09:00", "open"),
        ScheduledChange("17:00", "closed"),
    ),
)
LIMITS = (RiskLimit(max_order_quantity=500), RiskLimit(account="bob", max_open_orders=40))
MONDAY = 1_700_438_400 * SECOND  # at midnight

# What an object has that is not in the state under its own name, and why not. Whoever adds something that order entry
# holds between two requests adds it to the state, or says here why it need not be there.
ELSEWHERE: dict[type, dict[str, str]] = {
    OrderEntry: {
        "journal": "given",
        "timers": "timers",
        "limits": "given; what they know is reported again",
        "has_room": "given",
        "clock": "given",
        "max_backlog": "given",
        "max_remembered_ids": "given",
        "records": "none between two requests",
        "handlers": "the class",
        "queues": "",
        "accounts": "",
        "exchange": "exchange_sequence",
        "time": "record_time",
        "first_recent": "older ones are in the journal",
        "recent_orders": "the journal",
        "room": "asked for again",
    },
    AssetQueue: {
        "number": "place",
        "name": "definition",
        "status": "recorded, until a report comes",
        "recorded": "status",
        "applied": "reported again",
        "listed": "the configuration says so again",
    },
    Account: {"number": "place", "assets": "accounts"},
    AssetTimes: {
        "listed": "list_asset",
        "known_times": "expire_times",
        "looked": "of one life",
        "call": "reported again",
    },
    Timers: {
        "calendar": "given",
        "assets": "",
        "sessions": "",
        "connections": "of one life",
        "alarms": "set by list_asset",
        "silences": "cancel_all; of the sessions set by start",
        "notes": "the class",
    },
    RiskLimits: {
        "_has_notional": "given",
        "_entries": "given",
        "_default": "given",
        "_by_asset": "given",
        "_by_account": "given",
        "_default_rate": "given",
        "_rates": "given",
        "_buckets": "lost by a restart",
        "_most_buckets": "lost by a restart",
        "_counted": "given",
        "_open": "reported again",
        "_first_known": "next_order_id",
        "_quantities": "an amend of an older order gives both",
        "_prices": "an amend of an older order gives both",
    },
}
IN_THE_STATE: dict[type, type[msgspec.Struct]] = {
    OrderEntry: EntryState,
    AssetQueue: StoredQueue,
    AssetTimes: StoredTimes,
}


class Venue(Entry):
    """Order entry with timers and limits, which does what is due; for a random day."""

    def __init__(self) -> None:
        self.timers = Timers(schedule)
        self.limits = RiskLimits(LIMITS)
        super().__init__(ACME, BTC, SESSIONS, timers=self.timers, limits=self.limits, max_remembered_ids=10**6)
        self.time = MONDAY + 7 * 3600 * SECOND
        self.started()

    def started(self) -> None:
        for name, queue in self.order_entry.queues.items():
            if queue.listed:
                self.timers.list_asset(name)
        self.timers.start(self.time)
        for name, queue in self.order_entry.queues.items():
            self.limits.note_open(name, queue.sequence, {}, True)
        self.do_what_is_due()

    def do_what_is_due(self) -> list[object]:
        """Carry out what is due, as the order handler does; return it."""
        done: list[object] = []
        while (act := self.timers.take(self.time) or self.timers.take_silent(self.time)) is not None:
            done.append(act)
            entry = self.order_entry
            if isinstance(act, ExpireDue):
                entry.expire(act.asset, act.day)
            elif isinstance(act, ChangeDue):
                entry.change_status(act.asset, act.status, "schedule", scheduled_time=act.scheduled_time)
            elif isinstance(act, CallOver):
                entry.change_status(act.asset, "open", "call_ended", call=act.call)
            elif isinstance(act, SessionOver):
                entry.cancel_account(act.account, None, "disconnected")
                entry.end_session(act.account, act.interval_ms)
            else:
                assert isinstance(act, CancelAllDue)
                entry.cancel_account(act.account, None, "disconnected")
                entry.disarm(act.account)
            self.write()
        return done

    def again(self, records: int = 0, data: bytes | None = None) -> "Venue":
        """Return a venue as it is after a restart: from the records, or from a state and the records after it."""
        other = Venue.__new__(Venue)
        other.time, other._room, other.journal = self.time, self.room, list(self.journal)
        other.timers, other.limits = Timers(schedule), RiskLimits(LIMITS)
        other.order_entry = OrderEntry(
            other, lambda count: True, lambda: other.time, 1000, 10**6, other.timers, other.limits
        )
        if data is not None:
            restore(other.order_entry, data)
        for record in self.journal[records:]:
            other.order_entry.restore(record)
        return other

    def list_assets(self) -> None:
        """Have what the configuration lists, which is what is listed here."""
        for name, queue in self.order_entry.queues.items():
            if not queue.delisted:
                assert not self.define(queue.definition), name


def random_act(venue: Venue, source: random.Random, number: int) -> object:
    """Do something, right or wrong; return what came of it."""
    entry = venue.order_entry
    account, asset = source.choice(("ann", "bob", "eve")), source.choice(("ACME", "BTC-USD", "DAY"))
    request_id = source.choice((UNSET, f"r{source.randint(1, 30)}", source.randint(1, 30)))
    order_id = source.randint(1, entry.next_order_id)
    client_order_id = f"c{source.randint(1, number + 5)}"
    until = venue.time + source.randint(1, 7200) * SECOND

    def operator(act: Callable[[], Any]) -> object:
        try:
            act()
        except (Rejection, ValueError) as error:
            return str(error)
        finally:
            venue.write()
        return None

    makers: list[tuple[int, Callable[[], object]]] = [
        (8, lambda: new_order(client_order_id, account=account, asset=asset, price=source.choice((100, 105)))),
        (2, lambda: new_order(client_order_id, account=account, asset=asset, time_in_force="gtd", expire_time=until)),
        (1, lambda: new_order(client_order_id, account=account, asset=asset, time_in_force="day")),
        (2, lambda: AmendOrder(asset=asset, order_id=order_id, quantity=10, account=account, request_id=request_id)),
        (2, lambda: CancelOrder(asset=asset, order_id=order_id, account=account, request_id=request_id)),
        (2, lambda: CancelOrder(asset=asset, client_order_id=client_order_id, account=account)),
        (1, lambda: MassCancel(asset=source.choice((UNSET, asset)), account=account, request_id=request_id)),
        (
            1,
            lambda: Session(
                account=account,
                heartbeat_interval_ms=source.randint(10, 10_000_000),
                cancel_on_disconnect=source.random() < 0.8,
            ),
        ),
        (1, lambda: CancelAllAfter(account=account, timeout_ms=source.choice((0, 10, 5_000_000)))),
    ]
    operators: list[Callable[[], object]] = [
        lambda: entry.change_status(asset, source.choice(("open", "closed", "call", "halted")), "operator", by="root"),
        lambda: entry.delist(asset, "root"),
        lambda: entry.define(source.choice((ACME, BTC, SESSIONS)), "root"),
        lambda: entry.define(Asset(asset="DAY", schedule=source.choice((SESSIONS.schedule, ()))), "root"),
        lambda: entry.cancel_account(account, None, "operator", "root"),
    ]
    if source.random() < 0.08:
        result = operator(source.choice(operators))
        for name, queue in entry.queues.items():
            if queue.listed:
                venue.timers.list_asset(name)
        return result
    message = source.choices([maker for _, maker in makers], [weight for weight, _ in makers])[0]()
    assert isinstance(message, messages.OrderEntryRequest)
    return venue.handle(message)


@pytest.mark.parametrize("number", range(12))
def test_a_state_and_the_records_after_it_are_worth_all_records(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_memory, "RECENT_ORDERS", 8)
    source = random.Random(SEED + number)
    print(f"seed {SEED + number}")
    venue = Venue()
    steps, place = 400, source.randrange(400)
    taken: tuple[int, bytes] = (0, b"")
    for step in range(steps):
        venue.time += source.choice((0, 1, SECOND, 600 * SECOND))
        venue.do_what_is_due()
        random_act(venue, source, step)
        if step == place:
            taken = len(venue.journal), state_of(venue.order_entry)
    data = state_of(venue.order_entry)
    assert len(venue.order_entry.recent_orders) < 16

    whole = venue.again()
    parts = [venue.again(*taken), venue.again(len(venue.journal), data)]
    for part in parts:
        assert state_of(part.order_entry) == data == state_of(whole.order_entry)
    every = [whole, *parts]
    for each in every:
        each.time += 3 * 3600 * SECOND
        each.list_assets()
    assert [each.journal for each in parts] == [whole.journal] * 2
    for each in every:
        each.started()
    what_comes = random.Random(SEED + number).getrandbits(64)
    histories = []
    for each in every:
        source = random.Random(what_comes)
        history: list[object] = []
        for step in range(150):
            each.time += source.choice((0, 1, SECOND, 1800 * SECOND))
            history.append(each.do_what_is_due())
            history.append(random_act(each, source, steps + step))
        histories.append(history)
    assert histories[1:] == [histories[0]] * 2
    assert [state_of(each.order_entry) for each in parts] == [state_of(whole.order_entry)] * 2


def test_what_matching_daemons_have_reported_is_not_in_the_state() -> None:
    entry = Entry()
    before = state_of(entry.order_entry)
    entry.order_entry.note_status("ACME", 1, "call", 1, 5)
    entry.order_entry.note_applied("ACME", 1)
    assert state_of(entry.order_entry) == before


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x90", b"\x91\x01", b"\x91\x02", b"\x91\xa1a"])
def test_a_state_that_is_not_understood_changes_nothing(data: bytes) -> None:
    entry = Venue().again(0).order_entry
    other = OrderEntry(entry.journal, lambda count: True, lambda: 0, 1, 1, Timers(schedule))
    with pytest.raises(UnusableState):
        restore(other, data)
    assert not other.queues
    restore(other, state_of(entry))
    assert list(other.queues) == ["ACME", "BTC-USD", "DAY"]


def test_a_newer_state_is_not_understood() -> None:
    decoded = msgspec.msgpack.decode(state_of(Entry().order_entry))
    decoded[0] = order_entry_state.VERSION + 1
    with pytest.raises(UnusableState, match=f"version {decoded[0]}, and this program reads version"):
        restore(Venue().again(10**6).order_entry, msgspec.msgpack.encode(decoded))


def test_an_order_from_before_a_state_is_amended_with_quantity_and_price_where_its_notional_is_limited() -> None:
    live = Entry()
    live.ack(new_order("a"))
    other = Entry()
    other.journal = list(live.journal)
    limits = RiskLimits([RiskLimit(max_order_notional=4000)])
    other.order_entry = OrderEntry(other, lambda count: True, lambda: 2000, 100, 100, None, limits)
    restore(other.order_entry, state_of(live.order_entry))
    other.define(ACME)
    changes: list[dict[str, Any]] = [{"quantity": 10}, {"price": 50}]
    for change in changes:
        assert other.reject(AmendOrder(asset="ACME", order_id=1, account="ann", **change)) == (
            "risk_limit",
            "max_order_notional 4000: order 1 is too old for its quantity and price to be known here; give both",
        )
    other.ack(AmendOrder(asset="ACME", order_id=1, account="ann", quantity=10, price=50))
    assert other.reject(AmendOrder(asset="ACME", order_id=1, account="ann", quantity=50, price=100))[0] == "risk_limit"
    other.ack(new_order("b"))
    other.ack(AmendOrder(asset="ACME", order_id=2, account="ann", quantity=30))


def test_how_many_orders_are_open_is_known_again_from_a_report_that_is_no_older_than_the_state() -> None:
    limits = RiskLimits([RiskLimit(account="ann", max_open_orders=1)])
    live = Entry(limits=limits)
    limits.note_open("ACME", 1, {}, True)
    live.ack(new_order("a"))
    restored = RiskLimits([RiskLimit(account="ann", max_open_orders=1)])
    other = Entry()
    other.journal = list(live.journal)
    other.order_entry = OrderEntry(other, lambda count: True, lambda: 2000, 100, 100, None, restored)
    restore(other.order_entry, state_of(live.order_entry))
    other.define(ACME)
    assert other.reject(new_order("b"))[0] == "busy"
    restored.note_open("ACME", 1, {}, True)  # before the first order, which the state says was taken
    assert other.reject(new_order("b"))[0] == "busy"
    restored.note_open("ACME", 2, {"ann": 1}, True)
    assert other.reject(new_order("b"))[0] == "risk_limit"


@pytest.mark.parametrize("kind", ELSEWHERE)
def test_all_that_order_entry_holds_is_in_its_state(kind: type) -> None:
    venue = Venue()
    venue.ack(new_order("a"))
    entry, timers = venue.order_entry, venue.timers
    instances = [
        entry,
        entry.queues["ACME"],
        entry.accounts["ann"],
        timers,
        timers.assets["ACME"],
        venue.limits,
    ]
    instance = next(each for each in instances if type(each) is kind)
    names = {field.name for field in fields(kind)} if issubclass(kind, msgspec.Struct) else set(vars(instance))
    stored = {field.name for field in fields(IN_THE_STATE[kind])} if kind in IN_THE_STATE else set()
    assert names - stored <= set(ELSEWHERE[kind]), "new: add it to the state, or say above why it need not be there"
    assert set(ELSEWHERE[kind]) <= names, "gone"
    assert {field.name for field in fields(TradingStatus)} == {
        field.name for field in fields(order_entry_state.StoredStatus)
    }
