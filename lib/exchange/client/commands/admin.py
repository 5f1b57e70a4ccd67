"""What an operator does to a running exchange, on the machine it runs on."""

from typing import Any

import click
import msgspec

from exchange.client.admin import Admin, add_asset, remove_asset
from exchange.client.commands.common import check_account, json_option, load_config, print_json
from exchange.client.errors import ClientError
from exchange.client.market_data import Feed
from exchange.client.queries import Queries
from exchange.client.times import duration_ns, time_ns, time_text
from exchange.config import Config
from exchange.core import messages
from exchange.core.admin_messages import Done
from exchange.core.asset import Status

SEEN_S = 2.0  # for the notifier to say what came of an act
ADD_S = 60.0  # for a new program to start, on a machine that has other things to do

admin_timeout = click.option(
    "--timeout", type=click.FloatRange(min=0.1, max=3600), default=10.0, show_default=True, help="Seconds to wait."
)
asset_timeout = click.option(
    "--timeout", type=click.FloatRange(min=1, max=3600), default=ADD_S, show_default=True, help="Seconds to wait."
)


@click.group(name="admin")
def admin_command() -> None:
    """Open, halt and close assets, cancel for accounts, add and remove assets.

    Only for the owner of the exchange's data folder, and root. Each act is in the journal, with who it was.
    """


def _status_command(name: str, status: Status, help_text: str) -> click.Command:
    @click.command(name=name, help=help_text)
    @click.argument("asset")
    @admin_timeout
    @json_option
    def command(asset: str, timeout: float, as_json: bool) -> None:
        config = load_config()
        admin = Admin(config, timeout=timeout)
        with _StatusSeen(config, asset) as seen:
            done = admin.change_status(asset, status)
            now = seen.wait() if done.sequences else None
        if as_json:
            found = msgspec.to_builtins(now) if now is not None else None
            print_json(_builtins(done) | {"asset": asset, "status": found})
        elif not done.sequences:
            click.echo(f"{asset} is {status} already: nothing was changed")
        elif now is None:
            click.echo(f"{asset}: taken, at sequence {done.sequences[asset]}; what came of it can't be seen yet")
        else:
            words = "in a call" if now.status == "call" else now.status
            click.echo(f"{asset} is {words} ({now.reason}), at sequence {done.sequences[asset]}")

    return command


for each in (
    _status_command(
        "open", "open", "Open ASSET: a call ends with its auction, and trading is continuous from then on."
    ),
    _status_command("halt", "halted", "Halt ASSET: nothing trades, and only cancels are taken."),
    _status_command("call", "call", "Begin a call in ASSET: orders are taken, and nothing trades until its auction."),
    _status_command("close", "closed", "Close ASSET: a call ends with its auction; only cancels are taken then."),
):
    admin_command.add_command(each)


@admin_command.command(name="cancel")
@click.argument("account", callback=check_account)
@click.argument("asset", required=False)
@admin_timeout
@json_option
def cancel_command(account: str, asset: str | None, timeout: float, as_json: bool) -> None:
    """Cancel all of ACCOUNT's live orders, in one ASSET or in all."""
    done = Admin(load_config(), timeout=timeout).cancel(account, asset)
    if as_json:
        print_json(_builtins(done))
    elif done.sequences:
        places = ", ".join(f"{name} at sequence {sequence}" for name, sequence in sorted(done.sequences.items()))
        click.echo(f"the orders of {account} are canceled: {places}")
    else:
        where = asset if asset is not None else "an asset that is traded now"
        click.echo(f"{account} never had an order in {where}: there is nothing to cancel")


@admin_command.command(name="clock")
@click.argument("time", required=False)
@admin_timeout
@json_option
def clock_command(time: str | None, timeout: float, as_json: bool) -> None:
    """Show the exchange's time, or set a manual clock forward to TIME.

    TIME is in ISO 8601 (2027-03-01T17:30:00Z; UTC unless it says otherwise), or a duration such as 90m or 1h30m, from
    what the clock shows now.
    """
    admin = Admin(load_config(), timeout=timeout)
    done = admin.clock()
    if time is not None:
        step = duration_ns(time)
        until = time_ns(time) if step is None else int(done.time or 0) + step
        set_ = admin.set_clock(until)
        done = msgspec.structs.replace(set_, mode=done.mode, time=until)
    if as_json:
        print_json(_builtins(done))
    else:
        click.echo(f"{time_text(int(done.time or 0))} UTC, by a {done.mode} clock")


@admin_command.group(name="asset")
def asset_command() -> None:
    """Add and remove assets while the exchange runs."""


@asset_command.command(name="add")
@click.argument("name")
@click.argument("settings", metavar="[KEY=VALUE ...]", nargs=-1)
@asset_timeout
@json_option
def add_command(name: str, settings: tuple[str, ...], timeout: float, as_json: bool) -> None:
    """List the asset NAME, and wait until orders for it are taken.

    KEY=VALUE are its settings, as in assets.toml: price_scale=2 tick_size=5. They are written there; where the file has
    NAME already, leave them out: what it has is listed. Should a step fail, repeat the command.
    """
    given: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise click.UsageError(f"{setting!r}: is no KEY=VALUE, such as price_scale=2")
        given[key] = value
    done = add_asset(load_config(), name, given, timeout)
    if as_json:
        print_json(_builtins(done) | {"asset": name})
    else:
        click.echo(f"{name} is listed: orders for it are taken")


@asset_command.command(name="remove")
@click.argument("name")
@asset_timeout
@json_option
def remove_command(name: str, timeout: float, as_json: bool) -> None:
    """Take the asset NAME off the list, its orders canceled. Its history stays, and it can be added again.

    Should a step fail, repeat the command.
    """
    done = remove_asset(load_config(), name, timeout)
    if as_json:
        print_json(_builtins(done) | {"asset": name})
    else:
        click.echo(f"{name} is off the list: its orders are canceled, and its history is kept")


def _builtins(done: Done) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(done)
    return {"sequences": {}} | fields


class _StatusSeen:
    """Follows an asset's status topic, where the notifier is up to it; acts are carried out all the same."""

    def __init__(self, config: Config, asset: str) -> None:
        self.queries = Queries(config.endpoints.query, timeout=SEEN_S)
        self.feed: Feed | None = None
        try:
            self.feed = Feed(config.endpoints.market_data, self.queries, [f"status/{asset}/"])
        except ClientError:
            self.feed = None

    def wait(self) -> messages.Status | None:
        """Return the status that the act has led to, or None where that can't be seen."""
        last = None
        try:
            while self.feed is not None and (delivery := self.feed.receive(SEEN_S if last is None else 0.05)):
                if isinstance(delivery.message, messages.Status):
                    last = delivery.message
        except ClientError:
            return last
        return last

    def __enter__(self) -> "_StatusSeen":
        return self

    def __exit__(self, *_: object) -> None:
        self.queries.close()
        if self.feed is not None:
            self.feed.close()
