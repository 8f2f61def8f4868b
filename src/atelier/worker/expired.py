"""Jobs and files whose time is over. Each function does one kind and says how many.

All of it may be done by several workers at once, and may stop anywhere: what is left is found at
the next turn. A transaction is short, so that claims on SQLite, which has one writer, wait for
milliseconds only.
"""

from collections.abc import Callable, Collection
from typing import Any

from atelier.media.asset import Asset, Kind, derivatives_folder
from atelier.webhooks.outbox import Outbox
from atelier.worker.context import Context
from atelier.worker.references import free_assets, free_jobs
from atelier.workflows.archive import Archive

BATCH = 100  # rows that one transaction changes
PAGE = 1000  # rows that are looked at together

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


async def hide_jobs(context: Context, *, dialects: Collection[str], hours: float) -> int:
    """Take jobs of ``dialects`` that ended ``hours`` ago out of every list.

    What they made stays for its own time: callers were given its addresses.
    """
    hidden, after = 0, ""
    while True:
        async with context.database.read() as conn:
            ids = await context.queue.ended_before(
                conn, age_ms=int(hours * HOUR_MS), dialects=dialects, limit=PAGE, after=after
            )
        free = await free_jobs(context, ids)
        hidden += await _in_batches(context, free, context.queue.hide)
        if len(ids) < PAGE:
            return hidden
        after = ids[-1]


async def purge_jobs(context: Context) -> int:
    """Remove the rows of jobs that were hidden a day ago, with what was told of their ends."""
    outbox = Outbox()

    async def purge(conn: Any, ids: Collection[str]) -> int:
        await outbox.forget(conn, ids)
        await context.queue.purge(conn, ids)
        return len(ids)

    purged = 0
    while True:
        async with context.database.read() as conn:
            ids = await context.queue.hidden_before(conn, age_ms=DAY_MS, limit=PAGE)
        purged += await _in_batches(context, ids, purge)
        if len(ids) < PAGE:
            return purged


async def expire_assets(context: Context, *, kinds: Collection[Kind], hours: float) -> int:
    """Mark assets of ``kinds`` that came ``hours`` ago as deleted, and tell it their jobs."""
    expired, after = 0, ""
    while True:
        async with context.database.read() as conn:
            found = await context.catalog.older_than(
                conn, kinds=kinds, age_ms=int(hours * HOUR_MS), limit=PAGE, after=after
            )

        async def expire(conn: Any, ids: Collection[str], jobs: Any = found) -> int:
            lost: dict[str, set[str]] = {}
            for id in ids:
                if jobs[id] is not None:
                    lost.setdefault(jobs[id], set()).add(id)
            await context.queue.lose_files(conn, lost)
            return await context.catalog.delete_many(conn, ids)

        expired += await _in_batches(context, await free_assets(context, list(found)), expire)
        if len(found) < PAGE:
            return expired
        after = next(reversed(found))


async def remove_files(context: Context) -> int:
    """Remove the files of deleted assets, with their thumbnails and conversions; how many assets.

    A file that another asset is kept under too goes with the last of them. What a job needs that
    was accepted before the asset was deleted stays until that has ended: the jobs are looked at
    after the assets. The files go before the rows: a row without files can be swept again.
    """
    removed, after = 0, ""
    while True:
        async with context.database.read() as conn:
            page = {a.id: a for a in await context.catalog.deleted(conn, PAGE, after)}

        free = await free_assets(context, list(page))
        for start in range(0, len(free), BATCH):
            ids = free[start : start + BATCH]
            batch = [page[id] for id in ids]
            async with context.database.read() as conn:
                used = await context.catalog.keys_in_use(
                    conn, {asset.key for asset in batch}, without=ids
                )
            for asset in batch:
                if asset.key not in used:
                    await remove_stored(context, asset)
            await context.database.run(lambda conn, ids=ids: context.catalog.remove(conn, ids))  # type: ignore[misc]
            removed += len(ids)
        if len(page) < PAGE:
            return removed
        after = next(reversed(page))


async def remove_stored(context: Context, asset: Asset) -> None:
    """Remove what the store keeps of ``asset``: the file, its thumbnail, its conversions."""
    converted = [key async for key in context.store.list(derivatives_folder(asset.key))]
    for key in (asset.key, asset.thumbnail_key, *converted):
        if key:
            await context.store.delete(key)


async def forget_learned(context: Context) -> int:
    """Forget the shares of users, and run times of workflows, that a month has heard nothing of."""
    queue, age_ms = context.queue, 30 * DAY_MS

    async def forget(conn: Any) -> int:
        shares = await queue.forget_shares(conn, age_ms=age_ms)
        return shares + await queue.forget_run_times(conn, age_ms=age_ms)

    return await context.database.run(forget)


async def forget_unused(context: Context) -> int:
    """Forget what no job refers to any more: needs, old versions of workflows, names of inputs."""
    database, queue, archive = context.database, context.queue, Archive(context.database.dialect)
    async with database.read() as conn:
        hashes = await queue.unused_requirements(conn, age_ms=DAY_MS, limit=PAGE)
        versions = await archive.superseded(conn, age_ms=DAY_MS, limit=PAGE)
        if versions:
            names = {name for name, _ in versions}
            used = await queue.versions_used(conn, names)
            library = context.workflows.library
            used |= {(n, now.version) for n in names if (now := library.find(n)) is not None}
            versions = [version for version in versions if version not in used]
        lost = await context.catalog.names_of_nothing(conn, limit=PAGE)

    async def forget(conn: Any) -> None:
        if hashes:
            await queue.forget_requirements(conn, hashes, age_ms=DAY_MS)
        await archive.forget(conn, versions, age_ms=DAY_MS)
        await context.catalog.forget_names(conn, lost)

    if hashes or versions or lost:
        await database.run(forget)
    return len(hashes) + len(versions) + len(lost)


async def _in_batches(context: Context, ids: Collection[str], work: Callable[..., Any]) -> int:
    """Do ``work(conn, some of ids)`` for all of them, in a transaction each; the sum of it."""
    total, all_ids = 0, list(ids)
    for start in range(0, len(all_ids), BATCH):
        these = all_ids[start : start + BATCH]
        total += await context.database.run(lambda conn, these=these: work(conn, these))  # type: ignore[misc]
    return total
