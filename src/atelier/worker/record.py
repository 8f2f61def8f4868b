"""Writes down how a run ended: its times, what it made, or what an earlier one had made."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from atelier.database import DatabaseUnavailable
from atelier.errors import AtelierError
from atelier.jobs.job import CANCELLED, FAILED, Job, Status
from atelier.jobs.queue import Success
from atelier.service.planning import Plan
from atelier.service.recall import Recollection, recall
from atelier.worker.context import Context, Made
from atelier.worker.outputs import Collected
from atelier.workflows.library import Workflow

T = TypeVar("T")
Outputs = tuple[Mapping[str, Any], ...]

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Stopwatch:
    """Monotonic seconds of a run's marks: claimed, started and done at the instance."""

    clock: Callable[[], float]
    claimed_at: float
    started_at: float
    executed_at: float | None = None

    @classmethod
    def of(cls, clock: Callable[[], float]) -> "Stopwatch":
        now = clock()
        return cls(clock, now, now)

    def start(self) -> None:
        self.started_at = self.clock()

    def end(self) -> None:
        self.executed_at = self.clock()

    @property
    def executed_ms(self) -> float | None:
        """From the first message of the run to its last; None where it wasn't run here."""
        return None if self.executed_at is None else (self.executed_at - self.started_at) * 1000

    def timings(self, job: Job) -> dict[str, int]:
        now = self.clock()
        executed = self.executed_at or now
        return {
            "queued_ms": max(0, (job.started_at_ms or 0) - job.created_at_ms),
            "prepare_ms": int((self.started_at - self.claimed_at) * 1000),
            "execute_ms": int((executed - self.started_at) * 1000),
            "collect_ms": int((now - executed) * 1000),
        }

    def timings_of_none(self, job: Job) -> dict[str, int]:
        """Where nothing had to be run: all of it was preparation."""
        prepared = int((self.clock() - self.claimed_at) * 1000)
        return {**self.timings(job), "prepare_ms": prepared, "execute_ms": 0, "collect_ms": 0}


async def persist(context: Context, job: str, work: Callable[[Any], Awaitable[T]]) -> T:
    """Run ``work`` in a transaction, however long the database is away.

    The lease may run out meanwhile; its number in ``work`` then decides whether we may write.
    """
    return await _patiently(job, lambda: context.database.run(work))


async def _patiently(job: str, attempt: Callable[[], Awaitable[T]]) -> T:
    while True:
        try:
            return await attempt()
        except DatabaseUnavailable as error:
            log.warning("the database is away; the outcome waits", job=job, reason=error.message)
            await asyncio.sleep(1)


async def record_made(
    context: Context,
    job: Job,
    lease: int,
    plan: Plan,
    collected: Collected,
    timings: Mapping[str, int],
    cache_key: str | None,
) -> Outputs | None:
    """Finish the job with what it made; its outputs, or None where the lease is stale."""
    outputs = tuple(stored.record() for stored in collected.results)

    success = Success(
        job.id,
        lease,
        outputs=outputs,
        timings=timings,
        inputs=None if plan.inputs == job.inputs else plan.inputs,
        variant=plan.variant,
        previews=tuple(stored.record() for stored in collected.previews),
        cache_key=cache_key,
    )
    made = Made(success, tuple(collected.assets))
    return outputs if await _patiently(job.id, lambda: context.record(made)) else None


async def record_release(context: Context, job: Job, lease: int) -> bool:
    """Hand the job back to the queue; True where that cancelled it, as was asked meanwhile."""

    async def work(conn: Any) -> bool:
        await context.queue.release(conn, job.id, lease)
        now = await context.queue.get(conn, job.id)
        return now is not None and now.lease == lease and now.status == CANCELLED

    return await persist(context, job.id, work)


async def workflow_of(context: Context, job: Job) -> Workflow:
    """The workflow that the job was accepted with, however long the database is away."""
    while True:
        try:
            return await context.workflows.of_job(job)
        except DatabaseUnavailable as error:
            log.warning("the database is away; the workflow waits", reason=error.message)
            await asyncio.sleep(1)


async def record_failure(
    context: Context,
    job: Job,
    lease: int,
    error: AtelierError,
    timings: Mapping[str, int],
    *,
    delay_ms: int | None,
    avoid_instance: str | None,
) -> Status | None:
    """Queue the job again in ``delay_ms``, or fail it where that is None.

    The job's status then, None where the lease is stale.
    """
    record = error.as_dict()

    async def work(conn: Any) -> Status | None:
        if delay_ms is not None:
            status = await context.queue.retry(
                conn, job.id, lease, record, delay_ms=delay_ms, avoid_instance=avoid_instance
            )
            return status or None
        return FAILED if await context.queue.fail(conn, job.id, lease, record, timings) else None

    return await persist(context, job.id, work)


async def record_recalled(
    context: Context, job: Job, lease: int, plan: Plan, timings: Mapping[str, int], cache_key: str
) -> Outputs | None:
    """Finish the job with what an earlier one made of the same.

    None where there is no such job any more, or the lease is stale: then nothing has changed.
    """
    ids: dict[str, str] = {}

    async def work(conn: Any) -> Recollection | None:
        found = await recall(conn, context.queue, context.catalog, cache_key, job=job.id, ids=ids)
        if found is None or not await context.queue.finish(
            conn,
            job.id,
            lease,
            outputs=found.recalled.outputs,
            timings=timings,
            inputs=None if plan.inputs == job.inputs else plan.inputs,
            variant=found.recalled.variant,
            previews=found.recalled.previews,
            cache_key=cache_key,
            cached_from=found.recalled.cached_from,
        ):
            return None
        await context.catalog.insert(conn, found.assets)
        return found

    found = await persist(context, job.id, work)
    return None if found is None else found.recalled.outputs
