"""Order entry: what is taken, what is rejected and why, mass cancels, definitions, times and bounds.

What an order may say beyond its price and quantity is in `test_order_entry_instructions.py`.
"""

from typing import Any

import pytest
from msgspec import UNSET

from exchange.core import messages, requests
from exchange.core.asset import MAX_INTEGER, MAX_QUANTITY, Asset
from exchange.core.messages import Ack, AmendOrder, CancelOrder, MassCancel, Ping, Pong, Reject
from exchange.core.requests import BUY, DefineAsset, Record
from tests.entry import ACME, BTC, Entry, new_order

# -- what is taken -----------------------------------------------------------------------------------------------------


def test_an_order_is_acknowledged_and_recorded() -> None:
    entry = Entry()
    assert entry.handle(new_order(request_id=7)) == Ack(
        request="new_order", client_order_id="a", order_id=1, asset="ACME", sequence=2, time=1000, request_id=7
    )
    assert entry.journal[-1] == Record("ACME", 2, 1000, "ann", requests.NewOrder(1, "a", BUY, 20, 100))


def test_order_ids_count_over_all_assets_and_sequences_within_one() -> None:
    entry = Entry()
    acks = [entry.ack(new_order("a")), entry.ack(new_order("b", asset="BTC-USD")), entry.ack(new_order("c"))]
    assert [(ack.order_id, ack.asset, ack.sequence) for ack in acks] == [
        (1, "ACME", 2),
        (2, "BTC-USD", 2),
        (3, "ACME", 3),
    ]


def test_an_order_is_named_by_either_id() -> None:
    entry = Entry()
    entry.ack(new_order("a"))
    assert entry.ack(AmendOrder(asset="ACME", client_order_id="a", price=105, account="ann")).order_id == 1
    assert entry.ack(AmendOrder(asset="ACME", order_id=1, client_order_id="a", price=110, account="ann")).order_id == 1
    assert entry.ack(CancelOrder(asset="ACME", order_id=1, account="ann", request_id="r")).order_id == 1
    assert [record.request for record in entry.journal[-3:]] == [
        requests.AmendOrder(1, None, 105),
        requests.AmendOrder(1, None, 110),
        requests.CancelOrder(1, "r"),
    ]


def test_a_ping_is_answered_and_takes_no_place() -> None:
    entry = Entry()
    assert entry.handle(Ping(request_id="p")) == Pong(time=1000, request_id="p")
    assert len(entry.journal) == 2


# -- what is rejected --------------------------------------------------------------------------------------------------

REJECTED: list[tuple[messages.OrderEntryRequest, str, str]] = [
    (new_order(account=UNSET), "malformed", "account: is missing; every request about orders names its account"),
    (new_order(account="Ann"), "malformed", "account 'Ann': must be 1 to 32 characters of a-z 0-9 _ -"),
    (new_order(account=""), "malformed", "account '': must be 1 to 32 characters of a-z 0-9 _ -"),
    (new_order(account="a" * 33), "malformed", "must be 1 to 32 characters of a-z 0-9 _ -"),
    (new_order(account="ann\n"), "malformed", "must be 1 to 32 characters of a-z 0-9 _ -"),
    (new_order(""), "malformed", "client_order_id '': must be 1 to 36 printable ASCII characters"),
    (new_order("x" * 37), "malformed", "must be 1 to 36 printable ASCII characters"),
    (new_order("\u00e9"), "malformed", "must be 1 to 36 printable ASCII characters"),
    (new_order("a\n"), "malformed", "must be 1 to 36 printable ASCII characters"),
    (new_order(request_id=""), "malformed", "request_id '': must be 1 to 36 printable ASCII characters"),
    (new_order(request_id=2**63), "malformed", f"request_id {2**63}: an integer must fit 64 bits, signed"),
    (new_order(asset="NONE"), "unknown_asset", "asset 'NONE': not traded here; there are ACME, BTC-USD"),
    (new_order(quantity=0), "invalid_quantity", "quantity 0: must be a multiple of the lot 10, from 1 to 1000"),
    (new_order(quantity=-10), "invalid_quantity", "quantity -10: must be a multiple of the lot 10"),
    (new_order(quantity=25), "invalid_quantity", "quantity 25: must be a multiple of the lot 10"),
    (new_order(quantity=1010), "invalid_quantity", "quantity 1010: must be a multiple of the lot 10, from 1 to 1000"),
    (new_order(quantity=2**64 - 1), "invalid_quantity", "must be a multiple of the lot 10, from 1 to 1000"),
    (new_order(price=UNSET), "invalid_price", "price: is missing; a limit order needs one"),
    (new_order(price=0), "invalid_price", "price 0: must be a multiple of the tick 5, from 10 to 10000"),
    (new_order(price=-100), "invalid_price", "price -100: must be a multiple of the tick 5"),
    (new_order(price=102), "invalid_price", "price 102: must be a multiple of the tick 5"),
    (new_order(price=5), "invalid_price", "price 5: must be a multiple of the tick 5, from 10 to 10000"),
    (new_order(price=10_005), "invalid_price", "price 10005: must be a multiple of the tick 5, from 10 to 10000"),
    (new_order(order_type="market"), "invalid_price", "price 100: a market order takes no price; leave it out"),
    (
        AmendOrder(asset="ACME", order_id=1, account="ann"),
        "malformed",
        "needs at least one of quantity, price and stop_price",
    ),
    (AmendOrder(asset="ACME", quantity=10, account="ann"), "malformed", "needs order_id or client_order_id"),
    (AmendOrder(asset="ACME", order_id=1, quantity=5, account="ann"), "invalid_quantity", "quantity 5: must be a"),
    (AmendOrder(asset="ACME", order_id=1, quantity=0, account="ann"), "invalid_quantity", "quantity 0: must be a"),
    (AmendOrder(asset="ACME", order_id=1, price=101, account="ann"), "invalid_price", "price 101: must be a multiple"),
    (AmendOrder(asset="ACME", order_id=1, price=105), "malformed", "account: is missing"),
    (CancelOrder(asset="ACME", account="ann"), "malformed", "needs order_id or client_order_id, to say which order"),
    (CancelOrder(asset="NONE", order_id=1, account="ann"), "unknown_asset", "asset 'NONE': not traded here"),
    (
        CancelOrder(asset="ACME", order_id=2, account="ann"),
        "unknown_order",
        "order_id 2: account ann never had such an",
    ),
    (
        CancelOrder(asset="ACME", order_id=0, account="ann"),
        "unknown_order",
        "order_id 0: account ann never had such an",
    ),
    (CancelOrder(asset="ACME", order_id=-1, account="ann"), "unknown_order", "order_id -1: account ann never had"),
    (CancelOrder(asset="ACME", order_id=2**64 - 1, account="ann"), "unknown_order", "account ann never had such an"),
    (
        CancelOrder(asset="ACME", order_id=1, account="bob"),
        "unknown_order",
        "order_id 1: account bob never had such an",
    ),
    (CancelOrder(asset="BTC-USD", order_id=1, account="ann"), "unknown_order", "never had such an order in BTC-USD"),
    (
        CancelOrder(asset="ACME", client_order_id="z", account="ann"),
        "unknown_order",
        "client_order_id 'z': account ann",
    ),
    (
        CancelOrder(asset="ACME", client_order_id="first", account="bob"),
        "unknown_order",
        "account bob never had such an",
    ),
    (
        CancelOrder(asset="ACME", order_id=2, client_order_id="first", account="ann"),
        "unknown_order",
        "client_order_id 'first': account ann never had such an order with order_id 2",
    ),
    (CancelOrder(asset="ACME", client_order_id="", account="ann"), "malformed", "client_order_id '': must be 1 to 36"),
    (MassCancel(), "malformed", "account: is missing"),
    (MassCancel(account="ann", asset="NONE"), "unknown_asset", "asset 'NONE': not traded here"),
    (MassCancel(account="ann", request_id="\u00e9"), "malformed", "must be 1 to 36 printable ASCII characters"),
]


@pytest.mark.parametrize(("message", "reason", "text"), REJECTED)
def test_a_mistake_is_rejected_with_the_value_and_the_rule(
    message: messages.OrderEntryRequest, reason: str, text: str
) -> None:
    entry = Entry()
    entry.ack(new_order("first"))
    found = entry.reject(message)
    assert found[0] == reason
    assert text in found[1]


def test_an_account_that_has_orders_reaches_its_own_only() -> None:
    entry = Entry()
    entry.ack(new_order("a", account="ann"))
    entry.ack(new_order("b", account="bob"))
    assert entry.reject(CancelOrder(asset="ACME", order_id=1, account="bob"))[0] == "unknown_order"
    assert entry.reject(AmendOrder(asset="ACME", order_id=2, price=105, account="ann"))[0] == "unknown_order"
    assert entry.ack(CancelOrder(asset="ACME", order_id=2, account="bob")).order_id == 2


def test_a_reject_carries_the_ids_of_its_request() -> None:
    entry = Entry()
    reply = entry.handle(new_order("a", quantity=1, request_id="r"))
    assert isinstance(reply, Reject)
    assert (reply.request, reply.client_order_id, reply.request_id) == ("new_order", "a", "r")
    reply = entry.handle(CancelOrder(asset="ACME", order_id=9, account="ann"))
    assert isinstance(reply, Reject)
    assert (reply.request, reply.client_order_id, reply.request_id) == ("cancel_order", UNSET, UNSET)


def test_the_largest_order_that_the_wire_can_carry_is_taken() -> None:
    entry = Entry()
    entry.ack(new_order("a", asset="BTC-USD", quantity=MAX_QUANTITY, price=MAX_INTEGER))
    assert entry.reject(new_order("b", asset="BTC-USD", quantity=MAX_QUANTITY + 1))[0] == "invalid_quantity"
    assert entry.reject(new_order("c", asset="BTC-USD", price=MAX_INTEGER + 1))[0] == "invalid_price"


# -- mass cancel -------------------------------------------------------------------------------------------------------


def test_a_mass_cancel_of_one_asset_is_one_record() -> None:
    entry = Entry()
    ack = entry.ack(MassCancel(asset="BTC-USD", account="ann", side="sell"))
    assert (ack.asset, ack.sequence, ack.sequences) == ("BTC-USD", 2, UNSET)
    assert entry.journal[-1].request == requests.MassCancel(-1)


def test_a_mass_cancel_of_all_assets_takes_a_place_in_each_queue_and_says_which_of_how_many() -> None:
    entry = Entry()
    entry.ack(new_order("a"))
    ack = entry.ack(MassCancel(account="ann", request_id="r"))
    assert (ack.asset, ack.sequence, ack.sequences) == (UNSET, UNSET, {"ACME": 3, "BTC-USD": 2})
    assert [(record.asset, record.request) for record in entry.journal[-2:]] == [
        ("ACME", requests.MassCancel(0, "r", True, 1, 2)),
        ("BTC-USD", requests.MassCancel(0, "r", True, 2, 2)),
    ]


def test_a_mass_cancel_of_all_assets_is_taken_whole_or_not_at_all() -> None:
    entry = Entry()
    entry.room = 1
    assert entry.reject(MassCancel(account="ann"))[0] == "busy"
    assert entry.ack(MassCancel(asset="ACME", account="ann")).sequence == 2


def test_a_mass_cancel_of_all_assets_finds_none_when_none_is_listed() -> None:
    entry = Entry(ACME)
    first = entry.ack(MassCancel(account="ann", request_id="r"))
    entry.order_entry.delist("ACME", by="root")
    entry.write()
    assert entry.reject(MassCancel(account="ann")) == ("unknown_asset", "asset: none is traded here now")
    assert entry.ack(MassCancel(account="ann", request_id="r")).sequences == first.sequences


def test_a_repeated_mass_cancel_is_the_same_although_an_asset_has_come() -> None:
    entry = Entry()
    first = entry.ack(MassCancel(account="ann", request_id="r"))
    entry.define(Asset(asset="NEW"))
    again = entry.ack(MassCancel(account="ann", request_id="r"))
    assert again.duplicate
    assert again.sequences == first.sequences


# -- definitions -------------------------------------------------------------------------------------------------------


def test_an_asset_is_defined_once_and_again_when_it_changes() -> None:
    entry = Entry(ACME)
    assert entry.journal == [Record("ACME", 1, 1000, "", DefineAsset(ACME))]
    assert not entry.define(ACME)
    finer = Asset(asset="ACME", price_scale=2, tick_size=1)
    assert entry.define(finer)
    assert entry.journal[1:] == [Record("ACME", 2, 1000, "", DefineAsset(finer))]
    assert entry.ack(new_order("a", price=101, quantity=1)).sequence == 3


@pytest.mark.parametrize(("scale", "known"), [("price_scale", 2), ("quantity_scale", 0)])
def test_a_changed_scale_is_refused(scale: str, known: int) -> None:
    entry = Entry(ACME)
    fields: dict[str, Any] = {"asset": "ACME", "price_scale": 2, "quantity_scale": 0} | {scale: 4}
    with pytest.raises(ValueError, match=f"{scale} = 4: ACME has traded with {known}, and a scale can't change"):
        entry.define(Asset(**fields))
    assert len(entry.journal) == 1
    assert entry.ack(new_order("a")).sequence == 2


def test_an_asset_that_the_configuration_has_no_more_is_unknown_until_it_comes_back() -> None:
    live = Entry()
    live.ack(new_order("a", asset="BTC-USD"))
    live.order_entry.queues["BTC-USD"].listed = False
    entry = live.restored()
    assert entry.reject(new_order("b", asset="BTC-USD")) == (
        "unknown_asset",
        "asset 'BTC-USD': not traded here; there are ACME",
    )
    assert entry.ack(MassCancel(account="ann")).sequences == {"ACME": 2}
    assert not entry.define(BTC)
    assert entry.ack(new_order("a", asset="BTC-USD")).duplicate


# -- time --------------------------------------------------------------------------------------------------------------


def test_times_never_run_backwards_when_the_clock_does() -> None:
    entry = Entry()
    times = []
    for number, clock in enumerate((5000, 4000, 1, 5001)):
        entry.time = clock
        times.append(entry.ack(new_order(f"c{number}")).time)
    assert times == [5000, 5000, 5000, 5001]


def test_nor_do_they_after_a_restart_under_a_clock_that_is_behind() -> None:
    live = Entry()
    live.time = 5000
    live.ack(new_order("a"))
    entry = live.restored()
    entry.time = 10
    assert entry.ack(new_order("b")).time == 5000
    assert entry.handle(Ping()) == Pong(time=5000)


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_a_queue_that_is_full_is_busy_until_its_requests_are_applied() -> None:
    entry = Entry(max_backlog=3)
    entry.order_entry.queues["ACME"].applied = 1
    for name in ("a", "b", "c"):
        entry.ack(new_order(name))
    assert entry.reject(new_order("d")) == ("busy", "ACME has 3 requests waiting, its bound; try again later")
    assert entry.ack(new_order("a")).duplicate, "what was taken is known, busy or not"
    assert entry.ack(new_order("e", asset="BTC-USD")).sequence == 2
    entry.order_entry.queues["ACME"].applied = 2
    assert entry.ack(new_order("d")).sequence == 5


def test_a_restart_does_not_make_the_backlog_smaller_or_larger_than_it_is() -> None:
    live = Entry(max_backlog=2)
    live.order_entry.note_applied("ACME", 1)
    live.ack(new_order("a"))
    live.ack(new_order("b"))
    restored = live.restored()
    restored.order_entry.note_applied("ACME", 1)
    assert restored.reject(new_order("c"))[0] == "busy"
    restored.order_entry.note_applied("ACME", 3)
    assert restored.ack(new_order("c")).sequence == 4


def test_a_matching_daemon_that_rebuilds_its_book_has_applied_what_it_had() -> None:
    entry = Entry(max_backlog=2)
    entry.order_entry.note_applied("ACME", 1)
    entry.ack(new_order("a"))
    entry.order_entry.note_applied("ACME", 2)
    entry.order_entry.note_applied("ACME", 1)
    entry.ack(new_order("b"))
    entry.ack(new_order("c"))


def test_ids_are_remembered_up_to_the_bound() -> None:
    entry = Entry(max_remembered_ids=2)
    entry.ack(new_order("a"))
    entry.ack(CancelOrder(asset="ACME", order_id=1, account="ann", request_id="r"))
    assert entry.reject(new_order("b")) == (
        "busy",
        "2 ids are remembered, the bound; tell the operator; amends and cancels without a request_id are still taken",
    )
    assert entry.reject(CancelOrder(asset="ACME", order_id=1, account="ann", request_id="new"))[0] == "busy"
    assert entry.ack(CancelOrder(asset="ACME", order_id=1, account="ann", request_id="r")).duplicate
    assert entry.ack(CancelOrder(asset="ACME", order_id=1, account="ann")).sequence == 4
    assert entry.ack(MassCancel(asset="ACME", account="ann")).sequence == 5


def test_a_mass_cancel_of_all_assets_is_one_id_to_remember() -> None:
    entry = Entry(max_remembered_ids=2)
    entry.ack(MassCancel(account="ann", request_id="r"))
    entry.ack(new_order("a"))
    assert entry.reject(new_order("b"))[0] == "busy"


def test_a_full_disk_is_busy() -> None:
    entry = Entry()
    entry.room = 0
    assert entry.reject(new_order("a")) == ("busy", "there is no room on disk for another request; try again later")
    entry.room = 1
    assert entry.ack(new_order("a")).order_id == 1


def test_an_asset_after_very_many_others_takes_orders() -> None:
    entry = Entry()
    for number in range(65_536):
        entry.order_entry.define(Asset(asset=f"A{number}"))
    entry.write()
    ack = entry.ack(new_order(asset="A65535"))
    assert entry.ack(CancelOrder(account="ann", asset="A65535", order_id=ack.order_id)).sequence == 3
