"""How orders trade: continuously, one incoming order against the book, and all at once in an auction.

`Trading` is the book with what happens to orders in it; `Matching` in `matching.py` adds the requests. Its hot path is
`enter` and `cancel`, plain limit and market orders in continuous trading without bands; everything else an order can be
goes through `enter_with_terms`, and shares `_trade` with it.
"""

from exchange.core.asset import MAX_INTEGER, MILLION, Asset, Status
from exchange.core.auction import NO_AUCTION, Crossing, indicative
from exchange.core.book import DEEP, Account, Book, Level, Order, Terms, orders_of, two_orders
from exchange.core.events import (
    CancelReason,
    Event,
    IndicativeChanged,
    OrderCanceled,
    OrderDecremented,
    OrderExpired,
    OrderReplenished,
    OrderRested,
    StatusChanged,
    TradeExecuted,
)
from exchange.core.expiries import Expiries
from exchange.core.requests import BUY, MAX_HIDDEN_PARTS, SELL, Side, TimeInForce
from exchange.core.stops import Stops

NO_LIMIT = -(2**64)  # below every key of a ladder: a market order reaches all of them
PLAIN = Terms()
RESTING: tuple[TimeInForce, ...] = ("gtc", "day", "gtd")


class Trading:
    """One asset's book, its stops, and its state of trading. What happens is appended to `events`."""

    __slots__ = (
        "allow_self_trade",
        "asset",
        "auction_price",
        "book",
        "call",
        "call_ends",
        "crossing",
        "events",
        "expiries",
        "indicative",
        "keys_within_band",
        "last_price",
        "plain",
        "sequence",
        "status",
        "stops",
        "time",
        "trade_id",
    )

    def __init__(self) -> None:
        self.asset: Asset | None = None
        self.allow_self_trade = False
        self.book = Book()
        self.stops = Stops()
        self.expiries = Expiries()
        self.events: list[Event] = []
        self.sequence = 0  # of the last request applied
        self.time = 0  # and its time
        self.trade_id = 0  # of the last trade
        self.last_price = 0  # and its price; 0: none yet
        self.auction_price = 0  # of the last auction that traded
        self.status: Status = "open"
        self.call = 0  # the sequence of the request that began the present call; 0: there is none
        self.call_ends = 0  # when it ends by itself
        self.crossing: Crossing | None = None  # during a call
        self.indicative: IndicativeChanged = NO_AUCTION  # what was last published of the call
        self.plain = True  # open, and without bands: a plain order needs no second look
        # The keys of the opposite ladder, least and greatest, at which an incoming order of a side may trade.
        self.keys_within_band: tuple[tuple[int, int], ...] | None = None

    # -- the hot path --------------------------------------------------------------------------------------------------

    def cancel(self, order: Order, reason: CancelReason) -> None:
        """End a live order."""
        if order.terms is None and self.crossing is None:
            self.book.remove(order)
            self.events.append(OrderCanceled(order.order_id, reason, order.price, order.quantity, order.leaves))
        else:
            self._leave(order)
            self.events.append(OrderCanceled(order.order_id, reason, order.price, order.quantity, order.open))

    def enter(
        self, order_id: int, account: Account, side: Side, price: int, quantity: int, time_in_force: TimeInForce
    ) -> None:
        """Trade a plain limit order against the book, then rest or cancel what is left. Only where `plain` is true.

        That it rests is written out here, as `Book.add` has it for all other orders: most orders do nothing else, and
        the call is a twentieth of what the core does for them.
        """
        order = Order(order_id, account, side, price, quantity, quantity)
        book = self.book
        if side > 0:
            ladder = book.buys
            key = price
            limit = -price
            best = book.sells.best
        else:
            ladder = book.sells
            key = -price
            limit = price
            best = book.buys.best
        if best >= limit:
            if time_in_force == "fok" and not self._can_trade(order, limit, quantity):
                self._cancel_incoming(order, "fill_or_kill")
                return
            if self._trade(order, limit):
                return
            quantity = order.leaves
        if time_in_force != "gtc":
            self._cancel_incoming(order, "fill_or_kill" if time_in_force == "fok" else "immediate_or_cancel")
            return
        account.orders[order_id] = order
        levels = ladder.levels
        if key > ladder.best:
            levels[key] = order
            ladder.best = key
            ladder.keys.append(key)
        elif (level := levels.get(key)) is None:
            levels[key] = order
            ladder.insert(key)
        elif type(level) is Level:
            level.leaves += quantity
            orders = level.orders
            orders[order_id] = order
            if len(orders) == DEEP:
                level.deep = True
        else:
            levels[key] = two_orders(level, order)
        self.events.append(OrderRested(order_id, price, quantity))

    def enter_market(self, order: Order, time_in_force: TimeInForce) -> None:
        """Trade a market order without terms against the book, then cancel what is left. Only where `plain` is true."""
        if time_in_force == "fok" and not self._can_trade(order, NO_LIMIT, order.leaves):
            self._cancel_incoming(order, "fill_or_kill")
        elif not self._trade(order, NO_LIMIT):
            self._cancel_incoming(order, "market_remainder")

    def _trade(self, taker: Order, limit: int) -> bool:
        """Trade against all levels within the limit, best first, each first in, first out.

        `limit` is the smallest key of the opposite ladder that the order may reach. Returns whether the order has
        ended: filled, or canceled because it met one of its own account.
        """
        side, taker_id, account, leaves = taker.side, taker.order_id, taker.account, taker.leaves
        own = None if self.allow_self_trade else account
        append, remove = self.events.append, self.book.remove
        opposite = self.book.sells if side > 0 else self.book.buys
        levels = opposite.levels
        while (key := opposite.best) >= limit:
            level = levels[key]
            maker = level.first() if type(level) is Level else level
            owner = maker.account
            if owner is own:
                taker.leaves = leaves
                if self._prevent_self_trade(taker, maker):
                    return True
                leaves = taker.leaves
                continue
            maker_leaves = maker.leaves
            quantity = leaves if leaves < maker_leaves else maker_leaves
            self.trade_id = trade_id = self.trade_id + 1
            self.last_price = price = maker.price
            append(TradeExecuted(trade_id, price, quantity, side, maker.order_id, taker_id, owner.name, account.name))
            if quantity == maker_leaves:
                remove(maker)
                if maker.terms is not None:
                    self._shown_part_filled(maker)
            else:
                maker.leaves = maker_leaves - quantity
                if level is not maker:
                    level.leaves -= quantity
            leaves -= quantity
            if not leaves:
                return True
        taker.leaves = leaves
        return False

    def _shown_part_filled(self, maker: Order) -> None:
        """Go on with an order that left the book with all that it showed traded."""
        if self.book.replenish(maker):
            self.events.append(OrderReplenished(maker.order_id, maker.price, maker.leaves))
        else:
            self.expiries.remove(maker)

    def _cancel_incoming(self, order: Order, reason: CancelReason) -> None:
        self.events.append(OrderCanceled(order.order_id, reason, order.price, order.quantity, order.leaves))

    # -- everything else an order can be -------------------------------------------------------------------------------

    def enter_with_terms(self, order: Order, terms: Terms, *, again: bool = False) -> None:
        """Trade an order with whatever terms, in whatever status that takes it, then rest or cancel what is left.

        `again` says that it rested before: its conditions on entry count no more.
        """
        if self.status == "call":
            if terms.min_quantity and not again:
                self._end_incoming(order, "minimum_quantity")
            else:
                self._rest(order)
            return
        market = terms.order_type == "market" or terms.order_type == "stop"
        limit = NO_LIMIT if market else -order.side * order.price
        if terms.post_only and self.book.ladders[-order.side].best >= limit:
            self._end_incoming(order, "post_only")
            return
        if terms.time_in_force == "fok" and not self._can_trade(order, limit, order.leaves):
            self._end_incoming(order, "fill_or_kill")
            return
        if terms.min_quantity and not again and not self._can_trade(order, limit, terms.min_quantity):
            self._end_incoming(order, "minimum_quantity")
            return
        if self._trade_within_band(order, limit):
            self.expiries.remove(order)
        elif market:
            self._end_incoming(order, "market_remainder" if self.crossing is None else "halted")
        elif terms.time_in_force in RESTING:
            self._rest(order)
        else:
            self._end_incoming(order, "immediate_or_cancel")

    def _trade_within_band(self, taker: Order, limit: int) -> bool:
        """Trade as `_trade` does; where the next trade would be beyond the volatility band, interrupt trading."""
        opposite = self.book.ladders[-taker.side]
        if opposite.best < limit:
            return False
        if self.keys_within_band is None:
            return self._trade(taker, limit)
        least, greatest = self.keys_within_band[taker.side]
        if opposite.best <= greatest and self._trade(taker, max(limit, least)):
            return True
        if opposite.best >= limit:
            assert self.asset is not None
            self.begin_call("volatility_interruption", self.time + self.asset.call_seconds * 1_000_000_000)
        return False

    def _prevent_self_trade(self, taker: Order, maker: Order) -> bool:
        """Do what the incoming order's instruction says; return whether it has ended."""
        terms = taker.terms or PLAIN
        instruction = terms.self_trade_prevention
        if instruction == "decrement_and_cancel":
            by = min(taker.leaves, maker.open)
            self._decrement(maker, by)
            if taker.leaves == by:
                self._end_incoming(taker, "self_trade_prevention")
                return True
            taker.leaves -= by
            taker.quantity -= by
            self.events.append(OrderDecremented(taker.order_id, taker.price, taker.quantity, taker.leaves))
            return False
        if instruction != "cancel_newest":
            self.cancel(maker, "self_trade_prevention")
        if instruction != "cancel_oldest":
            self._end_incoming(taker, "self_trade_prevention")
            return True
        return False

    def _decrement(self, maker: Order, by: int) -> None:
        if maker.open == by:
            self.cancel(maker, "self_trade_prevention")
            return
        self.book.ladders[maker.side].shrink(maker, by)
        maker.quantity -= by
        self.events.append(OrderDecremented(maker.order_id, maker.price, maker.quantity, maker.open))

    def _can_trade(self, order: Order, limit: int, wanted: int) -> bool:
        """Return whether that much of an order would trade at once, self-trade prevention and band and all.

        O(orders that it would meet); O(levels) where its account has none in the book.
        """
        own = {} if self.allow_self_trade else order.account.orders
        instruction = (order.terms or PLAIN).self_trade_prevention
        leaves = order.leaves
        if leaves < wanted:
            return False
        opposite = self.book.ladders[-order.side]
        least, greatest = (NO_LIMIT, -NO_LIMIT) if self.keys_within_band is None else self.keys_within_band[order.side]
        for key in opposite.all_keys_best_first():
            if key < limit or key < least or key > greatest:
                return False
            level = opposite.levels[key]
            hidden = opposite.hidden.get(key, 0)
            if not own:
                quantity = level.leaves + hidden
                wanted -= quantity
                leaves -= quantity
            else:
                for maker in orders_of(level):
                    if maker.order_id not in own:
                        wanted -= maker.leaves
                        leaves -= maker.leaves
                    elif instruction == "decrement_and_cancel":
                        leaves -= maker.open
                        hidden -= maker.hidden
                    elif instruction == "cancel_oldest":
                        hidden -= maker.hidden
                    else:
                        return wanted <= 0
                    if wanted <= 0 or leaves < wanted:
                        return wanted <= 0
                wanted -= hidden
                leaves -= hidden
            if wanted <= 0 or leaves < wanted:
                return wanted <= 0
        return False

    def no_room(self, side: Side, price: int, quantity: int, display_quantity: int, instead: Order | None) -> bool:
        """Return whether an order that rests would lift its level's total, or its side's hidden parts, above the bound.

        It may rest `instead` of one, which it then is itself, amended.
        """
        ladder = self.book.ladders[side]
        total, parts = ladder.open_at(price) + quantity, ladder.hidden_parts
        if instead is not None:
            parts -= 0 if instead.terms is None else instead.terms.hidden_parts
            total -= instead.open if instead.price == price else 0
        if 0 < display_quantity < quantity:
            parts += -(-quantity // display_quantity) - 1
        return total > MAX_INTEGER or parts > MAX_HIDDEN_PARTS

    def _rest(self, order: Order) -> None:
        leaves = order.leaves
        self.book.add(order)
        self.expiries.add(order)
        if self.crossing is not None:
            self.crossing.change(order.side, order.price, leaves)
        self.events.append(OrderRested(order.order_id, order.price, leaves))

    def _leave(self, order: Order) -> None:
        """Take a live order out of wherever it is."""
        if order.terms is not None:
            self.expiries.remove(order)
            if order.terms.waiting:
                self.stops.remove(order)
                return
        self.book.remove(order)
        if self.crossing is not None:
            self.crossing.change(order.side, order.price, -order.open)

    def _end_incoming(self, order: Order, reason: CancelReason) -> None:
        self.expiries.remove(order)
        self._cancel_incoming(order, reason)

    def expire(self, order: Order) -> None:
        """End a live order whose time is up."""
        self._leave(order)
        self.events.append(OrderExpired(order.order_id, order.price, order.quantity, order.open))

    # -- calls and auctions --------------------------------------------------------------------------------------------

    def begin_call(self, reason: str, ends: int = 0) -> None:
        """Begin a call, or begin it anew. It ends by itself at `ends` (0: not)."""
        self.status, self.call, self.call_ends, self.plain = "call", self.sequence, ends, False
        self.crossing, self.indicative = Crossing(self.book), NO_AUCTION
        self.events.append(StatusChanged("call", reason, ends))

    def publish_indicative(self) -> None:
        """Say what the call would come to, if that has changed."""
        assert self.crossing is not None
        assert self.asset is not None
        now = indicative(self.crossing.auction(self.reference_price, self.asset.tick_size))
        if now != self.indicative:
            self.indicative = now
            self.events.append(now)

    def hold_auction(self) -> None:
        """Trade all that can trade at one price, by price and time, one trade for each pair of orders."""
        crossing, self.crossing = self.crossing or Crossing(self.book), None
        assert self.asset is not None
        found = crossing.auction(self.reference_price, self.asset.tick_size)
        if found is None:
            return
        price, volume = found.price, found.volume
        buys, sells = self.book.ladders[BUY], self.book.ladders[SELL]
        buy = sell = None
        buy_open = sell_open = 0
        while volume:
            if buy is None:
                buy = buys.first()
                buy_open = buy.open
            if sell is None:
                sell = sells.first()
                sell_open = sell.open
            quantity = min(buy_open, sell_open, volume)
            self.trade_id += 1
            self.events.append(
                TradeExecuted(
                    self.trade_id,
                    price,
                    quantity,
                    BUY,
                    sell.order_id,
                    buy.order_id,
                    sell.account.name,
                    buy.account.name,
                )
            )
            volume -= quantity
            buy_open -= quantity
            sell_open -= quantity
            if not buy_open or not volume:
                self._fill_in_auction(buy, buy_open)
                buy = None
            if not sell_open or not volume:
                self._fill_in_auction(sell, sell_open)
                sell = None
        self.last_price = self.auction_price = price
        self.refresh()

    def _fill_in_auction(self, order: Order, left: int) -> None:
        """Leave an order that traded in the auction with what is left of it."""
        filled = order.open - left
        if not left:
            self.book.remove(order)
            self.expiries.remove(order)
        elif filled < order.leaves:
            self.book.ladders[order.side].reduce(order, filled)
        else:
            terms = order.terms
            assert terms is not None, "what shows less than it trades is an iceberg"
            self.book.remove(order)
            terms.hidden = left
            self.book.replenish(order)
            self.events.append(OrderReplenished(order.order_id, order.price, order.leaves))

    @property
    def reference_price(self) -> int:
        """The last trade's price, else the configured one; 0: neither."""
        return self.last_price or (0 if self.asset is None else self.asset.reference_price)

    def beyond_price_band(self, price: int) -> bool:
        """Return whether a limit is further from the reference price than the asset's price band."""
        reference = self.reference_price
        if self.asset is None or not self.asset.price_band_ppm or not reference:
            return False
        return abs(price - reference) * MILLION > self.asset.price_band_ppm * reference

    def refresh(self) -> None:
        """Work out anew what follows from definition, status and auction price."""
        asset = self.asset
        self.keys_within_band = None
        if asset is None:
            return
        self.allow_self_trade = asset.self_trade == "allow"
        reference = self.auction_price or asset.reference_price
        if asset.volatility_band_ppm and reference:
            band = asset.volatility_band_ppm * reference // MILLION
            low, high = reference - band, reference + band
            self.keys_within_band = ((0, 0), (-high, -low), (low, high))
        self.plain = self.status == "open" and self.keys_within_band is None and not asset.price_band_ppm
