import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import update

from atelier.database import Database, now_ms
from atelier.presence import ProcessRecord, Register, installation_id
from atelier.presence.tables import processes
from atelier.service import presence as presence_module
from atelier.service.presence import Presence

ONE = ProcessRecord("one", "worker", "host-a", 12, "0.1.0", running=3)
OTHER = ProcessRecord("other-api", "api", "host-b", 13, "0.2.0", running=0)


@pytest.fixture
def register():
    return Register()


async def aged(database, id, milliseconds):
    change = (
        update(processes).where(processes.c.id == id).values(seen_at_ms=now_ms() - milliseconds)
    )
    async with database.transaction() as connection:
        await connection.execute(change)


async def test_process_is_there_from_its_start_until_it_leaves(database, register):
    await database.run(lambda conn: register.enter(conn, ONE))
    await database.run(lambda conn: register.enter(conn, OTHER))
    await database.run(lambda conn: register.keep(conn, replace(ONE, running=5)))
    async with database.read() as connection:
        one, other = await register.all(connection)
    assert (one.id, one.role, one.host, one.pid, one.version) == (
        "one",
        "worker",
        "host-a",
        12,
        "0.1.0",
    )
    assert (one.running, other.running) == (5, 0)
    assert one.alive
    assert other.alive
    assert 0 < one.started_at_ms <= one.seen_at_ms
    await database.run(lambda conn: register.leave(conn, "one"))
    async with database.read() as connection:
        assert [process.id for process in await register.all(connection)] == ["other-api"]


async def test_silent_process_is_told_as_such_and_forgotten_after_an_hour(database, register):
    await database.run(lambda conn: register.enter(conn, ONE))
    await aged(database, "one", 15_000)
    async with database.read() as connection:
        (silent,) = await register.all(connection)
    assert not silent.alive
    await aged(database, "one", 3_600_001)
    await database.run(lambda conn: register.enter(conn, OTHER))
    async with database.read() as connection:
        assert [process.id for process in await register.all(connection)] == ["other-api"]


async def test_one_that_was_forgotten_comes_back_by_itself(database, register):
    await database.run(lambda conn: register.keep(conn, ONE))
    async with database.read() as connection:
        assert [process.id for process in await register.all(connection)] == ["one"]


async def test_start_after_a_crash_counts_from_now(database, register):
    await database.run(lambda conn: register.enter(conn, ONE))
    change = update(processes).values(started_at_ms=1)
    async with database.transaction() as connection:
        await connection.execute(change)
    await database.run(lambda conn: register.enter(conn, ONE))
    async with database.read() as connection:
        (one,) = await register.all(connection)
    assert one.started_at_ms > 1


async def test_service_keeps_it_there_while_it_runs(database, register, monkeypatch):
    monkeypatch.setattr(presence_module, "EVERY_SECONDS", 0.01)
    running = 1
    presence = Presence(database=database, register=register, me=ONE, running=lambda: running)

    async def shows(number):
        async with asyncio.timeout(10):
            while [one.running for one in await presence.processes()] != [number]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async with presence.shown():
        await shows(1)
        running = 2
        await shows(2)
    assert await presence.processes() == []


async def test_all_processes_agree_on_the_name_of_the_installation(database, database_url):
    async with await Database.open(database_url) as other:
        names = await asyncio.gather(
            *(
                one.run(lambda conn, name=f"name-{number}": installation_id(conn, name))
                for number, one in enumerate([database, other] * 3)
            )
        )
    assert len(set(names)) == 1
    assert await database.run(lambda conn: installation_id(conn, "late")) == names[0]
