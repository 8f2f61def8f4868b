"""One job at one instance, from the claim to the record of how it ended."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

import structlog

from atelier.comfy.client import Finished, GraphRejected, InstanceUnreachable, Lost
from atelier.comfy.messages import (
    ExecutionError,
    ExecutionInterrupted,
    ExecutionStart,
    Preview,
)
from atelier.errors import AtelierError, InstanceError
from atelier.events import event as events
from atelier.jobs.job import CANCELLED, QUEUED, TERMINAL, Job, Progress, backoff_ms
from atelier.jobs.queue import Claim
from atelier.pool.instance import Instance
from atelier.service.planning import Plan, plan_run
from atelier.service.recall import cache_key
from atelier.service.views import OutputView
from atelier.worker.context import Context
from atelier.worker.failures import (
    Interrupted,
    NodeFailed,
    OutOfMemory,
    PromptLost,
    RunTimeout,
    node_failed,
)
from atelier.worker.inputs import fetch_images, place_images
from atelier.worker.items import Made, items_of
from atelier.worker.outputs import discard
from atelier.worker.progress import (
    ACCEPTED,
    BUILT,
    DONE,
    EXECUTED,
    INPUTS_STORED,
    SUBMITTED,
    ProgressMeter,
)
from atelier.worker.publication import Publication
from atelier.worker.record import (
    Stopwatch,
    persist,
    record_failure,
    record_made,
    record_recalled,
    record_release,
    workflow_of,
)
from atelier.worker.seats import Places
from atelier.worker.spool import Spooled
from atelier.worker.submission import check_graph, has_arrived, submit
from atelier.worker.telling import Teller
from atelier.workflows.graph import Graph

log = structlog.get_logger(__name__)

IN_FLIGHT_SECONDS = 1.0
# Who has waited longer for the instance than this brings the pictures again: they are swept.
PLACED_SECONDS = 600.0

StopReason = Literal["cancelled", "lost", "handover"]


class JobRun:
    """Runs one claim. ``leave_seat`` is called once, when the instance is free of it."""

    def __init__(
        self,
        context: Context,
        claim: Claim,
        instance: Instance,
        *,
        submit_slots: Places,
        leave_seat: Callable[[], None],
        reattach: bool = False,
    ) -> None:
        self._context = context
        self._instance = instance
        self.job: Job = claim.job
        self.lease = claim.lease
        self.prompt_id = claim.prompt_id
        self._teller = Teller(context, claim.job)
        self._slots = submit_slots
        self._leave_seat = leave_seat
        self._reattach = reattach
        self._submitted = reattach
        self._recording = False
        self._stop: StopReason | None = None
        self._task: asyncio.Task[Any] | None = None
        self._stopwatch = Stopwatch.of(context.clock)
        self._cache_key: str | None = None
        self._publication = Publication(context, instance, claim.job, claim.lease)
        self._spooled: Spooled | None = None
        self.log = log.bind(job=self.job.id, instance=instance.id)

    def stop(self, reason: StopReason) -> None:
        """End early: the user cancelled, the lease is lost, or this worker hands over.

        Does nothing once the outcome is being recorded: then it has ended.
        """
        if self._stop is None and not self._recording:
            self._stop = reason
            if self._task is not None:
                self._task.cancel()

    @property
    def progress(self) -> Progress:
        return self._teller.progress

    @property
    def executed_ms(self) -> float | None:
        """How long the instance worked at it here; None where it didn't."""
        return self._stopwatch.executed_ms

    @property
    def at_instance(self) -> bool:
        """True from just before the POST: whoever takes over must look for the prompt."""
        return self._submitted

    async def run(self) -> None:
        """Never raises; whatever happens ends on the job's record or in somebody else's hands."""
        self._task = asyncio.current_task()
        try:
            await self._run()
        finally:
            self._leave_seat()

    async def _run(self) -> None:
        try:
            if self._stop is not None:
                raise asyncio.CancelledError
            outcome = await self._execute()
            self._recording = True
            if outcome is not None:
                await self._record_success(*outcome)
        except asyncio.CancelledError:
            if self._stop is None:
                raise
            if self._task is not None:
                self._task.uncancel()
            await self._record_stop(self._stop)
        except AtelierError as error:
            self._recording = True
            await self._record_error(error)
        except Exception as error:
            self.log.exception("a run failed in a way nobody foresaw")
            self._recording = True
            await self._record_error(
                AtelierError(
                    f"An internal error stopped the run ({type(error).__name__}).",
                    hint="The service's log has the details under the job's id.",
                )
            )

    async def _execute(self) -> tuple[Plan, Made] | None:
        """What it made; None where an earlier job's outputs answered, which is recorded then."""
        instance, job = self._instance, self.job
        plan = plan_run(
            await workflow_of(self._context, self.job), job, instance, self._context.capabilities
        )
        self._teller.tell(
            events.started(
                job.id, job.user, instance=instance.id, attempt=job.attempts, variant=plan.variant
            )
        )
        self._spooled = await self._publication.recover(plan.variant)
        if self._spooled is not None:
            self.log.info("an earlier run's result waits here for the store")
            self._leave_seat()
            return plan, self._spooled.made
        if self._reattach:
            where = await instance.client.find(self.prompt_id)
            if where == "absent":
                # The POST of a worker that was killed may still be on its way.
                await asyncio.sleep(IN_FLIGHT_SECONDS)
                where = await instance.client.find(self.prompt_id)
            if where != "absent":
                self.log.info("reattached", prompt=self.prompt_id, found=where)
                meter = ProgressMeter(plan.graph(plan.inputs))
                return plan, items_of(await self._watch(None, meter), plan.counting)
            self._submitted = False
            await self._new_prompt()
        self._teller.step(ACCEPTED)
        pictures = await fetch_images(self._context, plan.inputs)
        hashes = {name: picture.sha256 for name, picture in pictures.items()}
        self._cache_key = cache_key(plan, user=job.user, pictures=hashes, conversion=job.conversion)
        if job.cache and await self._recall(plan, self._cache_key):
            return None
        inputs = await place_images(self._context, instance, plan.inputs, pictures)
        self._teller.step(INPUTS_STORED)
        graph = plan.graph(inputs)
        await check_graph(plan, graph, inputs, instance)
        self._teller.step(BUILT)
        placed_at = self._context.clock()
        async with self._slots:
            if self._context.clock() - placed_at > PLACED_SECONDS:
                graph = plan.graph(
                    await place_images(self._context, instance, plan.inputs, pictures)
                )
            finished = await self._watch(graph, ProgressMeter(graph))
        return plan, items_of(finished, plan.counting)

    async def _new_prompt(self) -> None:
        """Choose and record another prompt id: the old one is nowhere at the instance."""
        prompt_id = self._context.queue.new_prompt_id()

        async def work(conn: Any) -> bool:
            return await self._context.queue.resubmit(
                conn, self.job.id, self.lease, prompt_id, self._instance.id
            )

        if not await self._context.database.run(work):
            self._stop = "lost"
            raise asyncio.CancelledError
        self.prompt_id = prompt_id
        self.job = replace(self.job, prompt_id=prompt_id, attempts=self.job.attempts + 1)

    async def _watch(self, graph: Graph | None, meter: ProgressMeter) -> Finished:
        client, job = self._instance.client, self.job
        self._instance.running[job.id] = self.prompt_id
        try:
            async with (
                asyncio.timeout(self._context.job_timeout_seconds),
                client.watch(self.prompt_id, attach=graph is None) as watch,
            ):
                if graph is not None:
                    self._submitted = True
                    self._stopwatch.start()
                    try:
                        await submit(client, graph, self.prompt_id)
                    except GraphRejected:
                        self._submitted = False
                        raise
                self._teller.step(SUBMITTED)
                async for message in watch:
                    match message:
                        case ExecutionStart():
                            # Until now it stood behind another, which says nothing of its length.
                            self._stopwatch.start()
                        case Finished(websocket_images_lost=True):
                            raise PromptLost("The result came while nobody was connected.")
                        case Finished():
                            return message
                        case ExecutionError():
                            raise node_failed(message)
                        case ExecutionInterrupted():
                            raise Interrupted("Somebody interrupted the run at the instance.")
                        case Lost(reason=reason):
                            raise PromptLost(f"The instance lost the run: {reason}.")
                        case Preview():
                            self._teller.show(message)
                        case _:
                            self._teller.tell_node(message)
                            self._teller.advance(meter.take(message))
            raise PromptLost("The instance said nothing of how the run ended.")
        except TimeoutError:
            await self._cancel_prompt()
            raise RunTimeout(
                f"The run took longer than {self._context.job_timeout_seconds:.0f} s."
            ) from None
        except InstanceUnreachable as error:
            lost = graph is None or error.data.get("never_sent")
            if lost or not await has_arrived(client, self.prompt_id):
                self._submitted = False
                raise
        finally:
            self._stopwatch.end()
            if self._instance.running.pop(job.id, None) is not None:
                self._instance.served += 1
            self._leave_seat()
        return await self._watch(None, meter)

    # -- recording -----------------------------------------------------------------------------

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
                await self._publication.forget()
        elif reason == "handover" and not self._submitted:
            await self._release()

    async def _release(self) -> None:
        job = self.job
        if await record_release(self._context, job, self.lease):
            self._teller.tell(events.cancelled(job.id, job.user))

    async def _cancel_prompt(self) -> None:
        with contextlib.suppress(AtelierError):
            await self._instance.client.cancel(self.prompt_id)
