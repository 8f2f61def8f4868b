import warnings
from itertools import pairwise

import cv2
import numpy as np
import pytest

from atelier.engine.stylise import STYLES, stylise


def ignore_step(value: int, last: int) -> None:
    pass


def distance(one, other):
    """Mean absolute difference of two pictures, 0..255."""
    return float(np.abs(one.astype(np.int16) - other.astype(np.int16)).mean())


@pytest.fixture(scope="module")
def scene():
    """A photo-like picture, 180x240: graded sky, textured ground, a shaded ball, some grain."""
    height, width = 180, 240
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    sky = np.stack([120 + y * 0.5, 160 + y * 0.4, 230 - y * 0.2], axis=2)
    texture = cv2.GaussianBlur(rng.normal(0, 60, (height, width)).astype(np.float32), (0, 0), 2)
    ground = np.stack([110 + texture, 125 + texture, 60 + texture * 0.5], axis=2)
    picture = np.where((y > 115)[..., None], ground, sky)
    radius = np.hypot(x - 130, y - 95)
    light = np.clip(1.1 - np.hypot(x - 112, y - 75) / 75, 0.15, 1)[..., None]
    picture = np.where((radius < 48)[..., None], light * np.array([225, 70, 50]), picture)
    picture += rng.normal(0, 3, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def painted(scene):
    """The scene in every style at the default strength."""
    return {style: stylise(scene, style, 0.6, 1, on_step=ignore_step) for style in STYLES}


SIZES = [
    (1, 1),  # one pixel
    (1, 40),  # one row
    (40, 1),  # one column
    (7, 3000),  # a strip wider than any filter is tall
    (64, 48),  # a thumbnail
    (90, 33),  # an odd portrait
]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_any_size_comes_back_at_the_same_size_without_warnings(style, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = stylise(image, style, 1.0, 0, on_step=ignore_step)
    assert result.shape == image.shape
    assert result.dtype == np.uint8


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("level", [0, 128, 255])
def test_flat_picture_stays_finite_and_nearly_as_bright(style, level):
    image = np.full((60, 80, 3), level, dtype=np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = stylise(image, style, 0.6, 5, on_step=ignore_step)
    assert abs(float(result.mean()) - level) < 70


@pytest.mark.parametrize("style", STYLES)
def test_grey_photo_is_accepted(style, scene):
    grey = np.repeat(scene[..., 1:2], 3, axis=2)
    result = stylise(grey, style, 0.6, 5, on_step=ignore_step)
    assert distance(grey, result) > 3


@pytest.mark.parametrize("style", STYLES)
def test_photo_is_not_changed_and_may_be_read_only_or_a_view(style, scene):
    before = scene.copy()
    view = np.flip(scene, axis=1)
    view.flags.writeable = False
    stylise(view, style, 0.6, 1, on_step=ignore_step)
    assert np.array_equal(scene, before)


@pytest.mark.parametrize("style", STYLES)
def test_same_seed_gives_the_same_picture(style, scene, painted):
    assert np.array_equal(painted[style], stylise(scene, style, 0.6, 1, on_step=ignore_step))


@pytest.mark.parametrize("style", ["clay", "cartoon", "oil_painting"])
def test_another_seed_gives_another_picture(style, scene, painted):
    # Anime and realistic leave nothing to chance.
    other = stylise(scene, style, 0.6, 2**64 - 1, on_step=ignore_step)
    assert distance(painted[style], other) > 0.1


@pytest.mark.parametrize("style", STYLES)
def test_steps_count_up_to_the_announced_last_one(style, scene):
    seen: list[tuple[int, int]] = []
    stylise(scene, style, 0.6, 1, on_step=lambda value, last: seen.append((value, last)))
    last = seen[0][1]
    assert 5 <= last <= 10
    assert seen == [(value, last) for value in range(1, last + 1)]


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("style", STYLES)
def test_exception_from_a_step_stops_the_work_and_passes_through(style, scene):
    seen: list[int] = []

    def stop_at_third(value: int, last: int) -> None:
        seen.append(value)
        if value == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        stylise(scene, style, 0.6, 1, on_step=stop_at_third)
    assert seen == [1, 2, 3]


@pytest.mark.parametrize("style", STYLES)
def test_previews_are_pictures_of_the_same_proportions_that_end_in_the_result(style, scene):
    calls: list[object] = []
    result = stylise(
        scene,
        style,
        0.6,
        1,
        on_step=lambda value, last: calls.append(value),
        on_preview=calls.append,
    )
    steps, previews = calls[::2], calls[1::2]
    assert steps == list(range(1, len(previews) + 1))
    for preview in previews:
        assert preview.dtype == np.uint8
        assert preview.shape[1] / preview.shape[0] == pytest.approx(240 / 180, rel=0.02)
    last = cv2.resize(previews[-1], (240, 180), interpolation=cv2.INTER_AREA)
    assert distance(last, result) < 3


@pytest.mark.parametrize("style", STYLES)
def test_strength_zero_gives_the_photo_back(style, scene):
    assert distance(scene, stylise(scene, style, 0.0, 1, on_step=ignore_step)) < 0.5


@pytest.mark.parametrize("style", STYLES)
def test_more_strength_takes_the_picture_further_from_the_photo(style, scene):
    distances = [
        distance(scene, stylise(scene, style, strength, 1, on_step=ignore_step))
        for strength in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    ]
    assert all(weaker < stronger for weaker, stronger in pairwise(distances)), distances


@pytest.mark.parametrize("style", STYLES)
def test_default_strength_is_unmistakable(style, scene, painted):
    assert distance(scene, painted[style]) > 6


def test_styles_differ_from_each_other(painted):
    for index, one in enumerate(STYLES):
        for other in STYLES[index + 1 :]:
            assert distance(painted[one], painted[other]) > 6, (one, other)


def test_small_and_large_copies_of_a_photo_look_alike(scene):
    large = cv2.resize(scene, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    for style in STYLES:
        small_result = stylise(scene, style, 0.6, 1, on_step=ignore_step)
        large_result = stylise(large, style, 0.6, 1, on_step=ignore_step)
        shrunk = cv2.resize(large_result, (240, 180), interpolation=cv2.INTER_AREA)
        # Blurred, as strokes and dots fall elsewhere.
        small_result, shrunk = cv2.blur(small_result, (15, 15)), cv2.blur(shrunk, (15, 15))
        assert distance(small_result, shrunk) < 8, style


def test_photo_above_the_working_size_comes_back_at_its_own_size(scene):
    large = cv2.resize(scene, (2400, 1800), interpolation=cv2.INTER_CUBIC)
    for style in ("anime", "realistic"):  # painted again, and changed in place
        result = stylise(large, style, 0.6, 1, on_step=ignore_step)
        assert result.shape == large.shape
        assert distance(large, result) > 5


def test_realistic_keeps_detail_finer_than_the_working_size():
    checks = np.indices((1700, 1700)).sum(axis=0) % 2
    image = np.repeat((checks * 60 + 90).astype(np.uint8)[..., None], 3, axis=2)
    result = stylise(image, "realistic", 0.6, 1, on_step=ignore_step)
    assert result[600:700, 600:700].std() > 20


def test_unknown_style_lists_the_known_ones(scene):
    with pytest.raises(ValueError, match="'vapour'") as raised:
        stylise(scene, "vapour", 0.6, 1, on_step=ignore_step)
    assert all(style in str(raised.value) for style in STYLES)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),  # no channels
        np.zeros((4, 4, 4), np.uint8),  # with alpha
        np.zeros((4, 4, 3), np.float32),  # not bytes
        np.zeros((0, 4, 3), np.uint8),  # no pixels
    ],
)
def test_what_is_not_an_rgb_picture_is_refused(image):
    with pytest.raises(ValueError, match="expected HxWx3 uint8"):
        stylise(image, "clay", 0.6, 1, on_step=ignore_step)
