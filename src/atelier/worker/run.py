"""One job at one instance, from the claim to the record of how it ended."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from atelier.comfy.client import Finished, GraphRejected, InstanceUnreachable, Lost
from atelier.comfy.messages import (
    Executing,
    ExecutionError,
    ExecutionInterrupted,
    ExecutionStart,
    Preview,
)
from atelier.errors import AtelierError
from atelier.events import event as events
from atelier.jobs.job import Progress
from atelier.jobs.queue import Claim
from atelier.pool.instance import Instance
from atelier.service.planning import Plan, plan_run
from atelier.service.recall import cache_key
from atelier.telemetry import metrics, traces
from atelier.worker.context import Context
from atelier.worker.ending import Ending, StopReason
from atelier.worker.failures import (
    Interrupted,
    PromptLost,
    RunTimeout,
    node_failed,
)
from atelier.worker.inputs import fetch_images, place_images
from atelier.worker.items import Made, items_of
from atelier.worker.progress import (
    ACCEPTED,
    BUILT,
    INPUTS_STORED,
    SUBMITTED,
    ProgressMeter,
)
from atelier.worker.record import (
    workflow_of,
)
from atelier.worker.seats import Places
from atelier.worker.submission import check_graph, has_arrived, submit
from atelier.worker.tracing import class_of, traced_execution, traced_run
from atelier.workflows.graph import Graph

log = structlog.get_logger(__name__)

IN_FLIGHT_SECONDS = 1.0
# Who has waited longer for the instance than this brings the pictures again: they are swept.
PLACED_SECONDS = 600.0


class JobRun(Ending):
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
        super().__init__(context, claim, instance, leave_seat=leave_seat, submitted=reattach)
        self._slots = submit_slots
        self._reattach = reattach
        self._stop: StopReason | None = None
        self._task: asyncio.Task[Any] | None = None

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
            with traced_run(self.job, self.lease, self._instance.id, self._context.now_ms()):
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
                with traces.span("collect and record"):
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
            metrics.run_recovered("spooled")
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
                metrics.run_recovered("reattached")
                meter = ProgressMeter(plan.graph(plan.inputs))
                return plan, items_of(await self._watch(None, meter), plan.counting)
            self._submitted = False
            metrics.run_recovered("rerun")
            await self._new_prompt()
        self._teller.step(ACCEPTED)
        with traces.span("fetch inputs"):
            pictures = await fetch_images(self._context, plan.inputs)
        hashes = {name: picture.sha256 for name, picture in pictures.items()}
        self._cache_key = cache_key(plan, user=job.user, pictures=hashes, conversion=job.conversion)
        if job.cache and await self._recall(plan, self._cache_key):
            return None
        with traces.span("upload inputs"):
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
        nodes = traces.NodeSpans(partial(class_of, graph or job.graph or {}))
        self._instance.running[job.id] = self.prompt_id
        try:
            async with (
                traced_execution(nodes),
                asyncio.timeout(self._context.job_timeout_seconds),
                client.watch(self.prompt_id, attach=graph is None) as watch,
            ):
                if graph is not None:
                    self._submitted = True
                    self._stopwatch.start()
                    try:
                        with traces.span("submit", kind="client"):
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
                            if isinstance(message, Executing):
                                nodes.begin(message.node)
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
