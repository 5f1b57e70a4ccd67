"""Real daemons that die at named points while a client trades: nothing is lost, nothing happens twice.

    python -m tests.integration.fault_points --times 20        every point 20 times, and a table of them
    python -m tests.integration.fault_points --seed 7 --points journal.torn_write,matching.snapshot.before_rename

An exchange runs with its logger and a real PostgreSQL. Each daemon is armed with one of its points, to die the n-th
time it passes it, n drawn at random; when it has, it is started again, with the next one armed. When all are through,
what is on disk, in the database and at a subscriber is compared with what the client was told.
"""

import argparse
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import zmq

from exchange.audit.audit import audit
from exchange.pipeline.faults import POINTS, VARIABLE
from tests.aftermath import check_acks, check_event_logs, check_tables, published, settled_journal
from tests.daemons import Daemons, name_of
from tests.database import database, postgres
from tests.integration.outsider import Message, Peer
from tests.support import Daemon, wait_until
from tests.trader import ACCOUNTS, Trader

ASSETS = ("ACME", "GOLD")
ASSETS_FILE = "".join(f'[[asset]]\nasset = "{name}"\n' for name in ASSETS)
SNAPSHOTS = "[snapshots]\nrequests = 1000\n"
FIRST = "id_table.making.before_header"  # is passed at the first start only
POINT_SECONDS = 60.0  # within which a daemon comes to its point

EXPIRY_NS = 500_000_000  # after an order's time, within which its expiry is journaled

# How often a point may be passed before the daemon dies there: where that is hundreds of times a second, a few times,
# and seldom.
OFTEN, NOW_AND_THEN, SELDOM = range(1, 100), range(1, 15), range(1, 3)


class SmallDaemon(Daemon):
    """One whose files are soon full."""

    package = "tests.integration"


class Subscriber:
    """Keeps what it is sent of some topics, as it comes; what it missed it asks for at the end."""

    def __init__(self, daemons: Daemons, context: zmq.Context[Any], topics: Sequence[str]) -> None:
        self.query = Peer(context, daemons.config.endpoints.query)
        self.context, self.endpoint = context, daemons.config.endpoints.query
        self.socket = context.socket(zmq.SUB)
        self.socket.linger = 0
        self.socket.rcvhwm = 1_000_000
        self.socket.reconnect_ivl, self.socket.reconnect_ivl_max = 20, 200
        for endpoint in (daemons.config.endpoints.market_data, daemons.config.endpoints.private):
            self.socket.connect(endpoint)
        for topic in topics:
            self.socket.subscribe(topic.encode())
        self.heard: dict[str, dict[int, Message]] = {topic: {} for topic in topics}

    def drain(self) -> None:
        while self.socket.poll(0):
            topic, payload = self.socket.recv_multipart()
            self._keep(topic.decode(), msgpack.unpackb(payload))

    def _keep(self, topic: str, message: Message) -> None:
        first = self.heard[topic].setdefault(message["sequence"], message)
        assert first == message, f"{topic}: one number, two messages: {first}, {message}"

    def complete(self, topic: str, last: int) -> tuple[list[Message], int]:
        """Return a topic's messages up to a number, and how many of them had to be asked for."""
        heard, asked = self.heard[topic], 0
        for number in range(1, last + 1):
            if number not in heard:
                reply = self.query.ask({"type": "retransmit", "topic": topic, "from": number, "to": last})
                assert reply["type"] == "retransmit", reply
                for message in reply["messages"]:
                    asked += message["sequence"] not in heard
                    self._keep(topic, message)
        assert max(heard, default=0) <= last, f"{topic}: {max(heard)}, and {last} is the last one"
        return [heard[number] for number in range(1, last + 1)], asked


class Trial:
    """One exchange whose daemons die at points, one after the other, while a client trades."""

    def __init__(self, folder: Path, dsn: str, points: Sequence[str], seed: int) -> None:
        self.random = random.Random(seed)
        self.daemons = Daemons(folder, ASSETS_FILE, f"{SNAPSHOTS}[database]\ndsn = '{dsn}'\n")
        for daemon in [self.daemons.order_handler, *self.daemons.matching.values()]:
            self.daemons.replace(daemon, SmallDaemon(self.daemons.config, "small_files", *daemon.arguments))
        self.trader = Trader(self.daemons.config.endpoints.order_entry, ASSETS, seed)
        topics = [f"{kind}/{asset}/" for kind in ("trade", "book", "status") for asset in ASSETS]
        self.topics = [*topics, *(f"execution/{ACCOUNTS[0]}/{asset}/" for asset in ASSETS)]
        self.subscriber = Subscriber(self.daemons, self.trader.context, self.topics)
        self.deaths: Counter[str] = Counter()
        self.asked = 0
        self.plan = {id(daemon): deque[str]() for daemon in self.daemons.all}
        for point in self.random.sample(points, len(points)):
            owner = self.random.choice(list(owners(self.daemons, point)))
            if point == FIRST:
                self.plan[id(owner)].appendleft(point)
            else:
                self.plan[id(owner)].append(f"{point}:{self.random.choice(frequency(point))}")
        self.armed: dict[int, str] = {}

    def run(self) -> None:
        """Have every daemon die at each of its points. Fails where one does not come to it, or does not return."""
        for daemon in self.daemons.all:
            self._arm(daemon)
        try:
            with self.daemons.running():
                since = time.monotonic()
                while self.armed:
                    self.trader.turn()
                    self.subscriber.drain()
                    for daemon in self.daemons.all:
                        if not daemon.alive:
                            self._died(daemon)
                            since = time.monotonic()
                    assert time.monotonic() - since < POINT_SECONDS, f"not reached: {list(self.armed.values())}"
                self.check()
                self.daemons.stop()
        except BaseException as error:
            error.add_note(f"deaths so far: {dict(self.deaths)}; armed: {self.armed}\n{self.daemons.explain()}")
            raise
        finally:
            self.trader.close()

    def _arm(self, daemon: Daemon) -> None:
        plan = self.plan[id(daemon)]
        daemon.environment = {}
        if plan:
            self.armed[id(daemon)] = plan.popleft()
            daemon.environment = {VARIABLE: self.armed[id(daemon)]}

    def _died(self, daemon: Daemon) -> None:
        status, point = daemon.wait(), self.armed.pop(id(daemon), "")
        assert status == -signal.SIGKILL, f"{name_of(daemon)} ended with {status}, armed with {point}"
        assert point, f"{name_of(daemon)} was killed, and by nobody"
        self.deaths[point.partition(":")[0]] += 1
        self._arm(daemon)
        daemon.start()

    def check(self) -> None:
        """Have all be done, and compare."""
        trader, config = self.trader, self.daemons.config
        trader.drain(60)
        wait_until(lambda: time.time_ns() > trader.last_expiry + EXPIRY_NS, "all that expires has expired")
        queues = settled_journal(config, self.daemons.dsn)
        check_acks(queues, trader.acks, trader.requests)
        results = check_event_logs(config, queues)
        check_tables(self.daemons.dsn, results)
        audit(config, self.daemons.dsn, complete=True)
        for records in results.values():
            topics = published(records)
            wait_until(partial(self._is_published, topics), "the notifier has all", 60)
            self.subscriber.drain()
            for topic in set(topics) & set(self.topics):
                messages, asked = self.subscriber.complete(topic, len(topics[topic]))
                assert messages == [msgpack.unpackb(payload) for payload in topics[topic]], topic
                self.asked += asked
        for daemon in self.daemons.all:
            assert daemon.alive, f"{name_of(daemon)} has ended"

    def _is_published(self, topics: dict[str, list[bytes]]) -> bool:
        """Return whether the notifier says that it has all of the public topics."""
        reply = self.subscriber.query.ask(type="sequences")
        return "rebuilding" not in reply and all(
            len(messages) == reply["sequences"].get(topic, 0)
            for topic, messages in topics.items()
            if not topic.startswith("execution/")
        )

    def summary(self) -> str:
        trader = self.trader
        return (
            f"{len(trader.acks)} acked, {sum(trader.rejects.values())} rejected, {trader.reconnects} connections more, "
            f"{self.asked} messages asked for again"
        )


def frequency(point: str) -> range:
    """Return after how many times that a point is passed the daemon may be made to die there."""
    if any(word in point for word in ("rotation", "seal", "snapshot", "allocation", "id_table")):
        return SELDOM
    return NOW_AND_THEN if point.startswith("logger") else OFTEN


def owners(daemons: Daemons, point: str) -> Iterator[Daemon]:
    """Yield the daemons that pass a point."""
    kind = point.partition(".")[0]
    if kind in ("matching", "event_log"):
        yield from daemons.matching.values()
    else:
        yield {"logger": daemons.logger, "notifier": daemons.notifier}.get(kind, daemons.order_handler)


@contextmanager
def new_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="exchange-") as folder:
        yield Path(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=1, help="how often each point, each time in another exchange")
    parser.add_argument("--points", default=",".join(POINTS), help="separated by commas; all of them by default")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32), help="of the first round")
    arguments = parser.parse_args()
    points = arguments.points.split(",")
    deaths: Counter[str] = Counter()
    failures = 0
    with postgres() as server:
        for number in range(arguments.times):
            seed, started = arguments.seed + number, time.monotonic()
            print(f"round {number + 1}: --seed {seed}", end=" ", flush=True)
            with new_folder() as folder, database(server) as dsn:
                trial = Trial(folder, dsn, points, seed)
                try:
                    trial.run()
                except Exception:
                    failures += 1
                    traceback.print_exc(file=sys.stdout)
            deaths += trial.deaths
            print(f"{time.monotonic() - started:.0f} s: {trial.summary()}", flush=True)
    for point in points:
        print(f"{point:40} {deaths[point]:4} deaths  {POINTS[point].meaning}")
    print(f"{arguments.times} rounds, {failures} failed")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
