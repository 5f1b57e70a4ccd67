"""The configuration: two TOML files and three environment variables, read once, checked whole, frozen.

Every mistake is found and named in one go, as `file: key = value: rule`.
"""

import hashlib
import os
import re
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal

from exchange.assets_file import read_assets
from exchange.core.asset import ACCOUNT_NAME, MAX_INTEGER, Asset
from exchange.core.risk import LIMITS, RiskLimit
from exchange.hosts import Hosts, check_addresses, check_ports, read_hosts, read_places

PROJECT = Path(__file__).resolve().parents[2]
ENDPOINT = re.compile(r"tcp://(\*|[A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})\Z")
MOST_RISK_LIMITS = 10_000
LONGEST_RUN_FOLDER = 68  # leaves room for the longest socket name within the 107 bytes of a Unix socket's path


class ConfigError(Exception):
    """One or more mistakes in the configuration, a line each."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


@dataclass(frozen=True)
class Endpoints:
    order_entry: str = "tcp://127.0.0.1:5555"
    market_data: str = "tcp://127.0.0.1:5556"
    private: str = "tcp://127.0.0.1:5557"
    query: str = "tcp://127.0.0.1:5558"


@dataclass(frozen=True)
class Database:
    dsn: str = ""


@dataclass(frozen=True)
class Security:
    mode: str = "none"
    allow_remote: bool = False


@dataclass(frozen=True)
class Journal:
    segment_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True)
class Limits:
    max_backlog: int = 1_000_000
    max_batch_requests: int = 1_000
    max_remembered_ids: int = 100_000_000
    retained_messages: int = 10_000_000
    retained_orders: int = 100_000
    send_queue: int = 100_000


@dataclass(frozen=True)
class Snapshots:
    requests: int = 250_000
    seconds: int = 3_600


@dataclass(frozen=True)
class Clock:
    mode: Literal["system", "manual"] = "system"


@dataclass(frozen=True)
class Config:
    """All that a daemon or a client is told, and where its files and sockets are."""

    folder: Path
    data: Path
    endpoints: Endpoints
    database: Database
    security: Security
    journal: Journal
    limits: Limits
    snapshots: Snapshots
    clock: Clock
    assets: tuple[Asset, ...]
    risk_limits: tuple[RiskLimit, ...]
    hosts: Hosts = field(default_factory=Hosts)

    def asset(self, name: str) -> Asset:
        """Return an asset's definition. Raises ConfigError where there is none of that name."""
        for asset in self.assets:
            if asset.asset == name:
                return asset
        known = ", ".join(asset.asset for asset in self.assets)
        raise ConfigError([f"{self.folder / 'assets.toml'}: no asset {name!r}; there are {known}"])

    @property
    def journal_folder(self) -> Path:
        return self.data / "journal"

    def event_log_folder(self, asset: str) -> Path:
        return self.data / "events" / asset

    @property
    def status_folder(self) -> Path:
        return self.data / "status"

    @property
    def run_folder(self) -> Path:
        """The folder of the sockets between daemons: in the data folder where its path is short enough for a socket.

        Elsewhere it is named by the owner of the data folder, so that root finds it as well.
        """
        inside = self.data / "run"
        if len(os.fsencode(inside)) <= LONGEST_RUN_FOLDER:
            return inside
        digest = hashlib.sha256(os.fsencode(self.data)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"exchange-{self.owner}-{digest}"

    @property
    def owner(self) -> int:
        """The user id of the data folder's owner; where there is no folder yet, of who would make it."""
        try:
            return self.data.stat().st_uid
        except OSError:
            return os.geteuid()

    @property
    def assets_here(self) -> tuple[Asset, ...]:
        """The assets whose matching daemons run on this host."""
        return tuple(asset for asset in self.assets if self.hosts.runs_matching(asset.asset))

    def orders_endpoint(self, asset: str) -> str:
        """Where the order handler PUSHes an asset's requests."""
        return self.hosts.orders(asset) or f"ipc://{self.run_folder}/orders-{asset}"

    @property
    def journal_endpoint(self) -> str:
        """Where the order handler serves its journal again, and hears how far the matching daemons are."""
        return self.hosts.journal() or f"ipc://{self.run_folder}/journal"

    @property
    def admin_endpoint(self) -> str:
        """Where the order handler takes the operator's acts."""
        return f"ipc://{self.run_folder}/admin"

    def events_endpoint(self, asset: str) -> str:
        """Where a matching daemon PUBlishes its events."""
        return self.hosts.events(asset) or f"ipc://{self.run_folder}/events-{asset}"

    def event_log_endpoint(self, asset: str) -> str:
        """Where a matching daemon serves its event log again."""
        return self.hosts.event_log(asset) or f"ipc://{self.run_folder}/event-log-{asset}"

    def listens(self) -> dict[str, str]:
        """Return all TCP endpoints that daemons of this host listen at, each by what it is called in a message."""
        found = {
            f"endpoints.{name}": endpoint
            for name, endpoint in vars(self.endpoints).items()
            if self.hosts.runs(SERVED_BY[name])
        }
        for host, what, endpoint in self.hosts.listens(iter(asset.asset for asset in self.assets)):
            if host == self.hosts.here:
                found[what] = endpoint
        return found


# -- reading -----------------------------------------------------------------------------------------------------------

Rule = tuple[Callable[[Any], bool], str]


def whole(smallest: int, largest: int = 2**40) -> Rule:
    return (
        lambda value: type(value) is int and smallest <= value <= largest,
        f"must be a whole number of {smallest} to {largest}",
    )


def is_endpoint(value: object) -> bool:
    match = ENDPOINT.match(value) if isinstance(value, str) else None
    return match is not None and 1 <= int(match[2]) <= 65535


SERVED_BY = {  # by which daemon each endpoint for clients is
    "order_entry": "order_handler",
    "market_data": "notifier",
    "private": "notifier",
    "query": "notifier",
}
ENDPOINT_RULE: Rule = (is_endpoint, 'must be an address like "tcp://127.0.0.1:5555", with a port of 1 to 65535')
RULES: dict[str, tuple[type, dict[str, Rule]]] = {
    "endpoints": (
        Endpoints,
        dict.fromkeys(("order_entry", "market_data", "private", "query"), ENDPOINT_RULE),
    ),
    "database": (
        Database,
        {"dsn": (lambda value: isinstance(value, str), "must be text: a PostgreSQL connection string, or empty")},
    ),
    "security": (
        Security,
        {
            "mode": (lambda value: value == "none", 'must be "none": this version has no other mode yet'),
            "allow_remote": (lambda value: isinstance(value, bool), "must be true or false"),
        },
    ),
    "journal": (Journal, {"segment_bytes": whole(1024 * 1024, 2**30)}),
    "limits": (
        Limits,
        {
            "max_backlog": whole(1),
            "max_batch_requests": whole(1, 10_000),
            "max_remembered_ids": whole(1),
            "retained_messages": whole(1_000),
            "retained_orders": whole(1),
            "send_queue": whole(1, 10_000_000),
        },
    ),
    "snapshots": (Snapshots, {"requests": whole(1), "seconds": whole(1)}),
    "clock": (
        Clock,
        {"mode": (lambda value: value in ("system", "manual"), 'must be "system" or "manual"')},
    ),
}


RISK_RULES: dict[str, Rule] = {
    "account": (
        lambda value: isinstance(value, str) and bool(ACCOUNT_NAME.match(value)),
        "must be 1 to 32 characters of a-z 0-9 _ -; left out, it is every account",
    ),
    "asset": (
        lambda value: isinstance(value, str) and value != "",
        "must be an asset's name; left out, it is every asset",
    ),
    "max_order_quantity": whole(0, MAX_INTEGER),
    "max_order_notional": whole(0, MAX_INTEGER**2),
    "max_open_orders": whole(0),
    "max_requests_per_second": whole(1, 1_000_000),
}


def load(folder: Path | None = None, data: Path | None = None) -> Config:
    """Read the configuration. Raises ConfigError with every mistake found.

    The folders are, unless given, those of `EXCHANGE_CONFIG` and `EXCHANGE_DATA`, else `config` and `var` of the
    checkout. Of several hosts this one is that of `EXCHANGE_HOST`, else that which the data folder is of, else the
    first.
    """
    folder = (folder or Path(os.environ.get("EXCHANGE_CONFIG") or PROJECT / "config")).absolute()
    data = (data or Path(os.environ.get("EXCHANGE_DATA") or PROJECT / "var")).absolute()
    mistakes: list[str] = []
    exchange_file, assets_file = folder / "exchange.toml", folder / "assets.toml"
    given = _read_toml(exchange_file, mistakes)
    risk_limits = given.pop("risk_limit", [])
    host_tables = given.pop("host", [])
    sections = _read_sections(exchange_file, given, mistakes)
    machines = read_hosts(exchange_file, host_tables, mistakes)
    check_addresses(exchange_file, machines, sections["security"].allow_remote, mistakes)
    of_exchange = len(mistakes)
    tables = _read_toml(assets_file, mistakes)
    hosts = Hosts()
    assets: tuple[Asset, ...] = ()
    if len(mistakes) == of_exchange:
        about_hosts = [] if of_exchange else mistakes  # of hosts that are not sound nothing can be said
        places = read_places(assets_file, tables.get("asset"), machines, about_hosts)
        hosts = Hosts(machines, _this_host(data, [host.name for host in machines], about_hosts), places)
        assets = read_assets(assets_file, tables, mistakes)
    limits = _read_risk_limits(exchange_file, risk_limits, assets, mistakes)
    if hosts and not mistakes:
        clients = {name: (SERVED_BY[name], endpoint) for name, endpoint in vars(sections["endpoints"]).items()}
        check_ports(exchange_file, assets_file, hosts, clients, mistakes)
    if mistakes:
        raise ConfigError(mistakes)
    return Config(folder, data, assets=assets, risk_limits=tuple(limits), hosts=hosts, **sections)


def host_file(data: Path) -> Path:
    """Return the file of a data folder that says which host's it is, where there are several."""
    return data / "host"


def _this_host(data: Path, names: list[str], mistakes: list[str]) -> str:
    """Return the name of this host, "" where there are none."""
    told = os.environ.get("EXCHANGE_HOST", "")
    path = host_file(data)
    try:
        noted = path.read_text("utf-8").strip()
    except OSError:
        noted = ""
    if told and noted and told != noted:
        mistakes.append(
            f"EXCHANGE_HOST = {told!r}: must be {noted!r}: {data} is that host's data folder; set EXCHANGE_DATA to "
            f"another folder, or, where the host has another name now, remove {path}"
        )
    source = f"EXCHANGE_HOST = {told!r}" if told else f"{path}: {noted!r}"
    name = told or noted
    if name and name not in names:
        there_are = f"there are {', '.join(names)}" if names else "exchange.toml has no [[host]]"
        mistakes.append(f"{source}: no such host; {there_are}")
    return name or (names[0] if names else "")


def _read_toml(path: Path, mistakes: list[str]) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        mistakes.append(f"{path}: there is no such file; set EXCHANGE_CONFIG to the folder that holds it")
    except ValueError as error:  # of TOML, of UTF-8, or of a number with thousands of digits
        mistakes.append(f"{path}: not TOML: {error}")
    except OSError as error:
        mistakes.append(f"{path}: can't be read: {error.strerror}")
    return {}


def _read_sections(path: Path, given: dict[str, Any], mistakes: list[str]) -> dict[str, Any]:
    """Return each section, made of the values that are as they should be; the others are named in `mistakes`."""
    for name in given:
        if name not in RULES:
            mistakes.append(f"{path}: [{name}]: no such section; there are {', '.join(RULES)}, risk_limit, host")
    sections: dict[str, Any] = {}
    for name, (section_type, rules) in RULES.items():
        values = given.get(name, {})
        sound: dict[str, Any] = {}
        if not isinstance(values, dict):
            mistakes.append(f"{path}: {name} = {values!r}: must be a table, [{name}]")
            values = {}
        for key, value in values.items():
            if key not in rules:
                mistakes.append(f"{path}: {name}.{key} = {value!r}: no such key; there are {', '.join(rules)}")
            elif not rules[key][0](value):
                mistakes.append(f"{path}: {name}.{key} = {value!r}: {rules[key][1]}")
            else:
                sound[key] = value
        sections[name] = section_type(**sound)
    _check_endpoints(path, sections["endpoints"], sections["security"], mistakes)
    return sections


def _check_endpoints(path: Path, endpoints: Endpoints, security: Security, mistakes: list[str]) -> None:
    seen: dict[str, str] = {}
    for name, endpoint in vars(endpoints).items():
        port = endpoint.rsplit(":", 1)[1]
        if port in seen:
            mistakes.append(f"{path}: endpoints.{name} = {endpoint!r}: the port is that of endpoints.{seen[port]} too")
        seen[port] = name
        if security.mode == "none" and not security.allow_remote and not _is_loopback(endpoint):
            mistakes.append(
                f"{path}: endpoints.{name} = {endpoint!r}: with security.mode = 'none' anybody who reaches it can "
                "trade for any account, so it must be a loopback address, or security.allow_remote = true"
            )


def _is_loopback(endpoint: str) -> bool:
    host = endpoint.removeprefix("tcp://").rsplit(":", 1)[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host in ("localhost", "lo")


def _read_risk_limits(path: Path, given: object, assets: Sequence[Asset], mistakes: list[str]) -> list[RiskLimit]:
    """Return the sound entries; `assets` are those of `assets.toml`, empty where that could not be read."""
    if not isinstance(given, list) or not all(isinstance(table, dict) for table in given):
        mistakes.append(f"{path}: risk_limit = {given!r}: each risk limit is a table [[risk_limit]]")
        return []
    if len(given) > MOST_RISK_LIMITS:
        mistakes.append(f"{path}: {len(given)} tables [[risk_limit]]: must be at most {MOST_RISK_LIMITS}")
    names = {asset.asset for asset in assets}
    seen: dict[tuple[str, str, str], int] = {}
    limits: list[RiskLimit] = []
    for number, table in enumerate(given, 1):
        where = f"{path}: [[risk_limit]] number {number}"
        before = len(mistakes)
        for key, value in table.items():
            if key not in RISK_RULES:
                mistakes.append(f"{where}: {key} = {value!r}: no such key; there are {', '.join(RISK_RULES)}")
            elif not RISK_RULES[key][0](value):
                mistakes.append(f"{where}: {key} = {value!r}: {RISK_RULES[key][1]}")
        if len(mistakes) > before:
            continue
        limit = RiskLimit(**table)
        if limit.asset and names and limit.asset not in names:
            mistakes.append(
                f"{where}: asset = {limit.asset!r}: must be one of assets.toml's: {', '.join(sorted(names))}"
            )
        if not any(key in table for key in LIMITS):
            mistakes.append(f"{where}: limits nothing; there are {', '.join(LIMITS)}")
        if limit.asset and "max_requests_per_second" in table:
            mistakes.append(
                f"{where}: max_requests_per_second = {limit.max_requests_per_second}: is of an account's requests over "
                "all assets: it can't stand with an asset; give it an entry of its own"
            )
        for key in LIMITS:
            place = (limit.account, limit.asset, key)
            if key in table and seen.setdefault(place, number) != number:
                mistakes.append(
                    f"{where}: {key} = {table[key]!r}: number {seen[place]} limits that for the same account and asset "
                    "already"
                )
        limits.append(limit)
    return limits
