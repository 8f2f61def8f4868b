"""What uploaded names mean, on every database."""

import asyncio

import pytest
import uuid_utils

from atelier.database import Database
from atelier.media import Asset, Catalog
from atelier.media.named_inputs import NamedInputs, numbered


class Names:
    """Uploads as the service makes them: an asset, then its name."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.catalog = Catalog(database.dialect)
        self.names = NamedInputs(database.dialect)

    async def upload(self, path: str, sha256: str, *, overwrite: bool = False) -> tuple[str, str]:
        """The name that was taken, and the asset."""
        asset = Asset(
            id=str(uuid_utils.uuid7()),
            user="ada",
            kind="input",
            key="inputs/a.png",
            media_type="image/png",
            size_bytes=1,
            sha256=sha256,
        )
        async with self.database.transaction() as conn:
            await self.catalog.insert(conn, [asset])
        async with self.database.transaction() as conn:
            taken = await self.names.take(
                conn, path, asset=asset.id, sha256=sha256, overwrite=overwrite
            )
        return taken, asset.id

    async def find(self, *paths: str) -> dict[str, str]:
        async with self.database.read() as conn:
            return await self.names.find(conn, paths)


@pytest.fixture
def names(database: Database) -> Names:
    return Names(database)


async def test_name_means_what_was_uploaded(names: Names) -> None:
    taken, asset = await names.upload("cats/größe 图.png", "a")
    assert taken == "cats/größe 图.png"
    assert await names.find("cats/größe 图.png", "other.png") == {taken: asset}
    assert await names.find() == {}


async def test_same_content_keeps_its_name_and_lives_as_long_as_the_newest(names: Names) -> None:
    await names.upload("cat.png", "a")
    taken, newest = await names.upload("cat.png", "a")
    assert taken == "cat.png"
    assert await names.find("cat.png") == {"cat.png": newest}


async def test_other_content_gets_another_name_unless_it_shall_overwrite(names: Names) -> None:
    await names.upload("cats/cat.png", "a")
    taken, _ = await names.upload("cats/cat.png", "b")
    assert taken == "cats/cat (1).png"
    assert (await names.upload("cats/cat.png", "c"))[0] == "cats/cat (2).png"
    assert (await names.upload("cats/cat.png", "b"))[0] == "cats/cat (1).png"
    taken, third = await names.upload("cats/cat.png", "d", overwrite=True)
    assert await names.find("cats/cat.png") == {"cats/cat.png": third}


async def test_more_names_than_one_query_looks_at(names: Names) -> None:
    for number in range(53):
        taken, _ = await names.upload("a.png", f"content {number}")
        assert taken == numbered("a.png", number)


async def test_names_that_differ_in_case_are_different(names: Names) -> None:
    await names.upload("cat.png", "a")
    assert (await names.upload("Cat.png", "b"))[0] == "Cat.png"
    assert len(await names.find("cat.png", "Cat.png", "CAT.png")) == 2


async def test_name_of_a_deleted_picture_is_free(names: Names) -> None:
    _, asset = await names.upload("cat.png", "a")
    async with names.database.transaction() as conn:
        await names.catalog.delete(conn, asset)
    assert await names.find("cat.png") == {}
    taken, newest = await names.upload("cat.png", "b")
    assert taken == "cat.png"
    assert await names.find("cat.png") == {"cat.png": newest}


async def test_uploads_at_the_same_moment_get_different_names(names: Names) -> None:
    uploads = [names.upload("cat.png", f"content {number}") for number in range(6)]
    taken = {name for name, _ in await asyncio.gather(*uploads)}
    assert taken == {numbered("cat.png", number) for number in range(6)}


def test_number_goes_before_the_ending() -> None:
    assert numbered("cats/cat.tar.gz", 3) == "cats/cat.tar (3).gz"
    assert numbered("cat", 1) == "cat (1)"
    assert numbered("cats/cat.png", 0) == "cats/cat.png"
