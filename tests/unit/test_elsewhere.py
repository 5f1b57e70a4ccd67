"""What the order handler makes of what it hears from matching daemons on other hosts."""

from pathlib import Path
from typing import Any

import pytest

from exchange.config import Config
from exchange.pipeline.codec import OpenOrders, Progress, Replay
from exchange.pipeline.daemon import Refused
from exchange.pipeline.elsewhere import SILENT_SECONDS, Elsewhere, read_control
from tests.unit.test_hosts import read


class NoTransport:
    """Makes no socket: nothing is heard but what a test says."""

    def router(self, endpoint: str) -> Any:
        return None


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return read(tmp_path)  # ACME is here, GOLD on b


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def elsewhere(config: Config, clock: Clock) -> Elsewhere:
    return Elsewhere(config, NoTransport(), clock)  # type: ignore[arg-type]


def journal_has(sequence: int) -> Any:
    return lambda asset: sequence


def test_an_asset_of_this_host_is_none_of_its_business(elsewhere: Elsewhere) -> None:
    elsewhere.hold({"ACME": 3, "GOLD": 3})
    assert elsewhere.unheard == {"GOLD": 3}
    assert elsewhere.note(Progress("ACME", 9, logged=9), journal_has(3))
    assert elsewhere.note(Replay("ACME", 1), journal_has(3))


def test_what_was_not_heard_of_is_answered_nothing_until_it_says_what_it_has(elsewhere: Elsewhere) -> None:
    elsewhere.hold({"GOLD": 3})
    assert not elsewhere.note(Replay("GOLD", 1), journal_has(3))
    assert not elsewhere.note(OpenOrders("GOLD", 1, {}), journal_has(3))
    assert elsewhere.note(Progress("GOLD", 0, logged=3), journal_has(3))
    assert elsewhere.unheard == {}
    assert elsewhere.note(Replay("GOLD", 1), journal_has(3))


@pytest.mark.parametrize("progress", [Progress("GOLD", 0, logged=4), Progress("GOLD", 4)])
def test_the_first_word_is_compared_with_the_journal_as_it_was_opened(elsewhere: Elsewhere, progress: Progress) -> None:
    """What came into the journal since is in the lost requests' places. A daemon that rebuilds has logged more."""
    elsewhere.hold({"GOLD": 3})
    with pytest.raises(Refused, match=r"ends with request 3 of GOLD, .* on host b, has request 4: .* end was lost"):
        elsewhere.note(progress, journal_has(10))


def test_later_words_are_compared_with_the_journal_as_it_is(elsewhere: Elsewhere) -> None:
    elsewhere.hold({"GOLD": 3})
    elsewhere.note(Progress("GOLD", 3, logged=3), journal_has(3))
    assert elsewhere.note(Progress("GOLD", 5, logged=5), journal_has(5))
    with pytest.raises(Refused, match="has request 6"):
        elsewhere.note(Progress("GOLD", 6, logged=6), journal_has(5))


def test_an_asset_that_the_journal_does_not_know_has_nothing_to_lose(elsewhere: Elsewhere) -> None:
    elsewhere.hold({})
    with pytest.raises(Refused, match="ends with request 0 of GOLD"):
        elsewhere.note(Progress("GOLD", 1, logged=1), journal_has(1))
    elsewhere.hold({})
    assert elsewhere.note(Progress("GOLD", 0), journal_has(1))


def test_who_is_silent_is_told_with_since_when(elsewhere: Elsewhere, clock: Clock) -> None:
    assert elsewhere.silent() == {}
    clock.now += SILENT_SECONDS
    assert elsewhere.silent() == {"GOLD": SILENT_SECONDS}
    assert elsewhere.seconds() == {}
    elsewhere.note(Progress("GOLD", 0), journal_has(1))
    clock.now += 1.0
    assert elsewhere.silent() == {}
    assert elsewhere.seconds() == {"GOLD": 1.0}


def test_what_can_not_be_read_is_nothing(caplog: pytest.LogCaptureFixture) -> None:
    for payload in (b"", b"\xc1", b"\x93\x01\x02\x03"):
        assert read_control(payload) is None
    assert len(caplog.records) == 3
