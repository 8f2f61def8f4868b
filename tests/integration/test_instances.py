"""Instances come, go, die and are shared; jobs find one that can run them."""

import asyncio
import time

import aiohttp
import pytest

from atelier.comfy.object_info import ObjectInfo
from atelier.errors import AtelierError
from atelier.service import Submission


async def post(url, path, body):
    async with aiohttp.ClientSession() as session, session.post(url + path, json=body) as answer:
        assert answer.status == 200


async def test_job_waits_for_an_instance_and_says_so(new_service, engine):
    url = engine.url
    await engine.stop()
    service = await new_service(url, wait=False)
    async with service.worker():
        id = await service.submit()
        view = await service.generations.wait(id, 0.3)
        assert (view.job.status, view.job.attempts) == ("queued", 0)
        assert "none can be reached" in view.message
        health = await service.overview.health()
        assert (health.ok, health.status, health.waiting) == (True, "degraded", 1)
        assert "wait" in health.message
        await engine.start()
        (job,) = await service.succeeded(id)
    assert job.attempts == 1
    assert (await service.overview.health()).status == "ok"


async def test_job_without_any_configured_instance_says_what_to_set(new_service):
    service = await new_service()
    async with service.worker():
        id = await service.submit()
        view = await service.generations.wait(id, 0.2)
    assert view.job.status == "queued"
    assert "COMFYUI_URLS" in view.message


async def test_instance_that_dies_in_a_run_and_comes_back_runs_it_again(
    service, engine, graph_of, gates
):
    gate = gates.new()
    async with service.worker():
        id = await service.submit(graph_of(gate.node))
        await gate.reached()
        await engine.stop()
        await service.becomes(id, "queued")
        assert (await service.job(id)).error["code"] == "PROMPT_LOST"
        gate.open()
        await engine.start()
        (job,) = await service.succeeded(id)
    assert job.attempts == 2
    assert job.error is None
    assert len(engine.posted) == 2, "under a new prompt id"


async def test_job_of_a_dead_instance_goes_to_another(new_service, new_engine, graph_of, gates):
    first, second = await new_engine(), await new_engine()
    service = await new_service(first.url, second.url)
    gate = gates.new()
    async with service.worker():
        id = await service.submit(graph_of(gate.node))
        await gate.reached()
        engines = {f"127.0.0.1:{engine.port}": engine for engine in (first, second)}
        died = (await service.job(id)).instance
        await engines[died].stop()
        gate.open()
        (job,) = await service.succeeded(id)
    assert job.instance != died
    assert job.attempts == 2


async def test_interrupt_by_somebody_else_is_tried_again(service, engine, graph_of, gates):
    gate = gates.new()
    async with service.worker():
        id = await service.submit(graph_of(gate.node))
        await gate.reached()
        await post(engine.url, "/interrupt", {})
        await gate.reached(2)
        gate.open()
        (job,) = await service.succeeded(id)
    assert job.attempts == 2
    (retrying,) = service.told(id, "retrying")
    assert retrying.data["error"]["code"] == "INTERRUPTED_ELSEWHERE"


async def test_prompt_deleted_by_somebody_else_is_tried_again(service, engine, graph_of, gates):
    gate = gates.new()
    async with service.worker():
        running = await service.submit(graph_of(gate.node))
        await gate.reached()
        waiting = await service.submit()

        async def there():
            return (await service.job(waiting)).prompt_id in engine.posted

        deadline = time.monotonic() + 10
        while not await there():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        prompt = (await service.job(waiting)).prompt_id
        await post(engine.url, "/queue", {"delete": [prompt]})
        gate.open()
        await service.succeeded(running, waiting)
    assert (await service.job(waiting)).attempts == 2


async def test_two_instances_share_the_work(new_service, new_engine, graph_of, gates):
    first, second = await new_engine(), await new_engine()
    service = await new_service(first.url, second.url)
    held = [gates.new(), gates.new()]
    async with service.worker():
        ids = [await service.submit(graph_of(gate.node)) for gate in held]
        # Both at once, although neither has ended: they are at two instances.
        for gate in held:
            await gate.reached()
            gate.open()
        ids += [await service.submit() for _ in range(30)]
        jobs = await service.succeeded(*ids)
    assert {job.instance for job in jobs} == {f"127.0.0.1:{e.port}" for e in (first, second)}
    assert sum(first.posted.values()) + sum(second.posted.values()) == 32


async def test_next_prompt_is_at_the_instance_while_one_runs(
    service, engine, graph_of, gates, eventually
):
    gate = gates.new()
    async with service.worker():
        ids = [await service.submit(graph_of(gate.node))]
        await gate.reached()
        ids += [await service.submit() for _ in range(5)]
        await eventually(lambda: len(engine.posted) == 2, "the next one did not come")
        await asyncio.sleep(0.2)
        # No more: what waits here can still be cancelled, or go elsewhere.
        assert len(engine.posted) == 2
        gate.open()
        await service.succeeded(*ids)


async def test_idle_instance_does_not_use_up_the_capacity(new_service, new_engine):
    gone, there = await new_engine(), await new_engine()
    await gone.stop()
    service = await new_service(gone.url, there.url, up=1)
    async with service.worker(capacity=1):
        await asyncio.sleep(0.3)  # long enough to ask in vain
        await service.succeeded(*[await service.submit() for _ in range(3)])
    assert len(there.posted) == 3


async def test_capacity_bounds_what_one_worker_holds(service, graph_of, gates):
    gate = gates.new()
    async with service.worker(capacity=1) as dispatcher:
        ids = [await service.submit(graph_of(gate.node)) for _ in range(3)]
        await gate.reached()
        await asyncio.sleep(0.25)
        assert dispatcher.running == 1
        gate.open()
        await service.succeeded(*ids)


async def test_higher_priority_goes_first_then_who_came_first(service):
    ids = {}
    for name, priority in (("low", -1), ("first", 0), ("second", 0), ("urgent", 5)):
        ids[name] = await service.submit(priority=priority)
    positions = [(await service.generations.get(id)).queue_position for id in ids.values()]
    assert positions == [4, 2, 3, 1]
    async with service.worker(capacity=1):
        jobs = await service.succeeded(*ids.values())
    started = dict(zip(ids, (job.started_at_ms for job in jobs), strict=True))
    order = sorted(started, key=lambda name: started[name])
    assert order == ["urgent", "first", "second", "low"]


async def test_job_that_no_instance_can_run_is_refused_with_what_is_missing(service, make_node):
    graph = {
        "1": make_node("NoSuchSampler", steps=3),
        "9": make_node("SaveImage", images=["1", 0], filename_prefix="x"),
    }
    with pytest.raises(AtelierError) as caught:
        await service.generations.submit(Submission(graph))
    assert "NoSuchSampler" in caught.value.message


async def test_job_whose_capable_instance_is_away_waits_and_says_so(
    new_service, new_engine, graph_of
):
    """It is refused only where nobody could run it who is away now."""
    able, plain = await new_engine(), await new_engine()
    service = await new_service(plain.url, able.url)
    await able.stop()
    away = service.pool.get(f"127.0.0.1:{able.port}")
    deadline = time.monotonic() + 10
    while away.up:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    graph = graph_of()
    graph["2"] = {"class_type": "OnlyThere", "inputs": {"image": ["1", 0]}}
    graph["9"]["inputs"]["images"] = ["2", 0]
    with pytest.raises(AtelierError, match="OnlyThere"):
        await service.submit(graph)
    known = away.object_info
    nodes = {**known.nodes, "OnlyThere": known.nodes["ImageInvert"]}
    away.object_info = ObjectInfo(nodes, "with one more")
    async with service.worker():
        id = await service.submit(graph)
        view = await service.generations.wait(id, 0.3)
        assert view.job.status == "queued"
        assert f"127.0.0.1:{able.port}" in view.message
        assert "can't be reached" in view.message


async def test_instances_are_shown_with_what_they_are(service, engine):
    (view,) = service.overview.instances()
    assert (view.id, view.state, view.embedded) == (f"127.0.0.1:{engine.port}", "up", False)
    assert view.nodes_count > 10
    assert view.latency_ms > 0
    assert view.connections == 1


async def test_what_needs_a_model_is_refused_with_what_to_install_and_where(service):
    async with service.worker():
        with pytest.raises(AtelierError) as caught:
            await service.submit("text_to_image", {"prompt": "a fox"})
    error = caught.value
    assert error.code == "NO_INSTANCE_CAN_RUN"
    assert "ComfyUI/models/checkpoints/sd_xl_base_1.0.safetensors" in error.message
    sdxl = error.data["needs"]["sdxl"]
    assert sdxl["models"][0]["url"].startswith("https://huggingface.co/")
    assert "KSampler" in sdxl["nodes"]
    (view,) = [one for one in service.overview.workflows() if one.name == "text_to_image"]
    assert view.runnable is False
    assert all(variant.available is False for variant in view.variants)
    assert view.variants[0].lacking["models"]


async def test_the_shipped_example_runs_on_the_variant_that_is_there(service):
    view = service.overview.workflow("upscale", "zh-Hans")
    assert (view.title, view.runnable) == ("放大", True)
    chosen = next(variant for variant in view.variants if variant.name == view.variant)
    assert (chosen.kind, chosen.instances) == (
        "classic",
        tuple(one.id for one in service.pool.up()),
    )
    async with service.worker():
        (job,) = await service.succeeded(await service.submit("upscale", view.example))
    assert job.variant == view.variant


async def test_a_variant_of_choice_is_the_one_that_runs(service):
    inputs = dict(service.overview.workflow("upscale").example) | {"variant": "resample"}
    async with service.worker():
        (job,) = await service.succeeded(await service.submit("upscale", inputs))
    assert job.variant == "resample"
