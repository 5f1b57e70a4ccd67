"""The benchmarks run, in tiny sizes: what they return has the form that the report reads, and what they count agrees.

None of this looks at speed.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import zmq

from benchmarks import growth_processes, order_entry, pipeline, report
from benchmarks.__main__ import PARTS
from benchmarks.exchange import running
from benchmarks.figures import results
from benchmarks.load import ASSETS, asset_names, batches, decode, encode, requests
from benchmarks.subscriber import Subscriber
from exchange.config import Config
from tests.support import PROJECT, free_ports, wait_until

ACCOUNTS_ASSETS_MEMORY = growth_processes.Sizes((1, 20), (len(ASSETS),), (), 5, 300, 400, 1)

Exchange = tuple[Config, dict[str, int]]


@pytest.fixture(scope="module")
def exchange() -> Iterator[Exchange]:
    with running(ASSETS) as exchange:
        yield exchange


@pytest.fixture(autouse=True)
def the_same_exchange(monkeypatch: pytest.MonkeyPatch, exchange: Exchange) -> None:
    """Have every part run on one exchange: to start one takes longer than all else here."""

    @contextmanager
    def given(assets: Sequence[str], folder: Path | None = None, settings: str = "") -> Iterator[Exchange]:
        assert set(assets) == set(ASSETS)
        yield exchange

    for part in (order_entry, pipeline, growth_processes):
        monkeypatch.setattr(part, "running", given)


def names(part: dict[str, Any]) -> str:
    return "\n".join(figure["name"] for figure in part["figures"])


def reported(part: dict[str, Any], folder: Path) -> str:
    """Return what the report makes of a part, its charts drawn."""
    page = folder / "performance.md"
    page.write_text(f"Before\n<!-- figures: {part['part']} -->\n<!-- end -->\n")
    report.write(results([part | {"seconds": 1.0}], {"cores": 2}), page)
    assert {report.chart_file(part, chart) for chart in part["charts"]} | {"results.json"} == {
        path.name for path in (folder / "performance").iterdir()
    }
    return page.read_text()


def test_the_pipeline_stores_and_publishes_all_that_was_acknowledged(tmp_path: Path) -> None:
    part = pipeline.measure(quick=True)
    details = part["details"]
    assert details["single"]["acks"] > 0
    assert details["batches"]["acks"] > 0
    assert details["requests_stored"] >= details["single"]["acks"] + details["batches"]["acks"]
    assert details["trades_stored"] == details["trades_received"] > details["trades_timed"] > 0
    assert "a trade at the subscriber after its order's ack" in names(part)
    assert "| order_handler |" in reported(part, tmp_path)


def test_order_entry_stores_all_that_was_acknowledged(tmp_path: Path) -> None:
    part = order_entry.measure(quick=True)
    assert part["details"]["acks"] == part["details"]["stored"] > 0
    assert "order to ack at 1,000 orders/s, p99" in names(part)
    limits = {figure["limit_name"] for figure in part["figures"]}
    assert "bare fdatasync under the same load, p50" in limits
    assert "order to ack" in reported(part, tmp_path)


def test_growth_has_the_cost_of_an_order_and_the_memory_of_what_there_is(tmp_path: Path) -> None:
    part = growth_processes.measure(sizes=ACCOUNTS_ASSETS_MEMORY)
    assert "CPU time of an order, 20 accounts" in names(part)
    memory = {figure["name"]: figure["value"] for figure in part["figures"] if "memory per asset" in figure["name"]}
    assert 1 < memory["memory per asset: its matching process, private"] < 1000
    assert "growth_processes-accounts.svg" in reported(part, tmp_path)


@pytest.mark.parametrize("name", PARTS)
def test_a_part_can_be_measured_and_run_alone(name: str) -> None:
    source = (PROJECT / "benchmarks" / f"{name}.py").read_text()
    assert "def measure(quick: bool" in source
    assert '__name__ == "__main__"' in source
    assert f"`{name}`" in (PROJECT / "benchmarks" / "README.md").read_text()
    assert f"<!-- figures: {name} -->" in (PROJECT / "docs" / "performance.md").read_text()


def test_the_subscriber_notices_a_trade_that_is_missing() -> None:
    endpoint = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    with zmq.Context() as context, context.socket(zmq.PUB) as feed, ThreadPoolExecutor(1) as executor:
        feed.linger = 0
        feed.bind(endpoint)
        started = executor.submit(Subscriber(endpoint).__enter__)  # which waits for a heartbeat
        wait_until(lambda: feed.send_multipart([b"heartbeat/", b""]) or started.done(), "the subscriber is subscribed")
        subscriber = started.result()
        try:
            for number in (1, 2, 4):
                trade = {"type": "trade", "asset": "A", "sequence": number, "taker_order_id": 10 * number}
                feed.send_multipart([b"trade/A/", encode(trade)])
            report = subscriber.wait_for({"A": 4})
            assert (report.trades, report.gaps, report.last) == (3, 1, {"A": 4})
            times = subscriber.times()
            assert [order_id for order_id, _ in times] == [10, 20, 40]
            assert [at for _, at in times] == sorted(at for _, at in times)
            assert subscriber.times() == []
        finally:
            subscriber.__exit__(None, None, None)


def test_a_stream_never_repeats_an_id_and_its_cancels_follow_their_orders() -> None:
    stream = requests("x", cycle=10_000)
    taken = [decode(request) for request in islice(stream, 20_000)]
    entered: dict[str, tuple[str, str]] = {}
    canceled: set[str] = set()
    for request in taken:
        name = request["client_order_id"]
        if request["type"] == "new_order":
            assert name not in entered
            entered[name] = (request["asset"], request["account"])
        else:
            assert entered[name] == (request["asset"], request["account"])
            assert name not in canceled
            canceled.add(name)
    assert len(canceled) > len(taken) / 10
    assert {request["asset"] for request in taken} == set(ASSETS)


def test_a_batch_holds_the_streams_next_requests() -> None:
    batch = decode(next(batches(requests("x"), 100)))
    assert batch == [decode(request) for request in islice(requests("x"), 100)]


def test_assets_have_names_of_their_own() -> None:
    assert asset_names(28)[-3:] == ("Z", "AA", "AB")
    assert len(set(asset_names(100))) == 100
