"""The synthetic market: repeatable, and always within what the asset takes."""

from hypothesis import given
from hypothesis import strategies as st

from exchange.client.simulate import market
from exchange.core.asset import Asset
from exchange.core.messages import AmendOrder, CancelOrder, NewOrder

BITCOIN = Asset(asset="BTC-USD", price_scale=2, quantity_scale=8)
NAMES = ["sim-1", "sim-2"]


def test_the_same_seed_gives_the_same_market_and_another_seed_another_one() -> None:
    first, again, other = (list(market(BITCOIN, 10_000, seed, 500, NAMES, "p-")) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert {type(request) for request in first} == {NewOrder, AmendOrder, CancelOrder}
    assert {request.order_type for request in first if isinstance(request, NewOrder)} == {"limit", "market"}


@given(
    seed=st.integers(0, 2**32),
    tick=st.integers(1, 50),
    lot=st.integers(1, 1000),
    highest=st.integers(100, 10_000),
    scale=st.integers(0, 8),
)
def test_prices_and_quantities_are_always_on_the_grid_and_within_the_limits(
    seed: int, tick: int, lot: int, highest: int, scale: int
) -> None:
    asset = Asset(asset="ANY", tick_size=tick, lot_size=lot, max_price=highest, quantity_scale=scale)
    for request in market(asset, highest // 2, seed, 100, NAMES, "p-"):
        if isinstance(request, NewOrder) and isinstance(request.price, int):
            assert request.price % tick == 0
            assert asset.min_price <= request.price <= asset.max_price
        if not isinstance(request, CancelOrder):
            assert isinstance(request.quantity, int)
            assert request.quantity % lot == 0
            assert asset.min_quantity <= request.quantity <= asset.max_quantity
