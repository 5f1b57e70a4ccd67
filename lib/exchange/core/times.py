"""Times as texts for people: the core's own arithmetic, since it takes no clock's module."""

SECOND = 1_000_000_000
DAYS_OF_400_YEARS = 146_097
DAYS_TO_EPOCH = 719_468  # from 0000-03-01: where years begin with March, a leap day is a year's last


def time_text(time: int) -> str:
    """Return nanoseconds since the Unix epoch as date and time of day, UTC, exactly.

    >>> time_text(1_577_836_800_000_000_000), time_text(1_500_000)
    ('2020-01-01T00:00:00Z', '1970-01-01T00:00:00.0015Z')
    """
    seconds, nanoseconds = divmod(time, SECOND)
    days, second = divmod(seconds, 86_400)
    fraction = f".{nanoseconds:09}".rstrip("0") if nanoseconds else ""
    return f"{_date(days)}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}{fraction}Z"


def _date(days: int) -> str:
    """Return the date so many days after 1970-01-01, in the Gregorian calendar."""
    period, day = divmod(days + DAYS_TO_EPOCH, DAYS_OF_400_YEARS)
    year = (day - day // 1_460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153  # 0 is March
    day -= (153 * month + 2) // 5
    return f"{400 * period + year + (month >= 10):04}-{month + 3 - 12 * (month >= 10):02}-{day + 1:02}"
