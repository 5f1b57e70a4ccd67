"""What a daemon has of the outside, simulated: one `Life` for each of a process's lives, on a machine they share."""

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from exchange.pipeline.world import World
from exchange.status import AlreadyRunning, Lock
from tests.simulation.database import Server
from tests.simulation.disk import SimDisk, Storage
from tests.simulation.kernel import NEVER, Actor, Kernel, Killed
from tests.simulation.network import Network, Poller, SimTransport

SYNC_SECONDS = 0.0004


class Machine:
    """What outlives the processes: the disk, the network, the database server; and who holds which lock."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.network = Network(kernel)
        self.storage = Storage(kernel.chance)
        self.server = Server(kernel)
        self.locks: dict[str, Life] = {}


class SimPage:
    """A status page that nobody reads; what is written is kept, and has to be right all the same."""

    def __init__(self, life: "Life") -> None:
        self.life = life
        self.written = -1.0
        self.state = ""

    def due(self) -> bool:
        return self.life.local - self.written >= 1.0

    def write(self, state: str, processed: dict[str, int], behind: dict[str, int], **details: Any) -> None:
        self.written = self.life.local
        self.state = state
        assert all(count >= 0 for count in (*processed.values(), *behind.values())), (processed, behind)
        if state != "running":
            self.life.kernel.seen[f"state: {state.split(':')[0]}"] += 1

    def close(self) -> None:
        pass


class Life(World):
    """One life of a daemon, until it is killed or ends. `local` is its time: ahead of the kernel's while it waits."""

    def __init__(self, machine: Machine, process: Actor) -> None:
        self.machine = machine
        self.kernel = machine.kernel
        self.process = process
        self.local = self.kernel.now
        self.over = False
        self.calls = 0
        self.kill_at = 0  # the number of the call at which the process is killed; 0: none
        self.kill_what = ""  # the kind of call at which it is killed,
        self.kill_left = 0  # the so many-th from now
        self.bad_syncs = 0  # the so many-th sync from now on fails, less one; 0: none
        self.bad_connections = 0
        self.injected = ""  # what was made to fail, which is why the process may end
        self.disk = SimDisk(machine.storage, self)
        self.sockets = SimTransport(machine.network, self)
        self.poller: Poller | None = None
        self.deadline = NEVER
        self.jobs: deque[Callable[[], None]] = deque()
        self.thread = Thread(self)
        self.forked_until = 0.0
        self.in_copy = False
        self.closing: list[Callable[[], None]] = []  # what others notice when it ends

    @property
    def transport(self) -> Any:
        return self.sockets

    def call(self, what: str) -> None:
        """Count a call of the outside; end the process here, if that is its fate."""
        self.calls += 1
        if what == self.kill_what:
            self.kill_left -= 1
            if not self.kill_left:
                self.kill_at = self.calls
        if self.calls == self.kill_at or self.over:
            if not self.over:
                self.kernel.fault("kill in a forked copy" if self.in_copy else "kill", self.process.name, "at", what)
                self.kernel.seen[f"kill at {what}"] += 1
            self.over = True
            raise Killed

    def kill_soon(self, what: str, count: int) -> None:
        """Have the process killed at one of its next calls: of that kind, or ("") of any."""
        if what:
            self.kill_what, self.kill_left = what, count
        else:
            self.kill_at = self.calls + count

    def spare(self) -> None:
        """Take back whatever fault is to come."""
        self.kill_what = ""
        self.kill_at = self.bad_syncs = self.bad_connections = 0

    def will_be_killed(self, what: str) -> bool:
        """Return whether the next call, of that kind, is the one."""
        return self.calls + 1 == self.kill_at or (what == self.kill_what and self.kill_left == 1)

    def sync_fails(self) -> bool:
        self.local += SYNC_SECONDS
        self.bad_syncs -= self.bad_syncs > 0
        if self.bad_syncs == 1:
            self.bad_syncs = 0  # the so many-th sync from now on fails, less one; 0: none
            self.injected = "an error on sync"
            self.kernel.fault("error on sync", self.process.name)
            return True
        return False

    def connection_fails(self) -> bool:
        if self.bad_connections and self.kernel.chance.random() < 0.3:
            self.bad_connections -= 1
            self.kernel.fault("connection to the database lost")
            return True
        return False

    def end(self) -> None:
        """Be gone, as a process is: its sockets and locks with it."""
        self.over = True
        self.sockets.close()
        self.jobs.clear()
        for tell in self.closing:
            tell()
        self.closing.clear()
        locks = self.machine.locks
        for path in [path for path, holder in locks.items() if holder is self]:
            del locks[path]

    # -- World ---------------------------------------------------------------------------------------------------------

    def monotonic(self) -> float:
        return self.local

    def time_ns(self) -> int:
        return self.kernel.time_ns(self.local)

    def random_bytes(self, count: int) -> bytes:
        return self.kernel.chance.randbytes(count)

    def sleep(self, seconds: float) -> None:
        self.local += seconds

    def lock(self, path: Path, what: str) -> Lock:
        self.call("lock")
        if str(path) in self.machine.locks:
            raise AlreadyRunning(f"{what} is running already")
        self.machine.locks[str(path)] = self
        return None  # type: ignore[return-value] # nobody asks for it

    def status_page(self, folder: Path, daemon: str) -> Any:
        return SimPage(self)

    def run_aside(self, job: Callable[[], None]) -> None:
        self.jobs.append(job)
        self.thread.wake(self.local + self.kernel.chance.random() * 0.05)

    def fork(self, name: str, job: Callable[[], None]) -> bool:
        """Run the job at once, which in its copy of the process comes to the same; it may end halfway."""
        if not self.reap():
            return False
        chance = self.kernel.chance
        self.forked_until = self.local + chance.random() * 0.5
        fate, calls = (self.kill_at, self.kill_what), self.calls
        self.kill_what = ""
        self.kill_at = calls + chance.randint(1, 12) if chance.random() < 0.1 else 0
        self.kernel.seen["forked"] += 1
        self.in_copy = True
        try:
            job()
        except Killed:
            self.over = False
        except OSError as error:
            self.kernel.note("forked copy failed", str(error))
        self.in_copy = False
        kill_at, self.kill_what = fate
        self.kill_at = kill_at and kill_at + self.calls - calls
        return True

    def reap(self) -> bool:
        return self.local >= self.forked_until

    def wait_for_fork(self, seconds: float) -> bool:
        self.local = min(self.local + seconds, max(self.local, self.forked_until))
        return self.reap()

    def settle_memory(self) -> None:
        pass

    def close(self) -> None:
        self.end()


class Thread(Actor):
    """The thread beside a process's loop."""

    def __init__(self, life: Life) -> None:
        super().__init__(life.kernel, f"{life.process.name} aside")
        self.life = life

    def run(self) -> None:
        life = self.life
        if life.over or not life.jobs:
            return
        if life.process.busy_until > self.kernel.now:  # frozen, or in the middle of a turn
            self.wake(life.process.busy_until)
            return
        if life.local < self.kernel.now:
            life.local = self.kernel.now
        life.process.guard(life.jobs.popleft())  # type: ignore[attr-defined] # a Process
        if life.jobs and not life.over:
            self.wake(self.kernel.now + self.kernel.chance.random() * 0.05)


class Process(Actor):
    """A daemon under a supervisor: it is started again a while after it has ended."""

    def __init__(self, machine: Machine, name: str, start: Callable[[Life], Any]) -> None:
        super().__init__(machine.kernel, name)
        self.machine = machine
        self.start = start  # makes the daemon
        self.life: Life | None = None
        self.daemon: Any = None
        self.lives = 0
        self.on_start: Callable[[Life], None] = lambda life: None
        self.refusals: list[str] = []
        self.on_end: Callable[[Process, Exception], bool] = lambda process, error: False

    @property
    def running(self) -> bool:
        return self.daemon is not None

    def run(self) -> None:
        if self.life is None:
            self._start()
        else:
            self.guard(self._turn)
        self._next()

    def _start(self) -> None:
        self.lives += 1
        life = self.life = Life(self.machine, self)
        self.kernel.note("start", self.name)
        self.on_start(life)
        self.guard(self._make)

    def _make(self) -> None:
        assert self.life is not None
        self.life.deadline = self.kernel.now
        self.daemon = self.start(self.life)

    def _turn(self) -> None:
        life = self.life
        assert life is not None
        if life.local < self.kernel.now:
            life.local = self.kernel.now
        life.deadline = life.local
        self.daemon.turn()

    def guard(self, what: Callable[[], None]) -> None:
        """Do a part of the process's work, which may be its last."""
        life = self.life
        try:
            what()
        except Killed:
            self.ended()
        except Exception as error:
            if not self.on_end(self, error):
                raise
            self.kernel.fault("ended", self.name, type(error).__name__, str(error)[:100])
            self.ended()
        else:
            assert life is not None

    def ended(self) -> None:
        life = self.life
        if life is None:
            return
        life.end()
        self.life = self.daemon = None
        self.busy_until = 0.0
        self.wake_at = NEVER
        self.wake(self.kernel.now + 0.02 + self.kernel.chance.random() ** 3 * 3)

    def kill(self) -> None:
        """Kill it between two turns, or in its sleep."""
        if self.life is not None:
            self.kernel.fault("kill", self.name, "between turns")
            self.ended()

    def _next(self) -> None:
        """Say when the next turn is: when something is there to be read, or the loop's own time is over."""
        life = self.life
        if life is None:
            return
        when = life.deadline
        if life.poller is not None:
            when = min(when, *(socket.next_at() for socket in life.poller.sockets))
        chance = self.kernel.chance.random()
        self.busy_until = max(self.busy_until, life.local + 0.0001 + 0.002 * chance * chance)
        self.wake(when)
