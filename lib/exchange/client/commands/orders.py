"""Entering, changing, canceling and listing orders."""

import secrets
from typing import get_args

import click
import msgspec
from msgspec import UNSET

from exchange.client.commands.common import (
    REJECTED,
    account_option,
    console,
    definition,
    json_option,
    load_config,
    print_json,
    table,
    timeout_option,
)
from exchange.client.decimals import DecimalError, price_text, quantity_text, units
from exchange.client.errors import Rejected, Unreachable
from exchange.client.orders import OrderEntry, OrderType, SelfTradePrevention, TimeInForce
from exchange.client.outcome import REFUSALS, Outcome
from exchange.client.queries import ListedAsset, Queries
from exchange.client.times import duration_ns, time_ns
from exchange.core.messages import Ack, ExecutionReport, OpenOrdersQuery, SideName

LISTEN_S = 2.0  # for the notifier to say where an account's reports are
OUTCOME_S = 1.0  # to wait for what comes of a request
AT_MARKET = "market"


class Ticket:
    """One request of a shell command: the exchange's endpoints, the asset, and what came of it."""

    def __init__(self, asset: str, account: str, timeout: float) -> None:
        self.config = load_config()
        self.account = account
        self.queries = Queries(self.config.endpoints.query, timeout=timeout)
        self.orders = OrderEntry(self.config.endpoints.order_entry, account, timeout=timeout)
        self.outcome: Outcome | None = None
        try:
            self.asset, answered = definition(self.config, self.queries, asset)
            if answered:
                self._listen(asset)
        except BaseException:
            self.close()
            raise

    def _listen(self, asset: str) -> None:
        """Follow the account's reports, where the notifier is up to it; orders can be entered all the same."""
        timeout, self.queries.timeout = self.queries.timeout, min(self.queries.timeout, LISTEN_S)
        try:
            self.outcome = Outcome(self.config.endpoints, self.queries, self.account, asset)
        except (Unreachable, Rejected):
            self.outcome = None
        finally:
            self.queries.timeout = timeout

    def quantity(self, text: str, what: str = "quantity") -> int:
        """Return a quantity as the wire's integer, exactly. Raises DecimalError."""
        return units(text, self.asset.quantity_scale, what)

    def price(self, text: str, what: str = "price") -> int:
        """Return a price as the wire's integer, exactly. Raises DecimalError."""
        return units(text, self.asset.price_scale, what)

    def time(self, text: str) -> int:
        """Return a time, or a duration from now by the exchange's clock, in nanoseconds. Raises TimeError."""
        duration = duration_ns(text)
        return time_ns(text) if duration is None else self.orders.exchange_time() + duration

    def finish(self, ack: Ack, as_json: bool) -> None:
        """Say what came of the acknowledged request; ends with status 1 where the matching daemon refused it."""
        reports: list[ExecutionReport] = []
        if self.outcome is not None and isinstance(ack.order_id, int):
            reports = self.outcome.reports(ack.order_id, OUTCOME_S)
        if as_json:
            print_json(msgspec.to_builtins(ack) | {"execution_reports": reports})
        else:
            show_ack(ack, self.asset)
            for report in reports:
                click.echo(describe(report, self.asset))
            if not reports:
                click.echo("accepted; what came of it can't be seen yet")
        if any(report.exec_type in REFUSALS for report in reports):
            click.get_current_context().exit(REJECTED)

    def close(self) -> None:
        self.orders.close()
        self.queries.close()
        if self.outcome is not None:
            self.outcome.close()


@click.command(name="order")
@click.argument("side", type=click.Choice(["buy", "sell"]))
@click.argument("asset")
@click.argument("quantity_at_price", metavar="QUANTITY[@PRICE]")
@account_option
@click.option(
    "--type",
    "order_type",
    type=click.Choice(get_args(OrderType)),
    help="[default: limit; at the market: market; with --stop: stop, or with a price stop_limit]",
)
@click.option(
    "--time-in-force",
    "--tif",
    "time_in_force",
    type=click.Choice(get_args(TimeInForce)),
    help="[default: gtc; with --expires: gtd]",
)
@click.option("--expires", metavar="TIME", help="When the order ends: ISO 8601, or a duration such as 2h from now.")
@click.option("--stop", "--stop-price", "stop", metavar="PRICE", help="The price that triggers the order.")
@click.option("--show", metavar="QUANTITY", help="What the book shows of it at a time: an iceberg.")
@click.option("--min-quantity", metavar="QUANTITY", help="Cancel the order unless that much trades on entry.")
@click.option("--post-only", is_flag=True, help="Cancel the order rather than trade on entry.")
@click.option(
    "--self-trade-prevention",
    type=click.Choice(get_args(SelfTradePrevention)),
    default="cancel_newest",
    show_default=True,
    help="Where it meets an order of its own account.",
)
@click.option("--client-order-id", help="The order's key for safe retries.  [default: a new one]")
@timeout_option
@json_option
def order_command(
    side: SideName,
    asset: str,
    quantity_at_price: str,
    account: str,
    order_type: OrderType | None,
    time_in_force: TimeInForce | None,
    expires: str | None,
    stop: str | None,
    show: str | None,
    min_quantity: str | None,
    post_only: bool,
    self_trade_prevention: SelfTradePrevention,
    client_order_id: str | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Enter an order, such as `exchange order buy BTC-USD 1.5@100.25 --account alice`, or `1.5@market`.

    With --stop PRICE it waits until a trade reaches that price: `1.5 --stop 99` becomes a market order then, and
    `1.5@98.50 --stop 99` a limit order.
    """
    quantity_given, price_given, chosen = split_order(quantity_at_price, order_type, stop is not None)
    if time_in_force is None:
        time_in_force = "gtc" if expires is None else "gtd"
    ticket = Ticket(asset, account, timeout)
    try:
        ack = ticket.orders.new_order(
            asset,
            side,
            ticket.quantity(quantity_given),
            None if price_given is None else ticket.price(price_given),
            client_order_id=client_order_id or f"cli-{secrets.token_hex(6)}",
            order_type=chosen,
            time_in_force=time_in_force,
            stop_price=None if stop is None else ticket.price(stop, "stop price"),
            display_quantity=None if show is None else ticket.quantity(show, "shown quantity"),
            min_quantity=None if min_quantity is None else ticket.quantity(min_quantity, "minimum quantity"),
            post_only=post_only,
            self_trade_prevention=self_trade_prevention,
            expire_time=None if expires is None else ticket.time(expires),
        )
        ticket.finish(ack, as_json)
    finally:
        ticket.close()


def split_order(text: str, order_type: OrderType | None, stop: bool = False) -> tuple[str, str | None, OrderType]:
    """Return quantity, price (None for an order at the market) and order type. Raises DecimalError.

    >>> split_order("1@100", None), split_order("1@market", None), split_order("1", None, stop=True)
    (('1', '100', 'limit'), ('1', None, 'market'), ('1', None, 'stop'))
    """
    quantity, at, price = text.partition("@")
    at_market = price == AT_MARKET or (not at and (stop or order_type in ("market", "stop")))
    if at_market:
        chosen: OrderType = order_type or ("stop" if stop else "market")
        if chosen not in ("market", "stop"):
            raise DecimalError("order", text, f"a {chosen} order has a price", f"write it as {quantity}@100.25")
        return quantity, None, chosen
    if not at or not price:
        raise DecimalError("order", text, "is no QUANTITY@PRICE", "write it as 1.5@100.25 or 1.5@market")
    return quantity, price, order_type or ("stop_limit" if stop else "limit")


@click.command(name="cancel")
@click.argument("asset")
@click.argument("order_id", type=click.IntRange(min=1))
@account_option
@timeout_option
@json_option
def cancel_command(asset: str, order_id: int, account: str, timeout: float, as_json: bool) -> None:
    """Cancel an order."""
    ticket = Ticket(asset, account, timeout)
    try:
        ticket.finish(ticket.orders.cancel_order(asset, order_id), as_json)
    finally:
        ticket.close()


@click.command(name="amend")
@click.argument("asset")
@click.argument("order_id", type=click.IntRange(min=1))
@account_option
@click.option("--quantity", help="The new total, fills included.")
@click.option("--price", help="The new price.")
@click.option("--stop", "--stop-price", "stop", metavar="PRICE", help="The new stop price of an order that waits.")
@timeout_option
@json_option
def amend_command(
    asset: str,
    order_id: int,
    account: str,
    quantity: str | None,
    price: str | None,
    stop: str | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Change an order's total quantity, its price, its stop price, or several of them."""
    if quantity is None and price is None and stop is None:
        raise click.UsageError("an amend needs at least one of --quantity, --price and --stop")
    ticket = Ticket(asset, account, timeout)
    try:
        ack = ticket.orders.amend_order(
            asset,
            order_id,
            quantity=None if quantity is None else ticket.quantity(quantity),
            price=None if price is None else ticket.price(price),
            stop_price=None if stop is None else ticket.price(stop, "stop price"),
        )
        ticket.finish(ack, as_json)
    finally:
        ticket.close()


@click.command(name="orders")
@click.argument("asset", required=False)
@account_option
@timeout_option
@json_option
def orders_command(asset: str | None, account: str, timeout: float, as_json: bool) -> None:
    """List an account's open orders, in one asset or all."""
    with Queries(load_config().endpoints.query, timeout=timeout) as queries:
        if as_json:
            chosen = asset if asset is not None else UNSET
            print_json(queries.ask(OpenOrdersQuery(account=account, asset=chosen)))
            return
        assets = {each.asset: each for each in queries.assets()}
        found = queries.open_orders(account, asset).orders
    shown = table(
        "asset", ">order id", "side", "type", ">price", ">stop", ">open", ">quantity", "status", "client order id"
    )
    for order in found:
        listed = assets[order.asset]
        shown.add_row(
            order.asset,
            str(order.order_id),
            text(order.side),
            text(order.order_type),
            price_text(order.price, listed) if isinstance(order.price, int) else "market",
            price_text(order.stop_price, listed) if isinstance(order.stop_price, int) else "",
            amount(order.leaves_quantity, listed),
            amount(order.quantity, listed),
            text(order.order_status),
            text(order.client_order_id),
        )
    if found:
        console().print(shown)
    else:
        click.echo(f"{account} has no open orders{f' in {asset}' if asset else ''}")


# -- in words ----------------------------------------------------------------------------------------------------------


def show_ack(ack: Ack, asset: ListedAsset) -> None:
    """Print what the exchange acknowledged."""
    key = f", client order id {ack.client_order_id}" if isinstance(ack.client_order_id, str) else ""
    repeated = ", a repetition of an earlier request" if ack.duplicate else ""
    click.echo(
        f"{ack.request} acknowledged: {asset.asset} order {ack.order_id}{key}, sequence {ack.sequence}{repeated}"
    )


def describe(report: ExecutionReport, asset: ListedAsset) -> str:
    """Return an execution report in words."""
    kind, left = report.exec_type, amount(report.leaves_quantity, asset)
    if kind == "trade" and isinstance(report.last_price, int):
        traded = amount(report.last_quantity, asset)
        return (
            f"traded {traded} at {price_text(report.last_price, asset)} as {text(report.liquidity)} "
            f"(trade {text(report.trade_id)}): {text(report.order_status)}, {left} open"
        )
    price = f" at {price_text(report.price, asset)}" if isinstance(report.price, int) else ""
    reason = f" ({report.reason})" if isinstance(report.reason, str) else ""
    if kind in ("new", "replaced") and report.order_status == "pending_trigger":
        stop = f" at {price_text(report.stop_price, asset)}" if isinstance(report.stop_price, int) else ""
        return f"{kind}: {text(report.side)} {amount(report.quantity, asset)}{price}, waits to be triggered{stop}"
    if kind in ("new", "replaced"):
        return f"{kind}: {text(report.side)} {amount(report.quantity, asset)}{price}, {left} open"
    if kind == "triggered":
        return (
            f"triggered: {text(report.side)} {amount(report.quantity, asset)}{price or ' at the market'}, {left} open"
        )
    if kind == "restated":
        return f"restated{reason}: {amount(report.quantity, asset)} in all, {left} open"
    return f"{kind.replace('_', ' ')}{reason}"


def amount(value: object, asset: ListedAsset) -> str:
    """Return a quantity as text, or `?` where a report has none."""
    return quantity_text(value, asset) if isinstance(value, int) else "?"


def text(value: object) -> str:
    """Return a report's value as text, or `?` where it has none."""
    return "?" if value is UNSET else str(value)
