"""The view order_states, read beside everything else: it costs the server more than all tables together.

What is read is not kept: of each block of rows a digest, to be compared with that of the rows that had to be there.
"""

import hashlib
import threading
from collections.abc import Iterable, Iterator
from itertools import islice

from exchange.audit.database import Database, DatabaseError

TABLE = "order_states"
BLOCK_ROWS = 4096
CANCEL_S = 0.2  # between two attempts to break a reading off


class StatesAside:
    """Reads an asset's rows of the view in a thread, from `begin` to `end`."""

    def __init__(self, database: Database, asset: str) -> None:
        self.database = database
        self.asset = asset
        self.digests: list[bytes] = []
        self.error: DatabaseError | None = None
        self.thread: threading.Thread | None = None

    def begin(self) -> None:
        self.connection = self.database.reader(TABLE)
        self.thread = threading.Thread(target=self._read, name=TABLE, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        try:
            self.digests = list(digests(self.database.rows(TABLE, self.asset)))
        except DatabaseError as error:
            self.error = error

    def first_difference(self, expected: Iterable[bytes]) -> int | None:
        """Return the number of the first row of a block that is not as expected, None where there is none.

        Waits until all is read. Raises DatabaseError.
        """
        assert self.thread is not None, "begun"
        self.thread.join()
        if self.error is not None:
            raise self.error
        number = 0
        found = iter(self.digests)
        for digest in digests(expected):
            if digest != next(found, None):
                return number
            number += BLOCK_ROWS
        return number if next(found, None) is not None else None

    def end(self) -> None:
        """Break the reading off where it is still going on."""
        while self.thread is not None and self.thread.is_alive():
            self.connection.cancel_safe()
            self.thread.join(CANCEL_S)


def digests(rows: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the digest of each block of rows."""
    remaining = iter(rows)
    while block := list(islice(remaining, BLOCK_ROWS)):
        yield hashlib.blake2b(b"".join(block)).digest()
