"""Any object store that obstore knows: a local folder, memory, S3 and its relatives, Google's."""

import contextlib
import os
import stat
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import obstore
from obstore import exceptions as vendor
from obstore.store import LocalStore

from atelier.storage.keys import check_key
from atelier.storage.location import open_vendor_store
from atelier.storage.media_types import media_type_of
from atelier.storage.store import (
    BucketMissing,
    KeyInvalid,
    ObjectInfo,
    ObjectMissing,
    RangeInvalid,
    StorageForbidden,
    StorageUnreachable,
    Stream,
)

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult
    from obstore.store import ObjectStore as VendorStore

CHUNK_BYTES = 256 * 1024


URL_SECONDS = 3600


def open_store(
    url: str, *, public_url: str | None = None, url_seconds: int = URL_SECONDS, **options: str
) -> "ObjectStore":
    """The store that ``url`` names, not yet contacted (see ``Store.check``).

    A local folder (a path or ``file://``, created if absent), ``memory://``,
    ``s3://bucket/prefix`` or ``gs://bucket/prefix``. Options of S3, as arguments or in the
    URL's query (arguments win): ``endpoint``, ``region``, ``access_key_id``,
    ``secret_access_key``, ``session_token``, ``path_style`` (true, false); what is left out is
    read from the usual AWS variables.
    The one of Google's is ``credentials``, a file. ``public_url`` is the base under which
    browsers reach the objects without a signature; signatures are valid for ``url_seconds``.
    Raises ConfigurationError.
    """
    location = open_vendor_store(url, public_url, options)
    return ObjectStore(
        location.store,
        name=location.name,
        public_url=location.public_url,
        url_seconds=url_seconds,
    )


class ObjectStore:
    """A Store over one of obstore's. ``name`` is for people and holds no secret."""

    def __init__(
        self,
        store: "VendorStore",
        *,
        name: str,
        public_url: str | None = None,
        url_seconds: int = URL_SECONDS,
    ) -> None:
        self.name = name
        self._store: Any = store
        self._public_url = public_url.rstrip("/") if public_url else None
        self._url_seconds = url_seconds
        self._root = store.prefix if isinstance(store, LocalStore) else None
        self._signs = type(store).__name__ in ("S3Store", "GCSStore", "AzureStore")

    async def put(self, key: str, data: bytes, media_type: str) -> None:
        self._check(key)
        with self._translated(key):
            if self._root is None:
                attributes = {"Content-Type": media_type}
                # No multipart: one request is atomic, and leaves no parts behind.
                await obstore.put_async(
                    self._store, key, data, attributes=attributes, use_multipart=False
                )
            else:
                await obstore.put_async(self._store, key, data, use_multipart=False)

    async def get(self, key: str) -> bytes:
        self._check(key)
        with self._translated(key, missing=ObjectMissing):
            result = await obstore.get_async(self._store, key)
            return bytes(await result.bytes_async())

    async def open(self, key: str, *, start: int = 0, end: int | None = None) -> Stream:
        self._check(key)
        if start < 0 or (end is not None and end <= start):
            raise RangeInvalid(f"No bytes lie between {start} and {end}.")
        options: GetOptions = {}
        if end is not None:
            options = {"range": (start, end)}
        elif start:
            options = {"range": {"offset": start}}
        try:
            with self._translated(key, missing=ObjectMissing):
                result = await obstore.get_async(self._store, key, options=options)
        except StorageUnreachable as error:
            # A range behind the end comes as an unspecific error, worded by each store.
            info = await self.head(key) if options else None
            if info is None or start < info.size:
                raise
            raise RangeInvalid(
                f"The object has {info.size} bytes; none from {start}.", size=info.size
            ) from error
        info = _info(key, result)
        start, end = result.range
        if start >= end and options:
            raise RangeInvalid(f"The object has {info.size} bytes.", size=info.size)
        return Stream(info, start, end, self._chunks(key, result))

    async def head(self, key: str) -> ObjectInfo | None:
        self._check(key)
        try:
            with self._translated(key, missing=ObjectMissing):
                # Unlike head_async this brings the media type along.
                options: GetOptions = {"head": True}
                return _info(key, await obstore.get_async(self._store, key, options=options))
        except ObjectMissing:
            return None

    async def delete(self, key: str) -> None:
        self._check(key)
        with contextlib.suppress(ObjectMissing), self._translated(key, missing=ObjectMissing):
            await obstore.delete_async(self._store, key)

    async def list(self, prefix: str = "") -> AsyncIterator[str]:
        folder = prefix.rstrip("/")
        if folder:
            self._check(folder)
        with self._translated(folder):
            async for batch in obstore.list(self._store, folder or None):
                for found in batch:
                    yield found["path"]

    async def url(self, key: str, *, expires_seconds: int | None = None) -> str | None:
        self._check(key)
        if self._public_url:
            return f"{self._public_url}/{quote(key)}"
        if not self._signs:
            return None
        with self._translated(key):
            expires = timedelta(seconds=expires_seconds or self._url_seconds)
            signed: str = await obstore.sign_async(self._store, "GET", key, expires)
            return signed

    async def check(self) -> None:
        key = f"check-{uuid.uuid4()}.txt"
        await self.put(key, b"atelier", "text/plain")
        try:
            if await self.get(key) != b"atelier":
                raise StorageUnreachable(f"{self.name} gave back other bytes than were written.")
            await self.url(key)
        finally:
            await self.delete(key)

    async def _chunks(self, key: str, result: "GetResult") -> AsyncIterator[bytes]:
        with self._translated(key, missing=ObjectMissing):
            async for chunk in result.stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(chunk)

    def _check(self, key: str) -> None:
        check_key(key)
        if self._root is not None:
            _check_inside(self._root, key)

    @contextlib.contextmanager
    def _translated(
        self, key: str, missing: type[ObjectMissing] | type[BucketMissing] = BucketMissing
    ) -> Iterator[None]:
        """Vendor errors as ours; "not found" means ``missing``, which only reading can tell."""
        try:
            yield
        except FileNotFoundError as error:
            if missing is ObjectMissing:
                raise ObjectMissing(f"Nothing is stored under {key!r}.", key=key) from error
            raise BucketMissing(f"{self.name} does not exist.") from error
        except (vendor.PermissionDeniedError, vendor.UnauthenticatedError) as error:
            raise StorageForbidden(f"{self.name} refused us access to {key!r}.") from error
        except PermissionError as error:
            raise StorageForbidden(f"{self.name} refused us access to {key!r}.") from error
        except (vendor.BaseError, OSError) as error:
            if missing is ObjectMissing and self._root and _is_below_a_file(self._root, key):
                raise ObjectMissing(f"Nothing is stored under {key!r}.", key=key) from error
            # The local store words every failure alike. A root that is no folder is a disk that
            # isn't mounted, which may pass.
            if self._root and self._root.is_dir() and _lacks_rights(self._root, key):
                raise StorageForbidden(f"{self.name} refused us access to {key!r}.") from error
            reason = _first_line(error)
            raise StorageUnreachable(f"{self.name} failed: {reason}", key=key) from error


def _info(key: str, result: "GetResult") -> ObjectInfo:
    meta = result.meta
    return ObjectInfo(
        size=meta["size"],
        etag=meta["e_tag"] or f'"{meta["size"]:x}-{meta["last_modified"].timestamp():.6f}"',
        media_type=result.attributes.get("Content-Type") or media_type_of(key),
        modified=meta["last_modified"],
    )


def _check_inside(root: Path, key: str) -> None:
    # A link that was planted inside the folder must not lead out of it. Only an existing
    # part of the path can be a link, so the walk ends at the first segment that is absent.
    path = str(root)
    for segment in key.split("/"):
        path = f"{path}/{segment}"
        try:
            is_link = stat.S_ISLNK(os.lstat(path).st_mode)
        except OSError:
            return
        if is_link and not Path(path).resolve().is_relative_to(root):
            raise KeyInvalid(f"The key {key!r} leads out of the store.", key=key)


def _is_below_a_file(root: Path, key: str) -> bool:
    try:
        os.lstat(root / key)
    except NotADirectoryError:
        return True
    except OSError:
        return False
    return False


def _lacks_rights(root: Path, key: str) -> bool:
    path = root / key
    if os.path.lexists(path) and not os.access(path, os.R_OK):
        return True
    folder = next((parent for parent in path.parents if os.path.lexists(parent)), root)
    return not os.access(folder, os.W_OK | os.X_OK)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
