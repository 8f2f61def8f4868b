import random
import time
from typing import Any

import pytest

from atelier.comfy.object_info import ObjectInfo
from atelier.workflows.bind import InputsInvalid, InputUnknown, bind, complete, image_refs, seed_of
from atelier.workflows.check import check
from atelier.workflows.graph import Graph, GraphMalformed
from atelier.workflows.library import ModelNeed, Workflow, inline, requirements, satisfied

CAT = "https://example.org/cat.png"


def run(workflow: Workflow, inputs: dict[str, Any]) -> Graph:
    completed = complete(workflow.manifest, inputs, rng=random.Random(1))
    (alternative,) = requirements(workflow, completed)
    graph = workflow.graphs[alternative.variant]
    return bind(graph, workflow.manifest, alternative.variant, completed)


@pytest.fixture
def restyle() -> Graph:
    return {
        "3": {"class_type": "Sampler", "inputs": {"seed": 7, "text": CAT}},
        "10": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
        "12:3": {"class_type": "SaveImage", "inputs": {"images": ["10", 0], "a.b": 1}},
    }


def test_a_graph_runs_as_it_stands(trivial: Graph, object_info: ObjectInfo) -> None:
    workflow = inline(trivial, {})
    graph = run(workflow, {})
    assert graph == trivial
    assert check(graph, object_info) == []
    (alternative,) = requirements(workflow, {})
    assert satisfied(alternative, object_info) == []
    assert alternative.classes == {"EmptyImage", "SaveImage"}


def test_seeds_in_a_graph_are_left_alone(restyle: Graph) -> None:
    workflow = inline(restyle, {})
    assert run(workflow, {})["3"]["inputs"]["seed"] == 7
    assert seed_of(workflow.manifest, {}) is None


def test_inputs_are_written_where_their_keys_say(restyle: Graph) -> None:
    inputs = {"3.seed": 5, "12:3.a.b": [1, 2]}
    graph = run(inline(restyle, inputs), inputs)
    assert graph["3"]["inputs"]["seed"] == 5
    assert graph["12:3"]["inputs"]["a.b"] == [1, 2]
    assert restyle["3"]["inputs"]["seed"] == 7


def test_all_keys_that_name_nothing_are_refused_at_once(restyle: Graph) -> None:
    with pytest.raises(InputsInvalid) as caught:
        inline(restyle, {"3.sed": 5, "4.seed": 5, "sampler": 5, "3.seed": 1})
    assert [problem.input for problem in caught.value.problems] == ["3.sed", "4.seed", "sampler"]
    assert all(isinstance(problem, InputUnknown) for problem in caught.value.problems)
    assert caught.value.problems[0].data["allowed"][0] == "3.seed"


def test_words_mean_what_is_found_in_the_graph(restyle: Graph) -> None:
    """Callers who send a graph say `seed` and `image_url`, as they would for a named workflow."""
    inputs = {"seed": -1, "image_url": CAT, "12:3.a.b": 2}
    workflow = inline(restyle, inputs)
    completed = complete(workflow.manifest, inputs, rng=random.Random(1))
    assert seed_of(workflow.manifest, completed) == completed["seed"] >= 0
    assert image_refs(workflow.manifest, completed) == {"image_url": {"url": CAT}}
    graph = bind(
        workflow.graphs["graph"], workflow.manifest, "graph", {**completed, "image_url": "cat.png"}
    )
    assert graph["3"]["inputs"]["seed"] == completed["seed"]
    assert graph["10"]["inputs"]["image"] == "cat.png"
    assert graph["12:3"]["inputs"]["a.b"] == 2


@pytest.mark.parametrize("image", [CAT, {"url": CAT}, {"asset": "1"}, "asset:1"])
def test_a_given_picture_is_brought_and_its_file_written(restyle: Graph, image: Any) -> None:
    workflow = inline(restyle, {"10.image": image})
    inputs = complete(workflow.manifest, {"10.image": image}, rng=random.Random(1))
    ref = {"url": CAT} if CAT in str(image) else {"asset": "1"}
    assert image_refs(workflow.manifest, inputs) == {"10.image": ref}
    graph = bind(
        workflow.graphs["graph"], workflow.manifest, "graph", {**inputs, "10.image": "up.png"}
    )
    assert graph["10"]["inputs"]["image"] == "up.png"


def test_pictures_in_the_graph_itself_become_inputs(restyle: Graph) -> None:
    restyle["10"]["inputs"]["image"] = CAT
    workflow = inline(restyle, {})
    inputs = complete(workflow.manifest, {}, rng=random.Random(1))
    assert inputs == {"10.image": {"url": CAT}}
    # The worker reads graph and inputs back from the database.
    again = inline(restyle, inputs)
    assert image_refs(again.manifest, inputs) == {"10.image": {"url": CAT}}


def test_an_address_in_a_text_is_a_text(restyle: Graph) -> None:
    inputs = {"3.text": "http://example.org"}
    workflow = inline(restyle, inputs)
    assert image_refs(workflow.manifest, complete(workflow.manifest, inputs, rng=random)) == {}
    assert run(workflow, inputs)["3"]["inputs"]["text"] == "http://example.org"


def test_a_file_of_the_instance_is_named_plainly(restyle: Graph) -> None:
    inputs = {"10.image": "other.png"}
    assert run(inline(restyle, inputs), inputs)["10"]["inputs"]["image"] == "other.png"


def test_a_model_given_as_input_is_required() -> None:
    loader = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.ckpt"}}
    workflow = inline({"4": loader}, {"4.ckpt_name": "b.ckpt"})
    (alternative,) = requirements(workflow, {"4.ckpt_name": "b.ckpt"})
    assert alternative.models == (
        ModelNeed("CheckpointLoaderSimple", "ckpt_name", "checkpoints", "b.ckpt"),
    )


def test_a_malformed_graph_is_refused() -> None:
    with pytest.raises(GraphMalformed):
        inline({"nodes": [], "links": []}, {})


def test_the_way_from_graph_to_requirement_is_short(trivial: Graph) -> None:
    def once() -> float:
        start = time.perf_counter()
        workflow = inline(trivial, {})
        completed = complete(workflow.manifest, {}, rng=random.Random(1))
        (alternative,) = requirements(workflow, completed)
        bind(workflow.graphs["graph"], workflow.manifest, "graph", completed)
        hash(alternative)
        return time.perf_counter() - start

    # The best of many, so that a busy machine doesn't decide; it takes about a tenth of this.
    assert min(once() for _ in range(50)) < 0.001
