"""Random requests for an asset's queue, the same for the same seed.

A profile is a shape of market in which something in particular happens: see PROFILES. Order ids count from 1, and
amends and cancels name mostly orders of late, of their own account, that may or may not be live any more. Only what
order entry would let through is made; so the orders' types are remembered, since an amend may give a price only to an
order that has one.
"""

import random
from collections.abc import Iterator, Sequence

from msgspec import Struct, structs

from exchange.core.asset import Asset, ScheduledChange, Status
from exchange.core.requests import (
    BUY,
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
    MassCancelReason,
    NewOrder,
    OrderType,
    Record,
    Request,
    SelfTradePrevention,
    Side,
    TimeInForce,
)

ASSET = "ACME"
LARGEST = 2**62  # quantity
HUGE = (LARGEST, LARGEST, LARGEST - 1, LARGEST - 2, 2**61, 2**60, 1, 2)  # two fill a level, or all but, or too much
MOST_PARTS = 50  # of an iceberg: it trades part by part
SCHEDULE = (ScheduledChange("08:00", "call"), ScheduledChange("09:00", "open"), ScheduledChange("17:30", "closed"))
PREVENTIONS: tuple[SelfTradePrevention, ...] = ("cancel_oldest", "cancel_both", "decrement_and_cancel")
REASONS: tuple[MassCancelReason, ...] = ("mass_cancel", "disconnected", "operator")


class Profile(Struct, frozen=True, kw_only=True):
    """How often what happens: of 100 requests, of 100 new orders, of 1000 requests; and in which ranges."""

    prices: range = range(95, 106)
    quantities: Sequence[int] = range(1, 21)
    accounts: tuple[str, ...] = ("ann", "bob", "dan", "sue")
    remembered: int = 60  # how many orders back amends and cancels reach
    time_steps: tuple[int, ...] = (1,)  # from one request to the next, in nanoseconds

    # Of 100 requests:
    amends: int = 20
    cancels: int = 20
    mass_cancels: int = 1

    # Of 100 new orders, those that are or have it (where their type and time in force can):
    takers: int = 25  # market, ioc or fok
    stops: int = 0
    icebergs: int = 0
    post_onlys: int = 0
    min_quantities: int = 0
    timed: int = 0  # day or gtd
    preventions: int = 0  # another instruction than cancel_newest

    # Of 1000 requests:
    statuses: int = 0
    expiries: int = 0
    definitions: int = 2
    delists: int = 0

    # What the definitions choose from:
    ticks: tuple[int, ...] = (1,)
    reference_prices: tuple[int, ...] = (0,)
    price_bands: tuple[int, ...] = (0,)
    volatility_bands: tuple[int, ...] = (0,)
    sessions: bool = False
    opening: int = 0  # that many requests come first in a call: no trade has given a reference price yet

    every: int = 0  # after that many requests all of the above is drawn anew; 0: never


ALL_TIME_STEPS = (0, 1, 1, 2, 10, 60)

PROFILES = {
    "lively": Profile(),
    # Few prices and few ends: levels grow past the depth at which their queue changes its kind.
    "deep": Profile(
        prices=range(99, 102),
        quantities=range(1, 4),
        cancels=5,
        mass_cancels=0,
        takers=3,
        remembered=300,
        definitions=0,
    ),
    # So large that levels reach the bound of their total.
    "huge": Profile(
        prices=range(98, 103), quantities=HUGE, takers=10, stops=25, timed=20, preventions=20, min_quantities=3
    ),
    # One account: whatever meets is a self-trade.
    "lonely": Profile(accounts=("ann",), prices=range(98, 103), definitions=5),
    # Many stops close to the market: one trade elects several, and theirs elect more.
    "stops": Profile(stops=45, takers=20, min_quantities=5, preventions=10, mass_cancels=0, remembered=40),
    # Parts that run out in turn, at few prices; amends that eat hidden parts.
    "icebergs": Profile(
        prices=range(98, 103), quantities=range(1, 41), icebergs=60, post_onlys=10, min_quantities=10, takers=30
    ),
    # Calls with crossed books, auctions and halts. Few prices and small quantities make all the ties.
    "sessions": Profile(
        prices=range(98, 103),
        quantities=range(1, 8),
        icebergs=40,
        stops=10,
        min_quantities=3,
        timed=20,
        statuses=60,
        definitions=5,
        delists=4,
        reference_prices=(0, 0, 99, 101, 150),
        sessions=True,
    ),
    # Prices so short that a band of some percent is a tick or two.
    "bands": Profile(
        prices=range(8, 21),
        quantities=range(1, 13),
        takers=30,
        stops=10,
        min_quantities=8,
        statuses=60,
        definitions=10,
        reference_prices=(0, 10, 14, 18),
        price_bands=(0, 100_000, 300_000, 714_285),
        volatility_bands=(0, 100_000, 200_000, 428_571),
    ),
    # Stops that are elected, and kept from entering by an interruption, while their accounts amend them.
    "interruptions": Profile(
        amends=35,
        cancels=10,
        takers=35,
        stops=45,
        statuses=60,
        definitions=10,
        reference_prices=(0, 100),
        volatility_bands=(10_000, 20_000, 30_000),
    ),
    "expiries": Profile(
        timed=70, stops=15, icebergs=10, expiries=60, statuses=10, time_steps=ALL_TIME_STEPS, sessions=True
    ),
    # Two accounts, so that every second maker is one's own.
    "self_trades": Profile(
        accounts=("ann", "bob"),
        prices=range(98, 103),
        preventions=80,
        icebergs=45,
        min_quantities=30,
        stops=10,
        takers=35,
        definitions=10,
    ),
    # A tick of 5 with a midpoint between two; and the reference price that an auction's price is held at.
    "ticks": Profile(
        prices=range(90, 111, 5),
        quantities=range(1, 5),
        takers=10,
        statuses=100,
        definitions=10,
        ticks=(5, 5, 10),
        reference_prices=(0, 0, 0, 93, 100),
        opening=60,
    ),
    # All of it, in shares that change: what is seldom together in one market is together in the next.
    "everything": Profile(every=250, opening=80),
}


def random_requests(seed: int, profile: Profile, count: int) -> Iterator[Record]:
    """Yield the records of a queue: the asset's definition, then `count` requests."""
    queue = _Queue(random.Random(seed), profile)
    yield queue.record("", queue.definition())
    for _ in range(count):
        yield queue.next()


class _Queue:
    """What the makers of the requests remember of those before."""

    def __init__(self, source: random.Random, profile: Profile) -> None:
        self.source = source
        self.profile = profile if not profile.every else _any_profile(source, profile)
        self.sequence = 0
        self.time = 0
        self.owners: list[str] = []  # of all orders, by order id - 1
        self.types: list[OrderType] = []
        self.shows: list[int] = []  # display quantities
        self.perhaps_live: list[int] = []  # those of late that may live on after their entry, and weren't canceled
        self.status: Status = "open"  # as far as requests tell; a volatility interruption is not seen from here
        self.call = 0  # the last request that began a call
        self.delisted = False
        self.expire_times: list[int] = []
        self.due = False  # the next request comes at the very time at which an order expires
        self.to_open = False  # the market, that may have been left closed by the one before
        self.to_clear: list[str] = []  # accounts that still cancel what they have in the market before

    def record(self, account: str, request: Request) -> Record:
        self.sequence += 1
        self.time += self.source.choice(self.profile.time_steps)
        self.expire_times = [each for each in self.expire_times if each >= self.time]
        if self.due and self.expire_times:
            self.time = min(self.expire_times)
        self.due = False
        if isinstance(request, ChangeStatus) and request.status == "call":
            self.call = self.sequence
        return Record(ASSET, self.sequence, self.time, account, request)

    def next(self) -> Record:
        source = self.source
        if self.profile.every and self.sequence % self.profile.every == 0:
            self.profile = _any_profile(source, self.profile)
            if source.random() < 0.6:
                self.to_clear = list(ALL_ACCOUNTS)
            self.to_open = source.random() < 0.8
            return self.record("", self.definition())
        if self.to_open and not self.delisted:
            self.to_open, self.status = False, "open"
            return self.record("", ChangeStatus("open", "operator"))
        if self.sequence < self.profile.opening:
            return self.opening()
        if self.to_clear:
            return self.record(self.to_clear.pop(), MassCancel(0, reason=source.choice(REASONS)))
        request = self.exchange_request()
        if request:
            return self.record("", request)
        return self.of_an_account()

    def opening(self) -> Record:
        source = self.source
        if self.status != "call":
            self.status = "call"
            return self.record("", ChangeStatus("call", "schedule"))
        if source.random() < 0.1:
            return self.record("", self.definition())
        return self.of_an_account()

    # -- what the exchange asks for -----------------------------------------------------------------------------------

    def exchange_request(self) -> Request | None:
        source, profile = self.source, self.profile
        if self.delisted:
            if source.random() < 0.1:
                return ChangeStatus(source.choice(("open", "call", "closed", "halted")), "operator", ends_day=True)
            return self.definition() if source.random() < 0.15 else None
        dice = source.randrange(1000)
        # A market that is not open is so for less long.
        statuses = profile.statuses if self.status == "open" else 3 * profile.statuses
        if dice < statuses:
            return self.change_of_status()
        dice -= statuses
        if dice < profile.expiries:
            self.due = source.random() < 0.5
            return Expire(source.random() < 0.3)
        dice -= profile.expiries
        if dice < profile.definitions:
            return self.definition()
        dice -= profile.definitions
        if dice < profile.delists:
            self.delisted = True
            return Delist()
        return None

    def definition(self) -> DefineAsset:
        source, profile = self.source, self.profile
        definition = Asset(
            asset=ASSET,
            tick_size=source.choice(profile.ticks),
            self_trade=source.choice(("prevent", "prevent", "allow")) if self.sequence else "prevent",
            reference_price=source.choice(profile.reference_prices),
            price_band_ppm=source.choice(profile.price_bands),
            volatility_band_ppm=source.choice(profile.volatility_bands),
            call_seconds=source.randint(1, 300),
            schedule=SCHEDULE if profile.sessions and source.random() < 0.5 else (),
        )
        if self.delisted or not self.sequence:
            self.status = "closed" if definition.has_sessions else "open"
        self.delisted = False
        return DefineAsset(definition)

    def change_of_status(self) -> ChangeStatus:
        source = self.source
        statuses: tuple[Status, ...] = ("open", "open", "open", "call", "closed", "halted")
        if self.status == "open":
            statuses = ("open", "open", "call", "call", "call", "closed", "halted")
        status = source.choice(statuses)
        call = 0
        if source.random() < 0.4:
            # The present call, or one that was, or an interruption that may have been.
            call = self.call if source.random() < 0.5 else max(1, self.sequence - source.randrange(10))
        if call in (0, self.call):
            self.status = status
        reason = source.choice(("schedule", "operator"))
        return ChangeStatus(status, reason, call, ends_day=source.random() < 0.15)

    # -- what accounts ask for -----------------------------------------------------------------------------------------

    def of_an_account(self) -> Record:
        source = self.source
        account = source.choice(self.profile.accounts)
        request = self.account_request(account)
        if isinstance(request, AmendOrder | CancelOrder) and request.order_id <= len(self.owners):
            owner = self.owners[request.order_id - 1]
            account = owner if source.random() < 0.95 else account
        return self.record(account, request)

    def account_request(self, account: str) -> Request:
        source, profile = self.source, self.profile
        dice = source.randrange(100)
        if dice < profile.amends:
            return self.amend()
        dice -= profile.amends
        if dice < profile.cancels:
            order_id = self.known_order()
            if order_id in self.perhaps_live:
                self.perhaps_live.remove(order_id)
            return CancelOrder(order_id)
        dice -= profile.cancels
        if dice < profile.mass_cancels:
            return MassCancel(source.choice((0, BUY, SELL)), reason=source.choice(REASONS))
        self.owners.append(account)
        order = self.new_order(len(self.owners))
        self.types.append(order.order_type)
        self.shows.append(order.instructions.display_quantity if order.instructions else 0)
        if order.order_type != "market" and (order.time_in_force not in ("ioc", "fok") or order.order_type != "limit"):
            self.perhaps_live = [*self.perhaps_live[-profile.remembered + 1 :], order.order_id]
        return order

    def new_order(self, order_id: int) -> NewOrder:
        source, profile = self.source, self.profile
        side: Side = source.choice((BUY, SELL))
        order_type: OrderType = "limit"
        time_in_force: TimeInForce = "gtc"
        if self.happens(profile.takers):
            order_type = source.choice(("limit", "limit", "market"))
            time_in_force = source.choice(("ioc", "fok") if order_type == "limit" else ("gtc", "ioc", "fok"))
        if self.happens(profile.stops):
            order_type = "stop" if order_type == "market" or source.random() < 0.4 else "stop_limit"
        if time_in_force == "gtc" and self.happens(profile.timed):
            time_in_force = source.choice(("day", "gtd"))
        price = source.choice(profile.prices) if order_type in ("limit", "stop_limit") else 0
        quantity = source.choice(profile.quantities)
        says = self.instructions(order_type, time_in_force, quantity)
        return NewOrder(order_id, f"c{order_id}", side, quantity, price, order_type, time_in_force, says)

    def instructions(self, order_type: OrderType, time_in_force: TimeInForce, quantity: int) -> Instructions | None:
        source, profile = self.source, self.profile
        says = Instructions()
        rests = order_type in ("limit", "stop_limit") and time_in_force not in ("ioc", "fok")
        if order_type in ("stop", "stop_limit"):
            says = structs.replace(says, stop_price=source.choice(profile.prices))
        if rests and quantity > 1 and self.happens(profile.icebergs):
            shown = source.choice((1, quantity - 1, source.randint(1, quantity - 1), max(1, quantity // 4)))
            says = structs.replace(says, display_quantity=max(shown, quantity // MOST_PARTS))
        if rests and self.happens(profile.post_onlys):
            says = structs.replace(says, post_only=True)
        if time_in_force != "fok" and self.happens(profile.min_quantities):
            least = source.choice((1, quantity, source.randint(1, quantity), max(1, quantity // 4)))
            says = structs.replace(says, min_quantity=least)
        if time_in_force == "gtd":
            says = structs.replace(says, expire_time=self.time + 100 + source.randrange(400))
            self.expire_times.append(says.expire_time)
        if self.happens(profile.preventions):
            says = structs.replace(says, self_trade_prevention=source.choice(PREVENTIONS))
        return says if says != Instructions() or source.random() < 0.05 else None

    def amend(self) -> AmendOrder:
        source, profile = self.source, self.profile
        order_id = self.known_order()
        known = order_id <= len(self.types)
        order_type = self.types[order_id - 1] if known else "limit"
        quantity = source.choice(profile.quantities) if source.random() < 0.7 else None
        price = source.choice(profile.prices) if quantity is None or source.random() < 0.4 else None
        stop_price = None
        if profile.stops and source.random() < (0.05 if order_type in ("limit", "market") else 0.4):
            stop_price = source.choice(profile.prices)
        if order_type in ("stop", "market"):
            price = None
            if quantity is None and stop_price is None:
                quantity = source.choice(profile.quantities)
        if quantity and known and self.shows[order_id - 1]:
            # So few parts that they are soon done, or so many that it is refused.
            shown = self.shows[order_id - 1]
            too_many = (MAX_PARTS + 1) * shown
            quantity = too_many if too_many < LARGEST and source.random() < 0.1 else min(quantity, MOST_PARTS * shown)
        return AmendOrder(order_id, quantity, price, stop_price=stop_price)

    def known_order(self) -> int:
        """Return the id of an order of late that may be live; seldom of any of late, or of one that never was."""
        if self.perhaps_live and self.source.random() < 0.9:
            return self.source.choice(self.perhaps_live)
        last = len(self.owners)
        return self.source.randint(max(1, last - self.profile.remembered), last + 1)

    def happens(self, percent: int) -> bool:
        return percent > 0 and self.source.randrange(100) < percent


ALL_ACCOUNTS = ("ann", "bob", "dan", "sue")


def _any_profile(source: random.Random, profile: Profile) -> Profile:
    """Draw a profile in which each thing happens never, seldom or often. Books stay small: many orders end."""

    def share(*choices: int) -> int:
        return source.choice(choices)

    interrupted = source.random() < 0.4
    narrow, wide, short = range(98, 103), range(92, 109), range(8, 21)
    return Profile(
        prices=source.choice((narrow, narrow, range(95, 106), wide, range(90, 111, 5), short)),
        quantities=source.choice((range(1, 4), range(1, 21), range(1, 21), range(1, 101), HUGE)),
        accounts=ALL_ACCOUNTS[: source.choice((1, 2, 2, 4, 4))],
        remembered=share(15, 40),
        time_steps=source.choice(((1,), ALL_TIME_STEPS)),
        amends=share(5, 20, 35),
        cancels=share(15, 25),
        mass_cancels=share(1, 3),
        takers=share(10, 25, 40),
        stops=share(0, 10, 40),
        icebergs=share(0, 10, 60),
        post_onlys=share(0, 5, 20),
        min_quantities=share(0, 5, 20),
        timed=share(0, 20, 70),
        preventions=share(0, 30, 90),
        statuses=share(30, 80) if interrupted else share(0, 15, 60),
        expiries=share(5, 30),
        definitions=share(1, 10),
        delists=share(0, 0, 3),
        ticks=(1, 1, 5),
        reference_prices=source.choice(((0,), (0, 10, 99, 100, 103))),
        price_bands=source.choice(((0,), (0, 10_000, 50_000, 300_000))),
        volatility_bands=(0, 10_000, 30_000, 300_000) if interrupted else (0,),
        sessions=source.random() < 0.3,
        opening=profile.opening,
        every=profile.every,
    )
