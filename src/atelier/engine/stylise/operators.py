"""Tone, colour and smoothing on float32 pictures in 0..1, channels last in RGB order."""

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .scene import Bytes, Floats, as_floats

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # Rec. 601, as cv2 weighs grey


def to_unit(image: NDArray[Any]) -> Floats:
    return as_floats(np.multiply(image, np.float32(1 / 255), dtype=np.float32))


def to_bytes(image: Floats) -> Bytes:
    return cv2.convertScaleAbs(np.clip(image, 0, 1), alpha=255).astype(np.uint8, copy=False)


def luma(rgb: Floats) -> Floats:
    return as_floats(cv2.transform(rgb, LUMA[None]).reshape(rgb.shape[:2]))


def peak(rgb: Floats) -> Floats:
    """Return the largest of the three channels, HxW."""
    red, green, blue = cv2.split(rgb)
    return as_floats(cv2.max(cv2.max(red, green), blue))


def to_lab(rgb: Floats) -> Floats:
    """Return CIE Lab: L 0..100, a and b about -100..100."""
    return as_floats(cv2.cvtColor(np.clip(rgb, 0, 1), cv2.COLOR_RGB2Lab))


def from_lab(lab: Floats) -> Floats:
    return as_floats(np.clip(cv2.cvtColor(lab, cv2.COLOR_Lab2RGB), 0, 1))


def blend(below: Floats, above: Floats, amount: Floats | float) -> Floats:
    """Return ``below`` with ``amount`` (0..1, HxW or a number) of ``above`` over it."""
    weight = amount if isinstance(amount, float) else _spread(amount, below)
    return as_floats(below + (above - below) * weight)


def screen(below: Floats, light: Floats) -> Floats:
    return as_floats(1 - (1 - below) * (1 - light))


def ramp(values: Floats, low: float, high: float) -> Floats:
    """Return 0 below ``low``, 1 above ``high``, a smooth step between; may also descend."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return as_floats(t * t * (3 - 2 * t))


def blur(image: Floats, sigma: float) -> Floats:
    """Return a Gaussian blur; wide ones are done on a smaller copy, where nobody sees it."""
    if sigma < 0.2:
        return image
    if sigma <= 6:
        return as_floats(cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT))
    height, width = image.shape[:2]
    shrink = sigma / 3
    small_size = (max(2, math.ceil(width / shrink)), max(2, math.ceil(height / shrink)))
    small = cv2.resize(image, small_size, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), 3, borderType=cv2.BORDER_REFLECT)
    large = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    # Rounds the enlargement's facets, which light on a height field would show.
    return as_floats(
        cv2.GaussianBlur(large, (0, 0), min(0.8 * shrink, 6), borderType=cv2.BORDER_REFLECT)
    )


def rounded(rgb: Floats, radius: float) -> Floats:
    """Return ``rgb`` with corners rounded to about ``radius`` pixels and thin things gone."""
    return to_unit(cv2.medianBlur(to_bytes(rgb), 2 * max(1, round(radius)) + 1))


def across_channels(values: Floats) -> Floats:
    """Return the sum of the three channels, HxW; far quicker than ``sum(axis=2)``."""
    total = cv2.transform(values, np.ones((1, 3), dtype=np.float32))
    return as_floats(total.reshape(values.shape[:2]))


def vibrance(lab: Floats, gain: float, ceiling: float = 70.0) -> Floats:
    """Return ``lab`` with chroma raised by up to ``gain``, less for what is vivid already.

    Chroma bends towards ``ceiling`` instead of clipping, so vivid areas keep their modelling.
    """
    chroma = cv2.magnitude(lab[..., 1], lab[..., 2])
    factor = 1 + (gain - 1) * np.exp(-((chroma / ceiling) ** 2))
    return as_floats(lab * np.dstack([np.ones_like(factor), factor, factor]))


def smooth_keeping_edges(rgb: Floats, radius: float, contrast: float) -> Floats:
    """Return ``rgb`` without detail of less than ``contrast`` (0..1) within ``radius`` pixels."""
    picture = to_bytes(rgb)
    return to_unit(
        cv2.ximgproc.dtFilter(
            picture, picture, max(radius, 1.0), contrast * 255, mode=cv2.ximgproc.DTF_NC
        )
    )


def level_out(rgb: Floats, reach: float, contrast: float) -> Floats:
    """Return ``rgb`` with the colours between edges evened out over about sqrt(``reach``) pixels.

    Unlike mean shift it leaves soft shading soft. ``contrast`` in 0..255 is where edges begin.
    """
    guide = to_bytes(rgb)
    planes = [
        cv2.ximgproc.fastGlobalSmootherFilter(guide, plane, reach, contrast)
        for plane in cv2.split(rgb)
    ]
    return as_floats(cv2.merge(planes))


def crisp(rgb: Floats, radius: float) -> Floats:
    """Return ``rgb`` with edges steep and no halos: never past what is within ``radius``."""
    size = 2 * max(1, round(radius)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    sharp = rgb + 2.5 * (rgb - blur(rgb, radius))
    return as_floats(np.clip(sharp, cv2.erode(rgb, kernel), cv2.dilate(rgb, kernel)))


def merge_colours(rgb: Floats, radius: float, contrast: float, pixels: int = 220_000) -> Floats:
    """Return ``rgb`` with neighbouring similar colours pulled together (mean shift).

    ``radius`` is in pixels of ``rgb``, ``contrast`` in 0..1. Mean shift is slow, so it runs on
    a copy of about ``pixels`` pixels; the picture's own edges guide the way back up.
    """
    height, width = rgb.shape[:2]
    shrink = max(1.0, math.sqrt(height * width / pixels))
    small_size = (max(8, round(width / shrink)), max(8, round(height / shrink)))
    small = cv2.resize(to_bytes(rgb), small_size, interpolation=cv2.INTER_AREA)
    merged = cv2.pyrMeanShiftFiltering(small, max(2.0, radius / shrink), contrast * 255, maxLevel=1)
    if shrink <= 1.0:
        return to_unit(merged)
    # What mean shift took away is smooth inside regions, so it is cheap to enlarge; taking it
    # from the full picture keeps the edges as sharp as they were.
    taken = cv2.resize(to_unit(small) - to_unit(merged), (width, height))
    return as_floats(np.clip(rgb - taken, 0, 1))


def _spread(amount: Floats, like: Floats) -> Floats:
    return amount[..., None] if amount.ndim < like.ndim else amount
