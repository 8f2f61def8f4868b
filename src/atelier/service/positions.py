"""Tells those who listen when their place in the queue changes."""

import asyncio

import structlog

from atelier.database import Database, DatabaseUnavailable
from atelier.events import event as events
from atelier.events.bus import Bus
from atelier.jobs.queue import JobQueue
from atelier.service.outlook import Outlook

log = structlog.get_logger(__name__)

EVERY_SECONDS = 1.0
NEXT = 200  # places further back change too often to be news


class PositionTeller:
    """Publishes ``position`` events for the first of the queue while anybody listens."""

    def __init__(self, *, database: Database, queue: JobQueue, bus: Bus, outlook: Outlook) -> None:
        self._database = database
        self._queue = queue
        self._bus = bus
        self._outlook = outlook
        self._told: dict[str, int] = {}

    async def run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            if not self._bus.listeners:
                self._told.clear()
                continue
            try:
                await self._tell()
            except DatabaseUnavailable:
                continue
            except Exception:
                log.exception("telling places failed in a way nobody foresaw")

    async def _tell(self) -> None:
        self._outlook.changed()
        await self._outlook.look()
        async with self._database.read() as conn:
            waiting = await self._queue.next_in_line(conn, NEXT)
            places = await self._outlook.places(conn, [job.id for job in waiting])
        told = {}
        for job in waiting:
            if (place := places.get(job.id)) is None:
                continue
            position, eta = place
            told[job.id] = position
            before = self._told.get(job.id)
            if before is not None and before != position:
                self._bus.publish_here(
                    events.position(job.id, job.user, position=position, eta_seconds=eta)
                )
        self._told = told
