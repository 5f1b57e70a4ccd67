"""An order handler on a machine whose clock somebody sets: `python -m tests.integration.jumping_clock`.

A process's clock can't be set alone. So this is the daemon as it is, its sockets and files real, in a `World` whose
time is off by what stands in a file, in nanoseconds.
"""

import os
from pathlib import Path

from daemons import order_handler
from exchange.pipeline.daemon import run
from exchange.pipeline.world import World

VARIABLE = "EXCHANGE_TEST_CLOCK"  # names the file


class JumpingWorld(World):
    def time_ns(self) -> int:
        return super().time_ns() + int(Path(os.environ[VARIABLE]).read_text())


if __name__ == "__main__":
    vars(order_handler)["World"] = JumpingWorld
    run("order_handler", order_handler.main)
