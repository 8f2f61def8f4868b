"""How the pool stands, as the policy sees it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from atelier.jobs.policy import Estimates as Costs
from atelier.jobs.policy import InstanceState, Lane
from atelier.pool.instance import Instance
from atelier.pool.pool import Pool
from atelier.service.capabilities import Capabilities
from atelier.service.estimates import Estimates

DEFAULT_SWITCH_MS = 5_000.0  # before anything is known


@dataclass(slots=True)
class Turn:
    """What was claimed for an instance since its run of jobs for one model began."""

    work_since_switch_ms: float = 0.0
    last_due: bool = False


_NO_TURN: Mapping[str, Turn] = {}


def takes_jobs(instance: Instance) -> bool:
    """Whether it takes jobs now, from this process or from the one that drives it."""
    if instance.driven:
        return instance.takes_jobs
    return instance.up and instance.wanted == "active" and instance.circuit == "closed"


class Standing:
    """From instances, whichever process drives them, to what the policy chooses by."""

    def __init__(self, pool: Pool, capabilities: Capabilities, estimates: Estimates) -> None:
        self._pool = pool
        self._capabilities = capabilities
        self._estimates = estimates
        self.costs = Costs(run_ms=self._run_ms, switch_ms=self._switch_ms)

    @property
    def instances(self) -> Sequence[Instance]:
        return self._pool.instances

    def states(self, now_ms: float, turns: Mapping[str, Turn] = _NO_TURN) -> list[InstanceState]:
        """All instances; ``now_ms`` is the time of the clock that the choice goes by."""
        return [self.state(instance, now_ms, turns) for instance in self._pool.instances]

    def state(
        self, instance: Instance, now_ms: float, turns: Mapping[str, Turn] = _NO_TURN
    ) -> InstanceState:
        capabilities = self._capabilities
        turn = turns.get(instance.id, Turn())
        jobs = instance.usage.work.jobs if instance.driven else {}
        return InstanceState(
            id=instance.id,
            capable=lambda requirement: capabilities.can_run(instance, requirement),
            warm=instance.warm,
            model=next(reversed(jobs.values())).model if jobs else None,
            work_since_switch_ms=turn.work_since_switch_ms,
            free_at_ms=now_ms + instance.free_in_ms(),
            keeps=instance.keeps,
            last_due=turn.last_due,
            up=takes_jobs(instance),
        )

    def _run_ms(self, lane: Lane, instance: str | None) -> float:
        return self._estimates.expected_ms(lane.workflow, lane.variant, instance)

    def _switch_ms(self, model: str, instance: str | None) -> float:
        at = None if instance is None else self._pool.get(instance)
        here = None if at is None else at.switch_ms(model)
        if here is not None:
            return here
        everywhere = (one.switch_ms(model) for one in self._pool.instances)
        known = [ms for ms in everywhere if ms is not None]
        return sum(known) / len(known) if known else DEFAULT_SWITCH_MS
