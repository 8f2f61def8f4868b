"""Noise from a seed, and light on a height field."""

import cv2
import numpy as np

from .scene import Floats, as_floats


def noise(shape: tuple[int, int], cell: float, rng: np.random.Generator) -> Floats:
    """Return smooth noise, HxW, mean 0 and deviation about 1, with bumps ``cell`` pixels wide."""
    height, width = shape
    cell = max(cell, 1.0)  # in a tiny picture there is nothing between pixels
    # Two cells more than needed, so that the cubic enlargement has no flat margin.
    coarse = (max(4, round(width / cell) + 2), max(4, round(height / cell) + 2))
    grid = rng.standard_normal((coarse[1], coarse[0])).astype(np.float32)
    spread = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    spread = cv2.GaussianBlur(spread, (0, 0), max(0.3, min(cell * 0.3, 6)))
    return as_floats(spread / (spread.std() + 1e-3))


def slopes(height: Floats) -> tuple[Floats, Floats]:
    """Return the rise per pixel to the right and downwards."""
    # Scharr's weights add up to 32 per pixel of distance.
    x = cv2.Scharr(height, cv2.CV_32F, 1, 0, scale=1 / 32, borderType=cv2.BORDER_REFLECT)
    y = cv2.Scharr(height, cv2.CV_32F, 0, 1, scale=1 / 32, borderType=cv2.BORDER_REFLECT)
    return as_floats(x), as_floats(y)


def light(height: Floats, gloss: float) -> tuple[Floats, Floats]:
    """Light ``height`` (in pixels) from the upper left.

    Returns diffuse light (1 on level ground, about 0..1.6) and a highlight (0..1) that is the
    tighter the higher ``gloss`` (a Blinn-Phong exponent).
    """
    slope_x, slope_y = slopes(height)
    length = np.sqrt(1 + slope_x * slope_x + slope_y * slope_y)
    source = np.array([-0.45, -0.55, 0.70])  # to the light: left, up, towards the viewer
    source /= np.linalg.norm(source)
    towards = (-slope_x * source[0] - slope_y * source[1] + source[2]) / length
    diffuse = np.clip(towards / source[2], 0, None)
    halfway = source + np.array([0.0, 0.0, 1.0])
    halfway /= np.linalg.norm(halfway)
    facing = (-slope_x * halfway[0] - slope_y * halfway[1] + halfway[2]) / length
    highlight = np.power(np.clip(facing, 0, 1), np.float32(gloss))
    level = float(halfway[2]) ** gloss  # what level ground would reflect everywhere
    shine = np.clip((highlight - level) / (1 - level), 0, 1)
    return as_floats(diffuse), as_floats(shine)
