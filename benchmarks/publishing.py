"""A publisher in a process of its own, for `benchmarks.market_data`: `python -m benchmarks.publishing KIND ENDPOINT`.

KIND is `plain`, a bare PUB and a loop that sends, or the number of the sockets of a fair one. For each line `N` on
standard input, one at a time, it publishes N messages as fast as it can; for `cpu` it says how many seconds of CPU time
it has used.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import zmq

from benchmarks.exchange import allow_files
from exchange.client.own_exchange import free_ports
from exchange.config import PROJECT
from exchange.pipeline.sockets import Transport, bare_send

TOPIC = b"trade/ACME/"
PAYLOAD = bytes(130)  # about what a trade takes
SEND_QUEUE = 1_000_000
SNDMORE = int(zmq.SNDMORE)


def publish(kind: str, endpoint: str) -> None:
    allow_files()
    transport = Transport()
    if kind == "plain":
        socket = transport.context.socket(zmq.PUB)
        socket.sndhwm = SEND_QUEUE
        socket.bind(endpoint)
        send = bare_send(socket)
    else:
        publisher = transport.public_publisher(endpoint, SEND_QUEUE, int(kind))
    poller = transport.poller()
    poller.register(0, zmq.POLLIN)
    if kind != "plain":
        poller.register(publisher.waitable, zmq.POLLIN)
    print("up", flush=True)
    while True:
        ready = dict(poller.poll())
        if kind != "plain":
            publisher.serve()
        word = os.read(0, 100).decode() if 0 in ready else ""
        if word == "cpu\n":
            print(time.process_time(), flush=True)
        elif word and kind == "plain":
            for _ in range(int(word)):
                send(TOPIC, SNDMORE)
                send(PAYLOAD)
        elif word:
            for _ in range(int(word)):
                publisher.send(TOPIC, PAYLOAD)


class Publisher:
    """The other end of `publish`."""

    def __init__(self, process: "subprocess.Popen[str]", endpoint: str) -> None:
        self.process = process
        self.endpoint = endpoint

    def publish(self, count: int = 1) -> None:
        self._write(f"{count}\n")

    def cpu_seconds(self) -> float:
        """Return the CPU time it has used, once it has sent all that it was told to."""
        self._write("cpu\n")
        assert self.process.stdout is not None
        return float(self.process.stdout.readline())

    def _write(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line)
        self.process.stdin.flush()


@contextmanager
def publisher(kind: str) -> Iterator[Publisher]:
    """Run a publisher of a kind on a free port."""
    endpoint = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.publishing", kind, endpoint],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "up\n":
            raise OSError(f"the publisher ({kind}) has not started")
        yield Publisher(process, endpoint)
    finally:
        process.kill()
        process.communicate(timeout=10)


if __name__ == "__main__":
    publish(*sys.argv[1:])
