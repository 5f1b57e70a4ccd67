"""What a request must be beyond its types, field by field: the checks of order entry that need no state."""

from typing import Any, NoReturn

from msgspec import UNSET, UnsetType

from exchange.core import messages, requests
from exchange.core.asset import ACCOUNT_NAME, MAX_INTEGER, Asset
from exchange.core.messages import RejectReason

MAX_ID_LENGTH = 36


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


def reject_price(price: int | UnsetType, definition: Asset) -> NoReturn:
    if price is UNSET:
        raise Rejection("invalid_price", "price: is missing; a limit order needs one")
    raise Rejection(
        "invalid_price",
        f"price {price}: must be a multiple of the tick {definition.tick_size}, from {definition.min_price} to "
        f"{definition.max_price}",
    )


def supported(message: messages.NewOrder) -> tuple[requests.OrderType, requests.TimeInForce]:
    """Return type and time in force. Raises Rejection for what is in the protocol and not in this version."""
    order_type, time_in_force = message.order_type, message.time_in_force
    if order_type == "stop" or order_type == "stop_limit":
        raise Rejection("unsupported", f"order_type {order_type}: this version takes limit and market orders")
    if time_in_force == "day" or time_in_force == "gtd":
        raise Rejection("unsupported", f"time_in_force {time_in_force}: this version takes gtc, ioc and fok")
    if message.post_only:
        raise Rejection("unsupported", "post_only: not in this version")
    if message.self_trade_prevention != "cancel_newest":
        raise Rejection(
            "unsupported", f"self_trade_prevention {message.self_trade_prevention}: this version has cancel_newest only"
        )
    if message.stop_price is not UNSET:
        raise Rejection(
            "invalid_price", f"stop_price {message.stop_price}: not allowed for a {message.order_type} order"
        )
    for key in ("display_quantity", "min_quantity", "expire_time"):
        if getattr(message, key) is not UNSET:
            raise Rejection("unsupported", f"{key} {getattr(message, key)}: not in this version; leave it out")
    return order_type, time_in_force
