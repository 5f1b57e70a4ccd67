"""The machines that an exchange is spread over: which daemon runs where, and at which addresses they find each other.

By default there are none named: everything is on one machine. Otherwise each machine has both files of the
configuration, the same ones, and is told which of them it is (`EXCHANGE_HOST`). What two daemons of one machine say to
each other goes over Unix sockets, as ever; what crosses from one to another goes over TCP, to the address of the host
whose daemon listens.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

SPREAD = ("order_handler", "logger", "notifier")  # the daemons, besides matching, that a host may be given
ASSET_PORTS = 3  # of an asset: its requests, its events, its events again
JOURNAL_PORT = 5559
SMALL = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")

Rule = tuple[Callable[[Any], bool], str]


@dataclass(frozen=True)
class Host:
    """A machine. Its daemons listen at `address` and nowhere else.

    `daemons` are those that run there besides the matching daemons of its assets. `journal_port` counts where the
    order handler is: there the matching daemons of other hosts ask for its journal again.
    """

    name: str
    address: str
    daemons: tuple[str, ...] = ()
    journal_port: int = JOURNAL_PORT

    def endpoint(self, port: int) -> str:
        return f"tcp://[{self.address}]:{port}" if ":" in self.address else f"tcp://{self.address}:{port}"


@dataclass(frozen=True)
class Place:
    """Where an asset is matched: on which host, and the first of its three ports, 0 where it needs none."""

    host: str
    port: int = 0


@dataclass(frozen=True)
class Hosts:
    """All machines, by name in their order, and which of them this one is. None: there is this one only."""

    hosts: tuple[Host, ...] = ()
    here: str = ""
    places: Mapping[str, Place] = field(default_factory=dict)  # of assets that are not on the first host

    def __bool__(self) -> bool:
        return bool(self.hosts)

    def host(self, name: str) -> Host:
        return next(host for host in self.hosts if host.name == name)

    def of_daemon(self, daemon: str) -> str:
        """Return the host of the order handler, the logger or the notifier: the first, unless another names it."""
        if daemon == "postgres":
            daemon = "logger"  # which reaches it over a Unix socket
        return next((host.name for host in self.hosts if daemon in host.daemons), self.first)

    def of_asset(self, asset: str) -> str:
        """Return the host of an asset's matching daemon."""
        place = self.places.get(asset)
        return self.first if place is None else place.host

    @property
    def first(self) -> str:
        return self.hosts[0].name if self.hosts else ""

    def runs(self, daemon: str) -> bool:
        """Return whether a daemon runs on this host: `order_handler`, `logger`, `notifier` or `postgres`."""
        return self.of_daemon(daemon) == self.here

    def runs_matching(self, asset: str) -> bool:
        return self.of_asset(asset) == self.here

    # -- endpoints: "" where it is a Unix socket -----------------------------------------------------------------------

    def orders(self, asset: str) -> str:
        """Return where the order handler PUSHes an asset's requests."""
        handler = self.of_daemon("order_handler")
        return "" if self.of_asset(asset) == handler else self.host(handler).endpoint(self.places[asset].port)

    def events(self, asset: str) -> str:
        """Return where a matching daemon PUBlishes its events; of one that all its readers are with, nowhere."""
        return self._of_events(asset, 1)

    def event_log(self, asset: str) -> str:
        return self._of_events(asset, 2)

    def _of_events(self, asset: str, port: int) -> str:
        host = self.of_asset(asset)
        if self.of_daemon("logger") == self.of_daemon("notifier") == host:
            return ""
        return self.host(host).endpoint(self.places[asset].port + port)

    def journal(self) -> str:
        handler = self.of_daemon("order_handler")
        if all(self.of_asset(asset) == handler for asset in (*self.places, "")):
            return ""
        host = self.host(handler)
        return host.endpoint(host.journal_port)

    def needs_ports(self, asset: str) -> bool:
        """Return whether an asset's matching daemon speaks to another host."""
        return len({self.of_asset(asset), *map(self.of_daemon, SPREAD)}) > 1

    def listens(self, assets: Iterator[str]) -> Iterator[tuple[str, str, str]]:
        """Yield (host, what for, endpoint) of all that daemons listen at for those of other hosts."""
        handler = self.of_daemon("order_handler")
        if endpoint := self.journal():
            yield handler, "journal_port", endpoint
        for asset in assets:
            if asset in self.places and not self.places[asset].port:
                continue
            if endpoint := self.orders(asset):
                yield handler, f"{asset}'s requests", endpoint
            for what, endpoint in (("events", self.events(asset)), ("events again", self.event_log(asset))):
                if endpoint:
                    yield self.of_asset(asset), f"{asset}'s {what}", endpoint


# -- reading -----------------------------------------------------------------------------------------------------------


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 32 and SMALL.issuperset(value)


def _is_address(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        address = ip_address(value)
    except ValueError:
        return False
    return not address.is_unspecified and not address.is_multicast


def _is_port(value: object, count: int = 1) -> bool:
    return type(value) is int and 1 <= value <= 65536 - count


RULES: dict[str, Rule] = {
    "name": (_is_name, "must be 1 to 32 characters of a-z 0-9 -"),
    "address": (_is_address, "must be the IP address at which the other hosts reach it, such as 10.0.0.2"),
    "daemons": (
        lambda value: isinstance(value, list) and len(set(map(str, value))) == len(value) and {*value} <= {*SPREAD},
        f"must be a list of some of {', '.join(SPREAD)}, each once; matching daemons go with their assets",
    ),
    "journal_port": (_is_port, "must be a port of 1 to 65535"),
}
PLACE_RULES: dict[str, Rule] = {
    "host": (lambda value: isinstance(value, str), "must be the name of a [[host]] of exchange.toml"),
    "port": (
        lambda value: _is_port(value, ASSET_PORTS),
        f"must be a port of 1 to {65536 - ASSET_PORTS}, the first of {ASSET_PORTS} that follow one another",
    ),
}


def read_hosts(path: Path, given: object, mistakes: list[str]) -> tuple[Host, ...]:
    """Return the hosts of the tables [[host]] of exchange.toml; what is wrong with them is added to `mistakes`."""
    if not isinstance(given, list) or not all(isinstance(table, dict) for table in given):
        mistakes.append(f"{path}: host = {given!r}: each host is a table [[host]]")
        return ()
    hosts: list[Host] = []
    before = len(mistakes)
    taken: dict[str, str] = {}  # daemon -> host
    for number, table in enumerate(given, 1):
        where = f"{path}: [[host]] {table.get('name', f'number {number}')}"
        sound = len(mistakes)
        for key, value in table.items():
            if key not in RULES:
                mistakes.append(f"{where}: {key} = {value!r}: no such key; there are {', '.join(RULES)}")
            elif not RULES[key][0](value):
                mistakes.append(f"{where}: {key} = {value!r}: {RULES[key][1]}")
        mistakes.extend(f"{where}: {key}: is missing; every host has one" for key in ("name", "address") - table.keys())
        if len(mistakes) > sound:
            continue
        host = Host(**table | {"daemons": tuple(table.get("daemons", ()))})
        if any(each.name == host.name for each in hosts):
            mistakes.append(f"{where}: name = {host.name!r}: there is one of that name already")
        for daemon in host.daemons:
            if taken.setdefault(daemon, host.name) != host.name:
                mistakes.append(f"{where}: daemons: {daemon} runs on {taken[daemon]} already, and there is one of each")
        hosts.append(host)
    return tuple(hosts) if len(mistakes) == before else ()


def read_places(path: Path, tables: object, hosts: tuple[Host, ...], mistakes: list[str]) -> dict[str, Place]:
    """Take `host` and `port` out of the tables [[asset]] of assets.toml, and return what they say, by asset.

    What is wrong with them is added to `mistakes`; with the tables otherwise, it is not this function's to say.
    """
    places: dict[str, Place] = {}
    for table in tables if isinstance(tables, list) else ():
        if not isinstance(table, dict):
            continue
        given = {key: table.pop(key) for key in PLACE_RULES if key in table}
        asset = table.get("asset")
        where = f"{path}: [[asset]] {asset}"
        names = [host.name for host in hosts]
        wrong = [key for key, value in given.items() if not PLACE_RULES[key][0](value)]
        mistakes.extend(f"{where}: {key} = {given[key]!r}: {PLACE_RULES[key][1]}" for key in wrong)
        if wrong or not isinstance(asset, str):
            continue
        if given and not names:
            key = next(iter(given))
            mistakes.append(
                f"{where}: {key} = {given[key]!r}: is for an exchange on several hosts, and exchange.toml has no "
                "[[host]]; add the hosts there, or take it out"
            )
        elif names and given.get("host", names[0]) not in names:
            mistakes.append(f"{where}: host = {given['host']!r}: no such host; there are {', '.join(names)}")
        elif names:
            places[asset] = Place(given.get("host", names[0]), given.get("port", 0))
    return places


def check_ports(
    exchange_file: Path,
    assets_file: Path,
    hosts: Hosts,
    clients: Mapping[str, tuple[str, str]],
    mistakes: list[str],
) -> None:
    """Find assets that need ports and have none, and two daemons that would listen at one address and port.

    `clients` are the endpoints for clients: by name, the daemon that listens there, and the endpoint.
    """
    for asset in hosts.places:
        if hosts.needs_ports(asset) and not hosts.places[asset].port:
            mistakes.append(
                f"{assets_file}: [[asset]] {asset}: port: is missing; its matching daemon, on {hosts.of_asset(asset)}, "
                f"speaks to another host: give it the first of {ASSET_PORTS} free ports"
            )
    seen: dict[tuple[str, str], str] = {}
    for name, (daemon, endpoint) in clients.items():
        host = hosts.host(hosts.of_daemon(daemon))
        seen[str(ip_address(host.address)), endpoint.rpartition(":")[2]] = f"endpoints.{name}"
    for name, what, endpoint in hosts.listens(iter(hosts.places)):
        host = hosts.host(name)
        port = endpoint.rpartition(":")[2]
        key = str(ip_address(host.address)), port
        if key in seen:
            file = exchange_file if what == "journal_port" else assets_file
            mistakes.append(
                f"{file}: {what}: port {port} of {host.address} (host {name}) is that of {seen[key]} too; every "
                f"asset has {ASSET_PORTS} ports of its own, from its `port` on"
            )
        seen.setdefault(key, what)


def check_addresses(path: Path, hosts: tuple[Host, ...], allow_remote: bool, mistakes: list[str]) -> None:
    """Find hosts whose daemons would be reached from a network, where that is not allowed."""
    for host in hosts:
        if not ip_address(host.address).is_loopback and not allow_remote:
            mistakes.append(
                f"{path}: [[host]] {host.name}: address = {host.address!r}: what the hosts' daemons say to each other "
                "is neither encrypted nor authenticated: whoever reaches it can read all orders and stop the exchange; "
                "so it must be a loopback address, or security.allow_remote = true, on a network that is the hosts' "
                "own (WireGuard makes one)"
            )
