"""A log through kills, errors and power failures that the simulation has found to matter, each by itself."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from exchange.pipeline.log import SEGMENT_HEADER_BYTES, Log
from tests.simulation.disk import SECTOR
from tests.simulation.kernel import Actor, Kernel, Killed
from tests.simulation.world import Life, Machine

FOLDER = Path("/simulated/journal")
SEGMENT = 8192
CHANCES = range(20)  # what a power failure leaves is chance


@pytest.fixture(params=CHANCES)
def machine(request: pytest.FixtureRequest) -> Machine:
    return Machine(Kernel(request.param))


def life(machine: Machine) -> Life:
    return Life(machine, Actor(machine.kernel, "order_handler"))


def journal(world: Life) -> tuple[Log, list[bytes]]:
    """Return a journal that was read, and what was in it."""
    log = Log(world, FOLDER, SEGMENT, durable=True)
    found: list[bytes] = []
    log.scan(lambda position, body: found.append(body))
    return log, found


def started(machine: Machine) -> Log:
    log, _ = journal(life(machine))
    log.start_writing()
    return log


def store(log: Log, *bodies: bytes) -> None:
    for body in bodies:
        log.append(body)
    log.sync()


def lose_power(machine: Machine) -> list[bytes]:
    """Return what a journal has after a power failure."""
    machine.storage.power_failure()
    return journal(life(machine))[1]


def test_what_was_synced_outlives_a_power_failure(machine: Machine) -> None:
    log = started(machine)
    store(log, b"first")
    store(log, b"second", b"third" * 200)
    assert lose_power(machine) == [b"first", b"second", b"third" * 200]


def test_of_what_was_not_synced_a_beginning_is_left() -> None:
    left: set[int] = set()
    bodies = [bytes([number]) * 300 for number in range(1, 9)]
    for chance in range(60):
        machine = Machine(Kernel(chance))
        log = started(machine)
        store(log, b"synced")
        for body in bodies:
            log.append(body)
        log.write()
        found = lose_power(machine)
        assert found == [b"synced", *bodies][: len(found)]
        assert found
        left.add(len(found) - 1)
        again = started(machine)
        store(again, b"later")
        assert lose_power(machine) == [*found, b"later"]
    assert {0, 8} < left, "nothing, all, and something in between"


def test_a_segment_that_was_begun_by_a_process_that_was_killed_keeps_its_name(machine: Machine) -> None:
    """The kill comes after the segment got its name, before the folder was synced."""
    first = life(machine)
    log, _ = journal(first)
    first.kill_soon("sync_folder", 1)
    with pytest.raises(Killed):
        log.start_writing()
    store(started(machine), b"acknowledged")
    assert lose_power(machine) == [b"acknowledged"]


def test_what_a_failed_sync_may_have_lost_is_on_disk_after_the_next_start(machine: Machine) -> None:
    world = life(machine)
    log, _ = journal(world)
    log.start_writing()
    store(log, b"first")
    world.bad_syncs = 2
    with pytest.raises(OSError, match="Input/output"):
        store(log, b"second" * 100, b"third" * 100)
    log, found = journal(life(machine))
    assert found == [b"first", b"second" * 100, b"third" * 100], "the next process can read it"
    log.start_writing()
    store(log, b"fourth")
    assert lose_power(machine) == [b"first", b"second" * 100, b"third" * 100, b"fourth"]


def full_journal(machine: Machine) -> Log:
    """Return a journal whose last segment has hardly any room left, as its process leaves it."""
    log = started(machine)
    store(log, b"x" * (SEGMENT - SEGMENT_HEADER_BYTES - 200))
    return log


def test_a_start_has_room_although_the_last_segment_is_full() -> None:
    machine = Machine(Kernel(1))
    full_journal(machine)
    log = started(machine)
    assert log.has_room(1000), "before anything was done beside the loop"
    store(log, b"definition" * 50)
    assert lose_power(machine)[1:] == [b"definition" * 50]


def test_a_start_on_a_full_disk_waits_for_room() -> None:
    machine = Machine(Kernel(1))
    full_journal(machine)
    machine.storage.free = 0
    log = started(machine)
    assert not log.has_room(1000)


def sectors(data: bytes) -> Iterator[bytes]:
    for at in range(0, len(data), SECTOR):
        yield data[at : at + SECTOR]


def test_a_power_failure_leaves_each_sector_as_one_of_the_writes_made_it() -> None:
    seen: set[bytes] = set()
    for chance in range(100):
        machine = Machine(Kernel(chance))
        disk = life(machine).disk
        file = disk.open(Path("/simulated/file"), create=True)
        disk.write(file, b"a" * SECTOR * 3, 0)
        disk.sync(file)
        disk.sync_folder(Path("/simulated"))
        for content in (b"b", b"c"):
            disk.write(file, content * SECTOR * 3, 0)
        machine.storage.power_failure()
        left = bytes(machine.storage.names["/simulated/file"].data)
        for sector in sectors(left):
            assert sector in (b"a" * SECTOR, b"b" * SECTOR, b"c" * SECTOR)
        seen.add(left[::SECTOR])
    assert len(seen) > 10, "every mixture, by chance"
