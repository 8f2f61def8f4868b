"""Two checkpoints, two instances, four users: what choosing the instance by its model is worth."""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from bench import direct, service
from bench.figure import Figure, at_most
from bench.plan import Plan
from bench.processes import atelier, null_engines

MODELS = ("tiny.safetensors", "tiny2.safetensors")
JOBS = 40
USERS = 4
ROUND_ROBIN = 0.6
STATIC = 1.15
# Of the null engines: as seen of small checkpoints on a slow core.
RUN_MS, SWITCH_MS = 500.0, 1000.0


def graph(model: str, seed: int) -> dict[str, Any]:
    """One step of 64 px."""
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": model}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["1", 1]}},
        "3": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1},
        },
        "4": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["1", 0],
                "positive": ["2", 0],
                "negative": ["2", 0],
                "latent_image": ["3", 0],
                "seed": seed,
                "steps": 1,
                "cfg": 1.0,
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": 1.0,
            },
        },
        "5": {"class_type": "VAEDecode", "inputs": {"samples": ["4", 0], "vae": ["1", 2]}},
        "6": {
            "class_type": "SaveImage",
            "inputs": {"images": ["5", 0], "filename_prefix": "bench-scheduling"},
        },
    }


async def measure(plan: Plan) -> AsyncIterator[Figure]:
    """The same jobs in the same order three ways, one after another, on instances made cold.

    With the first two of COMFYUI_URLS where two are named, else with null engines.
    """
    rng = random.Random(7)
    count = plan.size(JOBS, 12)
    models = [MODELS[number % 2] for number in range(count)]
    rng.shuffle(models)
    async with _instances() as (urls, described):
        robin = await _direct(urls, models, lambda number, model: number % len(urls))
        static = await _direct(urls, models, lambda number, model: MODELS.index(model))
        through = await _through(urls, models)
    yield Figure("scheduling, instances", described)
    yield Figure(f"scheduling, {count} jobs round-robin", f"{robin:.1f} s")
    yield Figure(f"scheduling, {count} jobs, a checkpoint each", f"{static:.1f} s")
    yield Figure(f"scheduling, {count} jobs, atelier", f"{through:.1f} s")
    yield at_most("scheduling, atelier / round-robin", through / robin, ROUND_ROBIN, "", digits=2)
    yield at_most("scheduling, atelier / static split", through / static, STATIC, "", digits=2)


@asynccontextmanager
async def _instances() -> AsyncIterator[tuple[Sequence[str], str]]:
    named = [url.strip().rstrip("/") for url in os.environ.get("COMFYUI_URLS", "").split(",")]
    if len([url for url in named if url]) >= 2:
        yield named[:2], "two ComfyUI"
        return
    async with null_engines(2, run_ms=RUN_MS, switch_ms=SWITCH_MS) as urls:
        yield urls, f"null engines, {RUN_MS:.0f} ms a prompt, {SWITCH_MS:.0f} ms a switch"


async def _direct(
    urls: Sequence[str], models: Sequence[str], place: Callable[[int, str], int]
) -> float:
    """Seconds from the first submission to the last end, each job at the instance ``place``."""
    async with AsyncExitStack() as stack:
        instances = [await stack.enter_async_context(direct.connect(url)) for url in urls]
        await _cool(instances)
        began = time.perf_counter()
        waiting = []
        for number, model in enumerate(models):
            instance = instances[place(number, model)]
            waiting.append(instance.wait(await instance.submit(graph(model, _seed()))))
        await asyncio.gather(*waiting)
        return time.perf_counter() - began


async def _through(urls: Sequence[str], models: Sequence[str]) -> float:
    async with AsyncExitStack() as stack:
        instances = [await stack.enter_async_context(direct.connect(url)) for url in urls]
        await _cool(instances)
        running = await stack.enter_async_context(atelier(comfyui=",".join(urls)))
        front = await stack.enter_async_context(service.connect(running.url))
        began = time.perf_counter()
        jobs = [
            await front.submit(graph(model, _seed()), user=f"user{number % USERS}")
            for number, model in enumerate(models)
        ]
        for job in jobs:
            await _ended(front, job["id"])
        return time.perf_counter() - began


async def _ended(front: service.Service, id: str) -> None:
    while True:
        job = await front.job(id)
        if job["finished_at"] is not None:
            if job["status"] != "succeeded":
                raise service.JobFailed(str(job))
            return
        await asyncio.sleep(0.1)


async def _cool(instances: Sequence[direct.Direct]) -> None:
    """Nothing is loaded when a way begins: an odd one out would be the first job's model."""
    for instance in instances:
        await instance.free()


def _seed() -> int:
    # Never the same twice: nothing is to be answered from a cache.
    return random.getrandbits(48)
