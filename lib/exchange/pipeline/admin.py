"""The operators' endpoint: acts on statuses, orders, assets and the clock, each on disk before it is answered.

A ROUTER in the run folder, which nobody but the exchange's owner (and root) can enter: who gets here may do all of it,
and `by`, which the journal keeps, is what they say of themselves. The messages are in `exchange.core.admin_messages`.
"""

import logging
from collections.abc import Callable
from typing import Any, get_args

import msgspec
import zmq

from exchange.core import admin_messages as messages
from exchange.core import requests
from exchange.core.admin_messages import AdminReply, Done, Refused
from exchange.core.asset import MOST_ASSETS, Asset
from exchange.core.request_checks import Rejection
from exchange.core.requests import Record
from exchange.core.times import time_text
from exchange.pipeline import codec, sockets
from exchange.pipeline.clock import LATEST, ManualClock
from exchange.pipeline.order_handler import OrderHandler, keys_by_type, malformed, too_long
from exchange.pipeline.schedule import ScheduleError, zone
from exchange.pipeline.timekeeper import Timekeeper

LONGEST_NAME = 64  # characters of `by`
DRAIN = 20  # acts between two turns of the clients
ACT_KEYS = keys_by_type(get_args(messages.AnyAct))

decode_act = msgspec.msgpack.Decoder(messages.AnyAct).decode
logger = logging.getLogger(__name__)


class Admin:
    """Serves the operators. `send_replies` once the handler has put on disk what `serve` has taken."""

    def __init__(self, socket: zmq.Socket[bytes], handler: OrderHandler, timekeeper: Timekeeper) -> None:
        self.socket = socket
        self.handler = handler
        self.entry = handler.entry
        self.timekeeper = timekeeper
        self.replies: list[tuple[list[bytes], bytes]] = []
        self.acts: dict[type, Callable[[Any], Done]] = {
            messages.ChangeStatus: self._change_status,
            messages.Cancel: self._cancel,
            messages.AddAsset: self._add_asset,
            messages.RemoveAsset: self._remove_asset,
            messages.SetClock: self._set_clock,
            messages.ReadClock: self._read_clock,
        }

    def serve(self) -> None:
        """Do what the operators have asked for."""
        for envelope, payload in sockets.drain_router(self.socket, DRAIN):
            reply = self.answer(payload)
            if isinstance(reply, Refused):
                logger.info("an operator's act was refused: %s: %s", reply.reason, reply.text)
            self.replies.append((envelope, codec.encode(reply)))

    def send_replies(self) -> None:
        for envelope, reply in self.replies:
            sockets.send_reply(self.socket, envelope, reply)
        self.replies.clear()

    def answer(self, payload: bytes | None) -> AdminReply:
        """Do what a payload asks for, and return the reply; what was taken is in the journal's buffer."""
        if payload is None:
            return Refused(reason="malformed", text="several payload frames: an act is one frame")
        if len(payload) > sockets.MAX_REQUEST_BYTES:
            return Refused(reason="malformed", text=too_long(payload).text)
        try:
            act = decode_act(payload)
        except codec.DecodeError as error:
            return Refused(reason="malformed", text=malformed(payload, error, ACT_KEYS).text)
        try:
            if type(act) is not messages.ReadClock:
                _check_name(act.by)
            done = self.acts[type(act)](act)
        except Rejection as rejection:
            return Refused(reason=rejection.reason, text=rejection.text)
        if type(act) is not messages.ReadClock:
            logger.info("%s", act)
        return done

    def _change_status(self, act: messages.ChangeStatus) -> Done:
        record = self.entry.change_status(act.asset, act.status, "operator", by=act.by)
        return self._done([] if record is None else [record])

    def _cancel(self, act: messages.Cancel) -> Done:
        assets = None if act.asset is msgspec.UNSET else [act.asset]
        return self._done(self.entry.cancel_account(act.account, assets, "operator", by=act.by))

    def _add_asset(self, act: messages.AddAsset) -> Done:
        """List an asset, open its queue, and put it into the status that its schedule has for it now."""
        definition = act.definition
        name = definition.asset
        _check_definition(definition)
        listed = sum(queue.listed for queue in self.entry.queues.values())
        if listed >= MOST_ASSETS and not ((queue := self.entry.queues.get(name)) and queue.listed):
            raise Rejection("busy", f"{listed} assets are listed, the bound: each has a process; remove one first")
        if not self.handler.journal.has_room_for(requests.DefineAsset(definition, act.by)):
            raise Rejection("busy", "there is no room on disk for another definition; try again later")
        try:
            self.handler.serve_asset(name)
        except OSError as error:
            raise Rejection("busy", f"asset {name}: its queue can't be opened: {error}") from None
        try:
            self.entry.define(definition, act.by)
        except ValueError as error:
            raise Rejection("unsupported", f"asset {name}: {error}") from None
        done = self._done(self.entry.records)
        self.handler.timers.list_asset(name)
        self.timekeeper.act()
        return done

    def _remove_asset(self, act: messages.RemoveAsset) -> Done:
        """Take an asset off the list. Its queue stays open, for its matching daemon to hear of it."""
        queue = self.entry.queues.get(act.asset)
        if queue is not None and queue.delisted:
            return Done()
        return self._done([self.entry.delist(act.asset, act.by)])

    def _set_clock(self, act: messages.SetClock) -> Done:
        clock = self.handler.clock
        if not isinstance(clock, ManualClock):
            raise Rejection(
                "unsupported",
                'time: the clock is the system\'s; with clock.mode = "manual" in exchange.toml it can be set',
            )
        now = clock.now()
        if not now <= act.time <= LATEST:
            raise Rejection(
                "malformed",
                f"time {act.time} ({time_text(act.time)}): must be {now} ({time_text(now)}), the clock's own, to "
                f"{LATEST} ({time_text(LATEST)}): it goes forward only",
            )
        if not self.timekeeper.set_clock(clock, act.time):
            raise Rejection(
                "busy", f"there is no room on disk: the clock stands at {time_text(clock.now())}; try again later"
            )
        return self._read_clock(act)

    def _read_clock(self, act: messages.SetClock | messages.ReadClock) -> Done:
        return Done(time=self.handler.clock.now(), mode=self.handler.clock.mode)

    def _done(self, taken: list[Record]) -> Done:
        """Journal what was taken, and return where it is."""
        sequences = {record.asset: record.sequence for record in taken}
        time = taken[0].time if taken else msgspec.UNSET
        self.handler.journal_records()
        return Done(time=time, sequences=sequences)


def _check_name(by: str) -> None:
    if not (0 < len(by) <= LONGEST_NAME and by.isprintable()):
        raise Rejection(
            "malformed", f"by {by!r:.80}: must be 1 to {LONGEST_NAME} printable characters, to say who does it"
        )


def _check_definition(definition: Asset) -> None:
    """Raise Rejection for a definition that breaks a rule, with each."""
    found = [f"{key} {value!r:.80}: must be {rule}" for key, value, rule in definition.mistakes()]
    if not found:
        try:
            zone(definition.time_zone)
        except ScheduleError as error:
            found.append(str(error))
    if found:
        raise Rejection("malformed", "; ".join(found))
