"""A real trading day through the whole exchange: every recorded execution comes out, exactly.

All daemons are real processes and the database is a real PostgreSQL. `test_kills.py` has them killed meanwhile.
"""

from pathlib import Path

import pytest

from tests.daemons import Daemons
from tests.end_to_end.replayed import AAPL, ASSETS, GOOG, check_all, check_stored, finish, replay

pytestmark = pytest.mark.shared


def test_two_real_flows_at_the_same_time_come_out_exactly(open_folder: Path) -> None:
    daemons = Daemons(open_folder, ASSETS)
    with (
        daemons.running(),
        replay(daemons, GOOG, "GOOG") as goog,
        replay(daemons, AAPL, "AAPL") as aapl,
    ):
        assert finish(daemons, goog)["trades"] == 7758
        assert finish(daemons, aapl)["trades"] == 4038
        check_stored(daemons, GOOG, "GOOG")
        check_stored(daemons, AAPL, "AAPL")
        check_all(daemons)
