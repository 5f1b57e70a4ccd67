"""Pre-trade risk limits: what an account may enter, judged by the order handler alone, before anything is journaled.

The limits are the configuration's. For each kind of limit the most specific entry holds: of the account in the asset,
else of the account, else of the asset, else of all. An account and asset without limits cost a look into a dict, and
nothing is remembered for them; but where there is any limit of a notional, 16 bytes of each of the latest orders are.

How many orders an account has open is known to the asset's matching daemon. It reports that as of a sequence of the
asset's queue; an order taken since counts as open until it has been reported on. So the count never is too small, and
of orders that come faster than reports it may be too large for a moment. Until a first complete count has come after a
start, nothing is known, and new orders are refused.

What an order is after its amends is known to its matching daemon only, which may refuse one that was taken. So an amend
that gives only the quantity, or only the price, is judged by the notional with the largest of the other that the order
was entered with or an amend asked for: whatever came of those amends, it has no larger one. Of an order that is older
than those remembered, or than the state that a start went on from, such an amend has to give both.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import NoReturn

from msgspec import Struct

from exchange.core.request_checks import Rejection

NANOSECONDS = 10**9
KNOWN_NOTIONALS = 2**19  # orders, at least, and twice that at most
FEW_BUCKETS = 10_000  # accounts whose rate is remembered before those that were silent for a second are forgotten


class RiskLimit(Struct, frozen=True, kw_only=True):
    """One entry of the configuration: limits of an account ("": every one) in an asset ("": every one); nil: none.

    Quantities are in quantity units, notionals in price units x quantity units.
    """

    account: str = ""
    asset: str = ""
    max_order_quantity: int | None = None
    max_order_notional: int | None = None
    max_open_orders: int | None = None
    max_requests_per_second: int | None = None  # over all assets: `asset` is empty


class _Scope(Struct, frozen=True):
    """The limits that hold for an account in an asset."""

    quantity: int | None = None
    notional: int | None = None
    open_orders: int | None = None


class _OpenOrders(Struct):
    """An account's open orders in an asset: `count` as of the request `sequence`, and the orders taken since."""

    count: int
    sequence: int
    taken: "array[int]"  # their sequences, rising


class _OpenInAsset(Struct):
    """What is known of the open orders in an asset, of the accounts that have a limit of them, and any."""

    accounts: dict[str, _OpenOrders]
    sequence: int = 0  # of the last report
    complete: bool = False  # whether a complete count has come


class _Bucket(Struct):
    """What an account has used of its rate and not got back yet, in 10^-9 requests, as of a time in nanoseconds."""

    used: int
    time: int


def watches_open_orders(limits: Iterable[RiskLimit], asset: str) -> bool:
    """Return whether any of the limits needs to know how many orders are open in the asset."""
    return any(limit.max_open_orders is not None and limit.asset in ("", asset) for limit in limits)


class RiskLimits:
    """All limits of the configuration, and what must be remembered to judge by them.

    Whoever takes an order or an amend tells, of those in the journal at the start too (`took_order`, `took_amend`), and
    so does whoever hears how many are open (`note_open`).
    """

    def __init__(self, limits: Iterable[RiskLimit]) -> None:
        entries = {(limit.account, limit.asset): limit for limit in _merge(limits)}
        self._entries = entries
        self._default = self._resolve("", "")
        self._by_asset = {asset: self._resolve("", asset) for account, asset in entries if not account and asset}
        # By account that has an entry, then by asset, each found when first asked for.
        self._by_account: dict[str, dict[str, _Scope]] = {account: {} for account, _ in entries if account}
        rates = {
            account: limit.max_requests_per_second
            for (account, asset), limit in entries.items()
            if not asset and limit.max_requests_per_second is not None
        }
        self._default_rate = rates.pop("", None)
        self._rates = rates
        self._buckets: dict[str, _Bucket] = {}
        self._most_buckets = FEW_BUCKETS
        self._counted = {limit.asset for limit in entries.values() if limit.max_open_orders is not None}  # "": all
        self._open: dict[str, _OpenInAsset] = {}
        self._has_notional = any(limit.max_order_notional is not None for limit in entries.values())
        # By order id, which are dense, where there is a limit of a notional: the largest that each order may have, of
        # the order `_first_known` and those after it.
        self._first_known = 1
        self._quantities = array("q")
        self._prices = array("q")  # 0: it has none

    # -- what a request must keep --------------------------------------------------------------------------------------

    def check_rate(self, account: str, time: int, cancels: bool) -> None:
        """Count a request that names the account, at a time in nanoseconds. Raises Rejection where it is one too many.

        A second's worth may come at once, and comes back over a second. Requests that cancel are counted and never
        refused: this exchange lets everybody out at any rate. A request that was refused does not count.
        """
        rate = self._rates.get(account, self._default_rate)
        if rate is None:
            return
        most = rate * NANOSECONDS
        bucket = self._buckets.get(account)
        if bucket is None:
            if len(self._buckets) >= self._most_buckets:
                self._forget_silent(time)
            bucket = self._buckets[account] = _Bucket(0, time)
        elapsed = max(time - bucket.time, 0)
        used = max(bucket.used - elapsed * rate, 0) + NANOSECONDS
        if used > most and not cancels:
            raise Rejection(
                "rate_limited",
                f"max_requests_per_second {rate}: account {account} has sent that many within a second; send fewer, or "
                "send this one again later; cancels are taken at any rate",
            )
        bucket.used, bucket.time = min(used, most), max(time, bucket.time)

    def check_order(self, account: str, asset: str, quantity: int, price: int) -> None:
        """Judge a new order. Raises Rejection.

        `price` is 0 for an order without one: it has no notional, and only the other limits hold.
        """
        limits = self._limits(account, asset)
        if limits is _NONE:
            return
        if limits.quantity is not None and quantity > limits.quantity:
            _reject_quantity(limits.quantity, account, asset, quantity)
        if limits.notional is not None and quantity * price > limits.notional:
            _reject_notional(limits.notional, account, asset, quantity, price, "enter less")
        if limits.open_orders is not None:
            self._check_open(limits.open_orders, account, asset)

    def check_amend(self, account: str, asset: str, order_id: int, quantity: int | None, price: int | None) -> None:
        """Judge what an amend makes of an order that was taken; None leaves a value as it is. Raises Rejection."""
        limits = self._limits(account, asset)
        if limits is _NONE:
            return
        if limits.quantity is not None and quantity is not None and quantity > limits.quantity:
            _reject_quantity(limits.quantity, account, asset, quantity)
        if limits.notional is None or (quantity is None and price is None):
            return
        remedy = "enter less"
        place = order_id - self._first_known
        if place < 0 and (quantity is None or price is None):
            raise Rejection(
                "risk_limit",
                f"max_order_notional {limits.notional}: order {order_id} is too old for its quantity and price to be "
                "known here; give both",
            )
        if quantity is None:
            quantity = self._quantities[place]
            remedy += f", or give both: the quantity is the largest that order {order_id} or an amend of it came with"
        elif price is None:
            price = self._prices[place]
            remedy += f", or give both: the price is the largest that order {order_id} or an amend of it came with"
        assert price is not None
        if quantity * price > limits.notional:
            _reject_notional(limits.notional, account, asset, quantity, price, remedy)

    def _check_open(self, limit: int, account: str, asset: str) -> None:
        known = self._open.get(asset)
        if known is None or not known.complete:
            raise Rejection(
                "busy",
                f"max_open_orders {limit}: how many orders account {account} has open in {asset} is not known until "
                "its matching daemon has reported after a start; try again in a moment",
            )
        account_open = known.accounts.get(account)
        open_orders = 0 if account_open is None else account_open.count + len(account_open.taken)
        if open_orders >= limit:
            raise Rejection(
                "risk_limit",
                f"max_open_orders {limit}: account {account} has {open_orders} orders open in {asset}; cancel one, or "
                "wait until one has ended",
            )

    # -- what was taken ------------------------------------------------------------------------------------------------

    def took_order(self, account: str, asset: str, sequence: int, quantity: int, price: int) -> None:
        """Count a new order, taken at this place of its asset's queue, as open until a report says more.

        To be told of every order, in the order of their ids.
        """
        if self._has_notional:
            self._quantities.append(quantity)
            self._prices.append(price)
            if len(self._prices) >= 2 * KNOWN_NOTIONALS:
                del self._quantities[:KNOWN_NOTIONALS], self._prices[:KNOWN_NOTIONALS]
                self._first_known += KNOWN_NOTIONALS
        if not self._counted or self._limits(account, asset).open_orders is None:
            return
        known = self._open.get(asset)
        if known is None:
            known = self._open[asset] = _OpenInAsset({})
        if sequence <= known.sequence:
            return
        account_open = known.accounts.get(account)
        if account_open is None:
            account_open = known.accounts[account] = _OpenOrders(0, 0, array("Q"))
        account_open.taken.append(sequence)

    def took_amend(self, order_id: int, quantity: int | None, price: int | None) -> None:
        """Note what an amend that was taken may have made of an order."""
        place = order_id - self._first_known
        if not self._has_notional or place < 0:
            return
        if quantity is not None and quantity > self._quantities[place]:
            self._quantities[place] = quantity
        if price is not None and price > self._prices[place]:
            self._prices[place] = price

    # -- a start from a state ------------------------------------------------------------------------------------------

    def restored(self, sequences: Mapping[str, int], next_order_id: int) -> None:
        """Note that what was taken up to these places of the assets' queues, and before this order, is not told of.

        Only a report of such a place or a later one says how many orders are open then.
        """
        self._first_known = next_order_id
        if self._counted:
            for asset, sequence in sequences.items():
                self._open[asset] = _OpenInAsset({}, sequence)

    # -- how many are open ---------------------------------------------------------------------------------------------

    def needs_count(self, asset: str) -> bool:
        """Return whether the matching daemon of the asset is to be asked for a complete count of open orders."""
        if asset not in self._counted and "" not in self._counted:
            return False
        known = self._open.get(asset)
        return known is None or not known.complete

    def note_open(self, asset: str, sequence: int, counts: Mapping[str, int], complete: bool) -> None:
        """Note how many open orders accounts have in the asset as of a sequence of its queue.

        `complete`: an account that was not named with this sequence has none. A report that is older than the last one
        changes nothing.
        """
        if not self._counted:
            return
        known = self._open.get(asset)
        if known is None:
            known = self._open[asset] = _OpenInAsset({})
        if sequence < known.sequence:
            return
        known.sequence = sequence
        for account, count in counts.items():
            if self._limits(account, asset).open_orders is not None:
                _report(known.accounts, account, sequence, count)
        if complete:
            for account in [name for name, each in known.accounts.items() if each.sequence < sequence]:
                _report(known.accounts, account, sequence, 0)
            known.complete = True

    # -- inside --------------------------------------------------------------------------------------------------------

    def _limits(self, account: str, asset: str) -> _Scope:
        by_asset = self._by_account.get(account)
        if by_asset is None:
            return self._by_asset.get(asset, self._default)
        limits = by_asset.get(asset)
        if limits is None:
            limits = by_asset[asset] = self._resolve(account, asset)
        return limits

    def _resolve(self, account: str, asset: str) -> _Scope:
        """Return what holds for the account in the asset, each limit from the most specific entry that has it."""
        scopes = [(account, asset), (account, ""), ("", asset), ("", "")]
        entries = [entry for scope in scopes if (entry := self._entries.get(scope)) is not None]

        def first(key: str) -> int | None:
            return next((value for entry in entries if (value := getattr(entry, key)) is not None), None)

        found = _Scope(first("max_order_quantity"), first("max_order_notional"), first("max_open_orders"))
        return _NONE if found == _NONE else found

    def _forget_silent(self, time: int) -> None:
        """Forget the accounts that have got back all they used: a second of silence is enough for that.

        Called when twice as many are there as the last time were left, so that its cost is O(1) a request.
        """
        self._buckets = {
            account: bucket for account, bucket in self._buckets.items() if time - bucket.time < NANOSECONDS
        }
        self._most_buckets = max(FEW_BUCKETS, 2 * len(self._buckets))


_NONE = _Scope()


def _merge(limits: Iterable[RiskLimit]) -> Iterable[RiskLimit]:
    """Yield one entry for each account and asset: several may say different things of the same."""
    entries: dict[tuple[str, str], dict[str, int]] = {}
    for limit in limits:
        entry = entries.setdefault((limit.account, limit.asset), {})
        for key in LIMITS:
            value = getattr(limit, key)
            if value is not None:
                entry[key] = value
    for (account, asset), values in entries.items():
        yield RiskLimit(account=account, asset=asset, **values)


LIMITS = ("max_order_quantity", "max_order_notional", "max_open_orders", "max_requests_per_second")


def _reject_quantity(limit: int, account: str, asset: str, quantity: int) -> NoReturn:
    raise Rejection(
        "risk_limit",
        f"max_order_quantity {limit}: quantity {quantity} is above what account {account} may enter in one order in "
        f"{asset}; enter less",
    )


def _reject_notional(limit: int, account: str, asset: str, quantity: int, price: int, remedy: str) -> NoReturn:
    raise Rejection(
        "risk_limit",
        f"max_order_notional {limit}: price {price} x quantity {quantity} = {price * quantity} is above what account "
        f"{account} may enter in one order in {asset}; {remedy}",
    )


def _report(accounts: dict[str, _OpenOrders], account: str, sequence: int, count: int) -> None:
    """Note an account's count as of a sequence; one that has none and has entered none since is forgotten."""
    account_open = accounts.get(account)
    taken = array("Q") if account_open is None else account_open.taken
    del taken[: bisect_right(taken, sequence)]
    if count or taken:
        accounts[account] = _OpenOrders(count, sequence, taken)
    elif account_open is not None:
        del accounts[account]
