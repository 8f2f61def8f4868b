"""Sweeps what nobody needs any more, at the start and hourly."""

import asyncio
from typing import Any

import structlog

from atelier.database import DatabaseUnavailable
from atelier.errors import StorageError
from atelier.jobs.job import TERMINAL
from atelier.media.asset import Asset, derivatives_folder
from atelier.worker.context import Context

log = structlog.get_logger(__name__)

EVERY_SECONDS = 3600.0
BATCH = 200


async def sweep_forever(context: Context, *, dialects: tuple[str, ...], hours: float) -> None:
    """Run ``sweep`` now and every hour; a failure is logged and waits for the next turn."""
    while True:
        try:
            swept = await sweep(context, dialects=dialects, hours=hours)
            if swept:
                log.info("swept ended jobs", jobs=swept)
        except (DatabaseUnavailable, StorageError) as error:
            log.warning("sweeping waits for the next turn", reason=error.message)
        except Exception:
            log.exception("sweeping failed in a way nobody foresaw")
        await asyncio.sleep(EVERY_SECONDS)


async def sweep(context: Context, *, dialects: tuple[str, ...], hours: float) -> int:
    """Delete jobs of ``dialects`` that ended ``hours`` ago, with what they made; how many."""
    swept = 0
    while True:
        async with context.database.read() as conn:
            jobs = await context.queue.ended_before(
                conn, age_ms=int(hours * 3_600_000), dialects=dialects, limit=BATCH
            )
        for job in jobs:
            await context.database.run(lambda conn, id=job.id: _delete(context, conn, id))  # type: ignore[misc]
            swept += 1
        if len(jobs) < BATCH:
            break
    await remove_files(context)
    await _sweep_spool(context)
    return swept


async def _sweep_spool(context: Context) -> None:
    """Drop results that wait for the store here, but whose jobs have ended elsewhere."""
    for id in await context.spool.jobs():
        async with context.database.read() as conn:
            job = await context.queue.get(conn, id)
        if job is None or job.status in TERMINAL:
            await context.spool.drop(id)


async def _delete(context: Context, conn: Any, job: str) -> None:
    await context.queue.delete(conn, job)
    await context.catalog.delete_made_by(conn, job)


async def remove_files(context: Context) -> int:
    """Remove the files of deleted assets, with their thumbnails and conversions; how many assets.

    A file that another asset is kept under too stays until that one is deleted. The files go
    before the rows: a row without files can be swept again, files without a row can't.
    """
    removed = 0
    while True:
        async with context.database.read() as conn:
            assets = await context.catalog.deleted(conn, BATCH)
            used = await context.catalog.keys_in_use(conn, {asset.key for asset in assets})
        for asset in assets:
            if asset.key not in used:
                await _remove(context, asset)
        ids = [asset.id for asset in assets]
        await context.database.run(lambda conn, ids=ids: context.catalog.remove(conn, ids))  # type: ignore[misc]
        removed += len(assets)
        if len(assets) < BATCH:
            return removed


async def _remove(context: Context, asset: Asset) -> None:
    converted = [key async for key in context.store.list(derivatives_folder(asset.key))]
    for key in (asset.key, asset.thumbnail_key, *converted):
        if key:
            await context.store.delete(key)
