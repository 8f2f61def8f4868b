"""Oil painting: layers of brush strokes along the structure, impasto light, canvas."""

from collections.abc import Iterator

import numpy as np

from .flow import Flow, follow
from .operators import blend, blur, from_lab, peak, ramp, smooth_keeping_edges, to_lab, vibrance
from .relief import light, noise
from .scene import Floats, Scene, Style, as_floats
from .strokes import Brush, Canvas, draw, plan, spread

BRUSHES = (
    Brush(52, 3.4, 0.42, threshold=0.0, paint=1.1, variety=0.070),
    Brush(30, 3.8, 0.46, threshold=0.030, paint=1.0, variety=0.062),
    Brush(16, 4.2, 0.52, threshold=0.035, paint=0.85, variety=0.048),
    Brush(8.0, 4.2, 0.60, threshold=0.040, paint=0.6, variety=0.030),
    Brush(4.0, 3.8, 0.62, threshold=0.038, paint=0.3, variety=0.014),
)
UMBER = np.array([0.42, 0.30, 0.20], dtype=np.float32)  # the classical ground


def paint(scene: Scene) -> Iterator[Floats]:
    unit = scene.unit
    model = grade(smooth_keeping_edges(scene.rgb, 3 * unit, 0.10), scene)
    yield model
    flow = follow(model, 5 * unit)
    weave = linen(scene)
    ground = blend(np.broadcast_to(UMBER, model.shape), blur(model, 40 * unit), 0.7)
    canvas = Canvas(ground, weave * 0.35)
    yield canvas.rgb
    for brush in BRUSHES:
        lay(canvas, model, flow, brush, scene)
        yield canvas.rgb
    relief = blur(canvas.thickness + 0.05 * weave, 0.5 * unit) * unit
    diffuse, shine = light(relief * scene.push(0.7, 1.0), gloss=30)
    shaded = canvas.rgb * np.clip(diffuse, 0.5, 1.35)[..., None]
    yield np.clip(shaded + 0.16 * shine[..., None], 0, 1)


def grade(rgb: Floats, scene: Scene) -> Floats:
    """Return ``rgb`` in a classical key: rich, with amber lights and umber shadows."""
    lab = to_lab(rgb)
    tone = lab[..., 0] / 100
    lab[..., 0] = 100 * (tone + 0.35 * (tone * tone * (3 - 2 * tone) - tone))
    lab = vibrance(lab, scene.push(1.4, 1.55), ceiling=60)
    lab[..., 1] += 2.5 * ramp(lab[..., 0], 60, 10)
    lab[..., 2] += 5.0 + 4.0 * ramp(lab[..., 0], 40, 90)
    return from_lab(lab)


def linen(scene: Scene) -> Floats:
    """Return a canvas weave, about -1..1."""
    height, width = scene.shape
    turn = np.float32(2 * np.pi / max(3.0, 3.4 * scene.unit))
    x = np.arange(width, dtype=np.float32) * turn
    y = np.arange(height, dtype=np.float32)[:, None] * turn
    wobble = 0.7 * noise(scene.shape, 14 * scene.unit, scene.rng)
    woven = np.sin(x + wobble) * 0.5 + np.sin(y - wobble) * 0.5
    return as_floats(woven * (1 + 0.2 * wobble))


def lay(canvas: Canvas, model: Floats, flow: Flow, brush: Brush, scene: Scene) -> None:
    """Paint one layer of strokes onto ``canvas``, where it still differs from ``model``."""
    rng = scene.rng
    height, width = scene.shape
    broad = max(2.0, brush.width * scene.unit)
    target = blur(model, broad * 0.22)
    gap = max(2.0, broad * brush.spacing)
    x, y = np.meshgrid(np.arange(gap / 2, width, gap), np.arange(gap / 2, height, gap))
    x = x.ravel() + rng.uniform(-0.5, 0.5, x.size) * gap
    y = y.ravel() + rng.uniform(-0.5, 0.5, y.size) * gap
    column = x.clip(0, width - 1).astype(np.intp)
    row = y.clip(0, height - 1).astype(np.intp)
    if brush.threshold:
        need = blur(lacking(canvas, model, target, broad), broad * 0.3)
        threshold = brush.threshold * scene.push(1.0, 1.2)
        wrong = need[row, column] > threshold * rng.uniform(0.7, 1.3, row.size)
        column, row = column[wrong], row[wrong]
    if not row.size:
        return
    order = rng.permutation(row.size)  # else every stroke would overlap its left neighbour
    column, row = column[order], row[order]
    strokes = plan(column, row, target[row, column], flow, brush, broad, rng)
    spread(canvas, strokes, draw(strokes, (height, width)), brush, scene.unit)


def lacking(canvas: Canvas, model: Floats, target: Floats, broad: float) -> Floats:
    """Return how much (0..1) each pixel needs a brush ``broad`` pixels wide.

    That is what a brush twice as wide cannot show. What is on the canvas counts only where
    it is plainly wrong: that strokes vary in tone is wanted, not an error.
    """
    finer = peak(np.abs(target - blur(model, broad * 0.55)))
    wrong = peak(np.abs(blur(target - canvas.rgb, broad * 0.4)))
    return as_floats(np.maximum(finer, 0.5 * np.maximum(wrong - 0.06, 0)))


STYLE = Style(steps=8, paint=paint)
