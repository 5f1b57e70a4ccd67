"""The orders of a rate in batches, from a process of its own: the load of an exchange without its many syncs.

`python -m benchmarks.background ENDPOINT RATE NAME` waits for lines with a number of seconds on its standard input,
and writes a line with the number of acks for each. `Background` is the other end.
"""

import subprocess
import sys
import time
from types import TracebackType
from typing import Self

import zmq

from benchmarks.load import ANSWER_SECONDS, BATCH, Load, batches, requests
from exchange.config import PROJECT


class Background:
    """Such a process, from `with` to its end. `start` has it send; `acks` waits for its end and counts."""

    def __init__(self, endpoint: str, rate: float, name: str) -> None:
        self.arguments = (endpoint, str(rate), name)

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "benchmarks.background", *self.arguments]
        self.process = subprocess.Popen(
            command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._line()  # it is up
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        self.process.kill()
        self.process.wait(10)

    def start(self, seconds: float) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n")

    def acks(self) -> int:
        return int(self._line())

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the background load ended with status {self.process.wait(10)}")
        return line


def send(endpoint: str, rate: float, name: str) -> None:
    """Send as many seconds as each line of the standard input says."""
    with zmq.Context() as context:
        load = Load(context, endpoint)
        next_batch = batches(requests(name)).__next__
        load.run_count(1, next_batch)
        print(0, flush=True)
        for line in sys.stdin:
            acks = 0
            total = round(float(line) * rate / BATCH)
            start = time.monotonic()
            for number in range(total):
                time.sleep(max(0.0, start + number * BATCH / rate - time.monotonic()))
                acks += load.run_count(1, next_batch).acks
            if time.monotonic() - start > float(line) + ANSWER_SECONDS:
                raise TimeoutError(f"{total} batches took more than {line.strip()} s and {ANSWER_SECONDS} s")
            print(acks, flush=True)
        load.close()


if __name__ == "__main__":
    send(sys.argv[1], float(sys.argv[2]), sys.argv[3])
