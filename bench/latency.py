"""One picture after another: how much later it comes through atelier."""

import time
from collections.abc import AsyncIterator

from bench import direct, service
from bench.figure import Figure, at_most
from bench.graphs import check_picture
from bench.plan import Plan
from bench.processes import atelier
from bench.samples import median, percentile

ADDED_MS = 8.0


async def measure(plan: Plan) -> AsyncIterator[Figure]:
    """Blocks of each kind in turn, so that what else the machine does hits both alike.

    A client of atelier sends ``Prefer: wait`` and has the picture's address with the answer.
    """
    told: dict[str, list[float]] = {"direct": [], "atelier": []}
    shown: dict[str, list[float]] = {"direct": [], "atelier": []}
    block = plan.size(20, 5)
    async with (
        atelier(comfyui=plan.comfyui) as running,
        direct.connect(plan.comfyui) as comfyui,
        service.connect(running.url) as front,
    ):
        for number in range(plan.size(10, 2) + 1):
            kept = number > 0  # the first block warms both up
            for _ in range(block):
                colour = plan.colours.draw()
                began = time.perf_counter()
                prompt_id = await comfyui.submit(plan.colours.graph(colour))
                await comfyui.wait(prompt_id)
                known = time.perf_counter()
                picture = await comfyui.view(comfyui.images[prompt_id][0])
                if kept:
                    told["direct"].append(known - began)
                    shown["direct"].append(time.perf_counter() - began)
                check_picture(picture, colour)
            for _ in range(block):
                colour = plan.colours.draw()
                began = time.perf_counter()
                job = await front.submit(plan.colours.graph(colour), wait=True)
                known = time.perf_counter()
                picture = await front.fetch(job["outputs"][0]["url"])
                if kept:
                    told["atelier"].append(known - began)
                    shown["atelier"].append(time.perf_counter() - began)
                check_picture(picture, colour)
    for title, times in (("until done", told), ("until the picture is here", shown)):
        for kind, values in times.items():
            yield Figure(
                f"latency, {kind}, {title}",
                f"p50 {median(values) * 1e3:.1f} ms, p95 {percentile(values, 95) * 1e3:.1f} ms",
            )
        added = (median(times["atelier"]) - median(times["direct"])) * 1e3
        yield at_most(f"latency, p50 added by atelier, {title}", added, ADDED_MS, "ms")
