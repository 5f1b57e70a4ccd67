"""Two hosts, which are network namespaces: the same comes out as on one, whatever is killed, and whatever is cut."""

import random
from pathlib import Path

import pytest

from tests.end_to_end.host_kills import HostKills
from tests.namespaces import joined, why_not

ROWS = 12_000
KILLS = 6  # one of each daemon, PostgreSQL among them; at two of them the cable is cut

needs_namespaces = pytest.mark.skipif(bool(why_not()), reason=why_not() or "there are namespaces")


@pytest.mark.shared
@needs_namespaces
def test_a_real_flow_comes_out_exactly_on_two_hosts_with_kills_on_both_and_cuts_between_them(open_folder: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    with joined() as cable:
        run = HostKills(open_folder, cable, ROWS, KILLS, seed)
        run.run()
    assert set(run.killed.values()) == {1}
    assert run.cuts == 2
