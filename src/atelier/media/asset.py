"""An asset: one file in the store and what is known about it."""

from dataclasses import dataclass
from typing import Literal

from atelier.storage.media_types import extension_of

Kind = Literal["input", "output"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A picture or other file that a user sent (``input``) or a job made (``output``).

    ``key`` and ``thumbnail_key`` are keys of the store. ``seq`` is the place among the
    job's outputs. ``created_at_ms`` is set by the database when it is inserted.
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
