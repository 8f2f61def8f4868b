import random
from typing import Any

import pytest

from atelier.comfy.object_info import ObjectInfo
from atelier.workflows.bind import bind, complete
from atelier.workflows.check import check
from atelier.workflows.graph import Graph
from atelier.workflows.library import Library, Workflow, resolve_models

LANGUAGES = {"en", "zh-Hans", "zh-Hant"}


def graph_for(workflow: Workflow, variant: str, info: ObjectInfo, **inputs: Any) -> Graph:
    completed = complete(workflow.manifest, {"image": "asset:1", **inputs}, rng=random.Random(1))
    chosen = workflow.manifest.variant(variant)
    resolved = resolve_models(workflow.manifest, chosen, completed, info)
    resolved["image"] = "example.png"
    return bind(workflow.graphs[variant], workflow.manifest, variant, resolved)


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"strength": 0},
        {"strength": 1},
        {"seed": 2**53 - 1},
        {"megapixels": 0.01},
        {"steps": 1, "cfg": 1, "model": "tiny-b.safetensors"},
    ],
)
@pytest.mark.parametrize("style", ["clay", "anime", "realistic", "cartoon", "oil_painting"])
def test_both_variants_pass_the_check_of_their_instances(
    style_change: Workflow,
    object_info: ObjectInfo,
    classic_info: ObjectInfo,
    style: str,
    inputs: dict[str, Any],
) -> None:
    for variant, info in (("diffusion", object_info), ("classic", classic_info)):
        graph = graph_for(style_change, variant, info, style=style, **inputs)
        assert check(graph, info) == []


def test_inputs_reach_the_diffusion_graph(style_change: Workflow, object_info: ObjectInfo) -> None:
    graph = graph_for(
        style_change,
        "diffusion",
        object_info,
        style="anime",
        strength=0.45,
        seed=42,
        steps=4,
        cfg=5.5,
        megapixels=0.05,
    )
    by_class = {node["class_type"]: node["inputs"] for node in graph.values()}
    sampler = by_class["KSampler"]
    assert (sampler["denoise"], sampler["seed"]) == (0.45, 42)
    assert (sampler["steps"], sampler["cfg"]) == (4, 5.5)
    assert by_class["ImageScaleToTotalPixels"]["megapixels"] == 0.05
    assert by_class["CheckpointLoaderSimple"]["ckpt_name"] == "tiny-a.safetensors"
    assert by_class["LoadImage"]["image"] == "example.png"
    positive, negative = sampler["positive"][0], sampler["negative"][0]
    assert graph[positive]["inputs"]["text"] == "Anime Style, beautiful, detailed"
    assert "photorealistic" in graph[negative]["inputs"]["text"]


def test_prompts_replace_the_presets(style_change: Workflow, object_info: ObjectInfo) -> None:
    graph = graph_for(
        style_change, "diffusion", object_info, prompt="a fox", negative_prompt="hounds"
    )
    texts = {n["inputs"]["text"] for n in graph.values() if n["class_type"] == "CLIPTextEncode"}
    assert texts == {"a fox", "hounds"}


def test_inputs_reach_the_classic_graph(style_change: Workflow, classic_info: ObjectInfo) -> None:
    graph = graph_for(
        style_change, "classic", classic_info, style="oil_painting", strength=0.2, seed=42
    )
    (node,) = (n for n in graph.values() if n["class_type"] == "AtelierStylise")
    given = {name: node["inputs"][name] for name in ("style", "strength", "seed")}
    assert given == {"style": "oil_painting", "strength": 0.2, "seed": 42}


def test_everything_a_person_reads_is_in_three_languages(library: Library) -> None:
    manifest = library.get("style_change").manifest
    texts = [manifest.title, manifest.help]
    texts += [text for entry in manifest.inputs for text in (entry.title, entry.help)]
    texts += [variant.title for variant in manifest.variants]
    texts += [text for style in library.styles().values() for text in (style.title, style.help)]
    assert all(isinstance(text, dict) and set(text) == LANGUAGES for text in texts)
