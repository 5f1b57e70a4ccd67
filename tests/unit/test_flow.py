"""Recorded flow: reading it, turning it into requests, and comparing what came of it."""

import gzip
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET

from exchange.client.flow import Fill, FlowError, Row, Units, read_flow
from exchange.client.flow_orders import FlowOrders
from exchange.client.queries import ListedAsset
from exchange.client.replay import scan
from exchange.client.replay_check import ReplayCheck
from exchange.core.asset import Asset
from exchange.core.messages import AmendOrder, CancelOrder, ExecutionReport, NewOrder, Trade

HEAD = "time,action,order_id,side,price,quantity,fills\n"
GOOG = ListedAsset(asset="GOOG", price_scale=4, tick_size=100)
FLOW = HEAD + (
    "34200.1,new,71,buy,5794000,500,\n"
    "34200.2,new,72,buy,5793900,10,\n"
    "34200.3,take,,sell,5793900,504,71:5794000:500;72:5793900:4\n"
    "34200.4,reduce,72,,,2,\n"
    "34200.5,reduce,72,,,4,\n"
    "34200.6,new,73,sell,5795000,1,\n"
    "34200.7,cancel,73,,,,\n"
)


def written(folder: Path, text: str, name: str = "flow.csv") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["flow.csv", "flow.csv.gz"])
def test_a_flow_is_read_plain_or_gzipped(tmp_path: Path, name: str) -> None:
    rows = list(read_flow(written(tmp_path, FLOW, name)))
    assert len(rows) == 7
    assert rows[0] == Row(2, "new", "71", "buy", 5794000, 500, ())
    assert rows[2].fills == (Fill("71", 5794000, 500), Fill("72", 5793900, 4))


@pytest.mark.parametrize(
    ("line", "mistake"),
    [
        ("1,sell,7,buy,1,1,", "action 'sell': must be new, cancel, reduce or take"),
        ("1,new,7,both,1,1,", "side 'both': must be buy or sell"),
        ("1,new,,buy,1,1,", "order_id '': every row but take has one"),
        ("1,take,7,buy,1,1,", "order_id '7': every row but take has one"),
        ("1,new,7,buy,1,1,7:1:1", "only take has them"),
        ("1,new,7,buy,1.5,1,", "invalid literal"),
        ("1,new,7,buy", "not enough values"),
        ("1,take,,buy,1,1,7:1", "not enough values"),
    ],
)
def test_a_row_that_is_none_is_named_with_its_line(tmp_path: Path, line: str, mistake: str) -> None:
    path = written(tmp_path, f"{HEAD}{line}\n")
    with pytest.raises(FlowError) as caught:
        list(read_flow(path))
    assert str(caught.value).startswith(f"{path}: line 2: {line}: ")
    assert mistake in str(caught.value)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FlowError, match="the columns of a flow are time,action"):
        list(read_flow(written(tmp_path, "price,quantity\n1,2\n")))
    with pytest.raises(FlowError, match="can't be read as CSV"):
        list(read_flow(written(tmp_path, FLOW).rename(tmp_path / "plain.csv.gz")))


def test_a_price_finer_than_the_assets_scale_is_found_before_anything_is_sent(tmp_path: Path) -> None:
    path = written(tmp_path, HEAD + "1,new,7,buy,5794000,1,\n1,new,8,buy,5794050,1,\n")
    assert scan(path, ListedAsset(asset="FINE", price_scale=4)) == 2
    with pytest.raises(FlowError, match=r"line 3: price 579.4050 is finer than CENTS can hold.*nothing was sent"):
        scan(path, ListedAsset(asset="CENTS", price_scale=2))
    with pytest.raises(FlowError, match=r"line 3: price 579.4050 is no multiple of GOOG's tick, 0.0100"):
        scan(path, GOOG)


def test_prices_and_quantities_are_converted_exactly_to_the_assets_scales() -> None:
    cents = Units(Asset(asset="CENTS", price_scale=2))
    assert cents.price(5794000) == 57940
    fine = Units(Asset(asset="FINE", price_scale=6, quantity_scale=3))
    assert fine.price(5794001) == 579400100
    assert fine.quantity(4) == 4000


def test_rows_become_requests_of_two_accounts(tmp_path: Path) -> None:
    orders = FlowOrders(GOOG, "r1-", "maker", "taker")
    requests = [orders.request(row) for row in read_flow(written(tmp_path, FLOW))]
    new, _, take, reduce, reduce_to_nothing, _, cancel = requests
    assert new == NewOrder(
        client_order_id="r1-71", asset="GOOG", side="buy", quantity=500, price=5794000, account="maker"
    )
    assert isinstance(take, NewOrder)
    assert (take.client_order_id, take.time_in_force, take.account) == ("r1-t4", "ioc", "taker")
    assert reduce == AmendOrder(asset="GOOG", client_order_id="r1-72", quantity=8, account="maker", request_id="r1-5")
    # 10, less 2, less 4, of which 4 have traded: nothing would stay open.
    assert reduce_to_nothing == CancelOrder(asset="GOOG", client_order_id="r1-72", account="maker", request_id="r1-6")
    assert cancel == CancelOrder(asset="GOOG", client_order_id="r1-73", account="maker", request_id="r1-8")
    assert not orders.open
    assert not orders.late


# -- the check ---------------------------------------------------------------------------------------------------------


def report(account: str, kind: str, order_id: int, name: str, **more: Any) -> ExecutionReport:
    return ExecutionReport(
        account=account,
        asset="GOOG",
        sequence=1,
        exec_type=kind,
        order_id=order_id,
        client_order_id=name,
        time=0,
        **more,
    )


def played(fills: list[tuple[int, str, int, int]]) -> ReplayCheck:
    """Return the check of one order that takes from two; its executions are (maker's id and name, price, quantity)."""
    check = ReplayCheck(GOOG, "r1-", "maker", "taker")
    check.record(Row(4, "take", "", "sell", 1, 504, (Fill("71", 5794000, 500), Fill("72", 5793900, 4))))
    check.acknowledged = {1: "r1-71", 2: "r1-72", 3: "r1-t4"}
    for order_id, name in check.acknowledged.items():
        account = "taker" if name == "r1-t4" else "maker"
        check.report(report(account, "new", order_id, name), set())
    for number, (order_id, name, price, quantity) in enumerate(fills, 1):
        check.trades.append(Trade("GOOG", number, number, price, quantity, "sell", order_id, 3, 0))
        for account, trader, key in (("maker", order_id, name), ("taker", 3, "r1-t4")):
            check.report(
                report(account, "trade", trader, key, last_price=price, last_quantity=quantity, trade_id=number), set()
            )
    return check


def test_executions_as_recorded_pass() -> None:
    check = played([(1, "r1-71", 5794000, 500), (2, "r1-72", 5793900, 4)])
    check.compare()
    assert check.differences == []
    assert check.applied == 3


@pytest.mark.parametrize(
    ("fills", "first"),
    [
        (
            [(2, "r1-72", 5793900, 4), (1, "r1-71", 5794000, 500)],
            "public trades: execution 1: recorded order 71 at 579.4000 x 500, taken by line 4, "
            "got order 72 at 579.3900 x 4, taken by line 4",
        ),
        (
            [(1, "r1-71", 5794000, 500)],
            "public trades: execution 2: recorded order 72 at 579.3900 x 4, taken by line 4, got no more",
        ),
        (
            [(1, "r1-71", 5794000, 500), (2, "r1-72", 5793900, 4), (2, "r1-72", 5793900, 4)],
            "public trades: execution 3: none recorded, got order 72 at 579.3900 x 4, taken by line 4",
        ),
        (
            [(1, "r1-71", 5794000, 499), (2, "r1-72", 5793900, 4)],
            "public trades: execution 1: recorded order 71 at 579.4000 x 500, taken by line 4, "
            "got order 71 at 579.4000 x 499, taken by line 4",
        ),
    ],
)
def test_the_first_difference_is_named(fills: list[tuple[int, str, int, int]], first: str) -> None:
    check = played(fills)
    check.compare()
    assert check.differences[0] == first
    assert len(check.differences) == 3  # the private topics of both accounts show it too


def test_a_trade_that_only_the_public_topic_tells_of_is_a_difference() -> None:
    check = played([(1, "r1-71", 5794000, 500), (2, "r1-72", 5793900, 4)])
    check.fills["maker"].pop()
    check.compare()
    assert check.differences == [
        "execution reports of maker: execution 2: recorded order 72 at 579.3900 x 4, taken by line 4, got no more",
        "execution reports of maker: from the 2. on not the trades of the public topic",
    ]


def test_an_order_without_its_report_new_and_one_with_two_are_differences() -> None:
    check = played([(1, "r1-71", 5794000, 500), (2, "r1-72", 5793900, 4)])
    check.report(report("maker", "new", 1, "r1-71"), set())
    check.acknowledged[9] = "r1-99"
    check.compare()
    assert check.differences == [
        "order r1-71: reported `new` twice",
        "1 orders without an execution report `new`, the first r1-99",
    ]


def test_a_cancel_that_came_too_late_is_a_difference_unless_the_flow_says_so() -> None:
    check = played([(1, "r1-71", 5794000, 500), (2, "r1-72", 5793900, 4)])
    late = ExecutionReport(
        account="maker",
        asset="GOOG",
        sequence=9,
        exec_type="cancel_rejected",
        order_id=1,
        reason="unknown_order",
        time=0,
    )
    assert late.client_order_id is UNSET
    check.report(late, {"r1-71"})
    assert check.differences == []
    check.report(late, set())
    assert check.differences == ["order r1-71: cancel_rejected (unknown_order) at sequence 9 of its topic"]
    assert check.applied == 5
