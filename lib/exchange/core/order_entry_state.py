"""All that order entry holds between two requests, as bytes, so that a start need not read every record again.

    data = state_of(entry)      # with its timers and limits
    restore(other, data)        # a new one, which goes on as `entry` would after a restart from all records

What is in a state follows from the records alone: not what matching daemons have reported, who was heard when, or what
an account has used of its rate, which a restart loses in any case. Nor does it hold the ids and the orders themselves,
which are in the journal. The same records give the same bytes, whether a state was restored on the way or not.

Written as MessagePack arrays, an account in about 10 bytes and its name. A new field goes to the end, with the default
that older states mean; where that is not enough, VERSION rises.
"""

import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from exchange.core.asset import Asset, Status
from exchange.core.order_entry import OrderEntry
from exchange.core.order_memory import Account, AssetQueue
from exchange.core.risk import RiskLimits
from exchange.core.timers import CANCEL_ALL, AssetTimes, Session, Timers
from exchange.core.trading_status import TradingStatus

VERSION = 1


class UnusableState(Exception):
    """A state that can't be restored here; the text says why. The records have it all."""


class StoredStatus(TradingStatus, array_like=True):
    """A trading status, with the same fields."""


class StoredQueue(Struct, frozen=True, array_like=True):
    """An asset's queue. Its number is its place in the state's list."""

    definition: Asset
    status: StoredStatus
    sequence: int
    delisted: bool


class StoredTimes(Struct, frozen=True, array_like=True):
    """What the records of an asset's queue have to do with time: see `AssetTimes`. `expire_times` rise."""

    asset: str
    definition: Asset
    defined: int
    status: Status
    by_hand: bool
    delisted: bool
    scheduled: int
    fresh: bool
    expire_times: list[int]
    day_since: int
    call_over: int


class StoredTimers(Struct, frozen=True, array_like=True):
    """`sessions`: account and interval in nanoseconds; `cancel_all`: account and when it is due. Sorted by account."""

    assets: list[StoredTimes]
    sessions: list[tuple[str, int]]
    cancel_all: list[tuple[str, int]]


class EntryState(Struct, frozen=True, array_like=True):
    """The state of an `OrderEntry`. `accounts`: in the order of their numbers, each with the numbers of its assets."""

    version: int
    record_time: int
    next_order_id: int
    remembered_ids: int
    exchange_sequence: int
    queues: list[StoredQueue]
    accounts: list[tuple[str, list[int]]]
    timers: StoredTimers | None


class StateVersion(Struct, frozen=True, array_like=True):
    """The beginning of a state of whatever version."""

    version: int


def state_of(entry: OrderEntry) -> bytes:
    """Return the state. To be called between two requests, when all that was taken is on record."""
    assert not entry.records, "what was taken is on record"
    return msgspec.msgpack.encode(
        EntryState(
            VERSION,
            entry.record_time,
            entry.next_order_id,
            entry.remembered_ids,
            entry.exchange.sequence,
            [
                StoredQueue(queue.definition, StoredStatus(*astuple(queue.recorded)), queue.sequence, queue.delisted)
                for queue in entry.queues.values()
            ],
            [(name, sorted(account.assets)) for name, account in entry.accounts.items()],
            _timers_state(entry.timers) if isinstance(entry.timers, Timers) else None,
        )
    )


def restore(entry: OrderEntry, data: bytes) -> None:
    """Make an order entry that has not begun what the state says, its timers and limits too.

    Raises UnusableState, having changed nothing, where it is of another version, or does not have what is needed here.
    """
    state = _decode(data)
    timers, limits = entry.timers, entry.limits
    if isinstance(timers, Timers) and state.timers is None:
        raise UnusableState("it was written without timers")
    assert not entry.queues, "nothing has been restored or taken"
    assert not entry.exchange.sequence
    entry.time = entry.record_time = state.record_time
    entry.next_order_id = entry.first_recent = state.next_order_id
    entry.remembered_ids = state.remembered_ids
    entry.exchange.sequence = state.exchange_sequence
    for number, stored in enumerate(state.queues):
        name = stored.definition.asset
        status, recorded = (TradingStatus(*astuple(stored.status)) for _ in range(2))
        entry.queues[name] = AssetQueue(
            number, name, stored.definition, status, recorded, stored.sequence, listed=False, delisted=stored.delisted
        )
    for number, (name, assets) in enumerate(state.accounts):
        entry.accounts[name] = Account(number, set(assets))
    if isinstance(limits, RiskLimits):
        limits.restored({name: queue.sequence for name, queue in entry.queues.items()}, entry.next_order_id)
    if isinstance(timers, Timers) and state.timers is not None:
        _restore_timers(timers, state.timers)


def _decode(data: bytes) -> EntryState:
    try:
        version = msgspec.msgpack.decode(data, type=StateVersion).version
        if version != VERSION:
            raise UnusableState(f"it has version {version}, and this program reads version {VERSION}")
        return msgspec.msgpack.decode(data, type=EntryState)
    except msgspec.DecodeError as error:
        raise UnusableState(f"it can't be decoded: {error}") from None


def _timers_state(timers: Timers) -> StoredTimers:
    return StoredTimers(
        [
            StoredTimes(
                name,
                times.definition,
                times.defined,
                times.status,
                times.by_hand,
                times.delisted,
                times.scheduled,
                times.fresh,
                sorted(times.expire_times),
                times.day_since,
                times.call_over,
            )
            for name, times in timers.assets.items()
        ],
        sorted((account, session.interval) for account, session in timers.sessions.items()),
        sorted((account, time) for (kind, account), time in timers.silences.wanted.items() if kind == CANCEL_ALL),
    )


def _restore_timers(timers: Timers, state: StoredTimers) -> None:
    for stored in state.assets:
        timers.assets[stored.asset] = AssetTimes(
            stored.definition,
            stored.defined,
            status=stored.status,
            by_hand=stored.by_hand,
            delisted=stored.delisted,
            scheduled=stored.scheduled,
            fresh=stored.fresh,
            expire_times=list(stored.expire_times),  # what rises is a heap
            known_times=set(stored.expire_times),
            day_since=stored.day_since,
            call_over=stored.call_over,
        )
    for account, interval in state.sessions:
        timers.sessions[account] = Session(interval, 0)  # heard at the start, as all are
    for account, time in state.cancel_all:
        timers.silences.set((CANCEL_ALL, account), time)
