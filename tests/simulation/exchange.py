"""A whole exchange in one process: its daemons on simulated worlds, its users, and what goes wrong, all of one seed."""

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import Struct

from daemons.logger import LoggerDaemon
from daemons.matching import MatchingDaemon
from daemons.notifier import NotifierDaemon
from daemons.order_handler import OrderHandlerDaemon
from exchange import config as configuration
from exchange.config import Config
from exchange.core.asset import Asset, ScheduledChange
from exchange.core.risk import RiskLimit
from exchange.pipeline import id_table
from exchange.pipeline.log import NoRoom
from exchange.store.writer import Writer
from tests.simulation import checks
from tests.simulation.clients import Operator, Subscriber, Trader
from tests.simulation.disk import ROOMY
from tests.simulation.kernel import Failed, Kernel
from tests.simulation.world import Life, Machine, Process

DATA = Path("/simulated/data")
SETTLE_SECONDS = 90.0  # within which an exchange that nothing troubles any more has to come to rest
KILLED_AT = ("", "", "", "", "write", "write", "sync", "sync", "send", "send", "rename", "open", "copied", "committed")
SAID = {  # what a daemon's log says of a rare state, and how that is counted
    "cut off an unfinished write": "torn tail cut off",
    "going on from the snapshot": "snapshot used",
    "requests from a state": "state in a seal used",  # unless none came from there
    "dropped it and what follows": "damaged end of an event log dropped",
    "is passed over": "snapshot passed over",
    "could not be written": "snapshot without room",
    "can't be sealed": "seal without room",
    "can't allocate the next segment": "segment without room",
    "no room for more ids": "ids without room",
    "can't keep messages": "messages without room",
    "it is made again from the journal": "table of ids made again",
    "the book is rebuilt": "book rebuilt and compared",
}
MIDDAY = "22:13:"  # the time of day at which the simulated clock begins, all but its seconds


class Profile(Struct, frozen=True, kw_only=True):
    """How an exchange of one seed is set up, and how often what happens to it; rates are per second."""

    seconds: float
    accounts: int
    requests_per_second: float
    in_flight: int
    segment_bytes: int
    snapshot_requests: int
    max_backlog: int
    max_batch_requests: int
    max_remembered_ids: int
    retained_messages: int
    queue: int
    slow: float
    sessions: bool
    bands: bool
    open_orders: int
    operator_seconds: float
    kills: float
    power_failures: float
    freezes: float
    full_disks: float
    bad_syncs: float
    databases_away: float
    broken_connections: float
    partitions: float
    clock_jumps: float
    deaf_clients: float


def new_profile(chance: random.Random) -> Profile:
    """Draw a profile: most faults are in many of them, none is in all."""

    def often(part: float, rate: float) -> float:
        return chance.uniform(0.3, 1.0) * rate if chance.random() < part else 0.0

    return Profile(
        seconds=chance.uniform(3, 8),
        accounts=chance.randint(2, 3),
        requests_per_second=chance.choice((8, 15, 25)),
        in_flight=chance.choice((1, 4, 20)),
        segment_bytes=chance.choice((8_192, 16_384, 65_536)),
        snapshot_requests=chance.choice((10, 25, 60)),
        max_backlog=chance.choice((8, 1_000, 1_000)),
        max_batch_requests=chance.choice((2, 10, 50)),
        max_remembered_ids=chance.choice((40, 100_000, 100_000, 100_000)),
        retained_messages=chance.choice((200, 100_000, 100_000)),
        queue=chance.choice((2, 10, 1_000)),
        slow=chance.choice((0.0, 0.0, 0.05, 0.2)),
        sessions=chance.random() < 0.4,
        bands=chance.random() < 0.4,
        open_orders=chance.choice((0, 0, 10)),
        operator_seconds=chance.choice((0.7, 3.0)),
        kills=often(0.7, 2.0),
        power_failures=often(0.4, 0.5),
        freezes=often(0.4, 0.5),
        full_disks=often(0.3, 0.3),
        bad_syncs=often(0.4, 0.6),
        databases_away=often(0.4, 0.4),
        broken_connections=often(0.3, 1.0),
        partitions=often(0.4, 2.0),
        clock_jumps=often(0.3, 0.5),
        deaf_clients=often(0.3, 0.5),
    )


def new_config(profile: Profile) -> Config:
    """Return the configuration of an exchange with two assets, as if it had been read."""
    bands: dict[str, Any] = {"volatility_band_ppm": 30_000, "call_seconds": 2} if profile.bands else {}
    schedule: tuple[ScheduledChange, ...] = ()
    if profile.sessions:
        times = (("20", "call"), ("22", "open"), ("25", "closed"), ("26", "call"), ("27", "open"))
        schedule = tuple(ScheduledChange(MIDDAY + second, status) for second, status in times)  # type: ignore[arg-type]
    limits = {
        "max_backlog": profile.max_backlog,
        "max_batch_requests": profile.max_batch_requests,
        "max_remembered_ids": profile.max_remembered_ids,
        "retained_messages": profile.retained_messages,
    }
    return Config(
        Path("/simulated/config"),
        DATA,
        endpoints=configuration.Endpoints(),
        database=configuration.Database(),
        security=configuration.Security(),
        journal=configuration.Journal(segment_bytes=profile.segment_bytes),
        limits=configuration.Limits(**limits),
        clock=configuration.Clock(),
        snapshots=configuration.Snapshots(requests=profile.snapshot_requests),
        assets=(
            Asset(asset="ACME", tick_size=5, lot_size=10, reference_price=500, **bands),
            Asset(asset="BTC-USD", price_scale=2, schedule=schedule),
        ),
        risk_limits=(RiskLimit(max_open_orders=profile.open_orders),) if profile.open_orders else (),
    )


class Exchange:
    """One run: `run` it, and it raises whatever does not hold."""

    def __init__(self, seed: int) -> None:
        self.kernel = kernel = Kernel(seed)
        self.chance = kernel.chance
        self.profile = profile = new_profile(kernel.chance)
        self.config = config = new_config(profile)
        self.machine = machine = Machine(kernel)
        machine.network.queue = profile.queue
        machine.network.slow = profile.slow
        self.healed = False
        self.processes: dict[str, Process] = {}
        self.order_handler = self.process("order_handler", lambda life: OrderHandlerDaemon(config, life))
        for asset in config.assets:
            self.process(f"matching-{asset.asset}", partial(MatchingDaemon, config, asset=asset.asset))
        self.logger = self.process("logger", self.new_logger)
        self.notifier = self.process("notifier", lambda life: NotifierDaemon(config, life))
        network = machine.network
        accounts = [f"account-{number}" for number in range(profile.accounts)]
        self.traders = [Trader(kernel, network, config, account, profile) for account in accounts]
        self.subscriber = Subscriber(kernel, network, config, accounts, "subscriber")
        self.operator = Operator(kernel, network, config, accounts, profile.operator_seconds)
        for actor in (*self.processes.values(), *self.traders, self.subscriber, self.operator):
            actor.wake(kernel.chance.random() * 0.2)

    def process(self, name: str, start: Callable[[Life], Any]) -> Process:
        process = self.processes[name] = Process(self.machine, name, start)
        process.on_end = self.may_end
        process.on_start = self.on_start
        return process

    def new_logger(self, life: Life) -> LoggerDaemon:
        return LoggerDaemon(self.config, life, Writer("", connect=self.machine.server.connect(life)))

    # -- what goes wrong -----------------------------------------------------------------------------------------------

    def on_start(self, life: Life) -> None:
        """A start may be killed too."""
        if not self.healed and self.profile.kills and self.chance.random() < 0.2:
            life.kill_soon("", self.chance.randint(1, 60))

    def may_end(self, process: Process, error: Exception) -> bool:
        """Return whether a daemon may end so: for a fault that was put to it, and for no other reason."""
        life = process.life
        assert life is not None
        if isinstance(error, OSError) and (life.injected or self.machine.storage.free < ROOMY // 2):
            return True
        return isinstance(error, NoRoom) and self.machine.storage.free < ROOMY // 2

    def plan(self) -> None:
        """Have each kind of fault happen at its rate, at random moments."""
        profile = self.profile
        faults: tuple[tuple[float, Callable[[], None]], ...] = (
            (profile.kills, self.kill),
            (profile.power_failures, self.fail_power),
            (profile.freezes, self.freeze),
            (profile.full_disks, self.fill_disk),
            (profile.bad_syncs, self.fail_sync),
            (profile.databases_away, self.lose_database),
            (profile.broken_connections, self.break_connection),
            (profile.partitions, self.part),
            (profile.clock_jumps, self.jump),
            (profile.deaf_clients, self.deafen),
        )
        for rate, fault in faults:
            at = 0.0
            while rate and (at := at + self.chance.expovariate(rate)) < profile.seconds:
                self.kernel.push(at, fault)

    def any_process(self) -> Process:
        return self.chance.choice(list(self.processes.values()))

    def kill(self) -> None:
        process = self.any_process()
        if process.life is None or self.chance.random() < 0.2:
            process.kill()
        else:
            what = self.chance.choice(KILLED_AT)
            process.life.kill_soon(what, self.chance.randint(1, 4 if what else 60))

    def fail_power(self) -> None:
        self.kernel.fault("power failure")
        for process in self.processes.values():
            process.ended()
        if self.machine.storage.power_failure():
            self.kernel.seen["power failure that lost something"] += 1

    def freeze(self) -> None:
        process = self.any_process()
        seconds = self.chance.uniform(0.3, 4.0)
        self.kernel.fault("freeze", process.name, seconds)
        process.busy_until = self.kernel.now + seconds
        if process.wake_at < process.busy_until:
            process.wake_at = float("inf")
        process.wake(process.busy_until)

    def fill_disk(self) -> None:
        storage = self.machine.storage
        if storage.free < ROOMY // 2:
            return
        self.kernel.fault("disk full")
        before = storage.free
        storage.free = given = self.chance.choice((0, 3_000, 4_000_000))

        def free() -> None:
            if storage.free < ROOMY // 2:
                storage.free += before - given

        self.kernel.after(self.chance.uniform(0.3, 3.0), free)

    def fail_sync(self) -> None:
        process = self.order_handler if self.chance.random() < 0.6 else self.any_process()
        if process.life is not None:
            process.life.bad_syncs = 1 + self.chance.choice((1, 1, 2, 3, 5))

    def lose_database(self) -> None:
        server = self.machine.server
        if server.away:
            return
        if self.chance.random() < 0.5:
            self.kernel.fault("database crashed")
            server.crash()
        else:
            self.kernel.fault("database away")
            server.go_away()

        def back() -> None:
            server.away = False

        self.kernel.after(self.chance.uniform(0.2, 5.0), back)

    def break_connection(self) -> None:
        if self.logger.life is not None:
            self.logger.life.bad_connections = 1

    def part(self) -> None:
        links = self.machine.network.links
        if links:
            link = self.chance.choice(links)
            self.kernel.fault("connection broken", link.endpoint, link.connector.owner.name)
            self.machine.network.break_link(link)

    def jump(self) -> None:
        self.kernel.fault("clock jump")
        self.kernel.clock_offset_ns = self.chance.choice((-3_600, 0, 3_600)) * 10**9

    def deafen(self) -> None:
        """A trader reads nothing for a while."""
        trader = self.chance.choice(self.traders)
        self.kernel.fault("client does not read", trader.name)
        trader.stopped = True

        def hear() -> None:
            trader.stopped = False
            trader.wake(self.kernel.now)

        self.kernel.after(self.chance.uniform(0.5, 3.0), hear)

    def heal(self) -> None:
        """End all that is wrong: from now on everything has to come right by itself."""
        self.healed = True
        self.kernel.note("healed")
        if self.machine.storage.free < ROOMY // 2:
            self.machine.storage.free += ROOMY // 2 + 1
        self.machine.server.away = False
        self.machine.network.slow = 0.0
        for process in self.processes.values():
            process.busy_until = min(process.busy_until, self.kernel.now + 0.01)
            if process.life is not None:
                process.life.spare()
        for trader in self.traders:
            trader.trading = trader.stopped = False
            trader.wake(self.kernel.now)
        self.operator.acting = False

    # -- the run -------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Let users and faults go on for a while; then nothing but recovery, and the checks."""
        with small(self.kernel):
            self._run()

    def _run(self) -> None:
        self.plan()
        kernel = self.kernel
        kernel.run(lambda: False, self.profile.seconds)
        self.heal()
        # A settled exchange is looked at twice, so that nothing is on its way that would unsettle it.
        settled_at: list[float] = []
        look_at = [0.0]

        def settled() -> bool:
            if kernel.now < look_at[0]:
                return False
            look_at[0] = kernel.now + 0.25
            if checks.unsettled(self):
                settled_at.clear()
                return False
            settled_at.append(kernel.now)
            return len(settled_at) > 5

        if not kernel.run(settled, SETTLE_SECONDS):
            raise Failed(f"not settled within {SETTLE_SECONDS:g} s: {checks.unsettled(self)}")
        checks.check(self)


class Listener(logging.Handler):
    """Counts what the daemons say in their logs of rare states."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(logging.INFO)
        self.kernel = kernel

    def emit(self, record: logging.LogRecord) -> None:
        for text, name in SAID.items():
            if text in str(record.msg) and not (isinstance(record.args, tuple) and record.args[:1] == (0,)):
                self.kernel.seen[name] += 1


@contextmanager
def small(kernel: Kernel) -> Iterator[None]:
    """Make small what is a constant elsewhere, for its bound to be reached with a few hundred requests; log nothing."""
    slots, filter_bytes = id_table.SLOTS, id_table.FILTER_BYTES
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    id_table.SLOTS, id_table.FILTER_BYTES = 64, 64
    root.handlers = [Listener(kernel)]
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.handlers = handlers
        root.setLevel(level)
        id_table.SLOTS, id_table.FILTER_BYTES = slots, filter_bytes
