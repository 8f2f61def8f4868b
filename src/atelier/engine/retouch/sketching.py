"""Colours a drawing: cleaned lines over washes of watercolour or strokes of pencil on paper."""

import math
from collections.abc import Callable
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from atelier.engine.stylise.operators import blur, luma, ramp, to_unit
from atelier.engine.stylise.scene import Bytes, Floats, as_floats

MEDIA = ("watercolour", "coloured_pencil", "ink")
STEPS = 5
_PAPER = (0.985, 0.97, 0.935)
_INK = (0.13, 0.11, 0.14)
_LEAST_REGION = 0.0004  # of the picture; smaller ones take the colour around them
_PALETTES: Final = {
    "warm": ("#e8a33d", "#d9694a", "#c94f5f", "#f2c879", "#a8643f", "#7d8f69", "#e7b7a0"),
    "cool": ("#4f86b8", "#76b5c5", "#5d6aa8", "#9fc9b8", "#3f7f86", "#b0a7d0", "#d6dfe8"),
    "spring": ("#8dbb5a", "#f0a6b8", "#f5d76e", "#7cc4d8", "#c79bd2", "#f2b880", "#5fa67a"),
    "autumn": ("#b5562b", "#d99a2b", "#7c5a3a", "#9aa05a", "#c4473a", "#e3c08a", "#5f6b4a"),
}
PALETTES = (*_PALETTES, "from_sketch")


def colour_sketch(
    rgb: Bytes,
    medium: str,
    palette: str,
    strength: float,
    seed: int,
    *,
    on_step: Callable[[int], None],
) -> Floats:
    """Return ``rgb`` (HxWx3, dark lines on light paper) as a coloured drawing, 0..1.

    Each area that lines enclose gets a colour of the ``palette``, the ground around them a thin
    one; "from_sketch" keeps the drawing's own colours. ``strength`` (0..1) is how much paint
    there is. The same seed gives the same picture.
    """
    rng = np.random.default_rng(seed % 2**64)
    height, width = rgb.shape[:2]
    unit = math.sqrt(height * width) / 1000
    drawn, paper = _lines(rgb, unit)
    on_step(1)
    areas = _areas(drawn, unit)
    on_step(2)
    colours = _colours(rgb, paper, areas, palette, rng)
    on_step(3)
    grain = _grain((height, width), unit, rng)
    picture = np.broadcast_to(np.array(_PAPER, np.float32), rgb.shape)
    picture = as_floats(picture * (1 - 0.05 * grain[..., None]))
    if medium != "ink":
        layer = _wash if medium == "watercolour" else _strokes
        amount = as_floats(strength * layer(areas, grain, unit, rng))
        edge = 2.5 * unit if medium == "watercolour" else 1.0 * unit
        paint = blur(colours, edge)
        # Paint is a filter before the paper: colours multiply.
        picture = as_floats(picture * (1 + (paint - 1) * amount[..., None]))
    else:
        shade = _hatching(areas, unit, strength, rng)
        picture = as_floats(picture * (1 - shade[..., None]))
    on_step(4)
    worn = drawn * (1 - 0.25 * grain * (medium != "ink"))
    inked = picture * (1 - worn[..., None]) + np.array(_INK, np.float32) * worn[..., None]
    on_step(5)
    return as_floats(np.clip(inked, 0, 1))


def _lines(rgb: Bytes, unit: float) -> tuple[Floats, Floats]:
    """Return how dark the lines are (0..1, HxW) and the paper's brightness under them."""
    grey = luma(to_unit(rgb))
    size = 2 * max(3, round(12 * unit)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    paper = blur(as_floats(cv2.morphologyEx(grey, cv2.MORPH_CLOSE, kernel)), 8 * unit)
    dark = np.clip(1 - grey / np.maximum(paper, 0.05), 0, 1)
    high = max(float(np.percentile(dark, 99)), 0.15)
    return ramp(as_floats(dark / high), 0.22, 0.75), paper


def _areas(drawn: Floats, unit: float) -> NDArray[np.int32]:
    """Return the number of the enclosed area that each pixel is in; 0 is the ground."""
    size = 2 * max(1, round(2.0 * unit)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    closed = cv2.morphologyEx((drawn > 0.3).astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(1 - closed, connectivity=4)
    rim = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    rim = rim[rim > 0]
    # The ground is what covers most of the picture's border.
    ground = int(np.bincount(rim).argmax()) if len(rim) else 0
    small = stats[:, cv2.CC_STAT_AREA] < _LEAST_REGION * labels.size
    kept = np.array([n for n in range(1, count) if not small[n] and n != ground], np.int64)
    number = np.full(count, -1, np.int32)
    number[kept] = np.arange(1, len(kept) + 1)
    number[ground] = 0 if ground else -1
    known = number[labels]
    # Lines and specks belong to the nearest area.
    _, nearest = cv2.distanceTransformWithLabels(
        (known < 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    by_seed = np.zeros(int(nearest.max()) + 1, np.int32)
    by_seed[nearest[known >= 0]] = known[known >= 0]
    return np.where(known >= 0, known, by_seed[nearest]).astype(np.int32)


def _colours(
    rgb: Bytes,
    paper: Floats,
    areas: NDArray[np.int32],
    palette: str,
    rng: np.random.Generator,
) -> Floats:
    if palette == "from_sketch":
        flat = to_unit(rgb) / np.maximum(paper, 0.2)[..., None]
        return np.clip(blur(as_floats(np.clip(flat, 0, 1)), 3), 0, 1)
    paints = np.array([_parsed(text) for text in _PALETTES[palette]], np.float32)
    count = int(areas.max()) + 1
    order = np.concatenate([rng.permutation(len(paints)) for _ in range(count // len(paints) + 1)])
    chosen = paints[order[:count]] * rng.uniform(0.92, 1.06, (count, 1)).astype(np.float32)
    # The ground stays light, so that the drawing stands before it.
    chosen[0] = 1 - (1 - paints[-1]) * 0.45
    return as_floats(np.clip(chosen, 0, 1)[areas])


def _parsed(text: str) -> tuple[float, ...]:
    return tuple(int(text[start : start + 2], 16) / 255 for start in (1, 3, 5))


def _grain(shape: tuple[int, int], unit: float, rng: np.random.Generator) -> Floats:
    noise = as_floats(rng.standard_normal(shape))
    fine, coarse = blur(noise, 0.8 * unit + 0.3), blur(noise, 2.2 * unit + 0.5)
    mixed = fine / (fine.std() + 1e-6) + coarse / (coarse.std() + 1e-6)
    return as_floats(np.clip(0.5 + 0.2 * mixed, 0, 1))


def _clouds(shape: tuple[int, int], unit: float, size: float, rng: np.random.Generator) -> Floats:
    noise = blur(as_floats(rng.standard_normal(shape)), size * unit)
    return as_floats(noise / (noise.std() + 1e-6))


def _wash(areas: NDArray[np.int32], grain: Floats, unit: float, rng: np.random.Generator) -> Floats:
    """Return how much paint there is: pooled at the rims, thin in places, granulated."""
    edges = np.zeros(areas.shape, np.uint8)
    edges[:, 1:] |= areas[:, 1:] != areas[:, :-1]
    edges[1:] |= areas[1:] != areas[:-1]
    inside = as_floats(cv2.distanceTransform(1 - edges, cv2.DIST_L2, 5))
    pooled = np.exp(-((np.minimum(inside / (5 * unit + 1), 9)) ** 2))
    pools = _clouds(areas.shape, unit, 40, rng) * 0.12 + _clouds(areas.shape, unit, 12, rng) * 0.05
    amount = 0.78 + 0.3 * pooled + pools - 0.12 * (1 - grain)
    return as_floats(np.clip(amount, 0.25, 1.15))


def _strokes(
    areas: NDArray[np.int32], grain: Floats, unit: float, rng: np.random.Generator
) -> Floats:
    """Return how much pencil there is: strokes slanting a little differently in each area."""
    noise = as_floats(rng.standard_normal(areas.shape))
    length = max(5, round(26 * unit)) | 1
    amount = np.zeros(areas.shape, np.float32)
    for turn, slant in enumerate((32, 48, 64)):
        kernel = np.zeros((length, length), np.float32)
        dx, dy = math.cos(math.radians(slant)), math.sin(math.radians(slant))
        half = length // 2
        start = (round(half - dx * half), round(half + dy * half))
        end = (round(half + dx * half), round(half - dy * half))
        cv2.line(kernel, start, end, 1.0, 1)
        streaks = cv2.filter2D(noise, cv2.CV_32F, kernel / kernel.sum())
        streaks = blur(as_floats(streaks), 0.5 * unit)
        chosen = areas % 3 == turn
        amount[chosen] = (streaks / (streaks.std() + 1e-6))[chosen]
    tooth = 0.72 + 0.2 * amount - 0.35 * (grain - 0.5)
    return as_floats(np.clip(tooth, 0.1, 1.05))


def _hatching(
    areas: NDArray[np.int32], unit: float, strength: float, rng: np.random.Generator
) -> Floats:
    """Return shade hatched into some areas, crossed in the darkest; the ground stays bare."""
    levels = rng.choice(np.array([0.0, 0.5, 1.0], np.float32), int(areas.max()) + 1)
    levels[0] = 0
    tone = levels[areas]
    height, width = areas.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    wobble = 1.5 * unit * _clouds(areas.shape, unit, 25, rng)
    gap = max(3.0, 9 * unit)
    shade = np.zeros((height, width), np.float32)
    for slant, level in ((1.0, 0.4), (-0.6, 0.9)):
        wave = np.sin((x + slant * y + wobble) * (2 * math.pi / gap) / math.hypot(1, slant))
        shade = np.maximum(shade, ramp(as_floats(wave), 0.55, 0.95) * (tone > level))
    return as_floats(np.clip(0.8 * strength * shade, 0, 1))
