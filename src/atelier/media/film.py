"""Videos and sound: size, length and first frame, read by FFmpeg's libraries.

Everything here blocks; ``description.py`` runs it off the event loop.
"""

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from PIL import Image

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

# By the bytes' media type, so that a file can't choose a demuxer that opens other addresses.
_DEMUXERS: Final = {
    "video/mp4": "mp4",
    "video/quicktime": "mov",
    "video/webm": "matroska",
    "video/x-matroska": "matroska",
    "video/x-msvideo": "avi",
    "audio/mp4": "mp4",
    "audio/mpeg": "mp3",
    "audio/wav": "wav",
    "audio/flac": "flac",
    "audio/ogg": "ogg",
}
FILMS: Final = frozenset(_DEMUXERS)
# What PyAV raises on broken data besides; a stream of unknown codec has no context, for one.
_BROKEN: Final = (
    ValueError,
    ArithmeticError,
    LookupError,
    AttributeError,
    RuntimeError,
    MemoryError,
)


@dataclass(frozen=True, slots=True)
class Film:
    """What is known of a video or a sound; a sound has no frames and no size."""

    width: int | None = None
    height: int | None = None
    duration_seconds: float | None = None
    fps: float | None = None
    frames: int | None = None
    first: Image.Image | None = None


def look_at(data: bytes, media_type: str, *, max_pixels: int) -> Film:
    """What the file tells of itself, and its first frame where that has few enough pixels.

    ``media_type`` is one of FILMS. A damaged file gives what could still be read.
    """
    # FFmpeg's libraries take some 20 MB: only who makes videos pays for them.
    import av

    try:
        with av.open(io.BytesIO(data), "r", format=_DEMUXERS[media_type]) as container:
            return _look(container, max_pixels)
    except (av.error.FFmpegError, *_BROKEN):
        return Film()


def _look(container: "InputContainer", max_pixels: int) -> Film:
    seconds = None if container.duration is None else container.duration / 1_000_000
    if not container.streams.video:
        return Film(duration_seconds=_positive(seconds))
    stream = container.streams.video[0]
    width, height = stream.codec_context.width, stream.codec_context.height
    first = _first_frame(container, stream) if 0 < width * height <= max_pixels else None
    frames = stream.frames or _count(container, stream)
    rate = stream.average_rate or stream.guessed_rate
    return Film(
        width=width or None,
        height=height or None,
        duration_seconds=_positive(seconds),
        fps=_positive(None if rate is None else float(rate)),
        frames=frames or None,
        first=first,
    )


def _first_frame(container: "InputContainer", stream: "VideoStream") -> Image.Image | None:
    import av

    try:
        frame: Any = next(container.decode(stream), None)
        return None if frame is None else frame.to_image()
    except av.error.FFmpegError:
        return None


def _count(container: "InputContainer", stream: "VideoStream") -> int:
    """The frames of a file whose header doesn't tell, such as WebM: packets, none decoded."""
    import av

    try:
        container.seek(0)
        return sum(1 for packet in container.demux(stream) if packet.size)
    except av.error.FFmpegError:
        return 0


def _positive(value: float | None) -> float | None:
    if value is None or not math.isfinite(value) or value <= 0:
        return None
    return round(value, 3)
