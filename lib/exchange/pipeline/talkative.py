"""An end to connections whose peer says much more than it has to say.

libzmq takes from a subscriber whatever it sends (subscriptions again and again, messages of its own), and keeps it in
memory without a bound until it is read. It has no option against that; but it tells the descriptors of its connections,
and Linux how much came over each. What is shut down here ends for libzmq as if the peer had gone.
"""

import logging
import os
import socket
import struct

BYTES_RECEIVED = struct.Struct("=Q")
BYTES_RECEIVED_AT = 128  # in Linux's struct tcp_info
INFO_BYTES = BYTES_RECEIVED_AT + BYTES_RECEIVED.size

logger = logging.getLogger(__name__)


def end_if_talkative(descriptor: int, most: int) -> None:
    """Shut a connection down over which more than `most` bytes have come since it began.

    Nothing is done where the descriptor is no TCP connection (any more), or the system does not say.
    """
    try:
        with socket.socket(fileno=os.dup(descriptor)) as connection:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO_BYTES)
            if len(info) < INFO_BYTES or BYTES_RECEIVED.unpack_from(info, BYTES_RECEIVED_AT)[0] <= most:
                return
            peer = connection.getpeername()
            connection.shutdown(socket.SHUT_RDWR)
    except (OSError, AttributeError):
        return
    logger.warning(
        "%s port %d: a subscriber that has sent more than %d bytes; its connection is ended", *peer[:2], most
    )
