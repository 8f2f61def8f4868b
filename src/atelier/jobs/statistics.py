"""Places in the queue, counts and times."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import and_, bindparam, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from atelier.jobs.job import FAILED, STATUSES, SUCCEEDED
from atelier.jobs.tables import QUEUED_ROWS, RUNNING_ROWS, jobs

_J = jobs.c
_mine = jobs.alias("mine")
_POSITION = (
    select(func.count())
    .select_from(jobs, _mine)
    .where(
        _mine.c.id == bindparam("job_id"),
        _mine.c.status == "queued",
        QUEUED_ROWS,
        _J.precedence <= _mine.c.precedence,
        or_(
            _J.precedence < _mine.c.precedence,
            _J.seq < _mine.c.seq,
            and_(_J.seq == _mine.c.seq, _J.id <= _mine.c.id),
        ),
    )
)
_places = (
    select(
        _J.id,
        func.row_number().over(order_by=(_J.precedence, _J.seq, _J.id)).label("place"),
    )
    .where(QUEUED_ROWS)
    .subquery()
)
_POSITIONS = select(_places).where(_places.c.id.in_(bindparam("ids", expanding=True)))
_BY_STATUS = (
    select(_J.status, func.count().label("number"))
    .where(_J.deleted_at_ms.is_(None))
    .group_by(_J.status)
)
# Two small indexes, where counting all by status would read every job that ever ended.
_LIVE = select(
    *(
        select(func.count()).select_from(jobs).where(rows).scalar_subquery()
        for rows in (QUEUED_ROWS, RUNNING_ROWS)
    )
)
_BY_LABEL = (
    select(_J.label, _J.status, func.count().label("number"))
    .where(_J.label.is_not(None), _J.deleted_at_ms.is_(None))
    .group_by(_J.label, _J.status)
)
_ENDED = (
    select(_J.workflow, _J.created_at_ms, _J.started_at_ms, _J.finished_at_ms)
    .where(_J.status.in_((SUCCEEDED, FAILED)), _J.started_at_ms.is_not(None))
    .order_by(_J.id.desc())
    .limit(bindparam("last"))
)


@dataclass(frozen=True, slots=True)
class Times:
    """Mean and 95th percentile of ``count`` durations; None when there are none."""

    count: int
    mean_ms: float | None
    p95_ms: int | None

    @classmethod
    def of(cls, durations: Iterable[int]) -> "Times":
        ordered = sorted(durations)
        if not ordered:
            return cls(0, None, None)
        # The nearest rank: the smallest that at least 95 % don't exceed.
        rank = -(-len(ordered) * 95 // 100)
        return cls(len(ordered), sum(ordered) / len(ordered), ordered[rank - 1])


@dataclass(frozen=True, slots=True)
class JobStats:
    """``by_status`` has every status; ``by_label`` (such as a style) -> status -> count.

    ``wait`` lasts from the arrival to the last start, ``run`` from there to the end; both of the
    newest jobs that succeeded or failed, ``run_by_workflow`` of those that ran each workflow.
    """

    by_status: Mapping[str, int]
    by_label: Mapping[str, Mapping[str, int]]
    wait: Times
    run: Times
    run_by_workflow: Mapping[str, Times]


class Statistics:
    async def position(self, conn: AsyncConnection, id: str) -> int | None:
        """The job's place in the queue, 1 being next; None unless it is queued.

        By priority and order of arrival, whatever instances can run.
        """
        place: int = (await conn.execute(_POSITION, {"job_id": id})).scalar_one()
        return place or None

    async def positions(self, conn: AsyncConnection, ids: Collection[str]) -> dict[str, int]:
        """The places of those of ``ids`` that are queued."""
        if not ids:
            return {}
        if len(ids) == 1:  # counts those before it, where the others number all
            [id] = ids
            place = await self.position(conn, id)
            return {} if place is None else {id: place}
        rows = await conn.execute(_POSITIONS, {"ids": list(ids)})
        return {row.id: row.place for row in rows}

    async def live(self, conn: AsyncConnection) -> tuple[int, int]:
        """How many jobs are queued, and how many running."""
        queued, running = (await conn.execute(_LIVE)).one()
        return queued, running

    async def counts(self, conn: AsyncConnection) -> dict[str, int]:
        """How many jobs there are in each status."""
        found = {row.status: row.number for row in await conn.execute(_BY_STATUS)}
        return {status: found.get(status, 0) for status in STATUSES}

    async def stats(self, conn: AsyncConnection, *, last: int = 1000) -> JobStats:
        """Counts of all jobs, and times of the ``last`` that ended."""
        by_label: dict[str, dict[str, int]] = {}
        for row in await conn.execute(_BY_LABEL):
            by_label.setdefault(row.label, dict.fromkeys(STATUSES, 0))[row.status] = row.number
        ended = (await conn.execute(_ENDED, {"last": last})).all()
        runs: dict[str, list[int]] = {}
        for row in ended:
            runs.setdefault(row.workflow, []).append(row.finished_at_ms - row.started_at_ms)
        return JobStats(
            by_status=await self.counts(conn),
            by_label=by_label,
            wait=Times.of(row.started_at_ms - row.created_at_ms for row in ended),
            run=Times.of(duration for durations in runs.values() for duration in durations),
            run_by_workflow={workflow: Times.of(values) for workflow, values in runs.items()},
        )
