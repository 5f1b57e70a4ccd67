"""A market in a few words, for tests and for the examples of `docs/rulebook.md`: requests in, events out as text.

    market = Market()
    market.sell(10, at=101)     # ["1 accepted", "1 rests 10 @ 101"]
    market.buy(4)               # ["2 accepted", "trade 1: 4 @ 101, maker 1 of sue, taker 2 of bob buys"]

Order ids count from 1 in the order of entry. The clock stands at 0 until `wait` moves it. The text of an event holds
all of its fields, so that comparing texts is comparing events.
"""

from collections.abc import Callable
from typing import Any

from exchange.core.asset import Asset, SelfTrade, Status
from exchange.core.book import Order
from exchange.core.events import (
    AmendRejected,
    AssetDefined,
    CancelRejected,
    Event,
    EventRecord,
    IndicativeChanged,
    OrderAccepted,
    OrderCanceled,
    OrderDecremented,
    OrderExpired,
    OrderRejected,
    OrderReplaced,
    OrderReplenished,
    OrderRested,
    OrderTriggered,
    StatusChanged,
    TradeExecuted,
)
from exchange.core.matching import Matching
from exchange.core.requests import (
    BUY,
    SELL,
    SIDE_NAMES,
    SIDES,
    AmendOrder,
    CancelOrder,
    ChangeStatus,
    DefineAsset,
    Delist,
    Expire,
    Instructions,
    MassCancel,
    MassCancelReason,
    NewOrder,
    OrderType,
    Record,
    Request,
    SelfTradePrevention,
    Side,
    TimeInForce,
)

SECOND = 10**9  # in nanoseconds


class Market:
    """The matching core of one asset. Buys are bob's and sells are sue's unless `by` names another account."""

    def __init__(self, self_trade: SelfTrade = "prevent", **definition: Any) -> None:
        self.matching = Matching()
        self.last_order_id = 0
        self.seconds = 0
        self.define(self_trade=self_trade, **definition)

    def define(self, **definition: Any) -> list[str]:
        return self.apply(DefineAsset(Asset(asset="ACME", **definition)), "")

    def buy(self, quantity: int, at: int | None = None, *, by: str = "bob", **options: Any) -> list[str]:
        """Enter a buy order: a limit order where it has a price (`at`), else a market order; with `stop` a stop order.

        The options are those of `enter`.
        """
        return self.enter(BUY, quantity, at, by, **options)

    def sell(self, quantity: int, at: int | None = None, *, by: str = "sue", **options: Any) -> list[str]:
        """Enter a sell order, as `buy` does a buy order."""
        return self.enter(SELL, quantity, at, by, **options)

    def enter(
        self,
        side: Side,
        quantity: int,
        at: int | None,
        by: str,
        *,
        stop: int | None = None,
        time_in_force: TimeInForce = "gtc",
        show: int = 0,
        at_least: int = 0,
        post_only: bool = False,
        self_trade_prevention: SelfTradePrevention = "cancel_newest",
        expire_time: int = 0,
    ) -> list[str]:
        """Enter an order that shows `show`, trades `at_least` that much at once, expires at a second of the clock."""
        self.last_order_id += 1
        order_id = self.last_order_id
        order_type: OrderType = "market" if at is None else "limit"
        if stop is not None:
            order_type = "stop" if at is None else "stop_limit"
        says = Instructions(stop or 0, show, at_least, post_only, self_trade_prevention, expire_time * SECOND)
        instructions = None if says == Instructions() else says
        order = NewOrder(order_id, f"c{order_id}", side, quantity, at or 0, order_type, time_in_force, instructions)
        return self.apply(order, by)

    def amend(
        self,
        order_id: int,
        quantity: int | None = None,
        at: int | None = None,
        *,
        stop: int | None = None,
        by: str = "bob",
    ) -> list[str]:
        return self.apply(AmendOrder(order_id, quantity, at, stop_price=stop), by)

    def cancel(self, order_id: int, by: str = "bob") -> list[str]:
        return self.apply(CancelOrder(order_id), by)

    def mass_cancel(self, side: str = "", by: str = "bob", reason: MassCancelReason = "mass_cancel") -> list[str]:
        return self.apply(MassCancel(SIDES[side] if side else 0, reason=reason), by)

    def status(self, status: Status, reason: str = "operator", ends_day: bool = False, call: int = 0) -> list[str]:
        return self.apply(ChangeStatus(status, reason, call, ends_day), "")

    def expire(self, day: bool = False) -> list[str]:
        return self.apply(Expire(day), "")

    def delist(self) -> list[str]:
        return self.apply(Delist(), "")

    def wait(self, seconds: int) -> list[str]:
        """Let time pass. Nothing comes of that alone."""
        self.seconds += seconds
        return []

    def apply(self, request: Request, by: str) -> list[str]:
        """Apply a request and return the texts of its events."""
        return [describe(event) for event in self.record(request, by).events]

    def record(self, request: Request, by: str) -> EventRecord:
        """Apply a request and return its event record."""
        sequence = self.matching.sequence + 1
        return self.matching.apply(Record("ACME", sequence, self.seconds * SECOND, by, request))

    def book(self) -> list[str]:
        """Return the book's levels, sells above buys as on a screen, each with its queue of order ids and quantities.

        ["sell 101: 3 has 10 (+90 hidden)", "buy 100: 1 has 5, 2 has 7"], and then the stops that wait, by order id:
        ["stop buy 105: 4 has 10 @ market", "stop sell 95: 6 has 10 @ 94"].
        """
        lines: list[str] = []
        for name, side in (("sell", SELL), ("buy", BUY)):
            levels = list(self.matching.book.ladders[side].best_first())
            for price, _, orders in levels if side == BUY else reversed(levels):
                lines.append(f"{name} {price}: " + ", ".join(map(_queued, orders)))
        accounts = self.matching.book.accounts.values()
        live = dict(item for account in accounts for item in account.orders.items())
        lines += [
            f"stop {SIDE_NAMES[order.side]} {order.terms.stop_price}: {_queued(order)} @ {order.price or 'market'}"
            for _, order in sorted(live.items())
            if order.terms and order.terms.waiting
        ]
        return lines


def _queued(order: Order) -> str:
    hidden = f" (+{order.terms.hidden} hidden)" if order.terms and order.terms.hidden else ""
    return f"{order.order_id} has {order.leaves}{hidden}"


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
    return f"{event.order_id} canceled ({event.reason}): {event.canceled} of {event.quantity} @ {_price(event.price)}"


def _expired(event: OrderExpired) -> str:
    return f"{event.order_id} expired: {event.expired} of {event.quantity} @ {_price(event.price)}"


def _decremented(event: OrderDecremented) -> str:
    return f"{event.order_id} decremented: {event.leaves} open of {event.quantity} @ {_price(event.price)}"


def _replaced(event: OrderReplaced) -> str:
    stop = f", stop {event.stop_price}" if event.stop_price else ""
    place = "place kept" if event.priority_kept else "place lost"
    return f"{event.order_id} replaced: {event.quantity} @ {_price(event.price)}{stop}, {event.leaves} open, {place}"


def _status(event: StatusChanged) -> str:
    seconds, rest = divmod(event.call_ends, SECOND)
    fraction = f".{rest:09}" if rest else ""
    ends = f" until {seconds}{fraction} s" if event.call_ends else ""
    return f"status {event.status} ({event.reason}){ends}"


def _indicative(event: IndicativeChanged) -> str:
    if event == IndicativeChanged(0, 0, 0, 0):
        return "indicative: none"
    side = event.surplus_side
    surplus = f"surplus {SIDE_NAMES[side]} {event.surplus_quantity}" if side else "no surplus"
    return f"indicative: {event.quantity} @ {event.price}, {surplus}"


def _price(price: int) -> str:
    return str(price) if price else "market"


_TEXTS: dict[type, Callable[[Any], str]] = {
    AssetDefined: lambda event: "asset defined",
    OrderAccepted: lambda event: f"{event.order_id} accepted",
    OrderRejected: lambda event: f"{event.order_id} rejected ({event.reason})",
    TradeExecuted: _trade,
    OrderRested: lambda event: f"{event.order_id} rests {event.quantity} @ {event.price}",
    OrderCanceled: _canceled,
    OrderReplaced: _replaced,
    OrderTriggered: lambda event: f"{event.order_id} triggered",
    OrderReplenished: lambda event: f"{event.order_id} replenished: {event.shown} @ {event.price}",
    OrderDecremented: _decremented,
    OrderExpired: _expired,
    StatusChanged: _status,
    IndicativeChanged: _indicative,
    CancelRejected: lambda event: f"cancel of {event.order_id} rejected ({event.reason})",
    AmendRejected: lambda event: f"amend of {event.order_id} rejected ({event.reason})",
}
