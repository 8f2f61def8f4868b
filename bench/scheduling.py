"""Two instances, two checkpoints, forty jobs in random order from four users: total times."""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import aiohttp

from bench import direct, service
from bench.figure import Figure, at_most, skipped
from bench.plan import Plan
from bench.processes import atelier, null_engines

JOBS = 40
USERS = 4
CHECKPOINTS = ("tiny.safetensors", "tiny2.safetensors")
OF_ROUND_ROBIN = 0.6
OF_STATIC_SPLIT = 1.15
# Of the engines that do no work, where there are no two ComfyUI: as two small models on a CPU.
NULL = {"run_ms": 150, "switch_ms": 700}


async def measure(plan: Plan) -> AsyncIterator[Figure]:
    """In turn in one run, models unloaded before each: round-robin, the split that gives each
    checkpoint an instance of its own, and atelier. The first two of COMFYUI_URLS are used."""
    configured = os.environ.get("COMFYUI_URLS", "").split(",")
    urls = [url.strip().rstrip("/") for url in configured if url.strip()][:2]
    async with AsyncExitStack() as stack:
        described = "two ComfyUI"
        if len(urls) < 2:
            urls = await stack.enter_async_context(null_engines(2, **NULL))
            described = f"two null engines, {NULL['run_ms']} ms, {NULL['switch_ms']} ms a switch"
        rng = random.Random(7)
        order = [CHECKPOINTS[number % 2] for number in range(plan.size(JOBS, 8))]
        rng.shuffle(order)
        try:
            robin = await _directly(urls, order, lambda number, name: number % 2)
            split = await _directly(urls, order, lambda number, name: CHECKPOINTS.index(name))
            ours = await _through_atelier(urls, order)
        except direct.PromptFailed as error:
            yield skipped("scheduling", f"an instance refused: {error}"[:120])
            return
    yield Figure("scheduling, jobs", f"{len(order)} at {described}")
    yield Figure("scheduling, round-robin", f"{robin:.1f} s")
    yield Figure("scheduling, static split", f"{split:.1f} s")
    yield Figure("scheduling, atelier", f"{ours:.1f} s")
    yield at_most("scheduling, of round-robin", ours / robin, OF_ROUND_ROBIN, "", digits=2)
    yield at_most("scheduling, of static split", ours / split, OF_STATIC_SPLIT, "", digits=2)


async def _directly(
    urls: Sequence[str], order: Sequence[str], place: Callable[[int, str], int]
) -> float:
    """Seconds from the first submission to the last end; all is queued at once."""
    await _unload(urls)
    async with AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(direct.connect(url)) for url in urls]
        began = time.perf_counter()
        waiting = []
        for number, name in enumerate(order):
            engine = engines[place(number, name)]
            waiting.append((engine, await engine.submit(_graph(name))))
        await asyncio.gather(*(engine.wait(prompt_id) for engine, prompt_id in waiting))
        return time.perf_counter() - began


async def _through_atelier(urls: Sequence[str], order: Sequence[str]) -> float:
    async with (
        atelier(comfyui=",".join(urls)) as running,
        service.connect(running.url) as front,
    ):
        await _unload(urls)
        began = time.time()
        ids = []
        for number, name in enumerate(order):
            job = await front.submit(_graph(name), user=f"user{number % USERS}")
            ids.append(job["id"])
        ends = []
        for id in ids:
            job = await _ended(front, id)
            if job["status"] != "succeeded":
                raise direct.PromptFailed(str(job["error"]))
            ends.append(service.seconds_of(job["finished_at"]))
        return max(ends) - began


async def _ended(front: service.Service, id: str) -> dict[str, Any]:
    while True:
        job = await front.job(id)
        if job["finished_at"] is not None:
            return job
        await asyncio.sleep(0.1)


async def _unload(urls: Sequence[str]) -> None:
    async with aiohttp.ClientSession() as session:
        for url in urls:
            body = {"unload_models": True, "free_memory": True}
            async with session.post(f"{url}/free", json=body) as response:
                response.raise_for_status()
    await asyncio.sleep(1.0)  # ComfyUI does so between prompts, a moment later


def _graph(checkpoint: str) -> dict[str, Any]:
    """One step at 64 px, with a seed that no earlier prompt had."""
    sampling = {
        "seed": random.randrange(1 << 48),
        "steps": 1,
        "cfg": 1.0,
        "sampler_name": "euler",
        "scheduler": "normal",
        "denoise": 1.0,
        "model": ["4", 0],
        "positive": ["6", 0],
        "negative": ["7", 0],
        "latent_image": ["5", 0],
    }
    size = {"width": 64, "height": 64, "batch_size": 1}
    return {
        "3": {"class_type": "KSampler", "inputs": sampling},
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": checkpoint}},
        "5": {"class_type": "EmptyLatentImage", "inputs": size},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox", "clip": ["4", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["4", 1]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "s", "images": ["8", 0]}},
    }
