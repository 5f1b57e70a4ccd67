"""The orders that ended: the last ones are kept, whatever restarts come between, and no more than a quarter beyond."""

import pytest

from exchange.core.feed_notes import Note
from exchange.pipeline.ended_orders import EndedOrders


def notes(first: int, count: int) -> dict[int, Note]:
    note: Note = ("not looked into",)  # type: ignore[assignment]
    return dict.fromkeys(range(first, first + count), note)


@pytest.mark.parametrize("each", [1, 7, 60, 250])
@pytest.mark.parametrize("retained", [1, 10, 100])
def test_the_last_are_kept_and_a_quarter_more_at_most_over_restarts(each: int, retained: int) -> None:
    ended = EndedOrders(retained)
    for start in range(0, 20 * max(each, retained), each):
        ended.add(notes(start, each))
        last = start + each - 1
        for order_id in range(max(last - retained + 1, 0), last + 1):
            assert ended.get(order_id) is not None, f"{order_id} of {last}"
        kept = list(ended.items())
        assert kept == sorted(kept), "the oldest first"
        assert len(kept) <= retained + max(retained // 4, 1) + each
        if start // each % 3 == 2:
            ended = EndedOrders(retained, ended.items())
            assert list(ended.items()) == kept[-retained:]
