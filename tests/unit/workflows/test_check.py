import copy
import json
from pathlib import Path
from typing import Any

import pytest

from atelier.comfy.object_info import ObjectInfo
from atelier.workflows.check import Problem, check, examine
from atelier.workflows.graph import Graph, GraphMalformed, parse_graph

ANSWERS: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "golden" / "validation_answers.json").read_text()
)

# What we find in each graph that a real ComfyUI was sent: (code, node, input).
FOUND: dict[str, list[tuple[str, str, str]]] = {
    "missing_node_type": [("node_missing", "1", "")],
    "no_outputs": [("no_outputs", "", "")],
    "required_input_missing": [("input_missing", "1", "height")],
    "value_not_in_list": [("model_missing", "4", "ckpt_name")],
    "value_bigger_than_max": [("value_out_of_range", "1", "width")],
    "return_type_mismatch": [("link_mistyped", "2", "images")],
    "bad_linked_input": [("link_broken", "2", "images")],
    "link_to_absent_node": [("link_broken", "2", "images")],
    "invalid_input_type": [("value_mistyped", "1", "width")],
    "image_file_absent": [("file_missing", "1", "image")],
    "cycle": [("cycle", "3", "image")],
    "one_good_one_bad_output": [],
}
MALFORMED = {"no_class_type", "empty_prompt", "no_prompt_key"}


@pytest.mark.parametrize("name", ANSWERS)
def test_verdict_is_that_of_a_real_comfyui(name: str, object_info: ObjectInfo) -> None:
    refused = ANSWERS[name]["response"]["status"] == 400
    if name in MALFORMED:
        assert refused
        with pytest.raises(GraphMalformed):
            parse_graph(ANSWERS[name]["prompt"])
        return
    problems = check(parse_graph(ANSWERS[name]["prompt"]), object_info)
    assert bool(problems) == refused
    assert [(p.code, p.node, p.input) for p in problems] == FOUND[name]


@pytest.mark.parametrize("name", sorted(set(ANSWERS) - MALFORMED))
def test_comfyui_names_no_node_and_input_that_we_do_not(name: str, object_info: ObjectInfo) -> None:
    findings = examine(parse_graph(ANSWERS[name]["prompt"]), object_info)
    ours = {(p.node, p.input) for p in (*findings.problems, *findings.skipped)}
    errors = ANSWERS[name]["response"]["body"]["node_errors"]
    theirs = {
        (node_id, error["extra_info"].get("input_name"))
        for node_id, node in errors.items()
        for error in node["errors"]
    }
    # Of an exception while validating ComfyUI tells the node alone.
    assert {node for node, _ in theirs} <= {node for node, _ in ours}
    assert {place for place in theirs if place[1]} <= ours


def only(problems: list[Problem]) -> Problem:
    (problem,) = problems
    return problem


def save(source: Any, prefix: str = "e") -> dict[str, Any]:
    return {"class_type": "SaveImage", "inputs": {"filename_prefix": prefix, "images": source}}


def test_a_right_graph_has_no_problem(trivial: Graph, object_info: ObjectInfo) -> None:
    findings = examine(trivial, object_info)
    assert (findings.problems, findings.skipped) == ((), ())


def test_what_comfyui_would_skip_is_told_apart(trivial: Graph, object_info: ObjectInfo) -> None:
    findings = examine({**trivial, "3": save(["9", 0])}, object_info)
    assert findings.problems == ()
    assert [(p.code, p.node) for p in findings.skipped] == [("link_broken", "3")]


def test_nodes_that_no_output_needs_are_not_checked(
    trivial: Graph, object_info: ObjectInfo
) -> None:
    idle = {"class_type": "EmptyImage", "inputs": {"width": "wide"}}
    assert check({**trivial, "3": idle}, object_info) == []


def test_all_problems_come_at_once(object_info: ObjectInfo) -> None:
    graph = parse_graph(
        {
            "1": {"class_type": "EmptyImage", "inputs": {"width": 0, "height": "x", "color": 1}},
            "2": save(["1", 3]),
            "3": {"class_type": "ImageBlend", "inputs": {"image1": ["1", 0], "image2": ["8", 0]}},
            "4": save(["3", 0]),
            "5": {"class_type": "Missing", "inputs": {}},
        }
    )
    found = {(p.node, p.input, p.code) for p in check(graph, object_info)}
    assert found == {
        ("1", "width", "value_out_of_range"),
        ("1", "height", "value_mistyped"),
        ("1", "batch_size", "input_missing"),
        ("2", "images", "link_broken"),
        ("3", "image2", "link_broken"),
        ("3", "blend_factor", "input_missing"),
        ("3", "blend_mode", "input_missing"),
        ("5", "", "node_missing"),
    }


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("64", None),  # ComfyUI converts what can be converted
        (64.9, None),
        (True, None),
        ({"__value__": 64}, None),
        (None, "value_mistyped"),
        ({"a": 1}, "value_mistyped"),
        (float("inf"), "value_mistyped"),
        (0, "value_out_of_range"),
        (16385, "value_out_of_range"),
        (["1"], "link_broken"),
        ([1, 0], "link_broken"),  # node ids are texts
        (["2", 0], "link_broken"),  # SaveImage puts nothing out
        (["77", 0], "link_broken"),
    ],
)
def test_a_whole_number_is_judged_as_comfyui_does(
    trivial: Graph, object_info: ObjectInfo, value: Any, code: str | None
) -> None:
    trivial["1"]["inputs"]["width"] = value
    codes = {problem.code for problem in check(trivial, object_info)}
    assert code in codes if code else not codes


def test_a_range_says_its_ends(trivial: Graph, object_info: ObjectInfo) -> None:
    trivial["1"]["inputs"]["width"] = 99999
    problem = only(check(trivial, object_info))
    assert (problem.minimum, problem.maximum) == (1, 16384)
    assert problem.message == (
        "Node 1 (EmptyImage): width must be at least 1 and at most 16384, not 99999."
    )


def test_a_long_list_is_cut_to_the_likeliest_and_its_length(object_info: ObjectInfo) -> None:
    graph = parse_graph(copy.deepcopy(ANSWERS["value_not_in_list"]["prompt"]))
    graph["4"]["inputs"]["ckpt_name"] = "tiny-a.safetensors"
    graph["3"]["inputs"]["sampler_name"] = "Eular"
    problem = only(check(graph, object_info))
    assert problem.code == "value_not_in_list"
    assert problem.allowed[0] == "euler"
    assert len(problem.allowed) == 10
    assert problem.total == len(object_info.choices("KSampler", "sampler_name")) > 10
    assert f"and {problem.total - 10} more" in problem.message
    assert json.loads(json.dumps(problem.as_dict()))["allowed"][0] == "euler"


def test_a_missing_node_names_the_likeliest(trivial: Graph, object_info: ObjectInfo) -> None:
    trivial["1"]["class_type"] = "EmptyImages"
    problem = only(check(trivial, object_info))
    assert (problem.code, problem.node, problem.allowed[0]) == ("node_missing", "1", "EmptyImage")


def test_a_model_of_a_custom_loader_is_known_by_its_file(
    trivial: Graph, object_info_json: dict[str, Any]
) -> None:
    loader = {
        "input": {"required": {"unet": [["a.gguf"], {}]}},
        "output": ["IMAGE"],
    }
    info = ObjectInfo.parse({**object_info_json, "LoaderGGUF": loader})
    graph = {"1": {"class_type": "LoaderGGUF", "inputs": {"unet": "b.gguf"}}, "2": save(["1", 0])}
    problem = only(check(graph, info))
    assert (problem.code, problem.allowed) == ("model_missing", ("a.gguf",))


@pytest.mark.parametrize(
    ("image", "missing"),
    [
        ("example.png", False),
        ("atelier-0123.png", True),
        ("known.png", False),  # told as uploaded
        ("inbox/cat.png", False),  # the list leaves subfolders out
        ("cat.png [output]", False),
        ({"url": "https://example.org/cat.png"}, False),  # still to be uploaded
        ({"asset": "1"}, False),
        ("https://example.org/cat.png [x", False),
        (7, True),
    ],
)
def test_an_input_file_is_judged_by_what_is_known_of_the_instance(
    object_info: ObjectInfo, image: Any, missing: bool
) -> None:
    graph = {"1": {"class_type": "LoadImage", "inputs": {"image": image}}, "2": save(["1", 0])}
    codes = [problem.code for problem in check(graph, object_info, uploaded={"known.png"})]
    assert codes == (["file_missing"] if missing else [])


def test_a_picture_can_not_be_a_literal(object_info: ObjectInfo) -> None:
    problem = only(check({"2": save("cat.png")}, object_info))
    assert (problem.code, problem.input) == ("link_mistyped", "images")


@pytest.mark.parametrize(
    ("taken", "given", "fits"),
    [
        ("IMAGE", "IMAGE", True),
        ("IMAGE", "MASK", False),
        ("*", "LATENT", True),
        ("INT", "*", True),
        ("INT,FLOAT", "FLOAT", True),
        ("INT,FLOAT", "STRING,INT", True),
        ("INT,FLOAT", "STRING", False),
        ("IMAGE", "COMFY_MATCHTYPE_V3", True),
        ("COMFY_AUTOGROW_V3", "LATENT", True),
    ],
)
def test_links_fit_by_type(taken: str, given: str, fits: bool) -> None:
    info = ObjectInfo.parse(
        {
            "Source": {"input": {}, "output": [given]},
            "Sink": {"input": {"required": {"x": [taken]}}, "output": [], "output_node": True},
        }
    )
    graph = {
        "1": {"class_type": "Source", "inputs": {}},
        "2": {"class_type": "Sink", "inputs": {"x": ["1", 0]}},
    }
    assert (check(graph, info) == []) == fits


def test_a_list_that_only_the_node_knows_is_left_to_it() -> None:
    remote = ["COMBO", {"remote": {"route": "/files"}}]
    many = ["COMBO", {"options": ["a"], "multiselect": True}]
    inputs = {"required": {"x": remote, "y": many}}
    info = ObjectInfo.parse({"Sink": {"input": inputs, "output": [], "output_node": True}})
    graph = {"1": {"class_type": "Sink", "inputs": {"x": "anything", "y": ["a", "b"]}}}
    assert check(graph, info) == []


def test_a_cycle_tells_its_way(object_info: ObjectInfo) -> None:
    problem = only(check(parse_graph(ANSWERS["cycle"]["prompt"]), object_info))
    assert "1 <- 3 <- 1" in problem.message
