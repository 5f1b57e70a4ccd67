"""The book's two ladders: places in a queue, the best price, levels deep enough to change their queue, `check()`."""

import random
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest

from exchange.core.book import DEEP, MANY, MOST_KEYS, Book, Ladder, Level, Order, orders_of
from exchange.core.requests import BUY, SELL, Side
from tests.market import Market


def rest(book: Book, order_id: int, side: Side, price: int, quantity: int = 10, account: str = "ann") -> Order:
    """Rest an order and return it."""
    order = Order(order_id, book.account(account), side, price, quantity, quantity)
    book.add(order)
    return order


def queue(book: Book, side: Side, price: int) -> list[int]:
    """Return the order ids of a level, first in time first."""
    return [order.order_id for order in orders_of(book.ladders[side].levels[side * price])]


@pytest.mark.parametrize(("side", "best", "worst"), [(BUY, 103, 97), (SELL, 97, 103)])
def test_levels_are_sorted_by_price_however_they_came(side: Side, best: int, worst: int) -> None:
    book = Book()
    for order_id, price in enumerate((100, 103, 97, 101, 99), 1):
        rest(book, order_id, side, price)
        book.check()
    prices = [price for price, _, _ in book.ladders[side].best_first()]
    assert prices == sorted((97, 99, 100, 101, 103), reverse=side == BUY)
    assert (prices[0], prices[-1]) == (best, worst)
    assert book.best(side) == (best, 10)


def test_the_best_of_an_empty_side_is_none() -> None:
    book = Book()
    rest(book, 1, BUY, 100)
    assert book.best(SELL) is None


@pytest.mark.parametrize("gone", [97, 100, 103])
def test_a_level_that_is_not_the_best_can_go_too(gone: int) -> None:
    book = Book()
    orders = {price: rest(book, price, SELL, price) for price in (97, 100, 103)}
    book.remove(orders[gone])
    book.check()
    assert [price for price, _, _ in book.ladders[SELL].best_first()] == [p for p in (97, 100, 103) if p != gone]


def test_a_cancel_in_the_middle_leaves_the_others_in_their_places() -> None:
    book = Book()
    orders = [rest(book, order_id, BUY, 100) for order_id in range(1, 6)]
    book.remove(orders[2])
    book.check()
    assert queue(book, BUY, 100) == [1, 2, 4, 5]
    assert book.best(BUY) == (100, 40)


def test_an_order_that_comes_back_joins_the_back_of_the_queue() -> None:
    book = Book()
    orders = [rest(book, order_id, BUY, 100) for order_id in range(1, 4)]
    book.remove(orders[0])
    book.add(orders[0])
    book.check()
    assert queue(book, BUY, 100) == [2, 3, 1]


def test_reduce_keeps_the_place_and_lowers_the_levels_total() -> None:
    book = Book()
    first = rest(book, 1, BUY, 100)
    rest(book, 2, BUY, 100)
    book.ladders[BUY].reduce(first, 7)
    first.quantity -= 7
    book.check()
    assert queue(book, BUY, 100) == [1, 2]
    assert book.ladders[BUY].at(100) == (13, 2)


@pytest.mark.parametrize("by", [0, -1, 10, 11])
def test_reduce_takes_some_and_leaves_some(by: int) -> None:
    book = Book()
    order = rest(book, 1, BUY, 100)
    with pytest.raises(AssertionError):
        book.ladders[BUY].reduce(order, by)
    book.check()


def test_at_a_price_without_a_level_there_is_nothing() -> None:
    book = Book()
    rest(book, 1, BUY, 100)
    assert [book.ladders[BUY].at(price) for price in (99, 100, 101)] == [(0, 0), (10, 1), (0, 0)]


def test_find_reaches_the_accounts_own_orders_only() -> None:
    book = Book()
    order = rest(book, 1, BUY, 100, account="ann")
    rest(book, 2, BUY, 100, account="bob")
    assert book.find(1, "ann") is order
    assert book.find(1, "bob") is None
    assert book.find(1, "nobody") is None
    assert book.find(3, "ann") is None


# -- deep levels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [DEEP - 1, DEEP, DEEP + 1, 3 * DEEP])
def test_a_queue_keeps_its_order_when_it_grows_deep(depth: int) -> None:
    book = Book()
    for order_id in range(1, depth + 1):
        rest(book, order_id, SELL, 100, quantity=order_id)
    book.check()
    assert queue(book, SELL, 100) == list(range(1, depth + 1))
    assert book.best(SELL) == (100, depth * (depth + 1) // 2)


def level_at(book: Book, price: int) -> Level:
    level = book.ladders[SELL].levels[-price]
    assert isinstance(level, Level)
    return level


@pytest.mark.parametrize(("depth", "kind"), [(DEEP - 1, dict), (DEEP, OrderedDict), (DEEP + 1, OrderedDict)])
def test_a_queue_that_was_deep_once_is_ordered_for_its_front_when_that_is_asked_for(depth: int, kind: type) -> None:
    """An OrderedDict reads its front at one cost, whoever has left before; a dict scans the places they left."""
    book = Book()
    orders = [rest(book, order_id, SELL, 100) for order_id in range(1, depth + 1)]
    for order in orders[:-3]:
        book.remove(order)
    assert type(level_at(book, 100).orders) is dict
    assert level_at(book, 100).first() is book.ladders[SELL].first() is orders[-3]
    assert type(level_at(book, 100).orders) is kind
    rest(book, 1000, SELL, 100)
    book.check()
    assert queue(book, SELL, 100) == [depth - 2, depth - 1, depth, 1000]


def test_a_deep_queue_that_has_emptied_and_fills_again_keeps_its_order() -> None:
    book = Book()
    orders = [rest(book, order_id, SELL, 100) for order_id in range(1, DEEP + 2)]
    for order in orders[:-2]:
        book.remove(order)
    for order_id in range(1000, 1000 + DEEP):
        rest(book, order_id, SELL, 100)
    book.check()
    assert queue(book, SELL, 100) == [DEEP, DEEP + 1, *range(1000, 1000 + DEEP)]


@pytest.mark.parametrize("depth", [DEEP - 1, DEEP, DEEP + 1, 3 * DEEP])
def test_a_deep_level_is_eaten_one_by_one_in_order_of_time(depth: int) -> None:
    market = Market()
    for _ in range(depth):
        market.sell(10, at=100)
    for maker in range(1, depth + 1):
        assert market.buy(10, at=100)[1:] == [
            f"trade {maker}: 10 @ 100, maker {maker} of sue, taker {depth + maker} of bob buys"
        ]
        market.matching.check()
    assert market.book() == []


def test_a_deep_level_is_eaten_by_one_order() -> None:
    market = Market()
    for _ in range(3 * DEEP):
        market.sell(1, at=100)
    trades = market.buy(3 * DEEP - 1, at=100)[1:]
    assert [int(line.split()[6]) for line in trades] == list(range(1, 3 * DEEP))
    assert market.book() == [f"sell 100: {3 * DEEP} has 1"]


def test_cancels_and_amends_in_a_deep_level_keep_everybody_elses_place() -> None:
    market = Market()
    last = 3 * DEEP
    for _ in range(last):
        market.buy(10, at=100)
    market.cancel(DEEP)
    market.amend(2 * DEEP, quantity=5)
    market.amend(1, quantity=20)
    market.matching.check()
    kept = [order_id for order_id in range(2, last + 1) if order_id != DEEP]
    assert queue(market.matching.book, BUY, 100) == [*kept, 1]


# -- the front of a deep queue, in steps -------------------------------------------------------------------------------


class CountingOrders(OrderedDict[int, Order]):
    """A deep queue that counts what is asked of it."""

    steps = 0

    def __iter__(self):  # type: ignore[no-untyped-def]
        for order_id in super().__iter__():
            CountingOrders.steps += 1
            yield order_id


def test_taking_one_order_of_a_deep_level_looks_at_that_order_only() -> None:
    market = Market()
    for _ in range(10 * DEEP):
        market.sell(10, at=100)
    level = level_at(market.matching.book, 100)
    level.orders = CountingOrders(level.orders)
    CountingOrders.steps = 0
    for _ in range(10 * DEEP):
        market.buy(10, at=100)
    assert CountingOrders.steps == 10 * DEEP


# -- check() finds what is wrong ---------------------------------------------------------------------------------------


def level_of(book: Book) -> Level:
    level = book.ladders[BUY].levels[100]
    assert isinstance(level, Level)
    return level


def empty_level(book: Book) -> None:
    book.ladders[BUY].levels[98] = Level(0, {})
    book.ladders[BUY].insert(98)


def wrong_total(book: Book) -> None:
    level_of(book).leaves += 1


def lost_key(book: Book) -> None:
    book.ladders[BUY].keys.remove(99)


def unsorted_keys(book: Book) -> None:
    book.ladders[BUY].keys.reverse()


def wrong_best(book: Book) -> None:
    book.ladders[BUY].best = 99


def key_out_of_bounds(book: Book) -> None:
    book.ladders[BUY].bounds[0] = 90


def nothing_open(book: Book) -> None:
    order = level_of(book).orders[1]
    level_of(book).leaves -= order.leaves
    order.leaves = 0


def more_open_than_ordered(book: Book) -> None:
    level_of(book).orders[1].quantity -= 1


def wrong_price(book: Book) -> None:
    level_of(book).orders[1].price = 101


def wrong_side(book: Book) -> None:
    level_of(book).orders[1].side = SELL


def wrong_id(book: Book) -> None:
    level_of(book).orders[1].order_id = 7


def wrong_price_of_a_lone_order(book: Book) -> None:
    book.accounts["ann"].orders[2].price = 98


def resting_but_not_the_accounts(book: Book) -> None:
    del book.accounts["ann"].orders[1]


def the_accounts_but_not_resting(book: Book) -> None:
    account = book.accounts["ann"]
    account.orders[9] = Order(9, account, BUY, 100, 10, 10)


def anothers_order(book: Book) -> None:
    book.accounts["ann"].orders[1].account = book.account("bob")


def misnamed_account(book: Book) -> None:
    book.accounts["ann"].name = "eve"


def crossed(book: Book) -> None:
    rest(book, 8, SELL, 98)


def locked(book: Book) -> None:
    rest(book, 8, SELL, 100)


@pytest.mark.parametrize(
    "plant",
    [
        empty_level,
        wrong_total,
        lost_key,
        unsorted_keys,
        wrong_best,
        key_out_of_bounds,
        nothing_open,
        more_open_than_ordered,
        wrong_price,
        wrong_side,
        wrong_id,
        wrong_price_of_a_lone_order,
        resting_but_not_the_accounts,
        the_accounts_but_not_resting,
        anothers_order,
        misnamed_account,
        crossed,
        locked,
    ],
)
def test_check_finds(plant: Callable[[Book], None]) -> None:
    book = Book()
    rest(book, 1, BUY, 100)
    rest(book, 2, BUY, 99)
    rest(book, 3, SELL, 101)
    rest(book, 4, BUY, 100)
    for price in range(1, 2 * MOST_KEYS):
        rest(book, 10 + price, BUY, -price)
    book.check()
    plant(book)
    with pytest.raises((AssertionError, KeyError)):
        book.check()


# -- many levels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_many_levels_are_sorted_however_they_come_and_go(seed: int) -> None:
    """Keys in several chunks: those that split, run empty, take in what is below or between them, and the best one."""
    print(f"seed {seed}")
    source = random.Random(seed)
    book = Book()
    ladder = book.ladders[SELL]
    prices = source.sample(range(1, 20 * MOST_KEYS), 5 * MOST_KEYS)
    live: dict[int, Order] = {}
    for number, price in enumerate(prices):
        live[price] = rest(book, price, SELL, price)
        if number % 3 == 0 and source.random() < 0.5:
            book.remove(live.pop(source.choice(list(live)) if number % 2 else min(live)))
    book.check()
    assert len(ladder.far) > 3
    assert all(len(chunk) <= MOST_KEYS for chunk in (*ladder.far, ladder.keys))
    order = sorted(live)
    assert [price for price, _, _ in ladder.best_first()] == order
    assert [-key for key in ladder.all_keys()] == order[::-1]
    for place in (0, 1, len(order) // 2, len(order) - 2):
        assert ladder.worse(-order[place]) == -order[place + 1]
        assert ladder.better(-order[place + 1]) == -order[place]
        between = order[place] + 1
        assert ladder.worse(-between + 1) == ladder.worse(1 - between) == -order[place + 1]
    assert ladder.better(-order[0]) is None
    assert ladder.worse(-order[-1]) is None
    for price in order if seed else source.sample(order, len(order)):
        book.remove(live.pop(price))
        if len(live) % MOST_KEYS == 0:
            book.check()
    assert book.best(SELL) is None
    assert (ladder.keys, ladder.far, ladder.bounds) == ([], [], [])


def test_many_orders_leave_together_from_many_levels() -> None:
    book = Book()
    prices = random.Random(5).sample(range(1, 20 * MOST_KEYS), 5 * MOST_KEYS)
    orders = [rest(book, price, BUY, price) for price in prices]
    book.begin_removing(len(orders) - 3)
    for order in orders[3:]:
        book.remove(order)
    book.end_removing()
    book.check()
    assert [price for price, _, _ in book.ladders[BUY].best_first()] == sorted(prices[:3], reverse=True)


def test_a_level_costs_the_same_among_many_levels() -> None:
    """Counted, since time is no test: to insert one moves no more than a chunk's keys."""
    book = Book()
    ladder = book.ladders[BUY]
    for price in range(100 * MOST_KEYS, 0, -7):
        rest(book, price, BUY, price)
    assert max(map(len, (*ladder.far, ladder.keys))) <= MOST_KEYS
    assert len(ladder.far) <= 100


def test_a_ladder_that_was_made_from_its_worst_level_up_is_split_when_it_is_first_changed_elsewhere() -> None:
    book = Book()
    ladder = book.ladders[BUY]
    for price in range(1, 10 * MOST_KEYS, 2):
        rest(book, price, BUY, price)
    assert not ladder.far
    book.remove(book.accounts["ann"].orders[1])
    book.check()
    assert max(map(len, (*ladder.far, ladder.keys))) <= MOST_KEYS


def test_a_ladder_of_its_own_is_sound() -> None:
    ladder = Ladder(BUY)
    ladder.check()
    assert list(ladder.best_first()) == []


@pytest.mark.parametrize("count", [MANY - 1, MANY, 5 * MANY])
def test_many_orders_leave_together_wherever_they_are(count: int) -> None:
    """Some levels go, some stay, some are the best; others' orders stay as they are."""
    market = Market()
    source = random.Random(count)
    prices = list(range(1, 2 * count))
    source.shuffle(prices)
    for price in prices[:count]:
        market.buy(1, at=price, by="ann")
    for price in prices[::3]:
        market.buy(2, at=price, by="bob")
    assert len(market.mass_cancel(by="ann")) == count
    market.matching.check()
    assert market.book() == [
        f"buy {price}: {count + 1 + number} has 2"
        for price, number in sorted(((price, number) for number, price in enumerate(prices[::3])), reverse=True)
    ]
    market.sell(2 * len(prices), at=1)
    assert market.matching.book.best(BUY) is None


def test_a_mass_cancel_takes_each_level_out_of_the_ladder_once() -> None:
    """One by one, each would move all that are better: counted, since time is no test."""

    class Keys(list[int]):
        deleted = 0

        def __delitem__(self, place: Any) -> None:
            Keys.deleted += 1
            super().__delitem__(place)

    market = Market()
    for price in range(1, 10 * MANY):
        market.buy(1, at=price)
    ladder = market.matching.book.ladders[BUY]
    ladder.keys = Keys(ladder.keys)
    market.mass_cancel()
    assert Keys.deleted == 0
    assert not ladder.keys
    market.matching.check()
