"""Takes a photo to working size, has a style paint it, and brings the result back."""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from . import anime, cartoon, clay, oil_painting, realistic
from .operators import to_bytes, to_unit
from .scene import Bytes, Floats, Scene, Style

Step: TypeAlias = Callable[[int, int], None]
Preview: TypeAlias = Callable[[Bytes], None] | None

_STYLES: dict[str, Style] = {
    "clay": clay.STYLE,
    "anime": anime.STYLE,
    "realistic": realistic.STYLE,
    "cartoon": cartoon.STYLE,
    "oil_painting": oil_painting.STYLE,
}
STYLES: tuple[str, ...] = tuple(_STYLES)

MOST_PIXELS = 2_100_000  # 2 megapixels take 1-3 s; larger photos are painted at this size
LARGEST_ENLARGEMENT = 2.0
LONGEST_SIDE = 16_000  # cv2.remap takes no side past 32767
MARGIN = 8  # mirrored pixels all round, so that no filter sees the picture's border
SHORTEST_SIDE = 64  # with margin; keeps every filter's neighbourhood inside the picture


def stylise(
    image: Bytes,
    style: str,
    strength: float,
    seed: int,
    *,
    on_step: Step,
    on_preview: Preview = None,
) -> Bytes:
    """Return ``image`` (RGB, HxWx3) painted in ``style``, at the same size.

    ``strength`` 0 gives the photo back, 0.6 is the default, 1 the strongest. The same seed
    gives the same picture. ``on_step(value, max)`` is called after each finished step, value
    from 1 to max, and may raise to stop; ``on_preview`` then gets the picture so far, at
    working size. Raises ValueError, listing the styles, for an unknown one.
    """
    if style not in _STYLES:
        raise ValueError(f"unknown style {style!r}; known styles: {', '.join(STYLES)}")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"expected HxWx3 uint8, got {image.shape} {image.dtype}")
    chosen = _STYLES[style]
    strength = min(max(float(strength), 0.0), 1.0)
    small = _resize(image, _working_size(image.shape[1], image.shape[0], chosen.least_pixels))
    scene = _scene(small, strength, seed)
    last = chosen.steps + 1
    picture = scene.rgb
    for value, picture in enumerate(chosen.paint(scene), start=1):
        on_step(value, last)
        if on_preview is not None:
            on_preview(to_bytes(_crop(picture, small)))
    result = _bring_back(image, small, _crop(picture, small), chosen, strength)
    on_step(last, last)
    if on_preview is not None:
        on_preview(_resize(result, (small.shape[1], small.shape[0])))
    return result


def _working_size(width: int, height: int, least_pixels: int) -> tuple[int, int]:
    pixels = width * height
    wanted = min(max(pixels, least_pixels), MOST_PIXELS)
    factor = min(math.sqrt(wanted / pixels), LARGEST_ENLARGEMENT, LONGEST_SIDE / max(width, height))
    return max(1, round(width * factor)), max(1, round(height * factor))


def _scene(small: Bytes, strength: float, seed: int) -> Scene:
    height, width = small.shape[:2]
    extra_height = max(2 * MARGIN, SHORTEST_SIDE - height)
    extra_width = max(2 * MARGIN, SHORTEST_SIDE - width)
    padded = cv2.copyMakeBorder(
        small,
        MARGIN,
        extra_height - MARGIN,
        MARGIN,
        extra_width - MARGIN,
        cv2.BORDER_REFLECT,
    ).astype(np.uint8, copy=False)
    # numpy takes no negative seed; ComfyUI's are unsigned 64-bit.
    rng = np.random.default_rng(seed % 2**64)
    return Scene(to_unit(padded), math.sqrt(width * height) / 1000, strength, rng)


def _crop(picture: Floats, small: Bytes) -> Floats:
    return picture[MARGIN : MARGIN + small.shape[0], MARGIN : MARGIN + small.shape[1]]


def _bring_back(
    image: Bytes, small: Bytes, painted: Floats, style: Style, strength: float
) -> Bytes:
    size = (image.shape[1], image.shape[0])
    if style.keeps_detail:
        # Signed 16-bit halves the memory that floats would need for a 48-megapixel photo.
        change = np.rint(painted * 255).astype(np.int16) - small
        result = cv2.add(image, _resize(change, size), dtype=cv2.CV_8U)
    else:
        result = _resize(to_bytes(painted), size)
    # Steep at first: the default of 0.6 lets only 6 % of the photo through.
    share = 1 - (1 - strength) ** 3
    return cv2.addWeighted(image, 1 - share, result, share, 0).astype(np.uint8, copy=False)


def _resize(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    if (image.shape[1], image.shape[0]) == size:
        return image
    shrinks = size[0] * size[1] < image.shape[0] * image.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cv2.resize(image, size, interpolation=how)
