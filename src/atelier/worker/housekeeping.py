"""Sweeps what nobody needs any more, at the start and hourly."""

import asyncio

import structlog

from atelier.database import DatabaseUnavailable
from atelier.errors import StorageError
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
    """Delete jobs of ``dialects`` that ended ``hours`` ago, with their pictures; how many."""
    swept = 0
    while True:
        async with context.database.read() as conn:
            jobs = await context.queue.ended_before(
                conn, age_ms=int(hours * 3_600_000), dialects=dialects, limit=BATCH
            )
        for job in jobs:
            # The files first: a row without files can be swept again, files without a row can't.
            for output in job.outputs:
                for key in (output["key"], output.get("thumbnail_key")):
                    if key:
                        await context.store.delete(key)
            await context.database.run(lambda conn, id=job.id: context.queue.delete(conn, id))  # type: ignore[misc]
            swept += 1
        if len(jobs) < BATCH:
            return swept
