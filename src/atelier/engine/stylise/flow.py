"""The direction of structure in a picture, and lines drawn along it."""

from dataclasses import dataclass

import cv2
import numpy as np

from .operators import across_channels, blur, luma
from .scene import Floats, as_floats


@dataclass(frozen=True)
class Flow:
    """Unit vectors along edges (``x``, ``y``, HxW) and how sure they are (``coherence`` 0..1)."""

    x: Floats
    y: Floats
    coherence: Floats


def follow(rgb: Floats, sigma: float) -> Flow:
    """Return the flow of ``rgb`` from its structure tensor, smoothed over ``sigma`` pixels."""
    gradient_x = cv2.Scharr(rgb, cv2.CV_32F, 1, 0)
    gradient_y = cv2.Scharr(rgb, cv2.CV_32F, 0, 1)
    xx, yy, xy = (
        blur(across_channels(product), sigma)
        for product in (
            gradient_x * gradient_x,
            gradient_y * gradient_y,
            gradient_x * gradient_y,
        )
    )
    spread = cv2.magnitude(xx - yy, 2 * xy)
    # Half the doubled angle is across the edge; a quarter turn more is along it.
    angle = 0.5 * np.arctan2(2 * xy, xx - yy) + np.float32(np.pi / 2)
    coherence = spread / (xx + yy + 1e-4)
    return Flow(as_floats(np.cos(angle)), as_floats(np.sin(angle)), as_floats(coherence))


def smear(field: Floats, flow: Flow, half_length: float, stride: float = 1.0) -> Floats:
    """Return ``field`` averaged along ``flow`` over ``half_length`` pixels each way.

    Walks by ``stride`` pixels with Gaussian weights (line integral convolution).
    """
    height, width = field.shape[:2]
    start_x, start_y = np.meshgrid(
        np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    )
    count = max(1, round(half_length / stride))
    total = field.copy()
    weights = 1.0
    for side in (1.0, -1.0):
        here_x, here_y = start_x, start_y
        step_x, step_y = flow.x * side, flow.y * side
        for index in range(1, count + 1):
            here_x = here_x + step_x * stride
            here_y = here_y + step_y * stride
            weight = float(np.exp(-2.0 * (index / count) ** 2))
            total += weight * _sample(field, here_x, here_y, cv2.INTER_LINEAR)
            weights += weight
            if index < count:
                next_x = _sample(flow.x, here_x, here_y, cv2.INTER_NEAREST)
                next_y = _sample(flow.y, here_x, here_y, cv2.INTER_NEAREST)
                # A direction is the same line either way round: keep walking forwards.
                turned = next_x * step_x + next_y * step_y < 0
                forwards = np.where(turned, np.float32(-1), np.float32(1))
                step_x, step_y = next_x * forwards, next_y * forwards
    return as_floats(total / weights)


def edges(rgb: Floats, flow: Flow, width: float, length: float) -> Floats:
    """Return how strongly each pixel is the dark side of an edge, about 0..0.3.

    A difference of Gaussians about ``width`` pixels wide, relative to local brightness so that
    dark areas are drawn like bright ones, made continuous along ``flow`` over ``length``.
    """
    grey = luma(rgb)
    sigma = max(0.5, width / 2)
    around = blur(grey, sigma * 1.6)
    dark_side = (around - blur(grey, sigma)) / (around + 0.15)
    return smear(as_floats(dark_side), flow, length, stride=max(1.0, length / 5))


def _sample(field: Floats, x: Floats, y: Floats, how: int) -> Floats:
    return as_floats(cv2.remap(field, x, y, how, borderMode=cv2.BORDER_REPLICATE))
