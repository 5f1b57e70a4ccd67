"""What falls due when: expiries, the schedule, calls, silence; and that a restart neither forgets nor repeats any."""

import random
import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from exchange.core.asset import Asset, ScheduledChange, Status
from exchange.core.requests import (
    EXCHANGE,
    CancelAllAfter,
    CancelOrder,
    ChangeStatus,
    DefineAsset,
    Delist,
    Expire,
    Instructions,
    NewOrder,
    Record,
    Request,
    SetSession,
)
from exchange.core.timers import (
    MOST_LOOKS,
    Act,
    Alarms,
    CallOver,
    CancelAllDue,
    ChangeDue,
    ExpireDue,
    SessionOver,
    Timers,
)
from exchange.pipeline import schedule

SECOND = 10**9
HOUR = 3600 * SECOND
DAY = 24 * HOUR
MONDAY = 20_514 * DAY  # 2026-03-02
ACME = Asset(asset="ACME")
DAILY = (ScheduledChange("08:00", "call"), ScheduledChange("09:00", "open"), ScheduledChange("17:00", "closed"))
SHARES = Asset(asset="SHARES", schedule=DAILY)


@dataclass
class Desk:
    """Timers, and the journal that they were told of; `run` does what is due, as the order handler would."""

    time: int = MONDAY
    journal: list[Record] = field(default_factory=list)
    timers: Timers = field(default_factory=lambda: Timers(schedule))
    orders: int = 0

    def take(self, asset: str, request: Request, account: str = "") -> Record:
        sequence = 1 + sum(record.asset == asset for record in self.journal)
        record = Record(asset, sequence, self.time, account, request)
        self.journal.append(record)
        self.timers.note(record)
        return record

    def define(self, asset: Asset) -> None:
        self.take(asset.asset, DefineAsset(asset))
        self.timers.list_asset(asset.asset)

    def order(self, time_in_force: Any, expire_time: int = 0, asset: str = "ACME") -> None:
        self.orders += 1
        instructions = Instructions(expire_time=expire_time) if expire_time else None
        order = NewOrder(self.orders, str(self.orders), 1, 10, 100, "limit", time_in_force, instructions)
        self.take(asset, order, "ann")

    def session(self, account: str = "ann", interval_ms: int = 1000, cancel: bool = True) -> None:
        self.take(EXCHANGE, SetSession(interval_ms, cancel), account)

    def dead_man(self, timeout_ms: int, account: str = "ann") -> None:
        self.take(EXCHANGE, CancelAllAfter(timeout_ms), account)

    def due(self, at: int) -> list[Act]:
        """Return what is due at a time, all of it taken into the journal."""
        self.time = max(self.time, at)
        acts: list[Act] = []
        while (act := self.timers.take(self.time) or self.timers.take_silent(self.time)) is not None:
            acts.append(act)
            self.carry_out(act)
        return acts

    def carry_out(self, act: Act) -> None:
        if isinstance(act, ExpireDue):
            self.take(act.asset, Expire(act.day))
        elif isinstance(act, ChangeDue):
            ends_day = act.status == "closed"
            self.take(act.asset, ChangeStatus(act.status, "schedule", 0, ends_day, "", act.scheduled_time))
        elif isinstance(act, CallOver):
            self.take(act.asset, ChangeStatus("open", "call_ended", act.call))
        elif isinstance(act, SessionOver):
            self.session(act.account, act.interval_ms, cancel=False)
        else:
            self.dead_man(0, act.account)

    def run(self, until: int) -> list[tuple[int, Act]]:
        """Do what is due up to a time, each when it is due, and return it with the times."""
        done: list[tuple[int, Act]] = []
        while (next_due := self.timers.next_due()) is not None and next_due <= until:
            acts = self.due(next_due)
            done.extend((self.time, act) for act in acts)
        self.time = until
        return done

    def restarted(self, at: int) -> "Desk":
        """Return what a restart makes of the journal."""
        other = Desk(at, list(self.journal), orders=self.orders)
        for record in self.journal:
            other.timers.note(record)
        for asset, times in self.timers.assets.items():
            if times.listed:
                other.timers.list_asset(asset)
        other.timers.start(at)
        return other


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.define(ACME)
    return desk


# -- alarms ------------------------------------------------------------------------------------------------------------


def test_alarms_come_in_the_order_of_time_whatever_is_moved_and_cleared() -> None:
    seed = random.SystemRandom().randrange(2**32)
    random_ = random.Random(seed)
    alarms, wanted = Alarms(), dict[tuple[int, str], int]()
    for step in range(20_000):
        key = (random_.randrange(3), random_.choice("abcdefgh"))
        if random_.random() < 0.7:
            time = random_.randrange(1000)
            alarms.set(key, time)
            wanted[key] = time
        elif random_.random() < 0.5:
            alarms.clear(key)
            wanted.pop(key, None)
        if random_.random() < 0.3:
            expected = min(wanted.values(), default=None)
            first = alarms.first()
            assert (None if first is None else first[0]) == expected, f"seed {seed}, step {step}"
            assert first is None or wanted[first[1]] == first[0], f"seed {seed}, step {step}"
        assert len(alarms.heap) <= 2 * 24 + 64 + 1, f"seed {seed}, step {step}"


# -- expiries ----------------------------------------------------------------------------------------------------------


def test_without_anything_due_nobody_is_woken(desk: Desk) -> None:
    desk.order("gtc")
    desk.take("ACME", CancelOrder(1), "ann")
    assert desk.timers.next_due() is None
    assert desk.timers.take(desk.time) is None
    assert desk.timers.take_silent(desk.time) is None


def test_orders_that_expire_at_one_time_take_one_request(desk: Desk) -> None:
    for at in (30, 10, 10, 20):
        desk.order("gtd", MONDAY + at)
    assert desk.timers.next_due() == MONDAY + 10
    assert desk.run(MONDAY + 100) == [(MONDAY + at, ExpireDue("ACME", day=False)) for at in (10, 20, 30)]
    assert desk.timers.next_due() is None


def test_expiries_that_were_missed_take_one_request_together(desk: Desk) -> None:
    for at in (10, 20, 200):
        desk.order("gtd", MONDAY + at)
    later = desk.restarted(MONDAY + 100)
    assert later.due(MONDAY + 100) == [ExpireDue("ACME", day=False)]
    assert later.timers.next_due() == MONDAY + 200
    again = later.restarted(MONDAY + 101)
    assert again.due(MONDAY + 101) == []
    assert again.timers.next_due() == MONDAY + 200


def test_day_orders_expire_at_the_day_roll_once(desk: Desk) -> None:
    desk.time = MONDAY + HOUR
    desk.order("day")
    desk.order("day")
    roll = MONDAY + DAY
    assert desk.run(MONDAY + 3 * DAY) == [(roll, ExpireDue("ACME", day=True))]
    desk.order("day")
    assert desk.timers.next_due() == MONDAY + 4 * DAY


def test_a_day_roll_that_was_missed_is_made_up_for_at_the_start(desk: Desk) -> None:
    desk.order("day")
    later = desk.restarted(MONDAY + 3 * DAY + HOUR)
    assert later.due(later.time) == [ExpireDue("ACME", day=True)]
    assert later.timers.next_due() is None
    assert later.restarted(later.time).timers.next_due() is None


def test_day_orders_of_an_asset_with_sessions_end_with_the_session(desk: Desk) -> None:
    desk.define(SHARES)
    desk.run(MONDAY + 10 * HOUR)
    desk.order("day", asset="SHARES")
    kinds = {type(act) for _, act in desk.run(MONDAY + 3 * DAY)}
    assert kinds == {ChangeDue}
    assert desk.timers.assets["SHARES"].day_since == 0


def test_an_asset_that_is_off_the_list_has_no_timers(desk: Desk) -> None:
    desk.order("day")
    desk.order("gtd", MONDAY + 10)
    off = Desk(MONDAY + DAY, list(desk.journal))
    for record in desk.journal:
        off.timers.note(record)
    off.timers.start(off.time)
    assert off.timers.next_due() is None
    off.timers.list_asset("ACME")
    assert off.due(off.time) == [ExpireDue("ACME", day=False), ExpireDue("ACME", day=True)]


def test_what_is_delisted_has_nothing_left_to_expire(desk: Desk) -> None:
    desk.order("day")
    desk.order("gtd", MONDAY + 10)
    desk.take("ACME", Delist("olga"))
    assert desk.timers.next_due() is None
    desk.define(ACME)
    assert desk.timers.next_due() is None


# -- the schedule ------------------------------------------------------------------------------------------------------


def changes(done: list[tuple[int, Act]]) -> list[tuple[int, Status]]:
    return [(at, act.status) for at, act in done if isinstance(act, ChangeDue)]


def test_a_new_asset_takes_the_status_of_its_schedule_and_follows_it() -> None:
    desk = Desk(MONDAY + 10 * HOUR)
    desk.define(SHARES)
    assert desk.due(desk.time) == [ChangeDue("SHARES", "open", MONDAY + 9 * HOUR)]
    next_day = MONDAY + DAY
    assert changes(desk.run(next_day + 9 * HOUR)) == [
        (MONDAY + 17 * HOUR, "closed"),
        (next_day + 8 * HOUR, "call"),
        (next_day + 9 * HOUR, "open"),
    ]


def test_changes_that_were_missed_are_made_from_the_last_close_on() -> None:
    desk = Desk(MONDAY + 10 * HOUR)
    desk.define(SHARES)
    desk.due(desk.time)
    later = desk.restarted(MONDAY + 5 * DAY + 8 * HOUR + 1)
    closed, call = MONDAY + 4 * DAY + 17 * HOUR, MONDAY + 5 * DAY + 8 * HOUR
    assert later.due(later.time) == [ChangeDue("SHARES", "closed", closed), ChangeDue("SHARES", "call", call)]
    assert later.restarted(later.time).due(later.time) == []


def test_changes_that_were_missed_without_a_close_are_all_made() -> None:
    desk = Desk(MONDAY + 7 * HOUR)
    desk.define(SHARES)
    desk.due(desk.time)
    later = desk.restarted(MONDAY + 12 * HOUR)
    assert [act.status for act in later.due(later.time) if isinstance(act, ChangeDue)] == ["call", "open"]


def test_an_asset_that_loses_its_schedule_is_opened() -> None:
    desk = Desk(MONDAY + 20 * HOUR)
    desk.define(SHARES)
    assert desk.due(desk.time) == [ChangeDue("SHARES", "closed", MONDAY + 17 * HOUR)]
    desk.define(Asset(asset="SHARES"))
    assert desk.due(desk.time) == [ChangeDue("SHARES", "open", 0)]
    assert desk.timers.next_due() is None
    assert desk.restarted(desk.time).due(desk.time) == []


def test_an_asset_that_was_closed_by_hand_stays_so_without_its_schedule() -> None:
    desk = Desk(MONDAY + 10 * HOUR)
    desk.define(SHARES)
    desk.due(desk.time)
    desk.take("SHARES", ChangeStatus("closed", "operator", by="olga", ends_day=True))
    desk.define(Asset(asset="SHARES"))
    assert desk.due(desk.time) == []


def test_another_schedule_holds_at_once() -> None:
    desk = Desk(MONDAY + 10 * HOUR)
    desk.define(SHARES)
    desk.due(desk.time)
    short = (ScheduledChange("08:00", "open"), ScheduledChange("09:30", "closed"))
    desk.time += 1
    desk.define(Asset(asset="SHARES", schedule=short))
    assert desk.due(desk.time) == [ChangeDue("SHARES", "closed", MONDAY + 9 * HOUR + HOUR // 2)]
    assert desk.restarted(desk.time).due(desk.time) == []
    desk.define(Asset(asset="SHARES", schedule=short, max_quantity=100))
    assert desk.due(desk.time) == [], "the schedule is the same"


def test_what_an_operator_halted_is_left_alone_by_another_schedule_and_a_restart() -> None:
    desk = Desk(MONDAY + 10 * HOUR)
    desk.define(SHARES)
    desk.due(desk.time)
    desk.time += HOUR
    desk.take("SHARES", ChangeStatus("halted", "operator", by="olga"))
    desk.define(Asset(asset="SHARES", schedule=(*DAILY, ScheduledChange("18:00", "open"))))
    assert desk.due(desk.time) == []
    assert desk.restarted(desk.time + 1).due(desk.time + 1) == []
    assert desk.timers.next_due() == MONDAY + 17 * HOUR


def test_a_delisted_asset_rests_until_it_is_defined_anew() -> None:
    desk = Desk(MONDAY + 10 * HOUR)
    desk.define(SHARES)
    desk.due(desk.time)
    desk.take("SHARES", Delist("olga"))
    assert desk.run(MONDAY + 2 * DAY) == []
    desk.time += 10 * HOUR
    desk.define(SHARES)
    assert desk.due(desk.time) == [ChangeDue("SHARES", "open", MONDAY + 2 * DAY + 9 * HOUR)]


# -- calls that end by themselves --------------------------------------------------------------------------------------


def test_a_call_ends_once_however_often_it_is_reported(desk: Desk) -> None:
    ends = desk.time + 120 * SECOND
    for _ in range(3):
        desk.timers.note_call("ACME", 7, ends)
    assert desk.run(ends) == [(ends, CallOver("ACME", 7))]
    desk.timers.note_call("ACME", 7, ends)
    later = desk.restarted(ends)
    later.timers.note_call("ACME", 7, ends)
    assert desk.timers.next_due() is later.timers.next_due() is None


def test_a_call_that_is_over_before_is_not_ended_again(desk: Desk) -> None:
    ends = desk.time + 120 * SECOND
    desk.timers.note_call("ACME", 7, ends)
    desk.timers.note_call("ACME", 0, 0)
    assert desk.timers.next_due() is None
    desk.timers.note_call("ACME", 9, ends + 1)
    assert desk.timers.next_due() == ends + 1
    desk.timers.note_call("ACME", 11, 0)  # another began, by hand: it has no end
    assert desk.timers.next_due() is None


# -- sessions ----------------------------------------------------------------------------------------------------------


def test_a_session_that_is_silent_ends_once(desk: Desk) -> None:
    desk.session()
    assert desk.run(MONDAY + DAY) == [(MONDAY + SECOND, SessionOver("ann", 1000))]
    assert not desk.timers.sessions
    assert desk.restarted(desk.time).timers.next_due() is None


def test_a_session_lives_by_frames_on_its_connection_and_by_requests_that_name_it(desk: Desk) -> None:
    desk.session("ann")
    desk.timers.declare("ann", b"first")
    for beat in range(1, 20):
        at = MONDAY + beat * SECOND * 9 // 10
        if beat % 2:
            desk.timers.hear_connection(b"first", at)
        else:
            desk.timers.heard("ann", at)
        desk.timers.hear_connection(b"other", at)
        assert desk.run(at) == []
    assert desk.run(MONDAY + DAY) == [(at + SECOND, SessionOver("ann", 1000))]


def test_a_session_belongs_to_the_connection_that_declared_it_last(desk: Desk) -> None:
    desk.session("ann")
    desk.timers.declare("ann", b"first")
    desk.session("bob")
    desk.timers.declare("bob", b"first")
    desk.session("ann")
    desk.timers.declare("ann", b"second")
    desk.timers.hear_connection(b"first", MONDAY + SECOND // 2)
    assert desk.run(MONDAY + SECOND) == [(MONDAY + SECOND, SessionOver("ann", 1000))]
    assert desk.run(MONDAY + DAY) == [(MONDAY + SECOND * 3 // 2, SessionOver("bob", 1000))]
    assert not desk.timers.connections


def test_a_frame_costs_the_same_however_many_sessions_its_connection_has() -> None:
    timers = Timers(schedule)
    for number in range(20_000):
        timers.note(Record(EXCHANGE, number + 1, MONDAY, f"a{number}", SetSession(1000, True)))
        timers.declare(f"a{number}", b"first")
    started = time.perf_counter()
    for beat in range(1000):
        timers.hear_connection(b"first", MONDAY + beat)
    assert time.perf_counter() - started < 1, "a thousand frames, where one by one the sessions would take ten seconds"
    while timers.next_due() == MONDAY + SECOND:
        assert timers.take_silent(MONDAY + SECOND) is None, "all were heard"
    assert timers.take_silent(MONDAY + SECOND + 999) == SessionOver("a0", 1000)


def test_sessions_that_are_alive_are_looked_at_a_part_at_a_time() -> None:
    timers = Timers(schedule)
    sessions = 2 * MOST_LOOKS + 1
    for number in range(sessions):
        timers.note(Record(EXCHANGE, number + 1, MONDAY, f"a{number}", SetSession(1000, True)))
        timers.declare(f"a{number}", b"first")
    now = MONDAY + SECOND
    timers.hear_connection(b"first", now)
    for _ in range(2):
        assert timers.take_silent(now) is None
        assert timers.next_due() == now, "there is more to look at"
    assert timers.take_silent(now) is None
    assert timers.next_due() == now + SECOND


def test_a_clock_that_is_set_back_does_not_keep_a_connections_sessions_alive(desk: Desk) -> None:
    desk.session("ann")
    desk.timers.declare("ann", b"first")
    desk.timers.hear_connection(b"first", MONDAY + HOUR)
    desk.timers.start(MONDAY)
    assert desk.run(MONDAY + DAY) == [(MONDAY + SECOND, SessionOver("ann", 1000))]


def test_a_session_without_cancel_on_disconnect_is_only_noted(desk: Desk) -> None:
    desk.session(cancel=False)
    assert desk.timers.next_due() is None
    desk.session()
    desk.timers.declare("ann", b"first")
    desk.session(cancel=False)
    assert desk.timers.next_due() is None
    assert not desk.timers.connections


def test_after_a_restart_a_session_has_a_full_interval(desk: Desk) -> None:
    desk.session()
    later = desk.restarted(MONDAY + HOUR)
    assert later.timers.next_due() == MONDAY + HOUR + SECOND
    assert later.run(MONDAY + DAY) == [(MONDAY + HOUR + SECOND, SessionOver("ann", 1000))]


# -- cancel_all_after --------------------------------------------------------------------------------------------------


def test_cancel_all_after_comes_due_unless_renewed_or_disarmed(desk: Desk) -> None:
    desk.dead_man(1000)
    desk.time += SECOND // 2
    desk.dead_man(1000)
    assert desk.run(MONDAY + SECOND) == []
    assert desk.run(MONDAY + DAY) == [(MONDAY + SECOND * 3 // 2, CancelAllDue("ann"))]
    desk.dead_man(1000)
    desk.dead_man(0)
    assert desk.timers.next_due() is None


def test_cancel_all_after_survives_a_restart_and_is_due_at_once_where_its_time_has_passed(desk: Desk) -> None:
    desk.dead_man(1000)
    later = desk.restarted(MONDAY + HOUR)
    assert later.due(MONDAY + HOUR) == [CancelAllDue("ann")]
    assert later.restarted(MONDAY + HOUR).timers.next_due() is None


# -- everything together -----------------------------------------------------------------------------------------------


def test_a_restart_at_any_moment_changes_nothing_of_what_is_to_come() -> None:
    """But for sessions, which get their grace: here there are none."""
    seed = random.SystemRandom().randrange(2**32)
    random_ = random.Random(seed)
    desk = Desk()
    desk.define(ACME)
    desk.define(SHARES)
    for _ in range(300):
        asset = random_.choice(("ACME", "SHARES"))
        what = random_.random()
        if what < 0.3:
            desk.order("gtd", desk.time + random_.randrange(1, 3 * DAY), asset)
        elif what < 0.6:
            desk.order("day", asset=asset)
        elif what < 0.8:
            desk.dead_man(random_.choice((0, 1000, 3_600_000)), random_.choice(("ann", "bob")))
        else:
            desk.run(desk.time + random_.randrange(6 * HOUR))
        other = desk.restarted(desk.time)
        desk.due(desk.time)  # what is due at this very moment, the order handler does at its start
        other.due(desk.time)
        assert other.timers.next_due() == desk.timers.next_due(), f"seed {seed}"
        assert other.journal == desk.journal, f"seed {seed}"
    other = desk.restarted(desk.time)
    assert other.run(desk.time + 10 * DAY) == desk.run(desk.time + 10 * DAY), f"seed {seed}"
