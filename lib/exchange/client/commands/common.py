"""What subcommands share: options, output for people and for machines, errors."""

import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import click
import msgspec
from rich.console import Console
from rich.table import Table

from exchange import config as configuration
from exchange.client.errors import ActRefused, Rejected, Unreachable
from exchange.client.queries import ListedAsset, Queries
from exchange.config import Config
from exchange.core.asset import ACCOUNT_NAME

DONE, REJECTED, USAGE, UNREACHABLE = 0, 1, 2, 3
DEFINITION_S = 2.0  # for the query endpoint to say what an asset is, where the configuration says it too
PLAIN_WIDTH = 160  # of tables where standard output is no terminal

Function = TypeVar("Function", bound=Callable[..., Any])


def _note_json(ctx: click.Context, parameter: click.Parameter, value: bool) -> bool:
    ctx.meta["exchange.json"] = value
    return value


def check_account(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    """Return an account's name that is one; the callback of every option and argument that names an account."""
    if not ACCOUNT_NAME.match(value):
        raise click.BadParameter(f"{value!r}: an account is 1 to 32 characters of a-z 0-9 _ -")
    return value


def json_option(function: Function) -> Function:
    return click.option(
        "--json", "as_json", is_flag=True, callback=_note_json, is_eager=True, help="JSON, in the wire's integers."
    )(function)


def timeout_option(function: Function) -> Function:
    return click.option(
        "--timeout",
        type=click.FloatRange(min=0.1, max=3600),
        default=5.0,
        show_default=True,
        help="Seconds to wait for the exchange.",
    )(function)


def account_option(function: Function) -> Function:
    return click.option("--account", required=True, callback=check_account, help="The account that trades.")(function)


def load_config() -> Config:
    """Return the configuration. Raises ConfigError, which ends the command with status 2."""
    return configuration.load()


def become(module: str, config: Config, arguments: list[str]) -> NoReturn:
    """Have this process go on as another program of the exchange: one that works on what a client knows nothing of."""
    environment = os.environ | {"EXCHANGE_CONFIG": str(config.folder), "EXCHANGE_DATA": str(config.data)}
    sys.stdout.flush()
    os.chdir(configuration.PROJECT)
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], environment)


def definition(config: Config, queries: Queries, name: str) -> tuple[ListedAsset, bool]:
    """Return an asset's definition, and whether the query endpoint answered.

    Where it does not, orders can be entered all the same: the configuration knows the scales, which never change.
    Raises Rejected (`unknown_asset`), or Unreachable where neither has it.
    """
    configured = next((asset for asset in config.assets if asset.asset == name), None)
    if configured is None:
        return queries.asset(name), True
    timeout, queries.timeout = queries.timeout, min(queries.timeout, DEFINITION_S)
    try:
        return queries.asset(name), True
    except Unreachable:
        return ListedAsset(**msgspec.structs.asdict(configured), status="unknown"), False
    finally:
        queries.timeout = timeout


def console() -> Console:
    """Return standard output for people; wide, and without colour, where it is no terminal."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)


def table(*columns: str, title: str | None = None) -> Table:
    """Return a table with these columns; a name that starts with `>` is aligned to the right."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        made.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left")
    return made


def print_json(value: Any) -> None:
    """Print one line of JSON."""
    click.echo(msgspec.json.encode(value).decode())


def report_error(ctx: click.Context, error: Exception, status: int) -> NoReturn:
    """Say what went wrong, as JSON on standard output or as text on standard error, and end with the status."""
    if ctx.meta.get("exchange.json"):
        if isinstance(error, Rejected):
            print_json(error.reject)
        elif isinstance(error, ActRefused):
            print_json(error.refused)
        else:
            names = {REJECTED: "failed", USAGE: "usage", UNREACHABLE: "unreachable"}
            print_json({"type": "error", "reason": names[status], "text": str(error)})
    else:
        refused = isinstance(error, Rejected | ActRefused)
        click.echo(f"{'rejected' if refused else 'error'}: {error}", err=True)
    ctx.exit(status)
