"""How files are found whose time is over, on every database."""

import pytest
import uuid_utils
from sqlalchemy import text

from atelier.database import Database
from atelier.media import Asset, Catalog
from atelier.media.named_inputs import NamedInputs

HOUR_MS = 3_600_000


def an_asset(kind: str = "input", **more: object) -> Asset:
    id = str(uuid_utils.uuid7())
    given = {"user": "ada", "key": f"{kind}s/{id}.png", "media_type": "image/png"}
    return Asset(id=id, kind=kind, size_bytes=1, sha256="0" * 64, **(given | more))  # type: ignore[arg-type]


@pytest.fixture
def catalog(database: Database) -> Catalog:
    return Catalog(database.dialect)


async def age(database: Database, hours: int, *kept: Asset) -> None:
    async with database.transaction() as conn:
        for asset in kept:
            await conn.execute(
                text("UPDATE assets SET created_at_ms = created_at_ms - :by WHERE id = :id"),
                {"by": hours * HOUR_MS, "id": asset.id},
            )


async def test_old_assets_of_a_kind_are_found_page_by_page(
    database: Database, catalog: Catalog
) -> None:
    job = str(uuid_utils.uuid7())
    one, two, young = an_asset(), an_asset(), an_asset()
    made = an_asset("output", job=job)
    async with database.transaction() as conn:
        await catalog.insert(conn, [one, two, young, made])
    await age(database, 5, one, two, made)
    look = {"kinds": ["input"], "age_ms": 4 * HOUR_MS, "limit": 1}
    async with database.transaction() as conn:
        assert await catalog.older_than(conn, **look) == {one.id: None}
        assert await catalog.older_than(conn, **look, after=one.id) == {two.id: None}
        assert await catalog.older_than(conn, **look, after=two.id) == {}
        both = {**look, "kinds": ["output", "preview"]}
        assert await catalog.older_than(conn, **both) == {made.id: job}
        assert await catalog.delete_many(conn, [one.id, made.id]) == 2
        assert await catalog.delete_many(conn, [one.id, made.id]) == 0
        assert await catalog.older_than(conn, **look) == {two.id: None}
        assert [a.id for a in await catalog.deleted(conn, 5)] == [one.id, made.id]


async def test_names_of_what_is_gone_are_forgotten_unless_they_mean_something_new(
    database: Database, catalog: Catalog
) -> None:
    names = NamedInputs(database.dialect)
    gone, again, kept = an_asset(), an_asset(), an_asset()
    async with database.transaction() as conn:
        await catalog.insert(conn, [kept])
        for path, asset in (("a.png", gone), ("b.png", gone), ("c.png", kept)):
            await names.take(conn, path, asset=asset.id, sha256=asset.sha256)
        found = await catalog.names_of_nothing(conn, limit=5)
        assert found == {"a.png": gone.id, "b.png": gone.id}
        await catalog.insert(conn, [again])
        await names.take(conn, "b.png", asset=again.id, sha256="1" * 64)
        await catalog.forget_names(conn, found)
        await catalog.forget_names(conn, {})
        assert await names.find(conn, ["a.png", "b.png", "c.png"]) == {
            "b.png": again.id,
            "c.png": kept.id,
        }
        await names.take(conn, "a.png", asset=kept.id, sha256="2" * 64)
