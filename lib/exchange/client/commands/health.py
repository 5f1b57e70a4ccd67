"""How the exchange is."""

import click

from exchange.client.commands.common import UNREACHABLE, console, json_option, load_config, print_json, table
from exchange.client.health import DaemonHealth, EndpointHealth, check_health


@click.command(name="status")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1, max=60),
    default=2.0,
    show_default=True,
    help="Seconds to wait for each endpoint.",
)
@json_option
def status_command(timeout: float, as_json: bool) -> None:
    """Show every daemon, what it has done and what it has yet to do, whether the endpoints answer, and what is open.

    Ends with status 3 where order entry can't be reached.
    """
    health = check_health(load_config(), timeout)
    if as_json:
        print_json(health)
    else:
        shown = table("daemon", ">pid", "state", ">processed", ">behind", ">up", "page")
        for daemon in health.daemons:
            shown.add_row(*row(daemon))
        console().print(shown)
        click.echo()
        if health.host:
            click.echo(f"This is host {health.host}; the other hosts' own daemons are in their own status.")
        for name, endpoint in (("order entry", health.order_entry), ("query", health.query)):
            click.echo(describe(name, endpoint))
        for peer in health.slow_peers:
            click.echo(
                f"{peer.endpoint}: {peer.peer} does not read what it is sent: {peer.waiting_bytes} bytes wait for it, "
                "and what has no room there it loses"
            )
        for status, assets in by_status(health.statuses).items():
            click.echo(f"{status}: {', '.join(assets)}")
    if not health.order_entry.reachable:
        click.get_current_context().exit(UNREACHABLE)


def by_status(statuses: dict[str, str]) -> dict[str, list[str]]:
    """Return the assets by trading status."""
    found: dict[str, list[str]] = {}
    for asset, status in statuses.items():
        found.setdefault(status, []).append(asset)
    return found


def row(daemon: DaemonHealth) -> list[str]:
    """Return a daemon's cells."""
    if daemon.age_ms is None:  # one without a page
        pid = "-" if daemon.pid is None else str(daemon.pid)
        up = "-" if daemon.uptime_ms is None else duration(daemon.uptime_ms // 1000)
        return [daemon.daemon, pid, daemon.state, "-", "-", up, "-"]
    age = f"{daemon.age_ms / 1000:.1f} s old"
    return [
        daemon.daemon,
        "-" if daemon.pid is None else str(daemon.pid),
        daemon.state,
        str(sum(daemon.processed.values())),
        str(sum(daemon.behind.values())),
        duration(daemon.uptime_ms // 1000) if daemon.alive and daemon.uptime_ms is not None else "-",
        f"STALE, {age}" if daemon.stale else age,
    ]


def duration(seconds: int) -> str:
    """Return a duration in its largest two units."""
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    if seconds < 86400:
        return f"{seconds // 3600} h {seconds % 3600 // 60} min"
    return f"{seconds // 86400} d {seconds % 86400 // 3600} h"


def describe(name: str, endpoint: EndpointHealth) -> str:
    """Return whether an endpoint answers, in words."""
    if endpoint.round_trip_ms is not None:
        return f"{name}: {endpoint.endpoint} answers in {endpoint.round_trip_ms:.2f} ms"
    return f"{name}: {endpoint.text}"
