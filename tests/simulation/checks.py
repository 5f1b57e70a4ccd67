"""What has to hold of an exchange that has come to rest: nothing lost, nothing twice, all as a fresh run has it."""

import struct
import zlib
from typing import TYPE_CHECKING, Any

from exchange.core.events import EventRecord
from exchange.core.market_data import Feed
from exchange.core.matching import Matching
from exchange.core.messages import MassCancel as MassCancelMessage
from exchange.core.requests import (
    EXCHANGE,
    AmendOrder,
    CancelOrder,
    ChangeStatus,
    DefineAsset,
    MassCancel,
    NewOrder,
    Record,
)
from exchange.pipeline.codec import decode_record, encode
from exchange.store.rows import COLUMNS, Reached, Rows
from tests.published import private_of, public_of, take
from tests.simulation.clients import Trader, decode, expected
from tests.simulation.database import KEYS, read_copy
from tests.simulation.disk import Storage
from tests.simulation.kernel import Failed

if TYPE_CHECKING:
    from tests.simulation.exchange import Exchange

HEADER = struct.Struct("<8sIQQI")
RECORD = struct.Struct("<IIIIQ")
MAGIC = 0x64726F52


def unsettled(exchange: "Exchange") -> str:
    """Return what is still under way, empty where nothing is."""
    for process in exchange.processes.values():
        if not process.running:
            return f"{process.name} is not running"
    for trader in exchange.traders:
        if trader.outstanding:
            return f"{trader.name} waits for {trader.outstanding} answers"
    queues = exchange.order_handler.daemon.handler.entry.queues
    for asset in exchange.config.assets:
        name = asset.asset
        last = queues[name].sequence
        places = {
            "matching": exchange.processes[f"matching-{name}"].daemon.engine.matching.sequence,
            "database": exchange.machine.server.tables["applied"].get(name, (0,))[0],
            "notifier": exchange.notifier.daemon.notifier.boards[name].feed.sequence,
        }
        for who, place in places.items():
            if place != last:
                return f"{name}: {who} is at {place}, the journal at {last}"
    if missing := exchange.subscriber.missing():
        return f"{exchange.subscriber.name} misses messages of {missing}"
    for board in exchange.notifier.daemon.notifier.boards.values():
        for topic in (*board.feed.topics.values(), *board.feed.reports.topics.values()):
            if topic.sequence != exchange.subscriber.last.get(topic.name, 0):
                return f"{exchange.subscriber.name} has not heard of {topic.name} {topic.sequence}"
    return ""


def check(exchange: "Exchange") -> None:
    """Check all that was promised. Raises Failed."""
    storage = exchange.machine.storage
    journal = [decode_record(body) for body in read_log(storage, str(exchange.config.journal_folder))]
    queues = check_journal(journal)
    count_files(exchange)
    for trader in exchange.traders:
        check_acks(trader, queues)
    check_operator(exchange, queues)
    events: dict[str, list[EventRecord]] = {}
    for asset, records in queues.items():
        if asset != EXCHANGE:
            matching = Matching()
            events[asset] = [matching.apply(record) for record in records]
            check_event_log(storage, f"{exchange.config.data}/events/{asset}", events[asset])
            count_rare(exchange, events[asset])
    check_rows(exchange, events)
    feeds = {asset: PublishedFeed(asset, records) for asset, records in events.items()}
    check_published(exchange, feeds)
    check_queries(exchange, feeds)
    for process in exchange.processes.values():
        if process.life is None:
            raise Failed(f"{process.name} has ended")


# -- logs --------------------------------------------------------------------------------------------------------------


def read_log(storage: Storage, folder: str) -> list[bytes]:
    """Return the bodies of a log's records, read by nothing but the description of its format."""
    bodies: list[bytes] = []
    checksum, base = 0, 0
    for name in storage.in_folder(folder):
        if not name.endswith(".log"):
            continue
        data = bytes(storage.names[f"{folder}/{name}"].data)
        magic, _, size, start, previous = HEADER.unpack_from(data)
        if magic != b"EXCHLOG\n" or zlib.crc32(data[:60]) != int.from_bytes(data[60:64], "little"):
            raise Failed(f"{folder}/{name}: its header is damaged")
        if start != base or previous != checksum:
            raise Failed(f"{folder}/{name}: does not continue the segment before")
        base = start + size
        at = 64
        while at + RECORD.size <= len(data) and data[at : at + 4] != b"\0\0\0\0":
            magic, own, before, length, _ = RECORD.unpack_from(data, at)
            body = data[at + RECORD.size : at + RECORD.size + length]
            if magic != MAGIC or before != checksum or zlib.crc32(body, zlib.crc32(data[at + 8 : at + 24])) != own:
                raise Failed(f"{folder}/{name}: offset {at}: the record is damaged")
            checksum = own
            bodies.append(body)
            at += RECORD.size + length
        if data[at:].strip(b"\0"):
            raise Failed(f"{folder}/{name}: offset {at}: something follows the last record")
    return bodies


def check_journal(journal: list[Record]) -> dict[str, list[Record]]:
    """Check places, times and order ids; return each asset's records."""
    queues: dict[str, list[Record]] = {}
    time, order_id = 0, 0
    for record in journal:
        queue = queues.setdefault(record.asset, [])
        queue.append(record)
        if record.sequence != len(queue):
            raise Failed(f"journal: {record} has the place {len(queue)} of its queue")
        if record.time < time:
            raise Failed(f"journal: time runs backwards: {record} after {time}")
        time = record.time
        if type(record.request) is NewOrder:
            order_id += 1
            if record.request.order_id != order_id:
                raise Failed(f"journal: {record} is order {order_id}")
    return queues


def check_event_log(storage: Storage, folder: str, events: list[EventRecord]) -> None:
    """Check that an event log holds what a fresh matching core gives, byte for byte."""
    logged = read_log(storage, folder)
    for place, (found, event) in enumerate(zip(logged, events, strict=False), 1):
        if found != encode(event):
            raise Failed(f"{folder}: request {place} gave {decode(found)}; a fresh core gives {event}")
    if len(logged) != len(events):
        raise Failed(f"{folder}: has {len(logged)} requests, the journal {len(events)}")


# -- acks --------------------------------------------------------------------------------------------------------------


def check_acks(trader: Trader, queues: dict[str, list[Record]]) -> None:
    """Check that each acked request is in the journal at its place, and each request there once at most."""
    found: dict[tuple[str, str], list[Record]] = {}
    for records in queues.values():
        for record in records:
            request = record.request
            if record.account != trader.account:
                continue
            if type(request) is NewOrder:
                key = ("order", request.client_order_id)
            elif type(request) in (AmendOrder, CancelOrder, MassCancel) and request.request_id is not None:  # type: ignore[union-attr]
                key = ("request", str(request.request_id))  # type: ignore[union-attr]
            else:
                continue
            found.setdefault(key, []).append(record)
    for key, records in found.items():
        message = trader.contents[key]
        if key in trader.gave_up:
            raise Failed(f"{trader.account}: {message} was rejected, and is in the journal: {records}")
        if type(message) is MassCancelMessage:
            if len({record.asset for record in records}) != len(records) or len(records) != records[0].request.parts:  # type: ignore[union-attr]
                raise Failed(f"{trader.account}: {message} is in the journal as {records}")
        elif len(records) > 1:
            raise Failed(f"{trader.account}: {message} was taken twice: {records}")
        else:
            request = records[0].request
            if request != expected(message, request.order_id):  # type: ignore[union-attr]
                raise Failed(f"{trader.account}: {message} is in the journal as {records[0]}")
    for key, ack in trader.acked.items():
        records = found.get(key, [])
        if not records:
            raise Failed(f"{trader.account}: {ack} was acked, and is not in the journal")
        places = {record.asset: record.sequence for record in records}
        acked = ack.sequences if isinstance(ack.sequences, dict) else {ack.asset: ack.sequence}
        if places != acked or records[0].time != ack.time:
            raise Failed(f"{trader.account}: {ack} was acked, and the journal has {records}")
        if isinstance(ack.order_id, int) and ack.order_id != records[0].request.order_id:  # type: ignore[union-attr]
            raise Failed(f"{trader.account}: {ack} was acked, and the journal has {records}")


def check_operator(exchange: "Exchange", queues: dict[str, list[Record]]) -> None:
    for act, done in exchange.operator.done:
        for asset, sequence in done.sequences.items():
            records = queues.get(asset, [])
            record = records[sequence - 1] if sequence <= len(records) else None
            if record is None or getattr(record.request, "by", "") != act.by:
                raise Failed(f"{act} was answered {done}, and the journal has {record}")


# -- the database ------------------------------------------------------------------------------------------------------


def check_rows(exchange: "Exchange", events: dict[str, list[EventRecord]]) -> None:
    """Check that the database has each row once, no other, and the right `applied`."""
    tables = exchange.machine.server.tables
    wanted: dict[str, dict[Any, Any]] = {table: {} for table in COLUMNS}
    for asset, records in events.items():
        rows, places = Rows(), Reached({})
        rows.add(records, places)
        reached = places[asset]
        for table, data in rows.tables().items():
            for row in read_copy(table, data):
                columns = dict(zip(COLUMNS[table], row, strict=True))
                wanted[table][tuple(columns[key] for key in KEYS[table])] = row
        applied = tables["applied"][asset]
        if applied[:3] != (reached.sequence, reached.event_sequence, reached.trade_id) or applied[4] != reached.time:
            raise Failed(f"database: applied says {applied} of {asset}, and {reached} is right")
        definition = [record for record in records if type(record.request) is DefineAsset][-1]
        if tables["assets"][asset][-3] != definition.sequence:
            raise Failed(f"database: the definition of {asset} is of {tables['assets'][asset][-3]}")
    for table, rows_ in wanted.items():
        if tables[table] != rows_:
            missing = [row for key, row in rows_.items() if tables[table].get(key) != row]
            other = [row for key, row in tables[table].items() if rows_.get(key) != row]
            raise Failed(f"database: {table} lacks {missing[:3]} and has {other[:3]}")


# -- what was published ------------------------------------------------------------------------------------------------


REFUSALS = ("cancel_rejected", "amend_rejected")  # which leave an order's last report what it was


class PublishedFeed:
    """All messages of an asset's topics as a fresh fold of its events makes them, and each order's last report."""

    def __init__(self, asset: str, records: list[EventRecord]) -> None:
        self.feed = feed = Feed(asset)
        self.topics: dict[str, dict[int, bytes]] = {}
        self.reports: dict[tuple[str, int], bytes] = {}
        for record in records:
            feed.apply(record)
            for topic, message in public_of(feed):
                self.topics.setdefault(topic.name, {})[message.sequence] = encode(message)
            for topic, report in private_of(feed):
                payload = encode(report)
                self.topics.setdefault(topic.name, {})[report.sequence] = payload
                if report.exec_type not in REFUSALS:
                    self.reports[report.account, report.order_id] = payload
            take(feed)


def check_published(exchange: "Exchange", feeds: dict[str, PublishedFeed]) -> None:
    """Check that the subscriber has every message of every topic, as a fresh fold makes them, and no other."""
    subscriber = exchange.subscriber
    wanted = {topic: messages for feed in feeds.values() for topic, messages in feed.topics.items()}
    for topic, messages in subscriber.topics.items():
        for number, payload in messages.items():
            right = wanted.get(topic, {}).get(number)
            if right != payload:
                right_text = None if right is None else decode(right)
                raise Failed(f"{topic} {number} was published as {decode(payload)}; a fresh fold gives {right_text}")
    for topic, messages in wanted.items():
        for number in range(subscriber.too_old.get(topic, 1), len(messages) + 1):
            if number not in subscriber.topics.get(topic, {}):
                raise Failed(f"{subscriber.name} never got {topic} {number}: {decode(messages[number])}")
        given_up = exchange.profile.retained_messages < 10_000 or exchange.kernel.seen["disk full"]
        if subscriber.too_old.get(topic, 1) > 1 and not given_up:
            raise Failed(f"{topic}: {subscriber.too_old[topic] - 1} messages are past retention")


def check_queries(exchange: "Exchange", feeds: dict[str, PublishedFeed]) -> None:
    """Check what the notifier answers of orders."""
    answer = exchange.notifier.daemon.queries.answer
    for asset, published in feeds.items():
        for trader in exchange.traders:
            account = trader.account
            reply = answer(encode({"type": "open_orders", "account": account, "asset": asset}))
            owner = published.feed.book.accounts.get(account)
            live = sorted(owner.orders) if owner is not None else []
            found = [decode(bytes(report)) for report in reply["orders"]]
            wanted = [decode(published.reports[account, order_id]) for order_id in live]
            if found != wanted:
                raise Failed(f"open_orders of {account} in {asset}: {found}; a fresh fold gives {wanted}")
        orders = list(published.reports.items())
        for (account, order_id), report in exchange.chance.sample(orders, min(10, len(orders))):
            reply = answer(encode({"type": "order_status", "account": account, "asset": asset, "order_id": order_id}))
            if not isinstance(reply, dict) or bytes(reply["report"]) != report:
                raise Failed(f"order_status of {order_id}: {reply}; a fresh fold gives {decode(report)}")


def count_rare(exchange: "Exchange", events: list[EventRecord]) -> None:
    """Count what happened, to see that the simulation comes to it."""
    seen = exchange.kernel.seen
    for record in events:
        request = record.request
        if type(request) is MassCancel and request.reason == "disconnected":
            seen["canceled on disconnect"] += 1
        elif type(request) is ChangeStatus and request.call:
            seen["a call ended by itself"] += 1
        for event in record.events:
            seen[f"event: {type(event).__name__}"] += 1


def count_files(exchange: "Exchange") -> None:
    seen = exchange.kernel.seen
    names = exchange.machine.storage.names
    for folder, kind in (
        (str(exchange.config.journal_folder), "journal"),
        (f"{exchange.config.data}/events", "event log"),
    ):
        there = [name for name in names if name.startswith(folder)]
        seen[f"segments of a {kind}"] += sum(name.endswith(".log") for name in there)
        seen[f"seals of a {kind}"] += sum(name.endswith(".seal") for name in there)
    seen["table of ids grew"] += sum(name.endswith("000001.ids") for name in names)
