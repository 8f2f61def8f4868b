"""Queued jobs that are alike to the choice stand in one lane, first in, first out."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lane:
    """``priority``: higher goes first. ``weight``: of its user, greater than 0.

    ``model`` is what an instance must load before it runs these jobs; None costs no switch.
    ``requirement`` is what an instance must have to run them at all.
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
    """``count`` jobs of ``lane`` that may start now, the first of them from ``oldest_ms``.

    ``oldest_seq`` is that job's place in the order of arrival over all lanes.
    """

    lane: Lane
    count: int
    oldest_ms: int
    oldest_seq: int
