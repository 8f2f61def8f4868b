import pytest

from atelier.service.fitting import SQUARE, Wish, fit, match_images, sides
from atelier.workflows.manifest import Input, Manifest
from atelier.workflows.problem import InputsInvalid

VARIANT = {"name": "v", "kind": "custom", "graph": "v.json"}


def manifest(*inputs):
    return Manifest.model_validate(
        {"name": "upscale", "title": "U", "inputs": list(inputs), "variants": [VARIANT]}
    )


def entry(name, type="text", **more):
    return {"name": name, "type": type, **more}


def model(name="model", folder="checkpoints"):
    return entry(name, "model", folder=folder)


def inputs(given, models=None, **wish):
    return fit(given, Wish(**wish), models).inputs


def problems(given, models=None, **wish):
    with pytest.raises(InputsInvalid) as caught:
        fit(given, Wish(**wish), models)
    return {problem.input: problem for problem in caught.value.problems}


def test_words_become_the_inputs_that_mean_them():
    given = manifest(
        entry("negative_prompt"), entry("text"), entry("noise_seed", "seed"), model("checkpoint")
    )
    fitted = fit(given, Wish(prompt="a fox", seed=5, model="a.safetensors"), None)
    assert fitted.inputs == {"text": "a fox", "noise_seed": 5, "checkpoint": "a.safetensors"}
    assert fitted.words == {"text": "prompt", "noise_seed": "seed", "checkpoint": "model"}


def test_prompt_goes_to_the_input_of_that_name_first():
    given = manifest(entry("style_text"), entry("prompt"))
    assert inputs(given, prompt="a fox") == {"prompt": "a fox"}


def test_what_a_workflow_has_no_input_for_is_left_out_when_it_says_nothing_new():
    wish = {"prompt": "a fox", "seed": -1, "model": " ", "aspect_ratio": SQUARE, "batch_size": 1}
    assert inputs(manifest(entry("image", "image")), **wish) == {}


def test_what_it_can_not_follow_is_refused_all_at_once():
    found = problems(
        manifest(entry("image", "image")),
        model="a.safetensors",
        aspect_ratio="16:9",
        images={"source": "x", "target": "y"},
    )
    assert set(found) == {"model", "aspect_ratio", "images.source", "images.target"}
    assert "can't be chosen for upscale" in found["aspect_ratio"].problem
    assert found["images.source"].data["allowed"] == ["image"]


def test_several_pictures_are_asked_of_every_workflow_that_takes_a_number():
    assert inputs(manifest(entry("batch_size", "integer")), batch_size=3) == {"batch_size": 3}


def test_further_inputs_are_passed_on_but_never_over_a_word():
    given = manifest(entry("prompt"), entry("strength", "float"))
    more = {"strength": 0.5, "prompt": "other", "nothing": None}
    assert inputs(given, prompt="a fox", more=more) == {"prompt": "a fox", "strength": 0.5}


# -- models ----------------------------------------------------------------------------------------


def test_model_goes_to_the_input_whose_folder_has_it():
    given = manifest(model(), model("unet", "diffusion_models"), model("vae", "vae"))
    models = {"checkpoints": ["a.safetensors"], "diffusion_models": ["b.safetensors"], "vae": ["v"]}
    assert inputs(given, models, model="a.safetensors") == {"model": "a.safetensors"}
    assert inputs(given, models, model="b.safetensors") == {"unet": "b.safetensors"}
    assert "v" not in problems(given, models, model="v")["model"].data["allowed"]


def test_unknown_model_is_refused_with_those_that_there_are_nearest_first():
    models = {"checkpoints": ["other.ckpt", "dreamshaper_8.safetensors"]}
    found = problems(manifest(model()), models, model="dreamshaper")["model"]
    assert found.data["allowed"] == ["dreamshaper_8.safetensors", "other.ckpt"]
    assert "there: dreamshaper_8.safetensors" in found.problem
    assert "there: none" in problems(manifest(model()), {}, model="x")["model"].problem


def test_model_is_believed_while_nobody_knows():
    assert inputs(manifest(model()), None, model="a.safetensors") == {"model": "a.safetensors"}


def test_upscaler_is_a_model_where_nothing_draws():
    given = manifest(model(folder="upscale_models"))
    assert inputs(given, {"upscale_models": ["4x.pth"]}, model="4x.pth") == {"model": "4x.pth"}


# -- shapes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "width", "height"),
    [
        ("1:1", 1024, 1024),
        ("16:9", 1344, 768),  # exactly 1365 x 768; SDXL was trained on 1344
        ("9:16", 768, 1344),
        ("2:3", 832, 1280),  # exactly 836 x 1254
    ],
)
def test_sides_keep_the_area_and_are_what_models_take(ratio, width, height):
    side = Input(name="size", type="size")
    assert sides(ratio, 1024 * 1024, (side, side)) == (width, height)


def test_shape_becomes_what_the_workflow_has():
    choice = entry("aspect_ratio", "choice", choices=["1:1", "16:9"])
    assert inputs(manifest(choice), aspect_ratio="16:9") == {"aspect_ratio": "16:9"}
    size = entry("size", "size", default={"width": 512, "height": 512})
    assert inputs(manifest(size), aspect_ratio="16:9") == {"size": {"width": 704, "height": 384}}
    width, height = (entry(n, "integer", default=512, max=640) for n in ("width", "height"))
    wide = inputs(manifest(width, height), aspect_ratio="16:9")
    assert wide == {"width": 640, "height": 384}
    fine = entry("size", "size", default={"width": 512, "height": 512}, step=8, min=16)
    assert inputs(manifest(fine), aspect_ratio="2:3") == {"size": {"width": 416, "height": 624}}


# -- pictures --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "given", "expected"),
    [
        (["source", "target"], ["target", "source"], ["target", "source"]),
        # Spelling only.
        (["source", "target"], ["Source_Image", "targetImage"], ["source", "target"]),
        (["image_a", "image_b", "image_c"], ["A", "B", "C"], ["image_a", "image_b", "image_c"]),
        (["image1", "image2"], ["a", "b"], ["image1", "image2"]),
        (["image"], ["photo"], ["image"]),
        # The only one, whatever it is called.
        (["image"], ["original"], ["image"]),
        (["sketch"], ["image"], ["sketch"]),
        # The one that is left over.
        (["source", "target"], ["source", "body"], ["source", "target"]),
        # Which of two strangers is which nobody can tell.
        (["source", "target"], ["face", "body"], [None, None]),
        (["image"], ["image", "other"], ["image", None]),
    ],
)
def test_pictures_find_their_inputs(names, given, expected):
    entries = [Input(name=name, type="image") for name in names]
    found = match_images(given, entries)
    assert [found[name].name if name in found else None for name in given] == expected


def test_lone_picture_is_the_required_one():
    entries = [
        Input(name="image", type="image", required=True),
        Input(name="reference", type="image"),
    ]
    assert match_images(["original"], entries)["original"].name == "image"


def test_picture_that_is_missing_is_named_as_one():
    fitted = fit(manifest(entry("target", "image")), Wish(), None)
    assert fitted.words == {"target": "images.target"}
