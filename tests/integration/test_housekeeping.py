"""Ended tasks of a dialect go after a time, with their files."""

import asyncio

import pytest
from sqlalchemy import text

from atelier.service.assets import AssetUnknown
from atelier.service.generations import JobUnknown
from atelier.worker import housekeeping
from atelier.worker.housekeeping import sweep, sweep_forever


async def age(service, *ids, hours):
    for id in ids:

        async def work(conn, id=id):
            await conn.execute(
                text("UPDATE jobs SET finished_at_ms = finished_at_ms - :by WHERE id = :id"),
                {"by": int(hours * 3_600_000), "id": id},
            )

        await service.database.run(work)


async def test_old_tasks_go_with_their_pictures(service):
    async with service.worker():
        old = await service.submit(dialect="transform")
        young = await service.submit(dialect="transform")
        native = await service.submit(dialect="native")
        await service.succeeded(old, young, native)
    waiting = await service.submit(dialect="transform")
    (output,) = (await service.generations.get(old)).outputs
    assert len(service.stored_files()) == 6
    await age(service, old, native, hours=25)
    context = await service.context()
    assert await sweep(context, dialects=("transform",), hours=24) == 1
    with pytest.raises(JobUnknown):
        await service.generations.get(old)
    with pytest.raises(AssetUnknown):
        await service.assets.open(output.id)
    for id in (young, native, waiting):
        await service.generations.get(id)
    assert len(service.stored_files()) == 4
    assert await sweep(context, dialects=("transform",), hours=24) == 0


async def test_many_are_swept_in_batches(service, monkeypatch):
    monkeypatch.setattr(housekeeping, "BATCH", 2)
    ids = [await service.submit(dialect="transform") for _ in range(5)]
    for id in ids:
        await service.generations.cancel(id)
    await age(service, *ids, hours=2)
    context = await service.context()
    assert await sweep(context, dialects=("transform",), hours=1) == 5


async def test_sweeping_goes_on_after_the_database_was_away(service, monkeypatch, eventually):
    monkeypatch.setattr(housekeeping, "EVERY_SECONDS", 0.05)
    id = await service.submit(dialect="transform")
    await service.generations.cancel(id)
    await age(service, id, hours=2)
    context = await service.context()
    with service.database_away():
        sweeping = asyncio.create_task(sweep_forever(context, dialects=("transform",), hours=1))
        await asyncio.sleep(0.15)
        assert not sweeping.done()

    async def gone():
        try:
            await service.generations.get(id)
        except JobUnknown:
            return True
        return False

    await eventually(gone, "it is still there")
    sweeping.cancel()
    await asyncio.gather(sweeping, return_exceptions=True)
