"""`docs/rulebook.md` says what the exchange does: its examples are run, and each cell of its table is tried."""

import doctest
import hashlib
import re
from collections.abc import Callable
from itertools import combinations, product
from typing import Any, get_args

import pytest
from msgspec import structs

from exchange.core import messages
from exchange.core.events import EventRecord
from exchange.core.messages import Ack, Reject
from exchange.core.requests import Request
from exchange.pipeline.codec import encode
from tests.entry import Entry
from tests.market import Market
from tests.support import PROJECT

DOCUMENT = PROJECT / "docs" / "rulebook.md"
TEXT = DOCUMENT.read_text()
EXAMPLES = re.findall(r"^```\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)

FLAGS: dict[str, dict[str, Any]] = {
    "no flag": {},
    "post_only": {"post_only": True},
    "display_quantity": {"display_quantity": 10},
    "min_quantity": {"min_quantity": 10},
    "cancel_oldest": {"self_trade_prevention": "cancel_oldest"},
    "cancel_both": {"self_trade_prevention": "cancel_both"},
    "decrement_and_cancel": {"self_trade_prevention": "decrement_and_cancel"},
}


class Recorded(Market):
    """A market that remembers what came of each request."""

    def __init__(self) -> None:
        self.records: list[EventRecord] = []
        super().__init__()

    def record(self, request: Request, by: str) -> EventRecord:
        self.records.append(super().record(request, by))
        return self.records[-1]

    def digest(self) -> list[str]:
        """Return the SHA-256 of all events so far, as they are written to the log."""
        return [hashlib.sha256(b"".join(map(encode, self.records))).hexdigest()]


def vocabulary() -> dict[str, Callable[..., None]]:
    """Return what an example may call: a market of its own, and order entry, each printing what comes of a request."""
    market, entry = Recorded(), Entry()

    def printing(request: Callable[..., list[str]]) -> Callable[..., None]:
        def call(*values: Any, **options: Any) -> None:
            for line in request(*values, **options):
                print(line)

        return call

    def reply(message: messages.OrderEntryRequest) -> None:
        answer = entry.handle(message)
        print(f"{answer.reason}: {answer.text}" if isinstance(answer, Reject) else "ack")

    def new_order(**fields: Any) -> None:
        reply(messages.NewOrder(client_order_id="a", asset="ACME", side="buy", quantity=20, account="ann", **fields))

    def cancel_by_order_entry(order_id: int) -> None:
        reply(messages.CancelOrder(asset="ACME", order_id=order_id, account="ann"))

    words = ("buy", "sell", "amend", "cancel", "mass_cancel", "define", "status", "wait", "expire", "book", "digest")
    return {word: printing(getattr(market, word)) for word in words} | {
        "new_order": new_order,
        "cancel_by_order_entry": cancel_by_order_entry,
    }


def choices(field: str) -> tuple[str, ...]:
    """Return the values that the protocol has for a field of `new_order`."""
    types = {each.name: each.type for each in structs.fields(messages.NewOrder)}
    return get_args(types[field])


def table() -> list[tuple[str, str, str, str]]:
    """Return the table's cells as (order type, time in force, flag, what it says)."""
    rows = [line.strip("|").split("|") for line in TEXT.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in row] for row in rows]
    head = next(row for row in cells if row[0] == "order_type")
    return [
        (row[0], row[1], flag, says)
        for row in cells
        if row[0] in choices("order_type")
        for flag, says in zip(head[2:], row[2:], strict=True)
    ]


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_prints_what_the_document_says(number: int) -> None:
    example = EXAMPLES[number]
    line = TEXT[: TEXT.index(example)].count("\n")
    test = doctest.DocTestParser().get_doctest(example, vocabulary(), f"example {number + 1}", str(DOCUMENT), line)
    output: list[str] = []
    failures, tried = doctest.DocTestRunner(verbose=False).run(test, out=output.append)
    assert tried > 0
    assert not failures, "".join(output)


def test_each_rule_has_a_section_with_an_example_and_a_source_where_venues_publish_one() -> None:
    sections = re.split(r"^##+ ", TEXT, flags=re.MULTILINE)
    rules = [section for section in sections if re.match(r"\d+\. ", section)]
    assert [int(rule.split(".")[0]) for rule in rules] == list(range(1, 24))
    assert [rule.split(".")[0] for rule in rules if "```" not in rule] == []
    without = [int(rule.split(".")[0]) for rule in rules if "\nSource: " not in rule]
    assert without == [3, 4, 11, 15, 16, 22, 23], "what an exchange promises of itself, and a table"


def reply_to(order_type: str, time_in_force: str, *flags: str) -> str:
    """Enter an order of a type with a time in force and flags, complete in all else; return what is said of it."""
    fields: dict[str, Any] = {"order_type": order_type, "time_in_force": time_in_force}
    for flag in flags:
        fields |= FLAGS[flag]
    if order_type in ("limit", "stop_limit"):
        fields["price"] = 100
    if order_type in ("stop", "stop_limit"):
        fields["stop_price"] = 100
    if time_in_force == "gtd":
        fields["expire_time"] = 2**62
    order = messages.NewOrder(client_order_id="a", asset="ACME", side="buy", quantity=20, account="ann", **fields)
    reply = Entry().handle(order)
    assert isinstance(reply, Ack | Reject)
    return reply.reason if isinstance(reply, Reject) else "taken"


@pytest.mark.parametrize(("order_type", "time_in_force", "flag", "says"), table())
def test_a_combination_is_taken_or_rejected_as_the_table_says(
    order_type: str, time_in_force: str, flag: str, says: str
) -> None:
    assert reply_to(order_type, time_in_force, flag) == says


@pytest.mark.parametrize(
    ("order_type", "time_in_force"), list(product(choices("order_type"), choices("time_in_force")))
)
def test_several_flags_are_taken_where_each_is(order_type: str, time_in_force: str) -> None:
    says = {flag: text for *place, flag, text in table() if place == [order_type, time_in_force]}
    for first, second in combinations(FLAGS, 2):
        expected = "taken" if says[first] == says[second] == "taken" else "unsupported"
        if "self_trade_prevention" not in FLAGS[first].keys() & FLAGS[second].keys():
            assert reply_to(order_type, time_in_force, first, second) == expected


def test_the_table_has_every_combination_once() -> None:
    expected = [
        (order_type, time_in_force, flag)
        for order_type in choices("order_type")
        for time_in_force in choices("time_in_force")
        for flag in FLAGS
    ]
    assert sorted(row[:3] for row in table()) == sorted(expected)
    assert {"cancel_newest", *FLAGS} >= set(choices("self_trade_prevention"))
