"""``python -m bench [NAME ...]``: prints figures as they come, then all in one table."""

import argparse
import asyncio
import os
import platform
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from bench import (
    apart,
    conversion,
    latency,
    listeners,
    memory,
    pool,
    queue,
    scheduling,
    simulate,
    stylise,
    submit,
    throughput,
    wakeup,
)
from bench.crowd import allow_open_files
from bench.figure import Figure, skipped, table
from bench.plan import Plan
from bench.processes import engine

Measure = Callable[[Plan], AsyncIterator[Figure]]
MEASURES: dict[str, Measure] = {
    "latency": latency.measure,
    "throughput": throughput.measure,
    "submit": submit.measure,
    "memory": memory.measure,
    "listeners": listeners.measure,
    "stylise": stylise.measure,
    "queue": queue.measure,
    "wakeup": wakeup.measure,
    "apart": apart.measure,
    "simulate": simulate.measure,
    "pool": pool.measure,
    "scheduling": scheduling.measure,
    "conversion": conversion.measure,
}
LIMIT_SECONDS = 120.0  # for each
LIMITS_SECONDS = {
    "conversion": 3600.0,  # a browser loads every template
    "pool": 300.0,  # engines that take a second
    "queue": 600.0,  # a million jobs are loaded into each database
    "simulate": 600.0,  # hours of a busy pool
    "scheduling": 400.0,  # three times what forty jobs take on a CPU
}


async def run(
    names: Sequence[str], comfyui: str | None, planned: Callable[[str], Plan]
) -> list[Figure]:
    """Measure ``names`` one after another at ``comfyui``, the first of COMFYUI_URLS or an engine.

    ``planned`` gives the plan for the address of the ComfyUI that is measured.
    """
    async with AsyncExitStack() as stack:
        configured = comfyui or os.environ.get("COMFYUI_URLS", "").partition(",")[0].strip()
        if configured:
            url, described = configured.rstrip("/"), f"ComfyUI at {configured}"
        else:
            url = (await stack.enter_async_context(engine())).url
            described = "the embedded engine"
        print(f"{os.cpu_count()} cores, Python {platform.python_version()}, {described}\n")
        found: list[Figure] = []
        for name in names:
            began = time.perf_counter()
            print(f"{name} ...", end="", flush=True)
            found += await _measured(name, planned(url))
            print(f" {time.perf_counter() - began:.0f} s")
        return found


async def _measured(name: str, plan: Plan) -> list[Figure]:
    figures = []
    limit = LIMITS_SECONDS.get(name, LIMIT_SECONDS)
    try:
        async with asyncio.timeout(limit):
            async for figure in MEASURES[name](plan):
                figures.append(figure)  # noqa: PERF401 - what came before a time-out counts
    except TimeoutError:
        figures.append(skipped(name, f"not done after {limit:.0f} s"))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure atelier against direct use of the same ComfyUI.",
        epilog="example: COMFYUI_URLS=http://127.0.0.1:8188 python -m bench latency throughput",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MEASURES))
    parser.add_argument("--quick", action="store_true", help="a few of each: does it run?")
    parser.add_argument("--comfyui", metavar="URL", help="instead of the first of COMFYUI_URLS")
    parser.add_argument(
        "--templates", type=Path, metavar="DIR", help="conversion: graphs in ComfyUI's UI format"
    )
    parser.add_argument(
        "--chromium", metavar="PATH", default=shutil.which("chromium"), help="conversion: browser"
    )
    parser.add_argument(
        "--exports", type=Path, metavar="DIR", help="conversion: write the front end's exports here"
    )
    chosen = parser.parse_args()
    unknown = [name for name in chosen.names if name not in MEASURES]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    allow_open_files(listeners.LISTENERS)
    planned = partial(
        Plan,
        quick=chosen.quick,
        templates=chosen.templates,
        chromium=chosen.chromium,
        exports=chosen.exports,
    )
    work = run(chosen.names or list(MEASURES), chosen.comfyui, planned)
    if sys.platform == "win32":
        figures = asyncio.run(work)
    else:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            figures = runner.run(work)
    print(f"\n{table(figures)}")


main()
