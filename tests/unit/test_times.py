"""Times as people write them, to the nanosecond."""

import doctest

import pytest

from exchange.client import times
from exchange.client.times import SECOND, TimeError, duration_ns, time_ns, time_text


@pytest.mark.parametrize(
    ("text", "seconds"), [("2h", 7200), ("1h30m", 5400), ("+45s", 45), ("90min", 5400), ("1d", 86_400), ("2m5s", 125)]
)
def test_a_duration_is_a_number_with_a_unit_or_several(text: str, seconds: int) -> None:
    assert duration_ns(text) == seconds * SECOND


@pytest.mark.parametrize("text", ["", "2", "h", "2 h", "-2h", "2h!", "2027-01-01", "1.5h"])
def test_what_is_no_duration_is_none(text: str) -> None:
    assert duration_ns(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01Z", SECOND),
        ("1970-01-01 00:00:01", SECOND),
        ("1970-01-01T02:00:00+02:00", 0),
        ("1970-01-01T00:00:00.123456789Z", 123_456_789),
        ("1970-01-02", 86_400 * SECOND),
        ("1969-12-31T23:59:59.5Z", -SECOND // 2),
    ],
)
def test_a_time_is_read_to_the_nanosecond(text: str, expected: int) -> None:
    assert time_ns(text) == expected


@pytest.mark.parametrize("text", ["noon", "", "25:00", "2027-13-01", "2027-01-01T00:00:00.1234567890Z"])
def test_what_is_no_time_is_an_error_that_says_so(text: str) -> None:
    with pytest.raises(TimeError, match="is neither a time in ISO 8601"):
        time_ns(text)


def test_a_time_is_shown_to_the_microsecond() -> None:
    assert time_text(1_500_000_999) == "1970-01-01 00:00:01.500000"


def test_the_examples_in_the_code_hold() -> None:
    assert doctest.testmod(times).failed == 0
