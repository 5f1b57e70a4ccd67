"""The client's book: a snapshot and the updates behind it."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

import exchange.client.book
from exchange.client.book import Book, BookGap
from exchange.client.queries import BookSnapshot
from exchange.core.messages import BookUpdate, SideName

SNAPSHOT = BookSnapshot("ACME", 7, bids=[(1000, 10, 1), (995, 20, 2)], asks=[(1005, 30, 3)], time=1)

sides = st.sampled_from(["buy", "sell"])
changes = st.lists(st.tuples(sides, st.integers(1, 9), st.integers(0, 5), st.integers(1, 3)), max_size=4)


def test_a_snapshot_is_the_book_at_its_sequence() -> None:
    book = Book.from_snapshot(SNAPSHOT)
    assert book.sequence == 7
    assert book.bids() == SNAPSHOT.bids
    assert book.asks() == SNAPSHOT.asks
    assert book.bids(1) == [(1000, 10, 1)]


def test_updates_set_levels_and_a_quantity_of_zero_removes_one() -> None:
    book = Book.from_snapshot(SNAPSHOT)
    assert book.apply(BookUpdate("ACME", 8, [("buy", 1000, 0, 0), ("sell", 1005, 25, 2), ("sell", 1010, 5, 1)], 2))
    assert book.bids() == [(995, 20, 2)]
    assert book.asks() == [(1005, 25, 2), (1010, 5, 1)]


def test_an_update_that_the_snapshot_holds_already_changes_nothing() -> None:
    book = Book.from_snapshot(SNAPSHOT)
    assert not book.apply(BookUpdate("ACME", 7, [("buy", 1000, 0, 0)], 1))
    assert book.bids() == SNAPSHOT.bids


def test_in_a_call_the_book_may_be_crossed() -> None:
    crossed = BookSnapshot("ACME", 7, bids=[(1010, 10, 1), (995, 20, 2)], asks=[(1005, 30, 3), (1010, 5, 1)], time=1)
    book = Book.from_snapshot(crossed)
    assert (book.bids(1), book.asks(1)) == ([(1010, 10, 1)], [(1005, 30, 3)])
    assert book.apply(BookUpdate("ACME", 8, [("buy", 1010, 0, 0), ("sell", 1005, 20, 2)], 2))
    assert (book.bids(), book.asks()) == ([(995, 20, 2)], [(1005, 20, 2), (1010, 5, 1)])


def test_a_missing_update_is_noticed_and_nothing_is_applied() -> None:
    book = Book.from_snapshot(SNAPSHOT)
    with pytest.raises(BookGap, match="update 9 where 8 is next"):
        book.apply(BookUpdate("ACME", 9, [("buy", 1000, 0, 0)], 3))
    assert book.bids() == SNAPSHOT.bids


@given(updates=st.lists(changes, max_size=20), at=st.integers(0, 20))
def test_a_snapshot_taken_at_any_time_leads_to_the_same_book(
    updates: list[list[tuple[SideName, int, int, int]]], at: int
) -> None:
    messages = [BookUpdate("ACME", number, each, number) for number, each in enumerate(updates, 1)]
    whole, late = Book("ACME"), Book("ACME")
    for message in messages[:at]:
        late.apply(message)
    joined = Book.from_snapshot(BookSnapshot("ACME", late.sequence, late.bids(), late.asks(), late.time))
    for message in messages:
        whole.apply(message)
        joined.apply(message)
        whole.check()
    assert (joined.bids(), joined.asks(), joined.sequence) == (whole.bids(), whole.asks(), whole.sequence)


def test_the_example_in_the_docstring() -> None:
    assert doctest.testmod(exchange.client.book).failed == 0
