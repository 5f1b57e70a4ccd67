"""What a request must be beyond its types, field by field: the checks of order entry that need no state."""

from typing import Any, NoReturn

from msgspec import UNSET, UnsetType

from exchange.core import messages, requests
from exchange.core.asset import ACCOUNT_NAME, MAX_INTEGER, Asset
from exchange.core.messages import RejectReason
from exchange.core.requests import MAX_PARTS
from exchange.core.times import time_text

MAX_ID_LENGTH = 36
MIN_INTERVAL_MS = 10
MAX_INTERVAL_MS = 86_400_000  # a day


class Rejection(Exception):
    """A request that is not taken: the reason, and a text with the value, the rule and the remedy."""

    def __init__(self, reason: RejectReason, text: str) -> None:
        super().__init__(text)
        self.reason: RejectReason = reason
        self.text = text


def is_id(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_ID_LENGTH and value.isascii() and value.isprintable()


def readable_id(value: object) -> Any:
    """Return an id as a reject can echo it, UNSET where it is none or would not fit."""
    if isinstance(value, str) and len(value) <= MAX_ID_LENGTH:
        return value
    if type(value) is int and -MAX_INTEGER - 1 <= value <= MAX_INTEGER:
        return value
    return UNSET


def check_request_id(value: str | int | UnsetType) -> str | int:
    """Return a request_id that keeps its rule. Raises Rejection."""
    if isinstance(value, int):
        if not -MAX_INTEGER - 1 <= value <= MAX_INTEGER:
            raise Rejection("malformed", f"request_id {value}: an integer must fit 64 bits, signed")
        return value
    if not is_id(value):
        reject_id("request_id", value)
    assert isinstance(value, str)
    return value


def check_account(value: str | UnsetType) -> str:
    if not isinstance(value, str) or not ACCOUNT_NAME.match(value):
        reject_account(value)
    return value


def reject_account(value: object) -> NoReturn:
    if value is UNSET:
        raise Rejection("malformed", "account: is missing; every request about orders names its account")
    raise Rejection("malformed", f"account {value!r:.80}: must be 1 to 32 characters of a-z 0-9 _ -")


def reject_id(key: str, value: object) -> NoReturn:
    raise Rejection("malformed", f"{key} {value!r:.80}: must be 1 to {MAX_ID_LENGTH} printable ASCII characters")


def reject_quantity(quantity: int, definition: Asset) -> NoReturn:
    raise Rejection(
        "invalid_quantity",
        f"quantity {quantity}: must be a multiple of the lot {definition.lot_size}, from {definition.min_quantity} to "
        f"{definition.max_quantity}",
    )


def reject_price(price: int | UnsetType, definition: Asset, order_type: str = "limit") -> NoReturn:
    if price is UNSET:
        raise Rejection("invalid_price", f"price: is missing; a {order_type} order needs one")
    raise Rejection(
        "invalid_price",
        f"price {price}: must be a multiple of the tick {definition.tick_size}, from {definition.min_price} to "
        f"{definition.max_price}",
    )


# -- new orders that say more than side, quantity and price ------------------------------------------------------------


def read_instructions(message: messages.NewOrder) -> requests.Instructions:
    """Return what a new order says beyond its side, quantity, price, type and time in force.

    Raises Rejection for a combination that is not taken (rule 11), and for what is missing or must not be there. What
    depends on the asset or the time is left to `check_instructions`: a repeat is compared in between.
    """
    order_type, time_in_force = message.order_type, message.time_in_force
    stop_price, display_quantity = message.stop_price, message.display_quantity
    min_quantity, expire_time = message.min_quantity, message.expire_time
    if order_type == "stop" or order_type == "stop_limit":
        if stop_price is UNSET:
            raise Rejection("invalid_price", f"stop_price: is missing; a {order_type} order needs one")
        if order_type == "stop" and message.price is not UNSET:
            raise Rejection(
                "invalid_price",
                f"price {message.price}: a stop order takes no price; leave it out, or send a stop_limit",
            )
    elif stop_price is not UNSET:
        raise Rejection("invalid_price", f"stop_price {stop_price}: a {order_type} order takes none; leave it out")
    for flag, given in (("post_only", message.post_only), ("display_quantity", display_quantity is not UNSET)):
        if given and (order_type == "market" or order_type == "stop"):
            _reject_pair(flag, f"order_type {order_type}")
        if given and (time_in_force == "ioc" or time_in_force == "fok"):
            _reject_pair(flag, f"time_in_force {time_in_force}")
    if min_quantity is not UNSET and time_in_force == "fok":
        _reject_pair("min_quantity", "time_in_force fok")
    if time_in_force == "gtd":
        if expire_time is UNSET:
            raise Rejection("unsupported", "time_in_force gtd without expire_time: it needs one, later than now")
    elif expire_time is not UNSET:
        raise Rejection(
            "unsupported",
            f"expire_time {expire_time} with time_in_force {time_in_force}: only gtd takes one; leave it out",
        )
    for key, quantity in (("display_quantity", display_quantity), ("min_quantity", min_quantity)):
        if quantity is not UNSET and quantity <= 0:
            raise Rejection("invalid_quantity", f"{key} {quantity}: must be above 0; leave it out where there is none")
    return requests.Instructions(
        stop_price=0 if stop_price is UNSET else stop_price,
        display_quantity=0 if display_quantity is UNSET else display_quantity,
        min_quantity=0 if min_quantity is UNSET else min_quantity,
        post_only=message.post_only,
        self_trade_prevention=message.self_trade_prevention,
        expire_time=0 if expire_time is UNSET else expire_time,
    )


def _reject_pair(first: str, second: str) -> NoReturn:
    raise Rejection("unsupported", f"{first} with {second}: not taken together; leave one of the two out")


def check_instructions(
    instructions: requests.Instructions, message: messages.NewOrder, definition: Asset, now: int
) -> None:
    """Check what a new order says beyond side, quantity and price against its asset and the time. Raises Rejection."""
    quantity, lot = message.quantity, definition.lot_size
    assert isinstance(quantity, int)
    if message.order_type == "stop" or message.order_type == "stop_limit":
        check_stop_price(instructions.stop_price, definition)
    display_quantity = instructions.display_quantity
    if display_quantity:
        if display_quantity >= quantity or display_quantity % lot:
            raise Rejection(
                "invalid_quantity",
                f"display_quantity {display_quantity}: must be a multiple of the lot {lot}, below the order's quantity "
                f"{quantity}",
            )
        parts = -(-quantity // display_quantity)
        if parts > MAX_PARTS:
            raise Rejection(
                "invalid_quantity",
                f"display_quantity {display_quantity}: shows quantity {quantity} in {parts} parts, and {MAX_PARTS} are "
                f"the most; the smallest that will do is {-(-quantity // (MAX_PARTS * lot)) * lot}",
            )
    min_quantity = instructions.min_quantity
    if min_quantity > quantity or min_quantity % lot:
        raise Rejection(
            "invalid_quantity",
            f"min_quantity {min_quantity}: must be a multiple of the lot {lot}, at most the order's quantity "
            f"{quantity}",
        )
    if message.time_in_force == "gtd":
        if instructions.expire_time > MAX_INTEGER:
            raise Rejection("malformed", f"expire_time {instructions.expire_time}: an integer must fit 64 bits, signed")
        if instructions.expire_time <= now:
            raise Rejection(
                "unsupported",
                f"time_in_force gtd with expire_time {instructions.expire_time} "
                f"({time_text(instructions.expire_time)}): it must be later than now, {now} ({time_text(now)}), in "
                "nanoseconds since the Unix epoch",
            )


def check_stop_price(stop_price: int, definition: Asset) -> None:
    if not definition.min_price <= stop_price <= definition.max_price or stop_price % definition.tick_size:
        raise Rejection(
            "invalid_price",
            f"stop_price {stop_price}: must be a multiple of the tick {definition.tick_size}, from "
            f"{definition.min_price} to {definition.max_price}",
        )


# -- sessions ----------------------------------------------------------------------------------------------------------


def check_interval(key: str, value: int, may_be_zero: bool = False) -> int:
    """Return an interval in milliseconds that keeps its rule. Raises Rejection."""
    if not (MIN_INTERVAL_MS <= value <= MAX_INTERVAL_MS or (may_be_zero and value == 0)):
        also = "0, which disarms, or " if may_be_zero else ""
        raise Rejection(
            "malformed", f"{key} {value}: must be {also}{MIN_INTERVAL_MS} to {MAX_INTERVAL_MS} milliseconds"
        )
    return value
