"""Clay: pieces of plasticine pressed together, in soft studio light, with thumb prints."""

from collections.abc import Iterator

import cv2
import numpy as np

from .handwork import roll, traces
from .operators import (
    blend,
    blur,
    crisp,
    from_lab,
    level_out,
    luma,
    ramp,
    screen,
    smooth_keeping_edges,
    to_lab,
    vibrance,
)
from .pieces import inflate, seams
from .relief import light
from .scene import Bytes, Floats, Scene, Style, as_floats


def paint(scene: Scene) -> Iterator[Floats]:
    unit = scene.unit
    clean = smooth_keeping_edges(scene.rgb, 5 * unit, scene.push(0.10, 0.16))
    yield clean
    skin = find_skin(to_lab(clean), unit)
    rolled, texture = roll(clean, unit)
    yield rolled
    drawn = blend(crisp(clean, 1.5 * unit), rolled, as_floats(1 - skin * (0.8 - 0.35 * texture)))
    yield drawn
    flat = simplify(drawn, skin, as_floats(texture * (1 - skin)), scene)
    yield flat
    colour = paint_box(flat, skin, scene)
    yield colour
    lab = to_lab(flat)
    creases = seams(lab, skin, unit)
    height = unit * scene.push(1.25, 1.75, 1.1) * body(lab, creases, skin, unit)
    yield colour
    calm = (1 - bustle(lab, unit)) * (1 - 0.5 * skin)
    height += unit * scene.push(1.15, 1.6, 1.0) * traces(scene, as_floats(calm))
    yield colour
    diffuse, sheen = light(as_floats(height), gloss=7)
    gleam = blur(light(as_floats(height), gloss=40)[1], 0.8 * unit)
    shaded = lit(colour, diffuse)
    yield shaded
    shaded = blend(shaded, shaded * shaded * np.float32(0.55), occlusion(creases, skin, unit))
    yield screen(shaded, (0.20 * sheen + 0.22 * gleam)[..., None])


def simplify(drawn: Floats, skin: Floats, wild: Floats, scene: Scene) -> Floats:
    """Return ``drawn`` in even colours, without faint detail, with strong detail as it was."""
    flat = level_out(drawn, 300 * scene.unit**2, scene.push(9.0, 12.0))
    detail = drawn - flat
    size = blur(np.abs(luma(as_floats(detail))), 3.5 * scene.unit)
    # Skin loses its pores and fine wrinkles; eyes, brows and mouths stand out far more.
    kept = ramp(as_floats(size / (1 + 0.6 * skin)), 0.016, 0.045) * (1 - 0.3 * wild)
    return as_floats(np.clip(flat + detail * kept[..., None], 0, 1))


def find_skin(lab: Floats, unit: float) -> Floats:
    """Return 0..1: how far each pixel lies among warm, mild colours, as skin is."""
    chroma = as_floats(cv2.magnitude(lab[..., 1], lab[..., 2]))
    hue = np.degrees(np.arctan2(lab[..., 2], lab[..., 1]))
    warm = ramp(hue, 15, 32) * ramp(hue, 88, 72)
    mild = ramp(chroma, 7, 14) * ramp(chroma, 62, 48)
    seen = as_floats(warm * mild * ramp(lab[..., 0], 22, 38))
    # Closes over eyes, glasses and mouths, on a coarse copy: nobody sees its rim.
    height, width = seen.shape
    cell = max(1.0, 5 * unit)
    size = (max(8, round(width / cell)), max(8, round(height / cell)))
    coarse = blur(as_floats(cv2.resize(seen, size, interpolation=cv2.INTER_AREA)), 2.4)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (11, 11))
    closed = cv2.morphologyEx(coarse, cv2.MORPH_CLOSE, disc, borderType=cv2.BORDER_REFLECT)
    spread = cv2.resize(blur(as_floats(closed), 0.8), (width, height))
    return ramp(as_floats(spread), 0.35, 0.65)


def paint_box(rgb: Floats, skin: Floats, scene: Scene) -> Floats:
    """Return ``rgb`` in the fresh, slightly milky colours of plasticine."""
    lab = to_lab(rgb)
    lab[..., 1] += 2 * skin  # fair skin would look like dough
    # Black clay still has a sheen; the middle is lifted, as clay is pastel.
    lightness = lab[..., 0]
    lab[..., 0] = 12 + 0.86 * lightness + 5 * np.sin(lightness * np.float32(np.pi / 100))
    vivid = vibrance(lab, scene.push(1.55, 1.75))
    return from_lab(blend(vivid, lab, as_floats(0.5 * skin)))


def bustle(lab: Floats, unit: float) -> Floats:
    """Return how busy each place is, 0 on even colour and 1 in faces or leaves."""
    fine = lab[..., 0] - blur(lab[..., 0], 5 * unit)
    return ramp(blur(np.abs(fine), 9 * unit), 0.8, 5.0)


def body(lab: Floats, creases: Bytes, skin: Floats, unit: float) -> Floats:
    """Return heights, in units, of pieces that bulge between ``creases``."""
    # A face is one piece of clay: its features are pressed in, not built of pieces.
    outlines = np.where(skin < 0.6, creases, np.uint8(0))
    bulge = 12 * inflate(outlines, unit, 26) + 8 * inflate(outlines, unit, 110)
    return as_floats(bulge + modelled(lab[..., 0], skin, unit))


def modelled(lightness: Floats, skin: Floats, unit: float) -> Floats:
    """Return heights, in units, of the forms that light and dark draw inside a piece."""
    near, far = blur(lightness, 1.6 * unit), blur(lightness, 8 * unit)
    fine = 12 * np.tanh((near - far) / 12)
    broad = 15 * np.tanh((far - blur(lightness, 40 * unit)) / 15)
    return as_floats((0.15 - 0.115 * skin) * fine + (0.12 + 0.10 * skin) * broad)


def occlusion(creases: Bytes, skin: Floats, unit: float) -> Floats:
    """Return 0..1: how little light gets into the creases between pieces."""
    away = cv2.distanceTransform(255 - creases, cv2.DIST_L2, 5)
    # Where there is no crease at all the distance is huge: cut before it is scaled.
    away = np.minimum(away, np.float32(50 * unit))
    narrow, wide = np.exp(-away / (1.4 * unit)), np.exp(-away / (5 * unit))
    return as_floats((0.6 - 0.3 * skin) * narrow + 0.15 * wide)


def lit(colour: Floats, diffuse: Floats) -> Floats:
    """Return ``colour`` under ``diffuse`` light; shade turns deeper in colour, not grey."""
    # Lights bend towards a fifth more than level ground, shade towards half of it: pale clay
    # must not burn out, and no side is black in a room.
    above = np.float32(0.22) * np.tanh((diffuse - 1) / np.float32(0.22))
    below = np.float32(0.5) * np.tanh((diffuse - 1) / np.float32(0.5))
    shade = 1 + np.where(diffuse > 1, above, below)[..., None]
    falloff = np.array([0.86, 1.0, 0.98], dtype=np.float32)  # red light seeps through clay
    return as_floats(np.clip(colour * np.power(shade, falloff), 0, 1))


STYLE = Style(steps=9, paint=paint)
