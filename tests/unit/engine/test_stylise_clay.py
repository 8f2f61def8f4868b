import cv2
import numpy as np
import pytest

from atelier.engine.stylise import stylise
from atelier.engine.stylise.clay import find_skin
from atelier.engine.stylise.operators import to_lab
from atelier.engine.stylise.pieces import inflate, seams

SKIN = (224, 172, 140)
GREY = (150, 150, 150)
BLACK = (0, 0, 0)
EYES = [(165, 170), (235, 170)]  # x, y of their middles
SIDE = 400
UNIT = SIDE / 1000


def ignore_step(value: int, last: int) -> None:
    pass


def clay(image, strength=0.6, seed=1):
    return stylise(image, "clay", strength, seed, on_step=ignore_step)


def plain(colour):
    return np.full((SIDE, SIDE, 3), colour, dtype=np.uint8)


def lab_of(image):
    return to_lab(image.astype(np.float32) / 255)


def grey_of(image):
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)


@pytest.fixture(scope="module")
def face():
    """A face on grey, 400x400: an oval with film grain, two eyes with whites, a red mouth."""
    image = plain(GREY)
    cv2.ellipse(image, (200, 200), (95, 125), 0, 0, 360, SKIN, -1, cv2.LINE_AA)
    for eye in EYES:
        cv2.ellipse(image, eye, (14, 8), 0, 0, 360, (245, 245, 245), -1, cv2.LINE_AA)
        cv2.circle(image, eye, 6, (45, 30, 25), -1, cv2.LINE_AA)
    cv2.ellipse(image, (200, 260), (34, 9), 0, 0, 360, (180, 70, 75), -1, cv2.LINE_AA)
    grain = np.random.default_rng(2).normal(0, 6, image.shape)
    return np.clip(image + grain, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def clay_face(face):
    return clay(face)


@pytest.mark.parametrize("eye", EYES)
def test_eyes_stay_where_they_are_and_as_clear_as_they_were(eye, face, clay_face):
    x, y = eye
    around = np.s_[y - 20 : y + 20, x - 25 : x + 25]
    before, after = (cv2.blur(grey_of(image)[around], (3, 3)) for image in (face, clay_face))
    assert np.ptp(after) > 0.8 * np.ptp(before)
    dark_y, dark_x = np.nonzero(after < after.min() + 40)
    assert np.hypot(dark_x.mean() - 25, dark_y.mean() - 20) < 2


def test_mouth_keeps_its_colour(clay_face):
    mouth, chin = (lab_of(clay_face)[y - 3 : y + 3, 190:210].mean(axis=(0, 1)) for y in (260, 295))
    assert mouth[1] - chin[1] > 15


def test_skin_loses_its_grain(face, clay_face):
    cheek = np.s_[195:240, 180:220]
    before, after = (
        grey_of(image)[cheek] - cv2.blur(grey_of(image), (5, 5))[cheek]
        for image in (face, clay_face)
    )
    assert after.std() < 0.6 * before.std()


def test_black_becomes_dark_clay_and_not_grey():
    image = plain(BLACK)
    cv2.circle(image, (200, 200), 90, (210, 40, 40), -1)
    corner = clay(image)[:80, :80].max(axis=2)
    assert 20 < np.median(corner) < 50


def test_piece_is_lit_from_the_upper_left():
    image = plain(GREY)
    cv2.circle(image, (200, 200), 90, (60, 90, 190), -1)
    result = grey_of(clay(image))
    rim = round(80 * np.sqrt(0.5))  # 10 px inside the edge
    near, far = (result[c - 4 : c + 5, c - 4 : c + 5].mean() for c in (200 - rim, 200 + rim))
    assert near > far + 15


def test_pieces_meet_in_a_dark_crease():
    image = plain((90, 170, 90))
    image[:, 200:] = (220, 120, 60)
    result = grey_of(clay(image))
    crease = result[50:350, 196:204].min(axis=1).mean()
    assert crease < min(result[50:350, 140:180].mean(), result[50:350, 220:260].mean()) - 15


def test_thumb_prints_show_on_plain_areas():
    result = grey_of(clay(plain(GREY)))
    assert 0.8 < (result - cv2.GaussianBlur(result, (0, 0), 4)).std() < 12


STEPS = [
    (GREY, (200, 90, 60), True),  # another hue
    (GREY, (60, 60, 60), True),  # much darker
    (GREY, (158, 158, 158), False),  # hardly lighter
    (SKIN, (172, 125, 98), False),  # a shadow on skin
]


@pytest.mark.parametrize(("left", "right", "parted"), STEPS)
def test_seams_run_where_pieces_part_but_not_along_shadows_on_skin(left, right, parted):
    image = plain(left)
    image[:, 200:] = right
    lab = lab_of(image)
    lines = seams(lab, find_skin(lab, UNIT), UNIT)
    assert bool(lines[:, 190:210].any()) == parted
    assert not lines[:, :150].any()
    assert not lines[:, 250:].any()


def test_specks_are_no_pieces():
    image = plain(GREY)
    image[200:206, 200:206] = (200, 40, 40)
    lab = lab_of(image)
    assert not seams(lab, np.zeros((SIDE, SIDE), np.float32), UNIT).any()


def test_piece_rises_roundly_from_its_seams():
    lines = np.zeros((SIDE, SIDE), np.uint8)
    lines[:, 200] = 255
    row = inflate(lines, UNIT, 100)[200]
    inward = row[200::-10]
    assert inward[0] < 0.3
    assert inward[-1] > 0.9
    assert np.all(np.diff(inward) > -0.005)
    # Round, so the first half of the way up is steeper than the second.
    assert inward[2] - inward[0] > inward[4] - inward[2]


def test_without_seams_everything_is_one_level_piece():
    flat = inflate(np.zeros((SIDE, SIDE), np.uint8), UNIT, 100)
    assert flat.min() > 0.95
    assert np.ptp(flat) < 0.01


def test_skin_is_found_with_eyes_and_mouth_closed_over(face):
    found = find_skin(lab_of(face), UNIT)
    assert found[140:270, 150:250].min() > 0.5
    assert found[:40].max() < 0.1


def test_strength_deepens_the_relief():
    image = plain(GREY)
    cv2.circle(image, (200, 200), 90, (60, 90, 190), -1)
    spreads = [grey_of(clay(image, strength))[140:260, 140:260].std() for strength in (0.3, 0.6, 1)]
    assert spreads[0] < spreads[1] < spreads[2]
