"""Assets, books and trades, as of now and live."""

import time
from collections import deque

import click
from msgspec import UNSET
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from exchange.client.book import Book, BookGap
from exchange.client.commands.common import console, json_option, load_config, print_json, table, timeout_option
from exchange.client.decimals import decimal_text, price_text, quantity_text
from exchange.client.errors import LostMessages
from exchange.client.market_data import Feed
from exchange.client.queries import ListedAsset, Message, Queries
from exchange.client.times import time_text
from exchange.core.messages import AssetsQuery, BookSnapshotQuery, BookUpdate, Status, Trade, TradesQuery

SHOWN_TRADES = 10
REFRESH_S = 0.1


@click.command(name="assets")
@timeout_option
@json_option
def assets_command(timeout: float, as_json: bool) -> None:
    """List what is traded."""
    with Queries(load_config().endpoints.query, timeout=timeout) as queries:
        if as_json:
            print_json(queries.ask(AssetsQuery()))
            return
        assets = queries.assets()
    shown = table("asset", "status", ">tick", ">lot", ">smallest", ">largest", ">lowest price", ">highest price")
    for asset in assets:
        shown.add_row(
            asset.asset,
            asset.status,
            price_text(asset.tick_size, asset),
            decimal_text(asset.lot_size, asset.quantity_scale),
            quantity_text(asset.min_quantity, asset),
            quantity_text(asset.max_quantity, asset),
            price_text(asset.min_price, asset),
            price_text(asset.max_price, asset),
        )
    console().print(shown)


@click.command(name="book")
@click.argument("asset")
@click.option("--depth", type=click.IntRange(min=1), help="Levels of each side.  [default: 10; with --json: all]")
@timeout_option
@json_option
def book_command(asset: str, depth: int | None, timeout: float, as_json: bool) -> None:
    """Show an asset's book."""
    with Queries(load_config().endpoints.query, timeout=timeout) as queries:
        if as_json:
            print_json(queries.ask(BookSnapshotQuery(asset=asset, depth=depth if depth is not None else UNSET)))
            return
        listed = queries.asset(asset)
        book = Book.from_snapshot(queries.book_snapshot(asset, depth or 10))
    console().print(book_table(book, listed, depth or 10))


@click.command(name="trades")
@click.argument("asset")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@timeout_option
@json_option
def trades_command(asset: str, limit: int, timeout: float, as_json: bool) -> None:
    """Show an asset's last trades, newest first."""
    with Queries(load_config().endpoints.query, timeout=timeout) as queries:
        if as_json:
            print_json(queries.ask(TradesQuery(asset=asset, limit=limit)))
            return
        listed = queries.asset(asset)
        trades = queries.trades(asset, limit)
    if trades:
        console().print(trades_table(trades, listed))
    else:
        click.echo(f"{asset} has not traded yet")


@click.command(name="watch")
@click.argument("asset")
@click.option("--depth", type=click.IntRange(1, 1000), default=10, show_default=True)
@click.option("--count", type=click.IntRange(min=1), help="End after so many messages.")
@timeout_option
@json_option
def watch_command(asset: str, depth: int, count: int | None, timeout: float, as_json: bool) -> None:
    """Follow an asset's book and trades until Ctrl-C; with --json, each message as one line."""
    config = load_config()
    with Queries(config.endpoints.query, timeout=timeout) as queries:
        listed = queries.asset(asset)
        topics = [f"trade/{asset}/", f"book/{asset}/", f"status/{asset}/"]
        with Feed(config.endpoints.market_data, queries, topics) as feed:
            watch = Watch(queries, feed, listed, count)
            try:
                if as_json:
                    watch.print_messages()
                elif console().is_terminal:
                    watch.show(depth)
                else:
                    watch.print_lines()
            except KeyboardInterrupt:
                click.echo(err=True)


class Watch:
    """An asset's messages as they come, at most `count` of them."""

    def __init__(self, queries: Queries, feed: Feed, asset: ListedAsset, count: int | None) -> None:
        self.queries = queries
        self.feed = feed
        self.asset = asset
        self.left = count
        self.trades: deque[Trade] = deque(maxlen=SHOWN_TRADES)
        self.status: Status | None = None  # the last message; until there is one, the asset's listing has the status

    def next(self, timeout: float) -> Message | None:
        """Return the next message, or None. Says so where messages are past retention."""
        try:
            delivery = self.feed.receive(timeout)
        except LostMessages as lost:
            click.echo(f"warning: {lost}", err=True)
            return None
        if delivery is None:
            return None
        if self.left is not None:
            self.left -= 1
        return delivery.message

    @property
    def done(self) -> bool:
        return self.left == 0

    def print_messages(self) -> None:
        while not self.done:
            message = self.next(1.0)
            if message is not None:
                print_json(message)

    def print_lines(self) -> None:
        """Print statuses, trades and the best prices, a line each, for an output that is no terminal."""
        self._snapshot()
        click.echo(self._best())
        click.echo(f"{self.asset.asset} {self._status()}")
        while not self.done:
            message = self.next(1.0)
            if isinstance(message, Trade):
                click.echo(trade_line(message, self.asset))
            elif isinstance(message, Status):
                click.echo(f"{self.asset.asset} {status_text(message, self.asset)}")
            elif isinstance(message, BookUpdate):
                self._apply(message)
                click.echo(self._best())

    def show(self, depth: int) -> None:
        """Show book and trades on a terminal, redrawn as they change."""
        self._snapshot()
        self.trades.extend(reversed(self.queries.trades(self.asset.asset, SHOWN_TRADES)))
        with Live(self._picture(depth), console=console(), auto_refresh=False) as live:
            due = 0.0
            while not self.done:
                message = self.next(REFRESH_S)
                if isinstance(message, Trade):
                    if not self.trades or message.trade_id > self.trades[-1].trade_id:
                        self.trades.append(message)
                elif isinstance(message, Status):
                    self.status = message
                elif isinstance(message, BookUpdate):
                    self._apply(message)
                if time.monotonic() >= due:
                    due = time.monotonic() + REFRESH_S
                    live.update(self._picture(depth), refresh=True)

    def _snapshot(self) -> None:
        self.book = Book.from_snapshot(self.queries.book_snapshot(self.asset.asset))

    def _apply(self, update: BookUpdate) -> None:
        try:
            self.book.apply(update)
        except BookGap:
            self._snapshot()

    def _best(self) -> str:
        sides = []
        for name, levels in (("bid", self.book.bids(1)), ("ask", self.book.asks(1))):
            if levels:
                price, quantity, _ = levels[0]
                sides.append(f"{name} {quantity_text(quantity, self.asset)} @ {price_text(price, self.asset)}")
            else:
                sides.append(f"{name} none")
        return f"{self.asset.asset} {'  '.join(sides)}"

    def _picture(self, depth: int) -> Group:
        trades = trades_table(list(reversed(self.trades)), self.asset)
        status = Text(f"{self.asset.asset} {self._status()}")
        return Group(status, Text(), book_table(self.book, self.asset, depth), Text(), trades)

    def _status(self) -> str:
        return status_text(self.status, self.asset) if self.status else f"is {self.asset.status}"


def book_table(book: Book, asset: ListedAsset, depth: int) -> Table:
    """Return a book as a table, best prices in its first row."""
    shown = table(">orders", ">quantity", ">bid", "ask", "quantity", "orders", title=f"{asset.asset} book")
    bids, asks = book.bids(depth), book.asks(depth)
    for place in range(max(len(bids), len(asks))):
        bid = bids[place] if place < len(bids) else None
        ask = asks[place] if place < len(asks) else None
        left = [str(bid[2]), quantity_text(bid[1], asset), price_text(bid[0], asset)] if bid else [""] * 3
        right = [price_text(ask[0], asset), quantity_text(ask[1], asset), str(ask[2])] if ask else [""] * 3
        shown.add_row(*left, *right)
    return shown


def trades_table(trades: list[Trade], asset: ListedAsset) -> Table:
    shown = table(">trade", "time (UTC)", ">price", ">quantity", "aggressor", title=f"{asset.asset} trades")
    for trade in trades:
        shown.add_row(
            str(trade.trade_id),
            time_text(trade.time),
            price_text(trade.price, asset),
            quantity_text(trade.quantity, asset),
            trade.aggressor,
        )
    return shown


def status_text(status: Status, asset: ListedAsset) -> str:
    """Return a trading status in words, in a call with what its auction would give if it ended now."""
    reason = f" ({status.reason})" if status.reason else ""
    if status.status != "call":
        return f"is {status.status}{reason}"
    if not isinstance(status.indicative_price, int) or not isinstance(status.indicative_quantity, int):
        return f"is in a call{reason}: nothing would trade"
    surplus = ""
    if isinstance(status.surplus_side, str) and isinstance(status.surplus_quantity, int):
        surplus = f", surplus of {quantity_text(status.surplus_quantity, asset)} to {status.surplus_side}"
    volume, price = quantity_text(status.indicative_quantity, asset), price_text(status.indicative_price, asset)
    return f"is in a call{reason}: {volume} would trade at {price}{surplus}"


def trade_line(trade: Trade, asset: ListedAsset) -> str:
    price, quantity = price_text(trade.price, asset), quantity_text(trade.quantity, asset)
    return f"{asset.asset} trade {trade.trade_id}: {quantity} @ {price}, {trade.aggressor} aggressor"
