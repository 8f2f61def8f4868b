from typing import Any

import pytest

from atelier.comfy.object_info import ObjectInfo
from atelier.workflows.graph import (
    GraphMalformed,
    Link,
    class_types,
    links,
    output_nodes,
    parse_graph,
    upstream,
)


def test_a_parsed_graph_can_be_changed_without_touching_what_was_sent(
    trivial: dict[str, Any],
) -> None:
    graph = parse_graph(trivial)
    graph["1"]["inputs"]["width"] = 8
    assert trivial["1"]["inputs"]["width"] == 64


def test_a_node_without_inputs_is_given_none() -> None:
    assert parse_graph({"1": {"class_type": "A"}})["1"]["inputs"] == {}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (None, "it is null"),
        ([1], "it is a list"),
        ("{}", "it is a text"),
        (7, "it is a number"),
        ({}, "it has no nodes"),
        ({"nodes": [], "links": []}, "editor's format"),
        ({"1": 3}, "node 1 is a number"),
        ({"1": {"inputs": {}}}, "node 1 has no class_type"),
        ({"1": {"class_type": 3, "inputs": {}}}, "node 1 has no class_type"),
        ({"1": {"class_type": "A", "inputs": []}}, "node 1 has inputs that are a list"),
    ],
)
def test_what_is_no_graph_is_refused_in_words(body: Any, said: str) -> None:
    with pytest.raises(GraphMalformed, match=said) as caught:
        parse_graph(body)
    assert caught.value.code == "WORKFLOW_VALIDATION_ERROR"


def test_all_malformed_nodes_are_named_at_once() -> None:
    with pytest.raises(GraphMalformed) as caught:
        parse_graph({"1": {"inputs": {}}, "2": None, "3": {"class_type": "A", "inputs": 1}})
    assert len(caught.value.problems) == 3
    assert caught.value.data["problems"] == list(caught.value.problems)


def test_only_a_node_id_and_a_slot_make_a_link(trivial: dict[str, Any]) -> None:
    trivial["1"]["inputs"]["list"] = [1, 2]
    assert list(links(trivial)) == [Link("2", "images", "1", 0)]


def test_class_types_are_those_of_all_nodes(trivial: dict[str, Any]) -> None:
    assert class_types(trivial) == {"EmptyImage", "SaveImage"}


def test_outputs_are_named_before_previews(
    trivial: dict[str, Any], object_info: ObjectInfo
) -> None:
    graph = {"0": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}, **trivial}
    assert output_nodes(graph, object_info) == ("2", "0")
    assert output_nodes(graph) == ("2", "0")


def test_a_node_that_delivers_nothing_is_no_output(
    trivial: dict[str, Any], object_info: ObjectInfo
) -> None:
    graph = {**trivial, "3": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}}}
    assert output_nodes(graph, object_info) == ("2",)


def test_upstream_follows_links_and_finds_every_cycle() -> None:
    def node(**inputs: Any) -> dict[str, Any]:
        return {"class_type": "N", "inputs": inputs}

    graph = {
        "a": node(x=["b", 0]),
        "b": node(x=["c", 0], y=["b", 0]),
        "c": node(x=["b", 0]),
        "d": node(x=["a", 0]),
        "e": node(),
    }
    reached, cycles = upstream(graph, ["a"])
    assert set(reached) == {"a", "b", "c"}
    assert set(cycles) == {
        (Link("b", "x", "c", 0), Link("c", "x", "b", 0)),
        (Link("b", "y", "b", 0),),
    }


def test_a_chain_of_ten_thousand_nodes_is_walked() -> None:
    graph = {
        str(i): {"class_type": "N", "inputs": {"x": [str(i + 1), 0]} if i < 9999 else {}}
        for i in range(10_000)
    }
    reached, cycles = upstream(graph, ["0"])
    assert len(reached) == 10_000
    assert cycles == ()


def test_each_problem_of_shape_names_its_node_and_class():
    with pytest.raises(GraphMalformed) as caught:
        parse_graph({"5": 3, "8": {"class_type": "SaveImage", "inputs": []}})
    told = caught.value.data["node_errors"]
    assert [(one["node"], one["class_type"]) for one in told] == [("5", ""), ("8", "SaveImage")]
