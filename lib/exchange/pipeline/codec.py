"""MessagePack to typed values and back, in one place. Sockets and files carry the bytes.

A stream message is `[asset, last, records]`: the stream's asset, the last sequence that its sender has on disk, and
records in order; with no records it is a heartbeat. A record is encoded once, for the log and for all who are sent it.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from exchange.core import messages
from exchange.core.events import EventRecord
from exchange.core.requests import Record
from exchange.pipeline.nesting import split_array

DecodeError = (msgspec.DecodeError, msgspec.ValidationError, RecursionError, UnicodeDecodeError)

encoder = msgspec.msgpack.Encoder()
encode = encoder.encode
decode_record = msgspec.msgpack.Decoder(Record).decode
decode_event_record = msgspec.msgpack.Decoder(EventRecord).decode
decode_record_stream = msgspec.msgpack.Decoder(tuple[str, int, list[Record]]).decode
decode_event_stream = msgspec.msgpack.Decoder(tuple[str, int, list[EventRecord]]).decode
_decode_place = msgspec.msgpack.Decoder(tuple[str, int, msgspec.Raw]).decode
decode_order_entry = msgspec.msgpack.Decoder(messages.OrderEntryRequest).decode
decode_order_entry_batch = msgspec.msgpack.Decoder(list[messages.OrderEntryRequest]).decode
_decode_raw_batch = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
decode_query = msgspec.msgpack.Decoder(messages.Query).decode
decode_anything = msgspec.msgpack.Decoder().decode


class Replay(Struct, array_like=True, tag="replay", frozen=True):
    """Ask a stream's sender for its records from a sequence on; it answers with a stream message of some of them."""

    asset: str
    sequence: int


class Progress(Struct, array_like=True, tag="progress", frozen=True):
    """Tell a stream's sender up to which sequence a receiver has applied it. It is not answered."""

    asset: str
    sequence: int


decode_control = msgspec.msgpack.Decoder(Replay | Progress).decode


def stream_message(asset: str, last: int, bodies: Sequence[bytes]) -> bytes:
    """Return the stream message of records that are encoded already."""
    return b"".join((b"\x93", encode(asset), encode(last), b"\xdd", len(bodies).to_bytes(4, "big"), *bodies))


def decode_stream_place(payload: bytes) -> tuple[str, int]:
    """Return a stream message's asset and last sequence, its records left as they are."""
    asset, last, _ = _decode_place(payload)
    return asset, last


def is_array(payload: bytes) -> bool:
    """Return whether a payload begins a MessagePack array."""
    return payload[:1] in _ARRAY_STARTS


_ARRAY_STARTS = frozenset(bytes([start]) for start in (*range(0x90, 0xA0), 0xDC, 0xDD))


def decode_raw_batch(payload: bytes) -> Sequence[msgspec.Raw | bytes]:
    """Return a batch's items, each still encoded. One that is nested too deeply to be decoded is returned as well."""
    try:
        return _decode_raw_batch(payload)
    except RecursionError:
        return split_array(payload)


def describe_map(payload: bytes) -> dict[str, Any]:
    """Return a payload as a plain map for the sake of an error's text; empty where it is none."""
    try:
        value = decode_anything(payload)
    except DecodeError:
        return {}
    return {key: item for key, item in value.items() if isinstance(key, str)} if isinstance(value, dict) else {}
