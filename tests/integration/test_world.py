"""Copies of a process that do a job beside it: real ones."""

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exchange.pipeline import world as module
from exchange.pipeline.world import World
from tests.support import wait_until


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


def test_a_copy_does_its_job_with_what_was_in_memory_then(world: World, tmp_path: Path) -> None:
    values = [1, 2, 3]

    def write() -> None:
        (tmp_path / "made").write_text(repr(values))

    assert world.fork("copy", write)
    values.clear()
    assert world.wait_for_fork(30)
    assert (tmp_path / "made").read_text() == "[1, 2, 3]"


def test_one_copy_runs_at_a_time(world: World, tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"

    def wait() -> None:
        wait_until(go_on.exists, "it may go on")

    assert world.fork("first", wait)
    assert not world.fork("second", wait)
    go_on.touch()
    assert world.wait_for_fork(30)
    assert world.fork("third", wait)
    assert world.wait_for_fork(30)


def test_what_a_copy_raises_is_its_own_end_only(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise ValueError("this copy's own")

    logging.basicConfig(force=True)
    assert world.fork("copy", fail)
    assert world.wait_for_fork(30)
    assert "this copy's own" in capfd.readouterr().err


def test_a_copy_that_hangs_is_ended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_SECONDS", 0.2)
    assert world.fork("copy", lambda: time.sleep(3600))
    assert world.wait_for_fork(30)
    assert world.fork("next", lambda: None)
    assert world.wait_for_fork(30)


def test_without_memory_for_a_copy_the_process_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> int:
        raise OSError(12, os.strerror(12))

    monkeypatch.setattr(os, "fork", refuse)
    assert world.fork("the snapshot", lambda: None)
    assert "the snapshot: no copy of the process could be made" in caplog.text
    assert world.reap()


def test_a_copy_ends_with_its_world(tmp_path: Path) -> None:
    world = World()
    pid = tmp_path / "pid"

    def hang() -> None:
        pid.write_text(str(os.getpid()))
        time.sleep(3600)

    assert world.fork("copy", hang)
    wait_until(lambda: pid.exists() and pid.read_text(), "the copy runs")
    world.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
