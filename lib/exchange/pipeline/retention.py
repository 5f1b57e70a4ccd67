"""Which segments of the journal and of the event logs nobody needs any more, and moving them away, or deleting them.

A segment may go when it is old enough and everybody who reads it is past it:

- the order handler: of sealed segments KEPT_SEALED stay, so that it has a state to start from and the one before;
- matching: a sound snapshot of the asset is at or behind the segment's last request (to delete, two of them are, or, of
  the journal, one after which there was no request); of an event log, behind it;
- the logger: the database has the segment's last request;
- the notifier, of an event log: a sound snapshot of it too (to delete, two).

Only the oldest segments go, one after the other, never one from the middle. Seals stay.

Of several hosts each keeps its own logs. What the daemons of another host are past, their snapshots say: copies of
them, in the same place in this host's data folder. Without them, or with older ones, more is kept than need be.
"""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from exchange.config import Config
from exchange.core.matching_state import MatchingState, restore
from exchange.core.requests import EXCHANGE, NewOrder, Record
from exchange.pipeline.archive import archive_up_to, archived_base, check_destination, segments_before
from exchange.pipeline.carried import read_carried, write_carried
from exchange.pipeline.codec import decode_event_record, decode_record
from exchange.pipeline.disk import Disk
from exchange.pipeline.journal import ORDERS
from exchange.pipeline.log import last_body
from exchange.pipeline.log_format import SEGMENT_HEADER_BYTES, Damaged, parse_records, segment_name
from exchange.pipeline.matching_snapshots import MatchingSnapshot
from exchange.pipeline.notifier_snapshots import snapshots_folder
from exchange.pipeline.seals import Seal, read_seal, seal_name
from exchange.pipeline.snapshots import Snapshots

KEPT_SEALED = 2

logger = logging.getLogger(__name__)
_decode_snapshot = msgspec.msgpack.Decoder(MatchingSnapshot).decode
_decode_state = msgspec.msgpack.Decoder(MatchingState).decode


class Plan(Struct, frozen=True):
    """What may go of one log: all segments before `base`. `kept` says why the next one stays.

    `segments` and `bytes` count what is there: also what an earlier run that was broken off has left.
    """

    log: str
    folder: Path
    base: int
    segments: int
    bytes: int
    kept: str


class Retention:
    """Plans, and carries out. `stored` is, per asset, the last request in the database; times in seconds since 1970.

    An exchange may run on the data folder meanwhile. `copies` is how many sound snapshots must be past a segment.
    """

    def __init__(self, disk: Disk, config: Config, stored: Mapping[str, int], before: float, copies: int) -> None:
        self.disk = disk
        self.config = config
        self.stored = stored
        self.before = before
        self.copies = copies
        self.passed: dict[str, tuple[int, int]] = {}  # by asset: see `_passed`, of the journal and of the event log

    def plans(self) -> Iterator[Plan]:
        """Yield what may go of each of this host's logs: the event logs first. Raises Damaged."""
        for asset in self.disk.names(self.config.event_log_folder("")):
            if self.config.hosts.runs_matching(asset):
                yield self._plan(f"event log of {asset}", self.config.event_log_folder(asset), 0)
        if self.config.hosts.runs("order_handler"):
            yield self._plan("journal", self.config.journal_folder, KEPT_SEALED)

    def check(self, plan: Plan, destination: Path) -> None:
        """Raise ValueError where a plan's segments can't be moved because of what the destination has."""
        check_destination(self.disk, plan.folder, plan.base, destination)

    def carry_out(self, plan: Plan, destination: Path | None) -> None:
        """Move a plan's segments to a folder, or delete them where there is none. Raises ValueError, OSError, Damaged.

        What was begun and broken off is finished by the next call.
        """
        if plan.folder == self.config.journal_folder:
            self._carry_live_orders(plan)
        archive_up_to(self.disk, plan.folder, plan.base, destination)

    def _plan(self, log: str, folder: Path, kept_sealed: int) -> Plan:
        start = base = archived_base(self.disk, folder)
        names = self.disk.names(folder)
        seals: list[Seal] = []
        while (seal := read_seal(self.disk, folder / seal_name(base))) is not None:
            seals.append(seal)
            base = seal.base + seal.size
        kept = f"the segment at {base} is being written"
        base = start
        for number, seal in enumerate(seals, 1):
            if number > len(seals) - kept_sealed:
                kept = f"the order handler starts from the last {kept_sealed} that are full"
                break
            if reason := self._needed(folder, seal):
                kept = reason
                break
            base = seal.base + seal.size
        if segment_name(base) not in names:
            return Plan(log, folder, start, 0, 0, f"the segment at {base} is not there")
        gone = segments_before(names, base)
        return Plan(log, folder, base, len(gone), sum((folder / name).stat().st_size for name in gone), kept)

    def _needed(self, folder: Path, seal: Seal) -> str:
        """Return why a segment has to stay, empty where it may go."""
        path = folder / segment_name(seal.base)
        try:
            written = path.stat().st_mtime
        except FileNotFoundError:
            return ""  # an earlier run was broken off when this one was moved already
        if written > self.before:
            return f"{path.name} is not old enough"
        for stream in seal.streams:
            if stream.name in (EXCHANGE, ORDERS):
                continue
            last = stream.first + stream.count - 1
            stored = self.stored.get(stream.name, 0)
            if stored < last:
                return f"{path.name} has {stream.name} up to {last}, and the database has it up to {stored}"
            journal = folder == self.config.journal_folder
            passed = self._passed(stream.name, journal)
            if passed < last:
                return self._kept(path, stream.name, last, "matching", self.config.hosts.of_asset(stream.name), passed)
            if not journal and (passed := self._published(stream.name)) < last:
                host = self.config.hosts.of_daemon("notifier")
                return self._kept(path, stream.name, last, "the notifier", host, passed)
        return ""

    def _kept(self, path: Path, asset: str, last: int, whose: str, host: str, passed: int) -> str:
        where = "" if host == self.config.hosts.here else f" on host {host}, copied here,"
        return f"{path.name} has {asset} up to {last}, and {self._snapshots()} {whose}{where} are at {passed}"

    def _snapshots(self) -> str:
        return "sound snapshots of" if self.copies == 1 else f"{self.copies} sound snapshots of"

    def _passed(self, asset: str, journal: bool) -> int:
        """Return the last sequence that matching won't need, by as many sound snapshots as are asked for.

        Of the event log it needs its snapshot's own record, to know that the snapshot belongs to it. Of the journal it
        does not; and there one snapshot is enough where no request came after it, since there won't be another.
        """
        if asset not in self.passed:
            snapshots = self._matching_snapshots(asset)
            reached = self._reached(snapshots)
            newest = next((sequence for sequence, _ in snapshots.sound()), 0)
            last = last_body(self.disk, self.config.event_log_folder(asset))
            idle = last is not None and newest >= decode_event_record(last).sequence
            self.passed[asset] = newest if idle else reached, max(reached - 1, 0)
        in_journal, in_event_log = self.passed[asset]
        return in_journal if journal else in_event_log

    def _published(self, asset: str) -> int:
        """Return the last sequence that the notifier won't ask for: its snapshot's own record it asks for again."""
        return max(self._reached(Snapshots(self.disk, snapshots_folder(self.config.data / "notifier", asset))) - 1, 0)

    def _reached(self, snapshots: Snapshots) -> int:
        sequences = [sequence for sequence, _ in snapshots.sound()]
        return sequences[self.copies - 1] if len(sequences) >= self.copies else 0

    def _matching_snapshots(self, asset: str) -> Snapshots:
        return Snapshots(self.disk, self.config.event_log_folder(asset) / "snapshots")

    # -- orders that live on -------------------------------------------------------------------------------------------

    def _carry_live_orders(self, plan: Plan) -> None:
        """Copy the records of orders that still live to where they stay, before their segments go."""
        live = self._live_orders(plan)
        carried = {_order_id(record): record for record in read_carried(self.disk, plan.folder)}
        base = archived_base(self.disk, plan.folder)
        while base < plan.base:
            seal = read_seal(self.disk, plan.folder / seal_name(base))
            assert seal is not None, "a plan holds sealed segments only"
            for record in self._orders_in(plan.folder / segment_name(base), seal):
                carried[_order_id(record)] = record
            base = seal.base + seal.size
        kept = [record for order_id, record in sorted(carried.items()) if order_id in live]
        write_carried(self.disk, plan.folder, kept)

    def _live_orders(self, plan: Plan) -> set[int]:
        """Return the live orders of all assets, as of their newest snapshots, which are past the plan's segments."""
        live: set[int] = set()
        for asset in self.disk.names(self.config.event_log_folder("")):
            for _, body in self._matching_snapshots(asset).sound():
                book = restore(_decode_state(_decode_snapshot(body).state)).book
                live.update(order_id for account in book.accounts.values() for order_id in account.orders)
                break
        return live

    def _orders_in(self, path: Path, seal: Seal) -> list[Record]:
        """Return the records of a segment that enter an order. Raises Damaged."""
        found: list[Record] = []

        def on_record(position: int, body: bytes) -> None:
            record = decode_record(body)
            if isinstance(record.request, NewOrder):
                found.append(record)

        file = self.disk.open(path)
        try:
            data = self.disk.read(file, seal.end, 0)
        finally:
            self.disk.close(file)
        end, checksum = parse_records(data, SEGMENT_HEADER_BYTES, seal.previous, seal.base, on_record)
        if (end, checksum) != (seal.end, seal.checksum):
            raise Damaged(f"{path}: offset {end}: the record is damaged; restore the file from a copy")
        return found


def _order_id(record: Record) -> int:
    assert isinstance(record.request, NewOrder)
    return record.request.order_id
