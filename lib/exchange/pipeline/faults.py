"""Points at which a daemon can be made to die, to show that nothing is lost there: for tests, off unless armed.

    EXCHANGE_FAULT="journal.between_write_and_sync:40"     in the environment of one daemon

has it kill itself (SIGKILL, as a crash would: nothing is finished) the 40th time it passes the point; without a number,
the first time. Several are separated by commas, and the first that is due kills. A name that is none refuses the start,
with the list. A process that is started again with the same environment dies again.

Where the variable is not set, nothing of this is in the way: there is no `if` and no call at the points. Armed, a World
gets a disk and a transport that count what goes through them, and the logger a writer whose methods are wrapped.
"""

import mmap
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import zmq

from exchange.config import ConfigError
from exchange.pipeline import sockets
from exchange.pipeline.codec import stream_message
from exchange.pipeline.disk import Disk
from exchange.pipeline.fair_publisher import FairPublisher

Writer = TypeVar("Writer")

if TYPE_CHECKING:
    from exchange.pipeline.world import World

VARIABLE = "EXCHANGE_FAULT"
HEARTBEAT_END = stream_message("", 0, ())[-5:]  # of a stream message that carries no record
SENDING_SECONDS = 0.02  # for what was sent before a point to leave the process: sockets have a thread of their own


class Point(NamedTuple):
    """What has to be done to which file, and whether the end comes before, in the middle of, or after it."""

    file: str
    operation: str
    moment: str
    meaning: str


def _written_and_named(name: str, file: str, what: str, where_rest: str) -> dict[str, Point]:
    """Return the points of a file that is written beside its place, synced and renamed."""
    return {
        f"{name}.before_write": Point(
            file, "write", "before", f"before a write to {what}, of which there may be several"
        ),
        f"{name}.torn_write": Point(file, "write", "half", f"half of a write to {what} is done"),
        f"{name}.before_sync": Point(file, "sync", "before", f"{what} is written, not synced"),
        f"{name}.before_rename": Point(file, "rename", "before", f"{what} is on disk, without its name"),
        f"{name}.after_rename": Point(file, "rename", "after", f"{what} has its name{where_rest}"),
    }


POINTS: dict[str, Point] = {
    # The order handler
    "journal.before_write": Point("journal", "write", "before", "requests are in the journal's buffer only"),
    "journal.torn_write": Point("journal", "write", "half", "half of what one sync covers is written"),
    "journal.between_write_and_sync": Point("journal", "sync", "before", "written, not synced"),
    "journal.between_sync_and_ack": Point("journal", "sync", "after", "on disk, nobody was answered"),
    "order_handler.between_acks": Point("", "", "", "of one sync's replies some have left, the others have not"),
    "order_handler.between_ack_and_push": Point("", "", "", "answered, not passed on to the matching daemons"),
    "journal.allocation": Point("next", "write", "half", "the next segment's file is made in part"),
    "journal.rotation.before_rename": Point("journal", "rename", "before", "the next segment has no name yet"),
    "journal.rotation.before_folder_sync": Point("journal", "rename", "after", "its name is not on disk"),
    "journal.rotation.after_folder_sync": Point("journal", "sync_folder", "after", "nothing is in it yet"),
    **_written_and_named("journal.seal", "journal_seal", "the seal of a full segment", ""),
    "id_table.making.before_header": Point("ids_header", "rename", "before", "a new table of ids, not valid yet"),
    "id_table.growth.before_create": Point("ids_next", "create", "before", "no room for more ids was made yet"),
    "id_table.growth.before_sync": Point("ids_next", "sync", "before", "there is room for more ids, not on disk"),
    "id_table.growth.before_rename": Point("ids", "rename", "before", "the next file of ids has no name yet"),
    "id_table.growth.after_rename": Point("ids", "rename", "after", "it has its name, and the id is not in it"),
    "id_table.before_sync": Point("ids", "sync", "before", "a segment is full; its ids are in memory only"),
    "id_table.after_sync": Point("ids", "sync", "after", "its ids are on disk, it has no seal"),
    # A matching daemon
    "matching.between_apply_and_log": Point("event_log", "write", "before", "applied to the book, in no log"),
    "event_log.torn_write": Point("event_log", "write", "half", "half of what came of some requests is written"),
    "matching.between_log_and_publish": Point("", "", "", "in the event log, nobody was told"),
    "event_log.before_sync": Point("event_log", "sync", "before", "a snapshot or a seal is begun, the log not synced"),
    "event_log.rotation.before_create": Point("event_log", "create", "before", "a segment is full, no next one there"),
    "event_log.rotation.before_header": Point("event_log", "header", "before", "the next one is empty"),
    "event_log.rotation.torn_header": Point("event_log", "header", "half", "it has half of its header"),
    "event_log.rotation.after_header": Point("event_log", "header", "after", "it has its header and no record"),
    **_written_and_named("event_log.seal", "event_log_seal", "the seal of a full segment", ""),
    **_written_and_named(
        "matching.snapshot",
        "matching_snapshot",
        "a matching daemon's snapshot",
        ", and those before it are still there",
    ),
    # The logger
    "logger.between_copy_and_commit": Point("", "", "", "a table's rows are copied, the transaction is open"),
    "logger.between_commit_and_return": Point("", "", "", "committed, and the logger does not know it yet"),
    # The notifier
    "notifier.between_fold_and_publish": Point("", "", "", "folded into the market data, a message is yet to be sent"),
    "notifier.between_public_and_private": Point("", "", "", "published, an account's report is yet to be sent"),
    **_written_and_named(
        "notifier.snapshot", "notifier_snapshot", "the notifier's snapshot", ", and those before it are still there"
    ),
}


def file_kind(path: Path) -> str:
    """Return which of the exchange's files a path is, as `Point.file` names it; empty where no point is about it."""
    folders = path.parts[
        -4:-1
    ]  # events/<asset>/snapshots, notifier/<asset>/snapshots, events/<asset>, journal/ids, journal
    if folders[-1:] == ("snapshots",):
        return {"events": "matching_snapshot", "notifier": "notifier_snapshot"}.get(folders[0], "")
    if folders[-2:] == ("journal", "ids"):
        return "ids" if path.suffix == ".ids" else {"next": "ids_next", "header": "ids_header"}.get(path.name, "")
    if folders[-1:] == ("journal",):
        owner = "journal"
    elif folders[-2:-1] == ("events",):
        owner = "event_log"
    else:
        return ""
    if path.name == "next":
        return "next"
    suffixes = path.suffixes
    return owner if suffixes == [".log"] else f"{owner}_seal" if suffixes[:1] == [".seal"] else ""


def parse(text: str) -> dict[str, int]:
    """Return how many times each point named in EXCHANGE_FAULT may be passed. Raises ConfigError."""
    wanted: dict[str, int] = {}
    for each in text.split(","):
        name, colon, count = each.strip().partition(":")
        if name not in POINTS:
            known = [f"  {name:40} {point.meaning}" for name, point in POINTS.items()]
            raise ConfigError(
                [f"{VARIABLE}: {name!r} is no point at which a daemon can be made to die; those are", *known]
            )
        if colon and not (count.isdecimal() and int(count)):
            raise ConfigError(
                [f"{VARIABLE}: {each.strip()!r}: what stands behind the colon must be a number from 1 on"]
            )
        wanted[name] = int(count or 1)
    return wanted


class Armed:
    """Counts how often the armed points are passed, in this process and in copies of it, and ends it all."""

    def __init__(self, wanted: dict[str, int]) -> None:
        self.process = os.getpid()
        self.places = {name: place for place, name in enumerate(wanted)}
        self.left = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")  # shared with forked copies
        for name, count in wanted.items():
            self.left[self.places[name]] = count

    def due(self, name: str) -> bool:
        """Count one more time that a point is passed; return whether it is the one to die at."""
        place = self.places.get(name)
        if place is None or not self.left[place]:
            return False
        self.left[place] -= 1
        return not self.left[place]

    def end_at(self, name: str) -> None:
        """Pass a point."""
        if self.due(name):
            self.end()

    def end(self) -> None:
        """Kill the daemon and, where a copy of it has come to the point, that too.

        What was sent before leaves first: what should not have been sent yet does harm only where it arrives.
        """
        time.sleep(SENDING_SECONDS)
        os.kill(self.process, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)  # not reached


def arm(world: "World") -> None:
    """Arm the points that EXCHANGE_FAULT names, if it names any. Raises ConfigError where there is no such point."""
    text = os.environ.get(VARIABLE)
    if text:
        armed = Armed(parse(text))
        turn = Turn()
        world.disk = FaultyDisk(armed, turn)
        world.transport = FaultyTransport(armed, turn)


def arm_writer(writer: Writer) -> Writer:
    """Arm the points within the database's writer, likewise, and return it."""
    text = os.environ.get(VARIABLE)
    if not text:
        return writer
    armed = Armed(parse(text))
    methods: Any = writer
    copy, store = methods._copy, methods._store

    def faulty_copy(*arguments: Any) -> None:
        copy(*arguments)
        armed.end_at("logger.between_copy_and_commit")

    def faulty_store(*arguments: Any) -> None:
        store(*arguments)
        armed.end_at("logger.between_commit_and_return")

    methods._copy, methods._store = faulty_copy, faulty_store
    return writer


class Turn:
    """What has been done since the journal was synced last: whose turn it is to be passed is told by the order."""

    def __init__(self) -> None:
        self.replies = 0
        self.to_push = False

    def synced(self) -> None:
        self.replies = 0
        self.to_push = True


class FaultyDisk(Disk):
    """The machine's disk, with an end at the armed points."""

    def __init__(self, armed: Armed, turn: Turn) -> None:
        self.armed = armed
        self.turn = turn
        self.paths: dict[int, Path] = {}  # of the open files
        self.renamed: dict[Path, str] = {}  # by folder, the kind of the file that was given a name there last
        self.points = {(point.file, point.operation, point.moment): name for name, point in POINTS.items()}

    def open(self, path: Path, create: bool = False) -> int:
        new = create and not self.exists(path)
        if new:
            self._pass(file_kind(path), "create", "before")
        file = super().open(path, create)
        self.paths[file] = path
        return file

    def close(self, file: int) -> None:
        self.paths.pop(file, None)
        super().close(file)

    def write(self, file: int, data: bytes, offset: int) -> None:
        kind = self._kind(file)
        operation = "header" if kind == "event_log" and not offset else "write"
        if kind == "journal" and not any(data[:4]):  # what is left of a segment is filled with zeros
            super().write(file, data, offset)
            return
        self._pass(kind, operation, "before")
        if self._is_due(kind, operation, "half"):
            super().write(file, data[: len(data) // 2], offset)
            self.armed.end()
        super().write(file, data, offset)
        self._pass(kind, operation, "after")

    def sync(self, file: int) -> None:
        kind = self._kind(file)
        self._pass(kind, "sync", "before")
        super().sync(file)
        self._pass(kind, "sync", "after")
        if kind == "journal":
            self.turn.synced()

    def rename(self, old: Path, new: Path) -> None:
        kind = file_kind(new)
        self._pass(kind, "rename", "before")
        super().rename(old, new)
        self.renamed[new.parent] = kind
        for file, path in list(self.paths.items()):
            if path == old:
                self.paths[file] = new
        self._pass(kind, "rename", "after")

    def sync_folder(self, folder: Path) -> None:
        super().sync_folder(folder)
        self._pass(self.renamed.get(folder, ""), "sync_folder", "after")

    def _kind(self, file: int) -> str:
        path = self.paths.get(file)
        return "" if path is None else file_kind(path)

    def _is_due(self, kind: str, operation: str, moment: str) -> bool:
        name = self.points.get((kind, operation, moment)) if kind else None
        return name is not None and self.armed.due(name)

    def _pass(self, kind: str, operation: str, moment: str) -> None:
        if self._is_due(kind, operation, moment):
            self.armed.end()


class FaultySocket(zmq.Socket[bytes]):
    """A socket that tells of each frame before it is sent."""

    before_send: Callable[[bytes, int], None] | None = None

    def send(self, data: Any, flags: int = 0, *arguments: Any, **more: Any) -> Any:
        if self.before_send is not None:
            self.before_send(data, flags)
        return super().send(data, flags, *arguments, **more)


class FaultyTransport(sockets.Transport):
    """The machine's sockets, with an end at the armed points."""

    def __init__(self, armed: Armed, turn: Turn) -> None:
        super().__init__()
        self.context._socket_class = FaultySocket
        self.armed = armed
        self.turn = turn

    def client_router(self, endpoint: str, reply_queue: int) -> zmq.Socket[bytes]:
        socket = super().client_router(endpoint, reply_queue)
        if reply_queue == sockets.REPLY_QUEUE:  # order entry
            self._watch(socket, self._reply)
        return socket

    def push(self, endpoint: str) -> zmq.Socket[bytes]:
        return self._watch(super().push(endpoint), self._push)

    def publisher(self, endpoint: str) -> zmq.Socket[bytes]:
        return self._watch(super().publisher(endpoint), self._publish_events)

    def public_publisher(self, endpoint: str, send_queue: int, places: int = sockets.FAIR_PLACES) -> FairPublisher:
        return self._watch_publisher(super().public_publisher(endpoint, send_queue, places), self._publish)

    def private_publisher(self, endpoint: str, send_queue: int) -> FairPublisher:
        return self._watch_publisher(super().private_publisher(endpoint, send_queue), self._publish_privately)

    def _watch(self, socket: zmq.Socket[bytes], before_send: Callable[[bytes, int], None]) -> zmq.Socket[bytes]:
        assert isinstance(socket, FaultySocket)
        socket.before_send = before_send
        return socket

    def _watch_publisher(self, publisher: FairPublisher, before_send: Callable[[bytes], None]) -> FairPublisher:
        real = publisher.send_all

        def send_all(topics: Iterable[bytes], payloads: Iterable[bytes]) -> None:
            for topic, payload in zip(topics, payloads, strict=True):
                before_send(topic)
                real((topic,), (payload,))

        publisher.send_all = send_all  # type: ignore[method-assign]
        return publisher

    def _reply(self, frame: bytes, flags: int) -> None:
        if flags & sockets.SNDMORE:  # the envelope
            return
        self.turn.replies += 1
        if self.turn.replies > 1 and self.turn.to_push:
            self.armed.end_at("order_handler.between_acks")

    def _push(self, frame: bytes, flags: int) -> None:
        if self.turn.to_push and not frame.endswith(HEARTBEAT_END):
            self.turn.to_push = False
            self.armed.end_at("order_handler.between_ack_and_push")

    def _publish_events(self, frame: bytes, flags: int) -> None:
        if not frame.endswith(HEARTBEAT_END):
            self.armed.end_at("matching.between_log_and_publish")

    def _publish(self, topic: bytes) -> None:
        if not topic.startswith(b"heartbeat/"):
            self.armed.end_at("notifier.between_fold_and_publish")

    def _publish_privately(self, topic: bytes) -> None:
        self.armed.end_at("notifier.between_public_and_private")
