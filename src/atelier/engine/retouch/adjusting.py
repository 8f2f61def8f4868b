"""Tone, colour and sharpness by hand, as a photo editor's sliders do."""

from dataclasses import dataclass

import cv2
import numpy as np

from atelier.engine.stylise.operators import blur, from_lab, luma, ramp, to_lab
from atelier.engine.stylise.scene import Floats, as_floats

_CLIPPED = 0.5  # per cent of the pixels that levelling lets run to black and to white
_STRONGEST_STRETCH = 2.5
_WARMEST = 0.22


@dataclass(frozen=True, slots=True, kw_only=True)
class Sliders:
    """All from -1 to 1, 0 changing nothing; ``vignette`` from 0 to 1."""

    auto_levels: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    warmth: float = 0.0
    shadows: float = 0.0
    highlights: float = 0.0
    sharpness: float = 0.0
    vignette: float = 0.0


def adjust(rgb: Floats, sliders: Sliders) -> Floats:
    """Return ``rgb`` (HxWx3, 0..1) with the sliders applied, in a photographer's order."""
    picture = _levelled(rgb) if sliders.auto_levels else rgb
    if sliders.warmth:
        picture = _warmed(picture, sliders.warmth)
    if sliders.shadows or sliders.highlights:
        picture = _relit(picture, sliders.shadows, sliders.highlights)
    if sliders.brightness:
        # A gamma keeps black black and white white, where adding would fog or burn.
        picture = as_floats(np.power(picture, np.float32(2.0 ** (-1.4 * sliders.brightness))))
    if sliders.contrast:
        picture = _contrasted(picture, sliders.contrast)
    if sliders.saturation:
        picture = _saturated(picture, sliders.saturation)
    if sliders.sharpness:
        picture = _sharpened(picture, sliders.sharpness)
    if sliders.vignette:
        picture = _vignetted(picture, sliders.vignette)
    return as_floats(np.clip(picture, 0, 1))


def _levelled(rgb: Floats) -> Floats:
    """Return ``rgb`` using the whole range, a colour cast half taken out."""
    low, high = np.percentile(rgb.reshape(-1, 3), (_CLIPPED, 100 - _CLIPPED), axis=0)
    low = (low + low.min()) / 2
    high = (high + high.max()) / 2
    gain = np.minimum(1 / np.maximum(high - low, 1e-3), _STRONGEST_STRETCH)
    return as_floats(np.clip((rgb - low) * gain, 0, 1))


def _warmed(rgb: Floats, warmth: float) -> Floats:
    gains = np.array([1 + _WARMEST * warmth, 1 + 0.03 * warmth, 1 - _WARMEST * warmth], np.float32)
    warmed = rgb * gains
    # The light changes its colour, not its strength.
    shade = luma(rgb) / np.maximum(luma(as_floats(warmed)), 1e-4)
    return as_floats(np.clip(warmed * shade[..., None], 0, 1))


def _relit(rgb: Floats, shadows: float, highlights: float) -> Floats:
    """Return ``rgb`` with whole regions lighter or darker, so that detail inside them stays."""
    grey = luma(rgb)
    radius = max(4, round(0.02 * (grey.shape[0] * grey.shape[1]) ** 0.5))
    region = as_floats(cv2.ximgproc.guidedFilter(grey, grey, radius, 0.02))
    dark = ramp(region, 0.6, 0.0)
    bright = ramp(region, 0.4, 1.0)
    stops = shadows * 1.3 * dark + highlights * 0.9 * bright
    lifted = rgb * np.exp2(stops)[..., None]
    # Bends towards white instead of clipping.
    over = np.maximum(lifted - 0.8, 0)
    return as_floats(np.where(lifted > 0.8, 0.8 + 0.2 * np.tanh(over / 0.2), lifted))


def _contrasted(rgb: Floats, contrast: float) -> Floats:
    if contrast < 0:
        middle = float(rgb.mean())
        return as_floats(middle + (rgb - middle) * (1 + 0.8 * contrast))
    curve = rgb * rgb * (3 - 2 * rgb)
    steep = curve * curve * (3 - 2 * curve)
    if contrast <= 0.5:
        return as_floats(rgb + (curve - rgb) * (2 * contrast))
    return as_floats(curve + (steep - curve) * (2 * contrast - 1))


def _saturated(rgb: Floats, saturation: float) -> Floats:
    lab = to_lab(rgb)
    if saturation < 0:
        gain: Floats = np.full(lab.shape[:2], 1 + saturation, np.float32)
    else:
        # What is vivid already gains less, so that skin and flowers don't burn.
        chroma = cv2.magnitude(lab[..., 1], lab[..., 2])
        gain = as_floats(1 + 1.2 * saturation * np.exp(-((chroma / 60) ** 2)))
    lab[..., 1:] *= gain[..., None]
    return from_lab(lab)


def _sharpened(rgb: Floats, sharpness: float) -> Floats:
    unit = max(0.8, (rgb.shape[0] * rgb.shape[1]) ** 0.5 / 1200)
    if sharpness < 0:
        return blur(rgb, -sharpness * 6 * unit)
    detail = luma(rgb) - blur(luma(rgb), unit)
    # Strong edges are sharp already; pushing them further draws halos.
    detail = 0.1 * np.tanh(detail * (2.5 * sharpness) / 0.1)
    return as_floats(rgb + detail[..., None])


def _vignetted(rgb: Floats, vignette: float) -> Floats:
    height, width = rgb.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    away = as_floats(np.sqrt((x**2 + y**2) / 2))
    return as_floats(rgb * (1 - 0.75 * vignette * ramp(away, 0.35, 1.1))[..., None])
