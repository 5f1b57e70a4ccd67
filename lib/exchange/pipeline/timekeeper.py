"""Carries out what is due by the clock, as requests in the assets' queues: journaled, numbered and replayed like all.

Each act that has no record of its own in an asset's queue leaves one in the exchange's own queue: a session that was
silent is ended there, and a `cancel_all_after` that was due is disarmed, so that a restart does neither again.
"""

import logging
from collections.abc import Callable
from typing import Any

from exchange.core import timers
from exchange.pipeline.clock import ManualClock
from exchange.pipeline.order_handler import OrderHandler
from exchange.pipeline.stream import HEARTBEAT_SECONDS

HEARTBEAT_MS = round(HEARTBEAT_SECONDS * 1000)
STALL_NS = 1_000_000_000  # a turn of the loop that took that long did not listen: nobody was silent meanwhile
COMMIT_ACTS = 1_000  # acts of a clock that is set far ahead, after which they are put on disk
TURN_ACTS = 1_000  # on silence, before the clients get their turn

logger = logging.getLogger(__name__)


class Timekeeper:
    """Does what is due. Where the disk has no room for it, it waits until there is."""

    def __init__(self, handler: OrderHandler) -> None:
        self.handler = handler
        self.entry = handler.entry
        self.timers = handler.timers
        self.clock = handler.clock
        self.turn = 0  # when `act` was called last
        self.carry_out: dict[type, Callable[[Any], None]] = {
            timers.ExpireDue: self._expire,
            timers.ChangeDue: self._change_status,
            timers.CallOver: self._end_call,
            timers.SessionOver: self._end_session,
            timers.CancelAllDue: self._cancel_all,
        }

    def start(self) -> None:
        """Begin: the listed assets' timers run, and what was due while nobody was here is done now."""
        for asset, queue in self.entry.queues.items():
            if queue.listed:
                self.timers.list_asset(asset)
        self.turn = self.clock.now()
        self.timers.start(self.turn)
        self._do(self.timers.take, self.turn)
        self._do(self.timers.take_silent, self.turn)

    def wait_ms(self) -> int:
        """Return for how long the loop may sleep: until something is due, but not past the next heartbeat."""
        due = self.timers.next_due()
        if due is None or isinstance(self.clock, ManualClock):
            return HEARTBEAT_MS
        left = -((self.clock.now() - due) // 1_000_000)  # rounded up
        if left <= 0:
            return 0 if self._has_room() else HEARTBEAT_MS
        return min(left, HEARTBEAT_MS)

    def act(self) -> None:
        """Do what the exchange has to do by itself, before the clients' requests are taken."""
        now = self.clock.now()
        if not 0 <= now - self.turn <= STALL_NS and not isinstance(self.clock, ManualClock):
            self.timers.start(now)  # also where the clock was set back: who was heard later than now is not for ever
        self.turn = now
        self._do(self.timers.take, now)

    def act_on_silence(self) -> None:
        """Do what is due since somebody was silent, after the clients' requests were taken; of much, a part a turn."""
        self._do(self.timers.take_silent, self.turn, TURN_ACTS)

    def set_clock(self, clock: ManualClock, to_ns: int) -> bool:
        """Set a manual clock, and do all that is due on the way, each at its own time, in that order.

        Returns False where the disk had no room for all of it: the clock then stands at what is still to be done. A
        call that matching begins on the way by itself ends after it.
        """
        acts = 0
        while (due := self.timers.next_due()) is not None and due <= to_ns:
            clock.advance(due)
            acts += self._do(self.timers.take, clock.now()) + self._do(self.timers.take_silent, clock.now())
            if not self._has_room():
                return False
            if acts >= COMMIT_ACTS:
                acts = 0
                self.handler.commit()
        clock.advance(to_ns)
        return True

    def _has_room(self) -> bool:
        """Return whether any act is sure to find room on disk: one takes a place in each queue at most."""
        return self.entry.has_room(len(self.entry.queues) + 1)

    def _do(self, take: Callable[[int], timers.Act | None], now: int, most: int | None = None) -> int:
        """Carry out what is due as of `now`, or the first acts of it; return how much it was."""
        due = self.timers.next_due()
        if due is None or due > now:
            return 0
        acts = 0
        while acts != most and self._has_room() and (act := take(now)) is not None:
            self.carry_out[type(act)](act)
            self.handler.journal_records()
            acts += 1
        return acts

    # -- the acts ------------------------------------------------------------------------------------------------------

    def _expire(self, act: timers.ExpireDue) -> None:
        self.entry.expire(act.asset, act.day)

    def _change_status(self, act: timers.ChangeDue) -> None:
        record = self.entry.change_status(act.asset, act.status, "schedule", scheduled_time=act.scheduled_time)
        if record is not None:
            logger.info("%s: %s, by its schedule", act.asset, act.status)

    def _end_call(self, act: timers.CallOver) -> None:
        self.entry.change_status(act.asset, "open", "call_ended", call=act.call)
        logger.info("%s: call %d has ended", act.asset, act.call)

    def _end_session(self, act: timers.SessionOver) -> None:
        logger.info("account %s: silent for %d ms: its orders are canceled", act.account, act.interval_ms)
        self._cancel(act.account)
        self.entry.end_session(act.account, act.interval_ms)

    def _cancel_all(self, act: timers.CancelAllDue) -> None:
        logger.info("account %s: cancel_all_after was not renewed: its orders are canceled", act.account)
        self._cancel(act.account)
        self.entry.disarm(act.account)

    def _cancel(self, account: str) -> None:
        self.entry.cancel_account(account, None, "disconnected")
        self.handler.journal_records()
