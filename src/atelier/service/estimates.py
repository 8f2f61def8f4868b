"""How long jobs take, learned from those that ended; what the ETA is made of."""

from collections.abc import Callable

from atelier.jobs.job import Job

WEIGHT = 0.2  # of the newest run in the moving average
DEFAULT_RUN_MS = 3000  # before anything is known


class Estimates:
    """Moving averages of run times by workflow and variant.

    ``instances_up`` says how many instances share the queue.
    """

    def __init__(self, *, instances_up: Callable[[], int], now_ms: Callable[[], int]) -> None:
        self._mean_ms: dict[tuple[str, str | None], float] = {}
        self._all_ms: float | None = None
        self._instances_up = instances_up
        self._now_ms = now_ms

    def learn(self, workflow: str, variant: str | None, run_ms: float) -> None:
        key = (workflow, variant)
        known = self._mean_ms.get(key)
        self._mean_ms[key] = run_ms if known is None else known + WEIGHT * (run_ms - known)
        self._all_ms = (
            run_ms if self._all_ms is None else self._all_ms + WEIGHT * (run_ms - self._all_ms)
        )

    def run_ms(self, workflow: str, variant: str | None) -> int | None:
        """Mean run time of such jobs; None before the first."""
        known = self._mean_ms.get((workflow, variant))
        return None if known is None else int(known)

    def eta_seconds(self, job: Job, position: int | None) -> float | None:
        """Seconds until ``job`` ends; None when nothing is known or it has ended."""
        own = self.run_ms(job.workflow, job.variant) or job.estimate_ms
        if own is None and self._all_ms is None:
            return None
        run_ms = own if own is not None else (self._all_ms or DEFAULT_RUN_MS)
        if job.status == "running":
            elapsed = self._now_ms() - (job.started_at_ms or self._now_ms())
            return round(max(run_ms - elapsed, 0) / 1000, 1)
        instances = self._instances_up()
        if job.status != "queued" or position is None or instances == 0:
            return None
        others_ms = self._all_ms or run_ms
        # Those at the instances are half done on average.
        ahead = (position - 1 + 0.5 * instances) / instances
        return round((ahead * others_ms + run_ms) / 1000, 1)
