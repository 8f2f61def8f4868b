"""A queue worked off: prompts per second, directly and through atelier."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from bench import direct, service
from bench.figure import Figure, at_least
from bench.graphs import check_picture
from bench.plan import Plan
from bench.processes import Running, atelier, cpu_seconds
from bench.samples import median, rate_after

SUBMITTERS = 16
RATIO = 0.8
ROUNDS_SECONDS = 40.0  # no further round after that, from the third on


@dataclass(slots=True)
class Rates:
    """Per second, one number a round: of what was queued by the last submission, and of all."""

    queued: list[float] = field(default_factory=list)
    all: list[float] = field(default_factory=list)

    def add(self, began: float, submitted: float, ends: list[float]) -> None:
        self.queued.append(rate_after(ends, submitted))
        self.all.append(len(ends) / (max(ends) - began))


async def measure(plan: Plan) -> AsyncIterator[Figure]:
    """Rounds of each kind in turn. Everything is submitted ahead; what counts is the rate from
    the moment of the last submission on, when nothing but the queue keeps anybody busy.

    Direct use is measured without and with fetching the pictures, since atelier fetches, stores
    and describes each.
    """
    count = plan.size(300, 40)
    bare, fetching, through = Rates(), Rates(), Rates()
    cpu: list[float] = []
    async with (
        atelier(comfyui=plan.comfyui) as running,
        direct.connect(plan.comfyui) as comfyui,
        service.connect(running.url) as front,
    ):
        await run_through(plan, front, plan.size(50, 10))
        started = time.monotonic()
        for number in range(plan.size(4, 1)):
            if number > 1 and time.monotonic() - started > ROUNDS_SECONDS:
                break
            await _run_direct(plan, comfyui, count, bare, fetch=False)
            before = cpu_seconds(running.pid)
            began, submitted, ends = await run_through(plan, front, count)
            through.add(began, submitted, ends)
            cpu += _cpu_per_job(running, before, count)
            await _run_direct(plan, comfyui, count, fetching, fetch=True)
    yield Figure("throughput, direct", _rates(bare))
    yield Figure("throughput, direct, pictures fetched", _rates(fetching))
    yield Figure("throughput, atelier", _rates(through))
    if cpu:
        yield Figure("throughput, CPU of atelier's process", f"{median(cpu) * 1e3:.1f} ms a job")
    yield _ratio("throughput, atelier / direct", through.queued, bare.queued, RATIO)
    yield _ratio(
        "throughput, atelier / direct with pictures fetched", through.queued, fetching.queued, None
    )
    yield _ratio("throughput, ratio from the first submission on", through.all, bare.all, None)


async def run_through(
    plan: Plan, front: service.Service, count: int
) -> tuple[float, float, list[float]]:
    """Submit ``count`` jobs and let them end: when it began, when all were submitted, the ends.

    In seconds of the time of day, as the service notes them. Every picture is looked at.
    """
    colours = {}
    todo = [plan.colours.draw() for _ in range(count)]

    async def submit() -> None:
        while todo:
            colour = todo.pop()
            job = await front.submit(plan.colours.graph(colour))
            colours[job["id"]] = colour

    began = time.time()
    await asyncio.gather(*(submit() for _ in range(SUBMITTERS)))
    submitted = time.time()
    jobs = await front.until_all_ended(count)
    for job in jobs:
        check_picture(await front.fetch(job["outputs"][0]["url"]), colours[job["id"]])
    return began, submitted, [service.seconds_of(job["finished_at"]) for job in jobs]


async def _run_direct(
    plan: Plan, comfyui: direct.Direct, count: int, rates: Rates, *, fetch: bool
) -> None:
    todo = [plan.colours.draw() for _ in range(count)]
    colours = {}
    pictures: dict[str, bytes] = {}
    ends: dict[str, float] = {}

    async def submit() -> None:
        while todo:
            colour = todo.pop()
            colours[await comfyui.submit(plan.colours.graph(colour))] = colour

    async def follow(prompt_id: str) -> None:
        await comfyui.wait(prompt_id)
        ends[prompt_id] = comfyui.ended[prompt_id]
        if fetch:
            pictures[prompt_id] = await comfyui.view(comfyui.images[prompt_id][0])
            ends[prompt_id] = time.perf_counter()

    began = time.perf_counter()
    await asyncio.gather(*(submit() for _ in range(SUBMITTERS)))
    submitted = time.perf_counter()
    await asyncio.gather(*(follow(prompt_id) for prompt_id in colours))
    rates.add(began, submitted, list(ends.values()))
    for prompt_id, picture in pictures.items():
        check_picture(picture, colours[prompt_id])


def _cpu_per_job(running: Running, before: float | None, count: int) -> list[float]:
    # Looking at the pictures afterwards is included: it is a small part.
    after = cpu_seconds(running.pid)
    return [] if before is None or after is None else [(after - before) / count]


def _rates(rates: Rates) -> str:
    return (
        f"{median(rates.queued):.0f}/s queued ahead, {median(rates.all):.0f}/s from the first on "
        f"({', '.join(f'{rate:.0f}' for rate in rates.queued)})"
    )


def _ratio(name: str, ours: list[float], theirs: list[float], least: float | None) -> Figure:
    ratio = median(ours) / median(theirs)
    return Figure(name, f"{ratio:.2f}") if least is None else at_least(name, ratio, least)
