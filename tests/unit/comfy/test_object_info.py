import copy

import pytest

from atelier.comfy.object_info import ObjectInfo, model_folder
from atelier.comfy.protocol import ProtocolError


@pytest.fixture(scope="session")
def info(object_info_json) -> ObjectInfo:
    return ObjectInfo.parse(object_info_json)


def test_every_core_node_is_read(info, object_info_json):
    assert info.classes == frozenset(object_info_json)


def test_inputs_keep_their_order_and_bounds(info):
    sampler = info.node("KSampler")
    assert list(sampler.inputs) == [
        "model", "seed", "steps", "cfg", "sampler_name", "scheduler", "positive", "negative",
        "latent_image", "denoise",
    ]  # fmt: skip
    steps = sampler.inputs["steps"]
    assert (steps.type, steps.required, steps.default, steps.min, steps.max) == (
        "INT", True, 20, 1, 10000,
    )  # fmt: skip
    assert sampler.inputs["seed"].max == 2**64 - 1
    assert sampler.inputs["sampler_name"].type == "COMBO"
    assert "euler" in sampler.inputs["sampler_name"].choices
    assert sampler.outputs == ("LATENT",)
    assert not sampler.output_node
    assert info.node("SaveImage").output_node


def test_input_order_wins_over_the_order_of_keys():
    body = {
        "N": {
            "input": {"required": {"b": ["INT"], "a": ["INT"]}, "optional": {"c": ["INT"]}},
            "input_order": {"required": ["a", "b", "gone"]},
            "output": [],
        }
    }
    assert list(ObjectInfo.parse(body).node("N").inputs) == ["a", "b", "c"]


def test_hidden_inputs_are_left_out(info):
    assert list(info.node("SaveImage").inputs) == ["images", "filename_prefix"]


@pytest.mark.parametrize(
    ("spec", "choices"),
    [
        ([["a", "b"], {"tooltip": "t"}], ("a", "b")),
        ([["a"]], ("a",)),
        (["COMBO", {"options": ["a", 5]}], ("a", 5)),
        (["COMBO", {"options": [{"key": "a", "inputs": {}}]}], ("a",)),
        ([[]], ()),
        # fetched by the browser: what is there can't be known from here
        (["COMBO", {"remote": {"route": "/internal/files/output"}}], None),
    ],
)
def test_both_spellings_of_a_choice(spec, choices):
    node = ObjectInfo.parse({"N": {"input": {"required": {"x": spec}}}}).node("N")
    assert node.inputs["x"].type == "COMBO"
    assert node.inputs["x"].choices == choices


@pytest.mark.parametrize(
    "node",
    [{}, {"input": None}, {"input": {"required": None}}, {"input": {"required": {"x": None}}},
     {"input": {"required": {"x": []}}}, {"input": {"required": {"x": ["INT", "odd"]}}},
     {"input": {"required": {"x": ["INT", {"min": "low"}]}}}, {"output": None},
     {"input": {"required": {"x": "IMAGE"}}, "input_order": ["x"]}],
)  # fmt: skip
def test_what_a_custom_node_describes_wrongly_breaks_nothing(node, object_info_json):
    info = ObjectInfo.parse({**object_info_json, "Odd": node})
    assert info.node("Odd") is not None
    assert info.model_files("checkpoints")


def test_models_are_found_by_folder(info):
    assert info.model_files("checkpoints") == ("tiny-a.safetensors", "tiny-b.safetensors")
    assert info.model_files("upscale_models") == ()
    assert info.model_files("no such folder") == ()
    assert info.choices("CheckpointLoaderSimple", "ckpt_name") == info.model_files("checkpoints")
    assert info.choices("NoSuchNode", "x") == ()
    assert info.choices("KSampler", "no such input") == ()


def test_loader_inputs_name_their_folder():
    assert model_folder("LoraLoader", "lora_name") == "loras"
    assert model_folder("LoraLoader", "strength_model") is None


def test_revision_changes_with_a_model_but_not_with_an_upload(info, object_info_json):
    uploaded = copy.deepcopy(object_info_json)
    uploaded["LoadImage"]["input"]["required"]["image"][0].append("new.png")
    assert ObjectInfo.parse(uploaded).revision == info.revision
    installed = copy.deepcopy(object_info_json)
    installed["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0].append("c.ckpt")
    assert ObjectInfo.parse(installed).revision != info.revision


@pytest.mark.parametrize("body", [[], None, {"error": "no"}])
def test_what_is_no_object_info_is_a_protocol_error(body):
    with pytest.raises(ProtocolError):
        ObjectInfo.parse(body)
