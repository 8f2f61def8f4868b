"""What the catalogue of assets does, on every database."""

import asyncio
import dataclasses
import time

import pytest
import uuid_utils
from sqlalchemy import inspect as inspect_schema
from sqlalchemy.ext.asyncio import AsyncConnection

from atelier.database import Database
from atelier.errors import InvalidRequest
from atelier.media import Asset, Catalog, input_key, output_key, thumbnail_key
from atelier.media.tables import assets


def new_id() -> str:
    return str(uuid_utils.uuid7())


def an_asset(**changes: object) -> Asset:
    asset = Asset(
        id=new_id(),
        user="ada",
        kind="output",
        key="outputs/ab/job/1-a.png",
        thumbnail_key="outputs/ab/job/1-a.thumbnail.webp",
        media_type="image/png",
        width=1024,
        height=768,
        size_bytes=3_000_000_000,
        sha256="0" * 64,
        thumbhash="YTkGJwaRhWUIt4lbgnhZl3ath2BUBGYA",
        filename="größe 图 🖼.png",
        job=new_id(),
        node="9",
        seq=2,
        duration_seconds=4.04,
        fps=23.976,
        frames=97,
    )
    return dataclasses.replace(asset, **changes)  # type: ignore[arg-type]


@pytest.fixture
def catalog(database: Database) -> Catalog:
    return Catalog(database.dialect)


async def test_what_was_inserted_is_got(database: Database, catalog: Catalog) -> None:
    full = an_asset()
    bare = Asset(
        id=new_id(),
        user="ada",
        kind="input",
        key="inputs/a.bin",
        media_type="application/octet-stream",
        size_bytes=0,
        sha256="f" * 64,
    )
    async with database.transaction() as conn:
        await catalog.insert(conn, [full, bare])
    async with database.read() as conn:
        for asset in (full, bare):
            got = await catalog.get(conn, asset.id)
            assert got is not None
            assert abs(got.created_at_ms - time.time() * 1000) < 60_000
            assert dataclasses.replace(got, created_at_ms=0) == asset
            assert not got.deleted
        assert await catalog.get(conn, new_id()) is None


async def test_nothing_to_insert_is_fine(database: Database, catalog: Catalog) -> None:
    async with database.transaction() as conn:
        await catalog.insert(conn, [])


async def test_inserting_again_changes_nothing(database: Database, catalog: Catalog) -> None:
    """A transaction is repeated when nobody knows whether its commit took effect."""
    asset = an_asset()
    async with database.transaction() as conn:
        await catalog.insert(conn, [asset])
    async with database.transaction() as conn:
        await catalog.insert(conn, [dataclasses.replace(asset, user="eve"), an_asset()])
    async with database.read() as conn:
        got = await catalog.get(conn, asset.id)
    assert got is not None
    assert got.user == "ada"


async def test_what_is_undone_was_never_there(database: Database, catalog: Catalog) -> None:
    asset = an_asset()

    async def insert_and_fail(conn: AsyncConnection) -> None:
        await catalog.insert(conn, [asset])
        raise RuntimeError("stale")

    with pytest.raises(RuntimeError):
        await database.run(insert_and_fail)
    async with database.read() as conn:
        assert await catalog.get(conn, asset.id) is None


async def test_outputs_of_jobs_come_in_their_order(database: Database, catalog: Catalog) -> None:
    one, two, none = new_id(), new_id(), new_id()
    later = [an_asset(job=one, seq=seq) for seq in (10, 2, 0)]
    other = an_asset(job=two, seq=0)
    async with database.transaction() as conn:
        await catalog.insert(conn, [*later, other])
    async with database.read() as conn:
        assert [a.seq for a in await catalog.of_job(conn, one)] == [0, 2, 10]
        found = await catalog.of_jobs(conn, [one, two, none])
        assert {job: [a.id for a in outputs] for job, outputs in found.items()} == {
            one: [a.id for a in reversed(later)],
            two: [other.id],
        }
        assert await catalog.of_job(conn, none) == ()
        assert await catalog.of_jobs(conn, []) == {}


async def test_deleted_assets_are_only_found_when_asked_for(
    database: Database, catalog: Catalog
) -> None:
    asset = an_asset()
    async with database.transaction() as conn:
        await catalog.insert(conn, [asset])
        assert await catalog.delete(conn, asset.id)
        assert not await catalog.delete(conn, asset.id)
        assert not await catalog.delete(conn, new_id())
    async with database.read() as conn:
        assert await catalog.get(conn, asset.id) is None
        assert await catalog.of_job(conn, asset.job or "") == ()
        assert (await catalog.list(conn, user="ada")).assets == ()
        got = await catalog.get(conn, asset.id, include_deleted=True)
    assert got is not None
    assert got.deleted
    assert (got.deleted_at_ms or 0) >= got.created_at_ms


async def test_a_users_assets_are_paged_newest_first(database: Database, catalog: Catalog) -> None:
    mine = [an_asset(kind="input" if n % 3 == 0 else "output") for n in range(7)]
    async with database.transaction() as conn:
        await catalog.insert(conn, [*mine, an_asset(user="eve")])
    newest_first = [a.id for a in reversed(mine)]
    async with database.read() as conn:
        seen: list[str] = []
        cursor = None
        for size in (3, 3, 1):
            page = await catalog.list(conn, user="ada", limit=3, cursor=cursor)
            assert len(page.assets) == size
            seen += [a.id for a in page.assets]
            cursor = page.next_cursor
        assert cursor is None
        inputs = await catalog.list(conn, user="ada", kind="input")
        nobody = await catalog.list(conn, user="Ada ")
    assert seen == newest_first
    assert [a.id for a in inputs.assets] == [a.id for a in reversed(mine) if a.kind == "input"]
    assert nobody.assets == ()


async def test_a_full_last_page_names_no_next_one(database: Database, catalog: Catalog) -> None:
    async with database.transaction() as conn:
        await catalog.insert(conn, [an_asset(), an_asset()])
    async with database.read() as conn:
        assert (await catalog.list(conn, user="ada", limit=2)).next_cursor is None


@pytest.mark.parametrize("limit", [0, -1, 201])
async def test_a_page_has_a_sensible_size(database: Database, catalog: Catalog, limit: int) -> None:
    async with database.read() as conn:
        with pytest.raises(InvalidRequest, match="limit is 1 to 200"):
            await catalog.list(conn, user="ada", limit=limit)


@pytest.mark.parametrize(
    ("filename", "kept"),
    [
        ("a.png", "a.png"),
        ("x" * 300 + ".png", "x" * 251 + ".png"),
        ("a\0b.png", "ab.png"),
        ("", ""),
        (None, None),
    ],
)
async def test_any_filename_is_kept_as_a_label(
    database: Database, catalog: Catalog, filename: str | None, kept: str | None
) -> None:
    asset = an_asset(filename=filename)
    async with database.transaction() as conn:
        await catalog.insert(conn, [asset])
        got = await catalog.get(conn, asset.id)
    assert got is not None
    assert got.filename == kept


async def test_the_migrated_table_is_the_declared_one(database: Database) -> None:
    async with database.read() as conn:
        columns = await conn.run_sync(lambda sync: inspect_schema(sync).get_columns("assets"))
        indexes = await conn.run_sync(lambda sync: inspect_schema(sync).get_indexes("assets"))
    declared = {column.name: column.nullable for column in assets.columns}
    assert {column["name"]: column["nullable"] for column in columns} == declared
    assert {tuple(index["column_names"]) for index in indexes} == {
        tuple(column.name for column in index.columns) for index in assets.indexes
    }


def test_keys_spread_over_folders_and_tell_claims_apart() -> None:
    job, asset = "01890000-0000-7000-8000-0000000000ab", "01890000-0000-7000-8000-0000000000cd"
    assert input_key(asset, "image/jpeg") == f"inputs/cd/{asset}.jpg"
    first = output_key(job, 1, asset, "image/png")
    assert first == f"outputs/ab/{job}/1-{asset}.png"
    assert first != output_key(job, 2, asset, "image/png")
    assert thumbnail_key(first) == f"outputs/ab/{job}/1-{asset}.thumbnail.webp"


async def test_several_are_got_at_once(database: Database, catalog: Catalog) -> None:
    one, two, gone = an_asset(), an_asset(), an_asset()
    async with database.transaction() as conn:
        await catalog.insert(conn, [one, two, gone])
        await catalog.delete(conn, gone.id)
        got = await catalog.get_many(conn, [one.id, two.id, gone.id, new_id()])
        assert set(got) == {one.id, two.id}
        assert got[one.id].sha256 == one.sha256
        assert await catalog.get_many(conn, []) == {}


async def test_previews_are_no_outputs(database: Database, catalog: Catalog) -> None:
    job = new_id()
    preview, output = an_asset(job=job, kind="preview", seq=0), an_asset(job=job, seq=0)
    async with database.transaction() as conn:
        await catalog.insert(conn, [preview, output])
        assert [a.id for a in await catalog.of_job(conn, job)] == [output.id]
        assert [a.id for a in await catalog.made_by(conn, job)] == [output.id, preview.id]


async def test_file_is_in_use_until_the_last_asset_under_it_is_deleted(
    database: Database, catalog: Catalog
) -> None:
    job, later = new_id(), new_id()
    first = an_asset(job=job, key=f"outputs/{job}/a.png")
    second = dataclasses.replace(first, id=new_id(), job=later)
    keys = [first.key, "outputs/nobody.png"]
    async with database.transaction() as conn:
        await catalog.insert(conn, [first, second])
        await catalog.delete_made_by(conn, job)
        assert await catalog.made_by(conn, job) == ()
        assert [a.id for a in await catalog.deleted(conn, 10)] == [first.id]
        assert await catalog.deleted(conn, 10, first.id) == ()
        assert await catalog.keys_in_use(conn, keys) == {first.key}
        assert await catalog.keys_in_use(conn, keys, without=[first.id]) == {first.key}
        assert await catalog.keys_in_use(conn, keys, without=[first.id, second.id]) == set()
        await catalog.remove(conn, [first.id, second.id])
        assert await catalog.deleted(conn, 10) == ()
        assert await catalog.get(conn, second.id) is not None, "it is not deleted"
        await catalog.delete_made_by(conn, later)
        await catalog.remove(conn, [second.id])
        assert await catalog.keys_in_use(conn, keys) == set()
        assert await catalog.keys_in_use(conn, []) == set()


async def test_what_somebody_shares_just_now_is_deleted_only_afterwards(
    database: Database, catalog: Catalog
) -> None:
    """Else a file could go although an asset under it is about to be recorded."""
    job = new_id()
    asset = an_asset(job=job)
    async with database.transaction() as conn:
        await catalog.insert(conn, [asset])
    async with database.transaction() as conn:
        (made,) = await catalog.made_by(conn, job)
        deleting = asyncio.create_task(
            database.run(lambda other: catalog.delete_made_by(other, job))
        )
        await asyncio.sleep(0.05)
        assert not deleting.done()
        await catalog.insert(conn, [dataclasses.replace(made, id=new_id(), job=new_id())])
    await deleting
    async with database.read() as conn:
        assert await catalog.keys_in_use(conn, [asset.key]) == {asset.key}
        assert [a.id for a in await catalog.deleted(conn, 10)] == [asset.id]
