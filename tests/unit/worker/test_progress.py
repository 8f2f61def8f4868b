"""The meter, by tables and by what a real ComfyUI sent."""

import base64
import json
from pathlib import Path

import pytest

from atelier.comfy.messages import (
    Executed,
    Executing,
    ExecutionCached,
    NodeProgress,
    Progress,
    ProgressState,
)
from atelier.comfy.protocol import decode_binary, decode_text
from atelier.jobs.job import Progress as JobProgress
from atelier.worker.progress import EXECUTED, SUBMITTED, ProgressMeter, is_sampler

GOLDEN = Path(__file__).parents[2] / "golden"
P = "prompt"


def graph(*class_types):
    return {str(n): {"class_type": kind, "inputs": {}} for n, kind in enumerate(class_types, 1)}


def finished(*nodes):
    return ProgressState(P, {node: NodeProgress(node, 1, 1, "finished") for node in nodes})


@pytest.mark.parametrize(
    ("class_types", "messages", "percent"),
    [
        # nothing happened yet
        (("A", "B"), [], 30),
        # one of two equal nodes has ended: half of 30..95
        (("A", "B"), [finished("1")], 62),
        (("A", "B"), [finished("1", "2")], 95),
        # a cached node counts as done at once
        (("A", "B"), [ExecutionCached(P, ("1",))], 62),
        # a sampler weighs fifty nodes: 25 of 51
        (("A", "KSampler"), [Progress(P, "2", 10, 20)], 30 + int(65 * 25 / 51)),
        # the plain node beside it hardly counts
        (("A", "KSampler"), [finished("1")], 31),
        # of two samplers the first makes half
        (("KSampler", "KSamplerAdvanced"), [finished("1")], 62),
        # more than the maximum is no more than all
        (("KSampler",), [Progress(P, "1", 30, 20)], 95),
        # nodes that the graph does not have (expanded there) are not counted
        (("A",), [finished("7.0.1")], 30),
        # the seconds of an old report don't take anything back
        (("KSampler",), [Progress(P, "1", 10, 20), Progress(P, "1", 5, 20)], 62),
        # a maximum of nothing says nothing
        (("KSampler",), [Progress(P, "1", 0, 0)], 30),
        # an empty graph is no division by zero
        ((), [finished("1")], 30),
    ],
)
def test_percent(class_types, messages, percent):
    meter = ProgressMeter(graph(*class_types))
    for message in messages:
        meter.take(message)
    assert meter.current.percent == percent


def test_steps_are_those_of_the_node_that_runs():
    meter = ProgressMeter(graph("KSampler", "A"))
    assert meter.take(Executing(P, "1")) == JobProgress(30, None, None, "1")
    assert meter.take(Progress(P, "1", 5, 20)) == JobProgress(45, 5, 20, "1")
    # The next node has none of its own.
    assert meter.take(Executing(P, "2")) == JobProgress(45, None, None, "2")
    # One of one is no step that anybody counts.
    assert meter.take(Progress(P, "2", 1, 1)).steps is None


def test_what_changes_nothing_is_no_news():
    meter = ProgressMeter(graph("KSampler"))
    assert meter.take(Executing(P, "1")) is not None
    assert meter.take(Executing(P, "1")) is None
    assert meter.take(Executing(P, None)) is None
    assert meter.take(Executed(P, "1", {})) is None
    assert meter.take(object()) is None


@pytest.mark.parametrize(
    ("class_type", "expected"),
    [
        ("KSampler", True),
        ("SamplerCustomAdvanced", True),
        ("AtelierStylise", True),
        ("SaveImage", False),
    ],
)
def test_samplers_are_known_by_name(class_type, expected):
    assert is_sampler(class_type) is expected


def replay(name):
    """(the progress after each message, the numbers of steps seen) of a recorded session."""
    events = [json.loads(line) for line in (GOLDEN / f"{name}.jsonl").read_text().splitlines()]
    body = next(
        event["request"]["body"]
        for event in events
        if event["dir"] == "http" and event["request"]["path"] == "/prompt"
    )
    prompt = next(
        event["response"]["body"]["prompt_id"]
        for event in events
        if event["dir"] == "http" and event["request"]["path"] == "/prompt"
    )
    meter = ProgressMeter(body["prompt"])
    seen = [meter.current]
    for event in events:
        if event["dir"] != "server":
            continue
        if "text" in event:
            message = decode_text(event["text"])
        else:
            message = decode_binary(base64.b64decode(event["binary"]))
        if getattr(message, "prompt_id", prompt) == prompt and meter.take(message):
            seen.append(meter.current)
    return seen


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("text_to_image_steps", EXECUTED),
        ("text_to_image_previews_metadata", EXECUTED),
        ("text_to_image_again_cached", EXECUTED),
        ("two_prompts_queued", EXECUTED),
        ("preview_and_save", EXECUTED),
        ("save_image_websocket", EXECUTED),
        ("batch_of_two", EXECUTED),
        ("trivial", EXECUTED),
        ("interrupted", None),
        ("execution_error", None),
    ],
)
def test_recorded_sessions_rise_to_their_end(name, last):
    seen = replay(name)
    percents = [progress.percent for progress in seen]
    assert percents == sorted(percents)
    assert percents[0] == SUBMITTED
    assert percents[-1] == last if last else percents[-1] < EXECUTED


@pytest.mark.parametrize("name", ["text_to_image_steps", "text_to_image_previews_metadata"])
def test_recorded_steps_arrive_one_by_one(name):
    steps = [(at.step, at.steps) for at in replay(name) if at.step]
    assert len(steps) >= 4
    assert [step for step, _ in steps] == sorted({step for step, _ in steps})
    assert steps[-1][0] == steps[-1][1]
