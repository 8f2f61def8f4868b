"""Frames that are rendered when they are needed: a clip as floats would take gigabytes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import numpy as np

from atelier.engine.nodes.node import Bytes, Floats, require_memory
from atelier.engine.nodes.pictures import from_bytes, to_bytes


@dataclass(frozen=True, slots=True)
class Frames:
    """An IMAGE whose pictures ``render`` makes, one by one and the same each time.

    Nodes that don't say that they take frames get them whole, as an array.
    """

    shape: tuple[int, int, int, int]
    render: Callable[[int], Bytes]
    nbytes: int  # what rendering holds in memory

    def whole(self) -> Floats:
        """Return all frames as an array. Raises MemoryError past 2 GiB."""
        require_memory(*self.shape)
        result = np.empty(self.shape, np.float32)
        for number, target in enumerate(result):
            target[:] = from_bytes(self.render(number))
        return result


Images: TypeAlias = Floats | Frames


@dataclass(frozen=True, slots=True)
class Video:
    """A VIDEO: pictures of one size at an even pace."""

    images: Images
    fps: Fraction

    @property
    def nbytes(self) -> int:
        return self.images.nbytes


def each_picture(images: Images) -> Iterator[Bytes]:
    """Return the pictures of ``images`` (HxWxC), one after another."""
    if isinstance(images, Frames):
        return (images.render(number) for number in range(images.shape[0]))
    return (to_bytes(image) for image in images)
