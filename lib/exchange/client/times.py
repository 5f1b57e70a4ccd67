"""Times as people write them, and the wire's nanoseconds since the Unix epoch, exactly."""

import re
import time
from datetime import UTC, datetime

from exchange.client.errors import ClientError

SECOND = 1_000_000_000
UNITS = {"ms": SECOND // 1000, "s": SECOND, "m": 60 * SECOND, "min": 60 * SECOND, "h": 3600 * SECOND}
UNITS["d"] = 24 * UNITS["h"]
DURATION = re.compile(r"\+?((?:\d{1,9}(?:ms|min|s|m|h|d))+)\Z")
PART = re.compile(r"(\d+)([a-z]+)")
FRACTION = re.compile(r"(?<=[0-9])\.(\d{1,9})(?=$|Z|[+-])")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TimeError(ClientError, ValueError):
    """Text that is neither a time nor a duration."""


def duration_ns(text: str) -> int | None:
    """Return a duration such as `2h`, `1h30m`, `45s` or `500ms` in nanoseconds; None for text that is none.

    >>> duration_ns("1h30m") // SECOND, duration_ns("tomorrow")
    (5400, None)
    """
    if not DURATION.match(text):
        return None
    return sum(int(number) * UNITS[unit] for number, unit in PART.findall(text))


def time_ns(text: str) -> int:
    """Return a time in ISO 8601 (UTC unless it says otherwise) in nanoseconds. Raises TimeError.

    >>> time_ns("1970-01-01T00:00:01.5Z"), time_ns("1970-01-01 01:00+01:00")
    (1500000000, 0)
    """
    found = FRACTION.search(text)
    whole = FRACTION.sub("", text)
    try:
        # A fraction that is left is finer than nanoseconds: it would be cut, so it is none.
        parsed = datetime.fromisoformat("" if "." in whole or "," in whole else whole)
    except ValueError:
        raise TimeError(
            f"time {text!r}: is neither a time in ISO 8601, such as 2027-03-01T17:30:00Z, nor a duration, such as 2h "
            "or 1h30m"
        ) from None
    parsed = parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)
    since = parsed - EPOCH
    return (since.days * 86_400 + since.seconds) * SECOND + (int(found[1].ljust(9, "0")) if found else 0)


def time_text(time_ns: int) -> str:
    """Return a time as date and time of day, UTC, to the microsecond."""
    seconds, nanoseconds = divmod(time_ns, SECOND)
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds)) + f".{nanoseconds // 1000:06d}"
