"""One TCP port with several listening sockets, and the word with which of them the next connections are to end.

Linux spreads the connections to a port over the sockets that listen there with SO_REUSEPORT: by a hash, unless a small
program (classic BPF, which any user may attach) says otherwise. Here the program names the sockets that have few
connections. It is the kernel that follows it, so that it holds while the process is busy, and no connection is moved.
"""

import ctypes
import logging
import socket
import struct
import sys
from collections.abc import Sequence

SO_ATTACH_REUSEPORT_CBPF = 51
BACKLOG = 128  # connections that wait to be accepted, on each of the sockets

# Instructions of classic BPF.
LOAD_HALF_WORD, LEFT_TO_INDEX, ADD_INDEX, SHIFT_RIGHT, MODULO, JUMP_IF_EQUAL, RETURN = 0x28, 7, 0x0C, 0x74, 0x94, 21, 6
NETWORK_HEADER = 0x1_0000_0000 - 0x100000
LOW_ADDRESS_AND_PORT = {socket.AF_INET: (14, 20), socket.AF_INET6: (22, 40)}  # of the client, in the network's header

Listener = socket.socket

logger = logging.getLogger(__name__)


def can_share() -> bool:
    """Return whether this system spreads connections over several listening sockets (others only let them bind)."""
    return sys.platform == "linux" and hasattr(socket, "SO_REUSEPORT")


def listen(host: str, port: int, count: int) -> list[Listener]:
    """Return so many sockets that listen on one port. Raises OSError where anybody else does, as a bind would.

    `host` is an address, no name. The first listens alone, without SO_REUSEPORT: another process that does the same is
    refused, or refuses us. Only then may others join it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sockets: list[Listener] = []
    try:
        for _ in range(count):
            listener = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(listener)
            listener.setblocking(False)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as libzmq does
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            if len(sockets) > 1:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind((host, port))
            listener.listen(BACKLOG)
            if len(sockets) == 1:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        for listener in sockets:
            listener.close()
        raise
    return sockets


class Steering:
    """Tells the kernel which of the sockets of `listen` take the next connections.

    It holds the descriptor of one of them, and does not own it: it is not used after that was closed.
    """

    def __init__(self, listener: Listener) -> None:
        self.family = listener.family
        self.descriptor = listener.fileno()
        self.refused = False

    def to(self, numbers: Sequence[int]) -> None:
        """Have new connections end at the sockets with these numbers (places in the list of `listen`).

        Which of the list is next the client's port says, in steps of 2, together with the low half of its address:
        Linux gives one client after another its ports in such steps, more or less, and clients elsewhere are spread
        over the list by chance. A number may be there several times. Where the system refuses such programs its own
        hash goes on to decide.
        """
        if self.refused:
            return
        program = _program(numbers, self.family)
        buffer = ctypes.create_string_buffer(program, len(program))
        option = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
        listener = socket.socket(fileno=self.descriptor)
        try:
            listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, option)
        except OSError as error:
            self.refused = True
            logger.warning("subscribers are spread by chance, since the kernel takes no program for it: %s", error)
        finally:
            listener.detach()


def _program(numbers: Sequence[int], family: socket.AddressFamily) -> bytes:
    """Return a program that chooses one of the numbers for a connection."""
    address, port = (NETWORK_HEADER + offset for offset in LOW_ADDRESS_AND_PORT[family])
    steps = [
        (LOAD_HALF_WORD, 0, 0, address),
        (LEFT_TO_INDEX, 0, 0, 0),
        (LOAD_HALF_WORD, 0, 0, port),
        (SHIFT_RIGHT, 0, 0, 1),
        (ADD_INDEX, 0, 0, 0),
        (MODULO, 0, 0, len(numbers)),
    ]
    for place, number in enumerate(numbers):
        steps += [(JUMP_IF_EQUAL, 0, 1, place), (RETURN, 0, 0, number)]
    steps.append((RETURN, 0, 0, numbers[0]))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
