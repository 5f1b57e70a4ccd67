"""What tests of time and operators share: an operator's socket, a clock that is set by hand, and the journal read."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from exchange.config import Config
from exchange.core.requests import Record
from exchange.pipeline.journal import Journal
from exchange.pipeline.world import World
from tests.integration.outsider import Message, Peer, Venue
from tests.support import wait_until

SECOND = 10**9
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
SMALL = "[journal]\nsegment_bytes = 1048576\n"
MANUAL = f'{SMALL}[clock]\nmode = "manual"\n'


class Operator:
    """Somebody at the operators' endpoint of an exchange."""

    def __init__(self, venue: Venue, by: str = "olga") -> None:
        self.by = by
        self.peer = Peer(venue.context, venue.config.admin_endpoint)

    def close(self) -> None:
        self.peer.close()

    def ask(self, kind: str, **fields: Any) -> Message:
        """Ask for an act and return the reply, whatever it is."""
        reply: Message = self.peer.ask({"type": kind, "by": self.by, **fields})
        return reply

    def do(self, kind: str, **fields: Any) -> Message:
        """Have an act done, and return the reply."""
        reply = self.ask(kind, **fields)
        assert reply["type"] == "done", reply
        return reply

    def clock(self) -> int:
        """Return the exchange's time."""
        time: int = self.do("clock")["time"]
        return time

    def set_clock(self, time: int) -> None:
        """Set the clock forward to a time, or to that long after midnight (UTC) of the day that it shows."""
        if time < 2 * DAY:
            time += self.clock() // DAY * DAY
        assert self.do("set_clock", time=time)["time"] == time

    def next_day(self, time_of_day: int = 0) -> int:
        """Set the clock to a time of the next day (UTC), and return when that day began."""
        midnight = (self.clock() // DAY + 1) * DAY
        self.set_clock(midnight + time_of_day)
        return midnight

    def pass_time(self, nanoseconds: int) -> None:
        self.set_clock(self.clock() + nanoseconds)


def journal_of(config: Config) -> list[Record]:
    """Return the journal's records as a start would read them now, from a copy."""
    records: list[Record] = []
    with TemporaryDirectory() as folder:
        copy = shutil.copytree(config.journal_folder, Path(folder) / "journal")
        journal = Journal(World(), copy, config.journal.segment_bytes)
        journal.open(records.append, {})
        journal.close()
    return records


def status_messages(exchange: Venue, asset: str, until: tuple[str, str] | None = None) -> list[Message]:
    """Return an asset's changes of status as they were published, as soon as the last has that status and reason."""

    def published() -> list[Message]:
        reply = exchange.query.ask({"type": "retransmit", "topic": f"status/{asset}/", "from": 1, "to": 2**62})
        changes: list[Message] = []
        for message in reply.get("messages", []):  # others tell what a call's auction would give
            if not changes or (message["status"], message["reason"]) != (changes[-1]["status"], changes[-1]["reason"]):
                changes.append(message)
        met = until is None or (changes and (changes[-1]["status"], changes[-1]["reason"]) == until)
        return changes if met else []

    found: list[Message] = wait_until(published, f"{asset} is {until}")
    return found


def reports(exchange: Venue, account: str, asset: str, count: int) -> list[Message]:
    """Return an account's execution reports in an asset as soon as there are so many."""

    def published() -> list[Message]:
        topic = f"execution/{account}/{asset}/"
        reply = exchange.query.ask({"type": "retransmit", "topic": topic, "from": 1, "to": 2**62})
        found: list[Message] = reply.get("messages", [])
        return found if len(found) >= count else []

    found: list[Message] = wait_until(published, f"{count} reports for {account} in {asset}")
    return found
