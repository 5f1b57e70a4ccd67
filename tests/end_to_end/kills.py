"""A real trading day while daemons are killed at random moments, each started again: nothing is lost or done twice.

    python -m tests.end_to_end.kills --kills 200 --flow GOOG

Order handler, matching daemon, logger, notifier and database are killed (SIGKILL) in an order and at moments that a
printed seed decides, also while they start; each is started again within half a second, as supervisord would. The
client, `exchange replay`, sends again by its ids what was not answered. In the end every acknowledged order is in the
journal once, every execution is the recorded one, the tables hold the same, and the audit is clean.
"""

import argparse
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.daemons import Daemons, name_of
from tests.end_to_end.replayed import check_all, check_journaled, check_stored, finish, recorded, replay
from tests.support import Daemon

LIFE_SECONDS = 0.8  # at most, between a start and the next kill, of any daemon
PAUSE_SECONDS = 0.5  # at most, between a kill and the start that follows
SLOWER = 1.3  # than the kills the flow is replayed
SNAPSHOTS = "[snapshots]\nrequests = 5000\n[journal]\nsegment_bytes = 1048576\n"


class Kills:
    """One replay with kills."""

    through: Sequence[str] = ()  # what the client is run through, see `Daemon`

    def __init__(self, folder: Path, flow: str, kills: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.flow, self.asset = flow, Path(flow).name.partition(".")[0].partition("-")[0]
        self.kills = kills
        self.daemons = self.new_daemons(folder)
        self.killed: Counter[str] = Counter()
        self.reconnects = 0

    def new_daemons(self, folder: Path) -> Daemons:
        return Daemons(folder, f'[[asset]]\nasset = "{self.asset}"\nprice_scale = 4\ntick_size = 100\n', SNAPSHOTS)

    def seconds(self) -> float:
        """Return how long the replay is to take, which has to be longer than the kills take."""
        return self.kills * (LIFE_SECONDS + PAUSE_SECONDS) / 2 * SLOWER

    def run(self) -> None:
        rows, _, fills = recorded(self.flow)
        rate = rows / self.seconds()
        daemons = self.daemons
        with daemons.running(), replay(daemons, self.flow, self.asset, rate, self.through) as process:
            victims = list(daemons.all)
            for number in range(self.kills):
                if number % len(victims) == 0:
                    self.random.shuffle(victims)
                self._kill(process, number % len(victims), victims)
            result = finish(daemons, process, seconds=600)
            self.reconnects = result["reconnects"]
            assert result["trades"] == len(fills)
            self.check(result)
            daemons.stop()

    def check(self, result: dict[str, Any]) -> None:
        """Fail unless journal, event log and database have what the flow recorded, and the audit is clean."""
        check_journaled(self.daemons, result, self.flow, self.asset)
        check_stored(self.daemons, self.flow, self.asset)
        check_all(self.daemons)

    def _kill(self, process: subprocess.Popen[str], number: int, victims: list[Daemon]) -> None:
        time.sleep(self.random.uniform(0, LIFE_SECONDS))
        victim = victims[number]
        if process.poll() is not None:
            said = process.communicate(timeout=30)
            raise AssertionError(f"over after {self.killed.total()} kills: {said}\n{self.daemons.explain()}")
        for daemon in self.daemons.all:
            assert daemon.alive, f"{name_of(daemon)} has ended by itself: {daemon.output()[-3000:]}"
        victim.signal(signal.SIGKILL)
        victim.wait()
        self.killed[name_of(victim)] += 1
        time.sleep(self.random.uniform(0, PAUSE_SECONDS))
        self.daemons.start_again()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--flow", default="GOOG", help="of ../shared/flows, without its ending")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    arguments = parser.parse_args()
    print(f"--seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="exchange-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # started by root, PostgreSQL runs as another user
        started = time.monotonic()
        run = Kills(folder, f"{arguments.flow}.csv.gz", arguments.kills, arguments.seed)
        run.run()
    for daemon, count in sorted(run.killed.items()):
        print(f"{daemon:20} {count:4} kills")
    print(f"{run.killed.total()} kills in {time.monotonic() - started:.0f} s, {run.reconnects} connections more: clean")


if __name__ == "__main__":
    main()
