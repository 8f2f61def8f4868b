"""Which job an instance takes next. Pure: what waits, what the seat has, and the time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Candidate(NamedTuple):
    """A queued job as the choice sees it.

    A named tuple, because a claim makes a hundred of them and a frozen dataclass costs five
    times as much. ``seq`` grows in order of arrival; equal ones are ordered by ``id``.
    """

    id: str
    seq: int
    priority: int
    user: str
    workflow: str
    variant: str | None
    requirement: str
    model: str | None
    created_at_ms: int
    run_after_ms: int
    estimate_ms: int | None
    attempts: int
    avoid_instance: str | None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Seat:
    """A free place at ``instance``: what it can run, and which models it has loaded."""

    instance: str
    capable: Callable[[str], bool]
    warm: frozenset[str] = frozenset()


def choose(candidates: Sequence[Candidate], seat: Seat, now_ms: int) -> Candidate | None:
    """Return the job of highest priority that came first, of those that ``seat`` can run.

    One that had better go elsewhere is returned only when there is no other.
    """
    able: dict[str, bool] = {}
    second_best: Candidate | None = None
    for candidate in sorted(candidates, key=_turn):
        requirement = candidate.requirement
        if requirement not in able:
            able[requirement] = seat.capable(requirement)
        if not able[requirement] or candidate.run_after_ms > now_ms:
            continue
        if candidate.avoid_instance != seat.instance:
            return candidate
        second_best = second_best or candidate
    return second_best


def _turn(candidate: Candidate) -> tuple[int, int, str]:
    return -candidate.priority, candidate.seq, candidate.id
