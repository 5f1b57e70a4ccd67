"""The real core and a naive book agree event for event on random requests; and the core is a function of its input.

A long run, of any seed: `python -m tests.naive --requests 1000000 --seed 7 --profile deep`.
"""

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from typing import get_args

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec import structs

from exchange.core.asset import Asset, SelfTrade, Status
from exchange.core.book import DEEP
from exchange.core.events import (
    CancelReason,
    Event,
    OrderRejected,
    OrderTriggered,
    RejectReason,
    StatusChanged,
    TradeExecuted,
)
from exchange.core.matching import Matching
from exchange.core.requests import (
    AmendOrder,
    CancelOrder,
    ChangeStatus,
    DefineAsset,
    Delist,
    Expire,
    Instructions,
    MassCancel,
    MassCancelReason,
    NewOrder,
    OrderType,
    Record,
    Request,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from exchange.pipeline.codec import decode_event_record, decode_record, encode
from tests.pair import Difference, Pair, run
from tests.random_requests import PROFILES, SCHEDULE, random_requests
from tests.support import PROJECT

SEED = random.SystemRandom().randrange(2**32)  # a new one each run; a failure prints it

accounts = st.sampled_from(["ann", "bob", "sue"])
sides = st.sampled_from([1, -1])
prices = st.integers(98, 102)
small = st.integers(1, 10)
quantities = small | st.integers(2**62 - 2, 2**62 + 2)  # two of the large ones fill a level
preventions = st.sampled_from(["cancel_newest", "cancel_oldest", "cancel_both", "decrement_and_cancel"])
resting = st.sampled_from(["gtc", "day", "gtd"])
any_time_in_force = st.sampled_from(["gtc", "day", "gtd", "ioc", "fok"])
statuses = st.sampled_from(["open", "open", "call", "closed", "halted"])
bands = st.sampled_from([0, 10_000, 20_000])  # a tick at a price of 100, and two
ids = st.integers(1, 30)


class BothBooks(RuleBasedStateMachine):
    """Any requests at all, in any order; hypothesis looks for the shortest that tells the two apart."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair()
        self.sequence = 0
        self.time = 0
        self.order_id = 0
        self.without_price: set[int] = set()  # order ids: an amend can't name a price for them
        self.shows: dict[int, int] = {}  # display quantities
        self.calls = [0]

    def apply(self, request: Request, account: str) -> None:
        self.sequence += 1
        record = self.pair.apply(Record("ACME", self.sequence, self.time, account, request))
        if any(type(event) is StatusChanged and event.status == "call" for event in record.events):
            self.calls.append(self.sequence)

    @initialize(sessions=st.booleans())
    def define(self, sessions: bool) -> None:
        self.apply(DefineAsset(Asset(asset="ACME", schedule=SCHEDULE if sessions else ())), "")
        if sessions:
            self.apply(ChangeStatus("open", "schedule"), "")

    # -- accounts ------------------------------------------------------------------------------------------------------

    @rule(account=accounts, side=sides, price=prices, quantity=quantities)
    def rest(self, account: str, side: Side, price: int, quantity: int) -> None:
        self.new_order(account, side, quantity, price, "limit", "gtc")

    @rule(
        account=accounts, side=sides, price=prices, quantity=quantities, time_in_force=st.sampled_from(["ioc", "fok"])
    )
    def take(self, account: str, side: Side, price: int, quantity: int, time_in_force: TimeInForce) -> None:
        self.new_order(account, side, quantity, price, "limit", time_in_force)

    @rule(account=accounts, side=sides, quantity=quantities, time_in_force=any_time_in_force)
    def take_at_any_price(self, account: str, side: Side, quantity: int, time_in_force: TimeInForce) -> None:
        self.new_order(account, side, quantity, 0, "market", time_in_force)

    @rule(account=accounts, side=sides, price=prices, quantity=small, prevention=preventions, least=st.integers(0, 10))
    def take_at_least(
        self, account: str, side: Side, price: int, quantity: int, prevention: SelfTradePrevention, least: int
    ) -> None:
        says = Instructions(min_quantity=min(least, quantity), self_trade_prevention=prevention)
        self.new_order(account, side, quantity, price, "limit", "gtc", says)

    @rule(
        account=accounts,
        side=sides,
        price=prices,
        quantity=st.integers(2, 20),
        shown=st.integers(1, 19),
        time_in_force=resting,
        post_only=st.booleans(),
        prevention=preventions,
    )
    def rest_in_part(
        self,
        account: str,
        side: Side,
        price: int,
        quantity: int,
        shown: int,
        time_in_force: TimeInForce,
        post_only: bool,
        prevention: SelfTradePrevention,
    ) -> None:
        shown = min(shown, quantity - 1)
        says = Instructions(display_quantity=shown, post_only=post_only, self_trade_prevention=prevention)
        self.new_order(account, side, quantity, price, "limit", time_in_force, says)

    @rule(account=accounts, side=sides, price=prices, quantity=quantities, time_in_force=resting)
    def rest_only(self, account: str, side: Side, price: int, quantity: int, time_in_force: TimeInForce) -> None:
        self.new_order(account, side, quantity, price, "limit", time_in_force, Instructions(post_only=True))

    @rule(
        account=accounts,
        side=sides,
        stop_price=prices,
        price=st.just(0) | prices,
        quantity=quantities,
        time_in_force=any_time_in_force,
        prevention=preventions,
    )
    def stop(
        self,
        account: str,
        side: Side,
        stop_price: int,
        price: int,
        quantity: int,
        time_in_force: TimeInForce,
        prevention: SelfTradePrevention,
    ) -> None:
        says = Instructions(stop_price=stop_price, self_trade_prevention=prevention)
        self.new_order(account, side, quantity, price, "stop_limit" if price else "stop", time_in_force, says)

    @rule(
        account=accounts,
        side=sides,
        stop_price=prices,
        price=prices,
        quantity=st.integers(2, 20),
        shown=st.integers(0, 19),
        least=st.integers(0, 3),
        post_only=st.booleans(),
    )
    def stop_with_conditions(
        self,
        account: str,
        side: Side,
        stop_price: int,
        price: int,
        quantity: int,
        shown: int,
        least: int,
        post_only: bool,
    ) -> None:
        says = Instructions(stop_price, min(shown, quantity - 1), min(least, quantity), post_only)
        self.new_order(account, side, quantity, price, "stop_limit", "gtc", says)

    @rule(
        account=accounts,
        order_id=ids,
        quantity=st.none() | quantities,
        price=st.none() | prices,
        stop_price=st.none() | st.none() | prices,
    )
    def amend(
        self, account: str, order_id: int, quantity: int | None, price: int | None, stop_price: int | None
    ) -> None:
        if order_id in self.without_price:
            price = None
        if order_id in self.shows and quantity:
            quantity = min(quantity, 20 * self.shows[order_id])  # it trades part by part
        self.apply(AmendOrder(order_id, quantity, price, stop_price=stop_price), account)

    @rule(account=accounts, order_id=ids)
    def cancel(self, account: str, order_id: int) -> None:
        self.apply(CancelOrder(order_id), account)

    @rule(
        account=accounts,
        side=st.sampled_from([0, 1, -1]),
        reason=st.sampled_from(["mass_cancel", "disconnected", "operator"]),
    )
    def mass_cancel(self, account: str, side: Side, reason: MassCancelReason) -> None:
        self.apply(MassCancel(side, reason=reason), account)

    # -- the exchange --------------------------------------------------------------------------------------------------

    @rule(status=statuses, ends_day=st.booleans(), which=st.integers(0, 3))
    def change_status(self, status: Status, ends_day: bool, which: int) -> None:
        """Change it whatever it is, or only if one of the calls goes on, the last or another."""
        call = self.calls[-which] if 0 < which <= len(self.calls) else 0
        self.apply(ChangeStatus(status, "operator", call, ends_day), "")

    @rule(day=st.booleans())
    def expire(self, day: bool) -> None:
        self.apply(Expire(day), "")

    @rule(nanoseconds=st.integers(1, 10))
    def wait(self, nanoseconds: int) -> None:
        self.time += nanoseconds

    @rule(
        self_trade=st.sampled_from(["prevent", "allow"]),
        tick_size=st.sampled_from([1, 5]),
        reference_price=st.sampled_from([0, 99, 101]),
        price_band=bands,
        volatility_band=bands,
        sessions=st.booleans(),
    )
    def define_again(
        self,
        self_trade: SelfTrade,
        tick_size: int,
        reference_price: int,
        price_band: int,
        volatility_band: int,
        sessions: bool,
    ) -> None:
        definition = Asset(
            asset="ACME",
            self_trade=self_trade,
            tick_size=tick_size,
            reference_price=reference_price,
            price_band_ppm=price_band,
            volatility_band_ppm=volatility_band,
            schedule=SCHEDULE if sessions else (),
        )
        self.apply(DefineAsset(definition), "")

    @rule(listed_again=st.booleans())
    def delist(self, listed_again: bool) -> None:
        self.apply(Delist(), "")
        if listed_again:
            self.apply(DefineAsset(Asset(asset="ACME")), "")

    def new_order(
        self,
        account: str,
        side: Side,
        quantity: int,
        price: int,
        order_type: OrderType,
        time_in_force: TimeInForce,
        says: Instructions | None = None,
    ) -> None:
        self.order_id += 1
        if time_in_force == "gtd":
            says = structs.replace(says or Instructions(), expire_time=self.time + 5)
        if not price:
            self.without_price.add(self.order_id)
        if says and says.display_quantity:
            self.shows[self.order_id] = says.display_quantity
        order = NewOrder(self.order_id, f"c{self.order_id}", side, quantity, price, order_type, time_in_force, says)
        self.apply(order, account)

    @invariant()
    def both_hold_the_same(self) -> None:
        self.pair.check()


TestBothBooks = BothBooks.TestCase
TestBothBooks.settings = settings(max_examples=250, stateful_step_count=60, deadline=None)

COUNTS = {"deep": 1200}  # of requests, where levels are long


@pytest.mark.parametrize("profile", PROFILES)
def test_both_books_agree_on_random_requests(profile: str) -> None:
    count = COUNTS.get(profile, 2500)
    print(f"python -m tests.naive --requests {count} --seed {SEED} --profile {profile} --check-every 1")
    run(SEED, profile, count)


def test_both_books_agree_on_openings_before_there_is_a_reference_price() -> None:
    for seed in range(SEED, SEED + 40):
        print(f"python -m tests.naive --requests 70 --seed {seed} --profile ticks --check-every 1")
        run(seed, "ticks", 70)


def events_of(profile: str, count: int) -> Iterator[list[Event]]:
    matching = Matching()
    for record in random_requests(1, PROFILES[profile], count):
        yield matching.apply(record).events


def test_the_profiles_reach_what_they_are_for() -> None:
    deep = run(1, "deep", 2000, check_every=50)
    assert isinstance(deep["deepest_level"], int)
    assert deep["deepest_level"] > DEEP
    assert any(type(event) is OrderRejected for events in events_of("huge", 1000) for event in events)
    cascades = [sum(type(event) is OrderTriggered for event in events) for events in events_of("stops", 1000)]
    assert max(cascades) > 3, "a trade elects several stops, and theirs elect more"
    assert any(
        type(events[0]) is TradeExecuted and type(events[-1]) is StatusChanged
        for events in events_of("sessions", 4000)
        if events
    ), "an auction"
    kinds = {type(event) for events in events_of("everything", 10_000) for event in events}
    assert kinds == set(get_args(Event)), "every kind of event"
    reasons = {getattr(event, "reason", "") for events in events_of("everything", 10_000) for event in events}
    assert reasons >= {*get_args(CancelReason), *get_args(RejectReason), "volatility_interruption"}, "every reason"


def test_a_difference_is_found_and_names_its_request() -> None:
    pair = Pair()
    records = list(random_requests(1, PROFILES["deep"], 50))
    for record in records[:40]:
        pair.apply(record)
    pair.naive.resting.reverse()
    with pytest.raises(AssertionError):
        pair.check()
    order = pair.naive.resting.pop()
    with pytest.raises(Difference, match=f"CancelOrder\\(order_id={order.order_id}"):
        pair.apply(Record("ACME", 41, 41, order.account, CancelOrder(order.order_id)))


def test_requests_and_events_survive_their_encoding() -> None:
    for profile in ("huge", "everything"):
        matching, replayed = Matching(), Matching()
        for record in random_requests(SEED, PROFILES[profile], 1000):
            events = matching.apply(record)
            assert decode_event_record(encode(events)) == events, f"seed {SEED}"
            assert encode(replayed.apply(decode_record(encode(record)))) == encode(events), f"seed {SEED}"


def test_events_are_byte_identical_under_every_hash_seed() -> None:
    """Sets and hashes of text differ from process to process; the events may not."""
    count = 1500
    matching, digest = Matching(), hashlib.sha256()
    for record in random_requests(SEED, PROFILES["everything"], count):
        digest.update(encode(matching.apply(record)))
    command = [sys.executable, "-m", "tests.naive", "--requests", str(count), "--seed", str(SEED)]
    for hash_seeds in (("0", "1"), ("2", "3"), ("4", "5"), ("6", "7"), ("8", "4294967295")):
        processes = [
            subprocess.Popen(
                command,
                cwd=PROJECT,
                env=os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(PROJECT / "lib")},
                stdout=subprocess.PIPE,
                text=True,
            )
            for hash_seed in hash_seeds
        ]
        for hash_seed, process in zip(hash_seeds, processes, strict=True):
            output, _ = process.communicate(timeout=60)
            assert process.returncode == 0
            assert json.loads(output)["sha256"] == digest.hexdigest(), f"PYTHONHASHSEED={hash_seed}, seed {SEED}"
