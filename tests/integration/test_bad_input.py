"""What is wrong with a request is said at once; what was bad luck is tried again."""

import base64
import socket
import struct
import zlib

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from atelier.errors import AtelierError
from atelier.examples import example_picture
from atelier.service import Submission
from atelier.worker.inputs import FETCH_ATTEMPTS


@pytest.fixture
async def pictures(make_picture):
    """A web server with pictures, and with what is none; ``pictures.asked`` counts by path."""
    asked = {}

    async def answer(request):
        asked[request.path] = asked.get(request.path, 0) + 1
        match request.path:
            case "/good.jpg":
                encoded = example_picture().partition(",")[2]
                return web.Response(body=base64.b64decode(encoded), content_type="image/jpeg")
            case "/moody.jpg" if asked[request.path] < 3:
                return web.Response(status=503, headers={"Retry-After": "0"})
            case "/moody.jpg":
                encoded = example_picture().partition(",")[2]
                return web.Response(body=base64.b64decode(encoded), content_type="image/jpeg")
            case "/patience.png":
                return web.Response(status=429, headers={"Retry-After": "3600"})
            case "/page.png":
                return web.Response(text="<!doctype html><p>no picture", content_type="text/html")
            case "/large.png":
                return web.Response(body=b"\x89PNG\r\n\x1a\n" + bytes(26 * 2**20))
            case "/bomb.png":
                return web.Response(body=bomb(), content_type="image/png")
            case "/moved.png":
                raise web.HTTPFound("http://169.254.169.254/latest/meta-data/")
            case "/busy.png":
                return web.Response(status=503)
            case "/cut.png":
                return web.Response(body=make_picture((64, 64), form="PNG")[:90])
        return web.Response(status=404)

    app = web.Application()
    app.router.add_get("/{tail:.*}", answer)
    async with TestServer(app, host="127.0.0.1") as server:
        server.asked = asked
        yield server


def bomb():
    """A PNG of a few hundred bytes that says it has 30,000 x 30,000 pixels."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def style_change(url):
    return {"image": {"url": str(url)}, "style": "cartoon"}


async def test_picture_by_url_is_fetched_where_the_host_is_allowed(service, pictures):
    async with service.worker(allow=["127.0.0.1"]):
        id = await service.submit("style_change", style_change(pictures.make_url("/good.jpg")))
        await service.succeeded(id)
    assert pictures.asked == {"/good.jpg": 1}


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/page.png", "NOT_AN_IMAGE"),
        ("/cut.png", "NOT_AN_IMAGE"),
        ("/large.png", "DOWNLOAD_TOO_LARGE"),
        ("/bomb.png", "IMAGE_TOO_LARGE"),
        ("/moved.png", "URL_REFUSED"),
        ("/absent.png", "URL_STATUS"),
    ],
)
async def test_unusable_picture_fails_the_job_at_once(service, engine, pictures, path, code):
    async with service.worker(allow=["127.0.0.1"]):
        id = await service.submit("style_change", style_change(pictures.make_url(path)))
        job = await service.failed(id)
    assert (job.error["code"], job.attempts) == (code, 1)
    assert job.error["retryable"] is False
    assert job.error["message"]
    assert job.error["hint"]
    assert job.error["data"]["input"] == "image"
    assert pictures.asked[path] == 1
    assert not engine.posted


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/x.png",
        "http://[::1]/x.png",
        "http://10.1.2.3/x.png",
        "http://169.254.169.254/latest/meta-data/",
        "http://localhost/x.png",
    ],
)
async def test_address_inside_the_network_is_refused(service, engine, url):
    async with service.worker():
        job = await service.failed(await service.submit("style_change", style_change(url)))
    assert (job.error["code"], job.attempts) == ("URL_REFUSED", 1)
    assert not engine.posted


async def test_unreachable_url_is_tried_three_times(service):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    async with service.worker(allow=["127.0.0.1"]):
        url = f"http://127.0.0.1:{port}/x.png"
        id = await service.submit("style_change", style_change(url))
        job = await service.failed(id)
    assert (job.error["code"], job.attempts) == ("URL_UNREACHABLE", 3)
    assert job.error["retryable"] is True
    assert job.error["data"]["input"] == "image"
    told = service.told(id, "retrying", "failed")
    assert [event.type for event in told] == ["retrying", "retrying", "failed"]
    assert [event.data.get("attempt") for event in told[:2]] == [1, 2]
    assert told[-1].data["attempts"] == 3


async def test_server_that_is_busy_is_asked_again(service, pictures):
    async with service.worker(allow=["127.0.0.1"]):
        url = pictures.make_url("/busy.png")
        job = await service.failed(await service.submit("style_change", style_change(url)))
    assert (job.error["code"], job.attempts) == ("URL_UNAVAILABLE", 3)
    assert pictures.asked["/busy.png"] == 3 * FETCH_ATTEMPTS


async def test_server_that_recovers_costs_no_attempt_of_the_job(service, pictures):
    async with service.worker(allow=["127.0.0.1"]):
        url = pictures.make_url("/moody.jpg")
        (job,) = await service.succeeded(
            await service.submit("style_change", style_change(url), max_attempts=1)
        )
    assert (job.attempts, pictures.asked["/moody.jpg"]) == (1, 3)


async def test_server_that_asks_for_a_long_wait_is_left_to_the_queue(service, pictures):
    async with service.worker(allow=["127.0.0.1"]):
        url = pictures.make_url("/patience.png")
        await service.failed(
            await service.submit("style_change", style_change(url), max_attempts=1)
        )
    assert pictures.asked["/patience.png"] == 1


async def test_max_attempts_of_the_job_is_kept_to(service, pictures):
    async with service.worker(allow=["127.0.0.1"]):
        url = pictures.make_url("/busy.png")
        job = await service.failed(
            await service.submit("style_change", style_change(url), max_attempts=1)
        )
    assert (job.error["code"], job.attempts) == ("URL_UNAVAILABLE", 1)


async def test_data_url_that_is_no_picture_fails_the_job_at_once(service, as_data_url):
    async with service.worker():
        id = await service.submit("style_change", style_change(as_data_url(b"not a picture")))
        job = await service.failed(id)
    assert (job.error["code"], job.attempts) == ("NOT_AN_IMAGE", 1)


async def test_bomb_in_a_data_url_fails_the_job_at_once(service, as_data_url):
    async with service.worker():
        id = await service.submit("style_change", style_change(as_data_url(bomb())))
        job = await service.failed(id)
    assert (job.error["code"], job.attempts) == ("IMAGE_TOO_LARGE", 1)


async def test_asset_that_does_not_exist_fails_the_job_at_once(service):
    async with service.worker():
        inputs = {"image": {"asset": "0197d2b0-0000-7000-8000-000000000000"}, "style": "clay"}
        job = await service.failed(await service.submit("style_change", inputs))
    assert (job.error["code"], job.attempts) == ("ASSET_GONE", 1)


async def test_asset_whose_file_is_gone_fails_the_job_at_once(service, make_picture):
    asset = await service.assets.upload(make_picture(), filename=None, user="a")
    for path in service.storage_folder.rglob("*"):
        if path.is_file():
            path.unlink()
    async with service.worker():
        inputs = {"image": {"asset": asset.id}, "style": "clay"}
        job = await service.failed(await service.submit("style_change", inputs))
    assert (job.error["code"], job.attempts) == ("ASSET_GONE", 1)


@pytest.mark.parametrize(
    ("workflow", "inputs", "code", "named"),
    [
        ("no_such", {}, "WORKFLOW_UNKNOWN", "style_change"),
        ("style_change", {"image": {"asset": "x"}, "style": "cubist"}, "INPUTS_INVALID", "clay"),
        ("style_change", {"style": "clay"}, "INPUTS_INVALID", "image"),
        ("style_change", {"image": {"asset": "x"}, "strength": 7}, "INPUTS_INVALID", "strength"),
        ({"1": {"class_type": "NoSuch", "inputs": {}}}, {}, "WORKFLOW_VALIDATION_ERROR", "NoSuch"),
        ({"1": "nonsense"}, {}, "WORKFLOW_VALIDATION_ERROR", "1"),
        ({}, {}, "WORKFLOW_VALIDATION_ERROR", "node"),
    ],
)  # fmt: skip
async def test_request_that_can_never_run_is_not_accepted(service, workflow, inputs, code, named):
    with pytest.raises(AtelierError) as caught:
        await service.generations.submit(Submission(workflow, inputs))
    assert caught.value.code == code
    assert named in f"{caught.value.message} {caught.value.hint} {caught.value.data}"
    assert (await service.generations.list()).jobs == ()


async def test_missing_model_is_named_with_its_instance(service, make_node):
    graph = {
        "1": make_node("LoadImage", image="example.png"),
        "2": make_node("SaveImage", images=["1", 0]),
        "3": make_node("CheckpointLoaderSimple", ckpt_name="x.safetensors"),
    }
    with pytest.raises(AtelierError) as caught:
        await service.submit(graph)
    (problem, *_) = [p for p in caught.value.data["node_errors"] if p["node"] == "3"]
    assert problem["class_type"] == "CheckpointLoaderSimple"


async def test_node_that_raises_fails_the_job_with_its_id_type_and_message(
    service, engine, graph_of, make_node
):
    async with service.worker():
        job = await service.failed(
            await service.submit(graph_of(make_node("TestFail", reason="no paint left")))
        )
    error = job.error
    assert (error["code"], job.attempts) == ("WORKFLOW_EXECUTION_ERROR", 1)
    assert (error["node"], error["data"]["node_type"]) == ("2", "TestFail")
    assert error["data"]["exception_type"] == "ValueError"
    assert error["data"]["exception_message"] == "no paint left"
    assert "no paint left" in error["message"]
    assert error["data"]["traceback"]
    assert error["hint"]
    assert sum(engine.posted.values()) == 1


async def test_out_of_memory_is_tried_once_more(service, engine, graph_of, make_node):
    async with service.worker():
        job = await service.failed(
            await service.submit(graph_of(make_node("TestExhaust", reason="12 GiB")))
        )
    assert (job.error["code"], job.attempts) == ("OUT_OF_MEMORY", 2)
    assert job.error["node"] == "2"
    assert sum(engine.posted.values()) == 2


async def test_graph_that_the_instance_rejects_fails_with_its_node_errors(service, engine):
    refusal = {
        "error": {"type": "prompt_outputs_failed_validation", "message": "failed", "details": ""},
        "node_errors": {
            "9": {
                "class_type": "SaveImage",
                "dependent_outputs": ["9"],
                "errors": [{"type": "custom", "message": "No", "details": "because"}],
            }
        },
    }

    async def refuse(request):
        if request.method == "POST" and request.path == "/prompt":
            return web.json_response(refusal, status=400)
        return None

    engine.before = refuse
    async with service.worker():
        job = await service.failed(await service.submit())
    assert (job.error["code"], job.attempts) == ("WORKFLOW_VALIDATION_ERROR", 1)
    assert job.error["node"] == "9"
    assert job.error["data"]["node_errors"] == refusal["node_errors"]
    assert not job.outputs


async def test_run_that_makes_nothing_fails(service, engine, graph_of):
    async def nothing(request):
        if request.path == "/view":
            return web.Response(status=404)
        return None

    engine.before = nothing
    async with service.worker():
        job = await service.failed(await service.submit(graph_of()))
    assert (job.error["code"], job.attempts) == ("INSTANCE_FILE_MISSING", 3)
