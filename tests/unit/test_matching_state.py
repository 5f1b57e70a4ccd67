"""A matching that is restored from its state goes on byte for byte as the one that the state was taken of."""

import hashlib
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec.structs import astuple

from exchange.core.book import Account, Book, Ladder, Level, Order, Terms, orders_of
from exchange.core.matching import Matching
from exchange.core.matching_state import MatchingState, StoredOrder, StoredTerms, restore, state_of
from exchange.core.requests import SIDES
from exchange.core.stops import Stops
from exchange.pipeline.codec import encode
from tests.market import Market
from tests.random_requests import PROFILES, random_requests
from tests.support import PROJECT

SEED = random.SystemRandom().randrange(2**32)  # a new one each run; a failure prints it
decode = msgspec.msgpack.Decoder(MatchingState).decode

# What is not in the state under its own name, by class. Whoever adds something that a matching holds between two
# requests adds it to the state, or, where it follows from the rest, here and to `restore`.
ELSEWHERE: dict[type, dict[str, str]] = {
    Matching: {
        "allow_self_trade": "refresh",
        "book": "accounts, buys, sells",
        "crossing": "of the book, during a call",
        "events": "of the request that is applied",
        "expiries": "the live orders that expire",
        "handlers": "the class",
        "keys_within_band": "refresh",
        "plain": "refresh",
        "stops": "buy_stops, sell_stops, elected, arrivals",
    },
    Book: {"accounts": "", "buys": "", "ladders": "buys, sells", "removing_many": "during a request", "sells": ""},
    Ladder: {
        "best": "levels",
        "bounds": "how the keys came",
        "far": "levels",
        "hidden": "sums",
        "hidden_parts": "sums",
        "keys": "levels",
        "levels": "buys, sells",
        "side": "its list",
    },
    Level: {"deep": "of a queue that is made anew", "leaves": "sums", "orders": "buys, sells"},
    Account: {"name": "accounts", "orders": "all lists"},
    Stops: {"arrivals": "", "elected": "", "orders": "buy_stops, sell_stops"},
    Order: {"side": "its list"},
}
IN_THE_STATE: dict[type, tuple[str, ...]] = {
    Matching: MatchingState.__struct_fields__,
    Order: StoredOrder.__struct_fields__,
}


def restored(matching: Matching) -> Matching:
    return restore(decode(encode(state_of(matching))))


def values(order: Order) -> tuple[Any, ...]:
    terms = None if order.terms is None else astuple(order.terms)
    return (order.order_id, order.account.name, order.side, order.price, order.quantity, order.leaves, terms)


def everything(matching: Matching) -> dict[str, Any]:
    """Return all that a matching holds between two requests, what follows from the rest included."""
    book, stops, expiries, crossing = matching.book, matching.stops, matching.expiries, matching.crossing
    auction = None
    if crossing is not None:
        assert matching.asset is not None
        auction = crossing.auction(matching.reference_price, matching.asset.tick_size)
    plain = set(slots(Matching)) - {"book", "crossing", "events", "expiries", "handlers", "stops"}
    return {name: getattr(matching, name) for name in plain} | {
        "ladders": [
            (
                ladder.side,
                ladder.best,
                list(ladder.all_keys()),
                {key: (level.leaves, list(map(values, orders_of(level)))) for key, level in ladder.levels.items()},
                ladder.hidden,
                ladder.hidden_parts,
            )
            for ladder in book.ladders
        ],
        "accounts": {
            name: {order_id: values(order) for order_id, order in account.orders.items()}
            for name, account in book.accounts.items()
            if account.orders
        },
        "removing_many": book.removing_many,
        "stops": {
            side: [(place, values(order)) for place, order in orders.items()] for side, orders in stops.orders.items()
        },
        "elected": {order_id: values(order) for order_id, order in stops.elected.items()},
        "arrivals": stops.arrivals,
        "day": {order_id: values(order) for order_id, order in expiries.day.items()},
        "dated": {key: values(order) for key, order in expiries.dated.items()},
        "auction": auction,  # which the crossing steps to, from wherever it stands
    }


def slots(kind: type) -> list[str]:
    """Return the names of all that an instance holds."""
    fields = getattr(kind, "__struct_fields__", None)
    return list(fields or (slot for each in kind.__mro__ for slot in getattr(each, "__slots__", ())))


def run(profile: str, count: int, seed: int = SEED) -> Iterator[MatchingState]:
    """Yield states at random places of a random queue; assert that what was restored from each goes on as it did.

    Each matching that goes on beside the first is restored from the state of the one before it, not of the first.
    """
    print(f"seed {seed}")
    source = random.Random(seed)
    matching = other = Matching()
    due = 0
    for record in random_requests(seed, PROFILES[profile], count):
        if due == record.sequence - 1:
            due += source.randint(1, 40)
            state = state_of(matching)
            encoded = encode(state)
            assert encode(state_of(other)) == encoded, "the same, whether it was restored or not"
            other = restore(decode(encoded))
            assert everything(other) == everything(matching)
            other.check()
            yield state
        assert encode(matching.apply(record)) == encode(other.apply(record)), record
        assert encode(state_of(matching)) != encoded, "a request leaves its trace"
    assert encode(state) == encoded, "a state changes no more, whatever happens after it"
    matching.check()
    other.check()


@pytest.mark.parametrize("profile", PROFILES)
def test_a_restored_matching_goes_on_byte_for_byte(profile: str) -> None:
    for _ in run(profile, 2500):
        pass


def test_states_are_taken_of_all_that_may_be() -> None:
    """Else the test above would not say much."""
    states = [state for profile in ("everything", "sessions", "interruptions") for state in run(profile, 4000, seed=1)]
    assert {state.status for state in states} == {"open", "closed", "call", "halted"}
    assert sum(len(state.elected) > 1 for state in states) > 5, "stops elected, and kept from entering"
    assert sum(state.call_ends > 0 for state in states) > 5, "volatility interruptions"
    assert any(state.indicative.quantity and state.indicative.surplus_side for state in states)
    assert any(state.delisted for state in states)
    assert any(state.auction_price not in (0, state.last_price) for state in states)
    orders = [
        order
        for state in states
        for orders in (state.buys, state.sells, state.buy_stops, state.sell_stops)
        for order in orders
    ]
    assert any(order.terms is None and order.leaves < order.quantity for order in orders), "filled in part"
    terms = [order.terms for order in orders if order.terms is not None]
    assert any(each.hidden > 0 for each in terms)
    assert any(
        order.terms is not None and order.terms.hidden and order.leaves < order.terms.display_quantity
        for order in orders
    ), "an iceberg whose shown part has traded in part"
    assert {each.time_in_force for each in terms} >= {"gtc", "day", "gtd", "ioc", "fok"}
    assert any(each.order_type == "stop_limit" and not each.waiting for each in terms), "triggered, and rests"


def test_a_state_and_what_is_restored_from_it_share_nothing() -> None:
    market = Market()
    market.sell(10, at=101, show=3)
    market.buy(5, at=110, stop=105)
    state = state_of(market.matching)
    first, second = restore(state), restore(state)
    before = everything(second)
    market.matching = first
    market.buy(4, at=101)
    market.amend(2, stop=104)
    assert everything(second) == before
    assert everything(restore(state)) == before


def test_an_account_without_live_orders_takes_no_room_and_comes_back() -> None:
    market = Market()
    market.sell(10, at=101, by="sue")
    market.cancel(1, by="sue")
    market.buy(5, at=100, by="bob")
    assert state_of(market.matching).accounts == ["bob"]
    market.matching = restored(market.matching)
    assert market.cancel(1, by="sue") == ["cancel of 1 rejected (unknown_order)"]
    assert market.mass_cancel(by="sue") == []
    assert market.sell(5, at=100, by="sue")[1].startswith("trade 1: 5 @ 100, maker 2 of bob")


def test_a_matching_that_has_not_begun_is_restored_as_that() -> None:
    assert everything(restored(Matching())) == everything(Matching())


def test_levels_of_many_orders_keep_their_time_order() -> None:
    market = Market()
    for number in range(200):
        market.buy(1, at=100, by=f"b{number % 7}")
    for order_id in range(1, 200, 3):
        market.cancel(order_id, by=f"b{(order_id - 1) % 7}")
    market.matching = restored(market.matching)
    makers = [text.split("maker ")[1].split(" ")[0] for text in market.sell(200) if text.startswith("trade")]
    assert makers == [str(order_id) for order_id in range(1, 201) if order_id % 3 != 1]


def test_a_plain_order_takes_about_25_bytes() -> None:
    market = Market()
    empty = len(encode(state_of(market.matching)))
    for number in range(1000):
        market.buy(10_000_000 + number, at=10_000_000 + number, by=f"account-{number % 10}")
    assert (len(encode(state_of(market.matching))) - empty) / 1000 < 25


def test_the_bytes_are_the_same_under_every_hash_seed() -> None:
    script = (
        "import hashlib; from tests.unit.test_matching_state import run, encode; "
        f"print(hashlib.sha256(b''.join(map(encode, run('everything', 400, {SEED})))).hexdigest())"
    )
    expected = hashlib.sha256(b"".join(map(encode, run("everything", 400)))).hexdigest()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=PROJECT,
            env=os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(PROJECT / "lib")},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hash_seed in ("1", "2")
    ]
    for process in processes:
        output, _ = process.communicate(timeout=60)
        assert output.splitlines()[-1] == expected, f"seed {SEED}"


# -- nothing is forgotten ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ELSEWHERE, ids=lambda kind: kind.__name__)
def test_all_that_a_matching_holds_is_in_its_state(kind: type) -> None:
    """Fails where somebody has it hold something new: see ELSEWHERE."""
    assert set(slots(kind)) == {*IN_THE_STATE.get(kind, ()), *ELSEWHERE[kind]} - {"version"} - _of_the_parts(kind)


def _of_the_parts(kind: type) -> set[str]:
    """Return the fields of the state that are of a matching's parts, not its own."""
    parts = {"accounts", "buys", "sells", "buy_stops", "sell_stops", "elected", "arrivals"}
    return parts if kind is Matching else set()


def test_terms_are_stored_whole() -> None:
    assert StoredTerms.__struct_fields__ == Terms.__struct_fields__
    assert {ladder.side for ladder in Book().ladders} == set(SIDES.values())
