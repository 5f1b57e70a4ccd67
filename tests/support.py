"""What tests share: free ports, a configuration of their own, waits with a deadline, daemons as real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from exchange import config as configuration
from exchange.client import own_exchange
from exchange.config import Config

PROJECT = Path(__file__).resolve().parents[1]
FLOWS = PROJECT.parent / "shared" / "flows"
TAPES = PROJECT.parent / "shared" / "tapes"

WORKERS = 8  # at most that many processes run tests at once, each with ports of its own
PORTS = range(15_000, own_exchange.PORTS.start)

OUTSIDE_FOLDERS: list[Path] = []  # of sockets, where the test's own folder has too long a path; removed at the end

ASSETS = """
[[asset]]
asset = "ACME"
price_scale = 2
tick_size = 5
lot_size = 10

[[asset]]
asset = "BTC-USD"
price_scale = 2
quantity_scale = 8
"""


def free_ports(count: int) -> list[int]:
    """Return TCP ports that are free, and that no test which runs at the same time in another process is given."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return own_exchange.free_ports(count, PORTS[worker % WORKERS :: WORKERS])


def write_config(folder: Path, assets: str = ASSETS, extra: str = "") -> Config:
    """Write a configuration with free ports under `folder` and return it loaded, its data beside it."""
    settings = folder / "config"
    settings.mkdir(parents=True, exist_ok=True)
    names = ("order_entry", "market_data", "private", "query")
    endpoints = "\n".join(f'{name} = "tcp://127.0.0.1:{port}"' for name, port in zip(names, free_ports(4), strict=True))
    (settings / "exchange.toml").write_text(f"[endpoints]\n{endpoints}\n{extra}\n")
    (settings / "assets.toml").write_text(assets)
    config = configuration.load(settings, folder / "var")
    if config.run_folder.parent != config.data:
        OUTSIDE_FOLDERS.append(config.run_folder)
    return config


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 60.0, pause: float = 0.02) -> Any:
    """Return the condition's first true value. Fails, naming `what`, when the seconds are over."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(pause)


class Daemon:
    """One daemon as a real process, its output in a file."""

    package = "daemons"  # where its module is

    def __init__(
        self,
        config: Config,
        *arguments: str,
        environment: dict[str, str] | None = None,
        nice: int = 0,
        through: Sequence[str] = (),
    ) -> None:
        """`through` is a command that ends by becoming the one that is given to it, as `nice` does."""
        self.config = config
        self.arguments = arguments
        self.environment = environment or {}
        self.through = [*through, *(["nice", "-n", str(nice)] if nice else [])]
        self.log = config.data.parent / f"{'-'.join(arguments).replace('/', '_')}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Daemon":
        environment = os.environ | {
            "EXCHANGE_CONFIG": str(self.config.folder),
            "EXCHANGE_DATA": str(self.config.data),
            "PYTHONPATH": f"{PROJECT}{os.pathsep}{PROJECT / 'lib'}",
        }
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [*self.through, sys.executable, "-m", f"{self.package}.{self.arguments[0]}", *self.arguments[1:]],
                cwd=PROJECT,
                env=environment | self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        return self

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, seconds: float = 60.0) -> int:
        """Wait for the process's end and return its exit status."""
        assert self.process is not None
        return self.process.wait(seconds)

    def kill(self) -> None:
        """End the process at once, as a crash would, and reap it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(60)

    def stop(self) -> int:
        """Ask the process to end and return its exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


@contextmanager
def running(*daemons: Daemon) -> Iterator[None]:
    """Start daemons; end them all, whatever happens, by their own ids."""
    try:
        for daemon in daemons:
            daemon.start()
        yield
    finally:
        for daemon in daemons:
            daemon.kill()
