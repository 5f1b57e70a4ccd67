"""What it costs to spread assets over hosts: `python -m benchmarks.hosts`, as root.

The same load on an exchange of one host, and on one of two: order handler, logger, notifier, PostgreSQL on the first,
the matching daemons of all four assets on the second. The hosts are network namespaces of this machine, so both kinds
have the same cores and no network is slow: what differs is that the assets' arrows go over TCP. They take turns.

- CPU microseconds of an order, by program, on two hosts and on one; orders/s of one kind beside the other;
- bytes of an order on the cable between the hosts, each way.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import zmq

from benchmarks import figures
from benchmarks.exchange import Cpu, Database, running, stored, until
from benchmarks.figures import Figure, Part, Table
from benchmarks.load import ASSETS, WINDOW, Load, requests
from exchange.config import PROJECT, Config
from tests.daemons import name_of
from tests.namespaces import Cable, joined, why_not
from tests.spread import Spread

ROUNDS, SECONDS, WARM_SECONDS = 3, 3.0, 0.5
ONE, TWO = "one host", "two hosts"
PROGRAMS = ("order_handler", "matching", "logger", "notifier", "postgres")


@dataclass(frozen=True)
class Loaded:
    """What came of a load: acks, seconds to the last row in SQL, CPU microseconds an order; of two hosts, the cable."""

    acks: int
    seconds: float
    microseconds: Mapping[str, float]
    cable: Mapping[str, float]

    @property
    def rate(self) -> float:
        return self.acks / self.seconds


def measure(quick: bool = False) -> dict[str, Any]:
    part = Part("hosts", "Assets on another host")
    if reason := why_not():
        raise SystemExit(reason)
    rounds, seconds = (1, 0.3) if quick else (ROUNDS, SECONDS)
    found: dict[str, list[Loaded]] = {ONE: [], TWO: []}
    for number in range(rounds):
        for kind in (ONE, TWO) if number % 2 == 0 else (TWO, ONE):
            found[kind].append(one_host(seconds) if kind == ONE else two_hosts(seconds))
    one, two = found[ONE], found[TWO]
    part.figures.append(
        Figure(
            "single orders/s, to the last SQL row, assets on a second host",
            "1/s",
            [each.rate for each in two],
            limit_name="the same, all on one host",
            limit_samples=[each.rate for each in one],
        )
    )
    part.tables.append(
        Table(
            "CPU µs of an order, by program",
            ("program", ONE, TWO),
            [
                (name, *(f"{median(each.microseconds[name] for each in of):.1f}" for of in (one, two)))
                for name in PROGRAMS
            ],
        )
    )
    part.tables.append(
        Table(
            "Bytes of an order on the cable between the hosts",
            ("to the matching daemons", "from them"),
            [[f"{median(each.cable[way] for each in two):.0f}" for way in ("tx", "rx")]],
        )
    )
    part.details |= {kind: [asdict(each) for each in loaded] for kind, loaded in found.items()}
    return part.as_json()


def one_host(seconds: float) -> Loaded:
    with running(ASSETS) as (config, pids):
        client = [sys.executable, "-m", "benchmarks.hosts", "--load", str(seconds), config.endpoints.order_entry]
        return loaded(config, pids, client, None)


def two_hosts(seconds: float) -> Loaded:
    with joined() as cable, spread(cable) as (config, pids):
        client = [sys.executable, "-m", "benchmarks.hosts", "--load", str(seconds), config.endpoints.order_entry]
        return loaded(config, pids, [*cable.machines[0].through, *client], cable)


@contextmanager
def spread(cable: Cable) -> Iterator[tuple[Config, dict[str, int]]]:
    """Run an exchange with all assets on the second host; yield the first one's configuration and the process ids."""
    folder = Path(tempfile.mkdtemp(prefix="exchange-benchmark-"))
    folder.chmod(0o755)
    daemons = Spread(folder, (), ASSETS, machines=cable.machines, asset_settings="price_scale = 2\n", embedded=True)
    try:
        with daemons.running():
            until(lambda: stored(daemons.config) >= len(ASSETS), "the assets' definitions are in SQL")
            yield daemons.config, {name_of(each): each.pid for each in daemons.all}
    finally:
        shutil.rmtree(folder)


def loaded(config: Config, pids: dict[str, int], client: list[str], cable: Cable | None) -> Loaded:
    """Run a client twice, the first time to warm up, and measure the second."""
    database = Database(config)
    count = database.requests()
    for name in ("warm", "load"):
        cpu, before, start = Cpu(pids), carried(cable), time.monotonic()
        said = subprocess.run([*client, name], cwd=PROJECT, check=True, capture_output=True, text=True, timeout=120)
        sent = json.loads(said.stdout)
        count += sent["acks"]
        ended = database.wait_for_requests(count)
        microseconds = cpu.microseconds(sent["acks"])
    after = carried(cable)
    database.close()
    # The client's own start, which its process needs and no order does, is left out.
    seconds = sent["seconds"] + ended - start - sent["process_seconds"]
    return Loaded(
        sent["acks"], seconds, microseconds, {key: (after[key] - before[key]) / sent["acks"] for key in after}
    )


def carried(cable: Cable | None) -> dict[str, int]:
    """Return the bytes that the first host has sent to and received from the second so far."""
    if cable is None:
        return {}
    command = ["ip", "-n", cable.machines[0].name, "-s", "-j", "link", "show", "cable"]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=10)
    counts = json.loads(said.stdout)[0]["stats64"]
    return {way: counts[way]["bytes"] for way in ("tx", "rx")}


def load(seconds: float, endpoint: str, name: str) -> None:
    """Send single orders as fast as they are taken, and print what came of it: the client's own process."""
    began = time.monotonic()
    with zmq.Context() as context:
        clients = Load(context, endpoint)
        sent = clients.run(WARM_SECONDS if name == "warm" else seconds, requests(name).__next__, WINDOW)
        clients.close()
    print(json.dumps(asdict(sent) | {"process_seconds": time.monotonic() - began}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--load", nargs=3)
    options, rest = parser.parse_known_args()
    if options.load:
        load(float(options.load[0]), *options.load[1:])
    else:
        sys.exit(figures.main(measure, __doc__, rest))
