"""Simulated time and chance: who gets the next turn, and when. One seed decides all of it."""

import random
import zlib
from collections import Counter, deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import NamedTuple

START_NS = 1_700_000_000_000_000_000
MOST_TURNS = 200_000  # of one run: beyond that it goes in circles
TRACED = 400  # of the last events, kept to be shown with a failure
NEVER = float("inf")


class Killed(BaseException):
    """The process ends here, at this very call, as by kill -9."""


class Failed(AssertionError):
    """Something that was promised does not hold."""


class Result(NamedTuple):
    """What came of a seed: what failed, if anything did, and what happened."""

    seed: int
    error: str
    digest: int
    turns: int
    seconds: float
    seen: Counter[str]


class Actor:
    """Whoever gets turns: a process, a thread beside its loop, a client."""

    def __init__(self, kernel: "Kernel", name: str) -> None:
        self.kernel = kernel
        self.name = name
        self.wake_at = NEVER
        self.busy_until = 0.0

    def wake(self, when: float) -> None:
        """Give it a turn at that time, or sooner."""
        if when < self.busy_until:
            when = self.busy_until
        if when < self.wake_at:
            self.wake_at = when
            self.kernel.push(when, self)

    def run(self) -> None:
        """Take a turn."""
        raise NotImplementedError


class Kernel:
    """The clock and the order of events, with what has happened so far."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.now = 0.0
        self.clock_offset_ns = 0
        self.heap: list[tuple[float, int, Actor | Callable[[], None]]] = []
        self.pushed = 0
        self.trace: deque[tuple[object, ...]] = deque(maxlen=TRACED)
        self.digest = 0
        self.seen: Counter[str] = Counter()  # faults and rare states, by name
        self.turns = 0

    def push(self, when: float, what: "Actor | Callable[[], None]") -> None:
        self.pushed += 1
        heappush(self.heap, (when, self.pushed, what))

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        self.push(self.now + seconds, what)

    def time_ns(self, at: float) -> int:
        """Return what the system's clock shows at a time."""
        return START_NS + self.clock_offset_ns + int(at * 1e9)

    def note(self, *what: object) -> None:
        """Keep an event for the trace, and for the digest that tells whether two runs were the same."""
        self.trace.append((round(self.now, 6), *what))
        self.digest = zlib.crc32(repr((self.now, what)).encode(), self.digest)

    def fault(self, name: str, *details: object) -> None:
        """Note a fault that was done."""
        self.seen[name] += 1
        self.note(name, *details)

    def run(self, until: Callable[[], bool], most_seconds: float) -> bool:
        """Give turns until that is so, or the time is over; return whether it is so."""
        heap = self.heap
        end = self.now + most_seconds
        while not until():
            if not heap or heap[0][0] > end:
                self.now = end
                return until()
            when, _, what = heappop(heap)
            if when > self.now:
                self.now = when
            if isinstance(what, Actor):
                if what.wake_at != when:
                    continue
                what.wake_at = NEVER
                self.turns += 1
                if self.turns > MOST_TURNS:
                    raise Failed(f"{MOST_TURNS} turns, the last of {what.name}, and no end")
                what.run()
            else:
                what()
        return True
