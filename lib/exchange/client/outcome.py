"""What comes of a request: the execution reports of one order, awaited for a moment."""

import time
from types import TracebackType
from typing import Self

from exchange.client.errors import Unreachable
from exchange.client.market_data import Feed
from exchange.client.queries import Queries
from exchange.config import Endpoints
from exchange.core.messages import ExecutionReport

PAUSE_S = 0.05
REFUSALS = ("rejected", "cancel_rejected", "amend_rejected")


class Outcome:
    """Listens to an account's reports in one asset from its making on. Raises Unreachable as `Feed` does."""

    def __init__(self, endpoints: Endpoints, queries: Queries, account: str, asset: str) -> None:
        self.feed = Feed(endpoints.private, queries, [f"execution/{account}/{asset}/"])

    def reports(self, order_id: int, seconds: float) -> list[ExecutionReport]:
        """Return the order's reports since this began: all that its request caused, or none within `seconds`.

        What one request causes is published together, so the first report is awaited, and then what follows at once.
        """
        found: list[ExecutionReport] = []
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            delivery = self.feed.receive(PAUSE_S)
            if delivery is None:
                if found:
                    break
                try:
                    self.feed.catch_up(max(deadline - time.monotonic(), PAUSE_S))
                except Unreachable:
                    break
            elif isinstance(delivery.message, ExecutionReport) and delivery.message.order_id == order_id:
                found.append(delivery.message)
                if delivery.message.leaves_quantity == 0 or delivery.message.exec_type in REFUSALS:
                    break
        return found

    def close(self) -> None:
        self.feed.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
