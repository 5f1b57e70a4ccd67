"""The audit of journal and event logs: what is sound is clean, and whatever is changed is found and named."""

import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from exchange.audit.audit import audit
from exchange.audit.findings import Difference, UnknownAsset, Unreadable
from exchange.audit.log_files import LogFiles
from exchange.config import Config
from exchange.core.asset import Asset
from exchange.core.events import EventRecord, TradeExecuted
from exchange.core.requests import (
    BUY,
    EXCHANGE,
    SELL,
    CancelOrder,
    DefineAsset,
    MassCancel,
    NewOrder,
    Record,
    SetSession,
)
from tests.audited import (
    decode_event_record,
    described,
    encode,
    event_records,
    found,
    journal_records,
    write_event_log,
    write_files,
    write_journal,
)
from tests.log_writer import HEADER_BYTES, RECORD, archive_first, flip_bit, read_log, rewrite, write_log
from tests.random_requests import PROFILES
from tests.stored import Market, random_market
from tests.support import write_config


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return write_config(tmp_path)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have damage looked at again at once: nobody is in the middle of writing these files."""
    monkeypatch.setattr("exchange.audit.log_files.PAUSE_S", 0)


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.log"))


def used(path: Path) -> int:
    """Return how much of a segment is not the zeros ahead of its use."""
    return len(path.read_bytes().rstrip(b"\0"))


# -- what is sound -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
def test_whatever_is_traded_is_clean(config: Config, profile: str) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    records = event_records(seed, profile, 400)
    write_files(config, records)
    summary = audit(config, None, complete=True)
    (asset,) = summary.assets
    assert (asset.journal, asset.event_log, asset.replayed_from, summary.lagging) == (401, 401, 1, [])
    assert asset.events == sum(len(record.events) for record in records)
    assert asset.trades == sum(type(event) is TradeExecuted for record in records for event in record.events)


def test_each_asset_is_told_with_how_far_it_was_looked_at(config: Config) -> None:
    market = random_market(1, 600)
    write_files(config, market.records)
    summary = audit(config, None)
    expected = {asset: core.sequence for asset, core in market.cores.items()}
    assert {one.asset: one.journal for one in summary.assets} == expected
    assert summary.requests == len(market.records) == sum(expected.values())
    assert summary.orders == market.last_order_id
    assert len(segments(config.journal_folder)) == summary.journal_segments > 1

    one = audit(config, None, asset="ACME")
    assert [each.asset for each in one.assets] == ["ACME"]
    with pytest.raises(UnknownAsset, match="'NONE': the journal has none; it has ACME, BTC-USD, ES"):
        audit(config, None, asset="NONE")


def test_without_a_journal_there_is_nothing_to_audit(config: Config) -> None:
    with pytest.raises(Unreadable, match="there is no journal"):
        audit(config, None)


def test_an_event_log_that_lags_is_said_and_a_difference_only_where_all_must_have_arrived(config: Config) -> None:
    records = event_records(2, "lively", 100)
    write_files(config, records)
    write_event_log(config, records[:60])
    assert audit(config, None).lagging == ["ACME: the event log has 60 of 101 requests"]
    finding = found(config, complete=True)
    assert finding is not None
    assert (finding.check, finding.what) == ("complete", "ACME: the event log has 60 of 101 requests")


def test_logs_of_former_programs_are_compared_by_value(config: Config) -> None:
    """Fields have come to records' ends since; those of older logs lack them."""
    records = event_records(3, "lively", 50)
    write_files(config, records)

    def shorten(bodies: list[bytes]) -> None:
        for number, record in enumerate(records):
            if type(record.request) is CancelOrder:
                whole = encode(record.request)
                assert whole[0] == 0x93, "an array of three"
                bodies[number] = bodies[number].replace(whole, b"\x92" + whole[1:-1])

    before = read_log(config.event_log_folder("ACME"))
    rewrite(config.event_log_folder("ACME"), shorten)
    assert read_log(config.event_log_folder("ACME")) != before
    assert found(config) is None


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_flipped_bit_is_found_wherever_it_is(config: Config) -> None:
    """In an event log's last record it looks like a write that was not finished: then that record is missing."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    write_files(config, random_market(4, 500).records)
    files = segments(config.journal_folder) + sorted(config.data.glob("events/*/*.log"))
    assert len(files) > 5
    for path in files:
        whole = path.read_bytes()
        offsets = [chance.randrange(HEADER_BYTES), *(chance.randrange(used(path)) for _ in range(5))]
        for offset in offsets:
            flip_bit(path, offset)
            try:
                summary = audit(config, None)
            except Difference as difference:
                finding = difference.finding
                assert finding.file == str(path) or "ahead of the journal" in finding.what, (offset, finding)
            else:
                assert "events" in str(path)
                assert summary.lagging, (path, offset)
            path.write_bytes(whole)
    assert found(config) is None


def test_damage_is_named_with_file_and_offset(config: Config) -> None:
    write_files(config, event_records(5, "lively", 300))
    second = segments(config.journal_folder)[1]
    offset = HEADER_BYTES + RECORD.size + RECORD.unpack_from(second.read_bytes(), HEADER_BYTES)[3]
    flip_bit(second, offset + RECORD.size + 3)
    finding = found(config)
    assert finding is not None
    assert (finding.check, finding.what) == ("journal", "the record is damaged")
    assert (finding.file, finding.offset) == (str(second), offset)
    assert finding.remedy == "stop the exchange, and restore the journal from a copy"


def test_a_missing_segment_is_found(config: Config) -> None:
    write_files(config, event_records(6, "lively", 600))
    second = segments(config.journal_folder)[1]
    second.unlink()
    assert "journal | a segment is missing" in described(found(config))


def test_a_segment_under_another_name_is_found(config: Config) -> None:
    write_files(config, event_records(6, "lively", 300))
    second = segments(config.journal_folder)[1]
    second.rename(second.with_name(f"{0:019d}7.log"))
    assert "the segment has another one's name" in described(found(config))


def test_the_end_of_a_segment_that_was_cut_off_is_found(config: Config) -> None:
    write_files(config, event_records(7, "lively", 300))
    first, second = segments(config.journal_folder)[:2]
    data = first.read_bytes()
    last = used(first) - 30
    first.write_bytes(data[: data.rindex(b"Rord", 0, last)].ljust(len(data), b"\0"))
    finding = found(config)
    assert finding is not None
    assert finding.what == "the segment does not continue the one before: that one's end is missing or damaged"
    assert finding.file == str(second)


def test_a_newer_program_s_journal_is_not_judged(config: Config) -> None:
    write_files(config, event_records(7, "lively", 10))
    (path,) = segments(config.journal_folder)
    data = bytearray(path.read_bytes())
    data[8] = 2
    data[60:64] = zlib.crc32(data[:60]).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(Unreadable, match="version 2, and this program reads up to version 1"):
        audit(config, None)


def test_an_unfinished_write_at_the_journal_s_end_is_no_difference(config: Config) -> None:
    """Cut at every byte of its last record, with what follows still zeros: nobody has seen it."""
    records = event_records(8, "lively", 20)
    write_files(config, records)
    write_event_log(config, records[:-1])
    (path,) = segments(config.journal_folder)
    data = path.read_bytes()
    start, end = data.rindex(b"Rord"), used(path)
    for cut in range(start, end):
        path.write_bytes(data[:cut].ljust(len(data), b"\0"))
        summary = audit(config, None)
        assert summary.assets[0].journal == 20
        assert len(summary.notes) == (len(data[start:cut].rstrip(b"\0")) > 0), cut
    path.write_bytes(data)
    assert audit(config, None).assets[0].journal == 21


def test_a_journal_that_has_lost_what_an_event_log_has_is_found(config: Config) -> None:
    records = event_records(9, "lively", 100)
    write_files(config, records)
    write_journal(config, journal_records(records)[:-1])
    finding = found(config)
    assert finding is not None
    assert finding.what == "the event log is ahead of the journal, which has lost its end"
    assert (finding.expected, finding.found) == (
        "request 101 of ACME, the event log's last",
        "request 100 as the journal's last",
    )


def test_an_event_log_may_be_read_when_it_has_gone_on_as_long_as_the_journal_has(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound is the journal's end as it was at first; what came since is in both."""
    records = event_records(10, "lively", 400)
    write_files(config, records[:300])

    def go_on(what: str, done: int, total: int) -> None:
        if what == "journal":
            write_files(config, records)

    summary = audit(config, None, progress=go_on)
    assert (summary.assets[0].journal, summary.assets[0].event_log) == (300, 300)


def test_a_log_that_grows_is_read_to_where_it_is(tmp_path: Path) -> None:
    bodies = [bytes([number]) * number for number in range(1, 120)]
    for count in range(0, len(bodies), 7):
        write_log(tmp_path, bodies[:count], 4096)
        log = LogFiles("event log", [tmp_path], durable=False, remedy="")
        assert [body for _, body, _ in log.records()] == bodies[:count]
        assert not log.unfinished


# -- the journal -------------------------------------------------------------------------------------------------------


def small_journal() -> list[Record]:
    """Return two assets, the exchange's own queue, orders, a mass cancel over both assets."""
    mass_cancel = MassCancel(0, "m", True, 1, 2)
    return [
        Record("ACME", 1, 10, "", DefineAsset(Asset(asset="ACME"))),
        Record("BTC", 1, 11, "", DefineAsset(Asset(asset="BTC"))),
        Record("ACME", 2, 12, "ann", NewOrder(1, "a", BUY, 5, 100)),
        Record("BTC", 2, 12, "ann", NewOrder(2, "b", BUY, 5, 100)),
        Record(EXCHANGE, 1, 13, "ann", SetSession(1000, True)),
        Record("ACME", 3, 14, "ann", mass_cancel),
        Record("BTC", 3, 14, "ann", replace(mass_cancel, part=2)),
        Record("ACME", 4, 15, "bob", NewOrder(3, "a", BUY, 5, 100)),
    ]


Change = Callable[[list[Record]], None]


def change(number: int, **fields: Any) -> Change:
    """Return what changes a record's own fields."""
    return lambda records: records.__setitem__(number, replace(records[number], **fields))


def change_request(number: int, **fields: Any) -> Change:
    """Return what changes fields of a record's request."""
    return lambda records: change(number, request=replace(records[number].request, **fields))(records)


def remove(number: int) -> Change:
    return lambda records: records.__delitem__(number)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        (lambda records: None, "clean"),
        (remove(2), "order ids are not dense | BTC | 2"),
        (change(7, sequence=5), "the sequences of an asset's requests are not contiguous | ACME | 5"),
        (lambda records: records.insert(3, records[2]), "the sequences of an asset's requests are not contiguous"),
        (change(3, time=11), "time runs backwards | BTC | 2"),
        (change_request(7, order_id=4), "order ids are not dense | ACME | 4"),
        (change_request(7, order_id=2), "an order id is given twice | ACME | 4"),
        (change(7, account="ann"), "the client_order_id 'a' of account ann is there twice | ACME | 4"),
        (remove(0), "the first requests of ACME are missing | ACME | 2"),
        (change(0, request=CancelOrder(1)), "an asset's queue begins with something else | ACME | 1"),
        (change_request(0, definition=Asset(asset="OTHER")), "an asset's queue begins with something else | ACME | 1"),
        (change(4, request=CancelOrder(1)), "an asset's queue begins with something else"),
        (remove(6), "a mass cancel of account ann is not whole | ACME | 4"),
        (remove(5), "a mass cancel of account ann is not whole | BTC | 3"),
        (change(6, account="bob"), "a mass cancel of account bob is not whole | BTC | 3"),
    ],
)
def test_what_is_wrong_in_the_journal_is_named(config: Config, changed: Change, text: str) -> None:
    records = small_journal()
    changed(records)
    write_journal(config, records)
    assert described(found(config)).removeprefix("journal | ").startswith(text)


def test_a_record_that_is_no_request_is_found(config: Config) -> None:
    write_journal(config, small_journal())
    rewrite(config.journal_folder, lambda bodies: bodies.append(b"\x93"), durable=True)
    assert "journal | the record is no request" in described(found(config))


def test_a_group_that_is_not_whole_at_the_very_end_was_never_acknowledged(config: Config) -> None:
    write_journal(config, small_journal()[:6])
    summary = audit(config, None)
    assert {one.asset: one.journal for one in summary.assets} == {"ACME": 2, "BTC": 2}
    assert "the journal ends within a mass cancel, of which there are 1 records" in summary.notes[0]


def test_equal_client_order_ids_are_found_among_many(config: Config) -> None:
    market = Market()
    for _ in range(3000):
        market.enter("ann", BUY, 1, 100)
    records = journal_records(market.records)
    records[2900] = replace(records[2900], request=replace(records[2900].request, client_order_id="c17"))
    write_journal(config, records)
    finding = found(config)
    assert finding is not None
    assert (finding.sequence, finding.expected, finding.found) == (
        2901,
        "order 17 alone to have it",
        "order 2900 with it",
    )


def test_an_id_of_an_archived_segment_may_be_used_again(config: Config, tmp_path: Path) -> None:
    market = Market()
    for _ in range(600):
        market.enter("ann", BUY, 1, 100)
    records = journal_records(market.records)
    records[500] = replace(records[500], request=replace(records[500].request, client_order_id="c1"))
    write_journal(config, records)
    assert "the client_order_id 'c1' of account ann is there twice" in described(found(config))
    archive_first(config.journal_folder, tmp_path / "archive")
    assert audit(config, None, [tmp_path / "archive"]).orders == 600


# -- archived segments -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("laid_out", [False, True])
def test_segments_that_were_moved_away_are_read_where_they_are(config: Config, tmp_path: Path, laid_out: bool) -> None:
    """In the folder that is named, or below it as in the data folder."""
    write_files(config, random_market(11, 600).records)
    archive = tmp_path / "archive"
    archive_first(config.journal_folder, archive / "journal" if laid_out else archive)
    archive_first(config.journal_folder, archive / "journal" if laid_out else archive)
    if laid_out:
        archive_first(config.event_log_folder("ACME"), archive / "events" / "ACME")
    summary = audit(config, None, [archive])
    assert summary.notes == []
    assert all(one.replayed_from == 1 for one in summary.assets)


def test_first_segments_that_nobody_archived_are_missing(config: Config) -> None:
    write_files(config, random_market(11, 600).records)
    archive_first(config.journal_folder)
    segments(config.journal_folder)[0].unlink()
    finding = found(config)
    assert finding is not None
    assert finding.what == "the first segments are missing"
    assert finding.expected == "a segment that begins at position 16384: those before it were archived"
    (config.journal_folder / "archived").unlink()
    assert "begins at position 0: none were archived" in described(found(config))
    (config.journal_folder / "archived").write_text("soon")
    assert "the file that says which segments were archived is damaged" in described(found(config))


def test_without_the_first_segments_the_rest_is_checked_as_far_as_it_goes(config: Config) -> None:
    records = random_market(12, 600).records
    write_files(config, records)
    archive_first(config.journal_folder)
    summary = audit(config, None)
    assert "the journal's segments before position 16384 are elsewhere" in summary.notes[0]
    for one in summary.assets:
        assert not one.replayed_from
        assert 1 < one.first < one.journal == one.event_log
        assert one.events == sum(len(record.events) for record in records if record.asset == one.asset)

    folder = config.event_log_folder("ACME")
    (_, *rest) = segments(folder)
    assert rest
    archive_first(folder)
    summary = audit(config, None)
    assert any("ACME: neither the journal nor the event log has its first requests" in note for note in summary.notes)

    rewrite_last(config, lambda record: replace(record, time=record.time + 1))
    assert "it has another request than the journal: its time" in described(found(config))


def rewrite_last(config: Config, change: Callable[[EventRecord], EventRecord]) -> None:
    """Change the last record of ACME's last segment, whatever comes before that."""
    path = segments(config.event_log_folder("ACME"))[-1]
    data = path.read_bytes()
    at = HEADER_BYTES
    while at + RECORD.size + RECORD.unpack_from(data, at)[3] < len(data):
        at += RECORD.size + RECORD.unpack_from(data, at)[3]
    magic, _, before, _, durable = RECORD.unpack_from(data, at)
    body = encode(change(decode_event_record(data[at + RECORD.size :])))
    chained = struct.pack("<IIQ", before, len(body), durable)
    path.write_bytes(data[:at] + struct.pack("<II", magic, zlib.crc32(chained + body)) + chained + body)


# -- event logs --------------------------------------------------------------------------------------------------------


def changed_log(config: Config, number: int, changed: Callable[[EventRecord], EventRecord]) -> None:
    def rewritten(bodies: list[bytes]) -> None:
        bodies[number] = encode(changed(decode_event_record(bodies[number])))

    rewrite(config.event_log_folder("ACME"), rewritten)


def with_event(number: int, **fields: Any) -> Callable[[EventRecord], EventRecord]:
    def changed(record: EventRecord) -> EventRecord:
        events = list(record.events)
        events[number] = replace(events[number], **fields)
        return replace(record, events=events)

    return changed


@pytest.fixture
def market(config: Config) -> Market:
    """Return a market whose second order traded with the first, of which a rest was canceled; its files are written."""
    market = Market()
    market.enter("ann", SELL, 10, 100)
    market.enter("bob", BUY, 4, 100)
    market.cancel("ann", 1)
    market.enter("bob", BUY, 4, 100)
    write_files(config, market.records)
    return market


def test_an_event_that_was_changed_is_named_with_both_values(config: Config, market: Market) -> None:
    changed_log(config, 2, with_event(1, price=99))
    finding = found(config)
    assert finding is not None
    assert (finding.check, finding.asset, finding.sequence) == ("event log", "ACME", 3)
    assert finding.what == "a fresh run of the matching core gives other events: event 2 of 2"
    assert "price=100" in str(finding.expected)
    assert "price=99" in str(finding.found)
    (path,) = segments(config.event_log_folder("ACME"))
    assert finding.file == str(path)
    assert path.read_bytes()[int(str(finding.offset)) :].startswith(b"Rord")


def test_an_event_that_was_left_out_is_found(config: Config, market: Market) -> None:
    changed_log(config, 2, lambda record: replace(record, events=record.events[:1]))
    finding = found(config)
    assert finding is not None
    assert (finding.what.rpartition(": ")[2], finding.found) == ("event 2", "no event there")


def test_a_record_that_is_missing_or_doubled_is_found(config: Config, market: Market) -> None:
    folder = config.event_log_folder("ACME")
    whole = read_log(folder)
    for changed in (lambda bodies: bodies.__delitem__(2), lambda bodies: bodies.insert(2, bodies[1])):
        rewrite(folder, changed)
        finding = found(config)
        assert finding is not None
        assert finding.what == "it has another request than the journal: its sequence"
        write_log(folder, whole)
    rewrite(folder, lambda bodies: bodies.__delitem__(0))
    assert "its first requests are missing" in described(found(config))


def test_another_request_than_the_journal_s_is_found(config: Config, market: Market) -> None:
    changed_log(config, 1, lambda record: replace(record, request=replace(record.request, client_order_id="x")))
    finding = found(config)
    assert finding is not None
    assert finding.what == "it has another request than the journal: its request"


def test_a_log_that_is_another_asset_s_is_found(config: Config, market: Market) -> None:
    changed_log(config, 1, lambda record: replace(record, asset="BTC-USD"))
    assert "it has another request than the journal: its asset" in described(found(config))


def test_a_record_that_is_no_event_record_is_found(config: Config, market: Market) -> None:
    rewrite(config.event_log_folder("ACME"), lambda bodies: bodies.append(b"\xc0"))
    rewrite(config.event_log_folder("ACME"), lambda bodies: bodies.__delitem__(-2))
    assert "the record is no event record" in described(found(config))


def test_a_trade_with_an_order_that_has_ended_is_named_besides(config: Config, market: Market) -> None:
    """Order 1 was canceled before order 3 came: the log has them trade all the same."""

    def traded(record: EventRecord) -> EventRecord:
        assert type(record.request) is NewOrder
        trade = TradeExecuted(2, 100, 4, BUY, 1, 3, "ann", "bob")
        return replace(record, events=[record.events[0], trade])

    changed_log(config, 4, traded)
    finding = found(config)
    assert finding is not None
    assert finding.what == "a fresh run of the matching core gives other events: event 2 of 2"
    assert finding.also == "something happens to order 1 after its end"


def test_events_of_an_asset_that_the_journal_does_not_know_are_found(config: Config, market: Market) -> None:
    write_log(config.event_log_folder("GONE"), [b"anything"])
    finding = found(config)
    assert finding is not None
    assert finding.what == "there are events of GONE, and the journal has no request of it"


def test_a_request_on_which_the_core_fails_is_named(
    config: Config, market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("what rests has a price")

    monkeypatch.setattr("exchange.core.matching.Matching._cancel_order", fail)
    finding = found(config)
    assert finding is not None
    assert (finding.check, finding.what, finding.sequence) == ("matching", "the matching core fails on the request", 4)
    assert finding.found == "AssertionError: what rests has a price"


# -- quantities, where no core can be run ------------------------------------------------------------------------------


def logged_only(config: Config, changed: Callable[[list[EventRecord]], None]) -> str:
    """Return the difference of an exchange whose journal's first segment is gone, with its event log changed."""
    records = event_records(13, "lively", 400)
    write_journal(config, journal_records(records))
    changed(records)
    write_event_log(config, records)
    archive_first(config.journal_folder)
    return described(found(config))


def test_without_a_core_quantities_are_added_up_all_the_same(config: Config) -> None:
    assert logged_only(config, lambda records: None) == "clean"

    def changed(records: list[EventRecord]) -> None:
        number, place = next(
            (number, place)
            for number, record in enumerate(records)
            for place, event in enumerate(record.events)
            if type(event) is TradeExecuted
        )
        records[number] = with_event(place, quantity=1000)(records[number])

    assert "trades more than it has | ACME" in logged_only(config, changed)
