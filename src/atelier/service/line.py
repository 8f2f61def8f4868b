"""What runs and what waits, in order."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from atelier.database import Database
from atelier.jobs.job import Job
from atelier.jobs.queue import JobQueue
from atelier.service.planning import Planner
from atelier.service.views import JobView, LineView, WebhookView


class Line(ABC):
    """A part of ``Generations``, which has the rest."""

    _database: Database
    _queue: JobQueue
    _planner: Planner

    @abstractmethod
    def _view(self, job: Job, position: int | None, webhook: WebhookView | None) -> JobView: ...

    async def line(self, limit: int) -> LineView:
        """The first ``limit`` of what runs and of what waits."""
        async with self._database.read() as conn:
            waiting_count, running_count = await self._queue.live(conn)
            under_way = [one.id for one in await self._queue.under_way(conn)]
            running = await self._queue.changed_since(conn, 0, under_way[:limit])
            waiting = await self._queue.next_in_line(conn, limit)
        return LineView(
            running=tuple(self._view(job, None, None) for job in running),
            waiting=tuple(
                self._view(job, place, None) for place, job in enumerate(waiting, start=1)
            ),
            running_count=running_count,
            waiting_count=waiting_count,
        )

    async def remaining(self) -> int:
        """How many jobs wait or run."""
        async with self._database.read() as conn:
            return sum(await self._queue.live(conn))

    def graph(self, view: JobView) -> Mapping[str, Any]:
        """The graph that the job runs; empty where it isn't known (yet)."""
        return self._planner.graph_of(view.job)
