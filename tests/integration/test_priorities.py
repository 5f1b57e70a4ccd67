"""Who gives way to whom on a machine that is busy."""

import ctypes
import os
import sys
from pathlib import Path

import pytest

from exchange.pipeline.slices import ATTRIBUTES
from tests.support import Daemon, wait_until, write_config


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has batch scheduling")
def test_the_daemons_behind_the_order_handler_do_not_interrupt_it(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    daemons = {name: Daemon(config, name) for name in ("order_handler", "notifier")}
    try:
        for daemon in daemons.values():
            daemon.start()
        pages = [config.status_folder / f"{name}.json" for name in daemons]
        wait_until(lambda: all(page.exists() for page in pages), "both run")
        policies = {name: os.sched_getscheduler(daemon.pid) for name, daemon in daemons.items()}
        assert policies == {"order_handler": os.SCHED_OTHER, "notifier": os.SCHED_BATCH}
        if os.uname().machine == "x86_64" and slice_of(os.getpid()):  # the kernel tells, from 6.12 on
            slices = {name: {slice_of(thread) for thread in threads(each.pid)} for name, each in daemons.items()}
            assert slices == {"order_handler": {100_000}, "notifier": {slice_of(os.getpid())}}
    finally:
        for daemon in daemons.values():
            daemon.stop()


def threads(pid: int) -> list[int]:
    """Return a process's threads, libzmq's among them."""
    return sorted(int(path.name) for path in Path(f"/proc/{pid}/task").iterdir())


def slice_of(thread: int) -> int:
    """Return the nanoseconds that a thread runs at a time, 0 where the kernel does not say."""
    answer = ctypes.create_string_buffer(64)
    assert ctypes.CDLL(None).syscall(315, thread, answer, len(answer), 0) == 0
    return int(ATTRIBUTES.unpack_from(answer)[5])
