"""Fair share by virtual time: who got the least of the pool, by weight, goes first."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Shares:
    """``virtual_ms``: what each user was served, in ms of instance time divided by weight.

    ``floor_ms`` is the pool's own virtual time: the least of all users with queued or running
    jobs, and never less than it was. It stands for the time of who has less, so that a user who
    comes back after a rest competes with the others as an equal and has saved up nothing.
    ``running`` counts jobs that have started. ``max_running`` limits them per user,
    ``max_running_default`` for who isn't named, ``max_running_total`` in all; None is no limit.
    """

    virtual_ms: Mapping[str, float] = field(default_factory=dict)
    floor_ms: float = 0.0
    running: Mapping[str, int] = field(default_factory=dict)
    max_running: Mapping[str, int] = field(default_factory=dict)
    max_running_default: int | None = None
    max_running_total: int | None = None


def cost_ms(run_ms: float, switch_ms: float, weight: float) -> float:
    """What a start adds to its user's virtual time; the finish corrects it by the difference."""
    return (run_ms + switch_ms) / weight
