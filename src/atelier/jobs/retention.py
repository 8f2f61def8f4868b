"""Letting go of jobs that have ended, and of what only they needed."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Text, bindparam, delete, select, type_coerce, union_all, update
from sqlalchemy.ext.asyncio import AsyncConnection

from atelier.database import now_ms
from atelier.jobs.job import TERMINAL
from atelier.jobs.tables import QUEUED_ROWS, RUNNING_ROWS, job_details, jobs, requirements

_J, _D, _R = jobs.c, job_details.c, requirements.c
# One statement, so that a job that is claimed or put back meanwhile isn't missed.
_LIVE = union_all(select(_J.id).where(QUEUED_ROWS), select(_J.id).where(RUNNING_ROWS))
_ENDED = _J.status.in_(TERMINAL)
_UPDATE_MADE = update(job_details).where(_D.job_id == bindparam("of_job"))


class Retention:
    """What is hidden can't be retried; what is purged was hidden for a while before."""

    async def all_live(self, conn: AsyncConnection) -> list[str]:
        """The ids of all queued and running jobs, of one moment."""
        return list((await conn.execute(_LIVE)).scalars())

    async def known(self, conn: AsyncConnection, ids: Collection[str]) -> set[str]:
        """Those of ``ids`` that there is a row of, hidden or not."""
        return set((await conn.execute(select(_J.id).where(_J.id.in_(list(ids))))).scalars())

    async def carried(self, conn: AsyncConnection, ids: Collection[str]) -> list[str]:
        """Inputs and graphs of the jobs ``ids``, as the JSON that is kept."""
        columns = (type_coerce(column, Text) for column in (_D.inputs, _D.graph))
        rows = await conn.execute(select(*columns).where(_D.job_id.in_(list(ids))))
        return [text for row in rows for text in row if text is not None]

    async def hide(self, conn: AsyncConnection, ids: Collection[str]) -> int:
        """Hide those of ``ids`` that have ended from everyone; how many."""
        result = await conn.execute(
            update(jobs)
            .where(_J.id.in_(list(ids)), _ENDED, _J.deleted_at_ms.is_(None))
            .values(deleted_at_ms=now_ms(), updated_at_ms=now_ms())
        )
        return result.rowcount

    async def hidden_before(self, conn: AsyncConnection, *, age_ms: int, limit: int) -> list[str]:
        """Ids of ended jobs that were hidden ``age_ms`` ago or earlier."""
        query = select(_J.id).where(_ENDED, _J.deleted_at_ms <= now_ms() - age_ms).limit(limit)
        return list((await conn.execute(query)).scalars())

    async def purge(self, conn: AsyncConnection, ids: Collection[str]) -> None:
        """Remove the rows of those of ``ids`` that are hidden and have ended."""
        found = select(_J.id).where(_J.id.in_(list(ids)), _ENDED, _J.deleted_at_ms.is_not(None))
        gone = list((await conn.execute(found.with_for_update())).scalars())
        if gone:
            await conn.execute(delete(job_details).where(_D.job_id.in_(gone)))
            await conn.execute(delete(jobs).where(_J.id.in_(gone)))

    async def lose_files(self, conn: AsyncConnection, gone: Mapping[str, Collection[str]]) -> None:
        """Let each job remember that the files ``gone`` (by job) of what it made are gone."""
        if not gone:
            return
        query = select(_D.job_id, _D.outputs, _D.previews).where(_D.job_id.in_(list(gone)))
        changes: list[dict[str, Any]] = []
        for row in (await conn.execute(query.with_for_update())).all():
            made = {
                name: [
                    {**record, "available": False} if record["id"] in gone[row.job_id] else record
                    for record in records or ()
                ]
                or None
                for name, records in (("outputs", row.outputs), ("previews", row.previews))
            }
            changes.append({"of_job": row.job_id, **made})
        if changes:
            await conn.execute(_UPDATE_MADE, changes)

    async def unused_requirements(
        self, conn: AsyncConnection, *, age_ms: int, limit: int
    ) -> list[str]:
        """Hashes that no job refers to and that nobody has put for ``age_ms``."""
        old = select(_R.hash).where(_R.created_at_ms <= now_ms() - age_ms)
        used = select(_J.requirement).where(_J.requirement.in_(old))
        query = old.where(_R.hash.not_in(used)).limit(limit)
        return list((await conn.execute(query)).scalars())

    async def forget_requirements(
        self, conn: AsyncConnection, hashes: Collection[str], *, age_ms: int
    ) -> None:
        """Forget ``hashes``, but none that somebody has put meanwhile."""
        await conn.execute(
            delete(requirements).where(
                _R.hash.in_(list(hashes)), _R.created_at_ms <= now_ms() - age_ms
            )
        )

    async def versions_used(
        self, conn: AsyncConnection, names: Collection[str]
    ) -> set[tuple[str, str]]:
        """The versions, by (workflow, version), of ``names`` that a job was accepted with."""
        query = (
            select(_J.workflow, _D.workflow_version)
            .join_from(jobs, job_details, _J.id == _D.job_id)
            .where(_J.workflow.in_(list(names)))
            .distinct()
        )
        return {(row.workflow, row.workflow_version) for row in await conn.execute(query)}
