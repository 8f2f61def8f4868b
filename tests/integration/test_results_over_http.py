"""The picture that was asked for, from the call to its bytes."""

import io
from contextlib import AsyncExitStack

import aiohttp
import pytest
from PIL import Image

from atelier.app import application, listen, serving
from atelier.settings import Settings


@pytest.fixture
async def http(tmp_path, engine):
    """A client of a whole service with a worker."""
    settings = Settings(
        data_dir=tmp_path / "data",
        comfyui_urls=engine.url,
        embedded_engine="never",
        grace_seconds=0.2,
    )
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(application(settings, worker=True, embedded=False))
        listener = listen("127.0.0.1", 0)
        await stack.enter_async_context(serving(app, listener))
        base = f"http://127.0.0.1:{listener.getsockname()[1]}"
        yield await stack.enter_async_context(aiohttp.ClientSession(base))


def form_of(picture, **fields):
    form = aiohttp.FormData({"style": "cartoon", "seed": "7", **fields})
    form.add_field("image", picture, filename="photo.png", content_type="image/png")
    return form


async def test_answer_is_a_picture_of_the_form_that_was_asked_for(http, make_picture):
    form = form_of(make_picture((320, 240)), max_size="64", quality="70")
    headers = {"Accept": "image/webp"}
    async with http.post("/v1/workflows/style_change", data=form, headers=headers) as answer:
        assert (answer.status, answer.content_type) == (200, "image/webp")
        assert answer.headers["Content-Disposition"].startswith("inline")
        assert "sandbox" in answer.headers["Content-Security-Policy"]
        shown = Image.open(io.BytesIO(await answer.read()))
        address = answer.headers["Content-Location"]
    assert (shown.format, shown.size) == ("WEBP", (64, 48))
    async with http.get(address.removesuffix("/content")) as answer:
        asset = await answer.json()
    assert (asset["media_type"], asset["kind"], asset["width"]) == ("image/webp", "image", 64)


async def test_second_job_is_answered_at_once_and_says_so(http, graph_of):
    graph = graph_of()
    body = {"workflow": graph, "cache": True, "output": {"format": "jpg"}}
    async with http.post("/v1/jobs", json=body, headers={"Prefer": "wait=30"}) as answer:
        first = await answer.json()
    assert (first["status"], first["cached"], first["cached_from"]) == ("succeeded", False, None)
    assert first["output"] == {"format": "jpeg", "quality": None, "max_size": None}
    assert first["outputs"][0]["media_type"] == "image/jpeg"
    async with http.post("/v1/jobs", json=body) as answer:
        assert answer.status == 200
        second = await answer.json()
    assert (second["cached"], second["cached_from"]) == (True, first["id"])
    assert second["outputs"][0]["url"] != first["outputs"][0]["url"]
    async with http.get(second["outputs"][0]["url"]) as answer:
        assert (answer.status, answer.content_type) == (200, "image/jpeg")
    headers = {"Accept": "image/*"}
    async with http.post("/v1/jobs", json=body, headers=headers) as answer:
        assert (answer.status, answer.content_type) == (200, "image/jpeg")
