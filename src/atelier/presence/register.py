"""The records of the processes that live. Times are the database's."""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from atelier.database import now_ms
from atelier.presence.tables import processes

Role = Literal["up", "api", "worker"]

SILENT_SECONDS = 15.0  # who hasn't been seen for so long is taken to be gone
FORGET_MS = 3_600_000

_W = processes.c
_SEEN = (
    update(processes)
    .where(_W.id == bindparam("process"))
    .values(
        role=bindparam("as_role"),
        host=bindparam("at_host"),
        pid=bindparam("by_pid"),
        version=bindparam("of_version"),
        running=bindparam("now_running"),
        seen_at_ms=now_ms(),
    )
)
_STARTED = _SEEN.values(started_at_ms=now_ms())
_ALL = select(processes, now_ms().label("now_ms")).order_by(_W.id)
_FORGOTTEN = delete(processes).where(_W.seen_at_ms < now_ms() - FORGET_MS)


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """``silent_ms``: for how long nothing has been heard of it."""

    id: str
    role: Role
    host: str
    pid: int
    version: str
    running: int
    started_at_ms: int = 0
    seen_at_ms: int = 0
    silent_ms: int = 0

    @property
    def alive(self) -> bool:
        return self.silent_ms < SILENT_SECONDS * 1000


class Register:
    async def enter(self, conn: AsyncConnection, process: ProcessRecord) -> None:
        """Record that ``process`` has started; those that went long ago are forgotten."""
        await conn.execute(_FORGOTTEN)
        if (await conn.execute(_STARTED, _values(process))).rowcount == 0:
            await self._insert(conn, process)

    async def keep(self, conn: AsyncConnection, process: ProcessRecord) -> None:
        """Record that ``process`` lives."""
        if (await conn.execute(_SEEN, _values(process))).rowcount == 0:
            await self._insert(conn, process)

    async def leave(self, conn: AsyncConnection, id: str) -> None:
        await conn.execute(delete(processes).where(_W.id == id))

    async def all(self, conn: AsyncConnection) -> list[ProcessRecord]:
        """All processes, also those that have fallen silent within the last hour."""
        return [
            ProcessRecord(
                id=row.id,
                role=row.role,
                host=row.host,
                pid=row.pid,
                version=row.version,
                running=row.running,
                started_at_ms=row.started_at_ms,
                seen_at_ms=row.seen_at_ms,
                silent_ms=max(0, row.now_ms - row.seen_at_ms),
            )
            for row in await conn.execute(_ALL)
        ]

    async def _insert(self, conn: AsyncConnection, process: ProcessRecord) -> None:
        await conn.execute(
            insert(processes).values(
                id=process.id,
                role=process.role,
                host=process.host,
                pid=process.pid,
                version=process.version,
                running=process.running,
                started_at_ms=now_ms(),
                seen_at_ms=now_ms(),
            )
        )


def _values(process: ProcessRecord) -> dict[str, object]:
    return {
        "process": process.id,
        "as_role": process.role,
        "at_host": process.host,
        "by_pid": process.pid,
        "of_version": process.version,
        "now_running": process.running,
    }
