"""What defines an asset: its scales, its grid of prices and quantities, and its limits.

Prices and quantities are integers everywhere but at the edges: a price of 10025 on an asset with `price_scale` 2 is
100.25 in real units. Scales can never change once an asset has traded (old records would change their meaning); the
rest can, by a new definition in the asset's queue.
"""

import re
from itertools import pairwise
from typing import Literal

from msgspec import Struct

MAX_INTEGER = 2**63 - 1  # on the wire, in SQL, and of a price level's total
MAX_QUANTITY = 2**53 - 1  # of one order, unless the asset says less
MAX_SCALE = 18

ASSET_NAME = re.compile(r"(?!\.+\Z)[A-Z0-9._-]{1,24}\Z")  # it names files too, so not "." or ".."
ACCOUNT_NAME = re.compile(r"[a-z0-9_-]{1,32}\Z")

SelfTrade = Literal["prevent", "allow"]
Status = Literal["open", "closed", "call", "halted"]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

TIME_OF_DAY = re.compile(r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?\Z", re.ASCII)
DATE = re.compile(r"\d{4}-\d\d-\d\d\Z", re.ASCII)
TIME_ZONE = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*\Z")
MOST_CHANGES = 50  # of a schedule: a definition is a record of the journal, and bounded as all of them are
MOST_DATES = 500
MOST_NAME = 64  # characters of a time zone's name
TIME_RULE = 'a time of day, "HH:MM" or "HH:MM:SS", from 00:00 to 23:59:59'
MILLION = 1_000_000
MOST_ASSETS = 1000  # listed at a time: each has a process


class ScheduledChange(Struct, frozen=True, forbid_unknown_fields=True):
    """A change of the trading status at a time of day ("HH:MM" or "HH:MM:SS") in the asset's time zone."""

    at: str
    status: Status


class Asset(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One asset's definition. All prices in 10^-price_scale, all quantities in 10^-quantity_scale."""

    asset: str
    price_scale: int = 0
    quantity_scale: int = 0
    tick_size: int = 1
    lot_size: int = 1
    min_quantity: int = 1
    max_quantity: int = MAX_QUANTITY
    min_price: int = 1
    max_price: int = MAX_INTEGER
    self_trade: SelfTrade = "prevent"
    reference_price: int = 0  # where there is no last trade yet; 0: none
    price_band_ppm: int = 0  # millionths of the reference price, that a limit may be away from it; 0: no band
    volatility_band_ppm: int = 0  # millionths of the last auction's price, that a trade may be away from it; 0: no band
    call_seconds: int = 120  # of a volatility interruption
    schedule: tuple[ScheduledChange, ...] = ()  # by time of day, every trading day; empty: no sessions
    time_zone: str = "UTC"  # of the schedule and the day roll, a name of the IANA database
    trading_days: tuple[Day, ...] = DAYS
    closed_dates: tuple[str, ...] = ()  # "YYYY-MM-DD", on which the schedule rests
    day_roll: str = "00:00"  # when day orders of an asset without sessions expire

    @property
    def has_sessions(self) -> bool:
        return bool(self.schedule)

    def mistakes(self) -> list[tuple[str, object, str]]:
        """Return (key, value, rule) for each value that breaks its rule; empty for a sound definition."""
        found: list[tuple[str, object, str]] = []

        def rule(key: str, holds: bool, text: str) -> None:
            if not holds:
                found.append((key, getattr(self, key), text))

        rule("asset", bool(ASSET_NAME.match(self.asset)), "1 to 24 characters of A-Z 0-9 . _ -, not dots only")
        rule("price_scale", 0 <= self.price_scale <= MAX_SCALE, f"0 to {MAX_SCALE}")
        rule("quantity_scale", 0 <= self.quantity_scale <= MAX_SCALE, f"0 to {MAX_SCALE}")
        rule("tick_size", 1 <= self.tick_size <= MAX_INTEGER, "1 or more, in price units")
        rule("lot_size", 1 <= self.lot_size <= MAX_INTEGER, "1 or more, in quantity units, at most 2^63 - 1")
        rule("min_quantity", 1 <= self.min_quantity <= self.max_quantity, "1 or more, at most max_quantity")
        rule("max_quantity", self.lot_size <= self.max_quantity <= MAX_INTEGER, "lot_size or more, at most 2^63 - 1")
        rule("min_price", 1 <= self.min_price <= self.max_price, "1 or more, at most max_price")
        rule("max_price", self.tick_size <= self.max_price <= MAX_INTEGER, "tick_size or more, at most 2^63 - 1")
        text = "such that there is a price: a multiple of tick_size, from min_price to max_price"
        rule("max_price", _has_multiple(self.tick_size, self.min_price, self.max_price), text)
        text = "such that there is a quantity: a multiple of lot_size, from min_quantity to max_quantity"
        rule("max_quantity", _has_multiple(self.lot_size, self.min_quantity, self.max_quantity), text)
        rule(
            "reference_price",
            self.reference_price == 0
            or (
                self.min_price <= self.reference_price <= self.max_price
                and not self.reference_price % max(self.tick_size, 1)
            ),
            "0 (none), or a multiple of tick_size from min_price to max_price",
        )
        millionths = f"0 (none) to {MILLION} millionths: 10 % is {MILLION // 10}"
        rule("price_band_ppm", 0 <= self.price_band_ppm <= MILLION, millionths)
        rule("volatility_band_ppm", 0 <= self.volatility_band_ppm <= MILLION, millionths)
        rule("call_seconds", 1 <= self.call_seconds <= 86_400, "1 to 86,400")
        rule(
            "time_zone",
            len(self.time_zone) <= MOST_NAME and bool(TIME_ZONE.match(self.time_zone)),
            'a name of the IANA database, such as "Europe/Berlin"',
        )
        rule("day_roll", bool(TIME_OF_DAY.match(self.day_roll)), TIME_RULE)
        rule("trading_days", len(set(self.trading_days)) == len(self.trading_days) > 0, "one day or more, each once")
        rule(
            "closed_dates",
            len(set(self.closed_dates)) == len(self.closed_dates) <= MOST_DATES,
            f"dates, each once, {MOST_DATES} at most",
        )
        found.extend(
            ("closed_dates", date, 'a date, "YYYY-MM-DD"') for date in self.closed_dates if not DATE.match(date)
        )
        if self.has_sessions:
            found.extend(self._schedule_mistakes())
            rule("day_roll", self.day_roll == "00:00", 'left out where there is a schedule: a "closed" ends the day')
        else:
            alone = "left out where there is no schedule: without one the asset is open always"
            rule("trading_days", len(set(self.trading_days)) in (0, len(DAYS)), alone)
            rule("closed_dates", not self.closed_dates, alone)
        return found

    def _schedule_mistakes(self) -> list[tuple[str, object, str]]:
        changes = self.schedule
        if len(changes) > MOST_CHANGES:
            return [("schedule", f"{len(changes)} changes", f"{MOST_CHANGES} at most")]
        malformed = [change.at for change in changes if not TIME_OF_DAY.match(change.at)]
        if malformed:
            return [("schedule.at", at, TIME_RULE) for at in malformed]
        found: list[tuple[str, object, str]] = []
        for before, after in pairwise(changes):
            if _second(after.at) <= _second(before.at):
                found.append(("schedule.at", after.at, f"later than the one before it, {before.at!r}"))
            if after.status == before.status:
                text = f"another at {after.at!r} than at {before.at!r} before it"
                found.append(("schedule.status", after.status, text))
        first, last = changes[0], changes[-1]
        statuses = [change.status for change in changes]
        if not {"open", "closed"} <= set(statuses):
            text = 'at least one "open" and one "closed"; "closed" ends the trading day'
            found.append(("schedule", ", ".join(statuses), text))
        elif last.status != "closed" and (self.closed_dates or len(self.trading_days) < len(DAYS)):
            text = '"closed" at the end, since there are days on which the schedule rests: it lasts until the next one'
            found.append(("schedule.status", last.status, text))
        elif first.status == last.status == "call":
            text = f'another at {last.at!r} than at {first.at!r}, its next: a call ends in an "open" or "closed"'
            found.append(("schedule.status", last.status, text))
        return found


def _has_multiple(step: int, least: int, most: int) -> bool:
    """Return whether a multiple of `step` is from `least` to `most`; true where these break rules of their own."""
    return not 1 <= least <= most or not 1 <= step <= most or most // step * step >= least


def _second(at: str) -> str:
    """Return a time of day with its seconds, so that times compare as texts do."""
    return at if len(at) == len("HH:MM:SS") else f"{at}:00"
