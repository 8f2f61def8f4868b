"""Pictures of every kind, made here."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

Encode = Callable[..., bytes]


@pytest.fixture(scope="session")
def scene() -> Image.Image:
    """48 x 32, no two corners alike, so that turning and mirroring show."""
    image = Image.new("RGB", (48, 32), (200, 200, 200))
    image.paste((220, 20, 20), (0, 0, 24, 16))
    image.paste((20, 200, 20), (24, 0, 48, 16))
    image.paste((20, 20, 220), (0, 16, 24, 32))
    return image


@pytest.fixture(scope="session")
def encode() -> Encode:
    """The bytes of a picture in a format."""

    def encode(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
        out = io.BytesIO()
        image.save(out, format, **options)
        return out.getvalue()

    return encode
