"""The workflow service's calls: the shape of each answer, and the code of each error."""

import asyncio
import json
import socket as sockets
import uuid

import aiohttp
import pytest
from pydantic import TypeAdapter

from atelier.api.workflow_service import socket as socket_module
from atelier.api.workflow_service.models import (
    ClearedModel,
    CodedErrorModel,
    ImagesModel,
    InterruptedRunsModel,
    RunsQueueModel,
    SubmittedModel,
    UploadedModel,
    UrlModel,
)
from atelier.database import DatabaseUnavailable
from atelier.events import event

GRAPH = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "a"}},
}


def assert_described(model, document):
    TypeAdapter(model).validate_python(document, strict=True)
    assert set(document) == set(model.model_fields)


@pytest.fixture
def call(client):
    """Make a call and return its JSON, which must have come with ``status``."""

    async def call(method, path, *, status=200, **more):
        async with client.request(method, f"/api/v1{path}", **more) as answer:
            document = await answer.json()
            assert answer.status == status, document
            if status >= 400:
                assert answer.content_type == "application/json"
                assert_described(CodedErrorModel, document)
            return document

    return call


@pytest.fixture
def submit_graph(call, user):
    async def submit(graph=GRAPH, client_id=user):
        body = {"workflow": graph, "client_id": client_id}
        return await call("POST", "/workflows/submit", json=body)

    return submit


@pytest.fixture
def upload(call, make_picture):
    async def upload(name="cat.png", color=(1, 2, 3), status=200, field="file", **fields):
        form = aiohttp.FormData(fields, quote_fields=False)
        form.add_field(field, make_picture(color), filename=name, content_type="image/png")
        return await call("POST", "/images/upload", data=form, status=status)

    return upload


@pytest.fixture
def name():
    """A file name that no other test uses."""
    return f"{uuid.uuid4().hex}.png"


# -- submitting and looking ------------------------------------------------------------------------


async def test_submission_is_answered_with_the_jobs_id(call, client, submit_graph, user):
    made = await submit_graph()
    assert_described(SubmittedModel, made)
    assert (made["client_id"], made["status"]) == (user, "queued")
    assert made["queue_position"] >= 1
    async with client.get(f"/v1/jobs/{made['prompt_id']}") as answer:
        job = await answer.json()
    assert (job["user"], job["graph"]) == (user, GRAPH)
    assert (await call("GET", f"/workflows/{made['prompt_id']}/history")) == {}


async def test_client_id_may_be_left_out(call):
    made = await call("POST", "/workflows/submit", json={"workflow": GRAPH})
    assert made["client_id"] == "anonymous"


async def test_history_of_what_nobody_knows_is_empty_as_comfyuis(call):
    assert await call("GET", "/workflows/no-such-run/history") == {}


async def test_pictures_of_a_run_come_with_their_addresses(
    call, client, backstage, submit_graph, make_picture
):
    made = await submit_graph()
    prompt_id = made["prompt_id"]
    before = await call("GET", f"/workflows/{prompt_id}/images")
    assert_described(ImagesModel, before)
    assert before == {"prompt_id": prompt_id, "status": "queued", "images": []}
    await backstage.finish(prompt_id, make_picture())
    after = await call("GET", f"/workflows/{prompt_id}/images")
    assert_described(ImagesModel, after)
    (image,) = after["images"]
    assert (after["status"], image["node"]) == ("success", "9")
    assert image["url"].startswith(f"{backstage.base}/v1/assets/")
    history = (await call("GET", f"/workflows/{prompt_id}/history"))[prompt_id]
    (told,) = history["outputs"]["9"]["images"]
    assert told == {"filename": "out.png", "subfolder": prompt_id, "type": "output"}
    async with client.get("/api/v1/images/download", params=told) as answer:
        assert (answer.status, answer.content_type) == (200, "image/png")
        assert len(await answer.read()) == image["size_bytes"]
    url = await call("GET", "/images/url", params=told)
    assert_described(UrlModel, url)
    assert url == {"url": image["url"], **told}


async def test_job_of_another_dialect_has_a_history_too(call, backstage, submit, make_picture):
    job = await submit()
    await backstage.finish(job["id"], make_picture())
    entry = (await call("GET", f"/workflows/{job['id']}/history"))[job["id"]]
    assert entry["outputs"]["9"]["images"][0]["filename"] == "out.png"
    assert entry["prompt"][3]["client_id"] == job["user"]


@pytest.mark.parametrize(
    ("reason", "status", "code"),
    [
        ("INSTANCE_UNREACHABLE", 502, "CONNECTION_ERROR"),
        ("PROMPT_LOST", 502, "CONNECTION_ERROR"),
        ("TASK_TIMEOUT", 504, "TASK_TIMEOUT"),
        ("WORKFLOW_EXECUTION_ERROR", 422, "WORKFLOW_EXECUTION_ERROR"),
        ("OUT_OF_MEMORY", 422, "WORKFLOW_EXECUTION_ERROR"),
        ("INTERNAL_ERROR", 422, "WORKFLOW_EXECUTION_ERROR"),
        ("WORKFLOW_VALIDATION_ERROR", 422, "WORKFLOW_VALIDATION_ERROR"),
        ("NOT_AN_IMAGE", 422, "FILE_OPERATION_ERROR"),
    ],
)
async def test_run_that_failed_has_its_code_everywhere(
    call, client, backstage, submit_graph, user, reason, status, code
):
    async with client.ws_connect(f"/api/v1/ws/{user}") as socket:
        made = await submit_graph()
        error = {"code": reason, "message": "It broke.", "hint": "Mend it.", "node": "9"}
        await backstage.fail(made["prompt_id"], **error)
        told = (await until(socket, "execution_error"))["data"]
    refused = await call("GET", f"/workflows/{made['prompt_id']}/images", status=status)
    assert refused["code"] == told["code"] == code
    assert refused["message"] == "It broke."
    assert refused["details"]["reason"] == reason
    assert refused["details"]["hint"] == "Mend it."
    entry = (await call("GET", f"/workflows/{made['prompt_id']}/history"))[made["prompt_id"]]
    kind, data = entry["status"]["messages"][-1]
    assert (kind, data["code"]) == ("execution_error", code)
    assert (data["node_id"], data["node_type"]) == ("9", "SaveImage")


async def test_pictures_of_what_nobody_knows_are_not_found(call):
    refused = await call("GET", "/workflows/nope/images", status=404)
    assert refused["code"] == "IMAGE_NOT_FOUND"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "workflow is required"),
        ({"workflow": []}, "workflow must be an object"),
        ({"workflow": "style_change"}, "workflow must be an object"),
        ({"workflow": {}}, "no nodes"),
        ({"workflow": {"version": 0.4, "state": {}}}, "node version is a number"),
        ({"workflow": {"1": {"inputs": {}}}}, "node 1 has no class_type"),
        ({"workflow": GRAPH, "client_id": ""}, "client_id must not be empty"),
        ({"workflow": GRAPH, "client_id": "x" * 201}, "client_id may have at most 200"),
        ({"workflow": GRAPH, "client_id": 5}, "client_id must be text"),
    ],
)
async def test_submission_that_can_not_be_is_a_validation_error(call, body, said):
    refused = await call("POST", "/workflows/submit", json=body, status=422)
    assert refused["code"] == "WORKFLOW_VALIDATION_ERROR"
    assert said in refused["message"]


async def test_graph_in_neither_format_names_each_node(call):
    graph = {"5": 3, "7": {"inputs": {}}, "8": {"class_type": "SaveImage", "inputs": []}}
    refused = await call("POST", "/workflows/submit", json={"workflow": graph}, status=422)
    told = [(one["node"], one["class_type"]) for one in refused["details"]["node_errors"]]
    assert told == [("5", ""), ("7", ""), ("8", "SaveImage")]
    assert all("class_type" in one["message"] for one in refused["details"]["node_errors"])


async def test_body_that_is_no_json_is_a_validation_error(call):
    headers = {"Content-Type": "application/json"}
    refused = await call("POST", "/workflows/submit", data=b"{", headers=headers, status=422)
    assert refused["code"] == "WORKFLOW_VALIDATION_ERROR"


# -- the queue -------------------------------------------------------------------------------------


async def test_queue_has_counts_and_comfyuis_entries(call, backstage, submit_graph):
    running, pending = (await submit_graph(), await submit_graph())
    await backstage.claim(running["prompt_id"])
    queue = await call("GET", "/queue/status", params={"limit": "200"})
    assert_described(RunsQueueModel, queue)
    entries = {entry[1]: entry for entry in queue["queue_running"] + queue["queue_pending"]}
    assert running["prompt_id"] in [entry[1] for entry in queue["queue_running"]]
    number, prompt_id, graph, extra, _ = entries[pending["prompt_id"]]
    assert (number, prompt_id, graph) == (pending["number"], pending["prompt_id"], GRAPH)
    assert extra["client_id"] == pending["client_id"]
    assert extra["queue_position"] >= 1
    refused = await call("GET", "/queue/status", params={"limit": "0"}, status=422)
    assert refused["code"] == "QUEUE_OPERATION_ERROR"


async def test_queue_is_cleared_only_when_that_is_said(call, submit_graph):
    made = await submit_graph()
    for body in ({}, {"clear": False}, {"clear": "yes"}):
        refused = await call("POST", "/queue/clear", json=body, status=422)
        assert refused["code"] == "QUEUE_OPERATION_ERROR"
    cleared = await call("POST", "/queue/clear", json={"clear": True})
    assert_described(ClearedModel, cleared)
    assert made["prompt_id"] in cleared["prompt_ids"]
    entry = await call("GET", f"/workflows/{made['prompt_id']}/history")
    assert entry[made["prompt_id"]]["status"]["messages"][-1][0] == "execution_interrupted"
    assert (await call("GET", "/queue/status"))["pending"] == 0


async def test_waiting_run_is_interrupted_once(call, submit_graph):
    made = await submit_graph()
    body = {"prompt_id": made["prompt_id"]}
    stopped = await call("POST", "/workflows/interrupt", json=body)
    assert_described(InterruptedRunsModel, stopped)
    assert stopped["interrupted"] == [made["prompt_id"]]


async def test_what_ended_or_never_was_can_not_be_interrupted(
    call, backstage, submit_graph, make_picture
):
    body = {"prompt_id": "nope"}
    refused = await call("POST", "/workflows/interrupt", json=body, status=404)
    assert refused["code"] == "QUEUE_OPERATION_ERROR"
    made = await submit_graph()
    await backstage.finish(made["prompt_id"], make_picture())
    body = {"prompt_id": made["prompt_id"]}
    refused = await call("POST", "/workflows/interrupt", json=body, status=409)
    assert refused["code"] == "QUEUE_OPERATION_ERROR"


async def test_database_that_is_away_is_a_queue_error(call, backstage, monkeypatch):
    def away(*_, **__):
        raise DatabaseUnavailable("The database is away.")

    monkeypatch.setattr(backstage.app.database, "run", away)
    body = {"workflow": GRAPH}
    refused = await call("POST", "/workflows/submit", json=body, status=503)
    assert refused["code"] == "QUEUE_OPERATION_ERROR"
    assert refused["details"]["retryable"]


# -- files -----------------------------------------------------------------------------------------


async def test_upload_is_renamed_as_comfyui_does(client, upload, name):
    first = await upload(name)
    assert_described(UploadedModel, first)
    assert first == {"name": name, "subfolder": "", "type": "input"}
    assert await upload(name) == first  # the same picture
    stem = name.removesuffix(".png")
    assert (await upload(name, (9, 9, 9)))["name"] == f"{stem} (1).png"
    assert (await upload(name, (8, 8, 8)))["name"] == f"{stem} (2).png"
    assert (await upload(name, (9, 9, 9), field="image"))["name"] == f"{stem} (1).png"
    assert (await upload(name, (7, 7, 7), overwrite="true"))["name"] == name


async def test_uploaded_picture_comes_back_by_its_name(client, call, upload, name, make_picture):
    stored = await upload(name, (50, 60, 70), subfolder="cats/black")
    assert stored["subfolder"] == "cats/black"
    params = {"filename": name, "subfolder": "cats/black", "type": "input"}
    async with client.get("/api/v1/images/download", params=params) as answer:
        assert await answer.read() == make_picture((50, 60, 70))
        assert answer.headers["Cache-Control"] == "no-cache"
        etag = answer.headers["ETag"]
    again = client.get("/api/v1/images/download", params=params, headers={"If-None-Match": etag})
    async with again as answer:
        assert answer.status == 304
    url = (await call("GET", "/images/url", params=params))["url"]
    async with client.get(url) as answer:
        assert await answer.read() == make_picture((50, 60, 70))
    await upload(name, (1, 1, 1), subfolder="cats/black", overwrite="true")
    async with client.get("/api/v1/images/download", params=params) as answer:
        assert await answer.read() == make_picture((1, 1, 1))


async def test_uploaded_name_in_a_graph_becomes_the_jobs_picture(
    client, upload, submit_graph, name
):
    await upload(name)
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "2": {"class_type": "LoadImage", "inputs": {"image": "of-the-instance.png"}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": name}},
    }
    made = await submit_graph(graph)
    async with client.get(f"/v1/jobs/{made['prompt_id']}") as answer:
        job = await answer.json()
    assert list(job["inputs"]) == ["1.image"]
    assert job["graph"] == graph


@pytest.mark.parametrize(
    ("filename", "fields", "said"),
    [
        ("../../etc/passwd", {}, "leads out"),
        ("..\\cat.png", {}, "leads out"),
        ("cat.png", {"subfolder": "../up"}, "leads out"),
        ("cat.png", {"subfolder": "/etc"}, "leads out"),
        ("cat.png", {"type": "output"}, "type must be input"),
        ("a" * 600 + ".png", {}, "500 characters"),
        # PostgreSQL and MySQL can't keep such a one: this was a 500 there.
        ("cat.png", {"client_id": "a" * 201}, "1 to 200 printable"),
        ("cat.png", {"client_id": "a\0b"}, "1 to 200 printable"),
    ],
)
async def test_name_that_can_not_be_used_is_a_file_error(upload, filename, fields, said):
    refused = await upload(filename, status=422, **fields)
    assert refused["code"] == "FILE_OPERATION_ERROR"
    assert said in refused["message"]


async def test_upload_without_a_picture_is_a_file_error(call):
    form = aiohttp.FormData({"file": "text"})
    refused = await call("POST", "/images/upload", data=form, status=422)
    assert refused["code"] == "FILE_OPERATION_ERROR"
    form = aiohttp.FormData()
    form.add_field("file", b"no picture", filename="cat.png")
    refused = await call("POST", "/images/upload", data=form, status=422)
    assert (refused["code"], refused["details"]["reason"]) == (
        "FILE_OPERATION_ERROR",
        "NOT_AN_IMAGE",
    )
    refused = await call("POST", "/images/upload", json={}, status=422)
    assert refused["code"] == "FILE_OPERATION_ERROR"


@pytest.mark.parametrize("path", ["/images/download", "/images/url"])
@pytest.mark.parametrize(
    "params",
    [
        {"filename": "nope.png"},
        {"filename": "nope.png", "type": "input"},
        {"filename": "../../etc/passwd", "type": "input"},
        {"filename": "passwd", "subfolder": "../../etc", "type": "input"},
        {"filename": "passwd", "subfolder": "/etc", "type": "temp"},
        {"filename": "atelier.db", "type": "data"},
        {"filename": ""},
    ],
)
async def test_what_is_no_file_of_ours_is_not_found(call, path, params):
    refused = await call("GET", path, params=params, status=404)
    assert refused["code"] == "IMAGE_NOT_FOUND"


async def test_file_without_a_name_is_a_file_error(call):
    refused = await call("GET", "/images/download", status=422)
    assert refused["code"] == "FILE_OPERATION_ERROR"


# -- the socket ------------------------------------------------------------------------------------


async def until(socket, kind):
    while (message := json.loads(await socket.receive_str(timeout=10)))["type"] != kind:
        pass
    return message


@pytest.fixture
async def socket(client, user):
    async with client.ws_connect(f"/api/v1/ws/{user}") as socket:
        first = await until(socket, "system")
        assert first["data"] == {"event": "connected", "client_id": user, "resumed": False}
        yield socket


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("{nope", "isn't JSON"),
        ("", "isn't JSON"),
        ("[]", "must be a JSON object with a type"),
        ("{}", "must be a JSON object with a type"),
        ('{"type": null}', "must be a JSON object with a type"),
        ('{"type": "dance"}', "no message of type 'dance'"),
        ('{"type": {"a": 1}}', "no message of type"),
    ],
)
async def test_wrong_message_is_answered_and_the_socket_stays_open(socket, message, said):
    await socket.send_str(message)
    error = await until(socket, "error")
    assert_described(CodedErrorModel, error["data"])
    assert error["data"]["code"] == "WEBSOCKET_ERROR"
    assert said in error["data"]["message"]
    await socket.send_json({"type": "ping"})
    assert await until(socket, "pong") == {"type": "pong", "data": {}}


@pytest.mark.parametrize("data", [None, 5, {}, {"workflow": 5}, {"workflow": {"1": {}}}])
async def test_wrong_graph_is_an_error_of_the_run_that_never_was(socket, data):
    await socket.send_json({"type": "submit", "data": data, "id": "x"})
    error = (await until(socket, "execution_error"))["data"]
    assert (error["code"], error["prompt_id"], error["id"]) == (
        "WORKFLOW_VALIDATION_ERROR",
        None,
        "x",
    )
    await socket.send_json({"type": "ping"})
    await until(socket, "pong")


async def test_submission_is_answered_before_anything_is_told_of_it(socket, user):
    await socket.send_json({"type": "submit", "data": {"workflow": GRAPH, "client_id": "other"}})
    answer = json.loads(await socket.receive_str(timeout=10))
    assert (answer["type"], answer["data"]["event"]) == ("system", "submitted")
    assert answer["data"]["client_id"] == user
    status = json.loads(await socket.receive_str(timeout=10))
    assert status["type"] == "status"
    assert status["data"]["prompt_id"] == answer["data"]["prompt_id"]
    assert status["data"]["status"]["exec_info"]["queue_remaining"] >= 1


async def test_attempt_that_failed_and_is_tried_again_is_told(socket, backstage, submit_graph):
    made = await submit_graph()
    error = {"code": "PROMPT_LOST", "message": "Lost.", "hint": "Wait.", "retryable": True}
    told = event.retrying(made["prompt_id"], made["client_id"], error=error, attempt=1)
    await backstage.publish(told)
    while (said := await until(socket, "system"))["data"]["event"] != "retrying":
        pass
    assert said["data"]["error"]["code"] == "CONNECTION_ERROR"


async def test_client_id_that_can_not_be_is_refused(client):
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with client.ws_connect(f"/api/v1/ws/{'x' * 201}"):
            pass
    assert refused.value.status == 422


async def test_client_that_vanishes_leaves_nothing_behind(client, backstage, user):
    before = backstage.bus.listeners
    async with client.ws_connect(f"/api/v1/ws/{user}") as socket:
        await until(socket, "system")
        assert backstage.bus.listeners == before + 1
    await backstage.listeners_fall_to(before)


async def test_client_that_does_not_read_is_dropped_and_the_others_hear_on(
    client, backstage, submit_graph, user, monkeypatch
):
    monkeypatch.setattr(socket_module, "SEND_SECONDS", 2.0)
    made = await submit_graph()
    before = backstage.bus.listeners
    host, port = backstage.base.removeprefix("http://").split(":")
    deaf = sockets.socket()
    deaf.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    deaf.connect((host, int(port)))
    deaf.sendall(
        f"GET /api/v1/ws/{user} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    async with client.ws_connect(f"/api/v1/ws/{user}") as socket:
        heard = asyncio.create_task(count_of(socket, "executed"))
        async with asyncio.timeout(10):
            while backstage.bus.listeners < before + 2:  # noqa: ASYNC110  (in another loop)
                await asyncio.sleep(0.01)
        padding = "x" * 200_000
        async with asyncio.timeout(15):
            for number in range(200):
                output = {"text": [padding]}
                told = event.executed(made["prompt_id"], user, node=str(number), output=output)
                await backstage.publish(told)
                if backstage.bus.listeners == before + 1 and number > 60:
                    break
                await asyncio.sleep(0.01)
            await backstage.listeners_fall_to(before + 1)
        await backstage.publish(event.executing(made["prompt_id"], user, node="last"))
        await heard
    deaf.close()
    # It can come back, and hears how its run stands.
    async with client.ws_connect(f"/api/v1/ws/{user}") as socket:
        assert (await until(socket, "status"))["data"]["prompt_id"] == made["prompt_id"]


async def count_of(socket, kind):
    """How many of ``kind`` come before node "last" runs."""
    count = 0
    while True:
        message = json.loads(await socket.receive_str(timeout=15))
        count += message["type"] == kind
        if message["type"] == "executing" and message["data"]["node"] == "last":
            return count
