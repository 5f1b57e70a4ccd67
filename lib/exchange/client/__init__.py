"""The client library: synchronous, over plain ZeroMQ sockets, and safe to use while daemons die and come back.

An example, for an exchange that runs with the configuration in the current folder's `config`:

    from exchange import config
    from exchange.client import Feed, OrderEntry, Queries, price_units, quantity_units

    endpoints = config.load().endpoints
    with Queries(endpoints.query) as queries, OrderEntry(endpoints.order_entry, "alice") as orders:
        btc = queries.asset("BTC-USD")
        with Feed(endpoints.private, queries, ["execution/alice/BTC-USD/"]) as reports:
            ack = orders.new_order("BTC-USD", "buy", quantity_units("1.5", btc), price_units("100.25", btc))
            for _, report in reports.messages(timeout=1.0):
                print(ack.order_id, report.exec_type, report.leaves_quantity)

`OrderEntry` sends one request at a time, `OrderPipeline` many; `Queries` asks; `Feed` follows topics without a loss;
`Book` is kept up to date from one. Prices and quantities are the wire's integers, which `decimals` converts exactly.
Every error is a `ClientError`.
"""

from exchange.client.book import Book
from exchange.client.decimals import DecimalError, price_text, price_units, quantity_text, quantity_units
from exchange.client.errors import ClientError, LostMessages, ProtocolError, Rejected, Unreachable
from exchange.client.market_data import Feed
from exchange.client.order_pipeline import OrderPipeline
from exchange.client.orders import OrderEntry
from exchange.client.queries import Queries

__all__ = [
    "Book",
    "ClientError",
    "DecimalError",
    "Feed",
    "LostMessages",
    "OrderEntry",
    "OrderPipeline",
    "ProtocolError",
    "Queries",
    "Rejected",
    "Unreachable",
    "price_text",
    "price_units",
    "quantity_text",
    "quantity_units",
]
