"""/v1/workflows: what can be run, told in the caller's language, and what it takes."""

import pytest

from atelier.api.native.models import WorkflowModel


@pytest.mark.parametrize(
    ("accept", "language", "title"),
    [
        ("en", "en", "Face swap"),
        ("zh-CN,zh;q=0.9", "zh-Hans", "换脸"),
        ("zh-TW", "zh-Hant", "換臉"),
        ("fr", "en", "Face swap"),
    ],
)
async def test_texts_are_in_the_language_asked_for(client, accept, language, title):
    headers = {"Accept-Language": accept}
    async with client.get("/v1/workflows/face_swap", headers=headers) as answer:
        workflow = await answer.json()
    assert answer.headers["Content-Language"] == language
    assert "Accept-Language" in answer.headers["Vary"]
    assert workflow["title"] == workflow["input_schema"]["title"] == title
    assert workflow["manifest"]["title"]["zh-Hant"] == "換臉"


async def test_a_workflow_tells_its_variants_and_what_each_needs(client):
    async with client.get("/v1/workflows/face_swap") as answer:
        workflow = WorkflowModel.model_validate(await answer.json())
    assert (workflow.category, workflow.icon) == ("image to image", "scan-face")
    assert workflow.example["source"].startswith("data:image/jpeg;base64,")
    first, second, *_, last = workflow.variants
    assert (first.name, last.name) == ("reactor", "classic")
    # Nobody knows: no instance is configured here.
    assert (workflow.runnable, first.available, first.lacking) == (None, None, None)
    model = first.needs["models"][0]
    assert model["path"] == "ComfyUI/models/insightface/inswapper_128.onnx"
    assert model["url"].startswith("https://")
    assert model["size_gib"] > 0
    (pack,) = first.needs["custom_nodes"]
    assert pack["path"] == "ComfyUI/custom_nodes/ComfyUI-ReActor"
    assert {"source", "target", "prompt", "seed"} <= set(second.inputs)
    assert second.defaults["steps"] == 20
    assert last.needs == {"models": [], "custom_nodes": [], "comfyui": None}


async def test_a_wish_that_no_variant_can_follow_is_refused_with_the_reasons(client):
    body = {"prompt": "a fox", "diffusion_model": "svd.safetensors"}
    async with client.post("/v1/workflows/text_to_image", json=body) as answer:
        problem = await answer.json(content_type="application/problem+json")
    assert (answer.status, problem["code"]) == (422, "NO_VARIANT_FITS")
    assert problem["data"]["reasons"]["sdxl"] == "makes no use of diffusion_model"
