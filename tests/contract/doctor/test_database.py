"""What `atelier doctor` says of the database, on each."""

from collections.abc import Callable

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from atelier.cli.doctor import services
from atelier.database import Database
from atelier.settings import Settings


def settings_for(url: str) -> Settings:
    return Settings(database_url=SecretStr(url))  # type: ignore[call-arg]


async def test_database_that_is_up_to_date_is_well(database: Database, database_url: str) -> None:
    first, *clock = await services.database(settings_for(database_url))
    assert (first.level, first.hint) == ("ok", "")
    assert "ms away, up to date" in first.message
    assert [one.level for one in clock] == ([] if database.dialect == "sqlite" else ["ok"])


async def test_clocks_that_are_apart_are_a_warning(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if database.dialect == "sqlite":
        pytest.skip("its clock is this machine's")
    now = services.time.time
    monkeypatch.setattr(services.time, "time", lambda: now() + 60)
    _, clock = await services.database(settings_for(database_url))
    assert clock.level == "warning"
    assert "60 s behind" in clock.message


async def test_missing_and_unknown_migrations_say_what_to_do(
    new_database_url: Callable[[], str],
) -> None:
    url = new_database_url()
    empty = (await services.database(settings_for(url)))[0]
    assert (empty.level, "made at the first start" in empty.message) == ("ok", True)
    async with await Database.open(url) as database:
        await database.migrate()

        async def stand_at(revision: str) -> None:
            async with database.transaction() as conn:
                statement = "UPDATE alembic_version SET version_num = :revision"
                await conn.execute(text(statement), {"revision": revision})

        await stand_at("0001")
        pending = (await services.database(settings_for(url)))[0]
        assert (pending.level, "atelier migrate" in pending.hint) == ("warning", True)
        await stand_at("9999")
        too_new = (await services.database(settings_for(url)))[0]
        assert (too_new.level, "newer" in too_new.hint) == ("failed", True)
