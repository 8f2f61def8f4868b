"""The result cache: what was made before answers at once, where the caller allows it."""

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from sqlalchemy import text

from atelier.media import Conversion
from atelier.service import Submission
from atelier.service.assets import AssetUnknown
from atelier.worker.expired import remove_files
from atelier.worker.housekeeping import Rules, sweep


async def again(service, workflow, inputs=None, **more):
    """Submit with ``cache``; the view."""
    submission = Submission(workflow, inputs or {}, **{"cache": True, **more})
    return (await service.generations.submit(submission))[0]


async def readable(service, output):
    content = await service.assets.open(output.id)
    return b"".join([chunk async for chunk in await content.read()])


@pytest.fixture
async def pictures(make_picture):
    """A server that counts; its picture can be changed."""
    served = {"data": make_picture(), "count": 0}

    async def picture(request):
        served["count"] += 1
        return web.Response(body=served["data"], content_type="image/png")

    app = web.Application()
    app.router.add_get("/{name}", picture)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    served["url"] = str(server.make_url("/cat.png"))
    yield served
    await server.close()


async def test_same_graph_is_answered_at_once(service, engine, graph_of):
    graph = graph_of()
    async with service.worker():
        first = await service.submit(graph)
        await service.succeeded(first)
    made = await service.generations.get(first)
    view = await again(service, graph)
    assert (view.job.status, view.job.cached_from) == ("succeeded", first)
    assert view.job.progress.percent == 100
    assert (view.job.started_at_ms, set(view.job.timings.values())) == (None, {0})
    (output,), (original,) = view.outputs, made.outputs
    assert output.id != original.id
    assert (output.node, output.thumbhash) == (original.node, original.thumbhash)
    assert await readable(service, output) == await readable(service, original)
    assert sum(engine.posted.values()) == 1
    assert len(service.stored_files()) == 2, "the files are shared"
    assert [event.type for event in service.told(view.job.id)] == ["queued", "finished"]
    assert await service.generations.get(view.job.id) == view


async def test_nothing_answers_who_did_not_allow_it(service, graph_of):
    graph = graph_of()
    async with service.worker():
        await service.succeeded(await service.submit(graph))
    view = await again(service, graph, cache=False)
    assert (view.job.status, view.job.cached_from) == ("queued", None)


async def test_answer_of_an_answer_names_the_job_that_ran(service, graph_of):
    graph = graph_of()
    async with service.worker():
        first = await service.submit(graph)
        await service.succeeded(first)
    await again(service, graph)
    assert (await again(service, graph)).job.cached_from == first


@pytest.mark.parametrize(
    "other",
    [
        {"user": "eve"},
        {"conversion": Conversion("webp")},
        {"inputs": {"1.width": 33}},
    ],
)
async def test_another_user_form_or_input_is_not_answered(service, graph_of, other):
    graph = graph_of()
    async with service.worker():
        await service.succeeded(await service.submit(graph, {"1.width": 32}, user="ada"))
    same = {"inputs": {"1.width": 32}, "user": "ada"}
    assert (await again(service, graph, **same)).job.status == "succeeded"
    assert (await again(service, graph, **{**same, **other})).job.status == "queued"


async def test_workflow_with_a_given_seed_is_answered_and_one_with_a_drawn_seed_never(
    service, make_picture, as_data_url
):
    inputs = {"image": as_data_url(make_picture()), "style": "cartoon", "seed": 7}
    async with service.worker():
        first = await service.submit("style_change", inputs)
        await service.succeeded(first)
        drawn = await again(service, "style_change", {**inputs, "seed": -1})
        assert drawn.job.status == "queued"
        (drawn,) = await service.succeeded(drawn.job.id)
    assert not drawn.cache
    view = await again(service, "style_change", inputs)
    assert (view.job.cached_from, view.job.variant) == (first, "classic")
    redrawn = await again(service, "style_change", {**inputs, "seed": drawn.seed})
    assert redrawn.job.cached_from == drawn.id, "now the seed is given"
    other = {**inputs, "image": as_data_url(make_picture(color=(1, 2, 3)))}
    assert (await again(service, "style_change", other)).job.status == "queued"


async def test_picture_counts_by_its_bytes_and_not_by_its_id(service, make_picture):
    ids = [
        (await service.assets.upload(make_picture(), filename=name, user="a")).id
        for name in ("a.png", "b.png")
    ]
    inputs = [{"image": {"asset": id}, "style": "cartoon", "seed": 7} for id in ids]
    async with service.worker():
        await service.succeeded(await service.submit("style_change", inputs[0]))
    assert (await again(service, "style_change", inputs[1])).job.status == "succeeded"


async def test_graph_that_carries_its_picture_is_answered(
    service, make_node, make_picture, as_data_url
):
    def graph(picture, title):
        return {
            "1": make_node("LoadImage", image=as_data_url(picture)) | {"_meta": {"title": title}},
            "2": make_node("SaveImage", images=["1", 0], filename_prefix="x"),
        }

    async with service.worker():
        first = await service.submit(graph(make_picture(), "Load"))
        await service.succeeded(first)
    assert (await again(service, graph(make_picture(), "Photo"))).job.cached_from == first
    other = graph(make_picture(color=(3, 3, 3)), "Load")
    assert (await again(service, other)).job.status == "queued"


async def test_picture_by_address_is_fetched_before_anything_answers(
    service, engine, pictures, make_picture, eventually
):
    inputs = {"image": pictures["url"], "style": "cartoon", "seed": 7}
    async with service.worker(allow=["127.0.0.1"]):
        first = await service.submit("style_change", inputs)
        await service.succeeded(first)
        view = await again(service, "style_change", inputs)
        assert view.job.status == "queued"
        (job,) = await service.succeeded(view.job.id)
        assert (job.cached_from, pictures["count"]) == (first, 2)
        assert sum(engine.posted.values()) == 1, "nothing was run for it"
        assert job.timings["execute_ms"] == 0
        assert job.started_at_ms is not None
        await eventually(lambda: service.told(job.id, "finished"), "nobody was told")
        (finished,) = service.told(job.id, "finished")
        assert finished.data["outputs"][0]["id"] == job.outputs[0]["id"]
        pictures["data"] = make_picture(color=(9, 9, 9))
        changed = await again(service, "style_change", inputs)
        (job,) = await service.succeeded(changed.job.id)
    assert job.cached_from is None
    assert sum(engine.posted.values()) == 2


async def test_job_taken_while_no_instance_was_up_is_answered_by_the_worker(
    service, engine, graph_of, eventually
):
    graph = graph_of()
    async with service.worker():
        first = await service.submit(graph)
        await service.succeeded(first)
    await engine.stop()
    await eventually(lambda: not service.pool.up(), "the instance is still up")
    view = await again(service, graph)
    assert view.job.status == "queued"
    await engine.start()
    async with service.worker():
        (job,) = await service.succeeded(view.job.id)
    assert job.cached_from == first


async def test_idempotency_key_gives_the_answered_job_again(service, graph_of):
    graph = graph_of()
    async with service.worker():
        await service.succeeded(await service.submit(graph))
    submission = Submission(graph, cache=True, idempotency_key="k")
    first, created = await service.generations.submit(submission)
    second, created_again = await service.generations.submit(submission)
    assert (created, created_again) == (True, False)
    assert first == second


# -- what is kept, and how long --------------------------------------------------------------------


async def test_shared_files_go_with_the_last_job_that_has_them(service, graph_of):
    graph = graph_of()
    async with service.worker():
        first = await service.submit(graph, dialect="transform")
        await service.succeeded(first)
    view = await again(service, graph)
    (original,) = (await service.generations.get(first)).outputs
    await service.assets.open(original.id, conversion=Conversion("webp"))
    assert len(service.stored_files()) == 3
    await service.database.run(
        lambda conn: conn.execute(
            text("UPDATE jobs SET finished_at_ms = 0 WHERE id = :id"), {"id": first}
        )
    )
    context = await service.context()
    assert (await sweep(context, Rules(job_hours=1)))["jobs"] == 1
    await service.database.run(lambda conn: service.catalog.delete(conn, original.id))
    assert await remove_files(context) == 1
    assert len(service.stored_files()) == 3
    with pytest.raises(AssetUnknown):
        await service.assets.open(original.id)
    assert await readable(service, view.outputs[0])
    assert (await again(service, graph)).job.cached_from == first, "the later one answers"


async def test_deleted_job_answers_nobody_and_its_files_go(service, graph_of):
    graph = graph_of()
    async with service.worker():
        first = await service.submit(graph)
        await service.succeeded(first)
    (output,) = (await service.generations.get(first)).outputs
    await service.assets.open(output.id, conversion=Conversion("webp", max_size=16))
    assert len(service.stored_files()) == 3
    await service.generations.delete(first)
    assert (await again(service, graph)).job.status == "queued"
    with pytest.raises(AssetUnknown):
        await service.assets.open(output.id)
    assert await remove_files(await service.context()) == 1
    assert service.stored_files() == []


async def test_job_whose_outputs_are_gone_answers_nobody(service, graph_of):
    graph = graph_of()
    async with service.worker():
        first = await service.submit(graph)
        await service.succeeded(first)
    (output,) = (await service.generations.get(first)).outputs
    await service.database.run(lambda conn: service.catalog.delete(conn, output.id))
    assert (await again(service, graph)).job.status == "queued"


async def test_many_answers_while_the_source_is_deleted_are_whole_or_none(service, graph_of):
    graph = graph_of()
    async with service.worker():
        first = await service.submit(graph)
        await service.succeeded(first)
    context = await service.context()
    views = await asyncio.gather(
        *(again(service, graph) for _ in range(5)),
        service.generations.delete(first),
        *(again(service, graph) for _ in range(5)),
    )
    await remove_files(context)
    answered = [view for view in views if view is not None and view.job.status == "succeeded"]
    for view in answered:
        assert await readable(service, view.outputs[0])
