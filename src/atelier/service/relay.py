"""Brings what workers in other processes record to the listeners of this one."""

import asyncio
from collections.abc import Callable, Collection, Mapping

import structlog

from atelier.database import Database, DatabaseUnavailable
from atelier.events import event as events
from atelier.events.bus import Bus
from atelier.events.event import Order
from atelier.jobs.job import TERMINAL, Job
from atelier.jobs.queue import JobQueue
from atelier.service.views import OutputView

log = structlog.get_logger(__name__)

EVERY_SECONDS = 0.5
CONNECTED_SECONDS = 2.0  # where workers tell by themselves, and only losses are to be found
LEAST_SECONDS = 0.05
TOLD_AS = {
    "succeeded": "finished",
    "failed": "failed",
    "cancelled": "cancelled",
    "queued": "retrying",
}


class Relay:
    """Polls the jobs that somebody listens to, with two queries for all listeners.

    What the bus has told already isn't told again. ``worker`` is the one of this process, which
    tells about its jobs itself; ``own`` gives the ids of those that it runs.
    """

    def __init__(
        self,
        *,
        database: Database,
        queue: JobQueue,
        bus: Bus,
        worker: str | None = None,
        own: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._database = database
        self._queue = queue
        self._bus = bus
        self._worker = worker
        self._own = own
        self._seen: dict[str, tuple[object, ...]] = {}
        self._submitted: set[str] = set()  # here, and not seen in the database since

    def expect(self, job: str) -> None:
        """Look at ``job`` next time: it may end before anybody has asked for it."""
        if self._bus.listeners:
            self._submitted.add(job)

    async def run(self) -> None:
        async with self._bus.wakeups("news") as news:
            while True:
                await asyncio.sleep(LEAST_SECONDS)
                await news.wait(CONNECTED_SECONDS if self._bus.connected else EVERY_SECONDS)
                try:
                    await self._look()
                except DatabaseUnavailable:
                    continue
                except Exception:
                    log.exception("relaying failed in a way nobody foresaw")

    async def _look(self) -> None:
        watched = self._bus.watched()
        if not (watched.jobs or watched.users):
            self._seen.clear()
            self._submitted.clear()
            return
        began = self._bus.newest
        async with self._database.read() as conn:
            live = await self._queue.live_ids(conn, watched.users)
            ending = {id for id, state in self._seen.items() if state[0] not in TERMINAL}
            wanted = (watched.jobs | live | ending | self._submitted).difference(self._own())
            jobs = await self._queue.changed_since(conn, 0, wanted)
        known, self._seen = self._seen, {}
        for job in jobs:
            state = (job.status, job.attempts, job.lease, job.progress)
            self._seen[job.id] = state
            if known.get(job.id) == state or (self._worker and job.worker == self._worker):
                continue
            # Its listener began with a snapshot, but it may have moved on since then.
            if job.id in known or job.status != "queued":
                for event in self._news_of(job, began):
                    self._bus.publish_here(event)
        self._submitted -= known.keys() | self._seen.keys()

    def _news_of(self, job: Job, began: Order) -> list[events.Event]:
        """What the record says and listeners don't know; it was read after ``began``."""
        last, told = self._bus.last_of(job.id), self._bus.progress_of(job.id)
        if last is not None and last.type == TOLD_AS.get(job.status):
            return []
        if last is not None and last.ends and job.status not in TERMINAL:
            if last.order > began:
                return []  # it ended while we were reading
            return [events.queued(job.id, job.user), *_events_of(job)]
        if job.status == "running" and told is not None:
            return [] if told.data["percent"] >= job.progress.percent else _events_of(job)
        return _events_of(job)


def _events_of(job: Job) -> list[events.Event]:
    match job.status:
        case "running":
            return [_progress(job)]
        case "succeeded":
            outputs = [_output(output) for output in job.outputs]
            return [events.finished(job.id, job.user, outputs=outputs, seed=job.seed)]
        case "failed":
            error = job.error or {}
            return [events.failed(job.id, job.user, error=error, attempts=job.attempts)]
        case "cancelled":
            return [events.cancelled(job.id, job.user)]
        case "queued" if job.attempts:
            return [events.retrying(job.id, job.user, error=job.error, attempt=job.attempts)]
        case _:
            return []


def _progress(job: Job) -> events.Event:
    at = job.progress
    return events.progress(
        job.id, job.user, percent=at.percent, step=at.step, steps=at.steps, node=at.node
    )


def _output(record: Mapping[str, object]) -> dict[str, object]:
    return OutputView.of(record).as_dict()
