"""Files of another log in an event log's folder: they are not taken for its own, whatever of them is there."""

import shutil
from pathlib import Path

import pytest

from exchange.pipeline import codec
from exchange.pipeline.archive import archive_up_to
from exchange.pipeline.event_log import EventLog
from exchange.pipeline.log import Damaged, segment_name
from exchange.pipeline.seals import seal_name
from tests.inline_world import InlineWorld, TestedDisk

SEGMENT_BYTES = 1024
COUNT = 60
SEGMENT, SEAL = segment_name(0), seal_name(0)


def bodies(asset: str, width: int = 20) -> list[bytes]:
    return [codec.encode([asset, number + 1, "x" * (width + number % 50)]) for number in range(COUNT)]


def opened(folder: Path, asset: str = "ACME") -> EventLog:
    event_log = EventLog(InlineWorld(), folder, asset, SEGMENT_BYTES)
    event_log.open()
    return event_log


def write(folder: Path, asset: str, records: list[bytes]) -> None:
    """Append the records that the log has not got, have its segments sealed, and close it."""
    event_log = opened(folder, asset)
    for body in records[event_log.index.last :]:
        event_log.append(body)
        event_log.write()
    event_log.tend(0.0)
    event_log.close()


def read(folder: Path) -> list[bytes]:
    """Return what ACME's log has, after a start."""
    event_log = opened(folder)
    records = [event_log.read(sequence) for sequence in range(1, event_log.index.last + 1)]
    event_log.close()
    return records


def names(folder: Path, ending: str) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.endswith(ending))


@pytest.fixture
def logs(tmp_path: Path) -> tuple[Path, Path]:
    """Return the folders of ACME's event log and GOLD's, of the same sizes, of several sealed segments each."""
    for asset in ("ACME", "GOLD"):
        write(tmp_path / asset, asset, bodies(asset))
        assert len(names(tmp_path / asset, ".seal")) >= 4
    return tmp_path / "ACME", tmp_path / "GOLD"


def test_the_first_segment_of_another_asset_is_dropped_with_what_follows(
    logs: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    acme, gold = logs
    for files in ((SEGMENT,), (SEGMENT, SEAL)):
        for name in files:
            shutil.copy(gold / name, acme / name)
        assert read(acme) == []
        assert f"{acme / SEGMENT}: offset 64: record 1 of GOLD, and 1 of ACME is due" in caplog.text
        caplog.clear()
        write(acme, "ACME", bodies("ACME"))
        assert read(acme) == bodies("ACME"), "made again"
        assert not caplog.records


def test_another_assets_whole_log_is_dropped(logs: tuple[Path, Path]) -> None:
    acme, gold = logs
    shutil.rmtree(acme)
    shutil.copytree(gold, acme)
    assert read(acme) == []
    assert names(acme, ".seal") == []
    assert names(acme, ".log") == [SEGMENT]


def test_the_last_segment_of_another_asset_is_dropped(tmp_path: Path) -> None:
    """Neither has a seal: they have one segment each."""
    for asset in ("ACME", "GOLD"):
        write(tmp_path / asset, asset, bodies(asset)[:5])
    shutil.copy(tmp_path / "GOLD" / SEGMENT, tmp_path / "ACME" / SEGMENT)
    assert read(tmp_path / "ACME") == []


def test_a_record_out_of_its_order_is_dropped_with_what_follows(tmp_path: Path) -> None:
    records = bodies("ACME")
    write(tmp_path, "ACME", records[:8] + records[9:])
    for name in names(tmp_path, ".seal"):
        (tmp_path / name).unlink()
    assert read(tmp_path) == records[:8]
    write(tmp_path, "ACME", records)
    assert read(tmp_path) == records


def test_another_logs_seal_costs_no_record(logs: tuple[Path, Path], tmp_path: Path) -> None:
    """GOLD's, and that of another log of ACME's, whose first segment ends elsewhere, or at the same place."""
    acme, gold = logs
    write(tmp_path / "longer", "ACME", bodies("ACME", 21))
    other = [body.replace(b"x", b"y") for body in bodies("ACME")]
    write(tmp_path / "other", "ACME", other)
    right = (acme / SEAL).read_bytes()
    for folder in (gold, tmp_path / "longer", tmp_path / "other"):
        shutil.copy(folder / SEAL, acme / SEAL)
        assert (acme / SEAL).read_bytes() != right
        event_log = opened(acme)
        assert event_log.index.last == COUNT
        event_log.tend(0.0)
        event_log.close()
        assert (acme / SEAL).read_bytes() == right, "made again"
        assert read(acme) == bodies("ACME")


def test_behind_archived_segments_another_assets_files_are_refused_and_left_alone(logs: tuple[Path, Path]) -> None:
    acme, gold = logs
    archive_up_to(TestedDisk(), acme, 2 * SEGMENT_BYTES)
    name = segment_name(2 * SEGMENT_BYTES)
    right = (acme / name).read_bytes()
    shutil.copy(gold / name, acme / name)
    before = {path.name: path.read_bytes() for path in acme.iterdir()}
    with pytest.raises(Damaged, match=rf"{name}: offset 64: record \d+ of GOLD.*put ACME's file .* back from a copy"):
        opened(acme)
    assert {path.name: path.read_bytes() for path in acme.iterdir()} == before
    (acme / name).write_bytes(right)
    shutil.copy(gold / SEAL, acme / SEAL)
    with pytest.raises(Damaged, match=rf"{SEAL}: offset 0: the seal is missing or damaged"):
        opened(acme)
