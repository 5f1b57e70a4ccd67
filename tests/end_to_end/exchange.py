"""The whole exchange as its operators start it, and the command that they type, as real processes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from exchange import supervision
from exchange.client import ClientError, Queries
from exchange.config import Config
from tests.support import PROJECT, wait_until


class Start:
    """`python -m daemons` as a real process, its output in a file. `through`: see `tests.support.Daemon`."""

    def __init__(self, config: Config, through: Sequence[str] = ()) -> None:
        self.config = config
        self.log = config.data.parent / "start.log"
        environment = os.environ | {"EXCHANGE_CONFIG": str(config.folder), "EXCHANGE_DATA": str(config.data)}
        if config.hosts:
            environment["EXCHANGE_HOST"] = config.hosts.here
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*through, sys.executable, "-m", "daemons"], cwd=PROJECT, env=environment, stdout=log, stderr=log
            )

    def output(self) -> str:
        return self.log.read_text()

    def wait_until_running(self) -> None:
        wait_until(lambda: "is running:" in self.output() or self.process.poll() is not None, "it runs", seconds=90)
        assert self.process.poll() is None, self.output()
        states = supervision.read_programs(self.config)
        expected = dict.fromkeys(supervision.programs(self.config), "RUNNING")
        assert {name: each.state for name, each in states.items()} == expected

    def end(self) -> None:
        """End it and, should it have been killed, what it left."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(120)
        wait_until(lambda: not answers(self.config), "supervisord is gone", seconds=60)
        supervision.end_left_behind(supervision.find_left_behind(self.config), self.config)


@contextmanager
def started(config: Config, through: Sequence[str] = ()) -> Iterator[Start]:
    start = Start(config, through)
    try:
        yield start
    finally:
        start.end()


def answers(config: Config) -> bool:
    return bool(supervision.read_programs(config))


def supervisor_process(config: Config) -> int:
    return int((config.data / "run" / "supervisord.pid").read_text())


def process_of(config: Config, program: str) -> int:
    """Return a program's process id, or 0: a RUNNING one is described as `pid 123, uptime 0:00:04`."""
    words = supervision.read_programs(config)[program].description.replace(",", "").split()
    return int(words[1]) if words[:1] == ["pid"] else 0


def process_exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def is_ready(config: Config) -> bool:
    """Return whether all assets' topics can be asked for, which is the last thing of a start."""
    try:
        with Queries(config.endpoints.query, timeout=1) as queries:
            return len(queries.sequences()) >= len(config.assets)
    except ClientError:
        return False


@dataclass
class Shell:
    """Runs the command against one exchange."""

    config: Config
    through: Sequence[str] = ()

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "EXCHANGE_CONFIG": str(self.config.folder),
            "EXCHANGE_DATA": str(self.config.data),
            "PYTHONPATH": str(PROJECT / "lib"),
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.through, sys.executable, "-m", "exchange.client.command", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, status: int = 0) -> str:
        """Return what was printed, errors included; the exit status must be as given."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=60)
        assert process.returncode == status, f"exit {process.returncode}: {out}{err}"
        return out + err

    def json(self, *arguments: str, status: int = 0) -> Any:
        """Return the one JSON value on standard output; nothing may be on standard error."""
        process = self.start(*arguments, "--json")
        out, err = process.communicate(timeout=60)
        assert process.returncode == status, f"exit {process.returncode}: {out}{err}"
        assert err == ""
        return json.loads(out)
