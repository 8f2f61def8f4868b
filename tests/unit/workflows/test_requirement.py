from typing import Any

import pytest

from atelier.comfy.object_info import ObjectInfo
from atelier.workflows.library import (
    ModelNeed,
    Workflow,
    requirements,
    resolve_models,
    satisfied,
)
from atelier.workflows.requirement import best_model


def test_diffusion_is_preferred_to_the_classic_look(style_change: Workflow) -> None:
    first, second = requirements(style_change, {})
    assert (first.variant, second.variant) == ("diffusion", "classic")
    assert second.classes == {"LoadImage", "AtelierStylise", "SaveImage"}
    assert second.models == ()
    (need,) = first.models
    assert (need.class_type, need.input) == ("CheckpointLoaderSimple", "ckpt_name")
    assert (need.folder, need.name) == ("checkpoints", None)


def test_an_instance_is_told_what_it_lacks(
    style_change: Workflow, object_info: ObjectInfo, classic_info: ObjectInfo
) -> None:
    diffusion, classic = requirements(style_change, {})
    assert satisfied(diffusion, object_info) == []
    assert satisfied(classic, object_info) == ["the node AtelierStylise"]
    assert satisfied(classic, classic_info) == []
    assert "the node KSampler" in satisfied(diffusion, classic_info)


def test_an_instance_without_any_checkpoint_lacks_one(
    style_change: Workflow, object_info_json: dict[str, Any]
) -> None:
    bare = {"input": {"required": {"ckpt_name": [[], {}]}}, "output": ["MODEL", "CLIP", "VAE"]}
    info = ObjectInfo.parse({**object_info_json, "CheckpointLoaderSimple": bare})
    assert satisfied(requirements(style_change, {})[0], info) == ["any model in checkpoints"]


def test_a_named_model_leaves_only_variants_that_use_it(
    style_change: Workflow, object_info: ObjectInfo
) -> None:
    (there,) = requirements(style_change, {"model": "tiny-b.safetensors"})
    assert satisfied(there, object_info) == []
    (absent,) = requirements(style_change, {"model": "tiny-c.safetensors"})
    (missing,) = satisfied(absent, object_info)
    assert missing.startswith("the model tiny-c.safetensors in checkpoints (there: tiny-")


def test_a_graph_needs_its_classes_and_the_models_it_names(object_info: ObjectInfo) -> None:
    graph = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "x.ckpt"}},
        "2": {"class_type": "VAELoader", "inputs": {"vae_name": "taesd"}},
        "3": {"class_type": "LoaderGGUF", "inputs": {"unet": "y.gguf", "device": "cpu"}},
        "4": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["1", 1]}},
    }
    (alternative,) = requirements(graph, {})
    assert alternative.models == (
        ModelNeed("CheckpointLoaderSimple", "ckpt_name", "checkpoints", "x.ckpt"),
        ModelNeed("VAELoader", "vae_name", "vae", "taesd"),
        ModelNeed("LoaderGGUF", "unet", "", "y.gguf"),
    )
    missing = satisfied(alternative, object_info)
    assert missing[0] == "the node LoaderGGUF"
    assert missing[1].startswith("the model x.ckpt in checkpoints")


def test_alternatives_serve_as_keys(style_change: Workflow) -> None:
    assert len({*requirements(style_change, {}), *requirements(style_change, {})}) == 2


@pytest.mark.parametrize(
    ("files", "best"),
    [
        (["z.ckpt", "a.ckpt"], "z.ckpt"),  # nothing matches: the first listed
        (["sd15.ckpt", "Juggernaut-XL_v9.safetensors"], "Juggernaut-XL_v9.safetensors"),
        (["sdxl-inpaint.ckpt", "sd15.ckpt"], "sd15.ckpt"),  # avoided though it ranks higher
        (["sdxl-inpaint.ckpt"], "sdxl-inpaint.ckpt"),  # better than none
        (["sub/sdxl.ckpt", "other.ckpt"], "sub/sdxl.ckpt"),
        ([], None),
    ],
)
def test_the_best_model_is_the_first_preferred(files: list[str], best: str | None) -> None:
    assert best_model(files, ["*XL*", "*sd15*", "!*inpaint*"]) == best


def test_a_model_left_out_is_chosen_from_the_instance(
    style_change: Workflow, object_info: ObjectInfo, classic_info: ObjectInfo
) -> None:
    manifest = style_change.manifest
    diffusion, classic = manifest.variants
    chosen = resolve_models(manifest, diffusion, {}, object_info)
    assert chosen == {"model": "tiny-a.safetensors"}
    assert resolve_models(manifest, diffusion, {"model": "x"}, object_info) == {"model": "x"}
    assert resolve_models(manifest, diffusion, {}, classic_info) == {}
    assert resolve_models(manifest, classic, {}, object_info) == {}
