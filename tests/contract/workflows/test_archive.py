"""What the archive of workflows does, on every database."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import text

from atelier.database import Database
from atelier.workflows.archive import Archive

BODY = {"manifest": {"title": "图 \0 🖼"}, "graphs": {"graph": {"1": {"class_type": "A"}}}}


@pytest.fixture
def do(database: Database) -> Callable[..., Awaitable[Any]]:
    """Call a method of the archive in a transaction of its own."""
    archive = Archive(database.dialect)

    async def call(method: str, *arguments: Any) -> Any:
        return await database.run(lambda conn: getattr(archive, method)(conn, *arguments))

    return call


async def test_versions_of_a_name_are_numbered_and_listed_newest_first(do: Any) -> None:
    assert await do("keep", "a", "v1", BODY, "own") == 1
    assert await do("keep", "a", "v2", {**BODY, "x": 1}, "own") == 2
    assert await do("keep", "b", "v1", BODY, "folder") == 1
    listed = await do("versions", "a")
    assert [(one.version, one.number, one.origin) for one in listed] == [
        ("v2", 2, "own"),
        ("v1", 1, "own"),
    ]
    assert all(one.created_at_ms > 1_700_000_000_000 for one in listed)
    assert await do("versions", "nothing") == []


async def test_a_version_is_kept_once(do: Any) -> None:
    await do("keep", "a", "v1", BODY, "own")
    await do("keep", "a", "v2", BODY, "own")
    assert await do("keep", "a", "v1", {"other": True}, "folder") == 1
    assert await do("body", "a", "v1") == BODY
    assert await do("body", "a", "v3") is None


async def test_names_that_differ_in_case_are_different(do: Any) -> None:
    await do("keep", "a", "v1", BODY, "own")
    await do("register", "a", "v1")
    assert await do("keep", "A", "v1", {"upper": True}, "own") == 1
    await do("register", "A", "v1")
    assert await do("body", "A", "v1") == {"upper": True}
    assert set(await do("current")) == {"a", "A"}


async def test_many_bodies_are_found_at_once(do: Any) -> None:
    for number in range(3):
        await do("keep", f"n{number}", f"v{number}", {"number": number}, "own")
    wanted = {"n0": "v0", "n1": "another", "n2": "v2"} | {f"x{i}": "v" for i in range(250)}
    assert await do("bodies", wanted) == {"n0": {"number": 0}, "n2": {"number": 2}}
    assert await do("bodies", {}) == {}


async def test_registering_moves_a_name_and_removing_keeps_its_versions(do: Any) -> None:
    for version in ("v1", "v2"):
        await do("keep", "a", version, BODY, "own")
        await do("register", "a", version)
    await do("register", "a", "v2")
    assert await do("current") == {"a": "v2"}
    assert await do("remove", "a") is True
    assert await do("remove", "a") is False
    assert await do("current") == {}
    assert len(await do("versions", "a")) == 2


async def test_processes_that_keep_versions_at_once_get_numbers_of_their_own(do: Any) -> None:
    versions = [f"v{number % 6}" for number in range(12)]
    numbers = await asyncio.gather(*(do("keep", "a", version, BODY, "own") for version in versions))
    assert set(numbers) == set(range(1, 7))
    assert numbers[:6] == numbers[6:]


async def test_a_kept_version_is_undone_with_its_transaction(database: Database, do: Any) -> None:
    archive = Archive(database.dialect)

    async def keep_and_fail() -> None:
        async with database.transaction() as conn:
            await archive.keep(conn, "a", "v1", BODY, "own")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await keep_and_fail()
    assert await do("versions", "a") == []


async def test_old_versions_that_nothing_calls_by_its_name_are_forgotten(
    do: Any, database: Database
) -> None:
    for name, version in (("file", "v1"), ("file", "v2"), ("own", "v1"), ("own", "v2")):
        await do("keep", name, version, BODY, "folder")
    await do("register", "own", "v2")

    async def superseded(age_ms: int = 1000) -> list[tuple[str, str]]:
        archive = Archive(database.dialect)
        async with database.read() as conn:
            return await archive.superseded(conn, age_ms=age_ms, limit=5)

    assert await superseded() == []
    async with database.transaction() as conn:
        await conn.execute(text("UPDATE workflow_versions SET created_at_ms = 1"))
    assert await superseded() == [("file", "v1")], "the history of what is registered stays"
    async with database.transaction() as conn:
        await Archive(database.dialect).forget(conn, [("file", "v1")], age_ms=1000)
    assert [one.version for one in await do("versions", "file")] == ["v2"]
    assert len(await do("versions", "own")) == 2
