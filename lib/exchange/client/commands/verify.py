"""Whether the exchange's records agree with each other."""

from pathlib import Path

import click

from exchange.client.commands.common import become, json_option, load_config


@click.command(name="verify")
@click.option("--asset", help="Check this asset and the journal only.")
@click.option("--no-database", is_flag=True, help="Leave the database out.")
@click.option(
    "--journal",
    "folders",
    multiple=True,
    metavar="FOLDER",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder with older segments of the journal. May be repeated.",
)
@click.option("--complete", is_flag=True, help="Of a stopped exchange: what lags behind the journal is a difference.")
@json_option
def verify_command(
    asset: str | None, no_database: bool, folders: tuple[Path, ...], complete: bool, as_json: bool
) -> None:
    """Prove, or refute, that journal, event logs and database agree, to the last request, event and row.

    Of the exchange in EXCHANGE_DATA, running or stopped, or a copy of it; nothing is written. Ends with status 1 at the
    first difference, and says where it is and what to do; with 3 where there is nothing to read. See docs/verify.md.
    """
    config = load_config()
    arguments = [f"--asset={asset}"] if asset is not None else []
    arguments += [f"--journal={folder.absolute()}" for folder in folders]
    for option, given in (("--no-database", no_database), ("--complete", complete), ("--json", as_json)):
        arguments += [option] if given else []
    become("daemons.verify", config, arguments)
