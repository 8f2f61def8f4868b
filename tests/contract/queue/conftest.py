"""A queue on each database, and short ways to fill it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import uuid_utils
from first_come import Seat, claim_first
from sqlalchemy import update

from atelier.database import Database, now_ms
from atelier.jobs.job import Claim, Job, NewJob, Status
from atelier.jobs.queue import JobQueue
from atelier.jobs.tables import jobs


def new_job(**fields: Any) -> NewJob:
    given = {
        "id": str(uuid_utils.uuid7()),
        "user": "ada",
        "workflow": "style_change",
        "workflow_version": "1",
        "requirement": "any",
    }
    return NewJob(**(given | fields))


def seat(instance: str = "gpu-1", able: Callable[[str], bool] = lambda _: True) -> Seat:
    return Seat(instance, able)


@dataclass
class Bench:
    """A queue whose every call is a transaction of its own."""

    database: Database
    queue: JobQueue

    new = staticmethod(new_job)
    seat = staticmethod(seat)

    async def do(self, method: str, *arguments: Any, **options: Any) -> Any:
        call: Callable[..., Awaitable[Any]] = getattr(self.queue, method)
        return await self.database.run(lambda conn: call(conn, *arguments, **options))

    async def put(self, **fields: Any) -> Job:
        job, created = await self.do("insert", new_job(**fields))
        assert created
        return job  # type: ignore[no-any-return]

    async def claim(self, worker: str = "w1", at: Seat | None = None, **options: Any) -> Any:
        return await self.database.run(
            lambda conn: claim_first(self.queue, conn, worker=worker, seat=at or seat(), **options)
        )

    async def claimed(self, **fields: Any) -> Claim:
        """A job that has just been claimed by worker w1 at gpu-1."""
        job = await self.put(**fields)
        claim = await self.claim()
        assert claim is not None
        assert claim.job.id == job.id
        return claim  # type: ignore[no-any-return]

    async def look(self, method: str, *arguments: Any, **options: Any) -> Any:
        call: Callable[..., Awaitable[Any]] = getattr(self.queue, method)
        async with self.database.read() as conn:
            return await call(conn, *arguments, **options)

    async def get(self, id: str) -> Job:
        job = await self.look("get", id, include_deleted=True)
        assert job is not None
        return job  # type: ignore[no-any-return]

    async def status(self, id: str) -> Status:
        return (await self.get(id)).status

    async def expire(self, id: str, *, ago_ms: int = 1) -> None:
        """Let the lease have run out ``ago_ms`` ago."""
        await self._write(id, lease_expires_at_ms=now_ms() - ago_ms)

    async def let_run(self, id: str) -> None:
        """End the wait before the next attempt."""
        await self._write(id, run_after_ms=now_ms())

    async def _write(self, id: str, **values: Any) -> None:
        await self.database.run(
            lambda conn: conn.execute(update(jobs).where(jobs.c.id == id).values(values))
        )


@pytest.fixture
def bench(database: Database) -> Bench:
    return Bench(database, JobQueue(database.dialect))
