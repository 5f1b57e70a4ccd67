"""What was taken before, found by the ids that clients gave it: order entry looks there for what a request repeats.

The table of ids says where in the journal a request may be; the record there says whether it is the one. Ids come into
the table when their records are on disk, all of a sync together; until then they are in memory. Those of the latest
orders are there for longer, since what is canceled by its client_order_id was mostly entered a moment ago.
"""

from collections.abc import Iterable

from exchange.core.requests import AmendOrder, CancelOrder, MassCancel, NewOrder, Record, RequestId
from exchange.pipeline.carried import CarriedOrders
from exchange.pipeline.codec import decode_record
from exchange.pipeline.id_table import Hash, IdTable
from exchange.pipeline.journal import Journal
from exchange.pipeline.log import RECORD, Archived, Damaged

LATEST_ORDERS = 2**15  # whose ids are in memory, at least, and twice that and two syncs' at most; 200 bytes each


class TakenRequests:
    """The journal's requests by their ids: told by the journal of each that is appended, in order, and of each sync.

    What is taken is known here when it is noted, before it is appended, so that requests can be judged in one run.

    Ids are remembered for as long as their records are in the journal; of what was moved away from there, those of
    orders that lived then.
    """

    def __init__(self, journal: Journal, table: IdTable) -> None:
        self.journal = journal
        self.table = table
        self.carried = CarriedOrders(journal.log.disk, journal.log.folder)
        self.complete = True  # whether the table has all ids up to the state that was restored
        # Of what was noted since the last sync: the hashes of ids, and the positions of those that were appended; the
        # orders, whose ids are dense; the requests that have a request_id, by account and that, of a mass cancel all
        # parts.
        self._hashes: list[Hash] = []
        self._positions: list[int] = []
        self._orders: list[Record] = []
        self._first_order = 0  # the id of the first of them
        self._requests: dict[tuple[str, RequestId], list[Record]] = {}
        self._latest: dict[str, int] = {}  # orders by account and client_order_id, those since the last sync among them
        self._before: dict[str, int] = {}  # those before these
        # The account and client_order_id that were looked for last, both as one text, and its hash.
        self._sought_account = self._sought_id = self._sought = ""
        self._sought_hash: Hash = (0, 0)

    # -- what is taken -------------------------------------------------------------------------------------------------

    def note(self, record: Record) -> None:
        """Note a record that is about to be appended, after those that were noted before."""
        request = record.request
        if type(request) is NewOrder:
            if request.client_order_id is not self._sought_id or record.account != self._sought_account:
                self._seek(record.account, request.client_order_id)
            self._latest[self._sought] = request.order_id
            self._hashes.append(self._sought_hash)
            if not self._orders:
                self._first_order = request.order_id
            self._orders.append(record)
            return
        request_id = _request_id(record)
        if request_id is not None:
            if type(request) is MassCancel and request.part > 1:
                self._requests[record.account, request_id].append(record)
            else:
                self._hashes.append(self.table.hash(f"{record.account}#{request_id}"))
                self._requests[record.account, request_id] = [record]

    def add_order(self, record: Record, position: int) -> None:
        """Note the position at which a new order was appended."""
        if len(self._positions) == len(self._hashes):
            self.note(record)
        self._positions.append(position)

    def add_request(self, record: Record, position: int) -> None:
        """Note the position of another request, if it has an id and may be sent again."""
        if _request_id(record) is None:
            return
        if len(self._positions) == len(self._hashes):
            self.note(record)
        request = record.request
        if not (type(request) is MassCancel and request.part > 1):
            self._positions.append(position)

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
        if self._hashes:
            self.table.add(zip(self._hashes, self._positions, strict=True))
            self._hashes.clear()
            self._positions.clear()
            self._orders.clear()
            self._requests.clear()
            if len(self._latest) >= LATEST_ORDERS:
                self._before, self._latest = self._latest, {}

    def has_room(self, ids: int) -> bool:
        """Return whether so many more are sure to find room on disk."""
        return self.table.room - len(self._hashes) >= ids

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
        positions = self._seek(account, client_order_id)
        order_id = self._latest.get(self._sought)
        if order_id is not None and self._orders and order_id >= self._first_order:
            return self._orders[order_id - self._first_order]
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

    def _seek(self, account: str, client_order_id: str) -> Iterable[int]:
        """Look for an order's ids in the table: return the positions that may be meant."""
        self._sought_account, self._sought_id = account, client_order_id
        self._sought = sought = f"{account}/{client_order_id}"
        self._sought_hash, positions = self.table.find_text(sought)
        return positions

    def find_order_id(self, account: str, client_order_id: str) -> int | None:
        """Return the id of the order that used a client_order_id first, None where none has. Raises Damaged."""
        id_ = f"{account}/{client_order_id}"
        order_id = self._latest.get(id_) or self._before.get(id_)
        if order_id is None:
            record = self.find_order(account, client_order_id)
            if record is not None:
                assert type(record.request) is NewOrder
                order_id = record.request.order_id
        return order_id

    def find_requests(self, account: str, request_id: str | int) -> list[Record]:
        """Return the records of the request that used a request_id first, empty where none has. Raises Damaged."""
        unsynced = self._requests.get((account, request_id))  # 1 and "1" are two, though the table can't tell
        if unsynced is not None:
            return unsynced
        for position in self.table.find(self.table.hash(f"{account}#{request_id}")):
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
