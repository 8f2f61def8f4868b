"""A caller of the studio dialect as people write them: plain HTTP, from a wish to files on disk."""

import asyncio
import base64
import json
import time
import urllib.error
import urllib.request
from contextlib import AsyncExitStack

import pytest
from PIL import Image

from atelier.app import application, listen, serving
from atelier.engine.nodes import NODES
from atelier.engine.nodes.node import Input, NodeClass, Output
from atelier.settings import Settings
from atelier.worker import dispatch

MODELS = ("dreamshaper_8.safetensors", "sd_xl_base_1.0.safetensors")


class Caller:
    """Knows a base address and the words of the API; blocks, as scripts do."""

    def __init__(self, base):
        self._base = base

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._base + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def generate(self, **body):
        status, answer = self.call("POST", "/api/generate", body)
        assert status == 202, answer
        assert answer["status"] == "queued"
        return answer

    def status(self, job_id):
        return self.call("GET", f"/api/status/{job_id}")[1]

    def wait(self, job_id):
        """The last status, and the progress seen on the way."""
        deadline, seen = time.monotonic() + 30, []
        while True:
            state = self.status(job_id)
            seen.append(state["progress"])
            if state["status"] not in ("queued", "processing"):
                return state, seen
            assert time.monotonic() < deadline, state
            time.sleep(0.02)

    def save(self, url, path):
        urllib.request.urlretrieve(self._base + url, path)
        return path

    def pictures(self, folder, **body):
        """All pictures of a wish as files in ``folder``, and what was answered first."""
        made = self.generate(**body)
        state, _ = self.wait(made["job_id"])
        assert state["status"] == "finished", state
        assert state["image_url"] == state["image_urls"][0]
        urls = state["image_urls"]
        return made, [self.save(url, folder / url.rpartition("/")[2]) for url in urls]


def as_data_url(picture):
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def color_of(path):
    with Image.open(path) as picture:
        red, green, blue = picture.convert("RGB").getpixel((0, 0))
    return red << 16 | green << 8 | blue


def add_workflow(folder, name, inputs, graph, targets, outputs=()):
    """Write a workflow with one variant into ``folder``, as its user would."""
    variant = {
        "name": "own",
        "kind": "custom",
        "graph": "graph.json",
        "targets": {
            input: [{"node": node, "input": place} for node, place in places]
            for input, places in targets.items()
        },
        "outputs": [{"node": node} for node in outputs],
    }
    manifest = {"title": name, "inputs": inputs, "variants": [variant]}
    (folder / name).mkdir(parents=True)
    (folder / name / "manifest.json").write_text(json.dumps(manifest))
    (folder / name / "graph.json").write_text(json.dumps(graph))


@pytest.fixture
def workflows(tmp_path, make_node, gates, monkeypatch):
    """``paint`` (its seed is its colour), ``blend_two``, ``gated``, ``modelled``."""
    folder = tmp_path / "workflows"
    seed = {"name": "seed", "type": "seed", "max": 0xFFFFFF}
    sides = [
        {"name": side, "type": "integer", "default": 64, "step": 8} for side in ("width", "height")
    ]
    empty = make_node("EmptyImage", width=64, height=64, batch_size=1, color=0)
    save = make_node("SaveImage", images=["1", 0], filename_prefix="studio")
    preview = make_node("PreviewImage", images=["1", 0])
    add_workflow(
        folder,
        "paint",
        [seed, *sides],
        {"1": empty, "2": preview, "9": save},
        {"seed": [("1", "color")], "width": [("1", "width")], "height": [("1", "height")]},
    )
    gate = gates.new()
    add_workflow(
        folder,
        "gated",
        [],
        {
            "1": make_node("TestGate", name=gate.name, image=["2", 0]),
            "2": empty,
            "9": save,
        },
        {},
        ["9"],
    )
    blend = make_node(
        "ImageBlend", image1=["1", 0], image2=["2", 0], blend_factor=0.25, blend_mode="normal"
    )
    add_workflow(
        folder,
        "blend_two",
        [{"name": name, "type": "image", "required": True} for name in ("source", "target")],
        {
            "1": make_node("LoadImage", image="a.png"),
            "2": make_node("LoadImage", image="b.png"),
            "3": blend,
            "9": {**save, "inputs": {**save["inputs"], "images": ["3", 0]}},
        },
        {"source": [("1", "image")], "target": [("2", "image")]},
    )
    loader = NodeClass(
        name="CheckpointLoaderSimple",
        run=lambda ckpt_name: Output(None),
        required={"ckpt_name": Input(MODELS)},
        outputs=("MODEL",),
        category="test",
    )
    monkeypatch.setitem(NODES, loader.name, loader)
    add_workflow(
        folder,
        "modelled",
        [{"name": "model", "type": "model", "folder": "checkpoints"}],
        {"1": empty, "2": make_node("CheckpointLoaderSimple", ckpt_name=""), "9": save},
        {"model": [("2", "ckpt_name")]},
    )
    return gate


@pytest.fixture
async def caller(tmp_path, engine, workflows):
    settings = Settings(
        data_dir=tmp_path / "data",
        workflows_dir=tmp_path / "workflows",
        comfyui_urls=engine.url,
        embedded_engine="never",
        grace_seconds=0.2,
    )
    listener = listen("127.0.0.1", 0)
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(application(settings, worker=True, embedded=False))
        await stack.enter_async_context(serving(app, listener))
        yield Caller(f"http://127.0.0.1:{listener.getsockname()[1]}")


async def test_picture_goes_in_and_comes_back_restyled(caller, tmp_path, make_picture):
    body = {
        "workflow": "style_change",
        "prompt": "a clay village",
        "seed": 7,
        "images": {"source": as_data_url(make_picture((48, 32)))},
    }
    made, (path,) = await asyncio.to_thread(caller.pictures, tmp_path, **body)
    with Image.open(path) as picture:
        assert (picture.format, picture.size) == ("PNG", (48, 32))
    _, history = await asyncio.to_thread(caller.call, "GET", "/api/history")
    (record,) = history["jobs"]
    assert (record["id"], record["seed"], record["prompt"]) == (made["job_id"], 7, body["prompt"])
    assert record["output_path"] == f"/outputs/{path.name}"


async def test_four_pictures_are_one_job_of_one_prompt(caller, tmp_path, engine):
    """Each with the next seed, in their order, and without the previews beside them."""
    body = {"workflow": "paint", "seed": 0xFFFFFE, "batch_size": 4, "aspect_ratio": "16:9"}
    made, paths = await asyncio.to_thread(caller.pictures, tmp_path, **body)
    assert made["seed"] == 0xFFFFFE
    assert [color_of(path) for path in paths] == [0xFFFFFE, 0xFFFFFF, 0, 1]
    for path in paths:
        with Image.open(path) as picture:
            assert picture.size == (88, 48)
    assert engine.posted.total() == 1
    _, history = await asyncio.to_thread(caller.call, "GET", "/api/history")
    (record,) = history["jobs"]
    assert (record["batch_size"], record["aspect_ratio"]) == (4, "16:9")
    assert record["output_path"].split(",") == [f"/outputs/{path.name}" for path in paths]


async def test_drawn_seed_is_the_one_that_was_used(caller, tmp_path):
    made, (path,) = await asyncio.to_thread(caller.pictures, tmp_path, workflow="paint", seed=-1)
    assert color_of(path) == made["seed"]


async def test_same_seed_is_answered_with_the_pictures_of_then(caller, tmp_path, engine):
    body = {"workflow": "paint", "seed": 5, "batch_size": 2}
    made, paths = await asyncio.to_thread(caller.pictures, tmp_path, **body)
    again, same = await asyncio.to_thread(caller.pictures, tmp_path, **body)
    assert (made["cached"], again["cached"]) == (False, True)
    assert again["job_id"] != made["job_id"]
    assert [path.read_bytes() for path in same] == [path.read_bytes() for path in paths]
    assert engine.posted.total() == 1
    # Another number of pictures is another wish, and so is a drawn seed or the refusal of old ones.
    for other in ({"batch_size": 1}, {"seed": -1}, {"cache": False}):
        fresh, _ = await asyncio.to_thread(caller.pictures, tmp_path, **{**body, **other})
        assert not fresh["cached"]
    assert engine.posted.total() == 4


async def test_several_pictures_of_what_draws_no_lots_are_equal(caller, tmp_path, make_picture):
    images = {
        "target": as_data_url(make_picture(color=(0, 0, 200))),
        "source": as_data_url(make_picture(color=(200, 0, 0))),
    }
    body = {"workflow": "blend_two", "images": images, "batch_size": 2}
    made, paths = await asyncio.to_thread(caller.pictures, tmp_path, **body)
    assert made["seed"] is None
    assert len(paths) == len(set(paths)) == 2
    # Three quarters of the source, whichever came first.
    assert {color_of(path) for path in paths} == {150 << 16 | 50}


async def test_running_generation_is_live_and_can_be_cancelled(
    caller, workflows, engine, eventually, monkeypatch
):
    # Nothing that polling shows has gone through the database.
    monkeypatch.setattr(dispatch, "RENEW_SECONDS", 10)
    made = await asyncio.to_thread(caller.generate, workflow="gated")
    await workflows.reached()
    state = await asyncio.to_thread(caller.status, made["job_id"])
    assert (state["status"], state["image_urls"]) == ("processing", [])
    assert 30 <= state["progress"] < 95
    code, _ = await asyncio.to_thread(caller.call, "POST", f"/api/cancel/{made['job_id']}")
    assert code == 200
    state, _ = await asyncio.to_thread(caller.wait, made["job_id"])
    assert (state["status"], state["error"], state["image_url"]) == ("cancelled", None, None)
    # The instance is free again: what comes next needn't wait for the gate.
    after = await asyncio.to_thread(caller.generate, workflow="paint")
    state, seen = await asyncio.to_thread(caller.wait, after["job_id"])
    assert (state["status"], seen[-1]) == ("finished", 100)
    assert seen == sorted(seen)


async def test_generation_waits_for_a_comfyui_that_is_away(caller, tmp_path, engine, eventually):
    await engine.stop()

    async def noticed():
        _, health = await asyncio.to_thread(caller.call, "GET", "/health")
        return health["status"] == "degraded"

    await eventually(noticed, "nobody noticed that the instance is away")
    made = await asyncio.to_thread(caller.generate, workflow="paint", seed=5)
    state = await asyncio.to_thread(caller.status, made["job_id"])
    assert state["status"] == "queued"
    assert "none can be reached" in state["message"]
    await engine.start()
    state, _ = await asyncio.to_thread(caller.wait, made["job_id"])
    assert state["status"] == "finished"
    path = await asyncio.to_thread(caller.save, state["image_url"], tmp_path / "waited.png")
    assert color_of(path) == 5


async def test_model_is_one_that_the_instances_have(caller, tmp_path):
    _, models = await asyncio.to_thread(caller.call, "GET", "/api/models")
    assert models["checkpoints"] == list(MODELS)
    assert models["unet"] == []
    assert [model["type"] for model in models["models"]] == ["checkpoint", "checkpoint"]
    body = {"workflow": "modelled", "model": "dreamshaper"}
    code, refused = await asyncio.to_thread(caller.call, "POST", "/api/generate", body)
    assert (code, refused["code"]) == (422, "INPUTS_INVALID")
    (error,) = refused["errors"]
    assert (error["field"], error["allowed"]) == ("model", list(MODELS))
    await asyncio.to_thread(caller.pictures, tmp_path, workflow="modelled", model=MODELS[1])
    _, history = await asyncio.to_thread(caller.call, "GET", "/api/history")
    assert history["jobs"][0]["model"] == MODELS[1]


async def test_picture_that_fails_later_fails_the_generation_with_a_sentence(caller):
    body = {"workflow": "style_change", "images": {"image": "http://127.0.0.1:1/a.png"}}
    made = await asyncio.to_thread(lambda: caller.generate(**body))
    state, _ = await asyncio.to_thread(caller.wait, made["job_id"])
    assert (state["status"], state["error_code"]) == ("failed", "URL_REFUSED")
    assert state["error"]
