"""Jobs while a thousand listeners are told of their progress, and while nobody listens."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench import service
from bench.crowd import SUBSCRIBED
from bench.figure import Figure, at_most
from bench.plan import Plan
from bench.processes import atelier
from bench.samples import median
from bench.throughput import run_through

LISTENERS = 1000
SLOWER_PERCENT = 10.0
GATHER_SECONDS = 60.0


async def measure(plan: Plan) -> AsyncIterator[Figure]:
    """Rounds without and with listeners in turn. Each listener hears of every job.

    They sit in a process of their own, whose work the same machine does.
    """
    listeners = plan.size(LISTENERS, 100)
    times: dict[bool, list[float]] = {False: [], True: []}
    rates: dict[bool, list[float]] = {False: [], True: []}
    heard = 0
    async with (
        atelier(comfyui=plan.comfyui) as running,
        service.connect(running.url) as front,
    ):
        await run_through(plan, front, plan.size(50, 10))
        for number in range(plan.size(6, 2)):
            if number % 2 == 0:
                await _round(plan, front, times[False], rates[False])
            else:
                async with crowd(running.url, listeners) as told:
                    await _round(plan, front, times[True], rates[True])
                heard += sum(told)
    yield Figure("listeners, events heard by them", f"{heard}")
    for title, without, with_listeners in (
        ("time of a job", median(times[False]), median(times[True])),
        ("time of a queue", 1 / median(rates[False]), 1 / median(rates[True])),
    ):
        yield Figure(
            f"listeners, {title}",
            f"{without * 1e3:.1f} ms without, {with_listeners * 1e3:.1f} ms with {listeners}",
        )
        slower = (with_listeners / without - 1) * 100
        yield at_most(f"listeners, {title}, longer by", slower, SLOWER_PERCENT, "%")


async def _round(
    plan: Plan, front: service.Service, times: list[float], rates: list[float]
) -> None:
    for _ in range(plan.size(60, 10)):
        began = time.perf_counter()
        await front.submit(plan.colours.graph(plan.colours.draw()), wait=True)
        times.append(time.perf_counter() - began)
    began, _, ends = await run_through(plan, front, plan.size(150, 20))
    rates.append(len(ends) / (max(ends) - began))


@asynccontextmanager
async def crowd(url: str, listeners: int) -> AsyncIterator[list[int]]:
    """Listeners in a process of their own; afterwards the list holds how many events came."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.crowd", url, str(listeners)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    heard: list[int] = []
    try:
        async with asyncio.timeout(GATHER_SECONDS):
            line = await process.stdout.readline()
        if line.strip() != SUBSCRIBED.encode():
            raise RuntimeError(f"The listeners did not come together: {line!r}")
        yield heard
        process.stdin.close()
        async with asyncio.timeout(GATHER_SECONDS):
            heard.append(int(await process.stdout.readline()))
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
