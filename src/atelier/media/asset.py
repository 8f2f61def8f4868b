"""An asset: one file in the store and what is known about it."""

from dataclasses import dataclass
from typing import Literal

from atelier.media.kinds import MediaKind, kind_of
from atelier.storage.media_types import extension_of

Kind = Literal["input", "output", "preview"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A picture or other file that a user sent (``input``) or a job made.

    ``output`` is a result, ``preview`` what a job showed beside its results. ``key`` and
    ``thumbnail_key`` are keys of the store, which several assets may share. ``seq`` is the
    place among the job's outputs, or previews. ``created_at_ms`` is set by the database when
    it is inserted.
    """

    id: str
    user: str
    kind: Kind
    key: str
    media_type: str
    size_bytes: int
    sha256: str
    thumbnail_key: str | None = None
    width: int | None = None
    height: int | None = None
    duration_seconds: float | None = None
    fps: float | None = None
    frames: int | None = None
    thumbhash: str | None = None
    filename: str | None = None
    job: str | None = None
    node: str | None = None
    seq: int = 0
    created_at_ms: int = 0
    deleted_at_ms: int | None = None

    @property
    def deleted(self) -> bool:
        return self.deleted_at_ms is not None

    @property
    def media_kind(self) -> MediaKind:
        return kind_of(self.media_type, self.frames)


def input_key(asset: str, media_type: str) -> str:
    """Where an uploaded file is kept. The last two digits of an id spread the folders."""
    return f"inputs/{asset[-2:]}/{asset}.{extension_of(media_type)}"


def output_key(job: str, lease: int, asset: str, media_type: str) -> str:
    """Where a job's output is kept: each claim (``lease``) writes to keys of its own."""
    return f"outputs/{job[-2:]}/{job}/{lease}-{asset}.{extension_of(media_type)}"


def thumbnail_key(key: str) -> str:
    """Where the thumbnail of what is kept under ``key`` is kept."""
    stem, dot, _ = key.rpartition(".")
    return f"{stem if dot else key}.thumbnail.webp"


def derivatives_folder(key: str) -> str:
    """Where conversions of what is kept under ``key`` are kept."""
    stem, dot, _ = key.rpartition(".")
    return f"{stem if dot else key}.converted"


def is_derivative(key: str) -> bool:
    """Whether what is kept under ``key`` was converted, and can be made again."""
    return ".converted/" in key


def derivative_key(key: str, conversion: str, media_type: str) -> str:
    """Where the conversion of that name of what is kept under ``key`` is kept."""
    return f"{derivatives_folder(key)}/{conversion}.{extension_of(media_type)}"
