"""Taking a MessagePack array apart: the same items as a decoder finds, at any depth, and no others."""

import random
from typing import Any

import msgpack
import msgspec
import pytest

from exchange.pipeline.nesting import split_array

DEEP = 60_000


def value(random_: random.Random, depth: int) -> Any:
    """Return a random value of any of MessagePack's kinds and sizes."""
    kind = random_.randrange(9 if depth else 7)
    size = random_.choice((0, 1, 15, 16, 31, 32, 255, 256, 65_536))
    if kind == 0:
        return random_.choice((None, True, False, 0.5))
    if kind == 1:
        return random_.choice((1, -1)) * random_.getrandbits(random_.randrange(1, 64))
    if kind == 2:
        return 2**64 - 1 - random_.getrandbits(10)
    if kind == 3:
        return "x" * size
    if kind == 4:
        return b"x" * size
    if kind == 5:
        return msgpack.ExtType(random_.randrange(128), b"x" * random_.choice((1, 2, 4, 8, 16, size)))
    count = random_.choice((0, 1, 3, 15, 16, 40)) if depth else 0
    if kind == 6:
        return [value(random_, depth - 1) for _ in range(count)]
    return {str(number): value(random_, 0) for number in range(count)}


@pytest.mark.parametrize("seed", range(20))
def test_any_array_is_split_as_a_decoder_would(seed: int) -> None:
    random_ = random.Random(seed)
    items = [value(random_, 2) for _ in range(random_.choice((0, 1, 15, 16, 100)))]
    encoded = [msgpack.packb(item) for item in items]
    payload = msgpack.packb(items)
    assert split_array(payload) == encoded
    for length in random_.sample(range(len(payload)), min(len(payload), 10)):
        with pytest.raises(msgspec.DecodeError):
            split_array(payload[:length])
    with pytest.raises(msgspec.DecodeError):
        split_array(payload + b"\xc0")


def test_an_array_with_a_long_header_is_split() -> None:
    assert split_array(b"\xdd\0\0\0\x02\x01\xc0") == [b"\x01", b"\xc0"]


@pytest.mark.parametrize("nested", [b"\x91" * DEEP + b"\xc0", b"\x81\x01" * DEEP + b"\xc0"])
def test_an_item_may_be_nested_at_any_depth(nested: bytes) -> None:
    assert split_array(b"\x93\x01" + nested + b"\x02") == [b"\x01", nested, b"\x02"]


@pytest.mark.parametrize(
    "payload", [b"", b"\xc0", b"\x80", b"\x91\xc1", b"\xdd\xff\xff\xff\xff", b"\x91\xdb\xff\xff\xff\xff"]
)
def test_what_is_no_array_is_refused(payload: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        split_array(payload)
