"""Conversions of stored pictures: made when first asked for, then kept beside the picture."""

import asyncio
import contextlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from atelier.errors import StorageError
from atelier.media.asset import Asset, derivative_key, derivatives_folder
from atelier.media.conversion import Conversion, convert
from atelier.media.threads import THREADS
from atelier.storage.store import ObjectInfo, Store

# Of one file: whoever asks for every size there is gets them, but doesn't fill the store.
MOST_KEPT = 24
# Uploads and thumbnails share the threads: some stay free for them.
AT_ONCE = max(1, THREADS - 1)


@dataclass(frozen=True, slots=True)
class Derivative:
    """A conversion under ``key`` of the store, or, where it isn't kept, in ``data``."""

    key: str
    info: ObjectInfo
    data: bytes | None = None


class Derivatives:
    """The store says which there are: their keys tell what they are of, and how converted."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._places = asyncio.Semaphore(AT_ONCE)
        self._making: dict[str, asyncio.Task[Derivative]] = {}

    async def get(self, asset: Asset, conversion: Conversion) -> Derivative:
        """The picture as ``conversion`` wants it; several who ask at once get the same one.

        Raises NotAnImage or ImageTooLarge where it can't be converted, ObjectMissing where it
        is no longer kept.
        """
        media_type = conversion.media_type_for(asset.media_type)
        key = derivative_key(asset.key, conversion.name, media_type)
        info = await self._store.head(key)
        if info is not None:
            return Derivative(key, replace(info, etag=_etag(asset, conversion)))
        making = self._making.get(key)
        if making is None:
            making = asyncio.create_task(self._make(asset, conversion, key))
            self._making[key] = making
            making.add_done_callback(lambda done: self._forget(key, done))
        # Who goes away takes nothing from the others.
        return await asyncio.shield(making)

    def _forget(self, key: str, done: "asyncio.Task[Derivative]") -> None:
        self._making.pop(key, None)
        if not done.cancelled():
            done.exception()  # whoever waited has been told

    async def _make(self, asset: Asset, conversion: Conversion, key: str) -> Derivative:
        async with self._places:
            made = await convert(await self._store.get(asset.key), conversion)
        info = ObjectInfo(
            size=len(made.data),
            etag=_etag(asset, conversion),
            media_type=made.media_type,
            modified=datetime.now(UTC),
        )
        with contextlib.suppress(StorageError):  # the caller gets the picture all the same
            if await self._count(asset.key) < MOST_KEPT:
                await self._store.put(key, made.data, made.media_type)
                return Derivative(key, info)
        return Derivative(key, info, made.data)

    async def _count(self, key: str) -> int:
        return len([kept async for kept in self._store.list(derivatives_folder(key))])


def _etag(asset: Asset, conversion: Conversion) -> str:
    """The same wherever and whenever it is made."""
    return f'"{asset.sha256[:32]}-{conversion.name}"'
