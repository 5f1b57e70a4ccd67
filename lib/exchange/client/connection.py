"""A DEALER for one request at a time, with a deadline, replaced by a fresh one whenever the answer does not come.

A fresh socket has a new identity, so an answer to an earlier try can never be taken for one to a later request.
"""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

import zmq

from exchange.client.errors import Unreachable

FIRST_TRY_S = 1.0  # a try that got no answer is followed by one with twice the patience

Value = TypeVar("Value")


def default_context() -> zmq.Context[zmq.Socket[bytes]]:
    """Return the process's own context, which all sockets of this package share unless told otherwise."""
    return zmq.Context.instance()


class RequestSocket(Generic[Value]):
    """Request and reply over a DEALER. Not for use by several threads."""

    def __init__(self, endpoint: str, context: zmq.Context[zmq.Socket[bytes]] | None = None) -> None:
        self.endpoint = endpoint
        self.context = context or default_context()
        self.socket = self._open()

    def _open(self) -> zmq.Socket[bytes]:
        socket = self.context.socket(zmq.DEALER)
        socket.linger = 0
        socket.ipv6 = "[" in self.endpoint
        socket.connect(self.endpoint)
        return socket

    def reopen(self) -> None:
        """Give up the connection, and with it whatever is still under way on it."""
        self.socket.close()
        self.socket = self._open()

    def ask(self, frame: bytes, timeout: float, read: Callable[[bytes], Value | None]) -> Value:
        """Send a request and return what `read` makes of the reply; a reply that it answers with None is passed over.

        The request is sent again, on a fresh socket, until the deadline: it must be safe to repeat. `timeout` is in
        seconds. Raises Unreachable when they are over.
        """
        deadline = time.monotonic() + timeout
        patience = FIRST_TRY_S
        try:
            while True:
                self.socket.send(frame)
                value = self._await(min(deadline, time.monotonic() + patience), read)
                if value is not None:
                    return value
                self.reopen()
                if time.monotonic() >= deadline:
                    raise Unreachable(self.endpoint, timeout)
                patience *= 2
        except KeyboardInterrupt:
            self.reopen()
            raise

    def _await(self, until: float, read: Callable[[bytes], Value | None]) -> Value | None:
        while (left := until - time.monotonic()) > 0:
            if self.socket.poll(int(left * 1000) + 1):
                frames = self.socket.recv_multipart()
                value = read(frames[-1])
                if value is not None:
                    return value
        return None

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
