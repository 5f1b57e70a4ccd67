"""An operator's acts on a running exchange: statuses, cancels, the clock, assets that come and go.

They go to the order handler over a socket in the run folder, which only the exchange's owner (and root) can enter; it
puts them in its journal, with who it was. Adding and removing an asset takes more: the file, a program, and a wait
until all of it has taken effect. Each step may be repeated, so where one fails the whole is, once its reason is gone.
"""

import os
import time
from collections.abc import Callable
from typing import TypeVar

import msgspec
import zmq
from msgspec import UNSET

from exchange import listing, supervision
from exchange.client.connection import default_context
from exchange.client.errors import ActRefused, Failed, ProtocolError, Rejected, Unreachable
from exchange.client.health import is_alive
from exchange.client.queries import Queries
from exchange.config import Config
from exchange.core.admin_messages import (
    AddAsset,
    AdminReply,
    AnyAct,
    Cancel,
    ChangeStatus,
    Done,
    ReadClock,
    RemoveAsset,
    SetClock,
)
from exchange.core.asset import Asset, Status
from exchange.folders import user_name
from exchange.listing import ListingError
from exchange.status import Status as Page
from exchange.status import read_pages
from exchange.supervision import SupervisionError

Value = TypeVar("Value")
PAUSE_S = 0.05
CATCHING_UP = "catching up"

encoder = msgspec.msgpack.Encoder()
decoder: msgspec.msgpack.Decoder[AdminReply] = msgspec.msgpack.Decoder(AdminReply)


def who() -> str:
    """Return who acts: the user's login name, with sudo the name behind it too."""
    name = user_name(os.getuid())
    behind = os.environ.get("SUDO_USER", "")
    return f"{name} (sudo: {behind})" if behind and behind != name else name


class Admin:
    """The operators' endpoint of a running exchange. `timeout` is in seconds, for each act.

    All acts raise ActRefused where the order handler refuses them, with nothing done, and Unreachable where it does not
    answer. The making raises Failed where the user is not the exchange's owner, or the order handler is elsewhere.
    """

    def __init__(
        self,
        config: Config,
        *,
        timeout: float = 10.0,
        by: str | None = None,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
    ) -> None:
        self.config = config
        self.timeout = timeout
        self.by = by if by is not None else who()
        self.context = context or default_context()
        check_owner(config)
        if not config.hosts.runs("order_handler"):
            raise Failed(
                f"operators act on host {config.hosts.of_daemon('order_handler')}, where the order handler is, and "
                f"this is host {config.hosts.here}"
            )

    def change_status(self, asset: str, status: Status) -> Done:
        """Change an asset's trading status. A call that ends so does with an auction."""
        return self.act(ChangeStatus(asset=asset, status=status, by=self.by))

    def cancel(self, account: str, asset: str | None = None) -> Done:
        """Cancel all of an account's live orders, in one asset or in all."""
        return self.act(Cancel(account=account, asset=asset if asset is not None else UNSET, by=self.by))

    def define(self, definition: Asset) -> Done:
        """List an asset at the order handler; one step of `add_asset`."""
        return self.act(AddAsset(definition=definition, by=self.by))

    def delist(self, asset: str) -> Done:
        """Cancel all orders of an asset and close it for good; one step of `remove_asset`."""
        return self.act(RemoveAsset(asset=asset, by=self.by))

    def clock(self) -> Done:
        """Return the exchange's time and the clock's mode."""
        return self.act(ReadClock(by=self.by))

    def set_clock(self, time_ns: int) -> Done:
        """Set a manual clock forward; what the schedule has until then happens, at its times and in its order."""
        return self.act(SetClock(time=time_ns, by=self.by))

    def act(self, act: AnyAct) -> Done:
        """Send any act, once, and return what was done."""
        socket = self.context.socket(zmq.DEALER)
        socket.linger = 0
        try:
            socket.connect(self.config.admin_endpoint)
            socket.send(encoder.encode(act))
            if not socket.poll(round(self.timeout * 1000)):
                raise Unreachable(self.config.admin_endpoint, self.timeout)
            payload = socket.recv_multipart()[-1]
        finally:
            socket.close()
        try:
            reply = decoder.decode(payload)
        except msgspec.DecodeError as error:
            raise ProtocolError(f"{self.config.admin_endpoint}: a reply that is none: {error}") from error
        if isinstance(reply, Done):
            return reply
        raise ActRefused(reply)


def check_owner(config: Config) -> None:
    """Raise Failed where the data folder is another user's and we are not root."""
    try:
        owner = config.data.stat().st_uid
    except OSError:
        return  # nobody ran an exchange here: it will not answer
    if os.geteuid() not in (owner, 0):
        raise Failed(
            f"only the owner of {config.data}, {user_name(owner)}, may do that, and this is {user_name(os.geteuid())}; "
            f"try sudo -u {user_name(owner)}"
        )


# -- assets that come and go -------------------------------------------------------------------------------------------


def add_asset(config: Config, name: str, settings: dict[str, str], timeout: float) -> Done:
    """List an asset on the running exchange, and wait until an order for it would be taken and reported.

    `settings` are its keys and values for assets.toml; where the file has the asset already, there are none, and what
    it has is listed. No other program than the asset's own is touched. Raises ConfigError for settings that the start
    would not take, ListingError, and Failed, ActRefused or Unreachable with the step that failed.
    """
    admin = Admin(config, timeout=timeout)
    with listing.editing(config):
        text = None
        if listing.table(config, name) is None:
            text, config = listing.with_table(config, name, settings)
        elif settings:
            raise ListingError(
                f"{listing.assets_file(config)}: has {name} already; change its table there, and leave out the "
                "settings here"
            )
        if config.hosts.needs_ports(name):
            raise ListingError(
                f"{listing.assets_file(config)}: {name} is matched on host {config.hosts.of_asset(name)}, or followed "
                "from another: put its table into the file on every host; then, on its host, python -m daemons "
                "configure and supervisorctl update; then restart order_handler, logger and notifier, which takes a "
                "second or two and loses nothing"
            )
        done = _step("list it at the order handler", lambda: admin.define(config.asset(name)))
        if text is not None:
            listing.write(config, text)
        program = supervision.matching_program(name)
        _step("start its matching daemon", lambda: supervision.add_program(config, program))
        wait = _Wait(config, timeout)
        wait.until("its matching daemon runs", lambda: wait.has_applied(program, name, done.sequences.get(name, 1)))
        wait.until("the notifier publishes it", lambda: _is_published(config, name))
    return done


def remove_asset(config: Config, name: str, timeout: float) -> Done:
    """Take an asset off the list of the running exchange, with all its orders canceled; its history stays.

    Its program is stopped when it has applied all that came before, and the logger has stored that. No other program is
    touched. Where its matching daemon is on another host, it runs on there until its table is taken out there too.
    Raises as `add_asset` does.
    """
    admin = Admin(config, timeout=timeout)
    program = supervision.matching_program(name)
    with listing.editing(config):
        text = None
        if listing.table(config, name) is not None:
            text, config = listing.without_table(config, name)
        elif not supervision.program_file(config, program).exists():
            raise ListingError(f"{listing.assets_file(config)}: has no asset {name!r}, and none of that name runs")
        elsewhere = not config.hosts.runs_matching(name)
        wait = _Wait(config, timeout)
        try:
            done = _step("take it off the list at the order handler", lambda: admin.delist(name))
        except ActRefused as refused:
            if refused.reason != "unknown_asset":
                raise
            done = Done()  # it is off the list already, as an earlier try left it
        last = done.sequences.get(name) or wait.taken(name)
        if elsewhere:
            wait.until("its matching daemon applies all requests", lambda: wait.has_been_heard_of(name, last))
        elif running := program in supervision.read_programs(config):
            wait.until("its matching daemon applies all requests", lambda: wait.has_applied(program, name, last))
        if (elsewhere or running) and config.hosts.runs("logger"):
            wait.until("the logger stores all that came of them", lambda: wait.has_applied("logger", name, last))
        if text is not None:
            listing.write(config, text)
        _step("stop its matching daemon", lambda: supervision.remove_program(config, program))
    return done


def _step(what: str, do: Callable[[], Value]) -> Value:
    """Do a step, and say which it was where it fails."""
    try:
        return do()
    except SupervisionError as error:
        raise Failed(f"could not {what}: {error}; repeat the command when that is mended") from None


def _is_published(config: Config, name: str) -> bool:
    with Queries(config.endpoints.query, timeout=1.0) as queries:
        try:
            queries.book_snapshot(name, 1)
        except (Rejected, Unreachable):
            return False
    return True


class _Wait:
    """Waits for what daemons say on their status pages, with one deadline for all of it."""

    def __init__(self, config: Config, timeout: float) -> None:
        self.config = config
        self.timeout = timeout
        self.deadline = time.monotonic() + timeout

    def until(self, what: str, condition: Callable[[], bool]) -> None:
        """Return when the condition holds. Raises Failed."""
        while not condition():
            if time.monotonic() > self.deadline:
                raise Failed(
                    f"waited {self.timeout:g} s until {what}, in vain; what was done before stays; see `exchange "
                    "status`, and repeat the command when that is mended"
                )
            time.sleep(PAUSE_S)

    def has_applied(self, daemon: str, asset: str, sequence: int) -> bool:
        """Return whether a living daemon says that it has done an asset's requests up to one."""
        page = self._page(daemon)
        return (
            page is not None
            and is_alive(page["pid"])
            and page["state"] != CATCHING_UP
            and page["processed"].get(asset, 0) >= sequence
        )

    def has_been_heard_of(self, asset: str, sequence: int) -> bool:
        """Return whether the order handler has heard that an asset's requests are applied up to one."""
        page = self._page("order_handler")
        return page is not None and page["processed"].get(asset, 0) - page["behind"].get(asset, 0) >= sequence

    def taken(self, asset: str) -> int:
        """Return the last request of an asset that the order handler has taken, as of now. Raises Failed."""
        now = time.time_ns()
        self.until("the order handler says what it has taken", lambda: self._written("order_handler") >= now)
        page = self._page("order_handler")
        return page["processed"].get(asset, 0) if page is not None else 0

    def _written(self, daemon: str) -> int:
        page = self._page(daemon)
        return page["time"] if page is not None else 0

    def _page(self, daemon: str) -> Page | None:
        return next((page for page in read_pages(self.config.status_folder) if page["daemon"] == daemon), None)
