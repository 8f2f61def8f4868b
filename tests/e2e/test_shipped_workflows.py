"""The shipped graphs against a ComfyUI that runs: ATELIER_TEST_COMFYUI_URL or COMFYUI_URLS."""

import json
import random
import uuid
from pathlib import Path

import pytest

from atelier.comfy.client import ComfyClient, Finished
from atelier.workflows.bind import bind, complete
from atelier.workflows.check import check
from atelier.workflows.library import Library, fit_models, resolve_models

DECLARED = json.loads((Path(__file__).parents[1] / "golden" / "declared_nodes.json").read_text())


@pytest.fixture
async def client(comfyui_url):
    async with ComfyClient(comfyui_url, f"atelier-test-{uuid.uuid4().hex[:8]}") as client:
        await client.wait_connected(10)
        yield client


async def test_every_shipped_diffusion_graph_would_be_taken(client):
    info = await client.object_info()
    library = Library()
    for name in library.names():
        workflow = library.get(name)
        manifest = workflow.manifest
        for variant in manifest.variants:
            if variant.kind == "classic":
                continue
            pictures = [e.name for e in manifest.inputs if e.type in ("image", "mask")]
            given = dict.fromkeys(pictures, "asset:1")
            if manifest.input("prompt") is not None:
                given["prompt"] = "a cat"
            inputs = complete(manifest, given, rng=random.Random(1))
            inputs |= {e.name: "m.safetensors" for e in manifest.inputs if e.type == "model"}
            inputs |= {name: {"asset": "1"} for name in pictures}
            graph = bind(workflow.graphs[variant.name], manifest, variant.name, inputs)
            wrong = [
                problem.message
                for problem in check(graph, info)
                # What a newer ComfyUI or a custom node would bring is no fault of the graph.
                if problem.code != "model_missing" and problem.class_type not in DECLARED
            ]
            assert wrong == [], (name, variant.name)


async def test_text_to_image_makes_as_many_pictures_as_asked(client):
    info = await client.object_info()
    workflow = Library().get("text_to_image")
    variant = workflow.manifest.variant("sd15")
    asked = {"prompt": "a cat", "size": "64x64", "steps": 1, "batch_size": 2}
    inputs = complete(workflow.manifest, asked, rng=random.Random(1))
    resolved = resolve_models(workflow.manifest, variant, inputs, info)
    if "model" not in resolved:
        pytest.skip("the ComfyUI to check against has no checkpoint")
    graph = fit_models(workflow.graphs["sd15"], variant, info)
    graph = bind(graph, workflow.manifest, "sd15", resolved)
    prompt_id = str(uuid.uuid4())
    async with client.watch(prompt_id) as watch:
        await client.submit(graph, prompt_id=prompt_id)
        *_, finished = [event async for event in watch]
    assert isinstance(finished, Finished)
    (output,) = finished.history_outputs.values()
    assert len(output["images"]) == 2
