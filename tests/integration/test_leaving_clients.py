"""Clients that go while more of their requests wait than a daemon takes in: nobody else notices."""

import subprocess
import sys
import time
from pathlib import Path

import msgpack

from tests.integration.outsider import Venue
from tests.support import running

# Sends as fast as it can from the ninth second of its connection on, and is gone in the tenth: when a ZMTP heartbeat
# would be due, libzmq 4.3.5 used to abort the daemon's process.
LEAVER = """
import os, sys, time, zmq
endpoint, request = sys.argv[1], bytes.fromhex(sys.argv[2])
client = zmq.Context().socket(zmq.DEALER)
client.sndhwm, client.linger = 100_000, 0
client.connect(endpoint)
start = time.monotonic()
time.sleep(9.2)
while time.monotonic() < start + 9.8:
    try:
        client.send(request, zmq.NOBLOCK)
    except zmq.Again:
        time.sleep(0.01)
os._exit(0)
"""


def test_a_client_that_goes_with_requests_waiting_takes_no_daemon_along(tmp_path: Path) -> None:
    venue = Venue(tmp_path)
    try:
        with running(*venue.daemons):
            venue.wait_until_ready()
            for _ in range(30):
                venue.entry.ask([venue.order("alice", "buy", 10, 1000) for _ in range(100)])
            batch = [venue.order("alice", "buy", 10, 1000) for _ in range(100)]
            retransmit = {"type": "retransmit", "topic": "execution/alice/ACME/", "from": 1, "to": 1000}
            leavers = [
                subprocess.Popen([sys.executable, "-c", LEAVER, endpoint, msgpack.packb(request).hex()])
                for endpoint, request in (
                    (venue.endpoints.order_entry, batch),
                    (venue.endpoints.query, retransmit),
                )
            ]
            try:
                for leaver in leavers:
                    assert leaver.wait(60) == 0
            finally:
                for leaver in leavers:
                    leaver.kill()
                    leaver.wait(60)
            time.sleep(1.5)  # over the tenth second of their connections
            venue.wait_until_ready()
            for daemon in venue.daemons:
                assert daemon.alive, daemon.output()
    finally:
        venue.context.destroy(linger=0)
