"""Cartoon: a few bold flat colours, thick ink outlines and halftone dots in the shadows."""

import math
from collections.abc import Iterator

import numpy as np

from .flow import edges, follow
from .operators import (
    blend,
    blur,
    from_lab,
    merge_colours,
    ramp,
    rounded,
    smooth_keeping_edges,
    to_lab,
)
from .palette import divide, pick_colours
from .scene import Floats, Scene, Style, as_floats

COLOURS = 20  # more look like a photo again, fewer lose faces
INK = np.array([0.05, 0.04, 0.07], dtype=np.float32)


def paint(scene: Scene) -> Iterator[Floats]:
    unit = scene.unit
    clean = smooth_keeping_edges(scene.rgb, 9 * unit, scene.push(0.18, 0.24))
    yield clean
    flat = merge_colours(rounded(clean, 2.2 * unit), 14 * unit, scene.push(0.09, 0.13))
    yield flat
    lab = to_lab(flat)
    colours = pick_colours(lab, COLOURS, scene.rng)
    regions = divide(lab, colours, 1.6 * unit)
    yield from_lab(regions.fill(colours, 0.5 * unit))
    picture = from_lab(regions.fill(punch(colours, scene.push(1.7, 1.9)), 0.5 * unit))
    yield picture
    picture = dots(picture, lab[..., 0], unit)
    yield picture
    flow = follow(clean, 3.5 * unit)
    yield picture
    fine = ramp(edges(clean, flow, 2.9 * unit, 6 * unit), 0.024, scene.push(0.058, 0.045, 0.07))
    bold = ramp(edges(clean, flow, 7.0 * unit, 9 * unit), 0.050, scene.push(0.092, 0.075, 0.11))
    yield blend(picture, np.broadcast_to(INK, picture.shape), np.maximum(fine, bold))


def punch(colours: Floats, gain: float) -> Floats:
    """Return Lab ``colours`` stretched from ink to white, with chroma up by ``gain``."""
    result = colours.copy()
    low, high = float(colours[:, 0].min()), float(colours[:, 0].max())
    span = max(high - low, 60.0)  # a flat picture must not be torn to black and white
    middle = (low + high) / 2
    lightness = 57 + (colours[:, 0] - middle) / span * 86 + (middle - 50) * 0.5
    result[:, 0] = np.clip(lightness, 6, 98)
    chroma = np.hypot(colours[:, 1], colours[:, 2])
    result[:, 1:] *= (1 + (gain - 1) * np.exp(-((chroma / 75) ** 2)))[:, None]
    # Comics have no grey: shadows are blue, and what is pale is cool, so that skin stands out.
    neutral = np.exp(-((chroma / 12) ** 2))
    dark = np.clip(1 - result[:, 0] / 50, 0, 1)
    pale = np.clip((result[:, 0] - 40) / 25, 0, 1) * np.clip((98 - result[:, 0]) / 10, 0, 1)
    result[:, 1] += neutral * (5 * dark - 3 * pale)
    result[:, 2] += neutral * (-18 * dark - 8 * pale)
    return result


def dots(picture: Floats, lightness: Floats, unit: float) -> Floats:
    """Return ``picture`` with a 45-degree dot screen, larger dots where it is darker."""
    height, width = lightness.shape
    pitch = max(4.0, 6.5 * unit)
    turn = math.pi / pitch
    x = np.arange(width, dtype=np.float32) * turn
    y = np.arange(height, dtype=np.float32)[:, None] * turn
    screen = np.abs(np.cos(x + y) * np.cos(x - y))  # 1 in the middle of a dot
    shadow = ramp(blur(lightness, 3 * unit), 48, 12) * 0.55
    edge = 2.4 / pitch  # a dot's rim is about a pixel soft
    inside = ramp(as_floats(screen - (1 - shadow)), -edge, edge)
    return blend(picture, picture * 0.42, as_floats(inside * ramp(shadow, 0.02, 0.1)))


STYLE = Style(steps=7, paint=paint)
