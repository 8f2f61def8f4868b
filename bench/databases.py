"""Empty databases to measure on: SQLite, and each server that can be reached."""

import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from atelier.database import Database
from atelier.database.engine import parse_url

# As the tests: a server, and a user who may make databases.
SERVERS = {
    "PostgreSQL": (
        "ATELIER_TEST_POSTGRESQL_URL",
        "postgresql://postgres@127.0.0.1:5432/postgres",
    ),
    "MariaDB": ("ATELIER_TEST_MARIADB_URL", "mysql://root@127.0.0.1:3306/mysql"),
}


def databases() -> Iterator[tuple[str, AbstractAsyncContextManager[Database]]]:
    """By name, each a context that makes a database with all tables and removes it at the end."""
    yield "SQLite", _on_sqlite()
    for name, (variable, default) in SERVERS.items():
        yield name, _on_server(os.environ.get(variable, default))


@asynccontextmanager
async def _on_sqlite() -> AsyncIterator[Database]:
    with tempfile.TemporaryDirectory(prefix="atelier-bench-queue-") as folder:
        async with await Database.open(f"sqlite:///{Path(folder) / 'queue.db'}") as database:
            await database.migrate()
            yield database


@asynccontextmanager
async def _on_server(server: str) -> AsyncIterator[Database]:
    async with new_database(server) as url, await Database.open(url) as database:
        await database.migrate()
        yield database


@asynccontextmanager
async def new_database(server: str) -> AsyncIterator[str]:
    """The URL of an empty database at ``server``, which is removed at the end."""
    url = parse_url(server)
    name = f"atelier_bench_{uuid.uuid4().hex[:8]}"
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            await connection.execute(text(f"CREATE DATABASE {name}"))
        try:
            yield make_url(server).set(database=name).render_as_string(hide_password=False)
        finally:
            async with engine.connect() as connection:
                await connection.execute(text(f"DROP DATABASE {name}"))
    finally:
        await engine.dispose()
