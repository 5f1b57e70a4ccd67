"""The auction price against a search of all prices, on random books and on books that orders come to and leave."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.core.asset import MAX_INTEGER
from exchange.core.auction import NO_AUCTION, Crossing, Price, indicative
from exchange.core.book import Book, Order, Terms
from exchange.core.events import IndicativeChanged
from exchange.core.requests import BUY, SELL, Side

Limit = tuple[Side, int, int]  # side, price, quantity

# Few prices and small quantities, so that ties of volume and of surplus are common.
SIDES_OF = st.sampled_from((BUY, SELL))
LIMITS = st.lists(st.tuples(SIDES_OF, st.integers(1, 12), st.integers(1, 4)), max_size=12)
REFERENCES = st.integers(0, 14)
TICKS = st.sampled_from((1, 2, 5))


def book_of(*limits: Limit) -> Book:
    book = Book()
    for order_id, (side, price, quantity) in enumerate(limits, 1):
        book.add(Order(order_id, book.account("ann"), side, price, quantity, quantity))
    return book


def auction(*limits: Limit, reference: int = 0, tick: int = 1) -> Price | None:
    return Crossing(book_of(*limits)).auction(reference, tick)


def searched(limits: list[Limit], reference: int, tick: int) -> Price | None:
    """Return the auction price by rule 19 read aloud: look at every limit price, and drop what is not best."""

    def at(price: int) -> Price:
        demand = sum(quantity for side, limit, quantity in limits if side == BUY and limit >= price)
        supply = sum(quantity for side, limit, quantity in limits if side == SELL and limit <= price)
        return Price(price, demand, supply)

    found = [at(price) for price in sorted({price for _, price, _ in limits})]
    found = [price for price in found if price.volume > 0]
    if not found:
        return None
    found = [price for price in found if price.volume == max(each.volume for each in found)]
    found = [price for price in found if abs(price.surplus) == min(abs(each.surplus) for each in found)]
    if all(price.surplus > 0 for price in found):
        return found[-1]
    if all(price.surplus < 0 for price in found):
        return found[0]
    low, high = found[0].price, found[-1].price
    if reference:
        return at(sorted((low, reference, high))[1])
    middle = Fraction(low + high, 2)
    up_to_the_tick = next(price for price in range(low, high + tick) if price >= middle and not price % tick)
    return at(min(up_to_the_tick, high))


@given(LIMITS, REFERENCES, TICKS)
def test_the_price_is_that_of_a_search_of_all_prices(limits: list[Limit], reference: int, tick: int) -> None:
    limits = [(side, price * tick, quantity) for side, price, quantity in limits]
    assert auction(*limits, reference=reference * tick, tick=tick) == searched(limits, reference * tick, tick)


@given(LIMITS, REFERENCES, TICKS)
def test_prices_off_the_tick_of_a_new_definition_are_no_exception(
    limits: list[Limit], reference: int, tick: int
) -> None:
    assert auction(*limits, reference=reference, tick=tick) == searched(limits, reference, tick)


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(SIDES_OF, st.integers(1, 12), st.integers(1, 6), st.integers(0, 3), st.integers(0, 8)), max_size=25
    )
)
def test_kept_from_order_to_order_it_is_what_it_would_be_anew(
    steps: list[tuple[Side, int, int, int, int]],
) -> None:
    """Each step enters an order, an iceberg if it says so, then takes an older one out, or some of its quantity."""
    book = Book()
    crossing = Crossing(book)
    live: list[Order] = []
    for order_id, (side, price, quantity, display, older) in enumerate(steps, 1):
        order = Order(order_id, book.account("ann"), side, price, quantity, quantity, Terms(display_quantity=display))
        book.add(order)
        crossing.change(side, price, quantity)
        live.append(order)
        if older < len(live):
            old = live[older]
            if older % 2 and old.open > 1:
                book.ladders[old.side].shrink(old, 1)
                crossing.change(old.side, old.price, -1)
            else:
                book.remove(old)
                crossing.change(old.side, old.price, -old.open)
                live.remove(old)
        crossing.check()
        limits = [(order.side, order.price, order.open) for order in live]
        assert crossing.auction(0, 1) == Crossing(book).auction(0, 1) == searched(limits, 0, 1)
        crossing.check()


def test_nothing_trades_in_an_empty_book_on_one_side_or_with_a_spread() -> None:
    assert auction() is None
    assert auction((BUY, 100, 10)) is None
    assert auction((SELL, 100, 10)) is None
    assert auction((BUY, 100, 10), (SELL, 101, 10)) is None


def test_a_locked_book_trades_at_its_one_price() -> None:
    assert auction((BUY, 100, 10), (SELL, 100, 4)) == Price(100, 10, 4)


def test_the_most_volume_comes_before_the_least_surplus() -> None:
    """At 102 nothing would be left over, but less would trade."""
    assert auction((BUY, 102, 4), (SELL, 100, 4), (BUY, 101, 9), (SELL, 101, 3)) == Price(101, 13, 7)


def test_the_least_surplus_comes_before_the_side_of_the_surplus() -> None:
    limits: tuple[Limit, ...] = ((BUY, 101, 10), (BUY, 100, 5), (SELL, 99, 10))
    assert auction(*limits) == Price(101, 10, 10)


def test_with_the_surplus_on_the_buy_side_at_all_of_them_it_is_the_highest() -> None:
    assert auction((BUY, 105, 10), (SELL, 95, 6), reference=95) == Price(105, 10, 6)


def test_with_the_surplus_on_the_sell_side_at_all_of_them_it_is_the_lowest() -> None:
    assert auction((BUY, 105, 6), (SELL, 95, 10), reference=105) == Price(95, 6, 10)


@pytest.mark.parametrize(("reference", "price"), [(90, 95), (95, 95), (99, 99), (105, 105), (200, 105)])
def test_without_a_surplus_it_is_the_reference_price_held_within_them(reference: int, price: int) -> None:
    assert auction((BUY, 105, 10), (SELL, 95, 10), reference=reference) == Price(price, 10, 10)


@pytest.mark.parametrize(("low", "high", "tick", "price"), [(96, 104, 1, 100), (95, 104, 1, 100), (100, 115, 5, 110)])
def test_without_a_reference_it_is_the_midpoint_rounded_up_to_the_tick(
    low: int, high: int, tick: int, price: int
) -> None:
    assert auction((BUY, high, 10), (SELL, low, 10), tick=tick) == Price(price, 10, 10)


def test_with_surpluses_on_both_sides_it_is_the_reference_price_too() -> None:
    """At 100 two more are bid than offered, at 102 two more offered than bid; nowhere is less left over."""
    limits: tuple[Limit, ...] = ((BUY, 102, 5), (BUY, 100, 2), (SELL, 100, 5), (SELL, 102, 2))
    assert auction(*limits, reference=90) == Price(100, 7, 5)
    assert auction(*limits, reference=110) == Price(102, 5, 7)
    assert auction(*limits, reference=101) == Price(101, 5, 5)
    assert auction(*limits) == Price(101, 5, 5)


def test_sums_beyond_64_bits_are_exact_and_given_as_the_largest_integer() -> None:
    limits: tuple[Limit, ...] = (
        (BUY, 102, MAX_INTEGER),
        (BUY, 101, MAX_INTEGER),
        (SELL, 99, MAX_INTEGER),
        (SELL, 100, MAX_INTEGER - 1),
    )
    found = auction(*limits)
    assert found == Price(101, 2 * MAX_INTEGER, 2 * MAX_INTEGER - 1)
    assert indicative(found) == IndicativeChanged(101, MAX_INTEGER, BUY, 1)
    assert indicative(Price(101, 1, 2**64)) == IndicativeChanged(101, 1, SELL, MAX_INTEGER)


def test_what_is_published_names_the_side_with_the_surplus() -> None:
    assert indicative(Price(100, 10, 4)) == IndicativeChanged(100, 4, BUY, 6)
    assert indicative(Price(100, 4, 10)) == IndicativeChanged(100, 4, SELL, 6)
    assert indicative(Price(100, 4, 4)) == IndicativeChanged(100, 4, 0, 0)
    assert indicative(None) == NO_AUCTION == IndicativeChanged(0, 0, 0, 0)
