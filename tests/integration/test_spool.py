"""The store is away for long: what was made waits on the disk, and is published once."""

import asyncio
from dataclasses import replace

import pytest

from atelier.storage.store import StorageForbidden, StorageUnreachable
from atelier.worker.housekeeping import Rules, sweep
from atelier.worker.items import Item, Made
from atelier.worker.spool import Spool, Spooled, SpoolFull


class Outage:
    """While ``error`` is set, nothing can be put into the store."""

    def __init__(self, store, monkeypatch):
        self.error = StorageUnreachable("away for a test")
        self._put = store.put
        monkeypatch.setattr(store, "put", self)

    async def __call__(self, *arguments, **named):
        if self.error is not None:
            raise self.error
        await self._put(*arguments, **named)

    def end(self):
        self.error = None


@pytest.fixture
def outage(service, monkeypatch):
    return Outage(service.store, monkeypatch)


@pytest.fixture
def waits(service, eventually):
    """Wait until the result of a job is in the spool."""

    async def wait(id):
        async def is_there():
            return id in await service.spool.jobs()

        await eventually(is_there, "nothing was spooled")

    return wait


async def die(dispatcher):
    """End a worker as SIGKILL does: nothing is released, nothing recorded."""
    dispatcher._stopped = True
    tasks = [*dispatcher._loops, *dispatcher._tasks]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_result_is_published_once_the_store_is_back(service, engine, outage, waits):
    async with service.worker():
        id = await service.submit()
        await waits(id)
        assert (await service.job(id)).status == "running"
        assert service.stored_files() == []
        outage.end()
        (job,) = await service.succeeded(id)
    assert job.attempts == 1
    assert list(engine.posted.values()) == [1]
    assert len(service.stored_files()) == 2, "the picture and its thumbnail, nothing besides"
    assert await service.spool.jobs() == []


async def test_instance_goes_on_while_results_wait(service, engine, outage, waits):
    async with service.worker():
        ids = [await service.submit() for _ in range(4)]
        for id in ids:
            await waits(id)
        outage.end()
        await service.succeeded(*ids)
    assert sorted(engine.posted.values()) == [1] * 4


@pytest.mark.parametrize("history", ["there", "gone"])
async def test_worker_that_comes_back_publishes_what_the_killed_one_spooled(
    service, engine, outage, waits, history, eventually
):
    async with service.worker(lease_ms=400) as dispatcher:
        id = await service.submit()
        await waits(id)
        await die(dispatcher)
    if history == "gone":
        await engine.stop()
        await engine.start()
        await eventually(lambda: service.pool.up(), "the instance did not come back")
    outage.end()
    async with service.worker():
        (job,) = await service.succeeded(id)
    assert list(engine.posted.values()) == [1]
    assert len(job.outputs) == 1
    assert job.timings["execute_ms"] >= 0
    assert len(service.stored_files()) == 2
    assert await service.spool.jobs() == []


async def test_outage_may_go_on_after_the_restart(service, engine, outage, waits):
    async with service.worker(grace_seconds=0):
        id = await service.submit()
        await waits(id)
    assert (await service.job(id)).status == "running", "handed over, not lost"
    async with service.worker("w2"):
        await asyncio.sleep(0.8)
        assert (await service.job(id)).status == "running"
        outage.end()
        (job,) = await service.succeeded(id)
    assert (job.worker, list(engine.posted.values())) == ("w2", [1])


async def test_waiting_result_can_be_cancelled(service, engine, outage, waits, eventually):
    async with service.worker():
        id = await service.submit()
        await waits(id)
        await service.generations.cancel(id)
        (job,) = await service.ended(id)
        assert job.status == "cancelled"

        async def is_empty():
            return await service.spool.jobs() == []

        await eventually(is_empty, "the spool was not emptied")


async def test_store_that_refuses_for_good_fails_the_job(service, engine, outage, waits):
    async with service.worker():
        id = await service.submit()
        await waits(id)
        outage.error = StorageForbidden("the key was withdrawn")
        job = await service.failed(id)
    assert job.error["code"] == "STORAGE_FORBIDDEN"
    assert await service.spool.jobs() == []


async def test_spool_that_is_full_says_so(service, engine, outage, tmp_path):
    tiny = Spool(tmp_path / "spool", max_bytes=10)
    async with service.worker(spool=tiny):
        job = await service.failed(await service.submit(max_attempts=1))
    assert job.error["code"] == "STORAGE_SPOOL_FULL"
    assert "10" in job.error["message"]


async def test_sweeping_drops_what_belongs_to_no_living_job(service, engine, outage, waits):
    async with service.worker(lease_ms=400) as dispatcher:
        id = await service.submit()
        await waits(id)
        await die(dispatcher)
    kept = await service.spool.find(id)
    await service.spool.keep("unheard-of", kept)
    assert await sweep(await service.context(), Rules()) == {"spooled": 1}
    assert await service.spool.jobs() == [id]


# -- the spool alone -------------------------------------------------------------------------------

MADE = Made(
    (Item("1", "a.png", data=b"picture"), Item("2", "0.txt", "text", data=b"")),
    (Item("3", "p.png", data=b"preview"),),
)


async def test_what_is_kept_is_found_with_its_bytes(tmp_path):
    spool = Spool(tmp_path / "spool", max_bytes=100)
    assert (await spool.find("job"), await spool.jobs()) == (None, [])
    await spool.keep("job", Spooled("classic", 12, MADE))
    assert await Spool(tmp_path / "spool", max_bytes=100).find("job") == Spooled(
        "classic", 12, MADE
    )
    await spool.drop("job")
    await spool.drop("job")
    assert (await spool.find("job"), await spool.jobs()) == (None, [])


async def test_keeping_again_replaces(tmp_path):
    spool = Spool(tmp_path, max_bytes=10_000)
    await spool.keep("job", Spooled("classic", 1, MADE))
    newer = Spooled("classic", 2, replace(MADE, previews=()))
    await spool.keep("job", newer)
    assert await spool.find("job") == newer


async def test_what_a_killed_writer_left_is_no_result_and_goes(tmp_path, monkeypatch):
    spool = Spool(tmp_path, max_bytes=100)
    (tmp_path / ".job-1").mkdir()
    assert await spool.jobs() == []
    monkeypatch.setattr("atelier.worker.spool.UNFINISHED_SECONDS", -1)
    assert await spool.jobs() == []
    assert list(tmp_path.iterdir()) == []


async def test_what_is_damaged_is_as_good_as_absent(tmp_path):
    spool = Spool(tmp_path, max_bytes=100)
    await spool.keep("job", Spooled("classic", 1, MADE))
    (tmp_path / "job" / "made.json").write_bytes(b"{")
    assert await spool.find("job") is None


async def test_disk_that_refuses_is_said(tmp_path):
    (tmp_path / "spool").write_bytes(b"a file in the folder's place")
    spool = Spool(tmp_path / "spool", max_bytes=100)
    with pytest.raises(SpoolFull, match="can't be written to"):
        await spool.keep("job", Spooled("classic", 1, MADE))
    assert await spool.find("job") is None
