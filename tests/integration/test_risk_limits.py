"""Risk limits over the wire: what each refuses, whom it leaves alone, and that no restart loses a count."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.outsider import Message, Venue
from tests.integration.outsider import venue as running_venue
from tests.support import wait_until

LIMITS = """
[[risk_limit]]
account = "big"
max_order_quantity = 100

[[risk_limit]]
account = "big"
asset = "BTC-USD"
max_order_quantity = 5

[[risk_limit]]
account = "rich"
max_order_notional = 100000

[[risk_limit]]
account = "many"
asset = "ACME"
max_open_orders = 3

[[risk_limit]]
account = "fast"
max_requests_per_second = 5
"""


@pytest.fixture(scope="module")
def shared_venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Venue]:
    with running_venue(tmp_path_factory.mktemp("risk-limits"), LIMITS) as venue:
        wait_until_counted(venue)
        yield venue


@pytest.fixture
def venue(shared_venue: Venue) -> Iterator[Venue]:
    yield shared_venue
    shared_venue.accounts += ["big", "rich", "many"]
    shared_venue.clear()
    wait_until_counted(shared_venue)


def try_to_enter(venue: Venue, account: str, price: int | None = 1000, quantity: int = 10, **more: Any) -> Message:
    """Send an order to buy, unless told otherwise, and return the ack or reject."""
    order = venue.order(account, "buy", quantity, price)
    reply: Message = venue.entry.ask(order | more)
    return reply


def wait_until_counted(venue: Venue) -> None:
    """Return when an order of the account that is counted is taken, and then canceled: its count is known."""

    def taken() -> Message | None:
        reply = try_to_enter(venue, "many", 5)
        return reply if reply["type"] == "ack" else None

    ack = wait_until(taken, "an order of the account whose orders are counted is taken")
    venue.do("cancel_order", account="many", asset="ACME", order_id=ack["order_id"])


def wait_until_taken(venue: Venue, price: int | None = 1000, **more: Any) -> Message:
    """Return the ack of an order of "many", tried until there is room for it."""

    def taken() -> Message | None:
        reply = try_to_enter(venue, "many", price, **more)
        assert reply["type"] == "ack" or reply["reason"] == "risk_limit", reply
        return reply if reply["type"] == "ack" else None

    ack: Message = wait_until(taken, "there is room for another open order")
    return ack


def fill_up(venue: Venue) -> list[Message]:
    """Enter orders of "many" until three are open, and return the acks."""
    acks = [wait_until_taken(venue) for _ in range(3)]
    assert try_to_enter(venue, "many")["reason"] == "risk_limit"
    return acks


# -- each limit --------------------------------------------------------------------------------------------------------


def test_an_order_above_the_quantity_is_refused_for_that_account_only(venue: Venue) -> None:
    reject = try_to_enter(venue, "big", quantity=110)
    assert (reject["type"], reject["reason"]) == ("reject", "risk_limit")
    assert reject["text"].startswith("max_order_quantity 100: quantity 110 is above what account big may enter")
    assert try_to_enter(venue, "big", quantity=100)["type"] == "ack"
    assert try_to_enter(venue, venue.account(), quantity=110)["type"] == "ack"
    assert venue.entry.ask(venue.order("big", "buy", 6, 1000, asset="BTC-USD"))["text"].startswith(
        "max_order_quantity 5:"
    )


def test_what_is_refused_was_not_taken_and_can_be_sent_again_otherwise(venue: Venue) -> None:
    order = venue.order("big", "buy", 110, 1000)
    assert venue.entry.ask(order)["reason"] == "risk_limit"
    ack = venue.entry.ask(order | {"quantity": 50})
    assert ack["type"] == "ack"
    assert "duplicate" not in ack
    assert venue.entry.ask(order | {"quantity": 50})["duplicate"] is True


def test_an_order_above_the_notional_is_refused_and_a_market_order_has_none(venue: Venue) -> None:
    reject = try_to_enter(venue, "rich", 1005, 100)
    assert reject["text"].startswith("max_order_notional 100000: price 1005 x quantity 100 = 100500 is above")
    assert try_to_enter(venue, "rich", 1000, 100)["type"] == "ack"
    assert venue.entry.ask(venue.order("rich", "sell", 1000, order_type="market"))["type"] == "ack"


def test_an_amend_keeps_the_limits_too(venue: Venue) -> None:
    big = venue.enter("big", "buy", 50, 1000)
    amend = {"type": "amend_order", "account": "big", "asset": "ACME", "order_id": big["order_id"]}
    assert venue.entry.ask(amend | {"quantity": 110})["reason"] == "risk_limit"
    assert venue.entry.ask(amend | {"quantity": 100})["type"] == "ack"
    rich = venue.enter("rich", "buy", 50, 1000)
    amend = {"type": "amend_order", "account": "rich", "asset": "ACME", "order_id": rich["order_id"]}
    assert venue.entry.ask(amend | {"quantity": 110})["text"].startswith(
        "max_order_notional 100000: price 1000 x quantity 110 = 110000 is above"
    )
    assert venue.entry.ask(amend | {"price": 2005})["reason"] == "risk_limit"
    assert venue.entry.ask(amend | {"quantity": 110, "price": 1000})["reason"] == "risk_limit"
    assert venue.entry.ask(amend | {"quantity": 40})["type"] == "ack"
    assert venue.entry.ask(amend | {"price": 1200})["type"] == "ack"
    assert venue.entry.ask(amend | {"quantity": 10, "price": 1500})["type"] == "ack"


def test_items_of_a_batch_are_judged_one_by_one(venue: Venue) -> None:
    orders = [venue.order("big", "buy", quantity, 1000) for quantity in (100, 110, 50)]
    replies = venue.entry.ask(orders)
    assert [reply["type"] for reply in replies] == ["ack", "reject", "ack"]


def test_more_requests_than_the_rate_are_refused_and_cancels_are_not(venue: Venue) -> None:
    replies = venue.entry.ask([venue.order("fast", "buy", 10, 1000) for _ in range(20)])
    refused = [reply for reply in replies if reply["type"] == "reject"]
    assert 10 <= len(refused) <= 15, "five at once, and what a slow machine's time allows"
    assert {reply["reason"] for reply in refused} == {"rate_limited"}
    assert refused[0]["text"].startswith("max_requests_per_second 5: account fast has sent that many within a second")
    assert try_to_enter(venue, venue.account())["type"] == "ack", "others are not disturbed"
    orders = [reply["order_id"] for reply in replies if reply["type"] == "ack"]
    cancel = {"type": "cancel_order", "account": "fast", "asset": "ACME"}
    cancels = [cancel | {"order_id": orders[number % len(orders)]} for number in range(20)]
    assert {reply["type"] for reply in venue.entry.ask(cancels)} == {"ack"}
    assert venue.entry.ask(type="mass_cancel", account="fast")["type"] == "ack"
    wait_until(lambda: try_to_enter(venue, "fast")["type"] == "ack", "the rate comes back")
    venue.do("mass_cancel", account="fast")


# -- open orders -------------------------------------------------------------------------------------------------------


def test_open_orders_come_free_again_as_they_are_canceled(venue: Venue) -> None:
    acks = fill_up(venue)
    reject = try_to_enter(venue, "many")
    assert reject["text"] == (
        "max_open_orders 3: account many has 3 orders open in ACME; cancel one, or wait until one has ended"
    )
    assert venue.entry.ask(venue.order("many", "buy", 10, 1000, asset="BTC-USD"))["type"] == "ack"
    assert try_to_enter(venue, venue.account())["type"] == "ack", "others are not disturbed"
    venue.do("cancel_order", account="many", asset="ACME", order_id=acks[0]["order_id"])
    wait_until_taken(venue)
    assert try_to_enter(venue, "many")["reason"] == "risk_limit"
    venue.do("mass_cancel", account="many")
    fill_up(venue)


def test_open_orders_come_free_again_as_others_trade_with_them(venue: Venue) -> None:
    fill_up(venue)
    venue.enter(venue.account(), "sell", 20, 1000, time_in_force="ioc")  # two of them, whole
    wait_until_taken(venue)
    wait_until_taken(venue)
    assert try_to_enter(venue, "many")["reason"] == "risk_limit"


def test_a_stop_that_waits_is_open_and_one_that_others_elect_comes_free(venue: Venue) -> None:
    for _ in range(3):
        wait_until_taken(venue, None, side="sell", order_type="stop", stop_price=800)
    assert try_to_enter(venue, "many", 5)["reason"] == "risk_limit"
    venue.enter(venue.account(), "buy", 10, 800)
    venue.enter(
        venue.account(), "sell", 10, 800, time_in_force="ioc"
    )  # elects them, and there is nobody left to trade with
    for _ in range(3):
        wait_until_taken(venue, 5)


def test_an_order_that_never_rests_holds_no_place(venue: Venue) -> None:
    wait_until_taken(venue)
    wait_until_taken(venue)
    for _ in range(20):
        wait_until_taken(venue, time_in_force="ioc")


# -- restarts ----------------------------------------------------------------------------------------------------------


def test_a_restart_of_any_daemon_loses_no_count(tmp_path: Path) -> None:
    with running_venue(tmp_path, LIMITS) as venue:
        wait_until_counted(venue)
        acks = fill_up(venue)
        matching = venue.matching["ACME"]

        venue.order_handler.kill()
        matching.kill()
        venue.order_handler.start()
        reject = try_to_enter(venue, "many")
        assert (reject["reason"], "is not known until its matching daemon has reported" in reject["text"]) == (
            "busy",
            True,
        )
        assert try_to_enter(venue, venue.account())["type"] == "ack", "who has no such limit is taken"
        cancel = {"type": "cancel_order", "account": "many", "asset": "ACME"}
        assert venue.entry.ask(cancel | {"order_id": acks[0]["order_id"]})["type"] == "ack"
        matching.start()
        wait_until(lambda: try_to_enter(venue, "many")["type"] == "ack", "the order handler knows the count")
        assert try_to_enter(venue, "many")["reason"] == "risk_limit", "two from before, and one"

        matching.kill()
        assert try_to_enter(venue, "many")["reason"] == "risk_limit"
        assert venue.entry.ask(cancel | {"order_id": acks[1]["order_id"]})["type"] == "ack"
        assert try_to_enter(venue, "many")["reason"] == "risk_limit", "not known to be canceled yet"
        matching.start()
        wait_until_taken(venue)
        assert try_to_enter(venue, "many")["reason"] == "risk_limit"

        venue.order_handler.kill()
        venue.order_handler.start()
        venue.do("cancel_order", account="many", asset="ACME", order_id=acks[2]["order_id"])
        wait_until(lambda: try_to_enter(venue, "many")["type"] == "ack", "the order handler knows the count")
        assert try_to_enter(venue, "many")["reason"] == "risk_limit"


def test_a_restart_of_the_order_handler_loses_no_price_nor_quantity(tmp_path: Path) -> None:
    with running_venue(tmp_path, LIMITS) as venue:
        entered = venue.enter("rich", "buy", 50, 1000)
        amended = venue.enter("rich", "buy", 50, 1000)
        amend = {"type": "amend_order", "account": "rich", "asset": "ACME"}
        venue.do("amend_order", account="rich", asset="ACME", order_id=amended["order_id"], price=1500)

        venue.order_handler.kill()
        venue.order_handler.start()
        assert venue.entry.ask(amend | {"order_id": entered["order_id"], "price": 2005})["reason"] == "risk_limit"
        assert venue.entry.ask(amend | {"order_id": entered["order_id"], "quantity": 100})["type"] == "ack"
        assert venue.entry.ask(amend | {"order_id": amended["order_id"], "quantity": 70})["reason"] == "risk_limit"
        assert venue.entry.ask(amend | {"order_id": amended["order_id"], "quantity": 60})["type"] == "ack"
        venue.settle()
        statuses = [
            venue.query.ask(type="order_status", account="rich", asset="ACME", order_id=order["order_id"])
            for order in (entered, amended)
        ]
        assert [(status["quantity"], status["price"]) for status in statuses] == [(100, 1000), (60, 1500)]


def test_limits_that_come_with_a_restart_of_the_order_handler_alone_are_kept(tmp_path: Path) -> None:
    with running_venue(tmp_path) as venue:
        for _ in range(3):
            venue.enter("many", "buy", 10, 1000)
        venue.settle()
        venue.order_handler.stop()
        settings = venue.config.folder / "exchange.toml"
        settings.write_text(settings.read_text() + LIMITS)
        venue.order_handler.start()

        def known() -> bool:
            return bool(try_to_enter(venue, "many")["reason"] == "risk_limit")

        wait_until(known, "the matching daemon was asked, and has counted")
        venue.do("mass_cancel", account="many")
        fill_up(venue)


def test_without_limits_nothing_is_counted(tmp_path: Path) -> None:
    with running_venue(tmp_path) as venue:
        replies = venue.entry.ask([venue.order("many", "buy", 1_000_000, 1000) for _ in range(100)])
        assert {reply["type"] for reply in replies} == {"ack"}
