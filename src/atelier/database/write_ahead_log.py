"""When what SQLite has committed is safe on the disk."""

import asyncio
import contextlib
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor

from atelier.database.errors import DatabaseUnavailable

# How often the log is carried over into the database file, so that it stays short.
FLUSHES_PER_CHECKPOINT = 100
# Without the times of the file, where the system knows the difference.
_sync = getattr(os, "fdatasync", os.fsync)


class WriteAheadLog:
    """What ``PRAGMA synchronous = FULL`` does at each commit, done once for all that wait.

    SQLite would hold its write lock meanwhile; here others commit while the disk works. What is
    in the log when a flush begins is safe when it has ended, and recovery takes whole commits in
    their order.
    """

    def __init__(self, database_path: str) -> None:
        self._database_path = database_path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="disk")
        self._flushing: asyncio.Task[None] | None = None
        self._next: asyncio.Future[None] | None = None
        self._flushes = 0

    async def flush(self) -> None:
        """Return once all that was committed before is safe. Raises DatabaseUnavailable."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        waiting = self._next
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush_all(), name="flush")
        # One who is cancelled must not take the others along.
        await asyncio.shield(waiting)

    async def close(self) -> None:
        """Wait for a flush that is under way."""
        if self._flushing is not None:
            await asyncio.wait([self._flushing])
        self._thread.shutdown(wait=False)

    async def _flush_all(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._next is not None:
                waiting, self._next = self._next, None
                try:
                    await loop.run_in_executor(self._thread, self._flush)
                except OSError as error:
                    failure = DatabaseUnavailable(f"The disk failed: {error.strerror}.")
                    failure.__cause__ = error
                    waiting.set_exception(failure)
                    waiting.exception()  # somebody may have stopped waiting
                else:
                    waiting.set_result(None)
        finally:
            self._flushing = None

    def _flush(self) -> None:
        try:
            log = os.open(f"{self._database_path}-wal", os.O_RDWR)
        except FileNotFoundError:
            return  # whoever removed it has carried all of it over
        try:
            _sync(log)
        finally:
            os.close(log)
        self._flushes += 1
        if self._flushes % FLUSHES_PER_CHECKPOINT == 0:
            # Another process may be at it: then the next time.
            with contextlib.suppress(sqlite3.Error):
                self._checkpoint()

    def _checkpoint(self) -> None:
        with contextlib.closing(sqlite3.connect(self._database_path, timeout=0)) as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
