"""What order entry finds again in the journal and the table of ids, over restarts, kills and losses of files."""

import logging
import random
import shutil
from pathlib import Path

import pytest
from msgspec import UNSET

from exchange.core import messages, order_entry_state, order_memory
from exchange.core.messages import Ack, AmendOrder, CancelOrder, MassCancel, Reject
from exchange.core.order_entry import OrderEntry
from exchange.core.requests import MassCancel as MassCancelRequest
from exchange.core.risk import RiskLimit, RiskLimits
from exchange.pipeline import id_table, order_start, taken_requests
from exchange.pipeline.archive import archive_up_to
from exchange.pipeline.carried import write_carried
from exchange.pipeline.journal import Journal
from exchange.pipeline.log import Damaged
from tests.entry import ACME, BTC, Entry, new_order
from tests.inline_world import InlineWorld

SEED = random.SystemRandom().randrange(2**32)  # a new one each run; a failure prints it
SEGMENT_BYTES = 16 * 1024


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all that is bounded so small that its bounds are met."""
    monkeypatch.setattr(id_table, "SLOTS", 64)
    monkeypatch.setattr(id_table, "FILTER_BYTES", 16)
    monkeypatch.setattr(taken_requests, "LATEST_ORDERS", 4)
    monkeypatch.setattr(order_memory, "RECENT_ORDERS", 8)


class Life:
    """Order entry on a journal in a folder, from a start to an end."""

    def __init__(self, folder: Path, limits: RiskLimits | None = None) -> None:
        self.time = 1000
        self.folder = folder
        self.world = InlineWorld()
        self.journal = Journal(self.world, folder, SEGMENT_BYTES)
        self.taken = order_start.open_ids(self.world, self.journal)
        has_room = self.journal.has_room
        self.entry = OrderEntry(self.taken, has_room, lambda: self.time, 10**6, 10**6, limits=limits)
        order_start.start(self.world, self.journal, self.taken, self.entry, {})
        for asset in (ACME, BTC):
            self.entry.define(asset)
            self.append()

    def append(self) -> None:
        """Put what was taken into the journal's buffer, as the order handler does."""
        records = self.entry.records
        if records and type(records[0].request) is MassCancelRequest:
            self.journal.append_together(records)
        else:
            for record in records:
                self.journal.append(record)
        records.clear()

    def handle(self, message: messages.OrderEntryRequest) -> messages.OrderEntryReply:
        reply = self.entry.handle(message)
        self.append()
        return reply

    def ack(self, message: messages.OrderEntryRequest) -> Ack:
        reply = self.handle(message)
        assert isinstance(reply, Ack), reply
        return reply

    def sync(self) -> None:
        self.journal.sync()
        self.journal.tend(0.0)

    def end(self) -> None:
        """End as a killed process does: what was not written is gone, what was mapped is not."""
        self.journal.close()
        self.taken.table.close()
        self.world.close()


def random_message(source: random.Random, number: int) -> messages.OrderEntryRequest:
    """Return a request that may be right or wrong, new or a repeat, of something recent or old."""
    account, asset = source.choice(("ann", "bob", "eve")), source.choice(("ACME", "BTC-USD"))
    request_id = source.choice((UNSET, f"r{source.randrange(number + 10)}", source.randrange(number + 10)))
    client_order_id = f"c{max(number - int(source.expovariate(0.05)), 0)}"
    order_id = source.randint(0, number + 1)
    kind = source.choices(range(5), (8, 2, 2, 3, 1))[0]
    if kind == 0:
        price = source.choice((100, 105))
        return new_order(source.choice((f"c{number}", client_order_id)), account=account, asset=asset, price=price)
    if kind == 1:
        return AmendOrder(asset=asset, order_id=order_id, quantity=10, account=account, request_id=request_id)
    if kind == 2:
        return CancelOrder(asset=asset, order_id=order_id, account=account, request_id=request_id)
    if kind == 3:
        return CancelOrder(asset=asset, client_order_id=client_order_id, account=account, request_id=request_id)
    return MassCancel(asset=source.choice((UNSET, asset)), account=account, request_id=request_id)


@pytest.mark.parametrize("number", range(4))
def test_clients_are_answered_as_from_memory_over_restarts_and_kills(number: int, tmp_path: Path) -> None:
    print(f"seed {SEED + number}")
    source = random.Random(SEED + number)
    life, twin = Life(tmp_path), Entry(max_backlog=10**6, max_remembered_ids=10**6)
    written = len(twin.journal)
    life.sync()
    for step in range(1500):
        life.time = twin.time = life.time + source.randrange(3)
        message = random_message(source, step)
        assert life.handle(message) == twin.handle(message), f"step {step}"
        if source.random() < 0.2 or step % 8 == 0:  # there is always room for that many ids
            life.sync()
            written = len(twin.journal)
        if source.random() < 0.005:
            life.end()
            time, life = life.time, Life(tmp_path)
            life.time = time
            survived = sum(queue.sequence for queue in life.entry.queues.values())
            assert survived >= written, "a segment that was full has synced more, maybe"
            del twin.journal[survived:]
            twin = twin.restored()
            life.sync()
            written = len(twin.journal)
            assert life.entry.next_order_id == twin.order_entry.next_order_id
            assert life.entry.remembered_ids == twin.order_entry.remembered_ids
    assert life.taken.table.files > 3
    assert len(life.entry.recent_orders) < 16
    assert len(list(tmp_path.glob("*.seal"))) > 2
    life.end()


def test_what_was_taken_a_moment_ago_is_found_without_a_look_into_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand orders, each canceled and then sent again, between two syncs: no file is read, no buffer searched."""
    monkeypatch.setattr(id_table, "SLOTS", 8192)
    life = Life(tmp_path)

    def read(position: int) -> bytes:
        raise AssertionError(position)

    monkeypatch.setattr(life.journal.log, "read", read)
    for number in range(1000):
        life.ack(new_order(f"c{number}", account=f"a{number % 3}"))
        life.ack(CancelOrder(asset="ACME", client_order_id=f"c{number}", account=f"a{number % 3}"))
    for number in range(1000):
        assert life.ack(new_order(f"c{number}", account=f"a{number % 3}")).duplicate
    first = life.ack(MassCancel(account="a1", request_id="r"))
    assert life.ack(MassCancel(account="a1", request_id="r")).sequences == first.sequences
    life.sync()
    life.end()


def test_a_mass_cancel_over_all_assets_is_found_again_whole(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.ack(new_order("a"))
    first = life.ack(MassCancel(account="ann", request_id="r"))
    life.sync()
    life.end()
    life = Life(tmp_path)
    again = life.ack(MassCancel(account="ann", request_id="r"))
    assert again.duplicate
    assert again.sequences == first.sequences == {"ACME": 3, "BTC-USD": 2}
    life.end()


def filled(folder: Path) -> Life:
    """Return order entry that has taken orders `c0` to `c499` of ann, and their cancels, in several segments."""
    life = Life(folder)
    for number in range(500):
        life.ack(new_order(f"c{number}"))
        life.ack(CancelOrder(asset="ACME", client_order_id=f"c{number}", account="ann", request_id=number))
        if number % 10 == 9:
            life.sync()
    return life


def check(life: Life, first: int = 0) -> None:
    """See that all is known, and that what is new is new."""
    for number in range(first, 500):
        assert life.ack(new_order(f"c{number}")).duplicate
        request = CancelOrder(asset="ACME", client_order_id=f"c{number}", account="ann", request_id=number)
        assert life.ack(request).duplicate
    assert isinstance(life.handle(new_order("c499", quantity=30)), Reject)
    assert not life.ack(new_order(f"new{life.entry.next_order_id}")).duplicate


def test_a_start_goes_on_from_the_newest_state(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    life = filled(tmp_path)
    life.ack(new_order("last"))
    life.sync()
    life.end()
    with caplog.at_level(logging.INFO):
        life = Life(tmp_path)
    from_state, read = what_a_start_read(caplog)
    assert from_state + read == 1003
    assert 0 < read < 300
    check(life)
    life.end()


def what_a_start_read(caplog: pytest.LogCaptureFixture) -> tuple[int, int]:
    """Return how many requests the state had that the last start went on from, and how many it read."""
    from_state, read = (int(word) for word in caplog.messages[-1].split() if word.isdecimal())
    return from_state, read


def test_a_limit_of_a_notional_that_is_new_does_not_keep_a_start_from_its_state(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor where the segments before the state were archived. Who amends an order of before it gives both."""
    life = filled(tmp_path)
    last = life.journal.log.segments[-1].base
    recent = life.entry.next_order_id
    life.ack(new_order("recent", quantity=20, price=100))
    life.sync()
    life.end()
    for archived in (False, True):
        if archived:
            write_carried(life.world.disk, tmp_path, [])
            archive_up_to(life.world.disk, tmp_path, last)
        caplog.clear()
        with caplog.at_level(logging.INFO):
            life = Life(tmp_path, RiskLimits([RiskLimit(max_order_notional=5000)]))
        from_state, read = what_a_start_read(caplog)
        assert from_state + read == 1003
        assert 0 < read < 300
        check(life, first=499)
        life.end()  # without a sync, so that the next life begins as this one did
    life = Life(tmp_path, RiskLimits([RiskLimit(max_order_notional=5000)]))
    life.ack(AmendOrder(asset="ACME", order_id=recent, quantity=50, account="ann"))
    refused = life.handle(AmendOrder(asset="ACME", order_id=recent, quantity=60, account="ann"))
    assert isinstance(refused, Reject)
    assert refused.reason == "risk_limit"
    old = recent - 1
    refused = life.handle(AmendOrder(asset="ACME", order_id=old, quantity=10, account="ann"))
    assert isinstance(refused, Reject)
    assert (refused.reason, refused.text.partition("; ")[2]) == ("risk_limit", "give both")
    life.ack(AmendOrder(asset="ACME", order_id=old, quantity=10, price=100, account="ann"))
    life.end()


def test_without_a_state_of_use_the_start_asks_for_the_segments_that_were_archived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder, archive = tmp_path / "journal", tmp_path / "archive"
    life = filled(folder)
    archive_up_to(life.world.disk, folder, life.journal.log.segments[-1].base, archive)
    life.end()
    monkeypatch.setattr(order_entry_state, "VERSION", order_entry_state.VERSION + 1)
    said = rf"{folder}: no seal here has a state that can be used, .* were archived; put them back .*{folder}/archived"
    with pytest.raises(Damaged, match=said):
        Life(folder)
    for path in archive.iterdir():
        path.rename(folder / path.name)
    (folder / "archived").unlink()
    with caplog.at_level(logging.INFO):
        life = Life(folder)
    assert what_a_start_read(caplog) == (0, 1002)
    check(life)
    life.end()


@pytest.mark.parametrize("lost", ["ids", "ids/header", "ids/checkpoint", "ids/000001.ids"])
def test_a_table_that_was_lost_is_made_again_from_the_journal(
    lost: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled(tmp_path).end()
    path = tmp_path / lost
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    with caplog.at_level(logging.INFO):
        life = Life(tmp_path)
    assert "it is made again from the journal" in caplog.text
    assert ", and all ids, in" in caplog.text
    check(life)
    life.sync()
    life.end()
    caplog.clear()
    with caplog.at_level(logging.INFO):
        life = Life(tmp_path)
    assert "all ids" not in caplog.text, "the next start has what it needs again"
    check(life)
    life.end()


def test_a_journal_of_before_there_was_a_table_is_read_whole_once(tmp_path: Path) -> None:
    filled(tmp_path).end()
    shutil.rmtree(tmp_path / "ids")
    for path in tmp_path.glob("*.seal"):
        path.unlink()
    life = Life(tmp_path)
    check(life)
    life.end()


def test_an_entry_that_leads_nowhere_is_passed_over_and_damage_is_not(tmp_path: Path) -> None:
    life = filled(tmp_path)
    hash_ = life.taken.table.hash("ann/x")
    first = life.journal.orders.position(1)
    for position in (first, first + 5, life.journal.log.end, life.journal.log.end + 10**6, 64):
        life.taken.table.add({hash_: position}.items())
    order = life.ack(new_order("x"))
    assert not order.duplicate, "no request was acknowledged under that id"
    life.sync()
    for number in range(10):
        life.ack(new_order(f"y{number}"))
    assert life.ack(new_order("x")).order_id == order.order_id

    position = life.journal.orders.position(100)
    segment = life.journal.log.segments[0]
    assert segment.base <= position < segment.base + segment.size
    data = bytearray(segment.path.read_bytes())
    data[position - segment.base + 30] ^= 1
    segment.path.write_bytes(data)
    with pytest.raises(Damaged, match="the record is damaged"):
        life.handle(new_order("c99"))
    life.end()


def test_what_the_journal_has_no_more_is_canceled_and_not_amended_and_its_id_is_free(tmp_path: Path) -> None:
    life = filled(tmp_path)
    write_carried(life.world.disk, tmp_path, [])
    archive_up_to(life.world.disk, tmp_path, life.journal.log.segments[-1].base)
    life.end()
    shutil.rmtree(tmp_path / "ids")
    life = Life(tmp_path)
    assert life.entry.next_order_id == 501, "known from the state"
    assert life.ack(CancelOrder(asset="ACME", order_id=1, account="ann")).order_id == 1
    refused = life.handle(AmendOrder(asset="ACME", order_id=1, quantity=10, account="ann"))
    assert isinstance(refused, Reject)
    assert (refused.reason, refused.text) == (
        "unknown_order",
        "order_id 1: the journal that has this order was archived; cancel it and enter another",
    )
    refused = life.handle(CancelOrder(asset="ACME", client_order_id="c0", account="ann"))
    assert isinstance(refused, Reject)
    assert refused.reason == "unknown_order"
    assert not life.ack(new_order("c0")).duplicate
    assert life.ack(new_order("c499")).duplicate
    life.end()


def test_accounts_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exchange.core.exchange_acts.MOST_ACCOUNTS", 2)
    life = Life(tmp_path)
    life.ack(new_order("a", account="ann"))
    life.ack(new_order("a", account="bob"))
    refused = life.handle(new_order("a", account="eve"))
    assert isinstance(refused, Reject)
    assert (refused.reason, refused.text) == (
        "busy",
        "2 accounts are known, the bound; use one of them; tell the operator",
    )
    life.ack(new_order("b", account="bob"))
    life.end()
