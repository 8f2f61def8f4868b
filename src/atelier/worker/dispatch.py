"""Gives every free seat of every instance its next job."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import structlog

from atelier.database import DatabaseUnavailable
from atelier.events import event as events
from atelier.events.bus import Wakeups
from atelier.jobs.job import CANCELLED, Job
from atelier.jobs.policy import Seat, choose
from atelier.jobs.queue import Claim
from atelier.pool.instance import Instance
from atelier.service.capabilities import parse_requirement
from atelier.worker.context import Context
from atelier.worker.run import JobRun
from atelier.worker.seats import Seats, Turns

log = structlog.get_logger(__name__)

POLL_SECONDS = 1.0  # a wake-up that got lost costs no more than this
RENEW_SECONDS = 3.0
CANCEL_SECONDS = 0.4  # a cancel must be at ComfyUI within 1 s
RECLAIM_SECONDS = 2.0

T = TypeVar("T")


class Dispatcher:
    """``async with Dispatcher(context)`` claims and runs until it is left.

    Leaving stops claiming, lets runs at the instances end within ``grace_seconds``, and hands
    the others over: their leases end at once and whoever takes them reattaches.
    """

    def __init__(self, context: Context, *, capacity: int, grace_seconds: float = 10.0) -> None:
        self._context = context
        self._capacity = asyncio.Semaphore(capacity)
        self._grace_seconds = grace_seconds
        self._runs: dict[str, JobRun] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._seats: dict[str, Seats] = {}
        self._turns = Turns()
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopped = False

    @property
    def running(self) -> int:
        return len(self._runs)

    @property
    def running_ids(self) -> frozenset[str]:
        return frozenset(self._runs)

    async def __aenter__(self) -> Self:
        await self._patiently(
            lambda: self._context.database.run(
                lambda conn: self._context.queue.release_worker(conn, self._context.worker)
            )
        )
        for instance in self._context.pool.instances:
            self._seats[instance.id] = Seats(self._context.clock)
            self._start(self._serve(instance), f"serve {instance.id}")
        # Several renewals may go wrong before a lease runs out.
        renew_seconds = min(RENEW_SECONDS, max(0.1, self._context.lease_ms / 5000))
        self._start(self._every(renew_seconds, self._renew), "renew leases")
        self._start(self._every(CANCEL_SECONDS, self._look_for_cancels), "look for cancels")
        self._start(self._every(RECLAIM_SECONDS, self._reclaim, at_once=True), "reclaim")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop claiming, let runs end or hand them over; calling it again does nothing."""
        if self._stopped:
            return
        self._stopped = True
        renewing = [task for task in self._loops if task.get_name() == "renew leases"]
        await _end(task for task in self._loops if task not in renewing)
        for run in list(self._runs.values()):
            if not run.at_instance:
                run.stop("handover")
        if self._runs:
            log.info("waiting for running jobs", jobs=len(self._runs))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._grace_seconds):
                    await self._idle.wait()
        for run in list(self._runs.values()):
            run.stop("handover")
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)
        await _end([*renewing, *self._tasks])
        # Without this the leases run out by themselves: no reason to keep whoever stops us waiting.
        with contextlib.suppress(DatabaseUnavailable):
            await self._context.database.run(
                lambda conn: self._context.queue.release_worker(conn, self._context.worker),
                attempts_seconds=2,
            )

    def _start(self, work: Any, name: str) -> None:
        self._loops.append(asyncio.create_task(work, name=name))

    # -- claiming ------------------------------------------------------------------------------

    async def _serve(self, instance: Instance) -> None:
        seats = self._seats[instance.id]
        async with self._context.bus.wakeups() as wakeups:
            while True:
                await seats.claimed.acquire()
                claim = await self._next_claim(instance, wakeups)
                self._launch(claim, instance)

    async def _next_claim(self, instance: Instance, wakeups: Wakeups) -> Claim:
        """The next job for ``instance``, with a part of the capacity taken for it."""
        while True:
            if instance.up:
                async with self._turns.take(self._seats[instance.id].claimed.taken):
                    # Only while asking: who finds nothing must not keep others from it.
                    await self._capacity.acquire()
                    claim = await self._try_claim(instance)
                    if claim is not None:
                        return claim
                    self._capacity.release()
            await wakeups.wait(POLL_SECONDS)

    async def _try_claim(self, instance: Instance) -> Claim | None:
        try:
            return await self._patiently(lambda: self._claim(instance))
        except Exception:
            log.exception("claiming failed in a way nobody foresaw", instance=instance.id)
            return None

    async def _claim(self, instance: Instance) -> Claim | None:
        context = self._context
        unknown: set[str] = set()

        def capable(requirement: str) -> bool:
            if context.capabilities.known(requirement) is None:
                unknown.add(requirement)
                return False
            return context.capabilities.can_run(instance, requirement)

        seat = Seat(instance=instance.id, capable=capable, warm=frozenset())

        async def work(conn: Any) -> Claim | None:
            return await context.queue.claim(
                conn, worker=context.worker, seat=seat, choose=choose, lease_ms=context.lease_ms
            )

        # A power loss may undo a claim: then the job waits as before, and what ComfyUI did for it
        # is lost. Not to wait for the disk here makes every job some milliseconds shorter.
        claim = await context.database.run(work, durable=False)
        if unknown:
            await self._learn(unknown)
            if claim is None:
                return await context.database.run(work, durable=False)
        return claim

    async def _learn(self, hashes: set[str]) -> None:
        """Load requirements that another process wrote, or this one before a restart."""
        context = self._context
        async with context.database.read() as conn:
            found = await context.queue.requirements(conn, hashes)
        for hash, body in found.items():
            context.capabilities.remember(parse_requirement(hash, body))

    def _launch(self, claim: Claim, instance: Instance, *, reattach: bool = False) -> None:
        seats = self._seats[instance.id]
        # What is reattached was never seated here.
        left = reattach

        def leave_seat() -> None:
            nonlocal left
            if not left:
                left = True
                seats.leave()

        run = JobRun(
            self._context,
            claim,
            instance,
            submit_slots=seats.there,
            leave_seat=leave_seat,
            reattach=reattach,
        )
        self._runs[claim.job.id] = run
        self._idle.clear()
        task = asyncio.create_task(run.run(), name=f"job {claim.job.id}")
        self._tasks.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if self._runs.get(claim.job.id) is run:
                del self._runs[claim.job.id]
            if not self._runs:
                self._idle.set()
            if not reattach:
                self._capacity.release()
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("a run ended with an error", job=claim.job.id, exc_info=error)

        task.add_done_callback(done)

    # -- keeping -------------------------------------------------------------------------------

    async def _renew(self) -> None:
        runs = dict(self._runs)
        if not runs:
            return
        renewed = await self._context.database.run(
            lambda conn: self._context.queue.renew(
                conn,
                self._context.worker,
                self._context.lease_ms,
                {id: run.lease for id, run in runs.items()},
                {id: run.progress for id, run in runs.items()},
            )
        )
        for id in renewed.lost:
            if self._runs.get(id) is runs[id]:
                log.warning("another worker took this job over", job=id)
                runs[id].stop("lost")
        for id in renewed.cancel_requested:
            runs[id].stop("cancelled")

    async def _look_for_cancels(self) -> None:
        if not self._runs:
            return
        async with self._context.database.read() as conn:
            requested = await self._context.queue.cancel_requests(conn, self._context.worker)
        for id in requested:
            if (run := self._runs.get(id)) is not None:
                run.stop("cancelled")

    async def _reclaim(self) -> None:
        context = self._context
        up = [instance.id for instance in context.pool.up()]
        claims = await context.database.run(
            lambda conn: context.queue.reclaim(
                conn,
                worker=context.worker,
                instances=up,
                lease_ms=context.lease_ms,
                limit=50,
            )
        )
        for claim in claims:
            instance = context.pool.get(claim.job.instance or "")
            if claim.job.id in self._runs:
                self._runs.pop(claim.job.id).stop("lost")
            if instance is None or not instance.up:
                log.info("its instance is gone; back to the queue", job=claim.job.id)
                await self._give_back(claim)
            else:
                self._launch(claim, instance, reattach=True)

    async def _give_back(self, claim: Claim) -> None:
        context, id = self._context, claim.job.id

        async def work(conn: Any) -> Job | None:
            await context.queue.release(conn, id, claim.lease)
            return await context.queue.get(conn, id)

        job = await context.database.run(work)
        if job is not None and job.status == CANCELLED:
            context.bus.publish(events.cancelled(id, job.user))
        context.bus.wake()

    async def _every(
        self, seconds: float, work: Callable[[], Awaitable[None]], *, at_once: bool = False
    ) -> None:
        if not at_once:
            await asyncio.sleep(seconds)
        while True:
            try:
                await work()
            except DatabaseUnavailable as error:
                log.warning("the database is away", reason=error.message)
            except Exception:
                log.exception("keeping the leases failed in a way nobody foresaw")
            await asyncio.sleep(seconds)

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T | None:
        """The result of ``work``, or None when the database is away: then after a second."""
        try:
            return await work()
        except DatabaseUnavailable as error:
            log.warning("the database is away", reason=error.message)
            await asyncio.sleep(1)
            return None


async def _end(tasks: Any) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
