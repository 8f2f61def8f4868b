"""What a file is and shows, whatever it is: for records, thumbnails and viewers."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from atelier.errors import MediaRejected
from atelier.media import decode, film
from atelier.media.image import Thumbnail, small_of
from atelier.media.kinds import MediaKind, kind_of
from atelier.media.rejections import ImageTooLarge
from atelier.media.sniff import media_type_of_output
from atelier.media.threads import in_pool

# Up to here Pillow opens what we made ourselves without calling it a decompression bomb.
MAX_PIXELS_OF_OUTPUTS = 89_000_000
# The length of an animation is the sum over its frames, and some formats decode each for it.
MOST_PIXELS_FOR_LENGTH = 200_000_000


@dataclass(frozen=True, slots=True)
class Description:
    """What shows nothing has no size in pixels and no thumbnail; frames only where several."""

    media_type: str
    size_bytes: int
    sha256: str
    width: int | None = None
    height: int | None = None
    duration_seconds: float | None = None
    fps: float | None = None
    frames: int | None = None
    thumbnail: Thumbnail | None = None

    @property
    def kind(self) -> MediaKind:
        return kind_of(self.media_type, self.frames)


async def describe(
    data: bytes, filename: str, *, max_pixels: int = decode.MAX_PIXELS
) -> Description:
    """A file that came from outside; anything but a picture is known by its type only.

    A damaged or huge picture is described without thumbnail rather than refused.
    """
    return await in_pool(_describe, data, filename, max_pixels, films=False)


async def describe_output(data: bytes, filename: str) -> Description:
    """A file that a workflow made; the file itself is not changed.

    Videos and sounds are looked into too, which nothing from outside is.
    """
    return await in_pool(_describe, data, filename, MAX_PIXELS_OF_OUTPUTS, films=True)


def _describe(data: bytes, filename: str, max_pixels: int, *, films: bool) -> Description:
    media_type = media_type_of_output(data, filename)
    plain = Description(media_type, len(data), hashlib.sha256(data).hexdigest())
    if media_type in decode.PICTURES:
        return _picture(data, plain, max_pixels)
    if films and media_type in film.FILMS:
        return _film(data, plain, max_pixels)
    return plain


def _picture(data: bytes, plain: Description, max_pixels: int) -> Description:
    try:
        with decode.opened(data, max_pixels=max_pixels) as image:
            width, height = decode.upright_size(image)
            frames = decode.frames_of(image)
            small = small_of(image)
    except ImageTooLarge as error:
        return replace(plain, width=error.data.get("width"), height=error.data.get("height"))
    except MediaRejected:
        return plain
    described = replace(plain, width=width, height=height, thumbnail=small)
    if kind_of(plain.media_type, frames) != "animation":
        return described
    durations = None
    if frames * width * height <= MOST_PIXELS_FOR_LENGTH:
        durations = durations_of(data, max_pixels)
    return replace(described, frames=frames, **_timing(durations))


def durations_of(data: bytes, max_pixels: int) -> list[float] | None:
    """How long each frame of an animation is shown, in milliseconds; None where it is damaged."""
    try:
        with decode.opened(data, max_pixels=max_pixels) as image:
            return [_shown_ms(image, number) for number in range(decode.frames_of(image))]
    except MediaRejected:
        return None


def _shown_ms(image: Image.Image, number: int) -> float:
    image.seek(number)
    if image.format in ("WEBP", "AVIF"):  # told by the decoder only
        image.load()
    shown = image.info.get("duration", 0)
    return float(shown) if isinstance(shown, int | float) else 0.0


def _timing(durations: list[float] | None) -> dict[str, Any]:
    seconds = sum(durations or ()) / 1000
    if not durations or seconds <= 0:
        return {}
    return {"duration_seconds": round(seconds, 3), "fps": round(len(durations) / seconds, 3)}


def _film(data: bytes, plain: Description, max_pixels: int) -> Description:
    seen = film.look_at(data, plain.media_type, max_pixels=max_pixels)
    return replace(
        plain,
        width=seen.width,
        height=seen.height,
        duration_seconds=seen.duration_seconds,
        fps=seen.fps,
        frames=seen.frames,
        thumbnail=None if seen.first is None else small_of(seen.first),
    )
