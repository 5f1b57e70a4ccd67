"""What nobody follows is not made until somebody asks for it; and then it is what would have been sent."""

import random
from contextlib import closing
from pathlib import Path

import msgspec

from exchange.core.matching import Matching
from exchange.core.requests import BUY, SELL, NewOrder, Record
from exchange.pipeline.codec import encode
from exchange.pipeline.queries import Queries
from tests.aftermath import published
from tests.integration.outsider import Subscription
from tests.integration.test_notifier_snapshots import Life, events
from tests.support import wait_until, write_config

SEED = random.SystemRandom().randrange(2**32)  # a new one each run; a failure prints it


def asked(queries: Queries, topic: str, last: int) -> list[bytes]:
    """Return a topic's messages as a subscriber who has missed them all gets them."""
    found: list[bytes] = []
    while len(found) < last:
        reply = queries.answer(encode({"type": "retransmit", "topic": topic, "from": len(found) + 1, "to": last}))
        assert isinstance(reply, dict), reply
        found += [bytes(message) for message in reply["messages"]]
        assert reply.get("next", last + 1) == len(found) + 1
    return found


def test_who_follows_gets_what_he_follows_and_who_asks_what_he_would_have_got(tmp_path: Path) -> None:
    """One follows the trades, one an account's reports; nobody the rest. The book's topic is followed half-way on."""
    print(f"seed {SEED}")
    config = write_config(tmp_path, assets='[[asset]]\nasset = "ACME"\n')
    log = events(SEED, 900)
    wanted = published(log)
    account = max((topic for topic in wanted if topic.startswith("execution/")), key=lambda topic: len(wanted[topic]))
    with closing(Life(config)) as life:
        life.board.live_from = 0  # all of it is new
        notifier, context = life.notifier, life.world.transport.context
        public = Subscription(context, config.endpoints.market_data, "trade/")
        private = Subscription(context, config.endpoints.private, account)

        def followed() -> bool:
            notifier.serve_subscribers()
            return notifier.public.follows(b"trade/ACME/") and notifier.private.follows(account.encode())

        wait_until(followed, "the subscriptions are in effect")
        assert not notifier.public.follows(b"book/ACME/")
        sent = 0
        for upto in range(90, len(log) + 90, 90):
            if upto == 450:
                sent = life.board.feed.topics["book"].sequence
                late = Subscription(context, config.endpoints.market_data, "book/ACME/")

                def joined() -> bool:
                    notifier.serve_subscribers()
                    return notifier.public.follows(b"book/ACME/")

                wait_until(joined, "the late one's subscription is in effect")
            life.receive(log, upto)
        for subscription, topic, first in (
            (public, "trade/ACME/", 0),
            (private, account, 0),
            (late, "book/ACME/", sent),
        ):
            right = [msgspec.msgpack.decode(payload) for payload in wanted[topic][first:]]
            assert subscription.wait_for_count(topic, len(right)) == right
            assert set(subscription.messages) == {topic}
            subscription.close()
        queries = Queries(notifier, life.clients)
        for topic, messages in wanted.items():
            assert asked(queries, topic, len(messages)) == messages
        assert notifier.published == sum(map(len, wanted.values())), "those that nobody follows are counted too"


def test_for_a_message_of_a_large_request_little_is_read(tmp_path: Path) -> None:
    """An order sweeps a book of orders of as many accounts; each is told of its own trade, and may ask for that."""
    makers = 3000
    orders = [
        Record("ACME", number, number, f"maker-{number}", NewOrder(number, "", SELL, 1, 1000 + number % 50))
        for number in range(1, makers + 1)
    ]
    sweep = NewOrder(makers + 1, "", BUY, makers, 2000, time_in_force="ioc")
    matching = Matching()
    log = [matching.apply(record) for record in (*orders, Record("ACME", makers + 1, makers + 1, "taker", sweep))]
    wanted = published(log)
    with closing(Life(write_config(tmp_path, assets='[[asset]]\nasset = "ACME"\n'))) as life:
        life.receive(log, len(log))
        store, topics = life.board.store, life.board.feed.reports.topics
        assert len(wanted["trade/ACME/"]) == makers
        for maker in range(1, makers + 1, 100):
            topic = topics[f"maker-{maker}"]
            assert store.earliest(topic) == 1
            trade_in = next(chunk for chunk in reversed(store.chunks) if chunk.first(topic) in (1, 2))
            count, notes = next(iter(trade_in.read(topic, 2)))
            assert count <= 800
            assert len(notes) <= 2, "of the others' notes none is decoded"
            assert [payload for _, payload in store.read("ACME", topic, 1, 10**6)] == wanted[topic.name]
        queries = Queries(life.notifier, life.clients)
        for name in ("trade/ACME/", "order/ACME/", "bbo/ACME/", "book/ACME/", "execution/taker/ACME/"):
            assert asked(queries, name, len(wanted[name])) == wanted[name]
