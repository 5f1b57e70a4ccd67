"""Order entry: what an asset takes in each trading status, and what the exchange does of itself (rule 18)."""

from typing import Any

import pytest
from msgspec import UNSET

from exchange.core import messages, requests
from exchange.core.asset import Asset, ScheduledChange, Status
from exchange.core.messages import AmendOrder, CancelOrder, MassCancel
from exchange.core.request_checks import Rejection
from exchange.core.requests import ChangeStatus, DefineAsset, Delist, Expire, Record
from tests.entry import ACME, BTC, Entry, new_order

DAILY = Asset(asset="DAILY", schedule=(ScheduledChange("09:00", "open"), ScheduledChange("17:00", "closed")))


def status(entry: Entry, asset: str = "ACME") -> Status:
    return entry.order_entry.queues[asset].status.status


def request(record: Record | None) -> requests.Request:
    assert record is not None
    return record.request


# -- what is taken -----------------------------------------------------------------------------------------------------

MARKET: dict[str, Any] = {"order_type": "market", "price": UNSET}
STOP: dict[str, Any] = {"order_type": "stop", "price": UNSET, "stop_price": 100}
STOP_LIMIT: dict[str, Any] = {"order_type": "stop_limit", "stop_price": 100}
IN_A_CALL = [
    ({}, True),
    ({"time_in_force": "day"}, True),
    ({"time_in_force": "gtd", "expire_time": 10**9}, True),
    ({"post_only": True}, True),
    ({"min_quantity": 10}, True),
    ({"time_in_force": "ioc"}, False),
    ({"time_in_force": "fok"}, False),
    (MARKET, False),
    (MARKET | {"time_in_force": "fok"}, False),
    (STOP, True),
    (STOP | {"time_in_force": "fok"}, True),
    (STOP_LIMIT | {"time_in_force": "ioc"}, True),
]


@pytest.mark.parametrize(("changes", "is_taken"), IN_A_CALL)
def test_a_call_takes_what_can_wait_for_its_auction(changes: dict[str, Any], is_taken: bool) -> None:
    entry = Entry()
    entry.change_status("ACME", "call")
    if is_taken:
        entry.ack(new_order(**changes))
    else:
        assert entry.reject(new_order(**changes))[0] == "market_closed"
    entry.change_status("ACME", "open")
    assert entry.ack(new_order(**changes)).duplicate == is_taken


def test_what_a_call_does_not_take_is_named() -> None:
    entry = Entry()
    entry.change_status("ACME", "call")
    assert entry.reject(new_order(time_in_force="ioc")) == (
        "market_closed",
        "asset ACME: is in a call, which takes no limit order with time_in_force ioc: nothing trades before its "
        "auction; send it when the asset is open",
    )


@pytest.mark.parametrize(
    ("now", "reason", "text"),
    [
        ("closed", "market_closed", "asset ACME: is closed, and takes cancels only; send it at the next call"),
        ("halted", "halted", "asset ACME: is halted, and takes cancels only; send it when the halt is over"),
    ],
)
def test_a_closed_or_halted_asset_takes_cancels_only(now: Status, reason: str, text: str) -> None:
    entry = Entry()
    amend = AmendOrder(asset="ACME", order_id=1, price=105, account="ann", request_id="r")
    entry.ack(new_order("a"))
    entry.ack(amend)
    entry.change_status("ACME", now)
    for each in (entry, entry.restored()):
        assert each.reject(new_order("b")) == (reason, text)
        assert each.reject(new_order("b", **STOP)) == (reason, text)
        assert each.reject(AmendOrder(asset="ACME", order_id=1, price=100, account="ann")) == (reason, text)
        assert each.ack(new_order("a")).duplicate, "what was taken before is known"
        assert each.ack(amend).duplicate
        each.ack(CancelOrder(asset="ACME", order_id=1, account="ann"))
        each.ack(MassCancel(asset="ACME", account="ann"))
        each.ack(MassCancel(account="ann"))
        assert each.ack(new_order("other", asset="BTC-USD")).order_id == 2


def test_a_mistake_in_an_order_is_told_whatever_the_status() -> None:
    entry = Entry()
    entry.change_status("ACME", "closed")
    assert entry.reject(new_order(price=101))[0] == "invalid_price"
    assert entry.reject(new_order(post_only=True, time_in_force="ioc"))[0] == "unsupported"


def test_an_asset_is_closed_at_first_where_it_has_a_schedule_and_else_open() -> None:
    entry = Entry(ACME, DAILY)
    for each in (entry, entry.restored()):
        assert (status(each), status(each, "DAILY")) == ("open", "closed")


# -- what the matching daemon reports ----------------------------------------------------------------------------------


def test_an_interruption_is_known_from_the_matching_daemons_report() -> None:
    entry = Entry()
    entry.ack(new_order("a"))
    entry.order_entry.note_status("ACME", 2, "call", 2, 9000)
    known = entry.order_entry.queues["ACME"].status
    assert (known.status, known.call, known.call_ends) == ("call", 2, 9000)
    assert entry.reject(new_order("b", **MARKET))[0] == "market_closed"
    entry.order_entry.note_status("ACME", 3, "open", 0, 0)
    entry.ack(new_order("b", **MARKET))
    entry.order_entry.note_status("NONE", 3, "open", 0, 0)


def test_a_report_does_not_count_where_a_later_change_was_taken() -> None:
    entry = Entry()
    entry.ack(new_order("a"))
    entry.change_status("ACME", "halted")
    entry.order_entry.note_status("ACME", 2, "call", 2, 9000)
    assert status(entry) == "halted"
    entry.order_entry.note_status("ACME", 3, "halted", 0, 0)
    assert status(entry) == "halted"


def test_nor_does_one_of_a_daemon_that_rebuilds_its_book() -> None:
    entry = Entry()
    entry.order_entry.note_status("ACME", 5, "call", 5, 9000)
    entry.order_entry.note_status("ACME", 1, "open", 0, 0)
    assert status(entry) == "call"


# -- changes of status -------------------------------------------------------------------------------------------------


def test_a_change_of_status_takes_its_place_in_the_queue() -> None:
    entry = Entry()
    entry.ack(new_order("a"))
    assert entry.change_status("ACME", "call", "auction") == Record(
        "ACME", 3, 1000, "", ChangeStatus("call", "auction", by="root")
    )
    assert entry.order_entry.queues["ACME"].status.call == 3
    assert request(entry.change_status("ACME", "open", "schedule", by="", scheduled_time=900)) == ChangeStatus(
        "open", "schedule", scheduled_time=900
    )
    assert entry.ack(new_order("b")).sequence == 5


def test_where_nothing_would_change_nothing_is_taken() -> None:
    entry = Entry()
    assert entry.change_status("ACME", "open") is None
    assert entry.change_status("ACME", "open", "schedule", by="") is None
    first = entry.change_status("ACME", "call")
    second = entry.change_status("ACME", "call")
    assert first is not None
    assert second is not None
    assert entry.order_entry.queues["ACME"].status.call == second.sequence, "a call that begins anew has another number"
    assert entry.change_status("ACME", "closed") is not None
    assert entry.change_status("ACME", "closed") is None


def test_the_end_of_a_call_is_always_taken_and_ends_that_call_only() -> None:
    entry = Entry()
    call = entry.change_status("ACME", "call")
    assert call is not None
    assert entry.change_status("ACME", "open", "call_over", by="", call=call.sequence - 1) is not None
    assert status(entry) == "call"
    assert entry.change_status("ACME", "open", "call_over", by="", call=call.sequence) is not None
    assert status(entry) == "open"
    assert entry.change_status("ACME", "open", "call_over", by="", call=call.sequence) is not None
    assert (status(entry), status(entry.restored())) == ("open", "open")


def test_the_end_of_an_interruption_is_no_way_around_a_halt() -> None:
    entry = Entry()
    entry.ack(new_order("a"))
    entry.order_entry.note_status("ACME", 2, "call", 2, 9000)
    entry.change_status("ACME", "halted")
    entry.change_status("ACME", "open", "call_over", by="", call=2)
    assert (status(entry), status(entry.restored())) == ("halted", "halted")


def test_closing_an_asset_that_has_sessions_ends_its_day() -> None:
    entry = Entry(ACME, DAILY)
    entry.change_status("DAILY", "open")
    assert request(entry.change_status("DAILY", "closed")) == ChangeStatus(
        "closed", "operator", ends_day=True, by="root"
    )
    assert request(entry.change_status("ACME", "closed")) == ChangeStatus("closed", "operator", by="root")


def test_the_schedule_can_only_close_what_an_operator_has_halted() -> None:
    entry = Entry(ACME, DAILY)
    entry.change_status("DAILY", "halted")
    for each in (entry, entry.restored()):
        assert each.change_status("DAILY", "open", "schedule", by="") is None
        assert each.change_status("DAILY", "call", "schedule", by="") is None
        assert each.change_status("DAILY", "closed", "schedule", by="") is not None
        assert each.change_status("DAILY", "open", "schedule", by="") is None, "the halt stands over night"
        assert each.change_status("DAILY", "closed") is not None, "an operator ends it, although it is closed already"
        assert each.change_status("DAILY", "open", "schedule", by="") is not None


def test_a_halt_of_the_schedule_becomes_the_operators() -> None:
    entry = Entry()
    entry.change_status("ACME", "halted", "schedule", by="")
    assert entry.change_status("ACME", "halted") is not None
    assert entry.change_status("ACME", "open", "schedule", by="") is None
    assert entry.change_status("ACME", "call") is not None
    assert entry.change_status("ACME", "open", "schedule", by="") is not None


# -- other acts --------------------------------------------------------------------------------------------------------


def test_an_expiry_takes_its_place_in_the_queue() -> None:
    entry = Entry()
    assert entry.order_entry.expire("ACME") == Record("ACME", 2, 1000, "", Expire())
    assert entry.order_entry.expire("ACME", day=True) == Record("ACME", 3, 1000, "", Expire(True))
    entry.write()
    assert entry.restored().ack(new_order("a")).sequence == 4


def test_a_delisted_asset_takes_nothing_until_an_operator_lists_it_again() -> None:
    entry = Entry()
    entry.ack(new_order("a"))
    assert entry.order_entry.delist("ACME", by="root") == Record("ACME", 3, 1000, "", Delist("root"))
    entry.write()
    for each in (entry, entry.restored()):
        assert not each.define(ACME), "the configuration does not bring it back"
        assert each.reject(new_order("b"))[0] == "unknown_asset"
        assert each.reject(CancelOrder(asset="ACME", order_id=1, account="ann"))[0] == "unknown_asset"
        assert each.ack(new_order("a")).duplicate
        assert each.define(ACME, by="root"), "although it is the same as before: the matching daemon is to know"
        assert each.journal[-1].request == DefineAsset(ACME, "root")
        assert each.ack(new_order("b")).sequence == 5


def test_an_asset_that_is_listed_again_begins_as_a_new_one() -> None:
    entry = Entry(ACME, DAILY)
    for asset in ("ACME", "DAILY"):
        entry.change_status(asset, "halted")
        entry.order_entry.delist(asset, by="root")
        entry.write()
    entry.define(ACME, by="root")
    entry.define(DAILY, by="root")
    assert (status(entry), status(entry, "DAILY")) == ("open", "closed")
    assert entry.change_status("DAILY", "open", "schedule", by="") is not None, "the halt is over"


def test_a_changed_definition_leaves_the_status_as_it_is() -> None:
    entry = Entry()
    entry.change_status("ACME", "halted")
    entry.define(Asset(asset="ACME", price_scale=2))
    assert (status(entry), status(entry.restored())) == ("halted", "halted")


def test_an_act_on_an_asset_that_is_not_listed_is_refused() -> None:
    entry = Entry()
    entry.order_entry.queues["BTC-USD"].listed = False
    for asset in ("NONE", "BTC-USD"):
        with pytest.raises(Rejection, match="not traded here"):
            entry.order_entry.change_status(asset, "halted", "operator", by="root")
        with pytest.raises(Rejection, match="not traded here"):
            entry.order_entry.expire(asset)
        with pytest.raises(Rejection, match="not traded here"):
            entry.order_entry.delist(asset, by="root")
        with pytest.raises(Rejection, match="not traded here"):
            entry.order_entry.cancel_account("ann", [asset], "operator")
    assert entry.order_entry.records == []


def test_an_act_waits_for_room_on_disk_and_not_for_the_backlog() -> None:
    entry = Entry(max_backlog=1)
    entry.change_status("ACME", "halted")
    entry.change_status("ACME", "open")
    entry.room = 0
    with pytest.raises(Rejection, match="no room on disk"):
        entry.order_entry.change_status("ACME", "halted", "operator", by="root")
    with pytest.raises(Rejection, match="no room on disk"):
        entry.define(Asset(asset="NEW"), by="root")
    assert status(entry) == "open"
    assert "NEW" not in entry.order_entry.queues


# -- canceling for an account ------------------------------------------------------------------------------------------


def test_an_account_is_canceled_where_it_had_orders_as_one_group() -> None:
    entry = Entry(ACME, BTC, DAILY)
    entry.ack(new_order("a", asset="BTC-USD"))
    entry.ack(new_order("b"))
    entry.ack(new_order("c"))
    entry.change_status("DAILY", "open")
    entry.ack(new_order("d", asset="DAILY", account="bob"))
    for each in (entry, entry.restored()):
        records = each.order_entry.cancel_account("ann", None, "disconnected")
        assert [(record.asset, record.account, record.request) for record in records] == [
            ("ACME", "ann", requests.MassCancel(0, None, True, 1, 2, reason="disconnected")),
            ("BTC-USD", "ann", requests.MassCancel(0, None, True, 2, 2, reason="disconnected")),
        ]
        assert each.order_entry.records == records
        each.write()


def test_an_account_is_canceled_in_some_assets() -> None:
    entry = Entry()
    entry.ack(new_order("a"))
    entry.ack(new_order("b", asset="BTC-USD"))
    assert [request(record) for record in entry.order_entry.cancel_account("ann", ["ACME"], "operator", "root")] == [
        requests.MassCancel(0, reason="operator", by="root")
    ]


def test_there_is_nothing_to_cancel_for_an_account_that_never_had_an_order() -> None:
    entry = Entry()
    entry.ack(new_order("a"))
    assert entry.order_entry.cancel_account("bob", None, "disconnected") == []
    assert entry.order_entry.cancel_account("ann", ["BTC-USD"], "operator") == []
    with pytest.raises(Rejection, match="account 'Ann'"):
        entry.order_entry.cancel_account("Ann", None, "operator")


def test_an_account_is_canceled_whole_or_not_at_all() -> None:
    entry = Entry()
    entry.ack(new_order("a"))
    entry.ack(new_order("b", asset="BTC-USD"))
    entry.room = 1
    with pytest.raises(Rejection, match="no room on disk"):
        entry.order_entry.cancel_account("ann", None, "disconnected")
    assert entry.order_entry.records == []


def test_an_asset_of_an_older_journal_is_open() -> None:
    """Before there were sessions an asset had neither a schedule nor a change of status."""
    order = requests.NewOrder(1, "a", 1, 20, 100)
    entry = Entry(ACME)
    entry.journal.append(Record("ACME", 2, 1000, "ann", order))
    restored = entry.restored()
    assert status(restored) == "open"
    assert restored.ack(new_order("a")).duplicate
    reply = restored.handle(AmendOrder(asset="ACME", order_id=1, price=105, account="ann"))
    assert isinstance(reply, messages.Ack)
