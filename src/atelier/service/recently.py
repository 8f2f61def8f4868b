"""What was seen to be in the database a moment ago, so that it needn't be asked for again."""

import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

# Well below the times after which housekeeping forgets what nobody has asked for.
TRUSTED_SECONDS = 600.0
MOST = 10_000  # strangers' graphs of long ago


class Recently(Generic[K]):
    """A set whose members leave by themselves after ten minutes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[K, float] = {}

    def __contains__(self, key: K) -> bool:
        seen = self._seen.get(key)
        return seen is not None and self._clock() - seen < TRUSTED_SECONDS

    def add(self, key: K) -> None:
        """Call with what was looked for just now, not with what was known to be here."""
        if len(self._seen) >= MOST:
            self._seen.clear()
        self._seen[key] = self._clock()
