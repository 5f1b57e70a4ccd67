"""The order handler's clock: what stamps each request's time, and says when something is due."""

import time
from collections.abc import Callable
from typing import Literal, Protocol

LATEST = 9_214_560_000 * 10**9  # 2262-01-01, near the end of what 64 bits of nanoseconds can say


class Clock(Protocol):
    """Gives nanoseconds since the Unix epoch."""

    @property
    def mode(self) -> Literal["system", "manual"]: ...

    def now(self) -> int: ...


class SystemClock:
    """The machine's clock. It may be set back: whoever needs times in order sees to that."""

    mode: Literal["system", "manual"] = "system"

    def __init__(self, time_ns: Callable[[], int] = time.time_ns) -> None:
        self.now = time_ns


class ManualClock:
    """A clock that stands still until it is set, forward only: a trading day can be gone through in a moment."""

    mode: Literal["system", "manual"] = "manual"

    def __init__(self, start_ns: int) -> None:
        self.time = start_ns

    def now(self) -> int:
        return self.time

    def advance(self, to_ns: int) -> None:
        """Set the clock. A time before its own leaves it as it is."""
        self.time = max(self.time, to_ns)
