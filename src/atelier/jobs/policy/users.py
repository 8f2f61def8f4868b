"""Virtual times and running jobs of the users on a board."""

from atelier.jobs.policy.shares import Shares


class Users:
    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self._virtual = dict(shares.virtual_ms)
        self._running = {user: count for user, count in shares.running.items() if count > 0}
        self._total = sum(self._running.values())
        self._waiting: dict[str, int] = {}
        self.floor_ms = shares.floor_ms
        self.limited = bool(shares.max_running) or shares.max_running_default is not None
        self.lowered = 0  # how often a virtual time went back: orders made before are wrong

    @property
    def full(self) -> bool:
        limit = self._shares.max_running_total
        return limit is not None and self._total >= limit

    def virtual_ms(self, user: str) -> float:
        return max(self._virtual.get(user, 0.0), self.floor_ms)

    def may_start(self, user: str) -> bool:
        limit = self._shares.max_running.get(user, self._shares.max_running_default)
        return limit is None or self._running.get(user, 0) < limit

    def waits(self, user: str, change: int) -> None:
        """Count ``change`` more queued jobs of ``user``."""
        count = self._waiting.get(user, 0) + change
        if count > 0:
            self._waiting[user] = count
        else:
            self._waiting.pop(user, None)

    def start(self, user: str, cost_ms: float) -> None:
        self._virtual[user] = self.virtual_ms(user) + cost_ms
        self._running[user] = self._running.get(user, 0) + 1
        self._total += 1
        self._raise_floor()

    def finish(self, user: str, correction_ms: float) -> None:
        self._virtual[user] = self._virtual.get(user, 0.0) + correction_ms
        if correction_ms < 0:
            self.lowered += 1
        left = self._running.get(user, 0) - 1
        if left > 0:
            self._running[user] = left
        else:
            self._running.pop(user, None)
        self._total = max(self._total - 1, 0)
        self._raise_floor()

    def _raise_floor(self) -> None:
        """Never lowered, so that a user who rests saves nothing up."""
        active = self._waiting.keys() | self._running.keys()
        if active:
            least = min(self._virtual.get(user, 0.0) for user in active)
            self.floor_ms = max(self.floor_ms, least)
