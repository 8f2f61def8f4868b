"""Enlarges pictures so that edges stay crisp and nothing rings."""

import math
from collections.abc import Callable, Iterator

import cv2
import numpy as np

from atelier.engine.stylise.operators import blur, luma
from atelier.engine.stylise.scene import Bytes, Floats, as_bytes, as_floats

_DENOISED_PIXELS = 4_000_000  # larger pictures are not noisy at the size they are seen


def steps_for(factor: float) -> int:
    """Return how many steps ``enlarge`` takes."""
    return 1 + max(1, math.ceil(math.log2(factor) - 1e-9))


def enlarge(
    rgb: Bytes,
    width: int,
    height: int,
    detail: float,
    denoise: float,
    *,
    on_step: Callable[[], None],
) -> Bytes:
    """Return ``rgb`` (HxWx3) at another, larger size.

    ``denoise`` (0..1) takes out grain and JPEG blocks first; ``detail`` (0..1) says how far the
    softness of each doubling is taken back.
    """
    picture = _clean(rgb, denoise)
    on_step()
    for size in _sizes(rgb.shape[1], rgb.shape[0], width, height):
        picture = _enlarged_once(picture, size, detail)
        on_step()
    return picture


def _sizes(width: int, height: int, last_width: int, last_height: int) -> Iterator[tuple[int, int]]:
    factor = max(last_width / width, last_height / height, 1.0)
    count = steps_for(factor) - 1
    for number in range(1, count):
        grown = factor ** (number / count)
        yield round(width * grown), round(height * grown)
    yield last_width, last_height


def _clean(rgb: Bytes, denoise: float) -> Bytes:
    if denoise <= 0 or rgb.shape[0] * rgb.shape[1] > _DENOISED_PIXELS:
        return rgb
    guide = rgb
    radius, flatness = 2, (denoise * 14) ** 2
    smooth = cv2.ximgproc.guidedFilter(guide, rgb, radius, flatness)
    # Colour noise is uglier than grain and easier to take out.
    ycc, soft = (cv2.cvtColor(part, cv2.COLOR_RGB2YCrCb) for part in (rgb, smooth))
    for plane in (1, 2):
        soft[..., plane] = cv2.ximgproc.guidedFilter(
            ycc[..., 0].copy(), ycc[..., plane].copy(), 3, (denoise * 25) ** 2
        )
    result = cv2.cvtColor(soft, cv2.COLOR_YCrCb2RGB)
    return as_bytes(result)


def _enlarged_once(picture: Bytes, size: tuple[int, int], detail: float) -> Bytes:
    """Return ``picture`` enlarged by up to 2, in bands: a large one as floats takes a lot."""
    large = cv2.resize(picture, size, interpolation=cv2.INTER_LANCZOS4)
    # Lanczos overshoots at edges; no pixel may leave the range of those it lies between.
    kernel = np.ones((3, 3), np.uint8)
    low = as_bytes(cv2.resize(cv2.erode(picture, kernel), size, interpolation=cv2.INTER_LINEAR))
    high = as_bytes(cv2.resize(cv2.dilate(picture, kernel), size, interpolation=cv2.INTER_LINEAR))
    large = as_bytes(np.clip(large, low, high))
    if detail <= 0:
        return large
    band = max(16, 4_000_000 // size[0])
    result = np.empty_like(large)
    for top in range(0, size[1], band):
        above, below = max(0, top - 8), min(size[1], top + band + 8)
        crisp = _crisped(large[above:below], low[above:below], high[above:below], detail)
        end = min(size[1], top + band)
        result[top:end] = crisp[top - above : end - above]
    return result


def _crisped(rgb: Bytes, low: Bytes, high: Bytes, detail: float) -> Bytes:
    """Return ``rgb`` sharper by its own detail, never past ``low`` and ``high``."""
    grey = luma(as_floats(rgb))
    fine: Floats = as_floats(grey - blur(grey, 1.2))
    coarse = as_floats(grey - blur(grey, 2.5))
    added = detail * (1.6 * fine + 0.5 * coarse)
    # What is below the noise is left alone.
    added = added * (1 - np.exp(-((fine / 1.5) ** 2)))
    sharp = rgb + added[..., None]
    return as_bytes(np.rint(np.clip(sharp, low, high)).astype(np.uint8))
