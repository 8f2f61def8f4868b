"""The trivial graph: one plain picture of a colour that nobody has asked for before."""

import io
import random
from dataclasses import dataclass
from typing import Any

from PIL import Image

SIDE = 64  # pixels


class WrongPicture(Exception):
    """What came back is not what was asked for."""


@dataclass(frozen=True, slots=True)
class Colours:
    """Draws colours; ``prefix`` keeps the files of this run together in ComfyUI's folder."""

    prefix: str
    rng: random.Random

    def draw(self) -> int:
        return self.rng.randrange(1 << 24)

    def graph(self, colour: int) -> dict[str, Any]:
        size = {"width": SIDE, "height": SIDE, "batch_size": 1}
        return {
            "1": {"class_type": "EmptyImage", "inputs": {**size, "color": colour}},
            "2": {
                "class_type": "SaveImage",
                "inputs": {"filename_prefix": self.prefix, "images": ["1", 0]},
            },
        }


def check_picture(data: bytes, colour: int) -> None:
    """Raise WrongPicture unless ``data`` is a PNG of ``colour`` all over."""
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        found = image.convert("RGB").getcolors()
        size = image.size
    wanted = (colour >> 16, colour >> 8 & 255, colour & 255)
    if size != (SIDE, SIDE) or found != [(SIDE * SIDE, wanted)]:
        raise WrongPicture(f"Asked for {SIDE} px of {wanted}, got {size} of {found}.")
