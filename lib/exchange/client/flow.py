"""Recorded order flow: a CSV file, plain or gzipped, one row for each thing that happened to a venue's book.

Columns: time, action, order_id, side, price, quantity, fills. Prices are in 1/10,000 of the currency, quantities in
whole units. `new` enters a limit order, `cancel` ends one, `reduce` takes `quantity` off one, `take` is an
immediate-or-cancel order whose `fills` are the executions that really happened: `order_id:price:quantity`, joined
by `;`, in order.
"""

import csv
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple, cast

from exchange.client.decimals import decimal_text
from exchange.client.errors import ClientError
from exchange.core.asset import Asset
from exchange.core.messages import SideName

COLUMNS = ["time", "action", "order_id", "side", "price", "quantity", "fills"]
PRICE_SCALE = 4

ENTERING = ("new", "take")  # the actions that enter an order

Action = Literal["new", "cancel", "reduce", "take"]


class FlowError(ClientError):
    """A row that is none, or that the asset can't take; the text names file, row, value and rule."""


class Fill(NamedTuple):
    """An execution: the venue's id of the resting order, price and quantity."""

    order_id: str
    price: int
    quantity: int


class Row(NamedTuple):
    """`number` counts the file's lines, its head being line 1; `price` and `quantity` are as in the file, 0 where none.

    `side` is empty on `cancel` and may be on `reduce`.
    """

    number: int
    action: Action
    order_id: str
    side: SideName
    price: int
    quantity: int
    fills: tuple[Fill, ...]


def read_flow(path: Path) -> Iterator[Row]:
    """Yield a file's rows; it is gzipped where its name ends in `.gz`. Raises FlowError, and OSError if unreadable."""
    with (
        gzip.open(path, "rt", encoding="utf-8", newline="")
        if path.suffix == ".gz"
        else path.open(encoding="utf-8", newline="") as text
    ):
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
        mistake = _mistake(action, order_id, side, fills)
        if not mistake:
            return Row(
                number,
                cast(Action, action),
                order_id,
                cast(SideName, side),
                int(price) if action in ENTERING else 0,
                int(quantity) if action != "cancel" else 0,
                tuple(_fill(each) for each in fills.split(";")) if fills else (),
            )
    except ValueError as error:
        mistake = str(error)
    raise FlowError(f"{path}: line {number}: {','.join(cells)}: {mistake}")


def _mistake(action: str, order_id: str, side: str, fills: str) -> str:
    """Return which rule a row breaks, or nothing."""
    if action not in ("new", "cancel", "reduce", "take"):
        return f"action {action!r}: must be new, cancel, reduce or take"
    if action in ENTERING and side not in ("buy", "sell"):
        return f"side {side!r}: must be buy or sell"
    if bool(order_id) == (action == "take"):
        return f"order_id {order_id!r}: every row but take has one"
    if fills and action != "take":
        return f"fills {fills!r}: only take has them"
    return ""


def _fill(text: str) -> Fill:
    order_id, price, quantity = text.split(":")
    return Fill(order_id, int(price), int(quantity))


class Units:
    """Converts a flow's prices and quantities to an asset's, exactly."""

    def __init__(self, asset: Asset) -> None:
        self.asset = asset
        self.price_factor: int = 10 ** max(asset.price_scale - PRICE_SCALE, 0)
        self.price_divisor: int = 10 ** max(PRICE_SCALE - asset.price_scale, 0)
        self.quantity_factor: int = 10**asset.quantity_scale

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
        if row.action in ENTERING:
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
        if row.action in ENTERING and not asset.min_quantity <= quantity <= asset.max_quantity:
            low, high = (decimal_text(each, asset.quantity_scale) for each in (asset.min_quantity, asset.max_quantity))
            raise FlowError(f"quantity {row.quantity} is outside what {asset.asset} takes, {low} to {high}")
