"""What a daemon has of the outside: sockets, files, time, and a place for work that must not hold up its loop.

Daemons take all of it from a `World`, and nothing from anywhere else, so that the same code runs on a simulated one,
whose time, network and disk one seed decides.
"""

import ctypes
import gc
import logging
import os
import queue
import signal
import stat
import threading
import time
import warnings
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from exchange.pipeline import faults
from exchange.pipeline.disk import Disk
from exchange.pipeline.sockets import Transport
from exchange.status import Lock, StatusPage

PR_SET_PDEATHSIG = 1
CHILD_NICENESS = 10
LONGEST_SECONDS = 600.0  # that a copy may take: hundreds of times what a million orders do
REAP_SECONDS = 0.02  # between two looks at a child that is waited for

logger = logging.getLogger(__name__)


class World:
    """The real one."""

    def __init__(self) -> None:
        self.disk = Disk()
        self._locks: list[Lock] = []
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._child = 0
        self._forked_at = 0.0
        faults.arm(self)

    @cached_property
    def transport(self) -> Transport:
        """Made when it is first asked for: who only has files has no sockets."""
        return Transport()

    # -- time ----------------------------------------------------------------------------------------------------------

    # Seconds that never run backwards, and the system's time in nanoseconds since the Unix epoch.
    monotonic: Callable[[], float] = staticmethod(time.monotonic)
    time_ns: Callable[[], int] = staticmethod(time.time_ns)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def random_bytes(self, count: int) -> bytes:
        """Return bytes that nobody can guess."""
        return os.urandom(count)

    # -- one of each ---------------------------------------------------------------------------------------------------

    def lock(self, path: Path, what: str) -> Lock:
        """Become the only one, until this process ends or `close`. Raises AlreadyRunning."""
        lock = Lock(path, what)
        self._locks.append(lock)
        return lock

    def status_page(self, folder: Path, daemon: str) -> StatusPage:
        return StatusPage(folder, daemon)

    # -- work beside the loop ------------------------------------------------------------------------------------------

    def run_aside(self, job: Callable[[], None]) -> None:
        """Run a job in the one thread beside the loop, after those before it. What it raises ends the process."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="aside", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except BaseException:
                # Nobody waits for the thread's end; a job that can go on after a fault sees to that itself.
                logger.critical("work beside the loop failed; ending", exc_info=True)
                os._exit(1)

    def fork(self, name: str, job: Callable[[], None]) -> bool:
        """Run a job in a copy of this process as it is now; return False, doing nothing, while the last one runs.

        The copy has the files, but no socket and no lock, and ends with its parent. What it raises is logged, and so is
        that there is no memory for a copy; the caller goes on as after any job that failed.
        """
        if not self.reap():
            return False
        parent = os.getpid()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads: the copy uses none
                child = os.fork()
        except OSError as error:
            logger.warning("%s: no copy of the process could be made: %s", name, error)
            return True
        if child:
            self._child, self._forked_at = child, time.monotonic()
            return True
        status = 1
        try:
            gc.disable()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() == parent:
                self._let_go()
                os.nice(CHILD_NICENESS)
                job()
                status = 0
        except BaseException:
            logger.exception("%s failed", name)
        finally:
            os._exit(status)

    def _let_go(self) -> None:
        """Close what would keep another daemon from taking the parent's place: its locks, its sockets."""
        for lock in self._locks:
            lock.release()
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - numbers, not paths
            try:
                if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                    os.close(int(name))
            except OSError:
                pass  # the folder's own

    def reap(self) -> bool:
        """Return whether no copy runs any more. To be called now and then, so that an ended one is let go.

        One that takes far too long hangs, on a lock that another thread held when it was made for example: it is ended.
        """
        if self._child and os.waitpid(self._child, os.WNOHANG)[0]:
            self._child = 0
        elif self._child and time.monotonic() - self._forked_at > LONGEST_SECONDS:
            logger.warning("a copy of the process did not end within %g s; ending it", LONGEST_SECONDS)
            self._end_copy()
        return not self._child

    def _end_copy(self) -> None:
        os.kill(self._child, signal.SIGKILL)
        os.waitpid(self._child, 0)
        self._child = 0

    def wait_for_fork(self, seconds: float) -> bool:
        """Wait until no copy runs; return whether that came within the seconds."""
        until = time.monotonic() + seconds
        while not self.reap():
            if time.monotonic() > until:
                return False
            time.sleep(REAP_SECONDS)
        return True

    # -- memory, end ---------------------------------------------------------------------------------------------------

    def settle_memory(self) -> None:
        """Keep the garbage collector away from what was built so far, and rare for what comes.

        With default thresholds it walks all live containers again and again: measured, a quarter to half of the time
        with a million orders. What the daemons make a lot of is not tracked (Structs with `gc=False`, dicts of them).
        """
        gc.collect()
        gc.freeze()
        gc.set_threshold(100_000, 50, 100)

    def close(self) -> None:
        """Finish the jobs, end a copy, close the sockets, let go of the locks."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
        if not self.reap():
            self._end_copy()
        if "transport" in vars(self):
            self.transport.close()
        for lock in self._locks:
            lock.release()
