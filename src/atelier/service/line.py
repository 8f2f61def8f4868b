"""What runs and what waits, in order."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from atelier.database import Database
from atelier.jobs.job import QUEUED, Job
from atelier.jobs.queue import JobQueue
from atelier.service.outlook import Outlook, Place
from atelier.service.planning import Planner
from atelier.service.views import JobView, LineView, WebhookView

_LAST = Place(sys.maxsize, None)


class Line(ABC):
    """A part of ``Generations``, which has the rest."""

    _database: Database
    _queue: JobQueue
    _planner: Planner
    _outlook: Outlook

    @abstractmethod
    def _view(self, job: Job, place: Place | None, webhook: WebhookView | None) -> JobView: ...

    async def line(self, limit: int) -> LineView:
        """The first ``limit`` of what runs and of what waits."""
        async with self._database.read() as conn:
            waiting_count, running_count = await self._queue.live(conn)
            under_way = [one.id for one in await self._queue.under_way(conn)]
            running = await self._queue.changed_since(conn, 0, under_way[:limit])
            waiting = await self._queue.next_in_line(conn, limit)
        places = await self._places(waiting)
        waiting = sorted(waiting, key=lambda job: places.get(job.id, _LAST))
        return LineView(
            running=tuple(self._view(job, None, None) for job in running),
            waiting=tuple(self._view(job, places.get(job.id), None) for job in waiting),
            running_count=running_count,
            waiting_count=waiting_count,
        )

    async def _places(self, jobs: Sequence[Job]) -> dict[str, Place]:
        """Where those of ``jobs`` stand that are queued."""
        queued = [job.id for job in jobs if job.status == QUEUED]
        if not queued:
            return {}
        await self._outlook.look()
        async with self._database.read() as conn:
            return await self._outlook.places(conn, queued)

    async def remaining(self) -> int:
        """How many jobs wait or run."""
        async with self._database.read() as conn:
            return sum(await self._queue.live(conn))

    def graph(self, view: JobView) -> Mapping[str, Any]:
        """The graph that the job runs; empty where it isn't known (yet)."""
        return self._planner.graph_of(view.job)
