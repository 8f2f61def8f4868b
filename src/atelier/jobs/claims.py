"""The right to run a job: taken for a while, renewed, taken over from who has died."""

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    CursorResult,
    and_,
    bindparam,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from atelier.database import Dialect, now_ms
from atelier.jobs.job import RUNNING, Claim, Progress
from atelier.jobs.rows import job_of, select_jobs
from atelier.jobs.tables import RUNNING_ROWS, jobs

LEASE_MS = 15_000

_J = jobs.c
_NOW = now_ms().label("now_ms")
TAKEN: dict[str, Any] = {
    "status": RUNNING,
    "lease": _J.lease + 1,
    "attempts": _J.attempts + 1,
    "worker": bindparam("by"),
    "instance": bindparam("at"),
    "prompt_id": bindparam("prompt"),
    "lease_expires_at_ms": now_ms() + bindparam("lease_ms"),
    "charged_ms": _J.estimate_ms,
    "started_at_ms": bindparam("now"),
    "submitted_at_ms": None,
    "updated_at_ms": bindparam("now"),
    "percent": 0,
    "step": None,
    "steps": None,
    "node": None,
}
_HELD = and_(_J.id == bindparam("job_id"), _J.lease == bindparam("held"), RUNNING_ROWS)
_SUBMITTED = update(jobs).where(_HELD).values(submitted_at_ms=now_ms(), updated_at_ms=now_ms())
_RESUBMIT = (
    update(jobs)
    .where(_HELD)
    .values(
        prompt_id=bindparam("prompt"),
        instance=bindparam("at"),
        attempts=_J.attempts + 1,
        submitted_at_ms=None,
        updated_at_ms=now_ms(),
    )
)
_RENEW = (
    update(jobs)
    .where(_HELD, _J.worker == bindparam("by"))
    .values(lease_expires_at_ms=now_ms() + bindparam("lease_ms"))
)
_RENEW_MOVED = _RENEW.values(
    updated_at_ms=now_ms(),
    percent=bindparam("at"),
    step=bindparam("at_step"),
    steps=bindparam("of"),
    node=bindparam("at_node"),
)
_HELD_BY = select(_J.id, _J.lease, _J.cancel_requested).where(
    RUNNING_ROWS, _J.worker == bindparam("by")
)
_CANCEL_REQUESTS = select(_J.id).where(
    RUNNING_ROWS, _J.worker == bindparam("by"), _J.cancel_requested
)


@dataclass(frozen=True, slots=True)
class Renewed:
    """Which of the leases are no longer held, and whose jobs are to be cancelled."""

    lost: frozenset[str]
    cancel_requested: frozenset[str]


def taken(row: Any, worker: str, instance: str, prompt_id: str, now_ms: int) -> Claim:
    """The claim that ``TAKEN`` makes of a row that was locked."""
    job = job_of(
        row,
        status=RUNNING,
        lease=row.lease + 1,
        attempts=row.attempts + 1,
        worker=worker,
        instance=instance,
        prompt_id=prompt_id,
        started_at_ms=now_ms,
        submitted_at_ms=None,
        updated_at_ms=now_ms,
        progress=Progress(),
    )
    return Claim(job, job.lease, prompt_id)


class Claims:
    """Every claim raises the job's ``lease``; a write under an older number changes nothing.

    Leases run in the database's time, whatever the workers' clocks say.
    """

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        locked = select_jobs().add_columns(_NOW)
        # MariaDB knows no OF, and locking the details there too does no harm.
        only = jobs if dialect == "postgresql" else None
        self._locked = locked.with_for_update(skip_locked=True, of=only)
        self._lock_expired = (
            self._locked.where(
                RUNNING_ROWS,
                or_(
                    and_(
                        _J.lease_expires_at_ms <= now_ms(),
                        _J.instance.in_(bindparam("instances", expanding=True)),
                    ),
                    _J.lease_expires_at_ms <= now_ms() - bindparam("long_gone_ms"),
                ),
            )
            .order_by(_J.id)
            .limit(bindparam("limit"))
        )

    @staticmethod
    def new_prompt_id() -> str:
        return str(uuid.uuid4())

    async def reclaim(
        self,
        conn: AsyncConnection,
        *,
        worker: str,
        instances: Collection[str],
        lease_ms: int = LEASE_MS,
        limit: int = 50,
    ) -> list[Claim]:
        """Take over running jobs at ``instances`` whose leases have run out.

        Instance, prompt id and attempts stay, so that the new worker can reattach. A job whose
        lease ran out more than two lease times ago is taken over wherever it was: nobody else
        has its instance.
        """
        if not instances:
            instances = [""]
        rows = (
            await conn.execute(
                self._lock_expired,
                {"instances": list(instances), "long_gone_ms": 2 * lease_ms, "limit": limit},
            )
        ).all()
        if not rows:
            return []
        await conn.execute(
            update(jobs)
            .where(_J.id.in_([row.id for row in rows]))
            .values(
                lease=_J.lease + 1,
                worker=worker,
                lease_expires_at_ms=now_ms() + lease_ms,
                updated_at_ms=rows[0].now_ms,
            )
        )
        return [self._taken_over(row, worker) for row in rows]

    @staticmethod
    def _taken_over(row: Any, worker: str) -> Claim:
        job = job_of(row, lease=row.lease + 1, worker=worker, updated_at_ms=row.now_ms)
        return Claim(job, job.lease, row.prompt_id)

    async def mark_submitted(self, conn: AsyncConnection, id: str, lease: int) -> bool:
        """Record that ComfyUI has taken the prompt; False when the lease is stale."""
        return await self._held(conn, _SUBMITTED, id, lease)

    async def resubmit(
        self, conn: AsyncConnection, id: str, lease: int, prompt_id: str, instance: str
    ) -> bool:
        """Record, before it is sent, that the job runs again as ``prompt_id`` at ``instance``.

        Counts an attempt. False when the lease is stale.
        """
        return await self._held(conn, _RESUBMIT, id, lease, prompt=prompt_id, at=instance)

    @staticmethod
    async def _held(
        conn: AsyncConnection, statement: Any, id: str, lease: int, **values: Any
    ) -> bool:
        result: CursorResult[Any] = await conn.execute(
            statement, {"job_id": id, "held": lease, **values}
        )
        return result.rowcount == 1

    async def renew(
        self,
        conn: AsyncConnection,
        worker: str,
        lease_ms: int,
        leases: Mapping[str, int],
        progress: Mapping[str, Progress] | None = None,
    ) -> Renewed:
        """Extend the leases (job id -> number) that ``worker`` still holds, and store progress.

        One that has run out but that nobody has taken over is held still.
        """
        if not leases:
            return Renewed(frozenset(), frozenset())
        moved, still = [], []
        for id in sorted(leases):
            row = {"job_id": id, "held": leases[id], "by": worker, "lease_ms": lease_ms}
            at = (progress or {}).get(id)
            if at is None:
                still.append(row)
            else:
                now_at = {"at": at.percent, "at_step": at.step, "of": at.steps, "at_node": at.node}
                moved.append({**row, **now_at})
        # Not one statement for all: it would be compiled anew for each number of leases.
        if moved:
            await conn.execute(_RENEW_MOVED, moved)
        if still:
            await conn.execute(_RENEW, still)
        rows = (await conn.execute(_HELD_BY, {"by": worker})).all()
        held = {row.id: row.cancel_requested for row in rows if leases.get(row.id) == row.lease}
        return Renewed(
            lost=frozenset(leases.keys() - held.keys()),
            cancel_requested=frozenset(id for id, requested in held.items() if requested),
        )

    async def cancel_requests(self, conn: AsyncConnection, worker: str) -> frozenset[str]:
        """The ids of the jobs that ``worker`` runs and that are to be cancelled."""
        return frozenset((await conn.execute(_CANCEL_REQUESTS, {"by": worker})).scalars())

    async def release_worker(self, conn: AsyncConnection, worker: str) -> int:
        """End all leases of ``worker`` now; return how many. The jobs are there to reclaim."""
        held = await conn.execute(
            select(_J.id).where(RUNNING_ROWS, _J.worker == worker).order_by(_J.id)
        )
        ids = list(held.scalars())
        if not ids:
            return 0
        result: CursorResult[Any] = await conn.execute(
            update(jobs)
            .where(_J.id.in_(ids), _J.worker == worker, RUNNING_ROWS)
            .values(lease_expires_at_ms=now_ms())
        )
        return result.rowcount
