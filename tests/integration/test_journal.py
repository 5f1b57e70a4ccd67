"""The order journal on a real disk: places, retries, groups that are whole or not there, and a lost end."""

from pathlib import Path

import pytest

from exchange.core.asset import Asset
from exchange.core.requests import CancelOrder, DefineAsset, MassCancel, NewOrder, Record
from exchange.pipeline.codec import decode_record_stream
from exchange.pipeline.journal import MAX_RECORD_BYTES, Journal
from exchange.pipeline.log import RECORD, Damaged, segment_name
from exchange.pipeline.world import World

ASSET = Asset(asset="ACME")


def new_order(asset: str, sequence: int, order_id: int) -> Record:
    return Record(asset, sequence, 1000 + order_id, "alice", NewOrder(order_id, f"order-{order_id}", 1, 10, 100))


def opened(folder: Path, downstream: dict[str, int] | None = None) -> tuple[Journal, list[Record]]:
    """Open a journal and return it with the records that it restored."""
    restored: list[Record] = []
    journal = Journal(World(), folder, 1024 * 1024)
    journal.open(restored.append, downstream or {})
    return journal, restored


RECORDS = [
    Record("ACME", 1, 1, "", DefineAsset(ASSET)),
    new_order("ACME", 2, 1),
    Record("BTC-USD", 1, 1002, "", DefineAsset(Asset(asset="BTC-USD"))),
    new_order("BTC-USD", 2, 2),
    new_order("ACME", 3, 3),
    Record("ACME", 4, 1004, "alice", CancelOrder(3, "retry-1")),
]
GROUP = [
    Record("ACME", 5, 2000, "alice", MassCancel(0, "all", True, 1, 2)),
    Record("BTC-USD", 3, 2000, "alice", MassCancel(0, "all", True, 2, 2)),
]


def written(folder: Path) -> None:
    journal, _ = opened(folder)
    for record in RECORDS:
        journal.append(record)
    journal.sync()
    journal.append_together(GROUP)
    journal.sync()
    journal.close()


def test_records_are_restored_in_order_and_found_by_their_place(tmp_path: Path) -> None:
    written(tmp_path)
    journal, restored = opened(tmp_path)
    assert restored == RECORDS + GROUP
    for record in restored:
        assert journal.read(record.asset, record.sequence) == record
    assert (journal.last("ACME"), journal.last("BTC-USD"), journal.last("NONE")) == (5, 3, 0)
    journal.close()


def test_an_assets_records_are_replayed_from_any_place(tmp_path: Path) -> None:
    written(tmp_path)
    journal, restored = opened(tmp_path)
    acme = [record for record in restored if record.asset == "ACME"]
    for first in range(1, 6):
        asset, last, records = decode_record_stream(journal.replay("ACME", first))
        assert (asset, last, records) == ("ACME", 5, acme[first - 1 :])
    assert decode_record_stream(journal.replay("ACME", 6)) == ("ACME", 5, [])
    assert decode_record_stream(journal.replay("NONE", 1)) == ("NONE", 0, [])
    journal.close()


def test_a_mass_cancel_that_was_written_in_part_is_not_there(tmp_path: Path) -> None:
    """It was never acknowledged; half of it would be an order that its owner thinks canceled."""
    written(tmp_path)
    path = tmp_path / segment_name(0)
    data = path.read_bytes()
    end = len(data.rstrip(b"\0"))
    path.write_bytes(data[: end - 10].ljust(len(data), b"\0"))
    journal, restored = opened(tmp_path)
    assert restored == RECORDS
    journal.append_together(GROUP)
    journal.sync()
    journal.close()
    assert opened(tmp_path)[1] == RECORDS + GROUP


def test_a_journal_that_ends_before_what_was_applied_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    written(tmp_path)
    path = tmp_path / segment_name(0)
    data = path.read_bytes()
    cut = data[: len(data.rstrip(b"\0")) - 10].ljust(len(data), b"\0")
    path.write_bytes(cut)
    with pytest.raises(Damaged, match=r"offset \d+: .* ends with request 4 of ACME, .* applied request 5"):
        opened(tmp_path, {"ACME": 5})
    assert path.read_bytes() == cut
    journal, restored = opened(tmp_path, {"ACME": 4})
    assert restored == RECORDS
    journal.close()


def test_no_record_is_larger_than_room_is_kept_for(tmp_path: Path) -> None:
    journal, _ = opened(tmp_path)
    largest = 2**63 - 1
    body = journal.append(
        Record("A" * 24, largest, largest, "a" * 32, NewOrder(largest, "x" * 36, -1, largest, largest, "market", "gtc"))
    )
    assert RECORD.size + len(body) <= MAX_RECORD_BYTES
    definition = Asset(asset="A" * 24, min_price=largest, max_price=largest)
    body = journal.append(Record("A" * 24, largest, largest, "a" * 32, DefineAsset(definition)))
    assert RECORD.size + len(body) <= MAX_RECORD_BYTES
    journal.sync()
    journal.close()
