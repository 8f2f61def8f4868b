"""The nodes that retouch: what they leave alone, what they change, what they refuse."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from atelier.engine.executor import Interrupted
from atelier.engine.nodes import blending, moving, retouching, sketching
from atelier.engine.retouch import blending as blending_pictures
from atelier.engine.retouch import face_swapping, faces, motion
from atelier.engine.retouch import sketching as sketching_pictures

CASCADE = Path(cv2.__file__).parent / "data" / "haarcascade_eye.xml"
needs_cascades = pytest.mark.skipif(not CASCADE.is_file(), reason="OpenCV 5 has no cascades")


def striped(height=72, width=96):
    """A picture of diagonal stripes, 1xHxWx3: whoever fills a hole in it must go on with them."""
    y, x = np.mgrid[0:height, 0:width]
    stripes = ((x + y) // 6 % 2).astype(np.float32)
    return np.stack([stripes, 0.5 * stripes + 0.2, 1 - stripes], axis=2)[None]


def hole(shape, top=24, bottom=44, left=36, right=60):
    mask = np.zeros((1, *shape[1:3]), np.float32)
    mask[:, top:bottom, left:right] = 1
    return mask


@pytest.fixture
def subject():
    """A red disc with a bright spot on a graded green ground with grain, 1x120x160x3."""
    y, x = np.mgrid[0:120, 0:160].astype(np.float32)
    ground = np.stack([0.2 + x / 1600, 0.5 + y / 800, 0.3 + x / 1600], axis=2)
    ground += np.random.default_rng(1).normal(0, 0.01, ground.shape)
    disc = np.hypot(x - 80, y - 62) < 34
    picture = np.where(disc[..., None], np.array([0.8, 0.15, 0.1]), ground)
    return np.clip(picture, 0, 1).astype(np.float32)[None]


def inpaint(context, image, mask, **changes):
    inputs = {"method": "patches", "grow": 0, "feather": 0, "seed": 1} | changes
    (filled,) = context.run("AtelierInpaint", image=image, mask=mask, **inputs)
    return filled


def test_choices_told_by_the_nodes_are_those_of_the_pictures():
    assert retouching.FACES == face_swapping.FACES
    assert blending.MODES == blending_pictures.MODES
    assert moving.MOTIONS == motion.MOTIONS
    assert sketching.MEDIA == sketching_pictures.MEDIA
    assert sketching.PALETTES == sketching_pictures.PALETTES


def test_patches_continue_the_stripes_into_the_hole(context):
    image = striped()
    mask = hole(image.shape)
    holed = np.where(mask[..., None] > 0, np.float32(0.5), image)
    filled = inpaint(context, holed, mask)
    inside = mask > 0
    assert np.abs(filled[inside] - image[inside]).mean() < 0.12
    assert (
        np.abs(inpaint(context, holed, mask, method="smooth")[inside] - image[inside]).mean() > 0.2
    )
    assert np.array_equal(filled[~inside], image[~inside])
    assert np.array_equal(holed[inside], np.full_like(holed[inside], 0.5)), "the input was changed"


def test_inpaint_tells_steps_and_shows_the_picture_so_far(context):
    image = striped()
    inpaint(context, image, hole(image.shape))
    last = context.steps[0][1]
    assert context.steps == [(value, last) for value in range(1, last + 1)]
    assert len(context.previews) == last - 1


def test_inpaint_is_the_same_for_the_same_seed_and_stops_when_interrupted(context):
    image = np.random.default_rng(0).random((1, 40, 48, 3), np.float32)
    mask = hole(image.shape, 15, 25, 18, 30)
    first, again = (inpaint(context, image, mask) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, inpaint(context, image, mask, seed=2))
    context.steps.clear()
    context.interrupt_after_steps = 1
    with pytest.raises(Interrupted):
        inpaint(context, image, mask)


def test_feather_stays_within_what_the_mask_was_grown_by(context):
    image = striped()
    mask = hole(image.shape)
    changed = inpaint(context, image * 0.5, mask, grow=8, feather=4, method="smooth") != image * 0.5
    rows, columns = np.nonzero(changed.any(axis=3)[0])
    assert rows.min() >= 24 - 8
    assert rows.max() < 44 + 8
    assert columns.min() >= 36 - 8
    assert columns.max() < 60 + 8


def test_mask_of_another_size_and_pictures_with_alpha_are_taken(context):
    image = np.concatenate([striped(), np.full((1, 72, 96, 1), 0.5, np.float32)], axis=3)
    mask = hole((1, 36, 48), 12, 22, 18, 30)
    filled = inpaint(context, np.concatenate([image, image]), mask, method="smooth")
    assert filled.shape == (2, 72, 96, 4)
    assert (filled[..., 3] == 0.5).all()


@pytest.mark.parametrize(("value", "words"), [(0.0, "nothing"), (1.0, "whole picture")])
def test_mask_of_nothing_or_everything_is_refused(context, value, words):
    image = striped()
    with pytest.raises(ValueError, match=words):
        inpaint(context, image, np.full((1, 64, 64), value, np.float32))


@pytest.mark.parametrize("size", [(12, 9), (1, 40), (300, 8)], ids=str)
def test_small_and_narrow_pictures_are_filled(context, size):
    image = np.random.default_rng(0).random((1, *size, 3), np.float32)
    mask = np.zeros((1, *size), np.float32)
    mask[0, 0, : size[1] // 2] = 1
    assert inpaint(context, image, mask).shape == image.shape


@needs_cascades
def test_background_is_removed_around_the_subject(context, subject):
    cut, mask = context.run("AtelierRemoveBackground", image=subject, margin=0, feather=0)
    assert cut.shape == (1, 120, 160, 4)
    assert np.array_equal(cut[..., 3], mask)
    y, x = np.mgrid[0:120, 0:160]
    away = np.hypot(x - 80, y - 62)
    assert mask[0][away < 30].min() > 0.95
    assert mask[0][away > 40].max() < 0.05
    assert np.abs(cut[0, ..., :3][away < 30] - subject[0][away < 30]).max() < 0.02
    assert [value for value, _ in context.steps] == [1, 2, 3, 4, 5]


@needs_cascades
def test_margin_grows_and_shrinks_the_subject_and_feather_softens_it(context, subject):
    def mask(**inputs):
        given = {"margin": 0, "feather": 0} | inputs
        return context.run("AtelierRemoveBackground", image=subject, **given)[1]

    plain = mask()
    assert mask(margin=-5).sum() < plain.sum() < mask(margin=5).sum()
    soft = mask(feather=12)
    assert ((soft > 0.1) & (soft < 0.9)).sum() > 2 * ((plain > 0.1) & (plain < 0.9)).sum()


def test_hint_says_which_of_two_things_is_the_subject(context, subject):
    both = np.concatenate([subject, subject], axis=2)
    hint = np.zeros((1, 120, 320), np.float32)
    hint[:, 20:105, 195:285] = 1
    _, mask = context.run("AtelierRemoveBackground", image=both, margin=0, feather=0, subject=hint)
    assert mask[:, 62, 240].min() > 0.95
    assert mask[:, :, :160].max() < 0.05


def test_picture_without_a_subject_is_refused(context):
    plain = np.full((1, 60, 80, 3), 0.5, np.float32)
    with pytest.raises(ValueError, match="stands out"):
        context.run("AtelierRemoveBackground", image=plain, margin=0, feather=1)


def drawn_face(skin, size=200):
    """A face that the cascades see: skin, hair, brows, eyes, nose and mouth, soft as a photo."""
    face = np.full((size, size, 3), (90, 110, 140), np.uint8)
    at = size / 200

    def oval(x, y, width, height, colour):
        middle, axes = (round(x * at), round(y * at)), (round(width * at), round(height * at))
        cv2.ellipse(face, middle, axes, 0, 0, 360, colour, -1)

    dark = tuple(round(value * 0.62) for value in skin)
    light = tuple(min(255, round(value * 1.12)) for value in skin)
    oval(100, 92, 62, 80, (50, 35, 25))
    oval(100, 108, 50, 66, skin)
    oval(100, 70, 40, 18, light)
    for x in (80, 120):
        oval(x, 96, 15, 8, dark)
        oval(x, 97, 11, 5, (235, 235, 235))
        oval(x, 97, 5, 5, (30, 20, 20))
        oval(x, 84, 15, 3, (50, 35, 25))
        oval(x + (8 if x > 100 else -8), 120, 12, 9, light)
    oval(100, 112, 5, 16, light)
    oval(100, 128, 11, 4, dark)
    oval(100, 148, 20, 6, (150, 60, 60))
    soft = cv2.GaussianBlur(face, (0, 0), 1.6 * at).astype(np.float32)
    soft += np.random.default_rng(2).normal(0, 2, soft.shape)
    return (np.clip(soft, 0, 255) / 255).astype(np.float32)[None]


@needs_cascades
def test_face_is_replaced_in_the_targets_light_and_nothing_else_changes(context):
    giver, target = drawn_face((225, 180, 150)), drawn_face((150, 105, 80))
    giver = giver.copy()
    giver[:, 140:156, 80:120] = (0.1, 0.7, 0.2)  # a green mouth, to know it again
    (swapped,) = context.run(
        "AtelierFaceSwap", image=target, face=giver, faces="largest", strength=1.0
    )
    green = swapped[0, 144:152, 92:108]
    assert (green[..., 1] - green[..., 0]).mean() > 0.1, "the mouth did not come along"
    assert np.abs(swapped[0, 112:124, 70:80] - target[0, 112:124, 70:80]).mean() < 0.12
    assert np.array_equal(swapped[0, :10], target[0, :10])
    (half,) = context.run(
        "AtelierFaceSwap", image=target, face=giver, faces="largest", strength=0.0
    )
    assert np.abs(half - target).max() < 0.01


@needs_cascades
def test_all_faces_or_only_the_largest_are_replaced(context):
    small = drawn_face((200, 150, 120), size=140)
    image = np.full((1, 200, 360, 3), 0.4, np.float32)
    image[:, :, :200] = drawn_face((200, 150, 120))
    image[:, 30:170, 210:350] = small
    giver = drawn_face((225, 180, 150))
    for faces_wanted, second_changes in (("largest", False), ("all", True)):
        (swapped,) = context.run(
            "AtelierFaceSwap", image=image, face=giver, faces=faces_wanted, strength=1.0
        )
        changed = np.abs(swapped - image).max(axis=3)[0] > 0.02
        assert changed[:, :200].any()
        assert changed[:, 210:].any() == second_changes


@needs_cascades
@pytest.mark.parametrize("missing", ["image", "face"])
def test_picture_without_a_face_is_named(context, missing):
    pictures = {name: drawn_face((200, 150, 120)) for name in ("image", "face")}
    pictures[missing] = striped()
    with pytest.raises(ValueError, match=f"'{missing}'"):
        context.run("AtelierFaceSwap", **pictures, faces="all", strength=1.0)


def test_missing_cascades_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(faces.cv2, "__file__", str(tmp_path / "cv2.py"))
    faces._cascade.cache_clear()
    with pytest.raises(RuntimeError, match=r"haarcascade_eye\.xml"):
        faces._cascade("eye")


def blend(context, mode, *images, **changes):
    inputs = {"weight1": 1.0, "weight2": 1.0, "weight3": 1.0, "softness": 0.2} | changes
    named = {f"image{number}": image for number, image in enumerate(images, start=1)}
    (result,) = context.run("AtelierBlend", mode=mode, **named, **inputs)
    return result


def flat(*colour, size=(48, 64)):
    return np.broadcast_to(np.array(colour, np.float32), (1, *size, 3)).copy()


RED, GREEN, BLUE = (0.8, 0.2, 0.2), (0.2, 0.7, 0.2), (0.2, 0.2, 0.8)


@pytest.mark.parametrize("mode", blending.MODES)
def test_blend_keeps_the_first_pictures_size_and_counts_steps(context, mode):
    images = [flat(*RED), flat(*GREEN, size=(30, 90)), flat(*BLUE, size=(90, 30))]
    images[1] = np.concatenate([images[1], images[1]])
    result = blend(context, mode, *images)
    assert result.shape[:2] == (2, 48)
    assert result.shape[2] == 64 if mode != "panorama" else result.shape[2] > 150
    assert result.min() >= 0
    assert result.max() <= 1
    last = context.steps[0][1]
    assert context.steps == [(value, last) for value in range(1, last + 1)]


@pytest.mark.parametrize("mode", ["panorama", "collage"])
def test_pictures_beside_each_other_keep_their_colours_and_follow_the_weights(context, mode):
    even = blend(context, mode, flat(*RED), flat(*BLUE))
    assert np.abs(even[0, :, :8] - RED).max() < 0.08
    assert np.abs(even[0, :, -8:] - BLUE).max() < 0.08
    wide = blend(context, mode, flat(*RED), flat(*BLUE), weight2=0.25)
    red = [(part[..., 0] > 0.5).mean() for part in (even, wide)]
    assert red[1] > red[0] + 0.1


def test_double_exposure_shows_the_second_picture_in_the_dark_of_the_first(context):
    first = flat(0.05, 0.05, 0.05)
    first[:, :, 32:] = 0.95
    second = striped(48, 64)
    result = blend(context, "double_exposure", first, second)
    assert result[0, :, :24].std() > 3 * result[0, :, 40:].std()


def test_fusion_takes_the_well_exposed_half_of_each(context):
    sharp = striped(48, 64) * 0.6 + 0.2
    first, second = sharp.copy(), sharp.copy()
    first[:, :, 32:] = 1.0
    second[:, :, :32] = 0.0
    result = blend(context, "fusion", first, second, softness=0.0)
    assert np.abs(result - sharp).mean() < 0.12


def test_blend_of_no_weight_is_refused(context):
    with pytest.raises(ValueError, match="weights"):
        blend(context, "collage", flat(*RED), flat(*BLUE), weight1=0.0, weight2=0.0)


def enlarge(context, image, **changes):
    inputs = {"factor": 4.0, "detail": 0.8, "denoise": 0.0} | changes
    (result,) = context.run("AtelierUpscale", image=image, **inputs)
    return result


def test_enlarged_edge_is_steeper_than_lanczos_and_does_not_ring(context):
    edge = np.full((1, 24, 24, 3), 0.25, np.float32)
    edge[:, :, 12:] = 0.75
    result = enlarge(context, edge)
    assert result.shape == (1, 96, 96, 3)
    assert result.min() > 0.25 - 2 / 255
    assert result.max() < 0.75 + 1 / 255
    assert (
        np.diff(result[0, 48, :, 0]).max()
        > np.diff(enlarge(context, edge, detail=0.0)[0, 48, :, 0]).max()
    )
    assert context.steps[:3] == [(1, 3), (2, 3), (3, 3)]


def test_denoise_takes_out_grain(context):
    grain = np.clip(0.5 + np.random.default_rng(0).normal(0, 0.03, (1, 40, 40, 3)), 0, 1)
    grain = grain.astype(np.float32)
    rough, clean = (enlarge(context, grain, factor=2.0, denoise=value) for value in (0.0, 0.6))
    assert clean.std() < 0.6 * rough.std()


def test_factor_that_leads_past_the_limit_is_refused_with_the_one_that_fits(context):
    image = np.zeros((1, 2000, 2000, 3), np.float32)
    with pytest.raises(ValueError, match=r"16000x16000.*at most 4"):
        enlarge(context, image, factor=8.0)


NEUTRAL = {
    "auto_levels": False,
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "warmth": 0.0,
    "shadows": 0.0,
    "highlights": 0.0,
    "sharpness": 0.0,
    "vignette": 0.0,
}


def adjust(context, image, **changes):
    (result,) = context.run("AtelierAdjust", image=image, **(NEUTRAL | changes))
    return result


def test_sliders_at_rest_change_nothing(context, subject):
    assert np.array_equal(adjust(context, subject), subject)


def saturation_of(image):
    return float((image.max(axis=3) - image.min(axis=3)).mean())


def warmth_of(image):
    return float((image[..., 0] - image[..., 2]).mean())


def corner_of(image):
    return float(image[:, :8, :8].mean())


@pytest.mark.parametrize(
    ("slider", "measure"),
    [
        ("brightness", np.mean),
        ("contrast", np.std),
        ("saturation", saturation_of),
        ("warmth", warmth_of),
        ("shadows", np.mean),
        ("highlights", np.mean),
        ("sharpness", lambda image: np.abs(np.diff(image, axis=2)).mean()),
    ],
)
def test_slider_moves_what_it_is_named_after_both_ways(context, subject, slider, measure):
    less, more = (adjust(context, subject, **{slider: value}) for value in (-0.7, 0.7))
    assert measure(less) < measure(subject) < measure(more)


def test_vignette_black_and_white_and_levels(context, subject):
    assert corner_of(adjust(context, subject, vignette=1.0)) < 0.5 * corner_of(subject)
    assert saturation_of(adjust(context, subject, saturation=-1.0)) < 0.01
    flat_tones = subject * 0.4 + 0.3
    assert adjust(context, flat_tones, auto_levels=True).std() > 1.5 * flat_tones.std()


@pytest.fixture
def drawing():
    """Two boxes in grey pencil on paper that is darker to the right, 1x120x160x3."""
    paper = np.full((120, 160, 3), 235, np.uint8)
    cv2.rectangle(paper, (20, 25), (70, 95), (70, 70, 75), 2)
    cv2.rectangle(paper, (90, 40), (140, 100), (70, 70, 75), 2)
    shade = np.linspace(1, 0.8, 160)[None, :, None]
    return (paper * shade / 255).astype(np.float32)[None]


def sketch(context, image, **changes):
    inputs = {"medium": "watercolour", "palette": "spring", "strength": 0.8, "seed": 1} | changes
    (result,) = context.run("AtelierSketch", image=image, **inputs)
    return result


def test_enclosed_areas_get_colours_of_their_own_and_lines_stay(context, drawing):
    result = sketch(context, drawing)
    assert result.shape == drawing.shape
    left, right = result[0, 40:80, 35:55], result[0, 55:85, 105:125]
    for area in (left, right):
        assert saturation_of(area[None]) > 0.1
        assert area.std(axis=(0, 1)).max() < 0.1
    assert np.abs(left.mean(axis=(0, 1)) - right.mean(axis=(0, 1))).max() > 0.08
    assert result[0, 60, 20].max() < 0.35
    assert [value for value, _ in context.steps] == [1, 2, 3, 4, 5]
    assert np.array_equal(result, sketch(context, drawing))
    assert not np.array_equal(result, sketch(context, drawing, seed=2))


def test_ink_has_no_colour_and_the_sketchs_own_colours_can_be_kept(context, drawing):
    assert saturation_of(sketch(context, drawing, medium="ink")) < 0.06
    coloured = drawing.copy()
    coloured[:, 28:92, 24:66] *= (0.5, 0.75, 1.0)
    kept = sketch(context, coloured, palette="from_sketch", medium="coloured_pencil")
    middle = kept[0, 50:70, 35:55].mean(axis=(0, 1))
    assert middle[2] > middle[0] + 0.08


@pytest.mark.parametrize("medium", sketching.MEDIA)
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (40, 40)], ids=str)
def test_any_picture_can_be_taken_for_a_sketch(context, medium, size):
    blank = np.ones((1, *size, 3), np.float32)
    result = sketch(context, blank, medium=medium)
    assert result.shape == blank.shape
    assert np.isfinite(result).all()
