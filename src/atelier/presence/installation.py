"""The name of this installation: of all processes that share its database."""

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from atelier.database import now_ms
from atelier.presence.tables import installation

_NAME = "id"
_ID = select(installation.c.value).where(installation.c.name == _NAME)


async def installation_id(conn: AsyncConnection, new: str) -> str:
    """The id that is kept, or ``new``, which is kept from now on."""
    known: str | None = (await conn.execute(_ID)).scalar()
    if known is not None:
        return known
    row = {"name": _NAME, "value": new, "created_at_ms": now_ms()}
    try:
        async with conn.begin_nested():
            await conn.execute(insert(installation).values(row))
    except IntegrityError:  # another process was faster
        kept: str = (await conn.execute(_ID)).scalar_one()
        return kept
    return new
