"""Many orders at once: recorded flow, and a synthetic market."""

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import click
import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from exchange.client.commands.common import REJECTED, console, json_option, load_config, print_json, timeout_option
from exchange.client.commands.day import run_day
from exchange.client.decimals import price_text, quantity_text
from exchange.client.orders import OrderEntry
from exchange.client.queries import ListedAsset, Queries
from exchange.client.replay import LONGEST_PREFIX, Replay, replay
from exchange.client.simulate import Simulation, simulate
from exchange.config import Config

SHOWN_DIFFERENCES = 5
LINE_S = 2.0  # between lines of progress where standard output is no terminal
DRAW_S = 0.1


class ProgressReport:
    """Progress on a terminal as a bar, elsewhere as a line now and then, with JSON not at all."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.due = 0.0
        self.bar: Progress | None = None
        if not as_json and sys.stdout.isatty():
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("acked, {task.fields[trades]} trades"),
                TimeElapsedColumn(),
                console=console(),
                auto_refresh=False,
            )

    def __call__(self, what: str, acked: int, total: int, trades: int) -> None:
        now = time.monotonic()
        if self.as_json or now < self.due:
            return
        if self.bar is None:
            if self.due:  # not right at the start
                click.echo(f"{what}: {acked} of {total} acked, {trades} trades")
            self.due = now + LINE_S
            return
        self.due = now + DRAW_S
        if not self.bar.tasks:
            self.bar.add_task(what, total=total, trades=0)
        self.bar.update(self.bar.tasks[0].id, completed=acked, trades=trades, refresh=True)

    def __enter__(self) -> Self:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()


def _check_prefix(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not (value.isascii() and value.isprintable() and len(value) <= LONGEST_PREFIX):
        raise click.BadParameter(f"{value!r}: at most {LONGEST_PREFIX} printable ASCII characters")
    return value


@click.command(name="replay")
@click.argument("flow", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--asset", required=True, help="The asset to replay into.")
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), help="Rows a second.  [default: as fast as it goes]"
)
@click.option("--check", is_flag=True, help="Compare the executions with the recorded ones.")
@click.option("--maker", default="replay-maker", show_default=True, help="Account of the orders that rest.")
@click.option("--taker", default="replay-taker", show_default=True, help="Account of the orders that take.")
@click.option("--prefix", callback=_check_prefix, help="Of this run's ids.  [default: a new one]")
@click.option("--window", type=click.IntRange(100, 1_000_000), default=5_000, show_default=True, help="Rows in flight.")
@click.option("--batch", type=click.IntRange(1, 100), default=100, show_default=True, help="Rows in a message.")
@click.option(
    "--patience",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    help="Seconds that the exchange may be away meanwhile.",
)
@timeout_option
@json_option
def replay_command(
    flow: Path,
    asset: str,
    rate: float | None,
    check: bool,
    maker: str,
    taker: str,
    prefix: str | None,
    window: int,
    batch: int,
    patience: float,
    timeout: float,
    as_json: bool,
) -> None:
    """Send recorded order flow (a CSV file, plain or gzipped) into an asset.

    With --check, the executions that come of it are read back from the public and the private topics and compared with
    the recorded ones; ends with status 1 at a difference.
    """
    if maker == taker:
        raise click.UsageError(f"--maker and --taker are both {maker!r}; an account can't trade with itself")
    config = load_config()
    _ping(config, timeout)
    with ProgressReport(as_json) as progress:
        result = replay(
            config,
            flow,
            asset,
            rate=rate,
            check=check,
            maker=maker,
            taker=taker,
            prefix=prefix,
            window=window,
            batch=batch,
            timeout=patience,
            on_progress=lambda now: progress(f"replay into {asset}", now.acks, now.rows, now.trades),
        )
    if as_json:
        print_json(
            {"type": "replay", "ok": result.ok}
            | msgspec.to_builtins(result)
            | {"orders_per_second": round(result.orders_per_second, 1)}
        )
    else:
        show_replay(result)
    if not result.ok:
        click.get_current_context().exit(REJECTED)


def _ping(config: Config, timeout: float) -> None:
    """Raise Unreachable soon, rather than after the patience of a long run, where there is no exchange."""
    with OrderEntry(config.endpoints.order_entry, timeout=timeout) as orders:
        orders.ping()


def show_replay(result: Replay) -> None:
    """Print a replay's closing summary."""
    click.echo(
        f"{result.rows} rows, {result.acks} acks, {result.trades} trades in {result.seconds:.2f} s: "
        f"{result.orders_per_second:,.0f} orders/s"
    )
    if result.checked:
        click.echo(f"all executed and read back after {result.settled_seconds:.2f} s")
    if result.reconnects or result.recovered:
        click.echo(f"{result.reconnects} broken connections, {result.recovered} messages fetched again")
    if result.rejects:
        click.echo(f"{result.rejects} rows were rejected")
    for difference in result.differences[:SHOWN_DIFFERENCES]:
        click.echo(f"difference: {difference}")
    if len(result.differences) > SHOWN_DIFFERENCES:
        click.echo(f"... and {len(result.differences) - SHOWN_DIFFERENCES} more")
    if result.checked:
        click.echo(
            f"check passed: all {result.recorded} executions as recorded"
            if result.ok
            else "check failed: the executions are not the recorded ones"
        )


@click.command(name="simulate")
@click.option("--asset", help="[default: BTC-USD; with --day: ACME]")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same market.")
@click.option("--orders", type=click.IntRange(min=1), help="Requests to send.  [default: 2000; with --day: 600]")
@click.option(
    "--rate", type=click.FloatRange(min=0), default=500.0, show_default=True, help="A second; 0: as fast as it goes."
)
@click.option("--accounts", type=click.IntRange(2, 1_000), default=5, show_default=True)
@click.option("--day", is_flag=True, help="A whole trading day, with auctions, in moments; see above.")
@click.option("--here", is_flag=True, help="With --day: on the configured exchange, whose clock must be manual.")
@click.option("--keep", is_flag=True, help="With --day: keep the folder of the exchange that was started for it.")
@timeout_option
@json_option
def simulate_command(
    asset: str | None,
    seed: int,
    orders: int | None,
    rate: float,
    accounts: int,
    day: bool,
    here: bool,
    keep: bool,
    timeout: float,
    as_json: bool,
) -> None:
    """Trade a synthetic market, to see the exchange at work: limit, market and ioc orders, amends and cancels.

    With --day: a trading day from its opening call to its close, with every kind of order, auctions and a volatility
    interruption, on an exchange of its own with a clock that is set forward, or --here. It is followed on the feeds,
    shown as a timetable, and checked: ends with status 1 where something is not as it has to be.
    """
    if day:
        if keep and here:
            raise click.UsageError("--keep is of the exchange that --day starts, and --here starts none")
        run_day(
            asset or "ACME",
            seed=seed,
            orders=orders or 600,
            accounts=accounts,
            here=here,
            keep=keep,
            timeout=timeout,
            as_json=as_json,
        )
        return
    if here or keep:
        raise click.UsageError("--here and --keep are options of --day")
    asset = asset or "BTC-USD"
    config = load_config()
    _ping(config, timeout)
    with ProgressReport(as_json) as progress, Queries(config.endpoints.query, timeout=timeout) as queries:
        listed = queries.asset(asset)
        result = simulate(
            config,
            asset,
            seed=seed,
            orders=orders or 2_000,
            rate=rate or None,
            accounts=accounts,
            on_progress=lambda now: progress(f"simulate {asset}", now.acks, now.orders, now.trades),
        )
    if as_json:
        print_json({"type": "simulation"} | msgspec.to_builtins(result))
    else:
        show_simulation(result, listed)


def show_simulation(result: Simulation, asset: ListedAsset) -> None:
    """Print a simulation's closing summary."""
    rate = result.sent / result.seconds if result.seconds else 0.0
    click.echo(
        f"{result.sent} requests, {result.acks} acked in {result.seconds:.2f} s: {rate:,.0f}/s (seed {result.seed})"
    )
    for reason, count in sorted(result.rejects.items()):
        click.echo(f"{count} rejected: {reason}")
    if result.last_price is None or result.lowest is None or result.highest is None:
        click.echo("no trades")
        return
    lowest, highest, last = (price_text(each, asset) for each in (result.lowest, result.highest, result.last_price))
    click.echo(
        f"{result.trades} trades, {quantity_text(result.volume, asset)} {asset.asset} at {lowest} to {highest}, "
        f"last {last}; see `exchange book {asset.asset}` and `exchange trades {asset.asset}`"
    )
