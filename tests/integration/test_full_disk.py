"""A disk that is full, then has room again: a real one, of 128 MiB in memory, which only root can mount."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exchange.status import read_pages
from tests.integration.outsider import Venue
from tests.support import running, wait_until

DISK_BYTES = 128 * 1024 * 1024  # of which the table of ids takes 64


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a small disk and yield its folder."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk takes root")
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if mount.returncode:
        pytest.skip(f"a small disk can't be mounted here: {mount.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Write a file that leaves no room."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return ballast


def state(venue: Venue, daemon: str) -> str:
    pages = {page["daemon"]: page for page in read_pages(venue.config.status_folder)}
    return pages[daemon]["state"] if daemon in pages else ""


def journal_files(venue: Venue, pattern: str) -> int:
    return len(list(venue.config.journal_folder.glob(pattern)))


def exhaust(venue: Venue) -> list[int]:
    """Enter orders until there is no room for another, and return their places."""
    acked: list[int] = []
    while (reply := venue.entry.ask(venue.order("alice", "buy", 10, 1000)))["type"] == "ack":
        acked.append(reply["sequence"])
        assert len(acked) < 50_000, "a full disk has no room for ever"
    assert reply["reason"] == "busy"
    assert "no room on disk" in reply["text"]
    return acked


def test_on_a_full_disk_requests_are_busy_and_matching_waits_and_both_go_on_when_there_is_room(
    small_disk: Path,
) -> None:
    venue = Venue(small_disk, "[journal]\nsegment_bytes = 1048576")
    try:
        with running(*venue.daemons):
            venue.wait_until_ready()
            ballast = fill(small_disk)
            acked = exhaust(venue)
            wait_until(lambda: "room on disk" in state(venue, "matching-ACME"), "matching says what it waits for")
            wait_until(lambda: "no room" in state(venue, "order_handler"), "the order handler says so too")
            pids = [daemon.pid for daemon in venue.daemons]
            assert journal_files(venue, "*.seal") == 0, "there is no room for the seal of what was filled either"

            ballast.unlink()
            order = venue.order("alice", "buy", 10, 1000)
            wait_until(lambda: venue.entry.ask(order)["type"] == "ack", "requests are taken again")
            expected = [*range(2, len(acked) + 3)]
            asked = {"type": "sequences", "account": "alice"}
            wait_until(
                lambda: venue.query.ask(asked)["sequences"].get("execution/alice/ACME/") == len(expected),
                "all that was acknowledged is executed",
            )
            assert acked == expected[:-1], "what was refused has no place"
            assert journal_files(venue, "*.log") > 1
            wait_until(
                lambda: journal_files(venue, "*.seal") == journal_files(venue, "*.log") - 1,
                "what was filled is sealed when there is room",
            )
            assert [daemon.pid for daemon in venue.daemons if daemon.alive] == pids, "nobody was started again"
    finally:
        venue.context.destroy(linger=0)


def test_what_is_due_on_a_full_disk_is_done_when_there_is_room(small_disk: Path) -> None:
    venue = Venue(small_disk, "[journal]\nsegment_bytes = 1048576")
    try:
        with running(*venue.daemons):
            venue.wait_until_ready()
            ballast = fill(small_disk)
            now = venue.entry.ask(type="ping")["time"]
            due = now + 10 * 10**9
            ack = venue.enter("bob", "buy", 10, 1000, time_in_force="gtd", expire_time=due)
            exhaust(venue)
            wait_until(lambda: time.time_ns() > due, "the order is to expire")
            assert venue.entry.ask(type="ping")["type"] == "pong"
            ballast.unlink()
            asked = {"type": "order_status", "account": "bob", "asset": "ACME", "order_id": ack["order_id"]}
            wait_until(lambda: venue.query.ask(asked).get("order_status") == "expired", "the order has expired")
    finally:
        venue.context.destroy(linger=0)
