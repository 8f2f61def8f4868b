"""A picture for examples, so that they work without any network.

Rendered for this project, and under its licence (MIT).
"""

from base64 import b64encode
from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent


def example_photo() -> Path:
    """The picture as a file: 1280 x 960, JPEG."""
    return _FOLDER / "still_life.jpg"


@cache
def example_picture() -> str:
    """The same in 256 x 192, as a ``data:`` URI."""
    photo = (_FOLDER / "still_life_small.jpg").read_bytes()
    return f"data:image/jpeg;base64,{b64encode(photo).decode('ascii')}"
