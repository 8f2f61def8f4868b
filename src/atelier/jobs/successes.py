"""Jobs that succeed at the same time: recorded in a few statements, each guarded by its lease."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import String, bindparam, func, select, update
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.asyncio import AsyncConnection

from atelier.database import now_ms, padded
from atelier.jobs.job import RUNNING, SUCCEEDED
from atelier.jobs.outcomes import UPDATE_DETAILS, Outcomes
from atelier.jobs.success import Success
from atelier.jobs.tables import job_details, jobs

_J = jobs.c
_END_MANY = (
    update(jobs)
    .where(_J.id.in_(bindparam("ids", expanding=True)))
    .values(
        status=SUCCEEDED,
        percent=100,
        variant=func.coalesce(bindparam("ran", type_=String), _J.variant),
        lease_expires_at_ms=None,
        finished_at_ms=now_ms(),
        updated_at_ms=now_ms(),
    )
)
# In one order, so that two transactions don't wait for each other.
_STATES = (
    select(_J.id, _J.status, _J.lease, job_details.c.webhook_url)
    .join_from(jobs, job_details, _J.id == job_details.c.job_id)
    .where(_J.id.in_(bindparam("ids", expanding=True)))
    .order_by(_J.id)
)
# MariaDB knows no OF, and locking the details there too does no harm: they are written next.
_LOCK_STATES = {
    "sqlite": _STATES,
    "postgresql": _STATES.with_for_update(of=jobs),
    "mysql": _STATES.with_for_update(),
}


def _write_details(*columns: str) -> Any:
    """For MySQL, whose driver sends many rows at once in an INSERT only.

    Each row is there, under the lock of its job: nothing is ever inserted.
    """
    statement = mysql.insert(job_details)
    written = {name: statement.inserted[name] for name in columns}
    keyed: dict[str, Any] = {"job_id": bindparam("of_job")}
    given: dict[str, Any] = {name: bindparam(name) for name in (*_UNUSED, *columns)}
    return statement.values(keyed | given).on_duplicate_key_update(written)


# Columns that must not be empty, and that keep what they hold.
_UNUSED: dict[str, Any] = {"workflow_version": "", "dialect": "", "inputs": {}, "metadata": {}}
_MADE = ("outputs", "timings", "error", "previews", "cache_key", "cached_from")
_WRITE_DETAILS = {False: _write_details(*_MADE), True: _write_details(*_MADE, "inputs")}


class Successes(Outcomes):
    async def finish_many(self, conn: AsyncConnection, successes: Sequence[Success]) -> list[bool]:
        """For each of ``successes`` what ``finish`` answers, in a few statements for all."""
        if len(successes) == 1:
            return [await self._finish(conn, successes[0])]
        ids = sorted({success.id for success in successes})
        found = (await conn.execute(_LOCK_STATES[self.dialect], {"ids": padded(ids)})).all()
        states = {row.id: row for row in found}
        answers: list[bool] = []
        ended: dict[str, Success] = {}
        for success in successes:
            state = states.get(success.id)
            if state is None or state.lease != success.lease:
                answers.append(False)
                continue
            if state.status == RUNNING:
                ended.setdefault(success.id, success)
            answers.append(state.status in (RUNNING, SUCCEEDED))
        by_variant: dict[str | None, list[str]] = {}
        for success in ended.values():
            by_variant.setdefault(success.variant, []).append(success.id)
        for variant, some in by_variant.items():
            await conn.execute(_END_MANY, {"ids": padded(some), "ran": variant})
        rows = [{"of_job": id, **success.details()} for id, success in ended.items()]
        for with_inputs in (False, True):
            alike = [row for row in rows if ("inputs" in row) == with_inputs]
            if alike and self.dialect == "mysql":
                await conn.execute(_WRITE_DETAILS[with_inputs], [_UNUSED | row for row in alike])
            elif alike:
                await conn.execute(UPDATE_DETAILS, alike)
        told = [id for id in ended if states[id].webhook_url is not None]
        if told:
            await self._tell_end(conn, told)
        return answers
