"""What the notifier has of one asset: its feed, what was published of it, and what the queries ask for."""

from collections import deque
from collections.abc import Iterable, Mapping

from msgspec import Struct, structs

from exchange.core.asset import Asset, Status
from exchange.core.events import EventRecord
from exchange.core.feed_notes import Note, Traded, account_of, report_of
from exchange.core.market_data import Feed
from exchange.core.messages import ExecutionReport
from exchange.pipeline.ended_orders import EndedOrders
from exchange.pipeline.message_store import MessageStore

TRADES_KEPT = 1000  # of an asset, for the trades query
PROOF_EVENTS = 100  # of a request, which may have hundreds of thousands


class Proof(Struct, frozen=True, array_like=True):
    """What came of a request: its record without most of its events, and how many these are.

    Two histories that have the same there are taken for one: the record has the request's time, to the nanosecond.
    """

    record: EventRecord
    events: int


def proof_of(record: EventRecord) -> Proof:
    return Proof(structs.replace(record, events=record.events[:PROOF_EVENTS]), len(record.events))


class AssetBoard:
    """One asset's feed, with what was published of it and what the queries ask for."""

    def __init__(self, definition: Asset, store: MessageStore, retained_orders: int) -> None:
        self.configured = definition
        self.feed = Feed(definition.asset)
        self.store = store
        self.retained_orders = retained_orders
        self.trades: deque[Traded] = deque(maxlen=TRADES_KEPT)
        self.ended = EndedOrders(retained_orders)
        self.live_from: int | None = None  # records up to this one were there at the start, and are not published again
        self.last: EventRecord | None = None  # what was folded in last
        self.started_from = 0  # the last request of the snapshot that this process went on from
        self.proof: Proof | None = None  # of that request: until the event log is heard to have the same
        self.snapshot = 0  # the last request of the newest snapshot on disk
        self.snapshot_at = 0  # of the last one that was begun

    @property
    def definition(self) -> Asset:
        """The asset's definition as its queue has it; until that is known, as it is configured."""
        return self.feed.definition or self.configured

    @property
    def status(self) -> Status:
        """The asset's trading status; until that is known, the one that it begins with."""
        if self.feed.status is not None:
            return self.feed.status.status
        return "closed" if self.configured.has_sessions else "open"

    @property
    def rebuilding(self) -> bool:
        """Whether events of before the start are still to be folded in, or how many there are is not known yet."""
        return self.live_from is None or self.feed.sequence < self.live_from or self.proof is not None

    @property
    def wanted(self) -> int:
        """The request after which the event log is to be read: where a proof is wanted, it begins with that record."""
        return self.feed.sequence - (self.proof is not None)

    def last_report(self, order_id: int, account: str) -> ExecutionReport | None:
        """Return the last report of an account's order, live or retained."""
        feed = self.feed
        order = feed.orders.get(order_id)
        if order is not None:
            return feed.reports.last_of(order) if order.account.name == account else None
        note = self.ended.get(order_id)
        if note is None or account_of(note, order_id) != account:
            return None
        return report_of(feed.asset, note, order_id)

    def find(self, account: str, client_order_id: str) -> int | None:
        """Return the latest of an account's orders of that name, live or retained. O(its live orders).

        A live one is the latest: its name can't be used again.
        """
        orders = self.feed.orders
        owner = self.feed.book.accounts.get(account)
        for order_id in owner.orders if owner is not None else ():
            if orders[order_id].client_order_id == client_order_id:
                return order_id
        return self.ended.find(account, client_order_id)

    def take(self) -> int:
        """Take what the feed has noted, for queries and retransmission; return how many messages that is."""
        feed = self.feed
        notes, reports = feed.notes, feed.reports
        count = self.store.add(notes, reports.first, feed.numbers)
        self.trades.extend([note for note in notes if type(note) is Traded])
        self.ended.add(feed.ended)
        notes.clear()
        reports.first.clear()
        feed.ended.clear()
        return count

    def restored(self, feed: Feed, ended: Mapping[int, Note], trades: Iterable[Traded], proof: Proof) -> None:
        """Be as a snapshot has it, until the proof turns out to be wrong."""
        self.feed = feed
        self.ended = EndedOrders(self.retained_orders, ended)
        self.trades = deque(trades, TRADES_KEPT)
        self.proof = proof
        self.started_from = self.snapshot = self.snapshot_at = feed.sequence

    def begin_anew(self) -> None:
        """Have folded in nothing, and kept nothing; the store is the caller's to clear."""
        fresh = AssetBoard(self.configured, self.store, self.retained_orders)
        fresh.live_from = self.live_from
        vars(self).update(vars(fresh))
