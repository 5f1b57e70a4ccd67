"""Schedules in time: time zones, daylight saving, days on which nothing happens, day rolls."""

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from exchange.core.asset import Asset, ScheduledChange, Status
from exchange.pipeline.schedule import (
    ScheduleError,
    changes_between,
    last_change,
    next_change,
    next_roll,
    status_at,
    zone,
)

SHARES: dict[str, Status] = {"08:50": "call", "09:00": "open", "17:30": "call", "17:35": "closed"}


def asset(schedule: dict[str, Status] | None = None, **more: Any) -> Asset:
    changes = tuple(ScheduledChange(at, status) for at, status in (SHARES if schedule is None else schedule).items())
    return Asset(asset="ACME", schedule=changes, **more)


def utc(text: str) -> int:
    """Return a time like "2026-03-02 09:00" of UTC in nanoseconds."""
    seconds = (datetime.fromisoformat(text).replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    return round(seconds) * 10**9


def texts(changes: list[tuple[int, Status]]) -> list[str]:
    """Return changes as texts like "2026-03-02 09:00 open", in UTC."""
    return [f"{datetime.fromtimestamp(at / 1e9, UTC):%Y-%m-%d %H:%M} {status}" for at, status in changes]


def test_a_day_has_its_changes_in_the_asset_s_time_zone() -> None:
    berlin = asset(time_zone="Europe/Berlin")
    assert texts(changes_between(berlin, utc("2026-03-02 00:00"), utc("2026-03-02 23:59"))) == [
        "2026-03-02 07:50 call",
        "2026-03-02 08:00 open",
        "2026-03-02 16:30 call",
        "2026-03-02 16:35 closed",
    ]


def test_what_is_between_leaves_out_its_start_and_has_its_end() -> None:
    nine = utc("2026-03-02 09:00")
    assert texts(changes_between(asset(), utc("2026-03-02 08:50"), nine)) == ["2026-03-02 09:00 open"]
    assert changes_between(asset(), nine, nine) == []
    assert changes_between(asset({}), 0, nine) == []


def test_nothing_happens_on_other_days_and_closed_dates() -> None:
    shares = asset(trading_days=("mon", "tue", "wed", "thu", "fri"), closed_dates=("2026-04-03", "2026-04-06"))
    friday, tuesday = utc("2026-04-02 17:35"), utc("2026-04-07 08:50")
    assert changes_between(shares, friday, tuesday) == [(tuesday, "call")]
    assert next_change(shares, friday) == (tuesday, "call")
    assert last_change(shares, tuesday - 1) == (friday, "closed")
    assert status_at(shares, utc("2026-04-06 12:00")) == "closed"


@pytest.mark.parametrize(
    ("at", "status"),
    [
        ("2026-03-02 08:49", "closed"),
        ("2026-03-02 08:50", "call"),
        ("2026-03-02 09:00", "open"),
        ("2026-03-02 17:29", "open"),
        ("2026-03-02 17:34", "call"),
        ("2026-03-02 23:00", "closed"),
        ("1970-01-01 00:00", "closed"),
    ],
)
def test_the_status_at_a_time_is_that_of_the_last_change_before(at: str, status: str) -> None:
    assert status_at(asset(), utc(at)) == status


def test_what_a_schedule_s_last_change_left_lasts_over_midnight() -> None:
    nights = asset({"17:00": "closed", "18:00": "open"}, time_zone="America/Chicago")
    assert status_at(nights, utc("2026-03-03 06:30")) == "open"  # half past midnight there
    assert next_change(nights, utc("2026-03-03 06:30")) == (utc("2026-03-03 23:00"), "closed")


def test_a_time_that_daylight_saving_leaves_out_counts_when_the_clock_jumps() -> None:
    berlin = asset({"02:30": "open", "12:00": "closed"}, time_zone="Europe/Berlin")
    changes = changes_between(berlin, utc("2026-03-28 20:00"), utc("2026-03-29 20:00"))
    assert texts(changes) == ["2026-03-29 01:00 open", "2026-03-29 10:00 closed"]
    half_hour = asset({"02:10": "open", "12:00": "closed"}, time_zone="Australia/Lord_Howe")  # it jumps by 30 minutes
    assert next_change(half_hour, utc("2026-10-03 14:00")) == (utc("2026-10-03 15:30"), "open")


def test_two_changes_that_fall_on_the_jump_keep_their_order() -> None:
    berlin = asset({"02:10": "call", "02:40": "open", "12:00": "closed"}, time_zone="Europe/Berlin")
    jump = utc("2026-03-29 01:00")
    assert changes_between(berlin, jump - 1, jump + 10) == [(jump, "call"), (jump + 1, "open")]
    assert next_change(berlin, jump) == (jump + 1, "open")
    assert status_at(berlin, jump + 1) == "open"


def test_a_time_that_daylight_saving_gives_twice_counts_the_first_time() -> None:
    berlin = asset({"02:30": "open", "12:00": "closed"}, time_zone="Europe/Berlin")
    changes = changes_between(berlin, utc("2026-10-24 20:00"), utc("2026-10-25 20:00"))
    assert texts(changes) == ["2026-10-25 00:30 open", "2026-10-25 11:00 closed"]


@pytest.mark.parametrize("time_zone", ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Tokyo"])
def test_following_the_next_change_gives_all_that_is_between(time_zone: str) -> None:
    schedule: dict[str, Status] = {"00:00": "call", "01:59:30": "open", "02:30": "call", "03:00": "open"}
    busy = asset(schedule | {"23:59:59": "closed"}, time_zone=time_zone, trading_days=("sun", "mon", "sat"))
    start, end = utc("2026-03-01 12:00"), utc("2026-11-10 12:00")
    followed: list[tuple[int, Status]] = []
    at = start
    while (change := next_change(busy, at)) is not None and change[0] <= end:
        assert last_change(busy, change[0]) == change
        at = change[0]
        followed.append(change)
    assert followed == changes_between(busy, start, end)
    assert all(earlier < later for (earlier, _), (later, _) in pairwise(followed))


def test_a_day_rolls_at_midnight_utc_unless_configured() -> None:
    assert next_roll(asset({}), utc("2026-03-02 00:00")) == utc("2026-03-03 00:00")
    new_york = asset({}, day_roll="17:00", time_zone="America/New_York")
    assert next_roll(new_york, utc("2026-03-06 21:59")) == utc("2026-03-06 22:00")
    assert next_roll(new_york, utc("2026-03-07 22:00")) == utc("2026-03-08 21:00")  # in summer time, and a Sunday


def test_times_that_nobody_lives_to_see_are_answered() -> None:
    assert next_change(asset(), 2**63 - 1) is None
    assert last_change(asset(), -(2**63)) is None
    assert next_roll(asset({}), 2**63 - 2) == 2**63 - 1


def test_a_time_zone_that_is_not_there_is_refused_with_what_to_install() -> None:
    for name in ("Europe/Atlantis", "Europe", "../etc", "Etc//UTC"):
        with pytest.raises(ScheduleError, match="tzdata") as refused:
            zone(name)
        assert repr(name) in str(refused.value)
    assert zone("UTC") is UTC
