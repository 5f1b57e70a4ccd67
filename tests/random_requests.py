"""Random requests for an asset's queue, the same for the same seed.

A profile is a shape of market in which something in particular happens: see PROFILES. Order ids count from 1, and
amends and cancels name mostly orders of late, of their own account, that may or may not be live any more.
"""

import random
from collections.abc import Iterator

from msgspec import Struct

from exchange.core.asset import Asset
from exchange.core.requests import (
    BUY,
    SELL,
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

ASSET = "ACME"


class Profile(Struct, frozen=True, kw_only=True):
    """`ends` are out of 100 requests those that amend, cancel and mass cancel; `prices` and `quantities` are ranges."""

    prices: range = range(95, 106)
    quantities: range = range(1, 21)
    accounts: tuple[str, ...] = ("ann", "bob", "dan", "sue")
    amends: int = 20
    cancels: int = 20
    mass_cancels: int = 1
    takers: int = 25  # out of 100 new orders, those that are market, ioc or fok
    remembered: int = 60  # how many orders back amends and cancels reach


PROFILES = {
    "lively": Profile(),
    # Few prices and few ends: levels grow past the depth at which their queue changes its kind.
    "deep": Profile(
        prices=range(99, 102), quantities=range(1, 4), cancels=10, mass_cancels=0, takers=3, remembered=300
    ),
    # So large that levels reach the bound of their total.
    "huge": Profile(prices=range(98, 103), quantities=range(2**60, 2**62), takers=10),
    # One account: whatever meets is a self-trade.
    "lonely": Profile(accounts=("ann",), prices=range(98, 103)),
}


def random_requests(seed: int, profile: Profile, count: int) -> Iterator[Record]:
    """Yield the records of a queue: the asset's definition, then `count` requests."""
    source = random.Random(seed)
    owners: list[str] = []  # of all orders, by order id - 1
    yield Record(ASSET, 1, 1, "", DefineAsset(Asset(asset=ASSET)))
    for sequence in range(2, count + 2):
        account = source.choice(profile.accounts)
        request = _request(source, profile, owners, account)
        owner = "" if isinstance(request, DefineAsset) else account
        if isinstance(request, AmendOrder | CancelOrder) and source.random() < 0.9:
            owner = owners[request.order_id - 1] if request.order_id <= len(owners) else account
        yield Record(ASSET, sequence, sequence, owner, request)


def _request(source: random.Random, profile: Profile, owners: list[str], account: str) -> Request:
    dice = source.randrange(100)
    if dice < profile.amends:
        return _amend(source, profile, _known_order(source, profile, owners))
    dice -= profile.amends
    if dice < profile.cancels:
        return CancelOrder(_known_order(source, profile, owners))
    dice -= profile.cancels
    if dice < profile.mass_cancels:
        return MassCancel(source.choice((0, BUY, SELL)))
    if source.random() < 0.002:
        return DefineAsset(Asset(asset=ASSET, self_trade=source.choice(("prevent", "allow"))))
    owners.append(account)
    return _new_order(source, profile, len(owners))


def _new_order(source: random.Random, profile: Profile, order_id: int) -> NewOrder:
    side: Side = source.choice((BUY, SELL))
    order_type: OrderType = "limit"
    time_in_force: TimeInForce = "gtc"
    if source.randrange(100) < profile.takers:
        order_type = source.choice(("limit", "limit", "market"))
        time_in_force = source.choice(("ioc", "fok") if order_type == "limit" else ("gtc", "ioc", "fok"))
    price = source.choice(profile.prices) if order_type == "limit" else 0
    quantity = source.choice(profile.quantities)
    return NewOrder(order_id, f"c{order_id}", side, quantity, price, order_type, time_in_force)


def _amend(source: random.Random, profile: Profile, order_id: int) -> AmendOrder:
    quantity = source.choice(profile.quantities) if source.random() < 0.7 else None
    price = source.choice(profile.prices) if quantity is None or source.random() < 0.4 else None
    return AmendOrder(order_id, quantity, price)


def _known_order(source: random.Random, profile: Profile, owners: list[str]) -> int:
    """Return the id of an order of late, or, rarely, of one that never was."""
    last = len(owners)
    return source.randint(max(1, last - profile.remembered), last + 1)
