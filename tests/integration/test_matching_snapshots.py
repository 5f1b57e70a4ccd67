"""A matching daemon goes on from its newest snapshot of use: with what came after, and to the same end.

First its parts in this process, then real daemons.
"""

import errno
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from exchange.core.matching import Matching
from exchange.core.matching_state import VERSION, state_of
from exchange.core.requests import Record
from exchange.pipeline import codec
from exchange.pipeline.archive import archive_up_to
from exchange.pipeline.disk import Disk
from exchange.pipeline.event_log import EventLog
from exchange.pipeline.log import RECORD, SEGMENT_HEADER_BYTES
from exchange.pipeline.matching_snapshots import WORTH_ONE, MatchingSnapshot, MatchingSnapshots
from exchange.pipeline.retention import Retention
from exchange.pipeline.snapshots import KEEP, Snapshots
from exchange.pipeline.stream import Receiver
from exchange.pipeline.world import World
from exchange.status import read_pages
from tests.integration.outsider import Message, Peer
from tests.random_requests import PROFILES, random_requests
from tests.support import Daemon, running, wait_until, write_config

SEED = random.SystemRandom().randrange(2**32)  # a new one each run; a failure prints it
ASSETS = '[[asset]]\nasset = "ACME"\nvolatility_band = "0.1"\nreference_price = 100\ncall_seconds = 1\n'
ACCOUNTS = ("ann", "bob", "sue")
BATCH = 20  # requests in a message
RECORDS = list(random_requests(1, PROFILES["everything"], 500))


class Book:
    """An asset's event log and snapshots, and its matching as of the newest of them."""

    def __init__(self, folder: Path, requests: int = 100, records: Sequence[Record] = RECORDS) -> None:
        self.disk = ObservedDisk()
        self.world = Inline()
        self.world.disk = self.disk
        self.folder = folder
        self.records = records
        self.event_log = EventLog(self.world, folder, "ACME", 4096)
        self.event_log.open()
        self.snapshots = MatchingSnapshots(self.world, folder, self.event_log, requests)
        self.matching = self.snapshots.start()

    def apply(self, until: int) -> None:
        """Apply the requests up to a sequence; after every ten take a snapshot if one is due."""
        for record in self.records[self.matching.sequence : until]:
            result = self.matching.apply(record)
            if result.sequence > self.event_log.index.last:
                self.event_log.append(codec.encode(result))
                self.event_log.write()
            if record.sequence % 10 == 0:
                self.snapshots.take_if_due(self.matching)

    def close(self) -> None:
        self.world.close()
        self.event_log.close()


class Inline(World):
    """A world whose work beside the loop is done at once."""

    def run_aside(self, job: Callable[[], None]) -> None:
        job()

    def fork(self, name: str, job: Callable[[], None]) -> bool:
        job()
        return True


class ObservedDisk(Disk):
    """A disk that may have no room for snapshots, and knows which files have been synced, and renamed, in order."""

    def __init__(self) -> None:
        self.full = False
        self.paths: dict[int, Path] = {}
        self.done: list[tuple[str, Path]] = []

    def open(self, path: Path, create: bool = False) -> int:
        if self.full and path.parent.name == "snapshots" and create:
            raise OSError(errno.ENOSPC, "No space left on device")
        file = super().open(path, create)
        self.paths[file] = path
        return file

    def sync(self, file: int) -> None:
        super().sync(file)
        self.done.append(("synced", self.paths[file]))

    def rename(self, old: Path, new: Path) -> None:
        super().rename(old, new)
        self.done.append(("renamed", new))


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Callable[..., Book]]:
    """Return a function that opens the book, what was open of it before being closed."""
    opened: list[Book] = []

    def open_book(**options: Any) -> Book:
        close()
        opened.append(Book(tmp_path / "ACME", **options))
        return opened[-1]

    def close() -> None:
        if opened:
            opened.pop().close()

    yield open_book
    close()


def test_a_snapshot_is_taken_after_every_so_many_requests(book: Callable[..., Book]) -> None:
    first = book()
    assert first.matching.sequence == 0
    first.apply(99)
    assert first.snapshots.look().sequence == 0
    first.apply(240)
    assert first.snapshots.look().sequence == 200
    assert first.snapshots.snapshots.sequences() == [100, 200]
    second = book()
    assert second.matching.sequence == 200
    assert second.snapshots.look() == first.snapshots.look()
    second.apply(290)
    assert second.snapshots.look().sequence == 200
    second.apply(300)
    assert second.snapshots.look().sequence == 300
    assert second.snapshots.look().taken > first.snapshots.look().taken


def test_the_one_that_fails_is_not_named_and_the_next_is_taken_as_if_it_had_not(book: Callable[..., Book]) -> None:
    a_book = book()
    a_book.apply(199)
    a_book.disk.full = True
    a_book.apply(200)
    a_book.disk.full = False
    a_book.apply(290)
    assert a_book.snapshots.look().sequence == 100
    a_book.apply(300)
    assert a_book.snapshots.look().sequence == 300
    assert book().matching.sequence == 300


def test_the_event_log_is_on_disk_before_the_snapshot_is(book: Callable[..., Book]) -> None:
    """Else a power failure could leave a snapshot that is ahead of the event log, and of no use."""
    a_book = book()
    a_book.apply(99)
    a_book.disk.done.clear()
    a_book.apply(100)
    done = a_book.disk.done
    log, snapshot = max(a_book.folder.glob("*.log")), a_book.folder / "snapshots" / f"{100:020d}.snapshot"
    assert done.index(("synced", log)) < done.index(("renamed", snapshot))


def passed_over(book: Callable[..., Book], caplog: pytest.LogCaptureFixture, sequence: int) -> tuple[int, str]:
    """Open the book and return the snapshot that it goes on from, 0: none, and why another is passed over."""
    caplog.clear()
    started_at = book().matching.sequence
    said = f"the snapshot of request {sequence} is passed over: "
    (line,) = [record.message for record in caplog.records if said in record.message]
    return started_at, line.split(said)[1]


def test_a_snapshot_of_another_history_is_passed_over(
    book: Callable[..., Book], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = Book(tmp_path / "other", records=list(random_requests(2, PROFILES["lively"], 400)))
    other.apply(300)
    other.close()
    book(requests=1000).apply(350)
    (tmp_path / "other" / "snapshots").rename(tmp_path / "ACME" / "snapshots")
    assert passed_over(book, caplog, 300) == (0, "the event log has another record there: it is of another history")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda state: [VERSION + 1, *state[1:]],
            f"its state has version {VERSION + 1}, and this program reads up to ",
        ),
        (lambda state: state[:-1], "it can't be decoded: "),
        (lambda state: [state[0], state[1] - 1, *state[2:]], "it holds the state as of request 199"),
        (lambda state: "else", "it can't be decoded: "),
    ],
)
def test_a_snapshot_that_can_not_be_read_is_passed_over(
    book: Callable[..., Book],
    caplog: pytest.LogCaptureFixture,
    change: Callable[[list[Any]], Any],
    reason: str,
) -> None:
    snapshots = book().snapshots.snapshots
    book().apply(220)
    sequence, body = next(snapshots.load())
    snapshot = msgspec.msgpack.decode(body, type=MatchingSnapshot)
    state = msgspec.Raw(codec.encode(change(msgspec.msgpack.decode(snapshot.state))))
    snapshots.save(sequence, codec.encode(msgspec.structs.replace(snapshot, state=state)))
    started_at, found = passed_over(book, caplog, 200)
    assert started_at == 100
    assert found.startswith(reason)


def test_where_the_snapshots_own_record_is_damaged_the_log_is_made_again_from_before(
    book: Callable[..., Book], caplog: pytest.LogCaptureFixture
) -> None:
    before = book()
    before.apply(450)
    assert before.snapshots.snapshots.sequences() == [300, 400]
    records = [before.event_log.read(sequence) for sequence in range(1, 451)]
    position = before.event_log.index.position(400)
    segment = max(path for path in before.folder.glob("*.log") if int(path.stem) < position)
    assert segment.with_suffix(".seal").exists(), "so that it is not read at the start"
    data = bytearray(segment.read_bytes())
    data[position - int(segment.stem) + RECORD.size] ^= 1
    segment.write_bytes(data)
    started_at, reason = passed_over(book, caplog, 400)
    assert started_at == 300
    assert f"{segment}: offset {position - int(segment.stem)}: " in reason
    after = book()
    assert after.event_log.index.last == 399
    after.apply(450)
    assert [after.event_log.read(sequence) for sequence in range(1, 451)] == records


def test_where_the_snapshots_own_record_was_archived_the_snapshot_is_passed_over(
    book: Callable[..., Book], caplog: pytest.LogCaptureFixture
) -> None:
    before = book()
    before.apply(450)
    segments = sorted(before.folder.glob("*.log"))
    first_kept = next(int(path.stem) for path in segments if int(path.stem) > before.event_log.index.position(300))
    assert first_kept < before.event_log.index.position(400)
    archive_up_to(Disk(), before.folder, first_kept)
    assert book().matching.sequence == 400
    (before.folder / "snapshots" / f"{400:020d}.snapshot").unlink()
    started_at, reason = passed_over(book, caplog, 300)
    assert started_at == 0
    assert "was moved away" in reason


def test_the_segment_that_ends_with_the_snapshots_own_record_is_not_archived(tmp_path: Path) -> None:
    config = write_config(tmp_path, ASSETS)
    folder = config.event_log_folder("ACME")
    book = Book(folder, requests=1_000_000)
    book.apply(450)
    second = sorted(folder.glob("*.log"))[1]
    first_behind = next(
        sequence for sequence in range(1, 451) if book.event_log.index.position(sequence) > int(second.stem)
    )
    book.close()
    shutil.rmtree(folder)
    book = Book(folder, requests=first_behind - 1)
    for record in RECORDS[:450]:
        book.apply(record.sequence)
        book.snapshots.take_if_due(book.matching)
        if book.snapshots.look().sequence:
            book.snapshots.requests = 1_000_000
    book.close()
    assert book.snapshots.look().sequence == first_behind - 1
    (plan, _) = Retention(Disk(), config, {"ACME": 450}, before=time.time() + 60, copies=1).plans()
    assert (plan.segments, plan.base) == (0, 0)
    assert plan.kept.endswith(f"matching are at {first_behind - 2}")


def test_what_a_run_that_was_broken_off_has_left_is_archived_by_the_next(tmp_path: Path) -> None:
    config = write_config(tmp_path, ASSETS)
    book = Book(config.event_log_folder("ACME"), requests=1_000_000)
    book.apply(450)
    book.close()
    first, second, third = sorted(book.folder.glob("*.log"))[:3]
    whole = first.read_bytes(), second.read_bytes()
    archive_up_to(Disk(), book.folder, int(third.stem))
    second.write_bytes(whole[1])
    destination = tmp_path / "archive"
    retention = Retention(Disk(), config, {}, before=0, copies=1)
    (plan, _) = retention.plans()
    assert (plan.segments, plan.bytes, plan.base) == (1, len(whole[1]), int(third.stem))
    retention.carry_out(plan, destination)
    assert (destination / second.name).read_bytes() == whole[1]
    assert not second.exists()
    (plan, _) = retention.plans()
    assert plan.segments == 0


# -- daemons -----------------------------------------------------------------------------------------------------------


class Exchange:
    """An order handler and one matching daemon, with a snapshot after every 50 requests unless told otherwise."""

    def __init__(self, folder: Path, requests: int = 50) -> None:
        settings = f"[snapshots]\nrequests = {requests}\n[journal]\nsegment_bytes = {1024 * 1024}"
        self.config = write_config(folder, ASSETS, settings)
        self.folder = self.config.event_log_folder("ACME")
        self.order_handler = Daemon(self.config, "order_handler")
        self.matching = Daemon(self.config, "matching", "ACME")
        self.source = random.Random(SEED)
        self.entered = 0
        self.last = 1  # the sequence of the last request that was acknowledged; the asset's definition is the first
        self.context: zmq.Context[Any] = zmq.Context()
        self.entry = Peer(self.context, self.config.endpoints.order_entry)
        print(f"seed {SEED}")

    def trade(self, requests: int) -> None:
        """Have so many requests acknowledged: orders of all kinds, amends, cancels."""
        for _ in range(requests // BATCH):
            for reply in self.entry.ask([self.request() for _ in range(BATCH)]):
                if reply["type"] == "ack":
                    self.last = reply["sequence"]

    def request(self) -> Message:
        source = self.source
        if self.entered and source.random() < 0.3:
            number = source.randrange(max(0, self.entered - 30), self.entered)
            message: Message = {"account": ACCOUNTS[number % 3], "asset": "ACME", "client_order_id": f"c{number}"}
            if source.random() < 0.6:
                return message | {"type": "cancel_order"}
            return message | {"type": "amend_order", "quantity": source.randrange(1, 30)}
        number = self.entered
        self.entered += 1
        message = {"type": "new_order", "client_order_id": f"c{number}", "asset": "ACME"}
        message |= {
            "account": ACCOUNTS[number % 3],
            "side": source.choice(("buy", "sell")),
            "quantity": source.randrange(1, 30),
        }
        price = source.randrange(93, 108)
        kind = source.randrange(10)
        if kind == 0:
            return message | {"order_type": "stop", "stop_price": price}
        if kind == 1:
            return message | {"order_type": "stop_limit", "stop_price": price, "price": price, "time_in_force": "day"}
        if kind == 2:
            return message | {"price": price, "quantity": 30, "display_quantity": source.randrange(3, 10)}
        if kind == 3:
            return message | {"price": price, "time_in_force": source.choice(("ioc", "fok"))}
        return message | {"price": price}

    def page(self) -> dict[str, Any]:
        """Return the details of what the matching daemon of now says of itself, empty where it has not yet."""
        for page in read_pages(self.config.status_folder):
            if page["daemon"] == "matching-ACME" and page["pid"] == self.matching.pid:
                return page["details"]
        return {}

    def settle(self) -> None:
        """Return when the events of all that was acknowledged are in the event log."""

        def settled() -> bool:
            assert self.matching.alive, self.matching.output()
            return last_logged(self.folder) >= self.last

        wait_until(settled, f"request {self.last} is applied")

    def start_again(self) -> str:
        """Start the matching daemon and return its output as of when it has caught up."""
        self.matching.log.unlink()
        self.matching.start()
        wait_until(lambda: "caught up" in self.matching.output() or not self.matching.alive, "it has caught up")
        assert self.matching.alive, self.matching.output()
        return self.matching.output()

    def snapshots(self) -> list[int]:
        return Snapshots(World().disk, self.folder / "snapshots").sequences()

    def wait_for_snapshot(self) -> int:
        """Return the newest snapshot as soon as it is of the last 50 requests, and those before it have gone."""

        def taken() -> bool:
            found = self.snapshots()
            return 0 < len(found) <= KEEP and found[-1] > self.last - 50

        wait_until(taken, f"a snapshot of one of the last 50 requests up to {self.last}")
        return self.snapshots()[-1]

    def stop(self) -> None:
        for daemon in (self.order_handler, self.matching):
            assert daemon.stop() == 0, daemon.output()

    def check(self) -> None:
        """Assert that event log and snapshots are those of a run from the first request on. Both daemons are down."""
        states: dict[int, bytes] = {}
        snapshots = list(Snapshots(World().disk, self.folder / "snapshots").load())
        for sequence, body in snapshots:
            states[sequence] = bytes(msgspec.msgpack.decode(body, type=MatchingSnapshot).state)
        matching = Matching()
        event_log = EventLog(World(), self.folder, "ACME", self.config.journal.segment_bytes)
        event_log.open()
        receiver: Receiver[Any] = Receiver("ACME")
        while receiver.sequence < event_log.index.last:
            _, last, records = codec.decode_event_stream(event_log.replay(receiver.sequence + 1))
            for record in receiver.receive(last, records):
                request = Record(record.asset, record.sequence, record.time, record.account, record.request)
                assert matching.apply(request) == record
                if record.sequence in states:
                    assert codec.encode(state_of(matching)) == states.pop(record.sequence)
        event_log.close()
        assert matching.sequence >= self.last, "all that was acknowledged"
        assert not states, "each snapshot is of a request that was applied"


@contextmanager
def exchange(folder: Path, requests: int = 50) -> Iterator[Exchange]:
    made = Exchange(folder, requests)
    try:
        with running(made.order_handler, made.matching):
            assert made.entry.ask(type="ping")["type"] == "pong"
            yield made
    finally:
        made.context.destroy(linger=0)


def test_a_start_applies_what_came_after_the_newest_snapshot(tmp_path: Path) -> None:
    with exchange(tmp_path) as venue:
        venue.trade(500)
        venue.settle()
        snapshot = venue.wait_for_snapshot()
        wait_until(lambda: venue.page().get("snapshot") == snapshot, "the status page names the snapshot")
        assert 0 <= venue.page()["snapshot_age_seconds"] < 60
        venue.matching.kill()
        venue.trade(40)
        output = venue.start_again()
        assert f"going on from the snapshot of request {snapshot}, " in output
        assert f"caught up, with {venue.last} requests applied, {venue.last - snapshot} since the start" in output
        venue.settle()
        venue.stop()
        venue.check()


def test_killed_at_any_moment_it_goes_on_the_same(tmp_path: Path) -> None:
    with exchange(tmp_path) as venue:
        outputs = []
        for _ in range(6):
            venue.trade(venue.source.randrange(2, 10) * BATCH)
            venue.matching.kill()
            venue.trade(BATCH)
            outputs.append(venue.start_again())
        venue.trade(100)
        venue.settle()
        venue.wait_for_snapshot()
        venue.stop()
        venue.check()
        assert len(venue.snapshots()) <= KEEP
        assert any("going on from the snapshot of request" in output for output in outputs)


def test_a_clean_stop_leaves_nothing_to_apply_where_much_has_come(tmp_path: Path) -> None:
    with exchange(tmp_path, requests=2 * WORTH_ONE) as venue:
        venue.trade(WORTH_ONE // 2)
        venue.settle()
        assert venue.matching.stop() == 0
        assert venue.snapshots() == [], "not worth it"
        venue.start_again()
        venue.trade(WORTH_ONE)
        venue.settle()
        assert venue.snapshots() == [], "not due"
        venue.stop()
        assert venue.snapshots() == [venue.last]
        venue.order_handler.start()
        assert f"{venue.last} requests applied, 0 since the start" in venue.start_again()
        venue.trade(BATCH)
        venue.settle()
        venue.stop()
        venue.check()


def test_a_start_with_a_damaged_snapshot_takes_the_one_before(tmp_path: Path) -> None:
    with exchange(tmp_path) as venue:
        older, newest = two_snapshots(venue)
        path = venue.folder / "snapshots" / f"{newest:020d}.snapshot"
        data = bytearray(path.read_bytes())
        data[venue.source.randrange(len(data))] ^= 1 << venue.source.randrange(8)
        path.write_bytes(data)
        output = venue.start_again()
        assert f"{path}: passed over: " in output
        assert f"going on from the snapshot of request {older}, " in output
        assert f"requests applied, {venue.last - older} since the start" in output
        venue.stop()
        venue.check()


def test_a_snapshot_ahead_of_the_event_log_is_passed_over(tmp_path: Path) -> None:
    """The event log's end was lost: it is made again, from the snapshot before."""
    with exchange(tmp_path) as venue:
        older, newest = two_snapshots(venue)
        segment = venue.folder / f"{0:020}.log"
        end = positions(segment)[newest - 5]
        with segment.open("rb+") as file:
            file.truncate(end)
        output = venue.start_again()
        assert (
            f"the snapshot of request {newest} is passed over: the event log ends with request {newest - 5}" in output
        )
        assert f"going on from the snapshot of request {older}, " in output
        venue.stop()
        venue.check()


def test_a_journal_of_another_exchange_is_refused_from_a_snapshot_too(tmp_path: Path) -> None:
    with exchange(tmp_path / "other", requests=1_000_000) as other:
        other.trade(400)
        other.settle()
        other.stop()
    with exchange(tmp_path / "this") as venue:
        venue.trade(200)
        venue.settle()
        sequence = venue.wait_for_snapshot()
        venue.stop()
        shutil.rmtree(venue.config.journal_folder)
        shutil.copytree(other.config.journal_folder, venue.config.journal_folder)
        venue.order_handler.start()
        venue.matching.start()
        wait_until(lambda: not venue.matching.alive, "it refuses to go on")
        assert f"request {sequence} of the journal is another than the log has" in venue.matching.output()


def test_a_copy_that_writes_a_snapshot_is_in_nobodys_way(tmp_path: Path) -> None:
    """It ends with the daemon that it is a copy of, and does not hold its lock or its sockets."""
    with exchange(tmp_path, requests=1) as venue:
        for _ in range(2):
            venue.trade(100)
            venue.matching.kill()
            venue.start_again()
        venue.settle()
        venue.stop()
        venue.check()


def test_damage_in_a_sealed_segment_is_made_again(tmp_path: Path) -> None:
    """It is found when somebody asks for the record; the daemon ends, and its next start makes the record again."""
    with exchange(tmp_path, requests=4000) as venue:
        venue.trade(5_000)
        venue.settle()
        wait_until(lambda: len(venue.snapshots()) == 1, "a snapshot")
        venue.trade(6_000)
        venue.settle()
        wait_until(lambda: len(venue.snapshots()) == KEEP, "two snapshots")
        segment = venue.folder / f"{0:020}.log"
        wait_until(segment.with_suffix(".seal").exists, "the first segment is sealed")
        older, newest = venue.snapshots()
        assert older < 6000 < newest
        data = bytearray(segment.read_bytes())
        damaged = positions(segment)[6000]
        data[damaged + RECORD.size] ^= 8
        segment.write_bytes(data)
        receiver = Peer(venue.context, venue.config.event_log_endpoint("ACME"))
        receiver.socket.send(codec.encode(codec.Replay("ACME", 6001)))
        wait_until(lambda: not venue.matching.alive, "the daemon ends")
        receiver.close()
        assert f"{segment}: offset {damaged}: " in venue.matching.output()
        output = venue.start_again()
        assert f"the snapshot of request {newest} is passed over: the event log ends with request 6000" in output
        assert f"going on from the snapshot of request {older}, " in output
        venue.settle()
        venue.stop()
        venue.check()


def two_snapshots(venue: Exchange) -> tuple[int, int]:
    """Return the two snapshots that there are, the older first, when all is applied and the daemon is killed."""
    for _ in range(2):
        venue.trade(200)
        venue.settle()
        venue.wait_for_snapshot()
    venue.matching.kill()
    older, newest = venue.snapshots()
    return older, newest


def positions(segment: Path) -> list[int]:
    """Return where in a segment each record begins, and where the last one ends."""
    data, found = segment.read_bytes(), [SEGMENT_HEADER_BYTES]
    while len(data) - found[-1] >= RECORD.size and (length := RECORD.unpack_from(data, found[-1])[3]):
        found.append(found[-1] + RECORD.size + length)
    return found


def last_logged(folder: Path) -> int:
    """Return the sequence of the last record of an event log, which another process may be writing, 0: of none."""
    for path in sorted(folder.glob("*.log"), reverse=True):
        for start, end in reversed(list(pairwise(positions(path)))):
            try:
                return codec.decode_event_record(path.read_bytes()[start + RECORD.size : end]).sequence
            except codec.DecodeError:
                continue
    return 0
