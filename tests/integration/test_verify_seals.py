"""The audit of what spares a start its reading: seals and snapshots, as the daemons' own code writes them."""

import hashlib
import random
import shutil
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from exchange.audit.audit import audit
from exchange.config import Config
from exchange.core.events import AssetDefined, EventRecord
from exchange.core.matching import Matching
from exchange.core.matching_state import MatchingState, StoredOrder
from exchange.pipeline.event_log import EventLog
from exchange.pipeline.journal import Journal
from exchange.pipeline.matching_snapshots import MatchingSnapshots
from exchange.pipeline.world import World
from tests.audited import decode_event_record, described, encode, found, journal_records
from tests.log_writer import archive_first, flip_bit, rewrite
from tests.random_requests import PROFILES, random_requests
from tests.support import wait_until, write_config

SEGMENT_BYTES = 16 * 1024
REQUESTS = 1500
EVERY = 400  # requests from one snapshot to the next
HEAD = struct.Struct("<8sIIQQQIII")
SNAPSHOT_HEAD = 28
HASH_BYTES = 32


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the data folder that the journal's, the event log's and the snapshots' own code has left."""
    config = write_config(tmp_path_factory.mktemp("written"))
    write_by_daemons(config)
    return config.data


@pytest.fixture
def config(tmp_path: Path, written: Path) -> Config:
    """Return an exchange with a copy of it, to be changed."""
    config = write_config(tmp_path)
    shutil.copytree(written, config.data)
    return config


def write_by_daemons(config: Config) -> None:
    world, folder = World(), config.event_log_folder("ACME")
    event_log = EventLog(world, folder, "ACME", SEGMENT_BYTES)
    event_log.open()
    core, snapshots = Matching(), MatchingSnapshots(world, folder, event_log, EVERY)
    records: list[EventRecord] = []
    for record in random_requests(41, PROFILES["lively"], REQUESTS):
        records.append(core.apply(record))
        event_log.append(encode(records[-1]))
        event_log.write()
        snapshots.take_if_due(core)
        world.wait_for_fork(10)
    wait_for_seals(folder, event_log.tend)
    event_log.close()

    journal = Journal(World(), config.journal_folder, SEGMENT_BYTES)
    journal.open(lambda record: None, {})
    for record in journal_records(records):
        wait_until(lambda: journal.has_room(1), "there is room for a record", pause=0.001)
        journal.append(record)
        if record.sequence % 10 == 0:
            journal.sync()
    journal.sync()
    wait_for_seals(config.journal_folder, journal.tend)
    journal.close()


def wait_for_seals(folder: Path, tend: Callable[[float], None]) -> None:
    def sealed() -> bool:
        tend(time.monotonic())
        return len(list(folder.glob("*.seal"))) == len(list(folder.glob("*.log"))) - 1

    wait_until(sealed, "all full segments are sealed")


def snapshot_files(config: Config) -> list[Path]:
    return sorted((config.event_log_folder("ACME") / "snapshots").glob("*.snapshot"))


def seal_files(config: Config) -> Iterator[Path]:
    yield from sorted(config.journal_folder.glob("*.seal"))
    yield from sorted(config.event_log_folder("ACME").glob("*.seal"))


def test_what_the_daemons_write_is_clean(config: Config) -> None:
    summary = audit(config, None, complete=True)
    (asset,) = summary.assets
    assert summary.notes == []
    assert summary.journal_seals == summary.journal_segments - 1 > 3
    assert asset.seals == len(list(config.event_log_folder("ACME").glob("*.seal"))) > 3
    assert asset.snapshots == len(snapshot_files(config)) == 2


def test_a_seal_that_says_something_else_than_its_segment_is_found(config: Config) -> None:
    def head(position: int) -> Callable[[list[Any], list[Any]], None]:
        return lambda facts, streams: facts.__setitem__(position, facts[position] + 1)

    def stream(position: int, value: Any) -> Callable[[list[Any], list[Any]], None]:
        return lambda facts, streams: streams[0].__setitem__(position, value)

    changes = [
        *((head(place), name) for place, name in enumerate(("base", "size", "end", "before", "of the last", "CRC"), 3)),
        (stream(0, "OTHER"), "streams"),
        (stream(1, 7), "first sequence"),
        (stream(2, 7), "count"),
        (lambda facts, streams: streams.append(["OTHER", 1, 1, 0]), "streams"),
    ]
    for path in (next(seal_files(config)), next(config.event_log_folder("ACME").glob("*.seal"))):
        whole = path.read_bytes()
        for change, text in changes:
            change_seal(path, change)
            finding = described(found(config))
            assert finding.startswith("seal | the seal says something else than its segment: "), text
            assert text in finding.partition(" | ")[2].partition(" | ")[0]
            assert str(path) in finding
            path.write_bytes(whole)
        change_offset(path)
        assert "offset of record 0" in described(found(config))
        path.write_bytes(whole)


def change_seal(path: Path, change: Callable[[list[Any], list[Any]], None]) -> None:
    """Change a seal's facts or its streams, and leave it valid."""
    data = path.read_bytes()
    facts = list(HEAD.unpack_from(data))
    directory = msgspec.msgpack.decode(data[HEAD.size : HEAD.size + facts[2]])
    body = data[HEAD.size + facts[2] + HASH_BYTES :]
    change(facts, directory[0])
    encoded = msgspec.msgpack.encode(directory)
    facts[2] = len(encoded)
    head = HEAD.pack(*facts) + encoded
    path.write_bytes(head + hashlib.sha256(head).digest() + body)


def change_offset(path: Path) -> None:
    """Change the first offset of the first stream's, and leave its checksum valid."""
    data = bytearray(path.read_bytes())
    length = HEAD.unpack_from(data)[2]
    _, _, count, place = msgspec.msgpack.decode(data[HEAD.size : HEAD.size + length])[0][0]
    at = HEAD.size + length + HASH_BYTES + place
    size = 4 * min(count, 4096)
    data[at] ^= 1
    data[at + size : at + size + 4] = zlib.crc32(data[at : at + size]).to_bytes(4, "little")
    path.write_bytes(data)


def test_damage_in_what_is_made_again_by_a_start_is_noted(config: Config) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    paths = [*list(seal_files(config))[::3], snapshot_files(config)[0]]
    for path in paths:
        whole = path.read_bytes()
        head = HEAD.size + HEAD.unpack_from(whole)[2] + HASH_BYTES if path.suffix == ".seal" else len(whole)
        flip_bit(path, chance.randrange(head))
        (note,) = audit(config, None).notes
        assert note.startswith(f"{path}: the {path.suffix[1:]} is "), note
        path.write_bytes(whole[: chance.randrange(len(whole) - 1)])
        assert found(config) is None
        path.write_bytes(whole)
    for path in paths:
        path.unlink()
    assert audit(config, None).notes == []


def change_snapshot(path: Path, change: Callable[[MatchingState], MatchingState]) -> None:
    """Change the state in a snapshot, and leave it valid."""
    data = path.read_bytes()
    body = msgspec.msgpack.decode(data[SNAPSHOT_HEAD:-HASH_BYTES], type=tuple[bytes, int, MatchingState])
    changed = msgspec.msgpack.encode((body[0], body[1], change(body[2])))
    head = data[: SNAPSHOT_HEAD - 8] + len(changed).to_bytes(8, "little")
    path.write_bytes(head + changed + hashlib.sha256(head + changed).digest())


def without_first(orders: list[StoredOrder]) -> list[StoredOrder]:
    assert orders
    return orders[1:]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda state: replace(state, last_price=state.last_price + 1), "last_price"),
        (lambda state: replace(state, trade_id=state.trade_id - 1), "trade_id"),
        (lambda state: replace(state, buys=without_first(state.buys)), "buys, 1 of "),
        (lambda state: replace(state, sells=state.sells[:-1]), "sells, "),
        (
            lambda state: replace(state, buys=[replace(state.buys[0], leaves=999), *state.buys[1:]]),
            "buys, 1 of ",
        ),
        (lambda state: replace(state, status="halted"), "status"),
    ],
)  # fmt: skip
def test_a_snapshot_that_is_not_what_a_fresh_run_comes_to_is_found(
    config: Config, change: Callable[[MatchingState], MatchingState], text: str
) -> None:
    path = snapshot_files(config)[-1]
    change_snapshot(path, change)
    finding = found(config)
    assert finding is not None
    assert finding.what.startswith(f"the snapshot is not what a fresh run of the matching core comes to: {text}")
    assert (finding.file, finding.asset, finding.sequence) == (str(path), "ACME", int(path.stem))


def test_from_a_snapshot_on_the_core_is_run_where_the_first_segments_were_archived(config: Config) -> None:
    archive_first(config.journal_folder)
    archive_first(config.event_log_folder("ACME"))
    summary = audit(config, None, complete=True)
    (asset,) = summary.assets
    assert asset.replayed_from == int(snapshot_files(config)[0].stem) + 1
    assert asset.snapshots == 1  # the second; the first is where the run begins


def test_what_the_core_does_not_do_is_found_from_a_snapshot_on(config: Config) -> None:
    def change(bodies: list[bytes]) -> None:
        number = max(number for number, body in enumerate(bodies) if b"trade" in body)
        record = decode_event_record(bodies[number])
        bodies[number] = encode(replace(record, events=[*record.events, AssetDefined()]))

    folder = config.event_log_folder("ACME")
    archive_first(config.journal_folder)
    for path in folder.glob("*.seal"):
        path.unlink()
    rewrite(folder, change)
    finding = found(config)
    assert finding is not None
    assert finding.what.startswith("a fresh run of the matching core gives other events: event ")
    assert (finding.expected, finding.found) == ("no event there", "AssetDefined()")


def test_a_snapshot_of_another_history_is_noted(config: Config) -> None:
    """The event log has another record where it was taken: a start passes it over."""
    paths = snapshot_files(config)
    for path in paths:
        data = path.read_bytes()
        body = msgspec.msgpack.decode(data[SNAPSHOT_HEAD:-HASH_BYTES], type=tuple[bytes, int, msgspec.Raw])
        changed = msgspec.msgpack.encode((bytes(HASH_BYTES), body[1], body[2]))
        path.write_bytes(data[:SNAPSHOT_HEAD] + changed + hashlib.sha256(data[:SNAPSHOT_HEAD] + changed).digest())
    notes = audit(config, None).notes
    assert [note.partition(": ")[0] for note in notes] == [str(path) for path in paths]
    assert all("of another history" in note for note in notes)
