"""Orders that live on although the journal's segment in which they were entered was moved away.

What order entry has to know of an order (whose it is, in which asset, by which client_order_id) is in the record that
entered it. Before a segment is moved away, the records of its live orders are copied to the file `carried` beside the
journal:

    EXCHCARR   records, as a MessagePack array   SHA-256 of all that

It is replaced as a whole, each time, before the file `archived` is: where that is, it is too.
"""

import hashlib
from pathlib import Path

import msgspec

from exchange.core.requests import NewOrder, Record
from exchange.pipeline.archive import archived_base, replace_file
from exchange.pipeline.codec import encode
from exchange.pipeline.disk import Disk
from exchange.pipeline.log_format import ARCHIVED, Damaged

NAME = "carried"
MAGIC = b"EXCHCARR"
HASH_BYTES = 32

_decode = msgspec.msgpack.Decoder(list[Record]).decode


def read_carried(disk: Disk, folder: Path) -> list[Record]:
    """Return the records, empty where none were carried over. Raises Damaged."""
    path = folder / NAME
    archived = archived_base(disk, folder)
    try:
        file = disk.open(path)
    except FileNotFoundError:
        if archived:
            raise Damaged(
                f"{path}: offset 0: is missing, and the segments before {archived} were archived: it has the orders "
                f"of theirs that live; {_remedy(folder)}"
            ) from None
        return []
    try:
        data = disk.read(file, disk.size(file), 0)
    finally:
        disk.close(file)
    body = data[:-HASH_BYTES]
    if body[: len(MAGIC)] != MAGIC or hashlib.sha256(body).digest() != data[-HASH_BYTES:]:
        raise Damaged(f"{path}: offset 0: is damaged; {_remedy(folder)}")
    return _decode(body[len(MAGIC) :])


def _remedy(folder: Path) -> str:
    return (
        f"restore it from a copy, or put the archived segments back beside it and remove it, if it is there, and "
        f"{folder / ARCHIVED}"
    )


def write_carried(disk: Disk, folder: Path, records: list[Record]) -> None:
    """Replace what is carried over."""
    body = MAGIC + encode(records)
    replace_file(disk, folder / NAME, body + hashlib.sha256(body).digest())


class CarriedOrders:
    """Finds the carried orders. Read when asked for, and again when more has been moved away since."""

    def __init__(self, disk: Disk, folder: Path) -> None:
        self.disk = disk
        self.folder = folder
        self.base = -1  # up to which segments had been moved away when the file was read
        self.by_id: dict[int, Record] = {}
        self.by_client_id: dict[tuple[str, str], Record] = {}

    def order(self, order_id: int) -> Record | None:
        """Return the record that entered an order, None where it is not carried. Raises Damaged."""
        self.read()
        return self.by_id.get(order_id)

    def find(self, account: str, client_order_id: str) -> list[Record]:
        """Return the record that entered an account's order, nothing where it is not carried. Raises Damaged."""
        self.read()
        record = self.by_client_id.get((account, client_order_id))
        return [] if record is None else [record]

    def read(self) -> None:
        """Read the file, unless nothing was moved away since the last time. Raises Damaged."""
        base = archived_base(self.disk, self.folder)
        if base == self.base:
            return
        self.by_id.clear()
        self.by_client_id.clear()
        for record in read_carried(self.disk, self.folder):
            request = record.request
            assert isinstance(request, NewOrder)
            self.by_id[request.order_id] = record
            self.by_client_id[record.account, request.client_order_id] = record
        self.base = base
