from typing import Any

import pytest

from atelier.workflows.definition import DefinitionInvalid, define
from atelier.workflows.patch import patched

GRAPH: dict[str, Any] = {
    "1": {"class_type": "EmptyImage", "inputs": {"color": 0, "blue": 3}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
}
MANIFEST: dict[str, Any] = {
    "title": "Plain",
    "inputs": [{"name": "colour", "type": "integer", "default": 3}],
    "variants": [
        {
            "name": "only",
            "kind": "classic",
            "graph": "only.json",
            "targets": {"colour": [{"node": "1", "input": "color"}]},
        }
    ],
}


@pytest.mark.parametrize(
    ("body", "inputs"),
    [
        (GRAPH, []),
        ({"graph": GRAPH}, []),
        ({"graph": GRAPH, "manifest": {}}, []),
        ({"workflow": GRAPH, "inputs": ["color"]}, ["color"]),
        ({"graph": GRAPH, "manifest": {"inputs": ["blue", "color"]}}, ["blue", "color"]),
        ({"graph": GRAPH, "manifest": MANIFEST}, ["colour"]),
        ({"graphs": {"only": GRAPH}, "manifest": MANIFEST, "version": "1"}, ["colour"]),
        ({"graphs": {"only.json": GRAPH}, "manifest": {**MANIFEST, "name": "other"}}, ["colour"]),
        # A node's id may be one of our words.
        ({**GRAPH, "workflow": {"class_type": "SaveImage", "inputs": {}}}, []),
    ],
)
def test_every_form_is_understood(body: Any, inputs: list[str]) -> None:
    made = define("plain", body)
    assert [one.name for one in made.manifest.inputs] == inputs
    assert made.manifest.name == "plain"
    assert [one.name for one in made.manifest.variants] == list(made.graphs)


def test_title_help_and_category_may_stand_beside_the_inputs() -> None:
    made = define("plain", {"workflow": GRAPH, "inputs": [], "title": "T", "category": "c"})
    assert (made.manifest.title, made.manifest.category) == ("T", "c")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, ["it has no nodes"]),
        ({"1": "nonsense"}, ["node 1 is a text"]),
        ({"1": {}, "2": 3}, ["node 1 has no class_type", "node 2 is a number"]),
        ({"workflow": GRAPH, "inputs": ["a", "b"]}, ["a is not an input", "b is not an input"]),
        ({"workflow": GRAPH, "inputs": "color"}, ["inputs is a list of names"]),
        ({"workflow": GRAPH, "inputs": [1]}, ["inputs is a list of names"]),
        ({"graph": GRAPH, "colour": 1}, ["colour is not a known field"]),
        ({"manifest": MANIFEST}, ["there is no graph"]),
        ({"graph": GRAPH, "manifest": [1]}, ["manifest is not an object"]),
        ({"graphs": [GRAPH], "manifest": MANIFEST}, ["graphs is not an object"]),
        ({"graphs": {}, "manifest": MANIFEST}, ["no graph for the variant only"]),
        ({"graphs": {"a": GRAPH, "b": GRAPH}}, ["goes with one graph"]),
        ({"graph": GRAPH, "manifest": {**MANIFEST, "colour": 1, "help": 2}}, ["colour", "help"]),
        (
            {"graph": {**GRAPH, "3": {"class_type": "A", "inputs": {"a": ["9", 0]}}}},
            ["node 9, which is not there"],
        ),
        (
            {"1": {"class_type": "A", "inputs": {"a": ["1", 0]}}, "2": {"class_type": ""}},
            ["node 2 has no class_type"],
        ),
        (
            {"graph": {"1": {"class_type": "A", "inputs": {"a": ["1", 0], "b": ["7", 0]}}}},
            ["closes a cycle", "node 7"],
        ),
        (
            {"graph": {"1": {"class_type": "A", "inputs": {"a": ["1", 0]}}}, "inputs": ["x"]},
            ["closes a cycle", "x is not an input"],
        ),
    ],
)
def test_all_that_is_wrong_is_told_at_once(body: Any, said: list[str]) -> None:
    with pytest.raises(DefinitionInvalid) as caught:
        define("plain", body)
    for part in said:
        assert part in caught.value.message
    assert caught.value.data["problems"]


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ({"title": "New", "help": "H"}, {"title": "New", "help": "H"}),
        ({"category": None}, {}),
        (
            {"inputs": {"colour": {"default": 5, "min": 0}}},
            {"inputs": [{"name": "colour", "type": "integer", "default": 5, "min": 0}]},
        ),
        (
            {"inputs": {"colour": {"default": None}}},
            {"inputs": [{"name": "colour", "type": "integer"}]},
        ),
        ({"inputs": []}, {"inputs": []}),
        (
            {"inputs": {"b": {"type": "any"}}},
            {"inputs": [*MANIFEST["inputs"], {"name": "b", "type": "any"}]},
        ),
    ],
)
def test_a_patch_says_only_what_changes(patch: Any, expected: Any) -> None:
    assert patched(MANIFEST, patch) == {**MANIFEST, **expected}


def test_an_input_that_goes_or_is_renamed_takes_its_targets_along() -> None:
    gone = patched(MANIFEST, {"inputs": {"colour": None}})
    assert gone["inputs"] == []
    assert gone["variants"][0]["targets"] == {}
    size = [{"node": "1", "input": "w", "template": "{colour.width}"}]
    manifest = {**MANIFEST, "variants": [{"name": "only", "targets": {"colour": size}}]}
    renamed = patched(manifest, {"inputs": {"colour": {"name": "shade"}}})
    assert renamed["inputs"][0]["name"] == "shade"
    assert renamed["variants"][0]["targets"] == {
        "shade": [{"node": "1", "input": "w", "template": "{shade.width}"}]
    }
    assert manifest["variants"][0]["targets"] == {"colour": size}, "what was given is left alone"
