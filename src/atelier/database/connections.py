"""Connections that stay open, each used by one task at a time."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

# Servers and what stands before them close what is silent for minutes or hours.
LONGEST_SILENCE_SECONDS = 60.0


class Connections:
    """At most ``size`` connections, handed out in the order of asking.

    They stay checked out of SQLAlchemy's own pool: taking one from there and giving it back
    costs as much as a statement. One that has seen an exception is given back there, to be
    rolled back or replaced.
    """

    def __init__(self, engine: AsyncEngine, size: int) -> None:
        self._engine = engine
        self._free = asyncio.Semaphore(size)
        self._idle: list[tuple[AsyncConnection, float]] = []

    @asynccontextmanager
    async def take(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection, outside of a transaction, for the caller alone."""
        async with self._free:
            connection = await self._open()
            try:
                yield connection
            except BaseException:
                # Shielded from a second cancellation, as SQLAlchemy's own context is.
                await connection.__aexit__(None, None, None)
                raise
            self._idle.append((connection, time.monotonic()))

    async def _open(self) -> AsyncConnection:
        while self._idle:
            connection, used = self._idle.pop()
            if time.monotonic() - used <= LONGEST_SILENCE_SECONDS and not connection.invalidated:
                return connection
            await connection.invalidate()
            await connection.close()
        return await self._engine.connect()

    async def close(self) -> None:
        while self._idle:
            await self._idle.pop()[0].close()
        await self._engine.dispose()
