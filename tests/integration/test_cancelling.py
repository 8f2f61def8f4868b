"""Cancelling ends a waiting job at once, a running one within a second, and no other."""

import asyncio
import time

import pytest

from atelier.service.stopping import JobEnded, JobUnknown
from atelier.worker import dispatch


async def test_waiting_job_is_cancelled_at_once(service):
    id = await service.submit()
    async with service.listening(id) as heard:
        started = time.monotonic()
        view = await service.generations.cancel(id)
        assert time.monotonic() - started < 0.5
        assert view.job.status == "cancelled"
        await asyncio.sleep(0.05)
        assert heard[-1].type == "cancelled"
    async with service.worker():
        await asyncio.sleep(0.2)
    assert (await service.job(id)).attempts == 0


async def test_running_job_is_interrupted_within_a_second_and_its_neighbour_is_not(
    service, engine, graph_of, gates, eventually
):
    running, neighbour = gates.new(), gates.new()
    async with service.worker():
        id = await service.submit(graph_of(running.node))
        await running.reached()
        other = await service.submit(graph_of(neighbour.node))
        await eventually(lambda: len(engine.posted) == 2, "the neighbour is not there")
        started = time.monotonic()
        view = await service.generations.cancel(id)
        assert view.job.status == "running"
        assert view.job.cancel_requested
        # The neighbour runs only when the engine has let go of the cancelled one.
        await neighbour.reached()
        assert time.monotonic() - started < 1
        await service.becomes(id, "cancelled")
        neighbour.open()
        await service.succeeded(other)
    job = await service.job(id)
    assert not job.outputs
    assert (await service.job(other)).attempts == 1
    assert service.told(id)[-1].type == "cancelled"


async def test_job_that_waits_at_the_instance_is_taken_out_there(
    service, engine, graph_of, gates, eventually
):
    running, waiting = gates.new(), gates.new()
    async with service.worker():
        first = await service.submit(graph_of(running.node))
        await running.reached()
        id = await service.submit(graph_of(waiting.node))
        await eventually(lambda: len(engine.posted) == 2, "it is not there")
        await service.generations.cancel(id)
        await service.becomes(id, "cancelled")
        running.open()
        await service.succeeded(first)
        await service.succeeded(await service.submit())
    assert waiting.entered == 0


async def test_job_is_cancelled_while_its_picture_is_fetched(service, engine, eventually):
    asked = asyncio.Event()

    class Slow:
        async def fetch(self, url):
            asked.set()
            await asyncio.sleep(30)

    async with service.worker(fetcher=Slow()):
        inputs = {"image": {"url": "http://pictures.example/x.png"}, "style": "clay"}
        id = await service.submit("style_change", inputs)
        await asked.wait()
        await service.generations.cancel(id)
        await service.becomes(id, "cancelled")
    assert not engine.posted


async def test_job_that_failed_after_its_cancellation_was_asked_for_counts_as_cancelled(
    service, graph_of, gates, monkeypatch, eventually
):
    """A retry that meets the request ends the job, and tells so, instead of queuing it."""
    monkeypatch.setattr(dispatch, "CANCEL_SECONDS", 60)
    monkeypatch.setattr(dispatch, "RENEW_SECONDS", 60)
    gate = gates.new()
    async with service.worker():
        id = await service.submit(graph_of(gate.node))
        await gate.reached()
        await service.generations.cancel(id)
        (instance,) = service.pool.instances
        # As if somebody else had stopped it there.
        await instance.client.cancel((await service.job(id)).prompt_id)
        await service.becomes(id, "cancelled")
        await eventually(
            lambda: [e.type for e in service.told(id)][-1] == "cancelled", "nobody was told"
        )
    assert not service.told(id, "retrying", "failed")


async def test_ended_job_can_not_be_cancelled(service):
    async with service.worker():
        id = await service.submit()
        await service.succeeded(id)
    with pytest.raises(JobEnded):
        await service.generations.cancel(id)
    assert (await service.job(id)).status == "succeeded"


async def test_cancelling_twice_is_the_same_as_once(service):
    id = await service.submit()
    await service.generations.cancel(id)
    assert (await service.generations.cancel(id)).job.status == "cancelled"


async def test_job_of_somebody_else_is_unknown(service):
    id = await service.submit(user="anna")
    with pytest.raises(JobUnknown):
        await service.generations.cancel(id, user="bert")
    assert (await service.job(id)).status == "queued"


async def test_cancelled_job_can_be_queued_again(service):
    id = await service.submit()
    await service.generations.cancel(id)
    view = await service.generations.retry(id)
    assert view.job.status == "queued"
    async with service.worker():
        await service.succeeded(id)
