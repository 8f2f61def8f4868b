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
from atelier.jobs.queue import Claim
from atelier.pool.instance import Instance
from atelier.telemetry import metrics
from atelier.worker.claiming import Claiming, Found
from atelier.worker.context import Context
from atelier.worker.run import JobRun
from atelier.worker.seats import Places, Seats, Turns

log = structlog.get_logger(__name__)

POLL_SECONDS = 1.0  # a wake-up that got lost costs no more than this
RENEW_SECONDS = 3.0
CANCEL_SECONDS = 0.4  # a cancel must be at ComfyUI within 1 s
RECLAIM_SECONDS = 2.0
TELL_SECONDS = 1.0
CONTACT_SECONDS = 5.0  # an instance that hasn't answered by then counts as down

T = TypeVar("T")


class Dispatcher:
    """``async with Dispatcher(context)`` claims and runs until it is left.

    Leaving stops claiming, lets runs at the instances end within ``grace_seconds``, and hands
    the others over: their leases end at once and whoever takes them reattaches. ``capacity`` says
    how many jobs may be under way for so many instances.
    """

    def __init__(
        self,
        context: Context,
        *,
        capacity: Callable[[int], int],
        max_running_per_user: int | None = None,
        grace_seconds: float = 10.0,
    ) -> None:
        self._context = context
        self._capacity_for = capacity
        self._capacity = Places(capacity(len(context.pool.driven())))
        self.claiming = Claiming(
            context, poll_seconds=POLL_SECONDS, max_running=max_running_per_user
        )
        self._grace_seconds = grace_seconds
        self._runs: dict[str, JobRun] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._seats: dict[str, Seats] = {}
        self._serving: dict[str, asyncio.Task[None]] = {}
        self._wakeups: dict[str, Wakeups] = {}  # of those who serve
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
        self._serve_what_is_driven()
        self._context.pool.on_change(self._serve_what_is_driven)
        # A lease outlives four signs of life that get lost.
        beat = self._context.lease_ms / 5000
        self._start(self._every(min(RENEW_SECONDS, beat), self._renew), "renew leases")
        self._start(self._watch_cancels(), "look for cancels")
        self._start(self._every(min(RECLAIM_SECONDS, beat), self._reclaim, at_once=True), "reclaim")
        self._start(self._notice_news(), "notice news")
        self._start(self._every(TELL_SECONDS, self.claiming.tell), "tell charges")
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
        await _end([*self._serving.values(), *(t for t in self._loops if t not in renewing)])
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

    def _serve_what_is_driven(self) -> None:
        """Begin to serve what this worker has become the driver of; what it let go ends itself."""
        if self._stopped:
            return
        driven = self._context.pool.driven()
        self._capacity.resize(self._capacity_for(len(driven)))
        self.claiming.look_again()
        for instance in driven:
            serving = self._serving.get(instance.id)
            if serving is None or serving.done():
                # Runs of before, when it was driven here too, still leave the seats they took.
                self._seats_of(instance)
                self._serving[instance.id] = asyncio.create_task(
                    self._serve(instance), name=f"serve {instance.id}"
                )

    def _seats_of(self, instance: Instance) -> Seats:
        return self._seats.setdefault(instance.id, Seats(self._context.clock))

    async def _notice_news(self) -> None:
        """Also while all seats are taken: then nobody else hears what has come meanwhile."""
        async with self._context.bus.wakeups() as wakeups:
            while True:
                if await wakeups.wait(POLL_SECONDS):
                    self.claiming.look_again()

    async def _serve(self, instance: Instance) -> None:
        seats = self._seats[instance.id]
        async with self._context.bus.wakeups() as wakeups:
            self._wakeups[instance.id] = wakeups
            while instance.driven:
                await seats.claimed.acquire()
                was_idle = not instance.usage.work.jobs
                free_since_ms = self._context.now_ms()
                claim = await self._next_claim(instance, wakeups)
                if claim is None:
                    seats.claimed.release()
                    continue
                # One that is tried again had to wait.
                if was_idle and claim.job.attempts == 1:
                    metrics.seat_was_idle(
                        instance.id,
                        free_since_ms=free_since_ms,
                        waiting_since_ms=claim.job.created_at_ms,
                        now_ms=self._context.now_ms(),
                    )
                self._launch(claim, instance)

    async def _next_claim(self, instance: Instance, wakeups: Wakeups) -> Claim | None:
        """The next job for ``instance``, with a part of the capacity taken for it.

        None once another worker serves it.
        """
        while instance.driven:
            pause = POLL_SECONDS
            if instance.takes_jobs:
                async with self._turns.take(self._seats[instance.id].claimed.taken):
                    # Only while asking: who finds nothing must not keep others from it.
                    await self._capacity.acquire()
                    found = await self._try_claim(instance)
                    if found is not None and found.claim is not None:
                        return found.claim
                    self._capacity.release()
                if found is not None:
                    pause = found.wait_seconds
            if await wakeups.wait(pause):
                self.claiming.look_again()
        return None

    async def _try_claim(self, instance: Instance) -> Found | None:
        try:
            return await self._patiently(lambda: self.claiming.next(instance))
        except Exception:
            log.exception("claiming failed in a way nobody foresaw", instance=instance.id)
            return None

    def _launch(self, claim: Claim, instance: Instance, *, reattach: bool = False) -> None:
        seats = self._seats_of(instance)
        # What is reattached was never seated here.
        left = reattach

        def leave_seat() -> None:
            nonlocal left
            if not left:
                left = True
                seats.leave()
                instance.usage.work.left(claim.job.id)
                if (wakeups := self._wakeups.get(instance.id)) is not None:
                    wakeups.wake()  # it may be free sooner than was expected

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
        job = claim.job
        instance.usage.work.claimed(job.id, job.workflow, job.variant, job.model)
        task = asyncio.create_task(run.run(), name=f"job {claim.job.id}")
        self._tasks.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if self._runs.get(claim.job.id) is run:
                del self._runs[claim.job.id]
                instance.usage.work.left(claim.job.id)
            self.claiming.ended(claim.job.id, run.executed_ms)
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
                metrics.lease_lost()
                runs[id].stop("lost")
        for id in renewed.cancel_requested:
            runs[id].stop("cancelled")

    async def _watch_cancels(self) -> None:
        async with self._context.bus.wakeups("cancel") as wakeups:
            await self._every(
                CANCEL_SECONDS, self._look_for_cancels, pause=lambda: wakeups.wait(CANCEL_SECONDS)
            )

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
        now = context.clock()
        # One that we have only just begun to serve may be up in a moment.
        driven = [
            one.id
            for one in context.pool.driven()
            if one.up or now - (one.driven_since or now) > CONTACT_SECONDS
        ]
        claims = await context.database.run(
            lambda conn: context.queue.reclaim(
                conn,
                worker=context.worker,
                instances=driven,
                lease_ms=context.lease_ms,
                limit=50,
            )
        )
        metrics.leases_expired(len(claims))
        for claim in claims:
            instance = context.pool.get(claim.job.instance or "")
            if claim.job.id in self._runs:
                self._runs.pop(claim.job.id).stop("lost")
            if instance is None or not (instance.driven and instance.up):
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
        self,
        seconds: float,
        work: Callable[[], Awaitable[None]],
        *,
        at_once: bool = False,
        pause: Callable[[], Awaitable[object]] | None = None,
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
            await (asyncio.sleep(seconds) if pause is None else pause())

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
