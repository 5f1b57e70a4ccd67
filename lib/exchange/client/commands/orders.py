"""Entering, changing, canceling and listing orders."""

import secrets
from typing import Any

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
from exchange.client.orders import OrderEntry
from exchange.client.outcome import REFUSALS, Outcome
from exchange.client.queries import ListedAsset, Queries
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
@click.argument("quantity_at_price", metavar="QUANTITY@PRICE")
@account_option
@click.option("--type", "order_type", type=click.Choice(["limit", "market", "stop", "stop_limit"]))
@click.option("--tif", type=click.Choice(["gtc", "ioc", "fok", "day", "gtd"]), default="gtc", show_default=True)
@click.option("--stop-price", help="Of a stop or stop_limit order.")
@click.option("--post-only", is_flag=True, help="Cancel the order rather than trade on entry.")
@click.option("--client-order-id", help="The order's key for safe retries.  [default: a new one]")
@timeout_option
@json_option
def order_command(
    side: SideName,
    asset: str,
    quantity_at_price: str,
    account: str,
    order_type: str | None,
    tif: str,
    stop_price: str | None,
    post_only: bool,
    client_order_id: str | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Enter an order, such as `exchange order buy BTC-USD 1.5@100.25 --account alice`, or `1.5@market`."""
    quantity_given, price_given, chosen = split_order(quantity_at_price, order_type)
    ticket = Ticket(asset, account, timeout)
    try:
        quantity = units(quantity_given, ticket.asset.quantity_scale, "quantity")
        price = None if price_given is None else units(price_given, ticket.asset.price_scale, "price")
        options: dict[str, Any] = {"order_type": chosen, "time_in_force": tif, "post_only": post_only}
        if stop_price is not None:
            options["stop_price"] = units(stop_price, ticket.asset.price_scale, "stop price")
        name = client_order_id or f"cli-{secrets.token_hex(6)}"
        ack = ticket.orders.new_order(asset, side, quantity, price, client_order_id=name, **options)
        ticket.finish(ack, as_json)
    finally:
        ticket.close()


def split_order(text: str, order_type: str | None) -> tuple[str, str | None, str]:
    """Return quantity, price (None for an order at the market) and order type. Raises DecimalError."""
    quantity, at, price = text.partition("@")
    at_market = price == AT_MARKET or (not at and order_type in ("market", "stop"))
    if at_market:
        chosen = order_type or "market"
        if chosen not in ("market", "stop"):
            raise DecimalError("order", text, f"a {chosen} order has a price", f"write it as {quantity}@100.25")
        return quantity, None, chosen
    if not at or not price:
        raise DecimalError("order", text, "is no QUANTITY@PRICE", "write it as 1.5@100.25 or 1.5@market")
    return quantity, price, order_type or "limit"


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
@timeout_option
@json_option
def amend_command(
    asset: str, order_id: int, account: str, quantity: str | None, price: str | None, timeout: float, as_json: bool
) -> None:
    """Change an order's total quantity, its price, or both."""
    if quantity is None and price is None:
        raise click.UsageError("an amend needs --quantity, --price, or both")
    ticket = Ticket(asset, account, timeout)
    try:
        ack = ticket.orders.amend_order(
            asset,
            order_id,
            quantity=None if quantity is None else units(quantity, ticket.asset.quantity_scale, "quantity"),
            price=None if price is None else units(price, ticket.asset.price_scale, "price"),
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
    shown = table("asset", ">order id", "side", ">price", ">open", ">quantity", "status", "client order id")
    for order in found:
        listed = assets[order.asset]
        shown.add_row(
            order.asset,
            str(order.order_id),
            text(order.side),
            price_text(order.price, listed) if isinstance(order.price, int) else "market",
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
    if kind in ("new", "replaced"):
        return f"{kind}: {text(report.side)} {amount(report.quantity, asset)}{price}, {left} open"
    reason = f" ({report.reason})" if isinstance(report.reason, str) else ""
    return f"{kind.replace('_', ' ')}{reason}"


def amount(value: object, asset: ListedAsset) -> str:
    """Return a quantity as text, or `?` where a report has none."""
    return quantity_text(value, asset) if isinstance(value, int) else "?"


def text(value: object) -> str:
    """Return a report's value as text, or `?` where it has none."""
    return "?" if value is UNSET else str(value)
