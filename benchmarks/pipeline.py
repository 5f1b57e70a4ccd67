"""The whole pipeline, measured beside its physical limits in the same run: `python -m benchmarks.pipeline`.

- latency, first, on a quiet exchange: one order each 1/rate s, timed from when it was due (so that a stall is not
  hidden), to its ack; in slices of 2 s that alternate with the bare `fdatasync`, since a disk has its moods.
- sustained: one client sends single orders over loopback, a bounded number in flight, for `--seconds`; every one is
  acknowledged durably, and the clock stops when the last row is in SQL. Orders are limit orders around a price that
  moves, of 20 accounts, a third of which trade, and cancels.
- limits: a bare ROUTER/DEALER echo of the same messages, drained frame by frame, before and after; and a bare
  `fdatasync` loop on the same disk that writes as much as an order's record, at the same rate.
- one run of all this is a sample; the figures of several, and their spread, are what to quote.

Prints a line for each as it is there, and JSON at the end. All on one machine, the load generator included.
"""

import argparse
import json
import os
import platform
import random
import select
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import zmq

from benchmarks.exchange import count, cpu_seconds, running, stored
from exchange.client.own_exchange import free_ports
from exchange.config import PROJECT, Config
from exchange.core.messages import CancelOrder, NewOrder

ASSETS = ["A", "B", "C", "D"]
WINDOW = 2_000  # requests in flight
ACCOUNTS = [f"account{number}" for number in range(20)]
RECORD_BYTES = 150  # about what an order takes in the journal
SLICE_SECONDS = 2.0
ACK = b"\xa3ack"
encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder().decode


def orders(seed: int) -> Callable[[], bytes]:
    """Return a function that gives the next encoded request of a seeded stream."""
    source = random.Random(seed)
    number = 0
    mids = dict.fromkeys(ASSETS, 10_000)
    live: deque[tuple[str, str, str]] = deque(maxlen=5_000)
    prefix = f"{seed}-"

    def next_request() -> bytes:
        nonlocal number
        number += 1
        if number % 4 == 0 and live:
            asset, account, client_order_id = live.popleft()
            return encode(CancelOrder(asset=asset, client_order_id=client_order_id, account=account))
        asset = ASSETS[number // 4 % len(ASSETS)]
        account = ACCOUNTS[int(source.random() * len(ACCOUNTS))]
        mids[asset] += int(source.random() * 3) - 1
        buys = source.random() < 0.5
        distance = int(source.random() * 12) - 3
        price = max(1, mids[asset] - distance if buys else mids[asset] + distance)
        client_order_id = f"{prefix}{number}"
        if distance > 0:
            live.append((asset, account, client_order_id))
        return encode(
            NewOrder(
                client_order_id=client_order_id,
                asset=asset,
                side="buy" if buys else "sell",
                quantity=1 + int(source.random() * 100),
                price=price,
                account=account,
            )
        )

    return next_request


class Load:
    """A client that keeps a window of requests in flight, frame by frame."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.sndhwm = self.socket.rcvhwm = 2 * WINDOW
        self.socket.connect(endpoint)

    def run(self, seconds: float, next_request: Callable[[], bytes]) -> tuple[int, int, float]:
        """Send for so many seconds and take all replies; return (replies, those that are acks, seconds)."""
        send, recv, poll = self.socket.send, self.socket.recv, self.socket.poll
        start = time.monotonic()
        end = start + seconds
        sent = answered = acks = 0
        while True:
            if time.monotonic() < end:
                while sent - answered < WINDOW:
                    send(next_request())
                    sent += 1
            elif answered == sent:
                return answered, acks, time.monotonic() - start
            if not poll(30_000):
                raise TimeoutError(f"{sent - answered} of {sent} requests are not answered within 30 s")
            try:
                while True:
                    reply = recv(zmq.NOBLOCK)
                    answered += 1
                    acks += ACK in reply
            except zmq.Again:
                pass

    def open_loop(self, rate: int, seconds: float, next_request: Callable[[], bytes]) -> list[float]:
        """Send one request each 1/rate s; return each one's seconds from when it was due to its answer, sorted."""
        send, recv, descriptor = self.socket.send, self.socket.recv, int(self.socket.getsockopt(zmq.FD))
        total = round(rate * seconds)
        latencies: list[float] = []
        sent = 0
        start = time.monotonic() + 0.1
        while len(latencies) < total:
            now = time.monotonic()
            while sent < total and start + sent / rate <= now:
                send(next_request())
                sent += 1
            try:
                while len(latencies) < sent:
                    recv(zmq.NOBLOCK)
                    latencies.append(time.monotonic() - (start + len(latencies) / rate))
            except zmq.Again:
                pass
            now = time.monotonic()
            if now > start + seconds + 30:
                raise TimeoutError(f"{total - len(latencies)} of {total} requests are not answered within 30 s")
            # The socket's own descriptor, since zmq's poll counts in whole milliseconds.
            wait = start + sent / rate - now if sent < total else 0.01
            if wait > 0 and not int(self.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                select.select([descriptor], [], [], wait)
        return sorted(latencies)


def echo_server(endpoint: str) -> None:
    """Send every message back, frame by frame, until killed."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.linger = 0
        socket.sndhwm = socket.rcvhwm = 2 * WINDOW
        socket.bind(endpoint)
        recv, send, poll = socket.recv, socket.send, socket.poll
        while True:
            poll()
            try:
                for _ in range(1000):
                    identity = recv(zmq.NOBLOCK)
                    payload = recv(zmq.NOBLOCK)
                    send(identity, zmq.SNDMORE)
                    send(payload)
            except zmq.Again:
                pass


def measure_echo(seconds: float) -> float:
    """Return messages/s of a bare ROUTER/DEALER echo of the same requests."""
    endpoint = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    server = subprocess.Popen([sys.executable, "-m", "benchmarks.pipeline", "--echo", endpoint], cwd=PROJECT)
    try:
        requests = deque(next_request() for next_request in [orders(0)] * 10_000)

        def next_request() -> bytes:
            requests.rotate(1)
            return requests[0]

        with zmq.Context() as context:
            load = Load(context, endpoint)
            load.run(0.5, next_request)
            answered, _, taken = load.run(seconds, next_request)
            load.socket.close()
        return answered / taken
    finally:
        server.kill()
        server.wait(10)


def measure_sync(folder: Path | None, rate: int, seconds: float) -> list[float]:
    """Return the seconds, sorted, of a bare write and fdatasync of a record's size to a file of zeros, at a rate."""
    with tempfile.TemporaryFile(dir=folder) as file:
        descriptor = file.fileno()
        total = round(rate * seconds)
        os.write(descriptor, bytes(total * RECORD_BYTES + 4096))
        os.fsync(descriptor)
        taken: list[float] = []
        start = time.monotonic()
        for number in range(total):
            time.sleep(max(0.0, start + number / rate - time.monotonic()))
            before = time.monotonic()
            os.pwrite(descriptor, b"x" * RECORD_BYTES, number * RECORD_BYTES)
            os.fdatasync(descriptor)
            taken.append(time.monotonic() - before)
    return sorted(taken)


def measure_latency(
    context: zmq.Context[zmq.Socket[bytes]], config: Config, rate: int, arguments: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Return the percentiles of acks and of bare syncs at a rate, in alternating slices."""
    load = Load(context, config.endpoints.order_entry)
    next_request = orders(rate)
    acks: list[float] = []
    syncs: list[float] = []
    load.open_loop(rate, 1.0, next_request)
    while len(acks) < rate * arguments.latency_seconds:
        syncs += measure_sync(arguments.folder, rate, SLICE_SECONDS)
        acks += load.open_loop(rate, SLICE_SECONDS, next_request)
    load.socket.close()
    return {"ack": percentiles(sorted(acks)), "bare_fdatasync": percentiles(sorted(syncs))}


def measure_sustained(
    context: zmq.Context[zmq.Socket[bytes]], config: Config, pids: dict[str, int], seconds: float
) -> dict[str, Any]:
    """Return the figures of a sustained load, to the last SQL row, and check that nothing was lost."""
    load = Load(context, config.endpoints.order_entry)
    next_request = orders(1)
    load.run(1.0, next_request)
    before, cpu_before = stored_when_idle(config), cpu_seconds(pids)
    own_before = time.process_time()
    start = time.monotonic()
    answered, acks, taken = load.run(seconds, next_request)
    while stored(config) < before + acks:
        if time.monotonic() - start > seconds + 60:
            raise TimeoutError(f"{before + acks - stored(config)} acknowledged requests are not in SQL after 60 s")
        time.sleep(0.01)
    to_sql = time.monotonic() - start
    used = {name: (after - cpu_before[name]) / acks * 1e6 for name, after in cpu_seconds(pids).items()}
    used["client"] = (time.process_time() - own_before) / acks * 1e6
    load.socket.close()
    assert stored(config) == before + acks, "what is stored is what was acknowledged"
    return {
        "requests": answered,
        "acks": acks,
        "acks_per_second": round(acks / taken),
        "to_last_sql_row_per_second": round(acks / to_sql),
        "sql_behind_seconds": round(to_sql - taken, 2),
        "cpu_microseconds_per_request": {name: round(value, 1) for name, value in used.items()},
    }


def stored_when_idle(config: Config) -> int:
    """Return the number of requests in SQL once it has not risen for half a second."""
    last = -2
    while (now := stored(config)) != last:
        last = now
        time.sleep(0.5)
    return now


def percentiles(latencies: list[float]) -> dict[str, float]:
    """Return p50, p99 and the maximum, in milliseconds."""
    at = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {
        name: round(latencies[min(len(latencies) - 1, int(len(latencies) * share))] * 1000, 3)
        for name, share in at.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="The whole pipeline beside its physical limits.")
    parser.add_argument("--seconds", type=float, default=30.0, help="of sustained load (default 30)")
    parser.add_argument("--latency-seconds", type=float, default=20.0, help="of each latency measurement (default 20)")
    parser.add_argument(
        "--rates", type=int, nargs="*", default=[100, 1000], help="orders/s of the latency measurements"
    )
    parser.add_argument("--folder", type=Path, help="where the exchange's data is to be (default: for temporary files)")
    parser.add_argument("--echo", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.echo:
        echo_server(arguments.echo)
    figures: dict[str, Any] = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    }

    def show(name: str, value: Any) -> None:
        figures[name] = value
        print(f"{name}: {json.dumps(value)}", flush=True)

    echoes = [measure_echo(3.0)]
    with running(ASSETS, arguments.folder) as (config, pids), zmq.Context() as context:
        for rate in arguments.rates:
            show(f"latency_ms_at_{rate}", measure_latency(context, config, rate, arguments))
        show("sustained", measure_sustained(context, config, pids, arguments.seconds))
        show("rows", {table: count(config, table) for table in ("orders", "trades", "order_events")})
    echoes.append(measure_echo(3.0))
    show("echo_messages_per_second", [round(each) for each in echoes])
    rate = figures["sustained"]["to_last_sql_row_per_second"]
    show("sustained_to_echo", round(rate / (sum(echoes) / len(echoes)), 3))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
