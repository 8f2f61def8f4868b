"""What waits, by lane: read from one small index, however many jobs have ended."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any, NamedTuple

from sqlalchemy import and_, bindparam, func, literal_column, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from atelier.database import now_ms
from atelier.jobs.lanes import Lane, Waiting, lane
from atelier.jobs.tables import QUEUED_ROWS, jobs

_J = jobs.c
_HEAD = (func.count().label("number"), func.min(_J.seq).label("oldest"))
_WAITING = select(_J.lane, *_HEAD).where(QUEUED_ROWS, _J.run_after_ms <= now_ms()).group_by(_J.lane)
_ALIKE = (
    _J.precedence,
    _J.user_id,
    _J.weight,
    _J.model,
    _J.requirement,
    _J.workflow,
    _J.variant,
)
_WAITING_WITHOUT = (
    select(*_ALIKE, *_HEAD)
    .where(QUEUED_ROWS, _J.lane.is_(None), _J.run_after_ms <= now_ms())
    .group_by(*_ALIKE)
)
_LANES = (
    select(_J.lane, *(func.min(column).label(column.name) for column in _ALIKE))
    .where(QUEUED_ROWS, _J.lane.in_(bindparam("lanes", expanding=True)))
    .group_by(_J.lane)
)
_WITHOUT = (
    select(_J.id, *_ALIKE)
    .where(QUEUED_ROWS, _J.lane.is_(None))
    .order_by(_J.seq, _J.id)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True)
)
_GIVE = update(jobs).where(_J.id == bindparam("job_id")).values(lane=bindparam("given"))

_before = jobs.alias("before")
_IS_QUEUED_BEFORE = _before.c.status == literal_column("'queued'")
_RANKS = select(
    _J.id,
    _J.lane,
    _J.workflow,
    _J.variant,
    select(func.count())
    .select_from(_before)
    .where(
        _IS_QUEUED_BEFORE,
        _before.c.lane == _J.lane,
        or_(
            _before.c.seq < _J.seq,
            and_(_before.c.seq == _J.seq, _before.c.id < _J.id),
        ),
    )
    .scalar_subquery()
    .label("number"),
).where(QUEUED_ROWS, _J.lane.is_not(None), _J.id.in_(bindparam("ids", expanding=True)))
_TIME = select(now_ms())

LANES_AT_ONCE = 500
ADOPTED_AT_ONCE = 1000
# How many lanes are remembered beside those that have jobs.
LANES_REMEMBERED = 10_000


class Rank(NamedTuple):
    """How many jobs of its ``lane`` go before a queued job."""

    lane: str
    before: int
    workflow: str
    variant: str | None


class WaitingLanes:
    """Lanes are remembered: what one has in common never changes."""

    def __init__(self) -> None:
        self._lanes: dict[str, Lane] = {}
        self._some_without = False

    async def waiting(self, conn: AsyncConnection) -> list[Waiting]:
        """Every lane with jobs that may be claimed now; jobs that wait for a retry don't count."""
        found = {row.lane: row for row in await conn.execute(_WAITING)}
        self._some_without = found.pop(None, None) is not None
        await self._learn(conn, found.keys() - self._lanes.keys())
        waiting = {
            # One that has just been emptied may be unknown.
            id: Waiting(self._lanes[id], row.number, row.oldest // 1000, row.oldest)
            for id, row in found.items()
            if id in self._lanes
        }
        if self._some_without:
            for row in await conn.execute(_WAITING_WITHOUT):
                one = Waiting(_lane(row), row.number, row.oldest // 1000, row.oldest)
                waiting[one.lane.id] = _joined(waiting.get(one.lane.id), one)
        if len(self._lanes) > len(found) + LANES_REMEMBERED:
            self._lanes = {id: self._lanes[id] for id in found if id in self._lanes}
        return list(waiting.values())

    async def ranks(self, conn: AsyncConnection, ids: Collection[str]) -> dict[str, Rank]:
        """Of those of ``ids`` that are queued, the places in their lanes."""
        rows = await conn.execute(_RANKS, {"ids": list(ids)})
        return {row.id: Rank(row.lane, row.number, row.workflow, row.variant) for row in rows}

    async def time_ms(self, conn: AsyncConnection) -> int:
        """The database's time, which ``oldest_ms`` is in."""
        return int((await conn.execute(_TIME)).scalar_one())

    async def adopt(self, conn: AsyncConnection, *, limit: int = ADOPTED_AT_ONCE) -> int:
        """Give up to ``limit`` jobs their lane that an older version has queued; how many."""
        rows = (await conn.execute(_WITHOUT, {"limit": limit})).all()
        if rows:
            await conn.execute(_GIVE, [{"job_id": row.id, "given": _lane(row).id} for row in rows])
        self._some_without = len(rows) == limit
        return len(rows)

    async def _adopt_seen(self, conn: AsyncConnection) -> None:
        if self._some_without:
            await self.adopt(conn)

    async def _learn(self, conn: AsyncConnection, unknown: Collection[str]) -> None:
        ids = sorted(unknown)
        for start in range(0, len(ids), LANES_AT_ONCE):
            rows = await conn.execute(_LANES, {"lanes": ids[start : start + LANES_AT_ONCE]})
            for row in rows:
                # Under the id that is kept, should a later version compute another.
                self._lanes[row.lane] = replace(_lane(row), id=row.lane)


def _lane(row: Any) -> Lane:
    return lane(
        priority=-row.precedence,
        user=row.user_id,
        weight=row.weight,
        model=row.model,
        requirement=row.requirement,
        workflow=row.workflow,
        variant=row.variant,
    )


def _joined(one: Waiting | None, other: Waiting) -> Waiting:
    if one is None:
        return other
    oldest = min(one.oldest_seq, other.oldest_seq)
    return Waiting(one.lane, one.count + other.count, oldest // 1000, oldest)
