"""Exact conversion between decimal text and the wire's integers. No floats anywhere.

A price of 10025 on an asset with `price_scale` 2 is 100.25:

>>> from exchange.core.asset import Asset
>>> asset = Asset(asset="ES.H27", price_scale=2, tick_size=25)
>>> price_units("100.25", asset)
10025
>>> decimal_text(10025, 2)
'100.25'
"""

import re

from exchange.client.errors import ClientError
from exchange.core.asset import MAX_INTEGER, Asset

DECIMAL = re.compile(r"([+-]?)([0-9]+)(?:\.([0-9]+))?\Z")
MAX_DIGITS = 60  # far more than 64 bits hold, and few enough to convert in no time


class DecimalError(ClientError, ValueError):
    """Text that is no exact price or quantity of the asset. `value`, `rule` and `remedy` say why and what to do."""

    def __init__(self, what: str, value: str, rule: str, remedy: str) -> None:
        super().__init__(f"{what} {value!r}: {rule}; {remedy}")
        self.value = value
        self.rule = rule
        self.remedy = remedy


def units(text: str, scale: int, what: str = "number") -> int:
    """Return the integer `text` x 10^`scale`, exactly. Zeros behind the last decimal that counts are fine.

    Raises DecimalError where the text is no plain decimal number, finer than the scale, or beyond 64 bits.
    """
    match = DECIMAL.match(text) if len(text) <= MAX_DIGITS else None
    if match is None:
        raise DecimalError(what, text, "is no decimal number", "write digits with at most one point, such as 100.25")
    sign, whole, fraction = match[1], match[2], (match[3] or "").rstrip("0")
    if len(fraction) > scale:
        cut = f"{sign}{whole}.{fraction[:scale]}" if scale else f"{sign}{whole}"
        raise DecimalError(what, text, f"has more than {scale} decimals", f"round it yourself, for instance to {cut}")
    value = int(f"{sign}{whole}{fraction.ljust(scale, '0')}")
    if abs(value) > MAX_INTEGER:
        largest = decimal_text(MAX_INTEGER, scale)
        raise DecimalError(what, text, f"is beyond {largest}, the largest that 64 bits hold", "give a smaller one")
    return value


def price_units(text: str, asset: Asset) -> int:
    """Return a price as the wire's integer. Raises DecimalError where the asset does not take it."""
    value = units(text, asset.price_scale, "price")
    _check("price", text, value, asset.price_scale, asset.tick_size, asset.min_price, asset.max_price)
    return value


def quantity_units(text: str, asset: Asset) -> int:
    """Return a quantity as the wire's integer. Raises DecimalError where the asset does not take it."""
    value = units(text, asset.quantity_scale, "quantity")
    _check("quantity", text, value, asset.quantity_scale, asset.lot_size, asset.min_quantity, asset.max_quantity)
    return value


def _check(what: str, text: str, value: int, scale: int, step: int, smallest: int, largest: int) -> None:
    if not smallest <= value <= largest:
        low, high = decimal_text(smallest, scale), decimal_text(largest, scale)
        raise DecimalError(what, text, f"is outside {low} to {high}", "give one within")
    if value % step:
        below, above = decimal_text(value - value % step, scale), decimal_text(value - value % step + step, scale)
        rule = f"is no multiple of the {'tick' if what == 'price' else 'lot'} of {decimal_text(step, scale)}"
        raise DecimalError(what, text, rule, f"the nearest are {below} and {above}")


def decimal_text(value: int, scale: int) -> str:
    """Return an integer of the wire as decimal text with all the decimals of its scale.

    >>> decimal_text(-5, 2), decimal_text(7, 0)
    ('-0.05', '7')
    """
    if not scale:
        return str(value)
    digits = str(abs(value)).rjust(scale + 1, "0")
    return f"{'-' if value < 0 else ''}{digits[:-scale]}.{digits[-scale:]}"


def quantity_text(value: int, asset: Asset) -> str:
    """Return a quantity as decimal text, without zeros at the end: 1.5 rather than 1.50000000."""
    text = decimal_text(value, asset.quantity_scale)
    return text.rstrip("0").rstrip(".") if "." in text else text


def price_text(value: int, asset: Asset) -> str:
    """Return a price as decimal text with all the decimals of the asset's prices."""
    return decimal_text(value, asset.price_scale)
