"""Submit, claim and finish per second, on each database that can be reached."""

import asyncio
import os
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import make_url, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine

from atelier.database import Database
from atelier.database.engine import parse_url
from atelier.errors import AtelierError
from atelier.jobs.job import NewJob
from atelier.jobs.policy import Seat, choose
from atelier.jobs.queue import JobQueue
from bench.figure import Figure, skipped
from bench.plan import Plan

# As the tests: a server, and a user who may make databases.
SERVERS = {
    "PostgreSQL": (
        "ATELIER_TEST_POSTGRESQL_URL",
        "postgresql://postgres@127.0.0.1:5432/postgres",
    ),
    "MariaDB": ("ATELIER_TEST_MARIADB_URL", "mysql://root@127.0.0.1:3306/mysql"),
}
OUTPUT = {"id": "o", "key": "k.png", "media_type": "image/png", "size_bytes": 200, "node": "2"}


async def measure(plan: Plan) -> AsyncIterator[Figure]:
    """Three transactions a job, from one caller after another, and from eight at once."""
    count = plan.size(400, 40)
    with tempfile.TemporaryDirectory(prefix="atelier-bench-queue-") as folder:
        yield await _figure("SQLite", f"sqlite:///{Path(folder) / 'queue.db'}", plan, count)
    for name, (variable, default) in SERVERS.items():
        try:
            async with new_database(os.environ.get(variable, default)) as url:
                yield await _figure(name, url, plan, count)
        except (SQLAlchemyError, OSError, AtelierError) as error:
            yield skipped(f"queue on {name}", str(error).splitlines()[0][:80])


async def _figure(name: str, url: str, plan: Plan, count: int) -> Figure:
    async with await Database.open(url) as database:
        await database.migrate()
        one = await _rate(database, plan, count, callers=1)
        eight = await _rate(database, plan, count, callers=8)
        version = await database.version()
    measured = f"{one:.0f}/s one after another, {eight:.0f}/s by eight"
    return Figure(f"queue on {version}, submit + claim + finish", measured)


async def _rate(database: Database, plan: Plan, count: int, *, callers: int) -> float:
    queue = JobQueue(database.dialect)
    seat = Seat(instance="bench", capable=lambda _: True)
    left = iter(range(count))

    async def claim(conn: Any) -> Any:
        return await queue.claim(conn, worker="bench", seat=seat, choose=choose)

    async def call() -> None:
        for _ in left:
            new = _job(plan)
            await database.run(lambda conn, new=new: queue.insert(conn, new))  # type: ignore[misc]
            # By eight at once it may be another caller's job; each finishes what it got.
            claimed = None
            while claimed is None:
                claimed = await database.run(claim)
            await database.run(
                lambda conn, claimed=claimed: queue.finish(  # type: ignore[misc]
                    conn, claimed.job.id, claimed.lease, [OUTPUT], {"execute_ms": 1}
                )
            )

    began = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(callers)))
    return count / (time.perf_counter() - began)


def _job(plan: Plan) -> NewJob:
    return NewJob(
        id=str(uuid.uuid4()),
        user="bench",
        workflow="inline",
        workflow_version="1",
        variant="inline",
        requirement="bench",
        inputs={},
        graph=plan.colours.graph(plan.colours.draw()),
    )


@asynccontextmanager
async def new_database(server: str) -> AsyncIterator[str]:
    """The URL of a database that exists until the context is left."""
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
