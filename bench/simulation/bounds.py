"""What no policy can beat, and the most that ours lets a job wait."""

import bisect
import heapq
import itertools
from collections.abc import Sequence

from atelier.jobs.policy import Tuning
from bench.simulation.load import Load
from bench.simulation.machine import Done, Outcome


def least_mean_flow_ms(load: Load) -> float:
    """Shortest remaining time first, preemptive, on one machine as fast as all, no switches.

    No job takes less than on the fastest instance either.
    """
    setting = load.setting
    speeds = [setting.speed(n) for n in range(setting.instances)]
    speed = sum(speeds)
    left: list[tuple[float, float]] = []  # remaining time, arrival
    now, total = 0.0, 0.0
    arrivals = [*((one.at_ms, one.run_ms / speed) for one in load.arrivals), (float("inf"), 0.0)]
    for at_ms, run_ms in arrivals:
        while left and now < at_ms:
            remaining, came = heapq.heappop(left)
            if now + remaining <= at_ms:
                now += remaining
                total += now - came
            else:
                heapq.heappush(left, (remaining - (at_ms - now), came))
                now = at_ms
        now = at_ms
        heapq.heappush(left, (run_ms, at_ms))
    count = len(load.arrivals)
    runs = sum(one.run_ms for one in load.arrivals) / max(speeds)
    return max(total, runs) / count


def least_makespan_ms(load: Load) -> float:
    """All work and one load of every wanted model, spread evenly; and the last job's own run."""
    setting = load.setting
    models = {one.lane.model for one in load.arrivals if one.lane.model is not None}
    speed = sum(setting.speed(n) for n in range(setting.instances))
    runs = sum(one.run_ms for one in load.arrivals) / speed
    loads = sum(load.switch_ms[model] for model in models) / setting.instances
    fastest = max(setting.speed(n) for n in range(setting.instances))
    last = max(one.at_ms + one.run_ms / fastest for one in load.arrivals)
    return max(runs + loads, last)


def optimum_ms(
    runs: Sequence[tuple[str, float]], switch_ms: dict[str, float], instances: int
) -> float:
    """The least total of end times of jobs (model, run time) that are all there at time 0.

    By dynamic programming over what is left and what each instance has; for a dozen jobs at most.
    """
    kinds = sorted(set(runs))
    first = tuple(runs.count(kind) for kind in kinds), ((0.0, ""),) * instances
    known: dict[tuple[tuple[int, ...], tuple[tuple[float, str], ...]], float] = {}

    def least(left: tuple[int, ...], nodes: tuple[tuple[float, str], ...]) -> float:
        if not any(left):
            return 0.0
        key = left, nodes
        if key not in known:
            best = float("inf")
            for place, count in enumerate(left):
                if not count:
                    continue
                model, run = kinds[place]
                rest = (*left[:place], count - 1, *left[place + 1 :])
                for n, (free, has) in enumerate(nodes):
                    if n and nodes[n] == nodes[n - 1]:
                        continue
                    end = free + run + (0.0 if has == model else switch_ms[model])
                    after = tuple(sorted((*nodes[:n], (end, model), *nodes[n + 1 :])))
                    best = min(best, end + least(rest, after))
            known[key] = best
        return known[key]

    return least(*first)


def shares_of_bound(load: Load, outcome: Outcome, tuning: Tuning | None = None) -> list[float]:
    """Each job's wait as a share of the starvation bound of ``Board``; above 1 it was broken."""
    tuning = tuning or Tuning()
    setting = load.setting
    slowest = min(setting.speed(n) for n in range(setting.instances))
    longest = max(one.run_ms for one in load.arrivals) / slowest
    switch = max(*load.switch_ms.values(), tuning.least_switch_ms)
    expected = max(*load.estimated_switch_ms.values(), tuning.least_switch_ms)
    slower = max(one.run_ms / load.estimated_run_ms[one.lane.workflow] for one in load.arrivals)
    cycle = 2 * (tuning.most_work * expected * slower + 2 * longest + switch)
    starts: dict[int, list[float]] = {}
    for done in outcome.done:
        starts.setdefault(done.job.lane.priority, []).append(done.started_ms)
    for times in starts.values():
        times.sort()
    changes = sorted(
        time for death in setting.deaths for time in (death.at_ms, death.at_ms + death.lasts_ms)
    )

    def between(times: list[float], begin: float, end: float) -> int:
        return bisect.bisect_right(times, end) - bisect.bisect_left(times, begin)

    found = []
    older: dict[int, list[float]] = {}  # starts of all that came before, in order
    for done in sorted(outcome.done, key=lambda done: done.job.seq):
        came, priority = done.job.at_ms, done.job.lane.priority
        before = older.setdefault(priority, [])
        ahead = len(before) - bisect.bisect_left(before, came)
        higher = sum(
            between(times, came, done.started_ms)
            for other, times in starts.items()
            if other > priority
        )
        changed = between(changes, came, done.started_ms)
        bound = (
            tuning.patience_ms
            + _nowhere_ms(load, done, changes)
            + (ahead + 1 + higher + changed) * cycle
        )
        found.append(done.wait_ms / bound)
        bisect.insort(before, done.started_ms)
    return found


def _nowhere_ms(load: Load, done: Done, changes: Sequence[float]) -> float:
    """How long a job waited while no instance that could run it was up."""
    needed = done.job.lane.requirement
    able = {n for n, holds in enumerate(load.holds) if needed in holds}
    begin, end = done.job.at_ms, done.started_ms
    times = [begin, *(time for time in changes if begin < time < end), end]
    total = 0.0
    for since, until in itertools.pairwise(times):
        down = {
            death.instance
            for death in load.setting.deaths
            if death.at_ms <= since < death.at_ms + death.lasts_ms
        }
        if able <= down:
            total += until - since
    return total
