"""The one door to the database: transactions, reading, migrating, and being sure of its age."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from sqlalchemy import URL
from sqlalchemy.engine import Connection
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection

from atelier.database.connections import Connections
from atelier.database.engine import open_engines, parse_url
from atelier.database.errors import DatabaseFull, DatabaseTooOld, DatabaseUnavailable
from atelier.database.grouping import MOST, Grouped, WorkOnMany
from atelier.database.revisions import check_revision, upgrade
from atelier.database.sqlite import prepare_file
from atelier.database.write_ahead_log import WriteAheadLog

# Its own: the module's is seeded by who wants to repeat things.
_CHANCE = random.Random()

A = TypeVar("A")
T = TypeVar("T")
Dialect = Literal["sqlite", "postgresql", "mysql"]
Work = Callable[[AsyncConnection], Awaitable[T]]

TRANSACTION_TIMEOUT_SECONDS = 30
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.01, 1.0

# The oldest releases with what is used: RETURNING, SKIP LOCKED, window functions.
OLDEST = {"sqlite": (3, 35), "postgresql": (12,), "mysql": (8, 0, 1), "mariadb": (10, 6)}
NAMES = {
    "sqlite": "SQLite",
    "postgresql": "PostgreSQL",
    "mysql": "MySQL",
    "mariadb": "MariaDB",
}


class Database:
    """A pool of connections for transactions and one for reading.

    ``dialect`` is what SQL differs by; MariaDB counts as ``mysql``.
    """

    def __init__(self, url: URL, writers: Connections, readers: Connections) -> None:
        self.url = url
        self.dialect: Dialect = url.get_backend_name()  # type: ignore[assignment]
        self._writers = writers
        self._readers = readers
        self._grouped: list[Grouped[Any, Any]] = []
        self.retries = 0  # of transactions and queries, since the start
        self._log = WriteAheadLog(url.database or "") if self.dialect == "sqlite" else None

    @classmethod
    async def open(cls, url: str, *, writers: int = 8, readers: int = 5) -> Self:
        """Return the database at ``url``, connected to once so that mistakes show here.

        ``writers`` and ``readers`` are the most connections of each kind; SQLite has one writer.
        Raises DatabaseRefused, DatabaseNotWritable, DatabaseDamaged or DatabaseUnavailable.
        """
        parsed = parse_url(url)
        if parsed.get_backend_name() == "sqlite":
            prepare_file(parsed)
            # Waiting for our own turn is fair and cancellable; for SQLite's lock it is neither.
            writers = 1
        writer, reader = open_engines(parsed, writers=writers, readers=readers)
        database = cls(parsed, Connections(writer, writers), Connections(reader, readers))
        try:
            # The writer comes first: only it can make an SQLite file.
            async with database.transaction(), database.read():
                return database
        except BaseException:
            await database.close()
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        for grouped in self._grouped:
            await grouped.close()
        if self._log is not None:
            await self._log.close()
        await self._readers.close()
        await self._writers.close()

    @asynccontextmanager
    async def transaction(
        self,
        *,
        durable: bool = True,
        timeout_seconds: float | None = TRANSACTION_TIMEOUT_SECONDS,
    ) -> AsyncIterator[AsyncConnection]:
        """Yield a connection whose work is committed at the end, or undone by an exception.

        ``durable`` as for ``run``. Raises DatabaseUnavailable when the database can't do it now;
        ``run`` tries again then.
        """
        with _translated():
            async with asyncio.timeout(timeout_seconds):
                async with self._writers.take() as connection:
                    # Sends nothing by itself: no driver begins before the first statement.
                    _sync(connection).begin()
                    yield connection
                    await connection.commit()
                if durable:
                    await self.flush()

    async def flush(self) -> None:
        """Return once a power loss can undo nothing that was committed here.

        Raises DatabaseUnavailable.
        """
        if self._log is not None:
            await self._log.flush()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection for reading; each statement sees what is committed by then."""
        with _translated():
            async with (
                asyncio.timeout(TRANSACTION_TIMEOUT_SECONDS),
                self._readers.take() as connection,
            ):
                yield connection
                await connection.rollback()

    async def run(
        self, work: Work[T], *, durable: bool = True, attempts_seconds: float = 10.0
    ) -> T:
        """Return what ``work`` returns, done in a transaction of its own.

        ``work`` runs again after a deadlock, a lock wait or a lost connection, so it must only
        touch the database. A loss during the commit leaves open whether it took effect: ``work``
        must bear being repeated. What isn't ``durable`` outlives this process, but on SQLite a
        power loss only after the next ``flush``, or the next that is durable.
        Raises DatabaseUnavailable after ``attempts_seconds``.
        """

        async def attempt() -> T:
            async with self.transaction(durable=durable) as connection:
                return await work(connection)

        return await _persist(attempt, attempts_seconds, self._count_retry)

    def grouped(
        self, work: WorkOnMany[A, T], *, durable: bool = True, most: int = MOST
    ) -> Grouped[A, T]:
        """Let ``work`` be done for many callers by one transaction; see ``Grouped``.

        ``durable`` as for ``run``.
        """
        grouped = Grouped(
            lambda one: self.run(one, durable=False),
            work,
            settle=self.flush if durable else None,
            most=most,
        )
        self._grouped.append(grouped)
        return grouped

    async def query(self, work: Work[T], *, attempts_seconds: float = 10.0) -> T:
        """Return what ``work`` reads, trying again as ``run`` does."""

        async def attempt() -> T:
            async with self.read() as connection:
                return await work(connection)

        return await _persist(attempt, attempts_seconds, self._count_retry)

    def _count_retry(self) -> None:
        self.retries += 1

    async def migrate(self) -> None:
        """Bring the tables up to date; several processes may do so at once."""
        await self._check_age()
        async with self.transaction(timeout_seconds=None) as connection:
            await upgrade(connection)

    async def check(self) -> None:
        """Raise DatabaseTooOld, SchemaTooOld or SchemaTooNew where this program can't work."""
        await self._check_age()
        async with self.read() as connection:
            await check_revision(connection)

    async def version(self) -> str:
        """The name and release of the server or library, such as ``MariaDB 10.11.6``."""
        kind, release = await self._release()
        return f"{NAMES[kind]} {'.'.join(map(str, release))}"

    async def _check_age(self) -> None:
        kind, release = await self._release()
        require_release(kind, release)

    async def _release(self) -> tuple[str, tuple[int, ...]]:
        async with self.read() as connection:
            dialect = connection.dialect
        kind = "mariadb" if getattr(dialect, "is_mariadb", False) else self.dialect
        numbers = dialect.server_version_info or ()
        return kind, tuple(part for part in numbers if isinstance(part, int))


def require_release(kind: str, release: tuple[int, ...]) -> None:
    """Raise DatabaseTooOld unless ``release`` of ``kind`` (a key of OLDEST) is recent enough."""
    if release < OLDEST[kind]:
        oldest = ".".join(map(str, OLDEST[kind]))
        raise DatabaseTooOld(
            f"{NAMES[kind]} {'.'.join(map(str, release))} is too old.",
            hint=f"{NAMES[kind]} {oldest} or newer is needed.",
        )


def _sync(connection: AsyncConnection) -> Connection:
    if connection.sync_connection is None:
        raise DatabaseUnavailable("The database has been closed.")
    return connection.sync_connection


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except PoolTimeout as error:
        raise DatabaseUnavailable("All connections to the database are busy.") from error
    except TimeoutError as error:
        raise DatabaseUnavailable("The database didn't answer in time.") from error


async def _persist(
    attempt: Callable[[], Awaitable[T]], seconds: float, on_retry: Callable[[], None]
) -> T:
    deadline = time.monotonic() + seconds
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            return await attempt()
        except DatabaseFull:
            raise
        except DatabaseUnavailable:
            wait = pause * _CHANCE.uniform(0.5, 1.5)
            if time.monotonic() + wait > deadline:
                raise
            on_retry()
            await asyncio.sleep(wait)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
