import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from atelier.comfy.client import (
    ComfyClient,
    FileMissing,
    FileTooLarge,
    Finished,
    GraphRejected,
    InstanceUnreachable,
    Lost,
    Watch,
)
from atelier.comfy.protocol import (
    Executed,
    Executing,
    ExecutionCached,
    ExecutionError,
    ExecutionInterrupted,
    FileRef,
    Preview,
    Progress,
    ProtocolError,
    files_of,
)
from atelier.errors import InstanceError

GRAPH = {"1": {"class_type": "EmptyImage", "inputs": {}}}
WEBSOCKET_GRAPH = {"9": {"class_type": "SaveImageWebsocket", "inputs": {"images": ["8", 0]}}}


def new_id() -> str:
    return str(uuid.uuid4())


async def run(client: ComfyClient, graph=GRAPH, prompt_id: str | None = None):
    """Submit and watch to the end; return (every event before it, the ending)."""
    prompt_id = prompt_id or new_id()
    async with asyncio.timeout(10), client.watch(prompt_id) as watch:
        await client.submit(graph, prompt_id=prompt_id)
        events = [event async for event in watch]
    assert events[-1] is watch.ending
    return events[:-1], events[-1]


async def drain(watch: Watch):
    async with asyncio.timeout(10):
        async for _ in watch:
            pass
    return watch.ending


async def reconnected(client: ComfyClient) -> None:
    async with asyncio.timeout(10):
        while client.connections < 2:  # noqa: ASYNC110 - counts, where an event would not
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("session", "files"),
    [
        ("trivial", ["golden_00010_.png"]),
        ("text_to_image_steps", ["golden_00002_.png"]),
        ("text_to_image_previews_metadata", ["golden_00003_.png"]),
        # everything was cached: the outputs come all the same
        ("text_to_image_again_cached", ["golden_00003_.png"]),
        ("two_prompts_queued", ["golden_00004_.png"]),
    ],
)
async def test_recorded_session_finishes_with_its_files(comfyui, client, session, files):
    comfyui.session = session
    _, ending = await run(client)
    assert isinstance(ending, Finished)
    found = [
        file.filename
        for output in ending.history_outputs.values()
        for _, file in files_of(output)
        if file.type == "output"
    ]
    assert found == files


async def test_complete_session_needs_no_history_and_no_queue(comfyui, client):
    comfyui.session = "text_to_image_steps"
    await run(client)
    assert comfyui.calls["GET /history"] == 0
    assert comfyui.calls["GET /queue"] == 0


async def test_both_pictures_of_a_batch_are_told(comfyui, client):
    comfyui.session = "batch_of_two"
    _, ending = await run(client)
    (output,) = ending.history_outputs.values()
    assert len(files_of(output)) == 2


async def test_temp_and_output_files_keep_their_type(comfyui, client):
    comfyui.session = "preview_and_save"
    _, ending = await run(client)
    types = {f.type for o in ending.history_outputs.values() for _, f in files_of(o)}
    assert types == {"temp", "output"}


@pytest.mark.parametrize("session", ["text_to_image_steps", "text_to_image_previews_metadata"])
async def test_previews_of_both_kinds_name_prompt_and_node(comfyui, client, session):
    comfyui.session = session
    prompt_id = new_id()
    events, ending = await run(client, prompt_id=prompt_id)
    previews = [event for event in events if isinstance(event, Preview)]
    assert len(previews) == 4
    assert {(p.prompt_id, p.node, p.media_type) for p in previews} == {
        (prompt_id, "3", "image/jpeg")
    }
    assert ending.websocket_images == ()


async def test_cached_nodes_are_told(comfyui, client):
    comfyui.session = "text_to_image_again_cached"
    events, _ = await run(client)
    (cached,) = (event for event in events if isinstance(event, ExecutionCached))
    assert "3" in cached.nodes
    assert not any(isinstance(event, Progress) for event in events)


async def test_save_image_websocket_delivers_the_picture_itself(comfyui, client, golden):
    comfyui.session = "save_image_websocket"
    _, ending = await run(client, WEBSOCKET_GRAPH)
    frames = [e["binary"] for e in golden("save_image_websocket") if "binary" in e]
    ((node, preview),) = ending.websocket_images
    assert (node, preview.media_type) == ("9", "image/png")
    assert preview.image == frames[-1][8:]
    assert not ending.websocket_images_lost


async def test_failed_node_ends_with_its_error(comfyui, client):
    comfyui.session = "execution_error"
    _, ending = await run(client)
    assert isinstance(ending, ExecutionError)
    assert ending.exception_type == "PIL.UnidentifiedImageError"


async def test_interrupted_prompt_ends_as_interrupted(comfyui, client):
    comfyui.session = "interrupted"
    _, ending = await run(client)
    assert isinstance(ending, ExecutionInterrupted)
    assert ending.node_type == "KSampler"


async def test_watches_of_several_prompts_do_not_mix(comfyui, client):
    comfyui.session = "text_to_image_previews_metadata"
    ids = [new_id() for _ in range(3)]
    results = await asyncio.gather(*(run(client, prompt_id=prompt_id) for prompt_id in ids))
    for prompt_id, (events, ending) in zip(ids, results, strict=True):
        assert ending.prompt_id == prompt_id
        assert sum(isinstance(event, Executed) for event in events) == 1


@pytest.fixture
async def halfway(comfyui, client) -> AsyncIterator[Watch]:
    """A watch whose prompt has been stopped before its last node but one."""
    comfyui.session, comfyui.hold = "text_to_image_steps", "executed"
    prompt_id = new_id()
    async with client.watch(prompt_id) as watch:
        await client.submit(GRAPH, prompt_id=prompt_id)
        await asyncio.wait_for(comfyui.held.wait(), 5)
        yield watch


async def test_dropped_socket_comes_back_under_the_same_client_id(comfyui, client, halfway):
    await comfyui.drop_sockets()
    await reconnected(client)
    assert list(comfyui.sockets) == ["tester"]
    comfyui.go.set()
    ending = await drain(halfway)
    assert isinstance(ending, Finished)
    assert ending.history_outputs["9"]
    # what was missed is not guessed: the history tells
    assert comfyui.calls["GET /history"] == 1


async def test_end_that_nobody_heard_is_found_by_asking(comfyui, client, halfway):
    comfyui.mute = True
    await comfyui.drop_sockets()
    comfyui.go.set()
    ending = await drain(halfway)
    assert isinstance(ending, Finished)
    assert files_of(ending.history_outputs["9"])
    assert not client.connected


async def test_silent_prompt_is_asked_for(comfyui, client, halfway):
    comfyui.mute = True
    comfyui.go.set()
    started = time.monotonic()
    assert isinstance(await drain(halfway), Finished)
    assert time.monotonic() - started < 8


async def test_pictures_sent_while_nobody_listened_are_known_to_be_lost(comfyui, client):
    comfyui.session, comfyui.hold = "save_image_websocket", "execution_success"
    prompt_id = new_id()
    async with client.watch(prompt_id) as watch:
        await client.submit(WEBSOCKET_GRAPH, prompt_id=prompt_id)
        await asyncio.wait_for(comfyui.held.wait(), 5)
        await comfyui.drop_sockets()
        comfyui.go.set()
        ending = await drain(watch)
    assert isinstance(ending, Finished)
    assert ending.websocket_images_lost


async def test_restarted_instance_has_lost_the_prompt(comfyui, client, halfway):
    comfyui.running.clear()
    await comfyui.drop_sockets()
    ending = await drain(halfway)
    assert isinstance(ending, Lost)


async def test_prompt_of_a_process_that_is_gone_is_lost(comfyui):
    async with ComfyClient(comfyui.url, "tester", gone_after_seconds=0.5) as client:
        await client.wait_connected(5)
        prompt_id = new_id()
        async with client.watch(prompt_id) as watch:
            await client.submit(GRAPH, prompt_id=prompt_id)
            await comfyui.drop_sockets()
            await comfyui.server.close()
            started = time.monotonic()
            assert isinstance(await drain(watch), Lost)
            assert time.monotonic() - started < 5
        assert client.last_error


async def test_deaf_socket_is_renewed(comfyui, client):
    # An older socket's late end makes ComfyUI forget the newer one of the same client id.
    comfyui.sockets.clear()
    comfyui.session = "trivial"
    _, ending = await run(client)
    assert isinstance(ending, Finished)
    await reconnected(client)


async def test_watch_attaches_to_what_another_client_submitted(comfyui, client):
    comfyui.session, comfyui.hold = "trivial", "executed"
    prompt_id = new_id()
    comfyui.play("another client", prompt_id)
    await asyncio.wait_for(comfyui.held.wait(), 5)
    async with client.watch(prompt_id, attach=True) as watch:
        await asyncio.sleep(0.1)
        assert watch.ending is None
        comfyui.go.set()
        assert isinstance(await drain(watch), Finished)
    async with client.watch(prompt_id, attach=True) as watch:
        assert isinstance(await drain(watch), Finished)


async def test_attaching_to_nothing_is_lost(client):
    async with client.watch(new_id(), attach=True) as watch:
        assert isinstance(await drain(watch), Lost)


async def test_watch_waits_for_a_submission_under_way(comfyui, client):
    prompt_id = new_id()
    async with client.watch(prompt_id) as watch:
        await comfyui.drop_sockets()
        await asyncio.sleep(0.5)
        assert watch.ending is None


async def test_closing_the_client_ends_its_watches(comfyui):
    async with ComfyClient(comfyui.url, "tester") as client:
        watch = client.watch(new_id())
        await watch.__aenter__()
    assert isinstance(await drain(watch), Lost)


async def test_find_tells_where_a_prompt_is(comfyui, client):
    comfyui.running, comfyui.pending = ["r"], ["p"]
    comfyui.history = {"h": {"outputs": {}, "status": {"status_str": "success", "messages": []}}}
    places = [await client.find(prompt_id) for prompt_id in ("r", "p", "h", "x")]
    assert places == ["running", "pending", "ended", "absent"]


async def test_prompt_that_came_and_ran_between_two_questions_is_found(comfyui, client):
    ended = {"outputs": {}, "status": {"status_str": "success", "messages": []}}
    comfyui.after_history = lambda: comfyui.history.update(quick=ended)
    assert await client.find("quick") == "ended"
    comfyui.history.clear()
    async with client.watch("quick", attach=True) as watch:
        assert isinstance(await drain(watch), Finished)


async def test_cancel_takes_a_waiting_prompt_from_the_queue(comfyui, client):
    prompt_id = new_id()
    async with client.watch(prompt_id) as watch:
        await client.submit(GRAPH, prompt_id=prompt_id)
        comfyui.pending.append("neighbour")
        comfyui.running.append("another")
        assert await client.cancel(prompt_id) == "deleted"
        assert isinstance(await drain(watch), ExecutionInterrupted)
    assert comfyui.pending == ["neighbour"]
    assert comfyui.running == ["another"]
    assert comfyui.calls["POST /interrupt"] == 0


async def test_cancel_interrupts_only_the_prompt_that_is_meant(comfyui, client):
    comfyui.running, comfyui.pending = ["mine"], ["neighbour"]
    interrupted = []

    def stop(prompt_id):
        interrupted.append(prompt_id)
        comfyui.running = ["neighbour"]

    comfyui.on_interrupt = stop
    assert await client.cancel("mine") == "interrupted"
    assert interrupted == ["mine"]
    assert await client.cancel("mine") == "absent"
    assert interrupted == ["mine"]


async def test_interrupt_that_comfyui_forgot_is_repeated(comfyui, client):
    comfyui.running = ["mine"]
    interrupted = []

    def stop(prompt_id):
        interrupted.append(prompt_id)
        if len(interrupted) == 2:
            comfyui.running = []

    comfyui.on_interrupt = stop
    assert await client.cancel("mine") == "interrupted"
    assert len(interrupted) == 2


async def test_upload_is_named_by_content_and_sent_once(comfyui, client):
    names = await asyncio.gather(
        *(client.upload(b"one", media_type="image/png") for _ in range(3)),
        client.upload(b"two", media_type="image/jpeg"),
    )
    assert len(set(names)) == 2
    assert names[0].startswith("atelier-")
    assert names[0].endswith(".png")
    assert names[3].endswith(".jpg")
    assert comfyui.inputs[names[0]] == b"one"
    assert comfyui.calls["POST /upload"] == 2


@pytest.mark.parametrize(("wiped", "uploads"), [(False, 1), (True, 2)])
async def test_upload_is_checked_after_a_restart(comfyui, client, wiped, uploads):
    name = await client.upload(b"one", media_type="image/png")
    await comfyui.drop_sockets()
    await reconnected(client)
    if wiped:
        comfyui.inputs.clear()
    for _ in range(2):
        assert await client.upload(b"one", media_type="image/png") == name
    assert comfyui.calls["POST /upload"] == uploads
    assert comfyui.calls["HEAD /view"] == 1


async def test_submit_sends_our_id_and_client(comfyui, client):
    prompt_id = new_id()
    submitted = await client.submit(GRAPH, prompt_id=prompt_id, extra_data={"a": 1})
    assert submitted.prompt_id == prompt_id
    (body,) = comfyui.prompts
    assert body == {
        "prompt": GRAPH,
        "client_id": "tester",
        "prompt_id": prompt_id,
        "extra_data": {"a": 1},
    }


async def test_every_recorded_refusal_is_told(comfyui, client, validation_answers):
    for answer in validation_answers.values():
        comfyui.reply = (answer["response"]["status"], answer["response"]["body"])
        if comfyui.reply[0] == 200:
            # some outputs will not be made, the others will
            assert set((await client.submit(answer["prompt"])).node_errors) == {"3"}
            continue
        with pytest.raises(GraphRejected) as caught:
            await client.submit(answer["prompt"])
        assert caught.value.error["type"] == comfyui.reply[1]["error"]["type"]
        assert caught.value.node_errors == comfyui.reply[1]["node_errors"]
        assert not caught.value.retryable
        json.dumps(caught.value.as_dict())


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [(500, "oops", InstanceError), (400, ["odd"], InstanceError), (404, {}, InstanceError),
     (200, {}, ProtocolError), (503, {}, InstanceUnreachable), (302, {}, InstanceError)],
)  # fmt: skip
async def test_odd_answers_to_a_prompt_are_the_instances_fault(
    comfyui, client, status, body, error
):
    comfyui.reply = (status, body)
    with pytest.raises(error) as caught:
        await client.submit(GRAPH)
    assert caught.value.retryable


async def test_nobody_there_is_unreachable_and_nothing_was_sent(unused_tcp_port):
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with ComfyClient(url, "tester") as client:
        with pytest.raises(InstanceUnreachable) as caught:
            await client.submit(GRAPH)
        assert caught.value.data["never_sent"]
        with pytest.raises(InstanceUnreachable):
            await client.wait_connected(0.2)
        assert not client.connected


async def test_file_is_viewed_with_its_media_type(comfyui, client):
    comfyui.inputs["a.png"] = b"x" * 100
    viewed = await client.view(FileRef("a.png"))
    assert (viewed.data, viewed.media_type) == (b"x" * 100, "image/png")
    with pytest.raises(FileTooLarge):
        await client.view(FileRef("a.png"), max_bytes=99)
    with pytest.raises(FileMissing):
        await client.view(FileRef("b.png"))


async def test_what_an_instance_can_run_is_read(client):
    info = await client.object_info()
    assert "KSampler" in info.classes
    assert (await client.system_stats())["system"]["comfyui_version"] == "0.3.64"
    await client.free()


async def test_slow_reader_is_spared_outdated_previews_but_nothing_else(comfyui, client):
    comfyui.session = "text_to_image_steps"
    prompt_id = new_id()
    async with client.watch(prompt_id) as watch:
        for step in range(1000):
            watch.hear(
                Executing(prompt_id, "3") if step == 500 else Progress(prompt_id, "3", step, 1000)
            )
        watch.end(Lost(prompt_id, "enough"))
        events = [event async for event in watch]
    assert len(events) < 100
    assert any(isinstance(event, Executing) for event in events)
    assert isinstance(events[-1], Lost)
    assert events[-2] == Progress(prompt_id, "3", 999, 1000)


async def test_instance_is_looked_at_over_http_before_it_is_connected_to(comfyui, client):
    assert comfyui.calls["GET /system_stats"] == comfyui.calls["GET /ws"] == 1
    await comfyui.drop_sockets()
    await reconnected(client)
    assert comfyui.calls["GET /system_stats"] == comfyui.calls["GET /ws"] == 2
    assert client.messages >= 2  # each connection is greeted


async def test_what_is_no_comfyui_is_said_to_be_none_and_not_connected_to():
    async def page(request):
        return web.Response(text="<html>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/{tail:.*}", page)
    async with TestServer(app) as server:
        url = str(server.make_url("")).rstrip("/")
        async with ComfyClient(url, "c") as client:
            with pytest.raises(InstanceUnreachable) as caught:
                await client.wait_connected(0.3)
    assert client.connections == 0
    assert "JSON" in caught.value.message
