"""What the notifier has of one asset: its feed, what was published of it, and what the queries ask for."""

from collections import OrderedDict, deque
from collections.abc import Iterable

from msgspec import Struct, structs

from exchange.core.asset import Asset, Status
from exchange.core.events import EventRecord
from exchange.core.execution_reports import PublishedOrder
from exchange.core.market_data import Feed
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
        self.trades: deque[bytes] = deque(maxlen=TRADES_KEPT)
        self.orders: dict[str, int] = {}  # account/client_order_id -> order_id, of live and retained orders
        self.ended: OrderedDict[int, PublishedOrder] = OrderedDict()  # the last orders that ended, oldest first
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

    def find(self, order_id: int, account: str) -> PublishedOrder | None:
        """Return an account's order, live or retained."""
        order = self.feed.orders.get(order_id) or self.ended.get(order_id)
        return order if order is not None and order.account.name == account else None

    def retain_ended(self) -> None:
        """Keep the orders that have just ended for a while, and forget the oldest of those kept."""
        for order in self.feed.ended:
            self.ended[order.order_id] = order
        self.feed.ended.clear()
        while len(self.ended) > self.retained_orders:
            _, order = self.ended.popitem(last=False)
            key = f"{order.account.name}/{order.client_order_id}"
            if self.orders.get(key) == order.order_id:
                del self.orders[key]

    def restored(self, feed: Feed, ended: Iterable[PublishedOrder], trades: Iterable[bytes], proof: Proof) -> None:
        """Be as a snapshot has it, until the proof turns out to be wrong."""
        self.feed = feed
        self.ended = OrderedDict((order.order_id, order) for order in ended)
        self.trades = deque(trades, TRADES_KEPT)
        self.proof = proof
        self.started_from = self.snapshot = self.snapshot_at = feed.sequence
        for orders in (self.ended, feed.orders):
            for order in orders.values():
                key = f"{order.account.name}/{order.client_order_id}"
                if self.orders.get(key, 0) < order.order_id:
                    self.orders[key] = order.order_id

    def begin_anew(self) -> None:
        """Have folded in nothing, and kept nothing; the store is the caller's to clear."""
        fresh = AssetBoard(self.configured, self.store, self.retained_orders)
        fresh.live_from = self.live_from
        vars(self).update(vars(fresh))
