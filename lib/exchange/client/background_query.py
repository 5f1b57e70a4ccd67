"""A query under way while its caller goes on with other things."""

import itertools
import time
from typing import Any

import msgspec
import zmq

from exchange.client.connection import default_context
from exchange.client.errors import ProtocolError
from exchange.core.messages import Query

FIRST_TRY_S = 1.0  # a try that got no reply is followed by one on a fresh socket, with twice the patience
LONGEST_TRY_S = 8.0


class BackgroundQuery:
    """One query at a time, sent again until its reply comes, however long that takes. Nothing here waits."""

    def __init__(self, endpoint: str, context: zmq.Context[zmq.Socket[bytes]] | None = None) -> None:
        self.endpoint = endpoint
        self.context = context or default_context()
        self.numbers = itertools.count(1)
        self.query: Query | None = None
        self.patience = FIRST_TRY_S
        self.deadline = 0.0
        self.socket = self._open()

    def _open(self) -> zmq.Socket[bytes]:
        socket = self.context.socket(zmq.DEALER)
        socket.linger = 0
        socket.ipv6 = "[" in self.endpoint
        socket.connect(self.endpoint)
        return socket

    @property
    def idle(self) -> bool:
        return self.query is None

    def start(self, query: Query) -> None:
        """Send a query. There must be none under way."""
        assert self.query is None, "one query at a time"
        self.query = msgspec.structs.replace(query, request_id=next(self.numbers))
        self.patience = FIRST_TRY_S
        self._send()

    def _send(self) -> None:
        assert self.query is not None
        self.socket.send(msgspec.msgpack.encode(self.query))
        self.deadline = time.monotonic() + self.patience

    def reply(self) -> tuple[Query, dict[str, Any]] | None:
        """Return the query and its reply once that has come; the next query may start then. Raises ProtocolError."""
        query = self.query
        if query is None:
            return None
        while self.socket.poll(0):
            payload = self.socket.recv_multipart()[-1]
            try:
                reply = msgspec.msgpack.decode(payload, type=dict[str, Any])
            except msgspec.DecodeError as error:
                raise ProtocolError(f"{self.endpoint}: a reply that is no map: {error}") from error
            if reply.get("request_id") == query.request_id:
                self.query = None
                return query, reply
        if time.monotonic() > self.deadline:
            self.socket.close()
            self.socket = self._open()
            self.patience = min(self.patience * 2, LONGEST_TRY_S)
            self._send()
        return None

    def close(self) -> None:
        self.socket.close()
