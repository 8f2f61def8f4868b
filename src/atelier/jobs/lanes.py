"""Lanes: queued jobs that are alike to the choice of the next one. Pure."""

from dataclasses import dataclass
from hashlib import blake2b

from atelier.jobs.job import NewJob

USER_DIGITS, KIND_DIGITS = 12, 20  # hexadecimal; together the length of a lane's id


@dataclass(frozen=True, slots=True)
class Lane:
    """What all jobs of a lane have in common; within it, they go in order of arrival.

    ``weight`` is the user's share, ``model`` what an instance should have loaded, ``requirement``
    the hash of what it must have.
    """

    id: str
    priority: int
    user: str
    weight: float
    model: str | None
    requirement: str
    workflow: str
    variant: str | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """``count`` jobs of ``lane`` may be claimed now.

    The first of them came at ``oldest_ms`` (database time; anew when its user asked for another
    try) as number ``oldest_seq``.
    """

    lane: Lane
    count: int
    oldest_ms: int
    oldest_seq: int


def lane_id(
    *,
    priority: int,
    user: str,
    weight: float,
    model: str | None,
    requirement: str,
    workflow: str,
    variant: str | None,
) -> str:
    """32 hexadecimal digits; those of one user's lanes begin alike, as ``user_prefix`` does."""
    kind = repr((priority, float(weight), model, requirement, workflow, variant))
    return user_prefix(user) + _digits(kind, KIND_DIGITS)


def user_prefix(user: str) -> str:
    """What the ids of all lanes of ``user`` begin with, and practically nobody else's."""
    return _digits(user, USER_DIGITS)


def lane_of(new: NewJob) -> Lane:
    """The lane that ``new`` will wait in."""
    return lane(
        priority=new.priority,
        user=new.user,
        weight=new.weight,
        model=new.model,
        requirement=new.requirement,
        workflow=new.workflow,
        variant=new.variant,
    )


def lane(
    *,
    priority: int,
    user: str,
    weight: float,
    model: str | None,
    requirement: str,
    workflow: str,
    variant: str | None,
) -> Lane:
    """The lane of jobs like that, with its id."""
    id = lane_id(
        priority=priority,
        user=user,
        weight=weight,
        model=model,
        requirement=requirement,
        workflow=workflow,
        variant=variant,
    )
    return Lane(id, priority, user, weight, model, requirement, workflow, variant)


def _digits(text: str, count: int) -> str:
    return blake2b(text.encode(), digest_size=count // 2).hexdigest()
