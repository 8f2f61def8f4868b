"""Jobs: submit, look up, follow, cancel, retry. What every dialect calls."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import structlog
import uuid_utils

from atelier.database import Database
from atelier.errors import AtelierError, Conflict, MediaRejected
from atelier.events import event as events
from atelier.events.bus import Bus, Subscription
from atelier.jobs.job import RUNNING, TERMINAL, Job, NewJob, Progress
from atelier.jobs.queue import JobQueue
from atelier.media.asset import Asset
from atelier.media.catalog import Catalog
from atelier.service.accepting import Accepting, Offer
from atelier.service.assets import Assets, UploadTooLarge
from atelier.service.estimates import Estimates
from atelier.service.files import Files
from atelier.service.fitting import Fitted, Wish
from atelier.service.line import Line
from atelier.service.notices import Notices
from atelier.service.planning import Planned, Planner
from atelier.service.snapshot import present, snapshot_of
from atelier.service.stopping import JobUnknown, Stopping
from atelier.service.submission import Submission
from atelier.service.views import (
    AssetView,
    JobHistory,
    JobPage,
    JobView,
    OutputView,
    WebhookView,
)
from atelier.service.workflows import Workflows

log = structlog.get_logger(__name__)

FIRST_LOOK_SECONDS = 0.05


class JobNotEnded(Conflict):
    code = "JOB_NOT_ENDED"
    default_hint = "Cancel it first, or wait until it has ended."


class IdempotencyKeyReused(Conflict):
    code = "IDEMPOTENCY_KEY_REUSED"
    default_hint = "Use a new key for a new request."


class Generations(Line, Stopping):
    def __init__(
        self,
        *,
        database: Database,
        queue: JobQueue,
        catalog: Catalog,
        planner: Planner,
        workflows: Workflows,
        assets: Assets,
        bus: Bus,
        estimates: Estimates,
        notices: Notices,
        waiting_because: Callable[[Job], str | None],
        on_accepted: Callable[[str], None] = lambda job: None,
        files: Files | None = None,
        default_attempts: int = 3,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self._database = database
        self._queue = queue
        self._catalog = catalog
        self._planner = planner
        self._workflows = workflows
        self._assets = assets
        self._bus = bus
        self._estimates = estimates
        self._notices = notices
        self._waiting_because = waiting_because
        self._on_accepted = on_accepted
        self._files = files
        self._default_attempts = default_attempts
        self._weights = weights or {}
        self._accepting = Accepting(
            database=database,
            queue=queue,
            catalog=catalog,
            workflows=workflows,
            notices=notices,
            requirement_body=self._body,
        )

    def fit(self, workflow: str, wish: Wish) -> Fitted:
        """The inputs of a registered workflow that ``wish`` means.

        Raises WorkflowUnknown, or InputsInvalid with all that it can't follow.
        """
        return self._planner.fit(workflow, wish)

    async def submit(self, submission: Submission) -> tuple[JobView, bool]:
        """Accept a job; the answer comes after the commit. False: the key was used before.

        Raises QueueFull, InvalidRequest, WorkflowError, NotFound for what can't run, MediaRejected
        for pictures that are checked, and IdempotencyKeyReused where the key came with another
        request.
        """
        new, planned, hashes = await self._prepare(submission)
        workflow = planned.found if planned.graph is None else None
        accepted = await self._accepting.accept(Offer(new, planned.plan, workflow, hashes))
        job, created = accepted.job, accepted.created
        view = self._view(job, accepted.position, accepted.webhook)
        if created:
            self._announce(view)
        # A worker may already be at it; the answer waits until a power loss can't undo the job.
        await self._database.flush()
        if created:
            log.info("accepted", job=job.id, workflow=job.workflow, user=job.user)
        elif job.fingerprint != new.fingerprint:
            raise IdempotencyKeyReused(
                f"The idempotency key was used for another request, job {job.id}.", job=job.id
            )
        return view, created

    async def submit_many(self, submissions: Sequence[Submission]) -> list[JobView | AtelierError]:
        """Each accepted or refused by itself, in order."""
        results: list[JobView | AtelierError] = []
        for submission in submissions:
            try:
                results.append((await self.submit(submission))[0])
            except AtelierError as error:
                results.append(error)
        return results

    async def get(self, id: str, *, user: str | None = None) -> JobView:
        async with self._database.read() as conn:
            job = await self._queue.get(conn, id)
            if job is None or (user is not None and job.user != user):
                raise JobUnknown(f"There is no job {id!r}.")
            position = await self._queue.position(conn, id) if job.status == "queued" else None
            webhooks = await self._notices.views(conn, [job])
        return self._view(job, position, webhooks.get(id))

    async def list(
        self,
        *,
        user: str | None = None,
        status: Collection[str] = (),
        workflow: str | None = None,
        q: str | None = None,
        dialect: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> JobPage:
        """Newest first, in pages that stay put while jobs are added."""
        async with self._database.read() as conn:
            page = await self._queue.list(
                conn,
                user=user,
                status=status,
                workflow=workflow,
                q=q,
                dialect=dialect,
                limit=limit,
                cursor=cursor,
            )
            queued = [job.id for job in page.jobs if job.status == "queued"]
            positions = await self._queue.positions(conn, queued) if queued else {}
            webhooks = await self._notices.views(conn, page.jobs)
        views = (self._view(job, positions.get(job.id), webhooks.get(job.id)) for job in page.jobs)
        return JobPage(tuple(views), page.next_cursor)

    async def history(self, *, limit: int = 50, offset: int = 0) -> JobHistory:
        """All jobs, newest first, without the newest ``offset``."""
        async with self._database.read() as conn:
            total = await self._queue.count(conn)
            found = await self._queue.newest(conn, limit=limit, offset=offset)
            queued = [job.id for job in found if job.status == "queued"]
            positions = await self._queue.positions(conn, queued) if queued else {}
            webhooks = await self._notices.views(conn, found)
        views = (self._view(job, positions.get(job.id), webhooks.get(job.id)) for job in found)
        return JobHistory(tuple(views), total)

    async def retry(self, id: str, *, user: str | None = None) -> JobView:
        """Queue a failed or cancelled job again, with its attempts counted anew.

        Raises JobUnknown, JobNotEnded or QueueFull.
        """
        before = await self.get(id, user=user)
        if not await self._database.run(lambda conn: self._queue.requeue(conn, id)):
            raise JobNotEnded(
                f"Only failed and cancelled jobs can be retried; this one is {before.job.status}.",
                job=id,
            )
        view = await self.get(id)
        self._bus.publish(events.queued(id, view.job.user, position=view.queue_position))
        self._bus.wake()
        return view

    async def delete(self, id: str, *, user: str | None = None) -> None:
        """Take an ended job out of every list, with what it made; files go with the next sweep."""
        view = await self.get(id, user=user)
        if view.job.status not in TERMINAL:
            raise JobNotEnded(f"The job is {view.job.status}.", job=id)

        async def work(conn: Any) -> None:
            await self._queue.delete(conn, id)
            await self._catalog.delete_made_by(conn, id)

        await self._database.run(work)

    async def wait(self, id: str, timeout_seconds: float) -> JobView:
        """The job once it has ended, or as it is after ``timeout_seconds``."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout_seconds
        # Nothing may come of a job that has ended already; a short one ends before this.
        look_at = min(deadline, clock() + FIRST_LOOK_SECONDS)
        async with self._bus.subscribe(job=id) as subscription:
            while True:
                batch = await subscription.batch(max(look_at - clock(), 0))
                if clock() >= look_at or any(event.ends for event in batch):
                    view = await self.get(id)
                    if view.job.status in TERMINAL or clock() >= deadline:
                        return view
                    look_at = deadline

    @asynccontextmanager
    async def follow(
        self,
        *,
        job: str | None = None,
        user: str | None = None,
        last_event_id: str | None = None,
        previews: bool = False,
        nodes: bool = False,
    ) -> AsyncIterator[Subscription]:
        """Events of a job or a user; they begin with the present state unless resumed.

        A user's present state is what waits and runs, and what has ended since ``last_event_id``.
        Raises JobUnknown.
        """
        async with self._bus.subscribe(
            job=job, user=user, last_event_id=last_event_id, previews=previews, nodes=nodes
        ) as subscription:
            if job is not None:
                view = await self.get(job, user=user)
                if not subscription.resumed:
                    subscription.begin_with(self._snapshot(view))
            elif user is not None and not subscription.resumed:
                views = await present(self.list, user, last_event_id, now_ms=self._bus.newest[0])
                subscription.begin_with(*map(self._snapshot, views))
            yield subscription

    def _announce(self, view: JobView) -> None:
        job = view.job
        self._bus.publish(
            events.queued(
                job.id, job.user, position=view.queue_position, eta_seconds=view.eta_seconds
            )
        )
        if job.status in TERMINAL:
            outputs = [output.as_dict() for output in view.outputs]
            self._bus.publish(events.finished(job.id, job.user, outputs=outputs, seed=job.seed))
            return
        self._bus.wake()
        self._on_accepted(job.id)

    def _snapshot(self, view: JobView) -> events.Event:
        """The present state; where it runs in this process, to the last step."""
        event = snapshot_of(view)
        told = self._bus.progress_of(view.job.id) if view.job.status == RUNNING else None
        if told is None or told.data["percent"] < view.job.progress.percent:
            return event
        return replace(event, data={**event.data, "progress": dict(told.data)})

    async def _prepare(self, submission: Submission) -> tuple[NewJob, Planned, dict[str, str]]:
        """The job, how it was understood, and the SHA-256 of assets that it brought along."""
        if isinstance(submission.workflow, str):
            await self._workflows.find(submission.workflow)
        webhook_url = submission.webhook_url
        if webhook_url is not None:
            webhook_url = self._notices.checked(webhook_url)
        planned = self._planner.plan(submission.workflow, submission.inputs)
        named = await self._named(planned)
        if named and planned.graph is not None:
            planned = self._planner.plan(planned.graph, {**named, **submission.inputs})
        inputs = dict(planned.inputs)
        hashes: dict[str, str] = {}
        for name, value in inputs.items():
            if isinstance(value, Mapping) and str(value.get("url", ""))[:5].lower() == "data:":
                asset = await self._keep(name, value["url"], submission)
                hashes[asset.id] = asset.sha256
                inputs[name] = {"asset": asset.id}
                if planned.graph is not None:
                    _point_to_asset(planned.graph, value["url"], asset.id)
        new = NewJob(
            id=str(uuid_utils.uuid7()),
            user=submission.user,
            workflow=planned.found.name,
            workflow_version=planned.found.version,
            variant=planned.variant,
            requirement=planned.requirement.hash,
            priority=submission.priority,
            model=planned.model,
            inputs=inputs,
            graph=planned.graph,
            seed=planned.seed,
            metadata=dict(submission.metadata),
            max_attempts=submission.max_attempts or self._default_attempts,
            dialect=submission.dialect,
            idempotency_key=submission.idempotency_key,
            fingerprint=submission.fingerprint() if submission.idempotency_key else None,
            label=_label(inputs),
            estimate_ms=self._estimates.run_ms(planned.found.name, planned.variant),
            weight=self._weights.get(submission.user, 1.0),
            conversion=submission.conversion.as_dict() if submission.conversion else None,
            # Who leaves the seed to chance wants another picture.
            cache=submission.cache and not planned.draws_seed,
            webhook_url=webhook_url,
        )
        return new, planned, hashes

    async def _named(self, planned: Planned) -> dict[str, Any]:
        """Pictures that were uploaded here and are named in a graph, as inputs of it.

        Which instance will run it isn't known: they must be brought there.
        """
        if planned.graph is None or self._files is None:
            return {}
        texts = self._planner.file_inputs(planned.graph)
        assets = await self._files.named(set(texts.values()))
        return {key: {"asset": assets[text]} for key, text in texts.items() if text in assets}

    async def _keep(self, name: str, url: str, submission: Submission) -> Asset | AssetView:
        try:
            if submission.check_pictures:
                return await self._assets.upload_data_url(url, user=submission.user)
            return await self._assets.keep_data_url(url, user=submission.user)
        except (MediaRejected, UploadTooLarge) as error:
            error.data = {**error.data, "input": name}
            raise

    def _body(self, requirement: str) -> dict[str, object]:
        known = self._planner.capabilities.known(requirement)
        assert known is not None  # _prepare has just made it
        return known.body()

    def _view(self, job: Job, position: int | None, webhook: WebhookView | None) -> JobView:
        queued = job.status == "queued"
        told = self._bus.progress_of(job.id) if job.status == "running" else None
        if told is not None and told.data["percent"] >= job.progress.percent:
            at = {name: told.data[name] for name in ("percent", "step", "steps", "node")}
            job = replace(job, progress=Progress(**at))
        return JobView(
            job=job,
            outputs=tuple(OutputView.of(output) for output in job.outputs),
            previews=tuple(OutputView.of(preview) for preview in job.previews),
            queue_position=position if queued else None,
            eta_seconds=self._estimates.eta_seconds(job, position),
            message=self._waiting_because(job) if queued else None,
            webhook=webhook,
        )


def _label(inputs: Mapping[str, Any]) -> str | None:
    """What statistics count a job under besides its workflow."""
    style = inputs.get("style")
    return style if isinstance(style, str) else None


def _point_to_asset(graph: dict[str, dict[str, Any]], uri: str, asset: str) -> None:
    """Replace ``uri`` in a graph of the caller's: megabytes that the record needn't carry."""
    for node in graph.values():
        for name, value in node["inputs"].items():
            if value == uri or (isinstance(value, dict) and value.get("url") == uri):
                node["inputs"][name] = f"asset:{asset}"
