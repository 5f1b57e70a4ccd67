"""A flow's rows as requests: what one account enters, cancels and reduces, another one takes."""

from msgspec import Struct

from exchange.client.flow import Row, Units
from exchange.core.asset import Asset
from exchange.core.messages import AmendOrder, CancelOrder, NewOrder


class Open(Struct):
    """An order that rests, in the flow's units."""

    total: int
    filled: int = 0


class FlowOrders:
    """Translates rows, in their order. Two accounts, so that self-trade prevention never meets.

    Each order's `client_order_id` is the prefix and the venue's id, or `t` and the line for what takes; each other
    request's `request_id` is the prefix and the line. So a run can be sent again as a whole with the same prefix.
    """

    def __init__(self, asset: Asset, prefix: str, maker: str, taker: str) -> None:
        self.asset = asset.asset
        self.units = Units(asset)
        self.prefix = prefix
        self.maker = maker
        self.taker = taker
        self.open: dict[str, Open] = {}
        self.late: set[str] = set()  # ids of orders that the flow cancels or reduces although they are not open

    def request(self, row: Row) -> NewOrder | AmendOrder | CancelOrder:
        """Return the request that a row stands for. Raises FlowError where the asset can't hold its price."""
        if row.action == "new":
            self.open[row.order_id] = Open(row.quantity)
            return NewOrder(
                client_order_id=self.prefix + row.order_id,
                asset=self.asset,
                side=row.side,
                quantity=self.units.quantity(row.quantity),
                price=self.units.price(row.price),
                account=self.maker,
            )
        if row.action == "take":
            self._fill(row)
            return NewOrder(
                client_order_id=f"{self.prefix}t{row.number}",
                asset=self.asset,
                side=row.side,
                quantity=self.units.quantity(row.quantity),
                price=self.units.price(row.price),
                time_in_force="ioc",
                account=self.taker,
            )
        return self._change(row)

    def _fill(self, row: Row) -> None:
        for fill in row.fills:
            order = self.open.get(fill.order_id)
            if order is not None:
                order.filled += fill.quantity
                if order.filled >= order.total:
                    del self.open[fill.order_id]

    def _change(self, row: Row) -> AmendOrder | CancelOrder:
        """Return the amend to the new total, or a cancel where nothing would stay open."""
        client_order_id = self.prefix + row.order_id
        request_id = f"{self.prefix}{row.number}"
        order = self.open.get(row.order_id)
        if order is None:
            self.late.add(client_order_id)
        elif row.action == "reduce":
            order.total -= row.quantity
            if order.total > order.filled:
                return AmendOrder(
                    asset=self.asset,
                    client_order_id=client_order_id,
                    quantity=self.units.quantity(order.total),
                    account=self.maker,
                    request_id=request_id,
                )
        self.open.pop(row.order_id, None)
        return CancelOrder(asset=self.asset, client_order_id=client_order_id, account=self.maker, request_id=request_id)
