"""What is slow, frozen or away: bounded memory, nobody else disturbed, said clearly, and mended without a hand.

A real exchange with its database, and around it processes that read slowly, not at all, or are stopped.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgpack
import psycopg
import pytest

from exchange.client.health import DaemonHealth, check_health
from exchange.store.embedded import database_dsn
from tests.integration.outsider import Venue, whole_topic
from tests.support import Daemon, running, wait_until

BACKLOG = 2_000
SEND_QUEUE = 1_000
PAIRS = 50  # of orders that trade, in a batch
SETTINGS = f"[limits]\nmax_backlog = {BACKLOG}\nsend_queue = {SEND_QUEUE}"
GROWTH_MB = 40.0  # of a daemon, while a hundred times the bound of its queues passes by a reader that is stuck

# Subscribes to everything, and reads a message for each byte on standard input.
SUBSCRIBER = """
import sys, zmq
socket = zmq.Context().socket(zmq.SUB)
socket.rcvhwm = 100
socket.rcvbuf = 4096
socket.subscribe(b"")
for endpoint in sys.argv[1:]:
    socket.connect(endpoint)
socket.recv_multipart()
print("connected", flush=True)
while sys.stdin.read(1):
    socket.recv_multipart()
"""


class Exchange:
    """The exchange, its logger and its database."""

    def __init__(self, folder: Path) -> None:
        self.venue = Venue(folder, SETTINGS)
        self.postgres = Daemon(self.venue.config, "postgres")
        self.logger = Daemon(self.venue.config, "logger")
        self.daemons = [self.postgres, *self.venue.daemons, self.logger]
        self.trades = 0

    def trade(self, batches: int) -> None:
        """Have orders for BTC-USD trade, and return when all that came of them is published."""
        venue = self.venue
        for number in range(batches):
            pairs = [
                venue.order(account, side, 1, 500, asset="BTC-USD")
                for _ in range(PAIRS)
                for account, side in (("ann", "buy"), ("bob", "sell"))
            ]
            replies = venue.entry.ask(pairs)
            assert {reply["type"] for reply in replies} == {"ack"}, replies[:2]
            if number % 5 == 4:
                venue.settle("BTC-USD")  # so that no bound is reached
        venue.settle("BTC-USD")
        self.trades += batches * PAIRS

    def health(self, daemon: str) -> DaemonHealth:
        health = check_health(self.venue.config, timeout=5.0)
        return next(each for each in health.daemons if each.daemon == daemon)

    def slow_connections(self) -> dict[str, int]:
        """Return how many connections to each endpoint the status says to be slow, where there are any."""
        return Counter(peer.endpoint for peer in check_health(self.venue.config, timeout=5.0).slow_peers)

    def wait_for_state(self, daemon: str, words: str) -> None:
        wait_until(lambda: words in self.health(daemon).state, f"{daemon} says {words!r}", pause=0.1)

    def stored_trades(self) -> int:
        """Return how many trades are in SQL, -1 while the database is away or has no tables yet."""
        try:
            with psycopg.connect(database_dsn(self.venue.config), connect_timeout=30) as connection:
                row = connection.execute("SELECT count(*) FROM trades").fetchone()
        except (psycopg.OperationalError, psycopg.errors.UndefinedTable):
            return -1
        return 0 if row is None else int(row[0])

    def wait_until_stored(self) -> None:
        wait_until(lambda: self.stored_trades() == self.trades, f"{self.trades} trades are stored", 60, pause=0.1)


@pytest.fixture(scope="module")
def exchange() -> Iterator[Exchange]:
    folder = Path(tempfile.mkdtemp(prefix="exchange-overload-"))
    folder.chmod(0o755)  # for the database's user, where root runs the tests
    exchange = Exchange(folder)
    try:
        with running(*exchange.daemons):
            exchange.venue.wait_until_ready()
            exchange.wait_for_state("logger", "running")
            exchange.wait_for_state("postgres", "running")
            exchange.trade(5)
            exchange.wait_until_stored()
            others = exchange.daemons[1:]
            pids = [daemon.pid for daemon in others]
            yield exchange
            assert [daemon.pid for daemon in others if daemon.alive] == pids, "nobody was started again"
            exchange.wait_until_stored()
    finally:
        exchange.venue.context.destroy(linger=0)
        shutil.rmtree(folder)


@contextmanager
def subscriber(exchange: Exchange) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that is subscribed to all topics."""
    endpoints = exchange.venue.endpoints
    process = subprocess.Popen(
        [sys.executable, "-c", SUBSCRIBER, endpoints.market_data, endpoints.private],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"connected\n"
        yield process
    finally:
        process.kill()
        process.communicate(timeout=30)


def resident_mb(daemon: Daemon) -> float:
    pages = int(Path(f"/proc/{daemon.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_a_frozen_and_a_slow_subscriber_cost_bounded_memory_and_disturb_nobody(exchange: Exchange) -> None:
    venue = exchange.venue
    with (
        subscriber(exchange) as frozen,
        subscriber(exchange) as slow,
        closing(venue.public("trade/BTC-USD/")) as good,
    ):
        frozen.send_signal(signal.SIGSTOP)
        first = exchange.trades
        exchange.trade(20)
        before = resident_mb(venue.notifier)
        for _ in range(10):
            exchange.trade(20)
            assert slow.stdin is not None
            slow.stdin.write(b"." * 100)
            slow.stdin.flush()
        good.wait_for_sequence("trade/BTC-USD/", exchange.trades)
        both = {venue.endpoints.market_data: 2, venue.endpoints.private: 2}  # connections of the two, and nobody else's
        # The slow one is in the list when it has read what it was told to, and its room is full again.
        wait_until(lambda: exchange.slow_connections() == both, f"the slow connections are {both}", pause=0.1)
        numbers = [message["sequence"] for message in good.messages["trade/BTC-USD/"]]
        assert numbers == list(range(first + 1, exchange.trades + 1)), "a subscriber that reads gets every trade"
        assert resident_mb(venue.notifier) - before < GROWTH_MB


def test_a_client_that_never_reads_its_replies_loses_them_and_the_status_says_so(exchange: Exchange) -> None:
    venue = exchange.venue
    with closing(venue.peer(rcvhwm=1, rcvbuf=4096)) as deaf:
        request = msgpack.packb({"type": "x" * 400})  # its reject is as long
        before = resident_mb(venue.order_handler)
        for number in range(40_000):
            deaf.socket.send(request)
            if number % 1_000 == 0:
                assert venue.entry.ask(type="ping")["type"] == "pong"
        exchange.wait_for_state("order_handler", "a client does not read its replies")
        # Replies are dropped when ZeroMQ has no room, which may be before the connection has none.
        its_own = {venue.endpoints.order_entry: 1}
        wait_until(lambda: exchange.slow_connections() == its_own, f"the slow connections are {its_own}", pause=0.1)
        exchange.trade(2)
        assert resident_mb(venue.order_handler) - before < GROWTH_MB
    wait_until(lambda: exchange.health("order_handler").state == "running", "the state is over with the client")


def test_a_matching_daemon_that_is_stopped_makes_its_asset_busy_and_no_other(exchange: Exchange) -> None:
    venue = exchange.venue
    matching = venue.matching["ACME"]
    matching.signal(signal.SIGSTOP)
    try:
        exchange.wait_for_state("matching-ACME", "stopped by a signal")
        acked: list[str] = []
        while len(acked) < 2 * BACKLOG:
            orders = [venue.order("cat", "buy", 10, 1000) for _ in range(100)]
            replies = venue.entry.ask(orders)
            acked += [reply["client_order_id"] for reply in replies if reply["type"] == "ack"]
            refused = [reply for reply in replies if reply["type"] == "reject"]
            if refused:
                break
        assert {reply["reason"] for reply in refused} == {"busy"}
        assert str(BACKLOG) in refused[0]["text"]
        exchange.trade(2)
        assert exchange.health("order_handler").behind["ACME"] <= BACKLOG
    finally:
        matching.signal(signal.SIGCONT)
    probe = venue.order("cat", "buy", 10, 1000)
    wait_until(lambda: venue.entry.ask(probe)["type"] == "ack", "orders are taken again")
    acked.append(probe["client_order_id"])
    venue.settle("ACME")
    live = venue.query.ask(type="open_orders", account="cat", asset="ACME")["orders"]
    assert [order["client_order_id"] for order in live] == acked, "all that was acknowledged, and nothing else"
    venue.do("mass_cancel", account="cat")


def test_while_the_database_is_away_nothing_is_held_for_it_in_memory(exchange: Exchange) -> None:
    exchange.wait_until_stored()
    exchange.postgres.signal(signal.SIGSTOP)
    try:
        exchange.wait_for_state("postgres", "stopped by a signal")
        before = resident_mb(exchange.logger)
        exchange.trade(40)
    finally:
        exchange.postgres.signal(signal.SIGCONT)
    exchange.wait_until_stored()
    exchange.postgres.signal(signal.SIGINT)
    assert exchange.postgres.wait() == 0
    exchange.wait_for_state("logger", "waiting for the database")
    exchange.wait_for_state("postgres", "not running")
    for _ in range(5):
        exchange.trade(40)
        assert resident_mb(exchange.logger) - before < GROWTH_MB
    waiting = 5 * 40 * 2 * PAIRS
    wait_until(lambda: exchange.health("logger").behind["BTC-USD"] >= waiting, f"{waiting} requests are said to wait")
    exchange.postgres.start()
    exchange.wait_until_stored()
    exchange.wait_for_state("logger", "running")


def test_what_went_by_the_slow_can_be_asked_for(exchange: Exchange) -> None:
    trades = whole_topic(exchange.venue, "trade/BTC-USD/")
    assert [trade["sequence"] for trade in trades] == list(range(1, exchange.trades + 1))
