"""A simulated trading day, for people and for machines."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click
import msgspec

from exchange.client.commands.common import REJECTED, console, load_config, print_json, table
from exchange.client.day import ASSET_TABLE, Day, DayResult
from exchange.client.decimals import price_text, quantity_text
from exchange.client.orders import OrderEntry
from exchange.client.own_exchange import OwnExchange
from exchange.client.times import time_text
from exchange.config import Config
from exchange.core.asset import Asset

SHOWN_DIFFERENCES = 10


def run_day(
    asset: str, *, seed: int, orders: int, accounts: int, here: bool, keep: bool, timeout: float, as_json: bool
) -> None:
    """Simulate a day on an exchange of its own, or (`here`) on the configured one, and print what it was.

    Ends with status 1 where something differs from what it has to be.
    """
    started = time.monotonic()
    with _exchange(asset, here, keep, timeout, as_json) as config:
        definition = config.asset(asset)
        day = Day(
            config,
            asset,
            seed=seed,
            orders=orders,
            accounts=accounts,
            on_change=lambda what: None if as_json else click.echo(f"{asset} {what}", err=True),
        )
        result = day.run()
    seconds = time.monotonic() - started
    if as_json:
        folder = {"folder": str(config.data.parent)} if keep and not here else {}
        fields = msgspec.to_builtins(result)
        print_json({"type": "day", "ok": result.ok, "seconds": round(seconds, 1)} | folder | fields)
    else:
        show_day(result, definition)
        if keep and not here:
            click.echo(f"Its exchange is kept in {config.data.parent}, stopped.")
    if not result.ok:
        click.get_current_context().exit(REJECTED)


@contextmanager
def _exchange(asset: str, here: bool, keep: bool, timeout: float, as_json: bool) -> Iterator[Config]:
    """Yield the configuration of the exchange to simulate on, which runs until the end of the block."""
    if here:
        config = load_config()
        with OrderEntry(config.endpoints.order_entry, timeout=timeout) as orders:
            orders.ping()  # raises soon where there is none
        yield config
        return
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that what was started is ended
    with OwnExchange(ASSET_TABLE.format(asset=asset), keep) as own:
        if not as_json:
            click.echo(f"Starting an exchange with a clock that can be set, in {own.folder}.", err=True)
        yield own.start()


def show_day(result: DayResult, asset: Asset) -> None:
    """Print the day's timetable, and whether all was as it has to be."""
    shown = table("time (UTC)", "status", ">auction", ">volume", ">trades", ">continuous", ">volume", "prices")
    for period in result.periods:
        prices = ""
        if period.lowest is not None and period.highest is not None and period.last is not None:
            lowest, highest, last = (price_text(each, asset) for each in (period.lowest, period.highest, period.last))
            prices = f"{lowest} to {highest}, last {last}"
        elif period.status == "call":
            prices = f"{period.indicative_changes} indicative prices"
        auction = period.auction_price is not None and period.auction_trades
        shown.add_row(
            time_text(period.time).removesuffix(".000000"),
            f"{period.status} ({period.reason})",
            price_text(period.auction_price, asset) if auction and period.auction_price is not None else "",
            quantity_text(period.auction_quantity, asset) if auction else "",
            str(period.auction_trades) if auction else "",
            str(period.trades) if period.trades else "",
            quantity_text(period.quantity, asset) if period.trades else "",
            prices,
        )
    console().print(shown)
    click.echo()
    reports = ", ".join(f"{count} {kind}" for kind, count in result.reports.items())
    volume = quantity_text(result.quantity, asset)
    click.echo(f"{result.orders} requests (seed {result.seed}): {result.trades} trades of {volume}")
    click.echo(f"reports: {reports}")
    for difference in result.differences[:SHOWN_DIFFERENCES]:
        click.echo(f"difference: {difference}")
    if len(result.differences) > SHOWN_DIFFERENCES:
        click.echo(f"... and {len(result.differences) - SHOWN_DIFFERENCES} more")
    click.echo(
        "check passed: statuses, auctions, sums and every order's quantities are as they have to be"
        if result.ok
        else "check failed"
    )
