"""Room for a log's next segment, made before it is needed and away from the writer's path."""

import errno
import logging
import os
from pathlib import Path

from exchange.pipeline.world import World

ZEROS = bytes(1024 * 1024)
RETRY_SECONDS = 1.0
RESERVE_BYTES = 8 * 1024 * 1024  # of the disk, left for the event logs and the database

logger = logging.getLogger(__name__)


class Allocator:
    """Keeps the next segment's file ready: full of zeros and on disk. Beside the loop, since that takes a while.

    `ready` is set while there is one; `error` says why there is none. A full disk is tried again from `tend`.
    """

    def __init__(self, world: World, folder: Path, segment_bytes: int) -> None:
        self.world = world
        self.disk = world.disk
        self.path = folder / "next"
        self.segment_bytes = segment_bytes
        self.ready = False
        self.stopping = False
        self.failed = False  # whether the last attempt did, and another one is due
        self.retry_at: float | None = None
        self.error = "it is being allocated"

    def allocate(self) -> None:
        """Make the file. Raises OSError where the disk has no room."""
        self.disk.unlink(self.path, missing_ok=True)
        check_room(self.world, self.path, self.segment_bytes)
        file = self.disk.open(self.path, create=True)
        try:
            done = 0
            while done < self.segment_bytes and not self.stopping:
                self.disk.write(file, ZEROS[: self.segment_bytes - done], done)
                done += len(ZEROS)
            self.disk.sync(file)
        except OSError:
            self.disk.unlink(self.path, missing_ok=True)
            raise
        finally:
            self.disk.close(file)
        if not self.stopping:
            self.ready = True

    def begin(self) -> None:
        """Have the next file made, the last one having been moved away."""
        self.ready = False
        self.error = "it is being allocated"
        self.world.run_aside(self._attempt)

    def tend(self, now: float) -> None:
        """Try again where the last attempt failed. `now` in seconds."""
        if not self.failed:
            return
        if self.retry_at is None:
            self.retry_at = now + RETRY_SECONDS
        elif now >= self.retry_at:
            self.retry_at, self.failed = None, False
            self.world.run_aside(self._attempt)

    def stop(self) -> None:
        self.stopping = True

    def _attempt(self) -> None:
        if self.stopping:
            return
        try:
            self.allocate()
        except OSError as error:
            if self.error != str(error):
                logger.warning("%s: can't allocate the next segment: %s; trying again", self.path, error)
            self.error = str(error)
            self.failed = True


def check_room(world: World, path: Path, size: int) -> None:
    """Raise OSError unless there is room for a file of that size beside the reserve.

    To find that out by writing would fill the disk to its last byte, for everybody who writes to it.
    """
    if world.disk.free_bytes(path.parent) < size + RESERVE_BYTES:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} for {size} bytes", str(path))
