"""Which variant a job may use, with which files, and what is told of those it may not."""

import random
from typing import Any

import pytest

from atelier.comfy.object_info import ObjectInfo
from atelier.workflows.bind import bind, complete
from atelier.workflows.lacking import lacking
from atelier.workflows.library import (
    Library,
    NoVariantFits,
    Workflow,
    fit_models,
    requirements,
    resolve_models,
    satisfied,
)
from atelier.workflows.needs import fits, rank

PICTURE = "asset:1"


def variants(workflow: Workflow, **inputs: Any) -> list[str]:
    completed = complete(workflow.manifest, inputs, rng=random.Random(1))
    return [alternative.variant for alternative in requirements(workflow, completed)]


def with_files(body: dict[str, Any], **files: list[str]) -> ObjectInfo:
    """A ComfyUI with these files; the keys are CLASS__INPUT."""
    nodes = dict(body)
    for place, names in files.items():
        class_type, _, name = place.partition("__")
        required = {**nodes[class_type]["input"]["required"], name: [names, {}]}
        nodes[class_type] = {**nodes[class_type], "input": {"required": required}}
    return ObjectInfo.parse(nodes)


@pytest.mark.parametrize(
    ("file", "place"),
    [
        ("sdxl.safetensors", 1),
        ("sub\\Juggernaut-XL.safetensors", 0),
        ("sdxl-Inpaint.safetensors", None),  # excluded though it matches
        ("dreamshaper.safetensors", None),
    ],
)
def test_a_file_fits_by_the_first_pattern_it_matches(file: str, place: int | None) -> None:
    match = ("*juggernaut*", "*xl*", "!*inpaint*")
    assert rank(file, match) == place
    assert fits(file, match) == (place is not None)
    assert fits(file, ("!*inpaint*",)) == ("npaint" not in file)
    assert fits(file, ())


def test_a_prompt_leaves_the_variants_that_follow_one(library: Library) -> None:
    edit = library.get("single_image_edit")
    assert "classic" not in variants(edit, image=PICTURE, prompt="make it night")
    assert variants(edit, image=PICTURE, warmth=0.5) == ["classic"]
    assert variants(edit, image=PICTURE, prompt="  ") == ["classic"]


def test_a_chosen_variant_is_the_only_one(library: Library) -> None:
    workflow = library.get("text_to_image")
    assert len(variants(workflow, prompt="a fox")) == len(workflow.manifest.variants)
    assert variants(workflow, prompt="a fox", variant="sd15") == ["sd15"]


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"model": "juggernautXL_v9.safetensors"}, ["sdxl"]),
        ({"model": "dreamshaper_8.safetensors"}, ["sd15"]),
        ({"model": "of-my-own.safetensors"}, ["sd15"]),
        ({"model": "of-my-own.safetensors", "variant": "sdxl"}, ["sdxl"]),
        ({"diffusion_model": "flux/flux1-dev.safetensors"}, ["flux_dev"]),
        ({"diffusion_model": "qwen_image_fp8.safetensors"}, ["qwen_image"]),
        ({"diffusion_model": "z_image_turbo_bf16.safetensors"}, ["z_image_turbo"]),
    ],
)
def test_a_named_model_leaves_the_variant_of_its_family(
    library: Library, inputs: dict[str, Any], expected: list[str]
) -> None:
    assert variants(library.get("text_to_image"), prompt="a fox", **inputs) == expected


def test_where_nothing_is_left_every_variant_says_why(library: Library) -> None:
    with pytest.raises(NoVariantFits) as caught:
        variants(library.get("text_to_image"), prompt="a fox", diffusion_model="svd.safetensors")
    reasons = caught.value.data["reasons"]
    assert reasons["sd15"] == "makes no use of diffusion_model"
    assert reasons["flux_dev"] == "takes models like flux1-krea-dev_fp8_scaled.safetensors"


def test_the_family_is_told_by_the_files_of_the_instance(
    library: Library, object_info_json: dict[str, Any]
) -> None:
    workflow = library.get("text_to_image")
    files = ["flux1-dev-fp8.safetensors", "v1-5-pruned.ckpt", "sd_xl_base_1.0.safetensors"]
    found = {}
    for number in (1, 2, 3):
        info = with_files(object_info_json, CheckpointLoaderSimple__ckpt_name=files[:number])
        able = [one.variant for one in requirements(workflow) if not satisfied(one, info)]
        for name in able:
            variant = workflow.manifest.variant(name)
            found[number, name] = resolve_models(workflow.manifest, variant, {}, info)["model"]
    assert found == {
        (2, "sd15"): files[1],
        (3, "sdxl"): files[2],
        (3, "sd15"): files[1],
    }


def test_a_graph_gets_the_files_that_the_instance_has(
    library: Library, object_info_json: dict[str, Any]
) -> None:
    workflow = library.get("text_to_image")
    variant = workflow.manifest.variant("flux_dev")
    info = with_files(
        object_info_json,
        UNETLoader__unet_name=["flux1-dev.safetensors"],
        DualCLIPLoader__clip_name1=["clip_l.safetensors", "t5/t5xxl_fp16.safetensors"],
        DualCLIPLoader__clip_name2=["clip_l.safetensors", "t5/t5xxl_fp16.safetensors"],
        VAELoader__vae_name=["ae.safetensors"],
    )
    alternative = next(one for one in requirements(workflow) if one.variant == "flux_dev")
    assert satisfied(alternative, info) == []
    inputs = complete(workflow.manifest, {"prompt": "a fox"}, rng=random.Random(1))
    resolved = resolve_models(workflow.manifest, variant, inputs, info)
    graph = fit_models(workflow.graphs["flux_dev"], variant, info)
    bound = bind(graph, workflow.manifest, "flux_dev", resolved)
    loaders = {n["class_type"]: n["inputs"] for n in bound.values() if "Loader" in n["class_type"]}
    assert loaders["UNETLoader"]["unet_name"] == "flux1-dev.safetensors"
    assert loaders["DualCLIPLoader"]["clip_name2"] == "t5/t5xxl_fp16.safetensors"
    assert loaders["VAELoader"]["vae_name"] == "ae.safetensors"
    # The shipped graph itself stays as it is.
    assert "t5/t5xxl_fp16.safetensors" not in str(workflow.graphs["flux_dev"])


def test_what_is_lacking_says_where_it_goes_and_comes_from(
    library: Library, object_info: ObjectInfo, classic_info: ObjectInfo
) -> None:
    workflow = library.get("face_swap")
    reactor, qwen, *_ = requirements(workflow)
    lacks = lacking(workflow.manifest.variant("reactor"), reactor, object_info)
    assert [pack["path"] for pack in lacks.as_dict()["custom_nodes"]] == [
        "ComfyUI/custom_nodes/ComfyUI-ReActor"
    ]
    assert lacks.as_dict()["models"][0]["path"] == "ComfyUI/models/insightface/inswapper_128.onnx"
    assert lacks.as_dict()["models"][0]["size_gib"] > 0
    assert not lacks.classes
    qwen_lacks = lacking(workflow.manifest.variant("qwen_image_edit"), qwen, object_info)
    assert "ComfyUI/models/vae/qwen_image_vae.safetensors" in qwen_lacks.in_words()
    assert not qwen_lacks.packages
    # The embedded engine has neither models nor the nodes that would load them.
    nothing = lacking(workflow.manifest.variant("qwen_image_edit"), qwen, classic_info)
    assert {model.file for model in nothing.models} == {model.file for model in qwen_lacks.models}
    assert "UNETLoader" in nothing.classes
    assert "more nodes" in nothing.in_words()


def test_nothing_is_lacking_where_it_runs(library: Library, object_info: ObjectInfo) -> None:
    workflow = library.get("text_to_image")
    alternative = next(one for one in requirements(workflow) if one.variant == "sd15")
    assert not lacking(workflow.manifest.variant("sd15"), alternative, object_info)
