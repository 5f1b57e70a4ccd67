"""Messages kept for retransmission, on a real disk: found by number, past a restart, and never wrong."""

import errno
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from exchange.core.book import Account
from exchange.core.execution_reports import Topic
from exchange.core.feed_notes import PUBLIC_TOPICS, Note, Reported, Said
from exchange.core.messages import ExecutionReport, OrderDeleted
from exchange.pipeline.codec import encode
from exchange.pipeline.disk import Disk
from exchange.pipeline.message_chunk import READ_AHEAD, ChunkPlace
from exchange.pipeline.message_store import CHUNKS, MessageStore

ORDERS = Topic(b"order/ACME/", PUBLIC_TOPICS.index("order"))
BBO = Topic(b"bbo/ACME/", PUBLIC_TOPICS.index("bbo"))
REPORTS, QUIET = (
    Topic(b"execution/alice/ACME/", 0, Account("alice", {})),
    Topic(b"execution/bob/ACME/", 1, Account("bob", {})),
)
SILENT = Topic(b"execution/cat/ACME/", 2, Account("cat", {}))
MANY_NOTES = 10**6
SEED = random.SystemRandom().randrange(2**32)  # a new one each run; a failure prints it


class FullDisk(Disk):
    """A disk that can be made full."""

    full = False

    def write(self, file: int, data: bytes, offset: int) -> None:
        if self.full:
            super().write(file, data[: len(data) // 2], offset)
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(file, data, offset)


class CountingDisk(Disk):
    """A disk that knows what was read: of each call, how the file's name ends."""

    def __init__(self) -> None:
        self.kinds: dict[int, str] = {}
        self.reads: list[str] = []

    def open(self, path: Path, create: bool = False) -> int:
        file = super().open(path, create)
        self.kinds[file] = path.suffix
        return file

    def read(self, file: int, size: int, offset: int) -> bytes:
        self.reads.append(self.kinds[file])
        return super().read(file, size, offset)


@contextmanager
def opened(folder: Path, retained: int = 1000, disk: Disk | None = None) -> Iterator[MessageStore]:
    store = MessageStore(disk or Disk(), folder, retained)
    try:
        yield store
    finally:
        store.close()


def deleted(number: int) -> OrderDeleted:
    return OrderDeleted("ACME", number, 10**9 + number, 10**18)


def report(topic: Topic, number: int) -> ExecutionReport:
    """Return a report that says whose it is, of a length of its own."""
    length = random.Random(f"{topic.name}{number}").randrange(400)
    return ExecutionReport(topic.name.split("/")[1], "ACME", number, 10**18, "canceled", 10**9 + number, "x" * length)


def message(topic: Topic, number: int) -> bytes:
    return encode(deleted(number) if topic is ORDERS else report(topic, number))


def fill(store: MessageStore, first: int, last: int, size: int = 1) -> None:
    """Add messages of those numbers to two topics, and one in a hundred to a third, those of `size` numbers at once."""
    for begin in range(first, last + 1, size):
        notes: list[Note] = []
        firsts = {REPORTS.place: begin}
        end = min(begin + size - 1, last)
        for number in range(begin, end + 1):
            notes += [Said(deleted(number)), Reported(report(REPORTS, number))]
            if number % 100 == 1:
                quiet = number // 100 + 1
                notes.append(Reported(report(QUIET, quiet)))
                firsts.setdefault(QUIET.place, quiet)
        assert store.add(notes, firsts, after(end)) == len(notes)


def after(number: int) -> list[int]:
    """Return the public topics' last numbers, given that of the one that has any."""
    return [number if name == "order" else 0 for name in PUBLIC_TOPICS]


def read(store: MessageStore, topic: Topic, number: int) -> bytes | None:
    """Return one message, None where it is not retained."""
    found = next(store.read("ACME", topic, number, 1), None)
    assert found is None or found[0] == number
    return None if found is None else found[1]


def check(store: MessageStore, last: int, least: int = 0) -> None:
    """Fail unless each topic is there without a gap up to its end, and right; at least that many of the lively ones."""
    ends = ((ORDERS, last), (REPORTS, last), (QUIET, (last + 99) // 100))
    for topic, end in ends:
        earliest = store.earliest(topic)
        first = end + 1 if earliest is None else earliest
        found = list(store.read("ACME", topic, first, MANY_NOTES))
        assert found == [(number, message(topic, number)) for number in range(first, end + 1)]
        assert read(store, topic, first - 1) is None
        assert read(store, topic, end + 1) is None
        assert topic is QUIET or end + 1 - first >= least


def place_of(store: MessageStore) -> ChunkPlace:
    """Return the store's place as a snapshot would bring it."""
    store.flush()
    store.sync()
    return msgspec.msgpack.decode(encode(store.place), type=ChunkPlace)


def test_messages_are_found_by_topic_and_number_short_and_long(tmp_path: Path) -> None:
    reports = [
        ExecutionReport("alice", "ACME", number, 1, "canceled", 7, "x" * size)
        for number, size in enumerate([1, 100, READ_AHEAD, 2 * READ_AHEAD, 1], 1)
    ]
    with opened(tmp_path, 100) as store:
        for number, each in enumerate(reports, 1):
            store.add([Said(deleted(number)), Reported(each)], {REPORTS.place: number}, after(number))
        for number, each in enumerate(reports, 1):
            assert read(store, REPORTS, number) == encode(each)
            assert read(store, ORDERS, number) == encode(deleted(number))
        for topic in (REPORTS, ORDERS):
            assert read(store, topic, 0) is None
            assert read(store, topic, len(reports) + 1) is None
        for topic in (BBO, SILENT):
            assert store.earliest(topic) is None
            assert read(store, topic, 1) is None


def test_what_was_just_added_can_be_read_before_a_page_is_full(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        fill(store, 1, 1)
        assert list(tmp_path.iterdir()) == []
        check(store, 1, least=1)
        fill(store, 2, 2)
        check(store, 2, least=2)


def test_a_reader_may_say_after_how_many_notes_to_stop(tmp_path: Path) -> None:
    """The pages have 1,005 notes."""
    with opened(tmp_path, 10_000) as store:
        fill(store, 1, 2000, 500)
        assert [number for number, _ in store.read("ACME", ORDERS, 1, 1)] == list(range(1, 501))
        assert [number for number, _ in store.read("ACME", ORDERS, 501, 1006)] == list(range(501, 1501))
        assert [number for number, _ in store.read("ACME", QUIET, 2, 1006)] == list(range(2, 11))


def test_for_a_message_its_page_is_read_and_of_the_rest_next_to_nothing(tmp_path: Path) -> None:
    """However much is kept, and whether the topic has a message in each page or the only one of all."""
    disk = CountingDisk()
    with opened(tmp_path, 50_000, disk) as store:
        fill(store, 1, 10_000, 20)
        store.add([Reported(report(SILENT, 1))], {SILENT.place: 1}, after(10_000))
        fill(store, 10_001, 18_000, 20)
        store.flush()
        assert len(store.full) > 10
        assert store.full[0].first(REPORTS) == 1
        late = Topic(b"execution/dan/ACME/", 3, Account("dan", {}))
        for topic, number in (
            (SILENT, 1),
            (REPORTS, 1),
            (REPORTS, 9000),
            (REPORTS, 18_000),
            (ORDERS, 1),
            (ORDERS, 9000),
            (QUIET, 90),
        ):
            disk.reads.clear()
            assert store.earliest(topic) == 1
            assert read(store, topic, number) == message(topic, number)
            assert disk.reads.count(".messages") <= 2, "a page longer than is read ahead takes two"
            assert disk.reads.count(".index") <= 4 * (len(store.full) + 1) * 2
        disk.reads.clear()
        assert store.earliest(late) is None
        assert ".messages" not in disk.reads
        store.add([Reported(report(late, 1))], {late.place: 1}, after(18_000))
        assert store.earliest(late) == 1
        assert read(store, late, 1) == message(late, 1)
        assert disk.reads.count(".messages") == 1
        check(store, 18_000, least=12_500)


@pytest.mark.parametrize("size", [1, 7, 250])
def test_at_least_half_of_what_is_to_be_retained_is_and_never_more_than_all(tmp_path: Path, size: int) -> None:
    with opened(tmp_path, 1000) as store:
        for end in range(size, 5001, size):
            numbers = range(end - size + 1, end + 1)
            store.add([Said(deleted(number)) for number in numbers], {}, after(end))
            earliest = store.earliest(ORDERS)
            kept = 0 if earliest is None else end - earliest + 1
            assert kept <= 1000
            assert kept >= min(end, 500)
            assert earliest is None or read(store, ORDERS, earliest) == encode(deleted(earliest))
    assert len(list(tmp_path.iterdir())) <= 2 * CHUNKS + 1


def test_messages_in_full_chunks_are_found_across_topics(tmp_path: Path) -> None:
    with opened(tmp_path, 5000) as store:
        fill(store, 1, 4000, 10)
        assert len(store.full) > 5
        check(store, 4000, least=1250)
        order = random.Random(SEED)
        for _ in range(500):
            topic = order.choice((ORDERS, REPORTS))
            number = order.randint(store.earliest(topic) or 1, 4000)
            assert read(store, topic, number) == message(topic, number), f"seed {SEED}"


def test_what_is_added_in_one_is_at_most_that_much_above_what_is_to_be_retained(tmp_path: Path) -> None:
    with opened(tmp_path, 1000) as store:
        fill(store, 1, 3000, 3000)
        assert store.earliest(ORDERS) == 1
        fill(store, 3001, 4000, 10)
        check(store, 4000, least=250)
        assert store.earliest(ORDERS) == 3001 or (store.earliest(ORDERS) or 0) > 3001


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
        earliest = store.earliest(ORDERS) or 1
    with opened(tmp_path) as store:
        if place.size and earliest > before:
            assert not store.go_on(place), "its chunk is past retention"
            return
        assert store.go_on(place)
        assert store.earliest(ORDERS) == (earliest if before >= earliest else None)
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
        assert (store.earliest(ORDERS) or 0) > 3000


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
                    (topic.name, number): payload
                    for topic in (ORDERS, REPORTS)
                    for number in range(400, 0, -1)
                    if (payload := read(store, topic, number)) not in (None, message(topic, number))
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
            assert read(store, ORDERS, number) in (None, message(ORDERS, number))
        check(store, 1000, least=300)
        assert (store.earliest(ORDERS) or 0) > 300
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
        fill(store, 41, 45)
        assert store.earliest(ORDERS) is None
        assert read(store, ORDERS, 1) is None
        assert list(tmp_path.iterdir()) == []
        fill(store, 46, 50)
        store.flush()
        disk.full = False
        fill(store, 51, 52)
        assert store.earliest(ORDERS) == 51
        assert read(store, ORDERS, 51) == message(ORDERS, 51)
        place = place_of(store)
    with opened(tmp_path, 100) as store:
        assert store.go_on(place)
        check(store, 52, least=2)
