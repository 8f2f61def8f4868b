"""Fetches what a prompt made, keeps it in the store, and describes it."""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import stamina
import structlog

from atelier.comfy.protocol import FileRef
from atelier.errors import AtelierError, MediaRejected, StorageError, WorkflowError
from atelier.jobs.job import Job
from atelier.media.asset import Asset, Kind, output_key, thumbnail_key
from atelier.media.conversion import Conversion, convert, is_convertible
from atelier.media.description import describe_output
from atelier.media.sniff import media_type_of_output
from atelier.pool.instance import Instance
from atelier.storage.media_types import extension_of
from atelier.worker.context import Context
from atelier.worker.items import Item, Made

log = structlog.get_logger(__name__)

AT_ONCE = 4  # outputs of one job that are stored side by side
STORE_SECONDS = 5.0  # a hiccup of the store; what lasts longer is for whoever called
INLINE_TEXT_BYTES = 8192  # up to here a text stands in the job itself


class NoOutputs(WorkflowError):
    code = "WORKFLOW_NO_OUTPUTS"
    default_hint = "Add a SaveImage node (or another that saves) to the graph."


@dataclass(frozen=True, slots=True)
class Stored:
    asset: Asset
    item: Item
    text: str | None = None  # what the file says, where that is short

    def record(self) -> Mapping[str, Any]:
        """What the job itself remembers of an output, so that listing jobs needs no join."""
        asset, item = self.asset, self.item
        ref = item.ref or FileRef(item.filename)
        return {
            "id": asset.id,
            "key": asset.key,
            "thumbnail_key": asset.thumbnail_key,
            "kind": asset.media_kind,
            "media_type": asset.media_type,
            "width": asset.width,
            "height": asset.height,
            "duration_seconds": asset.duration_seconds,
            "fps": asset.fps,
            "frames": asset.frames,
            "size_bytes": asset.size_bytes,
            "node": asset.node,
            "thumbhash": asset.thumbhash,
            "filename": asset.filename,
            "text": self.text,
            "source": {"key": item.key, "subfolder": ref.subfolder, "type": ref.type},
        }


@dataclass(frozen=True, slots=True)
class Collected:
    results: tuple[Stored, ...]
    previews: tuple[Stored, ...] = ()

    @property
    def assets(self) -> list[Asset]:
        return [stored.asset for stored in (*self.results, *self.previews)]


async def collect(
    context: Context, instance: Instance, job: Job, lease: int, made: Made
) -> Collected:
    """Store every item and its thumbnail under keys of this attempt, as the job wants pictures.

    Raises NoOutputs for an empty run, InstanceError when a file can't be had, StorageError when
    the store stays away. A preview that can't be had is left out.
    """
    if not made.results:
        raise NoOutputs("The run ended well but made nothing that can be kept.")
    conversion = Conversion(**job.conversion) if job.conversion else None
    places = asyncio.Semaphore(AT_ONCE)

    async def keep(number: int, item: Item) -> Stored:
        async with places:
            return await _keep(context, instance, job, lease, number, item, "output", conversion)

    async def keep_preview(number: int, item: Item) -> Stored | None:
        async with places:
            try:
                return await _keep(context, instance, job, lease, number, item, "preview", None)
            except AtelierError as error:
                log.info("a preview is left out", job=job.id, reason=error.message)
                return None

    results = await _all_of(keep(n, item) for n, item in enumerate(made.results))
    previews = await asyncio.gather(
        *(keep_preview(n, item) for n, item in enumerate(made.previews))
    )
    return Collected(tuple(results), tuple(one for one in previews if one is not None))


async def _all_of(work: Iterable[Coroutine[Any, Any, Stored]]) -> list[Stored]:
    """What came of all; where one fails, its error once none is at work any more."""
    done = await asyncio.gather(*work, return_exceptions=True)
    for one in done:
        if isinstance(one, BaseException):
            raise one
    return [one for one in done if not isinstance(one, BaseException)]


async def _keep(
    context: Context,
    instance: Instance,
    job: Job,
    lease: int,
    number: int,
    item: Item,
    kind: Kind,
    conversion: Conversion | None,
) -> Stored:
    data = item.data or b""
    if item.ref is not None and item.data is None:
        data = (await instance.client.view(item.ref)).data
    filename = PurePosixPath(item.filename).name
    media_type = media_type_of_output(data, filename)
    if conversion is not None and is_convertible(media_type):
        with contextlib.suppress(MediaRejected):  # what can't be converted is kept as it is
            converted = await convert(data, conversion)
            if converted.media_type != media_type:
                media_type = converted.media_type
                filename = f"{PurePosixPath(filename).stem}.{extension_of(media_type)}"
            data = converted.data
    key = output_key(job.id, lease, item.id, media_type)
    described, _ = await asyncio.gather(
        describe_output(data, filename), _put(context, key, data, media_type)
    )
    small = described.thumbnail
    small_key = thumbnail_key(key) if small is not None else None
    if small is not None and small_key is not None:
        await _put(context, small_key, small.data, small.media_type)
    asset = Asset(
        id=item.id,
        user=job.user,
        kind=kind,
        key=key,
        thumbnail_key=small_key,
        media_type=media_type,
        width=described.width,
        height=described.height,
        duration_seconds=described.duration_seconds,
        fps=described.fps,
        frames=described.frames,
        size_bytes=described.size_bytes,
        sha256=described.sha256,
        thumbhash=small.thumbhash if small is not None else None,
        filename=filename,
        job=job.id,
        node=item.node,
        seq=number,
    )
    is_short = asset.media_kind == "text" and len(data) <= INLINE_TEXT_BYTES
    return Stored(asset, item, data.decode("utf-8", "replace") if is_short else None)


async def _put(context: Context, key: str, data: bytes, media_type: str) -> None:
    try:
        await context.store.put(key, data, media_type)
    except StorageError as error:
        if not _passes(error):
            raise
    else:
        return
    async for attempt in stamina.retry_context(
        on=_passes, attempts=None, timeout=STORE_SECONDS, wait_initial=0.2, wait_max=5.0
    ):
        with attempt:
            await context.store.put(key, data, media_type)


async def discard(context: Context, assets: Sequence[Asset]) -> None:
    """Take back what was stored for a job that somebody else has finished first."""
    for asset in assets:
        for key in filter(None, (asset.key, asset.thumbnail_key)):
            with contextlib.suppress(AtelierError):
                await context.store.delete(key)


def _passes(error: Exception) -> bool:
    return isinstance(error, StorageError) and error.retryable
