"""How long a submission takes at a hundred a second, whatever the answers take."""

import asyncio
import time
from collections.abc import AsyncIterator

from bench import service
from bench.figure import Figure, at_most
from bench.plan import Plan
from bench.processes import atelier
from bench.samples import percentile

PER_SECOND = 100
P99_MS = 30.0


async def measure(plan: Plan) -> AsyncIterator[Figure]:
    """Once into `atelier api`, where all wait, and once into `atelier up`, which runs them."""
    seconds = plan.size(12, 2)
    for role, title in (("api", "jobs wait"), ("up", "jobs run meanwhile")):
        async with (
            atelier(role, comfyui=plan.comfyui) as running,
            service.connect(running.url, connections=64) as front,
        ):
            await _open_loop(plan, front, 1)
            times = await _open_loop(plan, front, seconds)
        p50, p99 = (percentile(times, percent) * 1e3 for percent in (50, 99))
        yield Figure(f"submit at {PER_SECOND}/s, p50, {title}", f"{p50:.1f} ms")
        yield at_most(f"submit at {PER_SECOND}/s, p99, {title}", p99, P99_MS, "ms")


async def _open_loop(plan: Plan, front: service.Service, seconds: int) -> list[float]:
    """Seconds from when a request was due to its answer: one that is late is late for all."""
    began = time.perf_counter()

    async def one(due: float) -> float:
        await asyncio.sleep(max(due - time.perf_counter(), 0))
        await front.submit(plan.colours.graph(plan.colours.draw()))
        return time.perf_counter() - due

    return await asyncio.gather(
        *(one(began + number / PER_SECOND) for number in range(seconds * PER_SECOND))
    )
