"""Pictures that callers bring, and whatever jobs make."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import uuid_utils

from atelier.database import Database
from atelier.errors import InvalidRequest, NotFound
from atelier.media.asset import Asset, input_key, thumbnail_key
from atelier.media.catalog import Catalog
from atelier.media.conversion import Conversion, is_convertible
from atelier.media.data_url import decode_data_url
from atelier.media.description import describe
from atelier.media.image import normalise, thumbnail
from atelier.service.derivatives import Derivatives
from atelier.service.views import AssetView, content_path, output_name, thumbnail_path
from atelier.storage.media_types import extension_of
from atelier.storage.store import ObjectInfo, ObjectMissing, Store

MAX_BYTES = 25 * 1024 * 1024
_ID_CHARACTERS = 36
_SHOWN_CHARACTERS = 80
_OUTPUT_HINT = (
    "Addresses of outputs come with the job; files are kept for ATELIER_OUTPUT_DAYS (30 days)."
)


class AssetUnknown(NotFound):
    code = "ASSET_UNKNOWN"
    default_hint = (
        "Upload it with POST /v1/assets. Uploads are kept for ATELIER_INPUT_HOURS (24 hours), "
        "what jobs make for ATELIER_OUTPUT_DAYS (30 days)."
    )


class UploadTooLarge(InvalidRequest):
    code = "UPLOAD_TOO_LARGE"
    default_hint = f"Pictures may have up to {MAX_BYTES // 2**20} MB."


class NotConvertible(InvalidRequest):
    code = "NOT_CONVERTIBLE"
    default_hint = "Leave out format, quality and max_size to get the file as it is."


@dataclass(frozen=True, slots=True)
class AssetContent:
    """The bytes of an asset, or the address where the store itself serves them."""

    redirect_url: str | None
    store: Store
    key: str
    info: ObjectInfo
    filename: str | None
    data: bytes | None = None  # where they are not kept in the store

    async def read(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Bytes ``start`` up to but without ``end``, in pieces."""
        if self.data is not None:
            return _in_one(self.data[start:end])
        stream = await self.store.open(self.key, start=start, end=end)
        return stream.chunks


class Assets:
    def __init__(self, *, database: Database, catalog: Catalog, store: Store) -> None:
        self._database = database
        self._catalog = catalog
        self._store = store
        self._derivatives = Derivatives(store)

    async def upload(self, data: bytes, *, filename: str | None, user: str) -> AssetView:
        """Keep a picture: verified, upright, without metadata.

        Raises MediaRejected when it is none or too large.
        """
        if len(data) > MAX_BYTES:
            raise UploadTooLarge(f"The upload has {len(data):,} bytes.", limit=MAX_BYTES)
        picture = await normalise(data)
        small = await thumbnail(picture.data)
        id = str(uuid_utils.uuid7())
        key = input_key(id, picture.media_type)
        asset = Asset(
            id=id,
            user=user,
            kind="input",
            key=key,
            thumbnail_key=thumbnail_key(key),
            media_type=picture.media_type,
            width=picture.width,
            height=picture.height,
            size_bytes=len(picture.data),
            sha256=picture.sha256,
            thumbhash=small.thumbhash,
            filename=filename,
        )
        await self._store.put(key, picture.data, picture.media_type)
        await self._store.put(thumbnail_key(key), small.data, small.media_type)
        await self._database.run(lambda conn: self._catalog.insert(conn, [asset]))
        return await self.get(id)

    async def keep_data_url(self, url: str, *, user: str) -> Asset:
        """Store the bytes of a ``data:`` URL as they are and return the asset.

        Whether they are a picture is found out when the job runs, as for any other address.
        Raises MediaRejected, UploadTooLarge.
        """
        data = decode_data_url(url)
        if len(data) > MAX_BYTES:
            raise UploadTooLarge(f"The data: URL holds {len(data):,} bytes.", limit=MAX_BYTES)
        described = await describe(data, "upload")
        id = str(uuid_utils.uuid7())
        asset = Asset(
            id=id,
            user=user,
            kind="input",
            key=input_key(id, described.media_type),
            media_type=described.media_type,
            width=described.width,
            height=described.height,
            frames=described.frames,
            size_bytes=described.size_bytes,
            sha256=described.sha256,
        )
        await self._store.put(asset.key, data, described.media_type)
        await self._database.run(lambda conn: self._catalog.insert(conn, [asset]))
        return asset

    async def upload_data_url(self, url: str, *, user: str) -> AssetView:
        """Keep the picture in a ``data:`` URL as ``upload`` does."""
        return await self.upload(decode_data_url(url), filename=None, user=user)

    async def get(self, id: str) -> AssetView:
        return _view(await self._asset(id))

    async def open(
        self, id: str, *, thumbnail: bool = False, conversion: Conversion | None = None
    ) -> AssetContent:
        """The bytes, as ``conversion`` wants them where the asset is a picture.

        Raises AssetUnknown also where the bytes are gone or there is no thumbnail, NotConvertible
        for what is no picture, MediaRejected where the picture can't be converted.
        """
        asset = await self._asset(id)
        if conversion is not None:
            return await self._open_converted(asset, conversion)
        key = asset.thumbnail_key if thumbnail else asset.key
        if key is None:
            raise AssetUnknown(f"The asset {id} has no thumbnail: it is {asset.media_type}.")
        return await self._content(asset, key)

    async def open_output(self, name: str) -> AssetContent:
        """The output that ``output_name`` called ``name``. Raises AssetUnknown for all others."""
        id = name.partition(".")[0]
        async with self._database.read() as conn:
            asset = await self._catalog.get(conn, id) if len(id) == _ID_CHARACTERS else None
        if asset is None or asset.kind != "output" or name != output_name(id, asset.media_type):
            shown = name if len(name) <= _SHOWN_CHARACTERS else f"{name[:_SHOWN_CHARACTERS]}…"
            raise AssetUnknown(f"There is no output {shown!r}.", hint=_OUTPUT_HINT)
        return await self._content(asset, asset.key)

    async def _content(self, asset: Asset, key: str) -> AssetContent:
        url = await self._store.url(key)
        info = await self._store.head(key)
        if info is None:
            raise AssetUnknown(f"The file of asset {asset.id} is no longer kept.")
        return AssetContent(url, self._store, key, info, asset.filename)

    async def _open_converted(self, asset: Asset, conversion: Conversion) -> AssetContent:
        if not is_convertible(asset.media_type):
            raise NotConvertible(
                f"The asset {asset.id} is {asset.media_type}: only pictures can be converted.",
                media_type=asset.media_type,
            )
        if not conversion.changes(asset.media_type, asset.width, asset.height):
            return await self.open(asset.id)
        try:
            made = await self._derivatives.get(asset, conversion)
        except ObjectMissing:
            raise AssetUnknown(f"The file of asset {asset.id} is no longer kept.") from None
        stem = PurePosixPath(asset.filename or asset.id).stem
        filename = f"{stem}.{extension_of(made.info.media_type)}"
        url = None if made.data is not None else await self._store.url(made.key)
        return AssetContent(url, self._store, made.key, made.info, filename, made.data)

    async def _asset(self, id: str) -> Asset:
        async with self._database.read() as conn:
            asset = await self._catalog.get(conn, id)
        if asset is None:
            raise AssetUnknown(f"There is no asset {id!r}.")
        return asset


async def _in_one(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _view(asset: Asset) -> AssetView:
    return AssetView(
        id=asset.id,
        url=content_path(asset.id),
        thumbnail_url=thumbnail_path(asset.id) if asset.thumbnail_key else None,
        kind=asset.media_kind,
        media_type=asset.media_type,
        width=asset.width,
        height=asset.height,
        duration_seconds=asset.duration_seconds,
        fps=asset.fps,
        frames=asset.frames,
        size_bytes=asset.size_bytes,
        sha256=asset.sha256,
        thumbhash=asset.thumbhash,
        filename=asset.filename,
        created_at_ms=asset.created_at_ms,
    )
