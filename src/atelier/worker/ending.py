"""How the run of a job ends: its record, and who is told."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import structlog

from atelier.comfy.client import InstanceUnreachable
from atelier.errors import AtelierError, InstanceError
from atelier.events import event as events
from atelier.jobs.job import CANCELLED, QUEUED, TERMINAL, Job, backoff_ms
from atelier.jobs.queue import Claim
from atelier.pool.instance import Instance
from atelier.service.planning import Plan
from atelier.service.views import OutputView
from atelier.telemetry import metrics
from atelier.worker.context import Context
from atelier.worker.failures import (
    Interrupted,
    NodeFailed,
    OutOfMemory,
    PromptLost,
    RunTimeout,
)
from atelier.worker.items import Made
from atelier.worker.outputs import discard
from atelier.worker.progress import (
    DONE,
    EXECUTED,
)
from atelier.worker.publication import Publication
from atelier.worker.record import (
    Stopwatch,
    persist,
    record_failure,
    record_made,
    record_recalled,
    record_release,
)
from atelier.worker.spool import Spooled
from atelier.worker.telling import Teller

log = structlog.get_logger(__name__)

StopReason = Literal["cancelled", "lost", "handover"]


class Ending:
    """What a run knows of itself, and the ways in which it ends. ``JobRun`` has the rest."""

    def __init__(
        self,
        context: Context,
        claim: Claim,
        instance: Instance,
        *,
        leave_seat: Callable[[], None],
        submitted: bool,
    ) -> None:
        self._context = context
        self._instance = instance
        self.job: Job = claim.job
        self.lease = claim.lease
        self.prompt_id = claim.prompt_id
        self._teller = Teller(context, claim.job)
        self._leave_seat = leave_seat
        self._submitted = submitted
        self._recording = False
        self._stopwatch = Stopwatch.of(context.clock)
        self._cache_key: str | None = None
        self._publication = Publication(context, instance, claim.job, claim.lease)
        self._spooled: Spooled | None = None
        self.log = log.bind(job=self.job.id, instance=instance.id)

    async def _record_success(self, plan: Plan, made: Made) -> None:
        context, job = self._context, self.job
        self._teller.step(EXECUTED)
        spooled = self._spooled
        executed = self._stopwatch.timings(job)["execute_ms"]
        execute_ms = executed if spooled is None else spooled.execute_ms
        try:
            collected = await self._publication.collect(
                made, variant=plan.variant, execute_ms=execute_ms, waiting=self._stoppable
            )
        except AtelierError as error:
            await self._record_error(error)
            return
        timings = {**self._stopwatch.timings(job), "execute_ms": execute_ms}
        outputs = await record_made(
            context, job, self.lease, plan, collected, timings, self._cache_key
        )
        if outputs is None:
            self.log.warning("somebody else finished this job first; discarding our result")
            await discard(context, collected.assets)
            return
        await self._publication.forget()
        if spooled is None:
            self._learn(plan.variant, timings["execute_ms"])
        self._tell_finished(outputs, timings)

    def _learn(self, variant: str, execute_ms: float) -> None:
        """Note what the run took without the loading of models, which has its own estimate."""
        workflow, estimates = self.job.workflow, self._context.estimates
        usage = self._instance.usage
        warm_ms, is_guess = usage.finished(self.prompt_id, workflow, variant, execute_ms)
        if is_guess:
            metrics.model_switched(self._instance.id)
        elif (switch_ms := self._instance.switch_ms(self.job.model)) is not None:
            metrics.model_was_warm(self._instance.id, switch_ms / 1000)
        if not is_guess or estimates.run_ms(workflow, variant) is None:
            estimates.learn(workflow, variant, warm_ms, instance=self._instance.id)

    @contextlib.contextmanager
    def _stoppable(self) -> Iterator[None]:
        """While the outcome waits to be recorded, the run can be stopped as before."""
        self._recording = False
        try:
            yield
        finally:
            self._recording = True

    async def _recall(self, plan: Plan, key: str) -> bool:
        """Finish with what an earlier job made of the same; False: it has to run."""
        context, job = self._context, self.job
        async with context.database.read() as conn:
            if not await context.queue.made_before(conn, key, unlike=job.id):
                return False
        self._recording = True
        timings = self._stopwatch.timings_of_none(job)
        outputs = await record_recalled(context, job, self.lease, plan, timings, key)
        if outputs is None:
            self._recording = False
            return False
        self._tell_finished(outputs, timings)
        return True

    def _tell_finished(
        self, outputs: tuple[Mapping[str, Any], ...], timings: Mapping[str, int]
    ) -> None:
        self._teller.step(DONE)
        metrics.job_ended(self.job.workflow, "succeeded", timings=timings)
        payload = [OutputView.of(output).as_dict() for output in outputs]
        self._teller.tell(
            events.finished(self.job.id, self.job.user, outputs=payload, seed=self.job.seed)
        )
        self.log.info("finished", outputs=len(outputs), **timings)

    async def _record_error(self, error: AtelierError) -> None:
        context, job = self._context, self.job
        if isinstance(error, InstanceError):
            self._instance.suspect()
            # The others are the job's doing, or somebody's.
            if not isinstance(error, OutOfMemory | Interrupted | RunTimeout):
                crash = isinstance(error, InstanceUnreachable | PromptLost)
                self._instance.usage.failed(crash=crash)
        elif isinstance(error, NodeFailed):
            self._instance.usage.worked()
        if isinstance(error, InstanceUnreachable) and not self._submitted:
            # It never got there: wait for an instance without using up an attempt.
            await self._release()
            return
        if isinstance(error, OutOfMemory):
            with contextlib.suppress(AtelierError):
                await self._instance.client.free(unload_models=True, free_memory=True)
        again = error.retryable and job.attempts < job.max_attempts
        if isinstance(error, OutOfMemory):
            again = again and job.attempts < 2
        run_after_ms = backoff_ms(job.attempts, context.rng)

        status = await record_failure(
            context,
            job,
            self.lease,
            error,
            self._stopwatch.timings(job),
            delay_ms=run_after_ms if again else None,
            avoid_instance=self._instance.id if isinstance(error, InstanceError) else None,
        )
        if status in TERMINAL:
            await self._publication.forget()
        if status is None:
            self.log.warning("somebody else took this job over; our failure is not recorded")
            return
        if status == QUEUED:
            metrics.job_retried(error.code)
        else:
            metrics.job_ended(
                job.workflow,
                "cancelled" if status == CANCELLED else "failed",
                code="" if status == CANCELLED else error.code,
                timings=self._stopwatch.timings(job),
            )
        if status != CANCELLED:
            said = "trying again" if status == QUEUED else "failed"
            self.log.warning(said, code=error.code, reason=error.message)
        self._teller.tell_setback(
            status, error, attempts=job.attempts, run_after_ms=context.now_ms() + run_after_ms
        )

    async def _record_stop(self, reason: StopReason) -> None:
        queue, job = self._context.queue, self.job
        if reason == "cancelled":
            if self._submitted:
                await self._cancel_prompt()
            self._leave_seat()
            if await persist(
                self._context,
                job.id,
                lambda conn: queue.finish_cancelled(conn, job.id, self.lease),
            ):
                self._teller.tell(events.cancelled(job.id, job.user))
                self.log.info("cancelled")
                metrics.job_ended(job.workflow, "cancelled")
                await self._publication.forget()
        elif reason == "handover" and not self._submitted:
            await self._release()

    async def _release(self) -> None:
        job = self.job
        if await record_release(self._context, job, self.lease):
            metrics.job_ended(job.workflow, "cancelled")
            self._teller.tell(events.cancelled(job.id, job.user))

    async def _cancel_prompt(self) -> None:
        with contextlib.suppress(AtelierError):
            await self._instance.client.cancel(self.prompt_id)
