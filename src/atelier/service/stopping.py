"""Stopping what runs and what waits; never what others submitted to an instance."""

from abc import ABC, abstractmethod

from atelier.database import Database
from atelier.errors import Conflict, NotFound
from atelier.events import event as events
from atelier.events.bus import Bus
from atelier.jobs.queue import Cancelled, JobQueue
from atelier.service.planning import Planner
from atelier.service.views import JobView
from atelier.telemetry import metrics


class JobUnknown(NotFound):
    code = "JOB_UNKNOWN"
    default_hint = "Ids come from the answer to the submission; ended jobs are swept after a time."


class JobEnded(Conflict):
    code = "JOB_ALREADY_ENDED"


class InstanceUnknown(NotFound):
    code = "INSTANCE_UNKNOWN"
    default_hint = "GET /v1/instances lists them."


class Stopping(ABC):
    """A part of ``Generations``, which has the rest."""

    _database: Database
    _queue: JobQueue
    _planner: Planner
    _bus: Bus

    @abstractmethod
    async def get(self, id: str, *, user: str | None = None) -> JobView:
        """Raises JobUnknown."""

    async def cancel(self, id: str, *, user: str | None = None) -> JobView:
        """Queued jobs end at once; running ones as soon as ComfyUI has stopped."""
        await self.get(id, user=user)
        outcome = await self._cancel(id)
        view = await self.get(id)
        if outcome == "already" and view.job.status != "cancelled":
            raise JobEnded(f"The job has already ended: it {view.job.status}.", job=id)
        return view

    async def interrupt(
        self,
        *,
        prompt_id: str | None = None,
        job: str | None = None,
        instance: str | None = None,
        user: str | None = None,
    ) -> list[str]:
        """Stop what is being generated, and return the ids of those jobs, oldest first.

        All that is said must apply to a job; nothing said means every running one of ours. A
        ``job`` that still waits is cancelled too. ``prompt_id`` is ComfyUI's, or a job's id;
        ``instance`` an id or a URL. What others submitted to an instance is left alone.
        Raises JobUnknown, JobEnded, InstanceUnknown.
        """
        async with self._database.read() as conn:
            under_way = await self._queue.under_way(conn)
        if instance is not None:
            at = self._planner.instance_id(instance)
            if at is None and all(one.instance != instance for one in under_way):
                raise InstanceUnknown(f"There is no instance {instance!r}.")
            instance = at or instance
        wanted = [
            one
            for one in under_way
            if job in (None, one.id)
            and prompt_id in (None, one.prompt_id, one.id)
            and instance in (None, one.instance)
            and user in (None, one.user)
        ]
        if not wanted and instance is None and (job is None) != (prompt_id is None):
            # It waits, has ended or was never there: cancelling does or says the right thing.
            return [(await self.cancel(job or prompt_id or "", user=user)).job.id]
        # One that ends at this moment needs no stopping.
        return [one.id for one in wanted if await self._cancel(one.id) != "already"]

    async def clear_queue(
        self, *, user: str | None = None, dialect: str | None = None
    ) -> list[str]:
        """Cancel all that waits, of ``user`` and submitted in ``dialect`` where given; the ids."""
        cleared: list[str] = []
        while True:
            some = await self._database.run(
                lambda conn: self._queue.cancel_queued(conn, user=user, dialect=dialect)
            )
            if not some:
                return cleared
            for id, owner in some:
                cleared.append(id)
                metrics.job_ended("", "cancelled")
                self._bus.publish(events.cancelled(id, owner))

    async def _cancel(self, id: str) -> Cancelled | None:
        outcome = await self._database.run(lambda conn: self._queue.cancel(conn, id))
        if outcome == "cancelled":
            view = await self.get(id)
            metrics.job_ended(view.job.workflow, "cancelled")
            self._bus.publish(events.cancelled(id, view.job.user))
        elif outcome == "requested":
            self._bus.wake("cancel")
        return outcome
