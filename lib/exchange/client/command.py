"""The command `exchange`: what operators and traders do from a shell.

Exit status: 0 done, 1 rejected or a check failed, 2 wrong usage, 3 the exchange can't be reached. With `--json`
standard output holds JSON only, prices and quantities as the wire's integers; an error is an object too.
"""

from typing import Any

import click

from exchange import __version__
from exchange.client.commands.admin import admin_command
from exchange.client.commands.archive import archive_command
from exchange.client.commands.common import REJECTED, UNREACHABLE, USAGE, report_error
from exchange.client.commands.flows import replay_command, simulate_command
from exchange.client.commands.health import status_command
from exchange.client.commands.market import assets_command, book_command, trades_command, watch_command
from exchange.client.commands.orders import amend_command, cancel_command, order_command, orders_command
from exchange.client.commands.verify import verify_command
from exchange.client.decimals import DecimalError
from exchange.client.errors import ClientError, Unreachable
from exchange.client.flow import FlowError
from exchange.client.times import TimeError
from exchange.config import ConfigError
from exchange.listing import ListingError


class ExchangeGroup(click.Group):
    """Turns the library's errors into the command's exit statuses."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Unreachable as error:
            report_error(ctx, error, UNREACHABLE)
        except (DecimalError, FlowError, TimeError, ConfigError) as error:
            report_error(ctx, error, USAGE)
        except (ClientError, ListingError) as error:
            report_error(ctx, error, REJECTED)


@click.group(cls=ExchangeGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="exchange")
def main() -> None:
    """Trade on the exchange, watch it, and see how it is.

    EXCHANGE_CONFIG names the folder with exchange.toml and assets.toml, EXCHANGE_DATA the exchange's data folder.

    Exit status: 0 done, 1 rejected or a check failed, 2 wrong usage, 3 the exchange can't be reached.
    """


for each in (
    status_command,
    assets_command,
    order_command,
    cancel_command,
    amend_command,
    orders_command,
    book_command,
    trades_command,
    watch_command,
    replay_command,
    simulate_command,
    admin_command,
    verify_command,
    archive_command,
):
    main.add_command(each)


if __name__ == "__main__":
    main()
