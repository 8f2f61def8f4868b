"""Brings a job's pictures to the instance that will run it."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import stamina

from atelier.errors import AtelierError, MediaRejected, MediaUnavailable
from atelier.media.image import normalise
from atelier.pool.instance import Instance
from atelier.service.planning import is_picture
from atelier.storage.store import ObjectMissing
from atelier.worker.context import Context

T = TypeVar("T")

AT_ONCE = 10  # pictures of one job; of all jobs together the fetcher loads ten at once
FETCH_ATTEMPTS = 3  # within one attempt of the job, which has its seat meanwhile
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 5.0


class AssetGone(MediaRejected):
    code = "ASSET_GONE"
    default_hint = "Upload the picture again and submit a new job."


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture's bytes as they came, and their SHA-256."""

    data: bytes
    sha256: str


async def fetch_images(context: Context, inputs: Mapping[str, Any]) -> dict[str, Picture]:
    """The pictures that ``inputs`` name, by input.

    Raises MediaRejected (final) or MediaUnavailable (worth another try) with the input's name
    in ``data["input"]``.
    """
    refs = {name: value for name, value in inputs.items() if is_picture(value)}
    return await _for_each(refs, lambda name: _read(context, refs[name]))


async def place_images(
    context: Context,
    instance: Instance,
    inputs: Mapping[str, Any],
    pictures: Mapping[str, Picture],
) -> dict[str, Any]:
    """``inputs`` with each of ``pictures`` replaced by the file name it has at ``instance``.

    Raises MediaRejected with the input's name in ``data["input"]``; InstanceError when the
    upload fails.
    """

    async def place(name: str) -> str:
        picture = await normalise(pictures[name].data)
        return await instance.client.upload(picture.data, media_type=picture.media_type)

    return {**inputs, **await _for_each(pictures, place)}


async def _for_each(names: Mapping[str, Any], work: Callable[[str], Awaitable[T]]) -> dict[str, T]:
    """What ``work`` makes of each name, ten at once; the first that fails ends the others."""
    if not names:
        return {}
    places = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> T:
        async with places:
            try:
                return await work(name)
            except (MediaRejected, MediaUnavailable) as error:
                error.data = {**error.data, "input": name}
                raise

    try:
        async with asyncio.TaskGroup() as group:
            tasks = {name: group.create_task(one(name)) for name in names}
    except* AtelierError as errors:
        raise _first(errors) from None
    return {name: task.result() for name, task in tasks.items()}


async def _read(context: Context, ref: Mapping[str, str]) -> Picture:
    if "url" in ref:
        data = await _fetch(context, ref["url"])
        return Picture(data, hashlib.sha256(data).hexdigest())
    async with context.database.read() as conn:
        # One that was deleted since the job was accepted is kept as long as the job needs it.
        asset = await context.catalog.get(conn, ref["asset"], include_deleted=True)
    if asset is None:
        raise AssetGone(f"The picture {ref['asset']} is no longer stored.", asset=ref["asset"])
    try:
        return Picture(await context.store.get(asset.key), asset.sha256)
    except ObjectMissing:
        raise AssetGone(
            f"The file of picture {asset.id} is no longer stored.", asset=asset.id
        ) from None


async def _fetch(context: Context, url: str) -> bytes:
    """The picture, tried again where that may help: no answer, no connection, 5xx, 429."""
    async for attempt in stamina.retry_context(
        on=_pause,
        attempts=FETCH_ATTEMPTS,
        wait_initial=FIRST_PAUSE_SECONDS,
        wait_max=LONGEST_PAUSE_SECONDS,
        wait_jitter=FIRST_PAUSE_SECONDS,
    ):
        with attempt:
            return (await context.fetcher.fetch(url)).data
    raise AssertionError("retry_context returns or raises")


def _pause(error: Exception) -> bool | float:
    """Whether to try again; seconds, where the other server asks for some that we have."""
    if not isinstance(error, MediaUnavailable):
        return False
    asked = error.data.get("retry_after_seconds")
    if asked is None:
        return True
    # More than that is the queue's business: the job waits there without a seat.
    return float(asked) if asked <= LONGEST_PAUSE_SECONDS else False


def _first(group: BaseExceptionGroup[AtelierError]) -> AtelierError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
