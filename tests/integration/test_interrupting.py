"""Stopping what is being generated for us, emptying the queue, and looking into instances."""

import asyncio
import uuid

import aiohttp
import pytest

from atelier.service.stopping import InstanceUnknown, JobEnded, JobUnknown


@pytest.fixture
async def busy(service, graph_of, gates, eventually):
    """Ids of a job that runs, one that is at the instance behind it, and one that waits here."""
    gate = gates.new()
    async with service.worker(capacity=2):
        running = await service.submit(graph_of(gate.node))
        await gate.reached()
        behind = await service.submit(graph_of(gates.new().node))
        instance = service.pool.instances[0]
        await eventually(lambda: behind in instance.running, "the second is not there")
        waiting = await service.submit(user="eve")
        yield running, behind, waiting
        gates.open_all()


async def foreign_prompt(engine, graph):
    """A prompt that somebody else submitted to the instance; its id."""
    body = {"prompt": graph, "prompt_id": str(uuid.uuid4())}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{engine.url}/prompt", json=body) as answer,
    ):
        assert answer.status == 200
    return body["prompt_id"]


async def test_without_a_word_everything_that_runs_is_stopped_and_what_waits_is_not(service, busy):
    running, behind, waiting = busy
    assert await service.generations.interrupt() == [running, behind]
    for id in (running, behind):
        await service.becomes(id, "cancelled")
    await service.succeeded(waiting)


async def test_one_is_named_by_job_by_prompt_or_by_instance(service, busy):
    running, behind, _ = busy
    prompt_id = (await service.job(behind)).prompt_id
    assert await service.generations.interrupt(prompt_id=prompt_id) == [behind]
    await service.becomes(behind, "cancelled")
    instance = service.pool.instances[0]
    assert await service.generations.interrupt(job=running, instance=instance.url) == [running]
    await service.becomes(running, "cancelled")
    assert await service.generations.interrupt(instance=instance.id) in ([], [busy[2]])


async def test_one_that_waits_is_cancelled_when_it_is_named(service, busy):
    waiting = busy[2]
    # Some callers know the job's id only, and call it the prompt's.
    assert await service.generations.interrupt(prompt_id=waiting) == [waiting]
    assert (await service.job(waiting)).status == "cancelled"


async def test_unknown_ended_and_others_jobs_are_said_to_be_so(service):
    with pytest.raises(JobUnknown):
        await service.generations.interrupt(job="nope")
    with pytest.raises(JobUnknown):
        await service.generations.interrupt(prompt_id="nope")
    with pytest.raises(InstanceUnknown):
        await service.generations.interrupt(instance="nope:8188")
    id = await service.submit(user="ada")
    with pytest.raises(JobUnknown):
        await service.generations.interrupt(job=id, user="eve")
    async with service.worker():
        await service.succeeded(id)
    with pytest.raises(JobEnded):
        await service.generations.interrupt(job=id)
    assert await service.generations.interrupt() == []


async def test_emptying_the_queue_cancels_and_tells_what_waits(service, graph_of):
    mine = [await service.submit(user="ada") for _ in range(3)]
    other = await service.submit(user="eve")
    assert await service.generations.clear_queue(user="ada") == mine
    for id in mine:
        assert (await service.job(id)).status == "cancelled"
        assert service.told(id, "cancelled")
    assert await service.generations.clear_queue() == [other]
    assert await service.generations.clear_queue() == []


async def test_queues_tell_ours_from_what_others_submitted(service, engine, busy, graph_of, gates):
    running, behind, waiting = busy
    foreign = await foreign_prompt(engine, graph_of(gates.new().node))
    queues = await service.overview.queues()
    (instance,) = queues.instances
    assert [(one.job, one.prompt_id) for one in instance.running] == [
        (running, (await service.job(running)).prompt_id)
    ]
    assert [one.job for one in instance.pending] == [behind, None]
    assert instance.pending[1].prompt_id == foreign
    assert instance.error is None
    assert queues.running == (running, behind)
    assert (queues.waiting, queues.queued) == ((waiting,), 1)
    # What is not ours goes on, whatever we stop.
    await service.generations.interrupt()
    for id in (running, behind):
        await service.becomes(id, "cancelled")
    queue = await service.pool.instances[0].client.queue()
    assert queue.place(foreign) is not None


async def test_machines_are_told_by_the_instances(service):
    (system,) = await service.overview.systems()
    assert system.error is None
    assert system.system["comfyui_version"]
    assert system.system["ram_total"] >= system.system["ram_free"] > 0
    assert "argv" not in system.system
    assert [device["type"] for device in system.devices] == ["cpu"]


async def test_instance_that_is_away_hides_no_other(new_service, new_engine):
    there, gone = await new_engine(), await new_engine()
    service = await new_service(there.url, gone.url)
    await gone.stop()
    queues = await service.overview.queues(timeout_seconds=2)
    assert [one.error is None for one in queues.instances] == [True, False]
    assert queues.instances[1].running == ()
    systems = await service.overview.systems(timeout_seconds=2)
    assert [one.error is None for one in systems] == [True, False]
    assert gone.url in systems[1].error


async def test_silent_instance_is_waited_for_no_longer_than_asked(service, engine):
    async def dawdle(request):
        if request.path in ("/queue", "/system_stats"):
            await asyncio.sleep(5)

    engine.before = dawdle
    queues = await service.overview.queues(timeout_seconds=0.05)
    assert queues.instances[0].error is not None
    (system,) = await service.overview.systems(timeout_seconds=0.05)
    assert "no answer within 0.05 s" in system.error
    engine.before = None


async def test_instance_counts_its_connection_and_what_it_served(service):
    async with service.worker():
        await service.succeeded(await service.submit(), await service.submit())
    (instance,) = service.overview.instances()
    assert (instance.connections, instance.jobs_served) == (1, 2)
    assert instance.messages > 4
