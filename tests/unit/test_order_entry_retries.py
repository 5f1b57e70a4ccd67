"""Safe retries: a request sent again is answered as it was the first time, also after a restart from the journal."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import UNSET

from exchange.core import messages
from exchange.core.asset import Asset
from exchange.core.messages import AmendOrder, CancelOrder, MassCancel
from tests.entry import Entry, new_order

# -- safe retries ------------------------------------------------------------------------------------------------------


def test_a_repeated_order_gets_its_first_ack_again() -> None:
    entry = Entry()
    first = entry.ack(new_order("a", request_id=1))
    entry.time = 5000
    again = entry.ack(new_order("a", request_id=2))
    assert (again.order_id, again.sequence, again.time) == (first.order_id, first.sequence, first.time)
    assert (again.duplicate, again.request_id) == (True, 2)
    assert len(entry.journal) == 3


@pytest.mark.parametrize(
    "changes",
    [{"quantity": 30}, {"price": 105}, {"side": "sell"}, {"time_in_force": "ioc"}, {"asset": "BTC-USD"}],
)
def test_a_client_order_id_used_again_with_other_content_is_rejected(changes: dict[str, Any]) -> None:
    entry = Entry()
    entry.ack(new_order("a"))
    reason, text = entry.reject(new_order("a", **changes))
    assert reason == "duplicate_client_order_id"
    assert text.startswith("client_order_id 'a': used before, for order 1 of ACME, with other content")


def test_client_order_ids_and_request_ids_are_the_accounts_own() -> None:
    entry = Entry()
    entry.ack(new_order("a"))
    assert entry.ack(new_order("a", account="bob", quantity=50)).order_id == 2
    entry.ack(CancelOrder(asset="ACME", order_id=1, account="ann", request_id="r"))
    assert not entry.ack(CancelOrder(asset="ACME", order_id=2, account="bob", request_id="r")).duplicate


def test_a_repeat_is_known_although_the_asset_would_not_take_it_any_more() -> None:
    entry = Entry()
    entry.ack(new_order("a"))
    entry.define(Asset(asset="ACME", price_scale=2, tick_size=7))
    assert entry.ack(new_order("a")).duplicate
    assert entry.reject(new_order("b"))[0] == "invalid_price"


@pytest.mark.parametrize(
    "message",
    [
        AmendOrder(asset="ACME", order_id=1, quantity=10, account="ann", request_id="r"),
        CancelOrder(asset="ACME", client_order_id="a", account="ann", request_id=5),
        MassCancel(asset="ACME", account="ann", request_id="r"),
        MassCancel(account="ann", side="sell", request_id="r"),
    ],
)
def test_a_request_with_a_request_id_may_be_sent_again(message: messages.OrderEntryRequest) -> None:
    entry = Entry()
    entry.ack(new_order("a"))
    first = entry.ack(message)
    written = len(entry.journal)
    entry.time = 5000
    again = entry.ack(message)
    assert again.duplicate
    assert (again.sequence, again.sequences, again.time) == (first.sequence, first.sequences, first.time)
    assert len(entry.journal) == written


def test_without_a_request_id_each_request_is_its_own() -> None:
    entry = Entry()
    entry.ack(new_order("a"))
    amend = AmendOrder(asset="ACME", order_id=1, quantity=10, account="ann")
    assert [entry.ack(amend).sequence, entry.ack(amend).sequence] == [3, 4]


@pytest.mark.parametrize(
    "message",
    [
        AmendOrder(asset="ACME", order_id=1, quantity=10, account="ann", request_id="r"),
        CancelOrder(asset="ACME", order_id=2, account="ann", request_id="r"),
        MassCancel(asset="ACME", account="ann", request_id="r"),
        MassCancel(account="ann", request_id="r"),
    ],
)
def test_a_request_id_used_again_with_other_content_is_rejected(message: messages.OrderEntryRequest) -> None:
    entry = Entry()
    entry.ack(new_order("a"))
    entry.ack(new_order("b"))
    entry.ack(CancelOrder(asset="ACME", order_id=1, account="ann", request_id="r"))
    assert entry.reject(message) == (
        "duplicate_client_order_id",
        "request_id 'r': used before with other content; a new request takes a new one",
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (MassCancel(account="ann", request_id="r"), MassCancel(account="ann", side="buy", request_id="r")),
        (MassCancel(account="ann", request_id="r"), MassCancel(account="ann", asset="ACME", request_id="r")),
        (
            MassCancel(account="ann", asset="ACME", request_id="r"),
            MassCancel(account="ann", asset="BTC-USD", request_id="r"),
        ),
        (MassCancel(account="ann", asset="ACME", request_id="r"), MassCancel(account="ann", request_id="r")),
    ],
)
def test_a_mass_cancel_of_other_orders_is_other_content(first: MassCancel, second: MassCancel) -> None:
    entry = Entry()
    entry.ack(first)
    assert entry.reject(second)[0] == "duplicate_client_order_id"


def test_a_request_id_as_text_is_not_the_same_as_a_number() -> None:
    entry = Entry()
    entry.ack(new_order("a"))
    entry.ack(CancelOrder(asset="ACME", order_id=1, account="ann", request_id=5))
    assert not entry.ack(CancelOrder(asset="ACME", order_id=1, account="ann", request_id="5")).duplicate


# -- restoring ---------------------------------------------------------------------------------------------------------


def random_message(source: random.Random, number: int) -> messages.OrderEntryRequest:
    """Return a request that may be right or wrong, new or a repeat."""
    account = source.choice(("ann", "bob"))
    asset = source.choice(("ACME", "BTC-USD"))
    request_id = source.choice((UNSET, f"r{source.randint(1, 20)}", source.randint(1, 20)))
    order_id = source.randint(1, max(number // 2, 1))
    makers: list[Callable[[], messages.OrderEntryRequest]] = [
        lambda: new_order(f"c{source.randint(1, 60)}", account=account, asset=asset, price=source.choice((100, 105))),
        lambda: AmendOrder(asset=asset, order_id=order_id, quantity=10, account=account, request_id=request_id),
        lambda: CancelOrder(asset=asset, order_id=order_id, account=account, request_id=request_id),
        lambda: MassCancel(
            asset=source.choice((UNSET, asset)),
            side=source.choice((UNSET, "buy")),
            account=account,
            request_id=request_id,
        ),
    ]
    return source.choices(makers, (5, 2, 2, 1))[0]()


@pytest.mark.parametrize("seed", range(5))
def test_what_is_restored_from_the_records_answers_as_the_live_one_does(seed: int) -> None:
    source = random.Random(seed)
    live = Entry()
    for number in range(200):
        live.time += source.randint(-5, 10)
        live.handle(random_message(source, number))
    restored = live.restored()
    assert restored.journal == live.journal
    assert restored.order_entry.remembered_ids == live.order_entry.remembered_ids
    assert restored.order_entry.time == live.order_entry.time
    for number in range(200):
        message = random_message(source, number)
        assert restored.handle(message) == live.handle(message)
    assert restored.journal == live.journal
