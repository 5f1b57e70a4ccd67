"""A journal and event logs that the program wrote before there were sessions: the present one goes on with them.

`data/before_sessions.tar.xz` holds the data folder that the order handler and two matching daemons left, as of the
commit "The tape driver gives the best of three runs, ...": random orders, amends and cancels, a mass cancel over all
assets, and last an amend in ACME. Records have gained fields since, all at their ends and with defaults.
"""

import tarfile
from pathlib import Path

import pytest
from msgspec.structs import replace

from exchange.pipeline.codec import decode_event_record, encode
from exchange.pipeline.log import Log
from exchange.pipeline.world import World
from tests.integration.outsider import Venue
from tests.integration.outsider import venue as running_venue
from tests.support import Daemon, running, wait_until, write_config

ARCHIVE = Path(__file__).parent / "data" / "before_sessions.tar.xz"
SETTINGS = "[journal]\nsegment_bytes = 1048576"
BOOKS = {
    "ACME": ([[1020, 130, 1], [1000, 30, 1], [980, 240, 2], [900, 100, 1]], [[1100, 50, 1], [1105, 60, 1]]),
    "BTC-USD": ([], [[10_000, 300_000_000, 1]]),
}
LAST = {"ACME": 26, "BTC-USD": 2}  # of the topic book/


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path / "var", filter="data")
    return tmp_path


def event_log(venue: Venue, asset: str) -> bytes:
    (segment,) = sorted(venue.config.event_log_folder(asset).glob("*.log"))
    return segment.read_bytes()


def test_what_the_former_program_wrote_is_taken_up(folder: Path) -> None:
    before = {asset: (folder / "var" / "events" / asset / f"{0:020}.log").read_bytes() for asset in BOOKS}
    with running_venue(folder, SETTINGS) as venue:
        for asset, (bids, asks) in BOOKS.items():
            snapshot = venue.query.ask(type="book_snapshot", asset=asset)
            assert (snapshot["bids"], snapshot["asks"], snapshot["sequence"]) == (bids, asks, LAST[asset])
            assert venue.query.ask(type="assets")["assets"][list(BOOKS).index(asset)]["status"] == "open"
        again = venue.do("mass_cancel", account="account-1", request_id="all of it")
        assert again["duplicate"] is True
        venue.enter("cat", "buy", 60, 1105)
        venue.settle()
        assert venue.query.ask(type="book_snapshot", asset="ACME")["asks"] == [[1105, 50, 1]]
        assert event_log(venue, "ACME").startswith(before["ACME"]), "it goes on where it was"
        assert event_log(venue, "BTC-USD") == before["BTC-USD"], "its definition has not changed"


def test_an_event_log_that_another_program_wrote_is_refused(folder: Path) -> None:
    config = write_config(folder, extra=SETTINGS)
    written = config.event_log_folder("BTC-USD")
    bodies: list[bytes] = []
    log = Log(World(), written, config.journal.segment_bytes, durable=False)
    log.scan(lambda _, body: bodies.append(body))
    log.close()
    (written / f"{0:020}.log").unlink()
    last = decode_event_record(bodies.pop())
    other = Log(World(), written, config.journal.segment_bytes, durable=False)
    other.start_writing()
    for body in (*bodies, encode(replace(last, event_sequence=last.event_sequence + 1))):
        other.append(body)
    other.write()
    other.close()
    matching = Daemon(config, "matching", "BTC-USD")
    with running(Daemon(config, "order_handler"), matching):
        wait_until(lambda: not matching.alive, "it refuses to go on")
        assert "gives other events now than the log has" in matching.output()
