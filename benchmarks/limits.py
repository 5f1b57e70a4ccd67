"""What no exchange over this transport and on this disk can beat: a bare echo, a bare `fdatasync`.

`python -m benchmarks.limits --echo ENDPOINT` is the echo's other end, a process of its own as the order handler is one.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path

import zmq

from benchmarks.load import NOBLOCK, WINDOW, Load, requests
from exchange.client.own_exchange import free_ports
from exchange.config import PROJECT

SNDMORE = int(zmq.SNDMORE)
RECORD_BYTES = 150  # about what an order takes in the journal
WARM_SECONDS = 0.3


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
                    identity = recv(NOBLOCK)
                    payload = recv(NOBLOCK)
                    send(identity, SNDMORE)
                    send(payload)
            except zmq.Again:
                pass


@contextmanager
def running_echo() -> Iterator[str]:
    """Run an echo server and yield its endpoint."""
    endpoint = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    server = subprocess.Popen([sys.executable, "-m", "benchmarks.limits", "--echo", endpoint], cwd=PROJECT)
    try:
        yield endpoint
    finally:
        server.kill()
        server.wait(10)


def echo_rates(seconds: float, repeats: int, clients: int = 1) -> list[float]:
    """Return the messages/s of a bare ROUTER/DEALER echo of single requests, in repeats of so many seconds."""
    messages = cycle(list(islice(requests("echo"), 10_000)))
    with running_echo() as endpoint, zmq.Context() as context:
        load = Load(context, endpoint, clients)
        load.run(WARM_SECONDS, messages.__next__)
        rates = []
        for _ in range(repeats):
            sent = load.run(seconds, messages.__next__)
            rates.append(sent.messages / sent.seconds)
        load.close()
        return rates


def echo_latencies(rate: float, seconds: float) -> list[float]:
    """Return the seconds from when each request was due to when a bare echo had sent it back, open-loop."""
    messages = cycle(list(islice(requests("echo"), 10_000)))
    with running_echo() as endpoint, zmq.Context() as context:
        load = Load(context, endpoint)
        load.run(WARM_SECONDS, messages.__next__)
        latencies = load.open_loop(rate, seconds, messages.__next__).latencies
        load.close()
        return latencies


def sync_latencies(folder: Path, rate: float, seconds: float) -> list[float]:
    """Return the seconds from when each record was due to when it was on disk, with nothing but the disk in between.

    A record is due each 1/rate s. Whatever is due is written, in one piece, into a file that was filled with zeros
    before, and synced with `fdatasync`: what the order handler does, and nobody can do less of.
    """
    total = round(rate * seconds)
    record = b"x" * RECORD_BYTES
    latencies: list[float] = []
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        descriptor = file.fileno()
        os.pwrite(descriptor, bytes(total * RECORD_BYTES), 0)
        os.fsync(descriptor)
        monotonic = time.monotonic
        start = monotonic() + 0.05
        written = 0
        while written < total:
            now = monotonic()
            due = min(total, int((now - start) * rate) + 1) if now >= start else 0
            if due <= written:
                time.sleep(max(0.0, start + written / rate - now))
                continue
            os.pwrite(descriptor, record * (due - written), written * RECORD_BYTES)
            os.fdatasync(descriptor)
            now = monotonic()
            latencies += [now - (start + number / rate) for number in range(written, due)]
            written = due
    return latencies


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The other end of a bare echo.")
    parser.add_argument("--echo", required=True, metavar="ENDPOINT")
    echo_server(parser.parse_args().echo)
