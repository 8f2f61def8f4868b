"""What is done to whom, and when: drawn beforehand from a seed. Pure."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "kill worker",
    "kill all workers",
    "kill api",
    "kill engine",
    "freeze engine",
    "freeze worker",
    "cut engine",
    "cut database",
    "end database sessions",
    "cut redis",
    "flush redis",
    "store away",
    "rolling restart",
]
Cut = Literal["reset", "refuse", "swallow", "delay", "cut"]
KILLS: dict[Kind, int] = {
    "kill worker": 11,
    "kill all workers": 2,
    "kill api": 4,
    "kill engine": 4,
}
OTHERS: dict[Kind, int] = {
    "freeze engine": 3,
    "freeze worker": 5,
    "cut engine": 4,
    "cut database": 3,
    "end database sessions": 3,
    "cut redis": 2,
    "flush redis": 1,
    "store away": 3,
    "rolling restart": 1,
}
CUTS: tuple[Cut, ...] = ("reset", "refuse", "swallow", "delay", "cut")


@dataclass(frozen=True, slots=True)
class Options:
    """``kills`` count SIGKILLs; a third as many other blows come between them."""

    database: str
    kills: int = 200
    jobs: int = 10_000
    seed: int = 1
    lease_seconds: float = 15.0
    seconds_per_kill: float = 3.5
    workers: int = 3
    apis: int = 2
    engines: int = 6
    quick: bool = False
    drain_seconds: float = 300.0

    @property
    def seconds(self) -> float:
        """How long blows and submissions go on."""
        return max(4.0, self.kills * self.seconds_per_kill)


@dataclass(frozen=True, slots=True)
class Blow:
    """At ``at`` seconds ``kind`` hits number ``target`` (modulo how many there are).

    It is undone after ``lasts`` seconds.
    """

    at: float
    kind: Kind
    target: int
    lasts: float
    cut: Cut = "reset"


@dataclass(frozen=True, slots=True)
class Work:
    """One job: ``mark`` names it at the engines; cancelled so long after it was accepted."""

    mark: str
    milliseconds: int
    cancel_after: float | None
    replayed: bool


def blows(options: Options) -> list[Blow]:
    """In the order in which they come."""
    rng = random.Random(options.seed)
    kinds: list[Kind] = _drawn(rng, KILLS, options.kills)
    kinds += _drawn(rng, OTHERS, max(len(OTHERS) // 2, options.kills // 3))
    rng.shuffle(kinds)
    # The first seconds are calm, so that there is something to interrupt.
    times = sorted(rng.uniform(0.1, 0.95) * options.seconds for _ in kinds)
    return [
        Blow(
            at,
            kind,
            rng.randrange(1000),
            _lasts(rng, kind, options.lease_seconds, quick=options.quick),
            rng.choice(CUTS),
        )
        for at, kind in zip(times, kinds, strict=True)
    ]


def work(options: Options) -> list[Work]:
    """Most jobs are short; some run for seconds, so that kills find them at work."""
    rng = random.Random(options.seed + 1)
    longest = 2.5 if options.quick else 12.0
    jobs = []
    for number in range(options.jobs):
        sort = rng.random()
        seconds = rng.uniform(0.01, 0.08)
        if sort > 0.99:
            seconds = rng.uniform(longest / 2, longest)
        elif sort > (0.7 if options.quick else 0.93):
            seconds = rng.uniform(0.5, 2.0)
        cancel = rng.expovariate(1.0) if rng.random() < 0.03 else None
        jobs.append(Work(f"m{number}", int(seconds * 1000), cancel, rng.random() < 0.03))
    return jobs


def _drawn(rng: random.Random, weights: dict[Kind, int], count: int) -> list[Kind]:
    """``count`` kinds by weight, every one of them once before any is drawn by chance."""
    first: Sequence[Kind] = rng.sample(list(weights), k=min(count, len(weights)))
    rest = rng.choices(list(weights), list(weights.values()), k=max(0, count - len(first)))
    return [*first, *rest]


def _lasts(rng: random.Random, kind: Kind, lease: float, *, quick: bool) -> float:
    if kind in ("kill worker", "kill all workers"):
        # Half come back at once and find their own jobs; half stay away until others have them.
        return rng.uniform(0, 0.5) if rng.random() < 0.5 else lease + rng.uniform(1, 4)
    if kind == "freeze worker":
        return lease + rng.uniform(1, 3)
    if kind == "freeze engine":
        return rng.uniform(1, 3) if quick else rng.uniform(2, 20)
    return rng.uniform(0.5, 2) if quick else rng.uniform(1, 6)
