"""The other process of ``wakeup``: ``python -m bench.peer WAY URL``.

Says ``ready``, waits to be woken and for events until its standard input is closed, and then
writes when each came, in nanoseconds of the clock that all processes of a machine share.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson

from atelier.database import Database
from atelier.events.bus import Bus
from atelier.events.interest import Interest
from atelier.events.memory import MemoryBus
from atelier.events.postgres import PostgresHints
from atelier.events.redis import RedisBus
from atelier.telemetry import configure_logging

READY = "ready"
JOB, USER = "bench-wakeup", "bench"
INSTALLATION = "bench"


@asynccontextmanager
async def joined(way: str, url: str) -> AsyncIterator[Bus]:
    """A bus that is joined with others by ``way`` (redis or postgresql), and connected."""
    interest = Interest(clock=time.monotonic)
    here = MemoryBus(interest=interest)
    if way == "redis":
        async with RedisBus(url, here, interest, installation=INSTALLATION) as bus:
            while not bus.connected:  # noqa: ASYNC110 - once, before anything is measured
                await asyncio.sleep(0.01)
            yield bus
        return
    async with await Database.open(url, writers=1, readers=1) as database:
        hints = PostgresHints(database, here.wake_here)
        here.carry(hints.send)
        async with hints:
            await hints.ready()
            yield here


async def record(way: str, url: str) -> dict[str, list[int]]:
    times: dict[str, list[int]] = {"wakes": [], "events": []}
    async with joined(way, url) as bus, bus.wakeups() as wakeups, bus.subscribe(job=JOB) as heard:
        while await wakeups.wait(0.2):
            pass

        async def count_wakes() -> None:
            while True:
                if await wakeups.wait(60):
                    times["wakes"].append(time.monotonic_ns())

        async def count_events() -> None:
            while await heard.batch():
                times["events"].append(time.monotonic_ns())

        tasks = [asyncio.create_task(work()) for work in (count_wakes, count_events)]
        print(READY, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    return times


if __name__ == "__main__":
    configure_logging("WARNING")
    print(orjson.dumps(asyncio.run(record(sys.argv[1], sys.argv[2]))).decode(), flush=True)
