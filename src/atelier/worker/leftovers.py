"""Files that nobody knows of any more: in the store, and in folders on this machine."""

import asyncio
import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from atelier.comfy.uploads import UPLOAD
from atelier.errors import AtelierError
from atelier.jobs.job import TERMINAL
from atelier.media.asset import derivatives_folder, thumbnail_key
from atelier.worker.context import Context

log = structlog.get_logger(__name__)

CHUNK = 500  # keys that are looked up together
ORPHAN_SECONDS = 24 * 3600.0
UPLOAD_SECONDS = 3600.0
ENGINE_SECONDS = 24 * 3600.0

_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
# As media/asset.py makes the keys of whole files: nothing else of the store is ours.
_OUTPUT = re.compile(rf"outputs/../(?P<job>{_UUID})/\d+-{_UUID}\.\w+")
_MODELS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".sft")
_INPUT = re.compile(rf"inputs/../{_UUID}\.\w+")


async def remove_orphans(context: Context, *, own_store: bool) -> int:
    """Remove files a day old that no asset is kept under; how many.

    They are of attempts that died between storing and publishing. Of a store that others may use
    too (not ``own_store``) only files of jobs that this database knows.
    """
    removed = 0
    for folder, pattern in (("outputs", _OUTPUT), ("inputs", _INPUT)):
        if folder == "inputs" and not own_store:
            continue
        chunk: dict[str, str | None] = {}
        async for key in context.store.list(folder):
            if found := pattern.fullmatch(key):
                chunk[key] = found.groupdict().get("job")
            if len(chunk) == CHUNK:
                removed += await _remove_unknown(context, chunk, own_store=own_store)
                chunk = {}
        removed += await _remove_unknown(context, chunk, own_store=own_store)
    return removed


async def _remove_unknown(context: Context, keys: dict[str, str | None], *, own_store: bool) -> int:
    """``keys`` with the job that each is of, if it is of one."""
    async with context.database.read() as conn:
        used = await context.catalog.keys_in_use(conn, keys.keys())
        unknown = {key: job for key, job in keys.items() if key not in used}
        if not unknown:
            return 0
        jobs = {job for job in unknown.values() if job is not None}
        known = await context.queue.known(conn, jobs)
        # A result may wait for days until its last file can be stored.
        live = set(await context.queue.all_live(conn))
    removed = 0
    for key, job in unknown.items():
        if job in live or not (own_store or job in known):
            continue
        info = await context.store.head(key)
        if info is None or context.now_ms() / 1000 - info.modified.timestamp() < ORPHAN_SECONDS:
            continue
        converted = [one async for one in context.store.list(derivatives_folder(key))]
        # The file itself goes last: by it the others are found.
        for one in (*converted, thumbnail_key(key), key):
            await context.store.delete(one)
        removed += 1
    return removed


async def drop_spooled(context: Context) -> int:
    """Drop results that wait for the store here, but whose jobs have ended elsewhere."""
    dropped = 0
    for id in await context.spool.jobs():
        async with context.database.read() as conn:
            job = await context.queue.get(conn, id)
        if job is None or job.status in TERMINAL:
            await context.spool.drop(id)
            dropped += 1
    return dropped


async def remove_uploads(context: Context, folder: Path) -> int:
    """Remove from an instance's input folder what we put there an hour ago; how many files.

    A prompt that waits or runs there may need them still: the instances are asked. Whoever
    submits a prompt has put its files there within the last half an hour (see ``Uploads``).
    """
    old = await asyncio.to_thread(_older_than, folder, UPLOAD_SECONDS, _is_upload)
    if not old:
        return 0
    async with context.database.read() as conn:
        under_way = {job.instance for job in await context.queue.under_way(conn)}
    named: set[str] = set()
    for instance in context.pool.instances:
        try:
            named |= await (await instance.ask()).uploads_named()
        except AtelierError as error:
            if instance.id in under_way:
                log.info("uploads stay until their instance answers", reason=error.message)
                return 0
    return await asyncio.to_thread(_unlink, [path for path in old if path.name not in named])


async def remove_engine_files(folder: Path) -> int:
    """Remove what an engine at ``folder`` made a day ago: we have long collected it.

    Models stay, which nodes that merge or train write into the output folder for other graphs.
    """

    def remove() -> int:
        paths = [
            path
            for kind in ("output", "temp")
            for path in _older_than(folder / kind, ENGINE_SECONDS, _is_no_model, deep=True)
        ]
        return _unlink(paths)

    return await asyncio.to_thread(remove)


def _is_upload(name: str) -> bool:
    return UPLOAD.fullmatch(name) is not None


def _is_no_model(name: str) -> bool:
    return not name.lower().endswith(_MODELS)


def _older_than(
    folder: Path, seconds: float, ours: Callable[[str], bool], *, deep: bool = False
) -> list[Path]:
    """Files in ``folder`` whose names are ``ours``; nothing that a link leads to."""
    now, found = time.time(), []
    for entry in _files(folder, deep=deep):
        with contextlib.suppress(OSError):  # somebody else sweeps too
            if ours(entry.name) and now - entry.stat(follow_symlinks=False).st_mtime > seconds:
                found.append(Path(entry.path))
    return found


def _files(folder: Path, *, deep: bool) -> Iterator["os.DirEntry[str]"]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.is_file(follow_symlinks=False):
            yield entry
        elif deep and entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path), deep=True)


def _unlink(paths: list[Path]) -> int:
    removed = 0
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
            removed += 1
    return removed
