"""The port, and the arithmetic: the generic cell rate algorithm. Pure.

A caller's state is one number, the time at which all that was taken would have been taken if it
had been taken at an even pace. It may lie as far ahead as a whole window: so a quota can be used
at once, and then comes back evenly, rather than all at the turn of a minute.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

WINDOW_MS = 60_000
ALL = "all"  # whom the quota of all together is counted for


@dataclass(frozen=True, slots=True)
class Policy:
    """At most ``quota`` in a window; ``name`` is shown to callers."""

    name: str
    quota: int
    window_ms: int = WINDOW_MS

    def ahead_ms(self, ahead_ms: float, cost: int) -> float:
        """How far ahead of now the state is once ``cost`` is taken as well."""
        return max(ahead_ms, 0.0) + self.window_ms / self.quota * min(cost, self.quota)

    def state(self, ahead_ms: float) -> "State":
        left = (self.window_ms - ahead_ms) / self.window_ms * self.quota
        # A hair less than whole, from the arithmetic, is whole.
        remaining = max(0, int(left + 1e-6))
        return State(self, remaining, max(0.0, ahead_ms / 1000))


@dataclass(frozen=True, slots=True)
class State:
    """``remaining`` can be taken now; after ``reset_seconds`` all of the quota can."""

    policy: Policy
    remaining: int
    reset_seconds: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """``retry_after_seconds`` is None where it was allowed."""

    states: tuple[State, ...]
    retry_after_seconds: float | None = None

    @property
    def allowed(self) -> bool:
        return self.retry_after_seconds is None


class Limiter(Protocol):
    """Counts; never raises, and answers at once whatever is away."""

    async def take(self, caller: str, cost: int = 1) -> Verdict:
        """Take ``cost`` of all of ``caller``'s quotas, or of none.

        More than a whole quota counts as the whole.
        """
        ...


def judge(
    policies: Sequence[Policy],
    ahead_ms: Mapping[str, float],
    cost: int,
    *,
    allowed: bool | None = None,
) -> Verdict:
    """What to answer where each policy's state is ``ahead_ms`` (by name) ahead of now.

    ``allowed`` where that has been decided already.
    """
    taken = {one.name: one.ahead_ms(ahead_ms[one.name], cost) for one in policies}
    over = max((taken[one.name] - one.window_ms for one in policies), default=0.0)
    if over > 1e-6 if allowed is None else not allowed:
        states = tuple(one.state(max(ahead_ms[one.name], 0.0)) for one in policies)
        return Verdict(states, retry_after_seconds=max(over, 1.0) / 1000)
    return Verdict(tuple(one.state(taken[one.name]) for one in policies))
