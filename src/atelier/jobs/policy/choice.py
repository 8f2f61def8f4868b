"""What the policy answers, and the numbers that it goes by."""

from dataclasses import dataclass
from enum import StrEnum

from atelier.jobs.policy.lanes import Lane


class Reason(StrEnum):
    """Why a lane was chosen, or none."""

    WARM = "warm"  # its model is loaded here, or it needs none; its user was served least
    DUE = "due"  # it is the oldest and has waited too long
    BEHIND = "behind"  # its user was served much less than those whose models are loaded here
    LOAD = "load"  # the best model to load, as nothing that is loaded is wanted
    LEFT = "left"  # nothing now: all that waits starts soon at instances that have its model
    NOTHING = "nothing"  # nothing waits that this instance can run and whose user may start


@dataclass(frozen=True, slots=True)
class Choice:
    """``lane``: claim its first job. None: nothing now.

    ``until_ms`` is then the time to ask again if nothing else happens before; None where only an
    arrival, a finish or an instance can change the answer.
    """

    lane: Lane | None
    reason: Reason
    until_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Tuning:
    """The policy's numbers, found in simulation; times in ms.

    ``patience_ms`` (T): a job that waits longer is due.
    ``least_work``, ``most_work`` (K): a run of warm jobs is interrupted for a job that is due only
    after this many times the cost of the switch that began it. K grows from one to the other with
    the backlog, because under load a switch costs everybody.
    ``least_switch_ms``: cheaper switches count as this one, as does needing no model at all.
    ``lag_ms``: a user whose virtual time is this far back may interrupt such a run as well.
    ``worth_switches``, ``longest_left_ms``: a seat stays idle rather than load a model that is
    loaded elsewhere if all that waits for it starts there within so many switches, and no longer
    than that since it came.
    ``ms_per_job``, ``counted_per_user``: what a waiting job adds to the age of the oldest when
    the model to load is chosen; a user's fourth job says nothing more about how many wait.
    """

    patience_ms: float = 60_000.0
    least_work: float = 8.0
    most_work: float = 16.0
    least_switch_ms: float = 5_000.0
    lag_ms: float = 60_000.0
    worth_switches: float = 3.0
    longest_left_ms: float = 120_000.0
    ms_per_job: float = 10_000.0
    counted_per_user: int = 3
