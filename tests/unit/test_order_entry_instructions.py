"""Order entry: what an order may say beyond side, quantity and price, alone, together, repeated, and amended."""

from typing import Any

import pytest
from msgspec import UNSET

from exchange.core import messages, requests
from exchange.core.asset import MAX_INTEGER, Asset
from exchange.core.messages import AmendOrder
from exchange.core.requests import BUY, MAX_PARTS, Instructions
from tests.entry import BTC, Entry, new_order


def taken(**changes: Any) -> requests.NewOrder:
    """Return the request that is journaled for an order that has to be taken."""
    entry = Entry()
    entry.ack(new_order(**changes))
    request = entry.journal[-1].request
    assert isinstance(request, requests.NewOrder)
    return request


def stop(client_order_id: str = "a", **changes: Any) -> messages.NewOrder:
    """Return a stop order for 20 ACME at 100, changed."""
    return new_order(client_order_id, **({"order_type": "stop", "price": UNSET, "stop_price": 100} | changes))


def stop_limit(client_order_id: str = "a", **changes: Any) -> messages.NewOrder:
    return new_order(client_order_id, **({"order_type": "stop_limit", "stop_price": 100} | changes))


# -- what is taken -----------------------------------------------------------------------------------------------------


def test_an_order_that_says_nothing_special_carries_no_instructions() -> None:
    assert taken().instructions is None
    assert taken(time_in_force="day").instructions is None
    assert taken(order_type="market", price=UNSET, time_in_force="fok").instructions is None
    assert taken(post_only=False, self_trade_prevention="cancel_newest").instructions is None


@pytest.mark.parametrize(
    ("changes", "instructions"),
    [
        ({"post_only": True}, Instructions(post_only=True)),
        ({"display_quantity": 10}, Instructions(display_quantity=10)),
        ({"min_quantity": 20}, Instructions(min_quantity=20)),
        ({"self_trade_prevention": "cancel_both"}, Instructions(self_trade_prevention="cancel_both")),
        ({"time_in_force": "gtd", "expire_time": 1001}, Instructions(expire_time=1001)),
        ({"time_in_force": "gtd", "expire_time": MAX_INTEGER}, Instructions(expire_time=MAX_INTEGER)),
        ({"time_in_force": "ioc", "min_quantity": 10}, Instructions(min_quantity=10)),
        (
            {"post_only": True, "display_quantity": 10, "time_in_force": "gtd", "expire_time": 5000},
            Instructions(post_only=True, display_quantity=10, expire_time=5000),
        ),
    ],
)
def test_what_an_order_says_is_journaled(changes: dict[str, Any], instructions: Instructions) -> None:
    assert taken(**changes).instructions == instructions


def test_a_stop_has_a_stop_price_and_no_price_and_a_stop_limit_has_both() -> None:
    entry = Entry()
    entry.ack(stop("a", time_in_force="ioc"))
    entry.ack(stop_limit("b", price=95, post_only=True, display_quantity=10))
    assert [record.request for record in entry.journal[-2:]] == [
        requests.NewOrder(1, "a", BUY, 20, 0, "stop", "ioc", Instructions(stop_price=100)),
        requests.NewOrder(
            2, "b", BUY, 20, 95, "stop_limit", "gtc", Instructions(stop_price=100, post_only=True, display_quantity=10)
        ),
    ]


# -- what is rejected --------------------------------------------------------------------------------------------------

REJECTED: list[tuple[messages.NewOrder, str, str]] = [
    (new_order(stop_price=100), "invalid_price", "stop_price 100: a limit order takes none; leave it out"),
    (
        new_order(order_type="market", price=UNSET, stop_price=100),
        "invalid_price",
        "stop_price 100: a market order takes none; leave it out",
    ),
    (stop(stop_price=UNSET), "invalid_price", "stop_price: is missing; a stop order needs one"),
    (stop(price=100), "invalid_price", "price 100: a stop order takes no price; leave it out, or send a stop_limit"),
    (stop(stop_price=0), "invalid_price", "stop_price 0: must be a multiple of the tick 5, from 10 to 10000"),
    (stop(stop_price=101), "invalid_price", "stop_price 101: must be a multiple of the tick 5"),
    (stop(stop_price=10_005), "invalid_price", "stop_price 10005: must be a multiple of the tick 5"),
    (stop_limit(stop_price=UNSET), "invalid_price", "stop_price: is missing; a stop_limit order needs one"),
    (stop_limit(price=UNSET), "invalid_price", "price: is missing; a stop_limit order needs one"),
    (stop_limit(price=101), "invalid_price", "price 101: must be a multiple of the tick 5"),
    (new_order(display_quantity=0), "invalid_quantity", "display_quantity 0: must be above 0; leave it out"),
    (new_order(display_quantity=-10), "invalid_quantity", "display_quantity -10: must be above 0"),
    (new_order(display_quantity=5), "invalid_quantity", "display_quantity 5: must be a multiple of the lot 10, below"),
    (
        new_order(display_quantity=20),
        "invalid_quantity",
        "display_quantity 20: must be a multiple of the lot 10, below",
    ),
    (new_order(min_quantity=0), "invalid_quantity", "min_quantity 0: must be above 0; leave it out"),
    (new_order(min_quantity=15), "invalid_quantity", "min_quantity 15: must be a multiple of the lot 10, at most"),
    (new_order(min_quantity=30), "invalid_quantity", "at most the order's quantity 20"),
    (
        new_order(time_in_force="gtd"),
        "unsupported",
        "time_in_force gtd without expire_time: it needs one, later than now",
    ),
    (
        new_order(time_in_force="gtd", expire_time=1000),
        "unsupported",
        "time_in_force gtd with expire_time 1000 (1970-01-01T00:00:00.000001Z): it must be later than now, 1000 "
        "(1970-01-01T00:00:00.000001Z), in nanoseconds since the Unix epoch",
    ),
    (
        new_order(time_in_force="gtd", expire_time=-1),
        "unsupported",
        "expire_time -1 (1969-12-31T23:59:59.999999999Z): it must be later than now",
    ),
    (
        new_order(time_in_force="gtd", expire_time=2**63),
        "malformed",
        f"expire_time {2**63}: an integer must fit 64 bits, signed",
    ),
    (
        new_order(expire_time=5000),
        "unsupported",
        "expire_time 5000 with time_in_force gtc: only gtd takes one; leave it out",
    ),
    (new_order(time_in_force="day", expire_time=5000), "unsupported", "expire_time 5000 with time_in_force day"),
    (
        new_order(post_only=True, time_in_force="ioc"),
        "unsupported",
        "post_only with time_in_force ioc: not taken together; leave one of the two out",
    ),
    (new_order(display_quantity=10, time_in_force="fok"), "unsupported", "display_quantity with time_in_force fok"),
    (stop(post_only=True), "unsupported", "post_only with order_type stop: not taken together"),
    (
        new_order(order_type="market", price=UNSET, display_quantity=10),
        "unsupported",
        "display_quantity with order_type market",
    ),
    (stop_limit(post_only=True, time_in_force="fok"), "unsupported", "post_only with time_in_force fok"),
    (new_order(min_quantity=10, time_in_force="fok"), "unsupported", "min_quantity with time_in_force fok"),
    (
        new_order(post_only=True, display_quantity=10, min_quantity=10, time_in_force="fok"),
        "unsupported",
        "post_only with time_in_force fok",
    ),
]


@pytest.mark.parametrize(("message", "reason", "text"), REJECTED)
def test_a_mistake_is_rejected_with_the_value_and_the_rule(message: messages.NewOrder, reason: str, text: str) -> None:
    found = Entry().reject(message)
    assert found[0] == reason
    assert text in found[1]


def test_an_iceberg_has_a_bounded_number_of_parts() -> None:
    entry = Entry(Asset(asset="ACME", lot_size=10))
    quantity = 10 * MAX_PARTS + 10
    assert entry.reject(new_order("a", quantity=quantity, display_quantity=10)) == (
        "invalid_quantity",
        "display_quantity 10: shows quantity 100010 in 10001 parts, and 10000 are the most; the smallest that will do "
        "is 20",
    )
    entry.ack(new_order("a", quantity=quantity, display_quantity=20))
    entry.ack(new_order("b", quantity=quantity - 10, display_quantity=10))


@pytest.mark.parametrize("quantity", [100_000, 100_010, 123_450, 10**15])
@pytest.mark.parametrize("lot", [1, 10])
def test_the_smallest_display_quantity_that_is_named_will_do(quantity: int, lot: int) -> None:
    entry = Entry(Asset(asset="ACME", lot_size=lot))
    answer = entry.handle(new_order("a", quantity=quantity, display_quantity=lot))
    if isinstance(answer, messages.Ack):
        assert quantity // lot <= MAX_PARTS
        return
    assert isinstance(answer, messages.Reject)
    smallest = int(answer.text.rsplit(" ", 1)[1])
    entry.ack(new_order("a", quantity=quantity, display_quantity=smallest))
    assert entry.reject(new_order("b", quantity=quantity, display_quantity=smallest - lot))[0] == "invalid_quantity"


# -- safe retries ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"post_only": False},
        {"display_quantity": UNSET},
        {"min_quantity": UNSET},
        {"min_quantity": 20},
        {"self_trade_prevention": "cancel_both"},
        {"expire_time": 6000},
        {"time_in_force": "day", "expire_time": UNSET},
        {"stop_price": 105},
        {"order_type": "limit", "stop_price": UNSET},
    ],
)
def test_an_order_sent_again_is_the_same_only_with_the_same_instructions(changes: dict[str, Any]) -> None:
    instructions: dict[str, Any] = {
        "order_type": "stop_limit",
        "stop_price": 100,
        "time_in_force": "gtd",
        "expire_time": 5000,
        "display_quantity": 10,
        "min_quantity": 10,
        "post_only": True,
        "self_trade_prevention": "cancel_oldest",
    }
    entry = Entry()
    first = entry.ack(new_order("a", **instructions))
    for each in (entry, entry.restored()):
        again = each.ack(new_order("a", **instructions))
        assert (again.order_id, again.duplicate) == (first.order_id, True)
        assert each.reject(new_order("a", **(instructions | changes)))[0] == "duplicate_client_order_id"


def test_a_plain_order_sent_again_with_an_instruction_is_another() -> None:
    entry = Entry()
    entry.ack(new_order("a"))
    assert entry.reject(new_order("a", post_only=True))[0] == "duplicate_client_order_id"


def test_an_order_sent_again_after_it_has_expired_gets_its_ack() -> None:
    entry = Entry()
    order = new_order("a", time_in_force="gtd", expire_time=2000)
    entry.ack(order)
    entry.time = 3000
    assert entry.ack(order).duplicate
    assert entry.reject(new_order("b", time_in_force="gtd", expire_time=2000))[0] == "unsupported"


# -- amends ------------------------------------------------------------------------------------------------------------


def with_one_of_each_type() -> Entry:
    """Return order entry that has taken a limit (1), a market (2), a stop (3) and a stop_limit (4) order of ann."""
    entry = Entry()
    entry.ack(new_order("limit"))
    entry.ack(new_order("market", order_type="market", price=UNSET))
    entry.ack(stop("stop"))
    entry.ack(stop_limit("stop_limit"))
    return entry


def amend(order_id: int, **changes: Any) -> AmendOrder:
    return AmendOrder(asset="ACME", order_id=order_id, account="ann", **changes)


@pytest.mark.parametrize(("order_id", "names"), [(1, "limit"), (2, "market"), (3, "stop"), (4, "stop_limit")])
def test_an_amend_takes_the_prices_that_the_orders_type_has(order_id: int, names: str) -> None:
    entry = with_one_of_each_type()
    for each in (entry, entry.restored()):
        each.ack(amend(order_id, quantity=30))
        if names in ("limit", "stop_limit"):
            each.ack(amend(order_id, price=105))
        else:
            assert each.reject(amend(order_id, price=105)) == (
                "invalid_price",
                f"price 105: order {order_id} is a {names} order, which has no price",
            )
        if names in ("stop", "stop_limit"):
            each.ack(amend(order_id, stop_price=105))
            assert each.journal[-1].request == requests.AmendOrder(order_id, None, None, None, 105)
        else:
            assert each.reject(amend(order_id, quantity=20, stop_price=105)) == (
                "invalid_price",
                f"stop_price 105: order {order_id} is a {names} order, which has none",
            )


@pytest.mark.parametrize("stop_price", [0, -5, 101, 10_005, 2**64 - 1])
def test_an_amended_stop_price_keeps_the_tick_and_the_limits(stop_price: int) -> None:
    reason, text = with_one_of_each_type().reject(amend(3, stop_price=stop_price))
    assert reason == "invalid_price"
    assert text == f"stop_price {stop_price}: must be a multiple of the tick 5, from 10 to 10000"


def test_an_amend_sent_again_with_another_stop_price_is_other_content() -> None:
    entry = with_one_of_each_type()
    entry.ack(amend(4, price=105, stop_price=110, request_id="r"))
    assert entry.ack(amend(4, price=105, stop_price=110, request_id="r")).duplicate
    assert entry.reject(amend(4, price=105, stop_price=115, request_id="r"))[0] == "duplicate_client_order_id"
    assert entry.reject(amend(4, price=105, request_id="r"))[0] == "duplicate_client_order_id"


def test_an_order_of_another_asset_keeps_its_own_type() -> None:
    entry = Entry()
    entry.ack(stop("a", asset=BTC.asset))
    entry.ack(new_order("b"))
    assert entry.ack(AmendOrder(asset=BTC.asset, order_id=1, stop_price=3, account="ann")).order_id == 1
    assert entry.reject(amend(2, stop_price=105))[0] == "invalid_price"
