"""What each user has had of the instances, and how long jobs run at them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Double, Table, bindparam, case, delete, func, select
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from atelier.database import Dialect, now_ms
from atelier.jobs.tables import RUNNING_ROWS, jobs, run_times, shares

WEIGHT = 0.2  # of the newest run in the moving average
LOWEST_MS = -1e300  # raises nobody

_S, _R = shares.c, run_times.c
_RUNNING = (
    select(jobs.c.user_id, func.count().label("number"))
    .where(RUNNING_ROWS)
    .group_by(jobs.c.user_id)
)
_HAD = select(_S.user_id, _S.virtual_ms).where(_S.user_id.in_(bindparam("users", expanding=True)))
_RUN_TIMES = select(_R.workflow, _R.variant, _R.instance, _R.mean_ms, _R.runs)


def _upsert(table: Table, changes: Mapping[str, Any]) -> Mapping[str, Any]:
    """By dialect: insert a row, or change the one that there is."""
    stamp = {"updated_at_ms": now_ms()}
    values: dict[str, Any] = {
        c.name: bindparam(c.name) for c in table.c if c.name != "updated_at_ms"
    } | stamp
    keys = list(table.primary_key)
    statements: dict[str, Any] = {
        dialect: vendor.insert(table)
        .values(values)
        .on_conflict_do_update(index_elements=keys, set_={**changes, **stamp})
        for dialect, vendor in (("sqlite", sqlite), ("postgresql", postgresql))
    }
    mine = mysql.insert(table).values(values)
    return {**statements, "mysql": mine.on_duplicate_key_update({**changes, **stamp})}


def _given(name: str) -> Any:
    return bindparam(name, type_=Double)


_CHARGE = _upsert(
    shares,
    {
        "virtual_ms": case((_S.virtual_ms < _given("floor"), _given("floor")), else_=_S.virtual_ms)
        + _given("delta")
    },
)
_LEARN = _upsert(
    run_times,
    {
        "mean_ms": _given("fresh") + (_R.mean_ms - _given("fresh")) * _given("keep"),
        "runs": _R.runs + bindparam("more"),
    },
)


class RunKey(NamedTuple):
    workflow: str
    variant: str | None
    instance: str


class RunTime(NamedTuple):
    """The mean of ``runs`` runs in milliseconds; newer ones count more."""

    mean_ms: float
    runs: int


@dataclass(frozen=True, slots=True)
class UserShares:
    """By user: the virtual time (milliseconds of instances, by weight), and the running jobs.

    Whoever has no entry has had nothing, or runs nothing.
    """

    virtual_ms: Mapping[str, float]
    running: Mapping[str, int]


class Shares:
    """Workers add what they have used, rarely and many at once: no row is written often."""

    dialect: Dialect

    async def shares(self, conn: AsyncConnection, users: Collection[str]) -> UserShares:
        """The shares of ``users``, those who wait, and of all who have jobs running."""
        running = {row.user_id: row.number for row in await conn.execute(_RUNNING)}
        asked = sorted({*users, *running})
        rows = await conn.execute(_HAD, {"users": asked}) if asked else ()
        return UserShares({row.user_id: row.virtual_ms for row in rows}, running)

    async def charge(
        self,
        conn: AsyncConnection,
        deltas_ms: Mapping[str, float],
        *,
        at_least_ms: Mapping[str, float] | None = None,
    ) -> None:
        """Add ``deltas_ms`` to the virtual times of users; they may be negative.

        Where ``at_least_ms`` names the user, the time is raised to that before: whoever becomes
        active again starts where the others are.
        """
        floors = at_least_ms or {}
        rows = [
            {
                "user_id": user,
                "virtual_ms": floors.get(user, 0.0) + delta,
                "delta": delta,
                "floor": floors.get(user, LOWEST_MS),
            }
            # In one order, so that two workers don't wait for each other.
            for user, delta in sorted(deltas_ms.items())
        ]
        if rows:
            await conn.execute(_CHARGE[self.dialect], rows)

    async def forget_shares(self, conn: AsyncConnection, *, age_ms: int) -> int:
        """Forget the shares of users who had nothing for ``age_ms``; how many."""
        result = await conn.execute(delete(shares).where(_S.updated_at_ms <= now_ms() - age_ms))
        return result.rowcount

    async def run_times(self, conn: AsyncConnection) -> dict[RunKey, RunTime]:
        """What was learned of every workflow and variant at every instance."""
        return {
            RunKey(row.workflow, row.variant or None, row.instance): RunTime(row.mean_ms, row.runs)
            for row in await conn.execute(_RUN_TIMES)
        }

    async def learn(self, conn: AsyncConnection, seen: Mapping[RunKey, RunTime]) -> None:
        """Let the means move by new runs: how many, and their own mean."""
        rows = [
            {
                "workflow": key.workflow,
                "variant": key.variant or "",
                "instance": key.instance,
                "mean_ms": new.mean_ms,
                "runs": new.runs,
                "fresh": new.mean_ms,
                "more": new.runs,
                # As if they had come one by one.
                "keep": (1 - WEIGHT) ** new.runs,
            }
            for key, new in sorted(seen.items(), key=lambda item: (*map(str, item[0]),))
        ]
        if rows:
            await conn.execute(_LEARN[self.dialect], rows)

    async def forget_run_times(self, conn: AsyncConnection, *, age_ms: int) -> int:
        """Forget what nobody has learned anything of for ``age_ms``; how many."""
        result = await conn.execute(delete(run_times).where(_R.updated_at_ms <= now_ms() - age_ms))
        return result.rowcount
