"""A matching daemon's work: its asset's requests from the order handler in, events to its log and to everybody out."""

import errno
import logging
from collections.abc import Sequence
from math import ceil

import zmq

from exchange.core.events import EventRecord
from exchange.core.matching import Matching
from exchange.core.requests import Record
from exchange.pipeline import codec, sockets
from exchange.pipeline.daemon import Refused
from exchange.pipeline.elsewhere import read_control
from exchange.pipeline.event_log import EventLog
from exchange.pipeline.log import Archived, Damaged
from exchange.pipeline.matching_snapshots import MatchingSnapshots
from exchange.pipeline.open_orders import OpenOrderReports
from exchange.pipeline.stream import HEARTBEAT_SECONDS, Receiver

DRAIN = 100  # messages taken from a socket before the others get their turn
# Between two reports of progress where few requests came, and, at least, where many did: the order handler's bound of
# the backlog rests on them, and each of them wakes it. Many are MANY_REQUESTS, or an eighth of that bound.
PROGRESS_SECONDS, MANY_REQUESTS, PROGRESS_SECONDS_OF_MANY = 0.1, 100, 0.01

HEARTBEAT_MS = round(HEARTBEAT_SECONDS * 1000)
MOST_PUBLISHED_BYTES = 1024 * 1024  # in one message to the logger and the notifier

NOTHING_REPORTED = codec.Progress("", -1)

logger = logging.getLogger(__name__)


class MatchingEngine:
    """Applies the asset's requests, each once and in order, and publishes what comes of them.

    After a start the book is rebuilt from the newest snapshot, without one from the first request on; events that are
    in the log already are neither written nor published again. `watch_open_orders` has the order handler told how many
    each account has, from the start on; where it asks for that, it is told in any case.
    """

    def __init__(
        self,
        asset: str,
        event_log: EventLog,
        queue: zmq.Socket[bytes],
        journal: zmq.Socket[bytes],
        events: zmq.Socket[bytes],
        replays: zmq.Socket[bytes],
        watch_open_orders: bool = False,
        snapshots: MatchingSnapshots | None = None,
        max_backlog: int = 8 * MANY_REQUESTS,
    ) -> None:
        self.asset = asset
        self.many = min(MANY_REQUESTS, max_backlog // 8)  # requests, after which progress is reported sooner
        self.snapshots = snapshots
        self.matching = Matching() if snapshots is None else snapshots.start()
        self.started_at = self.matching.sequence  # the snapshot's request; 0: there was none
        self.proved = not self.started_at  # that the journal has that request too, or had it
        self.event_log = event_log
        self.logged = event_log.index.last  # the last request whose events were in the log at the start
        self.receiver: Receiver[Record] = Receiver(asset, max(self.started_at - 1, 0))
        self.queue = queue
        self.journal = journal
        self.events = events
        self.replays = replays
        self.unlogged: list[bytes] = []  # event records that are yet to be written to the log
        self.unpublished: list[bytes] = []  # those written, or in the log's buffer, that are yet to be published
        self.no_room = ""  # why the log can't be written now
        self.reported = NOTHING_REPORTED  # what the order handler was last told
        self.reported_at = 0.0
        self.open_orders: OpenOrderReports | None = None
        if watch_open_orders:
            self.watch_open_orders()

    def serve_queue(self) -> None:
        """Apply what the order handler has pushed."""
        for payload in sockets.drain(self.queue, DRAIN):
            _, last, records = codec.decode_record_stream(payload)
            self.apply(self.receiver.receive(last, records))

    def serve_journal(self) -> None:
        """Apply what the order handler has sent again, and hear whether it asks for the open orders."""
        for payload in sockets.drain(self.journal, DRAIN):
            if codec.is_count_open(payload):
                self.watch_open_orders()
                continue
            _, last, records = codec.decode_record_stream(payload)
            if not (records or self.proved) and self.receiver.sequence < self.started_at <= last:
                self._go_on_unproved()
            self.apply(self.receiver.replayed(last, records))

    def _go_on_unproved(self) -> None:
        """Take the snapshot without comparing the journal with it: the request that it is of was archived there."""
        logger.info("%s: request %d was archived: the journal can't be compared there", self.asset, self.started_at)
        self.proved = True
        self.receiver = Receiver(self.asset, self.started_at)

    def check_journal(self, now: float) -> None:
        """Refuse to go on where the journal has less than it once gave. `now` in seconds."""
        if self.receiver.lost_end(now):
            raise Refused(
                f"{self.asset}: the journal ends with request {self.receiver.sender_last}, and request "
                f"{self.receiver.sequence} has been applied: the journal's end was lost; stop the exchange and restore "
                "the journal from a copy"
            )

    def ask(self, now: float) -> None:
        """Ask the order handler for what is missing, if anything is."""
        request = self.receiver.request(now)
        if request is not None:
            sockets.try_send(self.journal, request)

    def serve_replays(self) -> None:
        """Send parts of the event log again to those who miss them."""
        for envelope, payload in sockets.drain_router(self.replays, DRAIN):
            if payload is not None:
                control = read_control(payload)
                if isinstance(control, codec.Replay):
                    self._serve_replay(envelope, control.sequence)

    def _serve_replay(self, envelope: list[bytes], sequence: int) -> None:
        try:
            sockets.send_reply(self.replays, envelope, self.event_log.replay(sequence))
        except Archived as error:
            logger.warning("%s: somebody asks for request %d: %s", self.asset, sequence, error)
        except Damaged as error:
            if self.snapshots is None:
                raise
            self.snapshots.drop_damaged(error.sequence, error)
            raise Refused(
                f"{error}; dropped it and what follows; it is made again from the journal at the start that is next"
            ) from error

    def report_progress(self, now: float) -> None:
        """Tell the order handler how far this daemon is and what the asset's status is, if that has changed.

        A new status is told at once, the rest unless something was told a moment ago and little has come since.
        """
        matching, reported = self.matching, self.reported
        if matching.sequence == reported.sequence:
            return
        status = matching.status if matching.sequence else ""
        if now < self._progress_due and (status, matching.call, matching.call_ends) == (
            reported.status,
            reported.call,
            reported.call_ends,
        ):
            return
        logged = self.event_log.index.last
        self.reported = codec.Progress(self.asset, matching.sequence, status, matching.call, matching.call_ends, logged)
        self.reported_at = now
        sockets.try_send(self.journal, codec.encode(self.reported))

    @property
    def _progress_due(self) -> float:
        many = self.matching.sequence - self.reported.sequence > self.many
        return self.reported_at + (PROGRESS_SECONDS_OF_MANY if many else PROGRESS_SECONDS)

    def wait_ms(self, now: float) -> int:
        """Return for how long the loop may sleep: until progress is to be reported, not past the next heartbeat."""
        if self.matching.sequence == self.reported.sequence:
            return HEARTBEAT_MS
        return min(max(ceil((self._progress_due - now) * 1000), 0), HEARTBEAT_MS)

    def watch_open_orders(self) -> None:
        """Have all open orders reported as soon as all known requests are applied, and changes from then on."""
        if self.open_orders is None:
            self.open_orders = OpenOrderReports(self.asset, self.matching.book.accounts)
        self.open_orders.complete_due = True

    def report_open_orders(self) -> None:
        """Tell the order handler how many open orders the accounts have that the last batch may have changed."""
        if self.open_orders is not None and not self.catching_up and not self.no_room:
            self.open_orders.send(self.matching.sequence, lambda message: sockets.try_send(self.journal, message))

    def heartbeat(self) -> None:
        """Tell the receivers the log's last sequence, and have the order handler told again how far this daemon is."""
        sockets.try_send(self.events, codec.stream_message(self.asset, self.event_log.index.last, ()))
        self.reported = NOTHING_REPORTED

    def apply(self, records: Sequence[Record]) -> None:
        """Apply requests, log their events, publish them."""
        if not records:
            return
        if not self.proved:
            records = self._check_against_snapshot(records)
        apply, encode, logged, open_orders = self.matching.apply, codec.encode, self.logged, self.open_orders
        unlogged = self.unlogged
        for record in records:
            result = apply(record)
            if result.sequence > logged:
                unlogged.append(encode(result))
                if open_orders is not None:
                    open_orders.note(result)
            elif result.sequence == logged:
                self._check_against_log(result)
        self.log_and_publish()

    def log_and_publish(self) -> None:
        """Write what has come of requests to the log, then publish it.

        Without room on disk it waits here, and `no_room` says so: call again, and apply nothing meanwhile.
        """
        unlogged, logged = self.unlogged, self.unpublished
        try:
            while unlogged:
                count = self.event_log.append_run(unlogged)
                logged += unlogged[:count]
                del unlogged[:count]
            self.event_log.write()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            if not self.no_room:
                logger.warning("%s: waiting for room on disk: %s", self.event_log.log.folder, error)
            self.no_room = str(error)
            return
        if self.no_room:
            logger.info("%s: there is room on disk again", self.event_log.log.folder)
            self.no_room = ""
        if logged:
            # What is large is not sent to all at once: they are told that it is there, and each asks for it. So a
            # queue between daemons, which is bounded by its messages, is bounded by their bytes too.
            bodies = logged if sum(map(len, logged)) <= MOST_PUBLISHED_BYTES else ()
            sockets.try_send(self.events, codec.stream_message(self.asset, self.event_log.index.last, bodies))
            logged.clear()

    def _check_against_snapshot(self, records: Sequence[Record]) -> Sequence[Record]:
        """Return records without the first, the snapshot's own: the journal must have it as the event log has."""
        record, sequence = records[0], self.started_at
        logged = codec.decode_event_record(self.event_log.read(sequence))
        if record != Record(logged.asset, logged.sequence, logged.time, logged.account, logged.request):
            raise Refused(
                f"{self.event_log.log.folder}: request {sequence} of the journal is another than the log has: one of "
                "them is of another exchange; restore the one that belongs to the other from a copy"
            )
        self.proved = True
        return records[1:]

    def _check_against_log(self, result: EventRecord) -> None:
        """Compare the last event record of the log with what its request gives now: the core must not have changed.

        Values are compared, not bytes: a log that was written before requests and events had all the fields they have
        now is the same.
        """
        try:
            logged = codec.decode_event_record(self.event_log.last_body)
        except codec.DecodeError:
            logged = None
        if logged != result:
            raise Refused(
                f"{self.event_log.log.folder}: request {result.sequence} gives other events now than the log has: it "
                "is of another journal, or of a program that matches differently; run the program that wrote it"
            )
        logger.info("%s: the book is rebuilt, as of request %d", self.asset, result.sequence)

    def take_snapshot(self) -> None:
        """Have a snapshot written, if one is due: in a copy of this process, so that nobody waits for it."""
        if self.snapshots is not None and not self.no_room:
            self.snapshots.take_if_due(self.matching)

    def close(self) -> None:
        """End with a snapshot of what has been applied, where that spares the next start enough."""
        if self.snapshots is not None and not self.no_room:
            self.snapshots.take_last(self.matching)

    @property
    def catching_up(self) -> bool:
        return not self.receiver.known or self.receiver.behind > 0
