"""What an instance has loaded, by what it says of prompts."""

import pytest

from atelier.comfy.messages import (
    Executing,
    ExecutionCached,
    ExecutionError,
    ExecutionStart,
    ExecutionSuccess,
)
from atelier.pool.warmth import Warmth


def graph(*files):
    nodes = {
        str(number): {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": file}}
        for number, file in enumerate(files, start=1)
    }
    return {**nodes, "9": {"class_type": "KSampler", "inputs": {"steps": 1}}}


class Instance:
    """Runs prompts as ComfyUI tells of them; ``has`` are the files that it keeps."""

    def __init__(self):
        self.warmth = Warmth()
        self.now = 0.0
        self.count = 0

    def run(self, *files, has=(), load_ms=1000.0, ends=None, usual_ms=None):
        began = self.now
        self.count += 1
        prompt = f"p{self.count}"
        self.warmth.submitting(prompt, graph(*files))
        self.hear(ExecutionStart(prompt))
        cached = tuple(str(n) for n, file in enumerate(files, start=1) if file in has)
        self.hear(ExecutionCached(prompt, cached))
        for number, file in enumerate(files, start=1):
            if file not in has:
                self.hear(Executing(prompt, str(number)))
                self.now += load_ms
        self.hear(Executing(prompt, "9"))
        self.now += 300
        self.hear(ends or ExecutionSuccess(prompt))
        if ends is None:
            taken = self.now - began
            return self.warmth.ran(prompt, taken, usual_ms)
        return None

    def hear(self, message):
        self.warmth.heard(message, self.now)


@pytest.fixture
def instance():
    return Instance()


def test_nothing_is_warm_at_first(instance):
    assert instance.warmth.warm == frozenset()
    assert instance.warmth.cost_ms("a") is None


def test_what_ran_last_is_warm_and_what_loading_took_is_known(instance):
    instance.run("a.safetensors")
    assert instance.warmth.warm == {"a.safetensors"}
    assert instance.warmth.switch_ms == {"a.safetensors": 1000}
    instance.run("b.safetensors", load_ms=2000)
    assert instance.warmth.warm == {"b.safetensors"}
    # of what was never loaded: as others on average
    assert instance.warmth.cost_ms("c.safetensors") == 1500


def test_warm_run_tells_nothing_of_the_cost(instance):
    instance.run("a.safetensors")
    instance.run("a.safetensors", has=["a.safetensors"])
    assert instance.warmth.switch_ms == {"a.safetensors": 1000}


def test_key_of_several_files_means_each_too(instance):
    instance.run("b.safetensors", "a.safetensors")
    assert instance.warmth.warm == {
        "a.safetensors+b.safetensors",
        "a.safetensors",
        "b.safetensors",
    }
    assert instance.warmth.switch_ms == {"a.safetensors+b.safetensors": 2000}


def test_instance_that_keeps_two_is_found_out_and_unlearned(instance):
    instance.run("a.ckpt")
    instance.run("b.ckpt")
    assert instance.warmth.warm == {"b.ckpt"}
    instance.run("a.ckpt", has=["a.ckpt", "b.ckpt"])
    assert instance.warmth.warm == {"a.ckpt", "b.ckpt"}
    instance.run("b.ckpt", has=["a.ckpt"])
    assert instance.warmth.warm == {"b.ckpt"}


def test_first_load_which_takes_longer_than_others_does_not_stay(instance):
    for load_ms in (9000, 1000, 1200):
        instance.run("a.ckpt", load_ms=load_ms)
    assert instance.warmth.switch_ms == {"a.ckpt": 1200}


def test_what_it_took_longer_than_a_warm_run_was_loading_too(instance):
    # 300 ms of sampling: with 100 ms as usual, 200 ms of it were loading
    assert instance.run("a.ckpt", usual_ms=100) == 1000
    assert instance.warmth.switch_ms == {"a.ckpt": 1200}
    assert instance.run("a.ckpt", has=["a.ckpt"], usual_ms=100) is None
    assert instance.warmth.switch_ms == {"a.ckpt": 1200}


def test_failed_run_has_loaded_but_its_time_does_not_count(instance):
    instance.run("a.ckpt", ends=ExecutionError("p1", "9", "KSampler", "X", "broken"))
    assert instance.warmth.warm == {"a.ckpt"}
    assert instance.warmth.switch_ms == {}


def test_restart_and_unloading_clear_it(instance):
    instance.run("a.ckpt")
    instance.warmth.clear()
    assert instance.warmth.warm == frozenset()
    assert instance.warmth.switch_ms == {"a.ckpt": 1000}


def test_prompt_of_somebody_else_takes_the_place(instance):
    instance.run("a.ckpt")
    instance.warmth.foreign(graph("b.ckpt"))
    assert instance.warmth.warm == {"b.ckpt"}
    instance.warmth.foreign({"1": {"class_type": "SaveImage", "inputs": {}}, "2": "odd"})
    assert instance.warmth.warm == {"b.ckpt"}


def test_graph_without_models_changes_nothing(instance):
    instance.run("a.ckpt")
    instance.run()
    assert instance.warmth.warm == {"a.ckpt"}


def test_next_worker_begins_with_what_is_reported(instance):
    instance.warmth.restore(("a.ckpt", "b.ckpt"), {"a.ckpt": 5.0})
    assert instance.warmth.warm == {"a.ckpt", "b.ckpt"}
    assert instance.warmth.cost_ms("a.ckpt") == 5


def test_prompts_that_are_never_heard_of_are_forgotten(instance):
    for number in range(200):
        instance.warmth.submitting(f"x{number}", graph("a.ckpt"))
    assert len(instance.warmth._prompts) <= 64
