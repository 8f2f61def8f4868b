"""The queue by itself, on each database: jobs per second, and claims beside a long history."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from atelier.database import Database
from atelier.errors import AtelierError
from atelier.jobs.job import NewJob
from atelier.jobs.lanes import lane_of
from atelier.jobs.queue import Ask, JobQueue, Limits, Success
from bench.databases import databases
from bench.figure import Figure, at_least, at_most, skipped
from bench.history import finished, settle
from bench.plan import Plan

OUTPUT = {"id": "o", "key": "k.png", "media_type": "image/png", "size_bytes": 200, "node": "2"}
USERS = 4
CALLERS = (1, 8, 64)
TARGETS = {"SQLite": 500, "PostgreSQL": 1000, "MariaDB": 1000}  # jobs a second
LIMITS = Limits(max_queued=100_000)
MOST_SLOWER = 2.0


async def measure(plan: Plan) -> AsyncIterator[Figure]:
    for name, made in databases():
        try:
            async with made as database:
                version = await database.version()
                async for figure in _rates(database, plan, version, TARGETS[name]):
                    yield figure
                async for figure in _claims(database, plan, version):
                    yield figure
        except (SQLAlchemyError, OSError, AtelierError) as error:
            yield skipped(f"queue on {name}", str(error).splitlines()[0][:80])


# -- jobs per second -----------------------------------------------------------------------------


async def _rates(
    database: Database, plan: Plan, version: str, target: float
) -> AsyncIterator[Figure]:
    """Three transactions a job, shared by those who call meanwhile; all in one process."""
    await _rate(database, plan, 20, callers=4)  # statements are compiled once
    for callers in CALLERS:
        count = plan.size(400 if callers == 1 else 4000, 40)
        rate = await _rate(database, plan, count, callers=callers)
        name = f"queue on {version}, submit + claim + finish, {callers} at once"
        if callers == max(CALLERS):
            yield at_least(name, rate, target, "jobs/s", digits=0)
        else:
            yield Figure(name, f"{rate:.0f} jobs/s")


async def _rate(database: Database, plan: Plan, count: int, *, callers: int) -> float:
    queue = JobQueue(database.dialect, limits=LIMITS)
    insert = database.grouped(queue.insert_many)

    async def claim_all(conn: Any, asks: Any) -> Any:
        return await queue.claim_lanes(conn, worker="bench", asks=asks)

    claim = database.grouped(claim_all, durable=False)
    finish = database.grouped(queue.finish_many)
    left = iter(range(count))

    async def call(number: int) -> None:
        for _ in left:
            new = _job(plan, number % USERS)
            await insert(new)
            # It may be another caller's job; each finishes what it got.
            claims: Any = ()
            while not claims:
                claims = await claim(Ask(lane_of(new).id, "bench"))
            for one in claims:
                timings = {"execute_ms": 1}
                assert await finish(Success(one.job.id, one.lease, [OUTPUT], timings))

    began = time.perf_counter()
    await asyncio.gather(*(call(number) for number in range(callers)))
    return count / (time.perf_counter() - began)


def _job(plan: Plan, user: int) -> NewJob:
    return NewJob(
        id=str(uuid.uuid4()),
        user=f"user {user}",
        workflow="inline",
        workflow_version="1",
        variant="inline",
        requirement="bench",
        inputs={},
        graph=plan.colours.graph(plan.colours.draw()),
    )


# -- claims beside a long history ----------------------------------------------------------------


async def _claims(database: Database, plan: Plan, version: str) -> AsyncIterator[Figure]:
    waiting = plan.size(10_000, 200)
    short, long = plan.size(10_000, 500), plan.size(1_000_000, 2_000)
    queue = JobQueue(database.dialect)
    await finished(database, 0, short)
    for start in range(0, waiting, 200):
        batch = [_job(plan, number % USERS) for number in range(start, start + 200)]
        await database.run(lambda conn, batch=batch: queue.insert_many(conn, batch))  # type: ignore[misc]
    await settle(database)
    before = await _times(database, queue, plan)
    began = time.perf_counter()
    await finished(database, short, long - short)
    await settle(database)
    loaded = time.perf_counter() - began
    after = await _times(database, queue, plan)
    name = f"queue on {version}, {waiting} waiting"
    for word, found, ended in (("a short", before, short), ("a long", after, long)):
        claim, look = _percentiles(found["claim"]), _percentiles(found["waiting"])
        yield Figure(
            f"{name}, {word} history ({ended})", f"claim {claim}; what waits, by lane {look}"
        )
    ratio = _at(after["claim"], 0.99) / _at(before["claim"], 0.99)
    yield at_most(f"{name}, claim p99, long to short", ratio, MOST_SLOWER, "times", digits=2)
    yield Figure(f"loading {long - short} ended jobs into {version}", f"{loaded:.0f} s")


async def _times(database: Database, queue: JobQueue, plan: Plan) -> dict[str, list[float]]:
    """Seconds of each claim, a transaction of its own, and of each look at what waits.

    What is claimed is handed back, so that as many wait afterwards.
    """
    found: dict[str, list[float]] = {"claim": [], "waiting": []}
    lanes = [lane_of(_job(plan, user)).id for user in range(USERS)]
    for turn in range(plan.size(600, 20)):
        lane = lanes[turn % USERS]
        if turn % 20 == 0:
            began = time.perf_counter()
            await database.query(queue.waiting)
            found["waiting"].append(time.perf_counter() - began)

        async def claim(conn: Any, lane: str = lane) -> Any:
            return await queue.claim_lane(conn, worker="w", instance="i", lane=lane)

        began = time.perf_counter()
        [claimed] = await database.run(claim, durable=False)
        found["claim"].append(time.perf_counter() - began)

        async def release(conn: Any, claimed: Any = claimed) -> bool:
            return await queue.release(conn, claimed.job.id, claimed.lease)

        await database.run(release, durable=False)
    return found


def _at(seconds: list[float], part: float) -> float:
    ordered = sorted(seconds)
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)]


def _percentiles(seconds: list[float]) -> str:
    p50, p99 = (f"{_at(seconds, part) * 1000:.1f}" for part in (0.5, 0.99))
    return f"p50 {p50} ms, p99 {p99} ms"
