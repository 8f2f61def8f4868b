"""The state of the whole: workflows, instances, health, figures."""

import time
from collections.abc import Awaitable, Callable

from atelier.database import Database, DatabaseUnavailable
from atelier.errors import AtelierError
from atelier.jobs.job import Job
from atelier.jobs.queue import JobQueue
from atelier.pool.pool import Pool
from atelier.service.capabilities import Capabilities
from atelier.service.catalogue import workflow_view
from atelier.service.fitting import MODEL_FOLDERS
from atelier.service.instances import instance_view, waiting_because
from atelier.service.planning import lasting_problems
from atelier.service.queues import instance_queues, instance_systems
from atelier.service.views import (
    Health,
    InstanceCheck,
    InstanceView,
    ModelView,
    QueuesView,
    Stats,
    SystemView,
    WorkflowView,
)
from atelier.storage.store import Store
from atelier.workflows.library import Library, Origin, Workflow, requirements

ASK_SECONDS = 3.0  # an instance that doesn't answer by then is told as silent
WAITING_SHOWN = 100
STORAGE_CHECK_SECONDS = 30.0  # writing a file at every look at /health would be a load of its own


class Overview:
    def __init__(
        self,
        *,
        database: Database,
        queue: JobQueue,
        store: Store,
        library: Library,
        pool: Pool,
        capabilities: Capabilities,
        running_jobs: Callable[[], int] = lambda: 0,
        check_redis: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._database = database
        self._queue = queue
        self._store = store
        self._library = library
        self._pool = pool
        self._capabilities = capabilities
        self._running_jobs = running_jobs
        self._check_redis = check_redis
        self._storage_checked_at = float("-inf")
        self._storage_state = "ok"

    def workflows(self, language: str = "en") -> list[WorkflowView]:
        return [self.workflow(name, language) for name in self._library.names()]

    def workflow(self, name: str, language: str = "en") -> WorkflowView:
        """Raises WorkflowUnknown, which lists what there is."""
        return self.view_of(self._library.get(name), self._library.origin(name), language)

    def workflow_problems(self) -> tuple[str, ...]:
        """What is wrong with workflow files, a sentence each; what they were before still runs."""
        return self._library.problems

    @property
    def workflows_revision(self) -> int:
        """A number that grows when there are other workflows or styles than before."""
        return self._library.revision

    def styles(self) -> list[str]:
        return list(self._library.styles())

    def view_of(
        self, workflow: Workflow, origin: Origin = "own", language: str = "en"
    ) -> WorkflowView:
        """A workflow that need not be in the library."""
        return workflow_view(workflow, origin, self._pool, self._capabilities, language)

    def checks(self, workflow: Workflow) -> list[InstanceCheck]:
        """How ``workflow`` would fare at each instance that is up, with its default inputs."""
        alternatives = requirements(workflow)
        found = []
        for instance in self._pool.up():
            chosen = self._capabilities.choose_alternative(instance, alternatives)
            missing = self._capabilities.missing(instance, alternatives[0])
            variant = (chosen or alternatives[0]).variant
            problems = lasting_problems(workflow, variant, instance.object_info)
            found.append(
                InstanceCheck(
                    instance=instance.id,
                    variant=chosen.variant if chosen else None,
                    missing=() if chosen else missing,
                    problems=tuple(problem.as_dict() for problem in problems),
                )
            )
        return found

    def instances(self) -> list[InstanceView]:
        now_ms = time.time_ns() // 1_000_000
        return [instance_view(instance, now_ms) for instance in self._pool.instances]

    def models(self) -> list[ModelView]:
        """What draws: checkpoints and diffusion models of the instances that are up."""
        return [
            ModelView(name=file, folder=folder, instances=tuple(instances))
            for folder in MODEL_FOLDERS
            for file, instances in self._pool.model_files(folder).items()
        ]

    def waiting_because(self, job: Job) -> str | None:
        """Why a queued job does not run, where something other than its turn holds it up."""
        instances = self._pool.instances
        if not instances:
            return "No ComfyUI instance is configured. Set COMFYUI_URLS."
        return waiting_because(instances, self._capabilities, job.requirement)

    async def health(self) -> Health:
        waiting: int | None = None
        database = "ok"
        try:
            async with self._database.read() as conn:
                waiting = (await self._queue.counts(conn)).get("queued", 0)
        except DatabaseUnavailable as error:
            database = error.message
        storage, redis = await self._storage(), await self._redis()
        instances = tuple(self.instances())
        up = sum(instance.state != "down" for instance in instances)
        problems = self.workflow_problems()
        if database != "ok":
            message = f"The database can't be reached, so no job can be accepted: {database}"
        elif storage != "ok":
            message = f"The storage does not work: {storage}"
        elif up == 0:
            message = "No ComfyUI instance can be reached; jobs are accepted and wait."
        elif up < len(instances):
            message = f"{len(instances) - up} of {len(instances)} instances are down."
        elif problems:
            message = f"Workflow files are faulty, what they were before is used: {problems[0]}"
        elif redis not in ("ok", "not configured"):
            message = "Jobs run, but live progress comes from the record: Redis is away."
        else:
            message = "Everything works."
        ok = database == "ok" and storage == "ok"
        whole = up == len(instances) > 0 and not problems
        whole = whole and redis in ("ok", "not configured")
        return Health(
            ok=ok,
            status="unavailable" if not ok else "ok" if whole else "degraded",
            message=message,
            database=database,
            redis=redis,
            storage=storage,
            instances=instances,
            waiting=waiting,
            workers=self._running_jobs(),
            workflows="; ".join(problems) or "ok",
        )

    async def queues(self, *, timeout_seconds: float = ASK_SECONDS) -> QueuesView:
        """Our own queue and, asked now, that of each instance with what others submitted there."""
        async with self._database.read() as conn:
            under_way = await self._queue.under_way(conn)
            waiting = await self._queue.waiting_ids(conn, WAITING_SHOWN)
            counts = await self._queue.counts(conn)
        jobs = {one.prompt_id: one.id for one in under_way if one.prompt_id is not None}
        return QueuesView(
            instances=await instance_queues(
                self._pool.instances, jobs, timeout_seconds=timeout_seconds
            ),
            running=tuple(one.id for one in under_way),
            waiting=waiting,
            queued=counts.get("queued", 0),
        )

    async def systems(self, *, timeout_seconds: float = ASK_SECONDS) -> tuple[SystemView, ...]:
        """RAM, VRAM, version and devices of each instance, asked now."""
        return await instance_systems(self._pool.instances, timeout_seconds=timeout_seconds)

    async def _redis(self) -> str:
        if self._check_redis is None:
            return "not configured"
        try:
            await self._check_redis()
        except AtelierError as error:
            return error.message
        return "ok"

    async def _storage(self) -> str:
        if time.monotonic() - self._storage_checked_at > STORAGE_CHECK_SECONDS:
            try:
                await self._store.check()
                self._storage_state = "ok"
            except AtelierError as error:
                self._storage_state = error.message
            self._storage_checked_at = time.monotonic()
        return self._storage_state

    async def stats(self) -> Stats:
        async with self._database.read() as conn:
            figures = await self._queue.stats(conn)
        done, failed = figures.by_status.get("succeeded", 0), figures.by_status.get("failed", 0)
        ended = done + failed
        return Stats(
            by_status=figures.by_status,
            by_workflow={name: times.count for name, times in figures.run_by_workflow.items()},
            by_style={style: sum(counts.values()) for style, counts in figures.by_label.items()},
            run_by_workflow_seconds={
                name: _seconds(times.mean_ms) for name, times in figures.run_by_workflow.items()
            },
            success_rate=done / ended if ended else None,
            failure_rate=failed / ended if ended else None,
            queue_length=figures.by_status.get("queued", 0),
            wait_mean_seconds=_seconds(figures.wait.mean_ms),
            wait_p95_seconds=_seconds(figures.wait.p95_ms),
            run_mean_seconds=_seconds(figures.run.mean_ms),
            run_p95_seconds=_seconds(figures.run.p95_ms),
            instances=tuple(self.instances()),
        )


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds / 1000, 3)
