"""The table of ids on disk: nothing that was added and synced is missing, whatever the disk keeps of the rest."""

import errno
import logging
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from exchange.pipeline.disk import Disk
from exchange.pipeline.id_table import FILTER_BYTES, SLOTS, IdTable, NoRoom, Unusable, _is_prime
from exchange.pipeline.world import World

PAGE = 4096


class ForgetfulDisk(Disk):
    """A disk whose mapped files are on disk when they are synced, and else page by page, by chance."""

    def __init__(self) -> None:
        self.mapped: dict[int, bytearray] = {}
        self.free = 2**40

    def map(self, file: int, size: int) -> memoryview:
        self.mapped[file] = bytearray(self.read(file, size, 0))
        return memoryview(self.mapped[file])

    def sync(self, file: int) -> None:
        if file in self.mapped:
            self.write(file, bytes(self.mapped[file]), 0)
        super().sync(file)

    def close(self, file: int) -> None:
        self.mapped.pop(file, None)
        super().close(file)

    def free_bytes(self, folder: Path) -> int:
        return self.free

    def lose_power(self, source: random.Random) -> None:
        """End as a machine that loses power does: of what was not synced some pages are on disk."""
        for file, data in self.mapped.items():
            for offset in range(0, len(data), PAGE):
                if source.random() < 0.5:
                    self.write(file, bytes(data[offset : offset + PAGE]), offset)


class Aside(World):
    """A world that runs jobs beside the loop when told to, or at once."""

    def __init__(self, disk: Disk | None = None, at_once: bool = True) -> None:
        super().__init__()
        self.disk = disk or self.disk
        self.at_once = at_once
        self.waiting: list[Callable[[], None]] = []

    def run_aside(self, job: Callable[[], None]) -> None:
        self.waiting.append(job)
        if self.at_once:
            self.run()

    def run(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


def made(folder: Path, world: World | None = None, slots: int = 4096, filter_bytes: int = 4096) -> IdTable:
    table = IdTable(world or Aside(), folder, slots, filter_bytes)
    table.create()
    return table


def opened(folder: Path) -> IdTable:
    table = IdTable(Aside(), folder, 4096, 4096)
    table.open()
    return table


def positions(table: IdTable, text: str) -> set[int]:
    return set(table.find(table.hash(text)))


def test_an_id_is_found_by_its_text_and_others_are_not(tmp_path: Path) -> None:
    table = made(tmp_path)
    table.add({table.hash("ann/1"): 64}.items())
    table.add({table.hash("ann/2"): 2**48 - 1}.items())
    assert positions(table, "ann/1") == {64}
    assert positions(table, "ann/2") == {2**48 - 1}
    assert not list(table.find(table.hash("bob/1")))
    table.close()


def test_an_id_added_again_takes_no_second_place(tmp_path: Path) -> None:
    table = made(tmp_path)
    for _ in range(2):
        table.add({table.hash("ann/1"): 64}.items())
    table.add_again(table.hash("ann/1"), 64)
    table.add_again(table.hash("ann/1"), 65)
    assert sorted(table.find(table.hash("ann/1"))) == [64, 65]
    assert table.count == 2
    table.close()


@pytest.mark.parametrize("seed", range(3))
def test_all_ids_are_found_through_generations_and_starts(seed: int, tmp_path: Path) -> None:
    source = random.Random(seed)
    table = made(tmp_path)
    table.start()
    known: dict[str, int] = {}
    for position in range(1, 12_001):
        text = f"{source.choice(('ann', 'bob'))}/{source.choice(('', 'order-'))}{position}"
        known[text] = position
        table.add({table.hash(text): position}.items())
        if not source.randrange(2000):
            table.mark(position + 1)
            table.sync()
            table.close()
            table = opened(tmp_path)
            assert table.count == len(known)
            assert table.has_all(table.number, position + 1)
            assert not table.has_all(table.number, position + 2)
            table.start()
    assert table.files == 6
    missing = [text for text, position in known.items() if position not in table.find(table.hash(text))]
    assert not missing, f"seed {seed}"
    strangers = sum(any(table.find(table.hash(f"eve/{number}"))) for number in range(10_000))
    assert strangers < 100, "an entry's tag tells nearly all strangers"
    table.close()


@pytest.mark.parametrize("seed", range(20))
def test_after_a_loss_of_power_nothing_is_missing_once_the_rest_is_added_again(seed: int, tmp_path: Path) -> None:
    source = random.Random(seed)
    disk = ForgetfulDisk()
    table = made(tmp_path, Aside(disk))
    table.start()
    ids: list[str] = []  # the position of each is its place
    synced = 0
    for _ in range(source.randint(1, 4)):
        for _ in range(source.randrange(2000)):
            ids.append(f"ann/{len(ids)}")
            table.add({table.hash(ids[-1]): len(ids)}.items())
        if source.random() < 0.6:
            table.mark(len(ids) + 1)
            table.sync()
            synced = len(ids)
    disk.lose_power(source)

    table = opened(tmp_path)
    for position in range(synced + 1, len(ids) + 1):
        table.add_again(table.hash(ids[position - 1]), position)
    missing = [text for position, text in enumerate(ids, 1) if position not in table.find(table.hash(text))]
    assert not missing, f"seed {seed}"
    table.close()


def test_a_table_that_was_made_in_part_is_none(tmp_path: Path) -> None:
    made(tmp_path).close()
    (tmp_path / "header").unlink()
    with pytest.raises(Unusable, match="there is no table"):
        opened(tmp_path)
    table = made(tmp_path)
    assert table.count == 0
    table.close()
    opened(tmp_path).close()


def test_a_damaged_header_a_missing_file_and_one_of_another_size_are_noticed(tmp_path: Path) -> None:
    table = made(tmp_path)
    for position in range(1, 3001):
        table.add({table.hash(str(position)): position}.items())
    table.close()
    header = tmp_path / "header"
    data = header.read_bytes()
    for place in range(len(data)):
        header.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        with pytest.raises(Unusable, match="is damaged"):
            opened(tmp_path)
    header.write_bytes(data)
    opened(tmp_path).close()
    second = tmp_path / "000001.ids"
    content = second.read_bytes()
    second.write_bytes(content[:-8])
    with pytest.raises(Unusable, match=r"000001\.ids: has not the 32768 bytes"):
        opened(tmp_path)
    second.write_bytes(content)
    (tmp_path / "000000.ids").unlink()
    with pytest.raises(Unusable, match="a file of the table is missing"):
        opened(tmp_path)
    (tmp_path / "checkpoint").unlink()
    (tmp_path / "000001.ids").rename(tmp_path / "000000.ids")
    with pytest.raises(Unusable, match="checkpoint: is missing"):
        opened(tmp_path)


def test_a_table_that_lost_ids_or_is_an_older_copy_is_not_used(tmp_path: Path) -> None:
    """A bit flipped or a part zeroed anywhere in an entry that was synced; files of different times."""
    source = random.Random(7)
    folder, copy = tmp_path / "ids", tmp_path / "copy"
    table = made(folder)
    table.start()
    for position in range(1, 5001):
        table.add({table.hash(f"ann/{position}"): position}.items())
        if position == 4500:
            table.mark(position + 1)
            table.sync()
            shutil.copytree(folder, copy)
    table.mark(5001)
    table.sync()
    table.close()
    opened(folder).close()
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        if path.name in ("header", "next"):
            continue
        used = [place for place, byte in enumerate(data) if byte]
        for place in source.sample(used, 60):
            path.write_bytes(data[:place] + bytes([data[place] ^ 1 << source.randrange(8)]) + data[place + 1 :])
            with pytest.raises(Unusable):
                opened(folder)
        start = source.choice(used) // 8 * 8
        path.write_bytes(data[:start] + bytes(64) + data[start + 64 :])
        with pytest.raises(Unusable):
            opened(folder)
        path.write_bytes(data)
    for name in ("000002.ids", "checkpoint"):
        data = (folder / name).read_bytes()
        shutil.copy(copy / name, folder / name)
        if name == "checkpoint":  # an older one beside newer files agrees with them, and says how old it is
            table = opened(folder)
            assert not table.has_all(table.number, 5001)
            table.close()
        else:
            with pytest.raises(Unusable, match="is damaged, or an older copy"):
                opened(folder)
        (folder / name).write_bytes(data)
    opened(folder).close()


def test_a_table_that_could_not_be_synced_is_made_again(tmp_path: Path) -> None:
    """An error on sync is told once: the next one succeeds, and what failed is not on disk."""

    class FailingDisk(Disk):
        def __init__(self) -> None:
            self.fails = False

        def sync(self, file: int) -> None:
            if self.fails:
                self.fails = False
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            super().sync(file)

    disk = FailingDisk()
    table = made(tmp_path, Aside(disk))
    table.add({table.hash("a"): 1}.items())
    disk.fails = True
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        table.sync()
    table.sync()
    assert positions(table, "a") == {1}, "the process that has it goes on with it"
    table.close()
    with pytest.raises(Unusable):
        opened(tmp_path)


def test_room_is_made_ahead_and_none_is_said_before_it_is_needed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = ForgetfulDisk()
    world = Aside(disk, at_once=False)
    table = made(tmp_path, world)
    table.start()
    disk.free = 0
    position = 0
    with caplog.at_level(logging.WARNING):
        while table.room:
            position += 1
            table.add({table.hash(str(position)): position}.items())
            world.run()
    assert position == 2048, "half of the slots"
    assert "no room for more ids: [Errno 28]" in caplog.text
    with pytest.raises(NoRoom):
        table.add({table.hash("one more"): 9999}.items())
    for now in (0.0, 0.5):
        table.tend(now)
    assert not world.waiting, "it is tried again after a second"
    disk.free = 2**40
    table.tend(1.1)
    assert not table.room
    world.run()
    assert table.room
    table.add({table.hash("one more"): 9999}.items())
    assert positions(table, "one more") == {9999}
    table.close()


def test_what_was_allocated_ahead_is_used_or_made_again(tmp_path: Path) -> None:
    table = made(tmp_path)
    table.start()
    for position in range(1, 1100):
        table.add({table.hash(str(position)): position}.items())
    assert (tmp_path / "next").exists()
    table.close()
    table = opened(tmp_path)
    assert not (tmp_path / "next").exists()
    table.start()
    assert (tmp_path / "next").exists()
    table.close()


def test_the_hash_is_another_in_each_table_and_its_modulus_is_prime(tmp_path: Path) -> None:
    tables = [made(tmp_path / str(number)) for number in range(3)]
    assert len({table.hash("ann/1") for table in tables}) == 3
    for table in tables:
        for prime in table.primes:
            assert _is_prime(prime)
            assert pow(2, prime - 1, prime) == 1
        table.close()
    assert [number for number in range(3, 100, 2) if _is_prime(number)] == [
        *(3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97)
    ]


def test_ids_of_a_pattern_spread_as_random_ones_do(tmp_path: Path) -> None:
    """Consecutive numbers, of many accounts, do not pile up."""
    for pattern in ("ann/{}", "ann/order-{:08d}", "{}/a", "ann/{:04x}-0000-0000"):
        table = made(tmp_path / pattern[:6].replace("/", "_"))
        for number in range(1, 2000):
            table.add({table.hash(pattern.format(number)): number}.items())
        slots = table._files[0].content.tolist()
        longest = max(len(run) for run in "".join("x" if slot else " " for slot in slots).split())
        assert longest < 200, f"{pattern}: {longest} slots in a row are taken"
        table.close()


def test_ids_cost_little(tmp_path: Path) -> None:
    """A few microseconds each, and 16 bytes of disk but for what is allocated ahead."""
    table = IdTable(Aside(), tmp_path)
    table.create()
    table.start()
    began = time.perf_counter()
    for number in range(1, 100_001):
        hash_ = table.hash(f"account-1/order-{number}")
        if not table.find(hash_):
            table.add({hash_: number}.items())
    assert (time.perf_counter() - began) / 100_000 < 50e-6
    assert list(table.find(table.hash("account-1/order-7"))) == [7]
    assert table.disk_bytes == FILTER_BYTES + 8 * SLOTS
    assert SLOTS * 8 / (SLOTS // 2) == 16
    table.close()
