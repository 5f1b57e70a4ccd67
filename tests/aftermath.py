"""What must hold of an exchange's files and database, whatever was killed: read without the program's own reader.

Journal and event logs are read record by record, each checksum and its chain looked at; the event logs are compared,
byte for byte, with what a fresh matching core makes of the journal; the tables with the event logs.
"""

import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg

from exchange.config import Config
from exchange.core.events import EventRecord, TradeExecuted
from exchange.core.market_data import Feed
from exchange.core.matching import Matching
from exchange.core.requests import SIDE_NAMES, NewOrder, Record
from exchange.pipeline.codec import decode_record, encode
from tests.published import private_of, public_of, take
from tests.support import wait_until
from tests.trader import Key, Message

HEADER = struct.Struct("<8sIQQI")
HEADER_BYTES = 64
RECORD = struct.Struct("<IIIIQ")
MAGIC = 0x64726F52

Queues = dict[str, list[Record]]


def read_log(folder: Path) -> Iterator[bytes]:
    """Yield the bodies of a log's records. What is damaged or out of place fails the test, an unfinished end too."""
    checksum = 0
    paths = sorted(folder.glob("*.log"))
    for path in paths:
        data = path.read_bytes()
        magic, _, _, base, previous = HEADER.unpack_from(data)
        assert (magic, path.name, previous) == (b"EXCHLOG\n", f"{base:020d}.log", checksum), path
        offset = HEADER_BYTES
        while data[offset : offset + 4].strip(b"\0"):
            magic, found, before, length, _ = RECORD.unpack_from(data, offset)
            end = offset + RECORD.size + length
            assert (magic, before) == (MAGIC, checksum), f"{path}: offset {offset}: out of place"
            checksum = zlib.crc32(data[offset + 8 : end])
            assert found == checksum, f"{path}: offset {offset}: checksum"
            yield data[offset + RECORD.size : end]
            offset = end
        assert not data[offset:].strip(b"\0"), f"{path}: offset {offset}: something follows the last record"


def read_journal(config: Config) -> Queues:
    """Return the journal's records by asset; they must be numbered without a gap, their times never run backwards."""
    queues: Queues = {}
    time = 0
    for body in read_log(config.journal_folder):
        record = decode_record(body)
        queue = queues.setdefault(record.asset, [])
        queue.append(record)
        assert record.sequence == len(queue), f"{record} is number {len(queue)} of {record.asset}"
        assert record.time >= time, f"{record} is of before {time}"
        time = record.time
    return queues


def check_acks(queues: Queues, acks: Mapping[Key, Message], requests: Mapping[Key, Message]) -> None:
    """Fail unless the journal holds each acknowledged request at its acked place, once, and no other request."""
    places: dict[Key, list[Record]] = {}
    for queue in queues.values():
        for record in queue:
            for key in keys_of(record):
                places.setdefault(key, []).append(record)
    for key, ack in acks.items():
        records = places.pop(key, [])
        acked = ack["sequences"] if "sequences" in ack else {ack["asset"]: ack["sequence"]}
        found = [(record.asset, record.sequence) for record in records]
        assert sorted(found) == sorted(acked.items()), f"{requests[key]} was acked {ack}, and the journal has {records}"
        assert records[0].time == ack["time"], f"{ack}: {records[0]}"
        request = records[0].request
        if isinstance(request, NewOrder):
            order = requests[key]
            said = (order["side"], order["quantity"], order.get("price", 0), order["order_type"], ack["order_id"])
            price, kind = request.price, request.order_type
            assert said == (SIDE_NAMES[request.side], request.quantity, price, kind, request.order_id), (
                f"{ack}: {request}"
            )
    assert not places, f"journaled, and never acknowledged: {list(places.values())[:3]}"


def keys_of(record: Record) -> list[Key]:
    """Return the ids by which a journaled request could be sent again."""
    request = record.request
    if isinstance(request, NewOrder):
        return [(record.account, "client_order_id", request.client_order_id)]
    request_id = getattr(request, "request_id", None)
    return [] if request_id is None else [(record.account, "request_id", request_id)]


def check_event_logs(config: Config, queues: Queues) -> dict[str, list[EventRecord]]:
    """Fail unless each event log is what a fresh matching core makes of the journal; return the event records."""
    results: dict[str, list[EventRecord]] = {}
    for asset, queue in queues.items():
        if not asset:
            continue
        core = Matching()
        results[asset] = [core.apply(record) for record in queue]
        logged = list(read_log(config.event_log_folder(asset)))
        assert len(logged) == len(queue), f"{asset}: {len(queue)} requests, {len(logged)} event records"
        for result, body in zip(results[asset], logged, strict=True):
            assert encode(result) == body, f"{asset}: request {result.sequence}: {result}, and the log has {body!r}"
    return results


def stored_up_to(dsn: str, queues: Queues) -> bool:
    """Return whether the database has all that the queues hold."""
    with psycopg.connect(dsn, connect_timeout=30) as connection:
        applied = connection.execute("SELECT asset, sequence FROM applied").fetchall()
    return dict(applied) == {asset: len(queue) for asset, queue in queues.items() if asset}


def settled_journal(config: Config, dsn: str, seconds: float = 60.0) -> Queues:
    """Return the journal's records as soon as the database has all of them; what is due by the clock may still come."""
    journals: list[Queues] = []

    def settled() -> bool:
        journals.append(read_journal(config))
        return stored_up_to(dsn, journals[-1])

    wait_until(settled, "the database has all that the journal has", seconds, pause=0.2)
    return journals[-1]


def check_tables(dsn: str, results: dict[str, list[EventRecord]]) -> None:
    """Fail unless the tables hold each order received and each trade, once, as the event logs have them."""
    with psycopg.connect(dsn) as connection:
        for asset, records in results.items():
            columns = "order_id, sequence, account, client_order_id, quantity, received_at_ns"
            query = f"SELECT {columns} FROM orders WHERE asset = %s ORDER BY sequence"
            found: list[tuple[Any, ...]] = connection.execute(query.encode(), [asset]).fetchall()
            assert found == [
                (
                    request.order_id,
                    record.sequence,
                    record.account,
                    request.client_order_id,
                    request.quantity,
                    record.time,
                )
                for record in records
                if isinstance(request := record.request, NewOrder)
            ]
            columns = "trade_id, price, quantity, maker_order_id, taker_order_id, executed_at_ns"
            query = f"SELECT {columns} FROM trades WHERE asset = %s ORDER BY trade_id"
            found = connection.execute(query.encode(), [asset]).fetchall()
            assert found == [
                (trade.trade_id, trade.price, trade.quantity, trade.maker_order_id, trade.taker_order_id, record.time)
                for record in records
                for trade in record.events
                if isinstance(trade, TradeExecuted)
            ]


def published(records: list[EventRecord]) -> dict[str, list[bytes]]:
    """Return the messages of each of an asset's topics, as a fresh feed makes them of its event records."""
    feed = Feed(records[0].asset)
    topics: dict[str, list[bytes]] = {}
    for record in records:
        feed.apply(record)
        for topic, message in (*public_of(feed), *private_of(feed)):
            topics.setdefault(topic.name, []).append(encode(message))
        take(feed)
    return topics
