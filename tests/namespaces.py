"""Two machines on one: network namespaces joined by a cable, made and removed by root with `ip`."""

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

ADDRESSES = ("10.77.0.1", "10.77.0.2")  # within the namespaces: no other network sees them
NOBODY = "02:00:00:00:00:01"  # a hardware address that no card has
SECONDS = 10.0

_numbers = itertools.count()


@dataclass(frozen=True)
class Machine:
    """A namespace. `through` runs a command in it: see `tests.support.Daemon`."""

    name: str
    address: str

    @property
    def through(self) -> list[str]:
        return ["ip", "netns", "exec", self.name]


@dataclass(frozen=True)
class Cable:
    """What joins two machines."""

    machines: tuple[Machine, Machine]

    def cut(self) -> None:
        """Take the link down: both machines see that, and what they send gets an error or is lost."""
        _ip("-n", self.machines[0].name, "link", "set", "cable", "down")

    def mend(self) -> None:
        _ip("-n", self.machines[0].name, "link", "set", "cable", "up")

    def swallow(self) -> None:
        """Lose every packet from now on, with no sign of that on either machine."""
        for one, other in (self.machines, self.machines[::-1]):
            _ip("-n", one.name, "neigh", "replace", other.address, "lladdr", NOBODY, "dev", "cable", "nud", "permanent")

    def carry(self) -> None:
        for one, other in (self.machines, self.machines[::-1]):
            _ip("-n", one.name, "neigh", "del", other.address, "dev", "cable")


def why_not() -> str:
    """Return why there can be no namespaces here, "" where there can."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return "network namespaces take root, and the command ip"
    try:
        with joined():
            return ""
    except (OSError, subprocess.SubprocessError) as error:
        return f"network namespaces can't be made here: {error}"


@contextmanager
def joined() -> Iterator[Cable]:
    """Make two namespaces, with names of this process's own, and a cable between them; remove all of it at the end."""
    number = next(_numbers)
    names = [f"exchange-{os.getpid()}-{number}{end}" for end in "ab"]
    first, second = (Machine(name, address) for name, address in zip(names, ADDRESSES, strict=True))
    try:
        for machine in (first, second):
            _ip("netns", "add", machine.name)
            _ip("-n", machine.name, "link", "set", "lo", "up")
        _ip("-n", first.name, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", second.name)
        for machine in (first, second):
            _ip("-n", machine.name, "addr", "add", f"{machine.address}/24", "dev", "cable")
            _ip("-n", machine.name, "link", "set", "cable", "up")
        subprocess.run([*second.through, "true"], check=True, capture_output=True, timeout=SECONDS)
        yield Cable((first, second))
    finally:
        for name in names:  # and with them all that is in them
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True, timeout=SECONDS)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=SECONDS)
