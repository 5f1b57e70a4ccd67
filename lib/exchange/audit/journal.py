"""The journal, proved by itself: what it holds is whole, in order, and nothing is in it twice.

One pass in the order of the file. What is kept of it is, for each request, its position (8 bytes, by asset), and for
each order a hash of its account and client_order_id (8 bytes, until the end of the pass).
"""

from array import array
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec
from msgspec import Struct

from exchange.audit.findings import Difference, Unreadable
from exchange.audit.log_files import HEADER_BYTES, RECORD, LogFiles, Place
from exchange.audit.seals import Seals
from exchange.audit.values import shown
from exchange.core.requests import EXCHANGE, CancelAllAfter, DefineAsset, MassCancel, NewOrder, Record, SetSession

CHECK = "journal"
REMEDY = "stop the exchange, and restore the journal from a copy"
BUCKETS = 256  # of hashes, sorted one at a time
ORDERS = "orders"  # what seals call the stream of all assets' orders
STEP = 16_384  # records between two reports of progress

DecodeError = (msgspec.DecodeError, msgspec.ValidationError, RecursionError, UnicodeDecodeError)
decode_record = msgspec.msgpack.Decoder(Record).decode

Progress = Callable[[str, int, int], None]  # what, done, in all


class Queue(Struct):
    """An asset's queue: the positions of its requests `first` to `last`."""

    asset: str
    first: int
    last: int
    positions: "array[int]"


class Journal:
    """The journal up to its end as of when this was made: the bound of the whole audit.

    `read` it once; then each asset's records can be read again, in order. Raises Unreadable where there is none.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.files = LogFiles(CHECK, folders, durable=True, remedy=REMEDY)
        if not self.files.segments:
            raise Unreadable(f"{folders[0]}: there is no journal; set EXCHANGE_DATA to the data folder of an exchange")
        self.queues: dict[str, Queue] = {}
        self.requests = 0
        self.orders = 0
        self.last_order_id = 0
        self.time = 0
        self.unfinished = 0
        self.cut_group = 0  # records of a mass cancel at the end that is not whole: it was never acknowledged
        self.end = self._find_end()
        self.group: list[tuple[int, Record]] = []
        self.hashes: list[array[int]] = [array("q") for _ in range(BUCKETS)]
        self.notes: list[str] = []
        self.seals = Seals(self.files, self.notes)

    @property
    def whole(self) -> bool:
        return self.files.whole

    @property
    def bytes(self) -> int:
        return self.end.position - self.files.segments[0].base

    def _find_end(self) -> Place:
        """Return where the journal ends now, by reading its last segment."""
        segment = self.files.segments[-1]
        end = Place(segment.base + HEADER_BYTES, segment.previous)
        for position, body, checksum in self.files.records(end):
            end = Place(position + RECORD.size + len(body), checksum)
        self.unfinished = self.files.unfinished
        return end

    def file_at(self, position: int) -> dict[str, str | int]:
        return self.files.file_at(position)

    # -- the pass ------------------------------------------------------------------------------------------------------

    def read(self, progress: Progress) -> None:
        """Read and check all of it. Raises Difference."""
        if self.end.position <= self.files.start.position:
            return
        start, total, take = self.files.segments[0].base, self.bytes, self._take
        until_told = STEP
        for position, body, _ in self.files.records(end=self.end.position):
            try:
                record = decode_record(body)
            except DecodeError as error:
                raise self._difference(position, None, "the record is no request", found=str(error)) from None
            take(position, record)
            until_told -= 1
            if not until_told:
                until_told = STEP
                progress(CHECK, position - start, total)
        self._end_groups()
        self._check_ids(progress)
        progress(CHECK, total, total)

    def _take(self, position: int, record: Record) -> None:
        request = record.request
        if type(request) is MassCancel and (request.parts > 1 or self.group):
            self._take_part(position, record, request)
            return
        if self.group:
            _, before = self.group[-1]
            raise self._difference(
                position,
                record,
                f"a mass cancel of account {before.account} is not whole",
                expected=f"part {before.request.part + 1} of {before.request.parts}",  # type: ignore[union-attr]
                found=shown(record),
            )
        self._place(position, record)

    def _take_part(self, position: int, record: Record, request: MassCancel) -> None:
        group = self.group
        expected = 1
        if group:
            before = group[-1][1].request
            assert type(before) is MassCancel, "a group is of mass cancels"
            expected = before.part + 1
            same = (before.parts, before.request_id, before.reason, before.by, group[-1][1].account)
        elif not self.requests and not self.whole:
            expected = request.part  # what there is of the journal may begin within a group
        if request.part != expected or (
            group and (request.parts, request.request_id, request.reason, request.by, record.account) != same
        ):
            raise self._difference(
                position,
                record,
                f"a mass cancel of account {record.account} is not whole",
                expected=f"part {expected} of it",
                found=shown(record),
            )
        group.append((position, record))
        if request.part == request.parts:
            for at, each in group:
                self._place(at, each)
            group.clear()

    def _place(self, position: int, record: Record) -> None:
        """Check a record's place in its queue and in time."""
        asset, request = record.asset, record.request
        queue = self.queues.get(asset)
        if queue is None:
            queue = self.queues[asset] = self._first(position, record)
        elif record.sequence != queue.last + 1:
            raise self._difference(
                position,
                record,
                "the sequences of an asset's requests are not contiguous",
                expected=f"request {queue.last + 1} of {asset}",
                found=f"request {record.sequence}",
            )
        if record.time < self.time:
            raise self._difference(
                position, record, "time runs backwards", expected=f"{self.time} ns or later", found=f"{record.time} ns"
            )
        queue.last = record.sequence
        queue.positions.append(position)
        self.seals.note(asset, record.sequence, position)
        self.time = record.time
        self.requests += 1
        if type(request) is NewOrder:
            order_id = request.order_id
            if order_id != self.last_order_id + 1 and (self.orders or self.whole):
                raise self._difference(
                    position,
                    record,
                    "order ids are not dense" if order_id > self.last_order_id else "an order id is given twice",
                    expected=f"order id {self.last_order_id + 1}",
                    found=f"order id {order_id}",
                )
            self.seals.note(ORDERS, order_id, position)
            self.last_order_id = order_id
            self.orders += 1
            hashed = hash((record.account, request.client_order_id))
            self.hashes[hashed & (BUCKETS - 1)].append(hashed)

    def _first(self, position: int, record: Record) -> Queue:
        """Check the first record of a queue."""
        asset, request = record.asset, record.request
        if record.sequence != 1 and self.whole:
            raise self._difference(
                position,
                record,
                f"the first requests of {asset} are missing",
                expected="request 1",
                found=shown(record),
            )
        if record.sequence == 1:
            expected = "a session's request" if asset == EXCHANGE else f"the definition of {asset}"
            if (
                not isinstance(request, SetSession | CancelAllAfter)
                if asset == EXCHANGE
                else type(request) is not DefineAsset or request.definition.asset != asset
            ):
                raise self._difference(
                    position,
                    record,
                    "an asset's queue begins with something else",
                    expected=expected,
                    found=shown(record),
                )
        return Queue(asset, record.sequence, record.sequence - 1, array("Q"))

    def _end_groups(self) -> None:
        """Leave a group that is not whole at the very end out: it was never acknowledged, and a start cuts it off."""
        self.cut_group = len(self.group)
        self.group.clear()

    def _check_ids(self, progress: Progress) -> None:
        """Check that no account has used a client_order_id twice; same hashes only say where to look.

        Ids in segments that were archived are forgotten, days later, and may be used again.
        """
        suspected: set[int] = set()
        for number, bucket in enumerate(self.hashes):
            ordered = sorted(bucket)
            suspected.update(one for one, next_one in pairwise(ordered) if one == next_one)
            self.hashes[number] = array("q")
        if not suspected:
            return
        remembered_from = self.files.archived
        seen: dict[tuple[str, str], int] = {}
        for position, body, _ in self.files.records(end=self.end.position):
            record = decode_record(body)
            request = record.request
            if type(request) is not NewOrder or position < remembered_from:
                continue
            key = (record.account, request.client_order_id)
            if hash(key) not in suspected:
                continue
            if key in seen:
                raise self._difference(
                    position,
                    record,
                    f"the client_order_id {request.client_order_id!r} of account {record.account} is there twice",
                    expected=f"order {seen[key]} alone to have it",
                    found=f"order {request.order_id} with it",
                )
            seen[key] = request.order_id

    # -- afterwards ----------------------------------------------------------------------------------------------------

    def ends_now(self) -> dict[str, int]:
        """Return the last sequence of each asset as of now, by reading what was written behind the bound."""
        ends = {asset: queue.last for asset, queue in self.queues.items()}
        self.files.relist()
        for _, body, _ in self.files.records(self.end):
            record = decode_record(body)
            ends[record.asset] = max(record.sequence, ends.get(record.asset, 0))
        return ends

    def _difference(self, position: int, record: Record | None, what: str, **more: str) -> Difference:
        difference = Difference(CHECK, what, remedy=REMEDY, **more).at(**self.file_at(position))
        return difference if record is None else difference.at(asset=record.asset, sequence=record.sequence)
