"""Real order flow through an exchange on two hosts, while daemons on both are killed and the cable between them is cut.

    python -m tests.end_to_end.host_kills --kills 60 --rows 40000          (as root)

The hosts are two network namespaces: order handler, logger and notifier on one, the asset's matching daemon and
PostgreSQL on the other. Whoever is killed is started again within half a second. At every third kill the cable is cut
for some seconds: the link goes down, or packets vanish without a sign. What must have come of it is what
`kills.py` asks for too; the audit reads the first host's data folder, with the second's beside it.
"""

import argparse
import csv
import gzip
import random
import subprocess
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

from exchange.audit.audit import audit
from exchange.status import read_pages
from tests.end_to_end.kills import SNAPSHOTS, Kills
from tests.end_to_end.replayed import AAPL, check_journaled, check_stored
from tests.namespaces import Cable, joined, why_not
from tests.spread import Spread
from tests.support import FLOWS, Daemon, wait_until

CUT_SECONDS = 2.0  # at most
KILLS_TO_A_CUT = 3
FIRST_REQUESTS = 100


class HostKills(Kills):
    """One replay with kills on both hosts, and cuts of the cable between them."""

    def __init__(
        self, folder: Path, cable: Cable, rows: int, kills: int, seed: int, cut_seconds: float = CUT_SECONDS
    ) -> None:
        self.cable = cable
        self.cut_seconds = cut_seconds
        self.through = cable.machines[0].through
        self.cuts = 0
        super().__init__(folder, str(first_rows(folder, rows)), kills, seed)

    def new_daemons(self, folder: Path) -> Spread:
        self.spread = Spread(
            folder,
            here=("GOOG",),
            there=(self.asset,),
            extra=SNAPSHOTS,
            machines=self.cable.machines,
            database_there=True,
            asset_settings="price_scale = 4\ntick_size = 100\n",
        )
        return self.spread

    def seconds(self) -> float:
        return super().seconds() + self.kills // KILLS_TO_A_CUT * self.cut_seconds

    def check(self, result: dict[str, Any]) -> None:
        check_journaled(self.daemons, result, self.flow, self.asset)
        check_stored(self.spread.on_the_second(), self.flow, self.asset)
        audit(self.spread.config, self.spread.dsn, [self.spread.second.data], complete=True)

    def _kill(self, process: subprocess.Popen[str], number: int, victims: list[Daemon]) -> None:
        if not self.killed:  # before it sends anything the client makes queries, and does not wait for long
            wait_until(lambda: self._taken() > FIRST_REQUESTS, f"the flow has begun\n{self.spread.explain()}")
        if self.killed.total() % KILLS_TO_A_CUT == KILLS_TO_A_CUT - 1:
            self._cut(process, number, victims)
        else:
            super()._kill(process, number, victims)

    def _taken(self) -> int:
        """Return how many of the asset's requests the order handler has taken."""
        pages = (page for page in read_pages(self.spread.config.status_folder) if page["daemon"] == "order_handler")
        return max((page["processed"].get(self.asset, 0) for page in pages), default=0)

    def _cut(self, process: subprocess.Popen[str], number: int, victims: list[Daemon]) -> None:
        """Cut the cable, and kill somebody meanwhile, of whose end the other host hears nothing."""
        cut, mend = self.random.choice(((self.cable.cut, self.cable.mend), (self.cable.swallow, self.cable.carry)))
        cut()
        try:
            until = time.monotonic() + self.random.uniform(0, self.cut_seconds)
            super()._kill(process, number, victims)
            time.sleep(max(until - time.monotonic(), 0.0))
        finally:
            mend()
        self.cuts += 1


def first_rows(folder: Path, rows: int) -> Path:
    """Write the first rows of the flow to a file of its own, and return that."""
    path = folder / AAPL
    with gzip.open(FLOWS / AAPL, "rt", newline="") as source, gzip.open(path, "wt", newline="") as target:
        csv.writer(target).writerows(islice(csv.reader(source), rows + 1))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--rows", type=int, default=40_000, help="of the flow, at most 89,115")
    parser.add_argument("--cut-seconds", type=float, default=8.0, help="of a cut, at most; a client gives up after 10")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    arguments = parser.parse_args()
    if reason := why_not():
        raise SystemExit(reason)
    print(f"--seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="exchange-") as name, joined() as cable:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL runs as another user than root
        started = time.monotonic()
        run = HostKills(folder, cable, arguments.rows, arguments.kills, arguments.seed, arguments.cut_seconds)
        run.run()
    for daemon, count in sorted(run.killed.items()):
        print(f"{daemon:20} {count:4} kills")
    seconds = time.monotonic() - started
    print(f"{run.killed.total()} kills, {run.cuts} cuts in {seconds:.0f} s, {run.reconnects} connections more: clean")


if __name__ == "__main__":
    main()
