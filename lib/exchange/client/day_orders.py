"""The orders of a synthetic trading day, from a seed. Pure: the same seed, asset and prices give the same orders.

`DayMarket` makes the crowd: orders of every kind around a price, for a call or for continuous trading. `Stage` makes
the scenes between: a few orders each on an empty book, of which it is known beforehand what comes of them.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from msgspec import UNSET

from exchange.client.orders import SelfTradePrevention, new_order
from exchange.client.times import SECOND
from exchange.core.asset import MILLION, Asset
from exchange.core.messages import AmendOrder, CancelOrder, NewOrder, SideName

WIDTH_STEPS = 10  # of the crowd's prices around the middle, and more than any scene's
NEEDED_STEPS = 3 * WIDTH_STEPS  # that the volatility band must be wide, so that the crowd stays within it
NEEDED_UNITS = 60  # that one order may have
MODES: tuple[SelfTradePrevention, ...] = ("cancel_newest", "cancel_oldest", "cancel_both", "decrement_and_cancel")

IN_CALL = {"limit": 70, "iceberg": 8, "stop": 4, "stop_limit": 3, "cancel": 8, "amend": 7}  # weights
IN_TRADING = {
    "limit": 45,
    "ioc": 8,
    "fok": 4,
    "market": 6,
    "iceberg": 7,
    "post_only": 5,
    "min_quantity": 4,
    "stop": 4,
    "stop_limit": 3,
    "gtd": 3,
    "cancel": 7,
    "amend": 4,
}

Request = NewOrder | AmendOrder | CancelOrder


def step_of(asset: Asset, price: int) -> int:
    """Return the distance between the day's prices: a two-thousandth of the price, or a tick."""
    return max(price // 2000 // asset.tick_size, 1) * asset.tick_size


def unit_of(asset: Asset) -> int:
    """Return what the day's quantities are multiples of: a hundredth where the asset has such fractions, else a lot.

    It is never less than the smallest quantity, nor so much that the day's orders would be above the largest.
    """
    smallest: int = -(-asset.min_quantity // asset.lot_size) * asset.lot_size
    hundredth: int = 10 ** max(asset.quantity_scale - 2, 0) // asset.lot_size * asset.lot_size
    return hundredth if smallest <= hundredth <= asset.max_quantity // NEEDED_UNITS else smallest


def beyond(asset: Asset, price: int, ppm: int) -> int:
    """Return the first price of the grid above a band of so many millionths around a price."""
    edge = price * (MILLION + ppm) // MILLION + 1
    return -(-edge // asset.tick_size) * asset.tick_size


class DayMarket:
    """The crowd. Its requests stay within WIDTH_STEPS of the price that they are asked for."""

    def __init__(self, asset: Asset, seed: int, accounts: list[str], prefix: str) -> None:
        self.asset = asset
        self.rng = random.Random(seed)
        self.accounts = accounts
        self.prefix = prefix
        self.number = 0
        self.resting: list[NewOrder] = []

    def orders(self, weights: dict[str, int], centre: int, count: int, now: int) -> Iterator[Request]:
        """Yield requests around a price; `now` is the time, for those that expire."""
        rng = self.rng
        for _ in range(count):
            kind = rng.choices(list(weights), list(weights.values()))[0]
            if kind in ("cancel", "amend") and self.resting:
                yield self._change(kind)
            else:
                order = self._order(kind if kind not in ("cancel", "amend") else "limit", centre, now)
                if order.time_in_force not in ("ioc", "fok") and order.order_type != "market":
                    self.resting.append(order)
                yield order

    def forget(self) -> None:
        """Note that all of the crowd's orders have been canceled."""
        self.resting.clear()

    def _order(self, kind: str, centre: int, now: int) -> NewOrder:
        rng, step, unit = self.rng, step_of(self.asset, centre), unit_of(self.asset)
        side: SideName = rng.choice(("buy", "sell"))
        sign = 1 if side == "buy" else -1
        # Most limits lie on their own side of the middle, some beyond it, so that there is trading.
        price = centre - sign * rng.randint(-3, WIDTH_STEPS - 2) * step
        quantity = rng.randint(1, 20) * unit
        options: dict[str, Any] = {"time_in_force": rng.choice(("gtc", "day"))}
        if kind == "iceberg":
            quantity = rng.randint(10, 40) * unit
            options["display_quantity"] = rng.randint(1, 5) * unit
        elif kind in ("ioc", "fok"):
            options["time_in_force"] = kind
            price = centre + sign * rng.randint(0, 4) * step
        elif kind == "market":
            options |= {"time_in_force": "gtc", "order_type": "market"}
        elif kind == "post_only":
            options["post_only"] = True
        elif kind == "min_quantity":
            options["min_quantity"] = rng.randint(1, quantity // unit) * unit
        elif kind in ("stop", "stop_limit"):
            stop = centre + sign * rng.randint(3, WIDTH_STEPS - 2) * step
            options["stop_price"] = stop
            price = stop + sign * 2 * step
        elif kind == "gtd":
            options |= {"time_in_force": "gtd", "expire_time": now + rng.randint(1, 3600) * SECOND}
        self.number += 1
        return new_order(
            self.asset.asset,
            side,
            quantity,
            None if kind in ("market", "stop") else price,
            client_order_id=f"{self.prefix}{self.number}",
            account=rng.choice(self.accounts),
            self_trade_prevention=rng.choice(MODES),
            **options,
        )

    def _change(self, kind: str) -> AmendOrder | CancelOrder:
        """Return a cancel, or an amend, of an order that was entered to rest, live still or not."""
        place = self.rng.randrange(len(self.resting))
        order = self.resting[place]
        self.number += 1
        request_id = f"{self.prefix}{self.number}"
        name, account = order.client_order_id, order.account
        if kind == "cancel":
            self.resting[place] = self.resting[-1]
            self.resting.pop()
            return CancelOrder(asset=self.asset.asset, client_order_id=name, account=account, request_id=request_id)
        quantity = self.rng.randint(1, 30) * unit_of(self.asset)
        if isinstance(order.display_quantity, int):  # it stays an iceberg
            quantity = max(quantity, order.display_quantity + unit_of(self.asset))
        return AmendOrder(
            asset=self.asset.asset, client_order_id=name, account=account, request_id=request_id, quantity=quantity
        )


@dataclass
class Entry:
    """A request of a scene, and of an order what is to come of it: its reports, in order, in a word each."""

    request: Request
    reports: str = ""
    sent: bool = False


class Stage:
    """The scenes around a price, on an empty book, each with accounts of its own."""

    ACCOUNTS = tuple(f"day-{letter}" for letter in "abcdefgh")

    def __init__(self, asset: Asset, centre: int, prefix: str) -> None:
        self.asset = asset
        self.centre = centre
        self.prefix = prefix
        self.entries: list[Entry] = []
        self.orders: dict[str, Entry] = {}
        self.changes = 0

    def price(self, steps: int) -> int:
        return self.centre + steps * step_of(self.asset, self.centre)

    def enter(
        self, name: str, account: str, side: SideName, units: int, steps: int | None, reports: str, **options: Any
    ) -> None:
        """Add an order, its quantities in units and its prices in steps from the middle."""
        unit = unit_of(self.asset)
        for key in ("display_quantity", "min_quantity"):
            if key in options:
                options[key] *= unit
        if "stop_price" in options:
            options["stop_price"] = self.price(options["stop_price"])
        price = options.pop("at", None if steps is None else self.price(steps))
        order = new_order(
            self.asset.asset,
            side,
            units * unit,
            price,
            client_order_id=f"{self.prefix}{name}",
            account=f"day-{account}",
            **options,
        )
        self.orders[name] = entry = Entry(order, reports)
        self.entries.append(entry)

    def change(self, name: str, units: int | None = None, steps: int | None = None, stop: int | None = None) -> None:
        """Add an amend of an order, or, with nothing to amend, its cancel."""
        order = self.orders[name].request
        self.changes += 1
        names = {
            "asset": self.asset.asset,
            "client_order_id": f"{self.prefix}{name}",
            "account": order.account,
            "request_id": f"{self.prefix}c{self.changes}",
        }
        request: Request = CancelOrder(**names)  # type: ignore[arg-type] # texts
        if (units, steps, stop) != (None, None, None):
            request = AmendOrder(
                **names,  # type: ignore[arg-type] # texts
                quantity=UNSET if units is None else units * unit_of(self.asset),
                price=UNSET if steps is None else self.price(steps),
                stop_price=UNSET if stop is None else self.price(stop),
            )
        self.entries.append(Entry(request))

    # -- scenes --------------------------------------------------------------------------------------------------------

    def trading(self, hour: int) -> None:
        """Add the scenes of continuous trading. `hour` is when the order that expires does."""
        self.enter("last-s", "a", "sell", 1, 0, "new, trade")
        self.enter("last-b", "b", "buy", 1, 0, "new, trade")
        self._icebergs_and_stops()
        self._conditions()
        if self.asset.self_trade == "prevent":
            self._self_trades()
        self.enter("amended", "e", "buy", 5, -3, "new, replaced, replaced, canceled:user_request")
        self.change("amended", units=3)
        self.change("amended", steps=-4)
        self.change("amended")
        self.enter("gtd", "h", "buy", 1, -3, "new, expired:expired", time_in_force="gtd", expire_time=hour)
        far = beyond(self.asset, self.price(1), self.asset.price_band_ppm)  # the last trade was there
        if self.asset.price_band_ppm and far <= self.asset.max_price:
            self.enter("band", "h", "buy", 1, None, "rejected:price_band", at=far)

    def _icebergs_and_stops(self) -> None:
        """An iceberg is eaten part by part; the trades at the end elect a stop, and those below a stop-limit order."""
        reports = "new, trade, restated, trade, trade, restated, trade"
        self.enter("iceberg", "a", "sell", 30, 1, reports, display_quantity=10)
        self.enter("above", "d", "sell", 10, 2, "new, trade, trade, canceled:user_request")
        self.enter("stop", "c", "buy", 5, None, "new, triggered, trade", stop_price=2)
        self.enter("eats-1", "b", "buy", 15, 1, "new, trade, trade", time_in_force="ioc")
        self.enter("eats-2", "b", "buy", 19, 2, "new, trade, trade, trade")
        self.change("above")
        self.enter("bid-1", "e", "buy", 3, -1, "new, trade")
        self.enter("bid-2", "f", "buy", 10, -2, "new, trade, canceled:user_request")
        self.enter("stop-limit", "c", "sell", 5, -2, "new, replaced, triggered, trade", stop_price=-2)
        self.change("stop-limit", stop=-1)
        self.enter("elects", "b", "sell", 3, -1, "new, trade", time_in_force="ioc")
        self.change("bid-2")

    def _conditions(self) -> None:
        """Orders that take only under their conditions."""
        self.enter("ask", "d", "sell", 5, 1, "new, trade, trade")
        self.enter("post-only-1", "e", "buy", 5, 1, "new, canceled:post_only", post_only=True)
        self.enter("post-only-2", "e", "buy", 2, -1, "new, trade", post_only=True)
        self.enter("minimum-1", "b", "buy", 6, 1, "new, canceled:minimum_quantity", min_quantity=6)
        self.enter("fok-1", "b", "buy", 6, 1, "new, canceled:fill_or_kill", time_in_force="fok")
        self.enter("minimum-2", "b", "buy", 3, 1, "new, trade", min_quantity=2)
        self.enter("ioc", "b", "buy", 5, 1, "new, trade, canceled:immediate_or_cancel", time_in_force="ioc")
        self.enter("market", "b", "sell", 3, None, "new, trade, canceled:market_remainder", order_type="market")
        self.enter("ask-2", "d", "sell", 4, 1, "new, trade")
        self.enter("fok-2", "b", "buy", 4, 1, "new, trade", time_in_force="fok")

    def _self_trades(self) -> None:
        """An account meets itself, four times."""
        away, rest = "canceled:self_trade_prevention", "canceled:immediate_or_cancel"
        taking = {
            "cancel_newest": f"new, {away}",
            "cancel_oldest": f"new, {rest}",
            "cancel_both": f"new, {away}",
            "decrement_and_cancel": f"new, restated:self_trade_prevention, {rest}",
        }
        for mode, reports in taking.items():
            if mode != "cancel_oldest":  # which finds the one that cancel_newest left
                self.enter(f"own-{mode}", "g", "sell", 5, 1, f"new, {away}")
            options = {"self_trade_prevention": mode, "time_in_force": "ioc"}
            self.enter(mode, "g", "buy", 8, 1, reports, **options)

    def interruption(self, far: int) -> None:
        """Add an order that trades once and would trade too far away then: the asset goes to a call."""
        self.enter("near", "a", "sell", 10, 2, "new, trade")
        self.enter("far", "d", "sell", 20, None, "new, trade, canceled:mass_cancel", at=far)
        self.enter("sweep", "b", "buy", 25, None, "new, trade, trade, trade", at=far, time_in_force="day")

    def interrupted(self, far: int) -> None:
        """Add what joins during that call: the auction then trades at `far`, 15 units."""
        self.enter("joins", "f", "sell", 5, None, "new, trade", at=far - 2 * step_of(self.asset, self.centre))
