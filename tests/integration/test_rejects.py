"""Every reason for which order entry refuses a request, with a text that names the value and the rule."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.outsider import Message, Venue
from tests.integration.outsider import venue as running_venue
from tests.support import running, wait_until

ASSETS = """
[[asset]]
asset = "ACME"
price_scale = 2
tick_size = 5
lot_size = 10
min_quantity = 20
max_quantity = 1000
min_price = 10
max_price = 5000
"""
REMOVED = object()
QUANTITY_RULE = ("multiple of the lot 10", "20", "1000")
PRICE_RULE = ("multiple of the tick 5", "10", "5000")
ID_RULE = ("1 to 36 printable ASCII characters",)


@pytest.fixture(scope="module")
def shared_venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Venue]:
    with running_venue(tmp_path_factory.mktemp("rejects"), assets=ASSETS) as venue:
        yield venue


@pytest.fixture
def venue(shared_venue: Venue) -> Iterator[Venue]:
    """The venue; whatever a test was refused, its asset's next place is the one after the last that was taken."""
    sequence = shared_venue.enter("watch", "buy", 20, 10, time_in_force="ioc")["sequence"]
    yield shared_venue
    assert shared_venue.enter("watch", "buy", 20, 10, time_in_force="ioc")["sequence"] == sequence + 1


def changed(message: Message, changes: Message) -> Message:
    """Return a message with changes; a key that is changed to REMOVED is left out."""
    return {key: value for key, value in (message | changes).items() if value is not REMOVED}


def refused(reply: Any, request: str | None, reason: str, *text: str) -> Message:
    """Return a reject after checking that it is one of that kind whose text has those parts."""
    assert isinstance(reply, dict)
    assert (reply["type"], reply.get("request"), reply["reason"]) == ("reject", request, reason), reply
    for part in text:
        assert part in reply["text"], f"{part!r} is missing in {reply['text']!r}"
    assert len(reply["text"]) < 500
    assert reply.keys() <= {"type", "request", "reason", "text", "client_order_id", "request_id"}
    return reply


NEW_ORDER_REJECTS: list[tuple[str, Message, tuple[str, ...]]] = [
    # not the message that it says it is
    ("malformed", {"client_order_id": REMOVED}, ("client_order_id",)),
    ("malformed", {"client_order_id": ""}, ("client_order_id ''", *ID_RULE)),
    ("malformed", {"client_order_id": "x" * 37}, ("x" * 37, *ID_RULE)),
    ("malformed", {"client_order_id": "nul\0"}, ("'nul\\x00'", *ID_RULE)),
    ("malformed", {"client_order_id": "line\n"}, ("'line\\n'", *ID_RULE)),
    ("malformed", {"client_order_id": "caf\u00e9"}, ("caf\u00e9", *ID_RULE)),
    ("malformed", {"client_order_id": 7}, ("client_order_id 7", "`str`", "`int`")),
    ("malformed", {"client_order_id": b"bytes"}, ("client_order_id b'bytes'", "`str`", "`bytes`")),
    ("malformed", {"asset": REMOVED}, ("asset",)),
    ("malformed", {"asset": None}, ("asset None", "`str`")),
    ("malformed", {"account": REMOVED}, ("account", "is missing")),
    ("malformed", {"account": ""}, ("account ''", "1 to 32 characters of a-z 0-9 _ -")),
    ("malformed", {"account": "Alice"}, ("'Alice'", "1 to 32 characters of a-z 0-9 _ -")),
    ("malformed", {"account": "a/b"}, ("'a/b'", "1 to 32 characters of a-z 0-9 _ -")),
    ("malformed", {"account": "a\n"}, ("'a\\n'", "1 to 32 characters of a-z 0-9 _ -")),
    ("malformed", {"account": "a" * 33}, ("a" * 33, "1 to 32 characters of a-z 0-9 _ -")),
    ("malformed", {"account": 1}, ("account 1", "`str`", "`int`")),
    ("malformed", {"side": REMOVED}, ("side",)),
    ("malformed", {"side": "hold"}, ("side 'hold'", "buy, sell")),
    ("malformed", {"side": 1}, ("side 1",)),
    ("invalid_quantity", {"quantity": REMOVED}, ("quantity", "missing")),
    ("malformed", {"quantity": None}, ("quantity None", "`int`")),
    ("malformed", {"quantity": 20.0}, ("quantity 20.0", "`int`", "`float`")),
    ("malformed", {"quantity": "20"}, ("quantity '20'", "`int`", "`str`")),
    ("malformed", {"quantity": True}, ("quantity True", "`int`", "`bool`")),
    ("malformed", {"price": 100.0}, ("price 100.0", "`int`", "`float`")),
    ("malformed", {"price": False}, ("price False", "`int`", "`bool`")),
    ("malformed", {"price": None}, ("price None", "`int`")),
    ("malformed", {"price": [100]}, ("price [100]", "`int`", "`array`")),
    ("malformed", {"order_type": "iceberg"}, ("order_type 'iceberg'", "limit, market, stop, stop_limit")),
    ("malformed", {"time_in_force": "gtx"}, ("time_in_force 'gtx'", "gtc, ioc, fok, day, gtd")),
    ("malformed", {"post_only": 1}, ("post_only 1", "`bool`", "`int`")),
    ("malformed", {"self_trade_prevention": "none"}, ("'none'", "cancel_newest, cancel_oldest")),
    ("malformed", {"leverage": 10}, ("leverage",)),
    # no such asset
    ("unknown_asset", {"asset": "EMCA"}, ("'EMCA'", "ACME")),
    ("unknown_asset", {"asset": ""}, ("''", "ACME")),
    ("unknown_asset", {"asset": "acme"}, ("'acme'", "ACME")),
    ("unknown_asset", {"asset": "../../etc/passwd"}, ("'../../etc/passwd'", "ACME")),
    ("unknown_asset", {"asset": "A" * 10_000}, ("'AAAA", "ACME")),
    # quantity
    ("invalid_quantity", {"quantity": 0}, ("quantity 0", *QUANTITY_RULE)),
    ("invalid_quantity", {"quantity": -20}, ("quantity -20", *QUANTITY_RULE)),
    ("invalid_quantity", {"quantity": 10}, ("quantity 10", *QUANTITY_RULE)),
    ("invalid_quantity", {"quantity": 25}, ("quantity 25", *QUANTITY_RULE)),
    ("invalid_quantity", {"quantity": 1010}, ("quantity 1010", *QUANTITY_RULE)),
    ("invalid_quantity", {"quantity": 2**63 - 1}, (str(2**63 - 1), *QUANTITY_RULE)),
    ("invalid_quantity", {"quantity": 2**63}, (str(2**63), *QUANTITY_RULE)),
    ("invalid_quantity", {"quantity": 2**64 - 1}, (str(2**64 - 1), *QUANTITY_RULE)),
    ("invalid_quantity", {"quantity": -(2**63)}, (str(-(2**63)), *QUANTITY_RULE)),
    # price
    ("invalid_price", {"price": REMOVED}, ("price", "is missing", "limit order")),
    ("invalid_price", {"price": 0}, ("price 0", *PRICE_RULE)),
    ("invalid_price", {"price": -100}, ("price -100", *PRICE_RULE)),
    ("invalid_price", {"price": 101}, ("price 101", *PRICE_RULE)),
    ("invalid_price", {"price": 5}, ("price 5", *PRICE_RULE)),
    ("invalid_price", {"price": 5005}, ("price 5005", *PRICE_RULE)),
    ("invalid_price", {"price": 2**64 - 1}, (str(2**64 - 1), *PRICE_RULE)),
    ("invalid_price", {"price": -(2**63)}, (str(-(2**63)), *PRICE_RULE)),
    ("invalid_price", {"order_type": "market"}, ("price 100", "market order takes no price")),
    ("invalid_price", {"order_type": "market", "price": 0}, ("price 0", "market order takes no price")),
    ("invalid_price", {"stop_price": 100}, ("stop_price 100", "limit order")),
    ("invalid_price", {"stop_price": 100, "order_type": "market", "price": REMOVED}, ("stop_price 100", "market")),
    ("invalid_price", {"order_type": "stop", "price": REMOVED}, ("stop_price", "is missing", "stop order")),
    ("invalid_price", {"order_type": "stop", "stop_price": 100}, ("price 100", "stop order takes no price")),
    ("invalid_price", {"order_type": "stop_limit", "stop_price": 101}, ("stop_price 101", *PRICE_RULE)),
    ("invalid_price", {"order_type": "stop_limit", "stop_price": 100, "price": REMOVED}, ("price", "is missing")),
    # what it says beyond that
    ("malformed", {"display_quantity": 10.0}, ("display_quantity 10.0", "`int`", "`float`")),
    ("invalid_quantity", {"display_quantity": 20}, ("display_quantity 20", "below the order's quantity 20")),
    ("invalid_quantity", {"display_quantity": 0}, ("display_quantity 0", "above 0")),
    ("invalid_quantity", {"min_quantity": 30}, ("min_quantity 30", "at most the order's quantity 20")),
    ("invalid_quantity", {"min_quantity": 15}, ("min_quantity 15", "multiple of the lot 10")),
    ("malformed", {"time_in_force": "gtd", "expire_time": 2**63}, (f"expire_time {2**63}", "64 bits")),
    # combinations that are not taken: each is named
    ("unsupported", {"time_in_force": "gtd"}, ("gtd without expire_time",)),
    ("unsupported", {"time_in_force": "gtd", "expire_time": 1}, ("gtd with expire_time 1", "later than now")),
    ("unsupported", {"expire_time": 2**62}, (f"expire_time {2**62} with time_in_force gtc", "only gtd")),
    ("unsupported", {"post_only": True, "time_in_force": "ioc"}, ("post_only with time_in_force ioc",)),
    (
        "unsupported",
        {"display_quantity": 10, "order_type": "market", "price": REMOVED},
        ("display_quantity with order_type market",),
    ),
    ("unsupported", {"min_quantity": 20, "time_in_force": "fok"}, ("min_quantity with time_in_force fok",)),
]


@pytest.mark.parametrize(("reason", "changes", "text"), NEW_ORDER_REJECTS)
def test_a_new_order_is_refused(venue: Venue, reason: str, changes: Message, text: tuple[str, ...]) -> None:
    order = changed(venue.order(venue.account(), "buy", 20, 100, request_id="which"), changes)
    for reply in (venue.entry.ask(order), venue.entry.ask([order])[0]):
        reject = refused(reply, "new_order", reason, *text)
        assert reject["request_id"] == "which"
        client_order_id = order.get("client_order_id")
        if isinstance(client_order_id, str) and len(client_order_id) <= 36:
            assert reject["client_order_id"] == client_order_id


CHANGE_REJECTS: list[tuple[str, str, Message, tuple[str, ...]]] = [
    ("amend_order", "malformed", {"quantity": REMOVED}, ("at least one of quantity, price and stop_price",)),
    ("amend_order", "malformed", {"quantity": 20.5}, ("quantity 20.5", "`int`", "`float`")),
    ("amend_order", "malformed", {"quantity": None}, ("quantity None",)),
    ("amend_order", "malformed", {"side": "buy"}, ("side",)),
    ("amend_order", "invalid_quantity", {"quantity": 0}, ("quantity 0", *QUANTITY_RULE)),
    ("amend_order", "invalid_quantity", {"quantity": -20}, ("quantity -20", *QUANTITY_RULE)),
    ("amend_order", "invalid_quantity", {"quantity": 1010}, ("quantity 1010", *QUANTITY_RULE)),
    ("amend_order", "invalid_price", {"price": 0}, ("price 0", *PRICE_RULE)),
    ("amend_order", "invalid_price", {"price": 102}, ("price 102", *PRICE_RULE)),
    ("amend_order", "invalid_price", {"price": 2**63}, (str(2**63), *PRICE_RULE)),
    ("amend_order", "invalid_price", {"stop_price": 100}, ("stop_price 100", "limit order")),
    ("cancel_order", "malformed", {"quantity": 20}, ("quantity",)),
]
BOTH_REJECTS: list[tuple[str, Message, tuple[str, ...]]] = [
    ("malformed", {"account": REMOVED}, ("account", "is missing")),
    ("malformed", {"account": "Alice"}, ("'Alice'", "a-z 0-9 _ -")),
    ("malformed", {"asset": REMOVED}, ("asset",)),
    ("malformed", {"order_id": REMOVED}, ("needs order_id or client_order_id",)),
    ("malformed", {"order_id": "1"}, ("order_id '1'", "`int`", "`str`")),
    ("malformed", {"order_id": 1.0}, ("order_id 1.0", "`int`", "`float`")),
    ("malformed", {"client_order_id": "\0"}, ("client_order_id", *ID_RULE)),
    ("malformed", {"client_order_id": ""}, ("client_order_id ''", *ID_RULE)),
    ("unknown_asset", {"asset": "NONE"}, ("'NONE'", "ACME")),
    ("unknown_order", {"order_id": 0}, ("order_id 0", "ACME")),
    ("unknown_order", {"order_id": -1}, ("order_id -1", "ACME")),
    ("unknown_order", {"order_id": 10**6}, ("order_id 1000000", "ACME")),
    ("unknown_order", {"order_id": 2**64 - 1}, (f"order_id {2**64 - 1}", "ACME")),
    ("unknown_order", {"order_id": REMOVED, "client_order_id": "no such"}, ("'no such'",)),
    ("unknown_order", {"client_order_id": "no such"}, ("'no such'",)),
    ("unknown_order", {"account": "nobody"}, ("nobody", "never had such an order")),
]
for reason, changes, text in BOTH_REJECTS:
    CHANGE_REJECTS += [(kind, reason, changes, text) for kind in ("amend_order", "cancel_order")]


@pytest.fixture(scope="module")
def resting(shared_venue: Venue) -> tuple[str, Message]:
    """An account, and the ack of its order that rests throughout."""
    return "owner", shared_venue.enter("owner", "buy", 20, 100)


@pytest.mark.parametrize(("kind", "reason", "changes", "text"), CHANGE_REJECTS)
def test_a_change_of_an_order_is_refused(
    venue: Venue, resting: tuple[str, Message], kind: str, reason: str, changes: Message, text: tuple[str, ...]
) -> None:
    account, order = resting
    request = {"type": kind, "account": account, "asset": "ACME", "order_id": order["order_id"], "request_id": -5}
    if kind == "amend_order":
        request["quantity"] = 20
    reject = refused(venue.entry.ask(changed(request, changes)), kind, reason, *text)
    assert reject["request_id"] == -5


def test_nobody_reaches_another_accounts_order(venue: Venue, resting: tuple[str, Message]) -> None:
    account, order = resting
    stranger = venue.account()
    for kind, more in (("amend_order", {"quantity": 40}), ("cancel_order", {})):
        for key in ("order_id", "client_order_id"):
            request = {"type": kind, "asset": "ACME", key: order[key], **more}
            reply = venue.entry.ask(request | {"account": stranger})
            refused(reply, kind, "unknown_order", str(order[key]), stranger)
    status = {"type": "order_status", "asset": "ACME", "order_id": order["order_id"]}
    wait_until(
        lambda: venue.query.ask(status | {"account": account}).get("order_status") == "new", "the owner sees the order"
    )
    assert venue.query.ask(status | {"account": stranger})["reason"] == "unknown_order"


@pytest.mark.parametrize(
    ("reason", "changes", "text"),
    [
        ("malformed", {"account": REMOVED}, ("account", "is missing")),
        ("malformed", {"account": "No One"}, ("'No One'", "a-z 0-9 _ -")),
        ("malformed", {"side": "both"}, ("side 'both'", "buy, sell")),
        ("malformed", {"order_id": 1}, ("order_id",)),
        ("malformed", {"asset": None}, ("asset None",)),
        ("unknown_asset", {"asset": "NONE"}, ("'NONE'", "ACME")),
    ],
)
def test_a_mass_cancel_is_refused(venue: Venue, reason: str, changes: Message, text: tuple[str, ...]) -> None:
    request = {"type": "mass_cancel", "account": "owner", "side": "sell"}
    refused(venue.entry.ask(changed(request, changes)), "mass_cancel", reason, *text)


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({}, ("type",)),
        ({"type": None}, ("type None",)),
        ({"type": 1}, ("type 1",)),
        ({"type": "place_order"}, ("type 'place_order'", "cancel_order, mass_cancel, session, cancel_all_after, ping")),
        ({"type": "Ping"}, ("type 'Ping'", "ping")),
        ({"TYPE": "ping"}, ("type",)),
        (7, ("`int`",)),
        ("ping", ("`str`",)),
        (None, ("`None`",)),
        (True, ("`bool`",)),
        (1.5, ("`float`",)),
        (b"ping", ("`bytes`",)),
    ],
)
def test_what_is_no_request_is_refused(venue: Venue, request_: Any, text: tuple[str, ...]) -> None:
    refused(venue.entry.ask(request_), None, "malformed", *text)


def test_a_ping_takes_nothing_but_an_account_and_a_request_id(venue: Venue) -> None:
    refused(venue.entry.ask(type="ping", asset="ACME"), "ping", "malformed", "asset")
    refused(venue.entry.ask(type="ping", account="Owner"), "ping", "malformed", "account 'Owner'")


def test_the_reject_of_an_unknown_key_says_which_there_are(venue: Venue) -> None:
    order = venue.order("ann", "buy", 20, 10)
    text = refused(venue.entry.ask(order | {"display": 10}), "new_order", "malformed", "`display`")["text"]
    keys = text.split("; new_order takes ")[1].split(", ")
    assert {*order.keys() - {"type"}, "display_quantity", "price"} <= set(keys)
    (reply,) = venue.entry.ask([{"type": "mass_cancel", "account": "ann", "symbol": "ACME"}])
    refused(reply, "mass_cancel", "malformed", "`symbol`; mass_cancel takes request_id, asset, side, account")
    query = venue.query.ask(type="trades", asset="ACME", count=5)
    refused(query, "trades", "malformed", "`count`; trades takes request_id, asset, limit")


@pytest.mark.parametrize("type_", [[], {}, ["ping"], b"ping", None, 7, "pong"])
def test_of_a_request_of_no_type_no_keys_are_told(venue: Venue, type_: Any) -> None:
    assert " takes " not in refused(venue.entry.ask(type=type_, x=1), None, "malformed", "type")["text"]


def test_a_client_order_id_is_used_once(venue: Venue, resting: tuple[str, Message]) -> None:
    account, order = resting
    again = venue.order(account, "buy", 40, 100, client_order_id=order["client_order_id"])
    reply = venue.entry.ask(again)
    reject = refused(reply, "new_order", "duplicate_client_order_id", order["client_order_id"], str(order["order_id"]))
    assert reject["client_order_id"] == order["client_order_id"]


# -- the exchange's bounds ---------------------------------------------------------------------------------------------


def test_above_the_backlogs_bound_the_asset_is_busy_until_its_matching_daemon_is_back(tmp_path: Path) -> None:
    venue = Venue(tmp_path, "[limits]\nmax_backlog = 20")
    try:
        with running(venue.order_handler):
            room = 20 - 1  # the asset's definition waits too
            replies = venue.entry.ask([venue.order("alice", "buy", 10, 1000) for _ in range(room + 5)])
            assert [reply["type"] for reply in replies] == ["ack"] * room + ["reject"] * 5
            for reply in replies[room:]:
                refused(reply, "new_order", "busy", "ACME", "20", "try again")
            named = {"account": "alice", "asset": "ACME", "order_id": replies[0]["order_id"]}
            refused(venue.entry.ask(type="cancel_order", **named), "cancel_order", "busy", "20")
            refused(venue.entry.ask(type="amend_order", quantity=20, **named), "amend_order", "busy", "20")
            refused(venue.entry.ask(type="mass_cancel", account="alice"), "mass_cancel", "busy", "20")
            other = venue.enter("alice", "buy", 10, 1000, asset="BTC-USD")
            assert other["sequence"] == 2, "the other asset goes on, and was not touched by the mass cancel"
            venue.order_handler.kill()
            venue.order_handler.start()
            order = venue.order("alice", "buy", 10, 1000)
            refused(venue.entry.ask(order), "new_order", "busy", "20")
            with running(*venue.matching.values()):
                while (reply := venue.entry.ask(order))["type"] == "reject":
                    refused(reply, "new_order", "busy", "20")
                    assert all(daemon.alive for daemon in venue.matching.values())
                assert reply["sequence"] == room + 2, "nothing that was refused has a place"
    finally:
        venue.context.destroy(linger=0)


def test_when_no_more_ids_can_be_remembered_the_exchange_is_busy(tmp_path: Path) -> None:
    venue = Venue(tmp_path, "[limits]\nmax_remembered_ids = 3")
    try:
        with running(venue.order_handler):
            order = venue.order("alice", "buy", 10, 1000)
            entered = venue.entry.ask(order)
            named = {"account": "alice", "asset": "ACME", "order_id": entered["order_id"]}
            amend = {"type": "amend_order", "quantity": 20, "request_id": 1, **named}
            amended = venue.entry.ask(amend)
            assert venue.entry.ask(type="mass_cancel", account="alice", request_id=2)["type"] == "ack"
            again = venue.order("alice", "buy", 10, 1000)
            refused(venue.entry.ask(again), "new_order", "busy", "3 ids")
            cancel = {"type": "cancel_order", **named}
            refused(venue.entry.ask(cancel | {"request_id": 3}), "cancel_order", "busy", "3 ids")
            assert venue.entry.ask(order) == entered | {"duplicate": True}
            assert venue.entry.ask(amend) == amended | {"duplicate": True}
            assert venue.entry.ask(cancel)["type"] == "ack", "what needs no id to be remembered is taken"
    finally:
        venue.context.destroy(linger=0)
