"""What callers of the four dialects have been written against, written down once more by hand.

Every call with the fields that its answer must have. Other tests compare answers with the models
of this project, which change together with them; these names may only be added to.
"""

import json
from base64 import b64encode
from itertools import chain
from typing import NamedTuple

import aiohttp
import pytest

from atelier.events import event

GRAPH = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "a"}},
}
CAT = "http://pictures.example/cat.png"
NUMBER = (int, float)
TEXT = (str, type(None))
MAYBE = (int, float, type(None))


class Call(NamedTuple):
    """``{names}`` in path, body and query are filled from the fixture ``world``.

    A shape is a type or several, a set of the words that there are, a dict of fields that must be
    there, or a list with the shape of its entries (there must be some).
    """

    method: str
    path: str
    shape: object
    status: int = 200
    body: object = None
    query: dict = {}  # noqa: RUF012  (never written to)
    form: bool = False


TASK_WORDS = {"pending", "processing", "completed", "failed", "cancelled"}
TRANSFORM_TASK = {
    "task_id": str,
    "user_id": str,
    "status": TASK_WORDS,
    "progress": int,
    "output_image_url": str,
    "output_image_urls": [str],
    "error_message": TEXT,
    "style_type": str,
    "created_at": str,
    "updated_at": str,
    "queue_position": MAYBE,
    "eta_seconds": MAYBE,
}
TRANSFORM = [
    Call(
        "POST",
        "/api/v1/transform",
        {
            "task_id": str,
            "status": {"pending"},
            "created_at": str,
            "queue_position": int,
            "eta_seconds": MAYBE,
        },
        body={
            "user_id": "{user}",
            "image_url": CAT,
            "style_type": "clay",
            "custom_prompt": "a robot",
            "strength": 0.6,
        },
    ),
    Call(
        "POST",
        "/api/v1/transform/batch",
        {"results": [{"task_id": str, "status": {"pending"}}]},
        body={"user_id": "{user}", "image_urls": [CAT], "style_type": "anime"},
    ),
    Call("GET", "/api/v1/task/{done}", TRANSFORM_TASK),
    Call(
        "GET",
        "/api/v1/user/{user}/tasks",
        {"tasks": [{**TRANSFORM_TASK, "output_image_url": TEXT, "output_image_urls": list}]},
        query={"limit": "1"},
    ),
    Call(
        "GET",
        "/api/v1/stats",
        {
            "by_status": dict.fromkeys(TASK_WORDS, int),
            "by_style": {"clay": int},
            "success_rate": NUMBER,
            "failure_rate": NUMBER,
            "queue_length": int,
            "average_wait_seconds": NUMBER,
            "p95_wait_seconds": NUMBER,
            "average_run_seconds": NUMBER,
            "p95_run_seconds": NUMBER,
            "memory_in_use_bytes": int,
            "instances": list,
        },
    ),
    Call(
        "GET",
        "/health",
        {"status": str, "redis": str, "mysql": str, "database": str, "instances": list},
    ),
]
TASK = {
    "task_id": str,
    "status": TASK_WORDS,
    "progress": int,
    "result": {"image_urls": [str], "images": [{"url": str, "width": int}], "metadata": dict},
    "error": (dict, type(None)),
    "retries": int,
    "timings": {"total_ms": int},
    "created_at": str,
    "started_at": TEXT,
    "completed_at": TEXT,
}
TASKS = [
    Call(
        "POST",
        "/api/tasks/create",
        {"task_id": str, "status": {"pending"}},
        body={
            "workflow": "style_change",
            "inputs": {"image": CAT},
            "priority": 3,
            "webhook_url": None,
            "max_retries": 2,
            "metadata": {"order": 1},
        },
    ),
    Call(
        "POST",
        "/api/tasks/create",
        {"task_id": str, "status": {"pending"}},
        body={"workflow": GRAPH, "inputs": {}},
    ),
    Call("GET", "/api/tasks/{done}", TASK),
    Call(
        "GET",
        "/api/comfyui-queue-status",
        {"queue": {"pending": int, "processing": int}, "instances": list},
    ),
    Call("GET", "/api/comfyui-system-stats", {"instances": list}),
    Call("POST", "/api/comfyui-interrupt", {"interrupted": [str]}, body={"task_id": "{running}"}),
    Call("POST", "/api/comfyui-interrupt", {"interrupted": list}),
    Call("GET", "/api/health", {"status": str}),
    Call("GET", "/api/status", {"status": str, "tasks": dict.fromkeys(TASK_WORDS, int)}),
]
STUDIO_WORDS = {"queued", "processing", "finished", "failed", "cancelled"}
GENERATION = {
    "status": STUDIO_WORDS,
    "progress": int,
    "image_url": str,
    "image_urls": [str],
    "error": TEXT,
}
STUDIO = [
    Call(
        "POST",
        "/api/generate",
        {"job_id": str, "status": {"queued"}, "seed": int},
        202,
        body={
            "workflow": "style_change",
            "prompt": "a robot",
            "seed": -1,
            "model": None,
            "batch_size": 2,
            "images": {"source": "{data_url}"},
        },
    ),
    Call("GET", "/api/status/{done}", GENERATION),
    Call(
        "GET",
        "/api/history",
        {
            "total": int,
            "limit": int,
            "offset": int,
            "jobs": [
                {
                    "id": str,
                    "prompt": TEXT,
                    "workflow": str,
                    "model": TEXT,
                    "aspect_ratio": TEXT,
                    "batch_size": int,
                    "seed": MAYBE,
                    "status": STUDIO_WORDS,
                    "output_path": TEXT,
                    "created_at": str,
                    "updated_at": str,
                }
            ],
        },
        query={"limit": "50", "offset": "0"},
    ),
    Call("GET", "/api/models", {"checkpoints": list, "unet": list}),
    Call("POST", "/api/cancel/{waiting}", {"status": {"cancelled"}}),
    Call("GET", "/outputs/{output}.png", bytes),
    Call("GET", "/health", {"status": str, "redis": str, "mysql": str}),
]
WORKFLOWS = [
    Call(
        "POST",
        "/api/v1/workflows/submit",
        {"prompt_id": str},
        body={"workflow": GRAPH, "client_id": "{user}"},
    ),
    Call(
        "GET",
        "/api/v1/workflows/{done}/history",
        {
            "{done}": {
                "prompt": list,
                "status": {"status_str": {"success"}, "completed": bool, "messages": list},
                "outputs": {"9": {"images": [{"filename": str, "subfolder": str, "type": str}]}},
            }
        },
    ),
    Call("GET", "/api/v1/workflows/{done}/images", {"images": [{"filename": str, "url": str}]}),
    Call(
        "POST",
        "/api/v1/workflows/interrupt",
        {"interrupted": [str]},
        body={"prompt_id": "{running}"},
    ),
    Call("POST", "/api/v1/workflows/interrupt", {"interrupted": list}),
    Call("GET", "/api/v1/queue/status", {"running": int, "pending": int}),
    Call("POST", "/api/v1/queue/clear", {"cleared": int}, body={"clear": True}),
    Call(
        "POST",
        "/api/v1/images/upload",
        {"name": str, "subfolder": str, "type": {"input"}},
        body={"overwrite": "true"},
        form=True,
    ),
    Call(
        "GET",
        "/api/v1/images/download",
        bytes,
        query={"filename": "out.png", "subfolder": "{done}", "type": "output"},
    ),
    Call(
        "GET",
        "/api/v1/images/url",
        {"url": str},
        query={"filename": "out.png", "subfolder": "{done}", "type": "output"},
    ),
]
CALLS = [
    pytest.param(call, id=f"{dialect} {call.method} {call.path} {number}")
    for dialect, calls in {
        "transform": TRANSFORM,
        "tasks": TASKS,
        "studio": STUDIO,
        "workflows": WORKFLOWS,
    }.items()
    for number, call in enumerate(calls)
]


@pytest.fixture
async def world(backstage, submit, user, make_picture):
    """A job that waits, one that runs and one that is done, and what else a call names."""
    done, running, waiting = [(await submit())["id"] for _ in range(3)]
    output = await backstage.finish(done, make_picture())
    await backstage.claim(running)
    return {
        "user": user,
        "done": done,
        "running": running,
        "waiting": waiting,
        "output": output.id,
        "data_url": f"data:image/png;base64,{b64encode(make_picture()).decode()}",
    }


def filled(value, world):
    if isinstance(value, dict):
        return {filled(key, world): filled(one, world) for key, one in value.items()}
    if isinstance(value, str):
        for name, known in world.items():
            value = value.replace(f"{{{name}}}", known)
    return value


def misfits(value, shape, where="answer"):
    """What of ``value`` isn't as ``shape`` says."""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return [f"{where} is {value!r}"]
        missing = [f"{where} has no {name}" for name in shape if name not in value]
        found = [
            misfits(value[name], one, f"{where}.{name}")
            for name, one in shape.items()
            if name in value
        ]
        return [*missing, *chain.from_iterable(found)]
    if isinstance(shape, list):
        if not isinstance(value, list) or not value:
            return [f"{where} is {value!r}"]
        return misfits(value[0], shape[0], f"{where}.0")
    fits = value in shape if isinstance(shape, set) else isinstance(value, shape)
    return [] if fits else [f"{where} is {value!r}"]


@pytest.mark.parametrize("call", CALLS)
async def test_call_has_the_fields_that_callers_read(client, world, call, make_picture, submit):
    request = {}
    if call.form:
        form = aiohttp.FormData(call.body)
        form.add_field("file", make_picture(), filename="cat.png", content_type="image/png")
        request["data"] = form
    elif call.body is not None:
        request["json"] = filled(call.body, world)
    if call.path == "/api/v1/user/{user}/tasks":  # its own dialect's only
        body = {"user_id": world["user"], "image_url": CAT}
        async with client.post("/api/v1/transform", json=body) as answer:
            assert answer.status == 200
    path, query = filled(call.path, world), filled(call.query, world)
    async with client.request(call.method, path, params=query, **request) as answer:
        assert answer.status == call.status, await answer.text()
        if call.shape is bytes:
            assert answer.content_type == "image/png"
            assert (await answer.read()).startswith(b"\x89PNG")
        else:
            assert answer.content_type == "application/json"
            assert misfits(await answer.json(), filled(call.shape, world)) == []


async def test_socket_has_the_message_types_that_callers_read(
    client, backstage, user, make_picture
):
    shapes = {
        "system": {"event": str},
        "status": {"status": {"exec_info": {"queue_remaining": int}}},
        "progress": {"value": int, "max": int, "prompt_id": str},
        "executing": {"node": str, "prompt_id": str},
        "executed": {"node": str, "output": dict, "prompt_id": str},
        "result": {"outputs": dict, "images": [{"url": str}], "prompt_id": str},
        "execution_error": {"code": str, "message": str, "prompt_id": str},
    }
    async with client.ws_connect(f"/api/v1/ws/{user}") as socket:

        async def submitted():
            await socket.send_json({"type": "submit", "data": {"workflow": GRAPH}})
            return (await until("status"))["prompt_id"]

        async def until(kind):
            while True:
                message = json.loads(await socket.receive_str(timeout=10))
                heard.setdefault(message["type"], message["data"])
                if message["type"] == kind:
                    return message["data"]

        heard = {}
        job = await submitted()
        await backstage.publish(event.executing(job, user, node="1"))
        told = event.progress(job, user, percent=50, step=1, steps=2, node="1")
        await backstage.publish(told)
        await until("progress")
        await backstage.finish(job, make_picture())
        await until("result")
        failed = await submitted()
        await backstage.fail(failed, code="OUT_OF_MEMORY", message="Too large.", hint="Less.")
        await until("execution_error")
    assert misfits(heard, shapes) == []


async def test_error_codes_are_those_that_callers_know(client):
    async with client.get("/openapi.json") as answer:
        schemas = (await answer.json())["components"]["schemas"]
    assert set(schemas["CodedErrorModel"]["properties"]["code"]["enum"]) == {
        "CONNECTION_ERROR",
        "WORKFLOW_VALIDATION_ERROR",
        "WORKFLOW_EXECUTION_ERROR",
        "QUEUE_OPERATION_ERROR",
        "FILE_OPERATION_ERROR",
        "IMAGE_NOT_FOUND",
        "TASK_TIMEOUT",
        "WEBSOCKET_ERROR",
    }
