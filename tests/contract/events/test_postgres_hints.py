"""Wakes by LISTEN and NOTIFY, on a real PostgreSQL."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import text

from atelier.database import Database
from atelier.events import event, postgres
from atelier.events.memory import MemoryBus
from atelier.events.postgres import PostgresHints

PATIENCE_SECONDS = 10.0


pytestmark = pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(postgres, "FIRST_PAUSE_SECONDS", 0.02)


@pytest.fixture
def new_bus(database_url):
    """A bus as in a process of its own, with a database of its own."""

    @asynccontextmanager
    async def new():
        async with await Database.open(database_url) as database:
            bus = MemoryBus()
            hints = PostgresHints(database, bus.wake_here)
            bus.carry(hints.send)
            async with hints:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await hints.ready()
                yield bus

    return new


async def settled(wakeups):
    """Past what a new connection wakes for."""
    while await wakeups.wait(0.02):
        pass


@pytest.mark.parametrize("what", ["claim", "cancel", "news"])
async def test_wake_reaches_another_process(new_bus, what):
    async with (
        new_bus() as one,
        new_bus() as other,
        other.wakeups(what) as woken,
        one.wakeups(what) as own,
    ):
        await settled(woken)
        await settled(own)
        one.wake(what)
        assert await woken.wait(PATIENCE_SECONDS)
        assert await own.wait(0.01)
        assert not await own.wait(0.05), "what it sent itself doesn't come back"


async def test_what_lasts_is_news_to_others_and_progress_is_not(new_bus):
    async with new_bus() as one, new_bus() as other, other.wakeups("news") as woken:
        await settled(woken)
        one.publish(event.progress("j", "u", percent=1))
        one.publish_here(event.queued("j", "u"))
        assert not await woken.wait(0.1)
        one.publish(event.finished("j", "u", outputs=[]))
        assert await woken.wait(PATIENCE_SECONDS)


async def test_claim_does_not_wait_for_news(new_bus):
    async with new_bus() as one, new_bus() as other, other.wakeups("claim") as woken:
        await settled(woken)
        for number in range(3):
            one.publish(event.finished(f"j{number}", "u", outputs=[]))
            one.wake()
            began = asyncio.get_running_loop().time()
            assert await woken.wait(PATIENCE_SECONDS)
            assert asyncio.get_running_loop().time() - began < 1


async def test_cut_connection_is_made_again_and_wakes_whoever_waits(new_bus, database):
    async with new_bus() as one, new_bus() as other, other.wakeups() as woken:
        await settled(woken)
        cut = text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'atelier hints' AND datname = current_database()"
        )
        async with database.transaction() as connection:
            assert len((await connection.execute(cut)).all()) == 2
        assert await woken.wait(PATIENCE_SECONDS), "it looks for what it may have missed"
        await settled(woken)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                one.wake()  # which is in vain until it is connected again too
                if await woken.wait(0.05):
                    break
