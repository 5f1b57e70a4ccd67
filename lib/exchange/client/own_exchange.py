"""An exchange of one's own for a while: the whole of it, in a folder for temporary files, on free ports."""

import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from exchange import config as configuration
from exchange.client.errors import ClientError, Failed
from exchange.client.orders import OrderEntry
from exchange.client.queries import Queries
from exchange.config import PROJECT, Config

START_S = 120.0  # a new database takes a while where the machine has other things to do
END_S = 120.0
PAUSE_S = 0.1
PR_SET_PDEATHSIG = 1
PORTS = range(28_000, 32_000)  # below those that connections draw from


class OwnExchange:
    """Runs `python -m daemons` with a manual clock and the given assets, from `with` to its end.

    The folder is removed at the end unless `keep`; what the start printed is in its `start.log`.
    """

    def __init__(self, assets: str, keep: bool) -> None:
        self.keep = keep
        self.folder = Path(tempfile.mkdtemp(prefix="exchange-day-"))
        self.folder.chmod(0o755)  # started by root, PostgreSQL runs as another user, who has to pass through
        settings = self.folder / "config"
        settings.mkdir()
        names = ("order_entry", "market_data", "private", "query")
        ports = "\n".join(f'{name} = "tcp://127.0.0.1:{port}"' for name, port in zip(names, free_ports(4), strict=True))
        (settings / "exchange.toml").write_text(f'[endpoints]\n{ports}\n\n[clock]\nmode = "manual"\n')
        (settings / "assets.toml").write_text(assets)
        self.config = configuration.load(settings, self.folder / "var")
        self.log = self.folder / "start.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Config:
        """Start it, wait until it answers, and return its configuration. Raises Failed where it does not."""
        environment = os.environ | {
            "EXCHANGE_CONFIG": str(self.config.folder),
            "EXCHANGE_DATA": str(self.config.data),
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "daemons"],
                cwd=PROJECT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is for us, who end it
                preexec_fn=_end_with_us(os.getpid()),
            )
        deadline = time.monotonic() + START_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.keep = True
                raise Failed(f"the exchange did not start; {self.log} ends with: {self._last_words()}")
            time.sleep(PAUSE_S)
        return self.config

    def _answers(self) -> bool:
        endpoints = self.config.endpoints
        with OrderEntry(endpoints.order_entry, timeout=0.5) as orders, Queries(endpoints.query, timeout=0.5) as queries:
            try:
                orders.ping()
                return len(queries.sequences()) >= len(self.config.assets)
            except ClientError:
                return False

    def _last_words(self) -> str:
        return " ".join(self.log.read_text(errors="replace").split()[-60:])

    def end(self) -> None:
        """Ask it to end, by its own process id, wait until it has, and remove the folder unless it is to be kept."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(END_S)
            except subprocess.TimeoutExpired:
                self.process.kill()  # its supervisord ends with it
                self.process.wait(END_S)
        if not self.keep:
            shutil.rmtree(self.config.run_folder, ignore_errors=True)  # which may lie elsewhere
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


def _end_with_us(starter: int) -> Callable[[], None]:
    """Return what has the kernel ask the started process to end, should we be killed."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def ask() -> None:
        if libc:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != starter:  # we were killed before the kernel knew
                os._exit(1)

    return ask


def free_ports(count: int, among: range = PORTS) -> list[int]:
    """Return TCP ports of the loopback interface that are free now.

    Whoever asks next may be given the same until they are bound: those who ask at the same time ask among others.
    """
    sockets: list[socket.socket] = []
    try:
        while len(sockets) < count:
            candidate = socket.socket()
            try:
                candidate.bind(("127.0.0.1", random.SystemRandom().choice(among)))
                sockets.append(candidate)
            except OSError:
                candidate.close()
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
