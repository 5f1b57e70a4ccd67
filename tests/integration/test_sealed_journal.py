"""The journal's seals: a start goes on from the newest state, and whatever is damaged, no wrong record is read."""

import os
import random
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from exchange.core.asset import Asset
from exchange.core.requests import DefineAsset, MassCancel, NewOrder, Record
from exchange.pipeline.archive import archive_up_to
from exchange.pipeline.codec import decode_record_stream, encode
from exchange.pipeline.journal import Journal
from exchange.pipeline.log import RECORD, Archived, Damaged, segment_name
from exchange.pipeline.seals import read_seal, seal_name
from tests.inline_world import Crash, InlineWorld, TestedDisk

SEGMENT_BYTES = 1400  # two records of a group need 1,072
ASSETS = ("ACME", "BTC-USD")


class Memory(msgspec.Struct):
    """What somebody makes of the records: in order entry's place, and of each record anything that is wrong shows."""

    places: dict[str, int] = {}
    orders: int = 0
    hash: int = 0

    def take(self, record: Record) -> None:
        assert record.sequence == self.places.get(record.asset, 0) + 1
        self.places[record.asset] = record.sequence
        if isinstance(record.request, NewOrder):
            self.orders += 1
            assert record.request.order_id == self.orders
        self.hash = zlib.crc32(encode(record), self.hash)


class Handler:
    """A journal, and a memory that is ahead of it while requests are handled, as order entry is."""

    def __init__(self, folder: Path, disk: TestedDisk | None = None, states: bool = True) -> None:
        self.disk = disk or TestedDisk()
        self.journal = Journal(InlineWorld(self.disk), folder, SEGMENT_BYTES)
        self.memory = Memory({})
        self.restored: list[Record] = []
        self.taken: list[Record] = []
        self.acked: list[Record] = []
        self.usable: Callable[[], bool] = lambda: True
        self.states = states
        if states:
            self.journal.state = lambda: msgspec.msgpack.encode(self.memory)

    def open(self, downstream: dict[str, int] | None = None) -> "Handler":
        self.journal.open(self._restore, downstream or {}, self._restore_state if self.states else None)
        self.journal.tend(0.0)
        return self

    def _restore(self, record: Record) -> None:
        self.restored.append(record)
        self.memory.take(record)

    def _restore_state(self, state: bytes) -> bool:
        if self.usable():
            self.memory = msgspec.msgpack.decode(state, type=Memory)
            return True
        return False

    def _record(self, asset: str, account: str, request: Any) -> Record:
        record = Record(asset, self.memory.places.get(asset, 0) + 1, 1000 + self.memory.orders, account, request)
        self.memory.take(record)  # before it is appended
        self.taken.append(record)
        return record

    def order(self) -> None:
        asset = ASSETS[self.memory.orders % 2]
        number = self.memory.orders + 1
        self.journal.append(
            self._record(asset, "alice", NewOrder(number, f"order-{number}" + "x" * (number % 17), 1, 10, 100))
        )

    def group(self) -> None:
        group = [
            self._record(asset, "bob", MassCancel(0, "all", True, part, 2)) for part, asset in enumerate(ASSETS, 1)
        ]
        self.journal.append_together(group)

    def sync(self) -> None:
        self.journal.sync()
        self.journal.tend(0.0)
        self.acked += self.taken
        self.taken.clear()

    def define(self) -> None:
        for asset in ASSETS:
            self.journal.append(self._record(asset, "", DefineAsset(Asset(asset=asset))))

    def run(self, source: random.Random, records: int) -> "Handler":
        """Take requests until there are so many records, in batches, each with one sync."""
        if not self.memory.places:
            self.define()
        while sum(self.memory.places.values()) < records:
            for _ in range(source.choice((1, 1, 1, 2, 5, 30))):
                (self.group if source.random() < 0.2 else self.order)()
            self.sync()
        return self

    def close(self) -> None:
        self.journal.close()


def all_records(journal: Journal) -> dict[str, list[Record]]:
    """Return each asset's records, read one by one, and check that the streams give the same."""
    found: dict[str, list[Record]] = {}
    for asset in ASSETS:
        found[asset] = [journal.read(asset, sequence) for sequence in range(1, journal.last(asset) + 1)]
        replayed: list[Record] = []
        while len(replayed) < len(found[asset]):
            _, last, records = decode_record_stream(journal.replay(asset, len(replayed) + 1))
            assert last == journal.last(asset)
            assert records, "each answer gets on"
            replayed += records
        assert replayed == found[asset]
    orders = {r.request.order_id: r for each in found.values() for r in each if isinstance(r.request, NewOrder)}
    for order_id, record in orders.items():
        assert journal.read_order(order_id) == record
    assert journal.orders.last == len(orders)
    return found


def by_asset(records: list[Record]) -> dict[str, list[Record]]:
    return {asset: [record for record in records if record.asset == asset] for asset in ASSETS}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def names(folder: Path, ending: str) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.endswith(ending))


def put_back(folder: Path, whole: dict[str, bytes]) -> None:
    for path in folder.iterdir():
        if path.name not in whole:
            path.unlink()
    for name, data in whole.items():
        path = folder / name
        if not path.exists() or path.read_bytes() != data:
            path.write_bytes(data)


# -- states ------------------------------------------------------------------------------------------------------------


def test_a_state_and_the_records_after_it_are_as_all_records(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    source = random.Random(seed)
    handler = Handler(tmp_path).open().run(source, 50)
    acked = handler.acked
    for records in range(100, 1000, 100):
        memory = handler.memory
        handler.close()
        handler = Handler(tmp_path).open()
        assert handler.memory == memory
        assert len(handler.restored) < 60, "what came after the newest state only"
        assert handler.restored == acked[len(acked) - len(handler.restored) :]
        scratch = Handler(tmp_path, states=False).open()
        assert scratch.memory == memory
        assert scratch.restored == acked
        scratch.close()
        handler.run(source, records)
        acked += handler.acked
    assert all_records(handler.journal) == by_asset(acked)
    assert handler.journal.indexes.by_name["ACME"].memory == {}, "it is in the seals"
    handler.close()


def test_a_state_that_can_not_be_used_is_passed_over_and_made_again(tmp_path: Path) -> None:
    handler = Handler(tmp_path).open().run(random.Random(1), 200)
    acked, memory = handler.acked, handler.memory
    handler.close()
    for unusable in (1, 3, 100):
        asked: list[bool] = []

        def usable(asked: list[bool] = asked, unusable: int = unusable) -> bool:
            asked.append(True)
            return len(asked) > unusable

        handler = Handler(tmp_path)
        handler.usable = usable
        handler.open()
        assert handler.memory == memory
        assert all_records(handler.journal) == by_asset(acked)
        handler.close()
        again = Handler(tmp_path).open()
        assert again.memory == memory
        assert len(again.restored) < 30, "the newest seal has one of use again"
        again.close()


def test_a_seal_without_room_keeps_its_state(tmp_path: Path) -> None:
    disk = TestedDisk()
    handler = Handler(tmp_path, disk).open().run(random.Random(2), 30)
    whole = len(names(tmp_path, ".seal"))
    room = disk.free_bytes
    handler.journal.log.tend(0.0)
    disk.free_bytes = lambda folder: 0  # type: ignore[method-assign]
    while handler.journal.has_room(1):
        handler.order()
        handler.sync()
    assert len(names(tmp_path, ".seal")) == whole, "there is none of what was filled since"
    acked = list(handler.acked)
    assert all_records(handler.journal) == by_asset(acked)
    disk.free_bytes = room  # type: ignore[method-assign]
    for now in (10.0, 10.9, 11.0, 12.0):
        handler.journal.tend(now)
    assert handler.journal.has_room(1), "and it goes on"
    assert len(names(tmp_path, ".seal")) == len(names(tmp_path, ".log")) - 1
    memory = handler.memory
    handler.close()
    handler = Handler(tmp_path).open()
    assert handler.memory == memory
    assert all_records(handler.journal) == by_asset(acked)
    handler.close()


def test_a_journal_without_seals_is_read_and_sealed(tmp_path: Path) -> None:
    """As one that an older program wrote."""
    handler = Handler(tmp_path).open().run(random.Random(3), 200)
    acked, memory = handler.acked, handler.memory
    handler.close()
    seals = names(tmp_path, ".seal")
    for name in seals:
        (tmp_path / name).unlink()
    handler = Handler(tmp_path).open()
    assert handler.restored == acked
    assert all_records(handler.journal) == by_asset(acked)
    handler.close()
    assert names(tmp_path, ".seal") == seals
    handler = Handler(tmp_path).open()
    assert handler.memory == memory
    assert len(handler.restored) < 60
    handler.close()


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def journal(tmp_path: Path) -> tuple[Path, list[Record]]:
    """Return the folder of a journal of three sealed segments and one that is not full, and its records."""
    folder = tmp_path / "journal"
    handler = Handler(folder).open()
    handler.define()
    handler.sync()
    while len(names(folder, ".log")) < 4:
        for _ in range(3):
            handler.order()
        handler.group()
        handler.sync()
    for _ in range(4):
        handler.order()
        handler.sync()
    handler.close()
    assert len(names(folder, ".seal")) == 3
    (folder / "next").unlink()
    return folder, handler.acked


def test_one_bit_flipped_anywhere_is_never_read_as_data(journal: tuple[Path, list[Record]]) -> None:
    """In every byte of every file: the start is refused, with file and offset, or all is read as it was written.

    The one exception is the last record of all: nothing in the journal says that it was whole once. A matching daemon
    that has applied it does.
    """
    folder, records = journal
    whole = files(folder)
    ends = by_asset(records)
    downstream = {asset: len(ends[asset]) for asset in ASSETS}
    last = names(folder, ".log")[-1]
    used = len(whole[last].rstrip(b"\0"))
    last_record = used - RECORD.size - len(encode(records[-1]))
    refused = cut = 0
    for name, data in sorted(whole.items()):
        written = len(data.rstrip(b"\0"))
        zeros = () if name == last else range(written, len(data), 50)
        for offset in (*range(written), *zeros):
            flipped = bytearray(data)
            flipped[offset] ^= 1 << (offset % 8)
            (folder / name).write_bytes(flipped)
            handler = Handler(folder)
            if name.endswith(".seal"):
                handler.open(downstream)
                if offset % 3 == 0:
                    assert all_records(handler.journal) == ends
                handler.close()
                put_back(folder, whole)
                continue
            with pytest.raises(Damaged, match=rf"{folder}/\d+\.log: (offset \d+: |begins at)"):
                handler.open(downstream)
            refused += 1
            if name == last and offset >= last_record:
                handler = Handler(folder).open()
                assert all_records(handler.journal) == by_asset(records[:-1])
                cut += 1
                handler.close()
                put_back(folder, whole)
        (folder / name).write_bytes(data)
    assert refused > 1000
    assert cut == used - last_record


def test_cut_anywhere_in_its_last_three_records_it_ends_before_unless_somebody_has_seen_more(
    journal: tuple[Path, list[Record]],
) -> None:
    folder, records = journal
    whole = files(folder)
    last = names(folder, ".log")[-1]
    end = len(whole[last].rstrip(b"\0"))
    starts = [end]
    for record in reversed(records[-3:]):
        starts.insert(0, starts[0] - RECORD.size - len(encode(record)))
    assert starts[0] > 100, "all three are in the last segment"
    ends = {asset: len(each) for asset, each in by_asset(records).items()}
    for cut in range(starts[0], end):
        for rest in (0, len(whole[last]) - cut):
            data = whole[last][:cut] + bytes(rest)
            (folder / last).write_bytes(data)
            kept = records[: len(records) - 3 + sum(start <= cut for start in starts[1:])]
            with pytest.raises(Damaged, match=rf"{folder / last}: offset \d+: the journal ends with request"):
                Handler(folder).open(ends)
            assert (folder / last).read_bytes() == data, "it was left as it is"
            handler = Handler(folder).open({asset: len(each) for asset, each in by_asset(kept).items()})
            assert all_records(handler.journal) == by_asset(kept)
            handler.order()
            handler.sync()
            handler.close()
            handler = Handler(folder).open()
            assert all_records(handler.journal) == by_asset(kept + handler.restored[-1:])
            handler.close()
            put_back(folder, whole)


def test_a_state_that_is_ahead_of_what_a_copy_still_has_is_not_taken(tmp_path: Path) -> None:
    """Records behind a segment's end that its state has were lost with the end of the next, and others came."""
    handler = Handler(tmp_path).open()
    handler.define()
    handler.sync()
    while len(names(tmp_path, ".log")) < 2:
        for _ in range(20):  # with one sync, so that the state is some records ahead of the segment's end
            handler.order()
        handler.sync()
    seal = read_seal(TestedDisk(), tmp_path / seal_name(0))
    assert seal is not None
    assert seal.state is not None
    assert seal.state.position > SEGMENT_BYTES + 200
    acked = handler.acked
    handler.close()
    path = tmp_path / segment_name(SEGMENT_BYTES)
    data = path.read_bytes()
    path.write_bytes(data[:200])
    handler = Handler(tmp_path).open()
    kept = handler.restored
    assert kept == acked[: len(kept)]
    assert len(kept) < len(acked)
    for _ in range(20):
        handler.group()
        handler.sync()
    kept += handler.acked
    memory = handler.memory
    handler.close()
    for states in (True, False):
        handler = Handler(tmp_path, states=states).open()
        assert handler.memory == memory
        assert all_records(handler.journal) == by_asset(kept)
        handler.close()


def lose_a_segment(folder: Path) -> None:
    (folder / names(folder, ".log")[1]).unlink()


def lose_the_first_segment(folder: Path) -> None:
    (folder / names(folder, ".log")[0]).unlink()


def lose_the_last_segment(folder: Path) -> None:
    (folder / names(folder, ".log")[-1]).unlink()


def lose_the_end_of_a_segment(folder: Path) -> None:
    os.truncate(folder / names(folder, ".log")[1], 200)


@pytest.mark.parametrize(
    "damage", [lose_a_segment, lose_the_first_segment, lose_the_last_segment, lose_the_end_of_a_segment]
)
def test_damage_to_whole_segments_stops_the_start(
    journal: tuple[Path, list[Record]], damage: Callable[[Path], None]
) -> None:
    folder, _ = journal
    damage(folder)
    before = files(folder)
    with pytest.raises(Damaged, match=r"\d+\.log: .*restore"):
        Handler(folder).open()
    assert files(folder) == before


# -- crashes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("torn", [False, True], ids=["whole writes", "torn writes"])
def test_a_crash_between_any_two_changes_of_files_loses_nothing_that_was_synced(tmp_path: Path, torn: bool) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    crash_at = 0
    folder = tmp_path / "journal"
    while True:
        disk = TestedDisk(crash_at, torn)
        handler = Handler(folder, disk)
        try:
            handler.open().run(random.Random(seed), 35)
            break
        except Crash:
            disk.close_all()
        acked, taken = handler.acked, handler.taken
        again = Handler(folder).open({asset: len(each) for asset, each in by_asset(acked).items()})
        found = all_records(again.journal)
        kept = acked + taken[: sum(map(len, found.values())) - len(acked)]
        assert found == by_asset(kept), f"crash at change {crash_at}"
        again.run(random.Random(seed + 1), len(kept) + 40)
        kept += again.acked
        memory = again.memory
        again.close()
        for states in (True, False):
            again = Handler(folder, states=states).open()
            assert again.memory == memory
            assert all_records(again.journal) == by_asset(kept)
            again.close()
        shutil.rmtree(folder)
        crash_at += 1
    handler.close()
    assert crash_at > 40


# -- archive -----------------------------------------------------------------------------------------------------------


def test_a_journal_goes_on_without_the_segments_that_were_archived(tmp_path: Path) -> None:
    handler = Handler(tmp_path).open().run(random.Random(5), 200)
    acked, memory = handler.acked, handler.memory
    bases = [int(name.removesuffix(".log")) for name in names(tmp_path, ".log")]
    for base in (bases[2], bases[-1]):
        archive_up_to(TestedDisk(), tmp_path, base)
        handler.close()
        handler = Handler(tmp_path).open()
        assert handler.memory == memory
        for asset, records in by_asset(acked).items():
            assert handler.journal.last(asset) == len(records)
            assert handler.journal.read(asset, len(records)) == records[-1]
            with pytest.raises(Archived, match="was moved away"):
                handler.journal.read(asset, 1)
        with pytest.raises(Archived, match="was moved away"):
            handler.journal.read_order(1)
    handler.run(random.Random(6), 250)
    handler.close()
    handler = Handler(tmp_path).open()
    (tmp_path / names(tmp_path, ".log")[0]).unlink()
    with pytest.raises(Damaged, match="a segment is missing"):
        Handler(tmp_path).open()
    handler.close()
