"""When queued jobs will start and end, by playing the policy forward. Pure."""

import heapq
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from atelier.jobs.policy import Board, Estimates, InstanceState, Lane, Reason, Shares, Waiting

# A claim costs up to half a millisecond at 1,000 lanes; an answer is to cost about 50.
PLAYED_CLAIMS = 40


class Expected(NamedTuple):
    """``position``: how many jobs start before it; times in ms, of the clock of ``now_ms``."""

    position: int
    start_ms: float
    end_ms: float


def forecast(
    waiting: Sequence[Waiting],
    pool: Sequence[InstanceState],
    shares: Shares,
    estimates: Estimates,
    now_ms: float,
    played: int = PLAYED_CLAIMS,
) -> dict[str, list[Expected]]:
    """Return for each lane what its jobs can expect, the first job first.

    The first ``played`` claims are played as the policy would make them. Those behind them are
    expected in the order of virtual time, at the rate of all instances that are up, without
    loads and without regard to capability. What no instance that is up can run isn't expected,
    nor is anything where none is up. What arrives later isn't known: jobs of higher classes or
    of users who were served less make it later.
    """
    board = Board(waiting, pool, shares, estimates)
    left = {one.lane.id: one.count for one in waiting}
    found: dict[str, list[Expected]] = {one.lane.id: [] for one in waiting}
    up = [state for state in pool if state.up]
    turns = [(max(state.free_at_ms, now_ms), state.id) for state in up]
    heapq.heapify(turns)
    ends: list[tuple[float, str]] = []
    position, at_ms = 0, now_ms
    while turns and position < played:
        at_ms, instance = heapq.heappop(turns)
        while ends and ends[0][0] <= at_ms:
            board.finish(heapq.heappop(ends)[1])
        choice = board.choose(instance, at_ms)
        if choice.lane is None:
            # An instance that has nothing to do now asks again when something has changed.
            times = [end for end in (choice.until_ms, *(end for end, _ in ends[:1])) if end]
            if choice.reason is Reason.LEFT or (ends and any(left.values())):
                later = [time for time in times if time > at_ms]
                if later:
                    heapq.heappush(turns, (min(later), instance))
            continue
        run_ms, switch_ms = board.take(choice.lane.id, instance, at_ms, choice.reason)
        end_ms = at_ms + switch_ms + run_ms
        found[choice.lane.id].append(Expected(position, at_ms, end_ms))
        left[choice.lane.id] -= 1
        position += 1
        heapq.heappush(turns, (end_ms, instance))
        heapq.heappush(ends, (end_ms, choice.lane.user))
    if position >= played:
        runnable = [
            (one.lane, left[one.lane.id])
            for one in waiting
            if left[one.lane.id] and any(state.capable(one.lane.requirement) for state in up)
        ]
        _behind(runnable, board, estimates, at_ms, len(up), position, found)
    return found


def _behind(
    waiting: Iterable[tuple[Lane, int]],
    board: Board,
    estimates: Estimates,
    at_ms: float,
    instances: int,
    position: int,
    found: dict[str, list[Expected]],
) -> None:
    """Append the jobs that weren't played."""
    runs = [(lane, count, estimates.run_ms(lane, None)) for lane, count in waiting]
    of_user: dict[tuple[int, str], float] = {}
    for lane, count, run_ms in runs:
        key = lane.priority, lane.user
        of_user[key] = of_user.get(key, 0.0) + count * run_ms / lane.weight
    # A user's lanes are taken to be worked off side by side.
    for priority in sorted({lane.priority for lane, _, _ in runs}, reverse=True):
        order: list[tuple[float, int]] = []
        of_class = [one for one in runs if one[0].priority == priority]
        for index, (lane, count, _) in enumerate(of_class):
            begin_ms, step_ms = board.virtual_ms(lane.user), of_user[priority, lane.user] / count
            order += [(begin_ms + step_ms * place, index) for place in range(count)]
        order.sort()
        rows = [(found[lane.id], run_ms, run_ms / instances) for lane, _, run_ms in of_class]
        for _, index in order:
            expected, run_ms, step_ms = rows[index]
            expected.append(Expected(position, at_ms, at_ms + run_ms))
            at_ms += step_ms
            position += 1
