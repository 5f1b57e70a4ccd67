"""Who gives way to whom on a machine that is busy."""

import os
import sys
from pathlib import Path

import pytest

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
    finally:
        for daemon in daemons.values():
            daemon.stop()
