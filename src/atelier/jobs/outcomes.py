"""How a job ends or returns to the queue. What a worker writes carries its lease."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import CursorResult, String, and_, bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from atelier.database import Dialect, now_ms
from atelier.jobs.admission import Admission
from atelier.jobs.job import (
    CANCELLED,
    FAILED,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    TERMINAL,
    Job,
    Status,
)
from atelier.jobs.rows import job_of, select_jobs
from atelier.jobs.success import Success
from atelier.jobs.tables import QUEUED_ROWS, RUNNING_ROWS, job_details, jobs

Cancelled = Literal["cancelled", "requested", "already"]
OnEnd = Callable[[AsyncConnection, Job], Awaitable[None]]

_J = jobs.c
_STATE = select(_J.status, _J.lease, _J.attempts, _J.max_attempts, _J.cancel_requested).where(
    _J.id == bindparam("job_id")
)
_LOCK = _STATE.with_for_update()
# How far a job had come stays with it, unless it has come all the way.
_END_EARLY = (
    update(jobs)
    .where(_J.id == bindparam("job_id"), _J.lease == bindparam("held"), RUNNING_ROWS)
    .values(
        status=bindparam("outcome"),
        lease_expires_at_ms=None,
        finished_at_ms=now_ms(),
        updated_at_ms=now_ms(),
    )
)
_END = _END_EARLY.values(
    percent=100, variant=func.coalesce(bindparam("ran", type_=String), _J.variant)
)
UPDATE_DETAILS = update(job_details).where(job_details.c.job_id == bindparam("of_job"))
UPDATE_DETAILS_AND_ASK = UPDATE_DETAILS.returning(job_details.c.webhook_url)
_WHO_IS_TOLD = select(job_details.c.job_id).where(
    job_details.c.job_id.in_(bindparam("ids", expanding=True)),
    job_details.c.webhook_url.is_not(None),
)
_ENDED = select_jobs().where(_J.id.in_(bindparam("ids", expanding=True))).order_by(_J.id)
_AGAIN = and_(_J.status.in_((FAILED, CANCELLED)), _J.deleted_at_ms.is_(None))
_WHOSE = select(_J.user_id).where(_J.id == bindparam("job_id"), _AGAIN)
_UNCLAIMED: dict[str, Any] = {
    "worker": None,
    "instance": None,
    "prompt_id": None,
    "lease_expires_at_ms": None,
    "submitted_at_ms": None,
    "percent": 0,
    "step": None,
    "steps": None,
    "node": None,
}


class Outcomes(Admission):
    """Each method returns False and changes nothing where the lease is stale.

    Each may be repeated with the same lease, as after a commit whose answer got lost.
    ``on_end`` is awaited, inside the transaction, with every job that ends and has a
    ``webhook_url``.
    """

    dialect: Dialect
    on_end: OnEnd | None

    async def finish(
        self,
        conn: AsyncConnection,
        id: str,
        lease: int,
        outputs: Sequence[Mapping[str, Any]],
        timings: Mapping[str, int] | None = None,
        *,
        inputs: Mapping[str, Any] | None = None,
        variant: str | None = None,
        previews: Sequence[Mapping[str, Any]] = (),
        cache_key: str | None = None,
        cached_from: str | None = None,
    ) -> bool:
        """Record the job's success; what the arguments mean is said at ``Success``."""
        return await self._finish(
            conn,
            Success(
                id,
                lease,
                outputs,
                timings,
                inputs=inputs,
                variant=variant,
                previews=previews,
                cache_key=cache_key,
                cached_from=cached_from,
            ),
        )

    async def _finish(self, conn: AsyncConnection, success: Success) -> bool:
        return await self._end(
            conn,
            success.id,
            success.lease,
            SUCCEEDED,
            success.details(),
            variant=success.variant,
        )

    async def fail(
        self,
        conn: AsyncConnection,
        id: str,
        lease: int,
        error: Mapping[str, Any],
        timings: Mapping[str, int] | None = None,
    ) -> bool:
        """Record that the job has failed for good."""
        return await self._end(conn, id, lease, FAILED, {"error": error, "timings": timings})

    async def finish_cancelled(self, conn: AsyncConnection, id: str, lease: int) -> bool:
        """Record that the running job has been stopped."""
        return await self._end(conn, id, lease, CANCELLED, {})

    async def _end(
        self,
        conn: AsyncConnection,
        id: str,
        lease: int,
        outcome: Status,
        details: Mapping[str, Any],
        *,
        variant: str | None = None,
    ) -> bool:
        values = {"job_id": id, "held": lease, "outcome": outcome}
        if outcome == SUCCEEDED:
            values["ran"] = variant
        result: CursorResult[Any] = await conn.execute(
            _END if outcome == SUCCEEDED else _END_EARLY, values
        )
        if result.rowcount == 0:
            state = (await conn.execute(_STATE, {"job_id": id})).first()
            return state is not None and state.lease == lease and state.status == outcome
        if details and self.dialect != "mysql":  # which answers no update with a row
            values = {"of_job": id, **details}
            if (await conn.execute(UPDATE_DETAILS_AND_ASK, values)).scalar() is None:
                return True
        else:
            await _update_details(conn, id, details)
        await self._tell_end(conn, [id])
        return True

    async def _tell_end(self, conn: AsyncConnection, ids: Collection[str]) -> None:
        if self.on_end is None:
            return
        told = list((await conn.execute(_WHO_IS_TOLD, {"ids": list(ids)})).scalars())
        if told:
            for row in (await conn.execute(_ENDED, {"ids": told})).all():
                await self.on_end(conn, job_of(row))

    async def retry(
        self,
        conn: AsyncConnection,
        id: str,
        lease: int,
        error: Mapping[str, Any],
        delay_ms: int,
        avoid_instance: str | None = None,
    ) -> Status | Literal[False]:
        """Queue the job again, to be claimed in ``delay_ms``, rather not at ``avoid_instance``.

        Returns its new status: ``queued``, ``failed`` when it has had its attempts, ``cancelled``
        when that was asked for meanwhile; False when the lease is stale.
        """
        state = (await conn.execute(_LOCK, {"job_id": id})).first()
        if state is None or state.lease != lease:
            return False
        if state.status != RUNNING:
            return state.status if state.status in (QUEUED, FAILED, CANCELLED) else False
        if not state.cancel_requested and state.attempts >= state.max_attempts:
            await self.fail(conn, id, lease, error)
            return FAILED
        await _update_details(conn, id, {"error": error})
        values = {"run_after_ms": now_ms() + delay_ms, "avoid_instance": avoid_instance}
        return await self._requeue(conn, id, state, values)

    async def release(self, conn: AsyncConnection, id: str, lease: int) -> bool:
        """Hand the job back to its place in the queue; the attempt isn't counted."""
        state = (await conn.execute(_LOCK, {"job_id": id})).first()
        if state is None or state.lease != lease:
            return False
        if state.status != RUNNING:
            return state.status in (QUEUED, CANCELLED)
        await self._requeue(conn, id, state, {"attempts": max(state.attempts - 1, 0)})
        return True

    async def _requeue(
        self, conn: AsyncConnection, id: str, state: Any, values: Mapping[str, Any]
    ) -> Status:
        if state.cancel_requested:
            await self.finish_cancelled(conn, id, state.lease)
            return CANCELLED
        await conn.execute(
            update(jobs)
            .where(_J.id == id)
            .values(status=QUEUED, **_UNCLAIMED, updated_at_ms=now_ms(), **values)
        )
        return QUEUED

    # -- what users ask for ----------------------------------------------------------------------

    async def cancel(self, conn: AsyncConnection, id: str) -> Cancelled | None:
        """Cancel a queued job at once (``cancelled``), ask a running one's worker (``requested``).

        ``already``: it has ended. None: there is no such job.
        """
        state = (await conn.execute(_LOCK, {"job_id": id})).first()
        if state is None:
            return None
        if state.status in TERMINAL:
            return "already"
        values: dict[str, Any] = {"cancel_requested": True, "updated_at_ms": now_ms()}
        if state.status == QUEUED:
            values |= {"status": CANCELLED, "finished_at_ms": now_ms()}
        await conn.execute(update(jobs).where(_J.id == id).values(values))
        if state.status != QUEUED:
            return "requested"
        await self._tell_end(conn, [id])
        return "cancelled"

    async def cancel_queued(
        self,
        conn: AsyncConnection,
        *,
        user: str | None = None,
        dialect: str | None = None,
        limit: int = 200,
    ) -> list[tuple[str, str]]:
        """Cancel up to ``limit`` queued jobs, those of ``user`` and ``dialect`` where given.

        Returns their ids and users. One that a worker takes at this moment is left to it.
        """
        query = select(_J.id, _J.user_id).where(QUEUED_ROWS).order_by(_J.id).limit(limit)
        if user is not None:
            query = query.where(_J.user_id == user)
        if dialect is not None:
            of_dialect = select(job_details.c.job_id).where(job_details.c.dialect == dialect)
            query = query.where(_J.id.in_(of_dialect))
        rows = (await conn.execute(query.with_for_update(skip_locked=True))).all()
        if rows:
            ended = {"status": CANCELLED, "finished_at_ms": now_ms()}
            asked = {"cancel_requested": True, "updated_at_ms": now_ms()}
            ids = [row.id for row in rows]
            await conn.execute(update(jobs).where(_J.id.in_(ids)).values(ended | asked))
            await self._tell_end(conn, ids)
        return [(row.id, row.user_id) for row in rows]

    async def requeue(self, conn: AsyncConnection, id: str) -> bool:
        """Queue a failed or cancelled job once more, behind what waits, with all its attempts.

        False when it isn't in such a state, or deleted. Raises QueueFull.
        """
        owner = (await conn.execute(_WHOSE, {"job_id": id})).scalar()
        if owner is None:
            return False
        await self.require_room(conn, owner)
        result: CursorResult[Any] = await conn.execute(
            update(jobs)
            .where(_J.id == id, _AGAIN)
            .values(
                status=QUEUED,
                **_UNCLAIMED,
                seq=now_ms() * 1000,
                attempts=0,
                avoid_instance=None,
                run_after_ms=now_ms(),
                cancel_requested=False,
                started_at_ms=None,
                finished_at_ms=None,
                updated_at_ms=now_ms(),
            )
        )
        if result.rowcount == 0:
            return False
        await _update_details(conn, id, {"error": None, "outputs": None, "timings": None})
        return True

    async def delete(self, conn: AsyncConnection, id: str) -> bool:
        """Hide the job from everyone, cancelling it where it hasn't ended. False: unknown."""
        if await self.cancel(conn, id) is None:
            return False
        result: CursorResult[Any] = await conn.execute(
            update(jobs)
            .where(_J.id == id, _J.deleted_at_ms.is_(None))
            .values(deleted_at_ms=now_ms(), updated_at_ms=now_ms())
        )
        return result.rowcount == 1


async def _update_details(conn: AsyncConnection, id: str, values: Mapping[str, Any]) -> None:
    if values:
        await conn.execute(UPDATE_DETAILS, {"of_job": id, **values})
