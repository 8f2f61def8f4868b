"""Where pictures are kept: one Protocol, any object store behind it."""

from atelier.storage.media_types import extension_of, media_type_of
from atelier.storage.objects import ObjectStore, open_store
from atelier.storage.store import (
    BucketMissing,
    KeyInvalid,
    ObjectInfo,
    ObjectMissing,
    RangeInvalid,
    StorageForbidden,
    StorageUnreachable,
    Store,
    Stream,
)

__all__ = [
    "BucketMissing",
    "KeyInvalid",
    "ObjectInfo",
    "ObjectMissing",
    "ObjectStore",
    "RangeInvalid",
    "StorageForbidden",
    "StorageUnreachable",
    "Store",
    "Stream",
    "extension_of",
    "media_type_of",
    "open_store",
]
