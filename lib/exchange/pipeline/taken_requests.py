"""What was taken before, found by the ids that clients gave it: order entry looks there for what a request repeats.

The table of ids says where in the journal a request may be; the record there says whether it is the one. Ids come into
the table when their records are on disk, all of a sync together; until then they are in memory. The latest orders are
there for longer, since what is canceled by its client_order_id was mostly entered a moment ago.
"""

from exchange.core.requests import AmendOrder, CancelOrder, MassCancel, NewOrder, Record, RequestId
from exchange.pipeline.carried import CarriedOrders
from exchange.pipeline.codec import decode_record
from exchange.pipeline.id_table import IdTable
from exchange.pipeline.journal import Journal
from exchange.pipeline.log import RECORD, Archived, Damaged

LATEST_ORDERS = 2**12  # at least, and twice that at most; 500 bytes each


class TakenRequests:
    """The journal's requests by their ids: told by the journal of each that is appended, in order, and of each sync.

    Ids are remembered for as long as their records are in the journal; of what was moved away from there, those of
    orders that lived then.
    """

    def __init__(self, journal: Journal, table: IdTable) -> None:
        self.journal = journal
        self.table = table
        self.carried = CarriedOrders(journal.log.disk, journal.log.folder)
        self.complete = True  # whether the table has all ids up to the state that was restored
        self._unsynced: dict[int, int] = {}  # positions by hash
        self._records: dict[int, Record] = {}  # those that are there
        self._groups: dict[int, list[Record]] = {}  # and of mass cancels all parts
        self._latest: dict[str, Record] = {}  # orders by client_order_id, of whatever account used it last
        self._before: dict[str, Record] = {}  # those before these
        self._sought: tuple[str, str, int] = ("", "", 0)  # account, client_order_id and hash that were looked for last

    # -- what is taken -------------------------------------------------------------------------------------------------

    def add_order(self, record: Record, request: NewOrder, position: int) -> None:
        """Note a new order that was appended at a position."""
        client_order_id = request.client_order_id
        account, sought, hash_ = self._sought
        if client_order_id is not sought or record.account != account:
            hash_ = self.table.hash(f"{record.account}/{client_order_id}")
        latest = self._latest
        latest[client_order_id] = record
        if len(latest) >= LATEST_ORDERS:
            self._before, self._latest = latest, {}
        if hash_ in self._unsynced:
            self.synced()  # of two ids with one hash, none may be forgotten
        self._unsynced[hash_] = position
        self._records[hash_] = record

    def add_request(self, record: Record, position: int) -> None:
        """Note another request, if it has an id and may be sent again."""
        request_id = _request_id(record)
        if request_id is None:
            return
        hash_ = self.table.hash(f"{record.account}#{request_id}")
        request = record.request
        if type(request) is MassCancel:
            if request.part > 1:
                self._groups[hash_].append(record)
                return
            self._add(hash_, record, position)
            self._groups[hash_] = [record]
        else:
            self._add(hash_, record, position)

    def _add(self, hash_: int, record: Record, position: int) -> None:
        if hash_ in self._unsynced:
            self.synced()  # of two ids with one hash, none may be forgotten
        self._unsynced[hash_] = position
        self._records[hash_] = record

    def add_again(self, record: Record, position: int) -> None:
        """Note a record that was read at the start; it may have been noted before."""
        request = record.request
        if type(request) is NewOrder:
            self.table.add_again(self.table.hash(f"{record.account}/{request.client_order_id}"), position)
            return
        request_id = _request_id(record)
        if request_id is not None and not (type(request) is MassCancel and request.part > 1):
            self.table.add_again(self.table.hash(f"{record.account}#{request_id}"), position)

    def synced(self) -> None:
        """Note that all that was appended is on disk."""
        if self._unsynced:
            self.table.add(self._unsynced)
            self._unsynced.clear()
            self._records.clear()
            self._groups.clear()

    def has_room(self, ids: int) -> bool:
        """Return whether so many more are sure to find room on disk."""
        return self.table.room - len(self._unsynced) >= ids

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

    def find_order(self, account: str, client_order_id: str, expected: bool) -> Record | None:
        """Return the record that used a client_order_id first, None where none has. Raises Damaged."""
        if expected:
            latest = self._latest.get(client_order_id) or self._before.get(client_order_id)
            if latest is not None and latest.account == account:
                return latest
        hash_, positions = self.table.find_text(f"{account}/{client_order_id}")
        self._sought = account, client_order_id, hash_
        if hash_ in self._records:
            record = self._records[hash_]
            if _is_order(record, account, client_order_id):
                return record
        for position in positions:
            try:
                records = self._read(position)
            except Archived:
                records = self.carried.find(account, client_order_id)
            for record in records[:1]:
                if _is_order(record, account, client_order_id):
                    return record
        carried = self.carried.by_client_id  # a table that was made again has none of these ids
        return carried.get((account, client_order_id)) if carried else None

    def find_requests(self, account: str, request_id: str | int) -> list[Record]:
        """Return the records of the request that used a request_id first, empty where none has. Raises Damaged."""
        hash_ = self.table.hash(f"{account}#{request_id}")
        record = self._records.get(hash_)
        if record is not None and _is_request(record, account, request_id):
            return self._groups.get(hash_) or [record]
        for position in self.table.find(hash_):
            try:
                records = self._read(position)
            except Archived:
                continue
            if records and _is_request(records[0], account, request_id):
                return records
        return []

    def _read(self, position: int) -> list[Record]:
        """Return the record at a position, with a mass cancel the rest of its group; none where none begins there.

        Raises Damaged, and Archived where it was moved away.
        """
        records: list[Record] = []
        parts = 1
        try:
            while len(records) < parts:
                body = self.journal.log.read(position)
                record = decode_record(body)
                records.append(record)
                position += RECORD.size + len(body)
                if type(record.request) is MassCancel and record.request.part == 1:
                    parts = record.request.parts
        except Damaged:
            if self.journal.has_record_at(position):
                raise
            return []  # of a request that was never acknowledged, and cut off
        return records


def _is_order(record: Record, account: str, client_order_id: str) -> bool:
    request = record.request
    return type(request) is NewOrder and request.client_order_id == client_order_id and record.account == account


def _is_request(record: Record, account: str, request_id: str | int) -> bool:
    return record.account == account and _request_id(record) == request_id


def _request_id(record: Record) -> RequestId:
    """Return the id by which a request other than a new order may be sent again."""
    request = record.request
    if type(request) is CancelOrder or type(request) is AmendOrder or type(request) is MassCancel:
        return request.request_id
    return None
