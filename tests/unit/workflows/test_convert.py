"""UI graphs become what ComfyUI's own front end exported for them (tests/golden/convert)."""

import contextlib
import copy
import json
import random
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atelier.comfy.object_info import ObjectInfo
from atelier.workflows.convert import ConversionFailed, convert
from atelier.workflows.convert.build import MOST_LEVELS

GOLDEN = Path(__file__).parents[2] / "golden" / "convert"
NAMES = sorted(path.name.removesuffix(".ui.json") for path in GOLDEN.glob("*.ui.json"))


def read(name, kind="ui"):
    return json.loads((GOLDEN / f"{name}.{kind}.json").read_text())


def node(graph, node_id):
    return next(one for one in graph["nodes"] if one["id"] == node_id)


def problems(body, object_info):
    with pytest.raises(ConversionFailed) as caught:
        convert(body, object_info)
    return caught.value.problems


@pytest.mark.parametrize("name", NAMES)
def test_graph_becomes_what_the_front_end_exports(name, object_info):
    assert convert(read(name), object_info) == read(name, "api")


@pytest.mark.parametrize("name", NAMES)
def test_graph_that_is_converted_stays_as_it_was(name, object_info):
    graph = read(name)
    convert(graph, object_info)
    assert graph == read(name)


def test_every_golden_graph_has_both_sides():
    assert NAMES
    assert {path.name.removesuffix(".api.json") for path in GOLDEN.glob("*.api.json")} == set(NAMES)


# -- what the golden graphs can't show -------------------------------------------------------------


def test_values_by_name_are_taken_by_name(object_info):
    graph = read("text_to_image")
    node(graph, 5)["widgets_values"] = {"steps": 9, "cfg": 2.5, "unknown": 1}
    inputs = convert(graph, object_info)["5"]["inputs"]
    assert (inputs["steps"], inputs["cfg"], inputs["seed"]) == (9, 2.5, 0)
    assert "unknown" not in inputs


def test_text_areas_have_plain_line_ends_and_no_null(object_info):
    graph = read("text_to_image")
    node(graph, 2)["widgets_values"] = ["a\r\nb\rc"]
    node(graph, 3)["widgets_values"] = [None]
    converted = convert(graph, object_info)
    assert converted["2"]["inputs"]["text"] == "a\nb\nc"
    assert converted["3"]["inputs"]["text"] == ""


def test_list_is_wrapped_so_that_it_is_no_link(object_info):
    graph = read("text_to_image")
    node(graph, 7)["widgets_values"] = [["1", 0]]
    inputs = convert(graph, object_info)["7"]["inputs"]
    assert inputs["filename_prefix"] == {"__value__": ["1", 0]}


def test_choices_in_prompts_are_the_callers(object_info):
    graph = read("text_to_image")
    node(graph, 2)["widgets_values"] = ["{a|{b|c}} and {d|e}"]
    text = convert(graph, object_info, pick=lambda options: options[-1])["2"]["inputs"]["text"]
    assert text == "c and e"


def test_dates_fill_file_names_when_there_is_a_now(object_info):
    graph = read("text_to_image")
    node(graph, 7)["widgets_values"] = ["%date:yyyy-MM-dd%/%date:yy-M-d_hh-mm-ss%"]
    now = datetime(2026, 3, 9, 8, 5, 2)  # noqa: DTZ001 - a caller's own clock
    inputs = convert(graph, object_info, now=now)["7"]["inputs"]
    assert inputs["filename_prefix"] == "2026-03-09/26-3-9_08-05-02"
    inputs = convert(graph, object_info)["7"]["inputs"]
    assert inputs["filename_prefix"] == "%date:yyyy-MM-dd%/%date:yy-M-d_hh-mm-ss%"


def test_old_names_of_classes_are_understood(object_info):
    graph = read("text_to_image")
    graph["nodes"].append(
        {"id": 9, "type": "T2IAdapterLoader", "widgets_values": ["a.pth"], "inputs": []}
    )
    assert convert(graph, object_info)["9"]["class_type"] == "ControlNetLoader"


def test_values_of_inputs_that_were_widgets_once_are_passed_over(object_info_json):
    info = copy.deepcopy(object_info_json)
    info["ImageBlur"]["input"]["required"]["blur_radius"][1]["forceInput"] = True
    graph = {
        "nodes": [
            {"id": 1, "type": "EmptyImage", "inputs": [], "widgets_values": [8, 8, 1, 0]},
            {"id": 2, "type": "ImageBlur", "inputs": [], "widgets_values": [5, 0.5]},
        ],
        "links": [],
    }
    assert convert(graph, ObjectInfo.parse(info))["2"]["inputs"] == {"sigma": 0.5}


CHOOSER = {
    "Chooser": {
        "input": {
            "required": {
                "mode": [
                    "COMFY_DYNAMICCOMBO_V3",
                    {
                        "options": [
                            {"key": "scale", "inputs": {"required": {"by": ["FLOAT", {}]}}},
                            {
                                "key": "size",
                                "inputs": {
                                    "required": {"width": ["INT", {"default": 4}]},
                                    "optional": {"like": ["IMAGE", {}]},
                                },
                            },
                        ]
                    },
                ],
                "last": ["INT", {"default": 1}],
            }
        },
        "output": ["IMAGE"],
        "output_node": True,
    }
}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["scale", 2.5, 7], {"mode": "scale", "mode.by": 2.5, "last": 7}),
        (["size", 64, 7], {"mode": "size", "mode.width": 64, "last": 7}),
        ([], {"mode": "scale", "mode.by": 0, "last": 1}),
        (["gone", 7], {"mode": "gone", "last": 7}),
    ],
)
def test_dynamic_combo_has_the_widgets_of_its_choice(values, expected):
    graph = {"nodes": [{"id": 1, "type": "Chooser", "widgets_values": values}], "links": []}
    assert convert(graph, ObjectInfo.parse(CHOOSER))["1"]["inputs"] == expected


def test_inputs_that_a_node_grew_keep_their_links(object_info):
    graph = read("text_to_image")
    node(graph, 7)["inputs"].append({"name": "more.image1", "type": "IMAGE", "link": 9})
    assert convert(graph, object_info)["7"]["inputs"]["more.image1"] == ["6", 0]


def test_set_and_get_nodes_pass_their_link_on(object_info):
    graph = read("text_to_image")
    graph["nodes"] += [
        {"id": 20, "type": "SetNode", "widgets_values": ["vae"],
         "inputs": [{"name": "VAE", "type": "VAE", "link": 90}], "outputs": [{"type": "*"}]},
        {"id": 21, "type": "GetNode", "widgets_values": ["vae"], "inputs": [],
         "outputs": [{"name": "VAE", "type": "VAE", "links": [91]}]},
    ]  # fmt: skip
    graph["links"] += [[90, 1, 2, 20, 0, "VAE"], [91, 21, 0, 6, 1, "VAE"]]
    node(graph, 6)["inputs"][1]["link"] = 91
    converted = convert(graph, object_info)
    assert converted["6"]["inputs"]["vae"] == ["1", 2]
    assert not converted.keys() & {"20", "21"}


def test_muted_source_leaves_the_widget_its_value(object_info):
    graph = read("widgets_as_inputs")
    node(graph, 10)["mode"] = 2
    assert convert(graph, object_info)["5"]["inputs"]["steps"] == 4


def test_subgraph_that_hands_its_input_on_is_passed_through(object_info):
    inner = {
        "id": "through", "name": "Through", "nodes": [],
        "inputs": [{"name": "image", "type": "IMAGE", "linkIds": [1]}],
        "outputs": [{"name": "image", "type": "IMAGE", "linkIds": [1]}],
        "links": [[1, -10, 0, -20, 0, "IMAGE"]],
    }  # fmt: skip
    graph = read("text_to_image")
    graph["nodes"].append(
        {"id": 9, "type": "through", "inputs": [{"name": "image", "type": "IMAGE", "link": 50}]}
    )
    graph["links"] += [[50, 6, 0, 9, 0, "IMAGE"], [51, 9, 0, 7, 0, "IMAGE"]]
    node(graph, 7)["inputs"][0]["link"] = 51
    graph["definitions"] = {"subgraphs": [inner]}
    assert convert(graph, object_info)["7"]["inputs"]["images"] == ["6", 0]


# -- what can't be converted -----------------------------------------------------------------------


def test_missing_classes_are_told_all_at_once_with_what_would_be_valid(object_info):
    graph = read("subgraph_used_twice")
    graph["nodes"][1] |= {"type": "EmptyLatentImag", "title": "Canvas"}
    node(graph["definitions"]["subgraphs"][0], 33)["type"] = "KSamplr"
    found = problems(graph, object_info)
    assert {(one.node, one.class_type, one.code) for one in found} == {
        ("2", "EmptyLatentImag", "node_missing"),
        ("3:33", "KSamplr", "node_missing"),
        ("4:33", "KSamplr", "node_missing"),
    }
    assert '"Canvas"' in found[0].message
    assert found[0].allowed[0] == "EmptyLatentImage"


def test_missing_class_does_no_harm_where_it_does_not_run(object_info):
    graph = read("bypassed")
    node(graph, 6)["type"] = "ImageBlurOfSomeone"
    assert convert(graph, object_info) == read("bypassed", "api")


def test_unknown_class_is_read_where_its_slots_tell_its_widgets(object_info):
    slots = [
        {"name": "model", "type": "MODEL", "link": 1},
        {"name": "seed", "type": "INT", "widget": {"name": "seed"}, "link": None},
        {"name": "steps", "type": "INT", "widget": {"name": "steps"}, "link": None},
    ]
    graph = read("text_to_image")
    graph["nodes"].append(
        {"id": 9, "type": "Stranger", "inputs": slots, "widgets_values": [7, "fixed", 20]}
    )
    inputs = convert(graph, object_info)["9"]["inputs"]
    assert inputs == {"model": ["1", 0], "seed": 7, "steps": 20}
    graph["nodes"][-1]["widgets_values"].append("one too many")
    assert [one.class_type for one in problems(graph, object_info)] == ["Stranger"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (None, "UI format"),
        ({"1": {"class_type": "A", "inputs": {}}}, "UI format"),
        ({"nodes": []}, "no node that runs"),
        ({"nodes": [{"id": 1, "type": "Note"}]}, "no node that runs"),
        ({"nodes": [7, {"type": "A"}, {"id": 3}, {"id": True, "type": "B"}]}, "Node 3 has no type"),
    ],
)
def test_what_is_no_graph_is_told(body, told, object_info):
    assert any(told in one.message for one in problems(body, object_info))


def test_all_that_is_malformed_is_told_at_once(object_info):
    body = {"nodes": [7, {"type": "A"}, {"id": 3}]}
    assert len(problems(body, object_info)) == 3


def test_subgraph_that_contains_itself_is_told(object_info):
    graph = read("subgraph_used_twice")
    definition = graph["definitions"]["subgraphs"][0]
    definition["nodes"].append({"id": 80, "type": definition["id"], "inputs": [], "outputs": []})
    found = problems(graph, object_info)
    assert {one.code for one in found} == {"cycle"}
    assert "Paint" in found[0].message


def test_subgraphs_within_each_other_do_not_fill_the_memory(object_info):
    levels = [
        {"id": f"s{level}", "name": "", "links": [],
         "nodes": [{"id": n, "type": f"s{level + 1}"} for n in range(10)]}
        for level in range(MOST_LEVELS - 1)
    ]  # fmt: skip
    levels.append({"id": f"s{MOST_LEVELS - 1}", "nodes": [{"id": 1, "type": "SaveImage"}]})
    body = {"nodes": [{"id": 1, "type": "s0"}], "links": [], "definitions": {"subgraphs": levels}}
    assert any("more than" in one.message for one in problems(body, object_info))


def test_reroutes_in_a_circle_are_told(object_info):
    graph = read("reroutes")
    graph["links"].append([90, 3, 0, 2, 0, "*"])
    node(graph, 2)["inputs"][0]["link"] = 90
    found = problems(graph, object_info)
    assert [(one.node, one.input, one.code) for one in found] == [("5", "image", "cycle")]


def test_long_chain_of_reroutes_is_followed(object_info):
    graph = read("reroutes")
    length = 1200
    for number in range(length):
        slot = {"name": "", "type": "*", "link": 1000 + number}
        graph["nodes"].append(
            {"id": 1000 + number, "type": "Reroute", "inputs": [slot], "outputs": [{"type": "*"}]}
        )
        origin = 1 if not number else 999 + number
        graph["links"].append([1000 + number, origin, 0, 1000 + number, 0, "IMAGE"])
    graph["links"].append([9000, 999 + length, 0, 5, 0, "IMAGE"])
    node(graph, 5)["inputs"][0]["link"] = 9000
    assert convert(graph, object_info)["5"]["inputs"]["image"] == ["1", 0]


# -- whatever comes --------------------------------------------------------------------------------

WORDS = st.sampled_from(
    ["nodes", "links", "id", "type", "mode", "inputs", "outputs", "widgets_values", "definitions",
     "subgraphs", "extra", "groupNodes", "KSampler", "Reroute", "PrimitiveNode", "workflow>G", "s",
     "SaveImage", "seed", "name", "link", "widget", "properties", "proxyWidgets", "-1", "1", "G"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-21, 12) | st.floats(-2, 2) | WORDS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(WORDS, inner, max_size=6),
    max_leaves=30,
)


SCRAPS = [
    None,
    True,
    -1,
    0,
    2,
    4,
    1.5,
    "",
    "1",
    "KSampler",
    "-20",
    [],
    {},
    [1, 2, 3, 4, 5, 6],
    {"name": "seed"},
]


def places(body, path=()):
    """The path of every value within ``body``."""
    items = body.items() if isinstance(body, dict) else enumerate(body)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=JSON, other=JSON)
def test_nothing_but_its_own_error_is_raised(object_info, body, other):
    for one in (body, {"nodes": [body], "links": other, "definitions": other}):
        with contextlib.suppress(ConversionFailed):
            json.dumps(convert(one, object_info))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_damaged_graph_is_converted_or_refused(object_info, seed):
    rng = random.Random(seed)
    graph = read(rng.choice(NAMES))
    for _ in range(rng.randrange(1, 5)):
        *path, last = rng.choice(list(places(graph)))
        holder = graph
        for key in path:
            holder = holder[key]
        holder[last] = rng.choice(SCRAPS)
    with contextlib.suppress(ConversionFailed):
        json.dumps(convert(graph, object_info))
