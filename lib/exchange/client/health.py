"""How the exchange is: its daemons' status pages, and whether its endpoints answer."""

import os
import time
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from exchange.client.errors import Rejected, Unreachable
from exchange.client.orders import OrderEntry
from exchange.client.queries import Queries
from exchange.client.slow_peers import SlowPeer, slow_peers
from exchange.config import Config
from exchange.status import STALE_NS, Status, read_pages

DOWNSTREAM = ("logger", "notifier")


class DaemonHealth(Struct, frozen=True):
    """A daemon by its page. `age_ms` is how old the page is; `behind` what each asset has yet to do."""

    daemon: str
    alive: bool
    stale: bool
    state: str
    pid: int | None = None
    uptime_ms: int | None = None
    age_ms: int | None = None
    processed: dict[str, int] = {}
    behind: dict[str, int] = {}
    details: dict[str, Any] = {}


class EndpointHealth(Struct, frozen=True):
    """An endpoint and the round trip of one request to it."""

    endpoint: str
    reachable: bool
    round_trip_ms: float | None = None
    text: str = ""


class Health(Struct, frozen=True):
    """`statuses` are the listed assets' trading statuses; empty where the query endpoint does not answer.

    `slow_peers` are clients and subscribers that do not keep up with what they are sent. `host` is the name of this
    host where there are several: `daemons` are its own then, and, where the order handler is, the matching daemons of
    the others, by what it has heard of them.
    """

    daemons: list[DaemonHealth]
    order_entry: EndpointHealth
    query: EndpointHealth
    statuses: dict[str, str] = {}
    slow_peers: list[SlowPeer] = []
    host: str = ""


def check_health(config: Config, timeout: float) -> Health:
    """Read the pages in the data folder and ask both endpoints, each for at most `timeout` seconds."""
    pages = {page["daemon"]: page for page in read_pages(config.status_folder)}
    runs = config.hosts.runs
    names = ["order_handler"] if runs("order_handler") else []
    names += [f"matching-{asset.asset}" for asset in config.assets_here]
    names += [name for name in DOWNSTREAM if runs(name)]
    # Besides those of the configuration only what runs: the page of an asset that was taken off the list stays.
    names += sorted(name for name, page in pages.items() if name not in names and is_alive(page["pid"]))
    elsewhere = {asset.asset for asset in config.assets} - {asset.asset for asset in config.assets_here}
    query, statuses = _query(config.endpoints.query, timeout)
    daemons = [_daemon(name, pages.get(name)) for name in names]
    daemons = [_compared(daemon, pages) if daemon.daemon in DOWNSTREAM else daemon for daemon in daemons]
    if runs("order_handler"):
        daemons += _elsewhere(config, pages.get("order_handler"))
    if not config.database.dsn and runs("postgres"):
        daemons.append(_postgres(config.data / "postgres" / "data" / "postmaster.pid"))
    return Health(
        daemons,
        _order_entry(config.endpoints.order_entry, timeout),
        query,
        # The query endpoint knows those that were taken off the list too.
        {asset: status for asset, status in statuses.items() if f"matching-{asset}" in names or asset in elsewhere},
        slow_peers(
            (
                config.endpoints.order_entry,
                config.endpoints.market_data,
                config.endpoints.private,
                config.endpoints.query,
            )
        ),
        config.hosts.here,
    )


def _daemon(name: str, page: Status | None) -> DaemonHealth:
    if page is None:
        return DaemonHealth(name, alive=False, stale=False, state="never started with this data folder")
    now = time.time_ns()
    process = process_state(page["pid"])
    alive = process not in GONE
    stale = now - page["time"] > STALE_NS
    state = page["state"]
    if not alive:
        state = f"dead; was: {state}"
    elif process in STOPPED:
        state = f"stopped by a signal (SIGCONT has it go on); was: {state}"
    elif stale:
        state = f"frozen; was: {state}"
    return DaemonHealth(
        name,
        alive=alive,
        stale=stale,
        state=state,
        pid=page["pid"],
        uptime_ms=(now - page["started"]) // 1_000_000,
        age_ms=(now - page["time"]) // 1_000_000,
        processed=page["processed"],
        behind=page["behind"],
        details=page["details"],
    )


def _elsewhere(config: Config, page: Status | None) -> list[DaemonHealth]:
    """Return the matching daemons of other hosts, as the order handler's page knows them."""
    found: list[DaemonHealth] = []
    for name in [asset.asset for asset in config.assets if asset not in config.assets_here]:
        host = config.hosts.of_asset(name)
        daemon = f"matching-{name}"
        if page is None or not is_alive(page["pid"]):
            state = f"on host {host}; the order handler, which would hear of it, does not run"
            found.append(DaemonHealth(daemon, alive=False, stale=False, state=state))
            continue
        taken, behind = page["processed"].get(name, 0), page["behind"].get(name, 0)
        heard = page["details"].get("heard_seconds", {}).get(name)
        age_ms = (time.time_ns() - page["time"]) // 1_000_000
        heard_ms = None if heard is None else round(heard * 1000) + age_ms
        alive = heard_ms is not None and heard_ms * 1_000_000 <= STALE_NS
        said = "since the order handler started" if heard_ms is None else f"for {heard_ms / 1000:.0f} s"
        found.append(
            DaemonHealth(
                daemon,
                alive=alive,
                stale=not alive,
                state=f"on host {host}, heard of" if alive else f"on host {host}; not heard of {said}",
                age_ms=heard_ms,
                processed={name: taken - behind},
                behind={name: behind},
            )
        )
    return found


def _compared(daemon: DaemonHealth, pages: dict[str, Status]) -> DaemonHealth:
    """Return a daemon's health with what it has yet to do by the matching daemons' pages, where that is more.

    It knows of what it was sent and has read; more may wait in its sockets. Pages are up to a second apart.
    """
    behind = dict(daemon.behind)
    for asset, done in daemon.processed.items():
        page = pages.get(f"matching-{asset}")
        if page is not None:
            behind[asset] = max(behind.get(asset, 0), page["processed"].get(asset, 0) - done)
    return msgspec.structs.replace(daemon, behind=behind)


def _postgres(pid_file: Path) -> DaemonHealth:
    """Return the embedded database's health, by the file that it keeps while it runs."""
    name = "postgres"
    try:
        lines = pid_file.read_text().splitlines()
        pid, started = int(lines[0]), int(lines[2])
    except FileNotFoundError:
        return DaemonHealth(name, alive=False, stale=False, state="not running")
    except (OSError, ValueError, IndexError) as error:
        return DaemonHealth(name, alive=False, stale=False, state=f"unknown: {pid_file} can't be read: {error}")
    process = process_state(pid)
    if process in GONE:
        return DaemonHealth(name, alive=False, stale=False, state="dead", pid=pid)
    state = lines[7].strip() if len(lines) > 7 else "starting"
    if process in STOPPED:
        state = f"stopped by a signal (SIGCONT has it go on); was: {state}"
    uptime_ms = max(0, time.time_ns() // 1_000_000 - started * 1000)
    return DaemonHealth(
        name, alive=True, stale=False, state="running" if state == "ready" else state, pid=pid, uptime_ms=uptime_ms
    )


GONE = ("", "Z", "X")  # no such process, or one that has ended and waits for its parent
STOPPED = ("T", "t")


def process_state(pid: int) -> str:
    """Return a process's state as the kernel has it, such as `S`; empty where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "R"  # it is there, and this system does not say more


def is_alive(pid: int) -> bool:
    """Return whether there is such a process, and it has not ended already."""
    return process_state(pid) not in GONE


def _order_entry(endpoint: str, timeout: float) -> EndpointHealth:
    with OrderEntry(endpoint, timeout=timeout) as orders:
        try:
            return EndpointHealth(endpoint, True, orders.ping() * 1000)
        except (Unreachable, Rejected) as error:
            return EndpointHealth(endpoint, isinstance(error, Rejected), text=str(error))


def _query(endpoint: str, timeout: float) -> tuple[EndpointHealth, dict[str, str]]:
    started = time.monotonic()
    with Queries(endpoint, timeout=timeout) as queries:
        try:
            assets = queries.assets()
        except (Unreachable, Rejected) as error:
            return EndpointHealth(endpoint, isinstance(error, Rejected), text=str(error)), {}
        round_trip_ms = (time.monotonic() - started) * 1000
        return EndpointHealth(endpoint, True, round_trip_ms), {asset.asset: asset.status for asset in assets}
