from typing import Any

import pytest

from atelier.workflows.bind import InputMissing, bind, input_at
from atelier.workflows.graph import Graph
from atelier.workflows.library import Workflow
from atelier.workflows.manifest import Manifest, VariantUnknown

GRAPH: Graph = {
    "1": {"class_type": "N", "inputs": {"a": 0, "b": 0, "c": 0, "link": ["2", 0]}},
    "2": {"class_type": "N", "inputs": {"a": 0}},
}


def manifest_with(inputs: list[dict[str, Any]], targets: dict[str, Any]) -> Manifest:
    variant = {"name": "v", "kind": "custom", "graph": "v.json", "targets": targets}
    return Manifest.model_validate(
        {"name": "m", "title": "M", "inputs": inputs, "variants": [variant]}
    )


def bound(inputs: list[dict[str, Any]], targets: dict[str, Any], **values: Any) -> Graph:
    return bind(GRAPH, manifest_with(inputs, targets), "v", values)


def test_a_value_goes_to_all_its_places_and_the_graph_stays_as_it_was() -> None:
    places = [{"node": "1", "input": "a"}, {"node": "2", "input": "a"}]
    graph = bound([{"name": "n", "type": "integer"}], {"n": places}, n=5)
    assert graph["1"]["inputs"]["a"] == graph["2"]["inputs"]["a"] == 5
    assert graph["1"]["inputs"]["link"] == ["2", 0]
    assert GRAPH["1"]["inputs"]["a"] == GRAPH["2"]["inputs"]["a"] == 0


def test_a_left_out_input_leaves_what_the_graph_has() -> None:
    graph = bound([{"name": "n", "type": "integer"}], {"n": [{"node": "1", "input": "a"}]})
    assert graph["1"]["inputs"]["a"] == 0


@pytest.mark.parametrize(
    ("target", "values", "written"),
    [
        ({"map": {"fast": 4, "good": 30}}, {"q": "good"}, 30),
        ({"map": {"fast": 4}}, {"q": "good"}, "good"),  # what has no entry goes as it is
        ({"template": "{q} quality, {n} times"}, {"q": "fast", "n": 3}, "fast quality, 3 times"),
        ({"template": "{q}, {n}"}, {"q": "fast"}, "fast, "),  # an absent input is empty text
        ({"template": "{n}"}, {"q": "fast", "n": 3}, 3),  # alone it keeps its type
        ({"template": "{q.steps}"}, {"q": "good"}, 30),
        ({"template": "{q.look.base}"}, {"q": "good"}, "oil"),
        ({"template": "as {q.look.base}"}, {"q": "good"}, "as oil"),
        ({"template": "{size.height}"}, {"q": "fast", "size": {"width": 1, "height": 2}}, 2),
        ({"template": "{{q}}"}, {"q": "fast"}, "{fast}"),
    ],
)
def test_what_is_written_follows_map_and_template(
    target: dict[str, Any], values: dict[str, Any], written: Any
) -> None:
    inputs: list[dict[str, Any]] = [
        {
            "name": "q",
            "type": "choice",
            "choices": ["fast", {"value": "good", "data": {"steps": 30, "look": {"base": "oil"}}}],
        },
        {"name": "n", "type": "integer"},
        {"name": "size", "type": "size"},
    ]
    graph = bound(inputs, {"q": [{"node": "1", "input": "a", **target}]}, **values)
    assert graph["1"]["inputs"]["a"] == written


def test_a_boolean_is_mapped_by_its_json_name() -> None:
    place = {"node": "1", "input": "a", "map": {"true": "enable", "false": "disable"}}
    inputs = [{"name": "noise", "type": "boolean"}]
    assert bound(inputs, {"noise": [place]}, noise=False)["1"]["inputs"]["a"] == "disable"


def test_a_template_is_not_expanded_twice() -> None:
    place = {"node": "1", "input": "a", "template": "say {q}"}
    graph = bound([{"name": "q", "type": "text"}], {"q": [place]}, q="{q} {n.x}")
    assert graph["1"]["inputs"]["a"] == "say {q} {n.x}"


@pytest.mark.parametrize(("given", "written"), [({}, "preset"), ({"prompt": "mine"}, "mine")])
def test_a_later_input_overrides_an_earlier_one_at_the_same_place(
    given: dict[str, str], written: str
) -> None:
    inputs: list[dict[str, Any]] = [
        {
            "name": "style",
            "type": "choice",
            "choices": [{"value": "s", "data": {"prompt": "preset"}}],
        },
        {"name": "prompt", "type": "text"},
    ]
    targets = {
        "prompt": [{"node": "1", "input": "a"}],
        "style": [{"node": "1", "input": "a", "template": "{style.prompt}"}],
    }
    assert bound(inputs, targets, style="s", **given)["1"]["inputs"]["a"] == written


def test_a_required_input_or_an_unchosen_model_is_missing(style_change: Workflow) -> None:
    arguments = style_change.graphs["diffusion"], style_change.manifest, "diffusion"
    with pytest.raises(InputMissing, match="image is required"):
        bind(*arguments, {"model": "a.safetensors"})
    with pytest.raises(InputMissing, match="model is required"):
        bind(*arguments, {"image": "a.png"})


def test_an_unknown_variant_lists_those_there_are(style_change: Workflow) -> None:
    with pytest.raises(VariantUnknown) as caught:
        bind(GRAPH, style_change.manifest, "quantum", {})
    assert caught.value.data["known"] == ["diffusion", "classic"]


def test_a_place_in_the_graph_is_traced_back_to_its_input(style_change: Workflow) -> None:
    variant = style_change.manifest.variant("diffusion")
    assert input_at(variant, "7", "denoise") == "strength"
    assert input_at(variant, "7", "sampler_name") is None
