"""Recorded order flow: a CSV file, plain or gzipped, one row for each thing that happened to a venue's book.

Columns: time, action, order_id, side, price, quantity, fills. Prices are in 1/10,000 of the currency, quantities in
whole units. `new` enters a limit order, `cancel` ends one, `reduce` takes `quantity` off one, `take` is an
immediate-or-cancel order whose `fills` are the executions that really happened: `order_id:price:quantity`, joined
by `;`, in order.
"""

import csv
import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple, cast

from exchange.client.decimals import decimal_text
from exchange.client.errors import ClientError
from exchange.core.asset import Asset
from exchange.core.messages import SideName

COLUMNS = ["time", "action", "order_id", "side", "price", "quantity", "fills"]
PRICE_SCALE = 4

Action = Literal["new", "cancel", "reduce", "take"]


class FlowError(ClientError):
    """A row that is none, or that the asset can't take; the text names file, row, value and rule."""


class Fill(NamedTuple):
    """An execution: the venue's id of the resting order, price and quantity."""

    order_id: str
    price: int
    quantity: int


class Row(NamedTuple):
    """`number` counts the file's lines, its head being line 1. `price` and `quantity` are as in the file."""

    number: int
    action: Action
    order_id: str
    side: SideName
    price: int
    quantity: int
    fills: tuple[Fill, ...]


def read_flow(path: Path) -> Iterator[Row]:
    """Yield the rows of a file, gzipped where its name ends in `.gz`. Raises FlowError, and OSError where unreadable."""
    binary = gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")
    with io.TextIOWrapper(cast(io.BufferedReader, binary), "utf-8", newline="") as text:
        lines = csv.reader(text)
        try:
            head = next(lines, None)
            if head != COLUMNS:
                raise FlowError(f"{path}: line 1: {head!r}: the columns of a flow are {','.join(COLUMNS)}")
            for number, cells in enumerate(lines, 2):
                yield _row(path, number, cells)
        except (csv.Error, UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
            raise FlowError(f"{path}: can't be read as CSV: {error}") from error


def _row(path: Path, number: int, cells: list[str]) -> Row:
    try:
        _, action, order_id, side, price, quantity, fills = cells
        if action not in ("new", "cancel", "reduce", "take"):
            raise ValueError(f"action {action!r}: must be new, cancel, reduce or take")
        if side not in ("buy", "sell"):
            raise ValueError(f"side {side!r}: must be buy or sell")
        if bool(order_id) == (action == "take"):
            raise ValueError(f"order_id {order_id!r}: every row but take has one")
        if fills and action != "take":
            raise ValueError(f"fills {fills!r}: only take has them")
        parsed = tuple(_fill(each) for each in fills.split(";")) if fills else ()
        return Row(
            number, cast(Action, action), order_id, cast(SideName, side), int(price or 0), int(quantity or 0), parsed
        )
    except ValueError as error:
        raise FlowError(f"{path}: line {number}: {','.join(cells)}: {error}") from error


def _fill(text: str) -> Fill:
    order_id, price, quantity = text.split(":")
    return Fill(order_id, int(price), int(quantity))


class Units:
    """Converts a flow's prices and quantities to an asset's, exactly."""

    def __init__(self, asset: Asset) -> None:
        self.asset = asset
        self.price_factor = 10 ** max(asset.price_scale - PRICE_SCALE, 0)
        self.price_divisor = 10 ** max(PRICE_SCALE - asset.price_scale, 0)
        self.quantity_factor = 10**asset.quantity_scale

    def price(self, price: int) -> int:
        """Return a price in the asset's units. Raises FlowError where it is finer than the asset's scale."""
        value, rest = divmod(price * self.price_factor, self.price_divisor)
        if rest:
            raise FlowError(
                f"price {decimal_text(price, PRICE_SCALE)} is finer than {self.asset.asset} can hold, with a "
                f"price_scale of {self.asset.price_scale}; use an asset with a price_scale of {PRICE_SCALE}"
            )
        return value

    def quantity(self, quantity: int) -> int:
        """Return a quantity in the asset's units."""
        return quantity * self.quantity_factor

    def check(self, row: Row) -> None:
        """Raise FlowError where the asset can't take the row's price or quantity."""
        asset = self.asset
        if row.action in ("new", "take"):
            price = self.price(row.price)
            if price % asset.tick_size:
                raise FlowError(
                    f"price {decimal_text(row.price, PRICE_SCALE)} is no multiple of {asset.asset}'s tick, "
                    f"{decimal_text(asset.tick_size, asset.price_scale)}; use an asset with a finer tick_size"
                )
            if not asset.min_price <= price <= asset.max_price:
                low, high = (decimal_text(each, asset.price_scale) for each in (asset.min_price, asset.max_price))
                raise FlowError(
                    f"price {decimal_text(row.price, PRICE_SCALE)} is outside what {asset.asset} takes, {low} to {high}"
                )
        quantity = self.quantity(row.quantity)
        if row.action != "cancel" and quantity % asset.lot_size:
            raise FlowError(
                f"quantity {row.quantity} is no multiple of {asset.asset}'s lot, "
                f"{decimal_text(asset.lot_size, asset.quantity_scale)}; use an asset with a smaller lot_size"
            )
        if row.action in ("new", "take") and not asset.min_quantity <= quantity <= asset.max_quantity:
            low, high = (decimal_text(each, asset.quantity_scale) for each in (asset.min_quantity, asset.max_quantity))
            raise FlowError(f"quantity {row.quantity} is outside what {asset.asset} takes, {low} to {high}")
