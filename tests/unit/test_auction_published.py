"""The auction against examples that venues have published: their orders in, their price and volume out.

Each example is entered order by order during a call, then the asset opens: what was published as indicative must be the
example's price, volume and surplus, and the trades must be at that price and add up to that volume. Where a venue gives
no surplus, it is the difference of the sums that it gives. Where a venue would have found another price than this
exchange, that is a test too, and its docstring says why (and `docs/rulebook.md`, rule 19, what was chosen).

Sources:

- CME: CME Group Client Systems Wiki, "Application of the Indicative Opening Price Rules" (the tables) and "Rules to
  Determine the Indicative Opening Price" (cmegroup.com/confluence/display/EPICSANDBOX/, as of 2024).
- Xetra: Deutsche Boerse, "Xetra Market Model Equities" ("Marktmodell Aktienhandel", release 3, 8 April 1998, section
  11.1.2, and later releases), matching examples 1, 2, 3 and 5 of auctions. The orders and prices are as the tests of
  the public project ratzlow/tinyEXCH (`AuctionMatchTest`) reproduce them; its examples 4, 6 and 7 are of market orders,
  which a call here does not take, or of books that do not cross.
- NSE: National Stock Exchange of India, "Pre-open session", "Equilibrium price determination"
  (nseindia.com/products-services/equity-market-pre-open).
"""

from msgspec import Struct

from exchange.core.asset import Asset
from exchange.core.events import IndicativeChanged, TradeExecuted
from exchange.core.matching import Matching
from exchange.core.requests import BUY, SELL, ChangeStatus, DefineAsset, NewOrder, Record, Request

Limits = dict[int, int]  # quantity by price


class Held(Struct, frozen=True):
    """What an auction came to; `surplus` is above 0 on the buy side, below on the sell side."""

    price: int
    volume: int
    surplus: int


def hold(buys: Limits, sells: Limits, reference: int = 0) -> Held:
    """Enter the orders during a call, open the asset, and return the auction, as published and as traded."""
    matching = Matching()
    requests: list[tuple[Request, str]] = [
        (DefineAsset(Asset(asset="ACME", reference_price=reference)), ""),
        (ChangeStatus("call", "schedule"), ""),
    ]
    for side, account, limits in ((BUY, "bob", buys), (SELL, "sue", sells)):
        for price, quantity in limits.items():
            order_id = len(requests)
            requests.append((NewOrder(order_id, f"c{order_id}", side, quantity, price), account))
    requests.append((ChangeStatus("open", "schedule"), ""))
    published, trades = IndicativeChanged(0, 0, 0, 0), []
    for sequence, (request, account) in enumerate(requests, 1):
        for event in matching.apply(Record("ACME", sequence, sequence, account, request)).events:
            if type(event) is IndicativeChanged:
                published = event
            elif type(event) is TradeExecuted:
                trades.append(event)
    matching.check()
    assert {trade.price for trade in trades} == {published.price}
    assert sum(trade.quantity for trade in trades) == published.quantity
    return Held(published.price, published.quantity, published.surplus_side * published.surplus_quantity)


# -- CME Globex --------------------------------------------------------------------------------------------------------


def test_cme_rule_1_the_most_volume() -> None:
    """Its first table: 200 of the 220 that are bid at 46 or above can trade there, more than anywhere else."""
    buys = {51: 10, 50: 20, 49: 30, 48: 40, 47: 50, 46: 70, 45: 100, 44: 1, 43: 30}
    sells = {51: 30, 50: 100, 49: 1, 48: 25, 47: 1, 46: 100, 45: 90, 44: 4, 43: 6}
    assert hold(buys, sells) == Held(46, 200, 220 - 200)


def test_cme_rule_2_the_least_that_does_not_match() -> None:
    """Its second table: 150 can trade at 46 and at 47, and 30 would be left over at 46, nothing at 47."""
    buys = {51: 10, 50: 20, 49: 30, 48: 40, 47: 50, 46: 30, 45: 100, 44: 1, 43: 30}
    sells = {51: 30, 50: 100, 49: 1, 48: 25, 46: 50, 45: 90, 44: 4, 43: 6}
    assert hold(buys, sells) == Held(47, 150, 0)


def test_cme_rule_3_the_highest_price_where_all_have_more_bid() -> None:
    """Its third table: 150 of 180 can trade at 46 and at 47, so the price is the higher."""
    buys = {51: 10, 50: 20, 49: 30, 48: 40, 47: 80, 45: 20, 44: 30, 43: 30}
    sells = {51: 30, 50: 100, 49: 1, 48: 25, 46: 50, 45: 90, 44: 4, 43: 6}
    assert hold(buys, sells) == Held(47, 150, 180 - 150)


# -- Xetra -------------------------------------------------------------------------------------------------------------


def test_xetra_example_1_one_limit_with_the_most_volume_and_the_least_surplus() -> None:
    assert hold({202: 200, 201: 200, 200: 300}, {200: 100, 198: 200, 197: 400}) == Held(200, 700, 0)


def test_xetra_example_2_several_limits_and_a_surplus_that_is_bid() -> None:
    assert hold({202: 400, 201: 200}, {199: 300, 198: 200}) == Held(201, 500, 100)


def test_xetra_example_3_several_limits_and_a_surplus_that_is_offered() -> None:
    assert hold({202: 300, 201: 200}, {199: 400, 198: 200}) == Held(199, 500, -100)


def test_xetra_example_5_several_limits_no_surplus_and_a_reference_price_beyond_them() -> None:
    """A reference price of 202 gives 201, the nearest limit; one of 198 gives 199."""
    assert hold({202: 300, 201: 200}, {199: 300, 198: 200}, reference=202) == Held(201, 500, 0)
    assert hold({202: 300, 201: 200}, {199: 300, 198: 200}, reference=198) == Held(199, 500, 0)


def test_xetra_example_5_a_reference_price_between_them_is_ours_itself() -> None:
    """A reference price of 200 gives 201 in the example: Xetra takes a limit of the book, of two as near the higher.

    Here it is the reference price itself: nothing that traded before is nearer to it, and neither side is preferred.
    """
    assert hold({202: 300, 201: 200}, {199: 300, 198: 200}, reference=200) == Held(200, 500, 0)


# -- National Stock Exchange of India ----------------------------------------------------------------------------------


def test_nse_the_price_at_which_the_most_can_be_bought_and_sold() -> None:
    """Its table from 103 to 107, demand above 107 (4,000) as one order at 108, which is what its sums imply.

    27,500 trade at 105, where 36,300 are offered. What is offered above 107 plays no part.
    """
    buys = {103: 13_500, 104: 9_500, 105: 12_000, 106: 6_500, 107: 5_000, 108: 4_000}
    sells = {103: 11_500, 104: 9_800, 105: 15_000, 106: 12_000, 107: 12_500}
    assert hold(buys, sells) == Held(105, 27_500, 27_500 - 36_300)
