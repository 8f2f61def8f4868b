"""What arrives when, for which model, from whom: all of it from one seed."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from atelier.jobs.policy import Lane

HOUR_MS = 3_600_000.0
WORKFLOWS_PER_MODEL = 3


@dataclass(frozen=True, slots=True)
class Arrival:
    """``run_ms`` is what the job takes on an instance of speed 1 that has its model loaded."""

    seq: int
    at_ms: float
    lane: Lane
    run_ms: float


@dataclass(frozen=True, slots=True)
class Death:
    instance: int
    at_ms: float
    lasts_ms: float


@dataclass(frozen=True, slots=True)
class Setting:
    """A pool and its load: ``load`` 1.0 is as much work as all instances do without switches.

    ``rate(time in ms)`` multiplies the load. ``bursts``: jobs come in bundles of this mean size,
    of one user and workflow. ``misjudged``: estimates are wrong by up to this factor either way;
    ``spread``: run times of one workflow vary by this share. ``urgent_share`` of all jobs are of
    a higher class; each instance holds each model with the chance ``capable_share``.
    """

    instances: int
    models: int
    load: float
    hours: float = 1.0
    users: int = 20
    heavy_share: float = 0.4
    switch_s: tuple[float, float] = (3.0, 30.0)
    run_s: tuple[float, float] = (1.0, 15.0)
    speeds: Sequence[float] = ()
    rate: Callable[[float], float] = field(default=lambda at_ms: 1.0)
    highest_rate: float = 1.0
    bursts: float = 1.0
    misjudged: float = 1.0
    spread: float = 0.2
    deaths: Sequence[Death] = ()
    urgent_share: float = 0.0
    capable_share: float = 1.0

    def speed(self, instance: int) -> float:
        return self.speeds[instance] if self.speeds else 1.0


@dataclass(frozen=True, slots=True)
class Load:
    """``switch_ms`` by model, true and as estimated; run times by workflow, as estimated."""

    setting: Setting
    arrivals: Sequence[Arrival]
    switch_ms: dict[str, float]
    estimated_run_ms: dict[str, float]
    estimated_switch_ms: dict[str, float]
    holds: Sequence[frozenset[str]]  # requirements that each instance meets


def make(setting: Setting, seed: int) -> Load:
    rng = random.Random(seed)
    models = [f"model-{n}" for n in range(setting.models)]
    switch = {model: 1000 * rng.uniform(*setting.switch_s) for model in models}
    of_workflow: dict[str, str] = {}
    run: dict[str, float] = {}
    for model in models:
        for n in range(WORKFLOWS_PER_MODEL):
            of_workflow[f"{model}/{n}"] = model
            run[f"{model}/{n}"] = 1000 * rng.uniform(*setting.run_s)
    speed = sum(setting.speed(n) for n in range(setting.instances))
    mean_ms = sum(run.values()) / len(run)
    per_ms = setting.load * speed / mean_ms
    arrivals = list(_arrivals(setting, rng, of_workflow, run, per_ms))

    def wrong(values: dict[str, float]) -> dict[str, float]:
        factor = setting.misjudged
        return {key: value * factor ** rng.uniform(-1, 1) for key, value in values.items()}

    holds = [
        frozenset(m for m in models if rng.random() < setting.capable_share)
        for _ in range(setting.instances)
    ]
    # Every model is at one instance at least.
    holds = [
        frozenset(held | {m for k, m in enumerate(models) if k % setting.instances == n})
        for n, held in enumerate(holds)
    ]
    return Load(setting, arrivals, switch, wrong(run), wrong(switch), holds)


def _arrivals(
    setting: Setting,
    rng: random.Random,
    of_workflow: dict[str, str],
    run: dict[str, float],
    per_ms: float,
) -> Iterator[Arrival]:
    workflows = list(run)
    at, seq = 0.0, 0
    lanes: dict[tuple[int, str, int], Lane] = {}
    while True:
        at += rng.expovariate(per_ms * setting.highest_rate / setting.bursts)
        if at > setting.hours * HOUR_MS:
            return
        if rng.random() * setting.highest_rate > setting.rate(at):
            continue
        count = 1
        while setting.bursts > 1 and rng.random() > 1 / setting.bursts:
            count += 1
        heavy = rng.random() < setting.heavy_share
        user = 0 if heavy else rng.randrange(1, setting.users)
        workflow = rng.choice(workflows)
        priority = 1 if rng.random() < setting.urgent_share else 0
        key = user, workflow, priority
        if key not in lanes:
            model = of_workflow[workflow]
            lanes[key] = Lane(
                f"{priority}/{user}/{workflow}",
                priority,
                f"user-{user}",
                1.0,
                model,
                model,
                workflow,
            )
        for _ in range(count):
            ran = run[workflow] * rng.uniform(1 - setting.spread, 1 + setting.spread)
            yield Arrival(seq, at, lanes[key], ran)
            seq += 1
