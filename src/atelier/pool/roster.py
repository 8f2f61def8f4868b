"""SQL on the instances and their drivers, inside the caller's transaction.

One worker drives an instance at a time: it holds a lease in the database's time, under a number
that grows with each driver. What it writes carries the number; a stale one changes nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import (
    CursorResult,
    Table,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from atelier.database import Dialect, now_ms
from atelier.pool.report import Report
from atelier.pool.tables import capabilities, instances, workers

Origin = Literal["config", "api", "sidecar", "supervised", "embedded"]
Wanted = Literal["active", "draining", "removed"]

LEASE_MS: Final = 15_000
# An instance that goes with its host is forgotten soon after nobody there knows it any more;
# others, which some worker goes on serving, when nobody has configured them for a day.
LOCAL_FORGOTTEN_MS: Final = 10 * 60_000
FORGOTTEN_MS: Final = 24 * 3_600_000

_DUPLICATE: Final = 1062  # MySQL's number for a key that is there already

_I = instances.c
_IS_FREE = or_(_I.driver.is_(None), _I.lease_expires_at_ms <= now_ms())
_HELD = (_I.id == bindparam("instance")) & (_I.driver == bindparam("by"))
_RENEW = (
    update(instances)
    .where(_HELD, _I.lease == bindparam("number"))
    .values(
        lease_expires_at_ms=now_ms() + bindparam("lease_ms"),
        report=bindparam("told", type_=_I.report.type),
        capabilities=func.coalesce(bindparam("known"), _I.capabilities),
    )
)


@dataclass(frozen=True, slots=True)
class Entry:
    """An instance as somebody wants it. ``host``: only workers there reach it."""

    id: str
    url: str
    origin: Origin = "config"
    host: str | None = None
    weight: float = 1.0
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """An instance as the roster has it.

    ``driver`` is None where nobody's lease is valid; ``configured_ms_ago`` of whoever has it in
    its configuration.
    """

    id: str
    url: str
    origin: Origin
    host: str | None
    wanted: Wanted
    weight: float
    tags: tuple[str, ...]
    driver: str | None
    lease: int
    report: Report
    capabilities: str | None
    configured_by: str | None
    configured_ms_ago: int


@dataclass(frozen=True, slots=True)
class Held:
    """What the driver of an instance renews its lease with."""

    id: str
    lease: int
    report: Report
    capabilities: str | None  # None: not known yet, what is recorded stays


class Roster:
    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    # -- who is wanted -------------------------------------------------------------------------

    async def configure(
        self, conn: AsyncConnection, entries: Sequence[Entry], *, worker: str
    ) -> None:
        """Record what ``worker`` is configured with. What callers changed since stays so."""
        for entry in sorted(entries, key=lambda one: one.id):
            place = {"url": entry.url, "origin": entry.origin, "host": entry.host}
            mark = {"configured_by": worker, "configured_at_ms": now_ms()}
            changed: CursorResult[Any] = await conn.execute(
                update(instances).where(_I.id == entry.id).values(**place, **mark)
            )
            if changed.rowcount == 0:
                await self._insert(conn, entry, worker)

    async def unconfigure(
        self, conn: AsyncConnection, worker: str, *, keep: Collection[str]
    ) -> None:
        """Forget what ``worker`` was configured with in an earlier life, and is no more.

        Another that has it in its configuration still says so again before long.
        """
        gone = delete(instances).where(
            _I.configured_by == worker, _I.origin != "api", or_(_I.driver == worker, _IS_FREE)
        )
        if keep:
            gone = gone.where(_I.id.not_in(list(keep)))
        await conn.execute(gone)

    async def add(self, conn: AsyncConnection, entry: Entry) -> bool:
        """Add an instance; one that was removed comes back. False where there is one already."""
        if await self._insert(conn, entry, None):
            return True
        back: CursorResult[Any] = await conn.execute(
            update(instances)
            .where(_I.id == entry.id, _I.wanted == "removed")
            .values(
                url=entry.url,
                origin=entry.origin,
                host=entry.host,
                wanted="active",
                weight=entry.weight,
                tags=list(entry.tags),
                configured_at_ms=now_ms(),
                updated_at_ms=now_ms(),
            )
        )
        return back.rowcount == 1

    async def change(self, conn: AsyncConnection, id: str, **values: Any) -> bool:
        """Set ``wanted``, ``weight`` or ``tags``; False where there is no such instance."""
        changed: CursorResult[Any] = await conn.execute(
            update(instances).where(_I.id == id).values(**values, updated_at_ms=now_ms())
        )
        return changed.rowcount == 1

    async def _insert(self, conn: AsyncConnection, entry: Entry, worker: str | None) -> bool:
        values = {
            "id": entry.id,
            "url": entry.url,
            "origin": entry.origin,
            "host": entry.host,
            "wanted": "active",
            "weight": entry.weight,
            "tags": list(entry.tags),
            "configured_by": worker,
            "configured_at_ms": now_ms(),
            "lease": 0,
            "created_at_ms": now_ms(),
            "updated_at_ms": now_ms(),
        }
        return await self._insert_unless_there(conn, instances, values)

    # -- who drives ----------------------------------------------------------------------------

    async def attend(
        self, conn: AsyncConnection, worker: str, host: str, *, lease_ms: int = LEASE_MS
    ) -> None:
        """Say that ``worker`` is there, for ``lease_ms``."""
        until = {"host": host, "expires_at_ms": now_ms() + lease_ms}
        changed: CursorResult[Any] = await conn.execute(
            update(workers).where(workers.c.name == worker).values(until)
        )
        if changed.rowcount == 0:
            await self._insert_unless_there(conn, workers, {"name": worker, **until})

    async def leave(self, conn: AsyncConnection, worker: str) -> None:
        """Let go of all that ``worker`` drives, and say that it is gone."""
        await conn.execute(
            update(instances)
            .where(_I.driver == worker)
            .values(driver=None, lease_expires_at_ms=None)
        )
        await conn.execute(delete(workers).where(workers.c.name == worker))

    async def take(
        self, conn: AsyncConnection, id: str, worker: str, *, lease_ms: int = LEASE_MS
    ) -> int | None:
        """Become the driver of a free instance, or of one's own; the lease's number.

        None where another was quicker, or it is no longer wanted.
        """
        taken: CursorResult[Any] = await conn.execute(
            update(instances)
            .where(_I.id == id, _I.wanted != "removed", or_(_I.driver == worker, _IS_FREE))
            .values(
                driver=worker,
                lease=_I.lease + 1,
                lease_expires_at_ms=now_ms() + lease_ms,
            )
        )
        if taken.rowcount == 0:
            return None
        return int((await conn.execute(select(_I.lease).where(_I.id == id))).scalar_one())

    async def renew(
        self,
        conn: AsyncConnection,
        worker: str,
        held: Sequence[Held],
        *,
        lease_ms: int = LEASE_MS,
    ) -> frozenset[str]:
        """Extend the leases and record the reports; the ids of those that are lost.

        One that has run out but that nobody has taken over is held still.
        """
        if not held:
            return frozenset()
        rows = [
            {
                "instance": one.id,
                "by": worker,
                "number": one.lease,
                "lease_ms": lease_ms,
                "told": one.report.as_json(),
                "known": one.capabilities,
            }
            for one in sorted(held, key=lambda one: one.id)
        ]
        await conn.execute(_RENEW, rows)
        found = await conn.execute(select(_I.id, _I.lease).where(_I.driver == worker))
        still = {row.id: row.lease for row in found}
        return frozenset(one.id for one in held if still.get(one.id) != one.lease)

    async def release(self, conn: AsyncConnection, id: str, worker: str, lease: int) -> None:
        """Let go of an instance, which is there to be taken at once."""
        await conn.execute(
            update(instances)
            .where(_I.id == id, _I.driver == worker, _I.lease == lease)
            .values(driver=None, lease_expires_at_ms=None)
        )

    # -- looking -------------------------------------------------------------------------------

    async def rows(self, conn: AsyncConnection) -> list[Row]:
        """All instances, by id. Those that were removed too, until their driver has let go."""
        found = await conn.execute(select(instances, now_ms().label("now")).order_by(_I.id))
        return [_row(row) for row in found if row.wanted != "removed" or _driver(row) is not None]

    async def get(self, conn: AsyncConnection, id: str) -> Row | None:
        found = await conn.execute(select(instances, now_ms().label("now")).where(_I.id == id))
        row = found.first()
        if row is None or (row.wanted == "removed" and _driver(row) is None):
            return None
        return _row(row)

    async def workers(self, conn: AsyncConnection) -> dict[str, str]:
        """The hosts of the workers that live, by name."""
        found = await conn.execute(
            select(workers.c.name, workers.c.host).where(workers.c.expires_at_ms > now_ms())
        )
        return {row.name: row.host for row in found}

    async def keep_capabilities(self, conn: AsyncConnection, hash: str, body: str) -> None:
        values = {"hash": hash, "body": body, "created_at_ms": now_ms()}
        await self._insert_unless_there(conn, capabilities, values)

    async def capabilities(self, conn: AsyncConnection, hash: str) -> str | None:
        found = await conn.execute(select(capabilities.c.body).where(capabilities.c.hash == hash))
        return found.scalar()

    async def forget(self, conn: AsyncConnection) -> None:
        """Forget what nobody has or wants any more: instances, capabilities, workers."""
        local = _I.origin.in_(["sidecar", "supervised", "embedded"])
        await conn.execute(
            delete(instances).where(
                _IS_FREE,
                or_(
                    (_I.origin == "api") & (_I.wanted == "removed"),
                    local & (_I.configured_at_ms <= now_ms() - LOCAL_FORGOTTEN_MS),
                    (_I.origin == "config") & (_I.configured_at_ms <= now_ms() - FORGOTTEN_MS),
                ),
            )
        )
        await conn.execute(
            delete(capabilities).where(
                capabilities.c.created_at_ms <= now_ms() - FORGOTTEN_MS,
                capabilities.c.hash.not_in(
                    select(_I.capabilities).where(_I.capabilities.is_not(None))
                ),
            )
        )
        await conn.execute(
            delete(workers).where(workers.c.expires_at_ms <= now_ms() - FORGOTTEN_MS)
        )

    async def _insert_unless_there(
        self, conn: AsyncConnection, table: Table, values: Mapping[str, Any]
    ) -> bool:
        statement: Any
        if self._dialect == "mysql":
            # IGNORE would also hide a value that is too long, and ON DUPLICATE KEY UPDATE doesn't
            # tell what it did. A statement that fails leaves MySQL's transaction as it was.
            try:
                await conn.execute(insert(table).values(values))
            except IntegrityError as error:
                if error.orig is None or error.orig.args[0] != _DUPLICATE:
                    raise
                return False
            return True
        if self._dialect == "postgresql":
            statement = postgresql.insert(table).values(values).on_conflict_do_nothing()
        else:
            statement = sqlite.insert(table).values(values).on_conflict_do_nothing()
        made = await conn.execute(statement.returning(*table.primary_key))
        return made.first() is not None


def _driver(row: Any) -> str | None:
    expires = row.lease_expires_at_ms
    return row.driver if expires is not None and expires > row.now else None


def _row(row: Any) -> Row:
    return Row(
        id=row.id,
        url=row.url,
        origin=row.origin,
        host=row.host,
        wanted=row.wanted,
        weight=row.weight,
        tags=tuple(row.tags),
        driver=_driver(row),
        lease=row.lease,
        report=Report.of(row.report),
        capabilities=row.capabilities,
        configured_by=row.configured_by,
        configured_ms_ago=row.now - row.configured_at_ms,
    )
