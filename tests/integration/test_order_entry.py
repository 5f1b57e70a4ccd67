"""Order entry as docs/protocol.md promises it, over the wire: shapes, defaults, batches, order, echoes, identifiers."""

from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from tests.integration.outsider import Message, Peer, Venue
from tests.integration.outsider import venue as running_venue

ACK_KEYS = {"type", "request", "client_order_id", "order_id", "asset", "sequence", "time"}


@pytest.fixture(scope="module")
def shared_venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Venue]:
    with running_venue(tmp_path_factory.mktemp("order-entry")) as venue:
        yield venue


@pytest.fixture
def venue(shared_venue: Venue) -> Iterator[Venue]:
    yield shared_venue
    shared_venue.clear()


@pytest.fixture
def peer(venue: Venue) -> Iterator[Peer]:
    peer = venue.peer()
    yield peer
    peer.close()


# -- shapes ------------------------------------------------------------------------------------------------------------


def test_a_new_order_is_acknowledged_with_its_place(venue: Venue) -> None:
    order = venue.order(venue.account(), "buy", 100, 1000)
    ack = venue.entry.ask(order)
    assert ack.keys() == ACK_KEYS
    assert (ack["type"], ack["request"], ack["asset"]) == ("ack", "new_order", "ACME")
    assert ack["client_order_id"] == order["client_order_id"]
    assert all(type(ack[key]) is int for key in ("order_id", "sequence", "time"))


@pytest.mark.parametrize("key", ["order_id", "client_order_id"])
@pytest.mark.parametrize("kind", ["amend_order", "cancel_order"])
def test_an_order_is_named_by_either_id(venue: Venue, kind: str, key: str) -> None:
    account = venue.account()
    entered = venue.enter(account, "buy", 100, 1000)
    fields: Message = {"quantity": 50} if kind == "amend_order" else {}
    ack = venue.entry.ask(type=kind, account=account, asset="ACME", **{key: entered[key]}, **fields)
    assert ack.keys() | {"client_order_id"} == ACK_KEYS
    assert (ack["type"], ack["request"], ack["order_id"]) == ("ack", kind, entered["order_id"])
    assert ack["sequence"] == entered["sequence"] + 1
    assert ack["time"] >= entered["time"]


@pytest.mark.parametrize("kind", ["amend_order", "cancel_order"])
def test_both_ids_are_taken_where_they_agree(venue: Venue, kind: str) -> None:
    account = venue.account()
    first, second = venue.enter(account, "buy", 100, 1000), venue.enter(account, "buy", 100, 1000)
    ids = {"order_id": first["order_id"], "client_order_id": first["client_order_id"]}
    fields: Message = {"price": 1005} if kind == "amend_order" else {}
    ack = venue.entry.ask(type=kind, account=account, asset="ACME", **ids, **fields)
    assert (ack["type"], ack["order_id"], ack["client_order_id"]) == ("ack", *ids.values())
    ids["order_id"] = second["order_id"]
    reject = venue.entry.ask(type=kind, account=account, asset="ACME", **ids, **fields)
    assert (reject["type"], reject["reason"]) == ("reject", "unknown_order")
    assert str(second["order_id"]) in reject["text"]


def test_a_mass_cancel_of_one_asset_has_one_sequence(venue: Venue) -> None:
    account = venue.account()
    entered = venue.enter(account, "buy", 100, 1000)
    ack = venue.entry.ask(type="mass_cancel", account=account, asset="ACME", side="sell")
    assert ack.keys() == {"type", "request", "asset", "sequence", "time"}
    assert (ack["request"], ack["asset"], ack["sequence"]) == ("mass_cancel", "ACME", entered["sequence"] + 1)


def test_a_mass_cancel_of_all_assets_has_a_sequence_for_each(venue: Venue) -> None:
    account = venue.account()
    acme = venue.enter(account, "buy", 100, 1000)
    bitcoin = venue.enter(account, "sell", 7, 1000, asset="BTC-USD")
    ack = venue.entry.ask(type="mass_cancel", account=account)
    assert ack.keys() == {"type", "request", "sequences", "time"}
    assert ack["sequences"] == {"ACME": acme["sequence"] + 1, "BTC-USD": bitcoin["sequence"] + 1}


def test_a_ping_is_answered_with_the_time(venue: Venue) -> None:
    entered = venue.enter(venue.account(), "buy", 100, 1000)
    pong = venue.entry.ask(type="ping")
    assert pong.keys() == {"type", "time"}
    assert pong["type"] == "pong"
    assert pong["time"] >= entered["time"]


def test_what_is_left_out_has_its_default(venue: Venue) -> None:
    order = venue.order(venue.account(), "buy", 100, 1000)
    first = venue.entry.ask(order)
    spelled_out = {
        "order_type": "limit",
        "time_in_force": "gtc",
        "post_only": False,
        "self_trade_prevention": "cancel_newest",
    }
    assert venue.entry.ask(order | spelled_out) == first | {"duplicate": True}


def test_a_req_gets_its_empty_delimiter_back(venue: Venue) -> None:
    request = venue.peer(kind=zmq.REQ)
    account = venue.account()
    for _ in range(2):
        assert request.ask(type="ping")["type"] == "pong"
        assert request.ask(venue.order(account, "buy", 100, 1000))["type"] == "ack"
        assert [reply["type"] for reply in request.ask([{"type": "ping"}] * 3)] == ["pong"] * 3
    request.close()


def test_a_delimiter_is_mirrored_to_a_dealer_too(peer: Peer) -> None:
    peer.socket.send_multipart([b"", b"\x81\xa4type\xa4ping"])
    frames = peer.socket.recv_multipart()
    assert len(frames) == 2
    assert frames[0] == b""


# -- batches -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 100])
def test_a_batch_is_answered_by_an_array_in_its_order(venue: Venue, count: int) -> None:
    account = venue.account()
    replies = venue.entry.ask([venue.order(account, "buy", 10, 1000, request_id=number) for number in range(count)])
    assert [reply["request_id"] for reply in replies] == list(range(count))
    assert {reply["type"] for reply in replies} == {"ack"}
    sequences = [reply["sequence"] for reply in replies]
    assert sequences == list(range(sequences[0], sequences[0] + count))


@pytest.mark.parametrize("count", [0, 101, 1000])
def test_a_batch_that_is_empty_or_too_long_gets_one_reject(venue: Venue, count: int) -> None:
    account = venue.account()
    before = venue.enter(account, "buy", 10, 1000)
    reject = venue.entry.ask([{"type": "ping"}] * count)
    assert isinstance(reject, dict)
    assert (reject["type"], reject["reason"]) == ("reject", "malformed")
    assert str(count) in reject["text"]
    assert "1 to 100" in reject["text"]
    assert venue.enter(account, "buy", 10, 1000)["sequence"] == before["sequence"] + 1


def test_a_batch_of_101_good_orders_takes_none_of_them(venue: Venue) -> None:
    account = venue.account()
    before = venue.enter(account, "buy", 10, 1000)
    reject = venue.entry.ask([venue.order(account, "buy", 10, 1000) for _ in range(101)])
    assert (reject["type"], reject["reason"]) == ("reject", "malformed")
    assert venue.enter(account, "buy", 10, 1000)["sequence"] == before["sequence"] + 1


@pytest.mark.parametrize(
    "bad",
    [
        None,
        7,
        "new_order",
        [],
        [{"type": "ping"}],
        {},
        {"type": "sell everything"},
        {"type": "ping", "extra": 1},
        {"type": "ping", "request_id": 1.5},
    ],
)
def test_a_bad_item_gets_its_reject_and_the_others_go_on(venue: Venue, bad: Any) -> None:
    account = venue.account()
    good = [venue.order(account, "buy", 10, 1000, request_id=f"good {number}") for number in range(3)]
    replies = venue.entry.ask([good[0], bad, good[1], bad, good[2]])
    assert [reply["type"] for reply in replies] == ["ack", "reject", "ack", "reject", "ack"]
    assert [reply["request_id"] for reply in replies[::2]] == ["good 0", "good 1", "good 2"]
    assert {reply["reason"] for reply in replies[1::2]} == {"malformed"}
    sequences = [reply["sequence"] for reply in replies[::2]]
    assert sequences == list(range(sequences[0], sequences[0] + 3))


def test_items_of_a_batch_see_those_before_them(venue: Venue) -> None:
    account = venue.account()
    order = venue.order(account, "buy", 100, 1000)
    cancel = {"type": "cancel_order", "account": account, "asset": "ACME", "client_order_id": order["client_order_id"]}
    refused, entered, repeated, canceled = venue.entry.ask([cancel, order, order, cancel])
    assert (refused["type"], refused["reason"]) == ("reject", "unknown_order")
    assert repeated == entered | {"duplicate": True}
    assert (canceled["type"], canceled["order_id"]) == ("ack", entered["order_id"])


# -- order -------------------------------------------------------------------------------------------------------------


def test_repeats_and_mass_cancels_in_one_batch_find_what_is_before_them(venue: Venue) -> None:
    account = venue.account()
    order, other = venue.order(account, "buy", 100, 1000), venue.order(account, "buy", 100, 1000)
    cancel = {"type": "cancel_order", "asset": "ACME", "account": account, "request_id": f"{account}-1"}
    cancel["client_order_id"] = order["client_order_id"]
    everything = {"type": "mass_cancel", "account": account, "request_id": f"{account}-2"}
    replies = venue.entry.ask([order, order, cancel, cancel, other, everything, everything, order])
    entered, repeated, canceled, again, _, all_canceled, all_again, last = replies
    assert [reply["type"] for reply in replies] == ["ack"] * 8
    assert repeated == last == entered | {"duplicate": True}
    assert again == canceled | {"duplicate": True}
    assert all_again == all_canceled | {"duplicate": True}
    assert all_canceled["sequences"]["ACME"] == entered["sequence"] + 3


def test_a_number_and_its_text_are_two_request_ids_in_one_batch_and_later(venue: Venue) -> None:
    account = venue.account()
    first, second, _ = (venue.enter(account, "buy", 100, 1000)["order_id"] for _ in range(3))

    def cancel(order_id: int, request_id: int | str) -> Message:
        fields = {"type": "cancel_order", "asset": "ACME", "account": account, "order_id": order_id}
        return fields | {"request_id": request_id}

    def cancel_all(request_id: int | str) -> Message:
        return {"type": "mass_cancel", "account": account, "request_id": request_id}

    requests = [cancel(first, 1), cancel(second, "1"), cancel_all(2), cancel_all("2")]
    replies = venue.entry.ask([*requests, venue.order(account, "buy", 100, 1000), *requests])
    assert [reply["type"] for reply in replies] == ["ack"] * 9
    repeated = [reply | {"duplicate": True} for reply in replies[:4]]
    assert replies[5:] == repeated, "and so the order after the mass cancels lives"
    assert venue.entry.ask(requests) == repeated
    venue.settle()
    live = venue.query.ask(type="open_orders", account=account, asset="ACME")["orders"]
    assert [order["order_id"] for order in live] == [replies[4]["order_id"]]


def test_replies_come_in_the_order_of_5000_pipelined_requests(venue: Venue, peer: Peer) -> None:
    account = venue.account()
    kinds = []
    for number in range(5000):
        kind = ("ack", "pong", "reject", "malformed", "batch")[number % 5]
        kinds.append(kind)
        if kind == "ack":
            peer.send(venue.order(account, "buy", 10, 1000, request_id=number))
        elif kind == "pong":
            peer.send({"type": "ping", "request_id": number})
        elif kind == "reject":
            peer.send(venue.order(account, "buy", 11, 1000, request_id=number))
        elif kind == "malformed":
            peer.send({"type": "ping", "unknown": 1, "request_id": number})
        else:
            peer.send([{"type": "ping", "request_id": number}, {"type": "ping", "request_id": -number}])
    last = 0
    for number, kind in enumerate(kinds):
        reply = peer.receive()
        if kind == "batch":
            assert [each["request_id"] for each in reply] == [number, -number]
            continue
        assert reply["request_id"] == number
        assert reply["type"] == {"malformed": "reject"}.get(kind, kind)
        if kind == "ack":
            assert reply["sequence"] > last
            last = reply["sequence"]


def test_sequences_rise_by_one_times_never_go_back_and_order_ids_are_unique(venue: Venue) -> None:
    account = venue.account()
    assets = ["ACME", "BTC-USD"] * 50
    acks = venue.entry.ask([venue.order(account, "buy", 10, 1000, asset=asset) for asset in assets])
    for asset in ("ACME", "BTC-USD"):
        sequences = [ack["sequence"] for ack in acks if ack["asset"] == asset]
        assert sequences == list(range(sequences[0], sequences[0] + 50))
    times = [ack["time"] for ack in acks]
    assert times == sorted(times)
    ids = [ack["order_id"] for ack in acks]
    assert len(set(ids)) == len(ids)
    assert ids == sorted(ids)


# -- echoes ------------------------------------------------------------------------------------------------------------

REQUEST_IDS = ["r", "x" * 36, " ~!\"'", 0, 1, -1, 2**63 - 1, -(2**63)]


@pytest.mark.parametrize("request_id", REQUEST_IDS)
def test_the_request_id_is_echoed_in_every_reply(venue: Venue, request_id: str | int) -> None:
    account, other = venue.account(), venue.account()
    order = venue.order(account, "buy", 10, 1000)
    named = {"account": account, "asset": "ACME", "client_order_id": order["client_order_id"]}
    requests: list[tuple[str, Message]] = [
        ("pong", {"type": "ping"}),
        ("ack", order),
        ("ack", {"type": "amend_order", "quantity": 20, **named}),
        ("reject", {"type": "cancel_order", **named, "account": other}),
        ("reject", {"type": "amend_order", **named}),
        ("reject", {"type": "new_order", "client_order_id": order["client_order_id"]}),
        ("reject", {"type": "open_the_doors"}),
        ("reject", {"kind": "ping"}),
    ]
    for expected, request in requests:
        reply = venue.entry.ask(request | {"request_id": request_id})
        assert (reply["type"], reply["request_id"]) == (expected, request_id)
        assert type(reply["request_id"]) is type(request_id)


@pytest.mark.parametrize(
    "request_id", ["", "x" * 37, "caf\u00e9", "tab\t", "nul\0", "line\n", 2**63, 1.0, True, None, [1], {}]
)
@pytest.mark.parametrize("kind", ["ping", "new_order", "amend_order", "cancel_order", "mass_cancel"])
def test_a_request_id_that_breaks_its_rule_is_malformed(venue: Venue, kind: str, request_id: Any) -> None:
    account = venue.account()
    order = venue.order(account, "buy", 10, 1000)
    named = {"account": account, "asset": "ACME", "client_order_id": venue.entry.ask(order)["client_order_id"]}
    request = {
        "ping": {},
        "new_order": venue.order(account, "buy", 10, 1000),
        "amend_order": {"quantity": 20, **named},
        "cancel_order": named,
        "mass_cancel": {"account": account},
    }[kind]
    reply = venue.entry.ask(request | {"type": kind, "request_id": request_id})
    assert (reply["type"], reply.get("request"), reply.get("reason")) == ("reject", kind, "malformed")
    assert "request_id" in reply["text"]
    assert len(reply["text"]) < 300


# -- repeats -----------------------------------------------------------------------------------------------------------


def test_a_repeated_new_order_gets_its_first_ack_again(venue: Venue) -> None:
    order = venue.order(venue.account(), "buy", 100, 1000)
    first = venue.entry.ask(order)
    assert "duplicate" not in first
    for request_id in ("again", 7):
        again = venue.entry.ask(order | {"request_id": request_id})
        assert again == first | {"duplicate": True, "request_id": request_id}
    venue.do("cancel_order", account=order["account"], asset="ACME", order_id=first["order_id"])
    assert venue.entry.ask(order) == first | {"duplicate": True}


@pytest.mark.parametrize(
    "other",
    [
        {"quantity": 110},
        {"price": 1005},
        {"side": "sell"},
        {"time_in_force": "ioc"},
        {"time_in_force": "fok"},
        {"asset": "BTC-USD"},
    ],
)
def test_a_client_order_id_with_other_content_is_refused(venue: Venue, other: Message) -> None:
    order = venue.order(venue.account(), "buy", 100, 1000)
    first = venue.entry.ask(order)
    reject = venue.entry.ask(order | other)
    assert (reject["type"], reject["reason"]) == ("reject", "duplicate_client_order_id")
    assert reject["client_order_id"] == order["client_order_id"]
    assert repr(order["client_order_id"]) in reject["text"]
    assert venue.entry.ask(order) == first | {"duplicate": True}


def test_accounts_share_no_client_order_ids(venue: Venue) -> None:
    order = venue.order(venue.account(), "buy", 100, 1000)
    mine, other = venue.entry.ask(order), venue.entry.ask(order | {"account": venue.account()})
    assert other["type"] == "ack"
    assert "duplicate" not in other
    assert other["order_id"] != mine["order_id"]


def repeatable(venue: Venue, kind: str, account: str) -> tuple[Message, Message]:
    """Return a request of that kind with a request_id, and the change that makes it another."""
    order = venue.enter(account, "buy", 100, 1000)
    named = {"account": account, "asset": "ACME", "order_id": order["order_id"], "type": kind, "request_id": "retry"}
    if kind == "amend_order":
        return named | {"quantity": 50}, {"quantity": 60}
    if kind == "cancel_order":
        return named, {"order_id": venue.enter(account, "buy", 100, 1000)["order_id"]}
    return {"type": kind, "account": account, "request_id": "retry"}, {"side": "sell"}


@pytest.mark.parametrize("kind", ["amend_order", "cancel_order", "mass_cancel"])
def test_a_repeated_request_id_gets_its_first_ack_again(venue: Venue, kind: str) -> None:
    request, change = repeatable(venue, kind, venue.account())
    first = venue.entry.ask(request)
    assert first["type"] == "ack"
    assert "duplicate" not in first
    assert venue.entry.ask(request) == first | {"duplicate": True}
    reject = venue.entry.ask(request | change)
    assert (reject["type"], reject["reason"]) == ("reject", "duplicate_client_order_id")
    assert "'retry'" in reject["text"]
    other_kind = {"type": "mass_cancel", "account": request["account"], "asset": "ACME", "request_id": "retry"}
    assert venue.entry.ask(other_kind)["reason"] == "duplicate_client_order_id"
    assert venue.entry.ask(request | {"request_id": "another"})["type"] == "ack"


def test_an_amend_and_a_cancel_without_request_id_are_taken_each_time(venue: Venue) -> None:
    account = venue.account()
    order = venue.enter(account, "buy", 100, 1000)
    named = {"account": account, "asset": "ACME", "order_id": order["order_id"]}
    sequences = [venue.do("cancel_order", **named)["sequence"] for _ in range(3)]
    assert sequences == list(range(order["sequence"] + 1, order["sequence"] + 4))


def test_a_refused_request_uses_up_no_id(venue: Venue) -> None:
    account = venue.account()
    order = venue.order(account, "buy", 100, 1000)
    assert venue.entry.ask(order | {"price": 1001})["reason"] == "invalid_price"
    entered = venue.entry.ask(order)
    assert entered["type"] == "ack"
    amend = {"type": "amend_order", "account": account, "asset": "ACME", "order_id": entered["order_id"]}
    assert venue.entry.ask(amend | {"quantity": 11, "request_id": 1})["reason"] == "invalid_quantity"
    assert "duplicate" not in venue.entry.ask(amend | {"quantity": 20, "request_id": 1})


@pytest.mark.parametrize("ending", ["stop", "kill"])
def test_ids_places_and_acks_outlive_the_order_handler(venue: Venue, ending: str) -> None:
    account = venue.account()
    order = venue.order(account, "buy", 100, 1000)
    entered = venue.entry.ask(order)
    venue.enter(account, "sell", 10, 2000, asset="BTC-USD")
    requests = {
        kind: repeatable(venue, kind, venue.account())[0] for kind in ("amend_order", "cancel_order", "mass_cancel")
    }
    first = {kind: venue.entry.ask(request) for kind, request in requests.items()}
    if ending == "stop":
        assert venue.order_handler.stop() == 0
    else:
        venue.order_handler.kill()
    venue.order_handler.start()
    assert venue.entry.ask(order) == entered | {"duplicate": True}
    for kind, request in requests.items():
        assert venue.entry.ask(request) == first[kind] | {"duplicate": True}
    assert venue.entry.ask(order | {"quantity": 90})["reason"] == "duplicate_client_order_id"
    after = venue.enter(account, "buy", 100, 1000)
    assert after["sequence"] == first["mass_cancel"]["sequences"]["ACME"] + 1
    assert after["order_id"] > max(entered["order_id"], first["cancel_order"]["order_id"])
    assert after["time"] >= first["mass_cancel"]["time"]


def test_what_was_acknowledged_survives_a_kill_in_the_middle_of_a_stream(venue: Venue) -> None:
    """The order handler is killed while orders pour in: whatever it acknowledged is there afterwards, once."""
    account = venue.account()
    orders = [venue.order(account, "buy", 10, 1000) for _ in range(3000)]
    peer = venue.peer()
    for order in orders:
        peer.send(order)
    acks = [peer.receive() for _ in range(500)]
    venue.order_handler.kill()
    while peer.answers(0.1):
        acks.append(peer.receive())
    peer.close()
    venue.order_handler.start()
    again = [venue.entry.ask(orders[start : start + 100]) for start in range(0, len(orders), 100)]
    replies = [reply for batch in again for reply in batch]
    for ack, reply in zip(acks, replies, strict=False):
        assert reply == ack | {"duplicate": True}
    assert {reply["type"] for reply in replies} == {"ack"}
    sequences = [reply["sequence"] for reply in replies]
    assert sequences == list(range(sequences[0], sequences[0] + len(orders)))
