"""Real order flow comes out exactly while every daemon is killed, several times. `kills.py` does it for a whole day."""

import random
from pathlib import Path

import pytest

from tests.end_to_end.kills import Kills
from tests.end_to_end.replayed import AAPL

KILLS = 15  # of five daemons

pytestmark = pytest.mark.shared


def test_a_real_flow_comes_out_exactly_while_every_daemon_is_killed_three_times(open_folder: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    run = Kills(open_folder, AAPL, KILLS, seed)
    run.run()
    assert set(run.killed.values()) == {3}
