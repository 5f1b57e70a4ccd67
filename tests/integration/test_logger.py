"""The logger as a process, with a real PostgreSQL that goes and comes back."""

import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from exchange.status import Status, read_pages
from exchange.store.embedded import database_dsn
from tests.integration.outsider import Venue
from tests.support import Daemon, running, wait_until


@pytest.fixture
def venue(open_folder: Path) -> Iterator[Venue]:
    venue = Venue(open_folder)
    yield venue
    venue.context.destroy(linger=0)


def page(venue: Venue, daemon: str) -> Status | None:
    return next((page for page in read_pages(venue.config.status_folder) if page["daemon"] == daemon), None)


def stored(venue: Venue) -> list[int]:
    """Return the sequences of ACME's orders in SQL."""
    with psycopg.connect(database_dsn(venue.config), connect_timeout=30) as connection:
        return [row[0] for row in connection.execute("SELECT sequence FROM orders WHERE asset = 'ACME' ORDER BY 1")]


def says(venue: Venue, state: str, processed: int, behind: int) -> bool:
    """Return whether the logger's page says so of ACME."""
    logger = page(venue, "logger")
    return (
        logger is not None
        and logger["state"].startswith(state)
        and logger["processed"].get("ACME") == processed
        and logger["behind"].get("ACME") == behind
    )


def enter(venue: Venue, count: int) -> None:
    for _ in range(count):
        venue.enter("alice", "buy", 10, 1000)


def test_while_the_database_is_away_the_status_says_how_much_waits_and_then_all_of_it_is_stored(venue: Venue) -> None:
    postgres, logger = Daemon(venue.config, "postgres"), Daemon(venue.config, "logger")
    with running(venue.order_handler, *venue.matching.values(), postgres, logger):
        enter(venue, 20)
        wait_until(lambda: says(venue, "running", 21, 0), "20 orders and the definition are stored", 60)
        assert stored(venue) == list(range(2, 22))

        postgres.signal(signal.SIGINT)
        assert postgres.wait() == 0
        enter(venue, 30)
        wait_until(lambda: says(venue, "waiting for the database", 21, 30), "30 orders wait for the database")

        logger.kill()
        logger.start()
        enter(venue, 10)
        wait_until(
            lambda: says(venue, "waiting for the database", 0, 61), "a new logger knows of all, and of nothing stored"
        )
        postgres.start()
        wait_until(lambda: says(venue, "running", 61, 0), "all is stored", 60)
        assert stored(venue) == list(range(2, 62))
        assert logger.alive


def test_a_database_that_is_of_another_history_is_refused(venue: Venue, tmp_path: Path) -> None:
    """An exchange that was set up anew, on the database of the old one: its numbers begin again, and would be lost."""
    postgres, logger = Daemon(venue.config, "postgres"), Daemon(venue.config, "logger")
    with running(venue.order_handler, *venue.matching.values(), postgres, logger):
        enter(venue, 20)
        wait_until(lambda: says(venue, "running", 21, 0), "20 orders are stored", 60)
        other = Venue(tmp_path, f"[database]\ndsn = '{database_dsn(venue.config)}'")
        logger.kill()
        stranger = Daemon(other.config, "logger")
        try:
            with running(other.order_handler, *other.matching.values(), stranger):
                assert stranger.wait(60) == 2
                assert "the database has requests of ACME up to 21, and its event log ends with 1" in stranger.output()
        finally:
            other.context.destroy(linger=0)
