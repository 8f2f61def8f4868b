"""The database or the store goes away in the middle of a run; no work is lost or done twice."""

import asyncio

import pytest
from aiohttp import web

from atelier.comfy.client import InstanceUnreachable
from atelier.errors import AtelierError, StorageError
from atelier.worker import run, submission


async def test_result_is_recorded_when_the_database_is_back(
    service, engine, graph_of, gates, eventually
):
    gate = gates.new()
    async with service.worker():
        id = await service.submit(graph_of(gate.node))
        await gate.reached()
        with service.database_away():
            gate.open()
            await eventually(lambda: len(service.stored_files()) == 2, "nothing was stored")
            await asyncio.sleep(0.3)
        (job,) = await service.succeeded(id)
    assert job.attempts == 1
    assert list(engine.posted.values()) == [1]


async def test_failure_is_recorded_when_the_database_is_back(
    service, graph_of, gates, make_node, eventually
):
    gate = gates.new()
    async with service.worker() as dispatcher:
        id = await service.submit(graph_of(gate.node, make_node("TestFail", reason="x")))
        await gate.reached()
        with service.database_away():
            gate.open()
            await asyncio.sleep(0.3)
            assert dispatcher.running == 1
        job = await service.failed(id)
    assert (job.error["code"], job.attempts) == ("WORKFLOW_EXECUTION_ERROR", 1)


async def test_claiming_goes_on_when_the_database_is_back(service):
    async with service.worker():
        id = await service.submit()
        await service.succeeded(id)
        with service.database_away():
            await asyncio.sleep(0.3)
            with pytest.raises(AtelierError) as caught:
                await service.submit()
            assert caught.value.code == "DATABASE_UNAVAILABLE"
        await service.succeeded(await service.submit())


async def test_worker_starts_while_the_database_is_away(service):
    id = await service.submit()
    with service.database_away():
        context = service.worker()
        starting = asyncio.create_task(context.__aenter__())
        await asyncio.sleep(0.2)
    await starting
    try:
        await service.succeeded(id)
    finally:
        await context.__aexit__(None, None, None)


async def test_store_that_is_away_while_collecting_is_waited_for(service, engine, monkeypatch):
    put, failures = service.store.put, []

    async def fail_twice(*arguments, **named):
        if len(failures) < 2:
            failures.append(1)
            raise StorageError("away for a test")
        await put(*arguments, **named)

    monkeypatch.setattr(service.store, "put", fail_twice)
    async with service.worker():
        (job,) = await service.succeeded(await service.submit())
    assert len(failures) == 2
    assert job.attempts == 1
    assert list(engine.posted.values()) == [1]


async def test_job_that_takes_too_long_is_stopped_and_not_tried_again(
    service, engine, graph_of, gates
):
    gate, neighbour = gates.new(), gates.new()
    async with service.worker(job_timeout_seconds=0.5):
        job = await service.failed(await service.submit(graph_of(gate.node)))
        assert (job.error["code"], job.attempts) == ("TASK_TIMEOUT", 1)
        # The engine is free again: it was interrupted there.
        id = await service.submit(graph_of(neighbour.node))
        neighbour.open()
        await service.succeeded(id)
    assert gate.entered == 1


async def test_upload_that_fails_is_tried_again(service, engine, make_picture):
    asset = await service.assets.upload(make_picture(), filename=None, user="a")
    refused = []

    async def refuse_once(request):
        if request.path == "/upload/image" and not refused:
            refused.append(1)
            return web.Response(status=500)
        return None

    engine.before = refuse_once
    async with service.worker():
        inputs = {"image": {"asset": asset.id}, "style": "cartoon"}
        (job,) = await service.succeeded(await service.submit("style_change", inputs))
    assert (job.attempts, refused) == (2, [1])


async def test_post_whose_answer_got_lost_does_not_run_twice(
    service, engine, graph_of, monkeypatch
):
    """The engine has the prompt; the answer never came. It is found there, not sent again."""
    from atelier.comfy.client import InstanceUnreachable

    monkeypatch.setattr(submission, "FIND_AGAIN_SECONDS", (0.05, 0.1))
    (instance,) = service.pool.instances
    submit = instance.client.submit

    async def lose_the_answer(graph, **named):
        await submit(graph, **named)
        raise InstanceUnreachable("the connection broke")

    monkeypatch.setattr(instance.client, "submit", lose_the_answer)
    async with service.worker():
        (job,) = await service.succeeded(await service.submit())
    assert job.attempts == 1
    assert list(engine.posted.values()) == [1]


async def test_post_that_never_left_goes_back_to_the_queue_uncounted(service, engine, monkeypatch):
    (instance,) = service.pool.instances
    submit, failures = instance.client.submit, []

    async def fail_once(graph, **named):
        if not failures:
            failures.append(1)
            raise InstanceUnreachable("refused", never_sent=True)
        return await submit(graph, **named)

    monkeypatch.setattr(instance.client, "submit", fail_once)
    async with service.worker():
        (job,) = await service.succeeded(await service.submit())
    assert (job.attempts, failures) == (1, [1])
    assert list(engine.posted.values()) == [1]


async def test_unforeseen_error_fails_the_job_and_the_worker_goes_on(service, monkeypatch):
    items_of = run.items_of

    def stumble(*arguments):
        monkeypatch.setattr(run, "items_of", items_of)
        raise KeyError("unforeseen")

    monkeypatch.setattr(run, "items_of", stumble)
    async with service.worker():
        job = await service.failed(await service.submit())
        assert job.error["code"] == "INTERNAL_ERROR"
        assert "KeyError" in job.error["message"]
        await service.succeeded(await service.submit())
