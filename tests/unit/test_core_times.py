"""Times in the core's texts, against the calendar of the standard library."""

import doctest
import random
from datetime import UTC, datetime, timedelta

import pytest

from exchange.core import times
from exchange.core.times import SECOND, time_text

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LEAP_DAYS = ("1972-02-29", "1999-12-31", "2000-02-29", "2000-03-01", "2100-02-28", "2100-03-01", "1900-03-01")


def test_a_time_reads_as_in_the_standard_library_s_calendar() -> None:
    choose = random.Random(1)
    days = [choose.randrange(-106_000, 106_000) for _ in range(2000)]  # what 64 bits of nanoseconds hold
    days += [(datetime.fromisoformat(f"{date}T00:00+00:00") - EPOCH).days for date in LEAP_DAYS]
    for day in days:
        second = choose.randrange(86_400)
        expected = EPOCH + timedelta(days=day, seconds=second)
        assert time_text((day * 86_400 + second) * SECOND) == f"{expected.replace(tzinfo=None).isoformat()}Z"


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1, "1970-01-01T00:00:00.000000001Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (2**63 - 1, "2262-04-11T23:47:16.854775807Z"),
        (-(2**63), "1677-09-21T00:12:43.145224192Z"),
    ],
)
def test_a_time_is_exact(time: int, text: str) -> None:
    assert time_text(time) == text


def test_its_examples() -> None:
    assert doctest.testmod(times).failed == 0
