"""Brings a job's pictures to the instance that will run it."""

import asyncio
from collections.abc import Mapping
from typing import Any

from atelier.errors import AtelierError, MediaRejected, MediaUnavailable
from atelier.media.image import normalise
from atelier.pool.instance import Instance
from atelier.storage.store import ObjectMissing
from atelier.worker.context import Context

AT_ONCE = 10  # downloads of one job


class AssetGone(MediaRejected):
    code = "ASSET_GONE"
    default_hint = "Upload the picture again and submit a new job."


def is_image_ref(value: object) -> bool:
    """True for ``{"url": ...}`` and ``{"asset": id}``."""
    return isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in ("url", "asset")


async def place_images(
    context: Context, instance: Instance, inputs: Mapping[str, Any]
) -> dict[str, Any]:
    """``inputs`` with each picture replaced by the file name it has at ``instance``.

    Raises MediaRejected (final) or MediaUnavailable (worth another try) with the input's name
    in ``data["input"]``; InstanceError when the upload fails.
    """
    places = asyncio.Semaphore(AT_ONCE)

    async def place(name: str, ref: Mapping[str, str]) -> tuple[str, str]:
        async with places:
            try:
                data = await _read(context, ref)
                picture = await normalise(data)
            except (MediaRejected, MediaUnavailable) as error:
                error.data = {**error.data, "input": name}
                raise
            return name, await instance.client.upload(picture.data, media_type=picture.media_type)

    refs = {name: value for name, value in inputs.items() if is_image_ref(value)}
    if not refs:
        return dict(inputs)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(place(name, ref)) for name, ref in refs.items()]
    except* AtelierError as errors:
        raise _first(errors) from None
    return {**inputs, **dict(task.result() for task in tasks)}


async def _read(context: Context, ref: Mapping[str, str]) -> bytes:
    if "url" in ref:
        return (await context.fetcher.fetch(ref["url"])).data
    async with context.database.read() as conn:
        asset = await context.catalog.get(conn, ref["asset"])
    if asset is None:
        raise AssetGone(f"The picture {ref['asset']} is no longer stored.", asset=ref["asset"])
    try:
        return await context.store.get(asset.key)
    except ObjectMissing:
        raise AssetGone(
            f"The file of picture {asset.id} is no longer stored.", asset=asset.id
        ) from None


def _first(group: BaseExceptionGroup[AtelierError]) -> AtelierError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
