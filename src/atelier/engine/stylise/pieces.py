"""Where one piece of clay ends and another begins, and how a piece bulges in between."""

import math

import cv2
import numpy as np

from .operators import blur
from .scene import Bytes, Floats, as_floats

HUE_FIRST = (0.6, 1.0, 1.0)  # weights of L, a, b: a change of lightness may only be a shadow
SEEN = 2.0  # units: how coarsely the picture is looked at for seams
FAINTEST, CLEAR = 7.0, 17.0  # steps in Lab: what a seam is followed down to, and starts from
SHORTEST = 45.0  # units; an eye in a small face is no piece of its own
CELLS = 16  # how finely a bulge is worked out, per reach


def seams(lab: Floats, skin: Floats, unit: float) -> Bytes:
    """Return 255 on seams a pixel wide and 0 elsewhere: long lines where colours part.

    On ``skin`` (0..1) a change of lightness counts for less: it is the shadow of a nose.
    """
    seen = blur(lab, SEEN * unit)
    steepest = np.zeros(lab.shape[:2], dtype=np.float32)
    along_x, along_y = steepest.copy(), steepest.copy()
    for channel, weight in enumerate(HUE_FIRST):
        plane = np.ascontiguousarray(seen[..., channel])
        x = cv2.Scharr(plane, cv2.CV_32F, 1, 0, scale=weight / 32)
        y = cv2.Scharr(plane, cv2.CV_32F, 0, 1, scale=weight / 32)
        if channel == 0:
            x, y = x * (1 - 0.6 * skin), y * (1 - 0.6 * skin)
        slope = x * x + y * y
        larger = slope > steepest
        np.copyto(steepest, slope, where=larger)
        np.copyto(along_x, x, where=larger)
        np.copyto(along_y, y, where=larger)
    # A step of colour seen through a Gaussian rises by step / (2.5 sigma) per pixel: this makes
    # it hundredths of the step, in the integers that Canny takes. A central difference by
    # itself blurs like a variance of 0.4.
    scale = 100 * 2.5 * math.hypot(SEEN * unit, math.sqrt(0.4))
    dx, dy = ((plane * scale).clip(-32000, 32000).astype(np.int16) for plane in (along_x, along_y))
    lines = cv2.Canny(dx, dy, 100 * FAINTEST, 100 * CLEAR, L2gradient=True)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(lines, connectivity=8)
    extent = np.maximum(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT])
    keep = (extent > SHORTEST * unit).astype(np.uint8) * 255
    keep[0] = 0
    return keep[np.asarray(labels)]


def inflate(lines: Bytes, unit: float, reach: float) -> Floats:
    """Return 0..1: 0 on ``lines``, rising roundly to 1 about ``reach`` units away from them."""
    height, width = lines.shape
    cell = max(1.0, reach / CELLS * unit)
    size = (max(8, round(width / cell)), max(8, round(height / cell)))
    share = cv2.resize(lines, size, interpolation=cv2.INTER_AREA)
    # A line straight through a cell covers 1 / cell of it; half of that is held down already.
    free = np.where(share < 255 / cell / 2.2, np.float32(1), np.float32(0))
    # A membrane held down at the seams, blown up from below, stiff beyond its reach.
    leak = np.float32(1 / CELLS**2)
    away = cv2.distanceTransform((free * 255).astype(np.uint8), cv2.DIST_L2, 5)
    raised = np.minimum(away / CELLS, 1)
    cross = np.array([[0, 0.25, 0], [0.25, 0, 0.25], [0, 0.25, 0]], dtype=np.float32)
    for _ in range(100):
        raised = cv2.filter2D(raised, cv2.CV_32F, cross, borderType=cv2.BORDER_REFLECT)
        raised = (raised + leak) * (free / (1 + leak))
    rounded = np.sqrt(np.maximum(raised, 0))
    bulge = cv2.resize(as_floats(rounded), (width, height), interpolation=cv2.INTER_CUBIC)
    return blur(as_floats(bulge), 0.9 * cell)
