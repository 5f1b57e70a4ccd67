"""A second book, written from the rulebook alone: lists, searched from the front each time. Slow and plain.

It shares with the real core the requests and the events, and nothing that decides. Where the two agree event for event
on random requests, either both are right or both err alike. `tests/pair.py` runs them side by side:

    python -m tests.naive --requests 1000000 --seed 7 [--profile deep]
"""

import copy
import math
import sys
from dataclasses import dataclass
from fractions import Fraction

from exchange.core.asset import Asset, Status
from exchange.core.events import (
    AmendRejected,
    AssetDefined,
    CancelReason,
    CancelRejected,
    Event,
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
    RejectReason,
    StatusChanged,
    TradeExecuted,
)
from exchange.core.requests import (
    BUY,
    MAX_HIDDEN_PARTS,
    MAX_PARTS,
    SELL,
    AmendOrder,
    CancelOrder,
    ChangeStatus,
    DefineAsset,
    Delist,
    Expire,
    Instructions,
    MassCancel,
    NewOrder,
    OrderType,
    Record,
    SelfTradePrevention,
    Side,
    TimeInForce,
)

LARGEST = 2**63 - 1  # of a price level's total, and of a quantity that is published
SECOND = 10**9  # in nanoseconds

# Of an auction: price, volume, side of the surplus, surplus.
Outcome = tuple[int, int, Side | None, int]


@dataclass(eq=False)
class NaiveOrder:
    order_id: int
    account: str
    side: Side
    price: int  # 0: a market or stop order's
    quantity: int
    open: int  # 0: filled, canceled or expired
    order_type: OrderType
    time_in_force: TimeInForce
    stop_price: int
    display_quantity: int
    min_quantity: int
    post_only: bool
    self_trade_prevention: SelfTradePrevention
    expire_time: int
    shown: int = 0  # of what is open: what others see, and trade with first
    elected: bool = False  # of a stop that waits: a trade has reached its stop price

    @property
    def takes_any_price(self) -> bool:
        return self.order_type in ("market", "stop")

    @property
    def may_rest(self) -> bool:
        return not self.takes_any_price and self.time_in_force in ("gtc", "day", "gtd")

    def show_first_part(self) -> None:
        self.shown = min(self.display_quantity or self.open, self.open)

    def reaches(self, price: int) -> bool:
        """Say whether the order would trade at that price."""
        if self.takes_any_price:
            return True
        return self.price >= price if self.side == BUY else self.price <= price

    def is_elected_by(self, price: int) -> bool:
        """Say whether a trade at that price elects the stop; there was none yet where it is 0."""
        if not price:
            return False
        return self.stop_price <= price if self.side == BUY else self.stop_price >= price


class NaiveMatching:
    """An asset's resting orders in one list in the order of time priority, and its waiting stops in another."""

    def __init__(self) -> None:
        self.definition = Asset(asset="NONE")
        self.defined = False
        self.delisted = False
        self.status: Status = "open"
        self.call = 0  # the sequence of the request that began the present call
        self.last_price = 0
        self.auction_price = 0
        self.resting: list[NaiveOrder] = []
        self.waiting: list[NaiveOrder] = []  # in the order in which they began to wait
        self.trades = 0
        self.indicative = IndicativeChanged(0, 0, 0, 0)
        self.sequence = 0  # of the present request, and its time
        self.time = 0
        self.events: list[Event] = []

    def apply(self, record: Record) -> list[Event]:
        """Return the events of a request."""
        self.events = []
        self.sequence, self.time = record.sequence, record.time
        account, request = record.account, record.request
        match request:
            case DefineAsset():
                self._define(request)
            case NewOrder():
                self._new(request, account)
            case AmendOrder():
                self._amend(request, account)
            case CancelOrder():
                order = self._find(request.order_id, account)
                if order is None:
                    self.events.append(CancelRejected(request.order_id, "unknown_order"))
                else:
                    self._cancel(order, "user_request")
            case MassCancel():
                for order in self._live():
                    if order.account == account and request.side in (0, order.side):
                        self._cancel(order, request.reason)
            case ChangeStatus():
                self._change_status(request)
            case Expire():
                self._expire(request.day)
            case Delist():
                for order in self._live():
                    self._cancel(order, "operator")
                self._set_status("closed", "delisted")
                self.delisted = True
        self._trigger_elected_stops()
        self._publish_indicative()
        return self.events

    def queue(self, side: Side) -> list[tuple[int, int, int, int]]:
        """Return a side's (price, order_id, shown, hidden) in the order in which they would trade."""
        return [(order.price, order.order_id, order.shown, order.open - order.shown) for order in self._side(side)]

    def open_quantities(self) -> dict[int, int]:
        """Return what each live order has open, by order."""
        return {order.order_id: order.open for order in self._live()}

    # -- requests ------------------------------------------------------------------------------------------------------

    def _define(self, request: DefineAsset) -> None:
        self.definition = request.definition
        self.events.append(AssetDefined())
        first_status: Status = "closed" if self.definition.has_sessions else "open"
        if self.delisted or (not self.defined and first_status == "closed"):
            self._set_status(first_status, "defined")
        self.defined, self.delisted = True, False

    def _new(self, request: NewOrder, account: str) -> None:
        says = request.instructions or Instructions()
        order = NaiveOrder(
            request.order_id,
            account,
            request.side,
            request.price,
            request.quantity,
            request.quantity,
            request.order_type,
            request.time_in_force,
            says.stop_price,
            says.display_quantity,
            says.min_quantity,
            says.post_only,
            says.self_trade_prevention,
            says.expire_time,
        )
        reason = self._reason_to_reject(order)
        if reason:
            self.events.append(OrderRejected(order.order_id, reason))
            return
        self.events.append(OrderAccepted(order.order_id))
        if order.order_type in ("stop", "stop_limit"):
            self._wait_or_trigger(order)
        else:
            self._enter(order)

    def _reason_to_reject(self, order: NaiveOrder) -> RejectReason | None:
        at_once = order.order_type == "market" or (
            order.order_type == "limit" and order.time_in_force in ("ioc", "fok")
        )
        if self.status == "closed" or (self.status == "call" and at_once):
            return "market_closed"
        if self.status == "halted":
            return "halted"
        if order.price and self._is_beyond_price_band(order.price):
            return "price_band"
        if order.order_type == "limit" and order.may_rest and self._overflows(order, order.price, order.open):
            return "invalid_quantity"
        return None

    def _amend(self, request: AmendOrder, account: str) -> None:
        order = self._find(request.order_id, account)
        if order is None:
            self.events.append(AmendRejected(request.order_id, "unknown_order"))
            return
        waits = order in self.waiting
        quantity = order.quantity if request.quantity is None else request.quantity
        price = order.price if request.price is None else request.price
        stop_price = order.stop_price if request.stop_price is None else request.stop_price
        filled = order.quantity - order.open
        keeps_place = price == order.price and stop_price == order.stop_price and quantity <= order.quantity

        reason: RejectReason | None = None
        if self.status == "closed":
            reason = "market_closed"
        elif self.status == "halted":
            reason = "halted"
        elif request.stop_price is not None and not waits:
            reason = "triggered"
        elif quantity <= filled:
            self._cancel(order, "user_request")
            return
        elif keeps_place:
            pass
        elif price != order.price and self._is_beyond_price_band(price):
            reason = "price_band"
        elif order.display_quantity and quantity - filled > MAX_PARTS * order.display_quantity:
            reason = "invalid_quantity"
        elif not waits and order.post_only and self.status == "open" and self._would_meet(order, price):
            reason = "post_only"
        elif not waits and self._overflows(order, price, quantity - filled):
            reason = "invalid_quantity"
        if reason:
            self.events.append(AmendRejected(order.order_id, reason))
            return

        order.price, order.stop_price, order.quantity, order.open = price, stop_price, quantity, quantity - filled
        shown_stop_price = stop_price if waits else 0
        self.events.append(OrderReplaced(order.order_id, price, quantity, order.open, keeps_place, shown_stop_price))
        if keeps_place:
            order.shown = min(order.shown, order.open)
        elif waits:
            self.waiting.remove(order)
            order.elected = False
            self._wait_or_trigger(order)
        else:
            self.resting.remove(order)
            self._enter_again(order)

    def _change_status(self, request: ChangeStatus) -> None:
        if self.delisted or (request.call and (self.status != "call" or self.call != request.call)):
            return
        changes = request.status != self.status or request.status == "call"
        if changes:
            if request.status in ("open", "closed"):
                self._hold_auction()
            self._set_status(request.status, request.reason)
            if request.status == "open":
                self._elect_stops(self.last_price)
        if request.ends_day:
            self._expire(day=True)

    def _expire(self, day: bool) -> None:
        for order in self._live():
            due = order.time_in_force == "gtd" and order.expire_time <= self.time
            if due or (day and order.time_in_force == "day"):
                self.events.append(OrderExpired(order.order_id, order.price, order.quantity, order.open))
                self._end(order)

    # -- entering ------------------------------------------------------------------------------------------------------

    def _enter(self, order: NaiveOrder) -> None:
        """Trade a new order or a stop that was triggered, and do with what is left as it says."""
        if self.status == "call":
            if order.min_quantity:
                self._cancel(order, "minimum_quantity")
            else:
                self._rest(order)
        elif order.post_only and self._would_meet(order, order.price):
            self._cancel(order, "post_only")
        elif order.time_in_force == "fok" and self._would_trade(order) < order.open:
            self._cancel(order, "fill_or_kill")
        elif order.min_quantity and self._would_trade(order) < order.min_quantity:
            self._cancel(order, "minimum_quantity")
        else:
            interrupted = self._trade(order)
            if not order.open:
                return
            if order.may_rest:
                self._rest(order)
            elif not order.takes_any_price:
                self._cancel(order, "immediate_or_cancel")
            else:
                self._cancel(order, "halted" if interrupted else "market_remainder")

    def _enter_again(self, order: NaiveOrder) -> None:
        """Trade an order that has left the book by an amend, and let what is left rest."""
        if self.status == "open":
            self._trade(order)
        if order.open:
            self._rest(order)

    def _trade(self, order: NaiveOrder) -> bool:
        """Trade an incoming order until it ends, or nothing more is within its limit, or (True) the band interrupts."""
        while order.open:
            within_limit = [maker for maker in self._side(-order.side) if order.reaches(maker.price)]
            if not within_limit:
                return False
            maker = within_limit[0]
            if self._is_beyond_volatility_band(maker.price):
                ends = self.time + self.definition.call_seconds * SECOND
                self._set_status("call", "volatility_interruption", ends)
                return True
            if maker.account == order.account and self.definition.self_trade == "prevent":
                self._prevent_self_trade(order, maker)
            else:
                self._trade_with(order, maker)
        return False

    def _trade_with(self, order: NaiveOrder, maker: NaiveOrder) -> None:
        quantity = min(order.open, maker.shown)
        self._print(order.side, maker, order, maker.price, quantity)
        order.open -= quantity
        maker.open -= quantity
        maker.shown -= quantity
        if not maker.shown:
            self._show_next_part(maker)

    def _prevent_self_trade(self, order: NaiveOrder, maker: NaiveOrder) -> None:
        match order.self_trade_prevention:
            case "cancel_newest":
                self._cancel(order, "self_trade_prevention")
            case "cancel_oldest":
                self._cancel(maker, "self_trade_prevention")
            case "cancel_both":
                self._cancel(maker, "self_trade_prevention")
                self._cancel(order, "self_trade_prevention")
            case "decrement_and_cancel":
                less = min(order.open, maker.open)
                for each in (maker, order):
                    if each.open == less:
                        self._cancel(each, "self_trade_prevention")
                        continue
                    each.quantity -= less
                    each.open -= less
                    each.shown = min(each.shown, each.open)
                    self.events.append(OrderDecremented(each.order_id, each.price, each.quantity, each.open))

    def _would_meet(self, order: NaiveOrder, price: int) -> bool:
        """Say whether anything on the other side, of whomever, is within that limit."""
        others = [other.price for other in self._side(-order.side)]
        return any(other <= price if order.side == BUY else other >= price for other in others)

    def _would_trade(self, order: NaiveOrder) -> int:
        """Return how much would trade at once: try it on a copy of everything."""
        trial, incoming = copy.copy(self), copy.copy(order)
        trial.resting = [copy.copy(each) for each in self.resting]
        trial.waiting = []
        trial.events = []
        trial._trade(incoming)
        return sum(event.quantity for event in trial.events if isinstance(event, TradeExecuted))

    def _print(self, aggressor: Side, maker: NaiveOrder, taker: NaiveOrder, price: int, quantity: int) -> None:
        """Print a trade: it is the last one, and elects stops."""
        self.trades += 1
        self.events.append(
            TradeExecuted(
                self.trades,
                price,
                quantity,
                aggressor,
                maker.order_id,
                taker.order_id,
                maker.account,
                taker.account,
            )
        )
        self.last_price = price
        self._elect_stops(price)

    def _show_next_part(self, order: NaiveOrder) -> None:
        """Take an order whose shown part is used up to the back of its level's queue, if it has more."""
        self.resting.remove(order)
        if order.open:
            order.show_first_part()
            self.resting.append(order)
            self.events.append(OrderReplenished(order.order_id, order.price, order.shown))

    def _rest(self, order: NaiveOrder) -> None:
        order.show_first_part()
        self.resting.append(order)
        self.events.append(OrderRested(order.order_id, order.price, order.open))

    # -- stops ---------------------------------------------------------------------------------------------------------

    def _wait_or_trigger(self, order: NaiveOrder) -> None:
        if self.status == "open" and order.is_elected_by(self.last_price):
            self._trigger(order)
        else:
            self.waiting.append(order)

    def _trigger(self, order: NaiveOrder) -> None:
        self.events.append(OrderTriggered(order.order_id))
        if order.may_rest and self._overflows(order, order.price, order.open):
            self._cancel(order, "invalid_quantity")
        else:
            self._enter(order)

    def _elect_stops(self, price: int) -> None:
        for order in self.waiting:
            if order.is_elected_by(price):
                order.elected = True

    def _trigger_elected_stops(self) -> None:
        """Trigger round after round, until trades elect no more, or trading is interrupted."""
        while self.status == "open":
            elected = [order for order in self.waiting if order.elected]
            if not elected:
                return
            buys = [order for order in elected if order.side == BUY]
            sells = [order for order in elected if order.side == SELL]
            buys.sort(key=lambda order: order.stop_price)  # stable: at one price, in the order of the list
            sells.sort(key=lambda order: -order.stop_price)
            for order in buys + sells:
                if self.status == "open":
                    self.waiting.remove(order)
                    self._trigger(order)

    # -- status and auction --------------------------------------------------------------------------------------------

    def _set_status(self, status: Status, reason: str, ends: int = 0) -> None:
        self.status = status
        self.call = self.sequence if status == "call" else 0
        self.indicative = IndicativeChanged(0, 0, 0, 0)
        self.events.append(StatusChanged(status, reason, ends))

    def _hold_auction(self) -> None:
        outcome = self._auction()
        if outcome is None:
            return
        price, volume, _, _ = outcome
        buys = [order for order in self._side(BUY) if order.price >= price]
        sells = [order for order in self._side(SELL) if order.price <= price]
        filled = dict.fromkeys([*buys, *sells], 0)
        while volume:
            buy = next(order for order in buys if order.open)
            sell = next(order for order in sells if order.open)
            quantity = min(buy.open, sell.open, volume)
            volume -= quantity
            self._print(BUY, sell, buy, price, quantity)
            for order in (buy, sell):
                order.open -= quantity
                filled[order] += quantity
        for order, quantity in filled.items():
            order.shown = max(order.shown - quantity, 0)
            if not order.shown:
                self._show_next_part(order)
        self.auction_price = price

    def _auction(self) -> Outcome | None:
        """Return what an auction would come to now: each limit price in the book is tried."""

        def demand(price: int) -> int:
            return sum(order.open for order in self.resting if order.side == BUY and order.price >= price)

        def supply(price: int) -> int:
            return sum(order.open for order in self.resting if order.side == SELL and order.price <= price)

        tried = [(price, demand(price), supply(price)) for price in sorted({order.price for order in self.resting})]
        most = max((min(buys, sells) for _, buys, sells in tried), default=0)
        if not most:
            return None
        tried = [each for each in tried if min(each[1], each[2]) == most]
        least = min(abs(buys - sells) for _, buys, sells in tried)
        tried = [each for each in tried if abs(each[1] - each[2]) == least]
        lowest, highest = tried[0][0], tried[-1][0]
        reference = self._reference_price()
        if all(buys > sells for _, buys, sells in tried):
            price = highest
        elif all(buys < sells for _, buys, sells in tried):
            price = lowest
        elif reference:
            price = min(max(reference, lowest), highest)
        else:
            tick = self.definition.tick_size
            price = -(-(lowest + highest) // (2 * tick)) * tick
            price = min(price, highest)  # where the tick was another when the orders came
        surplus = demand(price) - supply(price)
        side = BUY if surplus > 0 else SELL if surplus < 0 else None
        return price, min(demand(price), supply(price)), side, abs(surplus)

    def _publish_indicative(self) -> None:
        if self.status != "call":
            return
        now = IndicativeChanged(0, 0, 0, 0)
        outcome = self._auction()
        if outcome is not None:
            price, volume, side, surplus = outcome
            now = IndicativeChanged(price, min(volume, LARGEST), side or 0, min(surplus, LARGEST))
        if now != self.indicative:
            self.indicative = now
            self.events.append(now)

    def _reference_price(self) -> int:
        return self.last_price or self.definition.reference_price

    def _is_beyond_price_band(self, price: int) -> bool:
        return is_beyond(price, self._reference_price(), self.definition.price_band_ppm)

    def _is_beyond_volatility_band(self, price: int) -> bool:
        reference = self.auction_price or self.definition.reference_price
        return is_beyond(price, reference, self.definition.volatility_band_ppm)

    # -- orders --------------------------------------------------------------------------------------------------------

    def _cancel(self, order: NaiveOrder, reason: CancelReason) -> None:
        self.events.append(OrderCanceled(order.order_id, reason, order.price, order.quantity, order.open))
        self._end(order)

    def _end(self, order: NaiveOrder) -> None:
        if order in self.resting:
            self.resting.remove(order)
        if order in self.waiting:
            self.waiting.remove(order)
        order.open = 0

    def _live(self) -> list[NaiveOrder]:
        return sorted(self.resting + self.waiting, key=lambda order: order.order_id)

    def _side(self, side: int) -> list[NaiveOrder]:
        """Return a side's orders, the first to trade first."""
        orders = [order for order in self.resting if order.side == side]
        orders.sort(key=lambda order: -side * order.price)  # stable: at one price, in the order of the list
        return orders

    def _find(self, order_id: int, account: str) -> NaiveOrder | None:
        for order in self._live():
            if order.order_id == order_id and order.account == account:
                return order
        return None

    def _overflows(self, order: NaiveOrder, price: int, quantity: int) -> bool:
        """Say whether the level would hold more than it may with that quantity of the order in it.

        Or the side's icebergs would have more parts yet to be shown than they may.
        """
        others = [each for each in self.resting if each is not order]
        level = sum(each.open for each in others if (each.side, each.price) == (order.side, price))
        hidden = [(each.open - each.shown, each.display_quantity) for each in others if each.side == order.side]
        hidden.append((max(quantity - order.display_quantity, 0), order.display_quantity))
        parts = sum(math.ceil(Fraction(quantity, display)) for quantity, display in hidden if display)
        return level + quantity > LARGEST or parts > MAX_HIDDEN_PARTS


def is_beyond(price: int, reference: int, band_ppm: int) -> bool:
    """Say whether a price is further from the reference than the band allows; not without a band or a reference."""
    if not reference or not band_ppm:
        return False
    return abs(price - reference) * 1_000_000 > band_ppm * reference


if __name__ == "__main__":
    from tests.pair import main

    sys.exit(main(sys.argv[1:]))
