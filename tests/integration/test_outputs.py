"""Outputs of every kind, previews apart, and pictures in the form that was asked for."""

import io
import uuid
import wave

import av
import numpy as np
import pytest
from PIL import Image

from atelier.engine.folders import write_atomically
from atelier.engine.nodes import NODES
from atelier.engine.nodes.node import Input, NodeClass, Output
from atelier.media import Conversion


def video():
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as file:
        stream = file.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(4):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return out.getvalue()


def sound():
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(b"\0\0" * 4000)
    return out.getvalue()


def animation():
    first, *others = [Image.new("RGB", (40, 30), (60 * n, 90, 90)) for n in range(3)]
    out = io.BytesIO()
    first.save(out, "WEBP", save_all=True, append_images=others, duration=100)
    return out.getvalue()


@pytest.fixture
def emit(monkeypatch, make_node):
    """Take it before ``service``, which asks once what nodes there are.

    A node whose output is what the test says: ``emit(node output, files=...)``.

    ``files`` are (folder, name, bytes), written when it runs.
    """
    said = {}

    def run(context, name):
        ui, files = said[name]
        for folder, filename, data in files:
            path = context.folders.resolve(folder, filename)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, data)
        return Output(ui=ui)

    added = NodeClass(
        name="TestEmit",
        run=run,
        required={"name": Input("STRING", {"default": ""})},
        outputs=(),
        category="test",
        output_node=True,
        contextual=True,
    )
    monkeypatch.setitem(NODES, "TestEmit", added)

    def emit(ui, *files):
        name = uuid.uuid4().hex
        said[name] = (ui, files)
        return make_node("TestEmit", name=name)

    return emit


def ref(filename, kind="output"):
    return {"filename": filename, "subfolder": "", "type": kind}


async def bytes_of(service, output, **options):
    content = await service.assets.open(output.id, **options)
    return b"".join([chunk async for chunk in await content.read()])


async def test_each_kind_of_output_is_told_as_what_it_is(emit, service, eventually):
    files = {"v.mp4": video(), "a.webp": animation(), "s.wav": sound(), "m.glb": b"glTF\2\0\0\0"}
    ui = {
        "images": [ref("v.mp4"), ref("a.webp")],
        "animated": [True],
        "audio": [ref("s.wav")],
        "3d": [ref("m.glb")],
        "text": ["a cat, größer"],
    }
    graph = {"1": emit(ui, *(("output", name, data) for name, data in files.items()))}
    async with service.worker():
        id = await service.submit(graph)
        await service.succeeded(id)
    view = await service.generations.get(id)
    assert [output.kind for output in view.outputs] == [
        "video", "animation", "audio", "3d", "text",
    ]  # fmt: skip
    film, moving, tone, mesh, caption = view.outputs
    assert (film.media_type, film.width, film.height, film.frames) == ("video/mp4", 64, 48, 4)
    assert (film.fps, film.duration_seconds) == (8.0, 0.5)
    assert film.thumbnail_url
    assert (moving.frames, moving.duration_seconds) == (3, pytest.approx(0.3))
    assert (tone.media_type, tone.duration_seconds) == ("audio/wav", 0.5)
    assert tone.thumbnail_url is None
    assert mesh.media_type == "model/gltf-binary"
    assert (caption.text, film.text) == ("a cat, größer", None)
    assert await bytes_of(service, film) == files["v.mp4"]
    small = await service.assets.open(film.id, thumbnail=True)
    assert small.info.media_type == "image/webp"
    kept = await service.assets.get(film.id)
    assert (kept.kind, kept.frames, kept.duration_seconds) == ("video", 4, 0.5)
    await eventually(lambda: service.told(id, "finished"), "nobody was told")
    (finished,) = service.told(id, "finished")
    assert finished.data["outputs"][4]["text"] == "a cat, größer"


async def test_long_text_is_a_file_only(emit, service):
    async with service.worker():
        id = await service.submit({"1": emit({"text": ["x" * 10_000]})})
        await service.succeeded(id)
    (output,) = (await service.generations.get(id)).outputs
    assert (output.kind, output.text, output.size_bytes) == ("text", None, 10_000)


async def test_previews_are_kept_apart_from_results(service, make_node, graph_of):
    graph = graph_of()
    graph["5"] = make_node("PreviewImage", images=["1", 0])
    async with service.worker():
        id = await service.submit(graph)
        await service.succeeded(id)
    view = await service.generations.get(id)
    (output,), (preview,) = view.outputs, view.previews
    assert (output.node, preview.node) == ("9", "5")
    assert (preview.kind, preview.width) == ("image", 32)
    assert await bytes_of(service, preview)
    assert len(service.stored_files()) == 4, "both with their thumbnails"


async def test_preview_that_is_gone_harms_nothing(emit, service, make_picture):
    shown = {"images": [ref("gone.png", "temp")]}
    saved = {"images": [ref("there.png")]}
    graph = {"1": emit(shown), "2": emit(saved, ("output", "there.png", make_picture()))}
    async with service.worker():
        id = await service.submit(graph)
        await service.succeeded(id)
    view = await service.generations.get(id)
    assert [output.filename for output in view.outputs] == ["there.png"]
    assert view.previews == ()


async def test_pictures_keep_every_byte_unless_something_else_is_asked_for(service, graph_of):
    async with service.worker():
        id = await service.submit(graph_of())
        await service.succeeded(id)
    (output,) = (await service.generations.get(id)).outputs
    assert b"EmptyImage" in await bytes_of(service, output), "with ComfyUI's own metadata"


async def test_pictures_are_stored_as_the_job_wants_them(emit, service, make_picture):
    files = {"p.png": make_picture((320, 240)), "v.mp4": video(), "a.webp": animation()}
    ui = {"images": [ref(name) for name in files]}
    graph = {"1": emit(ui, *(("output", name, data) for name, data in files.items()))}
    async with service.worker():
        id = await service.submit(graph, conversion=Conversion("avif", 60, 100))
        await service.succeeded(id)
    view = await service.generations.get(id)
    picture, film, moving = view.outputs
    assert (picture.media_type, picture.width, picture.height) == ("image/avif", 100, 75)
    assert picture.filename == "p.avif"
    shown = Image.open(io.BytesIO(await bytes_of(service, picture)))
    assert (shown.format, shown.size) == ("AVIF", (100, 75))
    assert (film.media_type, await bytes_of(service, film)) == ("video/mp4", files["v.mp4"])
    assert (moving.media_type, moving.kind, moving.frames) == ("image/avif", "animation", 3)
    assert view.job.conversion == {"format": "avif", "quality": 60, "max_size": 100}


async def test_picture_that_cannot_be_converted_is_kept_as_it_is(emit, service, make_picture):
    broken = make_picture((320, 240))[:200]
    graph = {"1": emit({"images": [ref("b.png")]}, ("output", "b.png", broken))}
    async with service.worker():
        id = await service.submit(graph, conversion=Conversion("webp"))
        await service.succeeded(id)
    (output,) = (await service.generations.get(id)).outputs
    assert (output.media_type, output.filename) == ("image/png", "b.png")
    assert await bytes_of(service, output) == broken
