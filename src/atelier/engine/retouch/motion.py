"""Moves a camera over a still picture, frame by frame (after Ken Burns)."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from atelier.engine.stylise.scene import Bytes, Floats, as_bytes, as_floats

MOTIONS = ("zoom_in", "zoom_out", "pan_left", "pan_right", "pan_up", "pan_down", "orbit")
_MOST_ZOOM = 0.6  # added to 1 at amount 1
_PAN_ROOM = 0.35  # share of the picture's side that a pan crosses at amount 1
_MOST_YAW = 16.0  # degrees to each side
_FLICKERING = 1.15  # pixels of the picture per pixel of the frame


@dataclass(frozen=True, slots=True)
class View:
    """Where the camera looks: a window of the picture, and degrees turned about its height."""

    x: float  # middle of the window, 0..1
    y: float
    zoom: float  # 1 shows the picture whole
    yaw: float = 0.0


def view(motion: str, amount: float, progress: float) -> View:
    """Return where the camera looks after ``progress`` (0..1) of ``motion``."""
    eased = progress + (0.5 - 0.5 * math.cos(math.pi * progress) - progress) * 0.8
    if motion in ("zoom_in", "zoom_out"):
        share = eased if motion == "zoom_in" else 1 - eased
        # Equal ratios, not equal steps, look like an even speed.
        return View(0.5, 0.5, (1 + _MOST_ZOOM * amount) ** share)
    if motion == "orbit":
        yaw = _MOST_YAW * amount * math.sin(2 * math.pi * progress)
        return View(0.5, 0.5, 1 + 0.42 * amount, yaw)
    room = _PAN_ROOM * amount
    zoom = 1 / (1 - room) if room else 1.0
    offset = room * (eased - 0.5)
    x, y = {
        "pan_left": (0.5 - offset, 0.5),
        "pan_right": (0.5 + offset, 0.5),
        "pan_up": (0.5, 0.5 - offset),
        "pan_down": (0.5, 0.5 + offset),
    }[motion]
    return View(x, y, zoom)


def frame_size(width: int, height: int, max_size: int) -> tuple[int, int]:
    """Return the even width and height of frames, never larger than the picture needs."""
    scale = min(1.0, max_size / max(width, height))
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


class Camera:
    """Renders the frames of one motion over one picture."""

    def __init__(
        self, rgb: Bytes, motion: str, amount: float, count: int, size: tuple[int, int]
    ) -> None:
        """``size`` is the frames' width and height, ``count`` how many there are."""
        self.count = count
        self.size = size
        self._motion = motion
        self._amount = amount
        closest = max(view(motion, amount, share).zoom for share in (0.0, 0.5, 1.0))
        wanted = (math.ceil(size[0] * closest), math.ceil(size[1] * closest))
        shrinks = wanted[0] < rgb.shape[1]
        source = cv2.resize(rgb, wanted, interpolation=cv2.INTER_AREA) if shrinks else rgb
        self._source = as_bytes(source)

    @property
    def nbytes(self) -> int:
        """The memory that the picture takes; frames take none until they are rendered."""
        return self._source.nbytes

    def frame(self, number: int) -> Bytes:
        """Return frame ``number`` (HxWx3), the same at every call."""
        progress = number / (self.count - 1) if self.count > 1 else 0.0
        look = view(self._motion, self._amount, progress)
        matrix = self._matrix(look)
        shrink = self._source.shape[1] / (self.size[0] * look.zoom)
        source = self._source
        if shrink > _FLICKERING:
            # Thin lines would flicker from frame to frame.
            source = as_bytes(cv2.GaussianBlur(source, (0, 0), 0.4 * shrink))
        return as_bytes(
            cv2.warpPerspective(
                source, matrix, self.size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
            )
        )

    def _matrix(self, look: View) -> Floats:
        """Return the 3x3 matrix from the source to the frame."""
        width, height = self.size
        source_height, source_width = self._source.shape[:2]
        scale_x = width * look.zoom / source_width
        scale_y = height * look.zoom / source_height
        centre = np.array(
            [
                [1, 0, -look.x * source_width + 0.5],
                [0, 1, -look.y * source_height + 0.5],
                [0, 0, 1],
            ]
        )
        scaled = np.diag([scale_x, scale_y, 1.0]) @ centre
        angle = math.radians(look.yaw)
        distance = 1.6 * width
        turned = np.array([[math.cos(angle), 0, 0], [0, 1, 0], [-math.sin(angle) / distance, 0, 1]])
        back = np.array([[1, 0, width / 2 - 0.5], [0, 1, height / 2 - 0.5], [0, 0, 1]])
        return as_floats(back @ turned @ scaled)
