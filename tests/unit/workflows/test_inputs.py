import random
from typing import Any

import pytest

from atelier.workflows.bind import (
    InputMissing,
    InputMistyped,
    InputNotAChoice,
    InputOutOfRange,
    InputProblem,
    InputsInvalid,
    InputUnknown,
    complete,
    draws_seed,
    image_refs,
    seed_of,
)
from atelier.workflows.library import Workflow
from atelier.workflows.manifest import Input, Manifest
from atelier.workflows.values import normalise

IMAGE = "https://example.org/cat.png"
ASSET = "0199d3a4-0000-7000-8000-000000000000"


def entry(type: str, **fields: Any) -> Input:
    return Input.model_validate({"name": "x", "type": type, **fields})


def manifest_of(*inputs: Input) -> Manifest:
    variant = {"name": "v", "kind": "custom", "graph": "v.json"}
    return Manifest.model_validate(
        {"name": "m", "title": "M", "inputs": inputs, "variants": [variant]}
    )


@pytest.mark.parametrize(
    ("given", "value", "normalised"),
    [
        (entry("text"), "  kept as it is ", "  kept as it is "),
        (entry("integer"), 5, 5),
        (entry("integer"), 5.0, 5),
        (entry("integer"), "5", 5),  # forms have nothing but texts
        (entry("integer", min=64, step=8), 70, 72),
        (entry("integer", min=64, max=100, step=8), 100, 96),  # the last step within the range
        (entry("integer"), 2**62 + 1, 2**62 + 1),  # no detour through a float
        (entry("float"), 1, 1.0),
        (entry("float"), "0.5", 0.5),
        (entry("float", min=0, max=1, step=0.01), 0.617, 0.62),
        (entry("float", min=0, max=1, step=0.1), 0.3, 0.3),  # not 0.30000000000000004
        (entry("float", min=0, max=1, step=0.01), 1e-9, 0.0),
        (entry("boolean"), True, True),
        (entry("boolean"), "no", False),
        (entry("choice", choices=["a", "b"]), "b", "b"),
        (entry("choice", choices=[4, 8]), "8", 8),
        (entry("image"), IMAGE, {"url": IMAGE}),
        (entry("image"), f" {IMAGE}\n", {"url": IMAGE}),
        (entry("image"), "HTTP://example.org/x", {"url": "HTTP://example.org/x"}),
        (entry("image"), "data:image/png;base64,AA==", {"url": "data:image/png;base64,AA=="}),
        (entry("image"), f"asset:{ASSET}", {"asset": ASSET}),
        (entry("mask"), {"asset": ASSET}, {"asset": ASSET}),
        (entry("image"), {"url": IMAGE}, {"url": IMAGE}),
        (entry("seed"), 2**53 - 1, 2**53 - 1),
        (entry("seed", max=2**64 - 1), 2**64 - 1, 2**64 - 1),
        (entry("model", folder="loras"), "a.safetensors", "a.safetensors"),
        (entry("size"), "640x480", {"width": 640, "height": 480}),
        (entry("size", step=8), {"width": 641, "height": 487}, {"width": 640, "height": 488}),
        (entry("any"), ["4", 0], ["4", 0]),
    ],
)
def test_a_value_takes_the_one_form_of_its_type(given: Input, value: Any, normalised: Any) -> None:
    result = normalise(given, value)
    assert result == normalised
    assert type(result) is type(normalised)


@pytest.mark.parametrize(
    ("given", "value", "error"),
    [
        (entry("text"), 3, InputMistyped),
        (entry("text", max=3), "four", InputMistyped),
        (entry("integer"), 5.5, InputMistyped),
        (entry("integer"), "five", InputMistyped),
        (entry("integer"), True, InputMistyped),
        (entry("integer", max=4), 5, InputOutOfRange),
        (entry("float"), float("nan"), InputMistyped),
        (entry("float"), "inf", InputMistyped),
        (entry("float"), [1], InputMistyped),
        (entry("float", min=0, max=1), 7, InputOutOfRange),
        (entry("float", min=0, max=1), -0.001, InputOutOfRange),
        (entry("boolean"), 1, InputMistyped),
        (entry("choice", choices=["a", "b"]), "c", InputNotAChoice),
        (entry("choice", choices=["a", "b"]), ["a"], InputNotAChoice),
        (entry("choice", choices=[1, 2]), True, InputNotAChoice),
        (entry("image"), "cat.png", InputMistyped),
        (entry("image"), "file:///etc/passwd", InputMistyped),
        (entry("image"), "asset:", InputMistyped),
        (entry("image"), {"url": IMAGE, "asset": ASSET}, InputMistyped),
        (entry("image"), {"path": "x"}, InputMistyped),
        (entry("image"), {"url": 3}, InputMistyped),
        (entry("seed"), 2**53, InputOutOfRange),
        (entry("seed"), -2, InputOutOfRange),
        (entry("seed"), 1.5, InputMistyped),
        (entry("model", folder="loras"), 3, InputMistyped),
        (entry("size"), "big", InputMistyped),
        (entry("size"), {"width": 3}, InputMistyped),
        (entry("size", max=64), "65x64", InputOutOfRange),
    ],
)
def test_a_wrong_value_is_refused_naming_the_input(
    given: Input, value: Any, error: type[InputProblem]
) -> None:
    with pytest.raises(error) as caught:
        normalise(given, value)
    assert caught.value.input == "x"
    assert caught.value.message.startswith("x ")
    assert len(caught.value.message) < 300


def test_a_long_value_does_not_fill_the_message() -> None:
    with pytest.raises(InputMistyped) as caught:
        normalise(entry("image"), "x" * 10_000_000)
    assert len(caught.value.message) < 300


def test_all_problems_come_at_once(style_change: Workflow) -> None:
    with pytest.raises(InputsInvalid) as caught:
        complete(
            style_change.manifest,
            {"style": "clya", "strength": 7, "steps": "many", "colour": "red"},
            rng=random.Random(1),
        )
    kinds = {problem.input: type(problem) for problem in caught.value.problems}
    assert kinds == {
        "image": InputMissing,
        "style": InputNotAChoice,
        "strength": InputOutOfRange,
        "steps": InputMistyped,
        "colour": InputUnknown,
    }
    told = {problem["input"]: problem for problem in caught.value.data["problems"]}
    assert told["strength"]["code"] == "INPUT_OUT_OF_RANGE"
    assert (told["strength"]["minimum"], told["strength"]["maximum"]) == (0, 1)
    assert told["strength"]["problem"] == "must be at least 0 and at most 1, not 7"


def test_an_unknown_style_is_answered_with_the_known_ones(style_change: Workflow) -> None:
    with pytest.raises(InputsInvalid) as caught:
        complete(style_change.manifest, {"image": IMAGE, "style": "anme"}, rng=random.Random(1))
    (problem,) = caught.value.problems
    assert isinstance(problem, InputNotAChoice)
    assert problem.data["allowed"][0] == "anime"  # the likeliest first
    assert set(problem.data["allowed"]) == {"clay", "anime", "realistic", "cartoon", "oil_painting"}


def test_defaults_are_filled_in_and_a_model_waits_for_an_instance(style_change: Workflow) -> None:
    inputs = complete(style_change.manifest, {"image": IMAGE}, rng=random.Random(1))
    seed = inputs.pop("seed")
    assert 0 <= seed < 2**53
    assert inputs == {
        "image": {"url": IMAGE},
        "style": "clay",
        "strength": 0.6,
        "steps": 20,
        "cfg": 7.0,
        "megapixels": 1.0,
    }


@pytest.mark.parametrize("left_out", [{}, {"seed": None}, {"seed": -1}, {"seed": "-1"}])
def test_a_seed_left_out_is_drawn_from_the_generator_given(
    style_change: Workflow, left_out: dict[str, Any]
) -> None:
    given = {"image": IMAGE, **left_out}
    drawn = [
        complete(style_change.manifest, given, rng=random.Random(n))["seed"] for n in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    inputs = complete(style_change.manifest, given, rng=random.Random(1))
    assert seed_of(style_change.manifest, inputs) == drawn[0]


def test_both_ends_of_the_seed_range_are_drawn() -> None:
    manifest = manifest_of(entry("seed", min=3, max=4))
    rng = random.Random(1)
    assert {complete(manifest, {}, rng=rng)["x"] for _ in range(50)} == {3, 4}


def test_a_given_seed_is_kept(style_change: Workflow) -> None:
    inputs = complete(style_change.manifest, {"image": IMAGE, "seed": 0}, rng=random.Random(1))
    assert inputs["seed"] == 0


def test_null_and_blank_texts_count_as_left_out(style_change: Workflow) -> None:
    given = {"image": IMAGE, "prompt": " ", "model": "", "style": None, "strength": None}
    inputs = complete(style_change.manifest, given, rng=random.Random(1))
    assert "prompt" not in inputs
    assert "model" not in inputs
    assert (inputs["style"], inputs["strength"]) == ("clay", 0.6)


def test_a_blank_required_image_is_missing(style_change: Workflow) -> None:
    with pytest.raises(InputsInvalid) as caught:
        complete(style_change.manifest, {"image": ""}, rng=random.Random(1))
    assert [type(problem) for problem in caught.value.problems] == [InputMissing]


def test_completed_inputs_complete_to_themselves(style_change: Workflow) -> None:
    once = complete(style_change.manifest, {"image": IMAGE}, rng=random.Random(1))
    assert complete(style_change.manifest, once, rng=random.Random(2)) == once


def test_pictures_to_be_brought_are_found_among_the_inputs(style_change: Workflow) -> None:
    inputs = complete(style_change.manifest, {"image": IMAGE}, rng=random.Random(1))
    assert image_refs(style_change.manifest, inputs) == {"image": {"url": IMAGE}}
    assert image_refs(style_change.manifest, {**inputs, "image": "atelier-1.png"}) == {}


@pytest.mark.parametrize(
    ("default", "inputs", "drawn"),
    [
        (None, {}, True),
        (None, {"x": None}, True),
        (None, {"x": -1}, True),
        (None, {"x": "-1"}, True),
        (None, {"x": 0}, False),
        (7, {}, False),  # the workflow has fixed it
        (-1, {}, True),
        (7, {"x": -1}, True),
    ],
)
def test_a_seed_is_drawn_where_it_is_left_to_chance(
    default: int | None, inputs: dict[str, Any], drawn: bool
) -> None:
    assert draws_seed(manifest_of(entry("seed", default=default)), inputs) is drawn


def test_what_has_no_seed_draws_none() -> None:
    assert not draws_seed(manifest_of(entry("text")), {})
