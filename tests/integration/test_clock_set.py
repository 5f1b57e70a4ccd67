"""The clock is set an hour forth and back while orders flow: times never run backwards, and no event changes."""

import random
import time
from collections.abc import Callable
from pathlib import Path

from exchange.audit.audit import audit
from exchange.core.requests import Expire, MassCancel
from tests.aftermath import check_acks, check_event_logs, settled_journal
from tests.daemons import Daemons
from tests.integration import jumping_clock
from tests.integration.outsider import Message, Peer
from tests.support import Daemon, wait_until
from tests.trader import ACCOUNTS, Trader

SECOND = 10**9
HOUR = 3600 * SECOND
JUMPS = (HOUR, 0, -HOUR, 0, HOUR, -HOUR)
TRADED = 500  # requests that are acknowledged between two jumps, at least
INTERVAL_MS = 2000  # of a session that is kept alive, then falls silent
ASSETS = ("ACME", "GOLD")
CALM = "CALM"  # where nothing happens but by the clock
ASSETS_FILE = "".join(f'[[asset]]\nasset = "{name}"\n' for name in (*ASSETS, CALM))


class OrderHandler(Daemon):
    package = "tests.integration"


class Clock:
    """The clock of one exchange's machine."""

    def __init__(self, daemons: Daemons, file: Path) -> None:
        self.file = file
        self.set(0)
        handler = OrderHandler(daemons.config, "jumping_clock", environment={jumping_clock.VARIABLE: str(file)})
        daemons.replace(daemons.order_handler, handler)

    def set(self, offset: int) -> None:
        """Set it to so many nanoseconds beside the true time."""
        new = self.file.with_suffix(".new")
        new.write_text(str(offset))
        new.rename(self.file)


def order(account: str, name: str, **more: object) -> Message:
    """Return an order that rests, in the asset that nobody else trades."""
    fixed: Message = {"type": "new_order", "asset": CALM, "side": "buy", "quantity": 1, "price": 1}
    return fixed | {"account": account, "client_order_id": name, **more}


def status_of(query: Peer, account: str, name: str) -> str:
    asked = {"type": "order_status", "account": account, "asset": CALM, "client_order_id": name}
    return str(query.ask(asked).get("order_status"))


def test_times_never_run_backwards_and_no_event_changes_while_the_clock_is_set_an_hour_back_and_forth(
    dsn: str, tmp_path: Path
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    daemons = Daemons(tmp_path, ASSETS_FILE, f"[database]\ndsn = '{dsn}'\n")
    clock = Clock(daemons, tmp_path / "offset")
    trader = Trader(daemons.config.endpoints.order_entry, ASSETS, seed)
    query = Peer(trader.context, daemons.config.endpoints.query)
    try:
        with daemons.running():
            session = Peer(trader.context, daemons.config.endpoints.order_entry)
            declared = {"type": "session", "account": "sid", "heartbeat_interval_ms": INTERVAL_MS}
            assert session.ask(declared | {"cancel_on_disconnect": True})["type"] == "ack"
            now = time.time_ns()
            for asked in (
                order("sid", "while heard of"),
                order("kim", "for half an hour", time_in_force="gtd", expire_time=now + HOUR // 2),
                order("kim", "for two hours", time_in_force="gtd", expire_time=now + 2 * HOUR),
            ):
                assert session.ask(asked)["type"] == "ack"

            def trade(until: Callable[[], bool], what: str) -> None:
                """Have orders flow, and the session heard of, until something is so."""
                deadline = time.monotonic() + 30
                while not until():
                    assert time.monotonic() < deadline, f"not within 30 s: {what}"
                    trader.turn()
                    assert session.ask(type="ping", account="sid")["type"] == "pong"

            for offset in (0, *JUMPS):
                clock.set(offset)
                enough = len(trader.acks) + TRADED
                trade(lambda enough=enough: len(trader.acks) >= enough, "orders are taken")  # type: ignore[misc]

            trade(lambda: status_of(query, "kim", "for half an hour") == "expired", "what was due has expired")
            assert status_of(query, "kim", "for two hours") == "new"
            assert status_of(query, "sid", "while heard of") == "new", "who was heard was not silent for an hour"

            daemons.order_handler.kill()  # an hour behind what it wrote last
            daemons.order_handler.start()
            enough = len(trader.acks) + TRADED
            deadline = time.monotonic() + 30
            while len(trader.acks) < enough:
                assert time.monotonic() < deadline, "orders are taken after a restart"
                trader.turn()
            trader.drain(30)
            wait_until(lambda: status_of(query, "sid", "while heard of") == "canceled", "who is silent is found out")
            wait_until(lambda: time.time_ns() > trader.last_expiry + SECOND, "all that expires has expired")
            clock.set(0)

            queues = settled_journal(daemons.config, dsn)
            of_trader = {asset: [each for each in queue if each.account in ACCOUNTS] for asset, queue in queues.items()}
            check_acks(of_trader, trader.acks, trader.requests)
            check_event_logs(daemons.config, queues)
            audit(daemons.config, dsn, complete=True)
            by_clock = [record.request for record in queues[CALM] if record.account not in ACCOUNTS]
            assert [type(request) for request in by_clock].count(Expire) == 1
            assert (
                sum(isinstance(request, MassCancel) and request.reason == "disconnected" for request in by_clock) == 1
            )
            daemons.stop()
    finally:
        trader.close()
