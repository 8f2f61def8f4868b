"""Uploaded pictures by the names that graphs call them, inside the caller's transaction."""

from collections.abc import Collection, Mapping
from pathlib import PurePosixPath
from typing import Any

from sqlalchemy import Insert, func, select, update
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from atelier.database import Dialect, now_ms
from atelier.media.tables import assets, named_inputs

MAX_PATH_CHARACTERS = 500  # of 512: "name (123).png" must fit too
_AT_ONCE = 50  # names that are looked at with one query

_N = named_inputs.c


class NamedInputs:
    """Which asset a name means. The name of a deleted asset is free."""

    def __init__(self, dialect: Dialect) -> None:
        self._insert = _insert_unless_there(dialect)

    async def find(self, conn: AsyncConnection, paths: Collection[str]) -> dict[str, str]:
        """The assets of those ``paths`` that mean one."""
        known = await self._known(conn, paths)
        return {path: asset for path, (asset, _, is_kept) in known.items() if is_kept}

    async def take(
        self, conn: AsyncConnection, path: str, *, asset: str, sha256: str, overwrite: bool = False
    ) -> str:
        """Let ``path`` mean ``asset`` from now on, and return it.

        Where it means another content, and without ``overwrite``, the first of
        ``name (1).png``, ``name (2).png``, ... that doesn't is taken instead.
        """
        number = 0
        while True:
            paths = [numbered(path, n) for n in range(number, number + _AT_ONCE)]
            known = await self._known(conn, paths)
            for candidate in paths:
                _, held, is_kept = known.get(candidate, (None, sha256, False))
                if (overwrite or not is_kept or held == sha256) and await self._put(
                    conn, candidate, asset, sha256, is_new=candidate not in known
                ):
                    return candidate
            number += _AT_ONCE

    async def _put(
        self, conn: AsyncConnection, path: str, asset: str, sha256: str, *, is_new: bool
    ) -> bool:
        values = {"path": path, "asset_id": asset, "sha256": sha256}
        if is_new:
            await conn.execute(self._insert, values)
            # Another upload may have been quicker.
            holder = await conn.scalar(select(_N.asset_id).where(_N.path == path))
            return holder == asset
        changed = {"asset_id": asset, "sha256": sha256, "updated_at_ms": now_ms()}
        await conn.execute(update(named_inputs).where(_N.path == path).values(changed))
        return True

    async def _known(
        self, conn: AsyncConnection, paths: Collection[str]
    ) -> Mapping[str, tuple[str, str, bool]]:
        """Asset, sha256 and whether the asset is kept, of those ``paths`` that there are."""
        if not paths:
            return {}
        kept = func.coalesce(assets.c.deleted_at_ms, 0) == 0
        query = (
            select(_N.path, _N.asset_id, _N.sha256, assets.c.id.is_not(None) & kept)
            .join_from(named_inputs, assets, assets.c.id == _N.asset_id, isouter=True)
            .where(_N.path.in_(list(paths)))
        )
        rows = await conn.execute(query)
        return {path: (asset, sha256, bool(is_kept)) for path, asset, sha256, is_kept in rows}


def numbered(path: str, number: int) -> str:
    """``path`` itself for 0, else as ComfyUI renames: ``cats/cat (1).png``."""
    if not number:
        return path
    whole = PurePosixPath(path)
    return str(whole.with_name(f"{whole.stem} ({number}){whole.suffix}"))


def _insert_unless_there(dialect: Dialect) -> Insert:
    values: dict[str, Any] = {"updated_at_ms": now_ms()}
    if dialect == "sqlite":
        return sqlite.insert(named_inputs).values(values).on_conflict_do_nothing()
    if dialect == "postgresql":
        return postgresql.insert(named_inputs).values(values).on_conflict_do_nothing()
    # IGNORE would also hide a value that is too long.
    return mysql.insert(named_inputs).values(values).on_duplicate_key_update(path=_N.path)
