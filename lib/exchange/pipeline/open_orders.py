"""How many open orders each account has in an asset: what a matching daemon reports where risk limits ask for it.

After each batch of requests the accounts that it may have changed are reported, and all that have open orders when a
complete count is due: after a start, when the order handler asks, and when a report could not be sent.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from exchange.core.book import Account
from exchange.core.events import EventRecord, OrderTriggered, TradeExecuted
from exchange.core.requests import AmendOrder, CancelOrder, MassCancel, NewOrder
from exchange.pipeline.codec import OpenOrders, encode

MOST_COUNTS = 5_000  # in one message
OF_AN_ACCOUNT = (NewOrder, AmendOrder, CancelOrder, MassCancel)


class OpenOrderReports:
    """Notes whose counts may have changed, and makes the reports. `accounts` is the book's, by name."""

    def __init__(self, asset: str, accounts: Mapping[str, Account]) -> None:
        self.asset = asset
        self.accounts = accounts
        self.touched: set[str] = set()
        self.complete_due = True

    def note(self, result: EventRecord) -> None:
        """Note the accounts whose count of open orders a request may have changed.

        Those are its own and those that traded. What the exchange itself asks for, such as an expiry, and stops of
        other accounts that the trades elected, may end orders of anybody: then all are counted.
        """
        request, touched = result.request, self.touched
        if type(request) not in OF_AN_ACCOUNT:
            self.complete_due = True
            return
        touched.add(result.account)
        for event in result.events:
            if type(event) is TradeExecuted:
                touched.add(event.maker_account)
                touched.add(event.taker_account)
            elif type(event) is OrderTriggered and not _is_own(event, request):
                self.complete_due = True

    def send(self, sequence: int, send: Callable[[bytes], bool]) -> None:
        """Send what is to be reported as of a sequence. What `send` does not take is part of a complete count later."""
        if self.complete_due:
            open_orders = {name: len(account.orders) for name, account in self.accounts.items() if account.orders}
            self.complete_due = not self._send(sequence, open_orders, send, True)
        elif self.touched:
            counts = {name: self._count(name) for name in sorted(self.touched)}
            self.complete_due = not self._send(sequence, counts, send, False)
        self.touched.clear()

    def _count(self, name: str) -> int:
        account = self.accounts.get(name)
        return 0 if account is None else len(account.orders)

    def _send(self, sequence: int, counts: dict[str, int], send: Callable[[bytes], bool], complete: bool) -> bool:
        parts = list(_parts(counts))
        return all(
            send(encode(OpenOrders(self.asset, sequence, part, complete and part is parts[-1]))) for part in parts
        )


def _is_own(event: OrderTriggered, request: Any) -> bool:
    return type(request) in (NewOrder, AmendOrder) and event.order_id == request.order_id


def _parts(counts: dict[str, int]) -> Iterator[dict[str, int]]:
    """Yield counts in parts that a message may carry, one at least."""
    items = iter(counts.items())
    part = dict(islice(items, MOST_COUNTS))
    yield part
    while part := dict(islice(items, MOST_COUNTS)):
        yield part
