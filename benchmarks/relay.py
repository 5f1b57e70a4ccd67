"""The hops from the order handler to a subscriber with nothing in them: what the sockets and processes cost alone.

`python -m benchmarks.relay pull|sub FROM TO` is one hop, a process that passes messages on: as a matching daemon does,
which pulls and publishes, or as the notifier, which subscribes and publishes.
"""

import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import zmq

from benchmarks.load import NOBLOCK
from exchange.client.own_exchange import free_ports
from exchange.config import PROJECT

PAYLOAD = b"x" * 150
ANSWER_SECONDS = 30.0
SNDMORE = int(zmq.SNDMORE)


def hop_latencies(rate: float, seconds: float) -> list[float]:
    """Return the seconds from when each message was sent to when it came, over a PUSH and two PUBs, open-loop."""
    total = round(rate * seconds)
    with tempfile.TemporaryDirectory(prefix="relay-") as folder, zmq.Context() as context:
        queue, events = (f"ipc://{Path(folder) / name}" for name in ("queue", "events"))
        feed = f"tcp://127.0.0.1:{free_ports(1)[0]}"
        push, subscriber = context.socket(zmq.PUSH), context.socket(zmq.SUB)
        push.linger = subscriber.linger = 0
        push.bind(queue)
        subscriber.subscribe(b"")
        subscriber.connect(feed)
        command = [sys.executable, "-m", "benchmarks.relay"]
        hops = [
            subprocess.Popen([*command, "sub", events, feed], cwd=PROJECT),
            subprocess.Popen([*command, "pull", queue, events], cwd=PROJECT),
        ]
        try:
            deadline = time.monotonic() + ANSWER_SECONDS
            while not subscriber.poll(50):  # until one gets through, and with it all that were sent before
                push.send(b"")
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no message through the hops within {ANSWER_SECONDS:g} s")
            latencies = _timed(push, subscriber, rate, total)
        finally:
            for hop in hops:
                hop.kill()
                hop.wait(10)
            push.close()
            subscriber.close()
    return latencies


def _timed(push: "zmq.Socket[bytes]", subscriber: "zmq.Socket[bytes]", rate: float, total: int) -> list[float]:
    descriptor, monotonic = int(subscriber.getsockopt(zmq.FD)), time.monotonic
    sent_at: list[float] = []
    latencies: list[float] = []
    start = monotonic() + 0.2
    deadline = start + total / rate + ANSWER_SECONDS
    while len(latencies) < total:
        now = monotonic()
        while len(sent_at) < total and start + len(sent_at) / rate <= now:
            sent_at.append(monotonic())
            push.send(PAYLOAD)
        try:
            while True:
                subscriber.recv(NOBLOCK)
                if subscriber.recv(NOBLOCK):  # not one of those that only opened the way
                    latencies.append(monotonic() - sent_at[len(latencies)])
        except zmq.Again:
            pass
        now = monotonic()
        if now > deadline:
            raise TimeoutError(f"{total - len(latencies)} messages did not come within {ANSWER_SECONDS:g} s")
        wait = start + len(sent_at) / rate - now if len(sent_at) < total else 0.01
        if wait > 0 and not int(subscriber.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            select.select([descriptor], [], [], wait)
    return latencies


def relay(kind: str, source: str, target: str) -> None:
    """Pass messages on, until killed: from a PUSH or a PUB to subscribers, with a topic in front of the last."""
    with zmq.Context() as context:
        receiver = context.socket(zmq.PULL if kind == "pull" else zmq.SUB)
        publisher = context.socket(zmq.PUB)
        publisher.bind(target)
        if kind == "sub":
            receiver.subscribe(b"")
        receiver.connect(source)
        while True:
            payload = receiver.recv()
            if kind == "sub":
                publisher.send(b"trade/A/", SNDMORE)
            publisher.send(payload)


if __name__ == "__main__":
    relay(*sys.argv[1:])
