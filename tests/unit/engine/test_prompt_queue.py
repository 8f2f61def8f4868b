import threading

import pytest

from atelier.engine.prompt_queue import Ended, Prompt, PromptQueue

GRAPH = {"1": {"class_type": "PreviewAny", "inputs": {"source": 1}}}


def prompt(prompt_id: str, number: float = 0, **extra_data) -> Prompt:
    return Prompt(number, prompt_id, GRAPH, extra_data, ["1"])


def ended(*, succeeded: bool = True) -> Ended:
    return Ended(succeeded, {}, {}, [])


@pytest.fixture
def queue() -> PromptQueue:
    return PromptQueue(3, lambda remaining: None)


def run_all(queue: PromptQueue) -> list[str]:
    order = []
    while queue.remaining:
        running = queue.take()
        order.append(running.prompt.id)
        queue.finish(running, ended())
    return order


def test_lowest_number_goes_first_and_equal_ones_as_they_came(queue):
    for prompt_id, number in (("a", 1), ("b", 1), ("c", -1), ("d", 0.5)):
        queue.put(prompt(prompt_id, number))
    assert run_all(queue) == ["c", "d", "a", "b"]


def test_remaining_is_told_on_every_change():
    told = []
    queue = PromptQueue(3, told.append)
    queue.put(prompt("a"))
    queue.put(prompt("b"))
    queue.finish(queue.take(), ended())
    queue.delete(["b", "absent"])
    assert told == [1, 2, 2, 1, 0]


def test_same_id_posted_twice_runs_twice_and_is_deleted_once_at_a_time(queue):
    queue.put(prompt("a", 1))
    queue.put(prompt("a", 2))
    queue.put(prompt("a", 3))
    queue.delete(["a"])
    assert run_all(queue) == ["a", "a"]


def test_clear_drops_what_waits_but_not_what_runs(queue):
    queue.put(prompt("a"))
    running = queue.take()
    queue.put(prompt("b"))
    queue.clear()
    assert [len(queue.told()[key]) for key in ("queue_running", "queue_pending")] == [1, 0]
    assert not running.interrupt.is_set()


@pytest.mark.parametrize(
    ("prompt_id", "hit"), [("running", True), (None, True), ("waiting", False), ("gone", False)]
)
def test_interrupt_hits_the_running_prompt_only(queue, prompt_id, hit):
    queue.put(prompt("running"))
    running = queue.take()
    queue.put(prompt("waiting"))
    queue.interrupt(prompt_id)
    assert running.interrupt.is_set() is hit
    queue.finish(running, ended())
    assert not queue.take().interrupt.is_set()


def test_interrupt_without_anything_running_does_not_hit_the_next(queue):
    queue.interrupt(None)
    queue.put(prompt("a"))
    assert not queue.take().interrupt.is_set()


def test_history_keeps_the_newest_and_hides_credentials(queue):
    for prompt_id in "abcd":
        queue.put(prompt(prompt_id, api_key_comfy_org="secret", client_id="me"))
    run_all(queue)
    assert list(queue.history()) == ["b", "c", "d"]
    assert queue.history("a") == {}
    assert queue.history("d")["d"]["prompt"][3] == {"client_id": "me"}


@pytest.mark.parametrize(
    ("max_items", "offset", "ids"),
    [
        (None, -1, "abc"),
        (2, -1, "bc"),  # without an offset: the last ones
        (9, -1, "abc"),
        (2, 0, "ab"),
        (1, 1, "b"),
        (None, 2, "c"),
        (2, 7, ""),
        (0, 0, ""),
    ],
)
def test_history_pages(queue, max_items, offset, ids):
    for prompt_id in "abc":
        queue.put(prompt(prompt_id))
    run_all(queue)
    assert list(queue.history(max_items=max_items, offset=offset)) == list(ids)


def test_history_entries_are_deleted_and_cleared(queue):
    for prompt_id in "abc":
        queue.put(prompt(prompt_id))
    run_all(queue)
    queue.delete_history(["b", "absent"])
    assert list(queue.history()) == ["a", "c"]
    queue.clear_history()
    assert queue.history() == {}


def test_close_interrupts_what_runs_and_lets_a_waiting_worker_go(queue):
    queue.put(prompt("a"))
    running = queue.take()
    taken = []
    worker = threading.Thread(target=lambda: taken.append(queue.take()))
    worker.start()
    queue.close()
    worker.join(5)
    assert taken == [None]
    assert running.interrupt.is_set()


def test_free_is_told_to_the_worker_once(queue):
    queue.request_free()
    assert queue.take() is None
    assert queue.free_requested()
    assert not queue.free_requested()
