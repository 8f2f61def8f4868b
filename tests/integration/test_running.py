"""A job from its acceptance to its pictures."""

import asyncio
import io

from PIL import Image

MARKS = [10, 15, 20, 30, 95, 100]


async def bytes_of(service, output):
    content = await service.assets.open(output.id)
    return b"".join([chunk async for chunk in await content.read()])


async def test_job_runs_and_its_picture_is_stored(service, engine):
    async with service.worker():
        id = await service.submit()
        (job,) = await service.succeeded(id)
    assert job.attempts == 1
    assert job.instance == f"127.0.0.1:{engine.port}"
    assert job.worker == "w1"
    assert set(job.timings) == {"queued_ms", "prepare_ms", "execute_ms", "collect_ms"}
    (output,) = (await service.generations.get(id)).outputs
    assert (output.width, output.height, output.media_type) == (32, 32, "image/png")
    assert output.url == f"/v1/assets/{output.id}/content"
    assert Image.open(io.BytesIO(await bytes_of(service, output))).size == (32, 32)
    small = await service.assets.open(output.id, thumbnail=True)
    assert small.info.media_type == "image/webp"
    assert dict(engine.posted) == {job.prompt_id: 1}


async def test_progress_rises_through_its_marks(service, gates, graph_of):
    gate = gates.new()
    async with service.worker():
        id = await service.submit(graph_of(gate.node))
        gate.open()
        await service.succeeded(id)
    percents = [event.data["percent"] for event in service.told(id, "progress")]
    assert percents == sorted(percents)
    assert [mark for mark in MARKS if mark in percents] == MARKS
    steps = [(e.data["step"], e.data["steps"]) for e in service.told(id, "progress")]
    assert (1, 4) in steps
    assert (4, 4) in steps
    nodes = ("progress", "executing", "executed")
    kinds = [event.type for event in service.told(id) if event.type not in nodes]
    assert kinds == ["queued", "started", "finished"]
    assert service.told(id)[-1].type == "finished"


async def test_percent_of_a_finished_job_is_100(service):
    async with service.worker():
        (job,) = await service.succeeded(await service.submit())
    assert job.progress.percent == 100


async def test_seed_left_out_is_drawn_and_reported(service, make_picture, as_data_url):
    async with service.worker():
        inputs = {"image": as_data_url(make_picture()), "style": "cartoon"}
        id = await service.submit("style_change", inputs)
        (job,) = await service.succeeded(id)
    assert job.variant == "classic"
    assert job.inputs["seed"] == job.seed
    assert service.told(id, "finished")[0].data["seed"] == job.seed


async def test_data_url_is_kept_as_an_asset_and_not_in_the_record(
    service, make_picture, as_data_url, make_node
):
    async with service.worker():
        graph = {
            "1": make_node("LoadImage", image=as_data_url(make_picture((40, 30)))),
            "2": make_node("SaveImage", images=["1", 0], filename_prefix="x"),
        }
        id = await service.submit(graph)
        (job,) = await service.succeeded(id)
    assert set(job.inputs["1.image"]) == {"asset"}
    assert "base64" not in str(job.graph)
    (output,) = (await service.generations.get(id)).outputs
    assert (output.width, output.height) == (40, 30)


async def test_uploaded_asset_is_used_by_two_jobs_and_sent_once(service, engine, make_picture):
    uploads = []

    async def count(request):
        if request.path == "/upload/image":
            uploads.append(request)

    engine.before = count
    async with service.worker():
        asset = await service.assets.upload(make_picture(), filename="a.png", user="anna")
        ids = [
            await service.submit("style_change", {"image": {"asset": asset.id}, "style": style})
            for style in ("anime", "cartoon")
        ]
        await service.succeeded(*ids)
    assert len(uploads) == 1


async def test_several_pictures_come_back_in_order(service, make_node):
    graph = {
        "1": make_node("EmptyImage", width=16, height=16, batch_size=3, color=77),
        "2": make_node("SaveImage", images=["1", 0], filename_prefix="x"),
        "3": make_node("EmptyImage", width=20, height=20, batch_size=1, color=78),
        "4": make_node("SaveImage", images=["3", 0], filename_prefix="y"),
    }
    async with service.worker():
        id = await service.submit(graph)
        await service.succeeded(id)
    outputs = (await service.generations.get(id)).outputs
    assert sorted((output.node, output.width) for output in outputs) == [
        ("2", 16), ("2", 16), ("2", 16), ("4", 20),
    ]  # fmt: skip
    assert len({output.id for output in outputs}) == 4
    assert len(service.stored_files()) == 8, "each with its thumbnail"


async def test_previews_count_only_where_nothing_else_was_saved(service, make_node):
    graph = {
        "1": make_node("EmptyImage", width=16, height=16, batch_size=1, color=79),
        "2": make_node("PreviewImage", images=["1", 0]),
    }
    async with service.worker():
        id = await service.submit(graph)
        await service.succeeded(id)
    (output,) = (await service.generations.get(id)).outputs
    assert output.node == "2"


async def test_pictures_of_the_websocket_node_are_results(service, make_node):
    graph = {
        "1": make_node("EmptyImage", width=16, height=16, batch_size=2, color=80),
        "2": make_node("SaveImageWebsocket", images=["1", 0]),
    }
    async with service.worker():
        id = await service.submit(graph)
        await service.succeeded(id)
    outputs = (await service.generations.get(id)).outputs
    assert [(output.node, output.media_type) for output in outputs] == [("2", "image/png")] * 2


async def test_previews_reach_those_who_asked_for_them(
    service, make_picture, as_data_url, eventually
):
    asset = await service.assets.upload(make_picture((600, 400)), filename=None, user="a")
    id = await service.submit("style_change", {"image": {"asset": asset.id}, "style": "anime"})
    async with service.listening(id, previews=True) as heard, service.worker():
        await service.succeeded(id)
        await eventually(lambda: heard[-1].type == "finished", "no terminal event")
    (first, *_) = [event for event in heard if event.type == "preview"]
    assert first.data["image"].startswith("data:image/jpeg;base64,")


async def test_many_jobs_run_each_once(service, engine):
    count = 40
    async with service.worker():
        ids = [await service.submit() for _ in range(count)]
        jobs = await service.succeeded(*ids)
    assert {job.attempts for job in jobs} == {1}
    assert sorted(engine.posted.values()) == [1] * count


async def test_time_of_a_run_does_not_count_what_it_stood_behind(
    service, engine, graph_of, gates, eventually
):
    gate = gates.new()
    async with service.worker():
        slow = await service.submit(graph_of(gate.node))
        await gate.reached()
        quick = await service.submit()
        await eventually(lambda: len(engine.posted) == 2, "the second is not there")
        await asyncio.sleep(0.5)
        gate.open()
        first, second = await service.succeeded(slow, quick)
    assert first.timings["execute_ms"] > 450
    assert second.timings["execute_ms"] < 400
    assert second.timings["prepare_ms"] > 450
