"""Events as the workflow service's messages, and our codes as its eight."""

from typing import get_args

import pytest

from atelier.api.problems import Problem
from atelier.api.workflow_service.errors import CODES, Code, problem_json, run_error_json
from atelier.api.workflow_service.messages import Made, Messages
from atelier.events import event
from atelier.service import OutputView


@pytest.fixture
def messages():
    told = Messages("http://here")

    def of(one, texts=None, previews=()):
        outputs = [OutputView(**output) for output in one.data.get("outputs", ())]
        made = Made(outputs, previews, texts or {})
        return list(told.of(one, remaining=2, made=made))

    return of


def kinds(told):
    return [message["type"] for message in told]


def output(**changes):
    known = {
        "id": "asset",
        "url": "/v1/assets/asset/content",
        "thumbnail_url": None,
        "media_type": "image/png",
        "width": 8,
        "height": 8,
        "size_bytes": 100,
        "node": "9",
        "filename": "a_00001_.png",
        "source": {"key": "images", "subfolder": "cats", "type": "output"},
    }
    return OutputView(**(known | changes)).as_dict()


def progress(**changes):
    known = {"percent": 40, "step": 3, "steps": 20, "node": "3"}
    return event.progress("j", "u", **(known | changes))


def test_node_is_told_once_however_it_is_heard_of(messages):
    assert kinds(messages(event.executing("j", "u", node="3"))) == ["executing"]
    assert kinds(messages(progress())) == ["progress"]
    assert kinds(messages(event.executing("j", "u", node="3"))) == []
    assert kinds(messages(progress(node="4"))) == ["executing", "progress"]


def test_steps_are_the_nodes_where_it_tells_any(messages):
    (_, told) = messages(progress())
    assert told["data"] == {
        "prompt_id": "j",
        "node": "3",
        "value": 3,
        "max": 20,
        "percent": 40,
    }
    (told,) = messages(progress(step=None, steps=None))
    assert (told["data"]["value"], told["data"]["max"]) == (40, 100)


def test_run_in_another_process_is_told_by_its_progress_and_its_end(messages):
    messages(progress())
    told = messages(event.finished("j", "u", outputs=[output()]))
    assert kinds(told) == ["executed", "executing", "status", "result"]
    assert told[0]["data"]["output"] == {
        "images": [{"filename": "a_00001_.png", "subfolder": "j/cats", "type": "output"}]
    }
    assert told[1]["data"]["node"] is None
    assert told[3]["data"]["images"][0]["url"] == "http://here/v1/assets/asset/content"


def test_what_a_node_has_told_isnt_told_again_at_the_end(messages):
    made = {"images": [{"filename": "a_00001_.png", "subfolder": "cats", "type": "output"}]}
    (told,) = messages(event.executed("j", "u", node="9", output=made))
    assert told["data"]["output"]["images"][0]["subfolder"] == "j/cats"
    assert kinds(messages(event.finished("j", "u", outputs=[output()]))) == [
        "executing",
        "status",
        "result",
    ]


def test_previews_are_told_beside_the_results_but_are_none(messages):
    shown = OutputView(**output(id="p", node="4", source={"key": "images", "type": "temp"}))
    told = messages(event.finished("j", "u", outputs=[output()]), previews=[shown])
    assert kinds(told)[:2] == ["executed", "executed"]
    assert told[-1]["data"]["outputs"]["4"]["images"][0]["type"] == "temp"
    assert [image["node"] for image in told[-1]["data"]["images"]] == ["9"]


def test_output_of_another_kind_stands_under_its_own_key(messages):
    outputs = [
        output(id="v", media_type="video/mp4", source={"key": "gifs", "type": "temp"}),
        output(id="t", media_type="text/plain", node="5", source={"key": "text"}),
        output(id="w", node="7", filename="0.png", source=None),
    ]
    told = messages(event.finished("j", "u", outputs=outputs), {"t": "hello"})
    assert told[-1]["data"]["outputs"] == {
        "9": {"gifs": [{"filename": "a_00001_.png", "subfolder": "j", "type": "temp"}]},
        "5": {"text": ["hello"]},
        "7": {"images": [{"filename": "0.png", "subfolder": "j", "type": "output"}]},
    }
    assert [image["node"] for image in told[-1]["data"]["images"]] == ["7"]


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ("queued", ["status"]),
        ("running", ["status", "executing", "progress"]),
        ("succeeded", ["executed", "executing", "status", "result"]),
        ("failed", ["executing", "status", "execution_error"]),
        ("cancelled", ["executing", "status", "execution_error"]),
    ],
)
def test_present_state_is_told_to_who_comes_late(messages, status, told):
    at = {"percent": 40, "step": 3, "steps": 20, "node": "3"}
    error = {"code": "TASK_TIMEOUT", "message": "Too long."} if status == "failed" else None
    outputs = [output()] if status == "succeeded" else []
    snapshot = event.snapshot(
        "j", "u", status=status, progress=at, outputs=outputs, error=error, position=4
    )
    assert kinds(messages(snapshot)) == told


def test_interrupted_run_says_so(messages):
    told = messages(event.cancelled("j", "u"))
    assert told[-1]["data"]["details"]["interrupted"]
    assert told[1]["data"]["state"] == "interrupted"


def test_each_code_can_be_told():
    reached = set(CODES.values())
    assert reached == set(get_args(Code))


@pytest.mark.parametrize("otherwise", get_args(Code))
def test_code_that_isnt_mapped_is_that_of_what_was_asked(otherwise):
    told = problem_json(Problem("INVALID_REQUEST", 422, "Wrong.", "Mend it."), otherwise)
    assert told == {
        "code": otherwise,
        "message": "Wrong.",
        "details": {"reason": "INVALID_REQUEST", "hint": "Mend it.", "retryable": False},
    }


def test_failure_of_a_run_keeps_what_is_known_of_the_node():
    error = {"code": "WORKFLOW_EXECUTION_ERROR", "message": "m", "node": "3"}
    told = run_error_json({**error, "data": {"node_type": "KSampler", "traceback": ["t"]}})
    assert told["details"]["node_type"] == "KSampler"
    assert told["details"]["traceback"] == ["t"]
    assert told["details"]["node"] == "3"
