"""What `atelier up` holds in memory while it has nothing to do."""

import asyncio
from collections.abc import AsyncIterator

from bench.figure import Figure, at_most, skipped
from bench.plan import Plan
from bench.processes import atelier, memory_bytes

LIMIT_MB = 150.0
MB = 1_000_000


async def measure(plan: Plan) -> AsyncIterator[Figure]:
    name = "memory, idle, without the engine"
    async with atelier(comfyui=None) as running:
        await asyncio.sleep(plan.size(5, 1))
        try:
            resident, proportional = memory_bytes(running.pid)
        except OSError:
            yield skipped(name, "this system has no /proc")
            return
    yield at_most(f"{name}, resident", resident / MB, LIMIT_MB, "MB", digits=0)
    yield at_most(f"{name}, proportional", proportional / MB, LIMIT_MB, "MB", digits=0)
