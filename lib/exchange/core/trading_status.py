"""The trading status of an asset as order entry knows it, and what the asset takes in each (rule 18).

`closed` and `halted` take cancels only. A `call` takes what can wait for its auction: limit orders that rest, stops,
amends, cancels. `open` takes everything.
"""

from msgspec import Struct

from exchange.core.asset import Asset, Status
from exchange.core.request_checks import Rejection
from exchange.core.requests import ChangeStatus, OrderType, TimeInForce


def first_status(definition: Asset) -> Status:
    """Return the status of an asset that is defined for the first time, or again after it was delisted."""
    return "closed" if definition.has_sessions else "open"


class TradingStatus(Struct):
    """One asset's status as of the place `sequence` of its queue.

    `call` is the sequence of the request that began the present call, 0 where there is none; `call_ends` is when it
    ends by itself, in nanoseconds, 0 where it does not. `halted_by_operator` stands until an operator's next change,
    also while the asset is closed for the night.
    """

    status: Status
    sequence: int = 0
    call: int = 0
    call_ends: int = 0
    halted_by_operator: bool = False

    def would_change(self, request: ChangeStatus) -> bool:
        """Return whether the request has something to change: else it need not be taken.

        A request for the end of a certain call is for the matching daemon to judge, which alone knows the call.
        """
        if request.call:
            return True
        if request.by:
            if self.halted_by_operator != (request.status == "halted"):
                return True
        elif self.halted_by_operator and request.status != "closed":
            return False
        return request.status != self.status or request.status == "call"

    def change(self, request: ChangeStatus, sequence: int) -> None:
        """Follow a request to change the status, which has the place `sequence`."""
        if request.by:
            self.halted_by_operator = request.status == "halted"
        if request.call and (self.status != "call" or self.call != request.call):
            self.sequence = sequence  # that call is over, or was never known here: nothing changes
            return
        self.set(request.status, sequence, call=sequence if request.status == "call" else 0)

    def set(self, status: Status, sequence: int, call: int = 0, call_ends: int = 0) -> None:
        self.status = status
        self.sequence = sequence
        self.call = call
        self.call_ends = call_ends

    def check_order(self, asset: str, order_type: OrderType, time_in_force: TimeInForce) -> None:
        """Raise Rejection where the asset takes no such new order now."""
        if self.status == "call":
            # A stop waits in any case, whatever its time in force is once it is elected.
            if order_type == "market" or (order_type == "limit" and time_in_force in ("ioc", "fok")):
                what = "market order" if order_type == "market" else f"limit order with time_in_force {time_in_force}"
                raise Rejection(
                    "market_closed",
                    f"asset {asset}: is in a call, which takes no {what}: nothing trades before its auction; send it "
                    "when the asset is open",
                )
        else:
            self.check_amend(asset)

    def check_amend(self, asset: str) -> None:
        """Raise Rejection where the asset takes cancels only."""
        if self.status == "closed":
            raise Rejection(
                "market_closed", f"asset {asset}: is closed, and takes cancels only; send it at the next call"
            )
        if self.status == "halted":
            raise Rejection(
                "halted", f"asset {asset}: is halted, and takes cancels only; send it when the halt is over"
            )
