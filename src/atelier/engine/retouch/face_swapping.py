"""Puts one picture's face onto the faces of another."""

import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from atelier.engine.retouch.faces import Face, find_faces
from atelier.engine.stylise.operators import blur, from_lab, to_bytes, to_lab, to_unit
from atelier.engine.stylise.scene import Bytes, Floats, as_floats

FACES = ("largest", "all")
_MOST_SHADING = 0.12


class NoFace(ValueError):
    """A picture has no face that can be found."""


def swap_faces(
    picture: Bytes,
    giver: Bytes,
    which: str,
    strength: float,
    *,
    on_step: Callable[[int, int], None],
    on_preview: Callable[[Bytes], None],
) -> Bytes:
    """Return ``picture`` with ``giver``'s largest face in place of its ``which`` faces.

    ``strength`` (0..1) is the share of the new face. Raises NoFace, saying which picture.
    """
    taken = _faces(giver, "face")[0]
    targets = _faces(picture, "image")
    targets = targets if which == "all" else targets[:1]
    last = len(targets) + 1
    on_step(1, last)
    result = picture
    for number, target in enumerate(targets, start=2):
        result = _with_face(result, target, giver, taken, strength)
        on_step(number, last)
        on_preview(result)
    return result


def _faces(picture: Bytes, name: str) -> list[Face]:
    found = find_faces(picture)
    if not found:
        raise NoFace(
            f"No face was found in the picture '{name}'. "
            "Use a photo in which a face looks at the camera and both eyes can be seen."
        )
    return found


def _with_face(picture: Bytes, target: Face, giver: Bytes, taken: Face, strength: float) -> Bytes:
    side = round(target.size * 2.2)
    x, y = (round(value - side / 2) for value in target.centre)
    top, bottom = max(0, y), min(picture.shape[0], y + side)
    left, right = max(0, x), min(picture.shape[1], x + side)
    below = picture[top:bottom, left:right]
    placed = _placed(giver, taken, target, (left, top), below.shape[:2])
    mask = _mask(target, (left, top), below.shape[:2])
    # Pixels that the giver's picture doesn't reach can't be used.
    mask = as_floats(mask * _reached(giver, taken, target, (left, top), below.shape[:2]))
    matched = _matched(placed, below, mask)
    cloned = _cloned(matched, below, mask)
    soft = blur(mask, target.size * 0.03)[..., None] * strength
    mixed = to_unit(below) + (cloned - to_unit(below)) * soft
    result = picture.copy()
    result[top:bottom, left:right] = to_bytes(as_floats(mixed))
    return result


def _transform(taken: Face, target: Face, origin: tuple[int, int]) -> NDArray[Any]:
    """Return the 2x3 matrix that lays the taken eyes over the target's."""
    scale = target.eye_distance / max(taken.eye_distance, 1e-6)
    matrix = cv2.getRotationMatrix2D(taken.centre, taken.tilt - target.tilt, scale)
    matrix[:, 2] += np.array(target.centre) - np.array(taken.centre) - np.array(origin)
    return np.asarray(matrix)


def _placed(
    giver: Bytes, taken: Face, target: Face, origin: tuple[int, int], shape: tuple[int, ...]
) -> Bytes:
    matrix = _transform(taken, target, origin)
    shrink = target.eye_distance / max(taken.eye_distance, 1e-6)
    # Reducing without a blur would leave jagged lashes.
    source = giver if shrink >= 0.7 else cv2.GaussianBlur(giver, (0, 0), 0.4 / shrink)
    size = (shape[1], shape[0])
    placed = cv2.warpAffine(
        source, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return placed.astype(np.uint8, copy=False)


def _reached(
    giver: Bytes, taken: Face, target: Face, origin: tuple[int, int], shape: tuple[int, ...]
) -> Floats:
    inside = np.ones(giver.shape[:2], np.float32)
    matrix = _transform(taken, target, origin)
    return as_floats(cv2.warpAffine(inside, matrix, (shape[1], shape[0])) > 0.99)


def _mask(face: Face, origin: tuple[int, int], shape: tuple[int, ...]) -> Floats:
    """Return 1 inside of the face from the brows to the chin, the hairline left out, HxW."""
    mask = np.zeros(shape[:2], np.uint8)
    across = face.eye_distance
    down = math.radians(face.tilt)
    drop = 0.24 * across
    x = face.centre[0] - origin[0] - math.sin(down) * drop
    y = face.centre[1] - origin[1] + math.cos(down) * drop
    axes = (max(2, round(0.92 * across)), max(2, round(1.06 * across)))
    cv2.ellipse(mask, (round(x), round(y)), axes, face.tilt, 0, 360, 1, -1)
    return as_floats(mask)


def _matched(placed: Bytes, below: Bytes, mask: Floats) -> Bytes:
    """Return ``placed`` with the skin's mean and spread of colour of what it covers."""
    inside = blur(mask, 3) > 0.9
    if int(inside.sum()) < 16:
        return placed
    new, old = to_lab(to_unit(placed)), to_lab(to_unit(below))
    mean_new, mean_old = new[inside].mean(axis=0), old[inside].mean(axis=0)
    spread = np.clip(old[inside].std(axis=0) / (new[inside].std(axis=0) + 1e-3), 0.7, 1.3)
    return to_bytes(from_lab(as_floats((new - mean_new) * spread + mean_old)))


def _cloned(placed: Bytes, below: Bytes, mask: Floats) -> Floats:
    """Return ``placed`` with its shading led into what surrounds it (Poisson's equation)."""
    inner = mask > 0.5
    inner[[0, 1, -2, -1]] = inner[:, [0, 1, -2, -1]] = False
    if int(inner.sum()) < 16:
        return to_unit(placed)
    rows, columns = np.flatnonzero(inner.any(axis=1)), np.flatnonzero(inner.any(axis=0))
    middle = (
        int(columns[0] + (columns[-1] - columns[0] + 1) // 2),
        int(rows[0] + (rows[-1] - rows[0] + 1) // 2),
    )
    cloned = cv2.seamlessClone(
        placed, below, inner.astype(np.uint8) * 255, middle, cv2.NORMAL_CLONE
    )
    # Hair at the rim of one face only would otherwise spread over the whole of the other.
    shading = np.clip(to_unit(cloned) - to_unit(placed), -_MOST_SHADING, _MOST_SHADING)
    return as_floats(to_unit(placed) + blur(as_floats(shading), 2))
