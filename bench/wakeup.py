"""From a wake or an event in one process to where it is waited for in another, on loopback."""

import asyncio
import bisect
import os
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Sequence

import orjson

from atelier.database import Database
from atelier.errors import AtelierError
from atelier.events import event as events
from atelier.events.redis import redis_version
from atelier.telemetry import configure_logging
from bench.figure import Figure, at_most, skipped
from bench.peer import JOB, READY, USER, joined
from bench.plan import Plan
from bench.samples import percentile

REDIS = os.environ.get("ATELIER_BENCH_REDIS_URL", "redis://127.0.0.1:6379")
POSTGRESQL = os.environ.get(
    "ATELIER_BENCH_POSTGRESQL_URL", "postgresql://postgres@127.0.0.1:5432/postgres"
)
WAKES, QUICK_WAKES = 300, 20
APART_SECONDS = 0.02
LIMIT_MS = 20.0


async def measure(plan: Plan) -> AsyncIterator[Figure]:
    configure_logging("WARNING")
    count = plan.size(WAKES, QUICK_WAKES)
    try:
        await redis_version(REDIS)
    except AtelierError as error:
        yield skipped("wake-up, Redis", error.message)
    else:
        times = await _told("redis", REDIS, count)
        for figure in _figures("wake-up, Redis", *times["wakes"]):
            yield figure
        for figure in _figures("event, Redis", *times["events"]):
            yield figure
    try:
        async with await Database.open(POSTGRESQL, writers=1, readers=1):
            pass
    except AtelierError as error:
        yield skipped("wake-up, PostgreSQL", error.message)
    else:
        times = await _told("postgresql", POSTGRESQL, count)
        for figure in _figures("wake-up, LISTEN/NOTIFY", *times["wakes"]):
            yield figure


async def _told(way: str, url: str, count: int) -> dict[str, tuple[list[int], list[int]]]:
    """When wakes and events were sent here, and when they came there."""
    sent: dict[str, list[int]] = {"wakes": [], "events": []}
    command = (sys.executable, "-m", "bench.peer", way, url)
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    while (line := await process.stdout.readline()).strip() != READY.encode():
        assert line, "the other process ended"
    async with joined(way, url) as bus:
        await asyncio.sleep(0.3)
        for number in range(count):
            sent["wakes"].append(time.monotonic_ns())
            bus.wake()
            await asyncio.sleep(APART_SECONDS / 2)
            sent["events"].append(time.monotonic_ns())
            bus.publish(events.progress(JOB, USER, percent=number % 100))
            await asyncio.sleep(APART_SECONDS / 2)
        await asyncio.sleep(0.3)
    process.stdin.close()
    came = orjson.loads((await process.communicate())[0].splitlines()[-1])
    return {name: (sent[name], came[name]) for name in sent}


def _figures(name: str, sent: Sequence[int], came: Sequence[int]) -> list[Figure]:
    # What came belongs to the last that was sent before it: none is waited for that long.
    took = [(at - sent[bisect.bisect(sent, at) - 1]) / 1e6 for at in came if at >= sent[0]]
    if len(took) < 0.99 * len(sent):
        return [Figure(name, f"{len(sent) - len(took)} of {len(sent)} got lost", met=False)]
    return [
        Figure(f"{name}, p50", f"{percentile(took, 50):.2f} ms"),
        at_most(f"{name}, p99", percentile(took, 99), LIMIT_MS, "ms", digits=2),
    ]
