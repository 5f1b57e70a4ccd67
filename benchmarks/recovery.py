"""How long each daemon, and the whole exchange, takes to come back: `python -m benchmarks.recovery --sizes 10000`.

For each size: an exchange takes that many requests (limit orders around a moving price of 20 accounts, a third of
which trade, and cancels; four assets), until all of them are in SQL. Then every daemon is killed (-9), and

- each is started alone, after those that it reads from: the order handler until it answers, one asset's matching
  daemon until its book is as it was, the notifier until it answers queries, the logger until it knows what is stored;
- all are killed again and started at once, and the time is taken until an order is acknowledged, its trade is at a
  subscriber, and in SQL.

With `--without` all of it again with seals and snapshots removed, so that everything is read from the beginning; that
is what they are for. Times hold the start of the interpreter, which is measured as well. Prints a line for each, JSON
at the end, and with `--svg FILE` draws the graph. With `--results FILE` the results are added to those of other runs in
that file, and all of them are drawn.
"""

import argparse
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import zmq

from benchmarks.exchange import stored
from benchmarks.load import ASSETS, encode, requests
from benchmarks.plot import line_chart
from exchange.config import Config
from exchange.status import read_pages
from exchange.store.embedded import database_dsn
from tests.support import Daemon, write_config

BATCH = 100
IN_FLIGHT = 40  # batches
SECONDS = 3600.0
POLL_SECONDS = 0.005
decode = msgspec.msgpack.Decoder().decode


class Exchange:
    """The daemons of an exchange, which come and go."""

    def __init__(self, place: Path) -> None:
        tables = "".join(f'[[asset]]\nasset = "{asset}"\nprice_scale = 2\n' for asset in ASSETS)
        self.config = write_config(place, tables)
        self.postgres = Daemon(self.config, "postgres", nice=5)
        self.order_handler = Daemon(self.config, "order_handler")
        self.matching = [Daemon(self.config, "matching", asset) for asset in ASSETS]
        self.logger = Daemon(self.config, "logger", nice=5)
        self.notifier = Daemon(self.config, "notifier", nice=5)
        self.daemons = [self.postgres, self.order_handler, *self.matching, self.logger, self.notifier]

    @property
    def pids(self) -> dict[str, int]:
        """Return the process id of each daemon that was started."""
        return {"-".join(daemon.arguments): daemon.pid for daemon in self.daemons}

    def kill(self) -> None:
        for daemon in self.daemons:
            daemon.kill()

    def start(self) -> None:
        for daemon in self.daemons:
            daemon.start()


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {SECONDS:g} s: {what}")
        time.sleep(POLL_SECONDS)


def fill(config: Config, count: int) -> int:
    """Have the exchange take so many requests, and return the number of acks."""
    next_request = requests(f"f{count:x}").__next__
    acks = 0
    with zmq.Context() as context, context.socket(zmq.DEALER) as client:
        client.linger = 0
        client.connect(config.endpoints.order_entry)
        left, in_flight = count, 0
        while left or in_flight:
            while left and in_flight < IN_FLIGHT:
                size = min(BATCH, left)
                client.send(b"\xdc" + size.to_bytes(2, "big") + b"".join(next_request() for _ in range(size)))
                left -= size
                in_flight += 1
            replies = decode(client.recv())
            in_flight -= 1
            acks += sum(reply["type"] == "ack" for reply in replies)
            if any(reply.get("reason") == "busy" for reply in replies):
                time.sleep(0.1)  # matching is behind: what was refused is not sent again, and not counted
    return acks


def timed(daemon: Daemon, line: str) -> float:
    """Start a daemon and return the seconds until its log says so."""
    before = daemon.output().count(line)
    start = time.monotonic()
    daemon.start()
    until(lambda: daemon.output().count(line) > before, f"{daemon.arguments}: {line}")
    return time.monotonic() - start


def alone(exchange: Exchange) -> dict[str, float]:
    """Return each daemon's seconds from its start to its work, those that it reads from being there."""
    seconds = {"order_handler": timed(exchange.order_handler, "taking requests at")}
    seconds["matching"] = timed(exchange.matching[0], "caught up, with")
    for daemon in exchange.matching[1:]:
        timed(daemon, "caught up, with")
    seconds["notifier"] = timed(exchange.notifier, "caught up with all assets")
    exchange.postgres.start()
    until(lambda: stored(exchange.config) >= 0, "the database answers")
    seconds["logger"] = timed(exchange.logger, "the database is there")
    return seconds


def together(exchange: Exchange, number: int) -> dict[str, float]:
    """Return the seconds from the start of all daemons to an order's ack, to its trade at a subscriber and in SQL."""
    config = exchange.config
    seconds: dict[str, float] = {}
    with zmq.Context() as context, context.socket(zmq.DEALER) as client, context.socket(zmq.SUB) as feed:
        client.linger = feed.linger = 0
        feed.subscribe(b"trade/A/")
        feed.connect(config.endpoints.market_data)
        client.connect(config.endpoints.order_entry)
        start = time.monotonic()
        exchange.start()
        sides = (("buy", "x"), ("sell", "y"))
        pair = [
            {
                "type": "new_order",
                "client_order_id": f"probe-{number}-{side}",
                "account": account,
                "asset": "A",
                "side": side,
                "quantity": 1,
                "price": 10**9 if side == "buy" else 1,
            }
            for side, account in sides
        ]
        client.send(encode(pair))
        replies = decode(client.recv())
        seconds["ack"] = time.monotonic() - start
        last = max(reply["sequence"] for reply in replies)

        def traded() -> bool:
            # A subscription takes a moment; what came before it is not seen. So the probe is repeated, by new pairs.
            nonlocal last
            if feed.poll(50):
                return True
            again = [order | {"client_order_id": f"{order['client_order_id']}-{time.monotonic_ns()}"} for order in pair]
            client.send(encode(again))
            last = max(reply["sequence"] for reply in decode(client.recv()))
            return False

        until(traded, "a trade is published")
        seconds["trade at a subscriber"] = time.monotonic() - start
        until(lambda: stored_of(config, "A") >= last, "the trade is in SQL")
        seconds["trade in SQL"] = time.monotonic() - start
    return seconds


def stored_of(config: Config, asset: str) -> int:
    """Return how many of an asset's requests are in SQL, -1 where the database does not answer."""
    try:
        with psycopg.connect(database_dsn(config), connect_timeout=5) as connection:
            row = connection.execute("SELECT sequence FROM applied WHERE asset = %s", [asset]).fetchone()
            return 0 if row is None else int(row[0])
    except psycopg.Error:
        return -1


def published(config: Config) -> int:
    """Return how many requests the notifier has folded in, by its page."""
    return sum(
        sum(page["processed"].values()) for page in read_pages(config.status_folder) if page["daemon"] == "notifier"
    )


def forget_snapshots(config: Config) -> None:
    """Remove all that a start need not read everything for."""
    for seal in config.data.rglob("*.seal"):
        seal.unlink()
    for folder in (*config.data.glob("events/*/snapshots"), config.journal_folder / "ids"):
        shutil.rmtree(folder, ignore_errors=True)
    for path in (config.data / "notifier").glob("*"):
        if path.is_dir():
            shutil.rmtree(path)


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def measure(place: Path, requests: int, repeats: int, without: bool) -> dict[str, Any]:
    exchange = Exchange(place)
    config = exchange.config
    try:
        exchange.start()
        until(lambda: stored(config) >= len(ASSETS), "the exchange is up")
        acks = fill(config, requests)
        until(lambda: stored(config) >= acks + len(ASSETS), "all is stored")
        until(lambda: published(config) >= acks + len(ASSETS), "all is published")
        result: dict[str, Any] = {
            "requests": acks,
            "journal_bytes": folder_bytes(config.journal_folder),
            "event_log_bytes": folder_bytes(config.data / "events"),
        }
        runs = []
        for number in range(repeats):
            exchange.kill()
            seconds = alone(exchange)
            exchange.kill()
            runs.append(seconds | together(exchange, number))
        result["seconds"] = {name: sorted(run[name] for run in runs) for name in runs[0]}
        if without:
            exchange.kill()
            forget_snapshots(config)
            seconds = alone(exchange)
            exchange.kill()
            forget_snapshots(config)
            result["seconds_without"] = seconds | together(exchange, repeats)
        return result
    finally:
        exchange.kill()


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def draw(results: list[dict[str, Any]]) -> str:
    series: dict[str, list[tuple[float, float]]] = {}
    for result in results:
        for name, seconds in result["seconds"].items():
            series.setdefault(name, []).append((result["requests"], median(seconds)))
        for name, value in result.get("seconds_without", {}).items():
            if name in ("order_handler", "matching", "notifier"):
                series.setdefault(f"{name}, without", []).append((result["requests"], value))
    dashed = [name for name in series if name.endswith("without")]
    return line_chart("From a start to work", "requests taken before", "seconds", series, dashed=dashed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="requests")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--without", action="store_true", help="also without seals and snapshots")
    parser.add_argument("--folder", type=Path, help="where the data is, by default the folder for temporary files")
    parser.add_argument("--results", type=Path, help="keep the results in this file, beside those of other runs")
    parser.add_argument("--svg", type=Path, help="draw the graph into this file")
    arguments = parser.parse_args()
    interpreter = []
    for _ in range(5):
        start = time.monotonic()
        subprocess.run([sys.executable, "-c", "import zmq, msgspec, psycopg"], check=True)
        interpreter.append(time.monotonic() - start)
    results: list[dict[str, Any]] = []
    for size in arguments.sizes:
        place = Path(tempfile.mkdtemp(prefix="exchange-recovery-", dir=arguments.folder))
        place.chmod(0o755)
        try:
            result = measure(place, size, arguments.repeats, arguments.without)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        results.append(result)
        shown = {name: [round(each, 2) for each in seconds] for name, seconds in result["seconds"].items()}
        print(f"{result['requests']} requests: {shown}", flush=True)
        if "seconds_without" in result:
            print(
                f"  without: { {name: round(each, 2) for name, each in result['seconds_without'].items()} }", flush=True
            )
    if arguments.results:
        if arguments.results.exists():
            earlier = json.loads(arguments.results.read_text())
            sizes = {result["requests"] for result in results}
            results = [result for result in earlier if result["requests"] not in sizes] + results
        arguments.results.write_text(json.dumps(results))
    if arguments.svg:
        arguments.svg.write_text(draw(results))
    machine = {"python": platform.python_version(), "system": platform.platform()}
    print(json.dumps({"interpreter_seconds": median(interpreter), "results": results, "machine": machine}))


if __name__ == "__main__":
    main()
