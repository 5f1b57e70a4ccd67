"""Start the whole exchange in the foreground: `python -m daemons`, which is what `make run` does.

`python -m daemons configure` only writes supervisord's files, for `supervisorctl update` to take up while it runs.

supervisord is our child, in a session of its own, so that a Ctrl-C reaches us alone and we ask it to stop, once. Should
we be killed, the kernel asks it for us; should it be killed, we end what it left.
"""

import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from exchange import config as configuration
from exchange import supervision
from exchange.config import Config, ConfigError
from exchange.folders import FolderError, prepare_folders
from exchange.status import AlreadyRunning, Lock, read_pages
from exchange.store import binaries, embedded
from exchange.supervision import SupervisionError

START_SECONDS = 60.0  # until every program is to be RUNNING
PREVIOUS_SECONDS = 60.0  # until an exchange that is being stopped is to be gone
STOP_SECONDS = 60.0  # the longest stopwaitsecs of supervisord.conf
STUCK_SECONDS = 10.0  # without progress, after which what is being rebuilt is no longer waited for
TOLD_SECONDS = 5.0  # between two lines about what is waited for
PAUSE_SECONDS = 0.1
MOST_FILES = 65536  # connections that a daemon may have open, where the system allows as many
PR_SET_PDEATHSIG = 1

USAGE = """usage: python -m daemons             start the exchange in the foreground
       python -m daemons configure   write supervisord's files for the configuration as it is now"""


class Refused(Exception):
    """The exchange can't be started; the text says why and what to do."""


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["configure"]):
        print(USAGE, file=sys.stderr)
        return 2
    try:
        config = configuration.load()
        embedded.database_dsn(config)
        prepare_folders(config)
        if arguments == ["configure"]:
            supervision.write_files(config)
            print(f"Written. Now: {supervisorctl(config)} update")
            return 0
        stop = Stop()
        lock = take_lock(config, stop)
        end_left_behind(config)
        check_daemons(config)
        check_ports(config)
        supervision.write_files(config)
        return Exchange(config, stop, lock).run()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except (Refused, FolderError, SupervisionError) as error:
        print(error, file=sys.stderr)
        return 1


class Stop:
    """Which signal asked us to stop, if one did."""

    def __init__(self) -> None:
        self.number = 0
        signal.signal(signal.SIGINT, self._ask)
        signal.signal(signal.SIGTERM, self._ask)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as under nohup
            signal.signal(signal.SIGHUP, self._ask)

    def _ask(self, number: int, frame: object) -> None:
        self.number = self.number or number

    def __bool__(self) -> bool:
        return self.number != 0


# -- before the start --------------------------------------------------------------------------------------------------


def take_lock(config: Config, stop: Stop) -> Lock:
    """Take the data folder for us and our supervisord, which inherits the lock.

    Where another one has it: an exchange that is being stopped is waited for, one that runs is named. Raises Refused.
    """
    path = config.data / "lock"
    deadline = time.monotonic() + PREVIOUS_SECONDS
    told = False
    while True:
        try:
            return Lock(path, "the exchange")
        except AlreadyRunning:
            holder = path.read_text().strip()
        if is_a_start(holder):
            raise Refused(
                f"{config.data}: an exchange runs on this data folder already, started by process {holder}; see "
                f"{supervisorctl(config)} status; stop it with Ctrl-C or kill {holder}"
            )
        if stop:
            raise Refused("Not started: asked to stop while waiting for the exchange that ran before.")
        if time.monotonic() > deadline:
            raise Refused(
                f"{config.data}: the supervisord of an earlier start (its process id is in {config.data}/run/"
                f"supervisord.pid) does not end; stop it with {supervisorctl(config)} shutdown"
            )
        if not told:
            print("Waiting for the exchange that ran on this data folder before: it is being stopped.", flush=True)
            told = True
        time.sleep(PAUSE_SECONDS)


def is_a_start(process: str) -> bool:
    """Return whether a process id from a lock is still that of a start of the exchange, not of something newer."""
    try:
        return "daemons" in (supervision.PROCESSES / process / "cmdline").read_text()
    except FileNotFoundError:
        return not supervision.PROCESSES.is_dir()
    except OSError:
        return True


def end_left_behind(config: Config) -> None:
    """End the daemons of an earlier start whose supervisord was killed: nobody would restart or stop them."""
    found = supervision.find_left_behind(config)
    if found:
        names = ", ".join(f"{each.program} (process {each.process})" for each in found)
        print(f"Ending what a killed supervisord left running: {names}.", flush=True)
        supervision.end_left_behind(found, config)


def check_daemons(config: Config) -> None:
    """Refuse the start while a daemon on this data folder runs that somebody started by hand."""
    for path in (*config.data.glob("*.lock"), *config.data.glob("*/lock"), *config.data.glob("*/*/lock")):
        if path == embedded.home_folder(config) / "lock":
            continue  # the server waits for its predecessor's last processes by itself
        try:
            holding = Lock(path, "a daemon of this data folder")
        except AlreadyRunning as error:
            raise Refused(str(error)) from None
        holding.release()


def check_ports(config: Config) -> None:
    """Refuse the start, naming each, while endpoints of the configuration can't be bound."""
    taken = []
    for name, endpoint in config.listens().items():
        host, port = endpoint.removeprefix("tcp://").rsplit(":", 1)
        reason = why_not(host.strip("[]"), int(port))
        if reason:
            taken.append(f"{name} = {endpoint!r}: {reason}")
    if taken:
        if config.hosts:
            taken.append(f"(This is taken for host {config.hosts.here}; EXCHANGE_HOST says which it is.)")
        raise Refused(
            "\n".join(taken) + f"\nStop what listens there (ss -ltnp shows it), or set other ports in "
            f"{config.folder / 'exchange.toml'}"
        )


def why_not(host: str, port: int) -> str:
    """Return why nothing can listen at an address, or "" where it can."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            None if host == "*" else host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror:
        return ""  # the name of a network interface, perhaps, which ZeroMQ understands
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError as error:
            return os.strerror(error.errno or 0)
    return ""


# -- while it runs -----------------------------------------------------------------------------------------------------


class Exchange:
    """The exchange as one thing: supervisord and what it runs."""

    def __init__(self, config: Config, stop: Stop, lock: Lock) -> None:
        self.config = config
        self.stop = stop
        self.lock = lock
        self.supervisord = self._start()

    def run(self) -> int:
        """Wait for the start, say what to do next, wait for the end. Returns the exit status."""
        print(f"Starting the exchange on {self.config.data} (configuration: {self.config.folder}).", flush=True)
        if self._wait_until_running():
            self._wait_until_caught_up()
            if not self.stop:
                print(what_next(self.config), flush=True)
        while self.supervisord.poll() is None and not self.stop:
            time.sleep(PAUSE_SECONDS)
        return self._end()

    def _start(self) -> subprocess.Popen[bytes]:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        files = MOST_FILES if most == resource.RLIM_INFINITY else min(most, MOST_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
        os.set_inheritable(self.lock.file, True)
        starter = os.getpid()
        libc = ctypes.CDLL(None) if sys.platform == "linux" else None

        def stop_with_us() -> None:
            if libc:
                libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
                if os.getppid() != starter:  # we were killed before the kernel knew
                    os._exit(1)

        return subprocess.Popen(
            [sys.executable, "-m", "supervisor.supervisord", "-c", supervision.settings_file(self.config)],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(self.lock.file,),
            preexec_fn=stop_with_us,
        )

    def _wait_until_running(self) -> bool:
        """Return whether every program came up; say so where some did not, and where to look."""
        deadline = time.monotonic() + START_SECONDS
        waiting = set(supervision.programs(self.config))
        while self.supervisord.poll() is None and not self.stop:
            states = supervision.read_programs(self.config)
            waiting = {name for name in waiting if name not in states or states[name].state != "RUNNING"}
            if not waiting:
                return True
            if time.monotonic() > deadline:
                for name in sorted(waiting):
                    state = states[name].state if name in states else "unknown"
                    print(
                        f"{name} is not running ({state}); its log: {supervision.log_file(self.config, name)}",
                        file=sys.stderr,
                    )
                    print(last_lines(supervision.log_file(self.config, name)), file=sys.stderr)
                print("supervisord goes on trying. Ctrl-C stops everything.", file=sys.stderr, flush=True)
                return False
            time.sleep(PAUSE_SECONDS)
        return False

    def _wait_until_caught_up(self) -> None:
        """Wait while daemons rebuild their state from disk, as long as they get on with it, and say which they are."""
        began = time.monotonic()
        told = began + TOLD_SECONDS / 2
        programs = supervision.programs(self.config)
        before: object = None
        while self.supervisord.poll() is None and not self.stop:
            pages = [
                page
                for page in read_pages(self.config.status_folder)
                if page["state"] == "catching up" and page["daemon"] in programs
            ]
            progress = [(page["daemon"], page["processed"]) for page in pages]
            now = time.monotonic()
            if progress != before:
                before, began = progress, now
            if not pages or now - began > STUCK_SECONDS:
                return
            if now > told:
                print(f"Rebuilding from disk: {', '.join(page['daemon'] for page in pages)}.", flush=True)
                told = now + TOLD_SECONDS
            time.sleep(PAUSE_SECONDS)

    def _end(self) -> int:
        """Stop supervisord, where it was not the one to end, and return when nothing of it is left."""
        if self.supervisord.poll() is None:
            print("Stopping the exchange.", flush=True)
            self._stop_programs()
            self.supervisord.send_signal(signal.SIGTERM)
            self._wait_until_stopped()
        status = self.supervisord.returncode
        if status == 0:
            print("The exchange has stopped.", flush=True)
            return 0
        log = supervision.log_file(self.config, "supervisord")
        print(f"supervisord ended with status {status}; its log: {log}", file=sys.stderr)
        print(last_lines(log), file=sys.stderr, flush=True)
        end_left_behind(self.config)
        return 1

    def _stop_programs(self) -> None:
        """Stop the programs, stage by stage. By itself supervisord stops one after the other: slow with many assets."""
        programs = supervision.read_programs(self.config)
        added = [name for name in programs if name.startswith(supervision.matching_program(""))]
        for stage in supervision.stages(self.config, added):
            for name in stage:
                supervision.ask_to_stop(self.config, name)
            deadline = time.monotonic() + STOP_SECONDS
            told = time.monotonic() + TOLD_SECONDS
            while self.supervisord.poll() is None and time.monotonic() < deadline:
                states = supervision.read_programs(self.config)
                left = [name for name in stage if name in states and states[name].state not in supervision.STOPPED]
                if not left:
                    break
                if time.monotonic() > told:
                    print(f"Still waiting for {', '.join(left)}.", flush=True)
                    told += TOLD_SECONDS
                time.sleep(PAUSE_SECONDS)

    def _wait_until_stopped(self) -> None:
        """Wait for supervisord, which stops what is left one after the other and kills what takes too long."""
        deadline = time.monotonic() + STOP_SECONDS * (1 + len(supervision.programs(self.config)))
        while True:
            try:
                self.supervisord.wait(TOLD_SECONDS)
            except subprocess.TimeoutExpired:
                if time.monotonic() > deadline:
                    self.supervisord.kill()
                print("Still waiting for supervisord.", flush=True)
            else:
                return


def supervisorctl(config: Config) -> str:
    """Return how to call supervisorctl for this data folder."""
    command = str(Path(sys.executable).with_name("supervisorctl"))
    usual = configuration.PROJECT / "var"
    if config.data == usual and supervision.socket_file(config) == usual / "run" / "supervisor.sock":
        return ".venv/bin/supervisorctl" if command.startswith(str(configuration.PROJECT)) else command
    return f"{quoted(command)} -c {quoted(str(supervision.settings_file(config)))}"


def what_next(config: Config) -> str:
    """Return the lines that tell a newcomer what to type in another terminal."""
    if not config.hosts.runs("order_handler"):
        return f"""
Host {config.hosts.here} is running: {", ".join(supervision.programs(config))}.

    {supervisorctl(config)} status

Logs are in {config.data / "log"}. Ctrl-C stops everything here.
"""
    names = [asset.asset for asset in config.assets]
    asset = "BTC-USD" if "BTC-USD" in names else names[0]
    amount = "1.5" if asset == "BTC-USD" else "1"
    return f"""
The exchange is running: order entry at {config.endpoints.order_entry}, market data at {config.endpoints.market_data}.
In another terminal, in {configuration.PROJECT}{exports(config)}:

    .venv/bin/exchange status
    .venv/bin/exchange order buy {asset} {amount}@100.25 --account alice
    .venv/bin/exchange order sell {asset} {amount}@100.25 --account bob
    .venv/bin/exchange trades {asset}

    {supervisorctl(config)} status
{psql(config)}
Logs are in {config.data / "log"}. Ctrl-C stops everything.
"""


def psql(config: Config) -> str:
    """Return the line that opens the embedded database, or nothing: a configured DSN may hold a password."""
    if config.database.dsn:
        return ""
    return f'    {quoted(binaries.find_psql())} "{embedded.dsn(config)}"\n'


def exports(config: Config) -> str:
    """Return what else that terminal needs, where the folders are not the default ones."""
    settings = []
    if config.folder != configuration.PROJECT / "config":
        settings.append(f"EXCHANGE_CONFIG={quoted(str(config.folder))}")
    if config.data != configuration.PROJECT / "var":
        settings.append(f"EXCHANGE_DATA={quoted(str(config.data))}")
    return f", after export {' '.join(settings)}" if settings else ""


def quoted(text: str) -> str:
    return f"'{text}'" if " " in text else text


def last_lines(log: Path, count: int = 5) -> str:
    """Return the end of a log, indented."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        lines = ["(there is no log yet)"]
    return "\n".join(f"    {line}" for line in lines[-count:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
