"""Counting within this process."""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from atelier.limits.limiter import ALL, Policy, Verdict, judge

MOST_CALLERS = 100_000


class MemoryLimiter:
    """``policies`` hold for each caller, ``of_all`` for all together."""

    def __init__(
        self,
        policies: Sequence[Policy],
        of_all: Sequence[Policy] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
        most_callers: int = MOST_CALLERS,
    ) -> None:
        self._policies = tuple((policy, False) for policy in policies)
        self._policies += tuple((policy, True) for policy in of_all)
        self._clock = clock
        self._most_callers = most_callers
        # When each has its whole quota again, in milliseconds; the most recently seen last.
        self._whole_at: OrderedDict[tuple[str, str], float] = OrderedDict()

    async def take(self, caller: str, cost: int = 1) -> Verdict:
        now = self._clock() * 1000
        keys = {one.name: (one.name, ALL if of_all else caller) for one, of_all in self._policies}
        ahead = {name: self._whole_at.get(key, 0.0) - now for name, key in keys.items()}
        policies = [one for one, _ in self._policies]
        verdict = judge(policies, ahead, cost)
        if verdict.allowed:
            for one in policies:
                key = keys[one.name]
                self._whole_at[key] = now + one.ahead_ms(ahead[one.name], cost)
                self._whole_at.move_to_end(key)
            self._forget(now)
        return verdict

    def _forget(self, now: float) -> None:
        while self._whole_at:
            key, whole_at = next(iter(self._whole_at.items()))
            # The least recently seen goes even where it hasn't its quota back: memory is bounded.
            if whole_at > now and len(self._whole_at) <= self._most_callers:
                return
            del self._whole_at[key]
