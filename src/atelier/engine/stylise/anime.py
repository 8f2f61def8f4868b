"""Anime: clean luminous colours in cel shades, cool shadows, thin flowing lines, bloom."""

from collections.abc import Iterator

import numpy as np

from .flow import edges, follow
from .operators import (
    blend,
    blur,
    from_lab,
    luma,
    merge_colours,
    ramp,
    screen,
    smooth_keeping_edges,
    to_lab,
    vibrance,
)
from .scene import Floats, Scene, Style, as_floats

SHADES = 5  # cel shades from black to white
INK = np.array([0.13, 0.09, 0.17], dtype=np.float32)  # a dark plum; black looks dirty on skin


def paint(scene: Scene) -> Iterator[Floats]:
    unit = scene.unit
    clean = smooth_keeping_edges(scene.rgb, 9 * unit, scene.push(0.18, 0.24))
    yield clean
    flow = follow(clean, 2.2 * unit)
    lines = edges(clean, flow, 2.1 * unit, 6 * unit)
    yield clean
    flat = merge_colours(clean, 16 * unit, scene.push(0.09, 0.12))
    flat = smooth_keeping_edges(flat, 10 * unit, 0.16)
    yield flat
    lab = to_lab(flat)
    lab[..., 0] = cel_shade(brighten(lab[..., 0], scene.push(0.78, 0.68)), unit)
    yield from_lab(lab)
    picture = colour(lab, scene)
    yield picture
    picture = bloom(picture, unit)
    yield picture
    drawn = ramp(lines, 0.012, scene.push(0.040, 0.032, 0.055))
    ink = blend(picture * picture * 0.45, np.broadcast_to(INK, picture.shape), 0.6)
    yield blend(picture, ink, drawn * scene.push(0.9, 1.0))


def brighten(lightness: Floats, gamma: float) -> Floats:
    """Return L (0..100) stretched to the picture's range, mid-tones lifted by ``gamma`` < 1."""
    low, high = np.percentile(lightness[::4, ::4], (0.5, 99.5))
    # A flat picture has no range to stretch: never by more than a third.
    span = max(float(high - low), 72.0)
    middle = (float(high) + float(low)) / 2
    unit = np.clip((lightness - middle) / span + 0.5 * (middle / 50) ** 0.6, 0, 1)
    return as_floats(100 * np.power(unit, np.float32(gamma)))


def cel_shade(lightness: Floats, unit: float) -> Floats:
    """Return L in steps: crisp ones where light falls off quickly, soft ones in skies."""
    step = 100 / SHADES
    smooth = blur(lightness, 1.5 * unit)
    offset = smooth / step - np.floor(smooth / step) - 0.5
    change = np.abs(smooth - blur(smooth, 12 * unit))
    sharpness = 1.5 + 7 * ramp(change, 1.0, 6.0)
    stepped = (
        np.floor(smooth / step) + 0.5 + 0.5 * np.tanh(offset * sharpness) / np.tanh(0.5 * sharpness)
    ) * step
    # Detail that is sharper than the shades, such as eyes, stays on top of them.
    detail = lightness - smooth
    return as_floats(0.18 * smooth + 0.82 * stepped + 0.7 * detail)


def colour(lab: Floats, scene: Scene) -> Floats:
    """Return RGB with fresh colours: more chroma, violet-blue shadows, warm lights."""
    lab = vibrance(lab, scene.push(1.75, 1.95))
    dark = ramp(lab[..., 0], 55, 10)
    bright = ramp(lab[..., 0], 65, 100)
    lab[..., 1] += 3.0 * dark
    lab[..., 2] += -11.0 * dark + 2.5 * bright
    lab[..., 0] += 5.0 * dark  # shadows in anime are never black
    return from_lab(lab)


def bloom(picture: Floats, unit: float) -> Floats:
    light = picture * ramp(luma(picture), 0.55, 0.95)[..., None]
    near, far = blur(light, 8 * unit), blur(light, 30 * unit)
    return screen(picture, np.clip(0.16 * near + 0.16 * far, 0, 1))


STYLE = Style(steps=7, paint=paint)
