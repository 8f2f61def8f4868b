"""Pictures in another format, quality or size; off the event loop."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from PIL import Image

from atelier.errors import InvalidRequest
from atelier.media import decode
from atelier.media.description import MAX_PIXELS_OF_OUTPUTS, durations_of
from atelier.media.image import profile_for
from atelier.media.kinds import kind_of
from atelier.media.rejections import ImageTooLarge
from atelier.media.threads import in_pool

Format = Literal["png", "jpeg", "webp", "avif"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)
MAX_SIDE: Final = 16_384

_QUALITY: Final[Mapping[str, int]] = {"image/jpeg": 90, "image/webp": 85, "image/avif": 75}
_MOVING: Final = frozenset({"image/png", "image/webp", "image/avif", "image/gif"})
# All frames of an animation are in memory at once, 4 bytes a pixel.
_MOST_PIXELS_OF_FRAMES: Final = 100_000_000


class ConversionInvalid(InvalidRequest):
    """``format``, ``quality`` or ``max_size`` is none; ``data["problems"]`` names which."""

    code = "CONVERSION_INVALID"
    default_hint = "format is png, jpeg, webp or avif, quality 1 to 100, max_size in pixels."


@dataclass(frozen=True, slots=True)
class Conversion:
    """How a picture is wanted. What is None stays as the picture has it.

    ``quality`` is 1 to 100 and matters to JPEG, WebP and AVIF; ``max_size`` is the longer side
    in pixels: larger pictures are made smaller, none larger.
    """

    format: Format | None = None
    quality: int | None = None
    max_size: int | None = None

    @property
    def name(self) -> str:
        """Equal for equal conversions, and fit for a file's name."""
        parts: list[str] = [self.format or "same"]
        parts += [] if self.quality is None else [f"q{self.quality}"]
        parts += [] if self.max_size is None else [str(self.max_size)]
        return "-".join(parts)

    def as_dict(self) -> dict[str, Any]:
        return {"format": self.format, "quality": self.quality, "max_size": self.max_size}

    def media_type_for(self, media_type: str) -> str:
        """What a picture of ``media_type`` becomes; one that can't be written becomes PNG."""
        if self.format is not None:
            return f"image/{self.format}"
        return media_type if media_type in _QUALITY or media_type in _MOVING else "image/png"

    def changes(self, media_type: str, width: int | None, height: int | None) -> bool:
        """False where a picture like this is what is wanted already."""
        wanted = self.media_type_for(media_type)
        is_larger = self.max_size is not None and max(width or 0, height or 0) > self.max_size
        recoded = self.quality is not None and wanted in _QUALITY
        return wanted != media_type or is_larger or recoded or width is None


@dataclass(frozen=True, slots=True)
class Converted:
    data: bytes
    media_type: str


def conversion_of(format: Any, quality: Any, max_size: Any) -> Conversion | None:
    """The conversion that these ask for; None where all are None.

    ``jpg`` is understood as ``jpeg``. Raises ConversionInvalid, naming all that is wrong.
    """
    problems: list[dict[str, Any]] = []
    if isinstance(format, str):
        format = {"jpg": "jpeg"}.get(format.lower(), format.lower())
    if format is not None and format not in FORMATS:
        problem = f"must be one of {', '.join(FORMATS)}; it is {format!r}"
        problems.append({"input": "format", "problem": problem, "allowed": list(FORMATS)})
    elif format == "avif" and "image/avif" not in decode.PICTURES:
        problem = "can't be avif on this machine: Pillow was built without it"
        problems.append({"input": "format", "problem": problem})
    for name, value, high in (("quality", quality, 100), ("max_size", max_size, MAX_SIDE)):
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (is_whole and 1 <= value <= high):
            problem = f"must be a whole number from 1 to {high}; it is {value!r}"
            problems.append({"input": name, "problem": problem})
    if problems:
        raise ConversionInvalid(
            " ".join(f"{one['input']} {one['problem']}." for one in problems), problems=problems
        )
    wanted = Conversion(format, quality, max_size)
    return None if wanted == Conversion() else wanted


def is_convertible(media_type: str) -> bool:
    return media_type in decode.PICTURES


async def convert(data: bytes, conversion: Conversion) -> Converted:
    """The picture as ``conversion`` wants it, upright, with its colours, without metadata.

    An animation stays one where the format can hold it, and becomes its first frame where not.
    Raises NotAnImage, or ImageTooLarge, also for animations of too many pixels in all.
    """
    return await in_pool(_convert, data, conversion)


def _convert(data: bytes, conversion: Conversion) -> Converted:
    with decode.opened(data, max_pixels=MAX_PIXELS_OF_OUTPUTS) as image:
        source = decode.media_type_of_image(image)
        wanted = conversion.media_type_for(source)
        if not conversion.changes(source, *image.size):
            return Converted(data, source)
        frames = decode.frames_of(image)
        out = io.BytesIO()
        options: dict[str, Any] = _options(wanted, conversion.quality)
        if kind_of(source, frames) == "animation" and wanted in _MOVING:
            _require_room(image, frames, conversion.max_size)
            options |= _timing(data, image, wanted)
            first, *others = [_frame(image, n, conversion.max_size) for n in range(frames)]
            options |= {"save_all": True, "append_images": others}
        else:
            first = _plain(image, conversion.max_size)
            options["icc_profile"] = profile_for(first, image)
        if wanted == "image/jpeg":
            first = _on_white(first)
        # What Pillow remembers of the source, such as its EXIF, must not travel along.
        first.info.clear()
        first.save(out, wanted.rpartition("/")[2].upper(), **options)
        return Converted(out.getvalue(), wanted)


def _options(media_type: str, quality: int | None) -> dict[str, Any]:
    value = quality or _QUALITY.get(media_type, 0)
    match media_type:
        case "image/jpeg":
            subsampling = "4:4:4" if value >= 90 else "4:2:0"
            return {"quality": value, "subsampling": subsampling, "optimize": True}
        case "image/webp":
            return {"quality": value, "method": 4}
        case "image/avif":
            # The default takes three times as long for a few percent.
            return {"quality": value, "speed": 8}
        case "image/png":
            return {"compress_level": 6}
    return {}


def _plain(image: Image.Image, max_size: int | None) -> Image.Image:
    orientation = decode.orientation_of(image)
    if max_size is not None and image.mode in ("RGB", "L") and "transparency" not in image.info:
        # Lets a large JPEG be decoded at a part of its size.
        image.thumbnail((max_size, max_size), Image.Resampling.LANCZOS, reducing_gap=2.0)
    plain = decode.to_8_bit(image)
    if max_size is not None:
        plain.thumbnail((max_size, max_size), Image.Resampling.LANCZOS)
    return decode.upright(plain, orientation)


def _frame(image: Image.Image, number: int, max_size: int | None) -> Image.Image:
    image.seek(number)
    frame = image.convert("RGBA")
    if max_size is not None:
        frame.thumbnail((max_size, max_size), Image.Resampling.LANCZOS)
    frame.info.clear()
    return frame


def _require_room(image: Image.Image, frames: int, max_size: int | None) -> None:
    scale = min(1.0, (max_size or MAX_SIDE) / max(image.size))
    pixels = int(frames * image.width * image.height * scale * scale)
    if pixels > _MOST_PIXELS_OF_FRAMES:
        raise ImageTooLarge(
            f"The animation has {frames} frames, {pixels / 1e6:.0f} megapixels in all, more than "
            f"the {_MOST_PIXELS_OF_FRAMES / 1e6:g} that are converted.",
            hint="Ask for a smaller max_size, or for the file as it is.",
        )


def _timing(data: bytes, image: Image.Image, wanted: str) -> dict[str, Any]:
    durations = durations_of(data, MAX_PIXELS_OF_OUTPUTS)
    shown = [round(ms) for ms in durations or ()] or 100
    if wanted == "image/avif":  # always goes round
        return {"duration": shown}
    # A GIF that doesn't say how often is shown once; the others go round.
    loop = image.info.get("loop", 1 if image.format == "GIF" else 0)
    return {"duration": shown, "loop": loop}


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")
