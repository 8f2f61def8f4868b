"""The right to run a job: taken for a while, renewed, taken over from who has died."""

import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
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
from atelier.jobs.policy import Candidate, Seat
from atelier.jobs.rows import job_of, select_jobs
from atelier.jobs.tables import QUEUED_ROWS, RUNNING_ROWS, jobs

Choose = Callable[[Sequence[Candidate], Seat, int], Candidate | None]

LEASE_MS = 15_000
# Pages of candidates that a claim looks through before it lets the seat wait.
LONGEST_SEARCH_PAGES = 20

_J = jobs.c
_NOW = now_ms().label("now_ms")
_CANDIDATES = (
    # In the order of Candidate's fields.
    select(
        _J.id,
        _J.seq,
        (-_J.precedence).label("priority"),
        _J.user_id,
        _J.workflow,
        _J.variant,
        _J.requirement,
        _J.model,
        _J.created_at_ms,
        _J.run_after_ms,
        _J.estimate_ms,
        _J.attempts,
        _J.avoid_instance,
        _J.weight,
        _NOW,
    )
    .where(QUEUED_ROWS, _J.run_after_ms <= now_ms())
    .order_by(_J.precedence, _J.seq, _J.id)
    .limit(bindparam("limit"))
)
# Spelt out, because MySQL doesn't seek by a comparison of tuples.
_NEXT_CANDIDATES = _CANDIDATES.where(
    _J.precedence >= bindparam("precedence"),
    or_(
        _J.precedence > bindparam("precedence"),
        _J.seq > bindparam("seq"),
        and_(_J.seq == bindparam("seq"), _J.id > bindparam("last_id")),
    ),
)
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
_TAKE = update(jobs).where(_J.id == bindparam("job_id")).values(**TAKEN)
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
        self._lock_queued = self._locked.where(_J.id == bindparam("job_id"), QUEUED_ROWS)
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

    async def claim(
        self,
        conn: AsyncConnection,
        *,
        worker: str,
        seat: Seat,
        choose: Choose,
        lease_ms: int = LEASE_MS,
        first: int = 16,
        limit: int = 100,
    ) -> Claim | None:
        """Take the job that ``choose`` picks for ``seat``, or None when there is none for it.

        ``choose`` sees up to ``first`` waiting jobs at once, those of highest priority that came
        first; where it wants none of them, the next ``limit``, and so on (up to 20 times). A job
        that another worker is taking at this moment is passed over.
        """
        asked = min(first, limit)
        rows = (await conn.execute(_CANDIDATES, {"limit": asked})).all()
        for _ in range(LONGEST_SEARCH_PAGES):
            candidates = [Candidate._make(row[:-1]) for row in rows]
            while candidates:
                chosen = choose(candidates, seat, rows[0].now_ms)
                if chosen is None:
                    break
                claim = await self._take(conn, chosen.id, worker, seat.instance, lease_ms)
                if claim is not None:
                    return claim
                candidates.remove(chosen)
            if len(rows) < asked:
                break
            last = rows[-1]
            after = {"precedence": -last.priority, "seq": last.seq, "last_id": last.id}
            rows = (await conn.execute(_NEXT_CANDIDATES, {"limit": limit, **after})).all()
            asked = limit
        return None

    async def _take(
        self, conn: AsyncConnection, id: str, worker: str, instance: str, lease_ms: int
    ) -> Claim | None:
        row = (await conn.execute(self._lock_queued, {"job_id": id})).first()
        if row is None:
            return None
        claim = taken(row, worker, instance, self.new_prompt_id(), row.now_ms)
        await conn.execute(
            _TAKE,
            {
                "job_id": id,
                "by": worker,
                "at": instance,
                "prompt": claim.prompt_id,
                "lease_ms": lease_ms,
                "now": row.now_ms,
            },
        )
        return claim

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
