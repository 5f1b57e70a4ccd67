"""A stream's receiver: whatever is lost, repeated or reordered on the way, each record once and in order."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from exchange.pipeline.codec import Replay, decode_control
from exchange.pipeline.stream import LONGEST_RETRY_SECONDS, LOST_END_SECONDS, RETRY_SECONDS, Receiver


class Numbered(Struct, frozen=True):
    sequence: int


def numbered(first: int, last: int) -> list[Numbered]:
    return [Numbered(sequence) for sequence in range(first, last + 1)]


def receiver(sequence: int = 0) -> Receiver[Numbered]:
    return Receiver("ACME", sequence)


def test_records_in_order_are_given_as_they_come() -> None:
    end = receiver()
    assert end.receive(2, numbered(1, 2)) == numbered(1, 2)
    assert end.receive(5, numbered(3, 5)) == numbered(3, 5)
    assert end.behind == 0
    assert end.request(0.0) is None


def test_a_repetition_is_dropped_and_an_overlap_cut() -> None:
    end = receiver()
    end.receive(3, numbered(1, 3))
    assert end.receive(3, numbered(1, 3)) == ()
    assert end.receive(5, numbered(2, 5)) == numbered(4, 5)


def test_a_gap_is_asked_for_and_filled() -> None:
    end = receiver()
    end.receive(1, numbered(1, 1))
    assert end.receive(4, numbered(3, 4)) == ()
    request = end.request(10.0)
    assert request is not None
    assert decode_control(request) == Replay("ACME", 2)
    assert end.replayed(4, numbered(2, 4)) == numbered(2, 4)
    assert end.request(11.0) is None


def test_a_lost_tail_is_noticed_by_a_heartbeat() -> None:
    end = receiver()
    end.receive(2, numbered(1, 2))
    end.receive(7, [])
    assert end.behind == 5
    assert end.request(0.0) is not None


def test_at_the_start_a_replay_is_asked_for_without_waiting_for_a_message() -> None:
    request = receiver(12).request(0.0)
    assert request is not None
    assert decode_control(request) == Replay("ACME", 13)


def test_a_replay_is_asked_for_once_until_it_is_answered_or_too_late() -> None:
    end = receiver()
    assert end.request(10.0) is not None
    assert end.request(10.0 + RETRY_SECONDS / 2) is None
    assert end.request(10.0 + RETRY_SECONDS) is not None
    end.replayed(9, numbered(1, 4))
    assert end.request(10.1 + RETRY_SECONDS) is not None, "there is more: ask on at once"


def test_over_a_slow_link_a_replay_is_not_asked_for_again_while_its_answer_is_on_the_way() -> None:
    end = receiver()
    end.receive(100, ())
    assert end.request(10.0) is not None
    assert end.request(11.0) is not None, "it is not known yet that it takes longer"
    end.replayed(100, numbered(1, 10))  # after three seconds
    assert end.request(13.0) is not None, "the next"
    assert end.request(18.9) is None
    assert end.request(19.0) is not None, "it was lost"
    end.replayed(100, numbered(11, 20))
    assert end.request(20.0) is not None
    assert end.request(20.0 + LONGEST_RETRY_SECONDS - 0.1) is None
    assert end.request(20.0 + LONGEST_RETRY_SECONDS) is not None
    end.replayed(100, numbered(21, 30))  # of a sender that was away
    assert end.request(50.0) is not None
    assert end.request(50.0 + RETRY_SECONDS) is not None
    end.replayed(100, numbered(31, 100))
    assert end.request(60.0) is None, "there is no more"
    end.receive(101, ())
    assert end.request(70.0) is not None
    assert end.request(70.0 + RETRY_SECONDS) is not None, "what was long ago does not count"


def test_a_sender_that_has_lost_its_end_is_seen_when_it_stays_so() -> None:
    end = receiver(10)
    assert not end.lost_end(0.0)
    end.receive(7, [])
    assert (end.sequence, end.sender_last) == (10, 7)
    assert end.request(0.0) is None
    assert not end.lost_end(1.0)
    assert not end.lost_end(1.0 + LOST_END_SECONDS)
    assert end.lost_end(1.1 + LOST_END_SECONDS)


def test_an_answer_that_is_older_than_what_came_since_is_no_lost_end() -> None:
    end = receiver()
    end.receive(5, numbered(1, 5))
    end.replayed(3, numbered(1, 3))
    assert not end.lost_end(0.0)
    end.receive(5, [])
    assert not end.lost_end(1.0 + LOST_END_SECONDS)


def test_an_answer_that_brings_nothing_new_is_not_followed_by_another_question_at_once() -> None:
    end = receiver()
    end.receive(9, [])
    assert end.request(10.0) is not None
    end.replayed(9, [])
    assert end.request(10.1) is None
    end.replayed(9, numbered(1, 4))
    assert end.request(10.2) is not None
    end.replayed(9, numbered(1, 4))
    assert end.request(10.3) is None, "a second answer to the first question"
    assert end.request(10.2 + RETRY_SECONDS) is not None


@settings(deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 0.9))
def test_each_record_comes_once_and_in_order_over_a_network_that_loses_repeats_and_reorders(
    seed: int, loss: float
) -> None:
    source = random.Random(seed)
    end = receiver()
    given: list[Numbered] = []
    written, now = 0, 0.0
    in_flight: list[tuple[int, list[Numbered], bool]] = []
    while len(given) < 60:
        now += 0.3
        if written < 60:
            count = source.randint(0, 4)
            written = min(60, written + count)
            in_flight.append((written, numbered(max(1, written - count + 1), written), False))
        else:
            in_flight.append((written, [], False))
        request = end.request(now)
        if request is not None:
            control = decode_control(request)
            in_flight.append((written, numbered(control.sequence, min(written, control.sequence + 6)), True))
        source.shuffle(in_flight)
        for _ in range(source.randint(0, len(in_flight))):
            last, records, replay = in_flight.pop()
            if source.random() >= loss:
                given.extend((end.replayed if replay else end.receive)(last, records))
                if source.random() < 0.2:
                    in_flight.append((last, records, replay))
        assert given == numbered(1, len(given))
