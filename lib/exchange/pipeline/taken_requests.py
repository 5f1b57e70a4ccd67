"""What was taken before, found by the ids that clients gave it: order entry looks there for what a request repeats.

The table of ids says where in the journal a request may be; the record there says whether it is the one. Those noted a
moment ago, which may not be written yet, are kept in memory, so that to find one of them costs no look into a file.
"""

from exchange.core.requests import AmendOrder, CancelOrder, MassCancel, NewOrder, Record, RequestId
from exchange.pipeline.carried import CarriedOrders
from exchange.pipeline.codec import decode_record
from exchange.pipeline.id_table import IdTable
from exchange.pipeline.journal import Journal
from exchange.pipeline.log import RECORD, Archived, Damaged

KEPT_RECORDS = 2**14  # at least; more than one sync may cover. About 500 bytes each


class TakenRequests:
    """The journal's requests by their ids: told by the journal of each that has one, in order, when it is appended.

    Ids are remembered for as long as their records are in the journal; of what was moved away from there, those of
    orders that lived then.
    """

    def __init__(self, journal: Journal, table: IdTable) -> None:
        self.journal = journal
        self.table = table
        self.carried = CarriedOrders(journal.log.disk, journal.log.folder)
        self._young: dict[int, list[Record]] = {}  # by the position of the first
        self._old: dict[int, list[Record]] = {}  # noted before those
        self._young_records = 0
        self._group: list[Record] = []  # of the last mass cancel
        # What was looked for last is what is taken next, mostly; it is not hashed twice.
        self._sought_by, self._sought, self._sought_hash = "", "", 0

    # -- what is taken -------------------------------------------------------------------------------------------------

    def add(self, record: Record, position: int) -> None:
        """Note a record that was appended at a position."""
        request = record.request
        kind = type(request)
        if kind is NewOrder:
            assert type(request) is NewOrder
            if request.client_order_id is self._sought and record.account == self._sought_by:
                self.table.add(self._sought_hash, position)
            else:
                self.table.add(self.table.hash(f"{record.account}/{request.client_order_id}"), position)
        elif _request_id(record) is None:
            return
        elif type(request) is MassCancel and request.part > 1:
            self._group.append(record)
            self._young_records += 1
            return
        else:
            self.table.add(self.table.hash(_request_text(record)), position)
        self._group = self._young[position] = [record]
        self._young_records += 1
        if self._young_records >= KEPT_RECORDS:
            self._old, self._young, self._young_records = self._young, {}, 0

    def add_again(self, record: Record, position: int) -> None:
        """Note a record that was read at the start; it may have been noted before."""
        request = record.request
        if type(request) is NewOrder:
            self.table.add_again(self.table.hash(f"{record.account}/{request.client_order_id}"), position)
        elif _request_id(record) is not None and not (type(request) is MassCancel and request.part > 1):
            self.table.add_again(self.table.hash(_request_text(record)), position)

    def has_room(self, ids: int) -> bool:
        """Return whether so many more are sure to find room on disk."""
        return self.table.has_room(ids)

    def tend(self, now: float) -> None:
        """Try again what failed for want of room. `now` in seconds."""
        self.table.tend(now)

    # -- what is looked for --------------------------------------------------------------------------------------------

    def read_order(self, order_id: int) -> Record | None:
        """Return the record that entered an order, None where it was moved away. Raises IndexError, Damaged."""
        try:
            return self.journal.read_order(order_id)
        except Archived:
            return self.carried.order(order_id)

    def find_order(self, account: str, client_order_id: str) -> Record | None:
        """Return the record that used a client_order_id first, None where none has. Raises Damaged."""
        hash_ = self.table.hash(f"{account}/{client_order_id}")
        self._sought_by, self._sought, self._sought_hash = account, client_order_id, hash_
        for position in self.table.find(hash_):
            try:
                records = self._records_at(position)
            except Archived:
                records = self.carried.find(account, client_order_id)
            for record in records[:1]:
                request = record.request
                if (
                    type(request) is NewOrder
                    and request.client_order_id == client_order_id
                    and record.account == account
                ):
                    return record
        return None

    def find_requests(self, account: str, request_id: str | int) -> list[Record]:
        """Return the records of the request that used a request_id first, empty where none has. Raises Damaged."""
        for position in self.table.find(self.table.hash(f"{account}#{request_id}")):
            try:
                records = self._records_at(position)
            except Archived:
                continue
            if records and records[0].account == account and _request_id(records[0]) == request_id:
                return records
        return []

    def _records_at(self, position: int) -> list[Record]:
        """Return the record at a position, with a mass cancel the rest of its group; none where none begins there.

        Raises Damaged, and Archived where it was moved away.
        """
        kept = self._young.get(position) or self._old.get(position)
        if kept is not None:
            return kept
        try:
            record, end = self._read(position)
            records = [record]
            if type(record.request) is MassCancel and record.request.part == 1:
                for _ in range(1, record.request.parts):
                    record, end = self._read(end)
                    records.append(record)
        except Damaged:
            if self.journal.has_record_at(position):
                raise
            return []  # of a request that was never acknowledged, and then cut off
        return records

    def _read(self, position: int) -> tuple[Record, int]:
        """Return a record of the log and the position behind it."""
        body = self.journal.log.read(position)
        return decode_record(body), position + RECORD.size + len(body)


def _request_id(record: Record) -> RequestId:
    """Return the id by which a request other than a new order may be sent again."""
    request = record.request
    kind = type(request)
    if kind is CancelOrder or kind is AmendOrder or kind is MassCancel:
        assert isinstance(request, CancelOrder | AmendOrder | MassCancel)
        return request.request_id
    return None


def _request_text(record: Record) -> str:
    return f"{record.account}#{_request_id(record)}"
