"""A market in a few words, for tests and for the examples of `docs/rulebook.md`: requests in, events out as text.

    market = Market()
    market.sell(10, at=101)     # ["1 accepted", "1 rests 10 @ 101"]
    market.buy(4)               # ["2 accepted", "trade 1: 4 @ 101, maker 1 of sue, taker 2 of bob buys"]

Order ids count from 1 in the order of entry. The text of an event holds all of its fields, so that comparing texts is
comparing events.
"""

from collections.abc import Callable
from typing import Any

from exchange.core.asset import Asset, SelfTrade
from exchange.core.events import (
    AmendRejected,
    AssetDefined,
    CancelRejected,
    Event,
    EventRecord,
    OrderAccepted,
    OrderCanceled,
    OrderRejected,
    OrderReplaced,
    OrderRested,
    TradeExecuted,
)
from exchange.core.matching import Matching
from exchange.core.requests import (
    BUY,
    SELL,
    SIDES,
    AmendOrder,
    CancelOrder,
    DefineAsset,
    MassCancel,
    NewOrder,
    OrderType,
    Record,
    Request,
    Side,
    TimeInForce,
)


class Market:
    """The matching core of one asset. Buys are bob's and sells are sue's unless `by` names another account."""

    def __init__(self, self_trade: SelfTrade = "prevent") -> None:
        self.matching = Matching()
        self.last_order_id = 0
        self.define(self_trade=self_trade)

    def define(self, **definition: Any) -> list[str]:
        return self.apply(DefineAsset(Asset(asset="ACME", **definition)), "")

    def buy(
        self, quantity: int, at: int | None = None, time_in_force: TimeInForce = "gtc", by: str = "bob"
    ) -> list[str]:
        """Enter a buy order: a limit order where it has a price (`at`), else a market order."""
        return self._enter(BUY, quantity, at, time_in_force, by)

    def sell(
        self, quantity: int, at: int | None = None, time_in_force: TimeInForce = "gtc", by: str = "sue"
    ) -> list[str]:
        """Enter a sell order, as `buy` does a buy order."""
        return self._enter(SELL, quantity, at, time_in_force, by)

    def amend(self, order_id: int, quantity: int | None = None, at: int | None = None, by: str = "bob") -> list[str]:
        return self.apply(AmendOrder(order_id, quantity, at), by)

    def cancel(self, order_id: int, by: str = "bob") -> list[str]:
        return self.apply(CancelOrder(order_id), by)

    def mass_cancel(self, side: str = "", by: str = "bob") -> list[str]:
        return self.apply(MassCancel(SIDES[side] if side else 0), by)

    def apply(self, request: Request, by: str) -> list[str]:
        """Apply a request and return the texts of its events."""
        return [describe(event) for event in self.record(request, by).events]

    def record(self, request: Request, by: str) -> EventRecord:
        """Apply a request and return its event record."""
        sequence = self.matching.sequence + 1
        return self.matching.apply(Record("ACME", sequence, sequence * 1000, by, request))

    def book(self) -> list[str]:
        """Return the book's levels, sells above buys as on a screen, each with its queue of order ids and quantities.

        ["sell 101: 3 has 10", "buy 100: 1 has 5, 2 has 7"]
        """
        lines: list[str] = []
        for name, side in (("sell", SELL), ("buy", BUY)):
            levels = list(self.matching.book.ladders[side].best_first())
            for price, _, orders in levels if side == BUY else reversed(levels):
                queue = ", ".join(f"{order.order_id} has {order.leaves}" for order in orders)
                lines.append(f"{name} {price}: {queue}")
        return lines

    def _enter(self, side: Side, quantity: int, at: int | None, time_in_force: TimeInForce, by: str) -> list[str]:
        self.last_order_id += 1
        order_id = self.last_order_id
        order_type: OrderType = "market" if at is None else "limit"
        return self.apply(NewOrder(order_id, f"c{order_id}", side, quantity, at or 0, order_type, time_in_force), by)


# -- events as text ----------------------------------------------------------------------------------------------------


def describe(event: Event) -> str:
    """Return an event in words, with all its fields."""
    return _TEXTS[type(event)](event)


def _trade(event: TradeExecuted) -> str:
    verb = "buys" if event.aggressor == BUY else "sells"
    return (
        f"trade {event.trade_id}: {event.quantity} @ {event.price}, maker {event.maker_order_id} of "
        f"{event.maker_account}, taker {event.taker_order_id} of {event.taker_account} {verb}"
    )


def _canceled(event: OrderCanceled) -> str:
    price = event.price or "market"
    return f"{event.order_id} canceled ({event.reason}): {event.canceled} of {event.quantity} @ {price}"


def _replaced(event: OrderReplaced) -> str:
    place = "place kept" if event.priority_kept else "place lost"
    return f"{event.order_id} replaced: {event.quantity} @ {event.price}, {event.leaves} open, {place}"


_TEXTS: dict[type, Callable[[Any], str]] = {
    AssetDefined: lambda event: "asset defined",
    OrderAccepted: lambda event: f"{event.order_id} accepted",
    OrderRejected: lambda event: f"{event.order_id} rejected ({event.reason})",
    TradeExecuted: _trade,
    OrderRested: lambda event: f"{event.order_id} rests {event.quantity} @ {event.price}",
    OrderCanceled: _canceled,
    OrderReplaced: _replaced,
    CancelRejected: lambda event: f"cancel of {event.order_id} rejected ({event.reason})",
    AmendRejected: lambda event: f"amend of {event.order_id} rejected ({event.reason})",
}
