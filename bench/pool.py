"""Twenty instances kept busy by one worker, against the same ones driven directly."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from bench import direct, service
from bench.figure import Figure, at_least
from bench.graphs import Colours
from bench.plan import Plan
from bench.processes import atelier, cpu_seconds, null_engines, worker
from bench.samples import percentile

ENGINES = 20
AHEAD = 2  # prompts that are kept at each instance: one runs, one waits
SUBMITTERS = 16
RATIO = 0.9


async def measure(plan: Plan) -> AsyncIterator[Figure]:
    """For engines that take 1 s, 0.5 s and no time at all for a prompt.

    The last says where the two ways end; a ratio is promised for the others, as long as the
    machine's cores aren't full: so the processes' use of them is told.
    """
    for run_ms, title in ((1000, "1 s"), (500, "0.5 s"), (0, "no time")):
        count = plan.size({1000: 300, 500: 500, 0: 1000}[run_ms], 60)
        async with null_engines(ENGINES, run_ms=run_ms) as urls:
            straight = await _direct(urls, plan.colours, count)
            through, cores = await _through(urls, plan.colours, count)
        yield Figure(f"pool, prompts of {title}, direct", f"{straight:.1f}/s")
        yield Figure(
            f"pool, prompts of {title}, atelier", f"{through:.1f}/s, worker {cores:.2f} cores"
        )
        name = f"pool, prompts of {title}, atelier / direct"
        ratio = through / straight
        yield at_least(name, ratio, RATIO) if run_ms else Figure(name, f"{ratio:.2f}")


async def _direct(urls: Sequence[str], colours: Colours, count: int) -> float:
    """Prompts per second while all engines have work."""
    ends: list[float] = []
    left = count

    async def keep(comfyui: direct.Direct) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            prompt = await comfyui.submit(colours.graph(colours.draw()))
            await comfyui.wait(prompt)
            ends.append(time.perf_counter())

    async with AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(direct.connect(url)) for url in urls]
        await asyncio.gather(*(keep(one) for one in engines for _ in range(AHEAD)))
    return middle_rate(ends)


async def _through(urls: Sequence[str], colours: Colours, count: int) -> tuple[float, float]:
    """The same through atelier, and how many cores the worker used meanwhile."""
    with tempfile.TemporaryDirectory(prefix="atelier-bench-pool-") as name:
        folder = Path(name)
        async with (
            atelier("api", comfyui=None, folder=folder) as api,
            service.connect(api.url) as front,
        ):
            todo = [colours.draw() for _ in range(count)]

            async def submit() -> None:
                while todo:
                    await front.submit(colours.graph(todo.pop()))

            # All wait before the worker comes, so that it never has to wait for a caller.
            await asyncio.gather(*(submit() for _ in range(SUBMITTERS)))
            async with worker(comfyui=",".join(urls), ATELIER_DATA_DIR=name) as pid:
                await asyncio.sleep(2)
                before, began = cpu_seconds(pid), time.perf_counter()
                jobs = await front.until_all_ended(count)
                after, took = cpu_seconds(pid), time.perf_counter() - began
    cores = 0.0 if before is None or after is None else (after - before) / took
    return middle_rate([service.seconds_of(job["finished_at"]) for job in jobs]), cores


def middle_rate(ends: Sequence[float]) -> float:
    """Ends per second between the first and the last tenth: without start and tail."""
    first, last = percentile(ends, 10), percentile(ends, 90)
    between = sum(first < end <= last for end in ends)
    return between / (last - first)
