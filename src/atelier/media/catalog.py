"""SQL on assets, inside the caller's transaction."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Insert, RowMapping, delete, select, update
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from atelier.database import Dialect, now_ms
from atelier.errors import InvalidRequest
from atelier.media.asset import Asset, Kind
from atelier.media.expiry import Expiry
from atelier.media.tables import assets

MAX_PAGE = 200


@dataclass(frozen=True, slots=True)
class AssetPage:
    """Assets, newest first, and where the next page starts (None: this is the last)."""

    assets: tuple[Asset, ...]
    next_cursor: str | None


class Catalog(Expiry):
    """What assets there are. Deleted ones are only found where it says so."""

    def __init__(self, dialect: Dialect) -> None:
        self._insert = _insert_into(dialect)

    async def insert(self, conn: AsyncConnection, new: Sequence[Asset]) -> None:
        """Record assets, created now. One that is there already stays as it is, so that
        repeating a transaction whose outcome was unknown does no harm."""
        if new:
            await conn.execute(self._insert, [_row(asset) for asset in new])

    async def get(
        self, conn: AsyncConnection, id: str, *, include_deleted: bool = False
    ) -> Asset | None:
        query = select(assets).where(assets.c.id == id)
        if not include_deleted:
            query = query.where(assets.c.deleted_at_ms.is_(None))
        row = (await conn.execute(query)).mappings().first()
        return None if row is None else _asset(row)

    async def get_many(self, conn: AsyncConnection, ids: Collection[str]) -> dict[str, Asset]:
        """Those of ``ids`` that there are."""
        if not ids:
            return {}
        query = select(assets).where(assets.c.id.in_(list(ids)), assets.c.deleted_at_ms.is_(None))
        return {row["id"]: _asset(row) for row in (await conn.execute(query)).mappings()}

    async def of_job(self, conn: AsyncConnection, job: str) -> tuple[Asset, ...]:
        """A job's outputs in their order."""
        return (await self.of_jobs(conn, [job])).get(job, ())

    async def of_jobs(
        self, conn: AsyncConnection, jobs: Collection[str]
    ) -> dict[str, tuple[Asset, ...]]:
        """The outputs of each job that has some, in their order."""
        if not jobs:
            return {}
        query = (
            select(assets)
            .where(
                assets.c.job_id.in_(list(jobs)),
                assets.c.kind == "output",
                assets.c.deleted_at_ms.is_(None),
            )
            .order_by(assets.c.job_id, assets.c.seq, assets.c.id)
        )
        found: dict[str, list[Asset]] = {}
        for row in (await conn.execute(query)).mappings():
            found.setdefault(row["job_id"], []).append(_asset(row))
        return {job: tuple(outputs) for job, outputs in found.items()}

    async def made_by(self, conn: AsyncConnection, job: str) -> tuple[Asset, ...]:
        """A job's outputs and previews, none of which goes before this transaction ends."""
        query = (
            select(assets)
            .where(assets.c.job_id == job, assets.c.deleted_at_ms.is_(None))
            .order_by(assets.c.kind, assets.c.seq, assets.c.id)
            .with_for_update(read=True)
        )
        return tuple(_asset(row) for row in (await conn.execute(query)).mappings())

    async def list(
        self,
        conn: AsyncConnection,
        *,
        user: str,
        kind: Kind | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> AssetPage:
        """A user's assets, newest first, from ``cursor`` (of the page before) on."""
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidRequest(f"limit is 1 to {MAX_PAGE}, not {limit}.", limit=limit)
        query = select(assets).where(assets.c.user_id == user, assets.c.deleted_at_ms.is_(None))
        if kind is not None:
            query = query.where(assets.c.kind == kind)
        if cursor is not None:
            query = query.where(assets.c.id < cursor)
        query = query.order_by(assets.c.id.desc()).limit(limit + 1)
        found = [_asset(row) for row in (await conn.execute(query)).mappings()]
        has_more = len(found) > limit
        page = tuple(found[:limit])
        return AssetPage(page, page[-1].id if has_more else None)

    async def delete(self, conn: AsyncConnection, id: str) -> bool:
        """Mark an asset as deleted; False if there is none or it was before."""
        result = await conn.execute(
            update(assets)
            .where(assets.c.id == id, assets.c.deleted_at_ms.is_(None))
            .values(deleted_at_ms=now_ms())
        )
        return result.rowcount > 0

    async def delete_made_by(self, conn: AsyncConnection, job: str) -> None:
        """Mark all that a job has made as deleted."""
        await conn.execute(
            update(assets)
            .where(assets.c.job_id == job, assets.c.deleted_at_ms.is_(None))
            .values(deleted_at_ms=now_ms())
        )

    async def deleted(
        self, conn: AsyncConnection, limit: int, after: str = ""
    ) -> tuple[Asset, ...]:
        """Up to ``limit`` assets behind ``after`` that are marked as deleted, not removed yet."""
        query = (
            select(assets)
            .where(assets.c.deleted_at_ms.is_not(None), assets.c.id > after)
            .order_by(assets.c.id)
            .limit(limit)
        )
        return tuple(_asset(row) for row in (await conn.execute(query)).mappings())

    async def keys_in_use(
        self, conn: AsyncConnection, keys: Collection[str], *, without: Collection[str] = ()
    ) -> set[str]:
        """Those of ``keys`` that an asset, deleted or not, is kept under, but for ``without``."""
        if not keys:
            return set()
        query = select(assets.c.key).where(
            assets.c.key.in_(list(keys)), assets.c.id.not_in(list(without))
        )
        return set((await conn.execute(query)).scalars())

    async def remove(self, conn: AsyncConnection, ids: Collection[str]) -> None:
        """Forget assets that are marked as deleted; their files are gone or others'."""
        if ids:
            await conn.execute(
                delete(assets).where(
                    assets.c.id.in_(list(ids)), assets.c.deleted_at_ms.is_not(None)
                )
            )


def _insert_into(dialect: Dialect) -> Insert:
    values: dict[str, Any] = {"created_at_ms": now_ms()}
    if dialect == "sqlite":
        return sqlite.insert(assets).values(values).on_conflict_do_nothing()
    if dialect == "postgresql":
        return postgresql.insert(assets).values(values).on_conflict_do_nothing()
    # IGNORE would also hide a value that is too long.
    statement = mysql.insert(assets).values(values)
    return statement.on_duplicate_key_update(id=statement.inserted.id)


def _row(asset: Asset) -> dict[str, Any]:
    return {
        "id": asset.id,
        "user_id": asset.user,
        "kind": asset.kind,
        "key": asset.key,
        "thumbnail_key": asset.thumbnail_key,
        "media_type": asset.media_type,
        "width": asset.width,
        "height": asset.height,
        "duration_seconds": asset.duration_seconds,
        "fps": asset.fps,
        "frames": asset.frames,
        "size_bytes": asset.size_bytes,
        "sha256": asset.sha256,
        "thumbhash": asset.thumbhash,
        "filename": _label(asset.filename),
        "job_id": asset.job,
        "node": asset.node,
        "seq": asset.seq,
    }


def _label(filename: str | None) -> str | None:
    # A name given by a user only labels; PostgreSQL keeps no NUL, and its end tells most.
    return None if filename is None else filename.replace("\0", "")[-255:]


def _asset(row: RowMapping) -> Asset:
    return Asset(
        id=row["id"],
        user=row["user_id"],
        kind=row["kind"],
        key=row["key"],
        thumbnail_key=row["thumbnail_key"],
        media_type=row["media_type"],
        width=row["width"],
        height=row["height"],
        duration_seconds=row["duration_seconds"],
        fps=row["fps"],
        frames=row["frames"],
        size_bytes=row["size_bytes"],
        sha256=row["sha256"],
        thumbhash=row["thumbhash"],
        filename=row["filename"],
        job=row["job_id"],
        node=row["node"],
        seq=row["seq"],
        created_at_ms=row["created_at_ms"],
        deleted_at_ms=row["deleted_at_ms"],
    )
