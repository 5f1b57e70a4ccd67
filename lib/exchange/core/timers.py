"""What is to be done by the clock, and when: expiries, the schedule's changes, the end of calls, silent sessions.

Told of every record that was taken or restored, `Timers` knows what is due next; the order handler, which has a clock,
carries it out as a request in the asset's queue. Nothing here is on disk, and nothing needs to be: all of it follows
from the journal's records, so that a restart neither forgets an act nor repeats one. What was due while the order
handler was down is due at its start.

Two kinds are kept apart. What the exchange does by itself (expiries, changes of status) comes before the requests that
wait in the sockets; what it does because somebody was silent comes after them, since one of them may be the word that
was missing.

Bounds: a time for each distinct `expire_time` of an asset's gtd orders, of which there are no more than remembered
orders; a few numbers an asset; an entry for each account that has a session or a running `cancel_all_after`.
"""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any, Protocol

from msgspec import Struct

from exchange.core import requests
from exchange.core.asset import Asset, Status
from exchange.core.requests import Record

MILLISECOND = 1_000_000  # nanoseconds
MOST_LOOKS = 1_000  # at sessions that turn out to be alive, before others get their turn


class ExpireDue(Struct, frozen=True):
    """Expire the asset's gtd orders whose time has come, and with `day` its day orders."""

    asset: str
    day: bool


class ChangeDue(Struct, frozen=True):
    """Change the asset's status as its schedule says; a `scheduled_time` of 0: because it has no schedule any more."""

    asset: str
    status: Status
    scheduled_time: int


class CallOver(Struct, frozen=True):
    """End the call that the request of this sequence began."""

    asset: str
    call: int


class SessionOver(Struct, frozen=True):
    """Cancel the account's orders: its session was silent for the interval that it had declared."""

    account: str
    interval_ms: int


class CancelAllDue(Struct, frozen=True):
    """Cancel the account's orders: its `cancel_all_after` was not renewed."""

    account: str


Act = ExpireDue | ChangeDue | CallOver | SessionOver | CancelAllDue


class Calendar(Protocol):
    """What a schedule and a day roll mean in nanoseconds since the Unix epoch; `exchange.pipeline.schedule` is one."""

    def changes_between(self, asset: Asset, after_ns: int, until_ns: int) -> list[tuple[int, Status]]: ...

    def last_change(self, asset: Asset, until_ns: int) -> tuple[int, Status] | None: ...

    def next_change(self, asset: Asset, after_ns: int) -> tuple[int, Status] | None: ...

    def next_roll(self, asset: Asset, after_ns: int) -> int: ...


Key = tuple[int, str]  # a rank, which decides what comes first at one time, and an asset or account
EXPIRY, DAY_ROLL, CHANGE, CALL, CANCEL_ALL, SESSION = range(6)


class Alarms:
    """Times by key: set, moved, cleared, and taken in the order of time. Each costs O(log n).

    Moving one to a later time costs next to nothing: it is put where it belongs when the earlier time comes.
    """

    __slots__ = ("heap", "queued", "wanted")

    def __init__(self) -> None:
        self.wanted: dict[Key, int] = {}
        self.queued: dict[Key, int] = {}  # the time under which a key is in the heap; another is stale
        self.heap: list[tuple[int, Key]] = []

    def set(self, key: Key, time: int) -> None:
        self.wanted[key] = time
        queued = self.queued.get(key)
        if queued is None or time < queued:
            self.queued[key] = time
            heappush(self.heap, (time, key))
            if len(self.heap) > 2 * len(self.queued) + 64:
                self.heap = [(at, each) for each, at in self.queued.items()]
                heapify(self.heap)

    def clear(self, key: Key) -> None:
        self.wanted.pop(key, None)

    def first(self) -> tuple[int, Key] | None:
        """Return the earliest time and its key, None where there is none."""
        while self.heap:
            time, key = self.heap[0]
            wanted = self.wanted.get(key)
            if self.queued.get(key) != time:
                heappop(self.heap)
            elif wanted == time:
                return self.heap[0]
            else:
                heappop(self.heap)
                del self.queued[key]
                if wanted is not None:
                    self.queued[key] = wanted
                    heappush(self.heap, (wanted, key))
        return None


class AssetTimes(Struct):
    """What the records of an asset's queue have to do with time. `listed`, `call`, `looked` are of this life alone."""

    definition: Asset
    defined: int  # when, in nanoseconds
    listed: bool = False  # whether its timers run: not of an asset that is off the list, whose orders stay as they are
    status: Status = "open"  # as the last request has it that was to change it, calls by volatility aside
    by_hand: bool = False  # whether that was the operator's
    delisted: bool = False  # by the operator; the next definition begins anew
    scheduled: int = 0  # up to when the schedule has been followed
    fresh: bool = False  # whether the schedule has not been followed yet
    looked: int = 0  # up to when it was looked for what is due, which may have been nothing that needed a record
    expire_times: list[int] = []  # a heap, each once
    known_times: set[int] = set()
    day_since: int = 0  # when the first day order was taken that has not expired; 0: there is none
    call: int = 0  # the present call, where it ends by itself; 0: none
    call_over: int = 0  # the last call that was ended


class Session(Struct):
    """A session whose silence cancels its account's orders. Times in nanoseconds."""

    interval: int
    heard: int  # by a request that named the account
    connection: bytes = b""  # the routing id over which it was declared; empty after a restart


class Connection(Struct):
    """A connection over which sessions were declared. A frame on it is a sign of life of them all: noted once."""

    accounts: set[str]
    heard: int = 0


class Timers:
    """All that is due at some time, for all assets and accounts.

    `note` every record, those restored and those taken; call `list_asset` for each asset that is traded, and
    `start(now)` once all is restored. Then `next_due()` says when to call `take` and `take_silent`, each of which
    returns one act that is due and forgets it: whoever takes an act carries it out.
    """

    def __init__(self, calendar: Calendar) -> None:
        self.calendar = calendar
        self.assets: dict[str, AssetTimes] = {}
        self.sessions: dict[str, Session] = {}  # by account; where it is empty, nobody needs to be heard
        self.connections: dict[bytes, Connection] = {}  # over which there are sessions, by routing id
        self.alarms = Alarms()
        self.silences = Alarms()
        self.notes: dict[type, Callable[[Record, Any], None]] = {
            requests.DefineAsset: self._note_definition,
            requests.ChangeStatus: self._note_change,
            requests.Expire: self._note_expiry,
            requests.Delist: self._note_delisting,
            requests.SetSession: self._note_session,
            requests.CancelAllAfter: self._note_cancel_all_after,
        }

    # -- records -------------------------------------------------------------------------------------------------------

    def note(self, record: Record) -> None:
        """Note what a record has to do with time."""
        request = record.request
        if type(request) is requests.NewOrder:
            if request.time_in_force == "gtd":
                assert request.instructions is not None, "a gtd order has an expire_time"
                self._note_expire_time(record.asset, request.instructions.expire_time)
            elif request.time_in_force == "day":
                self._note_day_order(record)
            return
        note = self.notes.get(type(request))
        if note is not None:
            note(record, request)

    def list_asset(self, asset: str) -> None:
        """Have the timers of a defined asset run."""
        times = self.assets[asset]
        times.listed = True
        self._arm(times)

    def note_call(self, asset: str, call: int, call_ends: int) -> None:
        """Note the present call of an asset (0: there is none) and when it ends by itself (0: it does not)."""
        times = self.assets.get(asset)
        if times is None:
            return
        if not (call_ends and times.listed and call > times.call_over):
            call = 0
        if call != times.call:
            times.call = call
            if call:
                self.alarms.set((CALL, asset), call_ends)
            else:
                self.alarms.clear((CALL, asset))

    def start(self, now: int) -> None:
        """Give every session a full interval from now on: nobody could be heard before."""
        for connection in self.connections.values():
            connection.heard = now
        for account, session in self.sessions.items():
            session.heard = now
            self.silences.set((SESSION, account), now + session.interval)

    # -- sessions ------------------------------------------------------------------------------------------------------

    def declare(self, account: str, connection: bytes) -> None:
        """Note over which connection an account has declared its session, if it has one: what comes there is heard."""
        session = self.sessions.get(account)
        if session is not None and session.connection != connection:
            self._leave_connection(account, session)
            session.connection = connection
            self.connections.setdefault(connection, Connection(set())).accounts.add(account)

    def hear_connection(self, connection: bytes, now: int) -> None:
        """Note that a frame came over a connection."""
        known = self.connections.get(connection)
        if known is not None:
            known.heard = now

    def heard(self, account: str, time: int) -> None:
        """Note that a request named an account."""
        session = self.sessions.get(account)
        if session is not None:
            session.heard = time

    # -- what is due ---------------------------------------------------------------------------------------------------

    def next_due(self) -> int | None:
        """Return when something may be due next, None where nothing is. A time in the past: at once."""
        first, silence = self.alarms.first(), self.silences.first()
        if first is None or silence is None:
            either = first or silence
            return None if either is None else either[0]
        return min(first[0], silence[0])

    def take(self, now: int) -> Act | None:
        """Return the next thing that the exchange has to do by itself as of `now`, None where there is none."""
        while (first := self.alarms.first()) is not None and first[0] <= now:
            kind, name = key = first[1]
            self.alarms.clear(key)
            times = self.assets[name]
            if kind == CALL:
                times.call, times.call_over = 0, times.call
                return CallOver(name, times.call_over)
            if kind != CHANGE:
                self._forget_expired(times, now, day=kind == DAY_ROLL)
                return ExpireDue(name, kind == DAY_ROLL)
            change = self._due_change(times, now)
            self._arm_change(times)
            if change is not None:
                return change
        return None

    def take_silent(self, now: int) -> Act | None:
        """Return the next thing to do since somebody was silent up to `now`, None where there is none.

        Or where so many were found alive that the rest is to be looked at later: `next_due` is in the past then.
        """
        for _ in range(MOST_LOOKS):
            first = self.silences.first()
            if first is None or first[0] > now:
                break
            kind, account = key = first[1]
            self.silences.clear(key)
            if kind == CANCEL_ALL:
                return CancelAllDue(account)
            session = self.sessions[account]
            connection = self.connections.get(session.connection)
            heard = session.heard if connection is None else max(session.heard, connection.heard)
            if heard + session.interval > now:
                self.silences.set(key, heard + session.interval)
                continue
            self._end_session(account)
            return SessionOver(account, session.interval // MILLISECOND)
        return None

    # -- expiries ------------------------------------------------------------------------------------------------------

    def _note_expire_time(self, asset: str, time: int) -> None:
        times = self.assets[asset]
        if time in times.known_times:
            return
        times.known_times.add(time)
        heappush(times.expire_times, time)
        if times.listed and times.expire_times[0] == time:
            self.alarms.set((EXPIRY, asset), time)

    def _note_day_order(self, record: Record) -> None:
        times = self.assets[record.asset]
        if not times.day_since:
            times.day_since = record.time
            if times.listed:
                self._arm_day_roll(times)

    def _note_expiry(self, record: Record, request: requests.Expire) -> None:
        self._forget_expired(self.assets[record.asset], record.time, request.day)

    def _forget_expired(self, times: AssetTimes, now: int, day: bool) -> None:
        """Forget what an Expire request with the time `now` covers."""
        while times.expire_times and times.expire_times[0] <= now:
            times.known_times.discard(heappop(times.expire_times))
        if day:
            times.day_since = 0
        if times.listed:
            self._arm_expiry(times)
            self._arm_day_roll(times)

    def _arm_expiry(self, times: AssetTimes) -> None:
        key = (EXPIRY, times.definition.asset)
        if times.expire_times:
            self.alarms.set(key, times.expire_times[0])
        else:
            self.alarms.clear(key)

    def _arm_day_roll(self, times: AssetTimes) -> None:
        """Day orders of an asset with sessions end with the session, all others at the day roll."""
        key = (DAY_ROLL, times.definition.asset)
        if times.day_since and not times.definition.has_sessions:
            self.alarms.set(key, self.calendar.next_roll(times.definition, times.day_since))
        else:
            self.alarms.clear(key)

    # -- the trading status --------------------------------------------------------------------------------------------

    def _note_definition(self, record: Record, request: requests.DefineAsset) -> None:
        definition = request.definition
        times = self.assets.get(record.asset)
        if times is None:
            times = self.assets[record.asset] = AssetTimes(definition, record.time)
            self._begin(times)
            return
        known, times.definition, times.defined = times.definition, definition, record.time
        if times.delisted:
            self._begin(times)
        elif _hours(known) != _hours(definition):
            # What the operator closed or halted stays so until the schedule's next change.
            kept = times.by_hand and times.status != "open"
            times.fresh = definition.has_sessions and not kept
            times.scheduled, times.looked = record.time, 0
        if times.listed:
            self._arm(times)

    def _begin(self, times: AssetTimes) -> None:
        """Begin as the matching core does: closed where there is a schedule, which is to say more at once."""
        times.looked = 0
        times.fresh = times.definition.has_sessions
        times.status = "closed" if times.fresh else "open"
        times.by_hand = times.delisted = False

    def _note_change(self, record: Record, request: requests.ChangeStatus) -> None:
        times = self.assets[record.asset]
        if request.call:
            times.call_over = max(times.call_over, request.call)
        else:
            times.status = request.status
            times.by_hand = bool(request.by)
        if request.scheduled_time or request.by:  # an operator's act stands until the schedule's next change
            times.fresh = False
            times.scheduled = max(times.scheduled, request.scheduled_time or record.time)
        if times.listed:
            self._arm_change(times)
        if request.ends_day:
            self._forget_expired(times, record.time, day=True)

    def _note_delisting(self, record: Record, request: requests.Delist) -> None:
        """Every order is canceled; a later definition begins anew."""
        name = record.asset
        for kind in (EXPIRY, DAY_ROLL, CHANGE, CALL):
            self.alarms.clear((kind, name))
        call_over = max(self.assets[name].call_over, record.sequence)
        definition = self.assets[name].definition
        self.assets[name] = AssetTimes(definition, record.time, status="closed", delisted=True, call_over=call_over)

    def _arm(self, times: AssetTimes) -> None:
        self._arm_expiry(times)
        self._arm_day_roll(times)
        self._arm_change(times)

    def _arm_change(self, times: AssetTimes) -> None:
        """Set the alarm for the schedule's next change, or for what is to be done at once."""
        key = (CHANGE, times.definition.asset)
        if not times.definition.has_sessions:
            if times.status != "open" and not times.by_hand and not times.looked:
                self.alarms.set(key, times.defined)
            else:
                self.alarms.clear(key)
            return
        if times.fresh and not times.looked:
            self.alarms.set(key, times.defined)
            return
        change = self.calendar.next_change(times.definition, max(times.scheduled, times.looked))
        if change is None:
            self.alarms.clear(key)
        else:
            self.alarms.set(key, change[0])

    def _due_change(self, times: AssetTimes, now: int) -> ChangeDue | None:
        """Return the change of status that is due: of those that were missed, the first from the last close on."""
        definition = times.definition
        if not definition.has_sessions:
            times.looked = now
            return ChangeDue(definition.asset, "open", 0)
        if times.fresh and not times.looked:
            change = self.calendar.last_change(definition, now)
            times.looked = max(times.scheduled, now)
            if change is None:
                return None
            return ChangeDue(definition.asset, change[1], change[0])
        missed = self.calendar.changes_between(definition, max(times.scheduled, times.looked), now)
        if not missed:
            return None
        closes = [place for place, (_, status) in enumerate(missed) if status == "closed"]
        time, status = missed[closes[-1] if closes else 0]
        times.looked = time
        return ChangeDue(definition.asset, status, time)

    # -- accounts ------------------------------------------------------------------------------------------------------

    def _note_session(self, record: Record, request: requests.SetSession) -> None:
        account = record.account
        connection = self._end_session(account)
        if request.cancel_on_disconnect and request.heartbeat_interval_ms > 0:
            interval = request.heartbeat_interval_ms * MILLISECOND
            self.sessions[account] = Session(interval, record.time)
            self.silences.set((SESSION, account), record.time + interval)
            if connection:
                self.declare(account, connection)

    def _end_session(self, account: str) -> bytes:
        """Forget an account's session, if it has one; return over which connection it was."""
        session = self.sessions.pop(account, None)
        self.silences.clear((SESSION, account))
        if session is None:
            return b""
        self._leave_connection(account, session)
        return session.connection

    def _leave_connection(self, account: str, session: Session) -> None:
        connection = self.connections.get(session.connection)
        if connection is not None:
            connection.accounts.discard(account)
            if not connection.accounts:
                del self.connections[session.connection]

    def _note_cancel_all_after(self, record: Record, request: requests.CancelAllAfter) -> None:
        key = (CANCEL_ALL, record.account)
        if request.timeout_ms > 0:
            self.silences.set(key, record.time + request.timeout_ms * MILLISECOND)
        else:
            self.silences.clear(key)


def _hours(asset: Asset) -> tuple[object, ...]:
    """Return what of a definition its schedule consists of."""
    return asset.schedule, asset.time_zone, asset.trading_days, asset.closed_dates
