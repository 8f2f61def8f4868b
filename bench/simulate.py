"""The policy in simulated time: mean flow, fairness and starvation, beside other policies."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

from bench.figure import Figure, at_most
from bench.plan import Plan
from bench.samples import median, percentile
from bench.simulation.bounds import least_makespan_ms, least_mean_flow_ms, shares_of_bound
from bench.simulation.load import HOUR_MS, Death, Load, Setting, make
from bench.simulation.machine import Done, Outcome, Policy, simulate
from bench.simulation.ours import Ours
from bench.simulation.rivals import (
    AffinityAge,
    FairBlind,
    FirstCome,
    Greedy,
    MinimumRun,
    Pressure,
)

COLUMNS = {
    "8 instances, 12 models, load .5": (Setting(8, 12, 0.5), 30.0),
    "8 instances, 12 models, load .7": (Setting(8, 12, 0.7), 53.0),
    "4 instances, 8 models, load .6": (Setting(4, 8, 0.6), 50.0),
}
POLICIES: dict[str, Policy] = {
    "first come, first served": FirstCome,
    "fair, blind to models": FairBlind,
    "affinity, older than 60 s first": AffinityAge,
    "greedy affinity": Greedy,
    "pressure": Pressure,
    "pressure, least run, fair": MinimumRun,
    "ours": Ours,
}
BEGIN_MS, STEP_MS = HOUR_MS, 600_000.0
OTHERS = {
    "load .3": Setting(8, 12, 0.3),
    "load .9": Setting(8, 12, 0.9),
    "load 1.2": Setting(8, 12, 1.2),
    "bundles of 10, load .6": Setting(8, 12, 0.6, bursts=10.0),
    "two instances die, load .6": Setting(
        8, 12, 0.6, deaths=(Death(0, 1.2e6, 6e5), Death(1, 1.5e6, 6e5))
    ),
    "estimates wrong by up to 3x, load .7": Setting(8, 12, 0.7, misjudged=3.0),
    "speeds 0.5 to 2, load .6": Setting(8, 12, 0.6, speeds=(0.5, 0.5, 1, 1, 1, 1, 2, 2)),
    "a tenth urgent, half of the models each, load .6": Setting(
        8, 12, 0.6, urgent_share=0.1, capable_share=0.5
    ),
}


def mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def _step(at_ms: float) -> float:
    return 1.5 if BEGIN_MS <= at_ms < BEGIN_MS + STEP_MS else 1.0


def _flow_s(outcome: Outcome, of: Callable[[Done], bool] = lambda done: True) -> float:
    return mean(done.flow_ms for done in outcome.done if of(done)) / 1000


def _table(loads: dict[str, list[Load]], outcomes: dict[str, dict[str, list[Outcome]]]) -> str:
    lines = ["", f"{'mean flow in s':34}" + "".join(f"{name:>34}" for name in loads)]
    for policy, found in outcomes.items():
        row = "".join(f"{mean(map(_flow_s, found[name])):34.1f}" for name in loads)
        lines.append(f"{policy:34}{row}")
    row = "".join(f"{mean(map(least_mean_flow_ms, ones)) / 1000:34.1f}" for ones in loads.values())
    lines.append(f"{'no policy is below':34}{row}")
    lines.append("makespan of ours as a multiple of the least possible:")
    for name, ones in loads.items():
        ratio = mean(
            max(done.ended_ms for done in outcome.done) / least_makespan_ms(load)
            for load, outcome in zip(ones, outcomes["ours"][name], strict=True)
        )
        lines.append(f"    {name}: {ratio:.3f}")
    return "\n".join(lines)


async def measure(plan: Plan) -> AsyncIterator[Figure]:
    """The same arrivals for every policy, an hour of them for each seed."""
    seeds = range(plan.size(4, 1))
    hours = 0.2 if plan.quick else 1.0
    worst: list[float] = []
    loads: dict[str, list[Load]] = {}
    outcomes: dict[str, dict[str, list[Outcome]]] = {name: {} for name in POLICIES}
    for column, (setting, _) in COLUMNS.items():
        loads[column] = [make(replace(setting, hours=hours), seed) for seed in seeds]
        for name, policy in POLICIES.items():
            outcomes[name][column] = [simulate(load, policy) for load in loads[column]]
            await asyncio.sleep(0)
        for load, outcome in zip(loads[column], outcomes["ours"][column], strict=True):
            worst += shares_of_bound(load, outcome)
    print(_table(loads, outcomes))
    for column, (_, limit) in COLUMNS.items():
        flows = {name: mean(map(_flow_s, outcomes[name][column])) for name in POLICIES}
        ours = flows.pop("ours")
        yield at_most(f"simulated mean flow, {column}", ours, limit, "s")
        yield at_most(
            "    as a multiple of the best other's", ours / min(flows.values()), 1, "", digits=2
        )
    for name, setting in OTHERS.items():
        some = [make(replace(setting, hours=hours), seed) for seed in seeds[:2]]
        ours_s, other_s = [], []
        for load in some:
            outcome = simulate(load, Ours)
            worst += shares_of_bound(load, outcome)
            ours_s.append(_flow_s(outcome))
            other_s.append(_flow_s(simulate(load, Pressure)))
            await asyncio.sleep(0)
        least = mean(map(least_mean_flow_ms, some)) / 1000
        yield Figure(
            f"simulated mean flow, {name}",
            f"{mean(ours_s):.1f} s; pressure {mean(other_s):.1f} s; none below {least:.1f} s",
        )
    async for figure in _overload(seeds, hours, worst):
        yield figure
    async for figure in _forecasts(seeds[:2], hours):
        yield figure
    yield at_most(
        "simulated waits beyond the starvation bound", sum(w > 1 for w in worst), 0, "", digits=0
    )
    yield Figure(
        "    longest wait as a share of its bound", f"{max(worst):.2f} of {len(worst)} jobs"
    )


async def _overload(
    seeds: Sequence[int], hours: float, worst: list[float]
) -> AsyncIterator[Figure]:
    waits: list[float] = []
    for seed in seeds:
        load = make(Setting(8, 12, 1.1, hours=hours), seed)
        outcome = simulate(load, Ours)
        worst += shares_of_bound(load, outcome)
        waits += [d.wait_ms / 1000 for d in outcome.done if d.job.lane.user != "user-0"]
        await asyncio.sleep(0)
    yield at_most("simulated median wait of light users, load 1.1", median(waits), 30, "s")
    yield Figure("    p95", f"{percentile(waits, 95):.0f} s")
    before, after = [], []
    for seed in seeds:
        setting = Setting(8, 12, 0.7, hours=2 * hours if hours < 1 else 2.0, rate=_step)
        load = make(replace(setting, highest_rate=1.5), seed)
        outcome = simulate(load, Ours)
        worst += shares_of_bound(load, outcome)
        settled = 1.5 * BEGIN_MS
        before += [d.flow_ms for d in outcome.done if d.job.at_ms < BEGIN_MS]
        after += [d.flow_ms for d in outcome.done if d.job.at_ms > settled]
        await asyncio.sleep(0)
    if after:
        yield at_most(
            "mean flow 20 min after ten minutes of 1.5x load, of that before",
            mean(after) / mean(before),
            1.5,
            "",
            digits=2,
        )


async def _forecasts(seeds: Sequence[int], hours: float) -> AsyncIterator[Figure]:
    for at in (0.5, 0.7, 1.1):
        off: list[float] = []
        share: list[float] = []
        for seed in seeds:
            load = make(Setting(8, 12, at, hours=hours), seed)
            outcome = simulate(load, partial(Ours, forecast_every=20))
            scheduler = outcome.scheduler
            assert isinstance(scheduler, Ours)
            for done in outcome.done:
                expected = scheduler.forecasts.get(done.job.seq)
                if expected is not None:
                    off.append(abs(done.ended_ms - expected) / 1000)
                    share.append(abs(done.ended_ms - expected) / done.flow_ms)
            await asyncio.sleep(0)
        yield Figure(
            f"expected end was off, load {at}",
            f"p50 {median(off):.1f} s ({median(share):.0%} of the flow), "
            f"p90 {percentile(off, 90):.0f} s ({percentile(share, 90):.0%})",
        )
