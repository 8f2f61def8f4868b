"""What the policy answers, and the numbers that it goes by."""

from dataclasses import dataclass
from enum import StrEnum

from atelier.jobs.policy.lanes import Lane


class Reason(StrEnum):
    """Why a lane was chosen, or none."""

    WARM = "warm"  # its model is loaded here, or it needs none
    LOAD = "load"  # the best model to load, nothing that is loaded being wanted
    DUE = "due"  # it waited too long for an instance that has its model
    LEFT = "left"  # nothing now: what waits starts sooner at an instance that has its model
    NOTHING = "nothing"  # nothing waits that this instance can run and its user may start


@dataclass(frozen=True, slots=True)
class Choice:
    """``lane``: claim its first job. None: nothing now.

    ``until_ms`` is then the time to ask again if nothing else happens before; None where only an
    arrival or a finish can change the answer.
    """

    lane: Lane | None
    reason: Reason
    until_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Tuning:
    """``patience_ms`` (T): how long a job waits for a model that is loaded nowhere before a load
    for it may interrupt a run of warm jobs.

    ``least_work`` and ``most_work`` (K): a run of warm jobs is interrupted only after this many
    times the cost of the switch that began it; growing from one to the other with the backlog,
    because under load a switch costs everybody.
    """

    patience_ms: float = 60_000.0
    least_work: float = 4.0
    most_work: float = 40.0
    # A user's fourth job for a model says nothing more about how many are waiting for it.
    counted_per_user: int = 3
    weight_per_job_ms: float = 10_000.0
