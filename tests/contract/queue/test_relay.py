"""What the record says reaches listeners whom nobody else has told, and only those."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from atelier.events import event
from atelier.events.interest import Interest
from atelier.events.memory import MemoryBus
from atelier.jobs.job import Progress
from atelier.service import relay as relay_module
from atelier.service.relay import Relay

PATIENCE_SECONDS = 10.0


@pytest.fixture
def bus():
    return MemoryBus(interest=Interest(clock=time.monotonic), seconds_per_listener=0.0)


@pytest.fixture
def relaying(bench, bus, monkeypatch):
    """A relay of an API process that looks when it is told to, and hardly by itself."""
    monkeypatch.setattr(relay_module, "LEAST_SECONDS", 0.0)

    @asynccontextmanager
    async def run(every_seconds=3600.0):
        monkeypatch.setattr(relay_module, "EVERY_SECONDS", every_seconds)
        relay = Relay(database=bench.database, queue=bench.queue, bus=bus)
        task = asyncio.create_task(relay.run())
        try:
            yield relay
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    return run


async def next_events(subscription):
    return [one.type for one in await subscription.batch(PATIENCE_SECONDS)]


async def finish(bench, claim):
    assert await bench.do("finish", claim.job.id, claim.lease, [], {"execute_ms": 1})


async def test_end_that_nobody_told_is_found_by_polling(bench, bus, relaying):
    claim = await bench.claimed()
    async with relaying(every_seconds=0.02), bus.subscribe(job=claim.job.id) as subscription:
        await finish(bench, claim)
        kinds = []
        while "finished" not in kinds:
            kinds += await next_events(subscription)
        assert set(kinds) <= {"progress", "finished"}


async def test_hint_that_there_is_news_is_followed_at_once(bench, bus, relaying):
    claim = await bench.claimed()
    async with relaying() as relay, bus.subscribe(job=claim.job.id) as subscription:
        await relay._look()
        assert await next_events(subscription) == ["progress"]
        await finish(bench, claim)
        bus.wake_here("news")
        assert await next_events(subscription) == ["finished"]


async def test_what_was_told_already_is_not_told_again(bench, bus, relaying):
    claim = await bench.claimed()
    job = claim.job
    async with relaying() as relay, bus.subscribe(user=job.user) as subscription:
        bus.publish_here(event.progress(job.id, job.user, percent=60))
        await bench.do("renew", "w1", 15_000, {job.id: claim.lease}, {job.id: Progress(percent=40)})
        await relay._look()
        await finish(bench, claim)
        bus.publish_here(event.finished(job.id, job.user, outputs=[]))
        await relay._look()
        await relay._look()
        assert await next_events(subscription) == ["progress", "finished"]
        assert subscription.pending == 0


async def test_record_that_is_further_than_what_was_told_is_told(bench, bus, relaying):
    claim = await bench.claimed()
    job = claim.job
    async with relaying() as relay, bus.subscribe(job=job.id) as subscription:
        bus.publish_here(event.progress(job.id, job.user, percent=20))
        assert await next_events(subscription) == ["progress"]
        await bench.do("renew", "w1", 15_000, {job.id: claim.lease}, {job.id: Progress(percent=70)})
        await relay._look()
        assert await next_events(subscription) == ["progress"]
        assert bus.progress_of(job.id).data["percent"] == 70


async def test_job_that_runs_again_is_told_though_its_end_was(bench, bus, relaying):
    """A retry elsewhere whose telling got lost."""
    claim = await bench.claimed()
    job = claim.job
    async with relaying() as relay, bus.subscribe(user=job.user) as subscription:
        await bench.do("cancel", job.id)
        assert await bench.do("finish_cancelled", job.id, claim.lease)
        bus.publish_here(event.cancelled(job.id, job.user))
        assert await next_events(subscription) == ["cancelled"]
        assert await bench.do("requeue", job.id)
        again = await bench.claim()
        await relay._look()
        assert await next_events(subscription) == ["queued", "progress"]
        await finish(bench, again)
        await relay._look()
        assert await next_events(subscription) == ["finished"]
