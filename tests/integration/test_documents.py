"""docs/protocol.md is true: its tables are the program's messages, and its client runs as it stands."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from exchange.core import messages
from tests.integration.outsider import Venue, retransmit
from tests.integration.outsider import venue as running_venue
from tests.support import PROJECT

PROTOCOL = (PROJECT / "docs" / "protocol.md").read_text("utf-8")
SECTION = re.compile(r"^### `(\w+)`\n(.*?)(?=^##)", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| `(\w+)` \|", re.MULTILINE)
MESSAGES: dict[str, Any] = {
    kind.__struct_config__.tag: kind
    for kind in (
        *get_args(messages.OrderEntryRequest),
        *get_args(messages.OrderEntryReply),
        *get_args(messages.PublicMessage),
        messages.ExecutionReport,
        *get_args(messages.Query),
    )
}


def tables(heading: str) -> dict[str, list[str]]:
    """Return, per table by the first cell of its head, the names in the first column, by message."""
    return {
        name: ROW.findall(f"{text.split(f'| {heading} |', 1)[1]}\n\n".split("\n\n", 1)[0])
        for name, text in SECTION.findall(f"{PROTOCOL}\n## End\n")
        if f"| {heading} |" in text
    }


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Venue]:
    with running_venue(tmp_path_factory.mktemp("documents")) as venue:
        yield venue


def test_every_message_has_its_table() -> None:
    assert tables("field").keys() == MESSAGES.keys()


@pytest.mark.parametrize("name", MESSAGES)
def test_a_messages_table_names_its_fields(name: str) -> None:
    fields = [field.encode_name for field in msgspec.structs.fields(MESSAGES[name])]
    assert sorted(tables("field")[name]) == sorted(fields)


def test_the_tables_of_rejections_name_every_reason() -> None:
    for reason in get_args(messages.RejectReason):
        assert f"`{reason}`" in PROTOCOL


def test_the_replies_to_queries_have_the_fields_of_their_tables(venue: Venue) -> None:
    order = venue.enter("alice", "buy", 10, 1000)
    venue.settle()
    queries: dict[str, dict[str, Any]] = {
        "assets": {},
        "book_snapshot": {"asset": "ACME"},
        "order_snapshot": {"asset": "ACME"},
        "trades": {"asset": "ACME"},
        "order_status": {"account": "alice", "asset": "ACME", "order_id": order["order_id"]},
        "sequences": {"account": "alice"},
        "open_orders": {"account": "alice"},
    }
    documented = tables("in the reply")
    assert documented.keys() == queries.keys() | {"retransmit"}
    report = set(tables("field")["execution_report"])
    for name, fields in queries.items():
        reply = venue.query.ask({"type": name} | fields)
        beside = report if name == "order_status" else set()
        assert reply.keys() - beside - {"type"} == set(documented[name]) - beside - {"rebuilding"}, name
    for _ in range(11):  # more than one reply holds
        venue.entry.ask([venue.order("alice", "buy", 10, 5) for _ in range(100)])
    venue.settle()
    part = retransmit(venue, "order/ACME/", 1, 10**6)
    assert part.keys() - {"type"} == set(documented["retransmit"])


def test_the_client_places_an_order_and_sees_its_trade(venue: Venue, tmp_path: Path) -> None:
    code = PROTOCOL.split("```python\n")[1].split("```")[0]
    for name, endpoint in (("ORDER_ENTRY", venue.endpoints.order_entry), ("MARKET_DATA", venue.endpoints.market_data)):
        code, count = re.subn(rf'^{name} = ".*"$', f'{name} = "{endpoint}"', code, flags=re.MULTILINE)
        assert count == 1
    client = tmp_path / "client.py"
    client.write_text(code)
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(client)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    sold, bought, trade = (ast.literal_eval(line) for line in ran.stdout.splitlines())
    assert (sold["type"], bought["type"], trade["type"]) == ("ack", "ack", "trade")
    assert (trade["maker_order_id"], trade["taker_order_id"]) == (sold["order_id"], bought["order_id"])
    assert (trade["asset"], trade["price"], trade["quantity"]) == ("BTC-USD", 10_025, 50_000_000)
