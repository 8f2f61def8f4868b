"""Fetches what a prompt made, keeps it in the store, and describes it."""

import asyncio
import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import stamina
import uuid_utils

from atelier.comfy.client import Finished
from atelier.comfy.protocol import FileRef, files_of, texts_of
from atelier.errors import StorageError, WorkflowError
from atelier.jobs.job import Job
from atelier.media.asset import Asset, output_key, thumbnail_key
from atelier.media.image import describe
from atelier.media.sniff import media_type_of_output
from atelier.pool.instance import Instance
from atelier.worker.context import Context

AT_ONCE = 4  # outputs of one job that are stored side by side
STORE_SECONDS = 60.0  # how long a store may be away before the attempt is given up


class NoOutputs(WorkflowError):
    code = "WORKFLOW_NO_OUTPUTS"
    default_hint = "Add a SaveImage node (or another that saves) to the graph."


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that the prompt made: a file at the instance, or bytes that came already."""

    node: str
    filename: str
    ref: FileRef | None = None
    data: bytes | None = None


def items_of(finished: Finished, counting: Collection[str]) -> list[Item]:
    """What counts as the result, in the order of ``counting`` where that names nodes.

    Files of type ``output`` come before everything else: where there is one, previews
    (``temp``) don't count.
    """
    results: list[Item] = []
    previews: list[Item] = []
    nodes = [node for node in counting if node in finished.history_outputs] or list(
        finished.history_outputs
    )
    for node in nodes:
        output = finished.history_outputs[node]
        for _, ref in files_of(output):
            item = Item(node, ref.filename, ref=ref)
            (previews if ref.type == "temp" else results).append(item)
        for number, text in enumerate(texts_of(output)):
            results.append(Item(node, f"{number}.txt", data=text.encode()))
    for number, (socket_node, picture) in enumerate(finished.websocket_images):
        if counting and socket_node is not None and socket_node not in counting:
            continue
        extension = picture.media_type.rpartition("/")[2]
        results.append(Item(socket_node or "", f"{number}.{extension}", data=picture.image))
    return results or previews


async def collect(
    context: Context, instance: Instance, job: Job, lease: int, items: Sequence[Item]
) -> list[Asset]:
    """Store every item and its thumbnail under keys of this attempt.

    Raises NoOutputs for an empty run, InstanceError when a file can't be had, StorageError when
    the store stays away.
    """
    if not items:
        raise NoOutputs("The run ended well but made nothing that can be kept.")
    if len(items) == 1:
        return [await _keep(context, instance, job, lease, 0, items[0])]
    places = asyncio.Semaphore(AT_ONCE)

    async def keep(number: int, item: Item) -> Asset:
        async with places:
            return await _keep(context, instance, job, lease, number, item)

    return list(await asyncio.gather(*(keep(n, item) for n, item in enumerate(items))))


async def _keep(
    context: Context, instance: Instance, job: Job, lease: int, number: int, item: Item
) -> Asset:
    data = item.data or b""
    if item.ref is not None:
        data = (await instance.client.view(item.ref)).data
    media_type = media_type_of_output(data, item.filename)
    id = str(uuid_utils.uuid7())
    key = output_key(job.id, lease, id, media_type)
    described, _ = await asyncio.gather(
        describe(data, item.filename), _put(context, key, data, media_type)
    )
    small = described.thumbnail
    small_key = thumbnail_key(key) if small is not None else None
    if small is not None and small_key is not None:
        await _put(context, small_key, small.data, small.media_type)
    return Asset(
        id=id,
        user=job.user,
        kind="output",
        key=key,
        thumbnail_key=small_key,
        media_type=media_type,
        width=described.width,
        height=described.height,
        size_bytes=described.size_bytes,
        sha256=described.sha256,
        thumbhash=small.thumbhash if small is not None else None,
        filename=PurePosixPath(item.filename).name,
        job=job.id,
        node=item.node,
        seq=number,
    )


async def _put(context: Context, key: str, data: bytes, media_type: str) -> None:
    with contextlib.suppress(StorageError):
        await context.store.put(key, data, media_type)
        return
    # The picture is there and cost minutes of a GPU: wait for the store rather than run again.
    async for attempt in stamina.retry_context(
        on=StorageError, attempts=None, timeout=STORE_SECONDS, wait_initial=0.2, wait_max=5.0
    ):
        with attempt:
            await context.store.put(key, data, media_type)


def output_record(asset: Asset) -> Mapping[str, Any]:
    """What the job itself remembers of an output, so that listing jobs needs no join."""
    return {
        "id": asset.id,
        "key": asset.key,
        "thumbnail_key": asset.thumbnail_key,
        "media_type": asset.media_type,
        "width": asset.width,
        "height": asset.height,
        "size_bytes": asset.size_bytes,
        "node": asset.node,
        "thumbhash": asset.thumbhash,
        "filename": asset.filename,
    }
