"""A page for each daemon, on which it writes once a second what it is doing, for `exchange status` to read.

A page is a small file of fixed size that is overwritten in place: it needs no other daemon, no socket and no room on a
full disk, and what a frozen or dead daemon wrote last stays there, with its time.
"""

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any, TypedDict

PAGE_BYTES = 8192
STALE_NS = 5_000_000_000  # a page older than that belongs to a daemon that is frozen or dead


class Status(TypedDict):
    """What a daemon says of itself.

    `processed` counts requests or events by asset, `behind` how many it knows of and has yet to do; `state` is a few
    words such as "running" or "waiting for the database"; times are nanoseconds since the Unix epoch.
    """

    daemon: str
    pid: int
    started: int
    time: int
    state: str
    processed: dict[str, int]
    behind: dict[str, int]
    details: dict[str, Any]


class StatusPage:
    """A daemon's own page. `update` writes it at most once a second unless told to."""

    def __init__(self, folder: Path, daemon: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.daemon = daemon
        self.started = time.time_ns()
        self.written = 0.0
        self.file = os.open(folder / f"{daemon}.json", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def due(self) -> bool:
        """Return whether a second has passed since the page was written."""
        return time.monotonic() - self.written >= 1.0

    def write(self, state: str, processed: dict[str, int], behind: dict[str, int], **details: Any) -> None:
        """Overwrite the page."""
        self.written = time.monotonic()
        status = Status(
            daemon=self.daemon,
            pid=os.getpid(),
            started=self.started,
            time=time.time_ns(),
            state=state,
            processed=processed,
            behind=behind,
            details=details,
        )
        text = json.dumps(status, separators=(",", ":")).encode()
        size = -(-(len(text) + 1) // PAGE_BYTES) * PAGE_BYTES
        os.pwrite(self.file, text.ljust(size - 1) + b"\n", 0)

    def close(self) -> None:
        os.close(self.file)


def read_pages(folder: Path) -> list[Status]:
    """Return all pages that can be read, by daemon; an unreadable or half-written one is left out after a few tries."""
    pages: list[Status] = []
    for path in sorted(folder.glob("*.json")):
        for _ in range(5):
            try:
                pages.append(json.JSONDecoder().raw_decode(path.read_text())[0])
                break
            except (ValueError, OSError):
                time.sleep(0.01)
    return pages


class AlreadyRunning(Exception):
    """Another process holds the lock; the text says which."""


class Lock:
    """An exclusive lock on a file, held until the process ends, however it ends. The file names the holder.

    Raises AlreadyRunning where another process holds it, frozen or not.
    """

    def __init__(self, path: Path, what: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self.file, 100, 0).decode(errors="replace").strip() or "unknown"
            os.close(self.file)
            raise AlreadyRunning(
                f"{what} is running already, as process {holder}, which holds {path}; stop that one first"
            ) from None
        os.ftruncate(self.file, 0)
        os.pwrite(self.file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.close(self.file)
