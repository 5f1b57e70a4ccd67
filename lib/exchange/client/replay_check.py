"""What a replay should cause and what it did cause, compared. No sockets here."""

from typing import NamedTuple

from exchange.client.decimals import price_text, quantity_text
from exchange.client.flow import Row, Units
from exchange.core.asset import Asset
from exchange.core.messages import ExecutionReport, Trade

FINAL = ("new", "rejected", "canceled", "replaced", "cancel_rejected", "amend_rejected")
MAX_DIFFERENCES = 100


class Execution(NamedTuple):
    """An execution by the resting order's client_order_id, in the asset's units."""

    client_order_id: str | None
    price: int
    quantity: int


class ReplayCheck:
    """Collects what was recorded, acknowledged, reported and published; `compare` says where they differ.

    Every request that the exchange applies gives exactly one report that is no `trade` on its account's private topic
    (a taking order's remainder aside), so `applied` counts the requests that are through.
    """

    def __init__(self, asset: Asset, prefix: str, maker: str, taker: str) -> None:
        self.asset = asset
        self.units = Units(asset)
        self.prefix = prefix
        self.maker = maker
        self.taker = taker
        self.recorded: list[tuple[Execution, str]] = []  # each with the client_order_id of the taking order
        self.acknowledged: dict[int, str] = {}  # order_id to client_order_id, of all orders
        self.trades: list[Trade] = []
        self.fills: dict[str, list[ExecutionReport]] = {maker: [], taker: []}
        self.entered: set[str] = set()  # client_order_ids with a report `new`
        self.applied = 0
        self.differences: list[str] = []

    # -- what happened -------------------------------------------------------------------------------------------------

    def record(self, row: Row) -> None:
        """Note the executions that a row says there were."""
        for fill in row.fills:
            execution = Execution(
                self.prefix + fill.order_id, self.units.price(fill.price), self.units.quantity(fill.quantity)
            )
            self.recorded.append((execution, f"{self.prefix}t{row.number}"))

    def report(self, report: ExecutionReport, late: set[str]) -> None:
        """Note a private message; `late` are orders of which the flow itself says that a cancel comes too late."""
        kind, account = report.exec_type, report.account
        if isinstance(report.client_order_id, str):
            client_order_id = report.client_order_id
        else:  # left out where the order is not live any more
            client_order_id = self.acknowledged.get(report.order_id, "")
        if not client_order_id.startswith(self.prefix):
            return
        if kind == "trade":
            self.fills[account].append(report)
            return
        if kind in FINAL and (account == self.maker or kind in ("new", "rejected")):
            self.applied += 1
        if kind == "new":
            if client_order_id in self.entered:
                self.differ(f"order {client_order_id}: reported `new` twice")
            self.entered.add(client_order_id)
        elif kind in ("rejected", "cancel_rejected", "amend_rejected") and client_order_id not in late:
            self.differ(f"order {client_order_id}: {kind} ({report.reason}) at sequence {report.sequence} of its topic")

    def differ(self, text: str) -> None:
        """Note a difference; beyond a hundred they are not kept."""
        if len(self.differences) < MAX_DIFFERENCES:
            self.differences.append(text)

    # -- comparing -----------------------------------------------------------------------------------------------------

    def compare(self) -> None:
        """Compare everything, once all is there. What differs is in `differences`, the first first."""
        public = [
            (Execution(self.acknowledged.get(trade.maker_order_id), trade.price, trade.quantity), trade.taker_order_id)
            for trade in self.trades
        ]
        self._compare("public trades", [(each, self.acknowledged.get(taker)) for each, taker in public])
        makers, takers = self.fills[self.maker], self.fills[self.taker]
        self._compare(
            f"execution reports of {self.maker}",
            [
                (self._execution(maker, str(maker.client_order_id)), recorded[1])
                for maker, recorded in zip(makers, [*self.recorded, *[(None, "")] * len(makers)], strict=False)
            ],
        )
        self._compare(
            f"execution reports of {self.taker}",
            [
                (
                    self._execution(taker, recorded[0].client_order_id if recorded[0] else None),
                    str(taker.client_order_id),
                )
                for taker, recorded in zip(takers, [*self.recorded, *[(None, "")] * len(takers)], strict=False)
            ],
        )
        self._compare_trade_ids()
        missing = sorted(set(self.acknowledged.values()) - self.entered)
        if missing:
            self.differ(f"{len(missing)} orders without an execution report `new`, the first {missing[0]}")

    def _execution(self, report: ExecutionReport, client_order_id: str | None) -> Execution:
        price = report.last_price if isinstance(report.last_price, int) else 0
        quantity = report.last_quantity if isinstance(report.last_quantity, int) else 0
        return Execution(client_order_id, price, quantity)

    def _compare(self, where: str, found: list[tuple[Execution, str | None]]) -> None:
        for number, (expected, got) in enumerate(zip(self.recorded, found, strict=False), 1):
            if expected != got:
                self.differ(f"{where}: execution {number}: recorded {self._text(*expected)}, got {self._text(*got)}")
                return
        if len(found) < len(self.recorded):
            expected = self.recorded[len(found)]
            self.differ(f"{where}: execution {len(found) + 1}: recorded {self._text(*expected)}, got no more")
        elif len(found) > len(self.recorded):
            got = found[len(self.recorded)]
            self.differ(f"{where}: execution {len(self.recorded) + 1}: none recorded, got {self._text(*got)}")

    def _compare_trade_ids(self) -> None:
        """The public trades and both accounts' reports tell of the same trades."""
        public = [trade.trade_id for trade in self.trades]
        for account, reports in self.fills.items():
            private = [report.trade_id for report in reports]
            if private != public:
                place = next(
                    (place for place, (one, other) in enumerate(zip(public, private, strict=False)) if one != other),
                    min(len(public), len(private)),
                )
                self.differ(
                    f"execution reports of {account}: from the {place + 1}. on not the trades of the public topic"
                )

    def _text(self, execution: Execution, taker: str | None) -> str:
        price, quantity = price_text(execution.price, self.asset), quantity_text(execution.quantity, self.asset)
        resting, taking = self._venue_id(execution.client_order_id), self._venue_id(taker)
        return f"order {resting} at {price} x {quantity}, taken by {taking}"

    def _venue_id(self, client_order_id: str | None) -> str:
        if client_order_id is None:
            return "that is not of this replay"
        name = client_order_id.removeprefix(self.prefix)
        return f"line {name[1:]}" if name.startswith("t") else name
