"""Old segments of journal and event logs, moved away or deleted."""

from pathlib import Path

import click

from exchange.client.commands.common import become, json_option, load_config


@click.command(name="archive")
@click.option(
    "--older-than",
    required=True,
    type=click.FloatRange(min=3, max=36_500),
    metavar="DAYS",
    help="What was written to within that many days stays; 3 at least.",
)
@click.option("--to", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER", help="Move it there.")
@click.option("--delete", is_flag=True, help="Delete it: nothing can be checked or remade from it any more.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and why the rest stays.")
@click.option("--quiet", is_flag=True, help="Say nothing of logs of which nothing goes.")
@json_option
def archive_command(
    older_than: float, to: Path | None, delete: bool, dry_run: bool, quiet: bool, as_json: bool
) -> None:
    """Move away, or delete, the oldest segments of journal and event logs, which nobody needs any more.

    A segment goes only when it is old enough and order handler, matching, logger and notifier are all past it. The
    exchange may run meanwhile. To put segments back: docs/reliability.md.
    """
    if (to is None) == (not delete):
        raise click.UsageError("say where to: --to FOLDER or --delete")
    config = load_config()
    arguments = [f"--older-than={older_than}", "--delete" if to is None else f"--to={to.absolute()}"]
    for option, given in (("--dry-run", dry_run), ("--quiet", quiet), ("--json", as_json)):
        arguments += [option] if given else []
    become("daemons.archive", config, arguments)
