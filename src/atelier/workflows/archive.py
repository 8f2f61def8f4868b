"""SQL on registered workflows and their versions, inside the caller's transaction."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import String, and_, bindparam, delete, exists, func, literal, or_, select
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from atelier.database import DatabaseBusy, Dialect, Json, now_ms
from atelier.workflows.tables import workflow_versions, workflows

_V = workflow_versions.c
_TRIES: Final = 20
_AT_ONCE: Final = 100  # names in one statement
_NUMBER = select(_V.number).where(_V.name == bindparam("name"), _V.version == bindparam("version"))
_NEXT = select(
    bindparam("name", type_=String),
    bindparam("version", type_=String),
    func.coalesce(func.max(_V.number), literal(0)) + literal(1),
    bindparam("origin", type_=String),
    bindparam("body", type_=Json),
    now_ms(),
).where(_V.name == bindparam("name", type_=String))
_COLUMNS: Final = ("name", "version", "number", "origin", "body", "created_at_ms")
_KEEP: Final[Mapping[str, Any]] = {
    "sqlite": sqlite.insert(workflow_versions)
    .from_select(_COLUMNS, _NEXT.where(literal(True)))
    .on_conflict_do_nothing(),
    "postgresql": postgresql.insert(workflow_versions)
    .from_select(_COLUMNS, _NEXT)
    .on_conflict_do_nothing(),
    "mysql": mysql.insert(workflow_versions).from_select(_COLUMNS, _NEXT),
}


@dataclass(frozen=True, slots=True)
class WorkflowVersion:
    """One content of a workflow; ``number`` counts those of its name from 1."""

    name: str
    version: str
    number: int
    origin: str
    created_at_ms: int


class Archive:
    """What is registered, and every version that there was."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    async def keep(
        self, conn: AsyncConnection, name: str, version: str, body: Mapping[str, Any], origin: str
    ) -> int:
        """Keep a version unless it is kept; return its number."""
        key = {"name": name, "version": version}
        row = {**key, "body": body, "origin": origin}
        for _ in range(_TRIES):
            number = (await conn.execute(_NUMBER, key)).scalar()
            if number is not None:
                return int(number)
            # Where another transaction takes the same number first, the next one is tried.
            try:
                await conn.execute(_KEEP[self._dialect], row)
            except IntegrityError as error:
                # On MySQL a statement that fails leaves the transaction as it was.
                if self._dialect != "mysql" or error.orig is None or error.orig.args[0] != 1062:
                    raise
        raise DatabaseBusy(f"Too many register versions of {name} at once.")

    async def body(
        self, conn: AsyncConnection, name: str, version: str
    ) -> Mapping[str, Any] | None:
        """Return what is kept as that version."""
        found = await self.bodies(conn, {name: version})
        return found.get(name)

    async def bodies(
        self, conn: AsyncConnection, wanted: Mapping[str, str]
    ) -> dict[str, Mapping[str, Any]]:
        """Return by name what is kept of those versions; what isn't kept is absent."""
        found: dict[str, Mapping[str, Any]] = {}
        pairs = list(wanted.items())
        for start in range(0, len(pairs), _AT_ONCE):
            these = pairs[start : start + _AT_ONCE]
            query = select(_V.name, _V.body).where(
                or_(*(and_(_V.name == name, _V.version == version) for name, version in these))
            )
            found |= {row.name: row.body for row in await conn.execute(query)}
        return found

    async def versions(self, conn: AsyncConnection, name: str) -> list[WorkflowVersion]:
        """Return the kept versions, newest first."""
        query = (
            select(_V.name, _V.version, _V.number, _V.origin, _V.created_at_ms)
            .where(_V.name == name)
            .order_by(_V.number.desc())
        )
        return [WorkflowVersion(*row) for row in await conn.execute(query)]

    async def superseded(
        self, conn: AsyncConnection, *, age_ms: int, limit: int
    ) -> list[tuple[str, str]]:
        """Versions, as (name, version), that were last wanted ``age_ms`` ago or earlier.

        Left out are the newest of each name, and all of what is registered: its history.
        """
        newer = workflow_versions.alias()
        query = (
            select(_V.name, _V.version)
            .where(
                _V.created_at_ms <= now_ms() - age_ms,
                _V.name.not_in(select(workflows.c.name)),
                exists().where(newer.c.name == _V.name, newer.c.number > _V.number),
            )
            .limit(limit)
        )
        return [(row.name, row.version) for row in await conn.execute(query)]

    async def forget(
        self, conn: AsyncConnection, versions: Collection[tuple[str, str]], *, age_ms: int
    ) -> None:
        """Forget ``versions``, but none that somebody has wanted meanwhile."""
        for name, version in versions:
            await conn.execute(
                delete(workflow_versions).where(
                    _V.name == name, _V.version == version, _V.created_at_ms <= now_ms() - age_ms
                )
            )

    async def current(self, conn: AsyncConnection) -> dict[str, str]:
        """Return the version of every registered workflow by its name."""
        query = select(workflows.c.name, workflows.c.version).order_by(workflows.c.name)
        return {row.name: row.version for row in await conn.execute(query)}

    async def register(self, conn: AsyncConnection, name: str, version: str) -> None:
        """Let ``name`` mean ``version``, which is kept."""
        row = {
            "name": name,
            "version": version,
            "created_at_ms": now_ms(),
            "updated_at_ms": now_ms(),
        }
        changed = {"version": version, "updated_at_ms": now_ms()}
        if self._dialect == "mysql":
            await conn.execute(mysql.insert(workflows).values(row).on_duplicate_key_update(changed))
            return
        vendor: Any = sqlite if self._dialect == "sqlite" else postgresql
        await conn.execute(
            vendor.insert(workflows)
            .values(row)
            .on_conflict_do_update(index_elements=["name"], set_=changed)
        )

    async def remove(self, conn: AsyncConnection, name: str) -> bool:
        """Let ``name`` mean nothing; its versions are kept. False if it meant nothing before."""
        result = await conn.execute(delete(workflows).where(workflows.c.name == name))
        return result.rowcount > 0
