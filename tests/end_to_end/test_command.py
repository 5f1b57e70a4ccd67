"""The command `exchange` against real daemons: what it prints for people and machines, and its exit statuses."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exchange.config import Config
from tests.end_to_end.exchange import Shell, is_ready
from tests.support import ASSETS, PROJECT, Daemon, running, wait_until, write_config

VENUE = """
[[asset]]
asset = "VENUE"
price_scale = 4
tick_size = 100
"""
FLOW = """time,action,order_id,side,price,quantity,fills
1,new,71,buy,5794000,500,
2,new,72,buy,5793900,10,
3,take,,sell,5793900,504,71:5794000:500;72:5793900:4
4,reduce,72,,,2,
5,new,73,sell,5795000,1,
6,cancel,73,,,,
"""


def daemons(config: Config) -> dict[str, Daemon]:
    names = ["order_handler", *(f"matching {asset.asset}" for asset in config.assets), "notifier"]
    return {name: Daemon(config, *name.split()) for name in names}


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    config = write_config(tmp_path_factory.mktemp("exchange"), ASSETS + VENUE)
    with running(*daemons(config).values()):
        wait_until(lambda: is_ready(config), "the exchange is up")
        yield Shell(config)


@pytest.fixture
def nowhere(tmp_path: Path) -> Shell:
    """Return a shell whose exchange does not run."""
    return Shell(write_config(tmp_path))


# -- orders ------------------------------------------------------------------------------------------------------------


def test_an_order_is_acknowledged_and_what_came_of_it_is_shown(shell: Shell) -> None:
    shown = shell.run("order", "buy", "BTC-USD", "1.5@100.25", "--account", "ann", "--client-order-id", "first")
    assert "new_order acknowledged: BTC-USD order" in shown
    assert "client order id first" in shown
    assert "new: buy 1.5 at 100.25, 1.5 open" in shown
    shown = shell.run("order", "sell", "BTC-USD", "1@market", "--account", "ben")
    assert "traded 1 at 100.25 as taker" in shown
    assert "filled, 0 open" in shown
    shown = shell.run("order", "sell", "BTC-USD", "2@100", "--account", "ben", "--tif", "ioc")
    assert "traded 0.5 at 100.25" in shown
    assert "canceled (immediate_or_cancel)" in shown


def test_an_order_with_a_stop_price_waits_is_amended_and_triggered(shell: Shell) -> None:
    shell.run("order", "sell", "BTC-USD", "1@500", "--account", "ann")
    shown = shell.run("order", "buy", "BTC-USD", "0.5", "--stop", "500", "--account", "pat")
    assert "new: buy 0.5, waits to be triggered at 500.00" in shown
    limit = shell.json("order", "buy", "BTC-USD", "0.25@501", "--stop", "499.5", "--account", "pat", "--tif", "day")
    (report,) = limit["execution_reports"]
    assert (report["order_type"], report["order_status"], report["stop_price"]) == (
        "stop_limit",
        "pending_trigger",
        49950,
    )
    listed = shell.run("orders", "--account", "pat")
    assert "pending_trigger" in listed
    assert "stop_limit" in listed
    shown = shell.run("amend", "BTC-USD", str(limit["order_id"]), "--account", "pat", "--stop", "600", "--price", "600")
    assert "replaced: buy 0.25 at 600.00, waits to be triggered at 600.00" in shown
    shell.run("order", "buy", "BTC-USD", "0.1@500", "--account", "ben")
    (waiting,) = shell.json("orders", "--account", "pat")["orders"]
    assert waiting["order_id"] == limit["order_id"]  # the other was triggered, and filled
    shown = shell.run("order", "buy", "BTC-USD", "0.4", "--stop", "500", "--account", "pat")  # reached already
    assert "triggered: buy 0.4 at the market, 0.4 open" in shown
    assert "traded 0.4 at 500.00 as taker" in shown
    shell.run("cancel", "BTC-USD", str(limit["order_id"]), "--account", "pat")


def test_an_iceberg_shows_a_part_and_the_next_one_when_that_is_used_up(shell: Shell) -> None:
    order = shell.json("order", "sell", "ACME", "300@20", "--show", "100", "--account", "ice")
    assert shell.json("book", "ACME")["asks"][0] == [2000, 100, 1]
    shell.run("order", "buy", "ACME", "120@20", "--account", "ben")
    assert shell.json("book", "ACME")["asks"][0] == [2000, 80, 1]
    shell.run("cancel", "ACME", str(order["order_id"]), "--account", "ice")


def test_conditions_of_an_order_end_it_with_their_reasons(shell: Shell) -> None:
    order = shell.json("order", "sell", "ACME", "50@30", "--account", "con")
    for options, reason in (
        (("--post-only",), "post_only"),
        (("--min-quantity", "100"), "minimum_quantity"),
        (("--tif", "fok"), "fill_or_kill"),
    ):
        shown = shell.run("order", "buy", "ACME", "100@30", "--account", "ben", *options)
        assert f"canceled ({reason})" in shown
    shown = shell.run(
        "order", "buy", "ACME", "70@30", "--account", "con", "--self-trade-prevention", "decrement_and_cancel"
    )
    assert "restated (self_trade_prevention): 20 in all, 20 open" in shown
    assert shell.json("orders", "--account", "con")["orders"][0]["quantity"] == 20
    assert "cancel rejected" in shell.run("cancel", "ACME", str(order["order_id"]), "--account", "con", status=1)


def test_an_order_can_expire(shell: Shell) -> None:
    order = shell.json("order", "buy", "ACME", "10@1", "--account", "exp", "--expires", "1s")
    (report,) = order["execution_reports"]
    assert report["time_in_force"] == "gtd"
    wait_until(lambda: not shell.json("orders", "--account", "exp")["orders"], "it has expired")
    shown = shell.run("order", "buy", "ACME", "10@1", "--account", "exp", "--expires", "2020-01-01T00:00:00Z", status=1)
    assert "rejected: unsupported" in shown


def test_for_machines_an_order_gives_the_ack_with_its_reports(shell: Shell) -> None:
    arguments = ("order", "buy", "ACME", "20@10.05", "--account", "joe", "--client-order-id", "once")
    answer = shell.json(*arguments)
    assert answer["type"] == "ack"
    assert answer["client_order_id"] == "once"
    (report,) = answer["execution_reports"]
    assert (report["exec_type"], report["price"], report["quantity"]) == ("new", 1005, 20)
    again = shell.json(*arguments)
    assert again["duplicate"]
    assert again["order_id"] == answer["order_id"]


@pytest.mark.parametrize(
    ("asset", "order", "reason"),
    [
        ("ACME", "20@10.01", "invalid_price"),  # off the tick
        ("ACME", "5@10.05", "invalid_quantity"),  # off the lot
        ("ACME", "0@10.05", "invalid_quantity"),
        ("NOPE", "1@1", "unknown_asset"),
    ],
)
def test_a_rejected_order_ends_with_status_1_and_says_why(shell: Shell, asset: str, order: str, reason: str) -> None:
    assert f"rejected: {reason}: " in shell.run("order", "buy", asset, order, "--account", "ann", status=1)
    answer = shell.json("order", "buy", asset, order, "--account", "ann", status=1)
    assert (answer["type"], answer["reason"]) == ("reject", reason)


@pytest.mark.parametrize(
    "arguments",
    [
        ("order", "buy", "ACME", "20@10.051", "--account", "ann"),  # finer than the scale: nothing that can be sent
        ("order", "buy", "ACME", "20", "--account", "ann"),
        ("order", "buy", "ACME", "20@ten", "--account", "ann"),
        ("order", "buy", "ACME", "20@market", "--account", "ann", "--type", "limit"),
        ("order", "buy", "ACME", "20@market", "--stop", "10", "--account", "ann", "--type", "stop_limit"),
        ("order", "buy", "ACME", "20", "--stop", "10.051", "--account", "ann"),
        ("order", "buy", "ACME", "20@10", "--show", "0.5", "--account", "ann"),
        ("order", "buy", "ACME", "20@10", "--expires", "soon", "--account", "ann"),
        ("order", "buy", "ACME", "20@10", "--tif", "never", "--account", "ann"),
        ("simulate", "--here"),
        ("admin", "asset", "add", "NEW", "price_scale"),
        ("admin", "clock", "noon"),
        ("order", "hold", "ACME", "20@10", "--account", "ann"),
        ("order", "buy", "ACME", "20@10"),
        ("order", "buy", "ACME", "20@10", "--account", "Ann"),
        ("cancel", "ACME", "first", "--account", "ann"),
        ("amend", "ACME", "1", "--account", "ann"),
        ("replay", "no-such-file.csv", "--asset", "ACME"),
        ("simulate", "--orders", "0"),
        ("nonsense",),
    ],
)
def test_wrong_usage_ends_with_status_2(shell: Shell, arguments: tuple[str, ...]) -> None:
    assert "rror: " in shell.run(*arguments, status=2)


def test_an_order_is_listed_amended_and_canceled(shell: Shell) -> None:
    order = shell.json("order", "buy", "ACME", "20@9", "--account", "liz")
    number = str(order["order_id"])
    assert number in shell.run("orders", "--account", "liz")
    shown = shell.run("amend", "ACME", number, "--account", "liz", "--quantity", "40", "--price", "9.05")
    assert "replaced: buy 40 at 9.05, 40 open" in shown
    (listed,) = shell.json("orders", "--account", "liz", "ACME")["orders"]
    assert (listed["order_id"], listed["price"], listed["leaves_quantity"]) == (order["order_id"], 905, 40)
    assert "canceled (user_request)" in shell.run("cancel", "ACME", number, "--account", "liz")
    assert "liz has no open orders" in shell.run("orders", "--account", "liz")


def test_a_cancel_that_comes_too_late_or_for_anothers_order_ends_with_status_1(shell: Shell) -> None:
    number = str(shell.json("order", "buy", "ACME", "20@8", "--account", "tom")["order_id"])
    assert "rejected: unknown_order" in shell.run("cancel", "ACME", number, "--account", "eve", status=1)
    shell.run("cancel", "ACME", number, "--account", "tom")
    assert "cancel rejected (unknown_order)" in shell.run("cancel", "ACME", number, "--account", "tom", status=1)
    answer = shell.json("cancel", "ACME", number, "--account", "tom", status=1)
    assert answer["execution_reports"][-1]["exec_type"] == "cancel_rejected"


# -- the market --------------------------------------------------------------------------------------------------------


def test_assets_book_and_trades_are_shown_in_decimals_and_for_machines_in_integers(shell: Shell) -> None:
    shell.run("order", "sell", "BTC-USD", "0.25@250.5", "--account", "ann")
    shell.run("order", "buy", "BTC-USD", "0.1@250.5", "--account", "ben")
    assert "ACME" in shell.run("assets")
    assets = {asset["asset"]: asset for asset in shell.json("assets")["assets"]}
    assert assets["BTC-USD"]["quantity_scale"] == 8
    assert "250.50  0.15" in shell.run("book", "BTC-USD")
    book = shell.json("book", "BTC-USD", "--depth", "1")
    assert book["type"] == "book_snapshot"
    assert book["asks"] == [[25050, 15_000_000, 1]]
    assert "250.50" in shell.run("trades", "BTC-USD")
    trades = shell.json("trades", "BTC-USD")
    assert trades["type"] == "trades"
    assert (trades["trades"][0]["price"], trades["trades"][0]["quantity"]) == (25050, 10_000_000)
    for command in ("book", "trades"):
        assert "unknown_asset" in shell.run(command, "NOPE", status=1)


def test_watch_prints_one_message_a_line_and_ends_by_itself(shell: Shell) -> None:
    watch = shell.start("watch", "BTC-USD", "--json", "--count", "8")
    simulation = shell.start("simulate", "--orders", "100000", "--rate", "100")
    try:
        out, _ = watch.communicate(timeout=30)
    finally:
        simulation.kill()
        simulation.communicate(timeout=60)
    messages = [json.loads(line) for line in out.splitlines()]
    assert watch.returncode == 0
    assert len(messages) == 8
    numbers = [message["sequence"] for message in messages if message["type"] == "book"]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_watch_ends_at_ctrl_c_with_status_0(shell: Shell) -> None:
    watch = shell.start("watch", "ACME")
    assert watch.stdout is not None
    assert watch.stdout.readline().startswith("ACME bid")
    watch.send_signal(signal.SIGINT)
    watch.communicate(timeout=60)
    assert watch.returncode == 0


# -- many orders -------------------------------------------------------------------------------------------------------


def test_simulate_trades_at_once(shell: Shell) -> None:
    shown = shell.run("simulate", "--orders", "300", "--rate", "0", "--seed", "7")
    assert "300 requests, 300 acked" in shown
    assert "trades, " in shown
    result = shell.json("simulate", "--orders", "300", "--rate", "0", "--asset", "ACME")
    assert result["acks"] == 300
    assert result["rejects"] == {}
    assert result["trades"] > 10


def test_replay_checks_the_executions_and_works_again_on_the_same_exchange(shell: Shell, tmp_path: Path) -> None:
    flow = tmp_path / "flow.csv"
    flow.write_text(FLOW)
    for _ in range(2):
        shown = shell.run("replay", str(flow), "--asset", "VENUE", "--check")
        assert "6 rows, 6 acks, 2 trades" in shown
        assert "check passed: all 2 executions as recorded" in shown
    result = shell.json("replay", str(flow), "--asset", "VENUE", "--check", "--rate", "50")
    assert (result["ok"], result["rows"], result["acks"], result["trades"]) == (True, 6, 6, 2)
    assert result["seconds"] > 0.1
    assert shell.json("replay", str(flow), "--asset", "VENUE")["trades"] == 2


def test_replay_tells_the_first_difference_and_ends_with_status_1(shell: Shell, tmp_path: Path) -> None:
    flow = tmp_path / "flow.csv"
    flow.write_text(FLOW.replace("71:5794000:500;72:5793900:4", "72:5793900:4;71:5794000:500"))
    shown = shell.run("replay", str(flow), "--asset", "VENUE", "--check", status=1)
    assert (
        "difference: public trades: execution 1: recorded order 72 at 579.3900 x 4, taken by line 4, "
        "got order 71 at 579.4000 x 500, taken by line 4" in shown
    )
    assert not shell.json("replay", str(flow), "--asset", "VENUE", "--check", status=1)["ok"]


def test_replay_refuses_what_it_can_not_check_or_send(shell: Shell, tmp_path: Path) -> None:
    flow = tmp_path / "flow.csv"
    flow.write_text(FLOW.replace("5793900,10", "5793950,10"))
    shown = shell.run("replay", str(flow), "--asset", "VENUE", status=2)
    assert f"{flow}: line 3: price 579.3950 is no multiple of VENUE's tick, 0.0100" in shown
    flow.write_text(FLOW)
    order = shell.json("order", "buy", "VENUE", "1@1", "--account", "zoe")
    shown = shell.run("replay", str(flow), "--asset", "VENUE", "--check", status=1)
    assert "others' orders rest there (best bid 1.0000 x 1, 1 orders)" in shown
    shell.run("cancel", "VENUE", str(order["order_id"]), "--account", "zoe")


# -- how the exchange is -----------------------------------------------------------------------------------------------


def test_status_shows_every_daemon_and_both_endpoints(shell: Shell) -> None:
    shown = shell.run("status")
    assert "matching-BTC-USD" in shown
    assert f"order entry: {shell.config.endpoints.order_entry} answers in" in shown
    health = shell.json("status")
    found = {daemon["daemon"]: daemon for daemon in health["daemons"]}
    for name in ("order_handler", "matching-ACME", "notifier"):
        assert found[name]["alive"]
        assert not found[name]["stale"]
        assert found[name]["state"] == "running"
        assert found[name]["processed"]["ACME"] >= 1
    assert not found["logger"]["alive"]
    assert health["order_entry"]["reachable"]
    assert health["query"]["round_trip_ms"] > 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "--timeout", "0.2"),
        ("assets", "--timeout", "0.2"),
        ("order", "buy", "BTC-USD", "1@1", "--account", "ann", "--timeout", "0.2"),
        ("cancel", "BTC-USD", "1", "--account", "ann", "--timeout", "0.2"),
        ("orders", "--account", "ann", "--timeout", "0.2"),
        ("book", "BTC-USD", "--timeout", "0.2"),
        ("trades", "BTC-USD", "--timeout", "0.2"),
        ("watch", "BTC-USD", "--timeout", "0.2"),
        ("simulate", "--timeout", "0.2"),
    ],
)
def test_where_there_is_no_exchange_every_command_ends_with_status_3(
    nowhere: Shell, arguments: tuple[str, ...]
) -> None:
    assert "is the exchange running there?" in nowhere.run(*arguments, status=3)
    nowhere.json(*arguments, status=3)


def test_replay_without_an_exchange_ends_with_status_3(nowhere: Shell, tmp_path: Path) -> None:
    flow = tmp_path / "flow.csv"
    flow.write_text(FLOW)
    nowhere.run("replay", str(flow), "--asset", "ACME", "--timeout", "0.2", status=3)


def test_a_broken_configuration_ends_with_status_2_and_the_mistake(nowhere: Shell) -> None:
    (nowhere.config.folder / "exchange.toml").write_text("[endpoint]\n")
    assert "[endpoint]: no such section" in nowhere.run("status", status=2)
    assert nowhere.json("status", status=2)["reason"] == "usage"
    shutil.rmtree(nowhere.config.folder)
    assert "set EXCHANGE_CONFIG" in nowhere.run("assets", status=2)


def test_orders_are_taken_and_status_tells_while_daemons_are_dead_or_frozen(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    shell, parts = Shell(config), daemons(config)
    with running(*parts.values()):
        wait_until(lambda: is_ready(config), "the exchange is up")
        parts["notifier"].kill()
        parts["matching ACME"].signal(signal.SIGSTOP)
        shown = shell.run("order", "buy", "BTC-USD", "1@1", "--account", "ann", "--timeout", "2")
        assert "accepted; what came of it can't be seen yet" in shown

        def when_stale() -> dict[str, Any]:
            found = {daemon["daemon"]: daemon for daemon in shell.json("status")["daemons"]}
            return found if found["matching-ACME"]["stale"] else {}

        found = wait_until(when_stale, "the frozen daemon's status page is stale")
        assert not found["notifier"]["alive"]
        assert found["matching-ACME"]["alive"]
        assert "STALE" in shell.run("status")
        assert not shell.json("status")["query"]["reachable"]
        parts["matching ACME"].signal(signal.SIGCONT)
        parts["notifier"].start()
        wait_until(lambda: is_ready(config), "the notifier is back")
        assert shell.json("orders", "--account", "ann")["orders"][0]["price"] == 100
        parts["order_handler"].kill()
        assert shell.json("status", status=3)["query"]["reachable"]


def test_the_examples_in_the_docs_run(shell: Shell) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (PROJECT / "docs" / "client.md").read_text(), re.DOTALL)
    assert len(blocks) >= 5
    for block in blocks:
        process = subprocess.run(
            [sys.executable, "-c", block],
            env=shell.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert process.returncode == 0, f"{block}\n{process.stderr}"
