"""Decimal text to the wire's integers and back, exactly."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.client.decimals import DecimalError, decimal_text, price_units, quantity_text, quantity_units, units
from exchange.core.asset import MAX_INTEGER, Asset

FUTURE = Asset(asset="ES.H27", price_scale=2, tick_size=25, max_quantity=10_000)
BITCOIN = Asset(asset="BTC-USD", price_scale=2, quantity_scale=8)


@given(value=st.integers(-MAX_INTEGER, MAX_INTEGER), scale=st.integers(0, 18))
def test_every_integer_survives_the_way_to_text_and_back(value: int, scale: int) -> None:
    assert units(decimal_text(value, scale), scale) == value


@given(value=st.integers(-MAX_INTEGER, MAX_INTEGER), scale=st.integers(0, 18))
def test_the_text_is_the_exact_value(value: int, scale: int) -> None:
    assert Decimal(decimal_text(value, scale)) == Decimal(value).scaleb(-scale)


@given(whole=st.integers(0, 10**9), fraction=st.text("0123456789", min_size=0, max_size=12), scale=st.integers(0, 9))
def test_text_is_converted_exactly_or_refused(whole: int, fraction: str, scale: int) -> None:
    text = f"{whole}.{fraction}" if fraction else str(whole)
    exact = Decimal(text).scaleb(scale)
    if exact == int(exact):
        assert units(text, scale) == int(exact)
    else:
        with pytest.raises(DecimalError):
            units(text, scale)


def test_zeros_behind_the_last_decimal_that_counts_are_fine() -> None:
    assert units("100.2500", 2) == 10025


@pytest.mark.parametrize(
    "text", ["", "1e5", "1_000", "1,5", ".5", "5.", "0x10", "nan", " 1", "1\n", "\u0661", "1.2.3", "9" * 99]
)
def test_what_is_no_plain_decimal_number_is_refused(text: str) -> None:
    with pytest.raises(DecimalError, match="is no decimal number"):
        units(text, 2)


def test_a_price_finer_than_the_scale_is_refused_with_the_way_out() -> None:
    with pytest.raises(DecimalError) as caught:
        price_units("100.253", BITCOIN)
    assert str(caught.value) == "price '100.253': has more than 2 decimals; round it yourself, for instance to 100.25"


def test_a_price_off_the_tick_is_refused_with_its_neighbours() -> None:
    with pytest.raises(DecimalError) as caught:
        price_units("100.30", FUTURE)
    assert caught.value.remedy == "the nearest are 100.25 and 100.50"


def test_a_quantity_off_the_lot_is_refused() -> None:
    with pytest.raises(DecimalError, match=r"no multiple of the lot of 100; the nearest are 100 and 200"):
        quantity_units("150", Asset(asset="ACME", lot_size=100))


@pytest.mark.parametrize("text", ["0", "-1", "10001"])
def test_a_quantity_outside_the_limits_is_refused(text: str) -> None:
    with pytest.raises(DecimalError, match="is outside 1 to 10000"):
        quantity_units(text, FUTURE)


def test_what_64_bits_can_not_hold_is_refused() -> None:
    assert units(str(MAX_INTEGER), 0) == MAX_INTEGER
    with pytest.raises(DecimalError, match="beyond 9223372036854775807"):
        units(str(MAX_INTEGER + 1), 0)


def test_quantities_are_shown_without_zeros_at_the_end() -> None:
    assert quantity_text(150_000_000, BITCOIN) == "1.5"
    assert quantity_text(200_000_000, BITCOIN) == "2"
    assert quantity_text(1500, FUTURE) == "1500"
