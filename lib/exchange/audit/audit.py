"""The audit of an exchange: what it goes through, in which order, and what it says where all is well.

It reads the journal, the event logs and the database of an exchange, running or stopped, or of a copy, and writes
nothing. It shares with what it audits the types of requests and events and the matching core, and nothing else: formats
are read, events folded and rows worked out by code of its own.

The database is looked at as of one moment; then the journal's end is noted, and is the bound of all that follows: so
what is stored is within it. An event log may be longer by the time it is read: what it has behind the bound must be in
the journal by then, and is not looked at otherwise.

To add a check: a function here, called in `audit` or `go_through`; where it has to see every request of an asset, a
step of the pass in `asset.py`, as that of the snapshots is; of the journal, in `journal.py`, as that of the seals is.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from exchange.audit.asset import AssetAudit
from exchange.audit.database import Database, DatabaseError, one_line
from exchange.audit.findings import AssetSummary, Difference, Summary, UnknownAsset, Unreadable
from exchange.audit.journal import Journal, Progress
from exchange.audit.log_files import LogFiles
from exchange.config import Config
from exchange.core.requests import EXCHANGE


def audit(
    config: Config,
    dsn: str | None,
    archives: Sequence[Path] = (),
    asset: str | None = None,
    complete: bool = False,
    progress: Progress = lambda what, done, total: None,
) -> Summary:
    """Audit all of it, or one `asset` and the journal.

    `dsn` is None where the database is to be left out; `archives` are folders with older segments, of the journal or as
    `exchange archive` moves them. With `complete` all that the journal has must have arrived everywhere. Raises
    Difference with the first that is found; Unreadable where there is nothing to read; UnknownAsset; OSError where a
    file can't be read.
    """
    started = time.monotonic()
    database = None if dsn is None else Database(dsn)
    try:
        journal = Journal([config.journal_folder, *older_segments(archives, "journal"), *archives])
        summary = go_through(config, journal, database, archives, asset, progress)
    except DatabaseError as error:
        raise Unreadable(f"the database can't be read any more: {one_line(error)}; verify again") from None
    finally:
        if database is not None:
            database.close()
    check_ends(journal, summary)
    check_complete(summary, complete)
    summary.seconds = time.monotonic() - started
    return summary


def go_through(
    config: Config,
    journal: Journal,
    database: Database | None,
    archives: Sequence[Path],
    asset: str | None,
    progress: Progress,
) -> Summary:
    """Go through the journal, then through one asset after the other."""
    journal.read(progress)
    if asset is not None and asset not in journal.queues:
        raise UnknownAsset(f"asset {asset!r}: the journal has none; it has {', '.join(filter(None, journal.queues))}")
    summary = summary_of(journal)
    if asset is None:
        check_other_assets(config, journal, database, summary)
    for name in [asset] if asset is not None else [name for name in journal.queues if name != EXCHANGE]:
        folders = [config.event_log_folder(name), *older_segments(archives, "events", name)]
        if not config.hosts.runs_matching(name) and not any(any(folder.glob("*.log")) for folder in folders):
            raise Unreadable(
                f"{name}: its event log is on host {config.hosts.of_asset(name)}: copy that host's data folder to this "
                "one, and name the copy with --journal"
            )
        one = AssetAudit(journal, journal.queues[name], folders, database)
        summary.assets.append(one.run(progress))
        note_asset(summary, one)
    return summary


def older_segments(archives: Sequence[Path], *names: str) -> list[Path]:
    """Return the folders of a log in archives that `exchange archive` made: they are laid out as the data folder is."""
    return [folder for archive in archives if (folder := archive.joinpath(*names)).is_dir()]


def summary_of(journal: Journal) -> Summary:
    """Return the beginning of a summary, and note what of the journal could not be looked at."""
    summary = Summary(
        requests=journal.requests,
        orders=journal.orders,
        journal_bytes=journal.bytes,
        journal_segments=len(journal.files.segments),
        journal_seals=journal.seals.checked,
        notes=list(journal.notes),
    )
    if journal.unfinished:
        place = journal.file_at(journal.end.position)
        summary.notes.append(
            f"{place['file']}: offset {place.get('offset', 0)}: the journal ends with an unfinished write of "
            f"{journal.unfinished} bytes, which was never acknowledged; the next start cuts it off"
        )
    if journal.cut_group:
        summary.notes.append(
            f"the journal ends within a mass cancel, of which there are {journal.cut_group} records: it was never "
            "acknowledged; the next start cuts it off"
        )
    if not journal.whole:
        summary.notes.append(
            f"the journal's segments before position {journal.files.segments[0].base} are elsewhere (name their folder "
            "with --journal): whether client_order_ids and order ids repeat those there can't be checked, and of "
            "assets that began there the matching core is run from the oldest snapshot on only"
        )
    return summary


def note_asset(summary: Summary, one: AssetAudit) -> None:
    """Note what of an asset could not be looked at, or was passed over."""
    summary.notes += one.notes
    if not one.whole:
        summary.notes.append(
            f"{one.asset}: neither the journal nor the event log has its first requests: of orders that were entered "
            "before, and of the database's rows of that time, nothing can be said"
        )
    elif one.queue.first == 1 and one.log_first > 1:
        summary.notes.append(f"{one.asset}: the event log's segments before request {one.log_first} are elsewhere")


def check_other_assets(config: Config, journal: Journal, database: Database | None, summary: Summary) -> None:
    """Check that neither event logs nor tables know of an asset that the journal has not.

    Where the journal's first segments are elsewhere, all that it had of such an asset may be there: that is noted.
    """
    elsewhere: set[str] = set()
    for folder in sorted((config.data / "events").glob("*/")):
        if folder.name in journal.queues:
            continue
        log = LogFiles("event log", [folder], durable=False, remedy="")
        for position, _, _ in log.records():
            if folder.name in journal.ends_now():
                break  # it was added since the bound
            if not journal.whole:
                elsewhere.add(folder.name)
                break
            raise Difference(
                "event log",
                f"there are events of {folder.name}, and the journal has no request of it",
                asset=folder.name,
                remedy="restore the journal that belongs to it from a copy, or move the folder away",
            ).at(**log.file_at(position))
    for table, assets in (database.assets() if database is not None else {}).items():
        for name in sorted(assets - journal.queues.keys()):
            if not journal.whole:
                elsewhere.add(name)
                continue
            raise Difference(
                "database",
                f"{table}: there are rows of {name}, and the journal has no request of it",
                asset=name,
                table=table,
                expected="no row",
                found=f"rows of {name}",
                remedy="give this exchange the database that belongs to it",
            )
        if not table.startswith("a"):
            stored = database.applied if database is not None else {}
            for name in sorted(assets - stored.keys()):
                raise Difference(
                    "database", f"{table}: there are rows of {name}, and no row of applied", asset=name, table=table
                )
    summary.notes += [
        f"{name}: the journal has no request of it behind the segments that are elsewhere (name their folder with "
        "--journal): its event log and rows were not checked"
        for name in sorted(elsewhere)
    ]


def check_ends(journal: Journal, summary: Summary) -> None:
    """Check that the journal has by now whatever an event log has behind the bound."""
    ahead = [one for one in summary.assets if one.event_log > one.journal]
    ends = journal.ends_now() if ahead else {}
    for one in ahead:
        if one.event_log > ends.get(one.asset, 0):
            place = journal.file_at(journal.end.position)
            raise Difference(
                "journal",
                "the event log is ahead of the journal, which has lost its end",
                asset=one.asset,
                sequence=one.event_log,
                expected=f"request {one.event_log} of {one.asset}, the event log's last",
                found=f"request {ends.get(one.asset, 0)} as the journal's last",
                remedy="stop the exchange, and restore the journal from a copy: what it acknowledged is not in it",
            ).at(**place)
        one.event_log = one.journal  # behind the bound nothing else was checked


def check_complete(summary: Summary, complete: bool) -> None:
    """Note what has not arrived yet; with `complete` that is a difference."""
    for one in summary.assets:
        summary.lagging += lagging(one)
    if complete and summary.lagging:
        raise Difference(
            "complete",
            summary.lagging[0],
            expected="all of the journal, by --complete",
            remedy="start the exchange, wait until exchange status shows nothing behind, stop it, and verify again",
        )


def lagging(one: AssetSummary) -> list[str]:
    """Return what of an asset's journal has not arrived."""
    found = []
    if one.event_log < one.journal:
        found.append(f"{one.asset}: the event log has {one.event_log} of {one.journal} requests")
    if one.database is not None and one.database < one.journal:
        found.append(f"{one.asset}: the database has {one.database} of {one.journal} requests")
    return found
