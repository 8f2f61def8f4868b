"""Taking the first jobs of a lane: one seek in the index for each lane, one update for all."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import bindparam, or_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from atelier.database import Dialect, Json, now_ms, padded, value_of
from atelier.jobs.claims import LEASE_MS, TAKEN, Claims, taken
from atelier.jobs.job import Claim
from atelier.jobs.tables import QUEUED_ROWS, jobs
from atelier.jobs.waiting import WaitingLanes

_J = jobs.c
_TAKE_MANY = (
    update(jobs)
    .where(_J.id.in_(bindparam("ids", expanding=True)))
    .values(**TAKEN | {"prompt_id": value_of(bindparam("prompts", type_=Json), _J.id)})
)


@dataclass(frozen=True, slots=True)
class Ask:
    """A wish for the first ``limit`` jobs of ``lane``, to run at ``instance``.

    Jobs that had better go elsewhere are passed over unless ``avoided``.
    """

    lane: str
    instance: str
    limit: int = 1
    avoided: bool = False


class Taking(Claims, WaitingLanes):
    """Claims of what stands first in a lane that somebody has chosen from ``waiting``."""

    def __init__(self, dialect: Dialect) -> None:
        Claims.__init__(self, dialect)
        WaitingLanes.__init__(self)
        heads = (
            self._locked.where(
                QUEUED_ROWS, _J.lane == bindparam("of_lane"), _J.run_after_ms <= now_ms()
            )
            .order_by(_J.seq, _J.id)
            .limit(bindparam("limit"))
        )
        self._heads = heads
        self._heads_for = heads.where(
            or_(_J.avoid_instance.is_(None), _J.avoid_instance != bindparam("here"))
        )

    async def claim_lane(
        self,
        conn: AsyncConnection,
        *,
        worker: str,
        instance: str,
        lane: str,
        lease_ms: int = LEASE_MS,
        limit: int = 1,
        avoided: bool = False,
    ) -> list[Claim]:
        """Take the first jobs of ``lane`` (its id) for ``instance``, in order of arrival.

        Those that another worker is taking at this moment are passed over, and so are those that
        had better go elsewhere, unless ``avoided``.
        """
        ask = Ask(lane, instance, limit, avoided)
        return (await self.claim_lanes(conn, worker=worker, asks=[ask], lease_ms=lease_ms))[0]

    async def claim_lanes(
        self,
        conn: AsyncConnection,
        *,
        worker: str,
        asks: Sequence[Ask],
        lease_ms: int = LEASE_MS,
    ) -> list[list[Claim]]:
        """What ``claim_lane`` answers, for each of ``asks``; earlier ones are served first."""
        await self._adopt_seen(conn)
        wanted: Counter[Ask] = Counter()
        for ask in asks:
            wanted[replace(ask, limit=0)] += ask.limit
        heads: dict[Ask, list[Any]] = {}
        had: dict[str, set[str]] = {ask.lane: set() for ask in asks}
        for kind, limit in wanted.items():
            ours = had[kind.lane]
            # What was locked for another instance isn't skipped: it is ours.
            found = await self._lock_heads(conn, kind, limit + len(ours))
            heads[kind] = [row for row in found if row.id not in ours][:limit]
            ours.update(row.id for row in heads[kind])
        now = max((row.now_ms for rows in heads.values() for row in rows), default=0)
        claims: list[list[Claim]] = []
        for ask in asks:
            rows = heads[replace(ask, limit=0)]
            mine, rows[: ask.limit] = rows[: ask.limit], []
            claims.append(
                [taken(row, worker, ask.instance, self.new_prompt_id(), now) for row in mine]
            )
        by_instance: dict[str, list[Claim]] = {}
        for ask, some in zip(asks, claims, strict=True):
            by_instance.setdefault(ask.instance, []).extend(some)
        for instance, some in by_instance.items():
            if some:
                values = {
                    "ids": padded([claim.job.id for claim in some]),
                    "prompts": {claim.job.id: claim.prompt_id for claim in some},
                    "by": worker,
                    "at": instance,
                    "lease_ms": lease_ms,
                    "now": now,
                }
                await conn.execute(_TAKE_MANY, values)
        return claims

    async def _lock_heads(self, conn: AsyncConnection, ask: Ask, limit: int) -> Sequence[Any]:
        values: dict[str, Any] = {"of_lane": ask.lane, "limit": limit}
        if ask.avoided:
            return (await conn.execute(self._heads, values)).all()
        return (await conn.execute(self._heads_for, {**values, "here": ask.instance})).all()
