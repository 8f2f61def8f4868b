"""What sort of thing a file is, in the words by which callers choose how to show it."""

from typing import Final, Literal

from atelier.storage.media_types import JSON

MediaKind = Literal["image", "animation", "video", "audio", "text", "3d", "file"]

# Of other pictures with several, the further ones are pages or sizes of the first.
_MOVING: Final = frozenset({"image/gif", "image/webp", "image/png", "image/avif"})
_BY_MAIN_TYPE: Final[dict[str, MediaKind]] = {
    "image": "image",
    "video": "video",
    "audio": "audio",
    "text": "text",
    "model": "3d",
}


def kind_of(media_type: str, frames: int | None = None) -> MediaKind:
    """The kind of a file of ``media_type``; ``frames`` tells an animation from a picture."""
    if media_type in _MOVING and (frames or 1) > 1:
        return "animation"
    if media_type == JSON:
        return "text"
    return _BY_MAIN_TYPE.get(media_type.partition("/")[0], "file")
