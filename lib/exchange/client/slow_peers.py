"""Who does not read what the exchange sends: connections whose other end has no room left, as Linux counts them.

A publisher can't be asked: ZeroMQ drops what a slow subscriber has no room for and tells nobody. The kernel knows how
much of each connection's data has not been taken by the other end, and whether that has said that it can't take more.
"""

import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from msgspec import Struct

MUCH_BYTES = 64 * 1024  # in a send queue: more than what is just on its way to somebody who reads
ESTABLISHED = "01"
PROBING = "04"  # the timer that runs while the other end has no room: now and then it is asked again
TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


class SlowPeer(Struct, frozen=True):
    """A connection to an endpoint, the address of its other end, and the bytes that wait for that to read."""

    endpoint: str
    peer: str
    waiting_bytes: int


def slow_peers(endpoints: Iterable[str]) -> list[SlowPeer]:
    """Return the connections to these endpoints (`tcp://host:port`, on this machine) that have much waiting.

    Empty on systems that do not say.
    """
    ports = {int(endpoint.rpartition(":")[2]): endpoint for endpoint in endpoints}
    return [
        SlowPeer(ports[port], peer, waiting)
        for table in TABLES
        for port, peer, waiting in _connections(table)
        if port in ports and waiting >= MUCH_BYTES
    ]


def _connections(table: Path) -> Iterator[tuple[int, str, int]]:
    """Yield (local port, address of the other end, bytes in the send queue) of each connection in a kernel's table."""
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:
        return
    for line in lines:
        fields = line.split()
        if fields[3] == ESTABLISHED and fields[5].partition(":")[0] == PROBING:
            yield int(fields[1].rpartition(":")[2], 16), _address(fields[2]), int(fields[4].partition(":")[0], 16)


def _address(text: str) -> str:
    """Return an address and port as people write them, from the kernel's hexadecimal words in the machine's order."""
    words, _, port = text.rpartition(":")
    packed = b"".join(struct.pack("=I", int(words[at : at + 8], 16)) for at in range(0, len(words), 8))
    if len(packed) == 4:
        return f"{socket.inet_ntop(socket.AF_INET, packed)}:{int(port, 16)}"
    return f"[{socket.inet_ntop(socket.AF_INET6, packed)}]:{int(port, 16)}"
