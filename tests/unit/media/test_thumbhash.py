"""Our thumbhash against the published package, where that one works, and by decoding."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from thumbhash import (
    rgba_to_thumb_hash,
    thumb_hash_to_approximate_aspect_ratio,
    thumb_hash_to_average_rgba,
)

from atelier.media.thumbhash import thumbhash


def nibbles(data: bytes) -> list[int]:
    return [half for byte in data for half in (byte & 15, byte >> 4)]


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (16, 9), (9, 16), (32, 3), (100, 75)])
def test_opaque_pictures_have_the_published_hash(size: tuple[int, int]) -> None:
    rng = random.Random(size[0] * 1000 + size[1])
    small = Image.frombytes("RGB", (4, 4), rng.randbytes(48)).resize(size)
    rgba = small.convert("RGBA").tobytes()
    ours = thumbhash(*size, rgba)
    published = bytes(rgba_to_thumb_hash(*size, list(rgba)))
    assert len(ours) == len(published)
    # Sums in another order may fall on the other side of a rounding.
    assert all(
        abs(a - b) <= 1 for a, b in zip(nibbles(ours)[6:], nibbles(published)[6:], strict=True)
    )
    assert sum(a != b for a, b in zip(ours, published, strict=True)) <= 2


def test_a_transparent_half_shows() -> None:
    """By hand: the package fails here, which is why it isn't used."""
    image = Image.new("RGBA", (16, 8), (200, 100, 50, 255))
    image.paste((0, 0, 0, 0), (0, 0, 8, 8))
    made = thumbhash(16, 8, image.tobytes())
    red, green, blue, alpha = thumb_hash_to_average_rgba(list(made))
    assert (red * 255, green * 255, blue * 255) == pytest.approx((200, 100, 50), abs=10)
    assert alpha == pytest.approx(0.5, abs=1 / 15)
    # The first cosine of a step from 0 to 1 is 1/pi = 0.318, at 15 levels: 5.
    assert made[5] >> 4 == 5
    # Behind 6 bytes, 10 terms of brightness and 5 of either colour difference: the lowest.
    assert nibbles(made)[2 * 6 + 20] == 0


def test_what_is_wholly_transparent_has_a_hash() -> None:
    made = list(thumbhash(5, 5, bytes(100)))
    assert thumb_hash_to_average_rgba(made)[3] == 0


@pytest.mark.parametrize(("size", "ratio"), [((16, 16), 1), ((16, 8), 7 / 4), ((8, 16), 4 / 7)])
def test_the_shape_can_be_read_back(size: tuple[int, int], ratio: float) -> None:
    made = list(thumbhash(*size, bytes([9, 9, 9, 255]) * (size[0] * size[1])))
    assert thumb_hash_to_approximate_aspect_ratio(made) == pytest.approx(ratio)


@settings(max_examples=25, deadline=None)
@given(width=st.integers(1, 20), height=st.integers(1, 20), data=st.data())
def test_any_pixels_have_a_hash_of_the_announced_length(
    width: int, height: int, data: st.DataObject
) -> None:
    size = width * height * 4
    rgba = data.draw(st.binary(min_size=size, max_size=size))
    assert 5 < len(thumbhash(width, height, rgba)) <= 40


@pytest.mark.parametrize(("width", "height", "length"), [(0, 1, 0), (101, 1, 404), (2, 2, 15)])
def test_what_is_no_small_picture_is_an_error(width: int, height: int, length: int) -> None:
    with pytest.raises(ValueError, match="at most 100 a side"):
        thumbhash(width, height, bytes(length))
