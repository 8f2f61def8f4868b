"""Twenty engines that do no work: prompts per second, driven directly and through atelier."""

import asyncio
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from bench import direct, service
from bench.figure import Figure, at_least
from bench.plan import Plan
from bench.processes import atelier, cpu_seconds, null_engines, worker_beside

ENGINES = 20
RATIO = 0.9
AHEAD = 2  # prompts at an engine: one runs, one waits
SUBMITTERS = 16
# How long every prompt runs, in milliseconds, and how many there are of it.
RUNS = ((1000, 160), (500, 240), (100, 400), (0, 400))


async def measure(plan: Plan) -> AsyncIterator[Figure]:
    """Each run time in turn: the queue worked off directly, then by one worker process.

    The rate is that between the first end and the last, for both; where a prompt takes so little
    that the two cores are full, the ratio shows what atelier costs beside the engines.
    """
    for run_ms, count in RUNS[:1] if plan.quick else RUNS:
        jobs = plan.size(count, 40)
        async with null_engines(ENGINES, run_ms=run_ms) as urls:
            theirs = _rate(await _directly(urls, jobs))
            ends, cpu = await _through_atelier(urls, jobs)
        ours = _rate(ends)
        name = f"pool, {ENGINES} engines, {run_ms} ms a prompt"
        yield Figure(f"{name}, direct", f"{theirs:.1f}/s")
        yield Figure(
            f"{name}, atelier",
            f"{ours:.1f}/s" + ("" if cpu is None else f", {cpu / jobs * 1e3:.1f} ms of CPU a job"),
        )
        yield at_least(f"{name}, ratio", ours / theirs, RATIO)


async def _directly(urls: Sequence[str], count: int) -> list[float]:
    """When each of ``count`` prompts ended, as one process hears it over one socket an engine."""
    left = iter(range(count))
    ends: list[float] = []
    async with AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(direct.connect(url)) for url in urls]

        async def drive(engine: direct.Direct) -> None:
            for _ in left:
                prompt_id = await engine.submit(_graph())
                await engine.wait(prompt_id)
                await engine.view(engine.images[prompt_id][0])
                ends.append(time.perf_counter())

        await asyncio.gather(*(drive(engine) for engine in engines for _ in range(AHEAD)))
    return ends


async def _through_atelier(urls: Sequence[str], count: int) -> tuple[list[float], float | None]:
    """When each of ``count`` jobs ended that were queued before the worker came; its CPU s."""
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as name:
        folder, instances = Path(name), ",".join(urls)
        async with (
            atelier("api", comfyui=instances, folder=folder) as running,
            service.connect(running.url) as front,
        ):
            todo = iter(range(count))

            async def submit() -> None:
                for _ in todo:
                    await front.submit(_graph())

            await asyncio.gather(*(submit() for _ in range(SUBMITTERS)))
            async with worker_beside(instances, folder) as pid:
                jobs = await front.until_all_ended(count)
                used = cpu_seconds(pid)
    return [service.seconds_of(job["finished_at"]) for job in jobs], used


def _rate(ends: Sequence[float]) -> float:
    return (len(ends) - 1) / (max(ends) - min(ends))


def _graph() -> dict[str, Any]:
    # Marked, so that no result cache can answer.
    work = {"mark": uuid.uuid4().hex, "milliseconds": 0}
    return {
        "1": {"class_type": "NullWork", "inputs": work},
        "2": {"class_type": "SaveImage", "inputs": {"filename_prefix": "p", "images": ["1", 0]}},
    }
