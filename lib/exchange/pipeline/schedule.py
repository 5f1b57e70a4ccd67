"""What an asset's schedule means in time: its changes of status, and its day roll, in nanoseconds since the Unix epoch.

A schedule's times are times of day in the asset's time zone. A time that daylight saving leaves out counts as the
moment at which the clock is set forward; one that it gives twice, as the first of the two. On a date that is no trading
day, or is closed, none of that date's changes happen: the last status before it stays.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from itertools import islice, takewhile
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from exchange.core.asset import DAYS, Asset, Status

NANOSECONDS = 10**9
MOST_DAYS = 800  # that are looked through for a change: more than there are closed dates
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
FIRST_DATE, LAST_DATE = date(1970, 1, 3), date(2261, 12, 29)  # what 64 bits of nanoseconds can say, time zones included


class ScheduleError(ValueError):
    """A schedule that can't be followed; the text says why and what to do."""


@lru_cache(maxsize=256)
def zone(name: str) -> tzinfo:
    """Return a time zone by its name in the IANA database. Raises ScheduleError."""
    if name == "UTC":
        return UTC  # known without any data
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ScheduleError(
            f"time_zone = {name!r}: no such time zone here; must be a name of the IANA database, such as "
            '"Europe/Berlin"; where this machine has no time zone data, install the package tzdata (pip install '
            "tzdata, or the system's)"
        ) from None


def instant(day: date, at: str, time_zone: str) -> int:
    """Return when it is that time of day ("HH:MM" or "HH:MM:SS") on a date in a time zone. Raises ScheduleError."""
    local = datetime.combine(day, time.fromisoformat(at))
    zone_ = zone(time_zone)
    found = local.replace(tzinfo=zone_).astimezone(UTC)
    if found.astimezone(zone_).replace(tzinfo=None) != local:
        found = _jump(zone_, local)
    return (found - EPOCH) // SECOND * NANOSECONDS


def _jump(zone_: tzinfo, local: datetime) -> datetime:
    """Return when the clock is set forward over a local time, to the second."""
    late = local.replace(tzinfo=zone_, fold=0).astimezone(UTC)  # by the clock before the jump, so after it
    early = local.replace(tzinfo=zone_, fold=1).astimezone(UTC)
    before = early.astimezone(zone_).utcoffset()
    while late - early > SECOND:
        middle = early + (late - early) // SECOND // 2 * SECOND
        if middle.astimezone(zone_).utcoffset() == before:
            early = middle
        else:
            late = middle
    return late


def local_date(nanoseconds: int, time_zone: str) -> date:
    """Return the date in a time zone at a time, within the dates that can be told."""
    earliest, latest = 3 * 86_400, (LAST_DATE - EPOCH.date()).days * 86_400
    seconds = min(max(nanoseconds // NANOSECONDS, earliest), latest)
    return (EPOCH + timedelta(seconds=seconds)).astimezone(zone(time_zone)).date()


def changes_on(asset: Asset, day: date) -> list[tuple[int, Status]]:
    """Return the schedule's changes on a date, in order; two that fall on one moment are a nanosecond apart."""
    if DAYS[day.weekday()] not in asset.trading_days or day.isoformat() in asset.closed_dates:
        return []
    changes: list[tuple[int, Status]] = []
    for change in asset.schedule:
        when = instant(day, change.at, asset.time_zone)
        if changes and when <= changes[-1][0]:
            when = changes[-1][0] + 1
        changes.append((when, change.status))
    return changes


def changes_between(asset: Asset, after_ns: int, until_ns: int) -> list[tuple[int, Status]]:
    """Return the changes later than `after_ns` and not later than `until_ns`, in order."""
    if not asset.schedule or until_ns <= after_ns:
        return []
    last = local_date(until_ns, asset.time_zone)
    days = takewhile(lambda day: day <= last, _days(local_date(after_ns, asset.time_zone), DAY))
    return [change for day in days for change in changes_on(asset, day) if after_ns < change[0] <= until_ns]


def next_change(asset: Asset, after_ns: int) -> tuple[int, Status] | None:
    """Return the first change later than that; None where there is none for years."""
    if asset.schedule:
        for day in islice(_days(local_date(after_ns, asset.time_zone), DAY), MOST_DAYS):
            for change in changes_on(asset, day):
                if change[0] > after_ns:
                    return change
    return None


def last_change(asset: Asset, until_ns: int) -> tuple[int, Status] | None:
    """Return the last change that is not later than that; None where there was none for years."""
    if asset.schedule:
        for day in islice(_days(local_date(until_ns, asset.time_zone), -DAY), MOST_DAYS):
            for change in reversed(changes_on(asset, day)):
                if change[0] <= until_ns:
                    return change
    return None


def status_at(asset: Asset, ns: int) -> Status:
    """Return the status that the schedule prescribes at a time; `closed` where no change came before it."""
    change = last_change(asset, ns)
    return "closed" if change is None else change[1]


def next_roll(asset: Asset, after_ns: int) -> int:
    """Return the first day roll later than that. Every date has one, trading day or not."""
    for day in _days(local_date(after_ns, asset.time_zone), DAY):
        when = instant(day, asset.day_roll, asset.time_zone)
        if when > after_ns:
            return when
    return 2**63 - 1  # beyond the dates that can be told


def _days(start: date, step: timedelta) -> Iterator[date]:
    """Yield dates from one on, or back, within those that can be told."""
    day = start
    while FIRST_DATE <= day <= LAST_DATE:
        yield day
        day += step
