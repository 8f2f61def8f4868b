"""What an instance has to do, and how long it will take by what such jobs took there. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

DEFAULT_RUN_MS: Final = 3000.0  # before anything is known
_WEIGHT: Final = 0.2  # of the newest run in the moving average


@dataclass(slots=True)
class Doing:
    """A job that is claimed for the instance. Times are in ms of one clock."""

    workflow: str
    variant: str | None
    model: str | None
    started_ms: float | None = None  # when its nodes began to run


class Work:
    """``jobs`` by id in the order of claiming; ``foreign_*`` count prompts of other people."""

    def __init__(self) -> None:
        self.jobs: dict[str, Doing] = {}
        self.foreign_running = 0
        self.foreign_pending = 0
        self._run_ms: dict[tuple[str, str | None], float] = {}
        self._guessed: set[tuple[str, str | None]] = set()
        self._mean_ms: float | None = None

    @property
    def foreign(self) -> int:
        return self.foreign_running + self.foreign_pending

    @property
    def speeds(self) -> dict[str, float]:
        """Mean run time in ms by ``workflow`` or ``workflow/variant``."""
        return {
            name if variant is None else f"{name}/{variant}": round(ms)
            for (name, variant), ms in self._run_ms.items()
        }

    def claimed(self, id: str, workflow: str, variant: str | None, model: str | None) -> None:
        self.jobs[id] = Doing(workflow, variant, model)

    def started(self, id: str, now_ms: float) -> None:
        if id in self.jobs:
            self.jobs[id].started_ms = now_ms

    def left(self, id: str) -> None:
        self.jobs.pop(id, None)

    def learn(
        self, workflow: str, variant: str | None, run_ms: float, *, is_guess: bool = False
    ) -> None:
        """Note what a job took; a guess only counts until something is known."""
        key = (workflow, variant)
        known = self._run_ms.get(key)
        if is_guess:
            if known is None:
                self._run_ms[key] = run_ms
                self._guessed.add(key)
            return
        if key in self._guessed:
            self._guessed.discard(key)
            known = None
        self._run_ms[key] = run_ms if known is None else known + _WEIGHT * (run_ms - known)
        mean = self._mean_ms
        self._mean_ms = run_ms if mean is None else mean + _WEIGHT * (run_ms - mean)

    def run_ms(self, workflow: str, variant: str | None) -> float | None:
        """Mean time that such jobs took here; None before the first."""
        return self._run_ms.get((workflow, variant))

    def free_in_ms(self, now_ms: float, switch_ms: Callable[[str], float]) -> float:
        """Until all that is claimed, and what other people put there, has run.

        ``switch_ms`` gives what loading a model takes if it comes next; it is counted once for
        each change from one job to the next.
        """
        mean = self._mean_ms or DEFAULT_RUN_MS
        # What runs is half done on average.
        total = mean * (0.5 * self.foreign_running + self.foreign_pending)
        loaded: set[str] = set()
        for job in self.jobs.values():
            expected = self.run_ms(job.workflow, job.variant) or mean
            if job.started_ms is not None:
                total += max(expected - (now_ms - job.started_ms), 0.0)
            else:
                total += expected
                if job.model is not None and job.model not in loaded:
                    total += switch_ms(job.model)
            if job.model is not None:
                loaded = {job.model}
        return total
