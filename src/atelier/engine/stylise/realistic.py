"""Realistic: the same photo, as if from a better camera and well developed."""

from collections.abc import Iterator

import cv2
import numpy as np

from .operators import blend, blur, from_lab, luma, peak, ramp, to_lab, vibrance
from .scene import Floats, Scene, Style, as_floats


def paint(scene: Scene) -> Iterator[Floats]:
    unit = scene.unit
    picture = balance(scene.rgb)
    yield picture
    lab = denoise(to_lab(picture), unit)
    yield from_lab(lab)
    tone = stretch(as_floats(lab[..., 0] / 100))
    base = edge_aware(tone, 40 * unit, 0.02)
    tone = compress(tone, base, scene.push(0.32, 0.45))
    yield from_lab(np.dstack([tone * 100, lab[..., 1:]]))
    tone = clarify(tone, unit, scene.push(0.65, 0.95))
    yield from_lab(np.dstack([tone * 100, lab[..., 1:]]))
    # Lightness that rose takes its colour along, else lifted shadows look chalky.
    gain = np.clip((tone + 0.08) / (lab[..., 0] / 100 + 0.08), 0.8, 1.5)
    lab = np.dstack([tone * 100, lab[..., 1] * gain, lab[..., 2] * gain])
    picture = from_lab(vibrance(lab, scene.push(1.35, 1.5), ceiling=60))
    yield picture
    yield finish(picture, scene)


def balance(rgb: Floats) -> Floats:
    """Return ``rgb`` with its colour cast mostly removed (shades of grey, 6-norm)."""
    sample = np.clip(rgb[::4, ::4].reshape(-1, 3), 0, 0.98).astype(np.float64)
    cast = np.power(np.power(sample, 6).mean(axis=0) + 1e-6, 1 / 6)
    gains = np.clip(cast.mean() / cast, 0.8, 1.25) ** 0.4  # in part: a sunset stays warm
    gains /= gains @ [0.299, 0.587, 0.114]
    corrected = np.clip(rgb * gains.astype(np.float32), 0, 1)
    # What is white already has no cast to remove, and would get the opposite one.
    return blend(corrected, rgb, ramp(1 - peak(1 - rgb), 0.55, 0.85))


def denoise(lab: Floats, unit: float) -> Floats:
    tone = as_floats(lab[..., 0] / 100)
    # The median of the finest differences is mostly noise: edges are few.
    level = float(np.median(np.abs(tone - blur(tone, 1.0))[::2, ::2])) * 1.5
    clean = cv2.ximgproc.guidedFilter(tone, tone, 3, (2.5 * level) ** 2 + 1e-6)
    tone = as_floats(tone + (clean - tone) * min(1.0, 0.5 + 20 * level))
    colour = cv2.ximgproc.guidedFilter(tone, lab[..., 1:], max(3, round(4 * unit)), 2e-3)
    return as_floats(np.dstack([tone * 100, colour]))


def stretch(tone: Floats) -> Floats:
    """Return lightness (0..1) with its black and white points set."""
    low, high = np.percentile(tone[::3, ::3], (0.4, 99.6))
    low, high = min(float(low), 0.12), max(float(high), 0.80)
    return as_floats(np.clip((tone - low) / (high - low), 0, 1))


def edge_aware(tone: Floats, radius: float, variance: float) -> Floats:
    """Return ``tone`` smoothed over ``radius`` pixels but not across strong edges: no halos."""
    shrink = max(1.0, radius / 10)
    height, width = tone.shape
    small_size = (max(8, round(width / shrink)), max(8, round(height / shrink)))
    small = cv2.resize(tone, small_size, interpolation=cv2.INTER_AREA)
    reach = max(2, round(radius / shrink))
    # The filter's local line, tone -> slope * tone + offset, is smooth, so it is found on the
    # small copy and applied to the large one.
    box = (2 * reach + 1, 2 * reach + 1)
    mean = cv2.boxFilter(small, -1, box, borderType=cv2.BORDER_REFLECT)
    spread = cv2.boxFilter(small * small, -1, box, borderType=cv2.BORDER_REFLECT) - mean * mean
    slope = spread / (spread + variance)
    line = cv2.boxFilter(
        np.dstack([slope, mean * (1 - slope)]), -1, box, borderType=cv2.BORDER_REFLECT
    )
    slope, offset = np.moveaxis(cv2.resize(line, (width, height)), 2, 0)
    return as_floats(slope * tone + offset)


def compress(tone: Floats, base: Floats, amount: float) -> Floats:
    """Return ``tone`` with dark areas lifted and bright ones held, local contrast kept."""
    base = np.clip(base, 0, 1)
    lifted = base + amount * base * np.square(1 - base) * 1.1
    held = lifted - amount * 0.35 * np.square(base) * base * (1 - base)
    local = (tone - base) * (1 + 0.5 * amount)
    # A gentle S on top brings back the contrast of the whole.
    result = np.clip(held + local, 0, 1)
    curve = result * result * (3 - 2 * result)
    return as_floats(result + (curve - result) * 0.45)


def clarify(tone: Floats, unit: float, amount: float) -> Floats:
    """Return ``tone`` with more local contrast at three sizes, least in shadows and lights."""
    middle = ramp(tone, 0.0, 0.25) * ramp(tone, 1.0, 0.8)
    result = tone
    for radius, variance, share in ((14, 0.004, 0.55), (4, 0.0015, 0.7), (1.2, 0.0006, 0.6)):
        detail = tone - edge_aware(tone, max(1.5, radius * unit), variance)
        # Strong detail is contrast already; tanh keeps it from turning into outlines.
        result = result + amount * share * middle * 0.10 * np.tanh(detail / 0.10)
    fine = tone - blur(tone, 0.9)
    result = result + amount * 0.6 * ramp(tone, 0.0, 0.3) * 0.05 * np.tanh(fine / 0.05)
    return as_floats(np.clip(result, 0, 1))


def finish(picture: Floats, scene: Scene) -> Floats:
    """Return ``picture`` with warm lights, cool shadows, a little glow and a slight vignette."""
    height, width = scene.shape
    tone = luma(picture)
    graded = picture + 0.018 * ramp(tone, 0.45, 0.95)[..., None] * np.array(
        [1.0, 0.35, -0.9], np.float32
    )
    graded = graded + 0.014 * ramp(tone, 0.5, 0.05)[..., None] * np.array(
        [-0.8, 0.0, 1.0], np.float32
    )
    x = np.linspace(-1, 1, width, dtype=np.float32)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    corner = ramp((x * x + y * y).astype(np.float32), 0.7, 2.2)
    return np.clip(blend(graded, graded * 0.72, corner * scene.push(0.8, 1.0)), 0, 1)


STYLE = Style(steps=6, paint=paint, least_pixels=1, keeps_detail=True)
