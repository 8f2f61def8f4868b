import pytest

from atelier.workflows.check import check
from atelier.workflows.copies import MOST, repeat, results
from atelier.workflows.manifest import Input, Manifest
from atelier.workflows.values import SEED_MAX
from atelier.workflows.workflow import build


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def sampled(seed=7):
    """A photo and a model, used by a sampler with a seed; saved, and looked at on the way."""
    return {
        "1": node("LoadImage", image="a.png"),
        "2": node("CheckpointLoaderSimple", ckpt_name="tiny.safetensors"),
        "3": node("KSampler", model=["2", 0], image=["1", 0], seed=seed),
        "4": node("VAEDecode", samples=["3", 0], vae=["2", 2]),
        "5": node("SaveImage", images=["4", 0], filename_prefix="art/fox"),
        "6": node("PreviewImage", images=["1", 0]),
    }


def manifest(*, outputs=("5",), targets=None, **seed):
    targets = {"seed": [{"node": "3", "input": "seed"}]} if targets is None else targets
    inputs = [{"name": "seed", "type": "seed", **seed}] if "seed" in targets else []
    variant = {
        "name": "v",
        "kind": "custom",
        "graph": "v.json",
        "targets": targets,
        "outputs": [{"node": node} for node in outputs],
    }
    return Manifest.model_validate(
        {"name": "w", "title": "W", "inputs": inputs, "variants": [variant]}
    )


def test_one_picture_is_the_graph_itself():
    graph = sampled()
    assert repeat(graph, manifest(), "v", {}) is graph
    assert repeat(graph, manifest(), "v", {"batch_size": 1}) is graph
    assert results(graph, manifest(), "v", {}) == ("5",)


def test_what_depends_on_the_seed_is_repeated_with_the_next_seeds():
    graph = sampled()
    repeated = repeat(graph, manifest(), "v", {"batch_size": 3})
    assert set(repeated) - set(graph) == {"3-2", "4-2", "5-2", "3-3", "4-3", "5-3"}
    assert [repeated[id]["inputs"]["seed"] for id in ("3", "3-2", "3-3")] == [7, 8, 9]
    assert repeated["5-2"]["inputs"]["images"] == ["4-2", 0]
    # One model and one photo for all.
    assert repeated["4-3"]["inputs"] == {"samples": ["3-3", 0], "vae": ["2", 2]}
    assert repeated["3-3"]["inputs"]["image"] == ["1", 0]
    assert results(graph, manifest(), "v", {"batch_size": 3}) == ("5", "5-2", "5-3")
    assert graph == sampled()


def test_without_a_seed_the_result_is_saved_again_as_another_file():
    repeated = repeat(sampled(), manifest(targets={}), "v", {"batch_size": 2})
    assert set(repeated) - set(sampled()) == {"5-2"}
    assert repeated["5-2"]["inputs"] == {"images": ["4", 0], "filename_prefix": "art/fox_2"}


def test_without_declared_outputs_all_that_end_the_graph_are_saved_again():
    given = manifest(targets={}, outputs=())
    repeated = repeat(sampled(), given, "v", {"batch_size": 2})
    assert set(repeated) - set(sampled()) == {"5-2", "6-2"}
    assert results(sampled(), given, "v", {}) == ()
    counting = results(sampled(), given, "v", {"batch_size": 2})
    assert [node for node in counting if node in repeated] == [*sampled(), "5-2", "6-2"]


@pytest.mark.parametrize(
    ("seed", "bounds", "expected"),
    [
        (SEED_MAX, {}, [SEED_MAX, 0, 1]),
        (9, {"min": 5, "max": 10}, [9, 10, 5]),
        (5, {"min": 5, "max": 5}, [5, 5, 5]),
    ],
)
def test_seeds_go_on_from_the_least_after_the_largest(seed, bounds, expected):
    repeated = repeat(sampled(seed), manifest(**bounds), "v", {"batch_size": 3})
    assert [repeated[id]["inputs"]["seed"] for id in ("3", "3-2", "3-3")] == expected


def test_seed_that_became_a_text_stays_as_it_is():
    repeated = repeat(sampled("seed 7"), manifest(), "v", {"batch_size": 2})
    assert "3-2" not in repeated
    assert "5-2" in repeated


def test_graph_that_makes_several_by_itself_is_not_repeated():
    targets = {"batch_size": [{"node": "3", "input": "seed"}]}
    graph = sampled()
    assert repeat(graph, manifest(targets=targets), "v", {"batch_size": 4}) is graph
    assert results(graph, manifest(targets=targets), "v", {"batch_size": 4}) == ("5",)


def test_copies_take_no_name_that_the_graph_has():
    graph = sampled() | {"5-2": node("SaveImage", images=["1", 0])}
    repeated = repeat(graph, manifest(), "v", {"batch_size": 2})
    assert repeated["5-2"] == graph["5-2"]
    assert repeated["5-2'"]["inputs"]["images"] == ["4-2", 0]
    assert results(graph, manifest(), "v", {"batch_size": 2}) == ("5", "5-2'")


def test_every_registered_workflow_can_make_several_pictures(style_change, object_info):
    entry = style_change.manifest.input("batch_size")
    assert (entry.type, entry.min, entry.max, entry.default) == ("integer", 1, MOST, None)
    for variant in style_change.manifest.variants:
        graph = style_change.graphs[variant.name]
        repeated = repeat(graph, style_change.manifest, variant.name, {"batch_size": MOST})
        assert len(repeated) > len(graph)
        # Nothing is wrong with the copies that wasn't wrong before.
        codes = {problem.code for problem in check(graph, object_info)}
        assert {problem.code for problem in check(repeated, object_info)} == codes


def test_workflows_own_batch_size_is_left_alone():
    own = Input(name="batch_size", type="integer", min=1, max=16, default=2)
    given = manifest().model_copy(update={"inputs": (*manifest().inputs, own)})
    built = build(given, {"v": sampled()}, {})
    assert [entry for entry in built.manifest.inputs if entry.name == "batch_size"] == [own]
