"""The real core and a naive book agree event for event on random requests; and the core is a function of its input.

A long run, of any seed: `python -m tests.naive --requests 1000000 --seed 7 --profile deep`.
"""

import hashlib
import json
import os
import random
import subprocess
import sys

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from exchange.core.asset import Asset, SelfTrade
from exchange.core.book import DEEP
from exchange.core.events import OrderRejected
from exchange.core.matching import Matching
from exchange.core.requests import (
    AmendOrder,
    CancelOrder,
    DefineAsset,
    MassCancel,
    NewOrder,
    OrderType,
    Record,
    Request,
    Side,
    TimeInForce,
)
from exchange.pipeline.codec import decode_event_record, decode_record, encode
from tests.pair import Difference, Pair, run
from tests.random_requests import PROFILES, random_requests
from tests.support import PROJECT

SEED = random.SystemRandom().randrange(2**32)  # a new one each run; a failure prints it

accounts = st.sampled_from(["ann", "bob", "sue"])
sides = st.sampled_from([1, -1])
prices = st.integers(98, 102)
quantities = st.integers(1, 10) | st.integers(2**62 - 2, 2**62 + 2)  # two of the large ones fill a level
ids = st.integers(1, 30)


class BothBooks(RuleBasedStateMachine):
    """Any requests at all, in any order; hypothesis looks for the shortest that tells the two apart."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair()
        self.sequence = 0
        self.order_id = 0

    def apply(self, request: Request, account: str) -> None:
        self.sequence += 1
        self.pair.apply(Record("ACME", self.sequence, self.sequence, account, request))

    @initialize()
    def define(self) -> None:
        self.apply(DefineAsset(Asset(asset="ACME")), "")

    @rule(
        account=accounts, side=sides, price=prices, quantity=quantities, time_in_force=st.sampled_from(["ioc", "fok"])
    )
    def take(self, account: str, side: Side, price: int, quantity: int, time_in_force: TimeInForce) -> None:
        self.new_order(account, side, quantity, price, "limit", time_in_force)

    @rule(account=accounts, side=sides, price=prices, quantity=quantities)
    def rest(self, account: str, side: Side, price: int, quantity: int) -> None:
        self.new_order(account, side, quantity, price, "limit", "gtc")

    @rule(account=accounts, side=sides, quantity=quantities, time_in_force=st.sampled_from(["gtc", "ioc", "fok"]))
    def take_at_any_price(self, account: str, side: Side, quantity: int, time_in_force: TimeInForce) -> None:
        self.new_order(account, side, quantity, 0, "market", time_in_force)

    @rule(account=accounts, order_id=ids, quantity=st.none() | quantities, price=st.none() | prices)
    def amend(self, account: str, order_id: int, quantity: int | None, price: int | None) -> None:
        self.apply(AmendOrder(order_id, quantity, price), account)

    @rule(account=accounts, order_id=ids)
    def cancel(self, account: str, order_id: int) -> None:
        self.apply(CancelOrder(order_id), account)

    @rule(account=accounts, side=st.sampled_from([0, 1, -1]))
    def mass_cancel(self, account: str, side: Side) -> None:
        self.apply(MassCancel(side), account)

    @rule(self_trade=st.sampled_from(["prevent", "allow"]))
    def define_again(self, self_trade: SelfTrade) -> None:
        self.apply(DefineAsset(Asset(asset="ACME", self_trade=self_trade)), "")

    def new_order(
        self, account: str, side: Side, quantity: int, price: int, order_type: OrderType, time_in_force: TimeInForce
    ) -> None:
        self.order_id += 1
        order = NewOrder(self.order_id, f"c{self.order_id}", side, quantity, price, order_type, time_in_force)
        self.apply(order, account)

    @invariant()
    def both_hold_the_same(self) -> None:
        self.pair.check()


TestBothBooks = BothBooks.TestCase
TestBothBooks.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize(("profile", "count"), [("lively", 3000), ("deep", 1200), ("huge", 2000), ("lonely", 1500)])
def test_both_books_agree_on_random_requests(profile: str, count: int) -> None:
    print(f"python -m tests.naive --requests {count} --seed {SEED} --profile {profile}")
    run(SEED, profile, count)


def test_the_profiles_reach_what_they_are_for() -> None:
    deep = run(1, "deep", 1200, check_every=50)
    assert isinstance(deep["deepest_level"], int)
    assert deep["deepest_level"] > DEEP
    matching = Matching()
    huge = [matching.apply(record) for record in random_requests(1, PROFILES["huge"], 1000)]
    assert any(type(event) is OrderRejected for record in huge for event in record.events)


def test_a_difference_is_found_and_names_its_request() -> None:
    pair = Pair()
    records = list(random_requests(1, PROFILES["lively"], 50))
    for record in records[:40]:
        pair.apply(record)
    pair.naive.resting.reverse()
    with pytest.raises(AssertionError):
        pair.check()
    order = pair.naive.resting.pop()
    with pytest.raises(Difference, match=f"CancelOrder\\(order_id={order.order_id}"):
        pair.apply(Record("ACME", 41, 41, order.account, CancelOrder(order.order_id)))


def test_the_same_requests_give_byte_identical_events() -> None:
    records = list(random_requests(SEED, PROFILES["lively"], 2000))
    first, second = Matching(), Matching()
    for record in records:
        assert encode(first.apply(record)) == encode(second.apply(record)), f"seed {SEED}: {record}"


def test_requests_and_events_survive_their_encoding() -> None:
    matching, replayed = Matching(), Matching()
    for record in random_requests(SEED, PROFILES["huge"], 1000):
        events = matching.apply(record)
        assert decode_event_record(encode(events)) == events, f"seed {SEED}"
        assert replayed.apply(decode_record(encode(record))) == events, f"seed {SEED}"


def test_events_do_not_depend_on_the_hash_seed() -> None:
    """Sets and hashes of text differ from process to process; the events may not."""
    count = 1000
    matching, digest = Matching(), hashlib.sha256()
    for record in random_requests(SEED, PROFILES["lively"], count):
        digest.update(encode(matching.apply(record)))
    for hash_seed in ("0", "1", "4294967295"):
        command = [sys.executable, "-m", "tests.naive", "--requests", str(count), "--seed", str(SEED)]
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(PROJECT / "lib")}
        output = subprocess.run(
            command, cwd=PROJECT, env=environment, capture_output=True, timeout=60, check=True, text=True
        ).stdout
        assert json.loads(output)["sha256"] == digest.hexdigest(), f"PYTHONHASHSEED={hash_seed}, seed {SEED}"
