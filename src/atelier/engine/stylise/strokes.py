"""Brush strokes: where they go, which one is on top, and the paint each leaves."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .flow import Flow
from .operators import ramp
from .scene import Floats, as_floats

Whole = NDArray[np.intp]

BAND = 48  # rows coloured at a time: what is worked on then stays in the processor's cache
TEXTURE = 256  # side of the bristle texture in pixels; a power of two, so that & wraps
MOST_BEND = 0.45  # sine of the turn from a stroke's middle to its end; more curls up


@dataclass(frozen=True)
class Brush:
    """``width`` in units; ``length`` and ``spacing`` in widths.

    It is used where photo and canvas differ by ``threshold`` (0..1); ``paint`` is the
    thickness it leaves and ``variety`` how much its strokes differ in tone.
    """

    width: float
    length: float
    spacing: float
    threshold: float
    paint: float
    variety: float


@dataclass
class Canvas:
    """Wet paint: ``rgb`` HxWx3 in 0..1 and its ``thickness`` HxW in units."""

    rgb: Floats
    thickness: Floats


@dataclass(frozen=True)
class Strokes:
    """Arcs of one brush, one element each: centre, direction, half length, bend, colour.

    ``bend`` is the curvature in 1/pixel; ``broad`` the brush's width in pixels.
    """

    x: Floats
    y: Floats
    cos: Floats
    sin: Floats
    half: Floats
    bend: Floats
    colour: Floats
    broad: float


def plan(
    column: Whole,
    row: Whole,
    colour: Floats,
    flow: Flow,
    brush: Brush,
    broad: float,
    rng: np.random.Generator,
) -> Strokes:
    """Return strokes centred on the given pixels that run along ``flow``."""
    count = column.size
    sure = flow.coherence[row, column]
    angle = np.arctan2(flow.y[row, column], flow.x[row, column])
    # Where nothing has a direction, neighbours would all lie alike without some chance.
    angle = angle + rng.normal(0, 1, count) * (0.08 + 0.5 * (1 - sure) ** 2)
    half = 0.5 * broad * brush.length * rng.uniform(0.55, 1.15, count) * (0.6 + 0.5 * sure)
    cos, sin = np.cos(angle), np.sin(angle)
    ahead = 0.7 * half
    height, width = flow.x.shape
    ahead_x = (column + cos * ahead).clip(0, width - 1).astype(np.intp)
    ahead_y = (row + sin * ahead).clip(0, height - 1).astype(np.intp)
    there_x, there_y = flow.x[ahead_y, ahead_x], flow.y[ahead_y, ahead_x]
    turn = (there_y * cos - there_x * sin) * np.sign(there_x * cos + there_y * sin + 1e-9)
    bend = np.clip(turn, -MOST_BEND, MOST_BEND) / np.maximum(ahead, 1)
    bend = bend + rng.normal(0, 0.08, count) / half
    tone = rng.normal(0, brush.variety, (count, 1)) + rng.normal(0, brush.variety / 4, (count, 3))
    # In proportion to brightness: in the dark the eye sees smaller differences.
    tone *= 0.3 + colour.mean(axis=1, keepdims=True)
    return Strokes(
        column.astype(np.float32),
        row.astype(np.float32),
        cos.astype(np.float32),
        sin.astype(np.float32),
        half.astype(np.float32),
        bend.astype(np.float32),
        np.clip(colour + tone, 0, 1).astype(np.float32),
        broad,
    )


def draw(strokes: Strokes, shape: tuple[int, int]) -> NDArray[np.int32]:
    """Return HxW: which stroke is on top, counted from 1; 0 where there is none."""
    owner = np.zeros(shape, dtype=np.int32)
    # Short strokes need fewer joints for the same smoothness.
    joints = 6 if strokes.broad > 12 else 4
    along = np.linspace(-1, 1, joints, dtype=np.float32)[None] * strokes.half[:, None]
    aside = 0.5 * strokes.bend[:, None] * along * along
    cos, sin = strokes.cos[:, None], strokes.sin[:, None]
    x = strokes.x[:, None] + along * cos - aside * sin
    y = strokes.y[:, None] + along * sin + aside * cos
    # polylines takes fixed-point numbers: 4 binary places.
    points = np.rint(np.stack([x, y], axis=2) * 16).astype(np.int32)
    thickness = max(1, round(strokes.broad))
    for index, line in enumerate(points, start=1):
        cv2.polylines(owner, [line], False, index, thickness, cv2.LINE_8, 4)
    return owner


def spread(
    canvas: Canvas, strokes: Strokes, owner: NDArray[np.int32], brush: Brush, unit: float
) -> None:
    """Leave the paint of ``strokes`` on ``canvas`` where ``owner`` has them on top."""
    table = np.column_stack(
        [strokes.x, strokes.y, strokes.cos, strokes.sin, 0.5 * strokes.bend,
         1 / (strokes.half + strokes.broad / 2), strokes.colour]
    )  # fmt: skip
    bristles = np.float32(max(2.0, strokes.broad / unit * 0.42))
    for top in range(0, owner.shape[0], BAND):
        row, column = np.nonzero(owner[top : top + BAND])
        row += top
        index = owner[row, column] - 1
        mine = np.take(table, index, axis=0)
        x, y = column - mine[:, 0], row - mine[:, 1]
        x, y = x.astype(np.float32), y.astype(np.float32)
        along = x * mine[:, 2] + y * mine[:, 3]
        across = y * mine[:, 2] - x * mine[:, 3] - mine[:, 4] * along * along
        across *= np.float32(2 / strokes.broad)
        along *= mine[:, 5]
        # Each stroke takes its own strip of the texture, which is long along the stroke.
        lane = (across * bristles).astype(np.int32) + index * 37 & TEXTURE - 1
        place = (along * 24).astype(np.int32) + index * 61 & TEXTURE - 1
        strip = np.take(BRISTLES, lane * TEXTURE + place)
        side = np.abs(across)
        dry = np.square(np.clip(along, 0, 1)) * 0.75  # the brush runs out of paint
        covered = ramp(side + 0.16 * strip, 1.02, 0.82) * ramp(dry + 0.35 * strip, 0.95, 0.55)
        ridge = ramp(side, 0.35, 0.85) * 0.35
        body = brush.paint * (0.55 + 0.28 * strip + ridge) * (1 - 0.35 * np.abs(along))
        weight = covered[:, None]
        below = canvas.rgb[row, column]
        paint = mine[:, 6:] * (1 + 0.055 * strip)[:, None]
        canvas.rgb[row, column] = below + (paint - below) * weight
        under = canvas.thickness[row, column]
        canvas.thickness[row, column] = under + (body - 0.7 * under) * covered


def _bristles() -> Floats:
    """Return the texture, flat: noise stretched along its rows, mean 0, deviation 1."""
    rng = np.random.default_rng(7)  # any seed: the brushes are the same in every picture
    grain = rng.standard_normal((TEXTURE, TEXTURE)).astype(np.float32)
    grain = as_floats(cv2.GaussianBlur(grain, (0, 0), 5, sigmaY=0.9))
    return as_floats(grain / grain.std()).ravel()


BRISTLES = _bristles()
