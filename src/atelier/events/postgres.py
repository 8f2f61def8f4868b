"""Wakes between processes through PostgreSQL's LISTEN and NOTIFY: hints, where Redis is not.

A connection of its own hears, outside of the pool: what is notified comes to it at any moment.
What is told is told after a commit, by itself, and once for many: a NOTIFY within a transaction
that inserts jobs would make such transactions commit one after another.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import psycopg
import structlog
from psycopg import sql
from sqlalchemy import func, select

from atelier.database import Database, DatabaseUnavailable
from atelier.events.bus import WAKES, Wake

log = structlog.get_logger(__name__)

CHANNEL = "atelier_wake"
CONNECT_SECONDS = 5
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 5.0
# Wakes of this time are told together. News is for eyes, and comes often.
PACE_SECONDS = 0.005
NEWS_SECONDS = 0.05
PING_SECONDS = 30.0


class PostgresHints:
    """``async with PostgresHints(database, wake)``; ``wake`` is called with what others send."""

    def __init__(self, database: Database, wake: Callable[[Wake], None]) -> None:
        self._database = database
        self._wake = wake
        self._origin = secrets.token_hex(8)
        self._pending: dict[Wake, None] = {}
        self._some = asyncio.Event()
        self._connected = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._keeping = asyncio.create_task(self._keep_connected(), name="hints")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeping

    def send(self, what: Wake) -> None:
        """Wake other processes soon; what can't be sent now is forgotten: they look anyway."""
        if self._connected.is_set():
            self._pending[what] = None
            self._some.set()

    async def ready(self) -> None:
        """Return once hints come and go."""
        await self._connected.wait()

    async def _keep_connected(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                async with await self._connect() as ears:
                    await ears.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
                    pause = FIRST_PAUSE_SECONDS
                    self._connected.set()
                    # Something may have happened before this.
                    for what in WAKES:
                        self._wake(what)
                    await self._until_broken(ears)
            except (psycopg.Error, DatabaseUnavailable, OSError, TimeoutError) as error:
                log.info("PostgreSQL sends no hints; polling goes on", reason=str(error).strip())
            except Exception:
                log.exception("hints failed in a way nobody foresaw")
            finally:
                self._connected.clear()
                self._pending.clear()
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _connect(self) -> psycopg.AsyncConnection[tuple[object, ...]]:
        url = self._database.url.set(drivername="postgresql")
        address = url.render_as_string(hide_password=False)
        options: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS, "tcp_user_timeout": 15_000}
        given = {name: value for name, value in options.items() if name not in url.query}
        return await psycopg.AsyncConnection.connect(
            address, autocommit=True, application_name="atelier hints", **given
        )

    async def _until_broken(self, ears: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
        tasks = [asyncio.create_task(work) for work in (self._hear(ears), self._tell())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _hear(self, ears: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
        wakes: dict[str, Wake] = {what: what for what in WAKES}
        while True:
            async for notify in ears.notifies(timeout=PING_SECONDS):
                what, _, origin = notify.payload.partition(" ")
                if origin != self._origin and what in wakes:
                    self._wake(wakes[what])
            async with asyncio.timeout(CONNECT_SECONDS):
                await ears.execute("SELECT 1")

    async def _tell(self) -> None:
        loop = asyncio.get_running_loop()
        news_at = 0.0
        while True:
            await self._some.wait()
            self._some.clear()
            while list(self._pending) == ["news"] and loop.time() < news_at + NEWS_SECONDS:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(news_at + NEWS_SECONDS):
                        await self._some.wait()
                self._some.clear()
            wakes = list(self._pending)
            self._pending.clear()
            if "news" in wakes:
                news_at = loop.time()
            # Each statement of a reading connection is a transaction of its own.
            async with asyncio.timeout(CONNECT_SECONDS), self._database.read() as conn:
                for what in wakes:
                    await conn.execute(select(func.pg_notify(CHANNEL, f"{what} {self._origin}")))
            await asyncio.sleep(PACE_SECONDS)
