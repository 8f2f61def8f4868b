"""Between float pictures, bytes and files."""

import io
from typing import Final

import numpy as np
from PIL import Image, PngImagePlugin

from atelier.engine.nodes.node import Bytes, Floats

LARGEST_PREVIEW: Final = 512  # pixels along the longer side
_PREVIEW_QUALITY: Final = 80


def to_bytes(image: Floats) -> Bytes:
    """Return 0..1 as 0..255, cut off (not rounded), as ComfyUI saves pictures."""
    levels: Floats = np.clip(image * np.float32(255), 0, 255)
    return levels.astype(np.uint8)


def from_bytes(image: Bytes) -> Floats:
    return image.astype(np.float32) / np.float32(255)


def open_bytes(image: Bytes) -> Image.Image:
    """Return HxW or HxWxC as a Pillow picture: grey, RGB or RGBA by the number of channels."""
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    return Image.fromarray(np.ascontiguousarray(image))


def encode_png(image: Bytes, *, compress_level: int, text: dict[str, str] | None = None) -> bytes:
    """Return a PNG of ``image``; ``text`` becomes its text chunks."""
    metadata = PngImagePlugin.PngInfo()
    for key, value in (text or {}).items():
        metadata.add_text(key, value)
    target = io.BytesIO()
    open_bytes(image).save(target, "PNG", pnginfo=metadata, compress_level=compress_level)
    return target.getvalue()


def encode_preview(image: Bytes) -> bytes:
    """Return a small JPEG of ``image`` (RGB), at most 512 pixels along the longer side."""
    picture = open_bytes(image[..., :3])
    picture.thumbnail((LARGEST_PREVIEW, LARGEST_PREVIEW), Image.Resampling.BILINEAR)
    target = io.BytesIO()
    picture.save(target, "JPEG", quality=_PREVIEW_QUALITY)
    return target.getvalue()
