"""SQLite: one connection that writes, several that read and are never in its way."""

import os
import sqlite3
from pathlib import Path
from typing import Any

import aiosqlite
from sqlalchemy import URL, event
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from atelier.database.errors import DatabaseNotWritable, translate_errors

BUSY_TIMEOUT_SECONDS = 5


def prepare_file(url: URL) -> None:
    """Make the folder of an SQLite file; raise DatabaseNotWritable where that can't work."""
    path = Path(url.database or "")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatabaseNotWritable(
            f"The folder {path.parent} can't be made: {error.strerror}."
        ) from error
    # WAL keeps two more files beside the database: a writable file alone isn't enough.
    for needed in (path.parent, path):
        if needed.exists() and not os.access(needed, os.W_OK):
            raise DatabaseNotWritable(f"{needed} can't be written.")
    if path.is_dir():
        raise DatabaseNotWritable(f"{path} is a folder, not a database file.")


def open_sqlite(url: URL, *, writer: bool, size: int) -> AsyncEngine:
    """An engine whose transactions begin with BEGIN IMMEDIATE, or one that only reads."""

    async def connect() -> _Connection:
        return await _Connection(url.database or "", inline=writer)  # type: ignore[return-value]

    engine = create_async_engine(
        url,
        async_creator=connect,
        pool_size=size,
        max_overflow=0,
        pool_timeout=30,
        pool_use_lifo=True,
        pool_reset_on_return=None,
    )
    translate_errors(engine, "sqlite")

    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: Any, record: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA foreign_keys = ON")
        if writer:
            # What waits for the disk is done by WriteAheadLog, in a thread.
            cursor.execute("PRAGMA synchronous = NORMAL")
            cursor.execute("PRAGMA wal_autocheckpoint = 0")
            cursor.execute("PRAGMA busy_timeout = 0")
        else:
            cursor.execute("PRAGMA query_only = ON")
        cursor.close()

    if writer:

        @event.listens_for(engine.sync_engine, "begin")
        def on_begin(connection: Connection) -> None:
            driver: Any = connection.connection.driver_connection
            driver.begin_with_next_statement()

    return engine


class _Connection(aiosqlite.Connection):
    """aiosqlite's connection without most of its hops between threads.

    A reader makes one hop per statement instead of four. The writer executes where it is
    called: its statements touch a few rows and take less than a hop does, and its commits don't
    wait for the disk. What can block is left to the thread: a beginning for which another
    process has to be waited for.
    """

    def __init__(self, path: str, *, inline: bool) -> None:
        def connect() -> sqlite3.Connection:
            # isolation_level=None: the module opens no transactions of its own.
            return sqlite3.connect(
                path,
                timeout=BUSY_TIMEOUT_SECONDS,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=256,
            )

        super().__init__(connect, iter_chunk_size=64)
        self._thread.daemon = True
        self._inline = inline
        self._begin_pending = self._in_transaction = False

    def begin_with_next_statement(self) -> None:
        self._begin_pending = True

    async def _begin(self) -> None:
        self._begin_pending, self._in_transaction = False, True
        try:
            self._conn.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            await self._execute(self._begin_patiently)  # type: ignore[no-untyped-call]

    def _begin_patiently(self) -> None:
        self._conn.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_SECONDS * 1000}")
        try:
            self._conn.execute("BEGIN IMMEDIATE")
        finally:
            self._conn.execute("PRAGMA busy_timeout = 0")

    def cursor(self) -> "_Cursor":  # type: ignore[override]
        return _Cursor(self)

    async def commit(self) -> None:
        if self._end():
            if self._inline:
                self._conn.commit()
            else:
                await super().commit()

    async def rollback(self) -> None:
        if self._end():
            await super().rollback()

    def _end(self) -> bool:
        begun, self._begin_pending, self._in_transaction = self._in_transaction, False, False
        return begun

    async def run(self, statement: str, parameters: Any, *, many: bool) -> "_Answer":
        if self._begin_pending:
            await self._begin()
        if self._inline:
            return self._run(statement, parameters, many)
        answer: _Answer = await self._execute(self._run, statement, parameters, many)  # type: ignore[no-untyped-call]
        return answer

    def _run(self, statement: str, parameters: Any, many: bool) -> "_Answer":
        cursor = self._conn.cursor()
        try:
            (cursor.executemany if many else cursor.execute)(statement, parameters)
            rows = cursor.fetchall() if cursor.description else []
            return rows, cursor.description, cursor.rowcount, cursor.lastrowid
        finally:
            cursor.close()


_Answer = tuple[list[Any], Any, int, int | None]


class _Cursor:
    """What SQLAlchemy needs of an asynchronous cursor, with the whole answer in memory."""

    arraysize = 1

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._rows: list[Any] = []
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None

    async def __aenter__(self) -> "_Cursor":
        return self

    async def execute(self, statement: str, parameters: Any = ()) -> None:
        self._keep(await self._connection.run(statement, parameters, many=False))

    async def executemany(self, statement: str, parameters: Any) -> None:
        self._keep(await self._connection.run(statement, parameters, many=True))

    def _keep(self, answer: _Answer) -> None:
        self._rows, self.description, self.rowcount, self.lastrowid = answer

    async def fetchall(self) -> list[Any]:
        return self._rows

    async def close(self) -> None:
        self._rows = []
