"""Messages kept for retransmission, on a real disk."""

import errno
import os
from pathlib import Path

import pytest

from exchange.pipeline.message_store import READ_AHEAD, MessageStore

TRADES, REPORTS = "trade/ACME/", "execution/alice/ACME/"


def test_messages_are_found_by_topic_and_number_short_and_long(tmp_path: Path) -> None:
    store = MessageStore(tmp_path, 1000)
    payloads = [bytes([number]) * size for number, size in enumerate([1, 100, READ_AHEAD, READ_AHEAD + 1, 100_000], 1)]
    for number, payload in enumerate(payloads, 1):
        store.add(TRADES, number, payload)
        store.add(REPORTS, number, payload[::-1] + b"!")
    store.write()
    for number, payload in enumerate(payloads, 1):
        assert store.read(TRADES, number) == payload
        assert store.read(REPORTS, number) == payload[::-1] + b"!"
    assert store.read(TRADES, 0) is None
    assert store.read(TRADES, len(payloads) + 1) is None
    assert store.read("bbo/ACME/", 1) is None
    store.close()


def test_at_least_half_of_what_is_to_be_retained_is_and_never_more_than_all(tmp_path: Path) -> None:
    store = MessageStore(tmp_path, 100)
    for number in range(1, 1001):
        store.add(TRADES, number, number.to_bytes(4, "big"))
        store.write()
        earliest = store.earliest(TRADES)
        kept = 0 if earliest is None else number - earliest + 1
        assert kept <= 100
        assert kept >= min(number, 50)
        assert earliest is None or store.read(TRADES, earliest) == earliest.to_bytes(4, "big")
    store.close()


def test_the_file_is_gone_with_its_process_however_that_ends(tmp_path: Path) -> None:
    store = MessageStore(tmp_path, 100)
    store.add(TRADES, 1, b"x")
    store.write()
    assert list(tmp_path.iterdir()) == []
    store.close()


def test_on_a_full_disk_old_messages_are_given_up_and_new_ones_kept_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one failure that is not real here: the disk says that it is full."""
    store = MessageStore(tmp_path, 100)
    store.add(TRADES, 1, b"one")
    store.write()

    def fail(file: int, data: memoryview) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", fail)
        store.add(TRADES, 2, b"two")
        store.write()
    assert store.earliest(TRADES) is None
    assert store.read(TRADES, 1) is None
    store.add(TRADES, 3, b"three")
    store.write()
    assert store.earliest(TRADES) == 3
    assert store.read(TRADES, 3) == b"three"
    store.close()
