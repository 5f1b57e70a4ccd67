"""MessagePack to typed values and back, in one place. Sockets and files carry the bytes.

A stream message is `[asset, last, records]`: the stream's asset, the last sequence that its sender has on disk, and
records in order; with no records it is a heartbeat. A record is encoded once, for the log and for all who are sent it.
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from exchange.core import messages
from exchange.core.asset import Status
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


class EventPlace(Struct, array_like=True, frozen=True, gc=False):
    """The beginning of an event record: whose it is, and its place there."""

    asset: str
    sequence: int


decode_event_place = msgspec.msgpack.Decoder(EventPlace).decode


class Replay(Struct, array_like=True, tag="replay", frozen=True):
    """Ask a stream's sender for its records from a sequence on; it answers with a stream message of some of them."""

    asset: str
    sequence: int


class Progress(Struct, array_like=True, tag="progress", frozen=True):
    """Tell a stream's sender up to which sequence a receiver has applied it. It is not answered.

    A matching daemon says too what the asset's trading status is as of that sequence, the sequence of the request that
    began the present call, and when that call ends by itself, in nanoseconds; 0 where there is no call, or no end.
    `status` is empty until the asset is defined. `logged` is the last request in its event log: after a start that is
    ahead of what has been applied. (Programs before there were several hosts say 0.)
    """

    asset: str
    sequence: int
    status: Status | Literal[""] = ""
    call: int = 0
    call_ends: int = 0
    logged: int = 0


class CountOpen(Struct, array_like=True, tag="count_open", frozen=True):
    """Ask a matching daemon how many open orders each account has.

    The order handler sends it on its ROUTER, as the answer to a replay. What comes is `OpenOrders`, as soon as the
    daemon has applied all requests that it knows of.
    """

    asset: str


class OpenOrders(Struct, array_like=True, tag="open_orders", frozen=True):
    """Tell the order handler how many live orders accounts have in the asset as of a sequence.

    A complete count may come in several messages of the same sequence, the last of which is `complete`: an account that
    none of them names has no open orders. It is not answered.
    """

    asset: str
    sequence: int
    counts: dict[str, int]
    complete: bool = False


Control = Replay | Progress | CountOpen | OpenOrders
decode_control = msgspec.msgpack.Decoder(Control).decode


def is_count_open(payload: bytes) -> bool:
    """Return whether what the order handler has sent is a `CountOpen`; all else that it sends is stream messages."""
    return payload[:1] == _COUNT_OPEN_START


_COUNT_OPEN_START = b"\x92"  # an array of two
_STREAM_START = b"\x93"  # an array of three


def stream_message(asset: str, last: int, bodies: Sequence[bytes]) -> bytes:
    """Return the stream message of records that are encoded already."""
    return b"".join((_STREAM_START, encode(asset), encode(last), b"\xdd", len(bodies).to_bytes(4, "big"), *bodies))


def decode_stream_place(payload: bytes) -> tuple[str, int]:
    """Return a stream message's asset and last sequence, its records left as they are."""
    asset, last, _ = _decode_place(payload)
    return asset, last


def count_items(payload: bytes) -> int:
    """Return how many requests a payload says that it has, 1 where it is no array, or an empty one."""
    first = payload[0] if payload else 0
    if first < 0x90 or first not in _ARRAY_STARTS:
        return 1
    return (first & 0x0F if first < 0xDC else int.from_bytes(payload[1 : 3 if first == 0xDC else 5], "big")) or 1


def is_array(payload: bytes) -> bool:
    """Return whether a payload begins a MessagePack array."""
    return payload != b"" and payload[0] in _ARRAY_STARTS


_ARRAY_STARTS = frozenset((*range(0x90, 0xA0), 0xDC, 0xDD))


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
