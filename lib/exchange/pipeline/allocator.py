"""Room for a log's next segment, made before it is needed and away from the writer's path."""

import errno
import logging
import os
import threading
from pathlib import Path

ZEROS = bytes(1024 * 1024)
RETRY_ALLOCATION_SECONDS = 1.0
RESERVE_BYTES = 8 * 1024 * 1024  # of the disk, left for the event logs and the database

logger = logging.getLogger(__name__)


class Allocator:
    """Keeps the next segment's file ready: full of zeros and on disk. A thread, since that takes a while.

    `ready` is set while there is one; `error` says why there is none. A full disk is tried again every second.
    """

    def __init__(self, folder: Path, segment_bytes: int) -> None:
        self.path = folder / "next"
        self.segment_bytes = segment_bytes
        self.ready = threading.Event()
        self.wanted = threading.Event()
        self.stopping = threading.Event()
        self.error = "it is being allocated"
        self.thread: threading.Thread | None = None

    def allocate(self) -> None:
        """Make the file. Raises OSError where the disk has no room."""
        self.path.unlink(missing_ok=True)
        room = os.statvfs(self.path.parent)
        if room.f_bavail * room.f_frsize < self.segment_bytes + RESERVE_BYTES:
            # To find that out by writing would fill the disk to its last byte, for everybody who writes to it.
            raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} for {self.segment_bytes} bytes", str(self.path))
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            done = 0
            while done < self.segment_bytes and not self.stopping.is_set():
                done += os.pwrite(file, ZEROS[: self.segment_bytes - done], done)
            os.fsync(file)
        except OSError:
            self.path.unlink(missing_ok=True)
            raise
        finally:
            os.close(file)
        if not self.stopping.is_set():
            self.ready.set()

    def taken(self) -> None:
        """Have the next file made, the last one having been moved away."""
        self.ready.clear()
        self.error = "it is being allocated"
        self.wanted.set()

    def start(self) -> None:
        self.wanted.set()
        self.thread = threading.Thread(target=self._run, name="segment-allocator", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.stopping.set()
        self.wanted.set()
        if self.thread is not None:
            self.thread.join(10)

    def _run(self) -> None:
        while not self.stopping.is_set():
            self.wanted.wait()
            self.wanted.clear()
            while not self.ready.is_set() and not self.stopping.is_set():
                try:
                    self.allocate()
                except OSError as error:
                    if self.error != str(error):
                        logger.warning("%s: can't allocate the next segment: %s; trying again", self.path, error)
                    self.error = str(error)
                    self.stopping.wait(RETRY_ALLOCATION_SECONDS)
