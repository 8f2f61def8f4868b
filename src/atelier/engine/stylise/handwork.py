"""What hands do to clay: strands rolled out of texture, dents, thumb prints."""

import cv2
import numpy as np

from .flow import follow, smear
from .operators import blend, blur, crisp, ramp
from .relief import noise
from .scene import Floats, Scene, as_floats


def roll(rgb: Floats, unit: float) -> tuple[Floats, Floats]:
    """Return ``rgb`` rolled into strands along its own flow, and where it is texture (0..1)."""
    height, width = rgb.shape[:2]
    shrink = max(1.0, 1.1 * unit)
    size = (max(8, round(width / shrink)), max(8, round(height / shrink)))
    small = as_floats(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA))
    cell = unit / shrink
    fine = follow(small, 2.5 * cell)
    broad = follow(small, 6 * cell)
    # Hair, fur and leaves point everywhere in detail; outlines do not.
    texture = ramp(fine.coherence, 0.9, 0.6)
    strands = crisp(smear(blur(small, 1.8 * cell), broad, 14 * cell, 2.5 * cell), 3.5 * cell)
    lines = crisp(smear(small, fine, 7 * cell, 1.8 * cell), 1.8 * cell)
    rolled = blend(lines, strands, texture)
    big = cv2.resize(rolled, (width, height), interpolation=cv2.INTER_CUBIC)
    where = cv2.resize(texture, (width, height), interpolation=cv2.INTER_LINEAR)
    return crisp(as_floats(big), 1.2 * unit), as_floats(where)


def traces(scene: Scene, calm: Floats) -> Floats:
    """Return heights, in units, of dents, thumb prints and grain; fainter where not ``calm``."""
    unit, shape = scene.unit, scene.shape
    dents = 0.5 * noise(shape, 60 * unit, scene.rng) + 0.06 * noise(shape, 16 * unit, scene.rng)
    grain = 0.04 * blur(scene.rng.standard_normal(shape, dtype=np.float32), 0.9 * unit)
    return as_floats((dents + dabs(scene)) * (0.12 + 0.88 * calm) + grain)


def dabs(scene: Scene) -> Floats:
    """Return heights, in units, of clay pressed flat by one thumb after another."""
    unit, (height, width) = scene.unit, scene.shape
    result = np.zeros((height, width), dtype=np.float32)
    bend = noise((height, width), 26 * unit, scene.rng)
    radius = 46 * unit
    count = min(400, max(4, round(2.2 * height * width / (radius * radius * 3.14))))
    for _ in range(count):
        centre_x, centre_y = scene.rng.uniform(0, width), scene.rng.uniform(0, height)
        turn, size = scene.rng.uniform(0, np.pi), radius * scene.rng.uniform(0.6, 1.2)
        slant_x, slant_y, ridge = scene.rng.normal(0, 0.32, 3)
        side = 1 if slant_x > 0 else -1
        left, right = max(0, int(centre_x - size)), min(width, int(centre_x + size) + 1)
        top, bottom = max(0, int(centre_y - size)), min(height, int(centre_y + size) + 1)
        if right <= left or bottom <= top:
            continue
        x = (np.arange(left, right, dtype=np.float32) - centre_x)[None]
        y = (np.arange(top, bottom, dtype=np.float32) - centre_y)[:, None]
        along = (x * np.cos(turn) + y * np.sin(turn)) / size
        across = (y * np.cos(turn) - x * np.sin(turn)) / size * 1.3
        swerve = bend[top:bottom, left:right]
        distance = as_floats(np.sqrt(along * along + across * across) + 0.06 * swerve)
        pressed = 0.40 * distance * distance + slant_x * along + slant_y * across
        # Loops: arches around a core that is pushed off the middle and stretched.
        loop = np.sqrt((along - 0.35) ** 2 * 0.25 + across * across) * size
        ridges = np.sin(loop * (2 * np.pi / (4.4 * unit)) + 2.2 * swerve)
        # A thumb rolls: one side of its print is pressed harder.
        rolled = ramp(as_floats(along * side + 0.2 * swerve), -0.5, 0.3)
        depth = 0.15 * max(0.0, min(1.0, 0.5 + 2.5 * ridge))
        pressed += depth * ridges * ramp(distance, 0.85, 0.3) * rolled
        patch = result[top:bottom, left:right]
        patch += (pressed - patch) * ramp(distance, 0.97, 0.6)
    return result
