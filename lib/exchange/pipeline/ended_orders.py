"""The last orders that ended, for whoever asks what has become of one: by order id, or by client_order_id.

They are kept in generations, each with a quarter of them, and the oldest is forgotten as a whole: so that to keep one
costs no more than an entry in a dict. By client_order_id one is rarely asked for, and nothing is done for that before:
then all that ended since the last time are entered.
"""

from collections.abc import Mapping
from itertools import chain, islice

from exchange.core.feed_notes import Note, account_of, client_order_id_of

GENERATIONS = 4


class Generation:
    """Orders that ended one after the other, each with the note of its last report."""

    __slots__ = ("ids", "indexed", "notes")

    def __init__(self, notes: dict[int, Note]) -> None:
        self.notes = notes
        self.ids: dict[str, int] = {}  # account/client_order_id -> order_id, of the first `indexed`
        self.indexed = 0

    def find(self, key: str) -> int | None:
        """Return the order_id of the latest with that account/client_order_id."""
        notes = self.notes
        if self.indexed < len(notes):
            for order_id, note in islice(notes.items(), self.indexed, None):
                self.ids[f"{account_of(note, order_id)}/{client_order_id_of(note, order_id)}"] = order_id
            self.indexed = len(notes)
        return self.ids.get(key)


class EndedOrders:
    """The last `retained` orders that ended, and up to a quarter more."""

    def __init__(self, retained: int, ended: Mapping[int, Note] | None = None) -> None:
        self.retained = retained
        self.size = max(retained // GENERATIONS, 1)
        last = list(islice((ended or {}).items(), max(len(ended or ()) - retained, 0), None))
        self.older = [Generation(dict(last[start : start + self.size])) for start in range(0, len(last), self.size)]
        self.newest = Generation({})

    def add(self, ended: Mapping[int, Note]) -> None:
        """Keep orders that have just ended, and forget the oldest of those kept."""
        notes = self.newest.notes
        notes.update(ended)
        if len(notes) >= self.size:
            self.older.append(self.newest)
            self.newest = Generation({})
            kept = sum(len(generation.notes) for generation in self.older)
            while kept - len(self.older[0].notes) >= self.retained:
                kept -= len(self.older.pop(0).notes)

    def get(self, order_id: int) -> Note | None:
        """Return the note of an order's last report, None where it is not kept."""
        for generation in (self.newest, *reversed(self.older)):
            note = generation.notes.get(order_id)
            if note is not None:
                return note
        return None

    def find(self, account: str, client_order_id: str) -> int | None:
        """Return the latest order of that name. O(orders that ended since the last time)."""
        key = f"{account}/{client_order_id}"
        for generation in (self.newest, *reversed(self.older)):
            order_id = generation.find(key)
            if order_id is not None:
                return order_id
        return None

    def items(self) -> dict[int, Note]:
        """Return all of them, the oldest first."""
        return dict(chain.from_iterable(generation.notes.items() for generation in (*self.older, self.newest)))
