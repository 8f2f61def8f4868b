import random
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from atelier.workflows.bind import InputsInvalid, complete
from atelier.workflows.library import Workflow, input_schema
from atelier.workflows.manifest import Manifest

IMAGE = "https://example.org/cat.png"


@pytest.fixture(scope="module")
def every_type() -> Workflow:
    """A workflow with an input of each type."""
    manifest = Manifest.model_validate(
        {
            "name": "all",
            "title": "All",
            "inputs": [
                {"name": "text", "type": "text", "max": 10},
                {"name": "integer", "type": "integer", "min": 1, "max": 9},
                {"name": "float", "type": "float", "min": 0, "max": 1},
                {"name": "boolean", "type": "boolean"},
                {"name": "choice", "type": "choice", "choices": ["a", "b"]},
                {"name": "number", "type": "choice", "choices": [1, 2]},
                {"name": "image", "type": "image", "required": True},
                {"name": "mask", "type": "mask"},
                {"name": "seed", "type": "seed"},
                {"name": "model", "type": "model", "folder": "loras"},
                {"name": "size", "type": "size", "min": 8, "max": 64},
                {"name": "any", "type": "any"},
            ],
            "variants": [{"name": "v", "kind": "custom", "graph": "v.json"}],
        }
    )
    return Workflow(manifest, {"v": {}}, "0")


@pytest.mark.parametrize("language", ["en", "zh-Hans", "zh-Hant"])
def test_the_schema_is_valid_and_so_is_the_example(style_change: Workflow, language: str) -> None:
    schema = input_schema(style_change, language)
    Draft202012Validator.check_schema(schema)
    example = style_change.manifest.example | {"image": IMAGE}
    Draft202012Validator(schema).validate(example)
    assert complete(style_change.manifest, example, rng=random.Random(1))["style"] == "clay"
    for described in schema["properties"].values():
        for value in [
            *described.get("examples", ()),
            *([described["default"]] if "default" in described else []),
        ]:
            Draft202012Validator(described).validate(value)
        assert described["title"]
        assert described["description"]


def test_the_schema_says_what_is_required_and_that_nothing_else_is_taken(
    style_change: Workflow,
) -> None:
    schema = input_schema(style_change)
    assert schema["required"] == ["image"]
    assert schema["additionalProperties"] is False
    strength = schema["properties"]["strength"]
    assert (strength["minimum"], strength["maximum"], strength["default"]) == (0, 1, 0.6)
    assert schema["properties"]["style"]["enum"] == [
        "clay",
        "anime",
        "realistic",
        "cartoon",
        "oil_painting",
    ]
    assert schema["properties"]["seed"] | {"title": "", "description": ""} == {
        "title": "",
        "description": "",
        "type": "integer",
        "minimum": -1,
        "maximum": 2**53 - 1,
    }


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"text": "long enough to be too long"},
        {"text": 3},
        {"integer": 0},
        {"integer": 1.5},
        {"integer": 3},
        {"float": 1.01},
        {"float": 1},
        {"boolean": "maybe"},
        {"boolean": False},
        {"choice": "c"},
        {"choice": "a"},
        {"number": 3},
        {"number": 2},
        {"image": 3},
        {"image": {"url": IMAGE, "asset": "1"}},
        {"image": {"asset": "1"}},
        {"mask": {"path": "x"}},
        {"mask": "data:image/png;base64,AA=="},
        {"seed": -2},
        {"seed": -1},
        {"seed": 2**53},
        {"model": 3},
        {"model": "a.safetensors"},
        {"size": {"width": 8}},
        {"size": {"width": 8, "height": 65}},
        {"size": {"width": 8, "height": 64}},
        {"size": "8x64"},
        {"any": {"x": [1]}},
        {"unknown": 1},
    ],
)
def test_schema_and_completion_agree(every_type: Workflow, inputs: dict[str, Any]) -> None:
    given = {"image": IMAGE, **inputs}
    valid = Draft202012Validator(input_schema(every_type)).is_valid(given)
    try:
        complete(every_type.manifest, given, rng=random.Random(1))
    except InputsInvalid:
        assert not valid
    else:
        assert valid
