"""Seconds that each style takes for a photo of two megapixels in the embedded engine."""

import asyncio
import io
from collections.abc import AsyncIterator

import cv2
import numpy
from PIL import Image

from bench import service
from bench.figure import Figure, at_most
from bench.plan import Plan
from bench.processes import atelier, engine

SECONDS = 3.0
SIZE = (1632, 1224)  # pixels; width, height


async def measure(plan: Plan) -> AsyncIterator[Figure]:
    """Run time at the engine, without upload and storing; the median of three, or of one."""
    photo = await asyncio.to_thread(synthetic_photo)
    async with (
        engine() as running_engine,
        atelier(comfyui=running_engine.url) as running,
        service.connect(running.url) as front,
    ):
        asset = await front.upload(photo, "image/jpeg")
        for style in await styles(front):
            times = []
            for seed in range(plan.size(3, 1)):
                inputs = {"image": f"asset:{asset}", "style": style, "seed": seed}
                job = await front.submit("style_change", wait=True, inputs=inputs)
                times.append(job["timings"]["execute_ms"] / 1000)
            middle = sorted(times)[len(times) // 2]
            yield at_most(f"stylise 2 megapixels, {style}", middle, SECONDS, "s")


async def styles(front: service.Service) -> list[str]:
    workflow = await front.workflow("style_change")
    choices = workflow["input_schema"]["properties"]["style"]["enum"]
    return [str(choice) for choice in choices]


def synthetic_photo() -> bytes:
    """A JPEG with what a photo has: broad shades, edges, fine structure and noise."""
    width, height = SIZE
    rng = numpy.random.default_rng(7)
    across, down = numpy.meshgrid(numpy.linspace(0, 1, width), numpy.linspace(0, 1, height))
    shades = numpy.stack([across, down, 1 - across * down], axis=2) * 160 + 40
    picture = numpy.ascontiguousarray(shades.astype(numpy.uint8))
    for _ in range(120):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        colour = tuple(int(part) for part in rng.integers(0, 256, 3))
        cv2.circle(picture, centre, int(rng.integers(10, 160)), colour, -1, cv2.LINE_AA)
    noise = rng.normal(0, 6, picture.shape)
    noisy = numpy.clip(picture.astype(numpy.float32) + noise, 0, 255).astype(numpy.uint8)
    out = io.BytesIO()
    Image.fromarray(noisy).save(out, "JPEG", quality=92)
    return out.getvalue()
