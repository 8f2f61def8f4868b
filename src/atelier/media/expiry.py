"""Files that have been kept long enough. SQL inside the caller's transaction."""

from collections.abc import Collection, Mapping

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from atelier.database import now_ms
from atelier.media.asset import Kind
from atelier.media.tables import assets, named_inputs

_A, _N = assets.c, named_inputs.c
_FORGET_NAME = delete(named_inputs).where(
    _N.path == bindparam("of_path"), _N.asset_id == bindparam("of_asset")
)


class Expiry:
    async def older_than(
        self,
        conn: AsyncConnection,
        *,
        kinds: Collection[Kind],
        age_ms: int,
        limit: int,
        after: str = "",
    ) -> dict[str, str | None]:
        """Assets of ``kinds`` behind ``after`` that came ``age_ms`` ago or earlier, by id.

        The values are the jobs that made them. Deleted ones are left out.
        """
        query = (
            select(_A.id, _A.job_id)
            .where(
                _A.id > after,
                _A.kind.in_(list(kinds)),
                _A.created_at_ms <= now_ms() - age_ms,
                _A.deleted_at_ms.is_(None),
            )
            .order_by(_A.id)
            .limit(limit)
        )
        return {row.id: row.job_id for row in await conn.execute(query)}

    async def delete_many(self, conn: AsyncConnection, ids: Collection[str]) -> int:
        """Mark those of ``ids`` as deleted that aren't yet; how many."""
        result = await conn.execute(
            update(assets)
            .where(_A.id.in_(list(ids)), _A.deleted_at_ms.is_(None))
            .values(deleted_at_ms=now_ms())
        )
        return result.rowcount

    async def names_of_nothing(self, conn: AsyncConnection, *, limit: int) -> dict[str, str]:
        """Names of inputs whose assets are gone, and the ids of these."""
        query = (
            select(_N.path, _N.asset_id)
            .join_from(named_inputs, assets, _A.id == _N.asset_id, isouter=True)
            .where(_A.id.is_(None))
            .limit(limit)
        )
        return {row.path: row.asset_id for row in await conn.execute(query)}

    async def forget_names(self, conn: AsyncConnection, names: Mapping[str, str]) -> None:
        """Forget ``names``, but none that means another asset by now."""
        if names:
            rows = [{"of_path": path, "of_asset": asset} for path, asset in names.items()]
            await conn.execute(_FORGET_NAME, rows)
