"""The order in which the sockets of a fair publisher are served: every place as likely, for each and before each."""

import random
from collections import Counter
from itertools import combinations, pairwise

import pytest

from exchange.pipeline.fair_publisher import Route

MESSAGES = 4_000


def served(count: int, messages: int, seed: int) -> list[list[str]]:
    """Return the order of each message's sends."""
    names = [f"socket {number}" for number in range(count)]
    said: list[str] = []
    route = Route([lambda name=name: said.append(name) for name in names], random.Random(seed))
    orders = []
    for _ in range(messages):
        for send in route.order():
            send()
        orders.append(said.copy())
        said.clear()
    return orders


@pytest.mark.parametrize("count", [2, 3, 16])
def test_every_socket_is_served_once_for_each_message_and_is_in_each_place_as_often(count: int) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    orders = served(count, MESSAGES, seed)
    assert all(len(set(order)) == len(order) == count for order in orders)
    for place in range(count):
        often = Counter(order[place] for order in orders)
        assert len(often) == count
        # As often as 4,000 throws of a die with so many sides, within six standard deviations.
        fair, spread = MESSAGES / count, (MESSAGES * (count - 1)) ** 0.5 / count
        assert all(abs(times - fair) < 6 * spread for times in often.values()), often


def test_of_two_sockets_neither_is_ahead_of_the_other_more_often() -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    orders = served(8, MESSAGES, seed)
    places = [{name: place for place, name in enumerate(order)} for order in orders]
    for one, other in combinations(orders[0], 2):
        ahead = sum(place[one] < place[other] for place in places)
        assert abs(ahead - MESSAGES / 2) < 6 * MESSAGES**0.5 / 2, (one, other, ahead)


def test_the_next_order_does_not_follow_from_the_last() -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    orders = served(6, MESSAGES, seed)
    first_of_next = Counter((order[0], after[0]) for order, after in pairwise(orders))
    assert len(first_of_next) == 36, "after each that was first each may be first"
    assert max(first_of_next.values()) < 2 * MESSAGES / 36
