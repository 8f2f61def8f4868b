"""One job after another through `atelier api` and `atelier worker` as processes of their own.

How long it waits for the worker to notice it, and how long after its end the API process answers.
"""

import asyncio
import os
import random
import tempfile
import time
from collections.abc import AsyncIterator

from sqlalchemy.exc import SQLAlchemyError

from atelier.errors import AtelierError
from atelier.events.redis import redis_version
from bench.databases import SERVERS, new_database
from bench.figure import Figure, skipped
from bench.plan import Plan
from bench.processes import atelier, worker
from bench.samples import percentile
from bench.service import connect, seconds_of
from bench.wakeup import REDIS

JOBS, QUICK_JOBS = 20, 3
PAUSE_SECONDS = (0.1, 0.5)  # between jobs, at random: nobody is in step with what is polled


async def measure(plan: Plan) -> AsyncIterator[Figure]:
    for name, (variable, default) in SERVERS.items():
        for redis in (REDIS, None):
            described = f"{name}, {'with' if redis else 'without'} Redis"
            try:
                if redis is not None:
                    await redis_version(redis)
                async with new_database(os.environ.get(variable, default)) as url:
                    yield await _figure(described, url, redis, plan)
            except (SQLAlchemyError, OSError, AtelierError) as error:
                yield skipped(described, str(error).splitlines()[0][:80])


async def _figure(described: str, database: str, redis: str | None, plan: Plan) -> Figure:
    waited, told = [], []
    with tempfile.TemporaryDirectory(prefix="atelier-bench-store-") as store:
        settings = {"DATABASE_URL": database, "STORAGE_URL": store}
        if redis is not None:
            settings["REDIS_URL"] = redis
        async with (
            worker(comfyui=plan.comfyui, **settings),
            atelier("api", comfyui=plan.comfyui, **settings) as api,
            connect(api.url) as service,
        ):
            for _ in range(plan.size(JOBS, QUICK_JOBS)):
                graph = plan.colours.graph(plan.colours.draw())
                job = await service.submit(graph, wait=True)
                told.append((time.time() - seconds_of(job["finished_at"])) * 1000)
                waited.append(job["timings"]["queued_ms"])
                await asyncio.sleep(random.uniform(*PAUSE_SECONDS))
    return Figure(
        f"API and worker apart, {described}",
        f"claimed after {percentile(waited, 50):.0f} ms (at most {max(waited):.0f}), "
        f"end told after {percentile(told, 50):.0f} ms (at most {max(told):.0f})",
    )
