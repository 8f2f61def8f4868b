"""A caller of the workflow service, from a picture of its own to the result on disk."""

import asyncio
import io
import json
import shutil
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from PIL import Image

from atelier.app import application, listen, serving
from atelier.settings import Settings

GOLDEN = Path(__file__).parents[1] / "golden"


class Caller:
    """Knows the workflow service's calls and nothing else of us."""

    def __init__(self, http, client_id):
        self.http = http
        self.client_id = client_id

    async def get(self, path, status=200, **params):
        async with self.http.get(f"/api/v1{path}", params=params) as answer:
            assert answer.status == status, await answer.text()
            return await answer.json()

    async def post(self, path, body=None, status=200):
        async with self.http.post(f"/api/v1{path}", json=body) as answer:
            assert answer.status == status, await answer.text()
            return await answer.json()

    async def submit(self, workflow):
        body = {"workflow": workflow, "client_id": self.client_id}
        return (await self.post("/workflows/submit", body))["prompt_id"]

    async def upload(self, data, name, **fields):
        form = aiohttp.FormData({key: str(value) for key, value in fields.items()})
        form.add_field("file", data, filename=name, content_type="image/png")
        async with self.http.post("/api/v1/images/upload", data=form) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def download(self, image):
        params = {key: image[key] for key in ("filename", "subfolder", "type")}
        async with self.http.get("/api/v1/images/download", params=params) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.read()

    async def history(self, prompt_id):
        """The entry, once there is one: what a caller who polls waits for."""
        async with asyncio.timeout(15):
            while True:
                found = await self.get(f"/workflows/{prompt_id}/history")
                if found:
                    return found[prompt_id]
                await asyncio.sleep(0.02)

    @asynccontextmanager
    async def socket(self):
        path = f"/api/v1/ws/{self.client_id}"
        async with self.http.ws_connect(path, heartbeat=None) as socket:
            first = await heard(socket)
            assert first["type"] == "system"
            assert first["data"]["event"] == "connected"
            yield socket


async def heard(socket):
    return json.loads(await socket.receive_str(timeout=15))


async def heard_until(socket, *types):
    """Messages up to the first of ``types``."""
    messages = [await heard(socket)]
    while messages[-1]["type"] not in types:
        messages.append(await heard(socket))
    return messages


def data_of(messages, kind):
    return [message["data"] for message in messages if message["type"] == kind]


@pytest.fixture
async def open_face(tmp_path, engine, empty_database):
    """The whole service on the embedded engine, behind a real server."""
    (tmp_path / "data").mkdir()
    shutil.copy(empty_database, tmp_path / "data" / "atelier.db")
    async with AsyncExitStack() as stack:

        async def new(**settings):
            known = Settings(
                data_dir=tmp_path / "data",
                comfyui_urls=engine.url,
                embedded_engine="never",
                grace_seconds=0.2,
                **settings,
            )
            listener = listen("127.0.0.1", 0)
            app = await stack.enter_async_context(application(known, worker=True, embedded=False))
            await stack.enter_async_context(serving(app, listener))
            base = f"http://127.0.0.1:{listener.getsockname()[1]}"
            http = await stack.enter_async_context(aiohttp.ClientSession(base))
            return Caller(http, "tool-7")

        yield new


@pytest.fixture
async def caller(open_face):
    return await open_face()


def graph_on(name, node):
    return {
        "1": node("LoadImage", image=name),
        "2": node("ImageInvert", image=["1", 0]),
        "3": node("SaveImage", images=["2", 0], filename_prefix="cats/inverted"),
        "4": node("PreviewImage", images=["1", 0]),
    }


def color_at(data, place=(1, 1)):
    with Image.open(io.BytesIO(data)) as picture:
        return picture.convert("RGB").getpixel(place)


async def test_from_a_picture_of_the_callers_to_the_result_on_disk(
    caller, tmp_path, make_picture, make_node
):
    photo = make_picture((32, 24), (200, 80, 40))
    uploaded = await caller.upload(photo, "cat.png")
    assert uploaded == {"name": "cat.png", "subfolder": "", "type": "input"}
    async with caller.socket() as socket:
        workflow = graph_on(uploaded["name"], make_node)
        await socket.send_json({"type": "submit", "data": {"workflow": workflow}, "id": 5})
        messages = await heard_until(socket, "result", "execution_error")
    submitted = data_of(messages, "system")[0]
    assert (submitted["event"], submitted["id"]) == ("submitted", 5)
    prompt_id = submitted["prompt_id"]
    assert {one["data"]["prompt_id"] for one in messages} == {prompt_id}
    executing = [one["node"] for one in data_of(messages, "executing")]
    assert sorted(executing[:-1]) == ["1", "2", "3", "4"]
    assert executing[-1] is None
    assert {"3"} <= {one["node"] for one in data_of(messages, "executed")}
    progress = [one["percent"] for one in data_of(messages, "progress")]
    assert progress == sorted(progress)
    assert all(one["value"] <= one["max"] for one in data_of(messages, "progress"))
    statuses = data_of(messages, "status")
    assert statuses[0]["state"] == "queued"
    assert statuses[0]["status"]["exec_info"]["queue_remaining"] == 1
    assert statuses[-1]["state"] == "success"

    result = messages[-1]["data"]
    (image,) = [one for one in result["images"] if one["node"] == "3"]
    target = tmp_path / image["filename"]
    target.write_bytes(await caller.download(image))
    assert image["filename"] == "inverted_00001_.png"
    assert color_at(target.read_bytes()) == pytest.approx((55, 175, 215), abs=1)

    entry = await caller.history(prompt_id)
    assert entry["outputs"] == result["outputs"]
    (shown,) = entry["outputs"]["4"]["images"]
    assert shown["type"] == "temp"
    assert color_at(await caller.download(shown)) == pytest.approx((200, 80, 40), abs=1)
    assert entry["outputs"]["3"]["images"][0]["subfolder"] == f"{prompt_id}/cats"
    listed = await caller.get(f"/workflows/{prompt_id}/images")
    assert listed["images"] == result["images"]
    async with caller.http.get(image["url"]) as answer:
        assert await answer.read() == target.read_bytes()
    url = await caller.get("/images/url", **entry["outputs"]["3"]["images"][0])
    assert url["url"] == image["url"]


async def test_picture_that_a_node_has_just_told_of_is_waited_for(
    caller, gates, graph_of, make_node
):
    gate = gates.new()
    workflow = graph_of()
    workflow["5"] = {**gate.node, "inputs": {**gate.node["inputs"], "image": ["1", 0]}}
    workflow["6"] = make_node("SaveImage", images=["5", 0], filename_prefix="late")
    async with caller.socket() as socket:
        await caller.submit(workflow)
        messages = await heard_until(socket, "executed")
        (image,) = messages[-1]["data"]["output"]["images"]
        await gate.reached()
        downloading = asyncio.create_task(caller.download(image))
        await asyncio.sleep(0.05)
        assert not downloading.done()
        gate.open()
        assert color_at(await downloading)


async def test_all_sockets_of_a_client_hear_what_came_over_http(caller, graph_of):
    stranger = Caller(caller.http, "somebody-else")
    async with caller.socket() as one, caller.socket() as other, stranger.socket() as third:
        prompt_id = await caller.submit(graph_of())
        for socket in (one, other):
            messages = await heard_until(socket, "result")
            assert messages[-1]["data"]["prompt_id"] == prompt_id
        await third.send_json({"type": "ping"})
        assert (await heard(third))["type"] == "pong"  # and nothing before it


async def test_who_connects_again_hears_the_present_state(caller, gates, graph_of):
    gate = gates.new()
    async with caller.socket() as socket:
        prompt_id = await caller.submit(graph_of(gate.node))
        await heard_until(socket, "executing")
    await gate.reached()
    waiting = await caller.submit(graph_of(gate.node))
    async with caller.socket() as socket:
        messages = await heard_until(socket, "progress")
        (state,) = [m for m in data_of(messages, "status") if m["prompt_id"] == prompt_id]
        assert state["state"] == "running"
        assert data_of(messages, "progress")[0]["percent"] >= 30
        gate.open()
        ended = {(await heard_until(socket, "result"))[-1]["data"]["prompt_id"] for _ in range(2)}
    assert ended == {prompt_id, waiting}


async def test_run_that_ended_meanwhile_is_told_to_who_resumes(caller, graph_of):
    async with caller.socket() as socket:
        prompt_id = await caller.submit(graph_of())
        last = (await heard_until(socket, "status"))[-1]["event_id"]
    await caller.history(prompt_id)
    path = f"/api/v1/ws/{caller.client_id}?last_event_id={last}"
    async with caller.http.ws_connect(path) as socket:
        assert (await heard(socket))["data"]["resumed"]
        assert (await heard_until(socket, "result"))[-1]["data"]["prompt_id"] == prompt_id


async def test_runs_are_interrupted_and_the_queue_is_emptied(caller, gates, graph_of, eventually):
    gate = gates.new()
    running = await caller.submit(graph_of(gate.node))
    await gate.reached()
    pending = [await caller.submit(graph_of(gate.node)) for _ in range(6)]

    async def only_one_runs():
        queue = await caller.get("/queue/status")
        assert queue["running"] == len(queue["queue_running"])
        assert queue["pending"] == len(queue["queue_pending"])
        assert queue["running"] + queue["pending"] == 7
        return running in [entry[1] for entry in queue["queue_running"]]

    await eventually(only_one_runs, "the run isn't told to run")
    queue = await caller.get("/queue/status", limit=1)
    assert len(queue["queue_running"]) == 1
    number, prompt_id, graph, extra, _ = queue["queue_running"][0]
    assert (number > 0, prompt_id, extra["client_id"]) == (True, running, "tool-7")
    assert graph["9"]["class_type"] == "SaveImage"

    assert await caller.post("/workflows/interrupt", {"prompt_id": pending[-1]}) == {
        "interrupted": [pending[-1]]
    }
    assert (await caller.get(f"/workflows/{pending[-1]}/history"))[pending[-1]]["status"][
        "messages"
    ][-1][0] == "execution_interrupted"
    cleared = await caller.post("/queue/clear", {"clear": True})
    assert cleared["cleared"] == len(cleared["prompt_ids"])
    stopped = await caller.post("/workflows/interrupt")
    assert running in stopped["interrupted"]
    for prompt_id in (running, *pending):
        entry = await caller.history(prompt_id)
        assert (entry["status"]["status_str"], entry["status"]["completed"]) == ("error", False)
        assert entry["status"]["messages"][-1][0] == "execution_interrupted"
    refused = await caller.get(f"/workflows/{running}/images", status=422)
    assert refused["code"] == "WORKFLOW_EXECUTION_ERROR"
    assert refused["details"]["interrupted"]
    queue = await caller.get("/queue/status")
    assert (queue["running"], queue["pending"]) == (0, 0)


async def test_node_that_fails_is_told_with_all_that_is_known(caller, graph_of, make_node, gates):
    async with caller.socket() as socket:
        workflow = graph_of(make_node("TestFail", reason="no colour left"))
        await socket.send_json({"type": "submit", "data": {"workflow": workflow}})
        error = (await heard_until(socket, "execution_error"))[-1]["data"]
    assert error["code"] == "WORKFLOW_EXECUTION_ERROR"
    assert (error["node_id"], error["node_type"]) == ("2", "TestFail")
    assert "no colour left" in error["message"]
    assert error["exception_type"] == "ValueError"
    assert error["traceback"]
    entry = await caller.history(error["prompt_id"])
    kind, told = entry["status"]["messages"][-1]
    assert (kind, told["exception_message"]) == ("execution_error", "no colour left")
    refused = await caller.get(f"/workflows/{error['prompt_id']}/images", status=422)
    assert refused["code"] == "WORKFLOW_EXECUTION_ERROR"
    assert refused["details"]["node"] == "2"


async def test_run_that_takes_too_long_is_a_task_timeout(open_face, gates, graph_of):
    caller = await open_face(job_timeout_seconds=0.3)
    gate = gates.new()
    async with caller.socket() as socket:
        prompt_id = await caller.submit(graph_of(gate.node))
        error = (await heard_until(socket, "execution_error"))[-1]["data"]
    assert error["code"] == "TASK_TIMEOUT"
    refused = await caller.get(f"/workflows/{prompt_id}/images", status=504)
    assert refused["code"] == "TASK_TIMEOUT"


async def test_instance_that_is_away_is_told_and_the_run_waits(
    caller, engine, graph_of, eventually
):
    await engine.stop()

    async def is_told():
        (instance,) = (await caller.get("/queue/status"))["instances"]
        return instance["state"] == "down" and instance["error"]["code"] == "CONNECTION_ERROR"

    await eventually(is_told, "the queue's status doesn't tell that the instance is away")
    prompt_id = await caller.submit(graph_of())
    assert await caller.get(f"/workflows/{prompt_id}/history") == {}
    await engine.start()
    assert (await caller.history(prompt_id))["status"]["completed"]


async def test_all_that_is_wrong_with_a_graph_is_told_at_once(caller, make_node):
    workflow = {
        "1": make_node("CheckpointLoader9", ckpt_name="x.safetensors"),
        "2": make_node("ImageInvert", image=["3", 0]),
        "3": make_node("ImageInvert", image=["2", 0]),
        "4": make_node("ImageScale", image=["2", 0], upscale_method="magic", width=1, height=0),
        "5": make_node("SaveImage", images=["4", 0]),
    }
    body = {"workflow": workflow, "client_id": "a"}
    refused = await caller.post("/workflows/submit", body, status=422)
    assert refused["code"] == "WORKFLOW_VALIDATION_ERROR"
    problems = refused["details"]["node_errors"]
    told = {(one["node"], one["class_type"], one["code"]) for one in problems}
    assert told >= {
        ("1", "CheckpointLoader9", "node_missing"),
        ("4", "ImageScale", "value_not_in_list"),
        ("4", "ImageScale", "input_missing"),
        ("5", "SaveImage", "input_missing"),
    }
    assert any(code == "cycle" for _, _, code in told)
    (method,) = [one for one in problems if one["input"] == "upscale_method"]
    assert "lanczos" in method["allowed"]
    async with caller.socket() as socket:
        await socket.send_json({"type": "submit", "data": {"workflow": workflow}})
        (said,) = await heard_until(socket, "execution_error")
        assert said["data"]["code"] == "WORKFLOW_VALIDATION_ERROR"
        assert said["data"]["details"]["node_errors"] == problems
        assert said["data"]["prompt_id"] is None
        await socket.send_json({"type": "ping"})
        assert (await heard(socket))["type"] == "pong"


async def test_result_of_one_run_is_the_input_of_the_next(caller, make_picture, make_node):
    await caller.upload(make_picture((8, 8), (10, 20, 30)), "a.png", subfolder="cats")
    first = await caller.submit(graph_on("cats/a.png", make_node))
    (made,) = (await caller.history(first))["outputs"]["3"]["images"]
    name = f"{made['subfolder']}/{made['filename']} [output]"
    second = await caller.submit(graph_on(name, make_node))
    (back,) = (await caller.history(second))["outputs"]["3"]["images"]
    assert color_at(await caller.download(back)) == pytest.approx((10, 20, 30), abs=2)


async def test_name_that_means_another_picture_by_now_is_not_answered_from_the_cache(
    caller, make_picture, make_node
):
    body = {"workflow": graph_on("a.png", make_node), "cache": True}
    made = []
    for color in ((10, 20, 30), (10, 20, 30), (40, 50, 60)):
        await caller.upload(make_picture((8, 8), color), "a.png", overwrite="true")
        async with caller.http.post("/v1/jobs", json=body, headers={"Prefer": "wait=20"}) as answer:
            made.append(await answer.json())
    assert [job["status"] for job in made] == ["succeeded"] * 3
    assert [job["cached"] for job in made] == [False, True, False]


async def test_text_that_a_node_tells_stands_in_the_history(caller, make_node):
    workflow = {
        "1": make_node("PrimitiveString", value="hello"),
        "2": make_node("PreviewAny", source=["1", 0]),
    }
    prompt_id = await caller.submit(workflow)
    assert (await caller.history(prompt_id))["outputs"]["2"]["text"] == ["hello"]


async def test_history_has_the_shape_of_comfyuis(caller, graph_of, make_node, gates):
    gate = gates.new()
    middle = {
        "preview_and_save": (),
        "execution_error": (make_node("TestFail", reason="x"),),
        "interrupted": (gate.node,),
    }
    for recorded, nodes in middle.items():
        lines = (GOLDEN / f"{recorded}.jsonl").read_text().splitlines()
        answers = [json.loads(line) for line in lines if "/history/" in line]
        (golden,) = answers[0]["response"]["body"].values()
        prompt_id = await caller.submit(graph_of(*nodes))
        if recorded == "interrupted":
            await gate.reached()
            await caller.post("/workflows/interrupt", {"prompt_id": prompt_id})
        entry = await caller.history(prompt_id)
        assert entry.keys() == golden.keys()
        assert entry["status"].keys() == golden["status"].keys()
        assert entry["status"]["status_str"] == golden["status"]["status_str"]
        assert [type(value) for value in entry["prompt"]] == [type(v) for v in golden["prompt"]]
        for (kind, data), (known, expected) in zip(
            entry["status"]["messages"], golden["status"]["messages"], strict=True
        ):
            assert kind == known
            assert data.keys() >= expected.keys()
        if recorded == "preview_and_save":
            (image,) = entry["outputs"]["9"]["images"]
            assert image.keys() == golden["outputs"]["9"]["images"][0].keys()
            assert entry["meta"]["9"] == golden["meta"]["9"]
