"""Pictures: checked, set upright, freed of metadata, made small; off the event loop."""

import base64
import hashlib
import io
from dataclasses import dataclass

from PIL import Image
from PIL.JpegImagePlugin import get_sampling

from atelier.media import decode
from atelier.media.decode import MAX_PIXELS
from atelier.media.metadata import Unparsable, strip_metadata
from atelier.media.threads import in_pool
from atelier.media.thumbhash import thumbhash

THUMBNAIL_SIDE = 512
# The hash keeps at most 7 frequencies per side: from 12 pixels on it only differs by its
# own rounding, and the time it takes goes with the number of pixels.
THUMBHASH_SIDE = 12
# A profile for one of these colour spaces holds after the conversion too.
_SAME_SPACE = (("P", "RGB"), ("P", "RGBA"))


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """A picture by its header; width and height in pixels, as it is to be seen."""

    media_type: str
    width: int
    height: int
    frames: int


@dataclass(frozen=True, slots=True)
class NormalisedImage:
    """A whole, upright picture without metadata: PNG, JPEG or WebP of one frame, 8 bits."""

    data: bytes
    media_type: str
    width: int
    height: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """WebP of at most 512 pixels a side, and the thumbhash (base64) shown until it loads."""

    data: bytes
    width: int
    height: int
    thumbhash: str
    media_type: str = "image/webp"


async def inspect(data: bytes, *, max_pixels: int = MAX_PIXELS) -> ImageInfo:
    """What the header tells. Raises NotAnImage or ImageTooLarge."""
    return await in_pool(_inspect, data, max_pixels)


async def normalise(data: bytes, *, max_pixels: int = MAX_PIXELS) -> NormalisedImage:
    """A picture from outside, wholly decoded once, as instances may be given it.

    PNG, JPEG and WebP stay what they are, bit for bit where only metadata was in the way;
    other formats, and the first frame of an animation, become PNG. ``max_pixels`` above
    89 million has no effect. Raises NotAnImage or ImageTooLarge.
    """
    return await in_pool(_normalise, data, max_pixels)


async def thumbnail(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Thumbnail:
    """The (first frame of the) picture, small. Raises NotAnImage or ImageTooLarge."""
    return await in_pool(_thumbnail, data, max_pixels)


def _inspect(data: bytes, max_pixels: int) -> ImageInfo:
    with decode.opened(data, max_pixels=max_pixels) as image:
        width, height = decode.upright_size(image)
        return ImageInfo(
            media_type=decode.media_type_of_image(image),
            width=width,
            height=height,
            frames=decode.frames_of(image),
        )


def _normalise(data: bytes, max_pixels: int) -> NormalisedImage:
    with decode.opened(data, max_pixels=max_pixels) as image:
        media_type = decode.media_type_of_image(image)
        image.load()
        size = decode.upright_size(image)
        clean = None
        if (
            media_type in ("image/png", "image/jpeg", "image/webp")
            and decode.is_plain(image)
            and decode.orientation_of(image) == 1
        ):
            try:
                clean = strip_metadata(data, media_type)
            except Unparsable:
                clean = None
        if clean is None:
            clean, media_type = _encoded(image, media_type)
        return NormalisedImage(clean, media_type, *size, hashlib.sha256(clean).hexdigest())


def _encoded(image: Image.Image, media_type: str) -> tuple[bytes, str]:
    """The picture encoded anew, upright and with its colour profile only."""
    if media_type not in ("image/jpeg", "image/webp") or (
        media_type == "image/webp" and decode.frames_of(image) > 1
    ):
        media_type = "image/png"
    plain = decode.to_8_bit(decode.upright(image, decode.orientation_of(image)))
    profile = profile_for(plain, image)
    out = io.BytesIO()
    if media_type == "image/jpeg":
        sampling = get_sampling(image)
        subsampling = sampling if sampling in (0, 2) else 0
        plain.save(out, "JPEG", quality=95, subsampling=subsampling, icc_profile=profile)
    elif media_type == "image/webp":
        plain.save(out, "WEBP", quality=95, method=2, icc_profile=profile)
    else:
        plain.save(out, "PNG", compress_level=3, icc_profile=profile)
    # Pillow copies comments and densities from what it has read.
    return strip_metadata(out.getvalue(), media_type), media_type


def profile_for(plain: Image.Image, image: Image.Image) -> bytes | None:
    """The colour profile of ``image`` where it holds for ``plain``, made from it, too."""
    is_same_space = plain.mode == image.mode or (image.mode, plain.mode) in _SAME_SPACE
    profile = image.info.get("icc_profile")
    return profile if is_same_space and isinstance(profile, bytes) else None


def _thumbnail(data: bytes, max_pixels: int) -> Thumbnail:
    with decode.opened(data, max_pixels=max_pixels) as image:
        return small_of(image)


def small_of(image: Image.Image) -> Thumbnail:
    """The picture small; it may be made small itself on the way. Blocks."""
    # `draft` inside lets a large JPEG be decoded at an eighth of its size.
    orientation = decode.orientation_of(image)
    if max(image.size) > THUMBNAIL_SIDE and image.mode in ("RGB", "RGBA", "L"):
        image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), reducing_gap=2.0)
    small = decode.to_8_bit(image)
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    small = decode.upright(small, orientation)
    out = io.BytesIO()
    small.save(out, "WEBP", quality=80, method=2, exif=b"", xmp=b"", icc_profile=b"")
    return Thumbnail(out.getvalue(), small.width, small.height, _thumbhash(small))


def _thumbhash(image: Image.Image) -> str:
    scale = min(1, THUMBHASH_SIDE / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    tiny = image.convert("RGBA").resize(size, Image.Resampling.BOX)
    return base64.b64encode(thumbhash(*size, tiny.tobytes())).decode()
