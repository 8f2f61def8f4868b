"""The port to object storage, its values and its errors."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from atelier.errors import InvalidRequest, NotFound, StorageError


class KeyInvalid(InvalidRequest):
    """A key that names nothing inside the store."""

    code = "STORAGE_KEY_INVALID"
    default_hint = "Keys are relative paths such as `outputs/name.png`."


class RangeInvalid(InvalidRequest):
    """The range starts behind the end; ``data["size"]`` is the object's size."""

    code = "RANGE_INVALID"


class ObjectMissing(NotFound):
    """Nothing is kept under this key."""

    code = "OBJECT_MISSING"


class StorageForbidden(StorageError):
    """The store knows us too little: wrong credentials or missing rights."""

    code = "STORAGE_FORBIDDEN"
    retryable = False
    default_hint = (
        "Check the credentials and the rights of the storage; a local folder must belong to "
        "the user that the service runs as."
    )


class BucketMissing(StorageError):
    """The bucket, or the folder, that STORAGE_URL names does not exist."""

    code = "STORAGE_BUCKET_MISSING"
    retryable = False
    default_hint = "Create the bucket, or correct its name, region and account in the settings."


class StorageUnreachable(StorageError):
    """The store did not answer, or failed on its side."""

    code = "STORAGE_UNREACHABLE"
    default_hint = "Check that the storage endpoint is up and reachable from here."


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What is known about an object: size in bytes, quoted ETag, media type, time of writing."""

    size: int
    etag: str
    media_type: str
    modified: datetime


@dataclass(frozen=True, slots=True)
class Stream:
    """Bytes ``start`` up to but without ``end`` of an object, in pieces."""

    info: ObjectInfo
    start: int
    end: int
    chunks: AsyncIterator[bytes]


class Store(Protocol):
    """Keeps objects under keys. Every method raises KeyInvalid or a StorageError.

    Keys are relative paths with ``/``; they can't leave the store. The key's extension
    should be that of the media type (``extension_of``): a local folder keeps nothing else.
    """

    async def put(self, key: str, data: bytes, media_type: str) -> None:
        """Keep ``data``; readers see the old object or the new one, never a part."""
        ...

    async def get(self, key: str) -> bytes:
        """The whole object. Raises ObjectMissing."""
        ...

    async def open(self, key: str, *, start: int = 0, end: int | None = None) -> Stream:
        """The object from byte ``start`` up to but without ``end`` (clipped to its size).

        Raises ObjectMissing, or RangeInvalid when nothing lies in the range.
        """
        ...

    async def head(self, key: str) -> ObjectInfo | None:
        """What is known about an object; None if there is none."""
        ...

    async def delete(self, key: str) -> None:
        """Remove an object; nothing happens if there is none."""
        ...

    def list(self, prefix: str = "") -> AsyncIterator[str]:
        """The keys below the folder ``prefix``, in no order."""
        ...

    async def url(self, key: str, *, expires_seconds: int | None = None) -> str | None:
        """An address that a browser can open without us, or None if only we can serve it.

        Signed ones are valid for ``expires_seconds``, else for as long as the store was told.
        """
        ...

    async def check(self) -> None:
        """Write, read, sign and delete a small object; raises the StorageError that stops it."""
        ...
