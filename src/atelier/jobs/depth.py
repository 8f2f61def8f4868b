"""How much waits, by what it needs: for those who watch and those who scale."""

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from atelier.database import now_ms
from atelier.jobs.tables import QUEUED_ROWS, jobs

_J = jobs.c
_DEPTH = (
    select(
        _J.workflow,
        _J.model,
        func.count().label("number"),
        (now_ms() - func.min(_J.created_at_ms)).label("oldest_ms"),
    )
    .where(QUEUED_ROWS)
    .group_by(_J.workflow, _J.model)
    .order_by(func.count().desc(), _J.workflow, _J.model)
)


@dataclass(frozen=True, slots=True)
class Depth:
    """``number`` queued jobs of a workflow and model; the oldest came ``oldest_ms`` ago."""

    workflow: str
    model: str | None
    number: int
    oldest_ms: int


async def depth(conn: AsyncConnection) -> list[Depth]:
    """By workflow and model, the most first. Reads every queued row."""
    return [
        Depth(row.workflow, row.model, row.number, row.oldest_ms)
        for row in await conn.execute(_DEPTH)
    ]
