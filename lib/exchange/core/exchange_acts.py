"""Places in the queues, and the acts of the exchange itself: of timers, of schedules, of its operator.

An act takes its records into `records`, as a client's request does, for the caller to journal; or it raises Rejection,
with which nothing has changed. The backlog's bound holds for clients only: a halt is taken however many requests wait.
"""

from collections.abc import Callable, Sequence
from typing import NoReturn

from exchange.core import requests
from exchange.core.asset import Asset, Status
from exchange.core.order_memory import MOST_ACCOUNTS, AssetQueue, Journal, Limits, OrderMemory, Timers
from exchange.core.request_checks import Rejection, check_account
from exchange.core.requests import MassCancelReason, Record, Request

ROOM_AHEAD = 64  # records


class ExchangeActs(OrderMemory):
    """Gives requests their places in the queues.

    `journal` finds what was taken before; `has_room(count)` says whether `count` more, of any of the requests that
    clients can send, can be put on disk; `clock` gives nanoseconds since the Unix epoch.
    """

    def __init__(
        self,
        journal: Journal,
        has_room: Callable[[int], bool],
        clock: Callable[[], int],
        max_backlog: int,
        max_remembered_ids: int,
        timers: Timers | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(journal, timers, limits)
        self.has_room = has_room
        self.clock = clock
        self.max_backlog = max_backlog
        self.max_remembered_ids = max_remembered_ids
        self.records: list[Record] = []  # taken since the caller last emptied it
        self.room = 0  # how many more are known to have room, without asking `has_room`

    # -- what is traded ------------------------------------------------------------------------------------------------

    def define(self, asset: Asset, by: str = "") -> bool:
        """Take an asset's definition into its queue if it is new or has changed; return whether it was.

        `by` is the operator, empty for the configuration. The configuration does not bring back an asset that an
        operator has delisted (else a restart would); an operator does. Raises ValueError where a scale differs from the
        one the asset has traded with.
        """
        queue = self.queues.get(asset.asset)
        if queue is not None:
            known = queue.definition
            for scale in ("price_scale", "quantity_scale"):
                if getattr(known, scale) != getattr(asset, scale):
                    raise ValueError(
                        f"{scale} = {getattr(asset, scale)}: {asset.asset} has traded with {getattr(known, scale)}, "
                        "and a scale can't change, since all its prices or quantities on record would; list it under "
                        "another name"
                    )
            if queue.delisted and not by:
                return False
            if known == asset and not queue.delisted:
                queue.listed = True
                return False
        if by:
            self._check_room(1)
        self._take(queue or self._new_queue(asset), "", requests.DefineAsset(asset, by))
        self.room = 0  # a definition may be larger than what was asked for
        return True

    def delist(self, asset: str, by: str) -> Record:
        """Take an asset off the list: its orders are canceled, and it takes nothing any more."""
        queue = self._listed(asset)
        self._check_room(1)
        return self._take(queue, "", requests.Delist(by))

    # -- status and time -----------------------------------------------------------------------------------------------

    def change_status(
        self, asset: str, status: Status, reason: str, *, call: int = 0, by: str = "", scheduled_time: int = 0
    ) -> Record | None:
        """Change an asset's status, by the schedule or, with `by`, by an operator; None where nothing would change.

        Where an operator has halted the asset, the schedule can't do anything but close it; whatever an operator does
        next ends that. With `call` this ends the call of that number, if it goes on still: that is always taken.
        Closing an asset that has sessions ends its day.
        """
        queue = self._listed(asset)
        ends_day = status == "closed" and queue.definition.has_sessions
        request = requests.ChangeStatus(status, reason, call, ends_day, by, scheduled_time)
        if not queue.status.would_change(request):
            return None
        self._check_room(1)
        return self._take(queue, "", request)

    def expire(self, asset: str, day: bool = False) -> Record:
        """Expire an asset's gtd orders whose time has come, and with `day` its day orders."""
        queue = self._listed(asset)
        self._check_room(1)
        return self._take(queue, "", requests.Expire(day))

    def cancel_account(
        self, account: str, assets: Sequence[str] | None, reason: MassCancelReason, by: str = ""
    ) -> list[Record]:
        """Cancel an account's live orders in some assets, or (None) in all: a record for each in which it had orders.

        Several records are one group, to be written together. No record where the account never had an order.
        """
        known = self.accounts.get(check_account(account))
        queues = (
            [queue for queue in self.queues.values() if queue.listed]
            if assets is None
            else [self._listed(asset) for asset in dict.fromkeys(assets)]
        )
        queues = [queue for queue in queues if known is not None and queue.number in known.assets]
        parts = len(queues)
        if parts:
            self._check_room(parts)
        return [
            self._take(queue, account, requests.MassCancel(0, None, assets is None, part, parts, reason=reason, by=by))
            for part, queue in enumerate(queues, 1)
        ]

    def end_session(self, account: str, interval_ms: int) -> Record:
        """Note in the exchange's own queue that an account's session is over."""
        self._check_room(1)
        return self._take(self.exchange, account, requests.SetSession(interval_ms, False))

    def disarm(self, account: str) -> Record:
        """Note in the exchange's own queue that an account's `cancel_all_after` was carried out."""
        self._check_room(1)
        return self._take(self.exchange, account, requests.CancelAllAfter(0))

    # -- places in the queues ------------------------------------------------------------------------------------------

    def _take(self, queue: AssetQueue, account: str, request: Request) -> Record:
        """Give a request the next place in a queue."""
        queue.sequence = sequence = queue.sequence + 1
        now = self.clock()
        if now > self.time:
            self.time = now
        record = Record(queue.name, sequence, self.time, account, request)
        self.records.append(record)
        self._remember(queue, record)
        return record

    def _now(self) -> int:
        now = self.clock()
        if now > self.time:
            self.time = now
        return self.time

    def _queue(self, asset: str) -> AssetQueue:
        queue = self.queues.get(asset)
        if queue is None:
            self._reject_asset(asset)
        return queue

    def _listed(self, asset: str) -> AssetQueue:
        queue = self._queue(asset)
        if not queue.listed:
            self._reject_asset(asset)
        return queue

    def _reject_asset(self, asset: str) -> NoReturn:
        listed = [name for name, queue in self.queues.items() if queue.listed]
        raise Rejection("unknown_asset", f"asset {asset!r:.80}: not traded here; there are {', '.join(listed[:20])}")

    def _check_bounds(self, queue: AssetQueue, remembers: str | None, records: int = 1) -> None:
        """Raise Rejection where one of the bounds of the exchange is reached.

        `remembers` is the account of a request that has an id to be remembered. One that has none is taken when no more
        ids can be: whoever can't enter an order any more must be able to cancel. An asset that is listed no more takes
        nothing new; what repeats an earlier request has been answered before this is asked.
        """
        if not queue.listed:
            self._reject_asset(queue.name)
        if queue.sequence - queue.applied >= self.max_backlog:
            self._reject_backlog(queue)
        if remembers is not None and (remembers not in self.accounts or self.remembered_ids >= self.max_remembered_ids):
            self._check_memory(remembers)
        if self.room > records:
            self.room -= records
        else:
            self._check_room(records)

    def _reject_backlog(self, queue: AssetQueue) -> None:
        if queue.applied < 0:
            raise Rejection(
                "busy",
                f"{queue.name}: its matching daemon, on another host, has not been heard of since the order handler "
                "started; try again later",
            )
        raise Rejection("busy", f"{queue.name} has {self.max_backlog} requests waiting, its bound; try again later")

    def hold(self, asset: str) -> None:
        """Take no request of an asset, but for the exchange's own, until `note_applied` says what was applied."""
        queue = self.queues.get(asset)
        if queue is not None:
            queue.applied = -self.max_backlog

    def _check_memory(self, account: str) -> None:
        if len(self.accounts) >= MOST_ACCOUNTS and account not in self.accounts:
            raise Rejection(
                "busy", f"{MOST_ACCOUNTS} accounts are known, the bound; use one of them; tell the operator"
            )
        if self.remembered_ids >= self.max_remembered_ids:
            raise Rejection(
                "busy",
                f"{self.max_remembered_ids} ids are remembered, the bound; tell the operator; amends and cancels "
                "without a request_id are still taken",
            )

    def _check_room(self, records: int) -> None:
        """Have room for so many records more, or raise Rejection. It is asked for ahead, for many at a time."""
        self.room -= records
        if self.room >= 0:
            return
        self.room = 0
        if self.has_room(records + ROOM_AHEAD):
            self.room = ROOM_AHEAD
        elif not self.has_room(records):
            raise Rejection("busy", "there is no room on disk for another request; try again later")
