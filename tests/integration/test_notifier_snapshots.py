"""The notifier's snapshots: after a kill every query has the answer it had before, and little is folded again."""

import random
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from exchange.config import Config
from exchange.core.asset import Asset
from exchange.core.events import EventRecord
from exchange.core.feed_notes import account_of, client_order_id_of, public_on
from exchange.core.matching import Matching
from exchange.core.messages import Reject
from exchange.pipeline.board import AssetBoard
from exchange.pipeline.codec import encode
from exchange.pipeline.message_chunk import messages_path
from exchange.pipeline.message_store import MessageStore
from exchange.pipeline.notifier import Notifier
from exchange.pipeline.notifier_snapshots import NotifierSnapshots
from exchange.pipeline.queries import Queries
from exchange.pipeline.sources import EventSources
from exchange.pipeline.stream import LOST_END_SECONDS
from exchange.pipeline.world import World
from exchange.status import read_pages
from tests.integration.outsider import Message, Venue, trade_at_random, whole_topic
from tests.integration.outsider import venue as running_venue
from tests.integration.test_message_store import FullDisk
from tests.random_requests import PROFILES, random_requests
from tests.support import wait_until, write_config

SEED = random.SystemRandom().randrange(2**32)  # a new one each run; a failure prints it
REQUESTS = 50
SETTINGS = f"[snapshots]\nrequests = {REQUESTS}\n[limits]\nretained_messages = 20000\n"  # in chunks of 1,250
MANY_NOTES, RETAINED_ORDERS = 10**6, 20
FORMER = Path(__file__).parent / "data" / "notifier_with_messages.tar.xz"
PUBLIC = ("trade", "bbo", "book", "order", "status")


# -- real daemons ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def traded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Venue, dict[str, Message]]]:
    """Yield an exchange with a notifier that has taken snapshots and is killed, and its last answers to all queries."""
    with running_venue(tmp_path_factory.mktemp("snapshots"), SETTINGS) as venue:
        trade_at_random(venue, 160, seed=11)
        owner = venue.accounts[0]
        venue.enter(owner, "sell", 500, 2000, display_quantity=20)
        venue.enter(owner, "buy", 10, order_type="stop", stop_price=3000)
        venue.enter(owner, "buy", 60, 2000)
        venue.settle()
        wait_until(lambda: snapshots_of(venue, "ACME"), "a snapshot is on disk")
        yield venue, answers(venue)


def answers(venue: Venue) -> dict[str, Message]:
    """Return what all queries say, by what was asked."""
    ask = venue.query.ask
    found = {"assets": ask(type="assets"), "public": ask(type="sequences")}
    for asset in venue.matching:
        for kind in ("book_snapshot", "order_snapshot", "trades"):
            found[f"{kind} {asset}"] = ask(type=kind, asset=asset)
    for account in (*venue.accounts, "settle"):
        found[f"sequences {account}"] = sequences = ask(type="sequences", account=account)
        found[f"open {account}"] = ask(type="open_orders", account=account)
        for topic in sequences["sequences"]:
            found[topic] = {"messages": whole_topic(venue, topic)}
    for name in PUBLIC:
        found[f"{name}/ACME/"] = {"messages": whole_topic(venue, f"{name}/ACME/")}
    for account in venue.accounts:
        for report in found[f"execution/{account}/ACME/"]["messages"]:
            if report["exec_type"] == "new":
                named = {"account": account, "asset": "ACME"}
                for key in ("order_id", "client_order_id"):
                    found[f"status by {key} {report[key]}"] = ask(type="order_status", **named, **{key: report[key]})
    return found


def folder_of(venue: Venue, asset: str) -> Path:
    return venue.config.data / "notifier" / asset


def snapshots_of(venue: Venue, asset: str) -> list[Path]:
    return sorted((folder_of(venue, asset) / "snapshots").glob("*.snapshot"))


def wait_for_another_snapshot(venue: Venue, before: list[Path]) -> None:
    wait_until(lambda: snapshots_of(venue, "ACME")[-1:] != before, "another snapshot is on disk")


def details(venue: Venue) -> Message:
    return next(page["details"] for page in read_pages(venue.config.status_folder) if page["daemon"] == "notifier")


def log_of_a_start(venue: Venue) -> str:
    """Start the notifier that was killed, and return what it logs until it knows all."""
    before = len(venue.notifier.output())
    venue.notifier.start()
    venue.wait_until_ready()
    log: str = wait_until(
        lambda: text if "caught up with all assets" in (text := venue.notifier.output()[before:]) else "",
        "the notifier says that it has caught up",
    )
    return log


def folded(log: str, asset: str = "ACME") -> int:
    """Return how many requests a start says to have folded in."""
    found = re.search(rf"folded in since the start: {{.*'{asset}': (\d+)", log)
    assert found, log
    return int(found[1])


def processed(log: str, asset: str = "ACME") -> int:
    """Return the last request that a start says to have come to."""
    found = re.search(rf"caught up with all assets: {{.*'{asset}': (\d+).*, folded in", log)
    assert found, log
    return int(found[1])


def last_request(venue: Venue) -> int:
    """Return the sequence of the asset's last request."""
    asked: int = venue.entry.ask(venue.order("settle", "buy", 10, 5, time_in_force="ioc"))["sequence"]
    venue.settle()
    return asked + 1  # `settle` enters another


def test_after_a_kill_every_answer_is_the_same_and_only_what_came_since_is_folded_in(
    traded: tuple[Venue, dict[str, Message]],
) -> None:
    venue, before = traded
    assert len(before["trade/ACME/"]["messages"]) > 20
    wait_until(lambda: details(venue)["snapshots"]["ACME"] > REQUESTS, "the status page has the snapshot")
    venue.notifier.kill()
    newest = int(snapshots_of(venue, "ACME")[-1].stem)
    log = log_of_a_start(venue)
    assert f"ACME: going on from the snapshot of request {newest}" in log
    assert "BTC-USD: going on" not in log, "which has had one request"
    assert newest > REQUESTS
    assert folded(log) == processed(log) - newest
    assert answers(venue) == before
    wait_until(lambda: details(venue)["folded"]["ACME"] == folded(log), "the status page says the same")


def test_what_comes_after_a_start_goes_on_with_the_numbers(traded: tuple[Venue, dict[str, Message]]) -> None:
    venue, _ = traded
    feed = venue.public("order/ACME/", "trade/ACME/")
    last = venue.query.ask(type="sequences")["sequences"]
    venue.enter("late", "sell", 10, 15_000)
    venue.enter("later", "buy", 10, 15_000)
    (added, executed) = feed.wait_for_count("order/ACME/", 2)
    assert (added["sequence"], executed["sequence"]) == (last["order/ACME/"] + 1, last["order/ACME/"] + 2)
    (trade,) = feed.wait_for_count("trade/ACME/", 1)
    assert trade["trade_id"] == last["trade/ACME/"] + 1
    feed.close()


def test_a_notifier_that_is_asked_to_end_leaves_a_snapshot_where_that_is_worth_it(
    traded: tuple[Venue, dict[str, Message]],
) -> None:
    venue, _ = traded
    for _ in range(2):
        venue.entry.ask([venue.order("busy", "buy", 10, 50, time_in_force="ioc") for _ in range(REQUESTS // 2)])
    venue.settle()
    assert venue.notifier.stop() == 0
    newest = int(snapshots_of(venue, "ACME")[-1].stem)
    before = len(venue.notifier.output())
    log = log_of_a_start(venue)
    assert folded(log) < REQUESTS, venue.notifier.output()[before:]
    assert f"ACME: going on from the snapshot of request {newest}" in log


@pytest.mark.parametrize("damage", ["newest", "all", "chunk", "newest chunk", "folder", "of BTC-USD"])
def test_damage_costs_time_and_no_answer(traded: tuple[Venue, dict[str, Message]], damage: str) -> None:
    venue, _ = traded
    for _ in range(2):  # so that there are two snapshots, whatever the test before has done to them
        newest = snapshots_of(venue, "ACME")[-1:]
        for _ in range(3):
            venue.entry.ask([venue.order("busy", "buy", 10, 50, time_in_force="ioc") for _ in range(REQUESTS // 2)])
            venue.settle()
        wait_for_another_snapshot(venue, newest)
    last = last_request(venue)
    assert whole_topic(venue, "status/BTC-USD/"), "what is asked for is on disk then"
    before = answers(venue)
    venue.notifier.kill()
    older, last_one = snapshots_of(venue, "ACME")[-2:]
    chunks = sorted(folder_of(venue, "ACME").glob("*.messages"))
    match damage:
        case "newest":
            flip(last_one)
        case "all":
            flip(older)
            flip(last_one)
        case "chunk":
            flip(chunks[0], 100)
        case "newest chunk":
            chunks[-1].unlink()
        case "folder":
            shutil.rmtree(folder_of(venue, "ACME").parent)
        case "of BTC-USD":
            shutil.rmtree(folder_of(venue, "ACME"))
            folder_of(venue, "ACME").mkdir()
            shutil.copytree(folder_of(venue, "BTC-USD"), folder_of(venue, "ACME"), dirs_exist_ok=True)
    log = log_of_a_start(venue)
    match damage:
        case "newest":
            assert f"ACME: going on from the snapshot of request {int(older.stem)}" in log
        case "chunk":
            assert f"ACME: going on from the snapshot of request {int(last_one.stem)}" in log
        case "newest chunk":
            assert "ACME: going on from the snapshot of request" in log
        case _:
            assert "ACME: going on" not in log
            assert folded(log) == last
    if "chunk" not in damage:
        assert answers(venue) == before
        return
    lost = check_partly_there(venue, before)
    assert lost or damage == "newest chunk", "which may have been begun after a snapshot"
    venue.notifier.kill()
    shutil.rmtree(folder_of(venue, "ACME"))
    log_of_a_start(venue)
    assert answers(venue) == before


def check_partly_there(venue: Venue, before: dict[str, Message]) -> int:
    """Fail unless all queries have the answers of before, but for topics that begin later now; return how many do."""
    damaged = 0
    for topic in before:
        if topic.endswith("/ACME/"):
            reply = venue.query.ask({"type": "retransmit", "topic": topic, "from": 1, "to": 1})
            if reply["type"] == "reject":
                damaged += 1
                assert reply["reason"] == "too_old"
            else:
                assert reply["messages"] == before[topic]["messages"][:1]
    for query in ("book_snapshot ACME", "order_snapshot ACME", "trades ACME", "public"):
        kind, _, asset = query.partition(" ")
        again = venue.query.ask(type="sequences" if kind == "public" else kind, **({"asset": asset} if asset else {}))
        assert again == before[query]
    return damaged


def flip(path: Path, at: int = -40) -> None:
    """Flip a bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


# -- one asset, in this process ----------------------------------------------------------------------------------------


class InlineWorld(World):
    """A world with a clock that stands still, whose copies run at once and in place."""

    now = 0.0
    busy = False

    def monotonic(self) -> float:
        return self.now

    def fork(self, name: str, job: Callable[[], None]) -> bool:
        if not self.busy:
            job()
        return not self.busy


class Life:
    """A notifier's life with one asset, from its start to its end; events come by hand."""

    def __init__(self, config: Config, requests: int = 100) -> None:
        self.world = InlineWorld()
        self.snapshots = NotifierSnapshots(self.world, config.data / "notifier", requests)
        store = MessageStore(self.world.disk, config.data / "notifier" / "ACME", 50_000)
        self.board = AssetBoard(Asset(asset="ACME"), store, RETAINED_ORDERS)
        self.snapshots.start(self.board)
        transport, endpoints = self.world.transport, config.endpoints
        self.clients = transport.client_router(endpoints.query, 10)
        self.notifier = Notifier(
            {"ACME": self.board},
            EventSources(transport, config, {"ACME": self.board.wanted}),
            transport.public_publisher(endpoints.market_data, 1000),
            transport.private_publisher(endpoints.private, 1000),
            self.world.monotonic,
            self.world.time_ns,
            self.snapshots,
        )

    def receive(self, log: Sequence[EventRecord], upto: int) -> None:
        """Have what comes next of a log sent, up to a request, and the log's last sequence with it."""
        receiver = self.notifier.sources.receivers["ACME"]
        records = receiver.replayed(len(log), log[receiver.sequence : upto])
        if records:
            self.notifier.publish(self.board, records)

    def pass_seconds(self, seconds: float) -> None:
        self.world.now += seconds
        self.notifier.check_restored(self.world.now)

    def known(self) -> dict[str, object]:
        """Return all that queries are answered from."""
        board = self.board
        feed = board.feed
        kept = {}
        for topic in (*feed.topics.values(), *feed.reports.topics.values()):
            kept[topic.name] = list(board.store.read("ACME", topic, 1, MANY_NOTES))
            assert [number for number, _ in kept[topic.name]] == list(range(1, topic.sequence + 1))
        return {"kept": kept, "trades": board.trades} | self.known_of_orders()

    def known_of_orders(self) -> dict[str, object]:
        """Return what queries about orders and about the last trades are answered from."""
        board, feed = self.board, self.board.feed
        ended = list(board.ended.items().items())[-RETAINED_ORDERS:]
        assert len(ended) == RETAINED_ORDERS
        names = [(account_of(note, order_id), client_order_id_of(note, order_id)) for order_id, note in ended]
        return {
            "ended": [
                (order_id, board.last_report(order_id, account))
                for (account, _), (order_id, _) in zip(names, ended, strict=True)
            ],
            "live": {order_id: feed.reports.last_of(order) for order_id, order in feed.orders.items()},
            "ids": {(account, name): board.find(account, name) for account, name in names},
            "last trades": list(public_on("trade", "ACME", board.trades)),
        }

    def close(self) -> None:
        self.board.store.close()
        self.world.close()


def events(seed: int, count: int = 1000) -> list[EventRecord]:
    matching = Matching()
    return [matching.apply(record) for record in random_requests(seed, PROFILES["everything"], count)]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return write_config(tmp_path, assets='[[asset]]\nasset = "ACME"\n')


def test_a_notifier_killed_again_and_again_knows_what_one_knows_that_never_was(config: Config, tmp_path: Path) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    log = events(SEED)
    with closing(Life(write_config(tmp_path / "control"))) as control:
        control.receive(log, len(log))
        upto = 0
        restored = 0
        while upto < len(log):
            with closing(Life(config)) as life:
                begins = life.board.started_from
                restored += begins > 0
                assert upto - begins < 100 + 60, "no more is folded again than since the last snapshot that was due"
                while upto < len(log) and chance.random() < 0.7:
                    upto = min(upto + chance.randrange(60), len(log))
                    life.receive(log, upto)
                    assert not life.notifier.published, "all that is in the log was there at the start"
        with closing(Life(config)) as life:
            life.receive(log, len(log))
            assert not life.board.rebuilding
            assert life.known() == control.known()
            life.board.feed.check()
        assert restored > 3


def test_what_comes_after_a_start_is_published_and_nothing_else(config: Config) -> None:
    log = events(1, 300)
    with closing(Life(config)) as life:
        life.receive(log[:250], 250)
    with closing(Life(config)) as life:
        assert life.board.started_from == 250
        assert life.board.rebuilding, "until the event log is heard to have the same"
        life.receive(log[:260], 250)
        assert life.board.rebuilding
        life.receive(log[:260], 260)
        assert not life.board.rebuilding
        assert not life.notifier.published
        life.receive(log, len(log))
        assert life.notifier.published


@pytest.mark.parametrize("why", ["the disk was full", "it was removed"])
def test_without_the_newest_chunk_a_start_goes_on_without_the_messages_of_before(config: Config, why: str) -> None:
    """The event log may begin later by now: to fold it from the first request on may not be possible."""
    log = events(1, 350)
    with closing(Life(config)) as life:
        life.receive(log, 150)
        if why == "it was removed":
            chunk = messages_path(life.board.store.folder, life.board.store.newest.number)
            life.receive(log, 180)
            chunk.unlink()
        else:
            life.board.store.disk = life.board.store.newest.disk = disk = FullDisk()
            disk.full = True
            life.receive(log, 180)
            life.board.store.flush()
    with closing(Life(config)) as life:
        assert life.board.started_from == 150
        number = life.board.feed.topics["order"].sequence
        topic = life.board.feed.topics["order"]
        assert life.board.store.earliest(topic) is None
        life.receive(log, len(log))
        assert not life.board.rebuilding
        assert life.board.store.earliest(topic) == number + 1
        reply = Queries(life.notifier, life.clients).answer(
            encode({"type": "retransmit", "topic": "order/ACME/", "from": number, "to": number + 1})
        )
        assert isinstance(reply, Reject)
        assert (reply.reason, reply.earliest) == ("too_old", number + 1)


def test_a_snapshot_of_another_history_is_dropped(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    with closing(Life(config)) as life:
        log = events(1, 250)
        life.receive(log, len(log))
    log = events(2, 300)
    with closing(Life(config)) as life:
        assert life.board.started_from == 251
        life.receive(log, len(log))
        assert "rebuilding from the first request on: its event log has another record there" in caplog.text
        assert life.board.rebuilding
        assert life.board.feed.sequence == 0
        life.receive(log, len(log))
        assert not life.board.rebuilding
        assert not life.notifier.published
        known = life.known()
    with closing(Life(config)) as life:
        assert life.board.started_from == 301
        life.receive(log, len(log))
        assert life.known() == known


def test_a_snapshot_that_the_event_log_stays_behind_of_is_dropped(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    log = events(1, 250)
    with closing(Life(config)) as life:
        life.receive(log, len(log))
    with closing(Life(config)) as life:
        for last in (200, 230, 250):  # its matching daemon makes the end again
            life.receive(log[:last], last)
            for _ in range(2):
                life.pass_seconds(LOST_END_SECONDS * 0.6)
        assert life.board.rebuilding
        assert life.board.feed.sequence == 251
        life.receive(log, len(log))
        assert not life.board.rebuilding
    with closing(Life(config)) as life:
        for _ in range(3):
            life.receive(log[:250], 250)  # the last but one
            life.pass_seconds(LOST_END_SECONDS * 0.6)
        assert "rebuilding from the first request on: its event log ends with request 250" in caplog.text
        assert life.board.feed.sequence == 0
        life.receive(log[:250], 250)
        assert (life.board.feed.sequence, life.board.rebuilding) == (250, False)


def test_a_snapshot_that_was_due_while_another_was_taken_is_taken_later(config: Config) -> None:
    log = events(1, 300)
    with closing(Life(config)) as life:
        life.world.busy = True
        life.receive(log, 150)
        assert life.board.snapshot_at < 100
        life.world.busy = False
        life.snapshots.take_overdue([life.board])
        assert life.board.snapshot_at == 150
    with closing(Life(config)) as life:
        assert life.board.started_from == 150


def test_a_disk_that_is_full_costs_the_snapshot_only(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    log = events(1, 350)
    with closing(Life(config)) as life:
        life.receive(log, 150)
        disk = life.world.disk = life.snapshots.world.disk = FullDisk()
        disk.full = True
        life.receive(log, 300)
        assert "could not be written" in caplog.text
        known = life.known()
    with closing(Life(config)) as life:
        assert life.board.started_from == 150
        life.receive(log, 300)
        assert life.known() == known


# -- of a former program -----------------------------------------------------------------------------------------------


def test_a_snapshot_of_the_program_that_kept_messages_is_gone_on_from_without_them(
    config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The archive holds the notifier's folder as that program left it, and the event log's first 560 records."""
    with tarfile.open(FORMER) as archive:
        archive.extractall(config.data, filter="data")
    log = msgspec.msgpack.decode((config.data / "notifier" / "ACME" / "events").read_bytes(), type=list[EventRecord])
    with closing(Life(write_config(tmp_path / "control"))) as control:
        control.receive(log, 500)
        last = control.board.feed.numbers
        control.receive(log, len(log))
        with closing(Life(config)) as life:
            assert life.board.started_from == 500
            assert "a former version of the program kept the messages" in caplog.text
            life.receive(log, len(log))
            assert not life.board.rebuilding
            assert life.known_of_orders() == control.known_of_orders()
            for topic, number in zip(life.board.feed.topics.values(), last, strict=True):
                assert life.board.store.earliest(topic) in (number + 1, None)
                kept = [list(each.board.store.read("ACME", topic, number + 1, MANY_NOTES)) for each in (life, control)]
                assert kept[0] == kept[1]
