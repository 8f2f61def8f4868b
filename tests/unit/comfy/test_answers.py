import pytest

from atelier.comfy.answers import History, QueueState
from atelier.comfy.protocol import ProtocolError


def ending(golden, name: str, nth: int = 0) -> History:
    answers = [
        event["response"]["body"]
        for event in golden(name)
        if event["dir"] == "http" and event["request"]["path"].startswith("/history/")
    ]
    ((prompt_id, _),) = answers[nth].items()
    history = History.parse(prompt_id, answers[nth])
    assert history is not None
    return history


@pytest.mark.parametrize(
    ("session", "nth", "status"),
    [
        ("trivial", 0, "success"),
        ("text_to_image_again_cached", 0, "success"),
        ("save_image_websocket", 0, "success"),
        ("execution_error", 0, "error"),
        # ComfyUI calls an interrupt an error
        ("interrupted", 0, "interrupted"),
        ("interrupted", 1, "success"),
    ],
)
def test_history_tells_how_a_prompt_ended(golden, session, nth, status):
    history = ending(golden, session, nth)
    assert history.status == status
    assert (history.error is not None) == (status == "error")
    assert (history.interrupted is not None) == (status == "interrupted")


def test_history_keeps_outputs_and_graph(golden):
    history = ending(golden, "trivial")
    assert history.outputs["2"]["images"][0]["filename"] == "golden_00010_.png"
    assert history.graph["2"]["class_type"] == "SaveImage"


def test_messages_decide_over_a_status_left_from_the_prompt_before():
    # ComfyUI 0.3.64 sets the flag after each node, not when it fails between two.
    error = ["execution_error", {"prompt_id": "p", "node_id": "1", "exception_type": "E"}]
    status = {"status_str": "success", "completed": True, "messages": [error]}
    history = History.parse("p", {"p": {"outputs": {}, "status": status}})
    assert history is not None
    assert history.status == "error"


@pytest.mark.parametrize(
    ("status", "expected"),
    [(None, "success"), ({"status_str": "error"}, "error"), ({"messages": None}, "success")],
)
def test_history_without_messages_is_read_too(status, expected):
    history = History.parse("p", {"p": {"outputs": {"1": None}, "status": status}})
    assert history is not None
    assert (history.status, history.outputs, history.graph) == (expected, {}, {})


def test_prompt_that_has_not_ended_has_no_history():
    assert History.parse("p", {}) is None


@pytest.mark.parametrize("body", [{"p": {}}, {"p": []}, {"p": {"outputs": None}}])
def test_odd_history_is_a_protocol_error(body):
    with pytest.raises(ProtocolError):
        History.parse("p", body)


def test_queue_lists_ids_in_the_order_in_which_they_run():
    # a heap: sorted by number, not by place
    state = QueueState.parse(
        {"queue_running": [[3, "r", {}]], "queue_pending": [[-1, "b"], [7, "d"], [2, "c"]]}
    )
    assert state == QueueState(("r",), ("b", "c", "d"))
    assert [state.place(p) for p in ("r", "c", "x")] == ["running", "pending", None]


@pytest.mark.parametrize("body", [None, {}, {"queue_running": [[]], "queue_pending": []}])
def test_odd_queue_is_a_protocol_error(body):
    with pytest.raises(ProtocolError):
        QueueState.parse(body)
