"""How long to wait before a process is started again. Pure but for the chance given to it."""

import random


class Backoff:
    """Doubles from ``first_seconds`` to ``most_seconds``; each pause is 0.5 to 1 of that.

    The jitter keeps processes that died together from starting together: each loads its models
    from the same disk.
    """

    def __init__(
        self, first_seconds: float, most_seconds: float, rng: random.Random | None = None
    ) -> None:
        self._first = first_seconds
        self._most = most_seconds
        self._rng = rng or random.Random()
        self.failures = 0

    def next_seconds(self) -> float:
        # The exponent is bounded, since a broken process may be tried for months.
        pause = min(self._first * 2.0 ** min(self.failures, 32), self._most)
        self.failures += 1
        return pause * self._rng.uniform(0.5, 1.0)

    def reset(self) -> None:
        self.failures = 0
