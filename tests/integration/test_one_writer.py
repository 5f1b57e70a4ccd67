"""Each daemon has one writer: a second one refuses to start, frozen first one or not, and the next one goes on."""

import os
import signal
from functools import partial
from pathlib import Path

import psycopg
import pytest

from exchange.pipeline.world import World
from exchange.status import AlreadyRunning
from tests.integration.outsider import Peer, Venue
from tests.support import Daemon, free_ports, running, wait_until

REFUSED = 2


def refusal(venue: Venue, *arguments: str) -> str:
    """Start a second daemon, which must refuse, and return what it said."""
    second = Daemon(venue.config, *arguments)
    second.log = second.log.with_suffix(".second")
    second.log.unlink(missing_ok=True)
    second.start()
    try:
        assert second.wait() == REFUSED, second.output()
    finally:
        second.kill()
    return second.output()


def enter(venue: Venue) -> None:
    """Enter an order that rests, again and again until it is acknowledged."""
    order = venue.order("alice", "buy", 10, 1000)

    def acknowledged() -> bool:
        peer = Peer(venue.context, venue.endpoints.order_entry)
        try:
            peer.send(order)
            return peer.answers(0.5) and peer.receive()["type"] == "ack"
        finally:
            peer.close()

    wait_until(acknowledged, "an order is taken")


def stored(dsn: str) -> list[int]:
    with psycopg.connect(dsn) as connection:
        return [row[0] for row in connection.execute("SELECT sequence FROM orders WHERE asset = 'ACME' ORDER BY 1")]


def executed(venue: Venue) -> int:
    """Return how many execution reports alice has in ACME: one for each of her orders, which rest."""
    peer = Peer(venue.context, venue.endpoints.query)
    try:
        reply = peer.ask(type="sequences", account="alice")  # refused while the notifier rebuilds what it has
        return int(reply.get("sequences", {}).get("execution/alice/ACME/", 0))
    finally:
        peer.close()


def test_a_second_daemon_refuses_while_the_first_lives_or_is_frozen_and_the_next_one_goes_on_without_loss(
    dsn: str, tmp_path: Path
) -> None:
    venue = Venue(tmp_path, f"[database]\ndsn = '{dsn}'")
    logger = Daemon(venue.config, "logger")
    firsts = {
        "an order handler on this journal": venue.order_handler,
        "a matching daemon for ACME": venue.matching["ACME"],
        "a logger on this data folder": logger,
        "a notifier on this data folder": venue.notifier,
    }
    try:
        with running(*venue.daemons, logger):
            venue.wait_until_ready()
            for what, first in firsts.items():
                enter(venue)
                expected = f"{what} is running already, as process {first.pid}, which holds"
                assert expected in refusal(venue, *first.arguments)

                first.signal(signal.SIGSTOP)
                wait_until(partial(is_in_state, first.pid, "T"), f"{what} is frozen")
                assert expected in refusal(venue, *first.arguments)

                first.kill()
                first.start()
                enter(venue)
            orders = list(range(2, 2 * len(firsts) + 2))  # behind the definition
            wait_until(lambda: executed(venue) == len(orders), "all orders are executed")
            wait_until(lambda: stored(dsn) == orders, f"{orders} are stored")
    finally:
        venue.context.destroy(linger=0)


def is_in_state(process: int, states: str) -> bool:
    """Return whether the kernel has a process in one of these states: R, S, T (stopped), Z (ended), ..."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in states


def tell_and_wait(pipe: int) -> None:
    """Write this process's id to a pipe, and do nothing from then on."""
    os.write(pipe, b"%d" % os.getpid())
    while True:
        signal.pause()


def test_a_copy_that_works_beside_a_daemon_holds_neither_its_lock_nor_its_ports(tmp_path: Path) -> None:
    """Copies write snapshots. One that outlives its parent for a moment must not keep the next daemon from starting."""
    lock, endpoint = tmp_path / "lock", f"tcp://127.0.0.1:{free_ports(1)[0]}"
    reading, writing = os.pipe()
    first = os.fork()
    if not first:
        world = World()
        world.lock(lock, "a daemon")
        socket = world.transport.client_router(endpoint, 10)
        world.fork("a copy", partial(tell_and_wait, writing))
        while not socket.closed:
            signal.pause()
    try:
        copy = int(os.read(reading, 100))
        with pytest.raises(AlreadyRunning, match=f"a daemon is running already, as process {first}"):
            World().lock(lock, "a daemon")
        assert is_in_state(copy, "RS")
        held = {str(file.readlink()) for file in Path(f"/proc/{copy}/fd").iterdir()}
        assert str(lock) not in held
        assert not {name for name in held if name.startswith("socket:")}
    finally:
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)
    second = World()
    second.lock(lock, "a daemon")
    socket = second.transport.client_router(endpoint, 10)
    assert not socket.closed
    second.close()
    wait_until(lambda: not Path(f"/proc/{copy}").exists() or is_in_state(copy, "Z"), "the copy ends with its parent")
