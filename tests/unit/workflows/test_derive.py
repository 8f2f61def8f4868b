import copy
from typing import Any

import pytest

from atelier.comfy.object_info import ObjectInfo
from atelier.workflows.bind import bind, complete
from atelier.workflows.check import check
from atelier.workflows.derive import derive
from atelier.workflows.manifest import Input, Manifest, in_language
from atelier.workflows.problem import InputsInvalid


def node(class_type: str, title: str | None = None, **inputs: Any) -> dict[str, Any]:
    meta = {} if title is None else {"_meta": {"title": title}}
    return {"class_type": class_type, "inputs": inputs, **meta}


# As the editor exports it: default titles, ids that aren't in order, and a preview besides.
PORTRAIT = {
    "3": node(
        "KSampler", "KSampler", seed=42, steps=20, cfg=8, sampler_name="euler",
        scheduler="normal", denoise=1, model=["10", 0], positive=["6", 0], negative=["7", 0],
        latent_image=["5", 0],
    ),
    "4": node("CheckpointLoaderSimple", "Load Checkpoint", ckpt_name="tiny.safetensors"),
    "10": node(
        "LoraLoader", "Load LoRA", lora_name="soft.safetensors", strength_model=1.0,
        strength_clip=1.0, model=["4", 0], clip=["4", 1],
    ),
    "5": node("EmptyLatentImage", "Empty Latent Image", width=512, height=768, batch_size=1),
    "7": node("CLIPTextEncode", "CLIP Text Encode (Prompt)", text="blurry", clip=["10", 1]),
    "6": node("CLIPTextEncode", "What to paint", text="a cat", clip=["10", 1]),
    "8": node("VAEDecode", "VAE Decode", samples=["3", 0], vae=["4", 2]),
    "9": node("SaveImage", "Save Image", filename_prefix="ComfyUI", images=["8", 0]),
    "11": node("PreviewImage", "Preview Image", images=["8", 0]),
}  # fmt: skip


def inputs_of(manifest: Manifest) -> dict[str, Input]:
    return {entry.name: entry for entry in manifest.inputs}


def places(manifest: Manifest, name: str) -> list[str]:
    return [f"{one.node}.{one.input}" for one in manifest.variants[0].targets[name]]


def rng() -> Any:
    import random

    return random.Random(1)


def test_a_text_to_image_graph_gets_every_input_by_itself(object_info: ObjectInfo) -> None:
    manifest = derive("my_portrait", PORTRAIT, object_info=object_info)
    found = inputs_of(manifest)
    assert {name: (one.type, one.default) for name, one in found.items()} == {
        "prompt": ("text", "a cat"),
        "negative_prompt": ("text", "blurry"),
        "size": ("size", {"width": 512, "height": 768}),
        "batch_size": ("integer", 1),
        "seed": ("seed", None),
        "steps": ("integer", 20),
        "cfg": ("float", 8),
        "denoise": ("float", 1),
        "lora": ("model", "soft.safetensors"),
        "model": ("model", "tiny.safetensors"),
    }
    assert in_language(manifest.title) == "My portrait"
    assert found["prompt"].title == "What to paint"
    assert in_language(found["negative_prompt"].title, "zh-Hans") == "反向提示词"
    assert (found["steps"].min, found["steps"].max) == (1, 10_000)
    assert (found["size"].min, found["size"].max, found["size"].step) == (16, 16_384, 8)
    assert (found["model"].folder, found["lora"].folder) == ("checkpoints", "loras")
    assert [(one.node, one.kind) for one in manifest.variants[0].outputs] == [("9", "image")]
    assert places(manifest, "size") == ["5.width", "5.height"]


def test_what_is_made_runs_as_the_graph_did_and_takes_other_values(
    object_info: ObjectInfo,
) -> None:
    manifest = derive("portrait", PORTRAIT, object_info=object_info)
    left_out = complete(manifest, {"seed": 42}, rng=rng())
    assert bind(PORTRAIT, manifest, "graph", left_out) == PORTRAIT
    given = complete(manifest, {"size": "640x512", "prompt": "a dog", "cfg": "3.5"}, rng=rng())
    graph = bind(PORTRAIT, manifest, "graph", given)
    assert (graph["5"]["inputs"]["width"], graph["5"]["inputs"]["height"]) == (640, 512)
    assert graph["6"]["inputs"]["text"] == "a dog"
    assert graph["3"]["inputs"]["seed"] != 42, "a seed that is left out is drawn"
    assert {problem.code for problem in check(graph, object_info)} == {"model_missing"}


def test_without_an_instance_comfyuis_own_bounds_are_used() -> None:
    found = inputs_of(derive("portrait", PORTRAIT))
    assert (found["steps"].min, found["steps"].max) == (1, 10_000)
    assert (found["denoise"].min, found["denoise"].max) == (0, 1)
    assert found["size"].min == 16
    assert [one.node for one in derive("p", PORTRAIT).variants[0].outputs] == ["9"]


def test_texts_are_told_apart_by_links_also_through_nodes_that_pass_both_on() -> None:
    graph = {
        "1": node("CLIPTextEncode", text="bad", clip=["9", 1]),
        "2": node("CLIPTextEncode", text="good", clip=["9", 1]),
        "3": node("ConditioningSetArea", conditioning=["2", 0], width=64, height=64),
        "4": node("Reroute", **{"": ["1", 0]}),
        "5": node("ControlNetApplyAdvanced", positive=["3", 0], negative=["4", 0], strength=1.0),
        "6": node("KSampler", positive=["5", 0], negative=["5", 1], seed=1),
    }
    manifest = derive("a", graph)
    assert places(manifest, "prompt") == ["2.text"]
    assert places(manifest, "negative_prompt") == ["1.text"]


def test_a_flux_graph_has_one_prompt_though_its_negative_is_zeroed() -> None:
    graph = {
        "1": node("CLIPTextEncodeFlux", clip_l="a cat", t5xxl="a cat", guidance=3.5),
        "2": node("ConditioningZeroOut", conditioning=["1", 0]),
        "3": node("CFGGuider", positive=["1", 0], negative=["2", 0], cfg=1.0),
        "4": node("RandomNoise", noise_seed=7),
        "5": node("BasicScheduler", steps=4, denoise=1.0, scheduler="simple"),
        "6": node("SamplerCustomAdvanced", guider=["3", 0], noise=["4", 0], sigmas=["5", 0]),
        "7": node("DualCLIPLoader", clip_name1="l.safetensors", clip_name2="t5.safetensors"),
        "8": node("UNETLoader", unet_name="flux.safetensors"),
    }
    manifest = derive("flux", graph)
    assert places(manifest, "prompt") == ["1.clip_l", "1.t5xxl"]
    assert places(manifest, "seed") == ["4.noise_seed"]
    assert set(inputs_of(manifest)) == {
        "prompt", "seed", "steps", "cfg", "guidance", "denoise", "model", "text_encoder",
        "text_encoder_2",
    }  # fmt: skip


def test_title_tells_a_negative_text_where_no_link_does() -> None:
    graph = {
        "1": node("CLIPTextEncode", "My Negative", text="bad"),
        "2": node("CLIPTextEncode", text="good"),
    }
    manifest = derive("a", graph)
    assert places(manifest, "prompt") == ["2.text"]
    assert places(manifest, "negative_prompt") == ["1.text"]


def test_values_are_found_in_the_primitives_that_they_are_linked_to() -> None:
    graph = {
        "1": node("PrimitiveStringMultiline", value="a cat"),
        "2": node("CLIPTextEncode", text=["1", 0]),
        "3": node("PrimitiveInt", "Seed", value=5),
        "4": node("KSampler", seed=["3", 0], steps=["5", 0], positive=["2", 0]),
        "5": node("MathOfSomebody", a=1, b=2),
        "6": node("PrimitiveFloat", "Sharpness", value=0.5),
        "7": node("StringConcatenate", string_a="in oil", string_b=["8", 0]),
        "8": node("PrimitiveString", value="on wood"),
        "9": node("CLIPTextEncode", text=["7", 0]),
    }
    manifest = derive("a", graph)
    found = inputs_of(manifest)
    assert places(manifest, "prompt") == ["1.value"]
    assert places(manifest, "seed") == ["3.value"]
    assert places(manifest, "prompt_2") == ["7.string_a"]
    assert places(manifest, "prompt_3") == ["8.value"]
    assert "steps" not in found, "what a node computes can't be set"
    assert (found["sharpness"].type, found["sharpness"].default) == ("float", 0.5)
    assert found["sharpness"].title == "Sharpness"


def test_pictures_are_required_and_told_by_their_titles() -> None:
    graph = {
        "1": node("LoadImage", "Load Image", image="example.png"),
        "2": node("LoadImage", "Second face", image="example.png"),
        "3": node("LoadImageMask", image="mask.png", channel="red"),
        "4": node("LoadImage", image="hole.png"),
        "5": node("LoadImage", image="https://example.org/a.png"),
        "6": node(
            "Use", a=["1", 0], b=["2", 0], c=["3", 0], hole=["4", 1], both=["5", 0], m=["5", 1]
        ),
    }
    found = inputs_of(derive("a", graph))
    assert {name: (one.type, one.required) for name, one in found.items()} == {
        "image": ("image", True),
        "second_face": ("image", True),
        "image_2": ("image", False),
        "mask": ("mask", True),
        "mask_2": ("mask", True),
    }
    assert found["image_2"].default == {"url": "https://example.org/a.png"}


def test_equal_values_of_one_kind_are_one_input_and_others_are_numbered() -> None:
    graph = {
        "1": node("KSampler", seed=1, steps=20, cfg=7.0, denoise=1.0),
        "2": node("KSampler", seed=1, steps=20, cfg=7.0, denoise=0.5),
    }
    manifest = derive("a", graph)
    assert places(manifest, "steps") == ["1.steps", "2.steps"]
    assert places(manifest, "denoise") == ["1.denoise"]
    assert places(manifest, "denoise_2") == ["2.denoise"]


def test_bounds_give_way_to_what_the_graph_has() -> None:
    found = inputs_of(derive("a", {"1": node("KSampler", cfg=120.0, steps=0)}))
    assert (found["cfg"].min, found["cfg"].max) == (0, None)
    assert (found["steps"].min, found["steps"].max) == (None, 10_000)


def test_kinds_of_outputs_are_told_by_the_node() -> None:
    graph = {
        "1": node("SaveVideo"),
        "2": node("SaveAudioMP3"),
        "3": node("SaveGLB"),
        "4": node("SaveImage"),
        "5": node("PreviewAny"),
    }
    outputs = derive("a", graph).variants[0].outputs
    assert [one.kind for one in outputs] == ["video", "audio", "3d", "image"]
    assert derive("a", {"5": graph["5"]}).variants[0].outputs == ()


def test_the_reference_form_names_the_inputs_that_count(object_info: ObjectInfo) -> None:
    wanted = ["positive_prompt", "seed", "steps", "width", "3.sampler_name", "strength_clip"]
    manifest = derive("a", PORTRAIT, wanted, object_info=object_info)
    assert [(one.name, one.type) for one in manifest.inputs] == [
        ("positive_prompt", "text"),
        ("seed", "seed"),
        ("steps", "integer"),
        ("width", "integer"),
        ("3.sampler_name", "text"),
        ("strength_clip", "float"),
    ]
    given = {"positive_prompt": "a dog", "seed": 1, "steps": 5, "width": 640, "strength_clip": 0.5}
    graph = bind(PORTRAIT, manifest, "graph", complete(manifest, given, rng=rng()))
    expected = copy.deepcopy(PORTRAIT)
    expected["6"]["inputs"]["text"] = "a dog"
    expected["3"]["inputs"] |= {"seed": 1, "steps": 5}
    expected["5"]["inputs"]["width"] = 640
    expected["10"]["inputs"]["strength_clip"] = 0.5
    assert graph == expected


def test_a_named_input_may_say_more_and_a_size_may_have_another_name() -> None:
    wanted = [{"name": "steps", "default": 8, "max": 30}, {"name": "size", "title": "Format"}]
    steps, size = derive("a", PORTRAIT, wanted).inputs
    assert (steps.default, steps.min, steps.max) == (8, 1, 30)
    assert (size.title, size.type) == ("Format", "size")


def test_a_node_is_named_by_its_title() -> None:
    graph = {"1": node("Blur", "How soft", radius=3, image=["2", 0]), "2": node("LoadImage")}
    manifest = derive("a", graph, ["how_soft"])
    assert places(manifest, "how_soft") == ["1.radius"]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (["promt"], "there are prompt"),
        (["99.text"], "is not an input"),
        (["text_2"], "is not an input"),
        (["prompt", "prompt"], "is listed twice"),
        ([{"title": "A"}], "is no name"),
        ([{"name": "steps", "type": "number"}], "faulty type"),
        ([{"name": "steps", "colour": 1}], "faulty colour"),
    ],
)
def test_names_that_mean_nothing_are_refused_with_what_there_is(wanted: Any, said: str) -> None:
    with pytest.raises(InputsInvalid) as caught:
        derive("a", PORTRAIT, wanted)
    assert said in caught.value.message


def test_a_name_that_could_be_several_places_is_refused_with_all_of_them() -> None:
    graph = {"1": node("Blur", radius=1), "2": node("Blur", radius=2)}
    with pytest.raises(InputsInvalid) as caught:
        derive("a", graph, ["radius", "nothing"])
    assert "1.radius, 2.radius" in caught.value.message
    assert "nothing is not an input" in caught.value.message
