"""How long jobs take, learned from those that ended; what the ETA is made of."""

from collections.abc import Callable, Mapping

from atelier.jobs.job import Job
from atelier.jobs.queue import RunKey, RunTime

WEIGHT = 0.2  # of the newest run in the moving average
DEFAULT_RUN_MS = 3000.0  # before anything is known

_Kind = tuple[str, str | None]


class Estimates:
    """Moving averages of run times by workflow, variant and instance, loads not counted.

    What is learned here is told to other processes through the database: ``take_news`` gives it,
    ``recall`` takes what all have learned.
    """

    def __init__(self, *, now_ms: Callable[[], int]) -> None:
        self._at: dict[RunKey, float] = {}
        self._mean: dict[_Kind, float] = {}
        self._news: dict[RunKey, RunTime] = {}
        self._all_ms: float | None = None
        self._slowness: dict[str, float] = {}  # of instances: 2, where all takes twice as long
        self._now_ms = now_ms

    def learn(
        self, workflow: str, variant: str | None, run_ms: float, *, instance: str = ""
    ) -> None:
        key = RunKey(workflow, variant, instance)
        self._at[key] = _moved(self._at.get(key), run_ms)
        kind = workflow, variant
        self._mean[kind] = _moved(self._mean.get(kind), run_ms)
        self._all_ms = _moved(self._all_ms, run_ms)
        before = self._news.get(key)
        if before is None:
            self._news[key] = RunTime(run_ms, 1)
        else:
            self._news[key] = RunTime(_moved(before.mean_ms, run_ms), before.runs + 1)

    def take_news(self) -> dict[RunKey, RunTime]:
        """What was learned here since the last time."""
        news, self._news = self._news, {}
        return news

    def give_back(self, news: Mapping[RunKey, RunTime]) -> None:
        """What couldn't be told; what is newer goes before it."""
        self._news = {**news, **self._news}

    def recall(self, known: Mapping[RunKey, RunTime]) -> None:
        """Take over what all workers have learned."""
        sums: dict[_Kind, list[float]] = {}
        for key, time in known.items():
            self._at[key] = time.mean_ms
            sums.setdefault((key.workflow, key.variant), []).append(time.mean_ms)
        for kind, means in sums.items():
            self._mean[kind] = sum(means) / len(means)
        slowness: dict[str, list[float]] = {}
        for key, time in known.items():
            if mean := self._mean[key.workflow, key.variant]:
                slowness.setdefault(key.instance, []).append(time.mean_ms / mean)
        self._slowness = {id: sum(ratios) / len(ratios) for id, ratios in slowness.items()}
        if self._mean:
            self._all_ms = sum(self._mean.values()) / len(self._mean)

    @property
    def known(self) -> bool:
        """Whether anything was learned yet."""
        return self._all_ms is not None

    def run_ms(self, workflow: str, variant: str | None) -> int | None:
        """Mean run time of such jobs; None before the first."""
        known = self._mean.get((workflow, variant))
        return None if known is None else int(known)

    def expected_ms(self, workflow: str, variant: str | None, instance: str | None) -> float:
        """Run time of such a job at ``instance``, or over all; a guess where nothing is known."""
        known = self._at.get(RunKey(workflow, variant, instance or ""))
        if known is not None:
            return known
        mean = self._mean.get((workflow, variant), self._all_ms or DEFAULT_RUN_MS)
        return mean * self._slowness.get(instance or "", 1.0)

    def remaining_seconds(self, job: Job) -> float | None:
        """Seconds until ``job``, which runs, ends; None while nothing is known."""
        if not self.known:
            return None
        run_ms = self.expected_ms(job.workflow, job.variant, job.instance)
        elapsed = self._now_ms() - (job.started_at_ms or self._now_ms())
        return round(max(run_ms - elapsed, 0) / 1000, 1)


def _moved(mean: float | None, newest: float) -> float:
    return newest if mean is None else mean + WEIGHT * (newest - mean)
