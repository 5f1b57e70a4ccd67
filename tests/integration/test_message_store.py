"""Messages kept for retransmission, on a real disk: found by number, past a restart, and never wrong."""

import errno
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from exchange.pipeline.codec import encode
from exchange.pipeline.disk import Disk
from exchange.pipeline.message_chunk import BLOCK, READ_AHEAD, ChunkPlace
from exchange.pipeline.message_store import CHUNKS, MessageStore

TRADES, REPORTS, QUIET = "trade/ACME/", "execution/alice/ACME/", "execution/bob/ACME/"
SEED = random.SystemRandom().randrange(2**32)  # a new one each run; a failure prints it


class FullDisk(Disk):
    """A disk that can be made full."""

    full = False

    def write(self, file: int, data: bytes, offset: int) -> None:
        if self.full:
            super().write(file, data[: len(data) // 2], offset)
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(file, data, offset)


@contextmanager
def opened(folder: Path, retained: int = 1000, disk: Disk | None = None) -> Iterator[MessageStore]:
    store = MessageStore(disk or Disk(), folder, retained)
    try:
        yield store
    finally:
        store.close()


def payload_of(topic: str, number: int) -> bytes:
    """Return a message that says whose it is, of a length of its own."""
    return f"{topic} {number} ".encode() + bytes(random.Random(f"{topic}{number}").randrange(400))


def fill(store: MessageStore, first: int, last: int, size: int = 1) -> None:
    """Add messages of those numbers to two topics, and one in a hundred to a third, `size` between two writes."""
    for number in range(first, last + 1):
        store.add(TRADES, number, payload_of(TRADES, number))
        store.add(REPORTS, number, payload_of(REPORTS, number))
        if number % 100 == 1:
            store.add(QUIET, number // 100 + 1, payload_of(QUIET, number // 100 + 1))
        if number % size == 0:
            store.write()
    store.write()


def check(store: MessageStore, last: int, least: int = 0) -> None:
    """Fail unless each topic is there without a gap up to its end, and right; at least that many of the lively ones."""
    ends = ((TRADES, last), (REPORTS, last), (QUIET, (last + 99) // 100))
    for topic, end in ends:
        earliest = store.earliest(topic)
        first = end + 1 if earliest is None else earliest
        for number in range(first, end + 1):
            assert store.read(topic, number) == payload_of(topic, number)
        assert store.read(topic, first - 1) is None
        assert store.read(topic, end + 1) is None
        assert topic is QUIET or end + 1 - first >= least


def place_of(store: MessageStore) -> ChunkPlace:
    """Return the store's place as a snapshot would bring it."""
    store.sync()
    return msgspec.msgpack.decode(encode(store.place), type=ChunkPlace)


def test_messages_are_found_by_topic_and_number_short_and_long(tmp_path: Path) -> None:
    sizes = [1, 100, READ_AHEAD, READ_AHEAD + 1, BLOCK - 5, BLOCK, 100_000]
    payloads = [bytes([number]) * size for number, size in enumerate(sizes, 1)]
    with opened(tmp_path) as store:
        for number, payload in enumerate(payloads, 1):
            store.add(TRADES, number, payload)
            store.add(REPORTS, number, payload[::-1] + b"!")
        store.write()
        for number, payload in enumerate(payloads, 1):
            assert store.read(TRADES, number) == payload
            assert store.read(REPORTS, number) == payload[::-1] + b"!"
        assert store.read(TRADES, 0) is None
        assert store.read(TRADES, len(payloads) + 1) is None
        assert store.read("bbo/ACME/", 1) is None


@pytest.mark.parametrize("size", [1, 7, 250])
def test_at_least_half_of_what_is_to_be_retained_is_and_never_more_than_all(tmp_path: Path, size: int) -> None:
    with opened(tmp_path, 1000) as store:
        for number in range(1, 5001):
            store.add(TRADES, number, number.to_bytes(4, "big"))
            if number % size:
                continue
            store.write()
            earliest = store.earliest(TRADES)
            kept = 0 if earliest is None else number - earliest + 1
            assert kept <= 1000
            assert kept >= min(number, 500)
            assert earliest is None or store.read(TRADES, earliest) == earliest.to_bytes(4, "big")
    assert len(list(tmp_path.iterdir())) <= 2 * CHUNKS + 1


def test_messages_in_full_chunks_are_found_across_topics(tmp_path: Path) -> None:
    with opened(tmp_path, 5000) as store:
        fill(store, 1, 4000, 10)
        assert len(store.full) > 5
        check(store, 4000, least=1250)
        order = random.Random(SEED)
        for _ in range(500):
            number = order.randint(store.earliest(TRADES) or 1, 4000)
            assert store.read(TRADES, number) == payload_of(TRADES, number), f"seed {SEED}"


def test_what_is_written_in_one_is_at_most_that_much_above_what_is_to_be_retained(tmp_path: Path) -> None:
    with opened(tmp_path, 1000) as store:
        fill(store, 1, 3000, 3000)
        assert store.earliest(TRADES) == 1
        fill(store, 3001, 4000, 10)
        check(store, 4000, least=250)
        assert store.earliest(TRADES) == 3001 or (store.earliest(TRADES) or 0) > 3001


# -- what outlives the process -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1, 30, 300, 2500])
@pytest.mark.parametrize("before", [0, 1, 31, 32, 400, 2500])
def test_after_a_restart_what_was_retained_is_there_and_what_came_since_can_be_added_again(
    tmp_path: Path, before: int, after: int
) -> None:
    """The chunks of 1,000 retained messages have 62: 31 numbers of two topics, or fewer with a quiet topic's."""
    with opened(tmp_path) as store:
        fill(store, 1, before, 3)
        place = place_of(store)
        fill(store, before + 1, before + after, 5)
        earliest = store.earliest(TRADES) or 1
    with opened(tmp_path) as store:
        if place.count and earliest > before:
            assert not store.go_on(place), "its chunk is past retention"
            return
        assert store.go_on(place)
        assert store.earliest(TRADES) == (earliest if before >= earliest else None)
        check(store, before, least=before + 1 - earliest)
        fill(store, before + 1, before + after, 4)
        check(store, before + after, least=min(before + after, 250))


def test_a_place_is_gone_on_from_more_than_once(tmp_path: Path) -> None:
    with opened(tmp_path, 10_000) as store:
        fill(store, 1, 1000)
        place = place_of(store)
    for round_ in range(1, 4):
        with opened(tmp_path, 10_000) as store:
            assert store.go_on(place)
            fill(store, 1001, 1001 + 400 * round_, round_)
            check(store, 1001 + 400 * round_, least=1001 + 400 * round_)


def test_what_is_retained_may_be_another_number_after_a_restart(tmp_path: Path) -> None:
    with opened(tmp_path, 1000) as store:
        fill(store, 1, 1000)
        place = place_of(store)
    with opened(tmp_path, 100_000) as store:
        assert store.go_on(place)
        fill(store, 1001, 5000)
        check(store, 5000, least=4000)
        place = place_of(store)
    with opened(tmp_path, 1000) as store:
        assert store.go_on(place)
        fill(store, 5001, 5100)
        check(store, 5100)
        assert (store.earliest(TRADES) or 0) > 3000


def test_an_emptied_store_leaves_no_file(tmp_path: Path) -> None:
    with opened(tmp_path, 1000) as store:
        fill(store, 1, 1000)
        place = place_of(store)
    with opened(tmp_path, 1000) as store:
        store.clear()
        assert list(tmp_path.iterdir()) == []
        assert not store.go_on(place)
        fill(store, 1, 500)
        check(store, 500, least=250)


# -- damage ------------------------------------------------------------------------------------------------------------


def chunk_files(folder: Path, ending: str) -> list[Path]:
    return sorted(folder.glob(f"*{ending}"))


def test_a_bit_flipped_anywhere_is_never_a_wrong_message(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    with opened(tmp_path, 3000) as store:
        fill(store, 1, 400, 7)
        place = place_of(store)
    for _ in range(40):
        path = chance.choice(list(tmp_path.iterdir()))
        sound = path.read_bytes()
        at = chance.randrange(len(sound))
        path.write_bytes(sound[:at] + bytes([sound[at] ^ (1 << chance.randrange(8))]) + sound[at + 1 :])
        kept = {each: each.read_bytes() for each in tmp_path.iterdir()}
        with opened(tmp_path, 3000) as store:
            if store.go_on(place):
                wrong = {
                    (topic, number): payload
                    for topic in (TRADES, REPORTS)
                    for number in range(400, 0, -1)
                    if (payload := store.read(topic, number)) not in (None, payload_of(topic, number))
                }
                assert not wrong
                check(store, 400)
                fill(store, 401, 450)
                check(store, 450, least=50)
            else:
                assert path == chunk_files(tmp_path, ".messages")[-1]
        for each in tmp_path.iterdir():
            each.unlink()
        for each, content in kept.items():
            each.write_bytes(sound if each == path else content)


@pytest.mark.parametrize("ending", [".messages", ".index"])
@pytest.mark.parametrize("how", ["gone", "empty", "zeros", "short"])
def test_a_damaged_chunk_is_given_up_with_all_before_it(
    tmp_path: Path, how: str, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(tmp_path, 3000) as store:
        fill(store, 1, 1000)
        place = place_of(store)
    path = chunk_files(tmp_path, ending)[4]
    size = path.stat().st_size
    match how:
        case "gone":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "zeros":
            path.write_bytes(bytes(size))
        case "short":
            path.write_bytes(path.read_bytes()[: size // 2])
    with opened(tmp_path, 3000) as store:
        assert store.go_on(place)
        for number in range(1000, 0, -1):
            assert store.read(TRADES, number) in (None, payload_of(TRADES, number))
        check(store, 1000, least=300)
        assert (store.earliest(TRADES) or 0) > 300
    if (how, ending) != ("gone", ".index"):
        assert "given up, with all before it" in caplog.text
        assert path.stem in caplog.text


@pytest.mark.parametrize("how", ["gone", "short", "zeros at the end"])
def test_a_place_whose_newest_chunk_is_not_whole_is_refused_and_nothing_touched(tmp_path: Path, how: str) -> None:
    """So it is after a power failure where the chunk was not synced."""
    with opened(tmp_path, 3000) as store:
        fill(store, 1, 1010)
        place = place_of(store)
    path = chunk_files(tmp_path, ".messages")[-1]
    data = path.read_bytes()
    match how:
        case "gone":
            path.unlink()
        case "short":
            path.write_bytes(data[:-1])
        case "zeros at the end":
            path.write_bytes(data[:-300] + bytes(300))
    before = {each: each.read_bytes() for each in tmp_path.iterdir()}
    with opened(tmp_path, 3000) as store:
        assert not store.go_on(place)
    assert {each: each.read_bytes() for each in tmp_path.iterdir()} == before


def test_a_chunk_of_another_row_is_not_taken_for_what_goes_before(tmp_path: Path) -> None:
    with opened(tmp_path / "one", 3000) as store:
        fill(store, 1, 1000)
        place = place_of(store)
    with opened(tmp_path / "another", 3000) as store:
        fill(store, 1, 1000, 50)
    for ending in (".messages", ".index"):
        wanted = chunk_files(tmp_path / "one", ending)[3]
        chunk_files(tmp_path / "another", ending)[3].replace(wanted)
    with opened(tmp_path / "one", 3000) as store:
        assert store.go_on(place)
        check(store, 1000, least=500)


# -- a full disk -------------------------------------------------------------------------------------------------------


def test_on_a_full_disk_old_messages_are_given_up_and_new_ones_kept_when_there_is_room(tmp_path: Path) -> None:
    """The one failure that is not real here: the disk says that it is full."""
    disk = FullDisk()
    with opened(tmp_path, 100, disk) as store:
        fill(store, 1, 40)
        disk.full = True
        store.add(TRADES, 41, b"two")
        store.write()
        assert store.earliest(TRADES) is None
        assert store.read(TRADES, 1) is None
        assert list(tmp_path.iterdir()) == []
        store.add(TRADES, 42, b"three")
        store.write()
        disk.full = False
        store.add(TRADES, 43, b"four")
        store.write()
        assert store.earliest(TRADES) == 43
        assert store.read(TRADES, 43) == b"four"
        place = place_of(store)
    with opened(tmp_path, 100) as store:
        assert store.go_on(place)
        assert store.read(TRADES, 43) == b"four"
