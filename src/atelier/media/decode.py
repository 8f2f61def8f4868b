"""Pillow, kept from what harms: sizes before pixels, few formats, one kind of error.

Everything here blocks; ``image.py`` runs it off the event loop.
"""

import contextlib
import io
import struct
import warnings
import zlib
from collections.abc import Iterator

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from atelier.media.rejections import ImageTooLarge, NotAnImage, not_an_image
from atelier.media.sniff import sniff

MAX_PIXELS = 50_000_000
ORIENTATION = 0x0112

# A picture whose header Pillow itself finds suspicious is refused, wherever it is opened.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)

# By media type; a multi-picture JPEG opens as JPEG and then calls itself MPO.
_FORMATS = {
    "image/png": "PNG",
    "image/jpeg": "JPEG",
    "image/webp": "WEBP",
    "image/gif": "GIF",
    "image/bmp": "BMP",
    "image/tiff": "TIFF",
    "image/avif": "AVIF",
}
_MEDIA_TYPES = {format: media_type for media_type, format in _FORMATS.items()}
_MEDIA_TYPES["MPO"] = "image/jpeg"
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Named so that Pillow knows these without loading every format that it has.
_PLUGINS = (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
PICTURES = frozenset(_FORMATS) - (set() if AvifImagePlugin.SUPPORTED else {"image/avif"})
# What Pillow's decoders raise on broken data, each seen in one of them.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    RuntimeError,
    struct.error,
    zlib.error,
    UserWarning,
)


@contextlib.contextmanager
def opened(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """The picture in ``data``, its pixels not decoded yet.

    Raises NotAnImage, also for what goes wrong when it is decoded inside the block, and
    ImageTooLarge by the size that the header tells.
    """
    media_type = sniff(data)
    if media_type is None or media_type not in PICTURES:
        raise not_an_image(media_type, empty=not data)
    try:
        with Image.open(io.BytesIO(data), formats=[_FORMATS[media_type]]) as image:
            if image.width * image.height > max_pixels:
                raise _too_large(image.width, image.height, max_pixels)
            yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge(
            f"The picture has more than {max_pixels / 1e6:g} megapixels.", max_pixels=max_pixels
        ) from error
    except MemoryError as error:
        raise ImageTooLarge("The picture doesn't fit into memory.") from error
    except _BROKEN as error:
        raise NotAnImage(
            f"The picture is damaged or incomplete ({media_type}).",
            hint="Open it in a picture program and save it again.",
            media_type=media_type,
        ) from error


def media_type_of_image(image: Image.Image) -> str:
    return _MEDIA_TYPES[image.format or ""]


def frames_of(image: Image.Image) -> int:
    return int(getattr(image, "n_frames", 1))


def orientation_of(image: Image.Image) -> int:
    """1 to 8 as EXIF counts them, of the pixels that Pillow gives; 1 is upright."""
    if image.format == "TIFF":  # turned by Pillow itself
        return 1
    value = image.getexif().get(ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height as the picture is to be seen."""
    turned = orientation_of(image) >= 5
    return (image.height, image.width) if turned else (image.width, image.height)


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The picture as it is to be seen, turned and mirrored as ``orientation`` says."""
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def is_plain(image: Image.Image) -> bool:
    """Whether every program reads the same 8-bit pixels from it as we do."""
    return image.mode in ("1", "L", "LA", "P", "RGB", "RGBA")


def to_8_bit(image: Image.Image) -> Image.Image:
    """The picture as RGB or RGBA, or L without transparency, of 8 bits each."""
    if image.mode.startswith("I;16"):
        # Pillow would clip to 255 instead of scaling.
        return image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    if image.mode in ("I", "F"):
        low, high = _range_of(image)
        scale = 255 / (high - low) if high > low else 0
        return image.point(lambda value: value * scale - low * scale).convert("L")
    if image.mode in ("RGB", "RGBA", "L") and "transparency" not in image.info:
        return image
    has_alpha = image.mode in ("LA", "PA", "La", "RGBa") or "transparency" in image.info
    return image.convert("RGBA" if has_alpha else "L" if image.mode == "1" else "RGB")


def _range_of(image: Image.Image) -> tuple[float, float]:
    """The values that become black and white: those of the type, or of float, 0 to 1."""
    low, high = image.getextrema()
    assert isinstance(low, int | float)
    assert isinstance(high, int | float)
    if image.mode == "F":
        return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
    return (0, 255) if low >= 0 and high <= 255 else (0, 65535) if low >= 0 else (low, high)


def _too_large(width: int, height: int, max_pixels: int) -> ImageTooLarge:
    return ImageTooLarge(
        f"The picture has {width} x {height} pixels, more than {max_pixels / 1e6:g} megapixels.",
        width=width,
        height=height,
        max_pixels=max_pixels,
    )
