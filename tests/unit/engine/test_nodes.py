import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atelier.engine.executor import Interrupted
from atelier.engine.folders import Folders
from atelier.engine.nodes import NODES, stylising
from atelier.engine.nodes.loading import MOST_PIXELS
from atelier.engine.stylise import STYLES

GOLDEN = Path(__file__).parents[2] / "golden"
# Recorded by running ComfyUI 0.3.64's own nodes on these arrays, rounded to five decimals.
ARITHMETIC = json.loads((Path(__file__).parent / "comfyui_arithmetic.json").read_text())
TOLERANCE = 2e-5


def array(told: dict[str, Any]) -> np.ndarray:
    return np.array(told["values"], np.float32).reshape(told["shape"])


def name_of(case: dict[str, Any]) -> str:
    return "-".join([case["node"], *(str(value) for value in case["inputs"].values())])


@pytest.mark.parametrize("case", ARITHMETIC["cases"], ids=name_of)
def test_node_computes_what_comfyui_computes(case, context):
    arrays = {name: array(told) for name, told in ARITHMETIC["arrays"].items()}
    inputs = {
        name: arrays[value[1:]] if isinstance(value, str) and value[0] == "@" else value
        for name, value in case["inputs"].items()
    }
    outputs = context.run(case["node"], **inputs)
    assert len(outputs) == len(case["outputs"])
    for output, expected in zip(outputs, case["outputs"], strict=True):
        assert output.dtype == np.float32
        assert output.shape == tuple(expected["shape"])
        assert np.abs(output - array(expected)).max() <= TOLERANCE
    for name, told in ARITHMETIC["arrays"].items():
        assert np.array_equal(arrays[name], array(told)), "a node changed its input"


def test_object_info_entries_are_comfyuis(folders):
    golden = json.loads((GOLDEN / "object_info.json").read_text())
    for name in ("broken.png", "example.png"):
        (folders.root / "input" / name).write_bytes(b"")
    ours = {name: node.info(folders) for name, node in NODES.items()}
    shared = ours.keys() & golden.keys()
    assert {name: ours[name] for name in shared} == {name: golden[name] for name in shared}
    assert ours.keys() - shared == {
        "AtelierAdjust",
        "AtelierBlend",
        "AtelierFaceSwap",
        "AtelierInpaint",
        "AtelierMotion",
        "AtelierRemoveBackground",
        "AtelierSketch",
        "AtelierStylise",
        "AtelierUpscale",
    }


def test_no_node_loads_a_model():
    assert not [name for name in NODES if "Checkpoint" in name or "Loader" in name]


def test_styles_named_by_the_node_are_those_that_can_be_painted():
    assert stylising.STYLES == STYLES


def test_stylise_paints_every_picture_of_a_batch_with_progress(context, photo):
    batch = np.concatenate([photo, 1 - photo])
    (painted,) = context.run("AtelierStylise", image=batch, style="cartoon", strength=0.8, seed=1)
    assert painted.shape == batch.shape
    assert painted.dtype == np.float32
    assert np.abs(painted - batch).mean() > 0.02
    values = [value for value, _ in context.steps]
    assert values == list(range(1, len(values) + 1))
    assert {maximum for _, maximum in context.steps} == {len(values)}
    assert len(context.previews) >= 2


def test_stylise_stops_between_steps_when_interrupted(context, photo):
    context.interrupt_after_steps = 1
    with pytest.raises(Interrupted):
        context.run("AtelierStylise", image=photo, style="cartoon", strength=0.8, seed=1)
    assert len(context.steps) == 1


def save_input(folders: Folders, name: str, picture: Image.Image, **options: Any) -> str:
    picture.save(folders.root / "input" / name, **options)
    return name


def test_load_image_gives_picture_and_inverted_alpha(context, folders):
    picture = Image.new("RGBA", (3, 2), (255, 0, 51, 51))
    image, mask = context.run("LoadImage", image=save_input(folders, "a.png", picture))
    assert image.shape == (1, 2, 3, 3)
    assert image[0, 0, 0] == pytest.approx([1, 0, 0.2])
    assert mask.shape == (1, 2, 3)
    assert mask[0, 1, 2] == pytest.approx(0.8)


def test_load_image_without_alpha_gives_an_empty_mask_of_64_pixels(context, folders):
    name = save_input(folders, "a.jpg", Image.new("RGB", (5, 4)))
    image, mask = context.run("LoadImage", image=name)
    assert image.shape == (1, 4, 5, 3)
    assert mask.shape == (1, 64, 64)
    assert not mask.any()


def test_load_image_reads_the_transparency_of_a_palette(context, folders):
    picture = Image.new("P", (2, 2), 0)
    picture.putpalette([10, 20, 30])
    _, mask = context.run("LoadImage", image=save_input(folders, "p.png", picture, transparency=0))
    assert mask.shape == (1, 2, 2)
    assert (mask == 1).all()


def test_load_image_gives_the_frames_of_an_animation_as_a_batch(context, folders):
    frames = [Image.new("RGB", (4, 3), color) for color in ("red", "lime", "blue")]
    name = save_input(folders, "a.gif", frames[0], save_all=True, append_images=frames[1:])
    image, mask = context.run("LoadImage", image=name)
    assert image.shape == (3, 3, 4, 3)
    assert image[:, 0, 0].argmax(axis=1).tolist() == [0, 1, 2]
    assert len(mask) == 3


def test_load_image_turns_a_photo_upright(context, folders):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    name = save_input(folders, "a.jpg", Image.new("RGB", (6, 2)), exif=exif)
    image, _ = context.run("LoadImage", image=name)
    assert image.shape == (1, 6, 2, 3)


def test_load_image_reads_files_of_other_folders_by_annotation(context, folders):
    Image.new("RGB", (2, 2), "white").save(folders.root / "output" / "result.png")
    image, _ = context.run("LoadImageOutput", image="result.png [output]")
    assert (image == 1).all()


@pytest.mark.parametrize(
    ("channel", "level"), [("red", 0.2), ("green", 0.4), ("blue", 0.6), ("alpha", 0.2)]
)
def test_load_image_mask_gives_the_channel(context, folders, channel, level):
    name = save_input(folders, "a.png", Image.new("RGBA", (2, 2), (51, 102, 153, 204)))
    (mask,) = context.run("LoadImageMask", image=name, channel=channel)
    assert mask.shape == (1, 2, 2)
    assert mask[0, 0, 0] == pytest.approx(level)


def test_picture_of_too_many_pixels_is_refused_before_it_is_decoded(context, folders):
    side = int(MOST_PIXELS**0.5) + 1
    name = save_input(folders, "bomb.png", Image.new("1", (side, side)))
    with pytest.raises(Image.DecompressionBombError, match="megapixels"):
        context.run("LoadImage", image=name)


@pytest.mark.parametrize(
    ("node", "inputs"),
    [
        ("EmptyImage", {"width": 16384, "height": 16384, "batch_size": 4096, "color": 0}),
        ("SolidMask", {"width": 16384 * 4, "height": 16384, "value": 1.0}),
        ("RepeatImageBatch", {"image": np.zeros((1, 999, 999, 3), np.float32), "amount": 4096}),
    ],
)
def test_result_past_the_memory_limit_is_refused(context, node, inputs):
    with pytest.raises(MemoryError, match="GiB"):
        context.run(node, **inputs)


def test_save_image_writes_files_with_counter_and_metadata(context, folders, photo):
    batch = np.concatenate([photo, photo])
    for expected in ((1, 2), (3, 4)):
        (ui,) = context.run("SaveImage", images=batch, filename_prefix="sub/a_%width%x%height%")
        assert ui["images"] == [
            {"filename": f"a_60x40_{number:05}_.png", "subfolder": "sub", "type": "output"}
            for number in expected
        ]
    with Image.open(folders.root / "output" / "sub" / "a_60x40_00004_.png") as saved:
        assert json.loads(saved.text["prompt"]) == context.prompt
        assert json.loads(saved.text["workflow"]) == {"nodes": []}
        levels = np.clip(photo[0] * np.float32(255), 0, 255).astype(np.uint8)
        assert np.array_equal(np.asarray(saved), levels)


def test_preview_image_goes_to_the_temp_folder(context, folders, photo):
    (ui,) = context.run("PreviewImage", images=photo)
    (file,) = ui["images"]
    assert file["type"] == "temp"
    assert (folders.root / "temp" / file["filename"]).is_file()


def test_save_image_websocket_delivers_the_pixels_unchanged(context, photo):
    context.run("SaveImageWebsocket", images=np.concatenate([photo, 1 - photo]))
    assert context.steps == [(0, 2), (1, 2)]
    assert context.pictures[0].shape == (40, 60, 3)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("words", "words"),
        (3, "3"),
        (True, "True"),
        (None, "None"),
        ({"a": [1]}, '{"a": [1]}'),
        ({1}, "{1}"),
    ],
)
def test_preview_any_shows_a_value_as_text(context, source, text):
    assert context.run("PreviewAny", source=source) == ({"text": [text]},)
