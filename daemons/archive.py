"""Move away, or delete, what nobody needs any more of journal and event logs: `python -m daemons.archive`.

What `exchange archive` starts. It is no daemon: it ends when it is done. Exit status: 0 done, 1 it could not be done,
2 wrong usage, 3 the database, which has to be asked, is away.
"""

import argparse
import logging
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from exchange import config as configuration
from exchange.config import Config, ConfigError
from exchange.pipeline.disk import Disk
from exchange.pipeline.log_format import Damaged
from exchange.pipeline.retention import Plan, Retention
from exchange.status import AlreadyRunning, Lock
from exchange.store.embedded import database_dsn
from exchange.store.writer import read_applied

DONE, FAILED, USAGE, AWAY = 0, 1, 2, 3
DAY_S = 86_400.0
LEAST_DAYS = 3.0  # the ids of the current and of the previous trading day are the key to safe retries


def main(arguments: list[str]) -> int:
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    options = read_options(arguments)
    try:
        config = configuration.load()
        destination = None if options.to is None else options.to.resolve()
        if destination is not None and destination.is_relative_to(config.data.resolve()):
            return tell_error(options, "usage", f"--to {destination}: is in the data folder; name one outside", USAGE)
        lock = Lock(config.data / "archive.lock", "another `exchange archive` on this data folder")
        stored = {asset: place.sequence for asset, place in applied(config).items()}
        copies = 2 if options.delete else 1
        retention = Retention(Disk(), config, stored, time.time() - options.older_than * DAY_S, copies)
        plans = [plan for plan in retention.plans() if plan.segments or not options.quiet]
        moves = [
            (plan, destination and destination / plan.folder.relative_to(config.data))
            for plan in plans
            if plan.segments
        ]
        for plan, folder in moves:
            if folder is not None:
                retention.check(plan, folder)
        for plan, folder in () if options.dry_run else moves:
            retention.carry_out(plan, folder)
        lock.release()
    except (ConfigError, AlreadyRunning) as error:
        return tell_error(options, "usage", str(error), USAGE)
    except psycopg.OperationalError as error:
        return tell_error(options, "unreachable", f"the database can't be asked what it has: {error}", AWAY)
    except (Damaged, OSError, ValueError) as error:
        return tell_error(options, "failed", str(error), FAILED)
    show(options, plans)
    return DONE


def read_options(arguments: list[str]) -> Any:
    parser = argparse.ArgumentParser(prog="exchange archive", description="See docs/reliability.md.")
    parser.add_argument("--older-than", type=days, required=True, metavar="DAYS")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--to", type=Path, metavar="FOLDER")
    where.add_argument("--delete", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(arguments)


def days(text: str) -> float:
    value = float(text)
    if not LEAST_DAYS <= value <= 36_500:
        raise argparse.ArgumentTypeError(
            f"{text}: must be {LEAST_DAYS:g} to 36500 days: what was sent on this trading day or the one before may be "
            "sent again, and is looked up"
        )
    return value


def applied(config: Config) -> Any:
    """Return how far each asset is stored, nothing where the logger has not made its tables yet."""
    with psycopg.connect(database_dsn(config), connect_timeout=10) as connection:
        try:
            return read_applied(connection)
        except psycopg.errors.UndefinedTable:
            return {}


def show(options: Any, plans: list[Plan]) -> None:
    if options.json:
        fields = [msgspec.to_builtins(plan, enc_hook=str) for plan in plans]
        print(msgspec.json.encode({"type": "archive", "done": not options.dry_run, "logs": fields}).decode())
        return
    done = "deleted" if options.delete else f"moved to {options.to}"
    verb = "would be " + done if options.dry_run else done
    for plan in plans:
        print(f"{plan.log}: {plan.segments} segments ({plan.bytes / 2**20:,.0f} MiB) {verb}; {plan.kept}")


def tell_error(options: Any, reason: str, text: str, status: int) -> int:
    if options.json:
        print(msgspec.json.encode({"type": "error", "reason": reason, "text": text}).decode())
    else:
        print(f"error: {text}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
