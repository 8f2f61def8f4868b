"""The workflow service on a ComfyUI that runs: a graph of diffusion, step by step."""

import io
import json
import random

import aiohttp
import pytest
from PIL import Image

STEPS = 3


@pytest.fixture(scope="module")
def up(new_up, comfyui_url):
    """The service, told of its one ComfyUI as older deployments are: by a host name and a port."""
    host, _, port = comfyui_url.removeprefix("http://").partition(":")
    return new_up(
        COMFYUI_HOST=host, COMFYUI_PORT=port or "80", ATELIER_EMBEDDED_ENGINE="never"
    ).start()


@pytest.fixture
async def http(up):
    timeout = aiohttp.ClientTimeout(total=180)
    async with aiohttp.ClientSession(up.base, timeout=timeout) as session:
        yield session
        # However a test ended, the ComfyUI isn't kept busy with what nobody waits for.
        for path, body in (
            ("/api/v1/queue/clear", {"clear": True}),
            ("/api/v1/workflows/interrupt", {}),
        ):
            async with session.post(path, json=body) as answer:
                assert answer.status == 200


@pytest.fixture
async def graph(comfyui_url):
    """Text to image with the first checkpoint that there is, 64 x 64, and a preview beside it."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{comfyui_url}/models/checkpoints") as answer,
    ):
        checkpoints = await answer.json()
    if not checkpoints:
        pytest.skip("the ComfyUI to check against has no checkpoint")

    def node(class_type, **inputs):
        return {"class_type": class_type, "inputs": inputs}

    return {
        "4": node("CheckpointLoaderSimple", ckpt_name=checkpoints[0]),
        "5": node("EmptyLatentImage", width=64, height=64, batch_size=2),
        "6": node("CLIPTextEncode", text="a cat", clip=["4", 1]),
        "7": node("CLIPTextEncode", text="", clip=["4", 1]),
        "3": node(
            "KSampler",
            seed=random.randrange(1 << 50),  # ComfyUI would answer the same from its cache
            steps=STEPS,
            cfg=7.0,
            sampler_name="euler",
            scheduler="normal",
            denoise=1.0,
            model=["4", 0],
            positive=["6", 0],
            negative=["7", 0],
            latent_image=["5", 0],
        ),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", images=["8", 0], filename_prefix="e2e/service"),
        "10": node("PreviewImage", images=["8", 0]),
    }


async def heard_until(socket, *types):
    messages = []
    while not messages or messages[-1]["type"] not in types:
        messages.append(json.loads(await socket.receive_str(timeout=150)))
    return messages


async def test_graph_of_diffusion_is_told_step_by_step_and_comes_back(http, graph):
    async with http.ws_connect("/api/v1/ws/e2e") as socket:
        await socket.send_json({"type": "submit", "data": {"workflow": graph}})
        messages = await heard_until(socket, "result", "execution_error")
    assert messages[-1]["type"] == "result", messages[-1]
    data = [(message["type"], message["data"]) for message in messages]
    steps = {(d["value"], d["max"]) for kind, d in data if kind == "progress" and d["node"] == "3"}
    assert (1, STEPS) in steps
    executing = [d["node"] for kind, d in data if kind == "executing"]
    assert {"3", "8", "9"} <= set(executing)
    assert executing[-1] is None
    assert {d["node"] for kind, d in data if kind == "executed"} == {"9", "10"}
    prompt_id = messages[-1]["data"]["prompt_id"]
    async with http.get(f"/api/v1/workflows/{prompt_id}/history") as answer:
        outputs = (await answer.json())[prompt_id]["outputs"]
    assert outputs == messages[-1]["data"]["outputs"]
    assert [len(outputs[node]["images"]) for node in ("9", "10")] == [2, 2]
    for image in (*outputs["9"]["images"], *outputs["10"]["images"]):
        async with http.get("/api/v1/images/download", params=image) as answer:
            assert answer.status == 200
            assert Image.open(io.BytesIO(await answer.read())).size == (64, 64)


async def test_all_that_comfyui_would_refuse_is_told_at_once(http, graph):
    graph["4"]["inputs"]["ckpt_name"] = "no-such.safetensors"
    graph["3"]["inputs"]["sampler_name"] = "magic"
    graph["8"]["class_type"] = "VAEDecod"
    async with http.post("/api/v1/workflows/submit", json={"workflow": graph}) as answer:
        refused = await answer.json()
    assert (answer.status, refused["code"]) == (422, "WORKFLOW_VALIDATION_ERROR")
    told = {one["node"]: one for one in refused["details"]["node_errors"]}
    assert {node: one["code"] for node, one in told.items()} == {
        "4": "model_missing",
        "3": "value_not_in_list",
        "8": "node_missing",
    }
    assert told["8"]["allowed"][0] == "VAEDecode"


async def test_sampler_is_interrupted(http, graph):
    graph["3"]["inputs"]["steps"] = 300
    async with http.ws_connect("/api/v1/ws/e2e") as socket:
        await socket.send_json({"type": "submit", "data": {"workflow": graph}})
        while True:
            (*_, message) = await heard_until(socket, "progress")
            if message["data"]["max"] == 300:
                break
        prompt_id = message["data"]["prompt_id"]
        async with http.post(
            "/api/v1/workflows/interrupt", json={"prompt_id": prompt_id}
        ) as answer:
            assert (await answer.json())["interrupted"] == [prompt_id]
        (*_, message) = await heard_until(socket, "execution_error", "result")
    assert message["data"]["details"]["interrupted"]
