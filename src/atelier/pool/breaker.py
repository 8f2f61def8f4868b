"""Keeps jobs away from an instance that fails them: the circuit breaker. Pure.

Closed, it lets everything through. Several failures that were the instance's own open it; after a
pause it is half open and lets one job through, whose end closes it, or opens it for twice as long.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal

Circuit = Literal["closed", "open", "half_open"]

FAILURES: Final = 3  # one after the other
FIRST_PAUSE_SECONDS: Final = 5.0
LONGEST_PAUSE_SECONDS: Final = 300.0
# What one crash breaks (the socket, each prompt that was there) is told within this.
SAME_CRASH_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Breaker:
    """``now`` is in seconds of any clock that only goes forward."""

    failures: int = 0
    openings: int = 0  # one after the other
    open_until: float | None = None
    crashed_at: float | None = None

    def state(self, now: float) -> Circuit:
        if self.open_until is None:
            return "closed"
        return "open" if now < self.open_until else "half_open"

    def allows(self, now: float, under_way: int) -> bool:
        """Whether one more job may go there, where ``under_way`` already do."""
        state = self.state(now)
        return state == "closed" or (state == "half_open" and under_way == 0)

    def failed(self, now: float, *, chance: float, crash: bool) -> "Breaker":
        """Note a failure; ``chance`` in [0, 1) spreads the pauses of many workers.

        ``crash``: the connection or the prompt was lost, which one crash does to several at once.
        """
        if crash and self.crashed_at is not None and now - self.crashed_at < SAME_CRASH_SECONDS:
            return self
        crashed_at = now if crash else self.crashed_at
        state = self.state(now)
        if state == "open":
            return replace(self, crashed_at=crashed_at)
        failures = self.failures + 1
        if state == "closed" and failures < FAILURES:
            return replace(self, failures=failures, crashed_at=crashed_at)
        # A large exponent would overflow long after the pause has stopped to grow.
        pause = FIRST_PAUSE_SECONDS * 2 ** min(self.openings, 16)
        seconds = min(pause, LONGEST_PAUSE_SECONDS) * (0.5 + chance / 2)
        return Breaker(failures, self.openings + 1, now + seconds, crashed_at)

    def worked(self, now: float) -> "Breaker":
        """Note that the instance did what it should, whatever came of the job."""
        # What began before it opened says nothing of the time after.
        return self if self.state(now) == "open" else Breaker()
