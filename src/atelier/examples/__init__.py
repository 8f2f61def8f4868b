"""Pictures for examples, so that they work without any network.

Rendered for this project, and under its licence (MIT).
"""

from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

_FOLDER = Path(__file__).parent
_MEDIA_TYPES: Final = {".jpg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}
_SMALL: Final = {
    "photo": "still_life_small.jpg",
    "mask": "mask.png",  # of the leaf in the photo
    "portrait": "portrait.jpg",
    "portrait_2": "portrait_2.jpg",
    "sketch": "sketch.png",
}


def example_photo() -> Path:
    """The picture as a file: 1280 x 960, JPEG."""
    return _FOLDER / "still_life.jpg"


def example_picture() -> str:
    """The same in 256 x 192, as a ``data:`` URI."""
    return example_pictures()["photo"]


@cache
def example_pictures() -> Mapping[str, str]:
    """All small pictures by name, as ``data:`` URIs of a few kilobytes."""
    return {name: _data_uri(_FOLDER / file) for name, file in _SMALL.items()}


def _data_uri(file: Path) -> str:
    encoded = b64encode(file.read_bytes()).decode("ascii")
    return f"data:{_MEDIA_TYPES[file.suffix]};base64,{encoded}"
