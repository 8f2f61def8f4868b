"""Looks at the records while all goes on: who takes over what, what changes after its end."""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.exc import DBAPIError

from bench.chaos.databases import OwnDatabase

LOOK_SECONDS = 0.2
ENDS_SECONDS = 2.0


@dataclass(slots=True)
class Interrupted:
    """A job whose worker was killed or frozen; ``resumed_at`` when another lease had it."""

    job: str
    lease: int
    prompt: str
    at: float
    all_workers: bool
    resumed_at: float | None = None
    ended_first: bool = False


@dataclass(slots=True)
class Watcher:
    """``run`` until cancelled. ``ends``: job id -> its record when it was first seen ended."""

    database: OwnDatabase
    interrupted: list[Interrupted] = field(default_factory=list)
    ends: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _pending: list[Interrupted] = field(default_factory=list)

    async def struck(self, worker: str, at: float, *, all_workers: bool) -> None:
        """Note the running jobs of a worker that was killed or frozen just now."""
        statement = (
            "SELECT id, lease, prompt_id FROM jobs WHERE status = 'running' AND worker = :worker"
        )
        rows = await self._rows(statement, worker=worker)
        for row in rows:
            job = Interrupted(str(row["id"]), row["lease"], str(row["prompt_id"]), at, all_workers)
            self._pending.append(job)

    async def run(self) -> None:
        looked = 0.0
        since = 0
        while True:
            await self._look_for_takeovers()
            if time.monotonic() - looked > ENDS_SECONDS:
                looked = time.monotonic()
                statement = (
                    "SELECT id, lease, status, finished_at_ms, prompt_id FROM jobs"
                    " WHERE finished_at_ms >= :since"
                )
                for row in await self._rows(statement, since=since - 10_000):
                    self.ends.setdefault(str(row["id"]), dict(row))
                    since = max(since, row["finished_at_ms"])
            await asyncio.sleep(LOOK_SECONDS)

    async def _look_for_takeovers(self) -> None:
        if not self._pending:
            return
        statement = "SELECT id, lease, status FROM jobs WHERE id IN :ids"
        rows = await self._rows(statement, ids=[job.job for job in self._pending])
        now = time.time()
        found = {str(row["id"]): row for row in rows}
        for job in list(self._pending):
            row = found.get(job.job)
            if row is None:
                continue
            if row["lease"] != job.lease:
                job.resumed_at = now
            elif row["status"] != "running":
                # It was recorded in the moment of the blow.
                job.ended_first = True
            else:
                continue
            self._pending.remove(job)
            self.interrupted.append(job)

    async def _rows(self, statement: str, **values: Any) -> Any:
        # The sessions of the watcher may be ended too; then the next look finds it.
        with contextlib.suppress(DBAPIError):
            return await asyncio.to_thread(self.database.rows, statement, **values)
        return []

    @property
    def unresumed(self) -> list[Interrupted]:
        return self._pending
