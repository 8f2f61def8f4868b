"""What the choice knows of an instance, and what work costs there."""

from collections.abc import Callable
from dataclasses import dataclass

from atelier.jobs.policy.lanes import Lane


@dataclass(frozen=True, slots=True)
class InstanceState:
    """An instance as it will be when all that it has claimed is done.

    ``capable`` answers for a requirement; asked once per requirement and board.
    ``warm``: models that are loaded; ``model``: what the last claimed job uses, which counts as
    warm too. ``keeps``: how many models stay loaded beside each other.
    ``work_since_switch_ms``: run times claimed since ``model`` was loaded or, after that, a job
    was claimed because it was DUE or BEHIND; the load itself isn't counted.
    ``last_due``: the last of these was DUE, and the next turn is BEHIND's.
    ``free_at_ms``: when the last claimed job is expected to end; in the past for an idle one.
    ``up``: takes jobs now; False for one that is down, draining, or driven by nobody.
    """

    id: str
    capable: Callable[[str], bool]
    warm: frozenset[str] = frozenset()
    model: str | None = None
    work_since_switch_ms: float = 0.0
    free_at_ms: float = 0.0
    keeps: int = 1
    last_due: bool = False
    up: bool = True


@dataclass(frozen=True, slots=True)
class Estimates:
    """What work is expected to cost, in milliseconds.

    ``run_ms(lane, instance id)`` is one warm job's run time there, with that instance's speed;
    for None, the mean over the pool. ``switch_ms(model, instance id)`` is what loading costs
    there; for None, the mean. Both are called often and should only look up.
    """

    run_ms: Callable[[Lane, str | None], float]
    switch_ms: Callable[[str, str | None], float]
