"""Exchanges to be audited: their files written from records, without daemons."""

from collections.abc import Iterable, Sequence

from msgspec import UNSET, msgpack

from exchange.audit.audit import audit
from exchange.audit.findings import Difference, Finding
from exchange.config import Config
from exchange.core.events import EventRecord
from exchange.core.matching import Matching
from exchange.core.requests import Record
from tests.log_writer import write_log
from tests.random_requests import PROFILES, random_requests

SEGMENT_BYTES = 16 * 1024  # small, so that there are several

encode = msgpack.Encoder().encode
decode_event_record = msgpack.Decoder(EventRecord).decode


def journal_records(records: Iterable[EventRecord]) -> list[Record]:
    """Return the journal that led to event records of any number of assets."""
    return [Record(each.asset, each.sequence, each.time, each.account, each.request) for each in records]


def event_records(seed: int, profile: str, count: int) -> list[EventRecord]:
    """Return what comes of an asset's random requests, of all kinds."""
    core = Matching()
    return [core.apply(record) for record in random_requests(seed, PROFILES[profile], count)]


def write_journal(config: Config, records: Sequence[Record], segment_bytes: int = SEGMENT_BYTES) -> None:
    write_log(config.journal_folder, [encode(record) for record in records], segment_bytes, durable=True)


def write_event_log(config: Config, records: Sequence[EventRecord], segment_bytes: int = SEGMENT_BYTES) -> None:
    """Write the event log of the asset that the records are of."""
    write_log(config.event_log_folder(records[0].asset), [encode(record) for record in records], segment_bytes)


def write_files(config: Config, records: Sequence[EventRecord]) -> None:
    """Write journal and event logs."""
    write_journal(config, journal_records(records))
    for asset in dict.fromkeys(record.asset for record in records):
        write_event_log(config, [record for record in records if record.asset == asset])


def found(config: Config, dsn: str | None = None, complete: bool = False) -> Finding | None:
    """Return the audit's first difference, None where there is none."""
    try:
        audit(config, dsn, complete=complete)
    except Difference as difference:
        return difference.finding
    return None


def described(finding: Finding | None) -> str:
    """Return a difference as text, for comparing parts of it."""
    if finding is None:
        return "clean"
    fields = (getattr(finding, name) for name in Finding.__struct_fields__)
    return " | ".join(str(field) for field in fields if field is not UNSET)
