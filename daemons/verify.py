"""Audit an exchange, running or stopped, or a copy of its data folder: `python -m daemons.verify`.

What `exchange verify` starts. It is no daemon: it ends with what it found. Exit status: 0 clean, 1 a difference,
2 wrong usage, 3 there is nothing to read.
"""

import argparse
import gc
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from exchange import config as configuration
from exchange.audit.audit import audit
from exchange.audit.findings import AssetSummary, Difference, Finding, Summary, UnknownAsset, Unreadable
from exchange.config import ConfigError
from exchange.store.embedded import database_dsn

CLEAN, DIFFERENT, USAGE, NOTHING = 0, 1, 2, 3
LINE_S = 5.0  # between lines of progress where standard error is no terminal
DRAW_S = 0.1
WIDTH = 160  # of the table, however narrow the terminal: no number may be cut off
REACHED = ("up to request", "event log", "core run", "database")
COUNTED = ("orders", "trades", "events", "accounts", "snapshots", "rows")
NEW_OBJECTS = 100_000  # between two looks for garbage: what is made here has hardly any cycles


def main(arguments: list[str]) -> int:
    options = read_options(arguments)
    gc.set_threshold(NEW_OBJECTS, 50, 100)
    try:
        config = configuration.load()
        dsn = None if options.no_database else database_dsn(config)
        with ProgressReport(options.json) as progress:
            summary = audit(config, dsn, options.journal, options.asset, options.complete, progress)
    except Difference as difference:
        return tell_difference(difference.finding, options.json)
    except (ConfigError, UnknownAsset) as error:
        return tell_error(error, "usage", USAGE, options.json)
    except (Unreadable, OSError) as error:
        return tell_error(error, "unreadable", NOTHING, options.json)
    if options.json:
        print_json({"type": "verify", "ok": True} | msgspec.to_builtins(summary))
    else:
        show(summary)
    return CLEAN


def read_options(arguments: list[str]) -> Any:
    parser = argparse.ArgumentParser(
        prog="python -m daemons.verify", description="Audit an exchange; see docs/verify.md."
    )
    parser.add_argument("--json", action="store_true", help="JSON instead of tables")
    parser.add_argument("--asset", help="this asset and the journal only")
    parser.add_argument("--no-database", action="store_true", help="leave the database out")
    parser.add_argument("--journal", action="append", type=Path, default=[], metavar="FOLDER", help="older segments")
    parser.add_argument("--complete", action="store_true", help="all of the journal must have arrived everywhere")
    return parser.parse_args(arguments)


class ProgressReport:
    """Progress on standard error: on a terminal as a bar, elsewhere as a line now and then, with JSON not at all."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.due = time.monotonic() + (DRAW_S if sys.stderr.isatty() else LINE_S)
        self.bar: Progress | None = None
        self.tasks: dict[str, Any] = {}
        if not as_json and sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
            console = Console(stderr=True, highlight=False)
            self.bar = Progress(*columns, TimeElapsedColumn(), console=console, auto_refresh=False, transient=True)

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if self.as_json or (now < self.due and done < total):
            return
        if self.bar is not None:
            if what not in self.tasks:
                self.tasks[what] = self.bar.add_task(what, total=total)
            self.bar.update(self.tasks[what], completed=done, refresh=True)
            self.due = now + DRAW_S
        elif now >= self.due:
            print(f"{what}: {100 * done // max(total, 1)} %", file=sys.stderr, flush=True)
            self.due = now + LINE_S

    def __enter__(self) -> "ProgressReport":
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()


# -- what came of it ---------------------------------------------------------------------------------------------------


def show(summary: Summary) -> None:
    """Print a clean audit's summary."""
    console = Console(highlight=False, width=WIDTH)
    print(
        f"journal: {summary.requests:,} requests, {summary.orders:,} orders, {summary.journal_bytes:,} bytes in "
        f"{summary.journal_segments} segments, {summary.journal_seals} seals"
    )
    table = Table(box=None, pad_edge=False)
    table.add_column("asset")
    for name in (*REACHED, *COUNTED):
        table.add_column(name, justify="right")
    for one in summary.assets:
        table.add_row(*row(one))
    console.print(table)
    for note in summary.notes:
        print(f"note: {note}")
    for each in summary.lagging:
        print(f"behind: {each}")
    rate = summary.requests / summary.seconds if summary.seconds else 0.0
    print(f"clean: no difference, in {summary.seconds:.1f} s ({rate:,.0f} requests/s)")


def row(one: AssetSummary) -> list[str]:
    counts = (one.orders, one.trades, one.events, one.accounts, one.snapshots)
    return [
        one.asset,
        f"{one.journal:,}" if one.first == 1 else f"{one.first:,} to {one.journal:,}",
        f"{one.event_log:,}",
        core_run(one),
        "-" if one.database is None else f"{one.database:,}",
        *(f"{count:,}" for count in counts),
        "-" if one.database is None else f"{one.rows:,}",
    ]


def core_run(one: AssetSummary) -> str:
    """Return over which requests the matching core was run."""
    if not one.replayed_from:
        return "-"
    return f"{one.journal:,}" if one.replayed_from == 1 else f"{one.replayed_from:,} to {one.journal:,}"


def tell_difference(finding: Finding, as_json: bool) -> int:
    """Print the first difference, with all that an operator needs to look at it."""
    fields: dict[str, Any] = msgspec.to_builtins(finding)
    if as_json:
        print_json({"type": "verify", "ok": False, "difference": fields})
        return DIFFERENT
    print(f"difference: {fields.pop('what')}")
    names = {"sequence": "request", "also": "besides", "remedy": "what to do"}
    for name, value in fields.items():
        print(f"  {names.get(name, name):<10}  {value}")
    return DIFFERENT


def tell_error(error: Exception, reason: str, status: int, as_json: bool) -> int:
    if as_json:
        print_json({"type": "error", "reason": reason, "text": str(error)})
    else:
        print(f"error: {error}", file=sys.stderr)
    return status


def print_json(value: Any) -> None:
    print(msgspec.json.encode(value).decode(), flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
