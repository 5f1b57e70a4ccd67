"""Values as a difference shows them: the whole of what is short, the beginning of what is long."""

from collections.abc import Sequence

from exchange.core.events import EventRecord
from exchange.core.requests import Record

MOST_CHARACTERS = 1000


def shown(value: object) -> str:
    """Return a value as text, cut where it is long."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]} ... ({len(text)} characters)"


def record_difference(expected: EventRecord, found: EventRecord) -> tuple[str, str, str]:
    """Return what the first difference of two event records is, the expected value and the one found."""
    for field in ("asset", "sequence", "time", "account", "request", "event_sequence"):
        if getattr(expected, field) != getattr(found, field):
            name = {"event_sequence": "the number of its first event"}.get(field, f"its {field}")
            return name, shown(getattr(expected, field)), shown(getattr(found, field))
    return events_difference(expected.events, found.events)


def events_difference(expected: Sequence[object], found: Sequence[object]) -> tuple[str, str, str]:
    for number, (one, other) in enumerate(zip(expected, found, strict=False), 1):
        if one != other:
            return f"event {number} of {len(expected)}", shown(one), shown(other)
    number = min(len(expected), len(found)) + 1
    ends = "no event there"
    return (
        f"event {number}",
        shown(expected[number - 1]) if number <= len(expected) else ends,
        shown(found[number - 1]) if number <= len(found) else ends,
    )


def request_difference(expected: Record, found: EventRecord) -> tuple[str, str, str] | None:
    """Return how an event record's request differs from the journal's record, None where it does not."""
    for field in Record.__struct_fields__:
        if getattr(expected, field) != getattr(found, field):
            return f"its {field}", shown(getattr(expected, field)), shown(getattr(found, field))
    return None
