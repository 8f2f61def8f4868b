"""Says that this process lives, and tells who does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import structlog

from atelier.database import Database, DatabaseUnavailable
from atelier.presence import ProcessRecord, Register

log = structlog.get_logger(__name__)

EVERY_SECONDS = 4.0


class Presence:
    """``me`` is this process, ``running`` how many jobs it runs now."""

    def __init__(
        self,
        *,
        database: Database,
        register: Register,
        me: ProcessRecord,
        running: Callable[[], int],
    ) -> None:
        self._database = database
        self._register = register
        self._me = me
        self._running = running

    async def processes(self) -> list[ProcessRecord]:
        """API and worker processes that share the database, by id."""
        async with self._database.read() as conn:
            return await self._register.all(conn)

    @asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        """While the context lasts, this process is among them."""
        await self._say(self._register.enter)
        task = asyncio.create_task(self._keep(), name="presence")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            # Without this it falls silent by itself.
            with contextlib.suppress(DatabaseUnavailable):
                await self._database.run(
                    lambda conn: self._register.leave(conn, self._me.id),
                    durable=False,
                    attempts_seconds=1,
                )

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            await self._say(self._register.keep)

    async def _say(self, write: Callable[[Any, ProcessRecord], Awaitable[None]]) -> None:
        now = replace(self._me, running=self._running())
        try:
            await self._database.run(
                lambda conn: write(conn, now), durable=False, attempts_seconds=EVERY_SECONDS
            )
        except DatabaseUnavailable as error:
            log.debug("nobody can be told that this process lives", reason=error.message)
        except Exception:
            log.exception("presence failed in a way nobody foresaw")
