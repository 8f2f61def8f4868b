"""Taking jobs in: the insert is the acceptance."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from atelier.database import Dialect, now_ms
from atelier.jobs.admission import Admission, QueueFull
from atelier.jobs.job import QUEUED, SUCCEEDED, TIMINGS, Job, NewJob, Progress, Recalled
from atelier.jobs.lanes import lane_of
from atelier.jobs.outcomes import OnEnd
from atelier.jobs.rows import job_of, select_jobs
from atelier.jobs.tables import job_details, jobs, requirements

# So long nobody sweeps what was put; how often it is noted that it is wanted.
REQUIREMENT_FRESH_MS = 3_600_000

_NOW = select(now_ms())
_INSERT = insert(jobs)
_INSERT_DETAILS = insert(job_details)
_INSERT_REQUIREMENT = insert(requirements)
_KEPT = select(jobs.c.id).where(jobs.c.id.in_(bindparam("ids", expanding=True)))
_BY_ID = select_jobs().where(jobs.c.id == bindparam("id"))
_BY_KEY = select_jobs().where(
    jobs.c.user_id == bindparam("user_id"), jobs.c.idempotency_key == bindparam("key")
)
_STAMPED: dict[str, Any] = {
    "seq": now_ms() * 1000,
    "run_after_ms": now_ms(),
    "created_at_ms": now_ms(),
    "updated_at_ms": now_ms(),
}


def _unless_there(**stamped: Any) -> Mapping[str, Any]:
    return {
        dialect: vendor.insert(jobs)
        .values({**_STAMPED, **stamped})
        .on_conflict_do_nothing()
        .returning(jobs.c.created_at_ms)
        for dialect, vendor in (("sqlite", sqlite), ("postgresql", postgresql))
    }


_INSERT_UNLESS_THERE = _unless_there()
_INSERT_ENDED_UNLESS_THERE = _unless_there(finished_at_ms=now_ms())
_PUT_REQUIREMENT: Mapping[str, Any] = {
    "sqlite": sqlite.insert(requirements).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(requirements).on_conflict_do_nothing(),
}
_REQUIREMENT = select(
    (requirements.c.created_at_ms > now_ms() - REQUIREMENT_FRESH_MS).label("fresh")
).where(requirements.c.hash == bindparam("hash"))
_REFRESH_REQUIREMENT = (
    update(requirements)
    .where(requirements.c.hash == bindparam("of_hash"))
    .values(created_at_ms=now_ms())
)


class Acceptance(Admission):
    """Jobs are inserted in the caller's transaction and accepted by its commit."""

    dialect: Dialect
    on_end: OnEnd | None

    async def insert(self, conn: AsyncConnection, new: NewJob) -> tuple[Job, bool]:
        """Queue ``new``; return the job and whether it is new.

        Where the user has used the idempotency key before, the job of then is returned, however
        many try at once. Inserting the same id again, as a repeated transaction does, changes
        nothing and counts as new. Raises QueueFull, and inserts nothing then.
        """
        [refusal] = await self.admit(conn, [new])
        if refusal is not None:
            return await self._found_or(conn, new, refusal)
        now = await self._insert(conn, new)
        if now is None:
            return await self._known(conn, new)
        await conn.execute(_INSERT_DETAILS, _details(new))
        return _job(new, now), True

    async def insert_many(
        self, conn: AsyncConnection, new: Sequence[NewJob]
    ) -> list[tuple[Job, bool] | QueueFull]:
        """For each of ``new`` what ``insert`` returns or raises, in a few statements for all.

        Those without a key are queued in their order.
        """
        plain = [job for job in new if job.idempotency_key is None]
        if len(plain) > 1:
            ids = [job.id for job in plain]
            kept = set((await conn.execute(_KEPT, {"ids": ids})).scalars())
            plain = [job for job in plain if job.id not in kept]
        at_once = await self._insert_plain(conn, plain) if len(plain) > 1 else {}
        return [
            at_once[job.id] if job.id in at_once else await self._insert_one(conn, job)
            for job in new
        ]

    async def _insert_one(self, conn: AsyncConnection, new: NewJob) -> tuple[Job, bool] | QueueFull:
        try:
            return await self.insert(conn, new)
        except QueueFull as refusal:
            return refusal

    async def _insert_plain(
        self, conn: AsyncConnection, new: Sequence[NewJob]
    ) -> dict[str, tuple[Job, bool] | QueueFull]:
        answers: dict[str, tuple[Job, bool] | QueueFull] = {}
        admitted = []
        for job, refusal in zip(new, await self.admit(conn, new), strict=True):
            if refusal is None:
                admitted.append(job)
            else:
                answers[job.id] = refusal
        if admitted:
            now: int = (await conn.execute(_NOW)).scalar_one()
            rows = [_stamped(_values(job), now, place) for place, job in enumerate(admitted)]
            await conn.execute(_INSERT, rows)
            await conn.execute(_INSERT_DETAILS, [_details(job) for job in admitted])
            answers |= {job.id: (_job(job, now), True) for job in admitted}
        return answers

    async def _found_or(
        self, conn: AsyncConnection, new: NewJob, refusal: QueueFull
    ) -> tuple[Job, bool]:
        """The job that was accepted before under this id or key; raises ``refusal`` otherwise."""
        row = (await conn.execute(_BY_ID, {"id": new.id})).first()
        if row is not None:
            return job_of(row), True
        if new.idempotency_key is not None:
            by_key = {"user_id": new.user, "key": new.idempotency_key}
            row = (await conn.execute(_BY_KEY, by_key)).first()
            if row is not None:
                return job_of(row), False
        raise refusal

    async def insert_recalled(
        self, conn: AsyncConnection, new: NewJob, recalled: Recalled, cache_key: str
    ) -> tuple[Job, bool]:
        """Record ``new`` as having succeeded now with what an earlier job made.

        Ids and idempotency keys are respected as by ``insert``.
        """
        new = replace(new, variant=recalled.variant or new.variant)
        now = await self._insert(conn, new, ended=True)
        if now is None:
            return await self._known(conn, new)
        made: dict[str, Any] = {
            "outputs": recalled.outputs,
            "previews": recalled.previews or None,
            "timings": dict.fromkeys(TIMINGS, 0),
            "cached_from": recalled.cached_from,
        }
        await conn.execute(_INSERT_DETAILS, {**_details(new), **made, "cache_key": cache_key})
        job = replace(_job(new, now), status=SUCCEEDED, progress=Progress(100), finished_at_ms=now)
        job = replace(job, **{**made, "previews": recalled.previews})
        if self.on_end is not None and job.webhook_url is not None:
            await self.on_end(conn, job)
        return job, True

    async def _insert(
        self, conn: AsyncConnection, new: NewJob, *, ended: bool = False
    ) -> int | None:
        """The time of the new row, or None where there is one of that id or key."""
        values = _values(new) | ({"status": SUCCEEDED, "percent": 100} if ended else {})
        if self.dialect == "mysql":
            now: int = (await conn.execute(_NOW)).scalar_one()
            row = _stamped(values, now, 0) | ({"finished_at_ms": now} if ended else {})
            return now if await _insert_or_duplicate(conn, _INSERT, row) else None
        statements = _INSERT_ENDED_UNLESS_THERE if ended else _INSERT_UNLESS_THERE
        return (await conn.execute(statements[self.dialect], values)).scalar()

    async def put_requirement(
        self, conn: AsyncConnection, hash: str, body: Mapping[str, Any]
    ) -> None:
        """Keep what instances must have under its hash.

        Where it is kept already, it is noted that somebody still wants it.
        """
        kept = (await conn.execute(_REQUIREMENT, {"hash": hash})).first()
        if kept is not None and not kept.fresh:
            result = await conn.execute(_REFRESH_REQUIREMENT, {"of_hash": hash})
            if result.rowcount == 0:  # swept at this moment
                kept = None
        if kept is None:
            now = (await conn.execute(_NOW)).scalar_one()
            row = {"hash": hash, "body": body, "created_at_ms": now}
            if self.dialect == "mysql":
                await _insert_or_duplicate(conn, _INSERT_REQUIREMENT, row)
            else:
                await conn.execute(_PUT_REQUIREMENT[self.dialect], row)

    async def requirements(
        self, conn: AsyncConnection, hashes: Collection[str]
    ) -> dict[str, Mapping[str, Any]]:
        """What is kept under ``hashes``; unknown ones are absent."""
        rows = await conn.execute(
            select(requirements.c.hash, requirements.c.body).where(
                requirements.c.hash.in_(list(hashes))
            )
        )
        return {row.hash: row.body for row in rows}

    async def _known(self, conn: AsyncConnection, new: NewJob) -> tuple[Job, bool]:
        row = (await conn.execute(_BY_ID, {"id": new.id})).first()
        if row is not None:
            return job_of(row), True
        row = (await conn.execute(_BY_KEY, {"user_id": new.user, "key": new.idempotency_key})).one()
        return job_of(row), False


async def _insert_or_duplicate(
    conn: AsyncConnection, statement: Any, row: Mapping[str, Any]
) -> bool:
    # INSERT IGNORE would also cut what is too long; a statement that fails leaves MySQL's
    # transaction as it was.
    try:
        await conn.execute(statement, row)
    except IntegrityError as error:
        if error.orig is None or error.orig.args[0] != 1062:  # ER_DUP_ENTRY
            raise
        return False
    return True


def _stamped(values: dict[str, Any], now: int, place: int) -> dict[str, Any]:
    stamps = {"run_after_ms": now, "created_at_ms": now, "updated_at_ms": now}
    return values | stamps | {"seq": now * 1000 + place}


def _values(new: NewJob) -> dict[str, Any]:
    return {
        "lane": lane_of(new).id,
        "id": new.id,
        "precedence": -new.priority,
        "status": QUEUED,
        "user_id": new.user,
        "workflow": new.workflow,
        "variant": new.variant,
        "requirement": new.requirement,
        "model": new.model,
        "weight": new.weight,
        "estimate_ms": new.estimate_ms,
        "attempts": 0,
        "max_attempts": new.max_attempts,
        "lease": 0,
        "cancel_requested": False,
        "percent": 0,
        "batch": new.batch,
        "label": new.label,
        "idempotency_key": new.idempotency_key,
    }


def _details(new: NewJob) -> dict[str, Any]:
    return {
        "job_id": new.id,
        "workflow_version": new.workflow_version,
        "dialect": new.dialect,
        "fingerprint": new.fingerprint,
        "seed": new.seed,
        "inputs": new.inputs,
        "graph": new.graph,
        "metadata": new.metadata,
        "conversion": new.conversion,
        "cache": new.cache,
        "webhook_url": new.webhook_url,
    }


def _job(new: NewJob, now: int) -> Job:
    return Job(
        id=new.id,
        user=new.user,
        workflow=new.workflow,
        workflow_version=new.workflow_version,
        variant=new.variant,
        requirement=new.requirement,
        model=new.model,
        status=QUEUED,
        priority=new.priority,
        progress=Progress(),
        inputs=new.inputs,
        graph=new.graph,
        seed=new.seed,
        outputs=(),
        error=None,
        attempts=0,
        max_attempts=new.max_attempts,
        instance=None,
        worker=None,
        prompt_id=None,
        lease=0,
        cancel_requested=False,
        created_at_ms=now,
        started_at_ms=None,
        submitted_at_ms=None,
        finished_at_ms=None,
        updated_at_ms=now,
        deleted_at_ms=None,
        run_after_ms=now,
        estimate_ms=new.estimate_ms,
        timings={},
        metadata=new.metadata,
        dialect=new.dialect,
        batch=new.batch,
        label=new.label,
        fingerprint=new.fingerprint,
        conversion=new.conversion,
        cache=new.cache,
        webhook_url=new.webhook_url,
    )
