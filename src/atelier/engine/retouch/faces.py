"""Finds faces and their eyes with the Haar cascades that come with OpenCV."""

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from atelier.engine.stylise.scene import Bytes, as_bytes

_LARGEST_SIDE = 900  # pixels; faces in larger pictures are looked for on a smaller copy
_SMALLEST_FACE = 0.06  # of the shorter side
# Where the eyes are in the frame that the cascade draws, as shares of its side.
_LEFT_EYE, _RIGHT_EYE = (0.31, 0.385), (0.69, 0.385)
_OVERLAP = 0.3
_LEAST_WORTH = 55.5  # faces have 56 to 60, what only looks like one less than 55


@dataclass(frozen=True, slots=True)
class Face:
    """Where a face is, in pixels of its picture; the left eye is the one on the left there."""

    left_eye: tuple[float, float]
    right_eye: tuple[float, float]
    size: float  # side of the square frame around brows, cheeks and chin

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of the face, a little above the tip of the nose."""
        (x1, y1), (x2, y2) = self.left_eye, self.right_eye
        across = (x2 - x1, y2 - y1)
        return (x1 + x2) / 2 - across[1] * 0.35, (y1 + y2) / 2 + across[0] * 0.35

    @property
    def eye_distance(self) -> float:
        (x1, y1), (x2, y2) = self.left_eye, self.right_eye
        return math.hypot(x2 - x1, y2 - y1)

    @property
    def tilt(self) -> float:
        """Degrees by which the right eye is lower than the left one."""
        (x1, y1), (x2, y2) = self.left_eye, self.right_eye
        return math.degrees(math.atan2(y2 - y1, x2 - x1))


def find_faces(rgb: Bytes) -> list[Face]:
    """Return the faces in ``rgb`` (HxWx3) that look at the camera, the largest first."""
    height, width = rgb.shape[:2]
    scale = min(1.0, _LARGEST_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    grey = cv2.cvtColor(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    even = as_bytes(cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(grey))
    least = max(24, round(min(size) * _SMALLEST_FACE))
    found: list[tuple[float, Face]] = []
    for tilt in (0.0, -22.0, 22.0):
        turn = cv2.getRotationMatrix2D((size[0] / 2, size[1] / 2), tilt, 1)
        turned = even if tilt == 0 else as_bytes(cv2.warpAffine(even, turn, size))
        back = cv2.invertAffineTransform(turn)
        boxes, _, certainties = _cascade("frontalface_alt2").detectMultiScale3(
            turned, 1.1, 4, minSize=(least, least), outputRejectLevels=True
        )
        for box, certainty in zip(boxes, certainties, strict=True):
            face, eyes = _face(turned, tuple(int(value) for value in box))
            # An upright find is worth more than the same face found askew.
            worth = float(np.ravel(certainty)[0]) + eyes - abs(tilt) / 20
            if worth >= _LEAST_WORTH:
                found.append((worth, _moved(face, back, scale)))
    return _apart(found)


@cache
def _cascade(name: str) -> cv2.CascadeClassifier:
    # The stubs don't know of the folder that comes with OpenCV's wheels.
    path = Path(cv2.__file__).parent / "data" / f"haarcascade_{name}.xml"
    if not path.is_file():
        raise RuntimeError(
            f"This OpenCV ({cv2.__version__}) comes without {path.name}; install 4.12 up to 4.x"
        )
    return cv2.CascadeClassifier(str(path))


def _face(grey: Bytes, box: tuple[int, ...]) -> tuple[Face, int]:
    """Return the face in ``box`` and how many of its eyes were found rather than guessed."""
    x, y, side, _ = box
    upper = grey[y + side // 6 : y + round(side * 0.6), x : x + side]
    least = max(8, side // 8)
    eyes = []
    for share in (0.0, 0.5):
        half = upper[:, round(share * side) : round((share + 0.5) * side)]
        hits = _cascade("eye").detectMultiScale(half, 1.05, 3, minSize=(least, least))
        expected = _LEFT_EYE if share == 0 else _RIGHT_EYE
        target = (x + expected[0] * side, y + expected[1] * side)
        spots = [
            (x + share * side + a + w / 2, y + side // 6 + b + h / 2 + 0.02 * side)
            for a, b, w, h in hits
        ]
        near = [spot for spot in spots if math.dist(spot, target) < 0.14 * side]
        eyes.append((min(near, key=lambda spot: math.dist(spot, target)) if near else None, target))
    (left, expected_left), (right, expected_right) = eyes
    count = (left is not None) + (right is not None)
    if left is None and right is not None:
        left = (expected_left[0], expected_left[1] + right[1] - expected_right[1])
    elif right is None and left is not None:
        right = (expected_right[0], expected_right[1] + left[1] - expected_left[1])
    face = Face(left or expected_left, right or expected_right, float(side))
    return face, count


def _moved(face: Face, back: NDArray[Any], scale: float) -> Face:
    def move(spot: tuple[float, float]) -> tuple[float, float]:
        x, y = back @ np.array([*spot, 1.0])
        return float(x / scale), float(y / scale)

    return Face(move(face.left_eye), move(face.right_eye), face.size / scale)


def _apart(found: list[tuple[float, Face]]) -> list[Face]:
    kept: list[Face] = []
    for _, face in sorted(found, key=lambda item: -item[0]):
        if all(
            math.dist(face.centre, other.centre) > (face.size + other.size) * _OVERLAP
            for other in kept
        ):
            kept.append(face)
    return sorted(kept, key=lambda face: -face.size)
