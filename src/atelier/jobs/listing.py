"""Looking jobs up: one, a user's page by page, what has changed."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Integer, String, bindparam, cast, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from atelier.database import now_ms
from atelier.jobs.job import QUEUED, RUNNING, SUCCEEDED, TERMINAL, Job
from atelier.jobs.rows import job_of, select_jobs
from atelier.jobs.tables import QUEUED_ROWS, RUNNING_ROWS, job_details, jobs

Jobs = list[Job]

MOST_OF_ONE_KEY = 3  # looked at when the outputs of the newest are gone

_J = jobs.c
_GET = select_jobs().where(_J.id == bindparam("job_id"))
_CHANGED = (
    select_jobs()
    .where(
        _J.id.in_(bindparam("ids", expanding=True)),
        _J.updated_at_ms >= bindparam("since_ms"),
    )
    .order_by(_J.id)
)


_UNDER_WAY = select(_J.id, _J.user_id.label("user"), _J.prompt_id, _J.instance).where(RUNNING_ROWS)
_WAITING = select(_J.id).where(QUEUED_ROWS).order_by(_J.precedence, _J.seq, _J.id)


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A running job, and where. ``prompt_id`` may not have come to ``instance`` yet."""

    id: str
    user: str
    prompt_id: str | None
    instance: str | None


_COUNT = select(func.count()).select_from(jobs).where(_J.deleted_at_ms.is_(None))
# What is skipped is counted in the index alone; only then are rows looked up.
_place = (
    select(_J.id)
    .where(_J.deleted_at_ms.is_(None))
    .order_by(_J.id.desc())
    .limit(bindparam("limit", type_=Integer))
    .offset(bindparam("offset", type_=Integer))
    .subquery()
)
_NEWEST = select_jobs().join(_place, _place.c.id == _J.id).order_by(_J.id.desc())


@dataclass(frozen=True, slots=True)
class Page:
    """Jobs, newest first; ``next_cursor`` is None on the last page."""

    jobs: tuple[Job, ...]
    next_cursor: str | None


class Listing:
    async def get(
        self,
        conn: AsyncConnection,
        id: str,
        *,
        user: str | None = None,
        include_deleted: bool = False,
    ) -> Job | None:
        """The job, or None: unknown, deleted, or not ``user``'s where one is given."""
        row = (await conn.execute(_GET, {"job_id": id})).first()
        if row is None:
            return None
        job = job_of(row)
        hidden = job.deleted_at_ms is not None and not include_deleted
        return None if hidden or (user is not None and job.user != user) else job

    async def changed_since(
        self, conn: AsyncConnection, updated_at_ms: int, ids: Collection[str]
    ) -> Jobs:
        """Those of ``ids`` that were written at ``updated_at_ms`` (database time) or later.

        A transaction may commit a moment after the time that it has written: ask again from a
        second before the newest answer.
        """
        if not ids:
            return []
        rows = await conn.execute(_CHANGED, {"ids": list(ids), "since_ms": updated_at_ms})
        return [job_of(row) for row in rows]

    async def live_ids(self, conn: AsyncConnection, users: Collection[str]) -> set[str]:
        """Ids of the queued and running jobs of ``users``."""
        if not users:
            return set()
        live = _J.status.in_((QUEUED, RUNNING))
        rows = await conn.execute(select(_J.id).where(live, _J.user_id.in_(list(users))))
        return set(rows.scalars())

    async def under_way(self, conn: AsyncConnection) -> tuple[UnderWay, ...]:
        """All running jobs, oldest first."""
        rows = await conn.execute(_UNDER_WAY.order_by(_J.id))
        return tuple(UnderWay(row.id, row.user, row.prompt_id, row.instance) for row in rows)

    async def waiting_ids(self, conn: AsyncConnection, limit: int) -> tuple[str, ...]:
        """Ids of the first ``limit`` queued jobs in the order in which they would be claimed."""
        return tuple((await conn.execute(_WAITING.limit(limit))).scalars())

    async def next_in_line(self, conn: AsyncConnection, limit: int) -> Jobs:
        """The first ``limit`` queued jobs in the order in which they would be claimed."""
        query = select_jobs().where(QUEUED_ROWS).order_by(_J.precedence, _J.seq, _J.id)
        rows = await conn.execute(query.limit(limit))
        return [job_of(row) for row in rows]

    async def made_before(self, conn: AsyncConnection, cache_key: str, *, unlike: str) -> Jobs:
        """Jobs other than ``unlike`` that succeeded at what ``cache_key`` stands for, newest first.

        At most 3 of them: what they made may be gone.
        """
        query = (
            select_jobs()
            .where(
                job_details.c.cache_key == cache_key,
                _J.id != unlike,
                _J.status == SUCCEEDED,
                _J.deleted_at_ms.is_(None),
            )
            .order_by(_J.id.desc())
            .limit(MOST_OF_ONE_KEY)
        )
        return [job_of(row) for row in await conn.execute(query)]

    async def ended_before(
        self,
        conn: AsyncConnection,
        *,
        age_ms: int,
        dialects: Collection[str],
        limit: int,
        after: str = "",
    ) -> list[str]:
        """Ids, behind ``after``, of jobs of ``dialects`` that ended ``age_ms`` ago or earlier.

        Deleted ones are left out.
        """
        query = (
            select(_J.id)
            .join_from(jobs, job_details, _J.id == job_details.c.job_id)
            .where(
                _J.id > after,
                _J.status.in_(TERMINAL),
                _J.deleted_at_ms.is_(None),
                _J.finished_at_ms <= now_ms() - age_ms,
                job_details.c.dialect.in_(list(dialects)),
            )
            .order_by(_J.id)
            .limit(limit)
        )
        return list((await conn.execute(query)).scalars())

    async def count(self, conn: AsyncConnection) -> int:
        """How many jobs there are, deleted ones left out."""
        number: int = (await conn.execute(_COUNT)).scalar_one()
        return number

    async def newest(self, conn: AsyncConnection, *, limit: int, offset: int = 0) -> Jobs:
        """``limit`` jobs, newest first, without the newest ``offset``.

        Jobs inserted meanwhile move all others back: for pages that are numbered.
        """
        rows = await conn.execute(_NEWEST, {"limit": limit, "offset": offset})
        return [job_of(row) for row in rows]

    async def list(
        self,
        conn: AsyncConnection,
        *,
        user: str | None = None,
        status: str | Collection[str] | None = None,
        workflow: str | None = None,
        q: str | None = None,
        batch: str | None = None,
        dialect: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
        include_deleted: bool = False,
    ) -> Page:
        """A page of jobs, newest first, from behind ``cursor`` (a page's ``next_cursor``).

        ``q`` is looked for, in either case, in id, workflow, label and inputs. Jobs inserted
        meanwhile move nothing: they are newer than any cursor.
        """
        query = select_jobs().order_by(_J.id.desc()).limit(limit + 1)
        if user is not None:
            query = query.where(_J.user_id == user)
        if status:
            wanted = [status] if isinstance(status, str) else [*status]
            query = query.where(_J.status.in_(wanted))
        if workflow is not None:
            query = query.where(_J.workflow == workflow)
        if batch is not None:
            query = query.where(_J.batch == batch)
        if dialect is not None:
            query = query.where(job_details.c.dialect == dialect)
        if cursor is not None:
            query = query.where(_J.id < cursor)
        if not include_deleted:
            query = query.where(_J.deleted_at_ms.is_(None))
        if q:
            texts = (_J.id, _J.workflow, _J.label, cast(job_details.c.inputs, String))
            query = query.where(
                or_(*(func.lower(text).contains(q.lower(), autoescape=True) for text in texts))
            )
        rows = (await conn.execute(query)).all()
        found = tuple(job_of(row) for row in rows[:limit])
        return Page(found, found[-1].id if len(rows) > limit else None)
