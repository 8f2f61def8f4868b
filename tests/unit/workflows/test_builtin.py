"""The shipped workflows: every graph fits a real ComfyUI or the embedded engine."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from atelier.comfy.model_key import names_model
from atelier.comfy.object_info import ObjectInfo, model_folder
from atelier.examples import example_pictures
from atelier.workflows.bind import bind, complete
from atelier.workflows.check import check
from atelier.workflows.graph import Graph, class_types, upstream
from atelier.workflows.library import Library, Workflow, input_schema, requirements
from atelier.workflows.manifest import Input, Manifest, Variant

GOLDEN = Path(__file__).parents[2] / "golden"
LANGUAGES = {"en", "zh-Hans", "zh-Hant"}
SHIPPED = Library()
WORKFLOWS = [SHIPPED.get(name) for name in SHIPPED.names()]
EXPECTED = {
    "text_to_image", "style_change", "single_image_edit", "face_swap", "multi_image_blend",
    "sketch_to_image", "inpaint", "upscale", "remove_background", "image_to_video",
}  # fmt: skip
VARIANTS = [
    pytest.param(workflow, variant, id=f"{workflow.name}-{variant.name}")
    for workflow in WORKFLOWS
    for variant in workflow.manifest.variants
]


@pytest.fixture(scope="module")
def declared(object_info_json: dict[str, Any], classic_info: ObjectInfo) -> ObjectInfo:
    """A real ComfyUI, what custom nodes and newer versions declare, and the engine's own nodes."""
    extra = json.loads((GOLDEN / "declared_nodes.json").read_text())
    core = ObjectInfo.parse({**object_info_json, **extra})
    own = {name: node for name, node in classic_info.nodes.items() if name not in core.nodes}
    return ObjectInfo({**core.nodes, **own}, "test")


def edges(entry: Input) -> Iterator[Any]:
    """Values at both ends of what the input takes, and all choices."""
    if entry.choices:
        yield from (choice.value for choice in entry.choices)
    elif entry.type == "boolean":
        yield from (True, False)
    elif entry.type == "size":
        yield from ("64x64", f"{int(entry.max or 64)}x{int(entry.max or 64)}")
    elif entry.type in ("integer", "float", "seed"):
        yield from (bound for bound in (entry.min, entry.max) if bound is not None)
    elif entry.type == "text":
        yield "a cat"


def bound(workflow: Workflow, variant: Variant, inputs: dict[str, Any]) -> Graph:
    manifest = workflow.manifest
    pictures = {e.name: "asset:1" for e in manifest.inputs if is_picture(e) and e.required}
    needed: dict[str, Any] = dict.fromkeys(variant.requires, "a cat")
    for entry in manifest.inputs:
        if entry.required and entry.type == "text":
            needed[entry.name] = "a cat"
    done = complete(manifest, pictures | needed | inputs, rng=random.Random(1))
    for entry in manifest.inputs:
        if is_picture(entry) and entry.name in done:
            done[entry.name] = "example.png"
        elif entry.type == "model" and entry.name in variant.targets:
            chosen = variant.needs.chosen_by(entry.name)
            done[entry.name] = chosen.file if chosen else "m.safetensors"
    return bind(workflow.graphs[variant.name], manifest, variant.name, done)


def is_picture(entry: Input) -> bool:
    return entry.type in ("image", "mask")


def test_all_that_were_promised_are_there() -> None:
    assert set(SHIPPED.names()) == EXPECTED


@pytest.mark.parametrize(("workflow", "variant"), VARIANTS)
def test_every_graph_is_taken_whatever_the_inputs(
    workflow: Workflow, variant: Variant, declared: ObjectInfo
) -> None:
    cases: list[dict[str, Any]] = [{}]
    for entry in workflow.manifest.inputs:
        if entry.name in variant.targets and entry.choices_from != "variants":
            cases += [{entry.name: value} for value in edges(entry)]
            if is_picture(entry) and not entry.required:
                cases.append({entry.name: "asset:2"})
    for case in cases:
        graph = bound(workflow, variant, case)
        # No model is installed where this was recorded; their names are checked below.
        problems = [p.message for p in check(graph, declared) if p.code != "model_missing"]
        assert problems == [], case


@pytest.mark.parametrize(("workflow", "variant"), VARIANTS)
def test_every_node_of_a_graph_serves_the_result(workflow: Workflow, variant: Variant) -> None:
    graph = workflow.graphs[variant.name]
    used, cycles = upstream(graph, [output.node for output in variant.outputs])
    elsewhere = {
        value[0]
        for targets in variant.targets.values()
        for target in targets
        for value in (target.map or {}).values()
        if isinstance(value, list)
    }
    used += upstream(graph, sorted(elsewhere))[0]
    assert set(graph) == set(used)
    assert not cycles
    assert variant.outputs


@pytest.mark.parametrize(("workflow", "variant"), VARIANTS)
def test_every_model_and_custom_node_says_where_it_comes_from(
    workflow: Workflow, variant: Variant, object_info: ObjectInfo, classic_info: ObjectInfo
) -> None:
    graph, needs = workflow.graphs[variant.name], variant.needs
    written = {(t.node, t.input) for targets in variant.targets.values() for t in targets}
    named = {
        value
        for node_id, node in graph.items()
        for name, value in node["inputs"].items()
        if (node_id, name) not in written and names_model(node["class_type"], name, value)
    }
    assert {model.file for model in needs.models if model.input is None} == named
    choosers = {e.name for e in workflow.manifest.inputs if e.type == "model"} & set(
        variant.targets
    )
    assert {model.input for model in needs.models if model.input} == choosers
    for entry in workflow.manifest.inputs:
        model = needs.chosen_by(entry.name)
        if model is not None:
            assert model.folder == entry.folder
    for model in needs.models:
        assert model.url.startswith("https://")
        assert model.size_gib
        for node in graph.values():
            for name, value in node["inputs"].items():
                if value == model.file:
                    folder = model_folder(node["class_type"], name)
                    assert folder in (None, model.folder)
    foreign = class_types(graph) - object_info.classes - classic_info.classes
    packaged = {name for pack in needs.nodes for name in pack.classes}
    # What is left is core of a newer ComfyUI, and then the version is told, or it can't be.
    newer = foreign - packaged
    assert packaged <= foreign
    assert not newer or newer <= NEWER_CORE
    if variant.kind == "classic":
        assert needs.models == needs.nodes == ()


NEWER_CORE = {
    "EmptyFlux2LatentImage",
    "Flux2Scheduler",
    "LoadBackgroundRemovalModel",
    "RemoveBackground",
    "TextEncodeQwenImage21",
}


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda workflow: workflow.name)
def test_everything_a_person_reads_is_in_three_languages(workflow: Workflow) -> None:
    manifest = workflow.manifest
    texts = [manifest.title, manifest.help]
    texts += [variant.title for variant in manifest.variants]
    for entry in manifest.inputs:
        texts += [entry.title, entry.help]
        texts += [entry.placeholder] if entry.placeholder else []
        texts += [choice.title for choice in entry.choices]
    for text in texts:
        assert isinstance(text, dict)
        assert set(text) == LANGUAGES
        assert all(part.strip() for part in text.values())
    assert manifest.icon
    assert manifest.category in ("text to image", "image to image", "enhance", "video")


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda workflow: workflow.name)
def test_examples_are_inputs_that_a_variant_takes(workflow: Workflow) -> None:
    manifest = workflow.manifest
    assert manifest.example
    schema = Draft202012Validator(input_schema(workflow))
    for example in [manifest.example, *(v.example for v in manifest.variants if v.example)]:
        inputs = {name: shown(value) for name, value in example.items()}
        schema.validate(inputs)
        completed = complete(manifest, inputs, rng=random.Random(1))
        fitting = [one.variant for one in requirements(workflow, completed)]
        assert fitting
    for variant in manifest.variants:
        if variant.example:
            inputs = {name: shown(value) for name, value in variant.example.items()}
            completed = complete(manifest, inputs, rng=random.Random(1))
            assert variant.name in [one.variant for one in requirements(workflow, completed)]


def shown(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("example:"):
        return example_pictures()[value.removeprefix("example:")]
    return value


def test_inputs_have_the_names_and_ranges_that_callers_count_on() -> None:
    pictures = {
        workflow.name: [entry.name for entry in workflow.manifest.inputs if is_picture(entry)]
        for workflow in WORKFLOWS
    }
    assert pictures == {
        "text_to_image": [],
        "style_change": ["image"],
        "single_image_edit": ["image"],
        "face_swap": ["source", "target"],
        "multi_image_blend": ["image_a", "image_b", "image_c"],
        "sketch_to_image": ["sketch"],
        "inpaint": ["image", "mask"],
        "upscale": ["image"],
        "remove_background": ["image"],
        "image_to_video": ["image"],
    }
    manifest = SHIPPED.get("text_to_image").manifest
    ratio, number = entry_of(manifest, "aspect_ratio"), entry_of(manifest, "batch_size")
    assert {"1:1", "16:9", "9:16", "2:3"} <= {choice.value for choice in ratio.choices}
    assert (number.min, number.max, number.default) == (1, 4, 1)
    scale = entry_of(SHIPPED.get("upscale").manifest, "scale")
    assert [choice.value for choice in scale.choices] == [2, 4, 8]


def entry_of(manifest: Manifest, name: str) -> Input:
    entry = manifest.input(name)
    assert entry is not None
    return entry


@pytest.mark.parametrize(("workflow", "variant"), VARIANTS)
def test_sizes_have_the_shape_they_are_asked_for(workflow: Workflow, variant: Variant) -> None:
    sides: dict[tuple[str, str], dict[str, int]] = {}
    for target in variant.targets.get("aspect_ratio", ()):
        assert target.map is not None
        for ratio, side in target.map.items():
            sides.setdefault((target.node, ratio), {})[target.input] = side
    for (_, ratio), size in sides.items():
        across, down = (int(part) for part in ratio.split(":"))
        assert size["width"] / size["height"] == pytest.approx(across / down, rel=0.06)
        assert size["width"] % 8 == size["height"] % 8 == 0


def test_an_optional_picture_takes_its_nodes_along(declared: ObjectInfo) -> None:
    workflow = SHIPPED.get("multi_image_blend")
    for variant in workflow.manifest.variants:
        two = bound(workflow, variant, {})
        three = bound(workflow, variant, {"image_c": "asset:3"})
        loads = [
            sum(node["class_type"] == "LoadImage" for node in graph.values())
            for graph in (two, three)
        ]
        assert loads == [2, 3]


def test_eight_times_goes_through_the_model_twice() -> None:
    workflow = SHIPPED.get("upscale")
    variant = workflow.manifest.variant("model")
    passes = {}
    for scale in (2, 4, 8):
        graph = bound(workflow, variant, {"scale": scale})
        used, _ = upstream(graph, [output.node for output in variant.outputs])
        passes[scale] = [graph[node]["class_type"] for node in used].count("ImageUpscaleWithModel")
    assert passes == {2: 1, 4: 1, 8: 2}
