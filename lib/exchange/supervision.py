"""The exchange under supervisord: the files it reads, what it says of its programs, what it left when it was killed.

The checkout's `supervisord.conf` is the one source. From it and the configuration the start writes, into the data
folder, `supervisord.conf` with all paths filled in and `supervisor/<program>.conf` for the programs that depend on the
configuration: `matching-<ASSET>` for each asset, and `postgres` unless a DSN is configured.
"""

import http.client
import os
import re
import select
import signal
import socket
import sys
import time
import xmlrpc.client
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exchange.config import PROJECT, Config, host_file
from exchange.folders import LONGEST_SOCKET, private_folder, replace_file
from exchange.hosts import SPREAD

ANSWER_SECONDS = 10.0
PROCESSES = Path("/proc")
UNANSWERED = (OSError, http.client.HTTPException, xmlrpc.client.Error)
STOPPED = ("STOPPED", "EXITED", "FATAL")
STOP_SECONDS = 40.0  # for one program: a little more than its stopwaitsecs
PAUSE_SECONDS = 0.1
ALREADY_ADDED = 90  # supervisord's fault code

# What supervisord's file format can't carry in a path: it would expand, unquote, split or cut it off there.
UNFIT = re.compile(r"""[%"'\\*?\[\]\x00-\x1f\x7f]| [;#]|^ | $""")


class SupervisionError(Exception):
    """Something keeps supervisord from running the exchange; the text says what and what to do."""


# -- files -------------------------------------------------------------------------------------------------------------


def settings_file(config: Config) -> Path:
    """Return the file that `supervisorctl -c` takes."""
    return config.data / "supervisord.conf"


def program_file(config: Config, program: str) -> Path:
    """Return the file of a program that depends on the configuration."""
    return config.data / "supervisor" / f"{program}.conf"


def log_file(config: Config, program: str) -> Path:
    return config.data / "log" / f"{program}.log"


def socket_file(config: Config) -> Path:
    """Return supervisord's socket: in the data folder where its path is short enough, also with a process id after it.

    supervisord binds the socket under such a name and renames it.
    """
    inside = config.data / "run" / "supervisor.sock"
    if len(os.fsencode(inside)) + len(".4194304") <= LONGEST_SOCKET:
        return inside
    return config.run_folder / "supervisor.sock"


def programs(config: Config) -> list[str]:
    """Return the names of all programs that supervisord runs on this host for this configuration."""
    return [name for stage in stages(config) for name in stage]


def matching_program(asset: str) -> str:
    return f"matching-{asset}"


def stages(config: Config, added: Iterable[str] = ()) -> list[list[str]]:
    """Return this host's programs in the order of stopping: those of a stage together, when those before are gone.

    `added` are matching programs that the exchange got after its start.
    """
    matching = [*dict.fromkeys([*(matching_program(asset.asset) for asset in config.assets_here), *added])]
    stages = [["order_handler"], matching, ["logger", "notifier"], [] if config.database.dsn else ["postgres"]]
    return [[name for name in stage if stage is matching or config.hosts.runs(name)] for stage in stages]


def write_files(config: Config) -> None:
    """Write supervisord's files into the data folder, over those of an earlier start.

    Raises SupervisionError where a path has characters that they can't carry.
    """
    main, included = _render(config)
    folder = config.data / "supervisor"
    folder.mkdir(exist_ok=True)
    private_folder(config.data / "run", take_over=True)
    private_folder(socket_file(config).parent, take_over=socket_file(config).parent == config.data / "run")
    for old in folder.glob("*.conf"):
        if old.stem not in included:
            old.unlink()
    for program, text in included.items():
        replace_file(program_file(config, program), text)
    replace_file(settings_file(config), main)
    if config.hosts:
        replace_file(host_file(config.data), f"{config.hosts.here}\n")


def _render(config: Config) -> tuple[str, dict[str, str]]:
    python = Path(sys.executable)
    for path in (PROJECT, config.folder, config.data, python):
        unfit = UNFIT.search(str(path))
        if unfit:
            raise SupervisionError(
                f"{path}: supervisord can't be told of a path with {unfit[0]!r} in it; move the checkout, or set "
                "EXCHANGE_CONFIG and EXCHANGE_DATA to other folders"
            )
    return render((PROJECT / "supervisord.conf").read_text("utf-8"), config, python)


def render(source: str, config: Config, python: Path) -> tuple[str, dict[str, str]]:
    """Return the text of `supervisord.conf` with its paths filled in, and by program that of the files it includes."""
    for placeholder, path in (
        ("%(here)s/var/run/supervisor.sock", socket_file(config)),
        ("%(here)s/var", config.data),
        ("%(here)s/config", config.folder),
        ("%(here)s/.venv/bin/python", python),
        ("%(here)s", PROJECT),
        ("files = var/supervisor", "files = supervisor"),  # relative, because a path with a space would be two
    ):
        source = source.replace(placeholder, str(path))
    head, *sections = re.split(r"(?m)^(?=\[)", source)
    main = [head.replace(head, f"; Written at the start from {PROJECT / 'supervisord.conf'}: change that one.\n\n")]
    included: dict[str, str] = {}
    for section in sections:
        header, _, body = section.partition("\n")
        if header == "[template:postgres]":
            if not config.database.dsn and config.hosts.runs("postgres"):
                included["postgres"] = f"[program:postgres]\n{body}"
        elif header == "[template:matching]":
            for asset in config.assets_here:
                text = body.replace("{asset}", asset.asset)
                name = matching_program(asset.asset)
                included[name] = f"[program:{name}]\n{text}"
        elif header.removeprefix("[program:").removesuffix("]") in SPREAD and not config.hosts.runs(header[9:-1]):
            pass  # it runs on another host
        elif header == "[supervisord]" and os.geteuid() == 0:
            main.append(f"{header}\nuser = root\n{body}")
        else:
            main.append(section)
    return "".join(main), included


# -- what supervisord says ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Program:
    """What supervisord says of a program: its state (RUNNING, BACKOFF, ...) and a few words more."""

    name: str
    state: str
    description: str


def read_programs(config: Config) -> dict[str, Program]:
    """Return every program's state by name; nothing while supervisord does not answer."""
    try:
        with _supervisord(config) as server:
            answer: Any = server.supervisor.getAllProcessInfo()
    except UNANSWERED:
        return {}
    return {each["name"]: Program(each["name"], each["statename"], each["description"]) for each in answer}


def ask_to_stop(config: Config, program: str) -> None:
    """Have supervisord stop a program, without waiting for its end."""
    with suppress(*UNANSWERED), _supervisord(config) as server:  # it may not be running, nor supervisord
        server.supervisor.stopProcess(program, False)


# -- programs that come and go while the exchange runs -----------------------------------------------------------------


def add_program(config: Config, program: str) -> None:
    """Write a program's file and have the running supervisord start it. No other program is touched.

    Whatever of that is done already is left as it is. Raises SupervisionError where supervisord refuses or is not
    there.
    """
    _, included = _render(config)
    replace_file(program_file(config, program), included[program])
    with _asking(f"to start {program}"), _supervisord(config) as server:
        server.supervisor.reloadConfig()
        try:
            server.supervisor.addProcessGroup(program)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != ALREADY_ADDED:
                raise
            if read_programs(config)[program].state in STOPPED:
                server.supervisor.startProcess(program, False)


def remove_program(config: Config, program: str) -> None:
    """Have the running supervisord stop a program and forget it, and remove its file. No other program is touched.

    Whatever of that is done already is left as it is. Raises SupervisionError where supervisord refuses or is not
    there, or the program does not end.
    """
    with _asking(f"to stop {program}"), _supervisord(config) as server:
        if program in read_programs(config):
            deadline = time.monotonic() + STOP_SECONDS
            while (state := read_programs(config)[program].state) not in STOPPED:
                if state != "STOPPING":
                    ask_to_stop(config, program)
                if time.monotonic() > deadline:
                    raise SupervisionError(f"{program} does not end: it is {state} for {STOP_SECONDS:g} s")
                time.sleep(PAUSE_SECONDS)
            server.supervisor.removeProcessGroup(program)
        program_file(config, program).unlink(missing_ok=True)
        server.supervisor.reloadConfig()


@contextmanager
def _asking(what: str) -> Iterator[None]:
    """Turn what can go wrong with supervisord into SupervisionError."""
    try:
        yield
    except xmlrpc.client.Fault as fault:
        raise SupervisionError(f"supervisord, asked {what}, says {fault.faultString}") from None
    except (*UNANSWERED, KeyError) as error:
        raise SupervisionError(f"supervisord, asked {what}, does not answer: {error}") from None


def _supervisord(config: Config) -> xmlrpc.client.ServerProxy:
    return xmlrpc.client.ServerProxy("http://supervisor", transport=_UnixTransport(socket_file(config)))


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("supervisor", timeout=ANSWER_SECONDS)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        try:
            self.sock.settimeout(ANSWER_SECONDS)
            self.sock.connect(str(self.path))
        except OSError:
            self.sock.close()
            raise


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = _UnixConnection(self.path)
        self._connection = host, connection  # what `close` closes
        return connection


# -- inside supervisord ------------------------------------------------------------------------------------------------


def make_interface(supervisord: Any, longest_wait: str, **defaults: str) -> Any:
    """Return supervisord's own interface for supervisorctl, and bound the time until it retries a failing program.

    supervisord calls it, because its file names it. By itself supervisord waits one second longer after each failure
    within `startsecs`, ever longer, and gives up at `startretries`. After the third `kill -9` within seconds, or a
    night without a disk, nobody wants to wait for that. `defaults` is what supervisord passes on of [DEFAULT].
    """
    from supervisor import events
    from supervisor.rpcinterface import make_main_rpcinterface

    longest = int(longest_wait)

    def bound(event: Any) -> None:
        process = event.process
        process.backoff = min(process.backoff, longest)
        process.delay = min(process.delay, time.time() + longest)

    events.subscribe(events.ProcessStateBackoffEvent, bound)
    return make_main_rpcinterface(supervisord)


# -- what a killed supervisord left ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LeftBehind:
    """A process that this data folder's supervisord started and did not live to stop."""

    program: str
    process: int


def find_left_behind(config: Config) -> list[LeftBehind]:
    """Return the processes that were started by a supervisord of this data folder. To be called while none runs.

    They are known by the environment that supervisord gave them, its socket's path among it. Where the system shows no
    process's environment (no /proc) the list is empty, and the daemons' own locks say who is in the way.
    """
    return [
        LeftBehind(program, int(folder.name))
        for folder in PROCESSES.glob("[0-9]*")
        if (program := _program_of(folder, socket_file(config))) is not None and int(folder.name) != os.getpid()
    ]


def end_left_behind(found: list[LeftBehind], config: Config, seconds: float = 30.0) -> None:
    """End these processes as supervisord would have, and wait until they are gone; kill those that take too long.

    A process id is never signalled on trust: the process is opened, and then asked again what it is.
    """
    for stop in (True, False):
        opened = dict(_open(found, config))
        for file, each in opened.items():
            soft = signal.SIGINT if each.program == "postgres" else signal.SIGTERM
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(file, soft if stop else signal.SIGKILL)
        deadline = time.monotonic() + seconds
        waiting = set(opened)
        while waiting and time.monotonic() < deadline:
            ended, _, _ = select.select(list(waiting), [], [], deadline - time.monotonic())
            waiting.difference_update(ended)
        for file in opened:
            os.close(file)
        if not waiting:
            return


def _open(found: list[LeftBehind], config: Config) -> Iterator[tuple[int, LeftBehind]]:
    for each in found:
        try:
            file = os.pidfd_open(each.process)
        except ProcessLookupError:
            continue
        if _program_of(PROCESSES / str(each.process), socket_file(config)) == each.program:
            yield file, each
        else:
            os.close(file)


def _program_of(folder: Path, supervisor_socket: Path) -> str | None:
    """Return the program's name that a process got from the supervisord with that socket, or None."""
    try:
        variables = (folder / "environ").read_bytes().split(b"\0")
    except OSError:  # gone, or another user's
        return None
    if b"SUPERVISOR_SERVER_URL=unix://" + os.fsencode(supervisor_socket) not in variables:
        return None
    prefix = b"SUPERVISOR_PROCESS_NAME="
    return next((os.fsdecode(each.removeprefix(prefix)) for each in variables if each.startswith(prefix)), None)
