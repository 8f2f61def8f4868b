"""Puts two or three pictures of one size together into one."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from atelier.engine.stylise.operators import blur, luma, ramp
from atelier.engine.stylise.scene import Floats, as_floats

MODES = ("double_exposure", "fusion", "panorama", "collage")
_LEAST_SIDE = 8  # of the coarsest size in a pyramid

Step = Callable[[], None]


def steps_for(mode: str, count: int) -> int:
    """Return how many steps ``blend`` takes for ``count`` pictures."""
    return count if mode in ("fusion", "collage") else count - 1


def blend(
    pictures: Sequence[Floats], weights: Sequence[float], mode: str, softness: float, on_step: Step
) -> Floats:
    """Return ``pictures`` (each HxWx3) as one, as wide as all of them for a panorama.

    ``softness`` (0..1) is the width of the seams. Raises ValueError when no weight is above 0.
    """
    if max(weights) <= 0:
        raise ValueError("All weights are 0; at least one picture must count")
    shares = [weight / max(weights) for weight in weights]
    operate = {
        "double_exposure": _double_exposure,
        "fusion": _fusion,
        "panorama": _panorama,
        "collage": _collage,
    }[mode]
    return as_floats(np.clip(operate(pictures, shares, softness, on_step), 0, 1))


def _double_exposure(
    pictures: Sequence[Floats], shares: Sequence[float], softness: float, on_step: Step
) -> Floats:
    """Return the later pictures showing through the first one's dark parts, as on film."""
    result = as_floats(pictures[0] * shares[0])
    for picture, share in zip(pictures[1:], shares[1:], strict=True):
        # Film adds light; a tone curve keeps both from washing out.
        light = 1 - (1 - result) * (1 - picture * share)
        dark = blur(luma(result), 2 + 20 * softness)
        shown = ramp(dark, 0.95, 0.15) * min(share, 1.0)
        mixed = result + (picture - result) * (0.55 * shown)[..., None]
        result = as_floats(0.45 * light + 0.55 * mixed)
        on_step()
    low, high = np.percentile(result, (0.5, 99.5))
    return as_floats((result - low) / max(float(high - low), 0.2))


def _fusion(
    pictures: Sequence[Floats], shares: Sequence[float], softness: float, on_step: Step
) -> Floats:
    """Return from each picture what is sharp, vivid and well exposed there (Mertens 2007)."""
    masks = []
    for picture, share in zip(pictures, shares, strict=True):
        grey = luma(picture)
        contrast = np.abs(cv2.Laplacian(grey, cv2.CV_32F, ksize=3))
        vivid = picture.std(axis=2)
        exposed = np.exp(-(((picture - 0.5) ** 2).sum(axis=2)) / 0.25)
        striking = (contrast + 0.02) * (vivid + 0.05) * exposed * share
        masks.append(blur(as_floats(striking), 1 + 12 * softness) + np.float32(1e-6))
    return _joined(pictures, masks, on_step)


def _panorama(
    pictures: Sequence[Floats], shares: Sequence[float], softness: float, on_step: Step
) -> Floats:
    """Return the pictures side by side, overlapping where a seam shows least."""
    result = _share_of_width(pictures[0], shares[0])
    for picture, share in zip(pictures[1:], shares[1:], strict=True):
        part = _share_of_width(picture, share)
        overlap = round(min(result.shape[1], part.shape[1]) * (0.04 + 0.36 * softness))
        overlap = max(1, min(overlap, result.shape[1], part.shape[1]))
        result = _side_by_side(result, part, overlap)
        on_step()
    return result


def _share_of_width(picture: Floats, share: float) -> Floats:
    width = max(2, round(picture.shape[1] * max(share, 0.1)))
    left = (picture.shape[1] - width) // 2
    return picture[:, left : left + width]


def _side_by_side(left: Floats, right: Floats, overlap: int) -> Floats:
    height, start = left.shape[0], left.shape[1] - overlap
    total = start + right.shape[1]
    seam = _least_seam(left[:, start:], right[:, :overlap])
    x = np.arange(total)[None]
    chosen = as_floats(x >= start + seam[:, None])
    missing = total - left.shape[1]
    first = as_floats(cv2.copyMakeBorder(left, 0, 0, 0, missing, cv2.BORDER_REPLICATE))
    second = as_floats(cv2.copyMakeBorder(right, 0, 0, start, 0, cv2.BORDER_REPLICATE))
    # The blend must not reach past the overlap, where one of the two is only a border drawn out.
    reach = max(1.0, overlap / 10)
    soft = np.clip(blur(chosen, reach), 0, 1)
    soft = np.where(x < start, 0, np.where(x >= left.shape[1], 1, soft))
    levels = max(1, min(6, int(np.log2(max(overlap, 2))) - 2))
    return _pyramid_blend([first, second], [as_floats(1 - soft), as_floats(soft)], levels)[:height]


def _least_seam(one: Floats, other: Floats) -> NDArray[np.int64]:
    """Return for each row the column where both differ least, one step aside per row at most."""
    cost = np.abs(one - other).sum(axis=2)
    width = cost.shape[1]
    position = np.linspace(-1, 1, width, dtype=np.float32)
    cost = cost + 0.6 * position**4
    total = cost.copy()
    for row in range(1, len(cost)):
        before = np.pad(total[row - 1], 1, mode="edge")
        total[row] += np.minimum(np.minimum(before[:-2], before[1:-1]), before[2:])
    seam = np.empty(len(cost), np.int64)
    seam[-1] = int(total[-1].argmin())
    for row in range(len(cost) - 2, -1, -1):
        low = max(0, seam[row + 1] - 1)
        seam[row] = low + int(total[row, low : seam[row + 1] + 2].argmin())
    return seam


def _collage(
    pictures: Sequence[Floats], shares: Sequence[float], softness: float, on_step: Step
) -> Floats:
    """Return slanting panels beside each other, each picture's width by its weight."""
    height, width = pictures[0].shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    slanted = (x + (y - height / 2) * 0.22) / width
    edges = np.concatenate([[0.0], np.cumsum(shares) / sum(shares)])
    soft = 0.002 + 0.16 * softness
    masks, moved = [], []
    for number, picture in enumerate(pictures):
        low, high = float(edges[number]), float(edges[number + 1])
        mask = np.ones((height, width), np.float32)
        if number > 0:
            mask *= ramp(slanted, low - soft, low + soft)
        if number < len(pictures) - 1:
            mask *= ramp(slanted, high + soft, high - soft)
        masks.append(as_floats(mask + 1e-6))
        moved.append(_moved_to(picture, (low + high) / 2))
    return _joined(moved, masks, on_step)


def _moved_to(picture: Floats, place: float) -> Floats:
    """Return ``picture`` with its middle at ``place`` (a share of the width), mirrored at ends."""
    shift = round((place - 0.5) * picture.shape[1])
    if shift == 0:
        return picture
    before, after = max(shift, 0), max(-shift, 0)
    wide = cv2.copyMakeBorder(picture, 0, 0, before, after, cv2.BORDER_REFLECT)
    return as_floats(wide[:, after : after + picture.shape[1]])


def _joined(pictures: Sequence[Floats], masks: Sequence[Floats], on_step: Step) -> Floats:
    height, width = masks[0].shape
    levels = max(1, int(np.log2(max(min(height, width) / _LEAST_SIDE, 2))))
    return _pyramid_blend(pictures, masks, levels, on_step)


def _pyramid_blend(
    pictures: Sequence[Floats],
    masks: Sequence[Floats],
    levels: int,
    on_step: Step = lambda: None,
) -> Floats:
    """Return the pictures by their masks, coarse shapes blended widely and fine ones narrowly."""
    total = sum(masks[1:], start=masks[0])
    layers: list[Floats] = []
    for picture, mask in zip(pictures, masks, strict=True):
        shares = _gaussian_pyramid(as_floats(mask / total), levels)
        bands = _laplacian_pyramid(as_floats(picture), levels)
        weighted = [band * share[..., None] for band, share in zip(bands, shares, strict=True)]
        layers = (
            weighted
            if not layers
            else [as_floats(one + other) for one, other in zip(layers, weighted, strict=True)]
        )
        on_step()
    result = layers[-1]
    for band in reversed(layers[:-1]):
        result = as_floats(cv2.pyrUp(result, dstsize=(band.shape[1], band.shape[0])) + band)
    return result


def _gaussian_pyramid(image: Floats, levels: int) -> list[Floats]:
    pyramid = [image]
    for _ in range(levels):
        pyramid.append(as_floats(cv2.pyrDown(pyramid[-1])))
    return pyramid


def _laplacian_pyramid(image: Floats, levels: int) -> list[Floats]:
    sizes = _gaussian_pyramid(image, levels)
    bands = [
        as_floats(fine - cv2.pyrUp(coarse, dstsize=(fine.shape[1], fine.shape[0])))
        for fine, coarse in pairwise(sizes)
    ]
    return [*bands, sizes[-1]]
