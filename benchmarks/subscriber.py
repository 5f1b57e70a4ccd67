"""A subscriber as a trader has one: a process with a SUB socket that takes all trades, and says what it got.

`python -m benchmarks.subscriber ENDPOINT CONTROL` counts the trades and looks whether their numbers are without a gap;
at CONTROL it answers questions about them. `Subscriber` is the other end, in the process of the benchmark.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Self

import msgspec
import zmq

from exchange.config import PROJECT

START_SECONDS = 30.0
TOPIC = b"trade/"
HEARTBEAT = b"heartbeat/"
RECEIVE_QUEUE = 1_000_000


class Trade(msgspec.Struct, gc=False):
    """What the subscriber reads of a trade."""

    asset: str
    sequence: int
    taker_order_id: int


class Report(msgspec.Struct):
    """What a subscriber got: trades, the last number of each asset, gaps; when the last came; its CPU seconds."""

    trades: int
    last: dict[str, int]
    gaps: int
    last_at: float
    cpu_seconds: float


class Subscriber:
    """A subscriber's process, from `with` to its end; it is subscribed when `with` begins."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint

    def __enter__(self) -> Self:
        self.folder = tempfile.TemporaryDirectory(prefix="subscriber-")
        control = f"ipc://{Path(self.folder.name) / 'control'}"
        command = [sys.executable, "-m", "benchmarks.subscriber", self.endpoint, control]
        self.process = subprocess.Popen(command, cwd=PROJECT)
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.control = self.context.socket(zmq.REQ)
        self.control.linger = 0
        self.control.connect(control)
        self.report()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait(10)
        self.context.destroy(linger=0)
        self.folder.cleanup()

    def report(self) -> Report:
        """Return what it got so far."""
        return msgspec.msgpack.decode(self._ask(b"report"), type=Report)

    def times(self) -> list[tuple[int, float]]:
        """Return the taker's order id of each trade since the last such question, and when it came (monotonic)."""
        return msgspec.msgpack.decode(self._ask(b"times"), type=list[tuple[int, float]])

    def wait_for(self, last: dict[str, int], seconds: float = START_SECONDS) -> Report:
        """Return its report once it has each asset's trades up to these numbers. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while True:
            report = self.report()
            if all(report.last.get(asset, 0) >= number for asset, number in last.items()):
                return report
            if time.monotonic() > deadline:
                raise TimeoutError(f"the subscriber has {report.last} of {last} after {seconds:g} s")
            time.sleep(0.02)

    def _ask(self, question: bytes) -> bytes:
        self.control.send(question)
        if not self.control.poll(round(START_SECONDS * 1000)):
            raise TimeoutError(f"the subscriber does not answer within {START_SECONDS:g} s")
        return self.control.recv()


def subscribe(endpoint: str, control: str) -> None:
    """Take trades and answer questions, until killed."""
    with zmq.Context() as context, context.socket(zmq.SUB) as feed, context.socket(zmq.REP) as questions:
        feed.linger = questions.linger = 0
        feed.rcvhwm = RECEIVE_QUEUE
        feed.subscribe(TOPIC)
        feed.subscribe(HEARTBEAT)
        feed.connect(endpoint)
        if not feed.poll(round(START_SECONDS * 1000)):
            raise TimeoutError(f"{endpoint}: no heartbeat within {START_SECONDS:g} s")
        feed.unsubscribe(HEARTBEAT)
        questions.bind(control)
        trades = Trades()
        # A thread answers, so that the feed is read by blocking: the cheapest way there is.
        Thread(target=trades.answer, args=(questions,), daemon=True).start()
        trades.take(feed)


class Trades:
    """The trades that a subscriber got."""

    def __init__(self) -> None:
        self.count = self.gaps = 0
        self.last: dict[str, int] = {}
        self.last_at = 0.0
        self.times: list[tuple[int, float]] = []
        self.decode = msgspec.msgpack.Decoder(Trade).decode

    def take(self, feed: zmq.Socket[bytes]) -> None:
        """Take what arrives, until killed."""
        recv, decode, last, monotonic = feed.recv, self.decode, self.last, time.monotonic
        while True:
            topic = recv()
            payload = recv()
            if topic[:6] != TOPIC:
                continue
            trade = decode(payload)
            self.last_at = monotonic()
            self.times.append((trade.taker_order_id, self.last_at))
            self.count += 1
            # The first trade of an asset may have any number: others came before this subscriber.
            if last.get(trade.asset, trade.sequence - 1) + 1 != trade.sequence:
                self.gaps += 1
            last[trade.asset] = trade.sequence

    def answer(self, questions: zmq.Socket[bytes]) -> None:
        """Answer questions, until killed."""
        while True:
            if questions.recv() == b"times":
                times, self.times = self.times, []
                questions.send(msgspec.msgpack.encode(times))
            else:
                report = Report(self.count, dict(self.last), self.gaps, self.last_at, time.process_time())
                questions.send(msgspec.msgpack.encode(report))


if __name__ == "__main__":
    subscribe(*sys.argv[1:])
