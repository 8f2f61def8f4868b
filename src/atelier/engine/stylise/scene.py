"""What a style is given to paint from, and what it gives back."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Bytes: TypeAlias = NDArray[np.uint8]
Floats: TypeAlias = NDArray[np.float32]


def as_floats(values: ArrayLike) -> Floats:
    """Return ``values`` as float32, without a copy where they are; cv2 and NumPy lose the type."""
    return np.asarray(values, dtype=np.float32)


def as_bytes(values: ArrayLike) -> Bytes:
    """Return ``values`` as 8-bit, without a copy where they are; cv2 and NumPy lose the type."""
    return np.asarray(values, dtype=np.uint8)


@dataclass(frozen=True)
class Scene:
    """A photo at working size.

    ``rgb`` is float32 HxWx3 in 0..1. ``unit`` is a thousandth of the picture's mean side in
    pixels: every radius and line width is a multiple of it, so that a small and a large copy
    of one photo look alike. ``strength`` is 0..1. All chance comes from ``rng``.
    """

    rgb: Floats
    unit: float
    strength: float
    rng: np.random.Generator

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.rgb.shape[0], self.rgb.shape[1]

    def push(self, default: float, strongest: float, gentlest: float | None = None) -> float:
        """Return a parameter that is ``default`` at strength 0.6 and ``strongest`` at 1.

        Below 0.6 it goes towards ``gentlest``, or stays at the default.
        """
        start = default if gentlest is None else gentlest
        return float(np.interp(self.strength, (0.0, 0.6, 1.0), (start, default, strongest)))


@dataclass(frozen=True)
class Style:
    """A way to paint: ``paint`` yields a float32 RGB picture after each of its ``steps``.

    The last picture is the result, the earlier ones are for previews. ``least_pixels`` is the
    working size below which a photo is enlarged (at most twice) before painting, so that lines
    come out smooth. A style that ``keeps_detail`` changes the photo rather than repaints it:
    its change is added to the photo at full size.
    """

    steps: int
    paint: Callable[[Scene], Iterator[Floats]]
    least_pixels: int = 900_000
    keeps_detail: bool = False
