"""Brings what a run made into the store, however long the store is away."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import structlog

from atelier.errors import AtelierError, StorageError
from atelier.jobs.job import Job
from atelier.pool.instance import Instance
from atelier.worker.context import Context
from atelier.worker.items import Item, Made
from atelier.worker.outputs import AT_ONCE, Collected, collect
from atelier.worker.spool import Spooled, with_ids

log = structlog.get_logger(__name__)

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 15.0


class Publication:
    """Of one job under one lease, from ``instance`` or from this machine's spool."""

    def __init__(self, context: Context, instance: Instance, job: Job, lease: int) -> None:
        self._context = context
        self._instance = instance
        self._job = job
        self._lease = lease
        self._spooled = False

    async def recover(self, variant: str) -> Spooled | None:
        """What an earlier run of this variant made, which could not be stored then."""
        found = await self._context.spool.find(self._job.id)
        if found is None or found.variant != variant:
            return None
        self._spooled = True
        return found

    async def collect(
        self,
        made: Made,
        *,
        variant: str,
        execute_ms: int,
        waiting: Callable[[], AbstractContextManager[None]],
    ) -> Collected:
        """As ``collect``; while the store is away ``made`` is spooled, and ``waiting`` entered.

        Raises what ``collect`` raises, but no StorageError that may pass; SpoolFull.
        """
        try:
            return await collect(self._context, self._instance, self._job, self._lease, made)
        except StorageError as error:
            if not error.retryable:
                raise
            reason = error.message
        if not self._spooled:
            made = await self._fetched(made)
            await self._context.spool.keep(self._job.id, Spooled(variant, execute_ms, made))
            self._spooled = True
        log.warning("the store is away; the result waits", job=self._job.id, reason=reason)
        with waiting():
            # The bytes are on the disk: of many results that wait only the names stay here.
            return await self._when_it_is_back(_without_bytes(made))

    async def forget(self) -> None:
        """Once the job has ended nothing of it need be kept here."""
        if self._spooled:
            await self._context.spool.drop(self._job.id)
            self._spooled = False

    async def _when_it_is_back(self, names: Made) -> Collected:
        context, job = self._context, self._job
        pause = FIRST_PAUSE_SECONDS
        while True:
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            found = await context.spool.find(job.id)
            if found is None:
                raise StorageError("Another worker has published this result meanwhile.")
            made = with_ids(found.made, like=names)
            try:
                return await collect(context, self._instance, job, self._lease, made)
            except StorageError as error:
                if not error.retryable:
                    raise
                log.info("the store is still away", job=job.id, reason=error.message)

    async def _fetched(self, made: Made) -> Made:
        """``made`` with all bytes. Raises InstanceError; a preview may be left out."""
        places = asyncio.Semaphore(AT_ONCE)

        async def fetch(item: Item) -> Item:
            if item.ref is None or item.data is not None:
                return item
            async with places:
                return replace(item, data=(await self._instance.client.view(item.ref)).data)

        async def try_fetch(item: Item) -> Item | None:
            try:
                return await fetch(item)
            except AtelierError:
                return None

        results = await asyncio.gather(*map(fetch, made.results))
        previews = await asyncio.gather(*map(try_fetch, made.previews))
        return Made(tuple(results), tuple(one for one in previews if one is not None))


def _without_bytes(made: Made) -> Made:
    return Made(
        tuple(replace(item, data=None) for item in made.results),
        tuple(replace(item, data=None) for item in made.previews),
    )
