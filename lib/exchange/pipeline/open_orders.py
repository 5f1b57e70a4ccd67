"""How many open orders each account has in an asset: what a matching daemon reports where risk limits ask for it.

After each batch of requests the accounts whose count it may have changed are reported, at a cost of what happened in
it; and all that have open orders when a complete count is due: after a start, and when the order handler asks.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice

from exchange.core.book import Account
from exchange.core.events import EventRecord, OrderAccepted, OrderCanceled, OrderExpired, TradeExecuted
from exchange.pipeline.codec import OpenOrders, encode

MOST_COUNTS = 5_000  # in one message


class OpenOrderReports:
    """Notes whose counts may have changed, and makes the reports. `accounts` is the book's, by name.

    An order that is canceled or expires may be anybody's, whoever's the request was, and its event does not say whose.
    So the owner of each live order is kept, at about 100 bytes an order, where counts are watched.
    """

    def __init__(self, asset: str, accounts: Mapping[str, Account]) -> None:
        self.asset = asset
        self.accounts = accounts
        self.owners: dict[int, str] = {}  # of the live orders, by order id; while a complete count is due, of none
        self.touched: dict[str, None] = {}  # accounts that are yet to be reported, in the order of their requests
        self.complete_due = True

    def note(self, result: EventRecord) -> None:
        """Note the accounts whose count of open orders a request may have changed: its own, and whose orders ended.

        To be called with each request once it is applied. O(events).
        """
        if self.complete_due:
            return
        owners, touched = self.owners, self.touched
        if result.account:
            touched[result.account] = None
        for event in result.events:
            if type(event) is OrderAccepted:
                owners[event.order_id] = result.account
            elif type(event) is TradeExecuted:
                self._note_trade(event.maker_order_id, event.maker_account)
                self._note_trade(event.taker_order_id, event.taker_account)
            elif type(event) is OrderCanceled or type(event) is OrderExpired:
                owner = owners.pop(event.order_id, None)  # none where it has traded too, and was noted with that
                if owner is not None:
                    touched[owner] = None

    def _note_trade(self, order_id: int, name: str) -> None:
        self.touched[name] = None
        account = self.accounts.get(name)
        if account is None or order_id not in account.orders:
            self.owners.pop(order_id, None)

    def send(self, sequence: int, send: Callable[[bytes], bool]) -> None:
        """Send what is to be reported as of a sequence. What `send` does not take is reported the next time."""
        if self.complete_due:
            self._send_all(sequence, send)
        touched = self.touched
        while touched:
            part = {name: self._count(name) for name in islice(touched, MOST_COUNTS)}
            if not send(encode(OpenOrders(self.asset, sequence, part))):
                return
            for name in part:
                del touched[name]

    def _send_all(self, sequence: int, send: Callable[[bytes], bool]) -> None:
        """Send a complete count, and begin to keep the owners. O(accounts + orders)."""
        self.touched.clear()
        self.owners.clear()
        counts = {name: len(account.orders) for name, account in self.accounts.items() if account.orders}
        parts = list(_parts(counts))
        if all(send(encode(OpenOrders(self.asset, sequence, part, part is parts[-1]))) for part in parts):
            self.complete_due = False
            self.owners.update((order_id, name) for name in counts for order_id in self.accounts[name].orders)

    def _count(self, name: str) -> int:
        account = self.accounts.get(name)
        return 0 if account is None else len(account.orders)


def _parts(counts: dict[str, int]) -> Iterator[dict[str, int]]:
    """Yield counts in parts that a message may carry, one at least."""
    items = iter(counts.items())
    part = dict(islice(items, MOST_COUNTS))
    yield part
    while part := dict(islice(items, MOST_COUNTS)):
        yield part
