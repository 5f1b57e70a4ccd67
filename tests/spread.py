"""An exchange on two hosts as real processes, each host with a data folder of its own, and PostgreSQL elsewhere.

The hosts are network namespaces, or share this machine's loopback address.
"""

import copy
import os
import random
import signal
import socket
import sys
from itertools import islice
from pathlib import Path

from exchange import config as configuration
from exchange.config import Config
from exchange.store import embedded
from tests.daemons import Daemons
from tests.namespaces import Machine
from tests.support import OUTSIDE_FOLDERS, WORKERS, Daemon, free_ports

HERE = Machine("", "127.0.0.1")
FIRST, SECOND = "main", "second"
DATABASE_PORT = 5432
PORTS = range(13_800, 15_000)  # below those of other tests, which take one at a time


def host_tables(machines: tuple[Machine, Machine], journal_port: int, moved: tuple[str, ...]) -> str:
    """Return the tables of exchange.toml for these two machines; `moved` are the second one's daemons."""
    first, second = machines
    return (
        "[security]\nallow_remote = true\n"
        f'[[host]]\nname = "{FIRST}"\naddress = "{first.address}"\njournal_port = {journal_port}\n'
        f'[[host]]\nname = "{SECOND}"\naddress = "{second.address}"\ndaemons = {list(moved)}\n'
    )


class HostDaemon(Daemon):
    """A daemon of one of the hosts."""

    def __init__(self, config: Config, machine: Machine, *arguments: str) -> None:
        through = machine.through if machine.name else ()
        super().__init__(config, *arguments, environment={"EXCHANGE_HOST": config.hosts.here}, through=through)


class Spread(Daemons):
    """Order handler, logger and notifier on the first host, every asset of `there` on the second, others on the first.

    With `database_there` PostgreSQL is on the second host too, reached over TCP; with `embedded` it is the first host's
    own; else there is none, nor a logger. `moved` daemons, the notifier perhaps, are on the second host.
    `config` is the first host's, `second` the other's.
    """

    def __init__(
        self,
        folder: Path,
        here: tuple[str, ...],
        there: tuple[str, ...],
        extra: str = "",
        machines: tuple[Machine, Machine] = (HERE, HERE),
        database_there: bool = False,
        asset_settings: str = "",
        embedded: bool = False,
        moved: tuple[str, ...] = (),
    ) -> None:
        ports = free_ports(5)
        settings = folder / "config"
        settings.mkdir(parents=True)
        names = ("order_entry", "market_data", "private", "query")
        endpoints = "".join(
            f'{name} = "tcp://{machines[0].address}:{port}"\n' for name, port in zip(names, ports, strict=False)
        )
        dsn = f'[database]\ndsn = "host={machines[1].address} port={DATABASE_PORT} dbname=exchange user=exchange"\n'
        (settings / "exchange.toml").write_text(
            f"[endpoints]\n{endpoints}{dsn if database_there else ''}{extra}{host_tables(machines, ports[4], moved)}"
        )
        free = three_free_ports(len(here) + len(there))
        tables = [
            f'[[asset]]\nasset = "{name}"\n{asset_settings}' + (f"port = {port}\n" if moved else "")
            for name, port in zip(here, free, strict=False)
        ]
        tables += [
            f'[[asset]]\nasset = "{name}"\n{asset_settings}host = "{SECOND}"\nport = {port}\n'
            for name, port in zip(there, free[len(here) :], strict=True)
        ]
        (settings / "assets.toml").write_text("".join(tables))
        self.config = self._load(settings, folder / "first" / "var", FIRST)
        self.second = self._load(settings, folder / "second" / "var", SECOND)
        first, second = machines
        self.order_handler = HostDaemon(self.config, first, "order_handler")
        self.matching = {name: HostDaemon(self.config, first, "matching", name) for name in here}
        self.matching |= {name: HostDaemon(self.second, second, "matching", name) for name in there}
        place = (self.second, second) if "notifier" in moved else (self.config, first)
        self.notifier = HostDaemon(*place, "notifier")
        self.logger = HostDaemon(self.config, first, "logger")
        self.all = [self.order_handler, *self.matching.values(), self.notifier]
        if database_there:
            (folder / "database").mkdir()
            self.database = self._load(settings, folder / "database" / "var", SECOND)
            self.all += [self.logger, DatabaseServer(self.database, second, second.address)]
        elif embedded:
            self.database = self.config
            self.all += [self.logger, HostDaemon(self.config, first, "postgres")]

    def _load(self, settings: Path, data: Path, host: str) -> Config:
        data.mkdir(parents=True)
        configuration.host_file(data).write_text(host)
        config = configuration.load(settings, data)
        if config.run_folder.parent != config.data:
            OUTSIDE_FOLDERS.append(config.run_folder)
        return config

    @property
    def dsn(self) -> str:
        """The database over its Unix socket, which is reached from every namespace."""
        return embedded.dsn(self.database)

    def on_the_second(self) -> "Spread":
        """Return this exchange with the second host's folders."""
        other = copy.copy(self)
        other.config = self.second
        return other

    def stop(self) -> None:
        for daemon in self.all:
            if not isinstance(daemon, DatabaseServer):
                daemon.signal(signal.SIGTERM)
        for daemon in self.all:
            if not isinstance(daemon, DatabaseServer):
                assert daemon.wait(60) == 0, f"{daemon.arguments}: {daemon.output()[-4000:]}"


def three_free_ports(count: int) -> list[int]:
    """Return `count` ports that are free, as the two after each are, and that no test in another process is given."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    candidates = list(PORTS[3 * worker :: 3 * WORKERS])
    random.shuffle(candidates)
    return list(islice((port for port in candidates if all(map(is_free, range(port, port + 3)))), count))


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HERE.address, port))
        except OSError:
            return False
    return True


class DatabaseServer(HostDaemon):
    """PostgreSQL as the exchange embeds it, listening on TCP too: this module run as a program."""

    package = "tests"

    def __init__(self, config: Config, machine: Machine, address: str) -> None:
        super().__init__(config, machine, "spread", address)


def serve_database(address: str) -> None:
    """Become a PostgreSQL for this configuration's data folder, which trusts whoever reaches the address."""
    config = configuration.load()
    server = embedded.prepare(config)
    access = server.data / "pg_hba.conf"
    line = "host all all 0.0.0.0/0 trust\n"
    if line not in access.read_text():
        with access.open("a") as file:
            file.write(line)
    execve = os.execve

    def listening(path: str, command: list[str], environment: dict[str, str]) -> None:
        execve(path, [*command, "-c", f"listen_addresses={address}", "-c", f"port={DATABASE_PORT}"], environment)

    os.execve = listening  # type: ignore[assignment]
    embedded.become(server)


if __name__ == "__main__":
    serve_database(sys.argv[1])
