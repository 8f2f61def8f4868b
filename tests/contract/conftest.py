"""Databases to run a contract suite on: SQLite always, the servers where they are reachable.

ATELIER_TEST_POSTGRESQL_URL and ATELIER_TEST_MARIADB_URL name servers and a user who may create
databases. What isn't reachable is skipped by name, or fails under REQUIRE_SERVICES=1.
"""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg
import pymysql
import pytest
from sqlalchemy import URL, inspect, make_url, text

from atelier.database import Database

SERVERS = {
    "postgresql": (
        "ATELIER_TEST_POSTGRESQL_URL",
        "postgresql://postgres@127.0.0.1:5432/postgres",
    ),
    "mariadb": ("ATELIER_TEST_MARIADB_URL", "mysql://root@127.0.0.1:3306/"),
}


@pytest.fixture(scope="session", params=["sqlite", *SERVERS])
def database_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def new_database_url(
    database_kind: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], str]]:
    """A function that makes an empty database and returns its URL."""
    made: list[str] = []

    def make() -> str:
        name = f"atelier_test_{uuid.uuid4().hex[:12]}"
        if database_kind == "sqlite":
            return f"sqlite:///{tmp_path_factory.mktemp('database') / name}.db"
        _execute(database_kind, f"CREATE DATABASE {name}")
        made.append(name)
        return _server(database_kind).set(database=name).render_as_string(hide_password=False)

    yield make
    for name in made:
        force = " WITH (FORCE)" if database_kind == "postgresql" else ""
        _execute(database_kind, f"DROP DATABASE {name}{force}")


@pytest.fixture(scope="session")
def database_url(new_database_url: Callable[[], str]) -> str:
    """A database of this session's own, with all tables."""
    url = new_database_url()

    async def migrate() -> None:
        async with await Database.open(url) as database:
            await database.migrate()

    asyncio.run(migrate())
    return url


@pytest.fixture(scope="session")
def table_names(database_url: str) -> list[str]:
    async def read() -> list[str]:
        async with await Database.open(database_url) as database, database.read() as connection:
            return await connection.run_sync(lambda sync: inspect(sync).get_table_names())

    return [name for name in asyncio.run(read()) if name != "alembic_version"]


@pytest.fixture
async def database(database_url: str, table_names: list[str]) -> AsyncIterator[Database]:
    """An open database whose tables are empty."""
    async with await Database.open(database_url) as database:
        async with database.transaction() as connection:
            for name in table_names:
                await connection.execute(text(f"DELETE FROM {name}"))
        yield database


def _server(kind: str) -> URL:
    variable, default = SERVERS[kind]
    return make_url(os.environ.get(variable, default))


def _execute(kind: str, statement: str) -> None:
    url = _server(kind)
    try:
        connection: Any
        if kind == "postgresql":
            address = url.set(drivername="postgresql").render_as_string(hide_password=False)
            connection = psycopg.connect(address, autocommit=True, connect_timeout=3)
        else:
            connection = pymysql.connect(
                host=url.host or "127.0.0.1",
                port=url.port or 3306,
                user=url.username,
                password=url.password or "",
                connect_timeout=3,
            )
    except (psycopg.OperationalError, pymysql.OperationalError) as error:
        reason = f"{kind} isn't reachable at {url}: {error}"
        if os.environ.get("REQUIRE_SERVICES") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with closing(connection), connection.cursor() as cursor:
        cursor.execute(statement)
